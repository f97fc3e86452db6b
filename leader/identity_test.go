package leader

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
)

// callAs sends one request to the leader's API and returns status and body.
func (c *centre) callAs(method, path, token, body string) (int, string) {
	c.t.Helper()
	request := httptest.NewRequestWithContext(c.t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+token)
	recorder := httptest.NewRecorder()
	c.api.Handler().ServeHTTP(recorder, request)
	return recorder.Code, recorder.Body.String()
}

// TestCallersOfALeader: named tokens and an issuer's let in to a leader as it runs,
// a tenant reads his own, and what was changed stands in the log.
func TestCallersOfALeader(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: oidc.RS256}}}
	web := httptest.NewServer(issuer)
	issuer.SetIssuer(web.URL)
	access := filepath.Join(t.TempDir(), "access.yaml")
	config := fmt.Sprintf("oidc: [{issuer: %q, audience: accumulus, roles: [{claim: groups, value: ops, role: operator}]}]", web.URL)
	if err := os.WriteFile(access, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCentre(t, Config{AccessFile: access})
	c.describe()
	c.apply(fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}), fleet.NewObject("bolt", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("a", fleet.Cluster{URL: c.url, Customer: "acme"}).Since(start.Add(-time.Hour)))
	c.tick()
	person := oidctest.SignIDToken(key, "k", oidc.RS256, fmt.Sprintf(`{"iss":%q,"aud":"accumulus","sub":"ann","groups":["ops"],"exp":%d}`, web.URL, at(60).Unix()))
	made := make(map[string]string)
	for _, customer := range []string{"acme", "bolt"} {
		code, body := c.callAs("POST", "/api/v1/tokens", person, fmt.Sprintf(`{"name":%q,"role":"tenant","scope":{"customers":[%q]}}`, customer, customer))
		_, rest, _ := strings.Cut(body, `"secret": "`)
		made[customer], _, _ = strings.Cut(rest, `"`)
		if code != http.StatusCreated || !identity.IsNamed(made[customer]) {
			t.Fatalf("%d %s", code, body)
		}
	}
	const usage = "/api/v1/usage?window=2026-11-23T10:00:00Z,2026-11-23T10:15:00Z&aggregate=cluster,namespace"
	if code, body := c.callAs("GET", usage, made["acme"], ""); code != 200 || !strings.Contains(body, `"namespace": "web"`) {
		t.Errorf("his own: %d %s", code, body)
	}
	if code, body := c.callAs("GET", usage, made["bolt"], ""); code != 200 || strings.Contains(body, "web") || !strings.Contains(body, `"clusters": []`) || !strings.Contains(body, `"rows": []`) {
		t.Errorf("another's: %d %s", code, body)
	}
	if code, _ := c.callAs("POST", "/accumulus/stop", made["acme"], ""); code != http.StatusForbidden {
		t.Errorf("a tenant stops the loops: %d", code)
	}
	if code, _ := c.callAs("DELETE", "/api/v1/tokens/bolt", person, ""); code != 200 {
		t.Errorf("revoke: %d", code)
	}
	if code, body := c.callAs("GET", usage, made["bolt"], ""); code != http.StatusUnauthorized || !strings.Contains(body, "revoked") {
		t.Errorf("a token that was revoked: %d %s", code, body)
	}
	code, body := c.callAs("GET", "/api/v1/audit?verify=true", person, "")
	for _, want := range []string{`"principal": "ann"`, `"path": "/api/v1/tokens/bolt"`, `"principal": "acme"`, `"status": 403`, `"entries": 8`} {
		if code != 200 || !strings.Contains(body, want) || strings.Contains(body, "broken") {
			t.Errorf("the log: %d, no %s: %s", code, want, body)
		}
	}
	c.clk.Set(at(60).Add(2 * time.Minute))
	if code, body := c.callAs("GET", usage, person, ""); code != http.StatusUnauthorized || !strings.Contains(body, "expired") {
		t.Errorf("after its end: %d %s", code, body)
	}
	web.Close()
}
