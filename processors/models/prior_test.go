package models

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The prior that is built in names who measured it, and its shapes go from idle
// to full power without a fall.
func TestShippedPrior(t *testing.T) {
	p := Shipped()
	if !strings.Contains(p.Source, "SPECpower_ssj2008") || !strings.Contains(p.Source, "www.spec.org") {
		t.Errorf("source %q does not name who measured", p.Source)
	}
	for _, year := range []int{0, 1999, 2008, 2011, 2015, 2030} {
		if r := p.Ratio(year); r <= 0 || r >= 1 {
			t.Errorf("%d: idle is %v of full power", year, r)
		}
		for _, ratio := range []float64{math.NaN(), -1, 0, .07, .33, .9, 2} {
			s := p.Shape(ratio, year)
			before := 0.0
			for i := range 101 {
				got := s.At(float64(i) / 100)
				if got < before-1e-12 || got > 1 {
					t.Fatalf("year %d, ratio %v: %v after %v", year, ratio, got, before)
				}
				before = got
			}
			if s.At(0) != 0 || s.At(1) != 1 {
				t.Errorf("year %d, ratio %v: from %v to %v", year, ratio, s.At(0), s.At(1))
			}
		}
	}
}

// Servers of one shape make a prior of that shape, at every place of the grid;
// an outlier does not move it.
func TestPriorIsTheMedian(t *testing.T) {
	shape := func(u float64) float64 { return u * u }
	var servers []Server
	for i := range 40 {
		s := Server{Year: 2005 + i%20}
		for l := range 11 {
			u := float64(l) / 10
			s.Points = append(s.Points, Point{u, float64(10+i) + float64(50+i)*shape(u)})
		}
		servers = append(servers, s)
	}
	outlier := Server{Points: []Point{{0, 10}, {.1, 100}, {1, 101}}}
	p, err := BuildPrior(append(servers, outlier), "made up")
	if err != nil {
		t.Fatal(err)
	}
	for _, ratio := range []float64{.15, .3, .4} {
		for _, year := range []int{0, 2012} {
			s := p.Shape(ratio, year)
			for l := range 11 {
				u := float64(l) / 10
				if got := s.At(u); math.Abs(got-shape(u)) > 1e-3 {
					t.Errorf("ratio %v, year %d: %v at %v, want %v", ratio, year, got, u, shape(u))
				}
			}
		}
	}
	if p.Curves != 41 {
		t.Errorf("%d curves", p.Curves)
	}
	stored, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadPrior(stored)
	if diff := cmp.Diff(p, again); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestPriorRefuses(t *testing.T) {
	flat := Server{Points: []Point{{0, 10}, {1, 10}}}
	if _, err := BuildPrior([]Server{flat}, "made up"); err == nil {
		t.Error("made of a server whose power does not rise")
	}
	if _, err := BuildPrior([]Server{{}}, "made up"); err == nil {
		t.Error("made of a server without points")
	}
	for _, change := range []func(*Prior){
		func(p *Prior) { p.Source = "" },
		func(p *Prior) { p.Years = p.Years[1:] },
		func(p *Prior) { p.Shapes[0][0] = []float64{.5} },
		func(p *Prior) { slices.Reverse(p.Shapes[0][0]) },
		func(p *Prior) { p.Shapes = p.Shapes[:1] },
		func(p *Prior) { p.Levels = append(slices.Clone(p.Levels), 1) },
	} {
		p := testPrior(t)
		change(&p)
		stored, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPrior(stored); err == nil {
			t.Errorf("read %s", stored)
		}
	}
	if _, err := ReadPrior([]byte("{")); err == nil {
		t.Error("read no JSON")
	}
}
