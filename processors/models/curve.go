package models

import (
	"fmt"
	"slices"
)

// Where a calibration point stands for one of the four levels: idle, 10, 50 and
// 100 % of load.
var levelRanges = [][2]float64{{0, 0.02}, {0.05, 0.2}, {0.35, 0.65}, {0.95, 1}}

// Standard errors of a curve by how much of it was measured. The figures are
// the errors on published servers that the fit had not seen (SPECpower_ssj2008,
// www.spec.org, 651 servers, five folds by processor), as `accumulus evaluate
// power` prints them; docs/accuracy.md has the table.
const evidenceSource = "servers of SPECpower_ssj2008, www.spec.org"

// Line is the straight line between idle and full load.
func Line(idle, full float64) (Tabulated, error) {
	if err := checkPoints([]Point{{0, idle}, {1, full}}); err != nil {
		return Tabulated{}, err
	}
	if full < idle {
		return Tabulated{}, fmt.Errorf("idle %g W is above full load %g W: %w", idle, full, ErrPoints)
	}
	at := func(u float64) float64 { return idle + (full-idle)*u }
	return Tabulated{Of: KindLine, Measured: []Point{{0, idle}, {1, full}}, Points: tabulateAt(at, []float64{0, 1}),
		Error: Evidence{MAPE: 9.6, P95: 25.9, Source: evidenceSource}}, nil
}

// Fit is the curve through calibration points: at least one, of which the watts
// may not all be 0. With a point for each of idle, 10, 50 and 100 % of load it
// is the monotone cubic through the points. Otherwise it is the prior's shape
// for such a node, corrected at each measured point by what it is off there,
// interpolated in between. It goes through every measured point exactly unless
// the points fall with load (Evened).
func Fit(points []Point, prior Prior, year int) (Tabulated, error) {
	curve, measured, evened, err := fit(points, prior, year)
	if err != nil {
		return Tabulated{}, err
	}
	t := Tabulated{Of: KindCurve, Measured: points, Evened: evened, Points: Tabulate(curve.At, measured...), Error: curveEvidence(measured)}
	if !complete(measured) {
		t.Prior = prior.Source
	}
	return t, nil
}

func fit(points []Point, prior Prior, year int) (curve Cubic, measured []Point, evened bool, err error) {
	if err := checkPoints(points); err != nil {
		return Cubic{}, nil, false, err
	}
	measured, evened = rising(points)
	if complete(measured) {
		curve, err = NewCubic(measured)
		return curve, measured, evened, err
	}
	if len(prior.Shapes) == 0 {
		return Cubic{}, nil, false, fmt.Errorf("points at idle, 10, 50 and 100 %% of load are not all measured, and there is no prior shape: %w", ErrPoints)
	}
	curve, err = NewCubic(fill(measured, prior, year))
	return curve, measured, evened, err
}

func checkPoints(points []Point) error {
	if len(points) == 0 {
		return fmt.Errorf("no points: %w", ErrPoints)
	}
	most := 0.0
	for i, p := range points {
		if !(p.Utilisation >= 0 && p.Utilisation <= 1) {
			return fmt.Errorf("utilisation %v is not within 0 … 1: %w", p.Utilisation, ErrPoints)
		}
		if !(p.Watts >= 0) || !finite(p.Watts) {
			return fmt.Errorf("%v W at utilisation %v: %w", p.Watts, p.Utilisation, ErrPoints)
		}
		if slices.ContainsFunc(points[:i], func(o Point) bool { return o.Utilisation == p.Utilisation }) {
			return fmt.Errorf("two points at utilisation %v: %w", p.Utilisation, ErrPoints)
		}
		most = max(most, p.Watts)
	}
	if most == 0 {
		return fmt.Errorf("all points are 0 W: %w", ErrPoints)
	}
	return nil
}

// levels says which of idle, 10, 50 and 100 % of load are measured.
func levels(points []Point) (known [4]bool) {
	for i, r := range levelRanges {
		known[i] = slices.ContainsFunc(points, func(p Point) bool { return p.Utilisation >= r[0] && p.Utilisation <= r[1] })
	}
	return known
}

