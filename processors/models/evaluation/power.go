package evaluation

import (
	"fmt"
	"math"

	"github.com/accumulus-metering/accumulus/processors/models"
)

// node is what is predicted of one server: its power by utilisation.
type node func(u float64) float64

// The levels, in tenths, that are scored: those that no model was given of the
// same number of points.
var (
	betweenTwo   = []int{1, 2, 3, 4, 5, 6, 7, 8, 9}
	betweenThree = []int{1, 2, 3, 4, 6, 7, 8, 9}
	betweenFour  = []int{2, 3, 4, 6, 7, 8, 9}
)

// Names of models in the output.
const (
	Line          = "line"
	Fan           = "fan-1.4"
	TwoShipped    = "curve-2-shipped"
	TwoUnseen     = "curve-2-crossvalidated"
	ThreeUnseen   = "curve-3-crossvalidated"
	FourLine      = "line-4"
	Four          = "curve-4"
	BoxSame       = "box-same/"
	BoxDifferent  = "box-different/"
	Thesis        = "thesis"
	KeplerRatio   = "kepler-0.9"
	KeplerActive  = "kepler-0.10"
	KeplerEqual   = "kepler-0.10-idle-equal"
	LearnedAlone  = "learned"
	LearnedTwo    = "learned-idle-max"
	LearnedFour   = "learned-curve-4"
	TraceLine     = "line"
	TraceCPU      = "cpu-time"
	TraceCycles   = "cycles"
	TraceCounters = "counters"
	TraceRAPL     = "rapl"
)

// Power scores models of a single node: each from some of the server's own
// points, on the points between them.
func Power(curves []Curve, shipped models.Prior) ([]Result, error) {
	of, n := folds(curves)
	priors, err := unseen(curves, of, n)
	if err != nil {
		return nil, err
	}
	how := fmt.Sprintf("idle and full load; a shape of the file's other groups of processors (%d folds)", n)
	line := newScore(Line, "idle and full load; a straight line: the thesis, Cloud Carbon Footprint")
	fan := newScore(Fan, "idle and full load; Fan, Weber, Barroso 2007: 2u - u^1.4")
	two := newScore(TwoShipped, "idle and full load; the shape that is built in (made of published servers, perhaps of these)")
	twoUnseen := newScore(TwoUnseen, how)
	three := newScore(ThreeUnseen, "idle, 50 % and full load; else as "+TwoUnseen)
	fourLine := newScore(FourLine, "idle, 10, 50 % and full load; straight lines between them")
	four := newScore(Four, "idle, 10, 50 % and full load; a monotone cubic through them")
	for i, c := range curves {
		add := func(s *score, levels []int, at node) {
			for _, l := range levels {
				s.add(fmt.Sprint(l*10), at(c.Points[l].Utilisation), c.Points[l].Watts)
			}
		}
		add(line, betweenTwo, lineNode(c))
		add(fan, betweenTwo, fanNode(c))
		add(fourLine, betweenFour, pieces(c.at(0, 1, 5, tenths)))
		fits := []fitted{{two, betweenTwo, c.at(0, tenths), shipped}, {four, betweenFour, c.at(0, 1, 5, tenths), models.Prior{}}}
		if priors != nil {
			own := priors[of[i]]
			fits = append(fits, fitted{twoUnseen, betweenTwo, c.at(0, tenths), own}, fitted{three, betweenThree, c.at(0, 5, tenths), own})
		}
		for _, f := range fits {
			model, err := models.Fit(f.points, f.prior, c.Year)
			if err != nil {
				return nil, fmt.Errorf("fit curve %d: %w", i+1, err)
			}
			add(f.score, f.levels, model.Watts)
		}
	}
	return results(line, fan, two, twoUnseen, three, fourLine, four), nil
}

// fitted is a score of the package's own curve: from some points and a prior.
type fitted struct {
	*score
	levels []int
	points []models.Point
	prior  models.Prior
}

func lineNode(c Curve) node {
	return func(u float64) float64 { return c.idle() + (c.full()-c.idle())*u }
}

func fanNode(c Curve) node {
	return func(u float64) float64 { return c.idle() + (c.full()-c.idle())*(2*u-math.Pow(u, 1.4)) }
}

// pieces is straight lines through points.
func pieces(points []models.Point) node {
	return func(u float64) float64 {
		for i := 1; i < len(points); i++ {
			if a, b := points[i-1], points[i]; u <= b.Utilisation {
				return a.Watts + (b.Watts-a.Watts)*(u-a.Utilisation)/(b.Utilisation-a.Utilisation)
			}
		}
		return points[len(points)-1].Watts
	}
}
