package models

import (
	"strings"
	"testing"
)

// What is known decides which models there are, and their evidence which is
// taken.
func TestKnown(t *testing.T) {
	learned := Tabulated{Of: KindLearned, Points: tabulateAt(func(u float64) float64 { return 50 + 100*u }, Knots),
		Error: Evidence{MAPE: 1, P95: 2.5, Windows: 20, Source: "the box's meter"}}
	for name, test := range map[string]struct {
		known Known
		kinds string
		best  Kind
		watts float64 // at half load; 0: not looked at
	}{
		"nothing":                      {Known{}, "", "", 0},
		"a nameplate":                  {Known{IdleWatts: 50, MaxWatts: 200}, "line curve", KindCurve, 0},
		"only full load":               {Known{MaxWatts: 200}, "curve", KindCurve, 0},
		"calibrated":                   {Known{IdleWatts: 1, MaxWatts: 9, Measured: []Point{{0, 50}, {.1, 80}, {.5, 110}, {1, 200}}}, "line curve", KindCurve, 110},
		"calibrated in part":           {Known{IdleWatts: 50, MaxWatts: 200, Measured: []Point{{.5, 110}}}, "line curve", KindCurve, 110},
		"learned":                      {Known{IdleWatts: 50, MaxWatts: 200, Learned: &learned}, "line curve learned", KindLearned, 100},
		"counters, which are not read": {Known{IdleWatts: 50, MaxWatts: 200, Counted: []Counted{{Of: KindRAPL, Parts: []Part{{RAPL, []PartStep{{}, {1e8, 1e8}}}}}}}, "line curve rapl", KindCurve, 0},
	} {
		all, err := test.known.Candidates()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var kinds []string
		for _, m := range all {
			kinds = append(kinds, string(m.Kind()))
		}
		if got := strings.Join(kinds, " "); got != test.kinds {
			t.Errorf("%s: %s, want %s", name, got, test.kinds)
		}
		best, why := Choose(Sample{Utilisation: .5}, all...)
		if best == nil {
			if test.best != "" || why == "" {
				t.Errorf("%s: nothing chosen: %s", name, why)
			}
			continue
		}
		microwatts, _ := best.Predict(Sample{Utilisation: .5})
		if best.Kind() != test.best || test.watts > 0 && microwatts != int64(test.watts*1e6) {
			t.Errorf("%s: %s, %d µW at half load", name, why, microwatts)
		}
	}
	if _, err := (Known{IdleWatts: 200, MaxWatts: 50}).Candidates(); err == nil {
		t.Error("idle above full load made a model")
	}
}

// The box's meter cannot tell whose idle it is: of several types the evidence is
// no better than it was where that was tried, and of a type of which nothing was
// known it is worse than a nameplate.
func TestEvidenceOfOneOfSeveral(t *testing.T) {
	two, err := Fit([]Point{{0, 50}, {1, 200}}, testPrior(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	box := Evidence{MAPE: .6, P95: 1.5, Windows: 20}
	f := &boxFit{types: []typeFit{{name: "a", curve: two}, {name: "b", loose: true}}}
	known, unknown := f.evidenceOf(f.types[0], box), f.evidenceOf(f.types[1], box)
	if !(known.MAPE > 2 && known.MAPE < two.Error.MAPE && unknown.MAPE > 20) {
		t.Errorf("%v of the known type, %v of the unknown one", known, unknown)
	}
	f.types = f.types[:1]
	if alone := f.evidenceOf(f.types[0], box); alone != box {
		t.Errorf("%v of the only type", alone)
	}
}
