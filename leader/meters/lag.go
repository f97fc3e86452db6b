package meters

import (
	"context"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// How far a lag is looked for, coarsely and then finely.
const (
	lagReach  = 2 * time.Hour
	lagCoarse = time.Minute
	lagAround = time.Minute
	lagFine   = time.Second
)

// What a lag must show to be believed: enough energy differences, a load that
// varies, and a correlation that is high and clearly better than without it.
const (
	lagSamples     = 60
	lagCorrelation = 0.6
	lagBetter      = 0.8  // of what is not explained without it may be left with it
	lagVariation   = 0.01 // of the mean
)

// Energy is a cumulative energy at a time, of any unit.
type Energy struct {
	Time  time.Time
	Total int64
}

// LagEstimate is how long a meter's times are behind usage.
type LagEstimate struct {
	Lag         time.Duration
	Correlation float64
	Samples     int // energy differences compared
}

// EstimateLag compares what a meter counted with what was used: both cumulative,
// in the order of time. It looks for the shift of the meter's times by which its
// energy differences correlate best with those of usage: in steps of a minute
// within two hours, then of a second within a minute. False where the load says
// nothing: too few differences, one that hardly varies, or no shift that is
// clearly better than none.
func EstimateLag(meter, usage []Energy) (LagEstimate, bool) {
	if len(meter) < 3 || len(usage) < 3 {
		return LagEstimate{}, false
	}
	s := newLagSeries(meter, usage)
	if len(s.ends) < lagSamples || !varies(s.grown) {
		return LagEstimate{Samples: len(s.ends)}, false
	}
	here := s.correlation(0)
	best := LagEstimate{Correlation: here, Samples: len(s.ends)}
	try := func(lag time.Duration) {
		c := s.correlation(lag)
		nearer := c > best.Correlation-1e-9 && lag.Abs() < best.Lag.Abs()
		if c > best.Correlation+1e-9 || nearer {
			best.Lag, best.Correlation = lag, c
		}
	}
	for lag := -lagReach; lag <= lagReach; lag += lagCoarse {
		try(lag)
	}
	for middle, d := best.Lag, -lagAround; d <= lagAround; d += lagFine {
		try(middle + d)
	}
	if best.Correlation < lagCorrelation {
		return best, false
	}
	if best.Lag != 0 && 1-best.Correlation > lagBetter*(1-here) {
		return LagEstimate{Correlation: here, Samples: best.Samples}, here >= lagCorrelation
	}
	return best, true
}

// lagSeries is a meter's differences, and usage to hold them against.
type lagSeries struct {
	starts, ends []int64 // ns
	grown        []float64
	times        []int64 // of usage, ns
	total        []float64
}

// newLagSeries cuts the meter's readings into pieces of at least the distance of
// usage's points, the first and last of which reach as far as any shift needs.
func newLagSeries(meter, usage []Energy) lagSeries {
	var s lagSeries
	for _, u := range usage {
		s.times = append(s.times, u.Time.UnixNano())
		s.total = append(s.total, float64(u.Total-usage[0].Total))
	}
	span := s.times[len(s.times)-1] - s.times[0]
	apart := make([]int64, len(s.times)-1)
	for i := range apart {
		apart[i] = s.times[i+1] - s.times[i]
	}
	slices.Sort(apart)
	width := apart[len(apart)/2] // gaps do not count
	margin := min(int64(lagReach+lagAround), span/4)
	from, to := s.times[0]+margin, s.times[len(s.times)-1]-margin
	last := meter[0]
	for _, m := range meter[1:] {
		a, b := last.Time.UnixNano(), m.Time.UnixNano()
		if b-a < width {
			continue
		}
		if a >= from && b <= to {
			s.starts, s.ends = append(s.starts, a), append(s.ends, b)
			s.grown = append(s.grown, float64(m.Total-last.Total)/float64(b-a))
		}
		last = m
	}
	return s
}

// at is usage's total at a time, linear between its points.
func (s lagSeries) at(t int64) float64 {
	i := sort.Search(len(s.times), func(i int) bool { return s.times[i] >= t })
	switch {
	case i == 0:
		return s.total[0]
	case i == len(s.times):
		return s.total[i-1]
	}
	part := float64(t-s.times[i-1]) / float64(s.times[i]-s.times[i-1])
	return s.total[i-1] + part*(s.total[i]-s.total[i-1])
}

// correlation is Pearson's, of the powers of the pieces and of usage in them if
// the meter's times are behind by lag.
func (s lagSeries) correlation(lag time.Duration) float64 {
	var sx, sy, sxx, syy, sxy float64
	for i := range s.ends {
		a, b := s.starts[i]-int64(lag), s.ends[i]-int64(lag)
		x, y := s.grown[i], (s.at(b)-s.at(a))/float64(b-a)
		sx, sy, sxx, syy, sxy = sx+x, sy+y, sxx+x*x, syy+y*y, sxy+x*y
	}
	n := float64(len(s.ends))
	below := (n*sxx - sx*sx) * (n*syy - sy*sy)
	if !(below > 0) {
		return 0
	}
	return (n*sxy - sx*sy) / math.Sqrt(below)
}

func varies(powers []float64) bool {
	var sum, squares float64
	for _, p := range powers {
		sum += p
		squares += p * p
	}
	mean := sum / float64(len(powers))
	return mean > 0 && math.Sqrt(max(squares/float64(len(powers))-mean*mean, 0)) > lagVariation*mean
}

// Lags are the lags of the fleet's meters.
type Lags map[meterKey][]registry.MeterLag

// ReadLags are those that the registry holds.
func ReadLags(ctx context.Context, r *registry.Registry) (Lags, error) {
	found, err := r.MeterLags(ctx)
	if err != nil {
		return nil, err
	}
	lags := make(Lags)
	for _, l := range found {
		key := meterKey{l.Place, l.Meter}
		lags[key] = append(lags[key], l)
	}
	return lags, nil
}

// of is the lag of a reading of that time: the one that the meter's description
// gives, else the newest that was found for such readings, else none.
func (l Lags) of(m fleet.Meter, at time.Time) registry.MeterLag {
	if m.Lag != 0 {
		return registry.MeterLag{Lag: time.Duration(m.Lag)}
	}
	found := l[meterKey{m.Place(), m.Name}]
	i, exact := slices.BinarySearchFunc(found, at, func(f registry.MeterLag, t time.Time) int { return f.Since.Compare(t) })
	if exact {
		return found[i]
	}
	if i == 0 {
		return registry.MeterLag{}
	}
	return found[i-1]
}

// Longest is the greatest lag of the meter, either way: how much further readings
// must be looked up.
func (l Lags) Longest(m fleet.Meter) time.Duration {
	longest := time.Duration(m.Lag).Abs()
	for _, f := range l[meterKey{m.Place(), m.Name}] {
		longest = max(longest, f.Lag.Abs())
	}
	return longest
}

// Shift puts the readings of one meter at the times of the usage that they count.
// Where two lags meet, a reading that would stand before the one before it is left
// out: the next one holds its energy.
func (l Lags) Shift(m fleet.Meter, readings []Reading) []Reading {
	shifted := make([]Reading, 0, len(readings))
	for _, r := range readings {
		r.Time = r.Time.Add(-l.of(m, r.Time).Lag)
		if n := len(shifted); n > 0 && !r.Time.After(shifted[n-1].Time) {
			continue
		}
		shifted = append(shifted, r)
	}
	return shifted
}
