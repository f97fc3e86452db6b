// Package customer is the side of a follower that the cluster's own people see:
// a read-only API (/api/v1/usage, energy, cost, runs) and a status page. Both
// answer from the follower's own store and need no leader.
//
// Who calls is told by the follower's own tokens, which see the whole cluster,
// or, where reviews are on, by the cluster itself: a caller then sees what his
// rights in it let him see (package review). The page keeps a caller's token in
// the follower's memory, under a random number that is the browser's cookie, so
// that no other service under the same host name is ever sent the token.
//
// Nothing here changes anything.
package customer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/review"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// Bounds of the work for callers.
const (
	atOnce     = 4           // questions that are answered at once; others wait
	answerTime = time.Minute // for one question, waiting included
)

// Answers are what the store says: *answers.Engine.
type Answers interface {
	answersOf
	AsOf(ctx context.Context) (answers.AsOf, error)
}

// Reviewer tells who a caller is by the cluster: *review.Reviewer.
type Reviewer interface {
	Who(ctx context.Context, token string) (review.Caller, error)
	MaySee(ctx context.Context, caller review.Caller, namespace string) (bool, error)
	Visible(ctx context.Context, caller review.Caller, namespaces []string) ([]string, error)
}

// Health is how the follower is, for the page.
type Health struct {
	Now      time.Time
	Open     bool // the store can be asked
	Settled  time.Time
	Nodes    []Node
	Problems []Trouble
}

// Node is how one node was read.
type Node struct {
	Name     string
	Last     time.Time // when it was last read; zero: never
	Error    string    // why it cannot be read, ""
	Problems []string  // what of it is not counted though it is read
}

// Trouble is a problem in words. Whole is one that may name nodes or what runs
// on them: only who sees the whole cluster is shown it.
type Trouble struct {
	Text, Hint string
	Whole      bool
}

// Config says whose side this is.
type Config struct {
	Cluster string
}

// Deps are the parts that it stands on.
type Deps struct {
	Answers  Answers
	Reviewer Reviewer // nil: only the follower's own tokens are known
	// Token is the token that a request carries, "" without one; Own says whether
	// it is one of the follower's own that may read.
	Token  func(*http.Request) string
	Own    func(token string) bool
	Health func() Health
	Clock  clock.Clock
	Log    *slog.Logger
}

// Customer answers the cluster's people.
type Customer struct {
	config   Config
	deps     Deps
	turns    *semaphore.Weighted
	page     *page
	sessions *sessions
	requests *prometheus.CounterVec
}

// New makes the customer's side; Mount serves it.
func New(config Config, deps Deps, registry prometheus.Registerer) (*Customer, error) {
	page, err := newPage()
	if err != nil {
		return nil, err
	}
	c := &Customer{config: config, deps: deps, turns: semaphore.NewWeighted(atOnce), page: page, sessions: newSessions(deps.Clock),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_customer_requests_total",
			Help: "Requests of the cluster's own people, by route and status."}, []string{"route", "status"})}
	if err := registry.Register(c.requests); err != nil {
		return nil, fmt.Errorf("register customer metrics: %w", err)
	}
	return c, nil
}

// Mount adds the routes:
//
//	GET  /                                     the page; without a session, its door
//	POST /login, /logout                       a session for the page
//	GET  /api/v1                               the list of these routes
//	GET  /api/v1/usage, energy, cost, runs     see docs/customer.md
func (c *Customer) Mount(mux *http.ServeMux) {
	mux.Handle("GET /{$}", c.guard("/", c.showPage))
	forms := http.NewCrossOriginProtection()
	mux.Handle("POST /login", forms.Handler(c.guard("/login", c.login)))
	mux.Handle("POST /logout", forms.Handler(c.guard("/logout", c.logout)))
	mux.Handle("GET /api/v1", c.guard("/api/v1", c.index))
	for _, route := range c.routes() {
		mux.Handle("GET "+route.Path, c.guard(route.Path, c.question(route.answer)))
	}
}

// guard sets what every answer carries, counts, and turns errors into problems.
func (c *Customer) guard(route string, next func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for name, value := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Cache-Control": "no-store"} {
			h.Set(name, value)
		}
		recorder := &recorder{ResponseWriter: w, status: http.StatusOK}
		r.Body = http.MaxBytesReader(recorder, r.Body, 64<<10)
		if err := next(recorder, r); err != nil {
			c.fail(recorder, r, err)
		}
		c.requests.WithLabelValues(route, fmt.Sprint(recorder.status)).Inc()
	})
}

func (c *Customer) fail(w *recorder, r *http.Request, err error) {
	problem := problemOf(err)
	switch {
	case r.Context().Err() != nil: // nobody is there any more
	case problem.Status == http.StatusInternalServerError:
		c.deps.Log.Error("customer's question failed", "path", r.URL.Path, "err", err)
	case errors.Is(err, review.ErrUnavailable):
		c.deps.Log.Warn("callers cannot be reviewed", "err", err)
	}
	if w.wrote {
		panic(http.ErrAbortHandler) // the caller must not take a part for the whole
	}
	if problem.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="accumulus-follower"`)
	}
	writeProblem(w, r, problem)
}

// recorder remembers the status and whether a body was begun.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.status = status
	}
	r.wrote = true
	r.ResponseWriter.WriteHeader(status)
}

// Write notes that a body was begun.
func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(p)
}
