package kubelet

import (
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// inventory is a fixed list of nodes.
type inventory []Target

func (i inventory) Targets() []Target      { return i }
func (i inventory) Pod(string) (Pod, bool) { return Pod{}, false }

// kubelets are HTTPS servers of one CA.
type kubelets struct {
	ca      string
	targets inventory
}

func (k *kubelets) serve(t *testing.T, node string, handler http.HandlerFunc) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	if k.ca == "" {
		k.ca = filepath.Join(t.TempDir(), "ca.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(k.ca, block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	k.targets = append(k.targets, Target{Node: node, Address: host, Port: number})
}

func newSource(t *testing.T, config Config, nodes Inventory) *Source {
	t.Helper()
	s, err := New(config, nodes, clock.NewManual(time.Date(2026, 11, 23, 3, 5, 0, 0, time.UTC)), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadJoinsWhatFailed(t *testing.T) {
	text := fixture(t, "cgroupfs.txt")
	token := filepath.Join(t.TempDir(), "token")
	write := func(value string) {
		if err := os.WriteFile(token, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	valid := atomic.Pointer[string]{}
	first := "Bearer first"
	valid.Store(&first)
	var k kubelets
	good := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics/cadvisor" || r.Header.Get("Authorization") != *valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(text)
	}
	k.serve(t, "b", good)
	k.serve(t, "a", good)
	k.serve(t, "forbidden", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	k.serve(t, "broken", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(text)
	})
	s := newSource(t, Config{CAFile: k.ca, TokenFile: token, Timeout: 5 * time.Second}, k.targets)
	bodies, err := s.Read(t.Context())
	if len(bodies) != 2 || bodies[0].Node != "a" || bodies[1].Node != "b" || len(bodies[0].Readings) != 11 {
		t.Fatalf("bodies of %d nodes, want a and b", len(bodies))
	}
	if err == nil || !strings.Contains(err.Error(), "scrape node forbidden: 403 from kubelet: the service account needs get on nodes/metrics") ||
		!strings.Contains(err.Error(), "scrape node broken: read body") || !errors.Is(err, ErrStatus) {
		t.Errorf("error %v", err)
	}
	for _, status := range s.Status() {
		fault := new(NodeError)
		if status.Node == "forbidden" && (!errors.As(status.Err, &fault) || fault.Status != http.StatusForbidden || !status.LastSuccess.IsZero()) {
			t.Errorf("status %+v", status)
		}
		if status.Node == "a" && (status.Err != nil || status.LastSuccess.IsZero()) {
			t.Errorf("status %+v", status)
		}
	}
	second := "Bearer second"
	valid.Store(&second)
	if bodies, _ = s.Read(t.Context()); len(bodies) != 0 {
		t.Error("an old token was taken")
	}
	write("second")
	if bodies, _ = s.Read(t.Context()); len(bodies) != 2 {
		t.Error("the renewed token was not read")
	}
}

func TestOneSlowNodeHidesNoOther(t *testing.T) {
	text := fixture(t, "cgroupfs.txt")
	release := make(chan struct{})
	var k kubelets
	k.serve(t, "slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	k.serve(t, "good", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
	defer close(release)
	s := newSource(t, Config{CAFile: k.ca, Timeout: 300 * time.Millisecond, Concurrency: 2}, k.targets)
	bodies, err := s.Read(t.Context())
	if len(bodies) != 1 || bodies[0].Node != "good" {
		t.Errorf("bodies %v, want that of good", bodies)
	}
	fault := new(NodeError)
	if !errors.As(err, &fault) || fault.Node != "slow" || fault.Status != 0 {
		t.Errorf("error %v, want slow's", err)
	}
}

func TestUntrustedKubeletIsRefused(t *testing.T) {
	text := fixture(t, "cgroupfs.txt")
	var k kubelets
	k.serve(t, "n", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
	if bodies, err := newSource(t, Config{}, k.targets).Read(t.Context()); err == nil || len(bodies) != 0 {
		t.Error("a certificate of an unknown CA was taken")
	}
	if bodies, err := newSource(t, Config{InsecureSkipVerify: true}, k.targets).Read(t.Context()); err != nil || len(bodies) != 1 {
		t.Errorf("explicitly insecure: %v", err)
	}
	missing := Config{CAFile: filepath.Join(t.TempDir(), "none")}
	if _, err := newSource(t, missing, k.targets).Read(t.Context()); err == nil {
		t.Error("a CA file that is missing is no error")
	}
}
