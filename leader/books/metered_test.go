package books

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/query"
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
