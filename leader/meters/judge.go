package meters

import (
	"fmt"
	"slices"
	"time"
)

// nameplateFactor is how far above the sum of its nodes' greatest power a box
// may draw before a reading is refused: turbo, disks and power supplies are not
// in that sum. anyBox stands in where the hardware is not known.
const (
	nameplateFactor = 2
	anyBox          = 1_000_000_000 // mW
)

// How far a meter's own time may lie ahead of ours (its clock is wrong), and
// behind (a gateway shows an old reading, or the clock was never set).
const (
	maxAhead  = 30 * time.Second
	maxBehind = 24 * time.Hour
)

// widestStep is the coarsest step of a counter: 100 Wh, in mJ.
const widestStep = 360_000_000

// slack is how far the times of two readings may be wrong together: half of the
// way of a slow answer each.
const slack = 5 * time.Second

// rules are what a meter's readings are judged by.
type rules struct {
	maxPower int64         // most that what it counts can draw, mW
	rollover int64         // the counter begins again at 0 here, mJ; 0 = never
	period   time.Duration // between two readings
	replaced []time.Time   // when another device took the place of the one before
}

// crossed says whether the device was replaced between two readings.
func (r rules) crossed(a, b Reading) bool {
	return slices.ContainsFunc(r.replaced, func(t time.Time) bool { return a.Time.Before(t) && !b.Time.Before(t) })
}

// life is what is known of one meter's counter.
type life struct {
	known bool
	last  Reading // the newest that counted
	// candidates are the refused readings since then that a new epoch may
	// begin with, in order of time.
	candidates []Reading
}

// maxCandidates bounds the refused readings that are remembered of a meter.
const maxCandidates = 16

// judge decides on a new reading. It returns the life after it and the rows to
// write: none where the reading is the last one again, two where the reading
// confirms that a refused one began a new epoch. A reading that shows only watts
// is counted by us.
func (l life) judge(r Reading, rules rules) (life, []Reading) {
	if reason := implausible(r, rules.maxPower); reason != "" {
		return l, []Reading{l.refuse(r, reason)}
	}
	switch {
	case !l.known:
		r = begin(r)
		return life{last: r, known: true}, []Reading{r}
	case r.Time.Equal(l.last.Time) || l.refused(r.Time):
		return l, nil
	case r.Time.Before(l.last.Time):
		return l, []Reading{l.refuse(r, "its time "+r.Time.Format(time.RFC3339Nano)+" is before the reading of "+l.last.Time.Format(time.RFC3339Nano))}
	}
	if rules.crossed(l.last, r) {
		r = begin(r)
		r.Note = note(r.Note, "the meter was replaced: another counter begins")
		return life{last: r, known: true}, []Reading{r}
	}
	if !r.HasCounter || l.last.Integrated() {
		r = l.integrate(r, rules)
		return life{last: r, known: true}, []Reading{r}
	}
	next, reason := follow(l.last, r, rules)
	if reason == "" {
		return life{last: next, known: true}, []Reading{next}
	}
	for _, first := range l.candidates {
		// A broken device may show one value again and again, so only growth
		// confirms; it is counted from the first of them, so nothing is lost.
		if !r.Time.After(first.Time) || r.CounterMillijoules == first.CounterMillijoules {
			continue
		}
		first.Refused, first.Epoch = "", first.Time
		if first.StepMillijoules == 0 {
			first.StepMillijoules = l.last.StepMillijoules
		}
		if next, doubt := follow(first, r, rules); doubt == "" {
			return life{last: next, known: true}, []Reading{first, next}
		}
	}
	r.Refused = reason
	return l.remember(r), []Reading{r}
}

// refused says whether the candidates hold a reading of that time.
func (l life) refused(t time.Time) bool {
	return slices.ContainsFunc(l.candidates, func(r Reading) bool { return r.Time.Equal(t) })
}

// remember adds a candidate, the newest last; the oldest goes.
func (l life) remember(r Reading) life {
	l.candidates = append(slices.Clone(l.candidates), r)
	slices.SortFunc(l.candidates, func(a, b Reading) int { return a.Time.Compare(b.Time) })
	l.candidates = l.candidates[max(0, len(l.candidates)-maxCandidates):]
	return l
}

