package models

import (
	"fmt"
	"math"
	"sort"

	"github.com/accumulus-metering/accumulus/processors"
)

// Counter is something that a node counts, per second.
type Counter string

// The counters.
const (
	CPUTime      Counter = "cpu"          // busy core-µs per second
	Cycles       Counter = "cycles"       // of the processors, per second
	Instructions Counter = "instructions" // per second
	CacheMisses  Counter = "cacheMisses"  // of the last level, per second
	// RAPL is the energy counters of the packages and of the memory (zones named
	// package-N and dram), µW. Zones within a package are in it already.
	RAPL Counter = "rapl"
)

// The sets of counters that a model is fitted on.
var (
	ByCPUTime  = []Counter{CPUTime}
	ByCycles   = []Counter{Cycles}
	ByCounters = []Counter{CPUTime, Cycles, Instructions, CacheMisses}
	ByRAPL     = []Counter{RAPL}
)

// Counted is a model of counters as it is stored: a base, and for each counter a
// table of what it adds. All are integers.
type Counted struct {
	Of         Kind     `json:"kind"`
	Microwatts int64    `json:"baseMicrowatts"`
	Parts      []Part   `json:"parts"`
	Samples    int      `json:"samples"` // that it was fitted on
	Error      Evidence `json:"error"`
}

// Part is what one counter adds.
type Part struct {
	Counter Counter    `json:"counter"`
	Points  []PartStep `json:"points"` // from 0, rising; beyond the last as the last piece goes on
}

// PartStep is the power that a count adds.
type PartStep struct {
	Count      int64 `json:"count"` // per second
	Microwatts int64 `json:"microwatts"`
}

// Kind is how it came to be.
func (c Counted) Kind() Kind { return c.Of }

// Evidence is the error that it was seen to have.
func (c Counted) Evidence() Evidence { return c.Error }

// Predict is the power by the sample's counters; all that the model reads must
// be there.
func (c Counted) Predict(s Sample) (int64, bool) {
	power := c.Microwatts
	for _, part := range c.Parts {
		count, ok := s.Counts[part.Counter]
		if !ok || !(count >= 0) {
			return 0, false
		}
		power += part.at(int64(math.Round(min(count, math.MaxInt64/2))))
	}
	return power, true
}

func (p Part) at(count int64) int64 {
	n := len(p.Points)
	i := sort.Search(n, func(i int) bool { return p.Points[i].Count >= count })
	i = min(max(i, 1), n-1)
	a, b := p.Points[i-1], p.Points[i]
	return a.Microwatts + processors.MulDiv(b.Microwatts-a.Microwatts, count-a.Count, b.Count-a.Count)
}

func (c Counted) check() error {
	if len(c.Parts) == 0 {
		return fmt.Errorf("it reads no counter: %w", ErrPoints)
	}
	for _, p := range c.Parts {
		if len(p.Points) < 2 || p.Points[0] != (PartStep{}) {
			return fmt.Errorf("counter %s: its table needs two points, the first 0: %w", p.Counter, ErrPoints)
		}
		for i := 1; i < len(p.Points); i++ {
			if p.Points[i].Count <= p.Points[i-1].Count || p.Points[i].Microwatts < p.Points[i-1].Microwatts {
				return fmt.Errorf("counter %s: its table falls: %w", p.Counter, ErrPoints)
			}
		}
	}
	return nil
}

// Counts is a sample of a node with its true power.
type Counts struct {
	Sample Sample
	Watts  float64
}

// counterKnots are where a counter's part may bend, as shares of the largest
// count that was seen. RAPL's is straight: it is power itself.
var counterKnots = []float64{0, .1, .25, .5, .75, 1}

// counterRidge ties each piece's slope to that of its neighbour: what few
// samples saw goes on as the rest.
const counterRidge = 1e-4

