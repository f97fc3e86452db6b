package followers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// port is a follower's: a status, and a store behind it. It notes what came.
type port struct {
	store http.RoundTripper
	mu    sync.Mutex
	seen  []*http.Request
	names []string // of the clients' certificates
}

func newPort(t *testing.T) *port {
	return &port{store: influxtest.Open(t, t.TempDir()).Transport()}
}

func (p *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r.Clone(context.Background()))
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		p.names = append(p.names, r.TLS.PeerCertificates[0].Subject.CommonName)
	}
	p.mu.Unlock()
	if r.URL.Path == "/api/v1/status" {
		_, _ = io.WriteString(w, `{"cluster":"c"}`)
		return
	}
	proxy := &httputil.ReverseProxy{Transport: p.store, Director: func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", "store" }}
	proxy.ServeHTTP(w, r)
}

func (p *port) requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func get(t *testing.T, p *Pool, cluster fleet.Cluster) *Follower {
	t.Helper()
	cluster.Name = "c"
	follower, err := p.Get(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return follower
}

func ask(t *testing.T, f *Follower) error {
	t.Helper()
	var status struct{ Cluster string }
	err := f.Status(t.Context(), &status)
	if err == nil && status.Cluster != "c" {
		t.Errorf("status %+v", status)
	}
	return err
}

// TestBehindAProxy: through a proxy with a path, as that of an API server, that
// keeps Authorization for itself, status and store are reached, with the
// cluster's own headers; the fence stands at writes and nowhere else.
func TestBehindAProxy(t *testing.T) {
	const prefix = "/api/v1/namespaces/accumulus/services/https:follower:8081/proxy"
	behind, dir := newPort(t), t.TempDir()
	server := httptest.NewServer(behind)
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.StripPrefix(prefix, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Header.Del("Authorization")
	}}))
	t.Cleanup(proxy.Close)
	pool := NewPool(clock.NewManual(now))
	pool.Fence = 42
	follower := get(t, pool, fleet.Cluster{URL: proxy.URL + prefix + "/", Compress: true,
		TokenFile:  write(t, dir, "token", "of-the-api-server\n"),
		HeaderFile: write(t, dir, "headers", "# the follower's\nAccumulus-Authorization: Bearer of-the-follower\n\nX-Key:  a:b \nX-Key: c\n")})
	if err := ask(t, follower); err != nil {
		t.Error(err)
	}
	if err := follower.Store.Create(t.Context(), "results"); err != nil {
		t.Error(err)
	}
	row := influxsync.NewPoint("t", nil, map[string]influxsync.Value{"n": influxsync.Int(1)}, now)
	if err := follower.Store.Database("results").Write(t.Context(), []influxsync.Point{row}); err != nil {
		t.Error(err)
	}
	rows := 0
	err = follower.Store.Database("results").TimeQuery(t.Context(), "t", schema.Window{}, nil, func(influxsync.Point) error { rows++; return nil })
	if err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
	paths := map[string]int{}
	for _, r := range behind.requests() {
		paths[r.URL.Path]++
		if got := r.Header.Get("Accumulus-Authorization"); got != "Bearer of-the-follower" {
			t.Errorf("%s: Accumulus-Authorization %q", r.URL.Path, got)
		}
		if got := strings.Join(r.Header["X-Key"], "|"); got != "a:b|c" {
			t.Errorf("%s: X-Key %q", r.URL.Path, got)
		}
		if got := r.Header.Get("Date"); got != "Mon, 23 Nov 2026 10:00:00 GMT" {
			t.Errorf("%s: Date %q", r.URL.Path, got)
		}
		fence, wanted := r.Header.Get(schema.FenceHeader), ""
		if r.URL.Path == "/write" {
			wanted = "42"
			if r.Header.Get("Content-Encoding") != "gzip" {
				t.Error("the lines are not packed")
			}
		}
		if fence != wanted {
			t.Errorf("%s: fence %q, want %q", r.URL.Path, fence, wanted)
		}
	}
	if paths["/api/v1/status"] != 1 || paths["/write"] != 1 || paths["/query"] != 3 || len(paths) != 3 {
		t.Errorf("paths %v", paths)
	}
}

