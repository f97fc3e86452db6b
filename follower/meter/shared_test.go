package meter

import (
	"context"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// lodgers are nodes that are containers on one host and read its root group.
type lodgers struct {
	*stage
	cfg   Config
	names []string
}

func newLodgers(t *testing.T, cfg Config) *lodgers {
	t.Helper()
	s := newStage(t)
	s.w.pods, s.w.nodes, s.w.facts = nil, nil, map[string]reading.Facts{}
	l := &lodgers{stage: s, cfg: cfg, names: []string{"a", "b", "c"}}
	for _, name := range l.names {
		s.w.facts[name] = reading.Facts{Box: "b"}
		s.w.nodes = append(s.w.nodes, reading.NodeInfo{Name: name, UID: name, BootID: "host", CapacityMillicores: 4000, AllocatableMilli: 4000})
	}
	l.reopen()
	return l
}

func (l *lodgers) reopen() {
	l.t.Helper()
	var err error
	l.m, err = open(l.cfg, l.d, l.w, l.clk)
	must(l.t, err)
}

// host is the host's counter at a second, pods what the pods of the node used
// until then: 1/8, 2/8 and 3/8 of a core.
func host(second int) int64          { return int64(second+10_000) * 1_000_003 }
func pods(node, second int) int64    { return int64(second+10_000) * int64(node+1) * 125_001 }
func memoryOfHost(second int) int64  { return 1<<30 + int64(second)*4096 }
func memoryOfPods(node, _ int) int64 { return int64(node+1) << 20 }

// read reads nodes, each a second after the other one.
func (l *lodgers) read(second int, nodes ...int) {
	l.t.Helper()
	l.clk.Set(l.start.Add(time.Duration(second) * time.Second))
	var bodies []reading.Body
	for _, i := range nodes {
		then := second - len(l.names) + i
		moment := l.start.Add(time.Duration(then) * time.Second)
		body := reading.Body{Node: l.names[i], Received: l.clk.Now(), NewestSample: moment}
		for _, of := range []struct {
			kind        reading.Kind
			cpu, memory int64
		}{{reading.Node, host(then), memoryOfHost(then)}, {reading.Kubepods, pods(i, then), memoryOfPods(i, then)}} {
			r := reading.Reading{Series: reading.Series{Kind: of.kind, Node: l.names[i]}, Time: moment, Epoch: l.start.Add(-3 * 3600e9)}
			r.Values.Set(reading.CPU, of.cpu)
			r.Values.Set(reading.Memory, of.memory)
			body.Readings = append(body.Readings, r)
		}
		bodies = append(bodies, body)
	}
	must(l.t, l.m.Add(context.Background(), bodies))
	l.settle()
}

func anything(func(string) string) bool { return true }

// TestHostIsCountedOnce: the nodes of one host add up to its counter in each
// minute, to the microsecond, whoever was read when; what no pod of the host used
// is shared by them alike. A node that is read late changes the others' shares to
// what they would have been. Control: without the setting the host counts thrice.
func TestHostIsCountedOnce(t *testing.T) {
	cfg := testConfig
	cfg.SharedRoot = true
	steady := newLodgers(t, cfg)
	for second := 0; second <= 600; second += 15 {
		steady.read(second, 0, 1, 2)
	}
	const minutes = 8
	node := steady.sums("node", schema.CPU, minutes, anything)
	system := steady.sums("pod", schema.CPU, minutes, func(tag func(string) string) bool { return tag(schema.Namespace) == schema.SystemNamespace })
	for m := 1; m < minutes; m++ { // the first has no reading at its begin
		if got, want := node[m], int64(60*1_000_003); got != want {
			t.Errorf("minute %d: the nodes count %d, the host %d", m, got, want)
		}
		if got, want := system[m], int64(60*(1_000_003-6*125_001)); got != want {
			t.Errorf("minute %d: %d beside the pods, want %d", m, got, want)
		}
		var shares []int64
		for _, name := range steady.names {
			shares = append(shares, steady.sums("pod", schema.CPU, minutes, func(tag func(string) string) bool {
				return tag(schema.Namespace) == schema.SystemNamespace && tag(schema.Node) == name
			})[m])
		}
		if low, high := min(shares[0], shares[1], shares[2]), max(shares[0], shares[1], shares[2]); high-low > 1 {
			t.Errorf("minute %d: shares %v", m, shares)
		}
	}
	memory := steady.sums("node", schema.Memory, minutes, anything)
	alone := newLodgers(t, cfg)
	for second := 0; second <= 600; second += 15 {
		alone.read(second, 0)
	}
	if diff := cmp.Diff(alone.sums("node", schema.Memory, minutes, anything)[1:], memory[1:]); diff != "" {
		t.Errorf("memory of the host (-one node +all):\n%s", diff)
	}

	late := newLodgers(t, cfg)
	for second := 0; second <= 600; second += 15 {
		if second > 120 && second < 420 {
			late.read(second, 0, 1)
		} else {
			late.read(second, 0, 1, 2)
		}
		if second == 300 {
			late.reopen()
		}
	}
	for _, name := range late.names {
		of := func(tag func(string) string) bool { return tag(schema.Node) == name }
		if diff := cmp.Diff(steady.sums("node", schema.CPU, minutes, of), late.sums("node", schema.CPU, minutes, of)); diff != "" {
			t.Errorf("node %s, one was read late (-steady +late):\n%s", name, diff)
		}
	}

	control := newLodgers(t, testConfig)
	for second := 0; second <= 600; second += 15 {
		control.read(second, 0, 1, 2)
	}
	if got := control.sums("node", schema.CPU, minutes, anything)[3]; got != 3*60*1_000_003 {
		t.Errorf("without the setting the host counts %d", got)
	}
}

// TestNodesOfTwoHosts: another boot id, or none, is another host.
func TestNodesOfTwoHosts(t *testing.T) {
	cfg := testConfig
	cfg.SharedRoot = true
	for _, boot := range []string{"other", ""} {
		l := newLodgers(t, cfg)
		l.w.nodes[2].BootID = boot
		for second := 0; second <= 300; second += 15 {
			l.read(second, 0, 1, 2)
		}
		if got := l.sums("node", schema.CPU, 3, anything)[2]; got != 2*60*1_000_003 {
			t.Errorf("boot id %q: two hosts count %d", boot, got)
		}
	}
}
