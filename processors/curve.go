package processors

import (
	"cmp"
	"fmt"
	"slices"
)

// CurvePoint is a node's power at one utilisation.
type CurvePoint struct {
	Utilisation Utilisation `json:"utilisation"` // millionths
	Microwatts  int64       `json:"microwatts"`  // at the wall
}

// Curve evaluates the hardware's fitted curve (Hardware.Curve): on the straight
// line between the points around the utilisation, and as the nearest point
// beyond the first and last. Hardware without a curve is the straight line of
// Linear. How a curve was fitted does not matter here: it is an input, of
// integers, so that each machine computes the same from it.
type Curve struct{}

// Name is "curve/1".
func (Curve) Name() string { return "curve/1" }

// PowerAt is the curve's power in µW.
func (Curve) PowerAt(h Hardware, u Utilisation) int64 {
	points := h.Curve
	if len(points) == 0 {
		return Linear{}.PowerAt(h, u)
	}
	i, found := slices.BinarySearchFunc(points, u, func(p CurvePoint, u Utilisation) int { return cmp.Compare(p.Utilisation, u) })
	switch {
	case i == len(points):
		return points[i-1].Microwatts
	case found || i == 0:
		return points[i].Microwatts
	}
	a, b := points[i-1], points[i]
	return a.Microwatts + MulDiv(b.Microwatts-a.Microwatts, int64(u-a.Utilisation), int64(b.Utilisation-a.Utilisation))
}

// CheckCurve looks whether the points are a curve: of utilisations that rise
// within 0 … Full and of powers that never fall and are not negative. None at
// all are no curve, and fine. Its error is ErrInput.
func CheckCurve(points []CurvePoint) error {
	for i, p := range points {
		switch {
		case p.Utilisation < 0 || p.Utilisation > Full:
			return fmt.Errorf("curve: utilisation %d is not within 0 … %d: %w", p.Utilisation, Full, ErrInput)
		case p.Microwatts < 0:
			return fmt.Errorf("curve: %d µW at utilisation %d: %w", p.Microwatts, p.Utilisation, ErrInput)
		case i > 0 && p.Utilisation <= points[i-1].Utilisation:
			return fmt.Errorf("curve: utilisation %d follows %d: %w", p.Utilisation, points[i-1].Utilisation, ErrInput)
		case i > 0 && p.Microwatts < points[i-1].Microwatts:
			return fmt.Errorf("curve: power falls from %d to %d µW at utilisation %d: %w", points[i-1].Microwatts, p.Microwatts, p.Utilisation, ErrInput)
		}
	}
	return nil
}
