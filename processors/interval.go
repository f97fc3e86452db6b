package processors

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// MinSteps is how many of its counter's steps a meter interval spans at least:
// then the rounding of its two ends is at most 1/MinSteps of its energy each.
const MinSteps = 20

// gridSteps is the width of the grid that bounds intervals: the first reading
// in a cell ends one if it lies at most gridSteps - MinSteps behind the cell's
// start, or MinSteps from both neighbouring cells' first readings. A prime, so
// that a steady growth per reading meets each place in the cells.
const gridSteps = 23

// Reading is what an electricity counter showed.
type Reading struct {
	Time               time.Time // when it was read
	CounterMillijoules int64
	StepMillijoules    int64 // the counter's resolution; less than 1 counts as 1
	Epoch              int64 // another one: another life of the counter
	Integrated         bool  // the counter is ours: the meter shows only watts
}

// Meter is an electricity meter of a box, or of one node of it, with its accepted
// readings.
type Meter struct {
	Name          string
	Cluster, Node string     // it counts this node alone; "" is the box
	Others        []OtherBox // it counts these boxes too
	// Readings in the order of time. They reach from before the window (Span
	// says whether far enough) to an interval's end at or after the window's, or
	// to the newest that there is: at 100 W a counter of 1 Wh needs 14 minutes.
	Readings []Reading
	// FromFirst: Readings starts with the first reading that there is.
	FromFirst bool
	// ClassError is how far its gain may be off, 1e-6; 0 is ClassError.
	ClassError int64
	From, To   time.Time // validity at the box, half-open; zero is open. Readings outside are ignored.
}

// Interval is a closed meter interval: two readings of one counter, in one
// epoch, at least MinSteps steps apart.
type Interval struct {
	From, To   time.Time
	Start, End int64 // mJ, the counter at From and To
	Integrated bool  // of watts
}

// Growth is the energy of the interval, mJ.
func (i Interval) Growth() int64 { return i.End - i.Start }

// Intervals are the meter's closed intervals in the order of time. Whether a
// reading bounds an interval depends only on the reading itself and on its
// neighbours, never on where the slice begins, so that two quarters see the
// same intervals. A reset (new epoch, or a counter that went back) ends a run
// of intervals; what it counted after the last bound is in no interval, and so
// is a run shorter than MinSteps.
func (m Meter) Intervals() []Interval {
	var intervals []Interval
	readings, first := m.valid()
	for start := 0; start < len(readings); {
		end := start + 1
		for end < len(readings) && continues(readings[end-1], readings[end]) {
			end++
		}
		r := run{readings: readings[start:end], begins: start > 0 || first, ended: end < len(readings)}
		intervals = append(intervals, r.intervals()...)
		start = end
	}
	return intervals
}

// valid is the readings within the meter's validity, and whether they reach
// back to its beginning.
func (m Meter) valid() (readings []Reading, first bool) {
	from, to := 0, len(m.Readings)
	if !m.From.IsZero() {
		from = sort.Search(to, func(i int) bool { return !m.Readings[i].Time.Before(m.From) })
	}
	if !m.To.IsZero() {
		to = sort.Search(to, func(i int) bool { return !m.Readings[i].Time.Before(m.To) })
	}
	if from >= to {
		return nil, false
	}
	return m.Readings[from:to], m.FromFirst || from > 0 || m.Readings[0].Time.Equal(m.From)
}

func (m Meter) validAt(t time.Time) bool {
	return (m.From.IsZero() || !t.Before(m.From)) && (m.To.IsZero() || t.Before(m.To))
}

func (m Meter) check() error {
	for i := 1; i < len(m.Readings); i++ {
		if !m.Readings[i].Time.After(m.Readings[i-1].Time) {
			return fmt.Errorf("meter %s: readings at %s and %s: %w", m.Name,
				m.Readings[i-1].Time.Format(time.RFC3339Nano), m.Readings[i].Time.Format(time.RFC3339Nano), ErrInput)
		}
	}
	return nil
}

func continues(a, b Reading) bool {
	return a.Epoch == b.Epoch && b.CounterMillijoules >= a.CounterMillijoules
}

// run is the readings of one life of a counter.
type run struct {
	readings []Reading
	begins   bool // the first reading is the first of this life
	ended    bool // another life follows
}

func (r run) intervals() []Interval {
	firsts := r.firsts()
	var bounds []int
	bound := func(i int) {
		// Closer than MinSteps: only after the first reading of a life, at its
		// end, or where the counter's resolution changed.
		if len(bounds) == 0 || r.steps(bounds[len(bounds)-1], i) >= MinSteps {
			bounds = append(bounds, i)
		}
	}
	for k, i := range firsts {
		apart := 0 < k && k < len(firsts)-1 && r.steps(firsts[k-1], i) >= MinSteps && r.steps(i, firsts[k+1]) >= MinSteps
		if r.begins && i == 0 || r.early(i) || apart {
			bound(i)
		}
	}
	if r.ended && len(bounds) > 0 {
		bound(len(r.readings) - 1)
	}
	var intervals []Interval
	for i := 1; i < len(bounds); i++ {
		a, b := r.readings[bounds[i-1]], r.readings[bounds[i]]
		intervals = append(intervals, Interval{From: a.Time, To: b.Time, Start: a.CounterMillijoules, End: b.CounterMillijoules, Integrated: a.Integrated || b.Integrated})
	}
	return intervals
}

