package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// TestBlame: what a contact's failure speaks of, by what the network really says.
func TestBlame(t *testing.T) {
	answering := func(handler http.HandlerFunc) string {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return server.URL
	}
	status := func(code int) string {
		return answering(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	foreign := httptest.NewUnstartedServer(http.NotFoundHandler())
	foreign.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	foreign.StartTLS()
	t.Cleanup(foreign.Close)
	release := make(chan struct{})
	defer close(release) // before its server is closed
	pool := followers.NewPool(clock.System())
	if _, err := pool.Get(fleet.Cluster{Name: "x", URL: closed, TokenFile: "/nowhere/token"}); blame(err) != registry.GapLinkDown {
		t.Errorf("a file that is not there: %s, %v", blame(err), err)
	}
	for name, test := range map[string]struct {
		url  string
		want registry.GapCode
	}{
		"nobody listens":      {closed, registry.GapFollowerDown},
		"a proxy: 502":        {status(502), registry.GapFollowerDown},
		"opening: 503":        {status(503), registry.GapFollowerDown},
		"a proxy: 504":        {status(504), registry.GapLinkDown},
		"no such name":        {"http://nowhere.invalid:1", registry.GapLinkDown},
		"TLS":                 {foreign.URL, registry.GapLinkDown},
		"plain, TLS expected": {strings.Replace(status(200), "http:", "https:", 1), registry.GapLinkDown},
		"silent":              {answering(func(http.ResponseWriter, *http.Request) { <-release }), registry.GapLinkDown},
		"cut":                 {answering(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), registry.GapLinkDown},
		"401":                 {status(401), registry.GapUnauthorized},
		"403":                 {status(403), registry.GapUnauthorized},
		"500":                 {status(500), registry.GapSyncFailing},
		"no status":           {answering(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }), registry.GapSyncFailing},
	} {
		follower, err := pool.Get(fleet.Cluster{Name: name, URL: test.url})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		var told FollowerStatus
		err = follower.Status(ctx, &told)
		cancel()
		if state, message := linkState(told, err); state != string(test.want) || message == "" {
			t.Errorf("%s: %s %q, want %s (%v)", name, state, message, test.want, err)
		}
	}
	for err, want := range map[error]registry.GapCode{
		fmt.Errorf("pull: %w", influxsync.ErrMismatch):                                     registry.GapSyncFailing,
		fmt.Errorf("pull: %w", influxsync.ErrTruncated):                                    registry.GapLinkDown,
		errors.Join(influxsync.ErrMismatch, fmt.Errorf("x: %w", context.DeadlineExceeded)): registry.GapLinkDown,
		fmt.Errorf("read tokenFile: %w", errors.New("no such file")):                       registry.GapSyncFailing,
		&influxsync.StatusError{Status: 403}:                                               registry.GapUnauthorized,
		&followers.ProxyError{Status: 401}:                                                 registry.GapUnauthorized,
		&followers.ProxyError{Status: 403}:                                                 registry.GapUnauthorized,
		&followers.ProxyError{Status: 404}:                                                 registry.GapFollowerDown,
		&followers.ProxyError{Status: 503, Message: "no endpoints available"}:              registry.GapFollowerDown,
		&followers.ProxyError{Status: 503, Message: "dial tcp: i/o timeout"}:               registry.GapLinkDown,
		&followers.ProxyError{Status: 500}:                                                 registry.GapLinkDown,
	} {
		if got := blame(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	full := FollowerStatus{StoreError: "write node: engine: write shard: no space left on device"}
	if state, _ := linkState(full, nil); state != string(registry.GapDiskBudget) {
		t.Errorf("a full disk: %s", state)
	}
	if state, message := linkState(FollowerStatus{StoreError: "something else"}, nil); state != registry.StateOK || message != "" {
		t.Errorf("another error of the store: %s %s", state, message)
	}
}

// TestLagGrows: the age of the newest window is that of the scrape, also while
// the cluster fails.
func TestLagGrows(t *testing.T) {
	clk := clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	m, s, _ := newManager(t, Config{Grace: time.Minute}, clk, 2)
	for _, table := range []string{"node", "pod"} {
		receipt := registry.Receipt{Mark: influxsync.Mark{Store: "s"}, Windows: []influxsync.Confirmed{window(clk.Now(), table)}}
		if err := m.parts.Registry.Received(t.Context(), "c0", table, receipt, nil); err != nil {
			t.Fatal(err)
		}
	}
	metrics := prometheus.NewRegistry()
	if err := metrics.Register(newLag(m)); err != nil {
		t.Fatal(err)
	}
	want := func(seconds float64) {
		t.Helper()
		families, err := metrics.Gather()
		if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
			t.Fatalf("%v, %v; want the one cluster of which something came", families, err)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); families[0].GetName() != "accumulus_sync_lag_seconds" || got != seconds {
			t.Errorf("%s is %v, want %v", families[0].GetName(), got, seconds)
		}
	}
	want(0)
	s.set(func() { s.fail["c0"] = errors.New("gone") })
	for range 3 {
		clk.Advance(time.Minute)
		tick(t, m)
	}
	want(180)
}

// window is the minute before a moment.
func window(at time.Time, table string) influxsync.Confirmed {
	return influxsync.Confirmed{Entry: influxsync.Entry{Cluster: "c0", Table: table, Window: schema.WindowAt(at.Add(-schema.Minute), schema.Minute),
		Revision: 1, Time: at}}
}
