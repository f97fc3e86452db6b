package processors

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// siteBoxes makes a world's box into several that its meters count together: node i
// stands in box i.
func siteBoxes(w *world, boxes int) []PowerInput {
	inputs := make([]PowerInput, boxes)
	names := []string{"box-a", "box-b", "box-c", "box-d"}
	of := func(b int) (nodes []Node) {
		for i, n := range w.in.Nodes {
			if i%boxes == b {
				nodes = append(nodes, n)
			}
		}
		return nodes
	}
	for b := range inputs {
		in := w.in
		in.Box.Name, in.Nodes = names[b], of(b)
		in.Box.OverheadMilliwatts = int64(1000 * b)
		in.Meters = slices.Clone(w.in.Meters)
		for m := range in.Meters {
			for o := range boxes {
				if o != b {
					in.Meters[m].Others = append(in.Meters[m].Others, OtherBox{Name: names[o], OverheadMilliwatts: int64(1000 * o), Nodes: of(o)})
				}
			}
		}
		inputs[b] = in
	}
	return inputs
}

// TestMeterOverSeveralBoxes: over each interval of a meter that counts several
// boxes, the rows of all of them hold what it grew by, to the millijoule, whatever
// is wrong with rows and readings.
func TestMeterOverSeveralBoxes(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		w := newWorld(rng, worldConfig{nodes: 4, pods: 3, quarters: 3, meters: 1 + int(seed%2), step: 3_600_000, trouble: seed%3 > 0, curve: linearCurve})
		inputs := siteBoxes(w, 2+int(seed%3))
		span := schema.Window{From: epoch0.Add(-time.Duration(w.lead) * time.Minute), To: epoch0.Add(time.Duration(45+w.lead) * time.Minute)}
		var want, got int64
		for _, m := range w.in.Meters {
			for _, i := range m.Intervals() {
				want += i.Growth()
			}
		}
		var attributed, residual int64
		for _, in := range inputs {
			in.Window = span
			result, err := Power{}.Process(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range result.Intervals {
				if i.Closed {
					got += i.Measured
				}
			}
			for _, row := range result.Rows {
				attributed += row.Measured
			}
			for _, i := range result.Intervals {
				if i.Closed {
					residual += i.Residual
				}
			}
		}
		if got != want || attributed+residual != want {
			t.Fatalf("seed %d: the boxes have %d mJ (rows %d, of times that another meter did not run %d), the meters %d", seed, got, attributed, residual, want)
		}
		// Quarters that share an interval agree on it, and each input has its own fingerprint.
		for _, in := range inputs {
			var quarters int64
			in.Window = schema.Window{From: epoch0, To: epoch0.Add(3 * schema.Quarter)}
			whole, err := Power{}.Process(in)
			if err != nil {
				t.Fatal(err)
			}
			for q := range 3 {
				in.Window = schema.WindowAt(epoch0.Add(time.Duration(q)*schema.Quarter), schema.Quarter)
				part, err := Power{}.Process(in)
				if err != nil {
					t.Fatal(err)
				}
				quarters += part.Box.Measured
			}
			if quarters != whole.Box.Measured {
				t.Fatalf("seed %d: quarters of %s hold %d mJ, all of it %d", seed, in.Box.Name, quarters, whole.Box.Measured)
			}
		}
	}
}

// TestOtherBoxesAreInTheFingerprint: a row of another box that shares the meter
// changes what this one gets.
func TestOtherBoxesAreInTheFingerprint(t *testing.T) {
	w := newWorld(rand.New(rand.NewPCG(1, 2)), worldConfig{nodes: 2, pods: 2, quarters: 1, meters: 1, step: 3_600, curve: linearCurve})
	in := siteBoxes(w, 2)[0]
	before := Power{}.Fingerprint(in)
	other := slices.Clone(in.Meters[0].Others[0].Nodes)
	other[0].Minutes = slices.Clone(other[0].Minutes)
	other[0].Minutes[w.lead+5].CPU++
	in.Meters[0].Others = []OtherBox{{Name: in.Meters[0].Others[0].Name, OverheadMilliwatts: in.Meters[0].Others[0].OverheadMilliwatts, Nodes: other}}
	if (Power{}).Fingerprint(in) == before {
		t.Error("a row of the other box changed, and the fingerprint did not")
	}
	// So is what its own meter counted.
	own := Meter{Name: "own", FromFirst: true, Readings: slices.Clone(in.Meters[0].Readings)}
	in.Meters[0].Others[0].Meters = []Meter{own}
	before = Power{}.Fingerprint(in)
	own.Readings = slices.Clone(own.Readings)
	for i := len(own.Readings) / 2; i < len(own.Readings); i++ {
		own.Readings[i].CounterMillijoules += 3_600
	}
	in.Meters[0].Others[0].Meters = []Meter{own}
	if (Power{}).Fingerprint(in) == before {
		t.Error("the other box's own meter counted more, and the fingerprint did not change")
	}
}

