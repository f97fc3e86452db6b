package models

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

// testPrior is one of a few made-up servers.
func testPrior(t *testing.T) Prior {
	t.Helper()
	var servers []Server
	for i := range 12 {
		idle := 20 + 10*float64(i%4)
		s := Server{Year: 2008 + i}
		for l := range 11 {
			u := float64(l) / 10
			s.Points = append(s.Points, Point{u, idle + 100*(.6*math.Sqrt(u)+.4*u*u)})
		}
		servers = append(servers, s)
	}
	p, err := BuildPrior(servers, "made up")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Whatever is measured, in whatever order: the curve goes through it exactly
// (to the µW of the table), never falls, and reaches from 0 to 1.
func TestFitGoesThroughWhatIsMeasured(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	prior := testPrior(t)
	for range 2000 {
		all := randomPoints(rng)
		points := all[:0:0]
		for _, p := range all {
			if rng.IntN(2) == 0 {
				points = append(points, p)
			}
		}
		if len(points) == 0 {
			continue
		}
		rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		if points[0].Watts == 0 {
			continue
		}
		model, err := Fit(points, prior, 2000+rng.IntN(30))
		if err != nil {
			t.Fatalf("%v: %v", points, err)
		}
		if err := processors.CheckCurve(model.Points); err != nil {
			t.Fatalf("%v: %v", points, err)
		}
		if model.Points[0].Utilisation != 0 || model.Points[len(model.Points)-1].Utilisation != processors.Full {
			t.Fatalf("%v: the table reaches from %v to %v", points, model.Points[0], model.Points[len(model.Points)-1])
		}
		for _, p := range points {
			// A point between two millionths is rounded: what the steepest piece rises in half of one.
			if got := model.Watts(p.Utilisation); math.Abs(got-p.Watts) > .02 {
				t.Fatalf("%v: %v W at %v", points, got, p)
			}
		}
		if (model.Prior == "") != complete(points) {
			t.Fatalf("%v: prior %q", points, model.Prior)
		}
	}
}

func TestFitExactlyAtTheFourPoints(t *testing.T) {
	points := []Point{{0, 48.25}, {.1, 81.5}, {.5, 120}, {1, 203.125}}
	model, err := Fit(points, Prior{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		if got := model.Watts(p.Utilisation); got != p.Watts {
			t.Errorf("%v W at %v", got, p)
		}
	}
	hw := model.Hardware()
	if hw.IdleMilliwatts != 48_250 || hw.MaxMilliwatts != 203_125 || hw.Uncertainty == 0 {
		t.Errorf("%+v", hw)
	}
	if model.Prior != "" {
		t.Errorf("nothing is from a prior, but it names %q", model.Prior)
	}
}

// Each measured point corrects the prior's shape: the more are known, the less
// is left of it.
func TestMorePointsAreNearer(t *testing.T) {
	truth := func(u float64) float64 { return 60 + 90*math.Pow(u, .6) }
	off := func(us ...float64) float64 {
		var points []Point
		for _, u := range us {
			points = append(points, Point{u, truth(u)})
		}
		model, err := Fit(points, testPrior(t), 0)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i := range 101 {
			u := float64(i) / 100
			sum += math.Abs(model.Watts(u)-truth(u)) / truth(u)
		}
		return sum
	}
	two, three, four := off(0, 1), off(0, .5, 1), off(0, .1, .5, 1)
	if !(two > three && three > four) {
		t.Errorf("off by %v, %v, %v", two, three, four)
	}
	if half := off(.5); half < two {
		t.Errorf("one point at 50 %% is nearer (%v) than idle and full load (%v)", half, two)
	}
}

func TestFallingPointsAreEvenedOut(t *testing.T) {
	model, err := Fit([]Point{{0, 50}, {.1, 90}, {.5, 80}, {1, 200}}, Prior{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !model.Evened || model.Watts(.1) != 85 || model.Watts(.5) != 85 {
		t.Errorf("evened %v: %v W, %v W", model.Evened, model.Watts(.1), model.Watts(.5))
	}
}

func TestFitRefuses(t *testing.T) {
	for name, points := range map[string][]Point{
		"nothing":     nil,
		"all 0 W":     {{0, 0}, {1, 0}},
		"over 100 %":  {{1.2, 10}},
		"negative":    {{0, -1}, {1, 10}},
		"no number":   {{0, math.NaN()}, {1, 10}},
		"two at once": {{.5, 1}, {.5, 2}},
		"no place":    {{math.NaN(), 1}},
		"infinite":    {{0, 1}, {1, math.Inf(1)}},
	} {
		if _, err := Fit(points, testPrior(t), 0); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Fit([]Point{{0, 10}, {1, 20}}, Prior{}, 0); err == nil || !strings.Contains(err.Error(), "no prior shape") {
		t.Errorf("two points without a prior: %v", err)
	}
	if _, err := Line(20, 10); !errors.Is(err, ErrPoints) {
		t.Errorf("idle above full load: %v", err)
	}
}

// The table against the cubic that it stands for: at its points half a µW, in
// between an eighth of the largest second derivative times the step squared.
func TestTableIsNearTheFit(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	worst := 0.0
	for range 300 {
		points := randomPoints(rng)
		c := mustCubic(t, points)
		table := Tabulated{Points: Tabulate(c.At, points...)}
		for _, p := range table.Points {
			u := float64(p.Utilisation) / 1e6
			if math.Abs(table.Watts(u)-c.At(u)) > .51e-6+1e-6*steepest(c) {
				t.Fatalf("%v W in the table at %v, %v W in the fit", table.Watts(u), u, c.At(u))
			}
		}
		for i := range 3001 {
			u := float64(i) / 3000
			off := math.Abs(table.Watts(u) - c.At(u))
			if bound := bend(c, u)*.01*.01/8 + 1e-6*(2+2*steepest(c)); off > bound {
				t.Fatalf("%v: off by %v W at %v, bound %v", points, off, u, bound)
			}
			worst = max(worst, off/c.At(u))
		}
	}
	t.Logf("the table is off by at most %.3f %%", worst*100)
}

// steepest is the largest slope, W per utilisation; a cubic's is at most three
// times its secant's.
func steepest(c Cubic) float64 {
	most := 0.0
	for i := 1; i < len(c.x); i++ {
		most = max(most, 3*(c.y[i]-c.y[i-1])/(c.x[i]-c.x[i-1]))
	}
	return most
}

// bend is the largest second derivative within a step around u: at the pieces'
// ends, as it is linear within each.
func bend(c Cubic, u float64) float64 {
	most := 0.0
	for i := 1; i < len(c.x); i++ {
		if c.x[i] < u-.01 || c.x[i-1] > u+.01 {
			continue
		}
		h, secant := c.x[i]-c.x[i-1], (c.y[i]-c.y[i-1])/(c.x[i]-c.x[i-1])
		most = max(most, math.Abs(6*secant-4*c.slope[i-1]-2*c.slope[i])/h, math.Abs(6*secant-2*c.slope[i-1]-4*c.slope[i])/h)
	}
	return most
}

// A model that is stored and read again is the same; what was changed into
// nonsense is refused.
func TestStored(t *testing.T) {
	curve, err := Fit([]Point{{0, 50}, {1, 200}}, testPrior(t), 2015)
	if err != nil {
		t.Fatal(err)
	}
	line, err := Line(50, 200)
	if err != nil {
		t.Fatal(err)
	}
	counted := Counted{Of: KindRAPL, Microwatts: 80e6, Parts: []Part{{RAPL, []PartStep{{}, {1e8, 12e7}}}}, Samples: 9, Error: Evidence{MAPE: 2.7}}
	for _, m := range []Model{curve, line, counted} {
		stored, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(stored)
		if err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Error(diff)
		}
	}
	for name, bad := range map[string]string{
		"no JSON":     `{`,
		"no kind":     `{}`,
		"no curve":    `{"kind":"curve"}`,
		"falls":       `{"kind":"curve","curve":[{"utilisation":0,"microwatts":2},{"utilisation":5,"microwatts":1}]}`,
		"no parts":    `{"kind":"rapl"}`,
		"table falls": `{"kind":"rapl","parts":[{"counter":"rapl","points":[{"count":0,"microwatts":0},{"count":0,"microwatts":1}]}]}`,
	} {
		if m, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%s: read as %v", name, m)
		}
	}
}

// Evidence chooses, among what the node offers.
func TestChoose(t *testing.T) {
	line, _ := Line(50, 200)
	four, err := Fit([]Point{{0, 50}, {.1, 80}, {.5, 110}, {1, 200}}, Prior{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	learned := four
	learned.Of, learned.Error = KindLearned, Evidence{MAPE: 1.2, P95: 3.5, Windows: 20, Source: "the box's meter, 20 unseen windows"}
	worse := learned
	worse.Error = Evidence{MAPE: 8, P95: 20, Windows: 20, Source: "the box's meter, 20 unseen windows"}
	rapl := Counted{Of: KindRAPL, Microwatts: 80e6, Parts: []Part{{RAPL, []PartStep{{}, {1e8, 12e7}}}}, Error: Evidence{MAPE: .5, P95: 1}}
	load := Sample{Utilisation: .5}
	for name, test := range map[string]struct {
		sample Sample
		models []Model
		want   Kind
	}{
		"points before the line":        {load, []Model{line, four}, KindCurve},
		"learned, because it is better": {load, []Model{line, four, learned}, KindLearned},
		"learned, but worse":            {load, []Model{line, four, worse}, KindCurve},
		"RAPL where it is read":         {Sample{Utilisation: .5, Counts: map[Counter]float64{RAPL: 5e7}}, []Model{four, rapl}, KindRAPL},
		"not where it is not":           {load, []Model{rapl, four}, KindCurve},
	} {
		best, why := Choose(test.sample, test.models...)
		if best == nil || best.Kind() != test.want || !strings.Contains(why, string(test.want)) {
			t.Errorf("%s: %v, %s", name, best, why)
		}
	}
	if best, why := Choose(load, rapl); best != nil || why == "" {
		t.Errorf("chose %v, %q", best, why)
	}
	if slices.Contains([]int64{four.Error.Uncertainty(), line.Error.Uncertainty()}, 0) || four.Error.Uncertainty() >= line.Error.Uncertainty() {
		t.Error("four points are no better than the line")
	}
}
