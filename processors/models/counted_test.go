package models

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func randomCounts(rng *rand.Rand, n int) []Counts {
	var all []Counts
	for range n {
		cycles, misses := rng.Float64()*1e11, rng.Float64()*1e8
		instructions := cycles * (.5 + rng.Float64())
		watts := 90 + 150*math.Pow(cycles/1e11, .8) + 40*misses/1e8
		all = append(all, Counts{Watts: watts * (1 + .005*rng.NormFloat64()), Sample: Sample{Counts: map[Counter]float64{
			CPUTime: 1e6 * (1 + rng.Float64()), Cycles: cycles, Instructions: instructions, CacheMisses: misses, RAPL: (watts - 80) / 1.15 * 1e6}}})
	}
	return all
}

func countedOff(t *testing.T, m Counted, samples []Counts) float64 {
	t.Helper()
	sum := 0.0
	for _, s := range samples {
		got, ok := m.Predict(s.Sample)
		if !ok {
			t.Fatalf("%v is not read", s.Sample)
		}
		sum += math.Abs(float64(got)/1e6-s.Watts) / s.Watts * 100
	}
	return sum / float64(len(samples))
}

// The more a node counts, the nearer the model; beyond what was seen it goes on.
func TestCounters(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	seen, unseen := randomCounts(rng, 400), randomCounts(rng, 200)
	fit := func(kind Kind, counters []Counter) Counted {
		m, err := FitCounts(kind, seen, counters)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		return m
	}
	cpu, cycles := countedOff(t, fit(KindCounters, ByCPUTime), unseen), countedOff(t, fit(KindCounters, ByCycles), unseen)
	all, rapl := countedOff(t, fit(KindCounters, ByCounters), unseen), countedOff(t, fit(KindRAPL, ByRAPL), unseen)
	if !(cpu > 2*cycles && cycles > 2*all && all < 1.5 && rapl < 1) {
		t.Errorf("off by %.2f by CPU time, %.2f by cycles, %.2f by all, %.2f by RAPL", cpu, cycles, all, rapl)
	}
	m := fit(KindRAPL, ByRAPL)
	top, _ := m.Predict(Sample{Counts: map[Counter]float64{RAPL: 1e9}})
	if want := (80 + 1.15*1000) * 1e6; math.Abs(float64(top)-want) > .02*want {
		t.Errorf("%d µW at 1 kW of RAPL, want %.0f", top, want)
	}
}

// A counter that does not matter gets nothing, and none lowers the power.
func TestNothingNegative(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 3))
	samples := randomCounts(rng, 300)
	for i := range samples { // the fewer instructions, the more power
		samples[i].Watts = 200 - 50*samples[i].Sample.Counts[Instructions]/1.5e11
	}
	m, err := FitCounts(KindCounters, samples, []Counter{Instructions})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Parts[0].Points {
		if p.Microwatts > 1_000_000 {
			t.Errorf("%+v", m)
		}
	}
}

func TestCountersRefuse(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 3))
	for name, change := range map[string]func([]Counts) []Counts{
		"nothing":     func([]Counts) []Counts { return nil },
		"no power":    func(s []Counts) []Counts { s[1].Watts = 0; return s },
		"not counted": func(s []Counts) []Counts { delete(s[1].Sample.Counts, Cycles); return s },
		"negative":    func(s []Counts) []Counts { s[1].Sample.Counts[Cycles] = -1; return s },
		"no number":   func(s []Counts) []Counts { s[1].Sample.Counts[Cycles] = math.NaN(); return s },
		"never counted": func(s []Counts) []Counts {
			for i := range s {
				s[i].Sample.Counts[Cycles] = 0
			}
			return s
		},
	} {
		if _, err := FitCounts(KindCounters, change(randomCounts(rng, 20)), ByCycles); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := FitCounts(KindCounters, randomCounts(rng, 20), ByCycles)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Sample{{}, {Counts: map[Counter]float64{Cycles: -1}}, {Counts: map[Counter]float64{Cycles: math.NaN()}}, {Counts: map[Counter]float64{RAPL: 5}}} {
		if _, ok := m.Predict(s); ok {
			t.Errorf("%v is read", s)
		}
	}
	if got, ok := m.Predict(Sample{Counts: map[Counter]float64{Cycles: math.Inf(1)}}); !ok || got <= 0 {
		t.Errorf("an endless count is %d µW, %v", got, ok)
	}
}
