package followers

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// apiServer behaves like the API server before a follower: it wants its own
// token, keeps Authorization for itself, speaks of its own errors as kind Status,
// and has the Secret of the follower's tokens.
type apiServer struct {
	*httptest.Server
	behind http.Handler

	mu     sync.Mutex
	token  string   // its own
	secret string   // leader's, in the Secret
	status string   // "code reason message" of its own answer in place of the follower's, or ""
	reads  int      // of the Secret
	taken  []string // tokens that the follower takes
	late   int      // how often it refuses before it takes what the Secret holds; -1: never looks
}

// mount says what the follower takes, until it has refused so often and takes
// what the Secret holds.
func (a *apiServer) mount(late int, tokens ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken, a.late = tokens, late
}

// takes says whether the follower takes a token.
func (a *apiServer) takes(authorization string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	token, _ := strings.CutPrefix(authorization, "Bearer ")
	if slices.Contains(a.taken, token) {
		return true
	}
	if a.late == 0 {
		a.taken, a.late = strings.Fields(a.secret), -1
	} else if a.late > 0 {
		a.late--
	}
	return slices.Contains(a.taken, token)
}

// secrets serves the Secret of tokens.
func (a *apiServer) secrets(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method == http.MethodPut {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		given, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
		if err != nil {
			panic(err)
		}
		a.secret = string(given.(*corev1.Secret).Data["leader"])
	} else {
		a.reads++
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: credentials.TokenSecret}, Data: map[string][]byte{"leader": []byte(a.secret)}})
}

const proxyPath = "/api/v1/namespaces/accumulus/services/https:accumulus-follower:https/proxy"

func newAPIServer(t *testing.T, behind http.Handler) *apiServer {
	t.Helper()
	a := &apiServer{behind: behind, token: "of-the-account", secret: "of-the-follower", taken: []string{"of-the-follower", "renewed"}, late: -1}
	a.Server = httptest.NewUnstartedServer(a)
	a.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	a.EnableHTTP2 = true
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

func (a *apiServer) set(field *string, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*field = value
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	token, secret, status := a.token, a.secret, a.status
	a.mu.Unlock()
	refuse := func(code int, reason, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"` + message + `","reason":"` + reason + `"}`))
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		refuse(401, "Unauthorized", "Unauthorized")
		return
	}
	r.Header.Del("Authorization")
	if strings.HasSuffix(r.URL.Path, "/secrets/"+credentials.TokenSecret) {
		if secret == "" {
			refuse(404, "NotFound", "secrets not found")
			return
		}
		a.secrets(w, r)
		return
	}
	path, proxied := strings.CutPrefix(r.URL.Path, proxyPath)
	code, text, own := strings.Cut(status, " ")
	switch {
	case !proxied:
		refuse(404, "NotFound", "the server could not find the requested resource")
	case own:
		reason, message, _ := strings.Cut(text, " ")
		refuse(map[string]int{"403": 403, "404": 404, "503": 503, "500": 500}[code], reason, message)
	case !a.takes(r.Header.Get(schema.AuthorizationHeader)):
		w.Header().Set("Content-Type", "application/json") // the follower's answer
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"a bearer token is needed"}`))
	default:
		r.URL.Path = path
		a.behind.ServeHTTP(w, r)
	}
}

