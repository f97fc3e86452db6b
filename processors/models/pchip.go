package models

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
)

// Point is a node's power at one utilisation, measured at the wall.
type Point struct {
	Utilisation float64 `json:"utilisation"` // 0 … 1
	Watts       float64 `json:"watts"`
}

// byUtilisation is the order of points.
func byUtilisation(a, b Point) int { return cmp.Compare(a.Utilisation, b.Utilisation) }

// Cubic is a monotone piecewise cubic through points: where they do not fall,
// it does not, and it overshoots none of them. The slopes are Fritsch and
// Carlson's (SIAM J. Numer. Anal. 17, 1980) as their PCHIP package takes them:
// the weighted harmonic mean of the neighbouring secants, three-point at the
// ends. Beyond the ends it stays at the nearest point.
type Cubic struct {
	x, y, slope []float64
}

// NewCubic is the cubic through the points, in any order. It refuses an empty
// list, two points at one utilisation, and what is not finite.
func NewCubic(points []Point) (Cubic, error) {
	if len(points) == 0 {
		return Cubic{}, fmt.Errorf("no points: %w", ErrPoints)
	}
	points = slices.Clone(points)
	slices.SortFunc(points, byUtilisation)
	var c Cubic
	for i, p := range points {
		if !finite(p.Utilisation) || !finite(p.Watts) {
			return Cubic{}, fmt.Errorf("%v W at utilisation %v: %w", p.Watts, p.Utilisation, ErrPoints)
		}
		if i > 0 && p.Utilisation == points[i-1].Utilisation {
			return Cubic{}, fmt.Errorf("two points at utilisation %v: %w", p.Utilisation, ErrPoints)
		}
		c.x, c.y = append(c.x, p.Utilisation), append(c.y, p.Watts)
	}
	c.slope = slopes(c.x, c.y)
	return c, nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// slopes at the points.
func slopes(x, y []float64) []float64 {
	n := len(x)
	d := make([]float64, n)
	if n < 2 {
		return d
	}
	h, secant := make([]float64, n-1), make([]float64, n-1)
	for i := range h {
		h[i] = x[i+1] - x[i]
		secant[i] = (y[i+1] - y[i]) / h[i]
	}
	if n == 2 {
		d[0], d[1] = secant[0], secant[0]
		return d
	}
	for i := 1; i < n-1; i++ {
		if secant[i-1]*secant[i] > 0 {
			before, after := 2*h[i]+h[i-1], h[i]+2*h[i-1]
			d[i] = (before + after) / (before/secant[i-1] + after/secant[i])
		}
	}
	d[0] = endSlope(h[0], h[1], secant[0], secant[1])
	d[n-1] = endSlope(h[n-2], h[n-3], secant[n-2], secant[n-3])
	return d
}

// endSlope is the three-point slope at an end, bounded so that the cubic stays
// monotone.
func endSlope(h, next, secant, secantNext float64) float64 {
	slope := ((2*h+next)*secant - h*secantNext) / (h + next)
	switch {
	case slope*secant <= 0:
		return 0
	case secant*secantNext <= 0 && math.Abs(slope) > 3*math.Abs(secant):
		return 3 * secant
	}
	return slope
}

// At is the cubic's value.
func (c Cubic) At(u float64) float64 {
	n := len(c.x)
	switch {
	case n == 0:
		return 0
	case u <= c.x[0]:
		return c.y[0]
	case u >= c.x[n-1]:
		return c.y[n-1]
	}
	i := sort.SearchFloat64s(c.x, u)
	if c.x[i] == u {
		return c.y[i]
	}
	i--
	h := c.x[i+1] - c.x[i]
	t := (u - c.x[i]) / h
	rise := c.y[i+1] - c.y[i]
	// Hermite, written as a step from the left point so that a flat piece is flat.
	value := c.y[i] + rise*t*t*(3-2*t) + h*t*(1-t)*(c.slope[i]*(1-t)-c.slope[i+1]*t)
	return min(max(value, min(c.y[i], c.y[i+1])), max(c.y[i], c.y[i+1]))
}

// rising is the points in the order of utilisation with the falls evened out:
// the nearest in the sense of squares that never fall (pool adjacent
// violators). Points that do not fall stay exactly as they are; evened says
// whether they did.
func rising(points []Point) (out []Point, evened bool) {
	points = slices.Clone(points)
	slices.SortStableFunc(points, byUtilisation)
	type pool struct {
		sum   float64
		count int
	}
	var pools []pool
	for _, p := range points {
		pools = append(pools, pool{p.Watts, 1})
		for n := len(pools); n > 1 && pools[n-2].sum/float64(pools[n-2].count) > pools[n-1].sum/float64(pools[n-1].count); n = len(pools) {
			pools[n-2].sum += pools[n-1].sum
			pools[n-2].count += pools[n-1].count
			pools = pools[:n-1]
			evened = true
		}
	}
	i := 0
	for _, p := range pools {
		for range p.count {
			if p.count > 1 {
				points[i].Watts = p.sum / float64(p.count)
			}
			i++
		}
	}
	return points, evened
}
