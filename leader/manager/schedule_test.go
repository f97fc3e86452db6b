package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// How a cluster of the fleet behaves, by the first letters of its name.
const (
	healthy = "well"
	hangs   = "hang"  // never answers
	refuses = "deny"  // at once
	slow    = "slow"  // 20 s for its status, and as long for its rows
	stuck   = "stick" // tells its status, and never gives a row
)

const (
	answerTime = 10 * time.Millisecond
	rowsTime   = 100 * time.Millisecond
	slowTime   = 20 * time.Second
)

// world is the followers of a fleet in virtual time, and what is done to them.
type world struct {
	clock clock.Clock
	start time.Time

	mu      sync.Mutex
	pulls   map[int][]time.Duration // by slot: when healthy clusters were done, since the slot began
	pushes  map[int][]time.Duration
	running map[string]int
	twice   []string
	most    int // visits at one time
}

// RoundTrip is a follower's status; its cluster is the URL's host.
func (w *world) RoundTrip(request *http.Request) (*http.Response, error) {
	name := request.URL.Host
	wait := answerTime
	switch {
	case strings.HasPrefix(name, refuses):
		return nil, errors.New("connection refused")
	case strings.HasPrefix(name, hangs):
		<-request.Context().Done()
		return nil, request.Context().Err()
	case strings.HasPrefix(name, slow):
		wait = slowTime
	}
	if err := w.clock.Sleep(request.Context(), wait); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: request}, nil
}

func (w *world) visit(ctx context.Context, cluster string, done map[int][]time.Duration) error {
	w.mu.Lock()
	w.running[cluster]++
	if w.running[cluster] > 1 {
		w.twice = append(w.twice, cluster)
	}
	w.most = max(w.most, len(w.running))
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.running[cluster]--; w.running[cluster] == 0 {
			delete(w.running, cluster)
		}
	}()
	wait := rowsTime
	switch {
	case strings.HasPrefix(cluster, stuck):
		<-ctx.Done()
		return ctx.Err()
	case strings.HasPrefix(cluster, slow):
		wait = slowTime
	}
	if err := w.clock.Sleep(ctx, wait); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(cluster, healthy) {
		since := w.clock.Now().Sub(w.start)
		done[int(since/slotLength)] = append(done[int(since/slotLength)], since%slotLength)
	}
	return nil
}

func (w *world) Pull(ctx context.Context, cluster string, _ *influxsync.Server) (pull.Result, error) {
	return pull.Result{}, w.visit(ctx, cluster, w.pulls)
}

func (w *world) Push(ctx context.Context, cluster string, _ *influxsync.Server) (int, error) {
	return 0, w.visit(ctx, cluster, w.pushes)
}

func (w *world) Run(context.Context) error { return nil }

const slotLength = 15 * time.Second

// name names the i-th cluster so that the troublesome ones are spread over the
// order of names, the healthy ones' order being the same without them.
func name(kind string, i int) string { return fmt.Sprintf("%s-%03d", kind, i) }

// simulate runs the loop over the fleet for so many slots, in a bubble in which
// nothing may be left at the end.
func simulate(t *testing.T, slots int, counts map[string]int, run func(*Manager, context.Context) error) *world {
	t.Helper()
	var w *world
	synctest.Test(t, func(t *testing.T) {
		clk := clock.System()
		books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = books.Close() }()
		var objects []fleet.Object
		for _, kind := range slices.Sorted(maps.Keys(counts)) {
			for i := range counts[kind] {
				objects = append(objects, fleet.NewObject(name(kind, i), fleet.Cluster{URL: "http://" + name(kind, i)}))
			}
		}
		if _, err := books.Apply(t.Context(), objects, "test"); err != nil {
			t.Fatal(err)
		}
		w = &world{clock: clk, start: clk.Now(), pulls: make(map[int][]time.Duration), pushes: make(map[int][]time.Duration),
			running: make(map[string]int)}
		pool := followers.NewPool(clk)
		pool.Transport = w
		m, err := New(Config{Interval: slotLength}, Parts{Registry: books, Followers: pool, Puller: w, Worker: w, Pusher: w,
			Random: func() float64 { return 0.5 }}, clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(slots)*slotLength-time.Second)
		defer cancel()
		if err := run(m, ctx); err != nil {
			t.Error(err)
		}
		if len(w.twice) > 0 {
			t.Errorf("visited twice at one time: %v", w.twice)
		}
	})
	for _, done := range []map[int][]time.Duration{w.pulls, w.pushes} {
		for _, times := range done {
			slices.Sort(times)
		}
	}
	return w
}

const slotsRun = 24 // six minutes

var (
	alone   = map[string]int{healthy: 85}
	trouble = map[string]int{healthy: 85, hangs: 5, refuses: 5, slow: 5}
)

