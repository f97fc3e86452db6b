package processors

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// countedNodes are a box of two nodes of one hardware, of which both are half busy: one of
// them by the processors' own counter draws three times as much above idle.
func countedNodes(processor *ProcessorModel) PowerInput {
	in := PowerInput{Window: schema.Window{From: epoch0, To: epoch0.Add(2 * time.Minute)}, Box: Box{Name: "box", IdlePolicy: IdleNone}}
	for i, energy := range []int64{1_200_000, 3_600_000} { // 20 W and 60 W
		node := Node{Cluster: "a", Name: string(rune('m' + i)), Hardware: Hardware{IdleMilliwatts: 30_000, MaxMilliwatts: 130_000, Uncertainty: 96_000, Processor: processor}}
		for m := range 2 {
			node.Minutes = append(node.Minutes, NodeMinute{Time: epoch0.Add(time.Duration(m) * time.Minute), CPU: 240_000_000, Capacity: 480_000_000,
				Uptime: 60_000, Processor: energy, HasProcessor: true, Pods: []Pod{{Namespace: "ns", Pod: "p", UID: "p", CPU: 240_000_000, Uptime: 60_000}}})
		}
		in.Nodes = append(in.Nodes, node)
	}
	in.Meters = []Meter{{Name: "plug", FromFirst: true, Readings: []Reading{{Time: in.Window.From, StepMillijoules: 1},
		{Time: in.Window.To, CounterMillijoules: 19_200_000, StepMillijoules: 1}, // 160 W
		{Time: in.Window.To.Add(time.Minute), CounterMillijoules: 28_800_000, StepMillijoules: 1}}}}
	return in
}

func byNode(r PowerResult) map[string]int64 {
	sums := make(map[string]int64)
	for _, row := range r.Rows {
		sums[row.Node] += row.Total()
	}
	return sums
}

// TestProcessorCounters: the meter's 160 W less 60 W of idle are shared as the
// processors' counters say, 1 to 3; without a model of them, as utilisation says,
// alike. Either way they add up to the meter.
func TestProcessorCounters(t *testing.T) {
	model := &ProcessorModel{BaseMicrowatts: 10_000_000, Slope: 1_500_000, Uncertainty: 20_000} // 40 W and 100 W: 10 and 70 above idle
	for name, test := range map[string]struct {
		change func(*PowerInput)
		want   map[string]int64 // mJ of two minutes
	}{
		"counted":    {func(*PowerInput) {}, map[string]int64{"m": 3_600_000 + 1_500_000, "n": 3_600_000 + 10_500_000}},
		"no counter": {func(in *PowerInput) { in.Nodes = without(in.Nodes) }, map[string]int64{"m": 9_600_000, "n": 9_600_000}},
		"no model": {func(in *PowerInput) {
			for i := range in.Nodes {
				in.Nodes[i].Hardware.Processor = nil
			}
		}, map[string]int64{"m": 9_600_000, "n": 9_600_000}},
		"a counter gone wrong": {func(in *PowerInput) { // 40 TW: not believed, here or in the other minute
			for i := range in.Nodes {
				for m := range in.Nodes[i].Minutes {
					in.Nodes[i].Minutes[m].Processor = 1 << 62
				}
			}
		}, map[string]int64{"m": 9_600_000, "n": 9_600_000}},
	} {
		in := countedNodes(model)
		test.change(&in)
		result, err := Power{}.Process(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := byNode(result)
		delete(got, schema.BoxCluster)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if sum := got["m"] + got["n"]; sum != 19_200_000 || result.Box.Measured != sum {
			t.Errorf("%s: rows hold %d mJ, the meter counted 19,200,000", name, sum)
		}
	}
	// What is counted, and its model, are part of the fingerprint.
	prints := make(map[string]string)
	for name, change := range map[string]func(*PowerInput){
		"as it was":   func(*PowerInput) {},
		"no counter":  func(in *PowerInput) { in.Nodes = without(in.Nodes) },
		"other count": func(in *PowerInput) { in.Nodes[0].Minutes[1].Processor++ },
		"other model": func(in *PowerInput) { in.Nodes[0].Hardware.Processor = &ProcessorModel{Slope: 1} },
		"no model":    func(in *PowerInput) { in.Nodes[0].Hardware.Processor = nil },
	} {
		in := countedNodes(model)
		change(&in)
		print := Power{}.Fingerprint(in)
		if same, taken := prints[print]; taken {
			t.Errorf("%s has the fingerprint of %s", name, same)
		}
		prints[print] = name
	}
}

func without(nodes []Node) []Node {
	for i := range nodes {
		for m := range nodes[i].Minutes {
			nodes[i].Minutes[m].HasProcessor = false
		}
	}
	return nodes
}

// TestProcessorQuarters: a meter interval that reaches over two quarters, of which only
// the second has the counter, is the same interval seen from either: together they
// hold the meter's growth.
func TestProcessorQuarters(t *testing.T) {
	node := Node{Cluster: "a", Name: "n", Hardware: Hardware{IdleMilliwatts: 30_000, MaxMilliwatts: 130_000, Processor: &ProcessorModel{Slope: 1_500_000}}}
	for m := range 30 {
		node.Minutes = append(node.Minutes, NodeMinute{Time: epoch0.Add(time.Duration(m) * time.Minute), CPU: int64(m) * 10_000_000, Capacity: 480_000_000, Uptime: 60_000,
			Processor: 4_000_000, HasProcessor: m >= 20})
	}
	meter := Meter{Name: "plug", FromFirst: true, Readings: []Reading{{Time: epoch0, StepMillijoules: 1}, {Time: epoch0.Add(30 * time.Minute), CounterMillijoules: 123_456_789, StepMillijoules: 1},
		{Time: epoch0.Add(31 * time.Minute), CounterMillijoules: 130_000_000, StepMillijoules: 1}}}
	var sum int64
	for q := range 2 {
		w := schema.WindowAt(epoch0.Add(time.Duration(q)*schema.Quarter), schema.Quarter)
		result, err := Power{}.Process(PowerInput{Window: w, Box: Box{Name: "box"}, Nodes: []Node{node}, Meters: []Meter{meter}})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range result.Rows {
			sum += row.Measured
		}
	}
	if sum != 123_456_789 {
		t.Errorf("two quarters hold %d mJ of one interval, the meter counted 123,456,789", sum)
	}
}
