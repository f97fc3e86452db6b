package meter

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// TestBalance: with no pod that ends, the running sum of __unattributed__ is
// nothing where rates are constant, and where they vary it is within the
// change of rate in a reading gap times the gap, summed over pods and their
// parent. Pods are read at moments of their own up to 23 s before it.
func TestBalance(t *testing.T) {
	for seed := range uint64(40) {
		for _, constant := range []bool{true, false} {
			o := simOptions{nodes: 2, pods: 5, containers: 2, seconds: 400, constant: constant}
			s, d := newSimulation(seed, o), newDisk(seed)
			from, mark, err := run(newSimulation(seed, o), d, seed, 0)
			must(t, err)
			must(t, d.check(from, mark))
			for _, n := range s.nodes {
				s.checkBalance(t, d, n, from.Add(2*time.Minute), constant) // all pods have been read by then
			}
		}
	}
}

func (s *simulation) checkBalance(t *testing.T, d *disk, n *simNode, from time.Time, constant bool) {
	to := from
	for _, e := range d.journal["pod"].entries {
		if e.Reason == reasonSettled && e.Window.To.After(to) {
			to = e.Window.To
		}
	}
	var balance, node int64
	for w := from; w.Before(to); w = w.Add(time.Minute) {
		for _, p := range d.minute.rows["pod"] {
			if p.Time.Equal(w) && p.Tag(schema.Node) == n.name && p.Tag(schema.Namespace) == schema.UnattributedNamespace {
				balance += p.Int(schema.CPU)
			}
		}
		for _, p := range d.minute.rows["node"] {
			if p.Time.Equal(w) && p.Tag(schema.Node) == n.name {
				node += p.Int(schema.CPU)
			}
		}
		bound := node/1e6 + 1000 // readings are cut to core-µs and ms
		if !constant {
			bound += s.bound(d, n, from) + s.bound(d, n, w.Add(time.Minute))
		}
		if balance > bound || balance < -bound {
			t.Fatalf("constant %v: balance of node %s at %v is %d, the bound is %d", constant, n.name, w, balance, bound)
		}
	}
}

// bound is Σ over the pods of what the change of their rates within the reading
// gap around a moment can hide, in their own reading and in their parent's.
func (s *simulation) bound(d *disk, n *simNode, edge time.Time) int64 {
	var sum int64
	second := func(t int64) int { return int((t - s.start.UnixNano()) / 1e9) }
	for _, p := range n.pods {
		for _, kind := range []reading.Kind{reading.Pod, reading.Kubepods} {
			before, after := s.start.UnixNano(), s.at(s.seconds).UnixNano()
			if kind == reading.Pod { // it counts from its start
				before = max(before, unixNano(p.info.Start))
			}
			for id, row := range d.raw.rows[schema.Raw.Name] {
				if row.Tag(schema.Kind) != string(kind) || row.Tag(schema.Node) != n.name ||
					kind == reading.Pod && row.Tag(schema.PodUID) != p.info.UID {
					continue
				}
				if id.at <= edge.UnixNano() {
					before = max(before, id.at)
				} else {
					after = min(after, id.at)
				}
			}
			for _, c := range p.containers {
				low, high := int64(maxInt64), int64(0)
				for i := max(0, second(before)); i <= second(after) && i+1 < len(c.used); i++ {
					low, high = min(low, c.used[i+1]-c.used[i]), max(high, c.used[i+1]-c.used[i])
				}
				if high > low {
					sum += (high - low) * ((after-before)/1e9 + 1)
				}
			}
		}
	}
	return sum
}

