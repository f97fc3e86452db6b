package books

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// steadyMeter counts 1 kJ a second, told every 7 minutes, whose times are no day's edge.
type steadyMeter struct{}

func (steadyMeter) Load(_ context.Context, box string, from, to time.Time) ([]meters.Reading, error) {
	var all []meters.Reading
	epoch := time.Date(2026, 10, 1, 0, 3, 20, 0, time.UTC)
	for at := epoch; at.Before(to); at = at.Add(7 * time.Minute) {
		if !at.Before(from) {
			all = append(all, meters.Reading{Box: box, Meter: "m1", Time: at, Received: at, Epoch: epoch, HasCounter: true, CounterMillijoules: int64(at.Sub(epoch)/time.Second) * 1_000_000, StepMillijoules: 1000})
		}
	}
	return all, nil
}

// TestExplainMeters: the file of a line of energy has the readings of its boxes, which
// come to the energy that the boxes have; what is changed is found.
func TestExplainMeters(t *testing.T) {
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	objects := append(small("UTC"), fleet.NewObject("box-1", fleet.Box{}).Since(since), fleet.NewObject("edge-a.n1", fleet.Node{Cluster: "edge-a", Node: "n1", Box: "box-1"}).Since(since),
		fleet.NewObject("m1", fleet.Meter{Box: "box-1", Driver: fleet.DriverPush}).Since(since))
	w := newWorld(t, december, objects...)
	w.config.Readings = steadyMeter{}
	day := int64(86400) * 1_000_000
	measured := usage.Joules(day)
	w.boxes = []query.BoxRow{{Box: "box-1", MeasuredJoules: &measured, AttributedJoules: map[string]usage.Exact{"edge-a/shop": usage.Joules(day / 2), "edge-b/lab": usage.Joules(day / 4), "idle": usage.Joules(day / 4)}}}
	s := w.close("acme", "2026-11")
	closed, err := w.Statement(t.Context(), "acme", "", s.Number)
	if err != nil {
		t.Fatal(err)
	}
	number := int64(0)
	for i, l := range closed.Lines {
		if l.Resource == "energy" {
			number = s.FirstLine + int64(i)
		}
	}
	file, err := w.Explain(t.Context(), "acme", number)
	if err != nil {
		t.Fatal(err)
	}
	key := signer{w.private}
	e, findings, err := VerifyExplanation(file, key.BookKey())
	if err != nil {
		t.Fatal(err)
	}
	last := findings[len(findings)-1]
	if last.What != "meters of the boxes" || !last.Holds || !strings.Contains(last.Detail, "30 days of boxes come to 720.000000 kWh") {
		t.Errorf("finding %+v", last)
	}
	if len(e.Meters) != 30 || e.Meters[0].Carried != day/2 || len(e.Meters[0].Meters[0].Runs) != 1 {
		t.Errorf("%d boxes, %+v", len(e.Meters), e.Meters[0])
	}
	if n := len(e.Meters[3].Meters[0].Runs[0]); n < 20 || n > 32 {
		t.Errorf("%d readings of a day", n)
	}
	for name, change := range map[string]func(e *Explanation){
		"a box's energy":    func(e *Explanation) { e.Meters[4].Measured += 420 * 1_000_000 * 2 },
		"less of it":        func(e *Explanation) { e.Meters[4].Measured -= 420 * 1_000_000 * 2 },
		"a reading":         func(e *Explanation) { e.Meters[4].Meters[0].Runs[0][1].Counter = 0 },
		"the last readings": func(e *Explanation) { e.Meters[4].Meters[0].Runs[0] = e.Meters[4].Meters[0].Runs[0][:9] },
		"what is carried":   func(e *Explanation) { e.Meters[4].Carried = day + 1 },
	} {
		_, findings, err := VerifyExplanation(rewritten(t, file, change, key, true), key.BookKey())
		if last := findings[len(findings)-1]; err != nil || last.Holds {
			t.Errorf("%s was changed: %+v %v", name, last, err)
		}
	}
}

// newMeter counts as steadyMeter does, and is first read within a day.
type newMeter struct {
	steadyMeter
	first time.Time
}

func (m newMeter) Load(ctx context.Context, box string, from, to time.Time) ([]meters.Reading, error) {
	all, err := m.steadyMeter.Load(ctx, box, from, to)
	return slices.DeleteFunc(all, func(r meters.Reading) bool { return r.Time.Before(m.first) }), err
}

// TestFirstDayOfAMeter: the first interval of a meter begins with its first reading, as
// it does where energy is computed; and of one that was silent before the day, with the
// last one before that.
func TestFirstDayOfAMeter(t *testing.T) {
	day := schema.Window{From: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	first := day.From.Add(22*time.Hour + 51*time.Minute)
	w := newWorld(t, december, small("UTC")...)
	w.config.Readings = newMeter{first: first}
	m, err := w.counterOf(t.Context(), fleet.Meter{Name: "m1", Box: "box-1"}, meters.Lags{}, day)
	if err != nil || !m.FromFirst {
		t.Fatalf("from its first reading: %v %v", m.FromFirst, err)
	}
	if runs := runsOf(m.Intervals(), registry.BookDay{Window: day}); len(runs) != 1 || !runs[0][0].At.Equal(m.Readings[0].Time) {
		t.Errorf("runs %+v", runs)
	}
	control := processors.Meter{Name: "m1", Readings: m.Readings}
	if runs := runsOf(control.Intervals(), registry.BookDay{Window: day}); len(runs) == 1 && runs[0][0].At.Equal(m.Readings[0].Time) {
		t.Error("the control begins there too: the test sees nothing")
	}
	w.config.Readings = silentMeter{from: day.From.Add(-5 * time.Hour), to: day.From.Add(time.Hour)}
	m, err = w.counterOf(t.Context(), fleet.Meter{Name: "m1", Box: "box-1"}, meters.Lags{}, day)
	if err != nil || m.FromFirst || !m.Readings[0].Time.Before(day.From.Add(-5*time.Hour)) {
		t.Errorf("after a silence: from the first %v, of %s, %v", m.FromFirst, m.Readings[0].Time, err)
	}
}

// silentMeter counts as steadyMeter does, and is not read for a while.
type silentMeter struct {
	steadyMeter
	from, to time.Time
}

func (m silentMeter) Load(ctx context.Context, box string, from, to time.Time) ([]meters.Reading, error) {
	all, err := m.steadyMeter.Load(ctx, box, from, to)
	return slices.DeleteFunc(all, func(r meters.Reading) bool { return !r.Time.Before(m.from) && r.Time.Before(m.to) }), err
}
