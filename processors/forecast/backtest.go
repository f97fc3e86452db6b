package forecast

import (
	"math"
	"slices"
)

const (
	mostOrigins = 96
	// leastErrors are needed for a tenth: the rank ceil(0.9·(n+1)) must exist.
	leastErrors = 9
	// leastIndependent origins are needed to take a model that is no baseline.
	leastIndependent = 4
)

// trial is a rolling-origin back-test: at each origin each model forecasts the hours
// behind it from what lies before it.
type trial struct {
	hours   int
	origins []origin
}

type origin struct {
	at    int // hours before it
	truth float64
	said  map[Model]float64
}

// backTest looks as far ahead as the forecast does, or as the series lets it.
func backTest(x []float64, unknown []bool, hours int) trial {
	train := 2 * day
	switch {
	case len(x) >= week+4*day: // so that the week before has its say at each origin
		train = week
	case len(x) < 4*day:
		train = max(3, len(x)/4)
	}
	t := trial{hours: max(1, min(hours, (len(x)-train)/3))}
	room := len(x) - train - t.hours
	if room < 0 {
		return t
	}
	stride := max(1, (room+mostOrigins-1)/mostOrigins)
	for at := len(x) - t.hours; at >= train; at -= stride {
		if unknown != nil && slices.Contains(unknown[at:at+t.hours], true) {
			continue
		}
		o := origin{at: at, said: make(map[Model]float64)}
		for _, v := range x[at : at+t.hours] {
			o.truth += v
		}
		for _, m := range Models {
			if steps := path(m, x[:at], t.hours); steps != nil {
				for _, v := range steps {
					o.said[m] += v
				}
			}
		}
		t.origins = append(t.origins, o)
	}
	slices.Reverse(t.origins)
	return t
}

// errorsOf are truth less forecast of a model at the first n origins where it has one.
func (t trial) errorsOf(m Model, n int) []float64 {
	var all []float64
	for _, o := range t.origins[:n] {
		if said, ok := o.said[m]; ok {
			all = append(all, o.truth-said)
		}
	}
	return all
}

// ratio is a model's error over the run-rate's, at the origins [from, to) where the
// model has a forecast; how many these are.
func (t trial) ratio(m Model, from, to int) (float64, int) {
	mine, base, n := 0.0, 0.0, 0
	for _, o := range t.origins[from:to] {
		if said, ok := o.said[m]; ok {
			mine, base, n = mine+math.Abs(o.truth-said), base+math.Abs(o.truth-o.said[RunRate]), n+1
		}
	}
	switch {
	case n == 0:
		return math.Inf(1), 0
	case mine == 0 && base == 0:
		return 1, n
	case base == 0:
		return math.Inf(1), n
	}
	return mine / base, n
}

// independent is how many of the first n origins do not overlap: errors of origins that
// do are alike.
func (t trial) independent(n int) float64 {
	if n == 0 {
		return 0
	}
	return 1 + float64(t.origins[n-1].at-t.origins[0].at)/float64(t.hours)
}

// choose takes the run-rate, unless by the first n origins another model is better by a
// margin, over all of them and over each half: by 5 % where there are many that do not
// overlap, by a half where there are two, as then the best of nine is best by chance.
// A better model must win against the best baseline in the same way.
func (t trial) choose(n int) Model {
	if n < 3 {
		return RunRate
	}
	margin := min(0.95, max(0.5, 1-1/t.independent(n)))
	best := t.better(RunRate, Baselines, n, margin)
	if t.independent(n) < leastIndependent {
		return best
	}
	return t.better(best, Models[len(Baselines):], n, margin)
}

// better is the best of the models that win against the incumbent, or that.
func (t trial) better(incumbent Model, models []Model, n int, margin float64) Model {
	all, _ := t.ratio(incumbent, 0, n)
	early, _ := t.ratio(incumbent, 0, n/2)
	late, _ := t.ratio(incumbent, n/2, n)
	best, least := incumbent, margin*all
	for _, m := range models {
		r, count := t.ratio(m, 0, n)
		first, before := t.ratio(m, 0, n/2)
		second, after := t.ratio(m, n/2, n)
		if count < max(3, n/3) || after == 0 || second >= late || before > 0 && first >= early || r >= least {
			continue
		}
		best, least = m, r
	}
	return best
}

