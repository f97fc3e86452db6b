package issuer

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// stand is an issuer that may be down, and the leader's side of it.
type stand struct {
	t      *testing.T
	server *oidctest.Server
	url    string
	down   atomic.Bool
	asked  atomic.Int64
	clock  *clock.Manual
	issuer *Issuer
	key    *rsa.PrivateKey
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(id string, key crypto.Signer) oidctest.PublicKey {
	return oidctest.PublicKey{PublicKey: key.Public(), KeyID: id, Algorithm: oidc.RS256}
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{t: t, clock: clock.NewManual(noon), key: newKey(t)}
	s.server = &oidctest.Server{PublicKeys: []oidctest.PublicKey{public("first", s.key)}}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		s.server.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	s.url = web.URL
	s.server.SetIssuer(s.url)
	tenant := identity.Claimed{Claim: "groups", Value: "customer-acme", Given: identity.Given{Role: "tenant", Scope: usage.Scope{Customers: []string{"acme"}}}}
	config := identity.OIDC{Issuer: s.url, Audience: "accumulus", Name: "email", Skew: fleet.Duration(time.Minute), Roles: []identity.Claimed{
		{Claim: "realm_access.roles", Value: "metering-operator", Given: identity.Given{Role: "operator"}}, tenant,
		{Claim: "customers", CustomersFrom: "customers", Given: identity.Given{Role: "tenant", Scope: usage.Scope{Clusters: []string{"edge-*"}}}},
	}}
	if err := (identity.Config{OIDC: []identity.OIDC{config}}).Validate(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.issuer, err = New(config, s.clock); err != nil {
		t.Fatal(err)
	}
	return s
}

// token is a good one with some claims changed.
func (s *stand) token(key *rsa.PrivateKey, id string, changed map[string]any) string {
	s.t.Helper()
	claims := map[string]any{"iss": s.url, "aud": "accumulus", "sub": "0815", "email": "ann@example.org", "exp": noon.Add(time.Hour).Unix(), "groups": []string{"staff", "customer-acme"}}
	for name, value := range changed {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	return oidctest.SignIDToken(key, id, oidc.RS256, string(text))
}

func TestRolesByClaims(t *testing.T) {
	s := newStand(t)
	good := identity.Principal{Name: "ann@example.org", Via: "oidc:" + strings.TrimPrefix(s.url, "http://"), Expires: noon.Add(time.Hour)}
	as := func(role identity.Role, scope usage.Scope) identity.Principal {
		p := good
		p.Role, p.Scope = role, scope
		return p
	}
	acme := as(identity.Tenant, usage.Scope{Customers: []string{"acme"}})
	for name, test := range map[string]struct {
		changed map[string]any
		want    identity.Principal
		err     error
	}{
		"a group":                      {nil, acme, nil},
		"a role of a realm, the first": {map[string]any{"realm_access": map[string]any{"roles": []string{"metering-operator"}}}, as(identity.Operator, usage.Scope{}), nil},
		"customers by a claim":         {map[string]any{"groups": nil, "customers": []string{"a", "b"}}, as(identity.Tenant, usage.Scope{Customers: []string{"a", "b"}, Clusters: []string{"edge-*"}}), nil},
		"one customer by a claim":      {map[string]any{"groups": nil, "customers": "a"}, as(identity.Tenant, usage.Scope{Customers: []string{"a"}, Clusters: []string{"edge-*"}}), nil},
		"a star is no customer":        {map[string]any{"groups": nil, "customers": "*"}, identity.Anonymous, identity.ErrNoRole},
		"no customer":                  {map[string]any{"groups": nil, "customers": []string{}}, identity.Anonymous, identity.ErrNoRole},
		"no role":                      {map[string]any{"groups": []string{"staff"}}, identity.Anonymous, identity.ErrNoRole},
		"no name":                      {map[string]any{"email": nil}, identity.Anonymous, identity.ErrNoRole},
		"another audience":             {map[string]any{"aud": "grafana"}, identity.Anonymous, identity.ErrUnknown},
		"one of several audiences":     {map[string]any{"aud": []string{"grafana", "accumulus"}}, acme, nil},
		"ended":                        {map[string]any{"exp": noon.Add(-2 * time.Minute).Unix()}, identity.Anonymous, identity.ErrExpired},
		"without an end":               {map[string]any{"exp": nil}, identity.Anonymous, identity.ErrExpired},
		"not yet":                      {map[string]any{"nbf": noon.Add(10 * time.Minute).Unix()}, identity.Anonymous, identity.ErrUnknown},
		"a clock that is behind":       {map[string]any{"nbf": noon.Add(time.Minute).Unix()}, acme, nil},
	} {
		got, err := s.issuer.Who(t.Context(), s.token(s.key, "first", test.changed))
		if diff := cmp.Diff(test.want, got); diff != "" || !errors.Is(err, test.err) {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	if _, err := s.issuer.Who(t.Context(), s.token(s.key, "first", map[string]any{"exp": noon.Add(-30 * time.Second).Unix()})); err != nil {
		t.Errorf("half a minute after its end, by a clock that may be a minute off: %v", err)
	}
}

func TestForgedTokensAreNotKnown(t *testing.T) {
	s := newStand(t)
	other, signed := newKey(t), s.token(s.key, "first", nil)
	parts := strings.Split(signed, ".")
	for name, token := range map[string]string{
		"another key under the same name": s.token(other, "first", nil),
		"a key that is not known":         s.token(other, "other", nil),
		"no signature":                    parts[0] + "." + parts[1] + ".",
		"alg none":                        "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"other claims":                    parts[0] + "." + strings.Split(s.token(s.key, "first", map[string]any{"sub": "x"}), ".")[1] + "." + parts[2],
	} {
		if p, err := s.issuer.Who(t.Context(), token); !errors.Is(err, identity.ErrUnknown) || p.Role != identity.Nobody || strings.Contains(err.Error(), parts[2]) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for token, want := range map[string]bool{signed: true, s.token(s.key, "first", map[string]any{"iss": "https://elsewhere"}): false, "acc_x": false, "a.b.c": false} {
		if s.issuer.Knows(token) != want {
			t.Errorf("%.20s: known %t", token, !want)
		}
	}
}

// TestKeysAreChanged: a new key is found at its first token; the old one is good as
// long as the issuer names it.
func TestKeysAreChanged(t *testing.T) {
	s := newStand(t)
	if _, err := s.issuer.Who(t.Context(), s.token(s.key, "first", nil)); err != nil {
		t.Fatal(err)
	}
	next := newKey(t)
	s.server.PublicKeys = []oidctest.PublicKey{public("second", next), public("first", s.key)}
	for id, key := range map[string]*rsa.PrivateKey{"second": next, "first": s.key} {
		if _, err := s.issuer.Who(t.Context(), s.token(key, id, nil)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	asked := s.asked.Load()
	if _, err := s.issuer.Who(t.Context(), s.token(next, "second", nil)); err != nil || s.asked.Load() != asked {
		t.Errorf("a key that is known is asked for: %v", err)
	}
}

// TestAnIssuerIsDown: nobody is let in by it, and it is not the token's fault; who
// has a key that is known goes on.
func TestAnIssuerIsDown(t *testing.T) {
	s := newStand(t)
	s.down.Store(true)
	token := s.token(s.key, "first", nil)
	for range 3 {
		if _, err := s.issuer.Who(t.Context(), token); !errors.Is(err, identity.ErrUnavailable) {
			t.Fatalf("%v", err)
		}
	}
	if asked := s.asked.Load(); asked != 1 {
		t.Errorf("it was asked %d times at once", asked)
	}
	s.down.Store(false)
	s.clock.Advance(again)
	if _, err := s.issuer.Who(t.Context(), token); err != nil {
		t.Fatalf("it is there again: %v", err)
	}
	s.down.Store(true)
	if _, err := s.issuer.Who(t.Context(), token); err != nil {
		t.Errorf("a key that is known: %v", err)
	}
	if _, err := s.issuer.Who(t.Context(), s.token(newKey(t), "second", nil)); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("a key that is not known: %v", err)
	}
}
