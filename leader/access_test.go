package leader

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// output is all that a leader said: its log, and the answers of its API.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

// door is a leader's API as an operator uses it.
type door struct {
	t      *testing.T
	server *httptest.Server
	token  api.Secret
	said   *output
}

// openWithAccess is a leader whose loops do not run, and its API over TLS.
func openWithAccess(t *testing.T, dir string, config AccessConfig) (*Leader, *door) {
	t.Helper()
	said := new(output)
	l, err := Open(t.Context(), Config{Dir: dir, API: api.Config{Listen: "127.0.0.1:0"}, Access: config}, clock.System(),
		slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(l.api.Handler())
	t.Cleanup(func() {
		server.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, &door{t, server, l.config.API.Tokens.Operator, said}
}

// ask sends a request and returns status and body.
func (d *door) ask(method, path string, body any) (int, string) {
	d.t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			d.t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(d.t.Context(), method, d.server.URL+path, bytes.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+string(d.token))
	answer, err := d.server.Client().Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	_, _ = d.said.Write(said) // it does not return an error
	return answer.StatusCode, string(said)
}

func (d *door) want(status int, word, method, path string, body any) {
	d.t.Helper()
	got, said := d.ask(method, path, body)
	if got != status || !strings.Contains(said, word) {
		d.t.Errorf("%s %s: %d, want %d with %q: %s", method, path, got, status, word, said)
	}
}

// leaks are the files below dir, and what was said, that hold one of the secrets.
func (d *door) leaks(dir string, secrets ...string) {
	d.t.Helper()
	looked := 0
	look := func(where string, text []byte) {
		looked++
		for i, secret := range secrets {
			if secret == "" {
				d.t.Fatalf("secret %d is empty", i)
			}
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))} {
				if bytes.Contains(text, []byte(form)) {
					d.t.Errorf("%s holds secret %d", where, i)
				}
			}
		}
	}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		return err
	})
	if err != nil || looked < 3 {
		d.t.Errorf("looked at %d files, %v", looked, err)
	}
	d.said.mu.Lock()
	defer d.said.mu.Unlock()
	look("what was said", d.said.text.Bytes())
}

const canaryConfig = `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],
"users":[{"name":"u","user":{"token":"canary-token-of-the-account"}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}]}`

