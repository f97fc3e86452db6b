package evaluation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/processors/models"
	"github.com/google/go-cmp/cmp"
)

// madeUp is a file of made-up servers, whose shapes differ from group to group.
func madeUp(servers, groups int, bend func(group int) float64) string {
	rng := rand.New(rand.NewPCG(7, 11))
	var out strings.Builder
	out.WriteString("id,hw_avail,nodes,cores_per_node,w_idle")
	for l := 1; l <= 10; l++ {
		fmt.Fprintf(&out, ",load_%d,w_%d", l*10, l*10)
	}
	out.WriteString(",group\n")
	for i := range servers {
		group := i % groups
		idle := 40 + 40*rng.Float64()
		span := idle * (2 + 2*rng.Float64())
		fmt.Fprintf(&out, "%d,May-%d,1,%d,%.1f", i, 2008+group, 4+4*rng.IntN(4), idle)
		for l := 1; l <= 10; l++ {
			load := float64(l*10) + rng.Float64()*.6 - .3
			u := float64(l) / 10
			shape := .75*math.Pow(u, bend(group)) + .25*math.Pow(u, 3)
			fmt.Fprintf(&out, ",%.1f,%.1f", load, idle+span*shape)
		}
		fmt.Fprintf(&out, ",cpu-%d\n", group)
	}
	return out.String()
}

func bent(int) float64 { return .7 }