// TestNobodyWaits: of 100 clusters 5 hang, 5 refuse and 5 are slow; the other 85
// are pulled in each slot at exactly the times at which they are without them,
// the first slot included, and pushed to as well from the second on.
func TestNobodyWaits(t *testing.T) {
	without := simulate(t, slotsRun, alone, (*Manager).Run)
	with := simulate(t, slotsRun, trouble, (*Manager).Run)
	if len(without.pulls) != slotsRun || len(without.pulls[0]) != 85 {
		t.Fatalf("%d slots, %d pulls in the first", len(without.pulls), len(without.pulls[0]))
	}
	if diff := cmp.Diff(without.pulls, with.pulls); diff != "" {
		t.Errorf("pulls (-without +with):\n%s", diff)
	}
	for slot := range slotsRun {
		late := time.Duration(0)
		if slot == 0 { // until Patience has run out, those that hang might still answer
			late = with.pushes[0][0] - without.pushes[0][0]
			if late > 2*time.Second {
				t.Errorf("the first slot's pushes are %s late", late)
			}
		}
		for i, at := range without.pushes[slot] {
			if got := with.pushes[slot][i] - late; got != at {
				t.Fatalf("slot %d: push %d is done at %s, without the others at %s", slot, i, got, at)
			}
		}
	}
}

// TestStuckRows: clusters that tell their status and never give a row are not
// known before: the first slot costs the others no more than Patience, the next
// ones nothing.
func TestStuckRows(t *testing.T) {
	without := simulate(t, slotsRun, alone, (*Manager).Run)
	with := simulate(t, slotsRun, map[string]int{healthy: 85, stuck: 5}, (*Manager).Run)
	last := func(w *world) time.Duration { return w.pulls[0][len(w.pulls[0])-1] }
	if late := last(with) - last(without); late > 2*time.Second {
		t.Errorf("the first slot is %s late", late)
	}
	delete(without.pulls, 0)
	delete(with.pulls, 0)
	if diff := cmp.Diff(without.pulls, with.pulls); diff != "" {
		t.Errorf("pulls after the first slot (-without +with):\n%s", diff)
	}
}

// TestNobodyWaitsControl: by the former schedule, in which a cluster keeps one of
// Parallel workers from its status to its last row, the healthy ones wait.
func TestNobodyWaitsControl(t *testing.T) {
	without := simulate(t, 2, alone, runByWorkers)
	with := simulate(t, 2, trouble, runByWorkers)
	if cmp.Equal(without.pulls, with.pulls) {
		t.Error("with workers that hang the others are as fast: the test sees nothing")
	}
}

// runByWorkers ticks with the former schedule.
func runByWorkers(m *Manager, ctx context.Context) error {
	defer m.visits.Wait()
	for {
		snapshot, err := m.parts.Registry.Fleet(ctx, m.clock.Now())
		if err != nil {
			return nil
		}
		clusters := snapshot.Clusters()
		waiting := make(chan fleet.Cluster, len(clusters))
		for _, cluster := range clusters {
			waiting <- cluster
		}
		close(waiting)
		graced, cancel := context.WithTimeout(ctx, m.config.Grace)
		for range m.config.Parallel {
			m.visits.Go(func() {
				for cluster := range waiting {
					if _, mine := m.take(cluster.Name, pulling); graced.Err() != nil || !mine {
						continue
					}
					_, _, _ = m.contact(ctx, cluster, func(context.Context) error { return nil })
					m.release(cluster.Name)
				}
			})
		}
		_, err = clock.Until(ctx, m.clock, m.config.Interval)
		cancel()
		if err != nil {
			return nil
		}
	}
}

// TestManyMoreHang: three times as many clusters as there are places for
// contacts hang. Soon the others do not notice, and visits
// are bounded.
func TestManyMoreHang(t *testing.T) {
	without := simulate(t, slotsRun, alone, (*Manager).Run)
	with := simulate(t, slotsRun, map[string]int{healthy: 85, hangs: 200, stuck: 100}, (*Manager).Run)
	for slot := 8; slot < slotsRun; slot++ {
		if diff := cmp.Diff(without.pulls[slot], with.pulls[slot]); diff != "" {
			t.Errorf("slot %d (-without +with):\n%s", slot, diff)
		}
	}
	if bound := (8 + 4) * (1 + stragglers); with.most > bound {
		t.Errorf("%d pulls at one time, want at most %d", with.most, bound)
	}
}

