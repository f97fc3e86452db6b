package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

const (
	billingToken = "billing-token-of-the-tests"
	tenantToken  = "tenant-token-of-the-tests"
	elsewhere    = "token-that-only-the-issuer-knows"
)

// directory is who is known beside the token files.
type directory map[string]identity.Principal

var callers = directory{
	billingToken: {Name: "bill", Role: Billing, Via: identity.ViaToken},
	tenantToken:  {Name: "acme-grafana", Role: Tenant, Via: identity.ViaToken, Scope: usage.Scope{Customers: []string{"acme"}}},
}

func (d directory) Who(_ context.Context, token string) (identity.Principal, error) {
	switch p, ok := d[token]; {
	case ok:
		return p, nil
	case token == elsewhere:
		return identity.Anonymous, fmt.Errorf("%w: connection refused by issuer", identity.ErrUnavailable)
	case token == "expired":
		return identity.Anonymous, identity.ErrExpired
	case token == "roleless":
		return identity.Anonymous, identity.ErrNoRole
	}
	return identity.Anonymous, identity.ErrUnknown
}

// fakeTokens are named tokens.
type fakeTokens struct{ l *leader }

func (f fakeTokens) Create(_ context.Context, wish identity.Wish, by string) (string, registry.Token, error) {
	if wish.Name == "taken" {
		return "", registry.Token{}, registry.ErrTaken
	}
	return "the-secret", registry.Token{Name: wish.Name, Role: wish.Role}, f.l.did("token %s for %s by %s", wish.Name, wish.Expires, by)
}

func (f fakeTokens) Tokens(context.Context, bool) ([]registry.Token, error) {
	return []registry.Token{}, nil
}

func (f fakeTokens) RevokeToken(_ context.Context, name, by string) error {
	if name == "nowhere" {
		return registry.ErrNotFound
	}
	return f.l.did("revoke %s by %s", name, by)
}

// tenantRoutes are the only ones that let a tenant in: each answers by the bounds
// that its context carries, or tells nothing but himself. A new one is argued here.
var tenantRoutes = map[string]bool{"GET /api/v1": true, "GET /api/v1/me": true, "GET /api/v1/usage": true, "GET /api/v1/energy": true,
	"GET /api/v1/carbon": true, "GET /api/v1/export": true,
	"GET /allocation": true, "GET /allocation/compute": true, "GET /api/v1/allocation": true, "GET /api/v1/allocation/compute": true,
	"GET /api/v1/rates": true, "GET /api/v1/forecast": true, "GET /api/v1/budgets": true, "GET /api/v1/recommendations": true, "GET /api/v1/reports/run": true, "GET /api/v1/prices/ahead": true,
	"GET /api/v1/books": true, "GET /api/v1/books/{customer}/chain": true, "GET /api/v1/books/{customer}/statements/{number}": true, "GET /api/v1/books/{customer}/statements/{number}/archive": true, "GET " + bookPath + "/statement": true}

// others are the routes whose least role is not what their method says: what
// nobody may read, what billing may change, what is asked by POST and changes nothing,
// and what is read by operators alone.
var others = map[string]Role{"GET /": Nobody, "GET /healthz": Nobody, "GET /livez": Nobody, "GET /readyz": Nobody, "GET /docs/api": Nobody, "GET /openapi.json": Nobody,
	"POST /api/v1/fleet": Billing, "POST /api/v1/prices/series/{name}": Billing, "POST /api/v1/prices/simulate": Billing, "POST " + estimation: Viewer, "GET /api/v1/tokens": Operator, "GET /api/v1/audit": Billing}

// namedOnly are the routes that four eyes stand on: the token of a file, which
// several may have, is nobody's.
var namedOnly = map[string]bool{"POST /api/v1/books/{customer}/refunds": true, "POST /api/v1/books/{customer}/refunds/{id}/approve": true,
	"POST /api/v1/books/{customer}/refunds/{id}/decline": true}

var meterRoutes = map[string]bool{"GET /api/v1/meters": true, "POST /api/v1/meters/{id}/readings": true, "GET /api/v1/me": true}

// TestRolesOfTheTable holds each route's role against what its method says, so
// that a route without a stated role, or with a wrong one, is seen here.
func TestRolesOfTheTable(t *testing.T) {
	s, _ := newServer(t, false)
	for _, route := range s.Routes() {
		name := route.Method + " " + route.Path
		want, argued := others[name]
		switch {
		case argued:
		case route.Changes() && strings.HasPrefix(route.Path, "/api/v1/books/"):
			want = Billing
		case route.Changes():
			want = Operator
		default:
			want = Viewer
		}
		if tenantRoutes[name] {
			want |= Tenant
		}
		if meterRoutes[name] {
			want |= Feeder
		}
		if route.Role != want {
			t.Errorf("%s: role %s, want %s", name, route.Role, want)
		}
	}
	if answer := call(s, "GET", "/nowhere", "", ""); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("unknown path without a token: %d, want 401", answer.StatusCode)
	}
	if answer := call(s, "GET", "/nowhere", viewerToken, ""); answer.StatusCode != http.StatusNotFound {
		t.Errorf("unknown path: %d, want 404", answer.StatusCode)
	}
}

