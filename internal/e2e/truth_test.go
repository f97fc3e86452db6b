package e2e

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
)

// rounding is how many core-µs whole numbers alone may take from a sum of a
// few series.
const rounding = 8

// checkPods compares each pod's minutes in the window with what the simulator
// says that it used, within what straight lines between readings cost: a
// quarter of rate change × gap at each end. Minutes in which the pod starts or
// ends, or its node boots, are left to the laws of sums.
func checkPods(t testing.TB, w *world, cluster string, pods []influxsync.Point, window schema.Window) {
	t.Helper()
	gap := w.sim.Fleet().Housekeeping.MaxGap(w.interval)
	rows := sums(pods, schema.CPU, isPod, schema.PodUID, "time")
	checked, worst := 0, 0.0
	for _, i := range w.sim.Instances(cluster, window.From, window.To) {
		bound := w.sim.RateChangeBound(i, gap)*gap.Seconds()*1e6/2 + rounding
		for _, m := range window.Split(schema.Minute) {
			if m.From.Add(-gap).Before(i.Start) || !i.End.IsZero() && !m.To.Add(gap).Before(i.End) || boots(w.sim, cluster, i.Node, m, gap) {
				continue
			}
			want, got := w.sim.CoreMicroseconds(i, m.From, m.To), rows[i.UID+" "+m.From.Format(time.RFC3339)]
			off := math.Abs(float64(got - want))
			if off > bound {
				t.Errorf("%s: pod %s used %d core-µs in %s, got %d, bound %.0f", cluster, i.Name, want, m, got, bound)
			}
			checked, worst = checked+1, max(worst, off/float64(want))
		}
	}
	t.Logf("%s: %d minutes of pods compared with the truth; the worst is off by %.2f%%", cluster, checked, 100*worst)
	if checked < 30 {
		t.Errorf("%s: only %d minutes of pods", cluster, checked)
	}
}

// boots says whether a node's counters begin anew near a window.
func boots(sim *simulator.Server, cluster, node string, w schema.Window, gap time.Duration) bool {
	for _, c := range sim.Fleet().Clusters {
		for _, n := range c.Nodes {
			for _, boot := range n.Boots {
				if c.Name == cluster && n.Name == node && boot.After(w.From.Add(-gap)) && boot.Before(w.To.Add(gap)) {
					return true
				}
			}
		}
	}
	return false
}

// checkBalance holds the running sum of what no pod was given, from the first
// whole window on, within a bound: the simulator's own, and for constant rates
// a millionth of what the node used.
func checkBalance(t testing.TB, w *world, cluster, node string, m minutes, window schema.Window, constant bool) {
	t.Helper()
	of := func(namespace string) func(influxsync.Point) bool {
		return func(p influxsync.Point) bool {
			return p.Tag(schema.Node) == node && (namespace == "" || p.Tag(schema.Namespace) == namespace)
		}
	}
	rests := sums(m.pods, schema.CPU, of(schema.UnattributedNamespace), "time")
	used := sums(m.nodes, schema.CPU, of(""), "time")
	gap := w.sim.Fleet().Housekeeping.MaxGap(w.interval)
	bound := w.sim.BalanceBound(cluster, node, window.From, window.To, gap) + rounding
	var balance, total, worst int64
	for _, minute := range window.Split(schema.Minute) {
		id := minute.From.Format(time.RFC3339)
		if _, ok := used[id]; !ok {
			t.Errorf("%s/%s: no window %s", cluster, node, id)
		}
		balance, total = balance+rests[id], total+used[id]
		if constant {
			bound = float64(total) / 1e6
		}
		if off := math.Abs(float64(balance)); off > bound {
			t.Errorf("%s/%s: balance %d at %s is beyond %.0f", cluster, node, balance, id, bound)
		}
		worst = max(worst, balance, -balance)
	}
	t.Logf("%s/%s: balance at most %d of %d core-µs, bound %.0f", cluster, node, worst, total, bound)
}

// checkNodes compares a node's minutes with the truth.
func checkNodes(t testing.TB, w *world, cluster string, nodes []influxsync.Point, window schema.Window) {
	t.Helper()
	within := func(p influxsync.Point) bool { return window.Contains(p.Time) }
	got := sums(nodes, schema.CPU, within, schema.Node)
	for _, c := range w.sim.Fleet().Clusters {
		for _, n := range c.Nodes {
			if c.Name != cluster || boots(w.sim, cluster, n.Name, window, 0) {
				continue
			}
			want := w.sim.NodeCoreMicroseconds(cluster, n.Name, window.From, window.To)
			// The ends of the window are cut within a gap at most, by a node's rate.
			bound := int64(n.Cores) * w.sim.Fleet().Housekeeping.MaxGap(w.interval).Microseconds()
			if d := got[n.Name] - want; d > bound || -d > bound {
				t.Errorf("%s/%s used %d core-µs, got %d", cluster, n.Name, want, got[n.Name])
			} else {
				t.Logf("%s/%s: %s", cluster, n.Name, fmt.Sprintf("%d core-µs of %d (%+.4f%%)", got[n.Name], want, 100*float64(d)/float64(want)))
			}
		}
	}
}
