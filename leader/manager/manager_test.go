package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// script stands in for pull, work and push. It may block where a test says.
type script struct {
	mu      sync.Mutex
	pulls   map[string]int
	running map[string]int
	twice   bool
	pushes  int
	works   int
	hang    map[string]chan struct{} // a cluster's pull waits for it, or for its context
	fail    map[string]error
	work    error
	slow    time.Duration
}

func newScript() *script {
	return &script{pulls: make(map[string]int), running: make(map[string]int), hang: make(map[string]chan struct{}), fail: make(map[string]error)}
}

func (s *script) Pull(ctx context.Context, cluster string, _ *influxsync.Server) (pull.Result, error) {
	s.mu.Lock()
	s.pulls[cluster]++
	s.running[cluster]++
	s.twice = s.twice || s.running[cluster] > 1
	wait, err := s.hang[cluster], s.fail[cluster]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running[cluster]--
		s.mu.Unlock()
	}()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return pull.Result{}, ctx.Err()
		}
	}
	return pull.Result{Windows: 1, Rows: 2}, err
}

func (s *script) Push(context.Context, string, *influxsync.Server) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes++
	return 0, nil
}

func (s *script) Run(ctx context.Context) error {
	s.mu.Lock()
	s.works++
	err, slow := s.work, s.slow
	s.slow = 0
	s.mu.Unlock()
	return errors.Join(err, clock.System().Sleep(ctx, slow))
}

func (s *script) count(cluster string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulls[cluster]
}

