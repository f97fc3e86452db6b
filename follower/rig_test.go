package follower

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// epoch is when the tests' nodes were booted and their pods started.
var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// Rates of the machine's counters, core-µs per second.
const (
	nodeRate     = 900_000
	kubepodsRate = 500_000
	podRate      = 400_000
)

// machine is a source with one node and one pod whose counters grow evenly, so
// that the truth of every window is known.
type machine struct {
	clock clock.Clock
	mu    sync.Mutex
	err   error
	// hold, when not nil, is waited for by Read, which tells entered before.
	hold, entered chan struct{}
}

func (m *machine) Read(context.Context) ([]reading.Body, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hold != nil {
		close(m.entered)
		<-m.hold
		m.hold = nil
	}
	if m.err != nil {
		return nil, m.err
	}
	return m.at(m.clock.Now()), nil
}

// hang makes the next Read wait until it is released.
func (m *machine) hang() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hold := make(chan struct{})
	m.hold, m.entered = hold, make(chan struct{})
	return func() { close(hold) }
}

func (m *machine) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *machine) at(t time.Time) []reading.Body {
	seconds := int64(t.Sub(epoch) / time.Second)
	one := func(series reading.Series, rate int64) reading.Reading {
		r := reading.Reading{Series: series, Time: t, Epoch: epoch}
		r.Values.Set(reading.CPU, rate*seconds)
		r.Values.Set(reading.Memory, 1<<30)
		return r
	}
	return []reading.Body{{Node: "n1", Received: t, NewestSample: t, Readings: []reading.Reading{
		one(reading.Series{Kind: reading.Node, Node: "n1"}, nodeRate),
		one(reading.Series{Kind: reading.Kubepods, Node: "n1"}, kubepodsRate),
		one(reading.Series{Kind: reading.Pod, Node: "n1", Namespace: "shop", Pod: "web", PodUID: "u1"}, podRate),
		one(reading.Series{Kind: reading.Container, Node: "n1", Namespace: "shop", Pod: "web", PodUID: "u1", Container: "c"}, podRate-1000),
	}}}
}

// rig is one follower on a directory, run by a manual clock.
type rig struct {
	*testing.T
	*Follower
	dir     string
	clock   *clock.Manual
	idle    chan time.Time
	next    time.Time // the slot that the loop waits for
	machine *machine
	server  *httptest.Server
	stop    func()
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testConfig(dir string) Config {
	return Config{Cluster: "edge", Dir: dir, SeedDir: filepath.Join(dir, "seed"), Interval: DefaultInterval, SettleDeadline: DefaultSettleDeadline, FactsDeadline: DefaultFactsDeadline}
}

func writeSeed(t *testing.T, dir string) {
	t.Helper()
	const text = `CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
		CREATE TABLE node(cluster TEXT, node TEXT, box TEXT, cpu_type TEXT, ram_type TEXT, disk_type TEXT, valid_from, valid_to);
		INSERT INTO meta VALUES('cluster', 'edge'), ('version', '7');
		INSERT INTO node VALUES('edge', 'n1', 'b1', 'i5', 'ddr4', 'nvme', NULL, NULL);`
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "seed.sql"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs a follower on the directory, until stop.
func start(t *testing.T, dir string, clk *clock.Manual, change func(*Config, *Input)) *rig {
	t.Helper()
	log, err := watch.NewLog(watch.Config{}, clk, discard())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, dir: dir, clock: clk, machine: &machine{clock: clk}, idle: make(chan time.Time)}
	config, input := testConfig(dir), Input{Source: r.machine, Log: log}
	writeSeed(t, config.SeedDir)
	if change != nil {
		change(&config, &input)
	}
	if r.Follower, err = New(config, Deps{Clock: steps{clk, r.idle}, Log: discard(), Registry: prometheus.NewRegistry(), Input: &input}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Follower.Run(ctx) }()
	select {
	case <-r.opened:
	case err := <-done:
		t.Fatalf("run: %v", err)
	}
	if input.Run == nil {
		log.PutNode("node-uid", "n1", watch.NodeSpec{CapacityMillicores: 4000, AllocatableMilli: 4000, AllocatableMemoryKiB: 8 << 20})
		log.PutPod("u1", "shop", "web", watch.PodSpec{Node: "n1", Created: epoch, Start: &epoch, WorkloadKind: "Deployment", Workload: "web"})
	}
	r.server = httptest.NewServer(r.Handler())
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			r.server.Close()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

// steps is the clock as one follower sees it: it tells when its loop waits for
// a slot, so that a test knows that the slot before is done.
type steps struct {
	*clock.Manual
	idle chan time.Time
}

func (s steps) SleepUntil(ctx context.Context, t time.Time) error {
	select {
	case s.idle <- t:
	case <-ctx.Done():
	}
	return s.Manual.SleepUntil(ctx, t)
}

// tickTo moves the clock slot by slot and waits for the loop in each.
func (r *rig) tickTo(to time.Time) {
	r.Helper()
	if r.next.IsZero() {
		r.next = <-r.idle
	}
	for !r.next.After(to) {
		r.clock.Set(r.next)
		r.next = <-r.idle
	}
}

func (r *rig) token(name string) string {
	r.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name+".token"))
	if err != nil {
		r.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// client is what a leader uses.
func (r *rig) client(token string) *influxsync.Server {
	r.Helper()
	return r.fenced(token, 1)
}

// fenced is what a leader with that fence number uses.
func (r *rig) fenced(token string, number int64) *influxsync.Server {
	r.Helper()
	server, err := influxsync.New(influxsync.Config{URL: r.server.URL, Token: influxsync.Secret(token), Transport: numbered(number)})
	if err != nil {
		r.Fatal(err)
	}
	return server
}

// numbered sends a fence number with each request.
type numbered int64

func (n numbered) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set(schema.FenceHeader, strconv.FormatInt(int64(n), 10))
	return http.DefaultTransport.RoundTrip(request)
}
