package demo

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/processors"
)

// powerInput is what the leader knows of a box of the demonstration in a window:
// the minutes of its nodes and pods, as the truth has them, and what its meters
// showed. hardware is what is known of a node's power.
func powerInput(s *simulator.Simulator, box simulator.Box, w schema.Window, live time.Time, hardware func(simulator.Node) processors.Hardware) processors.PowerInput {
	in := processors.PowerInput{Window: w, Box: processors.Box{Name: box.Name, OverheadMilliwatts: int64(1000 * box.OverheadWatts)}}
	var others []processors.OtherBox
	for _, meter := range box.Meters {
		for _, beside := range s.Fleet().Boxes {
			if slices.Contains(meter.Beside, beside.Name) {
				other := powerInput(s, beside, w, live, hardware)
				others = append(others, processors.OtherBox{Name: other.Box.Name, OverheadMilliwatts: other.Box.OverheadMilliwatts, Nodes: other.Nodes, Meters: other.Meters})
			}
		}
		m := processors.Meter{Name: meter.Name, Cluster: meter.Cluster, Node: meter.Node, FromFirst: true, Others: others}
		for _, r := range meterHistory(s, box, meter, live) {
			m.Readings = append(m.Readings, processors.Reading{Time: r.Time, CounterMillijoules: r.CounterMillijoules, StepMillijoules: r.StepMillijoules})
		}
		in.Meters = append(in.Meters, m)
	}
	span, _ := processors.Span(w, in.Meters)
	clusters := make(map[string]bool)
	for _, cluster := range s.Fleet().Clusters {
		for _, n := range cluster.Nodes {
			if n.Box != box.Name {
				continue
			}
			clusters[cluster.Name] = true
			node := processors.Node{Cluster: cluster.Name, Name: n.Name, Hardware: hardware(n)}
			for _, minute := range span.Split(schema.Minute) {
				row := processors.NodeMinute{Time: minute.From, CPU: s.NodeCoreMicroseconds(cluster.Name, n.Name, minute.From, minute.To),
					Capacity: int64(n.Cores) * 60_000_000, Uptime: 60_000}
				system := row.CPU - s.KubepodsCoreMicroseconds(cluster.Name, n.Name, minute.From, minute.To)
				row.Pods = append(row.Pods, processors.Pod{Namespace: schema.SystemNamespace, Pod: schema.SystemNamespace, UID: schema.SystemNamespace, CPU: system})
				for _, i := range s.Instances(cluster.Name, minute.From, minute.To) {
					if cpu := s.CoreMicroseconds(i, minute.From, minute.To); i.Node == n.Name && cpu > 0 {
						row.Pods = append(row.Pods, processors.Pod{Namespace: i.Namespace, Pod: i.Name, UID: i.UID, CPU: cpu, Uptime: s.Alive(i, minute.From, minute.To).Milliseconds()})
					}
				}
				node.Minutes = append(node.Minutes, row)
			}
			in.Nodes = append(in.Nodes, node)
		}
	}
	in.Box.Shared = len(clusters) > 1
	return in
}

// Two ways of knowing a node's power: the line between its nameplate's watts, as the
// demonstration describes it, and its true curve.
func nameplate(n simulator.Node) processors.Hardware {
	spec := hardwareSpec(n)
	return processors.Hardware{IdleMilliwatts: int64(1000 * spec.IdleWatts), MaxMilliwatts: int64(1000 * spec.MaxWatts)}
}

func curve(n simulator.Node) processors.Hardware {
	var h processors.Hardware
	for i, watts := range n.Curve {
		h.Curve = append(h.Curve, processors.CurvePoint{Utilisation: processors.Full / processors.Utilisation(len(n.Curve)-1) * processors.Utilisation(i), Microwatts: int64(math.Round(1e6 * watts))})
	}
	return h
}

