package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/access"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// hub is a leader that clusters are added to; it says of the installation what
// it is told to, one after the other.
type hub struct {
	t             *testing.T
	asked         []string
	kubeconfig    []byte // that it was given last
	clusterID     string
	there         bool
	installations []string
}

func (c *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Error(err)
	}
	problem := func(status int, detail string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"title":"x","status":%d,"detail":%q}`, status, detail)
	}
	line := r.Method + " " + r.URL.RequestURI()
	if r.Method == http.MethodPut || strings.HasSuffix(r.URL.Path, "/upgrade") { // the others' are secrets
		line += " " + string(body)
	}
	if r.Method != http.MethodGet && r.URL.RawQuery != "dryRun=true" {
		c.asked = append(c.asked, line)
	}
	switch {
	case r.URL.Path == "/api/v1/status":
		clusters := ""
		if c.there {
			clusters = `{"name":"ams-03","state":"waiting","via":"service-proxy","problems":[]},`
		}
		_, _ = fmt.Fprintf(w, `{"leader":{"id":"leader-one"},"clusters":[%s{"name":"by-url","state":"ok","url":"https://h","problems":[]},
			{"name":"theirs","state":"ok","via":"service-proxy","manage":"gitops","problems":[]},{"name":"ours","state":"ok","via":"service-proxy","problems":[]}]}`, clusters)
	case r.URL.Path == "/api/v1/fleet":
		objects, err := fleet.Decode(body)
		if err = errors.Join(err, fleet.Validate(objects, []fleet.Object{fleet.NewObject("acme", fleet.Customer{})})); err != nil {
			problem(422, err.Error())
			return
		}
		_, _ = io.WriteString(w, "{}")
	case r.Method == http.MethodPut:
		c.there = true
	case r.Method == http.MethodDelete:
		c.there = false
	case strings.HasSuffix(r.URL.Path, "/credentials"):
		var given struct{ Kubeconfig, ClusterID string }
		if err := json.Unmarshal(body, &given); err != nil {
			c.t.Error(err)
		}
		c.kubeconfig, c.clusterID = []byte(given.Kubeconfig), given.ClusterID
	case strings.HasSuffix(r.URL.Path, "/installation"):
		if len(c.installations) == 0 {
			problem(404, "none")
			return
		}
		_, _ = io.WriteString(w, c.installations[0])
		if len(c.installations) > 1 {
			c.installations = c.installations[1:]
		}
	}
}

// quick does not wait: time passes by itself.
type quick struct{ *clock.Manual }

func (q quick) Sleep(ctx context.Context, d time.Duration) error {
	q.Advance(d)
	return ctx.Err()
}

// run runs a command line and returns what it printed.
func (c *hub) run(clk clock.Clock, args ...string) (string, int) {
	c.t.Helper()
	server := httptest.NewServer(c)
	defer server.Close()
	var out strings.Builder
	a := &app{in: strings.NewReader(""), out: &out, errOut: &out, clock: clk, getenv: func(string) string { return "" }}
	code := run(c.t.Context(), a, append([]string{"--server", server.URL}, args...))
	return out.String(), code
}

// program gives a context's credentials by a program, as those of the clouds do.
func program(t *testing.T, dir string, admin *rest.Config) string {
	t.Helper()
	credential, err := json.Marshal(map[string]any{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
		"status": map[string]string{"clientCertificateData": string(admin.CertData), "clientKeyData": string(admin.KeyData)}})
	if err != nil {
		t.Fatal(err)
	}
	answer := filepath.Join(dir, "credential.json")
	if err := os.WriteFile(answer, credential, 0o600); err != nil {
		t.Fatal(err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{APIVersion: "client.authentication.k8s.io/v1",
		Command: "cat", Args: []string{answer}, InteractiveMode: clientcmdapi.NeverExecInteractiveMode}}
	config.Contexts["gke_acme_ams-03"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.Contexts["other"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	path := filepath.Join(dir, "config")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAddByContext: on a real API server, with credentials that come from a
// program. The leader gets an account of its own and nothing of the user's.
func TestAddByContext(t *testing.T) {
	admin := kubetest.ControlPlane(t, kubetest.ControllerManager).Config
	kubeconfig := program(t, t.TempDir(), admin)
	c := &hub{t: t, installations: []string{`{"state":"pending"}`, `{"state":"installing","step":"release","generation":1}`,
		`{"state":"installing","step":"release","generation":1}`, `{"state":"ready","step":"follower","generation":1,"done":1}`}}
	add := []string{"cluster", "add", "ams-03", "--customer", "acme", "--kubeconfig", kubeconfig, "--context"}

	said, code := c.run(clock.System(), append(add, "nowhere")...)
	if code != 1 || !strings.Contains(said, "it has: gke_acme_ams-03, other") || len(c.asked) > 0 {
		t.Errorf("an unknown context: %d %s", code, said)
	}
	said, code = c.run(clock.System(), append(add, "gke_acme_ams-03")...)
	if code != 0 || !strings.Contains(said, "cluster ams-03 was added\n  pending\n  installing: release\n  ready: follower\n") {
		t.Errorf("%d %s", code, said)
	}
	if got, want := strings.Join(c.asked, "\n"), `PUT /api/v1/clusters/ams-03 {"customer":"acme","via":"service-proxy"}`+"\nPOST /api/v1/clusters/ams-03/credentials"; got != want {
		t.Errorf("asked\n%s\nwant\n%s", got, want)
	}
	checked, err := credentials.Check(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	leader, err := clientcmd.RESTConfigFromKubeConfig(checked)
	if err != nil || len(leader.CertData) > 0 || strings.Contains(said, leader.BearerToken) {
		t.Errorf("the user's own certificate, or the token printed: %v", err)
	}
	reads := func() error {
		client, err := kubernetes.NewForConfig(leader)
		if err != nil {
			return err
		}
		_, err = client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
		return err
	}
	if err := reads(); err != nil || c.clusterID == "" {
		t.Errorf("of no use: %v, cluster %q", err, c.clusterID)
	}
	c.asked = nil
	if said, code := c.run(clock.System(), append(add, "gke_acme_ams-03", "--no-wait")...); code != 0 || !strings.Contains(said, "new credentials") || len(c.asked) != 1 {
		t.Errorf("again: %d %s, asked %v", code, said, c.asked)
	}
	said, code = c.run(clock.System(), append(add, "gke_acme_ams-03", "--no-wait", "--token-duration", "5m")...)
	if code != 1 || !strings.Contains(said, "less than 10m or in more") {
		t.Errorf("a token of five minutes: %d %s", code, said)
	}
	forever := string(c.kubeconfig)
	said, code = c.run(clock.System(), append(add, "gke_acme_ams-03", "--no-wait", "--token-duration", "1h")...)
	if code != 0 || !strings.Contains(said, "its token ends at ") || string(c.kubeconfig) == forever {
		t.Errorf("a token that ends: %d %s", code, said)
	}
	if leader, err = clientcmd.RESTConfigFromKubeConfig(c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	if err := reads(); err != nil {
		t.Errorf("with a token that ends: %v", err)
	}
	if _, err := kubernetes.NewForConfigOrDie(admin).CoreV1().Secrets(access.Namespace).Get(t.Context(), "accumulus-leader-token", metav1.GetOptions{}); err == nil {
		t.Error("the token without end is still in the cluster")
	}
	remove := []string{"cluster", "remove", "ams-03", "--yes", "--kubeconfig", kubeconfig, "--context", "gke_acme_ams-03"}
	if said, code := c.run(clock.System(), remove...); code != 0 || !strings.Contains(said, "the leader's account in the cluster of context gke_acme_ams-03 was deleted") {
		t.Errorf("removed: %d %s", code, said)
	}
	if err := reads(); err == nil {
		t.Error("the account is still of use")
	}
}

// TestFollowSaysWhatIsWrong: an installation that fails, and one that takes too
// long, are errors with what to do.
func TestFollowSaysWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		installation, want string
	}{
		"failed":   {`{"state":"failed","step":"release","message":"quota","hint":"Raise it."}`, "Error: the follower of ams-03 is failed: release: quota\nRaise it."},
		"degraded": {`{"state":"degraded","message":"no pod","generation":1,"done":1}`, "Error: the follower of ams-03 is degraded: no pod"},
		"slow":     {`{"state":"installing","step":"image","generation":1}`, "is not ready after 10m0s; the leader goes on"},
		"unknown":  {"", "is not ready after 10m0s"},
		"ready":    {`{"state":"ready","generation":2,"done":2}`, "the follower of ams-03 is up to date"},
		"old":      {`{"state":"ready","generation":2,"done":1}`, "is not ready after"},
	} {
		c := &hub{t: t}
		if test.installation != "" {
			c.installations = []string{test.installation}
		}
		said, code := c.run(quick{clock.NewManual(time.Unix(0, 0))}, "cluster", "upgrade", "ams-03")
		if (code == 0) != (name == "ready") || !strings.Contains(said, test.want) {
			t.Errorf("%s: %d %s", name, code, said)
		}
		if strings.Join(c.asked, "") != "POST /api/v1/clusters/ams-03/upgrade {}" {
			t.Errorf("%s: asked %v", name, c.asked)
		}
	}
}

// TestUpgradeGivesValues: those of a file, as they stand there.
func TestUpgradeGivesValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "values.yaml")
	for text, test := range map[string]struct {
		asked, says string
	}{
		"image: {tag: v2}\nscrapeInterval: 30s": {`POST /api/v1/clusters/ams-03/upgrade {"adopt":true,"values":{"image":{"tag":"v2"},"scrapeInterval":"30s"}}`, "the leader upgrades ams-03"},
		"{}":                                    {`POST /api/v1/clusters/ams-03/upgrade {"adopt":true,"values":{}}`, "the leader upgrades ams-03"},
		"":                                      {"", "write {} for no values"},
		"# nothing\nnull":                       {"", "write {} for no values"},
		"a: 1\na: 2":                            {"", "values " + file + ": "},
		"- a":                                   {"", "values " + file + ": "},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := &hub{t: t}
		said, _ := c.run(clock.System(), "cluster", "upgrade", "ams-03", "--adopt", "--no-wait", "--values", file)
		if strings.Join(c.asked, "") != test.asked || !strings.Contains(said, test.says) {
			t.Errorf("%q: asked %v, said %s", text, c.asked, said)
		}
	}
	c := &hub{t: t}
	if said, code := c.run(clock.System(), "cluster", "upgrade", "ams-03", "--values", file+".absent"); code == 0 || len(c.asked) > 0 {
		t.Errorf("without the file: %s", said)
	}
}

// TestAddIsRefusedBeforeAnythingIsMade: what is wrong is told before a cluster or
// the leader is asked to change anything.
func TestAddIsRefusedBeforeAnythingIsMade(t *testing.T) {
	dir := t.TempDir()
	kubeconfig := program(t, dir, &rest.Config{Host: "https://127.0.0.1:1"})
	empty, half := filepath.Join(dir, "empty"), filepath.Join(dir, "half")
	text := `{"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
		"contexts": [{"name": "a", "context": {"cluster": "absent"}}, {"name": "b", "context": {"cluster": "c", "user": "absent"}}]}`
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(half, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ args, want string }{
		"neither":       {"cluster add x", "--context CONTEXT of your kubeconfig, or --url"},
		"both":          {"cluster add x --context other --url http://h", "give one of them"},
		"no kubeconfig": {"cluster add x --context other --kubeconfig " + dir + "/absent", "read kubeconfig"},
		"taken":         {"cluster add by-url --context other --kubeconfig " + kubeconfig, "is there already and is reached by its url"},
		"empty":         {"cluster add x --context other --kubeconfig " + empty, `no context "other"; it has: none`},
		"no cluster":    {"cluster add x --context a --kubeconfig " + half, `of the cluster "absent", which it does not have`},
		"no user":       {"cluster add x --context b --kubeconfig " + half, `of the user "absent", whom it does not have`},
		"url and more":  {"cluster add x --url http://h --token-duration 720h", "--token-duration goes with --context only"},
		"a bad name":    {"cluster add ../x --context other --kubeconfig " + kubeconfig, "a name has small letters"},
		"a bad object":  {"cluster add x --customer nobody --context other --kubeconfig " + kubeconfig, `Customer "nobody" does not exist`},
		"managed":       {"cluster add ours --gitops --context other --kubeconfig " + kubeconfig, "leave out --gitops"},
		"not managed":   {"cluster add theirs --context other --kubeconfig " + kubeconfig, "add --gitops"},
		"plain":         {"cluster add x --context other --server http://192.0.2.1:1", "others could read them"},
		"no print":      {"cluster access x", "add --print"},
	} {
		c := &hub{t: t}
		said, code := c.run(clock.System(), strings.Fields(test.args)...)
		if code != 1 || !strings.Contains(said, test.want) || len(c.asked) > 0 {
			t.Errorf("%s: %d %s, asked %v", name, code, said, c.asked)
		}
	}
}

// TestAccessPrint prints what the command itself would make.
func TestAccessPrint(t *testing.T) {
	c := &hub{t: t}
	for flag, kind := range map[string]access.Kind{"--print": {Install: true}, "--print --gitops": {}, "--print --renew": {Install: true, Renew: true}} {
		said, code := c.run(clock.System(), strings.Fields("cluster access x "+flag)...)
		want, err := access.Manifests(kind)
		if err != nil || code != 0 || said != want || strings.Contains(said, "kind: ClusterRoleBinding") != true {
			t.Errorf("%s: %d %v\n%s", flag, code, err, said)
		}
		if got := strings.Contains(said, "deployments"); got != kind.Install {
			t.Errorf("%s: rights to install: %t", flag, got)
		}
		if got := strings.Contains(said, "serviceaccounts/token"); got != kind.Renew || got == strings.Contains(said, "kind: Secret") {
			t.Errorf("%s: right to renew: %t", flag, got)
		}
	}
}