// recall is the life of a meter as its stored rows tell it: the last that
// counted, and those that were refused after it.
func recall(last Reading, refused []Reading) life {
	l := life{known: true, last: last}
	for _, r := range refused {
		if r.HasCounter && r.Origin != originElsewhen && implausible(r, anyBox) == "" && r.Time.After(last.Time) {
			l = l.remember(r)
		}
	}
	return l
}

// refuse is the reading with the reason. It never takes the place of one that
// counts: where its own time is not after that of the last, it stands at the time
// of its receipt.
func (l life) refuse(r Reading, reason string) Reading {
	r.Refused = reason
	if l.known && !r.Time.After(l.last.Time) {
		r.Time, r.Origin = r.Received, originElsewhen
	}
	return r
}

// implausible says what is wrong with a reading alone.
func implausible(r Reading, maxPower int64) string {
	switch {
	case r.HasCounter && r.CounterMillijoules < 0:
		return "the counter is negative"
	case r.HasPower && r.PowerMilliwatts < 0:
		return "the power is negative"
	case r.HasPower && r.PowerMilliwatts > maxPower:
		return fmt.Sprintf("the power is %d W, the box cannot draw more than %d W", r.PowerMilliwatts/1000, maxPower/1000)
	}
	return ""
}

// follow is b as the reading after a, of one life of the counter, or why it cannot
// be: its counter goes on where it began again at its modulus, and its step is
// learned where the format does not tell it. The step is the greatest that all
// growths so far are whole numbers of: it may be too great at first, never too
// small.
func follow(a, b Reading, rules rules) (Reading, string) {
	if rules.crossed(a, b) {
		return b, "the meter was replaced in between"
	}
	growth := b.CounterMillijoules - a.CounterMillijoules
	if m := rules.rollover; b.CounterMillijoules < m { // a goes on beyond it
		growth = (growth%m + m) % m
	}
	if reason := excess(a, b, growth, rules.maxPower); reason != "" {
		if back := a.CounterMillijoules - b.CounterMillijoules; back > 0 {
			reason = fmt.Sprintf("the counter went back by %d mJ", back)
		}
		return b, reason
	}
	b.CounterMillijoules, b.Epoch = a.CounterMillijoules+growth, a.Epoch
	if b.StepMillijoules == 0 {
		b.StepMillijoules = gcd(a.StepMillijoules, growth)
	}
	return b, ""
}

// excess says why a counter cannot have grown by that from a to b.
func excess(a, b Reading, growth, maxPower int64) string {
	if growth < 0 {
		return fmt.Sprintf("the counter went back by %d mJ", -growth)
	}
	milliseconds := (b.Time.Sub(a.Time) + slack).Milliseconds()
	steps := 2 * max(a.StepMillijoules, b.StepMillijoules)
	if steps == 0 {
		steps = widestStep // nothing has grown yet: it may be as coarse as that
	}
	// mJ/ms = W. The product of a power and a span of years may overflow, the
	// quotient does not.
	if (growth-steps)/milliseconds > maxPower/1000 {
		return fmt.Sprintf("the counter grew by %d mJ in %d ms, the box cannot draw more than %d W", growth, milliseconds, maxPower/1000)
	}
	return ""
}

// gcd is the greatest common divisor; of 0 and a number the number.
func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// stamp puts a reading at its meter's time, or at that of its receipt: where the
// meter has none, where it is not to be looked at, or where its clock is so far
// off that it was never set. What a counter showed counts all the same.
func stamp(r Reading, own time.Time, ignored bool) Reading {
	r.Time = r.Received
	switch behind := r.Received.Sub(own); {
	case own.IsZero() || ignored:
	case behind > maxBehind:
		r.Note = fmt.Sprintf("the meter's clock says %s, %s ago: the time of receipt stands in its place", own.Format(time.RFC3339), behind.Round(time.Second))
	case -behind > maxAhead:
		r.Note = fmt.Sprintf("the meter's clock is %s ahead: the time of receipt stands in its place", (-behind).Round(time.Second))
	default:
		r.Time = own
	}
	return r
}
