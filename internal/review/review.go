// Package review asks the API server of a follower's or a leader's own cluster who a
// caller is (TokenReview) and, of a follower, which namespaces he may see (SubjectAccessReview: get
// pods), so that the customer's own rights in his cluster are his rights here.
//
// It guarantees that a token is never kept, logged or put into an error: what
// is remembered stands under its hash. Answers are remembered for a short time,
// refusals for a shorter one, both bounded in number and apart, so that made-up
// tokens drive no caller out. Where the API server does not answer, what is
// remembered still holds, and everything else is ErrUnavailable: nobody is let
// in by a failure.
package review

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// Errors of a Reviewer. Neither says anything of the token.
var (
	ErrUnknown     = errors.New("the cluster does not know this token, or it has expired")
	ErrUnavailable = errors.New("the cluster's API server does not answer reviews")
)

// Config bounds what is asked and remembered. Zero values are the defaults.
type Config struct {
	// Audiences are those that a token must be for, one of them; none: the API
	// server's own.
	Audiences []string
	TTL       time.Duration // of an answer; 0 = 1 min
	Refused   time.Duration // of a refusal; 0 = 10 s
	Timeout   time.Duration // of one review; 0 = 5 s
	Callers   int           // tokens that are remembered, known and unknown each; 0 = 2000
	Grants    int           // answers on namespaces that are remembered, yes and no each; 0 = 50,000
}

func (c Config) withDefaults() Config {
	if c.TTL <= 0 {
		c.TTL = time.Minute
	}
	if c.Refused <= 0 {
		c.Refused = 10 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Callers <= 0 {
		c.Callers = 2000
	}
	if c.Grants <= 0 {
		c.Grants = 50_000
	}
	return c
}

// atOnce is how many reviews run at once.
const atOnce = 16

// maxToken bounds what is taken for a token, in bytes; a service account's has
// about a thousand.
const maxToken = 16 << 10

// Tokens reviews tokens: client-go's TokenReviewInterface.
type Tokens interface {
	Create(ctx context.Context, review *authentication.TokenReview, options meta.CreateOptions) (*authentication.TokenReview, error)
}

// Access reviews access: client-go's SubjectAccessReviewInterface.
type Access interface {
	Create(ctx context.Context, review *authorization.SubjectAccessReview, options meta.CreateOptions) (*authorization.SubjectAccessReview, error)
}

// Caller is who a token belongs to.
type Caller struct {
	Name string // as the cluster names him

	id    hash
	user  authentication.UserInfo
	until time.Time // the token's own end, where it tells it; else zero
}

// Groups are those that the cluster has the caller in.
func (c Caller) Groups() []string { return slices.Clone(c.user.Groups) }

// Until is when the caller's token ends, where it tells it; else the zero time.
func (c Caller) Until() time.Time { return c.until }

type hash = [sha256.Size]byte

// grant is a question about a namespace, "" for all.
type grant struct {
	caller    hash
	namespace string
}

// Reviewer answers from the API server and from what it remembers. It is safe
// for concurrent use.
type Reviewer struct {
	config Config
	tokens Tokens
	access Access
	clock  clock.Clock
	turns  *semaphore.Weighted

	known, unknown  *memory[hash, Caller]
	allowed, denied *memory[grant, struct{}]

	reviews *prometheus.CounterVec
}

// New makes a reviewer; it asks nothing yet. Without access it knows callers, and
// nothing may be asked of what they may see.
func New(config Config, tokens Tokens, access Access, clk clock.Clock, registry prometheus.Registerer) (*Reviewer, error) {
	config = config.withDefaults()
	r := &Reviewer{config: config, tokens: tokens, access: access, clock: clk, turns: semaphore.NewWeighted(atOnce),
		known: newMemory[hash, Caller](config.Callers), unknown: newMemory[hash, Caller](config.Callers),
		allowed: newMemory[grant, struct{}](config.Grants), denied: newMemory[grant, struct{}](config.Grants),
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_review_requests_total",
			Help: "Reviews asked of the API server, by kind (token, access) and answer (yes, no, error)."}, []string{"kind", "answer"})}
	if err := registry.Register(r.reviews); err != nil {
		return nil, fmt.Errorf("register review metrics: %w", err)
	}
	return r, nil
}

