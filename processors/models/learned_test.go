package models

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
)

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// testBox is a box with truths that the learner does not know.
type testBox struct {
	rng    *rand.Rand
	nodes  []string // types
	truth  map[string]func(u float64) float64
	base   float64
	noise  float64
	couple bool // all nodes at one load
}

func (b testBox) windows(n int, from time.Time) []Window {
	var all []Window
	for i := range n {
		w := Window{Time: from.Add(time.Duration(i) * 15 * time.Minute), Watts: b.base}
		one := b.rng.Float64()
		for _, name := range b.nodes {
			u := b.rng.Float64()
			if b.couple {
				u = one
			}
			w.Nodes = append(w.Nodes, Load{name, u})
			w.Watts += b.truth[name](u)
		}
		w.Watts *= 1 + b.noise*b.rng.NormFloat64()
		all = append(all, w)
	}
	return all
}

func concave(idle, span float64) func(u float64) float64 {
	return func(u float64) float64 { return idle + span*(.7*math.Pow(u, .6)+.3*u*u*u) }
}

func off(curve Curve, truth func(u float64) float64) float64 {
	sum := 0.0
	for i := range 101 {
		u := float64(i) / 100
		sum += math.Abs(curve.At(u)-truth(u)) / truth(u)
	}
	return sum / 101 * 100
}

// Six same nodes behind one meter: their curve from the box alone, though
// nothing was known of it.
func TestLearnedFromTheBoxAlone(t *testing.T) {
	b := testBox{rng: rand.New(rand.NewPCG(1, 1)), nodes: slices.Repeat([]string{"a"}, 6), truth: map[string]func(float64) float64{"a": concave(50, 150)}, noise: .005}
	learned, err := Learner{}.Learn(b.windows(100, epoch))
	if err != nil {
		t.Fatal(err)
	}
	if !learned.Accepted {
		t.Errorf("not accepted: %s", learned.Why)
	}
	model := learned.Types["a"]
	if got := off(model, b.truth["a"]); got > 1.5 {
		t.Errorf("%.2f %% off", got)
	}
	if err := processors.CheckCurve(model.Points); err != nil {
		t.Error(err)
	}
	if model.Of != KindLearned || model.Error.Windows != 20 || model.Hardware().Uncertainty == 0 {
		t.Errorf("%+v", model)
	}
}

// Accepted only if better on what it has not seen. The control: the same windows
// are accepted when the prior is poor.
func TestAcceptedOnlyIfBetter(t *testing.T) {
	truth := concave(50, 150)
	grid := []float64{}
	for i := range 101 {
		grid = append(grid, float64(i)/100)
	}
	right := Tabulated{Points: tabulateAt(truth, grid)}
	poor, err := Line(50, 200)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		prior Curve
		want  bool
	}{"a prior that is right": {right, false}, "the line": {poor, true}} {
		accepted := 0
		for seed := range uint64(20) {
			b := testBox{rng: rand.New(rand.NewPCG(seed, 2)), nodes: slices.Repeat([]string{"a"}, 6), truth: map[string]func(float64) float64{"a": truth}, noise: .01}
			learned, err := Learner{Priors: map[string]Curve{"a": test.prior}}.Learn(b.windows(60, epoch))
			if err != nil {
				t.Fatal(err)
			}
			if learned.Accepted != (learned.Error.MAPE < learned.Before.MAPE) {
				t.Fatalf("accepted %v with %v against %v", learned.Accepted, learned.Error.MAPE, learned.Before.MAPE)
			}
			if learned.Accepted {
				accepted++
			}
		}
		if test.want && accepted != 20 || !test.want && accepted > 8 {
			t.Errorf("%s: accepted %d of 20", name, accepted)
		}
	}
	// The box changed for the last windows: what the others taught is worse there.
	b := testBox{rng: rand.New(rand.NewPCG(3, 2)), nodes: slices.Repeat([]string{"a"}, 6), truth: map[string]func(float64) float64{"a": concave(90, 300)}}
	windows := b.windows(80, epoch)
	b.truth["a"] = truth
	windows = append(windows, b.windows(20, epoch.Add(20*time.Hour))...)
	learned, err := Learner{Priors: map[string]Curve{"a": right}}.Learn(windows)
	if err != nil || learned.Accepted {
		t.Errorf("%v: accepted, though %s", err, learned.Why)
	}
}

