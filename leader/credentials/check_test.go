package credentials

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// good is a kubeconfig that is taken.
var good = `apiVersion: v1
kind: Config
clusters:
- name: c
  cluster:
    server: https://192.0.2.1:6443
    certificate-authority-data: ` + authority() + `
users:
- name: u
  user:
    token: canary-token
contexts:
- name: x
  context: {cluster: c, user: u, namespace: metering}
current-context: x
`

// authority is a certificate, PEM in base64.
func authority() string {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func TestCheckKeepsWhatItLookedAt(t *testing.T) {
	others := strings.Replace(good, "users:\n", "- name: other\n  cluster: {server: https://other}\nusers:\n- name: other\n  user: {token: others}\n", 1)
	for name, text := range map[string]string{
		"one":              good,
		"others beside it": others,
		"none is current":  strings.Replace(good, "current-context: x\n", "", 1),
	} {
		checked, err := Check([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		config, err := clientcmd.Load(checked)
		if err != nil {
			t.Fatal(err)
		}
		if len(config.Clusters) != 1 || len(config.AuthInfos) != 1 || len(config.Contexts) != 1 || strings.Contains(string(checked), "other") {
			t.Errorf("%s: kept %s", name, checked)
		}
		if again, err := Check(checked); err != nil || !bytes.Equal(again, checked) {
			t.Errorf("%s: checked again: %v\n%s", name, err, again)
		}
		made, err := newConnection(Record{Kubeconfig: checked})
		if err != nil || (made.config.Host != "https://192.0.2.1:6443" || made.config.BearerToken != "canary-token" || made.namespace != "metering") {
			t.Errorf("%s: %+v, %v", name, made, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	user := func(field string) string { return strings.Replace(good, "    token: canary-token", "    "+field, 1) }
	cluster := func(field string) string {
		return strings.Replace(good, "    server:", "    "+field+"\n    server:", 1)
	}
	for name, test := range map[string]struct{ text, want string }{
		"exec":             {user("exec: {apiVersion: client.authentication.k8s.io/v1, command: canary, interactiveMode: Never}"), "exec would run a program"},
		"exec of another":  {strings.Replace(good, "contexts:", "- name: v\n  user:\n    exec: {apiVersion: client.authentication.k8s.io/v1, command: canary, interactiveMode: Never}\ncontexts:", 1), `user "v": exec`},
		"auth-provider":    {user("auth-provider: {name: canary}"), "auth-provider"},
		"token file":       {user("tokenFile: /etc/canary"), "tokenFile names a file"},
		"client cert file": {user("client-certificate: /etc/canary"), "client-certificate names a file"},
		"client key file":  {user("client-key: canary"), "client-key names a file"},
		"half a pair":      {user("client-certificate-data: Y2FuYXJ5"), "give both or none"},
		"no credentials":   {user("as: somebody"), "neither token nor"},
		"token of lines":   {user(`token: "canary\ncanary"`), "token is not one word"},
		"CA file":          {cluster("certificate-authority: /etc/canary"), "certificate-authority names a file"},
		"proxy":            {cluster("proxy-url: http://canary:1"), "proxy-url"},
		"insecure":         {cluster("insecure-skip-tls-verify: true"), "insecure-skip-tls-verify"},
		"plain HTTP":       {strings.Replace(good, "https:", "http:", 1), "not https"},
		"no host":          {strings.Replace(good, "https://192.0.2.1:6443", `"https://"`, 1), "no URL"},
		"a password":       {strings.Replace(good, "https://", "https://canary:canary@", 1), "no URL"},
		"a query":          {strings.Replace(good, ":6443", ":6443/?canary", 1), "no URL"},
		"two contexts":     {strings.Replace(strings.Replace(good, "current-context: x", "", 1), "contexts:", "contexts:\n- name: w\n  context: {cluster: c, user: u}", 1), "2 contexts and no current-context"},
		"no such context":  {strings.Replace(good, "current-context: x", "current-context: z", 1), `"z" is none of its contexts, which are x`},
		"no such cluster":  {strings.Replace(good, "cluster: c,", "cluster: d,", 1), "names a cluster that is not there"},
		"no such user":     {strings.Replace(good, "user: u,", "user: w,", 1), "names a user that is not there"},
		"nothing":          {"", "0 contexts"},
		"no YAML":          {"canary: [", "is not the YAML"},
		"another kind":     {"apiVersion: v1\nkind: Secret\ndata: {token: canary}\n", ""},
		"long":             {good + strings.Repeat("#", maxKubeconfig), "longer than"},
		"a broken pair":    {user("client-certificate-data: Y2FuYXJ5\n    client-key-data: Y2FuYXJ5"), "cannot be read"},
		"a broken CA":      {strings.Replace(good, authority(), "Y2FuYXJ5", 1), "cannot be read"},
	} {
		_, err := Check([]byte(test.text))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error repeats a value: %v", name, err)
		}
	}
}

func TestCheckContext(t *testing.T) {
	two := strings.Replace(good, "contexts:", "- name: v\n  user:\n    exec: {apiVersion: client.authentication.k8s.io/v1, command: canary, interactiveMode: Never}\ncontexts:\n- name: w\n  context: {cluster: c, user: v}", 1)
	if _, err := CheckContext([]byte(two), "x"); err != nil {
		t.Errorf("beside a context with a program: %v", err)
	}
	if _, err := CheckContext([]byte(two), "w"); !errors.Is(err, ErrRefused) {
		t.Errorf("%v, want refused: it names a program", err)
	}
	var unknown *UnknownContextError
	if _, err := CheckContext([]byte(two), "z"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "it has w, x") {
		t.Errorf("%v, want the contexts that there are", err)
	}
}

// FuzzCheck: whatever is taken names no program and no file, and is taken again
// as it is.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "token:", "tokenFile:", 1)))
	f.Add([]byte(strings.Replace(good, "token: canary-token", "exec: {command: x, apiVersion: client.authentication.k8s.io/v1}", 1)))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://h"}}],"users":[{"name":"u","user":{"token":"t"}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		checked, err := Check(text)
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		config, err := clientcmd.Load(checked)
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range config.AuthInfos {
			if user.Exec != nil || user.AuthProvider != nil || user.TokenFile+user.ClientCertificate+user.ClientKey != "" {
				t.Fatalf("taken: %s", checked)
			}
		}
		for _, cluster := range config.Clusters {
			if cluster.InsecureSkipTLSVerify || cluster.CertificateAuthority+cluster.ProxyURL != "" || !strings.HasPrefix(strings.ToLower(cluster.Server), "https://") {
				t.Fatalf("taken: %s", checked)
			}
		}
		again, err := Check(checked)
		if err != nil || !bytes.Equal(again, checked) {
			t.Fatalf("checked again: %v\n%s\n%s", err, checked, again)
		}
	})
}
