package meters

import (
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
)

// Origins of a reading's counter.
const (
	originCounter    = ""           // the meter's
	originIntegrated = "integrated" // ours: the meter shows only watts
	originElsewhen   = "elsewhen"   // the meter's, of another time than that of the row: it was refused
)

// Integrated says whether its counter is ours, of the watts that the meter shows.
func (r Reading) Integrated() bool { return r.Origin == originIntegrated }

// maxSilence is how many periods apart two readings of watts may be for the energy
// between them to be known.
const maxSilence = 2

// begin is the first reading of a meter.
func begin(r Reading) Reading {
	r.Epoch = r.Time
	if !r.HasCounter {
		r.Origin, r.HasCounter, r.StepMillijoules = originIntegrated, true, 1
	}
	return r
}

// integrate counts the energy of a meter that shows only watts: the trapezoid of
// the last reading and this one. Between readings that are too far apart nothing
// is known: the count stands still and a new epoch begins, so that the gap is not
// taken for a time without use. So it does where a meter begins or ceases to show
// a counter.
func (l life) integrate(r Reading, rules rules) Reading {
	last := l.last
	if r.HasCounter { // last was integrated
		r.Note = note(r.Note, "the meter counts by itself from now on")
		return begin(r)
	}
	r = begin(r)
	if !last.Integrated() {
		r.Note = note(r.Note, "the meter shows only watts from now on: they are integrated")
		return r
	}
	r.CounterMillijoules = last.CounterMillijoules
	apart := r.Time.Sub(last.Time)
	if rules.period > 0 && apart > maxSilence*rules.period+slack || !last.HasPower {
		r.Note = note(r.Note, fmt.Sprintf("nothing for %s: that time is not integrated", apart.Round(time.Second)))
		return r
	}
	// Twice the energy in mJ, then half of it to the nearest.
	twice := processors.MulDiv(last.PowerMilliwatts+r.PowerMilliwatts, apart.Nanoseconds(), 1_000_000_000)
	r.CounterMillijoules += (twice + 1) / 2
	r.Epoch = last.Epoch
	return r
}

func note(former, more string) string {
	if former == "" {
		return more
	}
	return former + "; " + more
}