// stage is a node with one pod that uses half a core, read every 15 s.
type stage struct {
	t     *testing.T
	w     *world
	d     *disk
	clk   *clock.Manual
	m     *Meter
	start time.Time
	tells bool // the node's answers tell what its clock showed
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, d: newDisk(1), start: time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)}
	s.w = &world{facts: map[string]reading.Facts{"n": {Box: "b", CPUType: "xeon"}},
		nodes: []reading.NodeInfo{{Name: "n", CapacityMillicores: 4000, AllocatableMilli: 4000}},
		pods: []reading.PodInfo{{UID: "u", Namespace: "ns", Name: "p", Node: "n", OwnerKnown: true, WorkloadKind: "Job", Workload: "j",
			Start: s.start.Add(-time.Hour), Containers: []reading.ContainerInfo{{Name: "c", RequestMillicores: 500, LimitMillicores: 1000, RequestMemoryBytes: 1 << 20}}}}}
	s.clk = clock.NewManual(s.start)
	s.restart()
	return s
}

func (s *stage) restart() {
	s.t.Helper()
	var err error
	s.m, err = open(testConfig, s.d, s.w, s.clk)
	must(s.t, err)
}

// tick reads the node at a second: the pod half a core, kubepods as much until
// the pod ends, the node a whole core.
func (s *stage) tick(second int, withPod bool) {
	s.t.Helper()
	s.clk.Set(s.start.Add(time.Duration(second) * time.Second))
	us := int64(second+10_000) * 1e6
	b := reading.Body{Node: "n", Received: s.clk.Now(), NewestSample: s.clk.Now()}
	add := func(id reading.Series, v int64) {
		r := reading.Reading{Series: id, Time: s.clk.Now(), Epoch: s.start.Add(-time.Hour)}
		r.Values.Set(reading.CPU, v)
		b.Readings = append(b.Readings, r)
	}
	add(reading.Series{Kind: reading.Node, Node: "n"}, us)
	pod := us / 2
	if end := s.w.pods[0].End; !end.IsZero() {
		pod = min(pod, (int64(end.Sub(s.start)/time.Second)+10_000)*1e6/2)
	}
	add(reading.Series{Kind: reading.Kubepods, Node: "n"}, pod)
	if withPod {
		id := reading.Series{Kind: reading.Pod, Node: "n", Namespace: "ns", Pod: "p", PodUID: "u"}
		add(id, pod)
		id.Kind, id.Container = reading.Container, "c"
		add(id, pod-1)
	}
	must(s.t, s.m.Add(context.Background(), []reading.Body{b}))
	s.settle()
}

func (s *stage) settle() {
	s.t.Helper()
	_, err := s.m.Settle(context.Background())
	must(s.t, err)
	must(s.t, s.d.checkAddsUp())
}

// cpu is Σ CPU of a namespace by minute.
func (s *stage) cpu(namespace string, minutes int) []int64 {
	sums := make([]int64, minutes)
	for id, p := range s.d.minute.rows["pod"] {
		if i := int((id.at - s.start.UnixNano()) / minute); p.Tag(schema.Namespace) == namespace && i < minutes {
			sums[i] += p.Int(schema.CPU)
		}
	}
	return sums
}

// An ended pod gets what its node counted in the time in which nobody read it.
func TestUnseenTime(t *testing.T) {
	s := newStage(t)
	for second := 0; second <= 60; second += 15 {
		s.tick(second, true)
	}
	s.clk.Set(s.start.Add(70 * time.Second))
	s.w.pods[0].End = s.clk.Now() // 10 s after its last reading, 5 core-s
	for second := 75; second <= 240; second += 15 {
		s.tick(second, false)
	}
	if diff := cmp.Diff([]int64{30e6, 5e6, 0}, s.cpu("ns", 3)); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{0, 0, 0}, s.cpu(schema.UnattributedNamespace, 3)); diff != "" {
		t.Errorf("unattributed (-want +got):\n%s", diff)
	}
	before := len(s.d.journal["pod"].entries)
	s.restart()
	s.settle()
	if got := len(s.d.journal["pod"].entries); got != before {
		t.Errorf("a restart made %d new entries: %+v", got-before, s.d.journal["pod"].entries[before:])
	}
}

