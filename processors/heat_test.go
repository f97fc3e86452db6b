package processors

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

var heatQuarter = schema.WindowAt(epoch0, schema.Quarter)

// warm is a source with temperatures in °C: water, a reading each half minute.
func warm(readings ...HeatReading) HeatSource {
	celsius := Sensor{Kind: SensorCelsius}
	return HeatSource{Name: "tank", Method: HeatTemperatures, Supply: celsius, Return: celsius, Store: celsius,
		ReversedMillikelvin: 500, FluidMillijoules: 4_186_800, Period: 30 * time.Second, Readings: readings}
}

// reading is supply, return (°C) and flow (l/min) at a second of the quarter.
func reading(second int, supply, back, flow float64) HeatReading {
	v := func(x float64) Value { return Value{int64(math.Round(x * 1e6)), !math.IsNaN(x)} }
	return HeatReading{Time: heatQuarter.From.Add(time.Duration(second) * time.Second), Supply: v(supply), Return: v(back), Flow: v(flow)}
}

// steady is readings of one state, each 30 s from one second to another.
func steady(from, to int, supply, back, flow float64) []HeatReading {
	var all []HeatReading
	for s := from; s <= to; s += 30 {
		all = append(all, reading(s, supply, back, flow))
	}
	return all
}

func processHeat(t *testing.T, sources ...HeatSource) HeatResult {
	t.Helper()
	result, err := Heat{}.Process(HeatInput{Window: heatQuarter, Box: "b", ProducedMicro: whole, Rows: energyRows(heatQuarter, 6_000_000), Sources: sources})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// energyRows is one pod's row and an idle one in each minute of a window.
func energyRows(w schema.Window, mJ int64) []EnergyRow {
	var rows []EnergyRow
	for _, minute := range w.Split(schema.Minute) {
		rows = append(rows,
			EnergyRow{Time: minute.From, Cluster: "a", Node: "n1", Namespace: schema.IdleNamespace, Pod: schema.IdleNamespace, UID: schema.IdleNamespace, Idle: mJ / 3},
			EnergyRow{Time: minute.From, Cluster: "a", Node: "n1", Namespace: "web", Pod: "p", UID: "u", Active: mJ - mJ/3})
	}
	return rows
}

// 1 l/min that gets 5 K colder is 69.78 · 5 W: 314.01 kJ in a quarter.
func TestUsefulHeat(t *testing.T) {
	nan := math.NaN()
	wholeQuarter := steady(0, 900, 45, 40, 1)
	const kJ = 1_000_000
	for name, c := range map[string]struct {
		source HeatSource
		want   int64
		Circumstances
	}{
		"steady":                     {warm(wholeQuarter...), 314_010_000, Circumstances{Covered: 15 * time.Minute}},
		"ramp":                       {warm(reading(0, 40, 40, 1), reading(60, 50, 40, 1)), 20_934_000, Circumstances{Covered: time.Minute, Gap: 14 * time.Minute}},
		"uneven times":               {warm(reading(0, 45, 40, 1), reading(7, 45, 40, 1), reading(60, 45, 40, 1)), 20_934_000, Circumstances{Covered: time.Minute, Gap: 14 * time.Minute}},
		"a gap of more than two":     {warm(append(steady(0, 60, 45, 40, 1), steady(121, 181, 45, 40, 1)...)...), 2 * 20_934_000, Circumstances{Covered: 2 * time.Minute, Gap: 13 * time.Minute}},
		"one reading is no heat":     {warm(reading(60, 45, 40, 1)), 0, Circumstances{Gap: 15 * time.Minute}},
		"no reading":                 {warm(), 0, Circumstances{Gap: 15 * time.Minute}},
		"a little below 0 is none":   {warm(steady(0, 900, 40, 40.4, 1)...), 0, Circumstances{Covered: 15 * time.Minute}},
		"more is reversed":           {warm(steady(0, 900, 40, 40.6, 1)...), 0, Circumstances{Reversed: 15 * time.Minute}},
		"not while nothing flows":    {warm(steady(0, 900, 20, 40, 0)...), 0, Circumstances{Covered: 15 * time.Minute}},
		"a sensor that is gone":      {warm(steady(0, 900, -127, 40, 1)...), 0, Circumstances{Faulty: 15 * time.Minute}},
		"a sensor that says nothing": {warm(steady(0, 900, 45, nan, 1)...), 0, Circumstances{Faulty: 15 * time.Minute}},
		"a flow that is not known":   {warm(steady(0, 900, 45, 40, nan)...), 0, Circumstances{Faulty: 15 * time.Minute}},
		"outside the window":         {warm(steady(-600, 1500, 45, 40, 1)...), 314_010_000, Circumstances{Covered: 15 * time.Minute}},
	} {
		got := processHeat(t, c.source).Sources[0]
		if max(got.Useful-c.want, c.want-got.Useful) > 1 || got.Circumstances != c.Circumstances {
			t.Errorf("%s: %d mJ %+v, want %d %+v", name, got.Useful, got.Circumstances, c.want, c.Circumstances)
		}
	}
	zeroed := warm(steady(0, 900, 45.7, 40, 1)...)
	zeroed.OffsetMillikelvin = 700
	if got := processHeat(t, zeroed).Sources[0].Useful; got != 314_010_000 {
		t.Errorf("a pair zeroed by 0.7 K: %d mJ", got)
	}
	half := warm(wholeQuarter...)
	half.From, half.To = heatQuarter.From.Add(5*time.Minute), heatQuarter.From.Add(10*time.Minute)
	if got := processHeat(t, half).Sources[0]; got.Useful != 104_670_000 || got.Covered != 5*time.Minute || got.Gap != 0 {
		t.Errorf("valid for a third: %d mJ %+v", got.Useful, got.Circumstances)
	}
}

// While the store is at its maximum, no heat is useful.
func TestFullStore(t *testing.T) {
	source := warm(steady(0, 900, 45, 40, 1)...)
	source.Limited, source.MaxMillicelsius = true, 80_000
	for i := range source.Readings {
		source.Readings[i].Store = Value{Micro: 79_900_000, Known: true}
		if s := source.Readings[i].Time.Sub(heatQuarter.From); s >= 5*time.Minute {
			source.Readings[i].Store.Micro = 80_000_000
		}
		if i == len(source.Readings)-1 {
			source.Readings[i].Store.Known = false
		}
	}
	got := processHeat(t, source).Sources[0]
	want := Circumstances{Covered: 4*time.Minute + 30*time.Second, Full: 10 * time.Minute, Faulty: 30 * time.Second}
	if got.Circumstances != want || got.Useful != 314_010_000*9/30 {
		t.Errorf("%d mJ %+v, want %+v", got.Useful, got.Circumstances, want)
	}
	source.Method, source.CaptureMicro = HeatCapture, 850_000
	got = processHeat(t, source).Sources[0]
	if got.Circumstances != want || got.Useful != 6_000_000*85/100*9/2 || !got.Estimated {
		t.Errorf("by a factor: %d mJ %+v estimated %v", got.Useful, got.Circumstances, got.Estimated)
	}
	source.Limited, source.Readings = false, nil
	if got = processHeat(t, source).Sources[0]; got.Useful != 15*6_000_000*85/100 || got.Gap != 0 {
		t.Errorf("by a factor, without a limit: %d mJ %+v", got.Useful, got.Circumstances)
	}
}

// Useful heat beyond what the box used is told, where all of its energy is known.
func TestImplausible(t *testing.T) {
	const produced = 90_000_000 // mJ; at 5 K and 1 l/min 314 kJ are useful
	for flow, want := range map[float64]bool{0.28: false, 0.30: false, 0.31: true, 1: true} {
		result := processHeat(t, warm(steady(0, 900, 45, 40, flow)...))
		if result.Produced != produced || result.Implausible != want {
			t.Errorf("%v l/min: produced %d, implausible %v", flow, result.Produced, result.Implausible)
		}
	}
	part, err := Heat{}.Process(HeatInput{Window: heatQuarter, ProducedMicro: whole, Rows: energyRows(minutesOf(0, 3), 6_000_000), Sources: []HeatSource{warm(steady(0, 900, 45, 40, 1)...)}})
	if err != nil || part.Implausible {
		t.Errorf("with a part of the energy: %v %v", part.Implausible, err)
	}
}

func minutesOf(from, to int) schema.Window {
	return schema.Window{From: heatQuarter.From.Add(time.Duration(from) * time.Minute), To: heatQuarter.From.Add(time.Duration(to) * time.Minute)}
}

// randomHeat is a source with trouble over some quarters.
func randomHeat(rng *rand.Rand, quarters int) HeatSource {
	source := warm()
	source.Limited, source.MaxMillicelsius = rng.IntN(2) == 0, 80_000
	at := heatQuarter.From.Add(-10 * time.Minute)
	for at.Before(heatQuarter.From.Add(time.Duration(quarters)*schema.Quarter + 10*time.Minute)) {
		at = at.Add(time.Duration(1 + rng.Int64N(int64(70*time.Second))))
		r := HeatReading{Time: at, Supply: Value{rng.Int64N(90e6) - 5e6, rng.IntN(20) > 0}, Return: Value{20e6 + rng.Int64N(20e6), true},
			Store: Value{rng.Int64N(85e6), true}, Flow: Value{rng.Int64N(5e6), rng.IntN(20) > 0}}
		source.Readings = append(source.Readings, r)
	}
	return source
}

// TestHeatAddsUp: the windows of a source add up to its trapezoids, whatever the
// windows; all time is told of; another order gives the same.
func TestHeatAddsUp(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		source := randomHeat(rng, 4)
		all := schema.Window{From: heatQuarter.From, To: heatQuarter.From.Add(4 * schema.Quarter)}
		useful := func(w schema.Window) int64 {
			in := HeatInput{Window: w, ProducedMicro: whole, Sources: []HeatSource{source}}
			result, err := Heat{}.Process(in)
			if err != nil {
				t.Fatal(err)
			}
			got := result.Sources[0]
			if sum := got.Covered + got.Full + got.Faulty + got.Reversed + got.Gap; sum != w.Length() {
				t.Fatalf("seed %d: told of %s of %s", seed, sum, w.Length())
			}
			mixed := in
			mixed.Sources = []HeatSource{source}
			mixed.Sources[0].Readings = slices.Clone(source.Readings)
			rng.Shuffle(len(source.Readings), func(i, j int) {
				r := mixed.Sources[0].Readings
				r[i], r[j] = r[j], r[i]
			})
			again, err := Heat{}.Process(mixed)
			if err != nil || !cmp.Equal(result, again) || Heat.Fingerprint(Heat{}, in) != Heat.Fingerprint(Heat{}, mixed) {
				t.Fatalf("seed %d: another order gives another result: %v", seed, err)
			}
			return got.Useful
		}
		var parts int64
		for _, w := range all.Split(schema.Quarter) {
			parts += useful(w)
		}
		if total := useful(all); parts != total {
			t.Fatalf("seed %d: quarters add up to %d, the whole is %d", seed, parts, total)
		}
		var trapezoids int64 // the control: what the windows must add up to, and that it is not what rounding each would give
		for _, one := range source.stretches() {
			if !one.from.Before(all.From) && !one.to.After(all.To) {
				trapezoids += one.energy
			}
		}
		if inner := useful(all); inner < trapezoids {
			t.Fatalf("seed %d: %d mJ of trapezoids, %d in the windows", seed, trapezoids, inner)
		}
	}
}

