package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/accumulus-metering/accumulus/processors"
)

// ErrPoints: the points, windows or samples do not make a model; the error says
// why.
var ErrPoints = errors.New("cannot be fitted")

// Kind is how a model came to be.
type Kind string

// The kinds, from the one that needs the least knowledge.
const (
	KindLine     Kind = "line"     // idle and full load, a straight line: the thesis
	KindCurve    Kind = "curve"    // calibration points, what is missing from a prior shape
	KindLearned  Kind = "learned"  // from the box's meter
	KindCounters Kind = "counters" // processor counters
	KindRAPL     Kind = "rapl"     // the processor's own energy counters
)

// Sample is what is known of a node in one window. Counters are per second.
type Sample struct {
	Utilisation float64 // busy over capacity, 0 … 1
	Counts      map[Counter]float64
}

// Model is one hardware type's model.
type Model interface {
	// Kind is how it came to be.
	Kind() Kind
	// Predict is the node's power in µW; false if the sample lacks what the
	// model reads.
	Predict(Sample) (microwatts int64, ok bool)
	// Evidence is the error that it was seen to have.
	Evidence() Evidence
}

// Evidence is a model's error and where it was seen.
type Evidence struct {
	MAPE    float64 `json:"mape"`              // mean absolute error, % of the true power
	P95     float64 `json:"p95"`               // 95 of 100 errors are below it, %
	Windows int     `json:"windows,omitempty"` // unseen windows of the box's own meter; 0: servers of others
	Source  string  `json:"source"`            // what it was held against
}

// Uncertainty is the standard error in millionths of the power: as of a normal
// distribution of that mean, or of that 95th percentile if that says more.
func (e Evidence) Uncertainty() int64 {
	sigma := max(e.MAPE*math.Sqrt(math.Pi/2), e.P95/1.96)
	return int64(math.Round(sigma * 10_000))
}

func (e Evidence) String() string {
	return fmt.Sprintf("%.1f %% (p95 %.1f %%), %s", e.MAPE, e.P95, e.Source)
}

// Choose is the model with the least uncertainty among those that the sample
// can feed, on a tie the earlier; why says what decided. Evidence from the box's
// own meter is held against evidence from published servers as it stands: both
// are errors on what the model had not seen.
func Choose(sample Sample, models ...Model) (best Model, why string) {
	for _, m := range models {
		if _, ok := m.Predict(sample); !ok {
			continue
		}
		if best == nil || m.Evidence().Uncertainty() < best.Evidence().Uncertainty() {
			best = m
		}
	}
	if best == nil {
		return nil, "no model reads what is known of the node"
	}
	return best, fmt.Sprintf("%s: %s", best.Kind(), best.Evidence())
}

// Tabulated is a model of utilisation as it is stored: a line, a curve, or a
// learned one.
type Tabulated struct {
	Of       Kind                    `json:"kind"`
	Measured []Point                 `json:"measured,omitempty"` // the calibration points
	Evened   bool                    `json:"evened,omitempty"`   // measured points fell with load, and were evened out
	Prior    string                  `json:"prior,omitempty"`    // the source of what was not measured; "": nothing came from it
	Tied     []string                `json:"tied,omitempty"`     // learned together with these types, whose loads do not vary apart
	Points   []processors.CurvePoint `json:"curve"`
	Error    Evidence                `json:"error"`
}

// Kind is how it came to be.
func (t Tabulated) Kind() Kind { return t.Of }

// Evidence is the error that it was seen to have.
func (t Tabulated) Evidence() Evidence { return t.Error }

// Predict is the power at the sample's utilisation.
func (t Tabulated) Predict(s Sample) (int64, bool) {
	if !(s.Utilisation >= 0) || len(t.Points) == 0 {
		return 0, false
	}
	u := processors.Utilisation(math.Round(min(s.Utilisation, 1) * float64(processors.Full)))
	return processors.Curve{}.PowerAt(processors.Hardware{Curve: t.Points}, u), true
}

// Watts is the power at a utilisation of 0 … 1.
func (t Tabulated) Watts(u float64) float64 {
	microwatts, _ := t.Predict(Sample{Utilisation: u})
	return float64(microwatts) / 1e6
}

// At is Watts: what a fit may start from.
func (t Tabulated) At(u float64) float64 { return t.Watts(u) }

// Hardware is what the processor needs of it.
func (t Tabulated) Hardware() processors.Hardware {
	hw := processors.Hardware{Curve: t.Points, Uncertainty: t.Error.Uncertainty()}
	if n := len(t.Points); n > 0 {
		hw.IdleMilliwatts, hw.MaxMilliwatts = t.Points[0].Microwatts/1000, t.Points[n-1].Microwatts/1000
	}
	return hw
}

// Decode reads a model that was stored as JSON: a Tabulated or a Counted.
func Decode(stored []byte) (Model, error) {
	var head struct {
		Kind Kind `json:"kind"`
	}
	if err := json.Unmarshal(stored, &head); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	switch head.Kind {
	case KindLine, KindCurve, KindLearned:
		var t Tabulated
		if err := json.Unmarshal(stored, &t); err != nil {
			return nil, fmt.Errorf("read model of kind %s: %w", head.Kind, err)
		}
		if len(t.Points) == 0 {
			return nil, fmt.Errorf("read model of kind %s: it has no curve", head.Kind)
		}
		if err := processors.CheckCurve(t.Points); err != nil {
			return nil, fmt.Errorf("read model of kind %s: %w", head.Kind, err)
		}
		return t, nil
	case KindCounters, KindRAPL:
		var c Counted
		if err := json.Unmarshal(stored, &c); err != nil {
			return nil, fmt.Errorf("read model of kind %s: %w", head.Kind, err)
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("read model of kind %s: %w", head.Kind, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("read model: kind %q is unknown", head.Kind)
}

// gridSteps is how many steps a table of a cubic has: 1 % of utilisation each.
const gridSteps = 100

// Tabulate is the function at each per cent of utilisation, and at the points
// given, in integers. Between two neighbours of the table a cubic of Cubic is
// off by at most an eighth of its largest second derivative times the square of
// their distance, and at its points by half a µW. Falls and negative values,
// which a fit has only by rounding, are evened out.
func Tabulate(at func(float64) float64, points ...Point) []processors.CurvePoint {
	grid := make([]float64, 0, gridSteps+1+len(points))
	for i := range gridSteps + 1 {
		grid = append(grid, float64(i)/gridSteps)
	}
	for _, p := range points {
		grid = append(grid, p.Utilisation)
	}
	return tabulateAt(at, grid)
}