// TestTokenAndHeadersAreReadAgain: a file that is replaced holds at once.
func TestTokenAndHeadersAreReadAgain(t *testing.T) {
	behind, dir := newPort(t), t.TempDir()
	server := httptest.NewServer(behind)
	t.Cleanup(server.Close)
	follower := get(t, NewPool(clock.NewManual(now)), fleet.Cluster{URL: server.URL,
		TokenFile: write(t, dir, "token", "first"), HeaderFile: write(t, dir, "headers", "X-Key: first")})
	for _, want := range []string{"first", "second"} {
		write(t, dir, "token", want)
		write(t, dir, "headers", "X-Key: "+want)
		if err := ask(t, follower); err != nil {
			t.Fatal(err)
		}
		seen := behind.requests()
		last := seen[len(seen)-1].Header
		if last.Get("Authorization") != "Bearer "+want || last.Get("X-Key") != want {
			t.Errorf("sent %q and %q, want %s", last.Get("Authorization"), last.Get("X-Key"), want)
		}
	}
	write(t, dir, "headers", "X-Key: secret\nHost: elsewhere")
	if err := ask(t, follower); err == nil || !strings.Contains(err.Error(), "line 2: the header Host") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v; want what is wrong, without a value", err)
	}
}

func TestHeaderFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"X-Key: v":                  "",
		"x_key.1: v\r\n#c\r\n":      "",
		"X-Key:":                    "",
		"secret":                    `line 1: want "Name: value"`,
		"\n\nse cret: v":            "line 3: what stands before the colon is no header's name",
		": v":                       "no header's name",
		"X-Key: a\x01secret":        "line 1: the value of X-Key holds a control character",
		"authorization: secret":     "the header Authorization is not",
		"HOST: secret":              "the header Host is not",
		"content-length: 3":         "the header Content-Length is not",
		"Content-Encoding: gzip":    "the header Content-Encoding is not",
		"transfer-encoding: x":      "the header Transfer-Encoding is not",
		"Connection: X-Key":         "the header Connection is not",
		"te: x":                     "the header Te is not",
		"Proxy-Authorization: x":    "the header Proxy-Authorization is not",
		"Upgrade: x":                "the header Upgrade is not",
		"accumulus-fence: 9":        "the header Accumulus-Fence is not",
		"Accept-Encoding: br":       "the header Accept-Encoding is not",
		strings.Repeat("#", 17<<10): "longer than 16384 bytes",
	} {
		_, err := parseHeaders(text)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.AddDate(-10, 0, 0), NotAfter: now.AddDate(100, 0, 0), KeyUsage: x509.KeyUsageCertSign}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) sign(name string) (certificate, key string) {
	own, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: now.AddDate(-10, 0, 0), NotAfter: now.AddDate(100, 0, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}, a.cert, &own.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
}

// serve is the port with a certificate, for clients that have one of theirs.
func (a *authority) serve(p *port, clients *authority) *httptest.Server {
	certificate, key := a.sign("follower")
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	server := httptest.NewUnstartedServer(p)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.Config.ErrorLog = nil
	server.StartTLS()
	a.t.Cleanup(server.Close)
	return server
}

