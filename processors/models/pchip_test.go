package models

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomPoints rise from idle to full load over 2 … 12 utilisations.
func randomPoints(rng *rand.Rand) []Point {
	watts := rng.Float64() * 100
	points := []Point{{0, watts}}
	for u := rng.Float64() * .3; u < 1 && len(points) < 11; u += .01 + rng.Float64()*.3 {
		if u > points[len(points)-1].Utilisation {
			watts += rng.Float64() * 50 * float64(rng.IntN(3)) // a third of the steps is flat
			points = append(points, Point{u, watts})
		}
	}
	return append(points, Point{1, watts + 1 + rng.Float64()*50})
}

func mustCubic(t *testing.T, points []Point) Cubic {
	t.Helper()
	c, err := NewCubic(points)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The laws of the cubic: exact at its points, never falling where they do not
// fall, and within its two neighbours.
func TestCubicIsMonotoneAndExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		points := randomPoints(rng)
		c := mustCubic(t, points)
		for _, p := range points {
			if got := c.At(p.Utilisation); got != p.Watts {
				t.Fatalf("%v: %v W at %v", points, got, p)
			}
		}
		before := math.Inf(-1)
		for i := range 1001 {
			got := c.At(float64(i) / 1000)
			if got < before-1e-9 {
				t.Fatalf("%v falls to %v at %d/1000", points, got, i)
			}
			before = got
		}
	}
}

// The control: a cubic with the mean of the secants as slopes overshoots.
func TestUnboundedSlopesOvershoot(t *testing.T) {
	points := []Point{{0, 0}, {.4, 0}, {.5, 100}, {1, 100}}
	c := mustCubic(t, points)
	c.slope[1], c.slope[2] = 500, 500
	falls := false
	hermite := func(u float64) float64 { // At without its bounds
		h, s := .4, u/.4
		return h * s * (1 - s) * (c.slope[0]*(1-s) - c.slope[1]*s)
	}
	for i := range 400 {
		falls = falls || hermite(float64(i)/1000) < -1e-9
	}
	if !falls {
		t.Error("the control did not undershoot: the law sees nothing")
	}
}

// Values worked out in fractions from the formulas of the paper, in the basis of
// Hermite.
func TestCubicByHand(t *testing.T) {
	c := mustCubic(t, []Point{{0, 50}, {.1, 80}, {.5, 120}, {1, 200}})
	for u, want := range map[float64]float64{.03: 60.428, .07: 73.212, .2: 93.33686440677967, .3: 102.2316384180791,
		.45: 114.52109816384181, .6: 133.0368361581921, .8: 163.77762711864406, .95: 190.47915254237287} {
		if got := c.At(u); math.Abs(got-want) > 1e-9 {
			t.Errorf("at %v: %.12f, want %.12f", u, got, want)
		}
	}
}

func TestCubicRefuses(t *testing.T) {
	for name, points := range map[string][]Point{
		"nothing":         nil,
		"one place":       {{.5, 1}, {.5, 2}},
		"no number":       {{.5, math.NaN()}},
		"infinite":        {{math.Inf(1), 1}},
		"place no number": {{math.NaN(), 1}, {1, 2}},
	} {
		if _, err := NewCubic(points); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c := mustCubic(t, []Point{{.3, 7}}); c.At(0) != 7 || c.At(1) != 7 {
		t.Error("one point is not everywhere")
	}
}

// rising is the nearest that does not fall: against all ways to pool runs.
func TestRisingIsNearest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		n := 1 + rng.IntN(6)
		points := make([]Point, n)
		for i := range points {
			points[i] = Point{float64(i), float64(rng.IntN(10))}
		}
		got, evened := rising(points)
		falls := !slices.IsSortedFunc(points, func(a, b Point) int { return int(a.Watts - b.Watts) })
		if evened != falls {
			t.Fatalf("%v: evened %v", points, evened)
		}
		best := math.Inf(1)
		for cuts := range 1 << (n - 1) { // each way to cut the points into runs
			distance, last, ok := 0.0, math.Inf(-1), true
			for start := 0; start < n; {
				end := start + 1
				for end < n && cuts&(1<<(end-1)) == 0 {
					end++
				}
				mean := 0.0
				for _, p := range points[start:end] {
					mean += p.Watts / float64(end-start)
				}
				ok = ok && mean >= last
				for _, p := range points[start:end] {
					distance += (p.Watts - mean) * (p.Watts - mean)
				}
				last, start = mean, end
			}
			if ok {
				best = min(best, distance)
			}
		}
		distance := 0.0
		for i := range got {
			if i > 0 && got[i].Watts < got[i-1].Watts {
				t.Fatalf("%v became %v, which falls", points, got)
			}
			distance += (got[i].Watts - points[i].Watts) * (got[i].Watts - points[i].Watts)
		}
		if distance > best+1e-9 {
			t.Fatalf("%v became %v, %v away; the nearest is %v", points, got, distance, best)
		}
	}
}
