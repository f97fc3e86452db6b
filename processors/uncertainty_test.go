package processors

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// twoNodes is a box of two nodes of 100 W idle, the second with twice the dynamic
// part, whose models are off by so much.
func twoNodes(first, second int64) PowerInput {
	in := oneMinute(IdleEqual, 48_000_000)
	other := oneMinute(IdleEqual, 96_000_000).Nodes[0]
	other.Cluster = "b"
	in.Nodes[0].Hardware.Uncertainty, other.Hardware.Uncertainty = first, second
	in.Nodes = append(in.Nodes, other)
	return in
}

// firstPod is the row of cluster a's pod.
func firstPod(t *testing.T, result PowerResult) EnergyRow {
	t.Helper()
	for _, row := range result.Rows {
		if row.Cluster == "a" && row.Pod == "pod-00" {
			return row
		}
	}
	t.Fatal("no row of the pod")
	return EnergyRow{}
}

func TestUncertainty(t *testing.T) {
	within := func(t *testing.T, what string, got int64, want float64) {
		t.Helper()
		if math.Abs(float64(got)-want) > 2+want/1000 {
			t.Errorf("%s: ± %d mJ, want %.0f", what, got, want)
		}
	}
	t.Run("no meter: the model's", func(t *testing.T) {
		rows := rowsOf(t, func() PowerInput {
			in := oneMinute(IdleEqual, 48_000_000)
			in.Nodes[0].Hardware.Uncertainty = 50_000
			return in
		}())
		within(t, "pod", rows["pod-00"].Uncertainty, 0.05*float64(rows["pod-00"].Total()))
	})
	t.Run("no meter and a model that says nothing", func(t *testing.T) {
		rows := rowsOf(t, oneMinute(IdleEqual, 48_000_000))
		within(t, "pod", rows["pod-00"].Uncertainty, 0.5*float64(rows["pod-00"].Total()))
	})
	t.Run("one node, one pod: the meter's class alone", func(t *testing.T) {
		in := metered(oneMinute(IdleEqual, 48_000_000), 9_000_000)
		in.Nodes[0].Hardware.Uncertainty = 50_000
		// 6.0 MJ idle and 3.0 MJ active are one pod's: what one is too high the other
		// is too low, by 5 % of its idle, of which the model says 1.2 MJ active.
		within(t, "pod", rowsOf(t, in)["pod-00"].Uncertainty, math.Hypot(0.02*9e6, (0.05*6e6*3.0/1.2-0.05*6e6)))
		in.Meters[0].ClassError = 5_000
		in.Nodes[0].Hardware.Uncertainty = 1
		within(t, "class 0.5", rowsOf(t, in)["pod-00"].Uncertainty, 0.005*9e6)
	})
	t.Run("two nodes: by both models", func(t *testing.T) {
		in := metered(twoNodes(30_000, 60_000), 15_600_000)
		result := process(t, in)
		w := [2]float64{7.2 / 15.6, 8.4 / 15.6}
		share := math.Hypot(.03*w[1], .06*w[1]) // 1 - w[0] is w[1]
		row := firstPod(t, result)
		between := 0.03*6e6*1.0 - 0.03*6e6/1.2*1.2 // idle and active as the model says: they cancel
		within(t, "the first's pod", row.Uncertainty, math.Hypot(math.Hypot(0.02, share)*7.2e6, between))
	})
	t.Run("a shared box says nothing of the others", func(t *testing.T) {
		in := metered(twoNodes(30_000, 60_000), 15_600_000)
		in.Box.Shared = true
		before := firstPod(t, process(t, in)).Uncertainty
		in.Nodes[1].Hardware.Uncertainty = 90_000
		if after := firstPod(t, process(t, in)).Uncertainty; after != before {
			t.Errorf("± %d mJ, and %d with another model of another customer's node", before, after)
		}
		in.Box.Shared = false // the control
		open := firstPod(t, process(t, in)).Uncertainty
		in.Nodes[1].Hardware.Uncertainty = 60_000
		if firstPod(t, process(t, in)).Uncertainty == open {
			t.Error("in a box of one customer the other node's model counts")
		}
	})
}

// Added up, the rows' uncertainties are at least what the whole is off by; no row
// is off by more than a part of what it has, but where the model knows nothing.
func TestUncertaintyBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range cases(t, 2000) {
		in := twoNodes(rng.Int64N(200_000), rng.Int64N(200_000))
		in.Nodes[0].Minutes[0].CPU = rng.Int64N(480_000_000)
		if rng.IntN(4) > 0 {
			in = metered(in, 1+rng.Int64N(30_000_000))
		}
		result := process(t, in)
		var total, off int64
		for _, row := range result.Rows {
			if row.Uncertainty < 0 || row.Uncertainty > row.Total() {
				t.Fatalf("a row of %d mJ is off by %d", row.Total(), row.Uncertainty)
			}
			if row.Namespace == schema.OverheadNamespace && row.Total() == 0 && row.Uncertainty != 0 {
				t.Fatalf("no energy is off by %d", row.Uncertainty)
			}
			total += row.Total()
			off += row.Uncertainty
		}
		if measured := result.Box.Measured; off+int64(len(result.Rows))*2 < measured/50 {
			t.Fatalf("the rows are off by %d of %d mJ together, less than the meter's class", off, total)
		}
	}
}