// may is whom a route lets in, told again in other words than Role.Admits.
func may(route Route, role Role) bool {
	name := route.Method + " " + route.Path
	switch role {
	case Tenant:
		return tenantRoutes[name] || route.Role == Nobody
	case Feeder:
		return meterRoutes[name] || route.Role == Nobody
	}
	rank := map[Role]int{Nobody: 0, Viewer: 1, Billing: 2, Operator: 3}
	needed, stated := rank[route.Role&0x0f]
	return stated && rank[role] >= needed
}

// TestEveryRouteByEveryRole walks every route as everybody, and without a role:
// it lets in whom the table names.
func TestEveryRouteByEveryRole(t *testing.T) {
	s, l := newServer(t, false)
	tokens := []struct {
		token string
		role  Role
	}{{"", Nobody}, {"not a token", Nobody}, {viewerToken, Viewer}, {operatorToken, Operator}, {metersToken, Feeder}, {billingToken, Billing}, {tenantToken, Tenant}}
	for _, route := range s.Routes() {
		for _, as := range tokens {
			l.scoped = nil
			body := examples[route.Method+" "+route.Path]
			if as.role == Billing { // who has a name acts under it
				body = strings.NewReplacer(`"by":"dora2"`, `"by":"bill"`, `"by":"dora"`, `"by":"bill"`, `"by":"carl"`, `"by":"bill"`).Replace(body)
			}
			answer := call(s, route.Method, pathOf(route), as.token, body)
			allowed := may(route, as.role) && !(namedOnly[route.Method+" "+route.Path] && as.token == operatorToken)
			switch {
			case allowed && answer.StatusCode >= 400:
				t.Errorf("%s %s as %s: %d %s", route.Method, route.Path, as.role, answer.StatusCode, text(t, answer))
			case !allowed && as.role == Nobody && (answer.StatusCode != http.StatusUnauthorized || answer.Header.Get("WWW-Authenticate") == ""):
				t.Errorf("%s %s without a token: %d, want 401", route.Method, route.Path, answer.StatusCode)
			case !allowed && as.role != Nobody && answer.StatusCode != http.StatusForbidden:
				t.Errorf("%s %s as %s: %d, want 403", route.Method, route.Path, as.role, answer.StatusCode)
			}
			if changes := l.changed(); len(changes) > 0 != (allowed && route.Changes()) {
				t.Errorf("%s %s as %s changed %v", route.Method, route.Path, as.role, changes)
			}
			for _, scoped := range l.scoped {
				if scoped != (as.role == Tenant) {
					t.Errorf("%s %s as %s: bounded %t", route.Method, route.Path, as.role, scoped)
				}
			}
			if answer.Header.Get("X-Content-Type-Options") != "nosniff" || answer.Header.Get("Content-Security-Policy") == "" {
				t.Errorf("%s %s: security headers are missing", route.Method, route.Path)
			}
		}
	}
}

// TestARouteWithoutARoleIsClosed is the control of the two above: such a route
// lets nobody in, and the walk sees it.
func TestARouteWithoutARoleIsClosed(t *testing.T) {
	s, l := newServer(t, false)
	handler := s.guard(Route{Method: "GET", Path: "/new", handle: func(w http.ResponseWriter, _ *http.Request) error {
		return writeJSON(w, http.StatusOK, l.did("let in"))
	}})
	s.handler = handler
	for _, token := range []string{"", viewerToken, operatorToken, metersToken, billingToken, tenantToken} {
		if answer := call(s, "GET", "/new", token, ""); answer.StatusCode < 400 || l.changed() != nil {
			t.Errorf("%q: %d", token, answer.StatusCode)
		}
	}
	if may(Route{Method: "GET", Path: "/new"}, Operator) {
		t.Error("the walk takes a route without a role for one that lets operators in")
	}
}

func TestWhoCallsCannotBeTold(t *testing.T) {
	s, _ := newServer(t, false)
	for token, want := range map[string]int{elsewhere: 503, "expired": 401, "roleless": 403, "guess": 401} {
		answer := call(s, "GET", "/api/v1/usage", token, "")
		if body := text(t, answer); answer.StatusCode != want || strings.Contains(body, token) && token != "expired" || strings.Contains(body, "refused by") {
			t.Errorf("%s: %d, %s", token, answer.StatusCode, body)
		}
	}
	if answer := call(s, "GET", "/healthz", elsewhere, ""); answer.StatusCode != 200 {
		t.Errorf("a probe asks the issuer: %d", answer.StatusCode)
	}
}

