package registry

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

func heatQuarterOf(source, household string, at time.Time, useful int64) HeatQuarter {
	return HeatQuarter{Quarter: at, Minutes: []processors.HeatMinute{{Time: at, Millijoule: useful}},
		HeatSums: HeatSums{Source: source, Household: household, Box: "rack", Useful: useful, Avoided: useful / 10, Reference: "gas",
			Circumstances: processors.Circumstances{Covered: 10 * time.Minute, Gap: 5 * time.Minute}, Implausible: 1}}
}

// A day is the sum of its quarters, told once it lies in the window whole, and
// changes with them; a quarter that is stored again counts once.
func TestHeatDays(t *testing.T) {
	r, _ := open(t)
	midnight := noon.Truncate(day)
	list := []HeatQuarter{heatQuarterOf("tank", "h1", midnight, 100), heatQuarterOf("tank", "h1", midnight.Add(day-schema.Quarter), 20),
		heatQuarterOf("tank", "h1", midnight.Add(day), 3), heatQuarterOf("pool", "", midnight, 7)}
	for range 2 {
		if err := r.PutHeatQuarters(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	days := func(from, to time.Time) map[string]int64 {
		found, err := r.HeatDays(t.Context(), schema.Window{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		sums := make(map[string]int64)
		for _, d := range found {
			sums[d.Day.Format(time.DateOnly)+" "+d.Source+" "+d.Household] += d.Useful
		}
		return sums
	}
	want := map[string]int64{"2026-11-23 tank h1": 120, "2026-11-23 pool ": 7, "2026-11-24 tank h1": 3}
	if diff := cmp.Diff(want, days(midnight, midnight.Add(2*day))); diff != "" {
		t.Error(diff)
	}
	for name, w := range map[string]schema.Window{"a part of a day": {From: midnight, To: midnight.Add(day - 1)}, "a later part": {From: midnight.Add(1), To: midnight.Add(day)}} {
		if got := days(w.From, w.To); len(got) != 0 {
			t.Errorf("%s tells %v", name, got)
		}
	}
	list[0].Household = "h2" // a corrected description
	if err := r.PutHeatQuarters(t.Context(), list[:1]); err != nil {
		t.Fatal(err)
	}
	want = map[string]int64{"2026-11-23 tank h1": 20, "2026-11-23 tank h2": 100, "2026-11-23 pool ": 7}
	if diff := cmp.Diff(want, days(midnight, midnight.Add(day))); diff != "" {
		t.Error(diff)
	}
}

// What is purged is not in the file any more. The control: before it, it is.
func TestPurgedHeatIsGone(t *testing.T) {
	const canary = 1234567890123456789
	file := filepath.Join(t.TempDir(), "registry.db")
	in := func() bool {
		found := false
		names, err := filepath.Glob(file + "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(text, binary.BigEndian.AppendUint64(nil, canary))
		}
		return found
	}
	clk := clock.NewManual(noon)
	for _, purge := range []bool{false, true} {
		r, err := Open(t.Context(), file, clk)
		if err != nil {
			t.Fatal(err)
		}
		if purge {
			clk.Set(noon.Add(HeatReadingLife + time.Second))
			if gone, err := r.PurgeHeat(t.Context()); err != nil || gone != 1 {
				t.Fatalf("%d gone: %v", gone, err)
			}
		} else if err := r.PutHeatReadings(t.Context(), "tank", "rack", time.Minute, []processors.HeatReading{{Time: noon, Flow: processors.Value{Micro: canary, Known: true}}}); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if in() == purge {
			t.Errorf("purged %v: in the file %v", purge, !purge)
		}
	}
}

// What cannot be is not stored; a value that ends earlier now makes the time due
// that it held before.
func TestPutIntensities(t *testing.T) {
	r, _ := open(t)
	if _, err := r.Apply(t.Context(), []fleet.Object{fleet.NewObject("rack", fleet.Box{}), fleet.NewObject("other", fleet.Box{}),
		fleet.NewObject("nl", fleet.Grid{Zone: "NL", Source: fleet.GridImported, Binding: fleet.Binding{Boxes: []string{"rack"}}})}, "test"); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{"rack", "other"} {
		for q := range 8 {
			done(t, r, Due{Processor: ProcessorPower, Scope: scope, Quarter: noon.Add(time.Duration(q) * schema.Quarter)}, "f")
		}
	}
	put := func(from, to time.Time, mg int64) []int {
		t.Helper()
		if _, err := r.PutIntensities(t.Context(), fleet.GridImported, "NL", []Intensity{{At: from, Until: to, Milligram: mg}}); err != nil {
			t.Fatal(err)
		}
		due, err := r.Due(t.Context(), ProcessorCarbon, 0)
		if err != nil {
			t.Fatal(err)
		}
		var quarters []int
		for _, d := range due {
			if d.Scope != "rack" {
				t.Errorf("due: %+v", d)
			}
			quarters = append(quarters, int(d.Quarter.Sub(noon)/schema.Quarter))
			done(t, r, d, "f")
		}
		return quarters
	}
	for i, c := range []struct {
		from, to time.Time
		mg       int64
		want     []int
	}{
		{noon.Add(20 * time.Minute), noon.Add(50 * time.Minute), 5, []int{1, 2, 3}},
		{noon.Add(20 * time.Minute), noon.Add(50 * time.Minute), 5, nil},
		{noon.Add(20 * time.Minute), noon.Add(30 * time.Minute), 5, []int{1, 2, 3}},
		{noon.Add(-time.Hour), noon, 5, nil},
		{noon.Add(90 * time.Minute), noon.Add(5 * time.Hour), 5, []int{6, 7}},
	} {
		if diff := cmp.Diff(c.want, put(c.from, c.to, c.mg)); diff != "" {
			t.Errorf("value %d:\n%s", i, diff)
		}
	}
	for name, one := range map[string]Intensity{"no time": {At: noon, Until: noon}, "below 0": {At: noon, Until: noon.Add(1), Milligram: -1}, "for ever": {At: noon, Until: noon.AddDate(2, 0, 0)}} {
		if _, err := r.PutIntensities(t.Context(), fleet.GridImported, "NL", []Intensity{one}); err == nil {
			t.Errorf("%s is stored", name)
		}
	}
	list, err := r.Intensities(t.Context(), fleet.GridImported, "NL", schema.Window{From: noon, To: noon.Add(25 * time.Minute)})
	if err != nil || len(list) != 1 || !list[0].Until.Equal(noon.Add(30*time.Minute)) {
		t.Errorf("%+v %v", list, err)
	}
}
