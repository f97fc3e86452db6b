package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadConfig(t *testing.T) {
	read := func(text string) (Config, error) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "access.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadConfig(path)
	}
	good, err := read(`
limits: {principal: 10, failedSignIns: -1}
oidc:
  - issuer: https://id.example.org/realms/ops
    audience: accumulus
    name: email
    skew: 30s
    roles:
      - {claim: groups, value: metering, role: operator}
      - {claim: groups, value: acme, role: tenant, scope: {customers: [acme]}}
      - {claim: customers, customersFrom: customers, role: tenant}
kubernetes:
  audiences: [accumulus]
  roles:
    - {user: "system:serviceaccount:monitoring:prometheus", role: viewer}
`)
	if err != nil || len(good.OIDC) != 1 || time.Duration(good.OIDC[0].Skew) != 30*time.Second || good.OIDC[0].Roles[1].Scope.Customers[0] != "acme" || good.Limits.Principal != 10 {
		t.Errorf("%+v, %v", good, err)
	}
	if none, err := ReadConfig(""); err != nil || len(none.OIDC) > 0 {
		t.Errorf("no file: %v", err)
	}
	for says, text := range map[string]string{
		"unknown field":           `oicd: []`,
		"https://":                `oidc: [{issuer: "http://id.example.org", audience: a, roles: [{claim: c, role: viewer}]}]`,
		"audience":                `oidc: [{issuer: "https://id.example.org", roles: [{claim: c, role: viewer}]}]`,
		"nobody gets in":          `oidc: [{issuer: "https://id.example.org", audience: a}]`,
		"is none of":              `oidc: [{issuer: "https://id.example.org", audience: a, roles: [{claim: c, role: admin}]}]`,
		"claim: name it":          `oidc: [{issuer: "https://id.example.org", audience: a, roles: [{role: viewer}]}]`,
		"say what the tenant":     `oidc: [{issuer: "https://id.example.org", audience: a, roles: [{claim: c, role: tenant}]}]`,
		"customersFrom is of":     `oidc: [{issuer: "https://id.example.org", audience: a, roles: [{claim: c, role: viewer, customersFrom: c}]}]`,
		"at most 5m0s":            `oidc: [{issuer: "https://id.example.org", audience: a, skew: 1h, roles: [{claim: c, role: viewer}]}]`,
		"twice":                   `oidc: [{issuer: "https://id.example.org", audience: a, roles: [{claim: c, role: viewer}]}, {issuer: "https://id.example.org", audience: b, roles: [{claim: c, role: viewer}]}]`,
		"a user or a group":       `kubernetes: {roles: [{role: viewer}]}`,
		"a scope is a tenant's":   `kubernetes: {roles: [{user: u, role: viewer, scope: {customers: [a]}}]}`,
		"kubernetes: roles: with": `kubernetes: {}`,
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v does not say %q", text, err, says)
		}
	}
}