func readCurves(t *testing.T, text string) []Curve {
	t.Helper()
	curves, err := ReadCurves(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return curves
}

func figures(t *testing.T, results []Result, model string) Figures {
	t.Helper()
	f, ok := ByModel(results)[model]
	if !ok {
		t.Fatalf("no model %s in %v", model, ByModel(results))
	}
	return f
}

func TestPower(t *testing.T) {
	curves := readCurves(t, madeUp(60, 12, bent))
	results, err := Power(curves, models.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	line, two, four := figures(t, results, Line), figures(t, results, TwoUnseen), figures(t, results, Four)
	// All servers are of one shape: what others teach is right, the line is not.
	if !(line.MAPE > 3 && two.MAPE < 1 && four.MAPE < 2 && four.Within10 == 100) {
		t.Errorf("line %v, two points %v, four points %v", line, two, four)
	}
	if line.Points != 60*9 || four.Points != 60*7 {
		t.Errorf("%d and %d points", line.Points, four.Points)
	}
	if diff := cmp.Diff([]string{"20", "30", "40", "60", "70", "80", "90"}, slices.Sorted(func(yield func(string) bool) {
		for l := range four.Levels {
			if !yield(l) {
				return
			}
		}
	})); diff != "" {
		t.Error(diff)
	}
}

// A group does not teach what it is tested by: where each group has a shape of
// its own, other groups' shapes are wrong. The control: with them in the prior,
// it is nearer.
func TestUnseenIsUnseen(t *testing.T) {
	curves := readCurves(t, madeUp(60, 5, func(group int) float64 { return .3 + .3*float64(group) }))
	of, n := folds(curves)
	for i, c := range curves {
		for j, d := range curves {
			if c.Group == d.Group && of[i] != of[j] {
				t.Fatalf("group %s is in two folds", c.Group)
			}
		}
	}
	if n != 5 {
		t.Fatalf("%d folds", n)
	}
	seen, err := models.BuildPrior(Servers(curves), "the same curves")
	if err != nil {
		t.Fatal(err)
	}
	results, err := Power(curves, seen)
	if err != nil {
		t.Fatal(err)
	}
	if own, others := figures(t, results, TwoShipped).MAPE, figures(t, results, TwoUnseen).MAPE; own > .7*others {
		t.Errorf("%.2f %% with the groups themselves, %.2f %% without", own, others)
	}
}

// One group cannot teach and test: the model is left out, not faked.
func TestOneGroup(t *testing.T) {
	results, err := Power(readCurves(t, madeUp(20, 1, bent)), models.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ByModel(results)[TwoUnseen]; ok {
		t.Error("one group was cross-validated")
	}
	figures(t, results, TwoShipped)
}

func TestBox(t *testing.T) {
	curves := readCurves(t, madeUp(60, 12, bent))
	results, err := compositions(curves, models.Shipped(), 1, 50)
	if err != nil {
		t.Fatal(err)
	}
	again, err := compositions(curves, models.Shipped(), 1, 50)
	if diff := cmp.Diff(results, again); err != nil || diff != "" {
		t.Errorf("one seed, two results: %v\n%s", err, diff)
	}
	other, err := compositions(curves, models.Shipped(), 2, 50)
	if err != nil || cmp.Equal(results, other) {
		t.Errorf("another seed, the same results: %v", err)
	}
	for _, kind := range []string{BoxSame, BoxDifferent} {
		thesis, four := figures(t, results, kind+Thesis), figures(t, results, kind+Four)
		active, learned := figures(t, results, kind+KeplerActive), figures(t, results, kind+LearnedTwo)
		if !(four.MAPE < thesis.MAPE && thesis.MAPE < active.MAPE && learned.MAPE < 2.5) {
			t.Errorf("%s: thesis %.2f, four points %.2f, Kepler %.2f, learned %.2f", kind, thesis.MAPE, four.MAPE, active.MAPE, learned.MAPE)
		}
		// Half of the gain error is the floor: nothing can be better.
		if four.MAPE < .8 {
			t.Errorf("%s: %.2f %% is less than the meter's own error", kind, four.MAPE)
		}
	}
	if f := figures(t, results, BoxSame+LearnedAlone); f.MAPE > 2 {
		t.Errorf("learned alone: %.2f %%", f.MAPE)
	}
	if _, err := Box(curves[:5], models.Shipped(), 1); !errors.Is(err, ErrFile) {
		t.Errorf("five servers: %v", err)
	}
}

// What the rescaled split gives adds up to the meter, in each of its cases.
func TestSplitsAddUp(t *testing.T) {
	curves := readCurves(t, madeUp(12, 3, bent))
	b := compose(rand.New(rand.NewPCG(1, 1)), curves, models.Shipped(), false)
	two, four, err := b.curveNodes()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []boxWindow{b.test[0], {levels: make([]int, boxNodes), meter: 300}, {levels: []int{1, 2, 3, 4, 5, 6}, meter: 10}} {
		for name, split := range map[string]splitter{"two": b.rescaled(two), "four": b.rescaled(four), "thesis": b.thesis, "kepler-0.9": b.keplerRatio, "kepler-0.10-idle-equal": b.keplerEqual} {
			sum := 0.0
			for _, watts := range split(w) {
				sum += watts
			}
			busy := slices.Max(w.levels) > 0
			if math.Abs(sum-w.meter) > 1e-9*w.meter && (busy || name != "kepler-0.9") {
				t.Errorf("%s: %v W of %v", name, sum, w.meter)
			}
		}
	}
}

func madeUpTrace(blocks int) string {
	rng := rand.New(rand.NewPCG(5, 13))
	out := "t_s,block,bpf_cpu_time_us,cpu_cycles,cpu_instructions,cache_miss,platform_power,package_power,dram_power\n"
	for i := range blocks * 20 {
		cpu := rng.Float64() * 32000
		cycles := cpu * 1e6 * (1.5 + 2*rng.Float64())
		misses := cycles * .001 * rng.Float64()
		dram := 20 + misses/1e6
		packages := 40 + cycles/1e9
		out += fmt.Sprintf("%d,%d,%.1f,%.0f,%.0f,%.0f,%.1f,%.2f,%.2f\n", 3*i, i/20, cpu, cycles, cycles*rng.Float64(), misses, 86+1.144*(packages+dram), packages, dram)
	}
	return out
}

func TestTrace(t *testing.T) {
	ticks, err := ReadTrace(strings.NewReader(madeUpTrace(12)))
	if err != nil {
		t.Fatal(err)
	}
	results, err := Trace(ticks)
	if err != nil {
		t.Fatal(err)
	}
	cpu, cycles, all, rapl := figures(t, results, TraceCPU), figures(t, results, TraceCycles), figures(t, results, TraceCounters), figures(t, results, TraceRAPL)
	if !(cpu.MAPE > cycles.MAPE && cycles.MAPE > all.MAPE && all.MAPE < .1 && rapl.MAPE < .1) {
		t.Errorf("CPU time %.2f, cycles %.2f, counters %.2f, RAPL %.2f", cpu.MAPE, cycles.MAPE, all.MAPE, rapl.MAPE)
	}
	if cpu.Points != 240 {
		t.Errorf("%d points: each sample is scored once", cpu.Points)
	}
}

// A file that is not what is asked for says where and why.
func TestBadFiles(t *testing.T) {
	good, trace := madeUp(3, 2, bent), madeUpTrace(2)
	lines := strings.SplitAfter(good, "\n")
	field := func(text, column, value string) string { // in the second row
		rows := strings.Split(text, "\n")
		i := slices.Index(strings.Split(rows[0], ","), column)
		cells := strings.Split(rows[2], ",")
		cells[i] = value
		rows[2] = strings.Join(cells, ",")
		return strings.Join(rows, "\n")
	}
	curves := func(r io.Reader) error { _, err := ReadCurves(r); return err }
	series := func(r io.Reader) error { _, err := ReadTrace(r); return err }
	for name, test := range map[string]struct {
		read func(io.Reader) error
		text string
		says string
	}{
		"empty":                 {curves, "", "the file is empty"},
		"no rows":               {curves, lines[0], "no rows"},
		"column missing":        {curves, strings.Replace(good, "w_idle", "idle", 1), "no column w_idle"},
		"columns missing":       {curves, strings.Replace(strings.Replace(good, "w_idle", "idle", 1), "group", "cpu", 1), "no column w_idle, group"},
		"column twice":          {curves, strings.Replace(good, "hw_avail", "nodes", 1), `"nodes" stands twice`},
		"not a number":          {curves, field(good, "w_40", "many"), `line 3: w_40 is "many"`},
		"nothing":               {curves, field(good, "w_40", ""), `line 3: w_40 is ""`},
		"NaN":                   {curves, field(good, "w_40", "NaN"), "line 3: w_40 is NaN"},
		"infinite":              {curves, field(good, "w_100", "+Inf"), "line 3: w_100 is +Inf"},
		"negative":              {curves, field(good, "w_10", "-4"), "line 3: w_10 is -4"},
		"idle above full":       {curves, field(good, "w_idle", "9000"), "line 3: w_idle 9000 W is above w_100"},
		"loads fall":            {curves, field(good, "load_50", "12"), "line 3: load_50 is 12 %, not above"},
		"a load off its target": {curves, field(good, "load_50", "56"), "line 3: load_50 is 56."},
		"no nodes":              {curves, field(good, "nodes", "0"), "line 3: nodes is 0"},
		"a field less":          {curves, strings.Replace(good, ",1,", ",", 1), "line 2 has"},
		"a quote":               {curves, good + "\"x\n", "read:"},
		"trace, no column":      {series, strings.Replace(trace, "cache_miss", "misses", 1), "no column cache_miss"},
		"trace, no power":       {series, field(trace, "platform_power", "0"), "line 3: platform_power is 0"},
		"trace, NaN":            {series, field(trace, "dram_power", "nan"), "line 3: dram_power is nan"},
		"trace, no block":       {series, field(trace, "block", ""), "line 3: block is empty"},
		"trace, no package":     {series, field(trace, "package_power", "-1"), "line 3: package_power is -1"},
		"trace, no such text":   {series, field(trace, "cpu_cycles", "1e"), `line 3: cpu_cycles is "1e"`},
	} {
		err := test.read(strings.NewReader(test.text))
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
	}
	ticks, err := ReadTrace(strings.NewReader(madeUpTrace(1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Trace(ticks); !errors.Is(err, ErrFile) {
		t.Errorf("one block: %v", err)
	}
}

func TestYearOf(t *testing.T) {
	for text, want := range map[string]int{"May-2007": 2007, "Dec 11, 2007": 2007, "": 0, "x 12 20077": 0, "2016": 2016} {
		if got := yearOf(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := yearOf("", "Mar 6, 2013"); got != 2013 {
		t.Errorf("%d", got)
	}
}

// The figures themselves, by hand.
func TestScore(t *testing.T) {
	s := newScore("m", "")
	for i, e := range []float64{1, 5, -5, 10, 20} {
		s.add(fmt.Sprint(i%2), 100+e, 100)
	}
	want := Figures{MAPE: 8.2, Within5: 60, Within10: 80, P95: 20, Levels: map[string]float64{"0": 8.667, "1": 7.5}, Points: 5}
	if diff := cmp.Diff(want, s.result().Figures); diff != "" {
		t.Error(diff)
	}
}

// Whatever is read, it is read or refused; and what is read can be scored.
func FuzzReadCurves(f *testing.F) {
	f.Add([]byte(madeUp(3, 2, bent)))
	f.Add([]byte("w_idle\n1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		curves, err := ReadCurves(bytes.NewReader(text))
		if err != nil {
			return
		}
		results, err := Power(curves, models.Shipped())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(ByModel(results)); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzReadTrace(f *testing.F) {
	f.Add([]byte(madeUpTrace(2)))
	f.Add([]byte("block\n1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ticks, err := ReadTrace(bytes.NewReader(text))
		if err != nil {
			return
		}
		results, err := Trace(ticks)
		if err != nil {
			return // one block, or a counter that never counts
		}
		if _, err := json.Marshal(ByModel(results)); err != nil {
			t.Fatal(err)
		}
	})
}
