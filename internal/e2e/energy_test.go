package e2e

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// steps is how many of its own steps a meter's interval has at least.
const steps = 20

// closedGrowth is what a box's meters counted in their closed intervals: from
// the first reading to the last one that closes an interval by settled.
func closedGrowth(t testing.TB, server *influxsync.Server, box string, settled time.Time) int64 {
	t.Helper()
	readings, err := meters.NewStore(server).Load(context.Background(), box, start, settled.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	last := make(map[string]meters.Reading)
	for _, r := range readings {
		before, ok := last[r.Meter]
		switch {
		case !ok || !before.Epoch.Equal(r.Epoch):
			last[r.Meter] = r
		case r.CounterMillijoules-before.CounterMillijoules >= steps*r.StepMillijoules && !r.Time.After(settled):
			sum += r.CounterMillijoules - before.CounterMillijoules
			last[r.Meter] = r
		}
	}
	return sum
}

// checkMeters: over all minutes what a box's parts carry as measured is what
// its meters counted in closed intervals, and in each minute it is what the
// box's own row says. All in mJ.
func checkMeters(t testing.TB, centre *influxsync.Server, books *registry.Registry, all []simulator.Box) {
	t.Helper()
	minute := centre.Database(schema.MinuteDB)
	ofParts := make(map[string]int64)
	for _, p := range read(t, minute, schema.EnergyMinute.Name, "") {
		box := p.Tag(schema.Box)
		if real, ok, err := books.BoxOf(context.Background(), p.Tag(schema.Cluster), box); err != nil {
			t.Fatal(err)
		} else if ok {
			box = real
		}
		ofParts[box+" "+p.Time.Format(time.RFC3339)] += p.Int(schema.EnergyMeasured)
	}
	boxes := read(t, minute, schema.BoxMinute.Name, schema.BoxCluster)
	if wrong := unequal(sums(boxes, schema.EnergyMeasured, nil, schema.Box, "time"), ofParts, 0); wrong != "" {
		t.Errorf("measured of boxes and Σ of their parts: %s", wrong)
	}
	measured := sums(boxes, schema.EnergyMeasured, nil, schema.Box)
	var settled time.Time
	for _, p := range boxes {
		if to := p.Time.Add(schema.Minute); to.After(settled) {
			settled = to
		}
	}
	for _, box := range all {
		want := closedGrowth(t, centre, box.Name, settled)
		if measured[box.Name] != want || (want == 0) != (len(box.Meters) == 0) {
			t.Errorf("box %s: Σ measured %d mJ, its meters counted %d mJ in closed intervals", box.Name, measured[box.Name], want)
		}
		t.Logf("box %s: %d mJ measured, %d mJ by the meters", box.Name, measured[box.Name], want)
	}
}

func decimal(t testing.TB, e query.Exact) float64 {
	t.Helper()
	return e.Float()
}

// checkBoxes asks the API about a window: what a metered box's keys carry is
// what was measured, to the last mJ, and near the truth; a box without a meter
// has no measured value.
func checkBoxes(t testing.TB, w *world, window schema.Window) {
	t.Helper()
	answer, err := w.centre.client.Boxes(context.Background(), between(window))
	if err != nil {
		t.Fatal(err)
	}
	metered := make(map[string]bool)
	for _, b := range w.sim.Fleet().Boxes {
		metered[b.Name] = len(b.Meters) > 0
	}
	for _, b := range answer.Boxes {
		var sum query.Exact
		for _, part := range b.AttributedJoules {
			sum = sum.Plus(part)
		}
		if !metered[b.Box] {
			if b.MeasuredJoules != nil || b.ResidualJoules != nil || b.Quality != schema.Estimated || sum.Cmp(b.EstimatedJoules) != 0 {
				t.Errorf("box %s without a meter: %+v", b.Box, b)
			}
			continue
		}
		if b.MeasuredJoules == nil || b.ResidualJoules == nil {
			t.Fatalf("box %s is not measured: %+v", b.Box, b)
		}
		if b.ResidualJoules.String() != "0" || sum.Cmp(*b.MeasuredJoules) != 0 {
			t.Errorf("box %s: measured %s J, attributed %s J, residual %s J", b.Box, b.MeasuredJoules, sum, b.ResidualJoules)
		}
		truth, got := float64(w.sim.BoxMillijoules(b.Box, window.From, window.To))/1000, decimal(t, *b.MeasuredJoules)
		if math.Abs(got-truth) > truth/100 {
			t.Errorf("box %s drew %.0f J, measured %.0f J", b.Box, truth, got)
		}
		t.Logf("box %s: %.3f J measured, truth %.3f J (%+.3f%%), provisional %s J, keys %d", b.Box, got, truth, 100*(got-truth)/truth, b.ProvisionalJoules, len(b.AttributedJoules))
		delete(metered, b.Box)
	}
	delete(metered, "box-unmetered")
	if len(metered) > 0 {
		t.Errorf("no answer about boxes %v", metered)
	}
}

// checkPodEnergy tells how far each pod's active energy is from the truth. The
// model spreads what was measured by CPU time, so that it is off by what the
// model does not know.
func checkPodEnergy(t testing.TB, w *world, cluster string, window schema.Window) {
	t.Helper()
	rows := read(t, w.centre.database(schema.MinuteDB), schema.EnergyMinute.Name, cluster)
	within := func(p influxsync.Point) bool { return window.Contains(p.Time) }
	active := sums(rows, schema.EnergyActive, within, schema.PodUID)
	for _, i := range w.sim.Instances(cluster, window.From, window.To) {
		want, got := w.sim.PodMillijoules(i, window.From, window.To).Active, active[i.UID]
		if i.Start.After(window.From) || !i.End.IsZero() && i.End.Before(window.To) {
			continue
		}
		off := 100 * float64(got-want) / float64(want)
		t.Logf("%s: pod %s %d mJ active, truth %d mJ (%+.2f%%)", cluster, i.Name, got, want, off)
		if math.Abs(off) > 10 {
			t.Errorf("%s: pod %s is off by %.1f%%", cluster, i.Name, off)
		}
	}
}

// between is a window as the API reads it.
func between(w schema.Window) string {
	return w.From.Format(time.RFC3339) + "," + w.To.Format(time.RFC3339)
}
