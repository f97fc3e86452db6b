package meter

import (
	"context"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// brief is a pod of a test: it uses a whole core from one moment to another.
type brief struct {
	uid      string
	from, to time.Duration // since the stage's start
	idle     time.Duration // from its start
	read     time.Duration // when it is read, once; 0: never
	limit    int64         // millicores; 0: none
}

// used is what it used until t, core-µs.
func (b brief) used(t time.Duration) int64 {
	return max(0, min(t, b.to)-b.from-b.idle).Microseconds()
}

// run reads a node every 15 s on which only these pods run. The watch tells of
// a pod what a kubelet does, from whole seconds on, delay after it was so.
func (s *stage) run(pods []brief, neighbour, delay time.Duration, seconds int) {
	s.t.Helper()
	s.w.pods = nil
	for second := 0; second <= seconds; second += 15 {
		now := time.Duration(second) * time.Second
		s.clk.Set(s.start.Add(now))
		b := reading.Body{Node: "n", Received: s.clk.Now(), NewestSample: s.clk.Now()}
		var all int64
		add := func(id reading.Series, at time.Duration, epoch time.Time, v int64) {
			r := reading.Reading{Series: id, Time: s.start.Add(at), Epoch: epoch}
			r.Values.Set(reading.CPU, v)
			b.Readings = append(b.Readings, r)
		}
		for _, p := range pods {
			all += p.used(now)
			if p.read > now-15*time.Second && p.read <= now && p.read != 0 {
				add(reading.Series{Kind: reading.Pod, Node: "n", Namespace: "ns", Pod: p.uid, PodUID: p.uid}, p.read, s.start.Add(p.from), p.used(p.read))
			}
		}
		if neighbour != 0 { // it uses this much of each second
			v := int64(second+15) * neighbour.Microseconds()
			all += v
			add(reading.Series{Kind: reading.Pod, Node: "n", Namespace: "long", Pod: "long", PodUID: "long"}, now, s.start.Add(-15*time.Second), v)
		}
		add(reading.Series{Kind: reading.Kubepods, Node: "n"}, now, s.start.Add(-time.Hour), all+1e9)
		add(reading.Series{Kind: reading.Node, Node: "n"}, now, s.start.Add(-time.Hour), all+2e9)
		must(s.t, s.m.Add(context.Background(), []reading.Body{b}))
		s.tell(pods, now, delay)
		s.settle()
	}
}

// tell has the watch tell what it knows at a moment.
func (s *stage) tell(pods []brief, now, delay time.Duration) {
	s.w.pods = append(s.w.pods[:0], reading.PodInfo{UID: "long", Namespace: "long", Name: "long", Node: "n", OwnerKnown: true,
		WorkloadKind: "Deployment", Workload: "long", Start: s.start.Add(-15 * time.Second)})
	for _, p := range pods {
		if now < p.from+delay {
			continue
		}
		info := reading.PodInfo{UID: p.uid, Namespace: "ns", Name: p.uid, Node: "n", OwnerKnown: true, WorkloadKind: "Job", Workload: "j",
			Start:      s.start.Add(p.from.Truncate(time.Second)),
			Containers: []reading.ContainerInfo{{Name: "c", RequestMillicores: 10, LimitMillicores: p.limit}}}
		if now >= p.to+delay {
			info.End = s.start.Add(p.to.Truncate(time.Second))
		}
		s.w.pods = append(s.w.pods, info)
	}
}

// given is what each pod of the test got, and the rest.
func (s *stage) given() map[string]int64 {
	sums := make(map[string]int64)
	for _, p := range s.d.minute.rows["pod"] {
		if p.Tag(schema.Namespace) != schema.SystemNamespace && (p.Tag(schema.PodUID) != "long" || p.Int(schema.CPU) != 0) {
			sums[p.Tag(schema.PodUID)] += p.Int(schema.CPU)
		}
	}
	return sums
}

// A pod that nobody read gets all that it used, wherever its life lies between
// the readings of its parent: its times are told in whole seconds, its start may
// be told after the reading that ends the slot before, and another pod may have
// begun in its last slot: the two have the slot by their time in it, of which the
// first one's is a second longer, since nobody tells when in that it ended.
func TestPodsThatNobodyRead(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		pods []brief
		want map[string]int64
	}{
		"late in its slot":           {[]brief{{uid: "a", from: 72_500 * ms, to: 73_900 * ms}}, map[string]int64{"a": 1_400_000}},
		"within a second":            {[]brief{{uid: "a", from: 67_100 * ms, to: 67_900 * ms}}, map[string]int64{"a": 800_000}},
		"over two slots":             {[]brief{{uid: "a", from: 73_100 * ms, to: 76_800 * ms}}, map[string]int64{"a": 3_700_000}},
		"over two minutes":           {[]brief{{uid: "a", from: 118_100 * ms, to: 121_300 * ms}}, map[string]int64{"a": 3_200_000}},
		"its end after a reading":    {[]brief{{uid: "a", from: 70_000 * ms, to: 75_900 * ms}}, map[string]int64{"a": 5_900_000}},
		"read once":                  {[]brief{{uid: "a", from: 70_000 * ms, to: 82_500 * ms, read: 78_000 * ms}}, map[string]int64{"a": 12_500_000}},
		"idle, then read once":       {[]brief{{uid: "a", from: 70_000 * ms, idle: 6_000 * ms, to: 82_500 * ms, read: 78_000 * ms}}, map[string]int64{"a": 6_500_000}},
		"another began at the end":   {[]brief{{uid: "a", from: 66_000 * ms, to: 69_000 * ms}, {uid: "b", from: 74_000 * ms, to: 80_000 * ms}}, map[string]int64{"a": 3_200_000, "b": 5_800_000}},
		"another goes on unread":     {[]brief{{uid: "a", from: 66_000 * ms, to: 69_000 * ms}, {uid: "b", from: 74_000 * ms, to: 110_000 * ms}}, map[string]int64{"a": 3_200_000, "b": 35_800_000}},
		"another in the next minute": {[]brief{{uid: "a", from: 106_000 * ms, to: 109_000 * ms}, {uid: "b", from: 119_000 * ms, to: 124_000 * ms}}, map[string]int64{"a": 3_200_000, "b": 4_800_000}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, delay := range []time.Duration{0, 2 * time.Second} {
				s := newStage(t)
				s.run(c.pods, 0, delay, 420)
				got := s.given()
				left := got[schema.UnattributedNamespace]
				delete(got, schema.UnattributedNamespace)
				if diff := cmp.Diff(c.want, got); diff != "" || left != 0 {
					t.Errorf("told after %s, %d is left (-want +got):\n%s", delay, left, diff)
				}
				before := len(s.d.journal["pod"].entries)
				s.restart()
				s.settle()
				if after := len(s.d.journal["pod"].entries); after != before {
					t.Errorf("told after %s: a restart made %d new entries", delay, after-before)
				}
			}
		})
	}
}