// Who is the caller with a token. Errors: ErrUnknown, ErrUnavailable.
func (r *Reviewer) Who(ctx context.Context, token string) (Caller, error) {
	if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Caller{}, ErrUnknown
	}
	id, now := sha256.Sum256([]byte(token)), r.clock.Now()
	if caller, ok := r.known.get(id, now); ok {
		return caller, nil
	}
	if _, ok := r.unknown.get(id, now); ok {
		return Caller{}, ErrUnknown
	}
	status, err := r.reviewToken(ctx, token)
	if err != nil {
		return Caller{}, err
	}
	now = r.clock.Now()
	if !status.Authenticated || status.User.Username == "" || !r.isFor(status.Audiences) {
		r.unknown.put(id, Caller{}, now, now.Add(r.config.Refused))
		return Caller{}, ErrUnknown
	}
	caller := Caller{Name: status.User.Username, id: id, user: status.User, until: expiry(token)}
	r.known.put(id, caller, now, earlier(now.Add(r.config.TTL), caller.until))
	return caller, nil
}

// isFor says whether the token is for one of the wanted audiences.
func (r *Reviewer) isFor(audiences []string) bool {
	return len(r.config.Audiences) == 0 ||
		slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(r.config.Audiences, a) })
}

func (r *Reviewer) reviewToken(ctx context.Context, token string) (authentication.TokenReviewStatus, error) {
	var status authentication.TokenReviewStatus
	err := r.ask(ctx, "token", func(ctx context.Context) (bool, error) {
		answer, err := r.tokens.Create(ctx, &authentication.TokenReview{
			Spec: authentication.TokenReviewSpec{Token: token, Audiences: r.config.Audiences}}, meta.CreateOptions{})
		if err != nil {
			return false, err
		}
		status = answer.Status
		return status.Authenticated, nil
	})
	return status, err
}

// MaySee says whether the caller may get the pods of a namespace, or with "" of
// all of them. Errors: ErrUnavailable.
func (r *Reviewer) MaySee(ctx context.Context, caller Caller, namespace string) (bool, error) {
	question, now := grant{caller.id, namespace}, r.clock.Now()
	if _, ok := r.allowed.get(question, now); ok {
		return true, nil
	}
	if _, ok := r.denied.get(question, now); ok {
		return false, nil
	}
	extra := make(map[string]authorization.ExtraValue, len(caller.user.Extra))
	for key, values := range caller.user.Extra {
		extra[key] = authorization.ExtraValue(values)
	}
	allowed := false
	err := r.ask(ctx, "access", func(ctx context.Context) (bool, error) {
		answer, err := r.access.Create(ctx, &authorization.SubjectAccessReview{Spec: authorization.SubjectAccessReviewSpec{
			User: caller.user.Username, UID: caller.user.UID, Groups: caller.user.Groups, Extra: extra,
			ResourceAttributes: &authorization.ResourceAttributes{Namespace: namespace, Verb: "get", Resource: "pods", Version: "v1"},
		}}, meta.CreateOptions{})
		if err != nil {
			return false, err
		}
		allowed = answer.Status.Allowed && !answer.Status.Denied
		return allowed, nil
	})
	if err != nil {
		return false, err
	}
	now = r.clock.Now()
	if allowed {
		r.allowed.put(question, struct{}{}, now, earlier(now.Add(r.config.TTL), caller.until))
	} else {
		r.denied.put(question, struct{}{}, now, now.Add(r.config.Refused))
	}
	return allowed, nil
}

// Visible are those of the namespaces whose pods the caller may get, in their
// order. Errors: ErrUnavailable.
func (r *Reviewer) Visible(ctx context.Context, caller Caller, namespaces []string) ([]string, error) {
	may := make([]bool, len(namespaces))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce / 2)
	for i, namespace := range namespaces {
		group.Go(func() (err error) {
			may[i], err = r.MaySee(ctx, caller, namespace)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var visible []string
	for i, namespace := range namespaces {
		if may[i] {
			visible = append(visible, namespace)
		}
	}
	return visible, nil
}

// ask runs one review in its turn and under its time. The API server's error
// goes into the text: it names the verb that is missing, never the token.
func (r *Reviewer) ask(ctx context.Context, kind string, review func(context.Context) (bool, error)) error {
	timed, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	err := r.turns.Acquire(timed, 1)
	yes := false
	if err == nil {
		yes, err = review(timed)
		r.turns.Release(1)
	}
	answer := map[bool]string{true: "yes", false: "no"}[yes]
	if err != nil {
		answer = "error"
	}
	r.reviews.WithLabelValues(kind, answer).Inc()
	if err != nil {
		return fmt.Errorf("%w: review %s: %w", ErrUnavailable, kind, err)
	}
	return nil
}

// expiry is the end that a JSON web token tells of itself, or the zero time.
// The API server has checked the token; this only forgets it in time.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if json.Unmarshal(text, &claims) != nil || claims.Expires <= 0 {
		return time.Time{}
	}
	return time.Unix(claims.Expires, 0).UTC()
}

// earlier is the first of two times; a zero b is none.
func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
