package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newTokens(t *testing.T) (*Tokens, *registry.Registry, *clock.Manual, string) {
	t.Helper()
	clk := clock.NewManual(noon)
	path := filepath.Join(t.TempDir(), "registry.db")
	books, err := registry.Open(t.Context(), path, clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	return NewTokens(books, clk, slog.New(slog.DiscardHandler)), books, clk, path
}

func TestATokensLife(t *testing.T) {
	tokens, books, clk, path := newTokens(t)
	scope := usage.Scope{Customers: []string{"acme"}, Namespaces: []string{"shop-*"}}
	secret, made, err := tokens.Create(t.Context(), Wish{Name: "grafana", Role: "tenant", Scope: scope, Expires: 24 * time.Hour}, "operator")
	if err != nil {
		t.Fatal(err)
	}
	if !tokens.Knows(secret) || tokens.Knows("something-else") || made.Prefix != secret[:len(made.Prefix)] {
		t.Errorf("%s does not look like a token of %s", secret, made.Prefix)
	}
	who, err := tokens.Who(t.Context(), secret)
	want := Principal{Name: "grafana", Role: Tenant, Via: ViaToken, Scope: scope, Expires: noon.Add(24 * time.Hour)}
	if diff := cmp.Diff(want, who); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	list, err := books.Tokens(t.Context(), false)
	if err != nil || len(list) != 1 || !list[0].Used.Equal(noon) || list[0].CreatedBy != "operator" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, wrong := range []string{"", "acc_", secret + "x", secret[:len(secret)-1] + "!", "acc_aaaaaaaaaaaa_" + secret[len(secret)-43:]} {
		if _, err := tokens.Who(t.Context(), wrong); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, _, err := tokens.Create(t.Context(), Wish{Name: "grafana", Role: "viewer"}, "x"); !errors.Is(err, registry.ErrTaken) {
		t.Errorf("the same name: %v", err)
	}
	clk.Set(noon.Add(24 * time.Hour))
	if _, err := tokens.Who(t.Context(), secret); !errors.Is(err, ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	if err := books.RevokeToken(t.Context(), "grafana", "operator"); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Who(t.Context(), secret); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if err := books.RevokeToken(t.Context(), "grafana", "operator"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	if _, _, err := tokens.Create(t.Context(), Wish{Name: "grafana", Role: "viewer"}, "x"); err != nil {
		t.Errorf("a name that is free again: %v", err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte(secret[len(secret)-43:])) {
			t.Errorf("%s holds the secret, %v", file, err)
		}
	}
}

func TestWishesThatAreRefused(t *testing.T) {
	tokens, _, _, _ := newTokens(t)
	for _, wish := range []Wish{
		{Role: "viewer"}, {Name: "a/b", Role: "viewer"}, {Name: "a b", Role: "viewer"}, {Name: "a", Role: "admin"}, {Name: "a"},
		{Name: "a", Role: "tenant"}, // bound to nothing
		{Name: "a", Role: "viewer", Scope: usage.Scope{Customers: []string{"acme"}}},
		{Name: "a", Role: "tenant", Scope: usage.Scope{Namespaces: []string{"shop"}}},
		{Name: "a", Role: "tenant", Scope: usage.Scope{Labels: map[string]string{"team": "x"}}},
		{Name: "a", Role: "tenant", Scope: usage.Scope{Customers: []string{"*"}}},
		{Name: "a", Role: "tenant", Scope: usage.Scope{Clusters: []string{""}}},
		{Name: "a", Role: "viewer", Expires: -time.Hour}, {Name: "a", Role: "viewer", Expires: longestLife + 1},
	} {
		var input *usage.InputError
		if _, _, err := tokens.Create(t.Context(), wish, "x"); !errors.As(err, &input) || input.Hint == "" {
			t.Errorf("%+v: %v", wish, err)
		}
	}
}

func TestRolesAdmit(t *testing.T) {
	all := []Role{Unstated, Nobody, Viewer, Billing, Operator, Tenant, Meters}
	for route, admitted := range map[Role][]Role{
		Unstated:          nil,
		Unstated | Tenant: nil,
		Nobody:            {Nobody, Viewer, Billing, Operator, Tenant, Meters},
		Viewer:            {Viewer, Billing, Operator},
		Viewer | Tenant:   {Viewer, Billing, Operator, Tenant},
		Billing:           {Billing, Operator},
		Operator:          {Operator},
		Operator | Meters: {Operator, Meters},
	} {
		var got []Role
		for _, caller := range all {
			if route.Admits(caller) {
				got = append(got, caller)
			}
		}
		if diff := cmp.Diff(admitted, got); diff != "" {
			t.Errorf("%s:\n%s", route, diff)
		}
	}
	for name, role := range Named {
		if role.String() != name {
			t.Errorf("%s is written %s", name, role)
		}
	}
}

// someone knows one token, or answers an error.
type someone struct {
	token string
	err   error
}

func (s someone) Knows(string) bool { return true }

func (s someone) Who(_ context.Context, token string) (Principal, error) {
	if token != s.token {
		return Anonymous, s.err
	}
	return Principal{Name: token}, nil
}

func TestADirectoryAsksAll(t *testing.T) {
	down := fmt.Errorf("%w: it is down", ErrUnavailable)
	for name, test := range map[string]struct {
		sources Directory
		want    error
	}{
		"nobody":                     {nil, ErrUnknown},
		"the second":                 {Directory{someone{"", ErrUnknown}, someone{"x", nil}}, nil},
		"the second, the first down": {Directory{someone{"", down}, someone{"x", nil}}, nil},
		"down and unknown":           {Directory{someone{"", down}, someone{"", ErrUnknown}}, ErrUnavailable},
		"down and expired":           {Directory{someone{"", down}, someone{"", ErrExpired}}, ErrUnavailable},
		"expired and unknown":        {Directory{someone{"", ErrExpired}, someone{"", ErrUnknown}}, ErrExpired},
	} {
		if p, err := test.sources.Who(t.Context(), "x"); !errors.Is(err, test.want) || err != nil && p.Role != Nobody {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}
