package influxsync

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
)

// linkError is a request that got no answer; its text is the cause's.
type linkError struct{ error }

func (e linkError) Unwrap() error { return e.error }

// Row says whether a row is refused for what it is, while others of its
// request are stored: it belongs into a quarantine.
func (c Class) Row() bool {
	return slices.Contains(RowClasses, c)
}

// RowClasses are the classes of rows that are refused for what they are: those
// of a quarantine.
var RowClasses = []Class{TypeConflict, Retention, Malformed, SeriesLimit, TooLarge}

// Passes says whether the same write is worth another attempt later, with
// nobody changing anything but, where the disk is full, its room.
func (c Class) Passes() bool {
	switch c {
	case DiskFull, Busy, Failing, NoAnswer:
		return true
	}
	return false
}

var classHints = map[Class]string{
	TypeConflict: "A field has another type in that day's shard of the store: somebody else wrote it first, or its type has changed. The type stays until the shard goes: SHOW SHARDS, DROP SHARD, copy what else it held again (accumulus sync audit --repair), then replay.",
	Retention:    "The rows are older than the database's retention policy keeps: lengthen it (ALTER RETENTION POLICY … DURATION INF), then replay.",
	Malformed:    "The store cannot parse these rows, or refuses a name in them. Mend them at their source: a corrected window replaces them. Or discard them.",
	SeriesLimit:  "The store's limit of series or tag values is reached: raise max-series-per-database or max-values-per-tag and restart it, then replay.",
	TooLarge:     "A single row is larger than the store, or a proxy before it, takes: raise max-body-size, then replay.",
	NoDatabase:   "The database does not exist: create it, or restart the leader, which creates its own.",
	NoPolicy:     "The database has no such retention policy: create the one that the store names as its default.",
	Denied:       "The store refuses the token, or its owner may not write there: look at the token file and at the user's rights.",
	Fenced:       "Another leader has taken over and writes there now. Stop this one, or give it the higher fence number.",
	Rejected:     "The store, or a proxy before it, refuses the request as a whole: what it says is in the message. Look at its URL and its log.",
	DiskFull:     "The store's disk is full: make room. The rows stay at their source and are written when there is.",
	Busy:         "The store has more to do than it can: the rows stay at their source and are written when it can. If it stays so, give it memory or time (cache-max-memory-size).",
	Failing:      "The store fails: its log says why. The rows stay at their source and are written when it works again.",
	NoAnswer:     "The store does not answer: is it running, and is the way to it open? The rows stay at their source.",
}

// Hint is what an operator can do about it, or "" for no class.
func (c Class) Hint() string { return classHints[c] }

// ClassOf is what is the matter with a write, by the error that it gave. "" is
// an error that no server gave: a write that was cancelled, a row that was
// never sent, rows that differ.
func ClassOf(err error) Class {
	var refused *WriteError
	var failed *StatusError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, ErrFenced):
		return Fenced
	case errors.As(err, &refused):
		return classOfStatus(refused.Status, refused.Message)
	case errors.As(err, &failed):
		return classOfStatus(failed.Status, failed.Message)
	case unanswered(err):
		return NoAnswer
	}
	return ""
}

// unanswered says whether an error is the network's.
func unanswered(err error) bool {
	var link linkError
	var network net.Error
	var number syscall.Errno
	return errors.As(err, &link) || errors.As(err, &network) || errors.As(err, &number) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTruncated) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe)
}

func classOfStatus(status int, message string) Class {
	text := strings.TrimPrefix(message, partly)
	starts := func(with string) bool { return strings.HasPrefix(text, with) }
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return Denied
	case status == http.StatusRequestTimeout:
		return NoAnswer
	case status == http.StatusConflict:
		return Fenced
	case status == http.StatusRequestEntityTooLarge:
		return TooLarge
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return Busy
	case starts("database not found"):
		return NoDatabase
	case starts("retention policy not found"): // with status 500
		return NoPolicy
	case status == http.StatusBadRequest:
		return classOfReason(text)
	case status/100 == 5 && (strings.Contains(message, "no space left on device") || strings.Contains(message, "disk quota exceeded")):
		return DiskFull
	case status/100 == 5 && strings.Contains(message, "cache-max-memory-size exceeded"):
		return Busy
	case status/100 == 5:
		return Failing
	}
	return Rejected
}

// reasons are how the server's messages of status 400 begin. What follows may
// be text of the rows.
var reasons = []struct {
	prefix string
	class  Class
}{
	{"field type conflict", TypeConflict},
	{"points beyond retention policy", Retention},
	{"unable to parse", Malformed},
	{"invalid tag key", Malformed},
	{"invalid field name", Malformed},
	{"key contains invalid unicode", Malformed},
	{"max key length exceeded", Malformed},
	{"max-values-per-tag limit exceeded", SeriesLimit},
	{"max-series-per-database limit exceeded", SeriesLimit},
	{"unexpected EOF", NoAnswer}, // the body was cut on its way; nothing was written
}

func classOfReason(text string) Class {
	for _, r := range reasons {
		if strings.HasPrefix(text, r.prefix) {
			return r.class
		}
	}
	if strings.HasPrefix(text, "shard ") && strings.Contains(text, " is pending deletion") {
		return Busy
	}
	return Rejected
}
