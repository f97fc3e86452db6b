package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/gorilla/mux"
)

// Callers know who shows a token that stands in no file: identity.Directory.
type Callers interface {
	Who(ctx context.Context, token string) (identity.Principal, error)
}

// NamedTokens are made and ended: *identity.Tokens with the registry.
type NamedTokens interface {
	Create(ctx context.Context, wish identity.Wish, by string) (string, registry.Token, error)
	Tokens(ctx context.Context, revoked bool) ([]registry.Token, error)
	RevokeToken(ctx context.Context, name, by string) error
}

// refusal is a request that is not let in.
type refusal struct {
	problem Problem
	after   int // seconds until it may be asked again; 0 is not said
}

func (r *refusal) Error() string { return r.problem.Detail }

// letIn finds out who calls, and refuses who may not. The request that it returns
// carries the caller and, of a tenant, the bounds of what he is answered.
func (s *Server) letIn(r *http.Request, route Route) (*http.Request, error) {
	counted := route.Role.Least() != Nobody // probes and pages are cheap, and must answer
	left := s.limits.under(s.rules().Limits)
	if counted {
		if err := s.take(left.addresses, identity.Network(s.source(r)), byAddress); err != nil {
			return r, err
		}
	}
	caller, err := s.who(r, route, left)
	if err == nil && counted && (caller.Role != Nobody || caller.Via != "") {
		err = s.take(left.principals, caller.Key(), byPrincipal)
	}
	if err != nil {
		return r, err
	}
	ctx := identity.With(r.Context(), caller)
	if caller.Role == Tenant {
		ctx = query.Within(ctx, caller.Scope)
	}
	r = r.WithContext(ctx)
	if caller.Via == identity.ViaDevice || route.Role.Admits(caller.Role) {
		return r, nil
	}
	if caller.Role == Nobody {
		return r, unknownCaller(nil)
	}
	problem := Problem{Status: http.StatusForbidden, Detail: "this needs the role " + route.Role.String() + "; the token's role is " + caller.Role.String()}
	problem.Hint, problem.Command = whichToken(route.Role, caller.Role)
	return r, &refusal{problem: problem}
}

// whichToken says to whom a route does not let in with which token it would; command is
// that for the command line, where it is another.
func whichToken(route, caller Role) (hint, command string) {
	switch {
	case caller == Tenant:
		return "A tenant is answered what lies in his scope: GET /api/v1 lists the routes that are open to him, GET /api/v1/me his scope. Ask the operator for the rest; no other token of yours opens it.",
			"A tenant is answered what lies in his scope: usage, energy, carbon, allocations, forecasts, the export and his closed statements. Ask the operator for the rest."
	case caller == Feeder:
		hint = "The token of the meters sends their readings, and nothing else. "
	}
	if route.Least() == Billing {
		return hint + `Use a token whose role is billing: an operator makes one by POST /api/v1/tokens with {"name":"dora","role":"billing"}.`,
			hint + "Use a token whose role is billing (--token-file): an operator makes one by `accumulus token create dora --role billing`."
	}
	file := OperatorFile
	if route.Least() == Viewer {
		file = ViewerFile
	}
	return hint + "Use the token in " + file + " of the leader's data directory, or one whose role is " + route.Least().String() + ".", ""
}

// who is the caller: by a token file, by what else knows tokens or, where readings
// of a heat source are sent, by that source's own token.
func (s *Server) who(r *http.Request, route Route, left *limiters) (identity.Principal, error) {
	caller := s.door.who(r)
	token := bearer(r)
	if caller.Role != Nobody || token == "" {
		return caller, nil
	}
	if s.ownsSource(route, r) {
		return identity.Principal{Name: mux.Vars(r)["source"], Role: Nobody, Via: identity.ViaDevice}, nil
	}
	if route.Role.Least() == Nobody {
		return caller, nil
	}
	from, err := identity.Network(s.source(r)), identity.ErrUnknown
	if wait, ok := left.failures.Left(from, s.deps.Clock.Now()); !ok && !identity.IsNamed(token) {
		return caller, s.limited(wait, bySignIn)
	}
	if s.deps.Callers != nil {
		caller, err = s.deps.Callers.Who(r.Context(), token)
	}
	if errors.Is(err, identity.ErrUnknown) {
		if limited := s.take(left.failures, from, bySignIn); limited != nil {
			return caller, limited
		}
	}
	switch {
	case errors.Is(err, identity.ErrUnavailable):
		s.log.Warn("who calls cannot be told", "err", err)
		return caller, &refusal{problem: Problem{Status: http.StatusServiceUnavailable, Detail: "who calls cannot be told now: whoever knows this token does not answer",
			Hint: "Try again in a moment; the leader's log says what is wrong. The tokens in the leader's directory and named tokens work meanwhile."}}
	case errors.Is(err, identity.ErrNoRole):
		return caller, &refusal{problem: Problem{Status: http.StatusForbidden, Detail: err.Error(),
			Hint: "The operator gives roles to callers by what their token says of them: docs/access.md."}}
	case err != nil:
		return caller, unknownCaller(err)
	}
	return caller, nil
}

