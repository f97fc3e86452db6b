package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Problem is an error's body (RFC 9457), with a hint what to do.
type Problem struct {
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail,omitempty"`
	Hint     string   `json:"hint,omitempty"`
	Command  string   `json:"command,omitempty"` // the hint for who uses the command line, where it is another
	Instance string   `json:"instance,omitempty"`
	Errors   []string `json:"errors,omitempty"` // when more than one thing is wrong
	// Gaps are why a period is incomplete that must be complete.
	Gaps []query.Gap `json:"gaps,omitempty"`
}

// Errors that a Deps implementation returns wrapped, to choose the answer's status.
var (
	ErrNotFound  = errors.New("not found")            // 404
	ErrConflict  = errors.New("conflicts with state") // 409
	ErrInvalid   = errors.New("invalid")              // 422
	ErrNotReady  = errors.New("not ready")            // 503
	ErrForbidden = errors.New("not allowed")          // 403
)

// Hinted is an error that knows what the caller can do about it.
type Hinted struct {
	Err  error
	Hint string
	// Command is the hint for the command line, where it is another; "" = Hint.
	Command string
}

func (h *Hinted) Error() string { return h.Err.Error() }
func (h *Hinted) Unwrap() error { return h.Err }

// problemOf maps an error to what the caller is told. An error that is none of
// the known ones is the leader's own: the caller gets its text, for it names
// the action that failed, and the log has it too.
func problemOf(err error) Problem {
	problem := Problem{Type: "about:blank", Status: http.StatusInternalServerError, Detail: err.Error()}
	var input *query.InputError
	var incomplete *query.IncompleteError
	var files *focus.IncompleteError
	var row *focus.RowError
	var tooLarge *http.MaxBytesError
	var problems fleet.Problems
	switch {
	case bookProblem(err, &problem):
	case errors.As(err, &problems):
		problem.Status, problem.Detail = http.StatusUnprocessableEntity, "the objects cannot be applied; nothing was changed"
		problem.Hint = "Mend what errors lists and apply again; dryRun=true checks without changing anything."
		for _, p := range problems {
			problem.Errors = append(problem.Errors, p.String())
		}
	case errors.As(err, &files):
		problem.Status = http.StatusConflict
		problem.Hint = "Wait until it has settled, mend what `accumulus cluster status NAME` says why, or ask without requireComplete."
	case errors.As(err, &row):
		problem.Status = http.StatusUnprocessableEntity
		problem.Hint = "Nothing was exported. Mend what the row comes from (a price list, a customer, a cluster) and ask again."
	case errors.As(err, &incomplete):
		problem.Status, problem.Gaps = http.StatusConflict, incomplete.Gaps
		problem.Hint = "Wait until it is here, mend what gaps names, or ask without requireComplete; `accumulus cluster status NAME` says what each reason means."
		problem.Command = strings.Replace(problem.Hint, "requireComplete", "--require-complete", 1)
		for _, c := range incomplete.Clusters {
			problem.Errors = append(problem.Errors, c.String())
		}
	case errors.As(err, &input):
		problem.Status, problem.Hint = http.StatusBadRequest, input.Hint
	case errors.As(err, &tooLarge):
		problem.Status, problem.Hint = http.StatusRequestEntityTooLarge, "Split the file: each request may hold up to 4 MiB."
	case errors.Is(err, query.ErrOverflow):
		problem.Status = http.StatusUnprocessableEntity
	case errors.Is(err, ErrNotFound), errors.Is(err, registry.ErrNotFound):
		problem.Status = http.StatusNotFound
	case errors.Is(err, registry.ErrTaken):
		problem.Status = http.StatusConflict
	case errors.Is(err, query.ErrScope), errors.Is(err, ErrForbidden):
		problem.Status = http.StatusForbidden
	case errors.Is(err, ErrConflict):
		problem.Status = http.StatusConflict
	case errors.Is(err, ErrInvalid):
		problem.Status = http.StatusUnprocessableEntity
	case errors.Is(err, ErrNotReady):
		problem.Status = http.StatusServiceUnavailable
	case errors.Is(err, archive.ErrMoved):
		problem.Status, problem.Hint = http.StatusServiceUnavailable, "Ask again: the next answer reads them there."
	default:
		problem.Hint = "The leader's log has more; `accumulus status` shows what else is wrong."
	}
	var hinted *Hinted
	if errors.As(err, &hinted) && problem.Status != http.StatusRequestEntityTooLarge { // what belongs in the body is not what is wrong then
		problem.Hint, problem.Command = hinted.Hint, hinted.Command
	}
	if problem.Status == http.StatusNotFound && problem.Hint == "" {
		problem.Hint = "Look the name or number up in the list that it is of; GET /api/v1 lists all endpoints."
		problem.Command = "Look the name or number up in the list that it is of."
	}
	problem.Title = http.StatusText(problem.Status)
	return problem
}

func writeProblem(w http.ResponseWriter, r *http.Request, problem Problem) {
	if problem.Type == "" {
		problem.Type = "about:blank"
	}
	if problem.Title == "" {
		problem.Title = http.StatusText(problem.Status)
	}
	problem.Instance = r.URL.Path
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(problem.Status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(problem) // the caller is gone: nobody is left to tell
}
