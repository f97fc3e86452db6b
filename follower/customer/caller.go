package customer

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/internal/review"
)

// Errors of the door.
var (
	errNoToken = errors.New("no token")
	errUnknown = errors.New("the token is not known")
	errClosed  = errors.New("the store is not open yet")
	errBusy    = errors.New("too many questions are being answered")
)

// caller is who asks and what he may see.
type caller struct {
	name  string // for the page
	sight answers.Sight
}

// callerOf tells who sends a request, by its token or the page's session.
func (c *Customer) callerOf(r *http.Request) (caller, error) {
	token := c.deps.Token(r)
	if token == "" {
		token = c.sessions.token(r)
	}
	if token == "" {
		return caller{}, errNoToken
	}
	return c.callerWith(r.Context(), token)
}

func (c *Customer) callerWith(ctx context.Context, token string) (caller, error) {
	if c.deps.Own(token) {
		return caller{name: "viewer", sight: answers.Everything{}}, nil
	}
	if c.deps.Reviewer == nil {
		return caller{}, errUnknown
	}
	who, err := c.deps.Reviewer.Who(ctx, token)
	if err != nil {
		return caller{}, err
	}
	return caller{name: who.Name, sight: &reviewed{reviewer: c.deps.Reviewer, caller: who}}, nil
}

// reviewed is what a caller may see by the cluster's own rules. It asks once
// whether he may see all: one answer is of one sight, also where that changes
// meanwhile.
type reviewed struct {
	reviewer Reviewer
	caller   review.Caller

	once sync.Once
	all  bool
	err  error
}

// All says whether he may get pods in all namespaces.
func (s *reviewed) All(ctx context.Context) (bool, error) {
	s.once.Do(func() { s.all, s.err = s.reviewer.MaySee(ctx, s.caller, "") })
	return s.all, s.err
}

// Visible are the namespaces whose pods he may get.
func (s *reviewed) Visible(ctx context.Context, namespaces []string) ([]string, error) {
	return s.reviewer.Visible(ctx, s.caller, namespaces)
}