// TestProducedHeat: it is the rows' energy, all of it by default.
func TestProducedHeat(t *testing.T) {
	result := processHeat(t)
	for _, row := range result.Rows {
		want := int64(2_000_000)
		if row.Key.Namespace == "web" {
			want = 4_000_000
		}
		if row.Heat != want {
			t.Fatalf("%+v: %d mJ, want %d", row.Key, row.Heat, want)
		}
	}
	in := HeatInput{Window: heatQuarter, ProducedMicro: 333_333, Rows: energyRows(heatQuarter, 1_000_001)}
	part, err := Heat{}.Process(in)
	var rows, minutes int64
	for _, row := range part.Rows {
		rows += row.Heat
	}
	for _, m := range part.Minutes {
		minutes += m.Millijoule
	}
	if want := MulDiv(15*1_000_001, 333_333, whole); err != nil || rows != want || minutes != want || part.Produced != want {
		t.Errorf("a third: rows %d, minutes %d, produced %d, want %d (%v)", rows, minutes, part.Produced, want, err)
	}
	for name, broken := range map[string]HeatInput{
		"no minutes":     {Window: schema.Window{From: epoch0, To: epoch0.Add(time.Second)}},
		"more than all":  {Window: heatQuarter, ProducedMicro: whole + 1},
		"two at once":    {Window: heatQuarter, Sources: []HeatSource{warm(reading(0, 1, 1, 1), reading(0, 1, 1, 1))}},
		"one name twice": {Window: heatQuarter, Sources: []HeatSource{warm(), warm()}},
		"row twice":      {Window: heatQuarter, Rows: append(energyRows(minutesOf(0, 1), 9), energyRows(minutesOf(0, 1), 9)...)},
		"below 0":        {Window: heatQuarter, Rows: []EnergyRow{{Time: heatQuarter.From, Active: -1}}},
		"outside":        {Window: heatQuarter, Rows: energyRows(minutesOf(15, 16), 9)},
	} {
		if _, err := (Heat{}).Process(broken); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