func (a *apiServer) kubeconfig(t *testing.T, token string) []byte {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: a.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	text, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// newProxyPool is a pool with real credentials, of which cluster c has none yet.
func newProxyPool(t *testing.T) (*Pool, *credentials.Store, *bytes.Buffer) {
	t.Helper()
	dir, clk := t.TempDir(), quick{clock.NewManual(now)}
	r, err := registry.Open(t.Context(), filepath.Join(dir, "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	var log bytes.Buffer
	store, err := credentials.Open(t.Context(), credentials.Config{Dir: dir}, r, clk, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	pool := NewPool(clk)
	pool.Fence, pool.Credentials = 42, store
	return pool, store, &log
}

func put(t *testing.T, store *credentials.Store, kubeconfig []byte) {
	t.Helper()
	if err := store.Put(t.Context(), "c", credentials.Record{Kubeconfig: kubeconfig}); err != nil {
		t.Fatal(err)
	}
}

var viaProxy = fleet.Cluster{Via: fleet.ViaServiceProxy, Compress: true}

// TestViaServiceProxy: status, queries and writes go through the API server with
// its token as Authorization and the follower's in the header of our own, which
// is read from the cluster's Secret.
func TestViaServiceProxy(t *testing.T) {
	behind := newPort(t)
	server := newAPIServer(t, behind)
	pool, store, _ := newProxyPool(t)
	put(t, store, server.kubeconfig(t, "of-the-account"))
	follower := get(t, pool, viaProxy)
	if err := ask(t, follower); err != nil {
		t.Fatal(err)
	}
	if err := follower.Store.Create(t.Context(), "results"); err != nil {
		t.Error(err)
	}
	row := influxsync.NewPoint("t", nil, map[string]influxsync.Value{"n": influxsync.Int(1)}, now)
	if err := follower.Store.Database("results").Write(t.Context(), []influxsync.Point{row}); err != nil {
		t.Error(err)
	}
	rows := 0
	err := follower.Store.Database("results").TimeQuery(t.Context(), "t", schema.Window{}, nil, func(influxsync.Point) error { rows++; return nil })
	if err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
	for _, r := range behind.requests() {
		if r.Header.Get("Authorization") != "" || r.Header.Get(schema.AuthorizationHeader) != "Bearer of-the-follower" || r.Header.Get("Date") == "" {
			t.Errorf("%s: headers %v", r.URL.Path, r.Header)
		}
		want := map[bool]string{true: "42"}[r.URL.Path == "/write"]
		if got := r.Header.Get(schema.FenceHeader); got != want {
			t.Errorf("%s: fence %q, want %q", r.URL.Path, got, want)
		}
		if r.URL.Path == "/write" && r.Header.Get("Content-Encoding") != "gzip" || r.URL.Path == "/query" && r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("%s is not packed: %v", r.URL.Path, r.Header)
		}
	}
	if server.reads != 1 {
		t.Errorf("the Secret was read %d times, want once", server.reads)
	}
	for range 2 {
		plain := get(t, pool, fleet.Cluster{Via: fleet.ViaServiceProxy})
		if err := ask(t, plain); err != nil {
			t.Error(err)
		}
	}
	seen := behind.requests()
	if got := seen[len(seen)-1].Header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("Accept-Encoding %q where nothing is to be packed", got)
	}
}

// TestCredentialsAreReplaced: the next request of the same connection goes with
// the new ones, also to another address.
func TestCredentialsAreReplaced(t *testing.T) {
	behind := newPort(t)
	first, second := newAPIServer(t, behind), newAPIServer(t, behind)
	second.token = "another"
	pool, store, log := newProxyPool(t)
	follower := get(t, pool, viaProxy)
	if err := ask(t, follower); !errors.Is(err, credentials.ErrNone) {
		t.Errorf("%v, want none", err)
	}
	put(t, store, first.kubeconfig(t, "of-the-account"))
	if err := ask(t, follower); err != nil {
		t.Error(err)
	}
	first.set(&first.token, "renewed-account")
	var proxy *ProxyError
	if err := ask(t, follower); !errors.As(err, &proxy) || proxy.Status != 401 || errors.Is(err, ErrUnauthorized) {
		t.Errorf("%v, want the API server's own 401", err)
	}
	put(t, store, first.kubeconfig(t, "renewed-account"))
	if err := ask(t, follower); err != nil {
		t.Error(err)
	}
	put(t, store, second.kubeconfig(t, "another"))
	first.Close()
	if err := ask(t, follower); err != nil {
		t.Error(err)
	}
	if err := store.Remove(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if err := ask(t, follower); !errors.Is(err, credentials.ErrNone) {
		t.Errorf("%v, want none", err)
	}
	for _, secret := range []string{"of-the-account", "of-the-follower", "renewed-account"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("logged: %s", log)
		}
	}
}

// TestTokenOfTheFollowerIsReadAgain: after the follower has refused it, from the
// Secret, which somebody has changed.
func TestTokenOfTheFollowerIsReadAgain(t *testing.T) {
	server := newAPIServer(t, newPort(t))
	pool, store, _ := newProxyPool(t)
	put(t, store, server.kubeconfig(t, "of-the-account"))
	follower := get(t, pool, viaProxy)
	server.set(&server.secret, "wrong")
	if err := ask(t, follower); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("%v, want the follower's refusal", err)
	}
	server.set(&server.secret, "renewed\nof-the-follower\n")
	if err := ask(t, follower); !errors.Is(err, ErrUnauthorized) { // it still sends the wrong one, and reads the Secret
		t.Errorf("%v, want the follower's refusal", err)
	}
	if err := ask(t, follower); err != nil {
		t.Error(err)
	}
	server.set(&server.secret, "")
	if err := store.Remove(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	put(t, store, server.kubeconfig(t, "of-the-account"))
	if err := ask(t, follower); !errors.Is(err, credentials.ErrNoToken) {
		t.Errorf("%v, want no token", err)
	}
}

// TestWhoAnswers: an API server's own errors are told from the follower's, for
// status, query and write alike.
func TestWhoAnswers(t *testing.T) {
	behind := &refusing{}
	server := newAPIServer(t, behind)
	pool, store, _ := newProxyPool(t)
	put(t, store, server.kubeconfig(t, "of-the-account"))
	follower := get(t, pool, viaProxy)
	for name, test := range map[string]struct {
		own, follower string
		status        int
		hint          string
	}{
		"no pod":        {own: `503 ServiceUnavailable no endpoints available for service`, status: 503, hint: "no follower is ready"},
		"firewall":      {own: `503 ServiceUnavailable error trying to reach service: dial tcp 10.0.0.1:8443: i/o timeout`, status: 503, hint: "firewall"},
		"not installed": {own: `404 NotFound services not found`, status: 404, hint: "not installed"},
		"no right":      {own: `403 Forbidden may not`, status: 403, hint: "cluster access --print"},
		"broken":        {own: `500 InternalError etcd`, status: 500, hint: "try again"},
		"its 503":       {follower: `{"error":"the store is not open"}`},
		"its page":      {follower: `<html>`},
	} {
		server.set(&server.status, test.own)
		behind.body = test.follower
		row := influxsync.NewPoint("t", nil, map[string]influxsync.Value{"n": influxsync.Int(1)}, now)
		for what, err := range map[string]error{
			"status": ask(t, follower),
			"query":  follower.Store.Create(t.Context(), "x"),
			"write":  follower.Store.Database("x").Write(t.Context(), []influxsync.Point{row}),
		} {
			var proxy *ProxyError
			switch got := errors.As(err, &proxy); {
			case err == nil:
				t.Errorf("%s, %s: no error", name, what)
			case got != (test.own != ""):
				t.Errorf("%s, %s: %v", name, what, err)
			case got && (proxy.Status != test.status || !strings.Contains(err.Error(), test.hint)):
				t.Errorf("%s, %s: %v; want %d and %q", name, what, err, test.status, test.hint)
			}
		}
	}
}

// refusing answers 503 as a follower does.
type refusing struct{ body string }

func (r *refusing) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(r.body))
}