// TestEnergyAgainstTheTruth: over four hours of the demonstration, one of which a
// meter is dead, what the rows hold is what each meter counted, to the millijoule;
// and nodes and pods are as near to the truth as stated. What bounds them: the
// meter's gain (1.5 % at most), the model, and that a minute's energy is shared by
// the minute's CPU time while the curve bends within it.
func TestEnergyAgainstTheTruth(t *testing.T) {
	start := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	live := start.Add(fleetAge)
	s, err := simulator.New(simulator.DemoSince(start))
	if err != nil {
		t.Fatal(err)
	}
	w := schema.Window{From: start.Add(19 * time.Hour), To: start.Add(23 * time.Hour)}
	for name, test := range map[string]struct {
		hardware  func(simulator.Node) processors.Hardware
		node, pod float64 // %
	}{
		"line between idle and full": {nameplate, 7.5, 17},
		"the true curve":             {curve, 2.5, 6},
	} {
		for _, box := range s.Fleet().Boxes {
			in := powerInput(s, box, w, live, test.hardware)
			result, err := processors.Power{}.Process(in)
			if err != nil {
				t.Fatal(err)
			}
			checkConserved(t, s, box, w, result)
			ofNode, ofPod := make(map[string]int64), make(map[string]int64)
			for _, row := range result.Rows {
				ofNode[row.Cluster+"/"+row.Node] += row.Active + row.Idle
				ofPod[row.UID] += row.Active
			}
			var worstNode, worstPod float64
			for _, n := range in.Nodes {
				truth := s.NodeMillijoules(n.Cluster, n.Name, w.From, w.To)
				off := 100 * (float64(ofNode[n.Cluster+"/"+n.Name])/float64(truth.Active+truth.Idle) - 1)
				worstNode = math.Max(worstNode, math.Abs(off))
				for _, i := range s.Instances(n.Cluster, w.From, w.To) {
					if i.Node != n.Name || i.Start.After(w.From) || !i.End.IsZero() {
						continue
					}
					off := 100 * (float64(ofPod[i.UID])/float64(s.PodMillijoules(i, w.From, w.To).Active) - 1)
					worstPod = math.Max(worstPod, math.Abs(off))
				}
			}
			t.Logf("%s, %s: nodes within %.2f %%, pods' active energy within %.2f %%", name, box.Name, worstNode, worstPod)
			if worstNode > test.node || worstPod > test.pod {
				t.Errorf("%s, %s: nodes off by up to %.2f %% (at most %v), pods by %.2f %% (%v)", name, box.Name, worstNode, test.node, worstPod, test.pod)
			}
		}
	}
}

// checkConserved: the rows hold what the box's meter counted, in all minutes, also
// those in which it was dead.
func checkConserved(t *testing.T, s *simulator.Simulator, box simulator.Box, w schema.Window, result processors.PowerResult) {
	t.Helper()
	var measured, counted, other int64
	for _, row := range result.Rows {
		measured += row.Measured
		other += row.Total() - row.Measured
	}
	for _, i := range result.Intervals {
		if counted += i.Measured; !i.Closed {
			t.Errorf("%s: the interval from %s is open", box.Name, i.From)
		}
	}
	if measured != counted || measured != result.Box.Measured || other != 0 {
		t.Errorf("%s: rows hold %d mJ, the meter counted %d, %d are not measured", box.Name, measured, counted, other)
	}
	gain, step := box.Meters[0].Gain, s.MeterStep(box.Name, box.Meters[0].Name, w.To)
	if gain == 0 {
		gain = 1
	}
	// At both ends the counter is interpolated: by up to the gain's worth of a step,
	// and what a wrong model misplaces within one interval.
	truth := gain * float64(s.BoxMillijoules(box.Name, w.From, w.To))
	for _, beside := range s.Fleet().Boxes {
		if slices.Contains(box.Meters[0].Beside, beside.Name) { // what its own meter shows too much is taken off here
			truth -= (beside.Meters[0].Gain - 1) * float64(s.BoxMillijoules(beside.Name, w.From, w.To))
		}
	}
	if off := math.Abs(float64(measured) - truth); off > float64(2*step)+truth/500 {
		t.Errorf("%s: measured %d mJ, its meter saw %.0f", box.Name, measured, truth)
	}
}
