package meter

import (
	"context"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// body is a reading of the node in which each series has a moment of its own, in
// seconds since the start: the pod uses a whole core from its first reading on,
// and the node nothing else.
func (s *stage) body(received int, node, kube, pod int) {
	s.t.Helper()
	s.clk.Set(s.start.Add(time.Duration(received) * time.Second))
	b := reading.Body{Node: "n", Received: s.clk.Now(), NewestSample: s.start.Add(time.Duration(max(node, kube, pod)) * time.Second)}
	if s.tells {
		b.NodeTime = s.clk.Now()
	}
	for id, second := range map[reading.Series]int{
		{Kind: reading.Node, Node: "n"}:                                        node,
		{Kind: reading.Kubepods, Node: "n"}:                                    kube,
		{Kind: reading.Pod, Node: "n", Namespace: "ns", Pod: "p", PodUID: "u"}: pod,
	} {
		r := reading.Reading{Series: id, Time: s.start.Add(time.Duration(second) * time.Second), Epoch: s.start.Add(-time.Hour)}
		used := int64(second+10_000) * 1e6
		r.Values.Set(reading.CPU, used)
		switch id.Kind {
		case reading.Node: // its pod sends to another one on the node: no interface sees it
			r.Values.Set(reading.NetworkReceive, used/100)
			r.Values.Set(reading.NetworkTransmit, used/100)
		case reading.Pod:
			r.Values.Set(reading.NetworkReceive, used)
			r.Values.Set(reading.NetworkTransmit, used/2)
		}
		b.Readings = append(b.Readings, r)
	}
	must(s.t, s.m.Add(context.Background(), []reading.Body{b}))
	s.settle()
}

// A node that was kept from counting, and answers with samples of 35 s ago, has no
// clock that is behind: what a pod used stays where it was used. Of a node that does
// not tell its clock nobody knows, which is the control.
func TestNodeThatCountedLate(t *testing.T) {
	for tells, want := range map[bool][]int64{true: {45e6, 60e6, 60e6}, false: {18_750_000, 86_250_000, 60e6}} {
		s := newStage(t)
		s.tells = tells
		s.body(16, 15, 15, 15)
		s.body(75, 40, 40, 40)
		for second := 90; second <= 255; second += 15 {
			s.body(second, second, second, second)
		}
		if diff := cmp.Diff(want, s.cpu("ns", 3)); diff != "" {
			t.Errorf("pod by minute, of a node that tells its clock: %t (-want +got):\n%s", tells, diff)
		}
	}
}

func in(namespace string) func(tag func(string) string) bool {
	return func(tag func(string) string) bool { return tag(schema.Namespace) == namespace }
}

// What the parts of a node counted before the node itself was read first is the
// node's too: its own work is never below zero for that. The counters' growth
// alone would say so, which is the control.
func TestNodeThatIsReadAfterItsPods(t *testing.T) {
	for name, first := range map[string][3]int{"node last": {15, 8, 2}, "parent last": {8, 15, 2}, "pod last": {2, 8, 15}} {
		s := newStage(t)
		s.body(16, first[0], first[1], first[2])
		for second := 30; second <= 195; second += 15 {
			s.body(second, second, second, second)
		}
		if own, kube := s.m.nodes["n"].own.steps[0].from, s.m.nodes["n"].kube.steps[0].from; name == "node last" && own <= kube {
			t.Errorf("%s: the control sees no difference", name)
		}
		everything := func(func(string) string) bool { return true }
		counted := func(second int) int64 { return int64(60-second) * 1e6 }
		if got, want := s.sums("node", schema.CPU, 3, everything), []int64{counted(min(first[0], first[1], first[2])), 60e6, 60e6}; !cmp.Equal(got, want) {
			t.Errorf("%s: node %v, want %v", name, got, want)
		}
		if got, want := s.sums("pod", schema.CPU, 3, ofPod), []int64{counted(first[2]), 60e6, 60e6}; !cmp.Equal(got, want) {
			t.Errorf("%s: pod %v, want %v", name, got, want)
		}
		for _, rest := range []string{schema.SystemNamespace, schema.UnattributedNamespace} {
			for i, cpu := range s.sums("pod", schema.CPU, 3, in(rest)) {
				if cpu < 0 || i > 0 && cpu != 0 {
					t.Errorf("%s: %s has %d in minute %d", name, rest, cpu, i)
				}
			}
		}
		must(t, s.d.checkAddsUp())
	}
}

// A node's network is its pods'; what its interfaces counted stands beside it, and
// nobody's share is a difference of the two.
func TestNetworkOfNodes(t *testing.T) {
	s := newStage(t)
	for second := 0; second <= 195; second += 15 {
		s.body(second, second, second, second)
	}
	everything := func(func(string) string) bool { return true }
	for field, want := range map[string]int64{schema.NetworkReceive: 60e6, schema.NetworkTransmit: 30e6, schema.InterfaceReceive: 600_000, schema.InterfaceTransmit: 600_000} {
		if got := s.sums("node", field, 2, everything); !cmp.Equal(got, []int64{want, want}) {
			t.Errorf("node, %s: %v, want %d", field, got, want)
		}
	}
	for _, field := range []string{schema.NetworkReceive, schema.NetworkTransmit} {
		if got := s.sums("pod", field, 2, in(schema.SystemNamespace)); !cmp.Equal(got, []int64{0, 0}) {
			t.Errorf("__system__, %s: %v, want none", field, got)
		}
	}
	must(t, s.d.checkAddsUp())
}

// A node that is described, and an owner that is told, after a pod's first minute
// are in the pod's rows from then on; minutes that had settled stay, also after a
// restart, and no minute has two rows.
func TestFactsThatComeLate(t *testing.T) {
	s := newStage(t)
	delete(s.w.facts, "n")
	s.w.pods[0].OwnerKnown = false
	s.ticks(0, 900) // beyond the deadline of facts
	s.w.facts["n"] = reading.Facts{Box: "b", CPUType: "xeon"}
	s.w.pods[0].OwnerKnown = true
	s.ticks(915, 1800)
	s.restart()
	s.ticks(1815, 2100)
	boxes, minutes := make(map[string]int), make(map[int64]int)
	newest := time.Time{}
	for id, p := range s.d.minute.rows["pod"] {
		if p.Tag(schema.PodUID) != "u" || p.Int(schema.CPU) == 0 {
			continue
		}
		boxes[p.Tag(schema.Box)+" "+p.Tag(schema.Workload)]++
		if minutes[id.at]++; minutes[id.at] > 1 {
			t.Errorf("%s has two rows", p.Time)
		}
		if p.Tag(schema.Box) == schema.Unknown && p.Time.After(newest) {
			newest = p.Time
		}
	}
	if boxes["b j"] == 0 || boxes[schema.Unknown+" "+schema.Unknown] == 0 {
		t.Errorf("rows by box and workload: %v; want some of each", boxes)
	}
	if known := s.start.Add(15 * time.Minute); newest.After(known) {
		t.Errorf("unknown until %s, the node was described at %s", newest, known)
	}
	if n := len(s.m.nodes["n"].pods["u"].tags); n < 2 || n > 3 {
		t.Errorf("%d identities, want what was unknown and what is known", n)
	}
	must(t, s.d.checkAddsUp())
}
