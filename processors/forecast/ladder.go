package forecast

import "math"

// ladder has a model's errors over shorter times ahead than the back-test's: from one
// series there are many of a day and few of a week, and how errors grow from the one to
// the other says of the week what its few own errors do not.
type ladder struct {
	rungs []rung // the shortest first; the last is the back-test's own
}

// rung are errors over one time ahead.
type rung struct {
	hours int
	at    []int     // origins
	wrong []float64 // truth less forecast, over the forecast
}

// ladderOf forecasts with a model a day, two days, four, … ahead, up to the time of the
// back-test. It is nil where that is a day or less.
func (t trial) ladderOf(m Model, x []float64, unknown []bool) *ladder {
	if t.hours <= day || len(t.origins) == 0 {
		return nil
	}
	l := &ladder{}
	for hours := day; hours < t.hours; hours *= 2 {
		l.rungs = append(l.rungs, rung{hours: hours})
	}
	first := t.origins[0].at
	stride := max(1, (len(x)-day-first+mostOrigins-1)/mostOrigins)
	for at := first; at+day <= len(x); at += stride {
		steps := path(m, x[:at], min(t.hours, len(x)-at))
		if steps == nil {
			continue
		}
		wrong, said, next := 0.0, 0.0, 0
		for i, v := range steps {
			if unknown != nil && unknown[at+i] {
				break
			}
			wrong, said = wrong+x[at+i]-v, said+v
			if r := &l.rungs[next]; i+1 == r.hours {
				r.add(at, wrong, said)
				if next++; next == len(l.rungs) {
					break
				}
			}
		}
	}
	own := rung{hours: t.hours}
	for _, o := range t.origins {
		if said, ok := o.said[m]; ok {
			own.add(o.at, o.truth-said, said)
		}
	}
	l.rungs = append(l.rungs, own)
	return l
}

// add adds an error, as a part of what was said: in what grows, so do the errors.
func (r *rung) add(at int, wrong, said float64) {
	if said > 0 {
		r.at, r.wrong = append(r.at, at), append(r.wrong, wrong/said)
	}
}

// laddersOf are the ladders by model, each made when it is asked for.
func (t trial) laddersOf(x []float64, unknown []bool) func(Model) *ladder {
	made := make(map[Model]*ladder)
	return func(m Model) *ladder {
		l, known := made[m]
		if !known {
			l = t.ladderOf(m, x, unknown)
			made[m] = l
		}
		return l
	}
}

// known are the errors of a rung whose truth lies before a moment, and how many of their
// origins do not overlap.
func (r rung) known(before int) (errs []float64, independent float64) {
	n := 0
	for n < len(r.at) && r.at[n]+r.hours <= before {
		n++
	}
	if n == 0 {
		return nil, 0
	}
	return r.wrong[:n], 1 + float64(r.at[n-1]-r.at[0])/float64(r.hours)
}

// growing is the mean error over a time ahead by the errors that are known before a
// moment: the line of least squares through the logarithms of the rungs' mean errors, each
// by how many of its origins do not overlap. Its slope is from that of independent hours,
// 0.5, to that of a random walk, 1.5; with one rung it is that of a wrong level, 1.
// independent is that of the first rung.
func (l *ladder) growing(before int, hours float64) (mean, independent float64) {
	var w, x, y, xx, xy float64
	for i, r := range l.rungs {
		errs, apart := r.known(before)
		sum := 0.0
		for _, e := range errs {
			sum += math.Abs(e)
		}
		if i == 0 {
			if len(errs) < leastErrors {
				return 0, 0
			}
		}
		if len(errs) == 0 || sum == 0 {
			continue
		}
		independent = apart
		lx, ly := math.Log(float64(r.hours)), math.Log(sum/float64(len(errs)))
		w, x, y, xx, xy = w+apart, x+apart*lx, y+apart*ly, xx+apart*lx*lx, xy+apart*lx*ly
	}
	if w == 0 {
		return 0, 0
	}
	slope := 0.0
	if d := w*xx - x*x; d > 1e-9 {
		slope = min(0.5, max(-0.5, (w*xy-x*y)/d))
	}
	return math.Exp(y/w + slope*(math.Log(hours)-x/w)), independent
}

// tenthOfMean is how far out the tenth and the ninetieth of a normal distribution lie, by
// its mean absolute deviation: z · sqrt(π/2). The sum of many hours' errors is near it,
// also where one hour's are not.
const tenthOfMean = 1.2815515655446004 * 1.2533141373155003

// wider are quantiles of the error of what is said of some hours ahead that are at least
// as far out as the errors known before a moment say by how they grow.
func (l *ladder) wider(low, high, said float64, hours float64, before int) (float64, float64) {
	if l == nil {
		return low, high
	}
	mean, independent := l.growing(before, hours)
	// What is said of hours is hours times a rate: as a part of it the errors grow with the
	// power less one.
	out := tenthOfMean * mean * student(independent) * said
	return min(low, -out), max(high, out)
}
