package meter

import (
	"math/bits"
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

const (
	counters   = int(reading.Counters)
	quantities = int(reading.Quantities)
	gauges     = quantities - counters

	// lookback is how long after a counter began its first reading may come and
	// still count from zero. Kubelets show a container up to some ten seconds
	// after it started.
	lookback = int64(2 * time.Minute)
	// forgetAfter is how long a series may be absent from the bodies of a node
	// that is read; then it is dropped, and seen for the first time if it returns.
	forgetAfter = int64(5 * time.Minute)
	// epochSlack is the precision of start times: some sources cut them to whole
	// seconds.
	epochSlack = int64(2 * time.Second)
)

// sample is a reading on the follower's clock. Times are Unix ns.
type sample struct {
	id       reading.Series
	time     int64
	epoch    int64 // as the source told it, unshifted; 0: unknown
	shift    int64
	received int64
	values   reading.Values
}

// began is the epoch on the follower's clock; 0: unknown.
func (x sample) began() int64 {
	if x.epoch == 0 {
		return 0
	}
	return x.epoch + x.shift
}

// step is what one reading adds to its series: the growth of its counters,
// spread evenly over (from, to], and its gauges at both ends of (prev, to].
type step struct {
	from, to int64
	prev     int64 // the sample before, of the same life; 0: none
	growth   [counters]int64
	gauge    [gauges][2]int64 // bytes, at prev and at to
	has      uint16           // the quantities above that it holds
}

// series is one cgroup or node: its last sample and the steps of those windows
// that can still be written.
type series struct {
	id     reading.Series
	last   sample
	steps  []step // by to
	counts uint16 // quantities that it ever showed
	seq    int64  // the node's body that it was last in
}

// advance makes the step from the last sample to x, which is newer. uncounted
// is the CPU that a first sight showed and that is not ours to count.
func (n *node) advance(s *series, x sample) (st step, reset bool, uncounted int64) {
	began, zero := x.began(), n.fromZero(x)
	st = step{from: x.time, to: x.time}
	if s.last.time == 0 || n.forgotten(s.last.time, x.time) {
		if zero {
			st.from = began
		}
		for q := 0; q < counters; q++ {
			v, ok := x.values.Get(reading.Quantity(q))
			if !ok || q == int(reading.Processor) { // it begins at any value
				continue
			}
			if zero {
				st.set(q, v)
			} else if q == int(reading.CPU) {
				uncounted = v
			}
		}
		return st, false, uncounted
	}
	tp := s.last.time
	fresh := newLife(s.last, x)
	st.from, st.prev = tp, tp
	if fresh {
		st.prev = 0
		if began > tp && began < x.time {
			st.from = began
		}
	}
	for q := 0; q < counters; q++ {
		v, ok := x.values.Get(reading.Quantity(q))
		if !ok {
			continue
		}
		before, had := s.last.values.Get(reading.Quantity(q))
		switch {
		case q == int(reading.Processor) && (fresh || had && v < before):
		case fresh, had && v < before:
			st.set(q, v)
			reset = true
		case had:
			st.set(q, v-before)
		case zero && q != int(reading.Processor):
			st.set(q, v)
		}
	}
	for g := 0; g < gauges && st.prev != 0; g++ {
		q := reading.Quantity(counters + g)
		v, ok := x.values.Get(q)
		before, had := s.last.values.Get(q)
		if ok && had {
			st.gauge[g] = [2]int64{before, v}
			st.has |= 1 << q
		}
	}
	return st, reset, 0
}

func (st *step) set(q int, growth int64) {
	st.growth[q] = growth
	st.has |= 1 << q
}

// newLife says whether x's counters began anew after the last sample. An epoch
// that lies before that sample is the same life told by a clock that was set;
// a counter that fell is found one by one.
func newLife(last, x sample) bool {
	if x.epoch == last.epoch || x.epoch == 0 || last.epoch == 0 {
		return false
	}
	d := x.began() - last.began()
	if -epochSlack <= d && d <= epochSlack {
		return false
	}
	return x.began() >= last.time-epochSlack
}

// fromZero says whether a counter that is seen for the first time counts from
// zero: the node was read before its epoch, and not again until shortly before
// now. It asks only for readings that Restore finds again.
func (n *node) fromZero(x sample) bool {
	began := x.began()
	if began == 0 || began >= x.time {
		return false
	}
	seen, ok := n.readAt(max(began, x.time-lookback))
	return ok && seen <= began
}

// forgotten says whether the node was read long after a series' last sample
// and well before its next.
func (n *node) forgotten(last, next int64) bool {
	seen, ok := n.readAt(next - lookback)
	return ok && seen-last > forgetAfter
}

// readAt is the node's newest own reading at or before t.
func (n *node) readAt(t int64) (int64, bool) {
	if n.own == nil {
		return 0, false
	}
	steps := n.own.steps
	i := sort.Search(len(steps), func(i int) bool { return steps[i].to > t })
	if i == 0 {
		return 0, false
	}
	return steps[i-1].to, true
}

// take appends the step of x.
func (s *series) take(x sample, st step, fresh bool) {
	values := x.values
	if !fresh { // a counter that this sample lacks goes on from where it was
		for q := reading.Quantity(0); q < reading.Counters; q++ {
			if _, ok := values.Get(q); ok || q == reading.Processor { // what it counted meanwhile is not known
				continue
			}
			if v, had := s.last.values.Get(q); had {
				values.Set(q, v)
			}
		}
	}
	for q := reading.Quantity(0); q < reading.Quantities; q++ {
		if _, ok := x.values.Get(q); ok {
			s.counts |= 1 << q
		}
	}
	s.last = x
	s.last.values = values
	s.steps = append(s.steps, st)
}

// spread is the part of growth over (from, to] that lies before edge:
// floor(growth · (edge − from) / (to − from)), so that parts telescope.
func spread(growth, from, to, edge int64) int64 {
	switch {
	case edge >= to:
		return growth
	case edge <= from:
		return 0
	}
	return mulDiv(growth, edge-from, to-from)
}

// mulDiv is floor(a·b/c) of non-negative a, b and positive c over 128 bits. A
// quotient beyond 63 bits is cut to the largest int64.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return maxInt64
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(min(q, maxInt64))
}