// TestBackoff: attempts at a cluster that fails are at doubling distances up to
// the longest; a refusal gets there sooner; a change of the cluster, and a
// success, begin anew.
func TestBackoff(t *testing.T) {
	distances := func(err error) []string {
		var got []string
		synctest.Test(t, func(t *testing.T) {
			m := loop(Config{})
			m.random = func() float64 { return 0 }
			cluster := fleet.Cluster{Name: "c"}
			for range 8 {
				m.outcome(pulling, cluster, err, false)
				got = append(got, m.past[turn{pulling, "c"}].next.Sub(m.clock.Now()).String())
			}
			if well, doubtful := m.inTurn(pulling, []fleet.Cluster{cluster}); len(well)+len(doubtful) > 0 {
				t.Error("it is tried before its time")
			}
			cluster.URL = "http://elsewhere"
			if _, doubtful := m.inTurn(pulling, []fleet.Cluster{cluster}); len(doubtful) != 1 {
				t.Error("a cluster that was changed is not tried")
			}
			m.outcome(pulling, cluster, nil, false)
			if well, _ := m.inTurn(pulling, []fleet.Cluster{cluster}); len(well) != 1 {
				t.Error("a success does not begin anew")
			}
			m.random = func() float64 { return 0.5 }
			m.outcome(pulling, cluster, err, false)
			m.outcome(pulling, cluster, err, false)
			if next := m.past[turn{pulling, "c"}].next.Sub(m.clock.Now()); next >= 5*time.Minute {
				t.Errorf("next attempt in %s: no jitter", next)
			}
		})
		return got
	}
	want := map[string]string{
		"unreachable":  "15s 30s 1m0s 2m0s 4m0s 5m0s 5m0s 5m0s",
		"unauthorized": "2m0s 5m0s 5m0s 5m0s 5m0s 5m0s 5m0s 5m0s",
	}
	want["404"], want["fenced"], want["no such database"] = want["unauthorized"], want["unauthorized"], want["unauthorized"]
	want["429"], want["503"] = want["unreachable"], want["unreachable"]
	for name, err := range map[string]error{
		"unreachable": errors.New("no route"), "unauthorized": fmt.Errorf("ask: %w", followers.ErrUnauthorized),
		"404": &followers.StatusError{Status: 404}, "fenced": &influxsync.WriteError{Status: 409}, "no such database": &influxsync.StatusError{Status: 404},
		"429": &influxsync.WriteError{Status: 429}, "503": &influxsync.StatusError{Status: 503},
	} {
		if got := strings.Join(distances(err), " "); got != want[name] {
			t.Errorf("%s: %s, want %s", name, got, want[name])
		}
	}
}

// TestBackedOff: in the loop a cluster that refuses is tried at fewer and fewer
// slots, its status says when, and Pull does not wait for that.
func TestBackedOff(t *testing.T) {
	clk := clock.NewManual(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	m, s, _ := newManager(t, Config{Grace: time.Minute}, clk, 1)
	m.random = func() float64 { return 0 }
	s.set(func() { s.fail["c0"] = errors.New("no route") })
	var tried []int
	for slot := range 16 {
		before := s.count("c0")
		tick(t, m)
		if s.count("c0") > before {
			tried = append(tried, slot)
		}
		clk.Advance(slotLength)
	}
	if diff := cmp.Diff([]int{0, 1, 3, 7, 15}, tried); diff != "" {
		t.Errorf("slots of attempts (-want +got):\n%s", diff)
	}
	if next, want := m.Contact("c0").NextAttempt, clk.Now().Add(4*time.Minute-slotLength); !next.Equal(want) {
		t.Errorf("next attempt %s, want %s", next, want)
	}
	s.set(func() { delete(s.fail, "c0") })
	snapshot, err := m.parts.Registry.Fleet(t.Context(), clk.Now())
	if err != nil {
		t.Fatal(err)
	}
	cluster, _ := snapshot.Cluster("c0")
	if _, err := m.Pull(t.Context(), cluster); err != nil {
		t.Errorf("Pull: %v", err)
	}
}

// TestPlacesByRank: of those who wait the lowest rank comes first, and one that
// gives up takes nothing with it.
func TestPlacesByRank(t *testing.T) {
	p := &places{free: 1}
	first := p.join(5)
	waiting := map[int64]*ticket{}
	for _, rank := range []int64{9, 7, 8} {
		waiting[rank] = p.join(rank)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := waiting[7].wait(gone); err == nil {
		t.Error("who gave up has a place")
	}
	if err := first.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.give()
	if err := waiting[8].wait(gone); err == nil { // given, and handed on
		t.Error("who gave up has a place")
	}
	if err := waiting[9].wait(t.Context()); err != nil {
		t.Error(err)
	}
	if p.free != 0 {
		t.Error("there are two places")
	}
	p.give()
	if p.free != 1 {
		t.Error("the place was lost")
	}
}

// TestPullInterval: a cluster that is to be pulled every five minutes rests
// after a pull that succeeded, and not after a push; what it pushes it gets at
// each slot.
func TestPullInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := loop(Config{})
		cluster := fleet.Cluster{Name: "c", PullInterval: fleet.Duration(5 * time.Minute)}
		due := func(phase string) bool {
			well, _ := m.inTurn(phase, []fleet.Cluster{cluster})
			return len(well) == 1
		}
		pulls := 0
		for range 41 { // slots: 10 minutes
			if due(pulling) {
				pulls++
				m.outcome(pulling, cluster, nil, false)
			}
			if !due(pushing) {
				t.Fatal("its push rests, too")
			}
			m.outcome(pushing, cluster, nil, false)
			if next := m.Contact("c").NextAttempt; !next.IsZero() {
				t.Fatalf("it is said to fail until %s", next)
			}
			_ = m.clock.Sleep(t.Context(), m.config.Interval)
		}
		if pulls != 3 {
			t.Errorf("%d pulls in 10 minutes, want one each 5 minutes and the first", pulls)
		}
	})
}
