package forecast

// Model names a way to go on from a series.
type Model string

// The models. The first three are the baselines.
const (
	RunRate  Model = "run-rate"     // the mean of the last day
	DayAgo   Model = "day-naive"    // the same hour a day before
	WeekAgo  Model = "week-naive"   // the same hour a week before
	Last     Model = "last"         // the last hour
	DayMean  Model = "day-mean"     // the mean of the same hour of the last seven days
	WeekMean Model = "week-mean"    // the mean of the same hour of the last four weeks
	Drift    Model = "drift"        // the line from the first day to the last, and the hours' pattern
	Damped   Model = "damped-trend" // Gardner & McKenzie 1985, on the series without its pattern of the day
	Theta    Model = "theta"        // Assimakopoulos & Nikolopoulos 2000 as Hyndman & Billah 2003 have it, likewise
)

// Baselines are the models that need no proof.
var Baselines = []Model{RunRate, DayAgo, WeekAgo}

// Models are all models, in the order in which the first of equals is taken.
var Models = []Model{RunRate, DayAgo, WeekAgo, Last, DayMean, WeekMean, Drift, Damped, Theta}

// The seasons of series by the hour.
const (
	day  = 24
	week = 7 * day
)

// path is what a model says of the steps after the series, nil where the series is
// too short for it. Steps below 0 are 0: nothing is ever given back.
func path(m Model, x []float64, steps int) []float64 {
	if len(x) == 0 {
		return nil
	}
	var out []float64
	switch m {
	case RunRate:
		out = constant(mean(x[max(0, len(x)-day):]), steps)
	case Last:
		out = constant(x[len(x)-1], steps)
	case DayAgo:
		out = seasonal(x, day, 1, steps)
	case WeekAgo:
		out = seasonal(x, week, 1, steps)
	case DayMean:
		out = seasonal(x, day, 7, steps)
	case WeekMean:
		out = seasonal(x, week, 4, steps)
	case Drift, Damped, Theta:
		out = trended(m, x, steps)
	}
	for i := range out {
		out[i] = max(0, out[i])
	}
	return out
}

func constant(v float64, steps int) []float64 {
	out := make([]float64, steps)
	for i := range out {
		out[i] = v
	}
	return out
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// seasonal repeats the mean of the last seasons, as many as there are of most.
func seasonal(x []float64, season, most, steps int) []float64 {
	seasons := min(most, len(x)/season)
	if seasons == 0 || most > 1 && seasons < 2 {
		return nil
	}
	pattern := make([]float64, season)
	for s := 1; s <= seasons; s++ {
		for i := range pattern {
			pattern[i] += x[len(x)-s*season+i] / float64(seasons)
		}
	}
	out := make([]float64, steps)
	for i := range out {
		out[i] = pattern[i%season]
	}
	return out
}

// pattern is by how much each hour of the day differs from its day's mean, by the
// hours before the end: pattern[0] is of the first step after the series.
func pattern(x []float64) []float64 {
	days := min(14, len(x)/day)
	out := make([]float64, day)
	for d := 1; d <= days; d++ {
		one := x[len(x)-d*day : len(x)-(d-1)*day]
		of := mean(one)
		for i, v := range one {
			out[i] += (v - of) / float64(days)
		}
	}
	return out
}

// trended goes on with the series' level and trend, and puts the pattern of the day
// on it.
func trended(m Model, x []float64, steps int) []float64 {
	if len(x) < 2*day {
		return nil
	}
	hours := pattern(x)
	flat := make([]float64, len(x))
	for i, v := range x {
		flat[i] = v - hours[((i-len(x))%day+day)%day]
	}
	var out []float64
	switch m {
	case Drift:
		from, to := mean(flat[:day]), mean(flat[len(flat)-day:])
		slope := (to - from) / float64(len(flat)-day)
		out = constant(to+slope*float64(day-1)/2, steps)
		for i := range out {
			out[i] += slope * float64(i+1)
		}
	case Damped:
		out = damped(flat, steps)
	default:
		out = theta(flat, steps)
	}
	for i := range out {
		out[i] += hours[i%day]
	}
	return out
}

// damping is phi of the damped trend: by the hour, so that half of the trend is left
// after about a day and a half.
const damping = 0.98

// damped is Holt's method with a damped trend; its gains are the best of a small
// grid by the squared error one step ahead.
func damped(x []float64, steps int) []float64 {
	best, level, trend := -1.0, 0.0, 0.0
	for _, alpha := range []float64{0.05, 0.2, 0.5, 0.9} {
		for _, beta := range []float64{0.005, 0.05} {
			l, b, wrong := mean(x[:day]), 0.0, 0.0
			for _, v := range x {
				e := v - (l + damping*b)
				wrong += e * e
				l, b = l+damping*b+alpha*e, damping*b+alpha*beta*e
			}
			if best < 0 || wrong < best {
				best, level, trend = wrong, l, b
			}
		}
	}
	out, factor, sum := make([]float64, steps), 1.0, 0.0
	for i := range out {
		factor *= damping
		sum += factor
		out[i] = level + sum*trend
	}
	return out
}

// theta is simple exponential smoothing with half of the least-squares slope as its
// drift; its gain is chosen as damped chooses.
func theta(x []float64, steps int) []float64 {
	best, level := -1.0, 0.0
	for _, alpha := range []float64{0.02, 0.05, 0.1, 0.3, 0.6, 0.9} {
		l, wrong := mean(x[:day]), 0.0
		for _, v := range x {
			e := v - l
			wrong += e * e
			l += alpha * e
		}
		if best < 0 || wrong < best {
			best, level = wrong, l
		}
	}
	n, sumX, sumT := float64(len(x)), 0.0, 0.0
	middle := (n - 1) / 2
	for i, v := range x {
		t := float64(i) - middle
		sumX, sumT = sumX+t*v, sumT+t*t
	}
	slope := sumX / sumT / 2
	out := make([]float64, steps)
	for i := range out {
		out[i] = level + slope*float64(i+1)
	}
	return out
}