// TestClientCertificate: the client's certificate, its key and the authority's
// are taken from their files as they are, also when these are replaced.
func TestClientCertificate(t *testing.T) {
	behind, dir, ours := newPort(t), t.TempDir(), newAuthority(t)
	server := ours.serve(behind, ours)
	certificate, key := ours.sign("leader-1")
	cluster := fleet.Cluster{URL: server.URL, CAFile: write(t, dir, "ca", ours.pem),
		ClientCertFile: write(t, dir, "cert", certificate), ClientKeyFile: write(t, dir, "key", key)}
	follower := get(t, NewPool(clock.NewManual(now)), cluster)
	if err := ask(t, follower); err != nil {
		t.Fatal(err)
	}
	certificate, key = ours.sign("leader-2")
	write(t, dir, "cert", certificate)
	if err := ask(t, follower); err == nil || !strings.Contains(err.Error(), "clientKeyFile") {
		t.Errorf("a certificate with another's key: %v", err)
	}
	write(t, dir, "key", key)
	if err := ask(t, follower); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(behind.names, " "); got != "leader-1 leader-2" {
		t.Errorf("certificates %s", got)
	}
	other := newAuthority(t)
	write(t, dir, "ca", other.pem)
	if err := ask(t, follower); err == nil {
		t.Error("a follower of another authority was trusted")
	}
	write(t, dir, "ca", other.pem+ours.pem)
	if err := ask(t, follower); err != nil {
		t.Error(err)
	}
	follower = get(t, NewPool(clock.NewManual(now)), fleet.Cluster{URL: server.URL, CAFile: cluster.CAFile})
	if err := ask(t, follower); err == nil {
		t.Error("it was let in without a certificate")
	}
	cluster.Name, cluster.ClientKeyFile = "c", ""
	if _, err := NewPool(clock.NewManual(now)).Get(cluster); err == nil || !strings.Contains(err.Error(), "both or none") {
		t.Errorf("a certificate without a key: %v", err)
	}
}

// hanging never answers.
type hanging struct{ entered chan struct{} }

func (h hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	close(h.entered)
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestStatusCancelled: the end of the context ends it at once and leaves
// nothing behind: a bubble with a goroutine fails.
func TestStatusCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, entered := NewPool(clock.System()), make(chan struct{})
		pool.Transport = hanging{entered}
		follower := get(t, pool, fleet.Cluster{URL: "http://follower"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- follower.Status(ctx, new(any)) }()
		<-entered
		cancel()
		synctest.Wait()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want the context's error", err)
			}
		default:
			t.Error("it goes on")
		}
	})
}

// TestFilesThatAreNone: a pipe or a device in the place of a file is an error,
// not a wait without end, and nobody waits for the cluster that has it.
func TestFilesThatAreNone(t *testing.T) {
	pool := NewPool(clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)))
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero", t.TempDir()} {
		for name, cluster := range map[string]fleet.Cluster{
			"tokenFile": {TokenFile: path}, "headerFile": {HeaderFile: path}, "caFile": {CAFile: path},
		} {
			cluster.Name, cluster.URL = name, "https://follower.example"
			var file *FileError
			if err := pool.Check(cluster); !errors.As(err, &file) {
				t.Errorf("%s %s: checked: %v", name, path, err)
			}
			if _, err := pool.Get(cluster); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "no regular file") {
				t.Errorf("%s %s: %v", name, path, err)
			}
		}
	}
}

// TestFilesThatHoldOtherThings: what is wrong with a file is said before anybody
// is asked, and while requests run; nothing of what is in it is told.
func TestFilesThatHoldOtherThings(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pool := NewPool(clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)))
	for name, cluster := range map[string]fleet.Cluster{
		"tokenFile: absent":     {TokenFile: file("x") + "-gone"},
		"tokenFile: empty":      {TokenFile: file("\n")},
		"tokenFile: two words":  {TokenFile: file("secret-1 secret-2")},
		"caFile: no PEM":        {CAFile: file("secret-1")},
		"headerFile: no header": {HeaderFile: file("secret-1")},
		"clientCertFile: odd":   {ClientCertFile: file("secret-1"), ClientKeyFile: file("secret-2")},
	} {
		field, _, _ := strings.Cut(name, ":")
		var wrong *FileError
		err := pool.Check(cluster)
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := fleet.Cluster{URL: "http://127.0.0.1:1", TokenFile: file("secret-1\n"), HeaderFile: file("X-Key: secret-2\n")}
	if err := pool.Check(good); err != nil {
		t.Error(err)
	}
	follower, err := pool.Get(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(good.TokenFile); err != nil {
		t.Fatal(err)
	}
	var wrong *FileError
	if err := follower.Status(t.Context(), nil); !errors.As(err, &wrong) {
		t.Errorf("status: %v", err)
	}
	if err := follower.Store.Ping(t.Context()); !errors.As(err, &wrong) {
		t.Errorf("store: %v", err)
	}
}