// firsts is the readings that are the first in their cells, and the first of
// the counter's life.
func (r run) firsts() []int {
	var firsts []int
	for i := range r.readings {
		if i == 0 && r.begins || i > 0 && r.cell(i, i) > r.cell(i-1, i) {
			firsts = append(firsts, i)
		}
	}
	return firsts
}

// cell is the cell of a reading in the grid of another one's step.
func (r run) cell(i, of int) int64 {
	return floorDiv(r.readings[i].CounterMillijoules, gridSteps*step(r.readings[of]))
}

// early says whether a reading lies so near to its cell's start that the next
// cell is MinSteps away.
func (r run) early(i int) bool {
	unit := step(r.readings[i])
	return i > 0 && r.readings[i].CounterMillijoules-r.cell(i, i)*gridSteps*unit <= (gridSteps-MinSteps)*unit
}

// steps is the growth between two readings in steps of the coarser of them.
func (r run) steps(from, to int) int64 {
	a, b := r.readings[from], r.readings[to]
	return (b.CounterMillijoules - a.CounterMillijoules) / max(step(a), step(b))
}

func step(r Reading) int64 { return max(r.StepMillijoules, 1) }

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

// Span is the whole minutes over which Power needs the nodes' rows: the window
// and every closed interval that overlaps it. complete says whether the
// readings reach far enough back: to two bounds at or before the window's
// start, or to the first reading that there is. If not, give earlier ones.
//
// What changes a row or closes an interval within the span changes this window.
// Meters of nodes come last: their intervals count wherever those of the box do.
func Span(window schema.Window, meters []Meter) (span schema.Window, complete bool) {
	span, complete = window, true
	for _, parts := range []bool{false, true} {
		reach := span
		for _, m := range meters {
			if m.part() != parts {
				continue
			}
			bounds := 0
			for _, interval := range m.Intervals() {
				if !interval.From.After(reach.From) {
					bounds++
				}
				if interval.overlaps(reach) {
					span.From, span.To = schema.Earlier(span.From, interval.From), schema.Later(span.To, interval.To)
				}
			}
			_, first := m.valid()
			complete = complete && (first || m.FromFirst || bounds >= 2)
		}
		span.From = span.From.UTC().Truncate(schema.Minute)
		if to := span.To.UTC().Truncate(schema.Minute); to.Before(span.To) {
			span.To = to.Add(schema.Minute)
		}
	}
	return span, complete
}

func (i Interval) overlaps(w schema.Window) bool {
	return i.From.Before(w.To) && i.To.After(w.From)
}

// coverage is a meter's closed intervals as a function of time.
type coverage struct {
	meter     Meter
	intervals []Interval
	final     bool // the meter's validity has ended: nothing more closes
	model     *timeline
}

// newCoverage takes the intervals that end by settled.
func newCoverage(m Meter, settled time.Time, model *timeline) coverage {
	intervals := slices.DeleteFunc(m.Intervals(), func(i Interval) bool { return i.To.After(settled) })
	return coverage{meter: m, intervals: intervals, final: !m.To.IsZero() && !m.To.After(settled), model: model}
}

// from is the index of the first interval that ends at or after t.
func (c coverage) from(t time.Time) int {
	i, _ := slices.BinarySearchFunc(c.intervals, t, func(i Interval, t time.Time) int { return i.To.Compare(t) })
	return i
}

// within is the intervals that overlap the window.
func (c coverage) within(w schema.Window) []Interval {
	first := c.from(w.From)
	last := first
	for last < len(c.intervals) && c.intervals[last].From.Before(w.To) {
		last++
	}
	if first < last && !c.intervals[first].overlaps(w) {
		first++
	}
	return c.intervals[first:last]
}

// find is the index of the interval that holds [from, to), which no interval's
// end cuts, or -1.
func (c coverage) find(from, to time.Time) int {
	if i := c.from(to); i < len(c.intervals) && !c.intervals[i].From.After(from) {
		return i
	}
	return -1
}

// open says whether an interval may still close over t.
func (c coverage) open(t time.Time) bool {
	return !c.final && (len(c.intervals) == 0 || !t.Before(c.intervals[len(c.intervals)-1].To))
}

// openFrom is where the meter's open interval begins, and whether it reaches
// into the window.
func (c coverage) openFrom(w schema.Window) (time.Time, bool) {
	from := schema.Later(w.From, c.meter.From)
	if n := len(c.intervals); n > 0 {
		from = c.intervals[n-1].To
	}
	return from, c.open(from) && from.Before(w.To)
}

// growth is what the counter grew by over [from, to) of interval i.
func (c coverage) growth(i int, from, to time.Time) int64 {
	return c.at(i, to) - c.at(i, from)
}

// at is the counter at t within interval i: interpolated by the model's
// cumulative energy, by time where the model says nothing. It is monotone, and
// exact at both ends.
func (c coverage) at(i int, t time.Time) int64 {
	interval := c.intervals[i]
	switch {
	case !t.After(interval.From):
		return interval.Start
	case !t.Before(interval.To):
		return interval.End
	}
	done, all := c.model.between(interval.From, t), c.model.between(interval.From, interval.To)
	if all == 0 {
		done, all = t.Sub(interval.From).Nanoseconds(), interval.To.Sub(interval.From).Nanoseconds()
	}
	return interval.Start + MulDiv(interval.Growth(), done, all)
}
