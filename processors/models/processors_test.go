package models

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// boxOfProcessors is windows of a box of nodes whose power is a base and a slope over
// what their processors count, with a meter's noise.
func boxOfProcessors(rng *rand.Rand, n int, noise float64) []ProcessorWindow {
	var windows []ProcessorWindow
	for range n {
		w := ProcessorWindow{Watts: 15}
		for i := range 4 {
			name, base, slope := "big", 90.0, 1.2
			if i%2 == 1 {
				name, base, slope = "small", 20.0, 1.5
			}
			drawn := rng.Float64() * 150
			w.Nodes = append(w.Nodes, ProcessorLoad{name, drawn})
			w.Watts += base + slope*drawn
		}
		w.Watts *= 1 + noise*rng.NormFloat64()
		windows = append(windows, w)
	}
	return windows
}

// TestLearnProcessors: the slopes of two types come out of the box's meter, and of
// their bases the sum; the evidence is that of unseen windows.
func TestLearnProcessors(t *testing.T) {
	windows := boxOfProcessors(rand.New(rand.NewPCG(4, 4)), 200, .005)
	learned, err := LearnProcessors(windows, 15, map[string]float64{"big": 95, "small": 25})
	if err != nil {
		t.Fatal(err)
	}
	var bases float64
	for name, slope := range map[string]float64{"big": 1.2, "small": 1.5} {
		p, err := learned.Types[name].Processor()
		if err != nil {
			t.Fatal(err)
		}
		if off := math.Abs(float64(p.Slope)/1e6 - slope); off > .03 {
			t.Errorf("%s: slope %d, want %v", name, p.Slope, slope)
		}
		bases += 2 * float64(p.BaseMicrowatts) / 1e6
		if p.Uncertainty != learned.Types[name].Error.Uncertainty() || learned.Types[name].Error.MAPE < 2.3 {
			t.Errorf("%s: error %v: of two types, the box's says too little", name, learned.Types[name].Error)
		}
	}
	if math.Abs(bases-220) > 4 {
		t.Errorf("bases of %.1f W, want 220", bases)
	}
	if learned.Error.Windows != 40 || learned.Error.MAPE > .6 || learned.Error.MAPE < .2 {
		t.Errorf("evidence %v, want about the meter's noise on the last 40", learned.Error)
	}
	if off := ProcessorError(windows, learned.Types, 15); off.MAPE > .6 {
		t.Errorf("%v off in all", off)
	}
	// Control: without the types' own counters it is far off.
	for i := range windows {
		windows[i].Nodes[0].Watts = 75
	}
	if off := ProcessorError(windows, learned.Types, 15); off.MAPE < 3 {
		t.Errorf("control: %v off with a counter that stands still", off)
	}
}

// TestLearnProcessorsRefused: what teaches nothing says so; and a model of counters
// that nodes are not metered by is none of the split's.
func TestLearnProcessorsRefused(t *testing.T) {
	good := boxOfProcessors(rand.New(rand.NewPCG(4, 5)), 40, 0)
	for name, spoil := range map[string]func([]ProcessorWindow) []ProcessorWindow{
		"few":      func(w []ProcessorWindow) []ProcessorWindow { return w[:MinWindows-1] },
		"no watts": func(w []ProcessorWindow) []ProcessorWindow { w[3].Watts = 0; return w },
		"negative": func(w []ProcessorWindow) []ProcessorWindow { w[3].Nodes = []ProcessorLoad{{"big", -1}}; return w },
		"no nodes": func(w []ProcessorWindow) []ProcessorWindow { w[3].Nodes = nil; return w },
	} {
		windows := append([]ProcessorWindow(nil), good...)
		if _, err := LearnProcessors(spoil(windows), 0, nil); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Counted{Of: KindCounters, Parts: []Part{{Counter: Cycles, Points: []PartStep{{}, {1, 1}}}}}).Processor(); !errors.Is(err, ErrPoints) {
		t.Errorf("cycles: %v", err)
	}
}
