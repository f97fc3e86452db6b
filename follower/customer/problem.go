package customer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/review"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Problem is an error's body (RFC 9457) as the leader writes it.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Hint     string `json:"hint,omitempty"`
	Instance string `json:"instance,omitempty"`
}

// howIn says how to be let in.
const howIn = "Send Authorization: Bearer with a token of this cluster (kubectl create token NAME -n NAMESPACE), where reviews are on, " +
	"or with the viewer's token (key viewer of the Secret accumulus-follower-tokens). Behind the API server's proxy use the header Accumulus-Authorization."

// problemOf maps an error to what the caller is told. What is none of the known
// ones is the follower's own and stays in its log: it may name what the caller
// may not see.
func problemOf(err error) Problem {
	problem := Problem{Status: http.StatusInternalServerError, Detail: "the question could not be answered", Hint: "The follower's log has more."}
	var input *usage.InputError
	var forbidden *answers.ForbiddenError
	var slow *answers.SlowError
	switch {
	case errors.Is(err, errNoToken):
		problem = Problem{Status: http.StatusUnauthorized, Detail: "no token", Hint: howIn}
	case errors.Is(err, errUnknown), errors.Is(err, review.ErrUnknown):
		problem = Problem{Status: http.StatusUnauthorized, Detail: "the token is not known, or it has expired", Hint: howIn}
	case errors.Is(err, review.ErrUnavailable):
		problem = Problem{Status: http.StatusServiceUnavailable, Detail: review.ErrUnavailable.Error() + ", so that callers cannot be told apart",
			Hint: "Try again; the follower's log says why. The viewer's token works meanwhile."}
	case errors.As(err, &forbidden):
		problem = Problem{Status: http.StatusForbidden, Detail: forbidden.Detail, Hint: forbidden.Hint}
	case errors.As(err, &input):
		problem = Problem{Status: http.StatusBadRequest, Detail: input.Error(), Hint: input.Hint}
	case errors.Is(err, usage.ErrOverflow):
		problem = Problem{Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	case errors.Is(err, errClosed):
		problem = Problem{Status: http.StatusServiceUnavailable, Detail: errClosed.Error(), Hint: "Try again in a minute; /readyz says when."}
	case errors.Is(err, errBusy):
		problem = Problem{Status: http.StatusServiceUnavailable, Detail: errBusy.Error(), Hint: "Try again."}
	case errors.As(err, &slow):
		problem = Problem{Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("the answer takes longer than %s; %s read and remembered", answerTime, plural.Of(slow.Days, "day was", "days were")),
			Hint: "Ask again: it goes on after them. Or ask for a shorter window, or by fewer keys."}
	case errors.Is(err, context.DeadlineExceeded):
		problem = Problem{Status: http.StatusServiceUnavailable, Detail: "the answer takes longer than " + answerTime.String(), Hint: "Ask for a shorter window."}
	}
	problem.Type, problem.Title = "about:blank", http.StatusText(problem.Status)
	return problem
}

func writeProblem(w http.ResponseWriter, r *http.Request, problem Problem) {
	problem.Instance = r.URL.Path
	w.Header().Set("Content-Type", "application/problem+json")
	writeBody(w, problem.Status, problem)
}

func writeBody(w http.ResponseWriter, status int, value any) {
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value) // the caller is gone: nobody is left to tell
}