// Rows wait for their facts, the rest carries them; they come as a revision.
func TestMissingFacts(t *testing.T) {
	for _, c := range []struct {
		name string
		come bool
		want string
	}{{"they come", true, "j"}, {"the deadline comes", false, schema.Unknown}} {
		s := newStage(t)
		s.w.pods[0].OwnerKnown = false
		for second := 0; second <= 90; second += 15 {
			s.tick(second, true)
		}
		if got := s.cpu(schema.UnattributedNamespace, 1)[0]; got != 30e6 {
			t.Errorf("%s: unattributed carries %d, want 30e6", c.name, got)
		}
		if got := s.m.Status().WaitingRows; got == 0 {
			t.Errorf("%s: no row waits", c.name)
		}
		s.w.pods[0].OwnerKnown = c.come
		for second := 105; second <= 800; second += 15 {
			s.tick(second, true)
		}
		if got := s.cpu("ns", 1)[0]; got != 30e6 {
			t.Errorf("%s: the pod has %d, want 30e6", c.name, got)
		}
		if got := s.cpu(schema.UnattributedNamespace, 1)[0]; got != 0 {
			t.Errorf("%s: unattributed still carries %d", c.name, got)
		}
		for _, p := range s.d.minute.rows["pod"] {
			if p.Tag(schema.PodUID) == "u" && p.Tag(schema.Workload) != c.want {
				t.Errorf("%s: workload %q, want %q", c.name, p.Tag(schema.Workload), c.want)
			}
		}
	}
}

// A node that nobody could read for hours settles as zeros, and comes back as
// revisions; the follower's own hours away settle at once.
func TestHoursAway(t *testing.T) {
	for _, c := range []struct {
		name string
		away func(s *stage, second int)
	}{
		{"node silent", func(s *stage, second int) {
			s.clk.Set(s.start.Add(time.Duration(second) * time.Second))
			s.settle()
		}},
		{"follower down", func(*stage, int) {}},
	} {
		s := newStage(t)
		for second := 0; second <= 120; second += 15 {
			s.tick(second, true)
		}
		const hours = 6 * 3600
		for second := 135; second < hours; second += 15 {
			c.away(s, second)
		}
		if c.name == "follower down" {
			s.clk.Set(s.start.Add(hours * time.Second))
			s.restart()
		}
		for second := hours; second <= hours+120; second += 15 {
			s.tick(second, true)
		}
		var sum int64
		for _, v := range s.cpu("ns", hours/60+1) {
			sum += v
		}
		if want := int64(hours+60) * 1e6 / 2; sum != want {
			t.Errorf("%s: Σ windows %d, growth %d", c.name, sum, want)
		}
		st := s.m.Status()
		must(t, s.d.checkJournal("c1", st.From, st.Mark))
	}
}

// Two lanes of one store never claim the same window, whatever they are told
// after the first time.
func TestLanes(t *testing.T) {
	s := newStage(t)
	for second := 0; second <= 120; second += 15 {
		s.tick(second, true)
	}
	cfg := testConfig
	cfg.From = s.start.Add(time.Hour)
	again, err := open(cfg, s.d, s.w, s.clk)
	must(t, err)
	if got := again.Status(); !got.From.Equal(s.start) || !got.Mark.Equal(s.m.Status().Mark) {
		t.Errorf("the live lane from %v, mark %v; want %v, %v", got.From, got.Mark, s.start, s.m.Status().Mark)
	}
	cfg.Lane, cfg.From, cfg.To = "history", s.start.Add(-time.Hour), s.start
	history, err := open(cfg, s.d, s.w, s.clk)
	must(t, err)
	s.clk.Advance(time.Hour)
	_, err = history.Settle(context.Background())
	must(t, err)
	if got := history.Status(); !got.Mark.Equal(s.start) {
		t.Errorf("history settled up to %v, want %v", got.Mark, s.start)
	}
	must(t, s.d.checkJournal("c1", s.start.Add(-time.Hour), s.m.Status().Mark))
}

// A second Settle changes nothing.
func TestSettleAgain(t *testing.T) {
	s := newStage(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for second := 0; second <= 300; second += 10 + rng.IntN(10) {
		s.tick(second, true)
		if n, err := s.m.Settle(context.Background()); n != 0 || err != nil {
			t.Fatalf("a second Settle at %d s wrote %d windows, err %v", second, n, err)
		}
	}
}
