package main

import (
	"strings"
	"testing"
)

const tokensJSON = `{"tokens":[{"name":"acme","prefix":"acc_aaaa","role":"tenant","scope":{"customers":["acme"],"labels":{"team":"shop"}},"created":"2026-11-23T10:00:00Z","createdBy":"operator","expires":"2027-02-21T10:00:00Z","lastUsed":"2026-11-23T10:58:00Z"},
{"name":"grafana","prefix":"acc_bbbb","role":"viewer","created":"2026-11-20T10:00:00Z","createdBy":"operator","revoked":"2026-11-21T10:00:00Z"}]}`

const changesJSON = `{"changes":[{"seq":3,"at":"2026-11-23T10:58:00Z","principal":"ann","role":"operator","via":"oidc:id.example.org","source":"192.0.2.1","method":"POST","route":"/api/v1/fleet","path":"/api/v1/fleet","status":200,"hash":"ab","objects":[{"action":"apply","kind":"Box","name":"b1"},{"action":"apply","kind":"Box","name":"b2"},{"action":"apply","kind":"Box","name":"b3"},{"action":"apply","kind":"Box","name":"b4"},{"action":"apply","kind":"Box","name":"b5"}]},
{"seq":1,"at":"2026-11-23T10:57:00Z","principal":"operator","role":"operator","via":"file","source":"127.0.0.1","method":"POST","route":"/accumulus/stop","path":"/accumulus/stop","status":0,"hash":"cd","objects":[]},
{"at":"2026-11-23T09:00:00Z","principal":"initial file","role":"","via":"","source":"","method":"","route":"","path":"","status":200,"objects":[{"action":"apply","kind":"PriceList","name":"standard"}]}],
"chain":{"entries":3,"head":"ef","broken":""}}`

func TestTokenCommands(t *testing.T) {
	for _, test := range []struct {
		args  string
		code  int
		says  string
		asked string
	}{
		{"token create g --role tenant --customer acme --label team=shop --label tier=1 --expires 90d", 0, "acc_abc_secret\n",
			`POST /api/v1/tokens {"name":"g","role":"tenant","scope":{"customers":["acme"],"labels":{"team":"shop","tier":"1"}},"expiresIn":"90d"}`},
		{"token create g", 1, `"role" not set`, ""},
		{"token create g --role tenant --label team", 1, "name=value", ""},
		{"token create g --role tenant --label team=a --label team=b", 1, "one value", ""},
		{"token list", 0, "customer acme; label team=shop", "GET /api/v1/tokens"},
		{"token list --revoked", 0, "REVOKED", "GET /api/v1/tokens?revoked=true"},
		{"token revoke a/b", 0, "was revoked", "DELETE /api/v1/tokens/a%2Fb"},
		{"audit log --since 7d --verify", 0, "apply Box/b3, and 2 more", "GET /api/v1/audit?limit=100&since=7d&verify=true"},
		{"audit log", 0, "the leader itself", "GET /api/v1/audit?limit=100"},
		{"audit log --json", 0, `"principal": "ann"`, "GET /api/v1/audit?limit=100"},
	} {
		l := &leader{}
		output, code := l.run(t, "", strings.Fields(test.args)...)
		asked := strings.Join(l.asked, "\n")
		if code != test.code || !strings.Contains(output, test.says) || !strings.HasPrefix(asked, test.asked) || (test.asked == "") != (asked == "") {
			t.Errorf("%s: %d\n%s\nasked %s", test.args, code, output, asked)
		}
	}
}
