package forecast

import (
	"errors"
	"math"
)

// Evaluation is how forecasts of a series held against what came: each was made with
// the hours before its origin alone.
type Evaluation struct {
	Series  string          `json:"series"`
	Hours   int             `json:"hours"`   // ahead; 0 is to the month's end
	Origins int             `json:"origins"` // at which a forecast was held against the truth
	WAPE    float64         `json:"wape"`    // Σ|truth - P50| / Σ truth
	RunRate float64         `json:"runRateWape"`
	DayAgo  float64         `json:"dayNaiveWape"`
	WeekAgo float64         `json:"weekNaiveWape"`
	Covered float64         `json:"covered"` // share of the truths from P10 to P90
	Bounded int             `json:"bounded"` // origins whose forecast had P10 and P90
	Chosen  map[Model]int   `json:"chosen"`  // origins by the model that was taken
	totals  evaluationTotal // of what the shares are
}

type evaluationTotal struct{ truth, wrong, rate, day, week, inside float64 }

// ErrShort is a series that leaves nothing to be held against.
var ErrShort = errors.New("too short: it needs at least a week and twice the time ahead, nine days at the least, by the hour")

// ToMonthEnd is the time ahead that ends with the month: each 30 days from the series'
// start.
const (
	ToMonthEnd = 0
	month      = 30 * day
)

// mostHistory is how far forecasts look back, as the leader's do: five weeks.
const mostHistory = 5 * week

// Evaluate forecasts a series from at most most origins, in the part of it that
// follows its first week and the time ahead once more, eight days at least, hours ahead,
// or ToMonthEnd.
func Evaluate(name string, s Series, hours, most int) (Evaluation, error) {
	e := Evaluation{Series: name, Hours: hours, Chosen: make(map[Model]int)}
	first := week + max(day, hours)
	last := len(s.Values) - hours
	if hours == ToMonthEnd {
		last = len(s.Values)/month*month - 1
	}
	room := last - first
	if room < 0 || hours < 0 || most < 1 {
		return e, ErrShort
	}
	stride := max(1, (room+most-1)/most)
	x := s.filled()
	for at := first; at <= last; at += stride {
		hours := hours
		if hours == ToMonthEnd {
			hours = month - at%month
		}
		from := max(0, at-mostHistory)
		before := Series{Values: s.Values[from:at]}
		if s.Unknown != nil {
			before.Unknown = s.Unknown[from:at]
		}
		f, err := Of(before, float64(hours))
		if err != nil {
			return e, err
		}
		truth := 0.0
		for _, v := range x[at : at+hours] {
			truth += v
		}
		e.count(f, x[from:at], truth, float64(hours))
	}
	return e.finish(), nil
}

func (e *Evaluation) count(f Forecast, before []float64, truth, hours float64) {
	e.Origins++
	e.Chosen[f.Model]++
	t := &e.totals
	off := func(m Model) float64 { return math.Abs(truth - ahead(m, before, hours)) }
	t.truth += truth
	t.wrong += math.Abs(truth - float64(f.P50))
	t.rate, t.day, t.week = t.rate+off(RunRate), t.day+off(DayAgo), t.week+off(WeekAgo)
	if f.Interval {
		e.Bounded++
		if truth >= float64(f.P10) && truth <= float64(f.P90) {
			t.inside++
		}
	}
}

func (e Evaluation) finish() Evaluation {
	if t := e.totals; t.truth > 0 {
		e.WAPE, e.RunRate, e.DayAgo, e.WeekAgo = t.wrong/t.truth, t.rate/t.truth, t.day/t.truth, t.week/t.truth
	}
	if e.Bounded > 0 {
		e.Covered = e.totals.inside / float64(e.Bounded)
	}
	return e
}

// Together is the evaluations as one, weighed by what was used.
func Together(name string, all []Evaluation) Evaluation {
	sum := Evaluation{Series: name, Chosen: make(map[Model]int)}
	for _, e := range all {
		sum.Hours = max(sum.Hours, e.Hours)
		sum.Origins += e.Origins
		sum.Bounded += e.Bounded
		for m, n := range e.Chosen {
			sum.Chosen[m] += n
		}
		t, o := &sum.totals, e.totals
		t.truth, t.wrong, t.rate, t.day, t.week, t.inside = t.truth+o.truth, t.wrong+o.wrong, t.rate+o.rate, t.day+o.day, t.week+o.week, t.inside+o.inside
	}
	return sum.finish()
}