const maxInt64 = 1<<63 - 1

// span is a half-open range of Unix ns.
type span struct{ from, to int64 }

func (w span) overlap(from, to int64) int64 {
	return max(0, min(to, w.to)-max(from, w.from))
}

// amount is what a series used in a window: counters in their units, gauges as
// KiB·s.
type amount struct {
	q            [quantities]int64
	counts       uint16
	covered      int64 // ns with samples close enough for a gauge
	interpolated int64 // ns over which growth was spread in a reading gap
	powered      int64 // ns over which the processors' energy is known
}

func (a *amount) add(b amount) {
	for q := range a.q {
		a.q[q] += b.q[q]
	}
	a.counts |= b.counts
}

func (a amount) has(q int) bool { return a.counts&(1<<q) != 0 }

// amount sums the steps in w. The integral of a gauge over a window is exact
// but for its value at the window's edges, which is cut to whole bytes, and is
// floored once, to KiB·s: a window depends on no other.
func (s *series) amount(w span, interval int64) amount {
	var a amount
	if s == nil {
		return a
	}
	a.counts = s.counts &^ (1 << reading.Ephemeral) // a kubelet tells of it later than of the rest
	var area [gauges]uint128
	first := sort.Search(len(s.steps), func(i int) bool { return s.steps[i].to > w.from })
	for i := first; i < len(s.steps); i++ {
		st := &s.steps[i]
		if st.from >= w.to && (st.prev == 0 || st.prev >= w.to) {
			break
		}
		for q := 0; q < counters; q++ {
			if st.growth[q] != 0 {
				a.q[q] += spread(st.growth[q], st.from, st.to, w.to) - spread(st.growth[q], st.from, st.to, w.from)
			}
		}
		if st.has&(1<<reading.Processor) != 0 {
			a.powered += w.overlap(st.from, st.to)
		}
		if st.to-st.from > interval*3/2 {
			a.interpolated += w.overlap(st.from, st.to)
		}
		if st.prev == 0 || st.to-st.prev > 2*interval {
			continue
		}
		a.covered += w.overlap(st.prev, st.to)
		for g := range area {
			if st.has&(1<<(counters+g)) != 0 {
				area[g].add(st.area(g, w))
				if w.overlap(st.prev, st.to) > 0 {
					a.counts |= 1 << (counters + g)
				}
			}
		}
	}
	for g := range area {
		a.q[counters+g] = area[g].kibibyteSeconds()
	}
	return a
}

// area is twice the integral of a gauge over the step's part of w, in B·ns.
func (st *step) area(g int, w span) uint128 {
	from, to := max(st.prev, w.from), min(st.to, w.to)
	if to <= from {
		return uint128{}
	}
	hi, lo := bits.Mul64(uint64(st.at(g, from)+st.at(g, to)), uint64(to-from))
	return uint128{hi, lo}
}

// at is a gauge's value on the line between its two samples.
func (st *step) at(g int, t int64) int64 {
	v0, v1 := st.gauge[g][0], st.gauge[g][1]
	if v1 >= v0 {
		return v0 + spread(v1-v0, st.prev, st.to, t)
	}
	return v0 - spread(v0-v1, st.prev, st.to, t)
}

type uint128 struct{ hi, lo uint64 }

func (u *uint128) add(v uint128) {
	var carry uint64
	u.lo, carry = bits.Add64(u.lo, v.lo, 0)
	u.hi += v.hi + carry
}

func (u uint128) kibibyteSeconds() int64 {
	const unit = 2 * 1024 * uint64(time.Second)
	if u.hi >= unit {
		return maxInt64
	}
	q, _ := bits.Div64(u.hi, u.lo, unit)
	return int64(min(q, maxInt64))
}
