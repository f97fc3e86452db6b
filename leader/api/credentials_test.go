package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func (l *leader) SetCredentials(_ context.Context, cluster string, given Kubeconfig) error {
	return l.did("credentials %s %d %s", cluster, len(given.Kubeconfig), given.ClusterID)
}

func (l *leader) DropCredentials(_ context.Context, cluster string) error {
	return l.did("drop %s", cluster)
}

func (l *leader) RotateToken(_ context.Context, cluster string) error {
	return l.did("rotate %s", cluster)
}

func (l *leader) AddContext(_ context.Context, cluster string, request ContextRequest) error {
	if request.Context == "unknown" {
		return &Hinted{Err: fmt.Errorf("no context unknown; it has a, b: %w", ErrNotFound), Hint: "Name one of these."}
	}
	return l.did("context %s %s %s adopt %t", cluster, request.Context, request.Spec.Customer, request.Adopt)
}

// TestCredentialsDoNotComeInTheClear: over plain HTTP from elsewhere they are
// refused, and the answer says what to do about those that were sent.
func TestCredentialsDoNotComeInTheClear(t *testing.T) {
	elsewhere := func(r *http.Request) { r.RemoteAddr, r.Host = "192.0.2.1:50000", "accumulus.example" }
	over := func(r *http.Request) { elsewhere(r); r.TLS = &tls.ConnectionState{} }
	ingress := func(r *http.Request) { elsewhere(r); r.Header.Set("X-Forwarded-Proto", "https") }
	for name, test := range map[string]struct {
		edit     func(*http.Request)
		insecure bool
		want     int
	}{
		"this machine":                    {func(*http.Request) {}, false, 200},
		"TLS":                             {over, false, 200},
		"plain":                           {elsewhere, false, 422},
		"plain, allowed for others":       {elsewhere, true, 422},
		"an ingress that nobody told of":  {ingress, false, 422},
		"an ingress":                      {ingress, true, 200},
		"another name of this machine":    {func(r *http.Request) { r.Host = "accumulus.example" }, false, 422},
		"a proxy on this machine, no TLS": {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }, false, 422},
	} {
		s, l := newServer(t, false)
		s.config.Insecure = test.insecure
		answer := call(s, "POST", "/api/v1/clusters/edge-a/credentials", operatorToken, `{"kubeconfig":"canary","clusterID":"u"}`, test.edit)
		body, changed := text(t, answer), l.changed()
		if answer.StatusCode != test.want || (len(changed) > 0) != (test.want == 200) {
			t.Errorf("%s: %d, changed %v: %s", name, answer.StatusCode, changed, body)
		}
		if strings.Contains(body, "canary") {
			t.Errorf("%s: the answer repeats the credentials: %s", name, body)
		}
	}
}

// TestBrokenCredentialsAreNotRepeated: what cannot be read may be a secret.
func TestBrokenCredentialsAreNotRepeated(t *testing.T) {
	s, l := newServer(t, false)
	for _, body := range []string{"", "canary", `{"kubeconfig":"x","canary":1}`, `{"kubeconfig":"canary"`, `{"kubeconfig":"x"} canary`} {
		answer := call(s, "POST", "/api/v1/clusters/edge-a/credentials", operatorToken, body)
		if said := text(t, answer); answer.StatusCode != 422 || strings.Contains(said, "canary") || l.changed() != nil {
			t.Errorf("%q: %d %s", body, answer.StatusCode, said)
		}
	}
}

// TestAddByName: without a URL the route means a context of the leader's own
// kubeconfig, by default that of the cluster's name.
func TestAddByName(t *testing.T) {
	s, l := newServer(t, false)
	const path = "/accumulus/clusters/add/ams-03"
	for _, test := range []struct {
		query, body string
		status      int
		want        string
	}{
		{"", "", 201, "context ams-03 ams-03  adopt false"},
		{"?context=kind-ams&adopt=true", `{"customer":"acme"}`, 201, "context ams-03 kind-ams acme adopt true"},
		{"?context=unknown", "", 404, ""},
		{"?adopt=yes", "", 400, ""},
		{"?url=http://127.0.0.1:1", "", 201, "add ams-03 http://127.0.0.1:1"},
		{"", `{"url":"http://127.0.0.1:1"}`, 201, "add ams-03 http://127.0.0.1:1"},
	} {
		answer := call(s, "POST", path+test.query, operatorToken, test.body)
		if got := strings.Join(l.changed(), ";"); answer.StatusCode != test.status || got != test.want {
			t.Errorf("%q %s: %d %q, want %d %q: %s", test.query, test.body, answer.StatusCode, got, test.status, test.want, text(t, answer))
		}
	}
	s.deps.Contexts = nil
	answer := call(s, "POST", path, operatorToken, "")
	if said := text(t, answer); answer.StatusCode != 422 || !strings.Contains(said, "--kubeconfig") {
		t.Errorf("without a kubeconfig: %d %s", answer.StatusCode, said)
	}
}
