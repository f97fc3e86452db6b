package processors

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// The error per pod against a truth that the processor does not know: the
// node's power by a curve, shared by CPU time. docs/accuracy.md cites the log.
func TestAccuracyPerPod(t *testing.T) {
	// A curve like that of servers: steep to 10 %, flat, steep above 70 %.
	concave := func(u float64) float64 {
		knots := []float64{0, .157, .227, .296, .371, .446, .532, .622, .750, .885, 1}
		i := min(int(u*10), 9)
		return knots[i] + (u*10-float64(i))*(knots[i+1]-knots[i])
	}
	for _, test := range []struct {
		name       string
		step       int64 // mJ
		uneven     bool  // each node's load stays at its level
		curve      func(float64) float64
		mean, most float64 // allowed error of a pod's active energy over a quarter, %
	}{
		{"linear, 1 mWh steps", 3_600, true, linearCurve, 0.02, 0.2},
		{"linear, 1 W·min steps", 60_000, true, linearCurve, 0.2, 1},
		{"linear, 1 Wh steps", 3_600_000, true, linearCurve, 2, 10},
		{"linear, 20 Wh steps", 72_000_000, true, linearCurve, 5, 15},
		{"server's curve, even loads, 1 W·min steps", 60_000, false, concave, 2, 10},
		{"server's curve, uneven loads, 1 W·min steps", 60_000, true, concave, 25, 60},
	} {
		t.Run(test.name, func(t *testing.T) {
			var errors, modelErrors []float64
			for seed := range uint64(12) {
				w := newWorld(rand.New(rand.NewPCG(seed, 21)), worldConfig{nodes: 4, pods: 8, quarters: 2, meters: 1, step: test.step, uneven: test.uneven, curve: test.curve})
				in := w.quarter(1)
				e, m := podErrors(w, process(t, in))
				errors, modelErrors = append(errors, e...), append(modelErrors, m...)
			}
			mean, p95, most := spread(errors)
			modelMean, _, _ := spread(modelErrors)
			t.Logf("active energy of %d pods over a quarter: mean error %.3f %%, p95 %.3f %%, worst %.3f %%; the model alone: mean %.3f %%", len(errors), mean, p95, most, modelMean)
			if mean > test.mean || most > test.most {
				t.Errorf("mean %.3f %%, worst %.3f %%, want at most %g, %g", mean, most, test.mean, test.most)
			}
		})
	}
}

type podKey struct{ node, namespace, pod string }

// podErrors is each pod's error in active energy over the window, in percent of
// the truth: as distributed from the meter, and by the model alone.
func podErrors(w *world, r PowerResult) (metered, modelled []float64) {
	got, model, truth := map[podKey]float64{}, map[podKey]float64{}, map[podKey]float64{}
	for _, row := range r.Rows {
		key := podKey{row.Node, row.Namespace, row.Pod}
		want, known := w.truth[podMinute{row.Time, row.Node, row.Namespace, row.Pod}]
		if !known || want == 0 || row.Namespace == schema.UnattributedNamespace {
			continue
		}
		got[key] += float64(row.Active)
		// Idle and overhead are the same in both: what differs is active.
		model[key] += float64(row.Modelled - row.Idle - row.Overhead)
		truth[key] += want
	}
	for key, want := range truth {
		metered = append(metered, math.Abs(got[key]-want)/want*100)
		modelled = append(modelled, math.Abs(model[key]-want)/want*100)
	}
	return metered, modelled
}

func spread(errors []float64) (mean, p95, most float64) {
	slices.Sort(errors)
	for _, e := range errors {
		mean += e / float64(len(errors))
	}
	return mean, errors[len(errors)*95/100], errors[len(errors)-1]
}

// What interpolation by the model is for: a box whose load jumps within a
// meter interval. Spread over time, the jump would be in the wrong minutes.
func TestInterpolationFollowsTheLoad(t *testing.T) {
	in := oneMinute(IdleEqual, 0)
	in.Window = schema.Window{From: epoch0, To: epoch0.Add(10 * time.Minute)}
	template := in.Nodes[0].Minutes[0]
	in.Nodes[0].Minutes = nil
	counter := []int64{0}
	var truth []int64
	for m := range 10 {
		row := template
		row.Time = epoch0.Add(time.Duration(m) * time.Minute)
		row.Pods = slices.Clone(template.Pods)
		mJ := int64(6_000_000)
		if m >= 5 { // from idle to all cores
			row.CPU, row.Pods[0].CPU, mJ = row.Capacity, row.Capacity, 18_000_000
		}
		truth = append(truth, mJ)
		counter = append(counter, counter[m]+mJ)
		in.Nodes[0].Minutes = append(in.Nodes[0].Minutes, row)
	}
	in.Meters = []Meter{{Name: "m", FromFirst: true, Readings: []Reading{
		{Time: in.Window.From, CounterMillijoules: 0, StepMillijoules: 1},
		{Time: in.Window.To, CounterMillijoules: counter[10], StepMillijoules: 1},
		{Time: in.Window.To.Add(time.Minute), CounterMillijoules: counter[10] + 18_000_000, StepMillijoules: 1}}}}
	for m, minute := range process(t, in).Minutes {
		if minute.Measured != truth[m] {
			t.Errorf("minute %d: %d mJ, want %d; by time alone it would be %d", m, minute.Measured, truth[m], counter[10]/10)
		}
	}
}

// benchmarkWorld is a box of 6 nodes with 300 pods in all or on each node.
func benchmarkWorld(perNode int) PowerInput {
	w := newWorld(rand.New(rand.NewPCG(1, 1)), worldConfig{nodes: 6, pods: perNode, quarters: 1, meters: 1, step: 60_000, curve: linearCurve})
	return w.quarter(0)
}

func BenchmarkPower(b *testing.B) {
	for name, perNode := range map[string]int{"6 nodes, 300 pods": 50, "6 nodes of 300 pods": 300} {
		in := benchmarkWorld(perNode)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (Power{}).Process(in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+", fingerprint", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = Power{}.Fingerprint(in)
			}
		})
	}
}