func TestTenantsAreHeldToTheirs(t *testing.T) {
	s, _ := newServer(t, false)
	for path, want := range map[string]int{
		"/api/v1/export?format=focus&period=2026-11": 200, // of the one customer of the scope
		"/api/v1/export?format=csv&period=2026-11":   200,
		"/api/v1/boxes":                        403,
		"/api/v1/heat":                         403,
		"/api/v1/meters":                       403,
		"/api/v1/clusters":                     403,
		"/api/v1/fleet/customer":               403,
		"/api/v1/clusters/edge-a/completeness": 403,
		"/nowhere":                             404,
		"/api/v1/export?format=focus&period=2026-11&customer=other": 403,
		"/api/v1/export?format=focus&period=2026-11&customer=acme":  200,
	} {
		if answer := call(s, "GET", path, tenantToken, ""); answer.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", path, answer.StatusCode, want, text(t, answer))
		}
	}
	if body := text(t, call(s, "GET", "/api/v1/usage?window=broken", tenantToken, "")); strings.Contains(body, "connection lost") {
		t.Errorf("the leader's own error is told: %s", body)
	}
	if body := text(t, call(s, "GET", "/api/v1", tenantToken, "")); strings.Contains(body, "/api/v1/boxes") || !strings.Contains(body, "/api/v1/usage") {
		t.Errorf("the list of a tenant: %s", body)
	}
	if body := text(t, call(s, "GET", "/api/v1/me", tenantToken, "")); !strings.Contains(body, `"role": "tenant"`) || !strings.Contains(body, `"acme"`) || !strings.Contains(body, "acme-grafana") {
		t.Errorf("me: %s", body)
	}
}

// TestBooksAreSignedByWhoActs: the four eyes stand on names that nobody can choose,
// where the caller has one.
func TestBooksAreSignedByWhoActs(t *testing.T) {
	s, l := newServer(t, false)
	const draft = "/api/v1/books/acme/2026-10/draft"
	for _, test := range []struct {
		token, body string
		want        int
		changed     string
	}{
		{billingToken, `{"by":"anna"}`, 403, ""},
		{billingToken, `{}`, 200, "draft acme 2026-10 by bill"},
		{billingToken, `{"by":"bill"}`, 200, "draft acme 2026-10 by bill"},
		{operatorToken, `{"by":"anna"}`, 200, "draft acme 2026-10 by anna"},
	} {
		if answer := call(s, "POST", draft, test.token, test.body); answer.StatusCode != test.want || strings.Join(l.changed(), "") != test.changed {
			t.Errorf("%s: %d, %s", test.body, answer.StatusCode, text(t, answer))
		}
	}
}

func TestBillingAppliesPriceListsAlone(t *testing.T) {
	s, l := newServer(t, false)
	list := examples["POST /api/v1/fleet"]
	box := `{"apiVersion":"accumulus.dev/v1","kind":"Box","metadata":{"name":"b"},"spec":{}}`
	if answer := call(s, "POST", "/api/v1/fleet", billingToken, list); answer.StatusCode != 200 || strings.Join(l.changed(), "") != "apply 1 by bill" {
		t.Errorf("a price list: %d", answer.StatusCode)
	}
	for _, query := range []string{"", "?dryRun=true"} {
		if answer := call(s, "POST", "/api/v1/fleet"+query, billingToken, list+"\n---\n"+box); answer.StatusCode != 403 || l.changed() != nil {
			t.Errorf("a box: %d, %s", answer.StatusCode, text(t, answer))
		}
	}
}

func TestTokensAreMadeAndRevoked(t *testing.T) {
	s, l := newServer(t, false)
	answer := call(s, "POST", "/api/v1/tokens", operatorToken, `{"name":"g","role":"tenant","scope":{"customers":["acme"]},"expiresIn":"90d"}`)
	if body := text(t, answer); answer.StatusCode != 201 || !strings.Contains(body, `"secret": "the-secret"`) || strings.Join(l.changed(), "") != "token g for 2160h0m0s by operator" {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
	for body, want := range map[string]int{`{"name":"taken","role":"viewer"}`: 409, `{"name":"g","expiresIn":"soon"}`: 400, `{"name":"g","expiresIn":"-1d"}`: 400, "": 422, `{"nam":"g"}`: 422} {
		if answer := call(s, "POST", "/api/v1/tokens", operatorToken, body); answer.StatusCode != want {
			t.Errorf("%s: %d, want %d", body, answer.StatusCode, want)
		}
	}
	if answer := call(s, "DELETE", "/api/v1/tokens/g", operatorToken, ""); answer.StatusCode != 200 || strings.Join(l.changed(), "") != "revoke g by operator" {
		t.Errorf("revoke: %d", answer.StatusCode)
	}
	if answer := call(s, "DELETE", "/api/v1/tokens/nowhere", operatorToken, ""); answer.StatusCode != 404 {
		t.Errorf("revoke what is not there: %d", answer.StatusCode)
	}
}