// unknownCaller is 401, with what is known of the token.
func unknownCaller(err error) error {
	problem := Problem{Status: http.StatusUnauthorized, Detail: "no token, or one that is not known",
		Hint: "Send Authorization: Bearer with the token in " + ViewerFile + " or " + OperatorFile + " of the leader's data directory; the command line takes --token-file."}
	if errors.Is(err, identity.ErrExpired) || errors.Is(err, identity.ErrRevoked) {
		problem.Detail, problem.Hint = err.Error(), "Ask the operator for another one: `accumulus token create`."
	}
	return &refusal{problem: problem}
}

// refuse answers who was not let in.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var not *refusal
	if !errors.As(err, &not) {
		writeProblem(w, r, problemOf(err))
		return
	}
	if not.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(not.after))
	}
	if not.problem.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="accumulus"`)
	}
	writeProblem(w, r, not.problem)
}

// caller is the name of who asks.
func caller(r *http.Request) string { return identity.Of(r.Context()).Name }

// mayApply refuses what the role billing cannot change.
func mayApply(r *http.Request, objects []fleet.Object) error {
	if identity.Of(r.Context()).Role != Billing {
		return nil
	}
	for _, o := range objects {
		if o.Kind != fleet.KindPriceList {
			return &Hinted{Err: fmt.Errorf("the role billing applies price lists, and no %s: %w; nothing was changed", o.Kind, ErrForbidden),
				Hint: "Ask an operator to apply the rest."}
		}
	}
	return nil
}

// ownCustomer is whose files are exported. A tenant exports those of one customer
// of his scope: that one, where it has no other.
func ownCustomer(r *http.Request, asked string) (string, error) {
	caller := identity.Of(r.Context())
	if caller.Role != Tenant {
		return asked, nil
	}
	own := caller.Scope.Customers
	switch {
	case len(own) == 0:
		return "", &Hinted{Err: fmt.Errorf("these files are of a customer, and the token is bound to none: %w", ErrForbidden), Hint: "Ask for format=csv or format=json."}
	case asked == "" && len(own) == 1:
		return own[0], nil
	case asked == "":
		return "", usage.Wrong("customer", asked, "say which: "+strings.Join(own, ", "))
	case !slices.Contains(own, asked):
		return "", &Hinted{Err: fmt.Errorf("the token is not bound to that customer: %w", ErrForbidden), Hint: "GET /api/v1/me says what it is bound to."}
	}
	return asked, nil
}

// Me is who asks.
type Me struct {
	identity.Principal
	Role string `json:"role"`
}

func (s *Server) me(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	p := identity.Of(r.Context())
	return writeJSON(w, http.StatusOK, Me{p, p.Role.String()})
}

// TokenList are named tokens.
type TokenList struct {
	Tokens []registry.Token `json:"tokens"`
}

// TokenRequest is a token that is to be made.
type TokenRequest struct {
	identity.Wish
	ExpiresIn string `json:"expiresIn,omitempty"` // such as 90d or 12h; "" is never
}

// NewToken is a token that was made. Its secret is shown this once.
type NewToken struct {
	registry.Token
	Secret Secret `json:"secret"`
}

func (s *Server) tokens(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "revoked")
	if err != nil {
		return err
	}
	revoked, err := usage.ParseFlag(values, "revoked")
	if err != nil {
		return err
	}
	list, err := s.deps.Tokens.Tokens(r.Context(), revoked)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, TokenList{list})
}

func (s *Server) createToken(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	var request TokenRequest
	if err := readJSON(r, &request); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if request.ExpiresIn != "" {
		life, err := parseLife(request.ExpiresIn)
		if err != nil {
			return err
		}
		request.Wish.Expires = life
	}
	secret, made, err := s.deps.Tokens.Create(r.Context(), request.Wish, caller(r))
	if errors.Is(err, registry.ErrTaken) {
		return &Hinted{Err: err, Hint: "Revoke that token first, or take another name.", Command: "`accumulus token revoke " + request.Name + "` first, or take another name."}
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, NewToken{made, Secret(secret)})
}

// parseLife reads how long a token lives: days as 90d, or as time.ParseDuration.
func parseLife(text string) (time.Duration, error) {
	life, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		life, err = time.ParseDuration(days + "h")
		life *= 24
	}
	if err != nil || life <= 0 {
		return 0, usage.Wrong("expiresIn", text, "use a time such as 90d or 12h")
	}
	return life, nil
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	if err := s.deps.Tokens.RevokeToken(r.Context(), name, caller(r)); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{"token " + name + " was revoked"})
}