// TestCredentialsAreNotTold: neither files, log nor API give away what went in,
// whatever goes wrong with it, and whoever asks.
func TestCredentialsAreNotTold(t *testing.T) {
	dir := t.TempDir()
	l, d := openWithAccess(t, dir, AccessConfig{})
	const path = "/api/v1/clusters/ams-03/credentials"
	given := api.Kubeconfig{Kubeconfig: canaryConfig, ClusterID: "one"}
	d.want(404, "PUT /api/v1/clusters", "POST", path, given)
	d.want(201, "added", "PUT", "/api/v1/clusters/ams-03", fleet.Cluster{Via: fleet.ViaServiceProxy})
	d.want(201, "added", "PUT", "/api/v1/clusters/by-url", fleet.Cluster{URL: "http://127.0.0.1:1"})
	d.want(409, "by its url", "POST", "/api/v1/clusters/by-url/credentials", given)
	d.want(409, "no credentials", "POST", "/api/v1/clusters/ams-03/rotate-token", nil)
	d.want(200, "has credentials", "POST", path, given)
	for _, bad := range []string{strings.Replace(canaryConfig, `"token":`, `"tokenFile":`, 1), strings.Replace(canaryConfig, "https", "http", 1),
		canaryConfig[:len(canaryConfig)-40], strings.Replace(canaryConfig, `{"token":"canary-token-of-the-account"}`, `{"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":"canary-token-of-the-account"}}`, 1)} {
		d.want(422, "refused", "POST", path, api.Kubeconfig{Kubeconfig: api.Secret(bad)})
	}
	d.want(409, "another cluster", "POST", path, api.Kubeconfig{Kubeconfig: canaryConfig, ClusterID: "two"})
	cluster, err := l.registry.Fleet(t.Context(), l.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := cluster.Cluster("ams-03")
	follower, err := l.pool.Get(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.Status(t.Context(), new(any)); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("of a server that is not there: %v", err)
	}
	for _, route := range l.api.Routes() {
		if route.Method == http.MethodGet {
			d.ask("GET", strings.NewReplacer("{kind}", "all", "/{name}", "/ams-03").Replace(route.Path), nil)
		}
	}
	d.leaks(dir, "canary-token-of-the-account")
	d.want(200, "any more", "DELETE", path, nil)
	d.want(409, "no credentials", "POST", "/api/v1/clusters/ams-03/rotate-token", nil)
}

// TestLocalCluster: the cluster that the leader runs in is added at the start,
// and once.
func TestLocalCluster(t *testing.T) {
	dir := t.TempDir()
	start := func(check func(l *Leader)) {
		t.Helper()
		l, err := Open(t.Context(), Config{Dir: dir, API: api.Config{Listen: "127.0.0.1:0"}, Access: AccessConfig{LocalCluster: "home", Namespace: "metering"}},
			clock.System(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		check(l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	var revision int64
	there := func(l *Leader) {
		t.Helper()
		cluster, err := l.clusterNow(t.Context(), "home")
		if err != nil || cluster.Via != fleet.ViaServiceProxy {
			t.Errorf("%+v, %v", cluster, err)
		}
		record, now, err := l.keys.Get(t.Context(), "home")
		if err != nil || !record.InCluster || record.Namespace != "metering" {
			t.Errorf("in the cluster: %t, in %q, %v", record.InCluster, record.Namespace, err)
		}
		if revision != 0 && now != revision {
			t.Error("a restart wrote the credentials again")
		}
		revision = now
	}
	start(there)
	start(there)
	start(func(l *Leader) {
		there(l)
		if err := l.SetCredentials(t.Context(), "home", api.Kubeconfig{Kubeconfig: canaryConfig}); err != nil {
			t.Fatal(err)
		}
	})
	start(func(l *Leader) {
		if record, _, err := l.keys.Get(t.Context(), "home"); err != nil || record.InCluster {
			t.Errorf("the credentials that were given were replaced: %v", err)
		}
		if err := l.endCluster(t.Context(), "home"); err != nil {
			t.Fatal(err)
		}
	})
	start(func(l *Leader) {
		if _, err := l.clusterNow(t.Context(), "home"); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("a cluster that was removed is there again: %v", err)
		}
		if err := l.AddCluster(t.Context(), "home", fleet.Cluster{Via: fleet.ViaServiceProxy}); err != nil {
			t.Fatal(err)
		}
		revision = 0
	})
	start(there)
}

// TestTokenThatIsNotRenewed: what is past its time and cannot be renewed is a
// problem of the cluster, with its end and what to do, and without the token.
func TestTokenThatIsNotRenewed(t *testing.T) {
	dir := t.TempDir()
	l, d := openWithAccess(t, dir, AccessConfig{})
	d.want(201, "added", "PUT", "/api/v1/clusters/ams-03", map[string]string{"via": "service-proxy"})
	claims := `{"iat":1700000000,"exp":1700007200,"kubernetes.io":{"namespace":"accumulus","serviceaccount":{"name":"accumulus-leader"}}}`
	token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	d.want(200, "has credentials", "POST", "/api/v1/clusters/ams-03/credentials", map[string]string{"kubeconfig": strings.ReplaceAll(canaryConfig, "canary-token-of-the-account", token)})
	if err := l.renewer.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, said := d.ask("GET", "/api/v1/status", nil)
	for _, want := range []string{`"token-not-renewed"`, "ended at 2023-11-15T00:13:20Z", "connection refused", "--token-duration"} {
		if !strings.Contains(said, want) {
			t.Errorf("status has no %s: %s", want, said)
		}
	}
	d.leaks(dir, token)
}

// TestContextOfTheLeadersKubeconfig: the route of an address alone, on a real API
// server.
func TestContextOfTheLeadersKubeconfig(t *testing.T) {
	admin := kubetest.ControlPlane(t, kubetest.ControllerManager).Config
	dir := t.TempDir()
	path := filepath.Join(dir, "kubeconfig")
	if err := kubetest.WriteKubeconfig(path, "ams-03", admin); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config.AuthInfos["program"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: "true", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}}
	config.Contexts["eks"] = &clientcmdapi.Context{Cluster: "ams-03", AuthInfo: "program"}
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	one, first := openWithAccess(t, filepath.Join(dir, "one"), AccessConfig{Kubeconfig: path})
	first.want(404, "ams-03, eks", "POST", "/accumulus/clusters/add/nowhere", nil)
	first.want(422, "exec would run a program", "POST", "/accumulus/clusters/add/eks", nil)
	first.want(422, "spec.customer", "POST", "/accumulus/clusters/add/ams-03", fleet.Cluster{Customer: "nobody"})
	first.want(201, "was added", "POST", "/accumulus/clusters/add/ams-03", nil)
	first.want(409, "is there already", "POST", "/accumulus/clusters/add/ams-03", nil)
	record, _, err := one.keys.Get(t.Context(), "ams-03")
	if err != nil || record.ClusterID == "" {
		t.Fatalf("cluster %q, %v", record.ClusterID, err)
	}
	narrow, err := clientcmd.RESTConfigFromKubeConfig(record.Kubeconfig)
	if err != nil || len(narrow.CertData) > 0 {
		t.Errorf("the context's own certificate was kept, %v", err)
	}
	if err := one.keys.EnsureTokens(t.Context(), "ams-03"); err != nil {
		t.Fatal(err)
	}
	link, err := one.keys.Link(t.Context(), "ams-03")
	if err != nil || len(link.Token) < 32 {
		t.Errorf("token of %d characters, %v", len(link.Token), err)
	}
	for range 2 { // the second time the Secret is there
		if err := one.keys.EnsureTokens(t.Context(), "ams-03"); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := one.keys.Link(t.Context(), "ams-03"); err != nil || again.Token != link.Token {
		t.Errorf("another token, %v", err)
	}
	snapshot, err := one.registry.Fleet(t.Context(), one.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := snapshot.Cluster("ams-03")
	follower, err := one.pool.Get(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.Status(t.Context(), new(any)); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "is it installed") {
		t.Errorf("%v, want that no follower is there", err)
	}
	first.leaks(filepath.Join(dir, "one"), narrow.BearerToken, link.Token)

	_, second := openWithAccess(t, filepath.Join(dir, "two"), AccessConfig{Kubeconfig: path})
	second.want(409, "the leader "+one.id+" has this cluster", "POST", "/accumulus/clusters/add/ams-03", nil)
	second.want(404, "not found", "GET", "/api/v1/clusters/ams-03", nil)
	second.want(201, "was added", "POST", "/accumulus/clusters/add/ams-03?adopt=true", nil)
}