// nodeMeter is a meter of one node of a world: twice what the model says of it, in
// steps of a millijoule, each 10 s.
func nodeMeter(t *testing.T, w *world, n int, factor int64) Meter {
	t.Helper()
	node := w.in.Nodes[n]
	minutes := w.lead + 15*w.quarters + w.lead
	span := schema.Window{From: epoch0.Add(-time.Duration(w.lead) * time.Minute)}
	span.To = span.From.Add(time.Duration(minutes) * time.Minute)
	own, err := newTimeline(span, PowerInput{Nodes: []Node{node}}, Linear{})
	if err != nil {
		t.Fatal(err)
	}
	m := Meter{Name: "of-node", Cluster: node.Cluster, Node: node.Name, FromFirst: true}
	for at := span.From; !at.After(span.To); at = at.Add(10 * time.Second) {
		m.Readings = append(m.Readings, Reading{Time: at, CounterMillijoules: factor * own.at(at) / 1000, StepMillijoules: 1, Epoch: 1})
	}
	return m
}

// TestMeterOfANode: the node's energy is what its own meter counted, the others get
// the rest of the box's, and the box's rows still add up to the box's meter.
func TestMeterOfANode(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 4))
		w := newWorld(rng, worldConfig{nodes: 3, pods: 3, quarters: 1, meters: 1, step: 3_600, curve: func(u float64) float64 { return 3 * u }})
		part := nodeMeter(t, w, 1, 2)
		in := w.quarter(0)
		in.Meters = append(slices.Clone(in.Meters), part)
		result, err := Power{}.Process(in)
		if err != nil {
			t.Fatal(err)
		}
		var rows, node, want int64
		for _, row := range result.Rows {
			rows += row.Measured
			if row.Node == part.Node && row.Cluster == part.Cluster {
				node += row.Active + row.Idle
			}
		}
		own := newCoverage(part, in.Window.To.Add(time.Hour), mustTimeline(t, in, part))
		want, _ = own.energy(in.Window.From, in.Window.To)
		whole, err := Power{}.Process(w.quarter(0))
		if err != nil {
			t.Fatal(err)
		}
		if rows != result.Box.Measured || result.Box.Measured == 0 {
			t.Fatalf("seed %d: rows hold %d mJ of %d", seed, rows, result.Box.Measured)
		}
		if result.Box.Measured < whole.Box.Measured/2 || node != want {
			t.Fatalf("seed %d: the node has %d mJ, its meter counted %d (box %d)", seed, node, want, result.Box.Measured)
		}
		var before int64 // control: without its meter it would have something else
		for _, row := range whole.Rows {
			if row.Node == part.Node && row.Cluster == part.Cluster {
				before += row.Active + row.Idle
			}
		}
		if before == node {
			t.Fatalf("seed %d: control: its meter changes nothing", seed)
		}
	}
}