// FitCounts fits a base and what each counter adds, with nothing negative, such
// that the squares of the relative errors are least.
func FitCounts(kind Kind, samples []Counts, counters []Counter) (Counted, error) {
	tops, err := topCounts(samples, counters)
	if err != nil {
		return Counted{}, err
	}
	var knots [][]float64
	unknowns := 1
	for _, c := range counters {
		shares := counterKnots
		if c == RAPL {
			shares = []float64{0, 1}
		}
		knots = append(knots, shares)
		unknowns += len(shares) - 1
	}
	e := newNormal(unknowns)
	row := make([]float64, unknowns)
	mean := 0.0
	for _, s := range samples {
		mean += s.Watts / float64(len(samples))
	}
	for _, s := range samples {
		fillCounts(row, s.Sample, counters, knots, tops)
		for i := range row {
			row[i] *= mean / s.Watts // unknowns are shares of the mean power
		}
		e.add(row, 1, 1/float64(len(samples)))
	}
	smooth(e, knots)
	x, err := nnls(e.a, e.b)
	if err != nil {
		return Counted{}, fmt.Errorf("fit %d samples: %w", len(samples), err)
	}
	for i := range x {
		x[i] *= mean
	}
	return tabulateCounts(kind, x, counters, knots, tops, len(samples)), nil
}

// topCounts is the largest count of each counter.
func topCounts(samples []Counts, counters []Counter) ([]float64, error) {
	if len(samples) == 0 {
		return nil, fmt.Errorf("no samples: %w", ErrPoints)
	}
	tops := make([]float64, len(counters))
	for n, s := range samples {
		if !(s.Watts > 0) || !finite(s.Watts) {
			return nil, fmt.Errorf("sample %d: %v W: %w", n+1, s.Watts, ErrPoints)
		}
		for i, c := range counters {
			count, ok := s.Sample.Counts[c]
			if !ok || !(count >= 0) || !finite(count) {
				return nil, fmt.Errorf("sample %d: counter %s is %v: %w", n+1, c, count, ErrPoints)
			}
			tops[i] = max(tops[i], count)
		}
	}
	for i, c := range counters {
		if tops[i] < 100 {
			return nil, fmt.Errorf("counter %s never counts: %w", c, ErrPoints)
		}
	}
	return tops, nil
}

// fillCounts is how much of each piece a sample has gone: the last goes on
// beyond what was seen.
func fillCounts(row []float64, s Sample, counters []Counter, knots [][]float64, tops []float64) {
	row[0] = 1
	at := 1
	for i, c := range counters {
		share := s.Counts[c] / tops[i]
		for k := 1; k < len(knots[i]); k++ {
			part := max((share-knots[i][k-1])/(knots[i][k]-knots[i][k-1]), 0)
			if k < len(knots[i])-1 {
				part = min(part, 1)
			}
			row[at] = part
			at++
		}
	}
}

// smooth ties the slopes of neighbouring pieces to each other.
func smooth(e *normal, knots [][]float64) {
	at := 1
	for _, shares := range knots {
		for k := 2; k < len(shares); k++ {
			row := make([]float64, len(e.b))
			row[at] = 1 / (shares[k-1] - shares[k-2])
			row[at+1] = -1 / (shares[k] - shares[k-1])
			e.add(row, 0, counterRidge)
			at++
		}
		at++
	}
	for i := range e.b {
		e.pull(i, 0, counterRidge/100) // what was never seen is 0
	}
}

func tabulateCounts(kind Kind, x []float64, counters []Counter, knots [][]float64, tops []float64, samples int) Counted {
	c := Counted{Of: kind, Microwatts: microwatts(x[0]), Samples: samples}
	at := 1
	for i, counter := range counters {
		part := Part{Counter: counter, Points: []PartStep{{}}}
		sum := 0.0
		for k := 1; k < len(knots[i]); k++ {
			sum += x[at]
			at++
			part.Points = append(part.Points, PartStep{Count: int64(math.Round(knots[i][k] * tops[i])), Microwatts: microwatts(sum)})
		}
		c.Parts = append(c.Parts, part)
	}
	return c
}
