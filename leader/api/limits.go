package api

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/prometheus/client_golang/prometheus"
)

// limits are how much one caller may take.
type limits struct {
	refused *prometheus.CounterVec

	mu   sync.Mutex
	of   identity.Limits // that hold
	left *limiters
}

// limiters are what callers have left. Changed limits begin anew.
type limiters struct{ principals, addresses, failures *identity.Limiter }

// What a request was refused by.
const (
	byPrincipal = "principal"
	byAddress   = "address"
	bySignIn    = "sign-in"
)

func newLimits() *limits {
	l := &limits{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_api_limited_total",
			Help: "Requests that were refused with 429, by what was used up: principal, address, or sign-in for wrong tokens."}, []string{"by"})}
	for _, by := range []string{byPrincipal, byAddress, bySignIn} {
		l.refused.WithLabelValues(by)
	}
	return l
}

// under are the limiters of limits.
func (l *limits) under(config identity.Limits) *limiters {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == nil || l.of != config {
		l.of = config
		config = config.WithDefaults()
		l.left = &limiters{principals: identity.NewLimiter(config.Principal, config.PrincipalBurst), addresses: identity.NewLimiter(config.Address, config.AddressBurst),
			failures: identity.NewLimiter(config.FailedSignIns/60, int(math.Ceil(config.FailedSignIns)))}
	}
	return l.left
}

// Access says how much callers may take and which proxies speak for them, as it holds
// when it is asked: *identity.File.
type Access interface{ Rules() identity.Rules }

// rules are those of the access file, or of the configuration where there is none.
func (s *Server) rules() identity.Rules {
	if s.deps.Access != nil {
		return s.deps.Access.Rules()
	}
	return identity.Rules{Limits: s.config.Limits}
}

// source is the address that a request comes from.
func (s *Server) source(r *http.Request) string {
	return s.rules().Proxies.Source(address(r), r.Header.Values("X-Forwarded-For"))
}

// take takes one request of what a key has, or refuses it.
func (s *Server) take(limiter *identity.Limiter, key, by string) error {
	if wait, ok := limiter.Take(key, s.deps.Clock.Now()); !ok {
		return s.limited(wait, by)
	}
	return nil
}

// limited is 429 with when to ask again.
func (s *Server) limited(wait time.Duration, by string) error {
	s.limits.refused.WithLabelValues(by).Inc()
	seconds := int(math.Ceil(wait.Seconds()))
	detail := map[string]string{byPrincipal: "this caller asks too often", byAddress: "too many requests come from this address",
		bySignIn: "too many wrong tokens come from this address"}[by]
	return &refusal{problem: Problem{Status: http.StatusTooManyRequests, Detail: detail,
		Hint: "Ask again in " + strconv.Itoa(max(1, seconds)) + " s; the operator can set other limits (docs/access.md)."}, after: max(1, seconds)}
}
