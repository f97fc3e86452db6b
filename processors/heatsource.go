package processors

import (
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Reach is how far outside a window readings of the source bear on it.
func (s HeatSource) Reach() time.Duration { return 2 * s.Period }

// circumstance is what holds between two readings.
type circumstance int

const (
	covered circumstance = iota
	full
	faulty
	reversed
	gap
)

// state is what one reading says: the heat's power where it is covered, mW.
func (s HeatSource) state(r HeatReading) (int64, circumstance) {
	if s.Limited {
		store, ok := r.Store.celsius(s.Store)
		switch {
		case !ok:
			return 0, faulty
		case store >= s.MaxMillicelsius:
			return 0, full
		}
	}
	if s.Method == HeatCapture {
		return 0, covered
	}
	supply, ok1 := r.Supply.celsius(s.Supply)
	back, ok2 := r.Return.celsius(s.Return)
	if !ok1 || !ok2 || !r.Flow.Known || r.Flow.Micro < 0 {
		return 0, faulty
	}
	difference := supply - back - s.OffsetMillikelvin
	if difference < -max(s.ReversedMillikelvin, 0) && r.Flow.Micro > 0 {
		return 0, reversed
	}
	// µl/min · mK · mJ/(l·K) / (60 s/min · 1e6 µl/l · 1e3 mK/K) = mW
	return MulDiv(MulDiv(r.Flow.Micro, max(difference, 0), 1), s.FluidMillijoules, 60*1_000_000*1000), covered
}

func (v Value) celsius(s Sensor) (int64, bool) {
	if !v.Known {
		return 0, false
	}
	return s.Millicelsius(v.Micro)
}

// stretch is the time between two readings.
type stretch struct {
	from, to time.Time
	energy   int64 // mJ, of all of it
	state    circumstance
}

// stretches are those between the source's readings, in order.
func (s HeatSource) stretches() []stretch {
	var all []stretch
	for i := 1; i < len(s.Readings); i++ {
		a, b := s.Readings[i-1], s.Readings[i]
		length := b.Time.Sub(a.Time)
		one := stretch{from: a.Time, to: b.Time}
		first, before := s.state(a)
		last, after := s.state(b)
		switch {
		case length > s.Reach():
			one.state = gap
		case before != covered || after != covered:
			one.state = worse(before, after)
		default: // (mW + mW) / 2 · ns / 1e9 = mJ
			one.energy = MulDiv(first+last, int64(length), 2*int64(time.Second))
		}
		all = append(all, one)
	}
	return all
}

// worse is what to tell of a stretch of which the ends say different things: a
// fault before a full store before what flows backwards.
func worse(a, b circumstance) circumstance {
	for _, c := range []circumstance{faulty, full, reversed} {
		if a == c || b == c {
			return c
		}
	}
	return covered
}

// until is the stretch's heat from its beginning to t.
func (s stretch) until(t time.Time) int64 {
	switch {
	case !t.After(s.from):
		return 0
	case !t.Before(s.to):
		return s.energy
	}
	return MulDiv(s.energy, int64(t.Sub(s.from)), int64(s.to.Sub(s.from)))
}

// measured fills in what the readings say of a time.
func (s HeatSource) measured(out *SourceHeat, valid schema.Window) {
	stretches := s.stretches()
	out.Circumstances = circumstancesOf(stretches, valid)
	for _, minute := range valid.Split(schema.Minute) {
		heat := HeatMinute{Time: minute.From.Truncate(schema.Minute)}
		for _, one := range stretches {
			if one.from.Before(minute.To) && minute.From.Before(one.to) {
				heat.Millijoule += one.until(minute.To) - one.until(minute.From)
			}
		}
		out.Minutes = append(out.Minutes, heat)
	}
}

// captured fills in the source's part of what the box produced, for the time in
// which its store, if it has a maximum, was known to be below it.
func (s HeatSource) captured(out *SourceHeat, valid schema.Window, produced []HeatMinute) {
	stretches := []stretch{{from: valid.From, to: valid.To}}
	if s.Limited {
		stretches = s.stretches()
	}
	out.Circumstances = circumstancesOf(stretches, valid)
	var left carry
	for _, minute := range valid.Split(schema.Minute) {
		var open time.Duration
		for _, one := range stretches {
			if one.state == covered {
				open += minute.Overlap(one.from, one.to)
			}
		}
		heat := HeatMinute{Time: minute.From.Truncate(schema.Minute)}
		for _, p := range produced {
			if p.Time.Equal(heat.Time) {
				part := MulDiv(p.Millijoule, int64(open), int64(schema.Minute))
				heat.Millijoule = left.mulDiv(part, s.CaptureMicro, whole)
			}
		}
		out.Minutes = append(out.Minutes, heat)
	}
}

func circumstancesOf(stretches []stretch, valid schema.Window) Circumstances {
	var c Circumstances
	known := time.Duration(0)
	for _, one := range stretches {
		length := valid.Overlap(one.from, one.to)
		switch one.state {
		case covered:
			c.Covered += length
		case full:
			c.Full += length
		case faulty:
			c.Faulty += length
		case reversed:
			c.Reversed += length
		case gap:
			continue
		}
		known += length
	}
	c.Gap = valid.Length() - known
	return c
}
