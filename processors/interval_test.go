package processors

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// readingsOf makes readings 10 s apart.
func readingsOf(step int64, counters ...int64) []Reading {
	var readings []Reading
	for i, c := range counters {
		readings = append(readings, Reading{Time: epoch0.Add(time.Duration(i) * 10 * time.Second), CounterMillijoules: c, StepMillijoules: step})
	}
	return readings
}

func bounds(intervals []Interval) [][2]int64 {
	var pairs [][2]int64
	for _, i := range intervals {
		pairs = append(pairs, [2]int64{i.Start, i.End})
	}
	return pairs
}

func TestIntervals(t *testing.T) {
	epochs := func(readings []Reading, epochs ...int64) []Reading {
		for i := range readings {
			readings[i].Epoch = epochs[i]
		}
		return readings
	}
	for _, test := range []struct {
		name  string
		meter Meter
		want  [][2]int64
	}{
		{"none", Meter{}, nil},
		{"one reading", Meter{Readings: readingsOf(1, 5), FromFirst: true}, nil},
		{"fine counter: each reading bounds", Meter{Readings: readingsOf(1, 100, 200, 300, 425), FromFirst: true},
			[][2]int64{{100, 200}, {200, 300}}}, // 425 lies late in its cell and waits for its successor
		{"coarse counter: early in each cell", Meter{Readings: readingsOf(1, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72), FromFirst: true},
			[][2]int64{{0, 24}, {24, 48}, {48, 72}}},
		{"the first reading given need not be the first", Meter{Readings: readingsOf(1, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72)},
			[][2]int64{{24, 48}, {48, 72}}},
		{"too near to the first", Meter{Readings: readingsOf(1, 40, 48, 56, 64, 72, 80, 88, 94), FromFirst: true}, [][2]int64{{40, 72}, {72, 94}}},
		{"late in its cell, but far from its neighbours", Meter{Readings: readingsOf(1, 12, 35, 58, 81), FromFirst: true}, [][2]int64{{12, 35}, {35, 58}}},
		{"backwards is a new life", Meter{Readings: readingsOf(1, 0, 30, 60, 5, 30, 55), FromFirst: true},
			[][2]int64{{0, 30}, {30, 60}, {5, 30}}},
		{"what a life counted last, less than 20 steps, is in none", Meter{Readings: epochs(readingsOf(1, 0, 24, 47, 60, 85, 90), 1, 1, 1, 1, 2, 2), FromFirst: true},
			[][2]int64{{0, 24}, {24, 47}}},
		{"the end of a life, far enough", Meter{Readings: epochs(readingsOf(1, 0, 15, 30, 85, 90), 1, 1, 1, 2, 2), FromFirst: true},
			[][2]int64{{0, 30}}},
		{"validity", Meter{Readings: readingsOf(1, 100, 200, 300, 400, 500), From: epoch0.Add(10 * time.Second), To: epoch0.Add(40 * time.Second)},
			[][2]int64{{200, 300}}},
		{"nothing grows", Meter{Readings: readingsOf(1, 5, 5, 5, 5), FromFirst: true}, nil},
		{"a counter below zero", Meter{Readings: readingsOf(1, -50, -30, -5, 10, 20), FromFirst: true}, [][2]int64{{-50, -30}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, bounds(test.meter.Intervals())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Wherever the readings begin, behind two bounds the intervals are the same.
func TestIntervalsAreLocal(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 1))
	compared := 0
	for range cases(t, 2000) {
		var counters []int64
		counter := rng.Int64N(1000)
		most := 1 + rng.Int64N(60)
		for range 60 {
			counters = append(counters, counter)
			if counter += rng.Int64N(most); rng.IntN(50) == 0 {
				counter = 0
			}
		}
		whole := Meter{Readings: readingsOf(1, counters...), FromFirst: true}
		all := whole.Intervals()
		for _, i := range all {
			if i.Growth() < MinSteps {
				t.Fatalf("interval of %d steps in %v", i.Growth(), counters)
			}
		}
		part := Meter{Readings: whole.Readings[rng.IntN(40):]}
		window := schema.WindowAt(epoch0.Add(9*time.Minute), time.Minute)
		if _, complete := Span(window, []Meter{part}); !complete {
			continue
		}
		compared++
		overlapping := func(intervals []Interval) []Interval {
			return slices.DeleteFunc(slices.Clone(intervals), func(i Interval) bool { return !i.overlaps(window) })
		}
		if diff := cmp.Diff(overlapping(all), overlapping(part.Intervals())); diff != "" {
			t.Fatalf("%v from %s: %s", counters, part.Readings[0].Time, diff)
		}
	}
	if compared < 100 {
		t.Errorf("only %d cases compared", compared)
	}
}

// A steady power is never without bounds, whatever its growth per reading.
func TestIntervalsCloseAtAnyPower(t *testing.T) {
	for perReading := int64(1); perReading < 200; perReading++ {
		var counters []int64
		for i := range int64(400) {
			counters = append(counters, 7+i*perReading)
		}
		intervals := Meter{Readings: readingsOf(1, counters...), FromFirst: true}.Intervals()
		if len(intervals) == 0 {
			t.Fatalf("%d steps per reading: no interval", perReading)
		}
		longest := int64(0)
		for _, i := range intervals {
			longest = max(longest, i.Growth())
		}
		// Between 4 and 20 steps per reading it may take some of them.
		if want := int64(2*gridSteps) + 12*min(perReading, MinSteps) + perReading; longest > want {
			t.Errorf("%d steps per reading: an interval of %d steps, want at most %d", perReading, longest, want)
		}
	}
}

func TestSpan(t *testing.T) {
	window := schema.WindowAt(epoch0.Add(15*time.Minute), schema.Quarter)
	meter := Meter{Name: "m"}
	for s := 0; s < 3600; s += 10 { // 100 W, 1 Wh steps: an interval is 13.8 min
		meter.Readings = append(meter.Readings, Reading{Time: epoch0.Add(time.Duration(s) * time.Second),
			CounterMillijoules: int64(s) * 100_000 / 3_600_000 * 3_600_000, StepMillijoules: 3_600_000})
	}
	span, complete := Span(window, []Meter{meter})
	want := schema.Window{From: epoch0.Add(13 * time.Minute), To: epoch0.Add(42 * time.Minute)}
	if span != want || complete {
		t.Errorf("Span = %s, %t, want %s, false", span, complete, want)
	}
	meter.FromFirst = true
	if span, complete = Span(window, []Meter{meter}); span != want || !complete {
		t.Errorf("Span = %s, %t, want %s, true", span, complete, want)
	}
	if span, complete = Span(window, nil); span != window || !complete {
		t.Errorf("Span without meters = %s, %t, want %s, true", span, complete, window)
	}
}

// TestIntegratedEnergyIsToldApart: of what meters measured, the rows say how much
// rests on watts; no minute of it is of the quality measured. With two meters, of
// which one counts by itself, it is that one's part.
func TestIntegratedEnergyIsToldApart(t *testing.T) {
	for meters := 1; meters <= 2; meters++ {
		w := newWorld(rand.New(rand.NewPCG(3, uint64(meters))), worldConfig{nodes: 2, pods: 3, quarters: 1, meters: meters, step: 1000, curve: linearCurve})
		w.in.Meters[0].Readings = slices.Clone(w.in.Meters[0].Readings)
		for i := range w.in.Meters[0].Readings {
			w.in.Meters[0].Readings[i].Integrated = true
		}
		result, err := Power{}.Process(w.in)
		if err != nil {
			t.Fatal(err)
		}
		var rows, watts int64
		for _, row := range result.Rows {
			rows += row.Integrated
			if row.Integrated > row.Measured || row.Integrated < 0 || row.Measured > 0 && row.Quality == schema.Measured {
				t.Fatalf("row %+v", row)
			}
		}
		for _, i := range result.Intervals {
			if i.Closed && i.Meter == w.in.Meters[0].Name {
				watts += i.Attributed
			}
		}
		if rows == 0 || rows != result.Box.Integrated || rows != watts || (rows == result.Box.Measured) != (meters == 1) {
			t.Errorf("%d meters: rows say %d mJ, the box %d, the meter of watts %d, of %d measured", meters, rows, result.Box.Integrated, watts, result.Box.Measured)
		}
	}
}
