package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// ChangeLog is the log of who changed what: *registry.Registry.
type ChangeLog interface {
	LogAsked(ctx context.Context, asked registry.Asked) (context.Context, error)
	LogDone(ctx context.Context, status int) error
	Changes(ctx context.Context, since, before time.Time, limit int) ([]registry.Logged, error)
	VerifyChanges(ctx context.Context) (registry.Chain, error)
}

// ChangeList are changes, newest first.
type ChangeList struct {
	Changes []registry.Logged `json:"changes"`
	Next    string            `json:"next,omitempty"` // of the next page; "" on the last
	Chain   *registry.Chain   `json:"chain,omitempty"`
}

// Questions that come by POST, for they have a body.
const (
	simulation = "/api/v1/prices/simulate"
	estimation = "/api/v1/estimate"
)

// logs says whether the route's requests stand in the log of changes: not where
// what was measured comes in, which is data, nor where nothing changes.
func (r Route) logs() bool {
	return r.Changes() && r.Method != "" && r.Path != heatReadings && r.Path != "/api/v1/meters/{id}/readings" && r.Path != simulation && r.Path != estimation
}

// asked is a request as the log has it.
func (s *Server) asked(r *http.Request, route Route) registry.Asked {
	p := identity.Of(r.Context())
	return registry.Asked{Principal: p.Name, Role: p.Role.String(), Via: p.Via, Source: s.source(r), Method: r.Method, Route: route.Path, Path: r.URL.Path}
}

// address is where a request was sent from, the last proxy where there are some.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// logged carries a request out. A change is logged before, and what came of it
// after; what cannot be logged is not done.
func (s *Server) logged(w *recorder, r *http.Request, route Route) {
	if !route.logs() {
		s.carryOut(w, r, route)
		return
	}
	ctx, err := s.deps.Log.LogAsked(r.Context(), s.asked(r, route))
	if err != nil {
		s.log.Error("a change cannot be logged and is not made", "path", r.URL.Path, "err", err)
		writeProblem(w, r, Problem{Status: http.StatusServiceUnavailable, Detail: "the change cannot be logged, so it was not made",
			Hint: "Look at the leader's log: is its disk full?"})
		return
	}
	defer func() { // also where the connection is broken off
		if err := s.deps.Log.LogDone(context.WithoutCancel(ctx), w.status); err != nil {
			s.log.Error("the outcome of a change is not logged", "path", r.URL.Path, "status", w.status, "err", err)
		}
	}()
	s.carryOut(w, r.WithContext(ctx), route)
}

// logRefused logs a change that somebody who is known may not make.
func (s *Server) logRefused(r *http.Request, route Route, err error) {
	var not *refusal
	if !route.logs() || !errors.As(err, &not) || not.problem.Status != http.StatusForbidden {
		return
	}
	ctx, err := s.deps.Log.LogAsked(r.Context(), s.asked(r, route))
	if err == nil {
		err = s.deps.Log.LogDone(ctx, http.StatusForbidden)
	}
	if err != nil {
		s.log.Error("a refused change is not logged", "path", r.URL.Path, "err", err)
	}
}

func (s *Server) changes(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "since", "limit", "page", "verify")
	if err != nil {
		return err
	}
	since, err := s.sinceOf(values.Get("since"))
	if err != nil {
		return err
	}
	limit, err := number(values, "limit", rowsOfPage, mostRows)
	if err != nil {
		return err
	}
	before, err := number(values, "page", 0, 1<<62)
	if err != nil {
		return err
	}
	verify, err := usage.ParseFlag(values, "verify")
	if err != nil {
		return err
	}
	var until time.Time
	if before > 0 {
		until = time.Unix(0, before)
	}
	list := ChangeList{}
	if list.Changes, err = s.deps.Log.Changes(r.Context(), since, until, int(limit)+1); err != nil {
		return err
	}
	if int64(len(list.Changes)) > limit {
		list.Changes = list.Changes[:limit]
		list.Next = strconv.FormatInt(list.Changes[limit-1].At.UnixNano(), 10)
	}
	if verify {
		chain, err := s.deps.Log.VerifyChanges(r.Context())
		if err != nil {
			return err
		}
		list.Chain = &chain
	}
	return writeJSON(w, http.StatusOK, list)
}

// sinceOf reads a moment, or how long ago it was; "" is the zero time.
func (s *Server) sinceOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	ago, err := parseLife(strings.TrimSpace(text))
	if err != nil {
		return time.Time{}, usage.Wrong("since", text, "use 24h, 7d, or a time such as 2026-11-01T00:00:00Z")
	}
	return s.deps.Clock.Now().Add(-ago), nil
}