func complete(points []Point) bool { return levels(points) == [4]bool{true, true, true, true} }

// fill is the measured points (rising) and between them the tenths of load by
// the prior's shape, corrected.
func fill(measured []Point, prior Prior, year int) []Point {
	idle, full := ends(measured, prior, year)
	shape := prior.Shape(idle/full, year)
	at := func(u float64) float64 { return idle + (full-idle)*shape.At(u) }
	filled := slices.Clone(measured)
	for i := range 11 {
		u := float64(i) / 10
		if slices.ContainsFunc(measured, func(p Point) bool { return near(p.Utilisation, u) }) {
			continue
		}
		below, above := around(measured, u)
		watts := at(u) + correction(at, below, above, u)
		if below != nil {
			watts = max(watts, below.Watts)
		}
		if above != nil {
			watts = min(watts, above.Watts)
		}
		filled = append(filled, Point{u, max(watts, 0)})
	}
	slices.SortFunc(filled, byUtilisation)
	for i := 1; i < len(filled); i++ { // measured ones do not fall: only filled ones move
		filled[i].Watts = max(filled[i].Watts, filled[i-1].Watts)
	}
	return filled
}

// near says whether a measured point stands for a tenth of load: a second one
// so close would bend the curve.
func near(measured, tenth float64) bool {
	if tenth == 0 || tenth == 1 { // the ends hold: a curve reaches from 0 to 1
		return measured == tenth
	}
	return measured > tenth-0.03 && measured < tenth+0.03
}

// around is the measured neighbours of a utilisation.
func around(measured []Point, u float64) (below, above *Point) {
	for i := range measured {
		if measured[i].Utilisation <= u {
			below = &measured[i]
		} else if above == nil {
			above = &measured[i]
		}
	}
	return below, above
}

// correction is what the prior's curve is off by at the measured neighbours,
// interpolated; beyond the last of them as there.
func correction(at func(float64) float64, below, above *Point, u float64) float64 {
	switch {
	case below == nil:
		return above.Watts - at(above.Utilisation)
	case above == nil:
		return below.Watts - at(below.Utilisation)
	}
	t := (u - below.Utilisation) / (above.Utilisation - below.Utilisation)
	return (1-t)*(below.Watts-at(below.Utilisation)) + t*(above.Watts-at(above.Utilisation))
}

// ends is the idle and full power: as measured, else by the prior's typical
// idle share and its shape through the highest point.
func ends(measured []Point, prior Prior, year int) (idle, full float64) {
	first, last := measured[0], measured[len(measured)-1]
	known := levels(measured)
	ratio := prior.Ratio(year)
	switch {
	case known[0] && known[3]:
		return first.Watts, max(last.Watts, first.Watts, 1e-6)
	case known[3]:
		return last.Watts * ratio, last.Watts
	}
	// The full power such that the prior goes through the last point.
	through := func(idle, share float64) float64 { return (last.Watts - idle*(1-share)) / share }
	share := max(prior.Shape(ratio, year).At(last.Utilisation), 0.01)
	if known[0] && last.Utilisation > levelRanges[0][1] {
		return first.Watts, max(through(first.Watts, share), last.Watts, 1e-6)
	}
	full = last.Watts / (ratio + (1-ratio)*share)
	return ratio * full, full
}

// curveEvidence is what a curve's error was on servers that the fit had not
// seen, by which of idle, 10, 50 and 100 % of load were measured.
func curveEvidence(measured []Point) Evidence {
	known := levels(measured)
	e := Evidence{MAPE: 6.7, P95: 19.4}
	switch {
	case known == [4]bool{true, true, true, true}:
		e = Evidence{MAPE: 2.1, P95: 6.2}
	case known[0] && known[2] && known[3]:
		e = Evidence{MAPE: 3.4, P95: 10.6}
	case !known[0] || !known[3]:
		e = Evidence{MAPE: 15, P95: 40} // the largest of the others and more: it was not tried
	}
	e.Source = evidenceSource
	return e
}