// scores are of all models that had a forecast.
func (t trial) scores() []Score {
	var all []Score
	for _, m := range Models {
		r, n := t.ratio(m, 0, len(t.origins))
		if n == 0 {
			continue
		}
		wape, _ := t.accuracy(m)
		all = append(all, Score{Model: m, Origins: n, WAPE: wape, Ratio: r})
	}
	return all
}

func (t trial) accuracy(m Model) (wape, mase float64) {
	wrong, truth := 0.0, 0.0
	for _, o := range t.origins {
		if said, ok := o.said[m]; ok {
			wrong, truth = wrong+math.Abs(o.truth-said), truth+o.truth
		}
	}
	if wape = math.NaN(); truth > 0 {
		wape = wrong / truth
	}
	mase, _ = t.ratio(m, 0, len(t.origins))
	return wape, mase
}

// coverage checks at each origin the interval that would have been told there: with
// the model chosen by, and the quantiles of, the origins whose truth was known then.
func (t trial) coverage(ladders func(Model) *ladder) (share float64, checked int) {
	inside, known := 0, 0
	for _, o := range t.origins {
		for t.origins[known].at+t.hours <= o.at {
			known++
		}
		m := t.choose(known)
		errs := t.errorsOf(m, known)
		said, ok := o.said[m]
		if len(errs) < leastErrors || !ok {
			continue
		}
		low, high := quantiles(errs, t.independent(known))
		low, high = ladders(m).wider(low, high, said, float64(t.hours), o.at)
		checked++
		if o.truth >= math.Max(0, said+low) && o.truth <= math.Max(0, said+high) {
			inside++
		}
	}
	if checked == 0 {
		return 0, 0
	}
	return float64(inside) / float64(checked), checked
}

// growth is the exponent by which the model's errors grow with the time ahead, from
// half of the tested time to all of it: 1 of a wrong level, 1.5 of a random walk.
// Less than 1, as of independent hours, is not relied on.
func (t trial) growth(m Model, x []float64) float64 {
	half := t.hours / 2
	if half == 0 {
		return 1.5
	}
	short, long := 0.0, 0.0
	for _, o := range t.origins {
		said, ok := o.said[m]
		if !ok {
			continue
		}
		wrong := 0.0
		for i, v := range path(m, x[:o.at], half) {
			wrong += x[o.at+i] - v
		}
		short, long = short+math.Abs(wrong), long+math.Abs(o.truth-said)
	}
	if short <= 0 || long <= 0 {
		return 1
	}
	return min(1.5, max(1, math.Log(long/short)/math.Log(float64(t.hours)/float64(half))))
}

// quantiles are the tenth and the ninetieth of errors, at the ranks of split conformal
// prediction. Errors of so few independent origins are a small sample: they are widened
// as Student's t is wider than the normal distribution. A bias of few errors is no
// knowledge: the tenth is at most 0, the ninetieth at least.
func quantiles(errs []float64, independent float64) (low, high float64) {
	sorted := slices.Clone(errs)
	slices.Sort(sorted)
	n := len(sorted)
	rank := func(k int) float64 { return sorted[min(n, max(1, k))-1] }
	wider := student(independent)
	return wider * min(0, rank((n+1)/10)), wider * max(0, rank((9*(n+1)+9)/10))
}

// student is the 0.9 quantile of Student's t over that of the normal distribution
// (Abramowitz & Stegun 26.7.5).
func student(freedom float64) float64 {
	const z = 1.2815515655446004
	k := max(1, freedom)
	return 1 + (z*z+1)/(4*k) + (5*z*z*z*z+16*z*z+3)/(96*k*k)
}