func (s *script) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// newManager manages clusters c0, c1, … whose followers answer status and no more.
func newManager(t *testing.T, config Config, clk clock.Clock, clusters int) (*Manager, *script, *bytes.Buffer) {
	t.Helper()
	port := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	t.Cleanup(port.Close)
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	var objects []fleet.Object
	for i := range clusters {
		objects = append(objects, fleet.NewObject(fmt.Sprintf("c%d", i), fleet.Cluster{URL: port.URL}))
	}
	if _, err := books.Apply(t.Context(), objects, "test"); err != nil {
		t.Fatal(err)
	}
	s, log := newScript(), &bytes.Buffer{}
	parts := Parts{Registry: books, Followers: followers.NewPool(clk), Puller: s, Worker: s, Pusher: s}
	m, err := New(config, parts, clk, slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return m, s, log
}

func tick(t *testing.T, m *Manager) {
	t.Helper()
	if err := m.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestHangingCluster: a slot ends after Grace, the others were pulled, the
// hanging one is left alone until its pull has ended, and it is pulled again then.
func TestHangingCluster(t *testing.T) {
	m, s, _ := newManager(t, Config{Grace: 2 * time.Second, Parallel: 2}, clock.System(), 5)
	hang := make(chan struct{})
	s.set(func() { s.hang["c0"] = hang })
	for round := 1; round <= 3; round++ {
		tick(t, m)
	}
	for i := 1; i < 5; i++ {
		if got := s.count(fmt.Sprintf("c%d", i)); got != 3 {
			t.Errorf("c%d was pulled %d times in 3 ticks", i, got)
		}
	}
	if got := s.count("c0"); got != 1 {
		t.Errorf("the hanging cluster was pulled %d times, want 1", got)
	}
	s.set(func() { delete(s.hang, "c0") })
	close(hang)
	m.visits.Wait()
	tick(t, m)
	if got := s.count("c0"); got != 2 {
		t.Errorf("after it answered: %d pulls, want 2", got)
	}
	if s.twice {
		t.Error("a cluster was pulled twice at one time")
	}
}

// TestManyHang: more clusters hang than there are places; the others have theirs
// all the same, long before Grace.
func TestManyHang(t *testing.T) {
	m, s, _ := newManager(t, Config{Grace: time.Minute, Patience: 200 * time.Millisecond, Parallel: 2}, clock.System(), 6)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 4 {
		s.set(func() { s.hang[fmt.Sprintf("c%d", i)] = make(chan struct{}) })
	}
	for range 3 {
		if err := m.Tick(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, cluster := range []string{"c4", "c5"} {
		if s.count(cluster) == 0 {
			t.Errorf("%s had no turn in three slots", cluster)
		}
	}
	cancel()
	m.visits.Wait() // nothing is left running
}

// TestPullOutsideLoop waits for the loop's visit of the cluster.
func TestPullOutsideLoop(t *testing.T) {
	m, s, _ := newManager(t, Config{Grace: time.Millisecond}, clock.System(), 1)
	hang := make(chan struct{})
	s.set(func() { s.hang["c0"] = hang })
	for s.count("c0") == 0 {
		tick(t, m)
	}
	snapshot, err := m.parts.Registry.Fleet(t.Context(), clock.System().Now())
	if err != nil {
		t.Fatal(err)
	}
	cluster, _ := snapshot.Cluster("c0")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Pull(ended, cluster); !errors.Is(err, context.Canceled) {
		t.Errorf("Pull of a busy cluster: %v, want the context's error", err)
	}
	close(hang)
	if result, err := m.Pull(t.Context(), cluster); err != nil || result.Windows != 1 {
		t.Errorf("Pull: %+v, %v", result, err)
	}
	if s.twice {
		t.Error("the cluster was pulled twice at one time")
	}
}

// TestStateChanges: each change of a link is logged and on record once.
func TestStateChanges(t *testing.T) {
	clk := clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	m, s, log := newManager(t, Config{Grace: time.Minute}, clk, 1)
	broken := &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
	for _, err := range []error{nil, nil, broken, broken, &influxsync.StatusError{Status: 502}, nil, nil} {
		s.set(func() { s.fail["c0"] = err })
		tick(t, m)
		clk.Advance(10 * time.Minute) // longer than any backoff
	}
	if got := strings.Count(log.String(), "cluster link changed"); got != 4 {
		t.Errorf("%d log lines of 4 changes:\n%s", got, log)
	}
	states, err := m.parts.Registry.ClusterStates(t.Context(), "c0")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, state := range states {
		got = append(got, state.State)
	}
	if want := "ok link-down follower-down ok"; strings.Join(got, " ") != want {
		t.Errorf("states on record: %v, want %s", got, want)
	}
	if contact := m.Contact("c0"); contact.Err != nil || contact.Windows != 7 || contact.Failed.IsZero() {
		t.Errorf("contact %+v", contact)
	}
	if s.pushes != 4 {
		t.Errorf("%d pushes, want one after each of the 4 pulls that succeeded", s.pushes)
	}
}

// TestTickError: work that fails is in Loop and logged once; pulls and pushes go
// on.
func TestTickError(t *testing.T) {
	clk := clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	m, s, log := newManager(t, Config{Grace: time.Minute}, clk, 1)
	broken := errors.New("contradictory input")
	s.set(func() { s.work = broken })
	for range 3 {
		if err := m.Tick(t.Context()); !errors.Is(err, broken) {
			t.Errorf("Tick: %v", err)
		}
	}
	if loop := m.Loop(); !errors.Is(loop.Failed, broken) || loop.Ticked.IsZero() {
		t.Errorf("loop %+v", loop)
	}
	if s.count("c0") != 3 || s.pushes != 3 {
		t.Errorf("%d pulls, %d pushes in 3 ticks", s.count("c0"), s.pushes)
	}
	s.set(func() { s.work = nil })
	tick(t, m)
	if err := m.Loop().Failed; err != nil {
		t.Errorf("after recovery: %v", err)
	}
	if text := log.String(); strings.Count(text, "work fails") != 1 || strings.Count(text, "work recovered") != 1 {
		t.Errorf("log:\n%s", text)
	}
}

// TestSlots: ticks are at wall-clock multiples of the interval, a long one
// misses slots, which are counted, and Run ends without leaving anything behind:
// the bubble fails if a goroutine stays.
func TestSlots(t *testing.T) {
	books := func(t *testing.T) *registry.Registry {
		r, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clock.System())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}(t)
	s := newScript()
	clk := clock.NewManual(time.Date(2026, 11, 23, 10, 0, 7, 0, time.UTC))
	m, err := New(Config{Interval: 15 * time.Second}, Parts{Registry: books, Puller: s, Worker: advancing{s, clk}, Pusher: s}, clk,
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	// The first tick, at :07, lasts 40 s, until :47: the slots :15, :30 and :45 passed.
	s.slow = 40 * time.Second
	go func() { done <- m.Run(ctx) }()
	for m.Loop().Ticked.IsZero() {
		synced(t)
	}
	for works := 1; works < 4; {
		clk.Advance(time.Second)
		synced(t)
		s.mu.Lock()
		works = s.works
		s.mu.Unlock()
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := m.Loop().Missed; got != 3 {
		t.Errorf("%d missed slots, want 3", got)
	}
}

// advancing is work that takes the script's time on the test's clock.
type advancing struct {
	*script
	clk *clock.Manual
}

func (a advancing) Run(context.Context) error {
	a.mu.Lock()
	a.works++
	slow := a.slow
	a.slow = 0
	a.mu.Unlock()
	a.clk.Advance(slow)
	return nil
}

// synced lets other goroutines run.
func synced(t *testing.T) {
	t.Helper()
	if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

// TestEachLeavesNothing: when each returns and the visits have ended, no
// goroutine of it is left; a bubble that ends with one fails.
func TestEachLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := loop(Config{Grace: time.Hour, Parallel: 3})
		clusters := []fleet.Cluster{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
		began := m.clock.Now()
		m.each(t.Context(), clusters, errand{phase: pulling, do: func(context.Context, fleet.Cluster, *stay) error { return nil }})
		if took := m.clock.Now().Sub(began); took != 0 {
			t.Errorf("quick clusters took %s: each waited for Grace", took)
		}
		m.visits.Wait()
		m.each(t.Context(), clusters, errand{phase: pulling, do: func(ctx context.Context, c fleet.Cluster, _ *stay) error {
			if c.Name == "a" {
				return m.clock.Sleep(ctx, 2*time.Hour)
			}
			return nil
		}})
		if took := m.clock.Now().Sub(began); took != m.config.Patience {
			t.Errorf("with a hanging cluster each took %s, want Patience", took)
		}
		m.visits.Wait()
		if took := m.clock.Now().Sub(began); took != 2*time.Hour {
			t.Errorf("the hanging visit ended after %s", took)
		}
	})
}

// TestTurns: where a slot has time for one cluster only, each has its turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := loop(Config{Grace: 10 * time.Second, Patience: time.Minute, Parallel: 1})
		visits := make(map[string]int)
		for range 6 {
			m.each(t.Context(), []fleet.Cluster{{Name: "a"}, {Name: "b"}, {Name: "c"}}, errand{phase: pushing, do: func(ctx context.Context, c fleet.Cluster, _ *stay) error {
				visits[c.Name]++
				return m.clock.Sleep(ctx, 12*time.Second)
			}})
			m.visits.Wait()
		}
		if diff := cmp.Diff(map[string]int{"a": 2, "b": 2, "c": 2}, visits); diff != "" {
			t.Errorf("visits in six slots (-want +got):\n%s", diff)
		}
	})
}

// loop is a manager without parts, for tests of its schedule.
func loop(config Config) *Manager {
	return assemble(config.complete(), Parts{}, clock.System(), slog.New(slog.DiscardHandler))
}
