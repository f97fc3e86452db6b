package evaluation

import (
	"math"
	"slices"
)

// Figures are a model's errors.
type Figures struct {
	MAPE     float64            `json:"mape"`     // mean absolute error, %
	Within5  float64            `json:"within5"`  // share of points off by at most 5 %, %
	Within10 float64            `json:"within10"` // by at most 10 %
	P95      float64            `json:"p95"`      // 95 of 100 errors are below it, %
	Levels   map[string]float64 `json:"levels"`   // mean absolute error by level of load, %
	Points   int                `json:"points"`   // that were scored
}

// Result is a model's figures.
type Result struct {
	Model string // its name in the output
	How   string // how it was obtained, in a line
	Figures
}

// ByModel is the results as they are written in JSON.
func ByModel(results []Result) map[string]Figures {
	all := map[string]Figures{}
	for _, r := range results {
		all[r.Model] = r.Figures
	}
	return all
}

// score collects a model's errors.
type score struct {
	model, how string
	errors     []float64
	byLevel    map[string][]float64
}

func newScore(model, how string) *score {
	return &score{model: model, how: how, byLevel: map[string][]float64{}}
}

func (s *score) add(level string, got, want float64) {
	e := math.Abs(got-want) / want * 100
	s.errors = append(s.errors, e)
	s.byLevel[level] = append(s.byLevel[level], e)
}

func (s *score) result() Result {
	r := Result{Model: s.model, How: s.how, Figures: Figures{Levels: map[string]float64{}, Points: len(s.errors)}}
	if len(s.errors) == 0 {
		return r
	}
	errors := slices.Sorted(slices.Values(s.errors))
	r.MAPE = round(mean(errors), 3)
	r.Within5, r.Within10 = round(within(errors, 5), 2), round(within(errors, 10), 2)
	r.P95 = round(errors[min(len(errors)*95/100, len(errors)-1)], 3)
	for level, e := range s.byLevel {
		r.Levels[level] = round(mean(slices.Sorted(slices.Values(e))), 3)
	}
	return r
}

func within(sorted []float64, most float64) float64 {
	n, _ := slices.BinarySearch(sorted, math.Nextafter(most, math.Inf(1)))
	return float64(n) / float64(len(sorted)) * 100
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

func round(v float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(v*unit) / unit
}

func results(scores ...*score) []Result {
	var all []Result
	for _, s := range scores {
		if s != nil && len(s.errors) > 0 {
			all = append(all, s.result())
		}
	}
	return all
}
