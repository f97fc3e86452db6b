package forecast

import (
	"errors"
	"fmt"
	"math"
)

// Stated is the coverage that P10 to P90 claims.
const Stated = 0.8

// Series is a quantity by the hour, in stored units, the oldest first.
type Series struct {
	Values []int64
	// Unknown marks hours in which nothing was metered, which is not the same as
	// hours in which nothing was used; nil where there are none.
	Unknown []bool
}

// Forecast is how much will be used in the hours after a series.
type Forecast struct {
	Model Model
	// P10, P50 and P90 are of the sum of the hours ahead. Interval says whether P10
	// and P90 are known: without errors of a back-test they are not.
	P10, P50, P90 int64
	Interval      bool
	// Covered is the share of the origins of the back-test at which the truth lay from
	// P10 to P90, each with what was known then, of Checked origins. It is nothing
	// where Checked is 0.
	Covered float64
	Checked int
	// WAPE is Σ|error| / Σ truth of the model over its origins, MASE its mean error
	// over that of the run-rate; nothing where Origins is 0.
	WAPE, MASE float64
	Origins    int
	// TestedHours is how far ahead the back-test looked. Where that is less than the
	// forecast does, the errors are widened by (hours / TestedHours)^Growth.
	TestedHours int
	Growth      float64
	Scores      []Score
}

// Score is a model's result in the back-test.
type Score struct {
	Model   Model
	Origins int
	WAPE    float64 // NaN where the truth was 0
	Ratio   float64 // its mean error over that of the run-rate at the same origins
}

// Errors.
var (
	ErrEmpty   = errors.New("no settled hour to go on from")
	ErrHorizon = errors.New("the time ahead must be more than 0 and at most two years")
)

const maxHours = 2 * 366 * day

// Of forecasts the sum over the coming hours, the last of which may be a part.
func Of(s Series, hours float64) (Forecast, error) {
	if !(hours > 0 && hours <= maxHours) {
		return Forecast{}, ErrHorizon
	}
	if s.Unknown != nil && len(s.Unknown) != len(s.Values) {
		return Forecast{}, fmt.Errorf("%d hours with %d marks of what is unknown", len(s.Values), len(s.Unknown))
	}
	x := s.filled()
	if len(x) == 0 {
		return Forecast{}, ErrEmpty
	}
	t := backTest(x, s.Unknown, int(math.Ceil(hours)))
	model := t.choose(len(t.origins))
	f := Forecast{Model: model, TestedHours: t.hours, Growth: 1, Scores: t.scores()}
	point := ahead(model, x, hours)
	f.P10, f.P50, f.P90 = whole(point), whole(point), whole(point)
	errs := t.errorsOf(model, len(t.origins))
	if f.Origins = len(errs); f.Origins == 0 {
		return f, nil
	}
	f.WAPE, f.MASE = t.accuracy(model)
	ladders := t.laddersOf(x, s.Unknown)
	f.Covered, f.Checked = t.coverage(ladders)
	scale := hours / float64(t.hours)
	if scale > 1 {
		f.Growth = t.growth(model, x)
		scale = math.Pow(scale, f.Growth)
	}
	low, high := quantiles(errs, t.independent(len(t.origins)))
	low, high = ladders(model).wider(scale*low, scale*high, point, hours, len(x))
	f.P10, f.P90 = whole(point+low), whole(point+high)
	f.Interval = len(errs) >= leastErrors
	return f, nil
}

// filled is the series from its first use on, an unknown hour as the same hour of the
// day before it.
func (s Series) filled() []float64 {
	x := make([]float64, len(s.Values))
	for i, v := range s.Values {
		x[i] = float64(v)
		if s.Unknown != nil && s.Unknown[i] && i >= day {
			x[i] = x[i-day]
		}
	}
	return x
}

// ahead is the model's sum over the hours.
func ahead(m Model, x []float64, hours float64) float64 {
	steps := path(m, x, int(math.Ceil(hours)))
	sum := 0.0
	for i, v := range steps {
		sum += v * min(1, hours-float64(i))
	}
	return sum
}

// whole is the nearest stored unit, at least 0 and within int64.
func whole(v float64) int64 {
	switch v = math.Round(v); {
	case !(v > 0):
		return 0
	case v >= math.MaxInt64:
		return math.MaxInt64
	}
	return int64(v)
}