// quick does not wait: time passes by itself.
type quick struct{ *clock.Manual }

func (q quick) Sleep(ctx context.Context, d time.Duration) error {
	q.Advance(d)
	return ctx.Err()
}

// TestRotation: the follower takes the old token until it takes the new one, and
// at the end the new one alone stands in the Secret and with the leader, also
// where an earlier rotation broke off.
func TestRotation(t *testing.T) {
	for name, broken := range map[string]string{"a new one": "of-the-follower\n", "one that broke off": "of-the-follower\nrenewed\n"} {
		server := newAPIServer(t, newPort(t))
		pool, store, log := newProxyPool(t)
		put(t, store, server.kubeconfig(t, "of-the-account"))
		follower := get(t, pool, viaProxy)
		server.set(&server.secret, broken)
		if err := ask(t, follower); err != nil {
			t.Fatal(err)
		}
		server.mount(2, "of-the-follower")
		asked := 0
		err := store.RotateTokens(t.Context(), "c", func(ctx context.Context, link credentials.Link) error {
			asked++
			if err := ask(t, follower); err != nil {
				t.Errorf("%s: metering stopped meanwhile: %v", name, err)
			}
			return Accepted(ctx, link)
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := ask(t, follower); err != nil {
			t.Errorf("%s: after it: %v", name, err)
		}
		token := strings.TrimSpace(server.secret)
		if asked < 2 || token == "of-the-follower" || strings.Contains(token, "\n") || (name != "a new one") != (token == "renewed") {
			t.Errorf("%s: asked %d times, Secret %q", name, asked, token)
		}
		if strings.Contains(log.String(), token) {
			t.Errorf("%s: logged", name)
		}
	}
}

// TestRotationThatIsNotTaken leaves both tokens valid and the old one in use.
func TestRotationThatIsNotTaken(t *testing.T) {
	server := newAPIServer(t, newPort(t))
	pool, store, _ := newProxyPool(t)
	put(t, store, server.kubeconfig(t, "of-the-account"))
	follower := get(t, pool, viaProxy)
	server.mount(1<<30, "of-the-follower")
	err := store.RotateTokens(t.Context(), "c", Accepted)
	if !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), "both tokens stay valid") {
		t.Errorf("%v, want that both stay valid", err)
	}
	if tokens := strings.Fields(server.secret); len(tokens) != 2 || tokens[0] != "of-the-follower" {
		t.Errorf("Secret %q", server.secret)
	}
	if err := ask(t, follower); err != nil {
		t.Error(err)
	}
}
