package processors

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// randomCurve is one that CheckCurve accepts.
func randomCurve(rng *rand.Rand) []CurvePoint {
	points := []CurvePoint{{Utilisation: Utilisation(rng.Int64N(1000)), Microwatts: rng.Int64N(100_000_000)}}
	for {
		last := points[len(points)-1]
		next := CurvePoint{last.Utilisation + 1 + Utilisation(rng.Int64N(300_000)), last.Microwatts + rng.Int64N(80_000_000)}
		if next.Utilisation > Full {
			return points
		}
		points = append(points, next)
	}
}

// Laws of a curve: its points exactly, between them on the straight line (cut
// to µW), beyond them as the nearest, and never falling.
func TestCurve(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	for range 300 {
		h := Hardware{IdleMilliwatts: 1, MaxMilliwatts: 2, Curve: randomCurve(rng)}
		if err := CheckCurve(h.Curve); err != nil {
			t.Fatal(err)
		}
		for _, p := range h.Curve {
			if got := (Curve{}).PowerAt(h, p.Utilisation); got != p.Microwatts {
				t.Fatalf("%v: %d µW at %d, want %d", h.Curve, got, p.Utilisation, p.Microwatts)
			}
		}
		before := int64(math.MinInt64)
		for u := Utilisation(0); u <= Full; u += 9_973 {
			got := (Curve{}).PowerAt(h, u)
			want := onLine(h.Curve, float64(u))
			if got < before || math.Abs(float64(got)-want) > 1 {
				t.Fatalf("%v: %d µW at %d after %d, want %.1f", h.Curve, got, u, before, want)
			}
			before = got
		}
	}
}

func onLine(points []CurvePoint, u float64) float64 {
	first, last := points[0], points[len(points)-1]
	if u <= float64(first.Utilisation) {
		return float64(first.Microwatts)
	}
	for i, p := range points[1:] {
		if a := points[i]; u <= float64(p.Utilisation) {
			return float64(a.Microwatts) + (u-float64(a.Utilisation))/float64(p.Utilisation-a.Utilisation)*float64(p.Microwatts-a.Microwatts)
		}
	}
	return float64(last.Microwatts)
}

func TestCurveWithoutPointsIsTheLine(t *testing.T) {
	h := Hardware{IdleMilliwatts: 100_000, MaxMilliwatts: 300_000}
	for _, u := range []Utilisation{0, 1, 333_333, Full} {
		if got, want := (Curve{}).PowerAt(h, u), (Linear{}).PowerAt(h, u); got != want {
			t.Errorf("at %d: %d µW, want %d", u, got, want)
		}
	}
}

func TestCheckCurve(t *testing.T) {
	for name, bad := range map[string][]CurvePoint{
		"falls":      {{0, 10}, {Full, 9}},
		"negative":   {{0, -1}, {Full, 9}},
		"twice":      {{5, 1}, {5, 2}},
		"out of it":  {{0, 1}, {Full + 1, 2}},
		"before it":  {{-1, 1}, {Full, 2}},
		"unordered":  {{Full, 1}, {0, 2}},
		"lone, over": {{Full + 1, 2}},
	} {
		if err := CheckCurve(bad); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
		in := oneMinute(IdleEqual, 0)
		in.Nodes[0].Hardware.Curve = bad
		if _, err := (Power{}).Process(in); !errors.Is(err, ErrInput) {
			t.Errorf("%s, in an input: %v", name, err)
		}
	}
	if err := CheckCurve(nil); err != nil {
		t.Error(err)
	}
}

// A curve's idle is its value at no load, not the hardware's nameplate; and the
// sums hold as they do for the line.
func TestPowerByCurve(t *testing.T) {
	in := oneMinute(IdleEqual, 0)
	in.Nodes[0].Hardware.Curve = []CurvePoint{{0, 80_000_000}, {100_000, 120_000_000}, {Full, 200_000_000}}
	in.Nodes[0].Minutes[0].CPU = in.Nodes[0].Minutes[0].Capacity / 10
	result, err := Power{}.Process(in)
	if err != nil {
		t.Fatal(err)
	}
	var idle, total int64
	for _, row := range result.Rows {
		idle, total = idle+row.Idle, total+row.Total()
	}
	if idle != 4_800_000 || total != 7_200_000 { // 80 and 120 W for a minute
		t.Errorf("idle %d mJ of %d, want 4800000 of 7200000", idle, total)
	}
}

// What the fingerprint law asks of a curve: each value of it shows, one more
// point too.
func TestCurveShowsInFingerprint(t *testing.T) {
	build := func() PowerInput {
		in := oneMinute(IdleEqual, 0)
		in.Nodes[0].Hardware.Curve = []CurvePoint{{0, 80_000_000}, {100_000, 120_000_000}, {Full, 200_000_000}}
		in.Settled = in.Window.From.Add(time.Minute)
		return in
	}
	want := Power{}.Fingerprint(build())
	for name, change := range map[string]func(*Hardware){
		"none":          func(h *Hardware) { h.Curve = nil },
		"a point less":  func(h *Hardware) { h.Curve = h.Curve[:2] },
		"a point more":  func(h *Hardware) { h.Curve = slices.Insert(h.Curve, 1, CurvePoint{50_000, 100_000_000}) },
		"another power": func(h *Hardware) { h.Curve[1].Microwatts++ },
		"another place": func(h *Hardware) { h.Curve[1].Utilisation++ },
		"uncertainty":   func(h *Hardware) { h.Uncertainty = 25_000 },
	} {
		in := build()
		change(&in.Nodes[0].Hardware)
		if got := (Power{}).Fingerprint(in); got == want {
			t.Errorf("%s does not show", name)
		}
	}
	if got := (Power{Model: Linear{}}).Fingerprint(build()); got == want {
		t.Error("another model does not show")
	}
}

func BenchmarkCurve(b *testing.B) {
	h := Hardware{}
	for i := range int64(101) {
		h.Curve = append(h.Curve, CurvePoint{Utilisation(i * 10_000), i * 1_000_000})
	}
	var sum int64
	for i := int64(0); b.Loop(); i++ {
		sum += Curve{}.PowerAt(h, Utilisation(i*7919%int64(Full)))
	}
	_ = sum
}