// Beside a neighbour whose rate stands still a pod that nobody read gets what it
// used and no more, and the neighbour loses nothing.
func TestUnreadBesideNeighbour(t *testing.T) {
	s := newStage(t)
	s.run([]brief{{uid: "a", from: 72 * time.Second, to: 75 * time.Second}}, 700*time.Millisecond, time.Second, 420)
	got := s.given()
	long := got["long"]
	delete(got, "long")
	if diff := cmp.Diff(map[string]int64{"a": 3_000_000, schema.UnattributedNamespace: 0}, got); diff != "" {
		t.Errorf("shares (-want +got):\n%s", diff)
	}
	if whole := s.sums("pod", schema.CPU, 5, func(tag func(string) string) bool { return tag(schema.PodUID) == "long" }); whole[1] != 42_000_000 {
		t.Errorf("the neighbour has %v, in all %d", whole, long)
	}
}

// No pod gets more than its limit or its node's processors could have given it:
// what is more stays unattributed.
func TestShareIsBounded(t *testing.T) {
	s := newStage(t)
	s.run([]brief{{uid: "a", from: 66 * time.Second, to: 69 * time.Second, limit: 500}}, 0, 0, 420)
	if diff := cmp.Diff(map[string]int64{"a": 2_000_000, schema.UnattributedNamespace: 1_000_000}, s.given()); diff != "" {
		t.Errorf("limit of half a core, and four seconds at most (-want +got):\n%s", diff)
	}
	s = newStage(t)
	s.w.nodes[0].CapacityMillicores = 200
	s.run([]brief{{uid: "a", from: 66 * time.Second, to: 69 * time.Second}}, 0, 0, 420)
	if diff := cmp.Diff(map[string]int64{"a": 800_000, schema.UnattributedNamespace: 2_200_000}, s.given()); diff != "" {
		t.Errorf("a node of a fifth of a core (-want +got):\n%s", diff)
	}
}
