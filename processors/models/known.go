package models

import (
	"fmt"
	"slices"
)

// Known is all that is known of a hardware type's power.
type Known struct {
	IdleWatts, MaxWatts float64    // as its owner gave them; 0: not known
	Measured            []Point    // by calibration; they stand before what was given
	Year                int        // from which it could be had; 0: unknown
	Prior               Prior      // its zero is Shipped
	Learned             *Tabulated // from a box's meter, if it was accepted
	Counted             []Counted  // of counters and of RAPL
}

// Candidates are the models that can be made of what is known, from the one that
// needs least: the line and the curve through points, the learned one, and those
// of counters. None, without an error, if nothing is known.
func (k Known) Candidates() ([]Model, error) {
	var all []Model
	points := k.points()
	if known := levels(points); known[0] && known[3] {
		first, last := points[0], points[len(points)-1]
		line, err := Line(first.Watts, last.Watts)
		if err != nil {
			return nil, fmt.Errorf("line: %w", err)
		}
		all = append(all, line)
	}
	if len(points) > 0 {
		prior := k.Prior
		if len(prior.Shapes) == 0 {
			prior = Shipped()
		}
		curve, err := Fit(points, prior, k.Year)
		if err != nil {
			return nil, fmt.Errorf("curve: %w", err)
		}
		all = append(all, curve)
	}
	if k.Learned != nil {
		all = append(all, *k.Learned)
	}
	for _, c := range k.Counted {
		all = append(all, c)
	}
	return all, nil
}

// points are the measured ones, and of idle and full load what was given where
// nothing was measured, in the order of load.
func (k Known) points() []Point {
	points := slices.Clone(k.Measured)
	known := levels(points)
	if !known[0] && k.IdleWatts > 0 {
		points = append(points, Point{0, k.IdleWatts})
	}
	if !known[3] && k.MaxWatts > 0 {
		points = append(points, Point{1, k.MaxWatts})
	}
	slices.SortFunc(points, byUtilisation)
	return points
}