func mustTimeline(t *testing.T, in PowerInput, part Meter) *timeline {
	t.Helper()
	span, _ := Span(in.Window, in.Meters)
	in.Nodes = slices.DeleteFunc(slices.Clone(in.Nodes), func(n Node) bool { return n.Name != part.Node || n.Cluster != part.Cluster })
	in.Box = Box{}
	l, err := newTimeline(span, in, Linear{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestMeterOfANodeInTrouble: with resets, gaps, absent nodes and a node's meter that
// counts more than the box's, the box's rows add up to the box's meter over each
// interval; quarters that share an interval agree; order does not matter.
func TestMeterOfANodeInTrouble(t *testing.T) {
	for seed := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w := newWorld(rng, worldConfig{nodes: 3, pods: 3, quarters: 3, meters: int(seed % 3), step: 3_600_000, trouble: true, curve: linearCurve})
		part := nodeMeter(t, w, 1, 1+int64(seed%9))
		part.Readings = slices.DeleteFunc(part.Readings, func(Reading) bool { return rng.IntN(20) == 0 })
		if seed%4 == 0 {
			part.Readings = part.Readings[:len(part.Readings)/2]
		}
		w.in.Meters = append(slices.Clone(w.in.Meters), part)
		in := w.quarter(0)
		in.Window.To = epoch0.Add(3 * schema.Quarter)
		whole, err := Power{}.Process(in)
		if err != nil {
			t.Fatal(err)
		}
		var quarters, rows int64
		for q := range 3 {
			result, err := Power{}.Process(w.shuffled(w.quarter(q)))
			if err != nil {
				t.Fatal(err)
			}
			quarters += result.Box.Measured
			for _, row := range result.Rows {
				rows += row.Measured
				if row.Active < 0 || row.Idle < 0 || row.Overhead < 0 {
					t.Fatalf("seed %d: negative row %+v", seed, row)
				}
			}
		}
		if whole.Box.Measured != quarters || rows != quarters {
			t.Fatalf("seed %d: %d mJ in one piece, %d in quarters, %d in rows", seed, whole.Box.Measured, quarters, rows)
		}
		for _, minute := range whole.Minutes {
			if minute.Residual != 0 {
				t.Fatalf("seed %d: minute %s has a residual of %d mJ", seed, minute.Time, minute.Residual)
			}
		}
	}
}

// TestOwnMetersWithinAMeterOfSeveral: over the intervals of a common meter, what the
// box with a meter of its own counted and what the others have of the common one is
// what the common one counted, but for the ends of the time; where the own one shows
// more, nothing is left, and that is flagged.
func TestOwnMetersWithinAMeterOfSeveral(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 11))
		w := newWorld(rng, worldConfig{nodes: 4, pods: 3, quarters: 3, meters: 1, step: 1000, curve: linearCurve})
		inputs := siteBoxes(w, 3)
		common := w.in.Meters[0]
		// box-a's own meter has readings at the same times: a part of each growth, or
		// with every fifth world more than all of it.
		part := 10 + rng.Int64N(60)
		if seed%5 == 4 {
			part = 130
		}
		own := Meter{Name: "own", FromFirst: common.FromFirst}
		for _, r := range common.Readings {
			r.CounterMillijoules = r.CounterMillijoules * part / 100
			own.Readings = append(own.Readings, r)
		}
		others := inputs[1:]
		for b := range others {
			for o := range others[b].Meters[0].Others {
				if other := &others[b].Meters[0].Others[o]; other.Name == "box-a" {
					other.Meters = []Meter{own}
				}
			}
		}
		span := schema.Window{From: epoch0.Add(-time.Duration(w.lead) * time.Minute), To: epoch0.Add(time.Duration(45+w.lead) * time.Minute)}
		var got, flagged int64
		closed := make(map[time.Time]time.Time) // intervals of the common meter that count
		for _, in := range others {
			in.Window = span
			result, err := Power{}.Process(in)
			if err != nil {
				t.Fatal(err)
			}
			flagged += result.Box.IdleAboveMeter
			for _, i := range result.Intervals {
				if i.Closed {
					got += i.Measured
					closed[i.From] = i.To
				}
			}
		}
		if len(closed) == 0 {
			continue
		}
		var want int64
		counting := newCoverage(own, span.To, nil)
		for _, i := range common.Intervals() {
			if closed[i.From].Equal(i.To) {
				at := func(when time.Time) int64 { // readings stand at the ends of the common intervals
					n, _ := slices.BinarySearchFunc(own.Readings, when, func(r Reading, t time.Time) int { return r.Time.Compare(t) })
					return own.Readings[n].CounterMillijoules
				}
				want += max(0, i.Growth()-(at(i.To)-at(i.From)))
			}
		}
		if part > 100 {
			if got != 0 || flagged == 0 {
				t.Errorf("seed %d: the own meter shows more than the common one: %d mJ are left, %d minutes flagged", seed, got, flagged)
			}
			continue
		}
		// The own counter is interpolated by the model within its intervals, which need
		// not end where the common ones do: over all of them that is a matter of the ends.
		slack := 2 * maxGrowth(counting.intervals)
		if off := got - want; off < -slack || off > slack {
			t.Errorf("seed %d: the others have %d mJ of the common meter, want %d within %d", seed, got, want, slack)
		}
	}
}

func maxGrowth(intervals []Interval) (most int64) {
	for _, i := range intervals {
		most = max(most, i.Growth())
	}
	return most
}
