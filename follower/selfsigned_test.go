package follower

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func made(t *testing.T, s *selfSigned) *tls.Certificate {
	t.Helper()
	certificate, err := s.certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestSelfSignedHoldsForItsNames(t *testing.T) {
	clk := clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	s, err := newSelfSigned([]string{"follower.accumulus.svc", "192.0.2.1"}, clk, quiet())
	if err != nil {
		t.Fatal(err)
	}
	leaf := made(t, s).Leaf
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		t.Errorf("the key is %T", leaf.PublicKey)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	for name, want := range map[string]bool{"follower.accumulus.svc": true, "192.0.2.1": true, "localhost": true, "127.0.0.1": true,
		"::1": true, "follower.other.svc": false, "192.0.2.2": false} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: clk.Now()})
		if (err == nil) != want {
			t.Errorf("%s: %v, want accepted: %t", name, err, want)
		}
	}
}

// TestSelfSignedIsRenewed: while the follower runs, the certificate always holds
// for the clock that the follower has, and each key is made once.
func TestSelfSignedIsRenewed(t *testing.T) {
	start := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	clk := clock.NewManual(start)
	s, err := newSelfSigned(nil, clk, quiet())
	if err != nil {
		t.Fatal(err)
	}
	first := made(t, s)
	for _, step := range []struct {
		at  time.Time
		new bool
	}{
		{start.AddDate(0, 1, 0), false},
		{start.AddDate(8, 11, 0), false},
		{start.AddDate(9, 1, 0), true},   // less than a year is left
		{start.AddDate(15, 0, 0), false}, // of the second
		{start.AddDate(40, 0, 0), true},  // the machine slept
		{start, true},                    // the clock was wrong and was set right
	} {
		clk.Set(step.at)
		now := made(t, s)
		if (now != first) != step.new {
			t.Errorf("at %s: new is %t", step.at.Format(time.DateOnly), now != first)
		}
		if step.at.Before(now.Leaf.NotBefore) || step.at.After(now.Leaf.NotAfter) {
			t.Errorf("at %s: holds from %s to %s", step.at, now.Leaf.NotBefore, now.Leaf.NotAfter)
		}
		first = now
	}
}

// TestPortWithSelfSignedCertificate: the port speaks TLS, and who expects the
// clear gets nothing.
func TestPortWithSelfSignedCertificate(t *testing.T) {
	f := &Follower{config: Config{Listen: "127.0.0.1:0", TLSSelfSigned: true, TLSNames: []string{"follower"}},
		clock: clock.System(), log: quiet()}
	listener, err := f.listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })}
	go func() { served <- server.Serve(listener) }()
	defer func() {
		cancel()
		_ = server.Close()
		<-served
	}()
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "follower"} // as the proxy of an API server does
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	get := func(scheme string) (*http.Response, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+listener.Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		return transport.RoundTrip(request)
	}
	answer, err := get("https")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if string(body) != "here" || answer.TLS == nil || answer.TLS.PeerCertificates[0].VerifyHostname("follower") != nil {
		t.Errorf("got %q over %+v", body, answer.TLS)
	}
	if answer, err := get("http"); err == nil {
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			t.Error("the port answers in the clear")
		}
	}
}