// Types whose loads do not vary apart share the shape of their rise; those that
// do are told apart.
func TestTied(t *testing.T) {
	truth := map[string]func(float64) float64{"a": concave(40, 100), "b": concave(80, 300)}
	priors := map[string]Curve{}
	for name, at := range truth {
		line, err := Line(at(0), at(1))
		if err != nil {
			t.Fatal(err)
		}
		priors[name] = line
	}
	for _, couple := range []bool{false, true} {
		b := testBox{rng: rand.New(rand.NewPCG(5, 5)), nodes: []string{"a", "a", "b", "b"}, truth: truth, noise: .003, couple: couple}
		learned, err := Learner{Priors: priors}.Learn(b.windows(200, epoch))
		if err != nil {
			t.Fatal(err)
		}
		if tied := len(learned.Types["a"].Tied) > 0; tied != couple || (learned.Condition > MaxCondition) != couple {
			t.Errorf("coupled %v: tied %v, condition %.1f", couple, tied, learned.Condition)
		}
		for name, at := range truth {
			if got := off(learned.Types[name], at); got > 3 {
				t.Errorf("coupled %v: %s is %.2f %% off", couple, name, got)
			}
		}
	}
}

// The box's own base is told from that of its boards when their number varies.
func TestBaseOfTheBox(t *testing.T) {
	b := testBox{rng: rand.New(rand.NewPCG(6, 6)), nodes: slices.Repeat([]string{"a"}, 6), truth: map[string]func(float64) float64{"a": concave(50, 150)}, base: 100}
	windows := b.windows(100, epoch)
	b.nodes = b.nodes[:2]
	windows = append(windows, b.windows(100, epoch.Add(25*time.Hour))...)
	learned, err := Learner{OverheadWatts: 60}.Learn(windows)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(learned.BaseWatts-100) > 8 {
		t.Errorf("the box's base is %.1f W, want 100", learned.BaseWatts)
	}
}

// Old windows are forgotten; with a long half-life they are not.
func TestForgetting(t *testing.T) {
	b := testBox{rng: rand.New(rand.NewPCG(8, 8)), nodes: slices.Repeat([]string{"a"}, 4), truth: map[string]func(float64) float64{"a": concave(50, 150)}}
	windows := b.windows(100, epoch)
	b.truth["a"] = concave(60, 180)
	windows = append(windows, b.windows(100, epoch.Add(60*24*time.Hour))...)
	rng := rand.New(rand.NewPCG(1, 8))
	rng.Shuffle(len(windows), func(i, j int) { windows[i], windows[j] = windows[j], windows[i] })
	errors := map[time.Duration]float64{}
	for _, halfLife := range []time.Duration{0, 3650 * 24 * time.Hour} {
		learned, err := Learner{HalfLife: halfLife}.Learn(windows)
		if err != nil {
			t.Fatal(err)
		}
		errors[halfLife] = off(learned.Types["a"], b.truth["a"])
	}
	if errors[0] > 2 || errors[3650*24*time.Hour] < 2*errors[0] {
		t.Errorf("off by %v with 14 days and with ten years", errors)
	}
}

func TestLearnRefuses(t *testing.T) {
	b := testBox{rng: rand.New(rand.NewPCG(1, 1)), nodes: []string{"a", "a"}, truth: map[string]func(float64) float64{"a": concave(50, 150)}}
	for name, change := range map[string]func([]Window) []Window{
		"too few":     func(w []Window) []Window { return w[:MinWindows-1] },
		"no power":    func(w []Window) []Window { w[3].Watts = 0; return w },
		"no number":   func(w []Window) []Window { w[3].Watts = math.NaN(); return w },
		"no node":     func(w []Window) []Window { w[3].Nodes = nil; return w },
		"over full":   func(w []Window) []Window { w[3].Nodes[0].Utilisation = 1.01; return w },
		"load is NaN": func(w []Window) []Window { w[3].Nodes[0].Utilisation = math.NaN(); return w },
	} {
		if _, err := (Learner{}).Learn(change(b.windows(50, epoch))); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A box that never changes its load teaches no rise: the prior's stays.
func TestSteadyLoadKeepsThePrior(t *testing.T) {
	prior, err := Fit([]Point{{0, 50}, {.1, 80}, {.5, 110}, {1, 200}}, Prior{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var windows []Window
	for i := range 50 {
		windows = append(windows, Window{Time: epoch.Add(time.Duration(i) * time.Hour), Watts: 2 * prior.Watts(.3), Nodes: []Load{{"a", .3}, {"a", .3}}})
	}
	learned, err := Learner{Priors: map[string]Curve{"a": prior}}.Learn(windows)
	if err != nil {
		t.Fatal(err)
	}
	if got := off(learned.Types["a"], prior.Watts); got > 2 {
		t.Errorf("%.2f %% from the prior", got)
	}
}
