package work

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/meters"
	chosen "github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/processors/models"
)

// drawnBy is the power that a node's processors count in a quarter, W: the instructions
// of the load decide, not only how long they take.
func drawnBy(node string, quarter int) float64 {
	heavy := (quarter*31+len(node))%5 >= 2
	load := float64(loadAt(quarter+len(node))) / 600
	if heavy {
		return 5 + 120*load
	}
	return 5 + 40*load
}

func wallOf(node string, quarter int) float64 { return 40 + 1.2*drawnBy(node, quarter) }

// countedFleet is two nodes behind one plug.
func countedFleet() []fleet.Object {
	return append(rackedFleet(), meterObject(), fleet.NewObject("a.node2", fleet.Node{Cluster: "a", Node: "node2", Box: "rack", Hardware: "server"}))
}

// countedQuarters lets both nodes run: how their processors' energy comes is the
// caller's.
func (w *world) countedQuarters(from, to int, rows bool, push func(node string, at time.Time, counter int64)) {
	w.t.Helper()
	plug := int64(1_000_000)
	counters := map[string]int64{"n1": 0, "node2": 5_000_000}
	for q := range to {
		for _, minute := range minutes(15*q, 15*q+15).Split(schema.Minute) {
			if q >= from {
				w.reading("plug", minute.From, plug)
			}
			for node := range counters {
				if q >= from && push != nil {
					push(node, minute.From, counters[node])
				}
				counters[node] += int64(math.Round(drawnBy(node, q) * 60_000))
				plug += int64(math.Round(wallOf(node, q) * 60_000))
			}
		}
		if q >= from {
			w.countedRows(q, rows)
		}
	}
	w.reading("plug", at(15*to), plug)
	for node := range counters {
		if push != nil {
			push(node, at(15*to), counters[node])
		}
	}
	w.clk.Set(at(15*to + 1))
	w.tick()
}

func (w *world) reading(meter string, at time.Time, counter int64) {
	w.t.Helper()
	if err := w.readings.Write(w.t.Context(), []meters.Reading{{Box: "rack", Meter: meter, Time: at, Received: at, Epoch: start,
		CounterMillijoules: counter, HasCounter: true, StepMillijoules: 1000}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) countedRows(quarter int, rows bool) {
	window := minutes(15*quarter, 15*quarter+15)
	var nodes, pods []influxsync.Point
	for _, minute := range window.Split(schema.Minute) {
		for _, node := range []string{"n1", "node2"} {
			cpu := loadAt(quarter+len(node)) * 1e6
			values := map[string]int64{schema.CPU: cpu, schema.CapacityCPU: 600e6, schema.AllocatableCPU: 600e6, schema.Uptime: 60_000, schema.Coverage: 60}
			if rows {
				values[schema.ProcessorEnergy] = int64(math.Round(drawnBy(node, quarter) * 60_000))
			}
			nodes = append(nodes, followertest.Row(schema.NodeMinute, minute.From, map[string]string{schema.Cluster: "a", schema.Node: node}, values))
			pods = append(pods, followertest.Row(schema.PodMinute, minute.From, map[string]string{schema.Cluster: "a", schema.Node: node, schema.Namespace: "web",
				schema.Pod: "p-" + node, schema.PodUID: "uid-" + node, schema.WorkloadKind: "Deployment", schema.Workload: node},
				map[string]int64{schema.CPU: cpu, schema.Uptime: 60_000, schema.Coverage: 60}))
		}
	}
	w.follower("a").Settle(schema.NodeMinute, window, nodes...)
	w.follower("a").Settle(schema.PodMinute, window, pods...)
}

// TestProcessorsLearnedAndUsed: a box whose power goes by what its processors do, not
// by how long. With their counters, in the node's own rows or from a meter of the role
// rapl, the model of them is learned from the plug, shown, and shares the plug's energy
// between the nodes rightly; without them it cannot. Each way the rows add up to the
// plug.
func TestProcessorsLearnedAndUsed(t *testing.T) {
	for name, test := range map[string]struct {
		rows, meters, want bool
	}{
		"in the node's rows": {true, false, true},
		"role rapl":          {false, true, true},
		"control: neither":   {false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{}, countedFleet()...)
			var push func(string, time.Time, int64)
			if test.meters {
				for _, node := range []string{"a.n1", "a.node2"} {
					w.apply(fleet.NewObject("rapl-"+node[2:], fleet.Meter{Box: "rack", Node: node, Role: fleet.RoleRAPL, Driver: fleet.DriverPush}))
				}
				push = func(node string, at time.Time, counter int64) { w.reading("rapl-"+node, at, counter) }
			}
			k := w.keeper()
			w.pass(k)
			const quarters = 45
			w.countedQuarters(0, quarters, test.rows, push)
			w.pass(k)
			checkLearned(t, w, k, test.want)
			w.countedQuarters(quarters, quarters+4, test.rows, push)
			window := minutes(15*quarters+15, 15*quarters+45)
			got := sumBy(w.rows(schema.EnergyMinute, "a", window), schema.Node, energyFields...)
			var worst float64
			var plug int64
			for _, node := range []string{"n1", "node2"} {
				var truth float64
				for q := quarters + 1; q < quarters+3; q++ {
					truth += wallOf(node, q) * 900_000
					for range 15 {
						plug += int64(math.Round(wallOf(node, q) * 60_000))
					}
				}
				worst = max(worst, math.Abs(float64(got[node])-truth)/truth)
			}
			if sum := got["n1"] + got["node2"]; sum != plug || total(w.rows(schema.BoxMinute, schema.BoxCluster, window), schema.EnergyMeasured) != plug {
				t.Errorf("rows hold %d mJ, the plug counted %d", sum, plug)
			}
			t.Logf("nodes off by up to %.2f %%", 100*worst)
			if (worst < 0.02) != test.want {
				t.Errorf("nodes off by up to %.2f %%, want below 2 %%: %v", 100*worst, test.want)
			}
			before := len(w.states())
			w.pass(k)
			if len(w.states()) != before {
				t.Errorf("what was learned was learned again: %d states, then %d", before, len(w.states()))
			}
		})
	}
}

func checkLearned(t *testing.T, w *world, k *chosen.Keeper, want bool) {
	t.Helper()
	learnings, err := w.books.Learnings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var outcome chosen.Outcome
	if err := json.Unmarshal(learnings["rack"].Outcome, &outcome); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; %s", outcome.Why, outcome.Processors)
	if (outcome.Processors != "") != want {
		t.Errorf("said of the counters: %q", outcome.Processors)
	}
	w.clk.Set(w.clk.Now().Add(2 * time.Minute))
	answer, err := k.Answer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, m := range answer.Models {
		if m.Box == "rack" && m.Kind == models.KindRAPL {
			found = true
			if p := m.Processors; p == nil || math.Abs(p.Slope-1.2) > 0.02 || math.Abs(p.BaseWatts-40) > 1 || m.ErrorPercent > 0.5 || len(m.Points) == 0 {
				t.Errorf("shown as %+v, %.2f %% off, want 40 W + 1.2 × RAPL", p, m.ErrorPercent)
			}
		}
	}
	if found != want {
		t.Errorf("a model of the counters in use: %v, want %v of %d", found, want, len(answer.Models))
	}
}
