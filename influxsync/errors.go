package influxsync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrNotFound: the database or the table does not exist.
	ErrNotFound = errors.New("not found")
	// ErrTruncated: an answer ended before its end.
	ErrTruncated = errors.New("answer ended early")
	// ErrMismatch: rows or digests of a window differ between a journal, what
	// was streamed and what the sink returned. The next attempt starts over.
	ErrMismatch = errors.New("rows differ")
	// ErrFenced: the sink has taken writes with a higher fence number; who
	// writes with this one has been replaced.
	ErrFenced = errors.New("replaced by a newer writer")
	// ErrChain: the hashes of a journal do not follow from each other.
	ErrChain = errors.New("journal chain broken")
)

// StatusError is an answer with another status than expected.
type StatusError struct {
	Status  int
	Message string
	// RetryAfter is how long the server asks to wait; 0 where it does not say.
	RetryAfter time.Duration
}

// Error is the status and what the server said.
func (e *StatusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.Status, e.Message)
}

// Is says that status 404 is ErrNotFound.
func (e *StatusError) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound
}

// Class is what is the matter with a write.
type Class string

// The classes. Rows of the first five are refused for what they are, one by
// one, while others of their request are stored; they belong into a
// quarantine. The next ones need somebody to change something. The rest passes,
// and is worth another attempt later.
const (
	TypeConflict Class = "type-conflict" // the field has another type there
	Retention    Class = "retention"     // older than the retention policy keeps
	Malformed    Class = "malformed"     // the server cannot parse it
	SeriesLimit  Class = "series-limit"  // max-values-per-tag, max-series-per-database
	TooLarge     Class = "too-large"     // a single row above the server's limit

	NoDatabase Class = "no-database"
	NoPolicy   Class = "no-policy"
	Denied     Class = "denied" // 401, 403
	Fenced     Class = "fenced" // 409: ErrFenced
	Rejected   Class = "rejected"

	DiskFull Class = "disk-full"
	Busy     Class = "busy"    // 429, 503, cache limits
	Failing  Class = "failing" // other 5xx
	NoAnswer Class = "no-answer"
)

// WriteError is a write that the server refused (4xx), in whole or in part.
// The same rows would be refused again. Rows of the request that were not
// dropped are stored.
type WriteError struct {
	Status  int
	Message string
	Dropped int // rows of the request that are not stored, where the server says it
}

// Error is the status and what the server said.
func (e *WriteError) Error() string {
	return fmt.Sprintf("write refused with status %d: %s", e.Status, e.Message)
}

// Is says that status 404 is ErrNotFound, and 409 ErrFenced.
func (e *WriteError) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound ||
		target == ErrFenced && e.Status == http.StatusConflict
}

var droppedRows = regexp.MustCompile(`dropped=(\d+)`)

func writeError(response *http.Response) error {
	status := statusError(response)
	if status.Status/100 != 4 {
		return status
	}
	if status.Status == http.StatusTooManyRequests {
		return status
	}
	refused := &WriteError{Status: status.Status, Message: status.Message}
	if found := droppedRows.FindAllStringSubmatch(status.Message, -1); found != nil {
		refused.Dropped, _ = strconv.Atoi(found[len(found)-1][1])
	}
	return refused
}

// statusError reads at most 4 KiB of the answer, JSON or text.
func statusError(response *http.Response) *StatusError {
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	failed := &StatusError{Status: response.StatusCode}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		failed.RetryAfter = time.Duration(min(seconds, 1<<20)) * time.Second
	}
	var body struct{ Error string }
	if json.Unmarshal(text, &body) == nil && body.Error != "" {
		failed.Message = body.Error
	} else if header := response.Header.Get("X-Influxdb-Error"); header != "" {
		failed.Message = header
	} else {
		failed.Message = trimMessage(text)
	}
	return failed
}

// retryAfter is how long a server that failed asks to wait.
func retryAfter(err error) time.Duration {
	var failed *StatusError
	if errors.As(err, &failed) {
		return failed.RetryAfter
	}
	return 0
}

// statementError is an error that came in an answer of status 200.
func statementError(message string) error {
	if strings.HasPrefix(message, "database not found") ||
		strings.HasPrefix(message, "retention policy not found") ||
		strings.HasPrefix(message, "measurement not found") {
		return fmt.Errorf("%w: %s", ErrNotFound, message)
	}
	return errors.New(message)
}
