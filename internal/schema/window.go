// Package schema names what is stored: the databases, the tables with their
// tags and fields, each field's unit, and the windows that rows stand in. It
// is the one place where a name of a column is written; readers and writers on
// both ends of a link take it from here. It does no I/O.
package schema

import (
	"fmt"
	"time"
)

// Grains of the stored series. A quarter is cut by no time zone and by no
// electricity price.
const (
	Minute  = time.Minute
	Quarter = 15 * time.Minute
	Day     = 24 * time.Hour // of UTC
)

// SettleDeadline is after its end: a minute settles then at the latest, with what
// is there.
const SettleDeadline = 2 * time.Minute

// Window is half-open, [From, To), in UTC.
type Window struct {
	From, To time.Time
}

// WindowAt is the window of the given grain that holds t.
func WindowAt(t time.Time, grain time.Duration) Window {
	from := t.UTC().Truncate(grain)
	return Window{From: from, To: from.Add(grain)}
}

// Length is To - From.
func (w Window) Length() time.Duration { return w.To.Sub(w.From) }

// Contains says whether t lies in the window.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.From) && t.Before(w.To) }

// Overlap is how long [from, to) lies in the window; never negative.
func (w Window) Overlap(from, to time.Time) time.Duration {
	if from.Before(w.From) {
		from = w.From
	}
	if to.After(w.To) {
		to = w.To
	}
	if d := to.Sub(from); d > 0 {
		return d
	}
	return 0
}

// Earlier is the earlier one of two times.
func Earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Later is the later one of two times.
func Later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Split cuts the window at the whole multiples of grain.
func (w Window) Split(grain time.Duration) []Window {
	var parts []Window
	for from := w.From; from.Before(w.To); {
		to := from.Truncate(grain).Add(grain)
		if to.After(w.To) {
			to = w.To
		}
		parts = append(parts, Window{From: from, To: to})
		from = to
	}
	return parts
}

// String is the window in RFC 3339, "[from, to)".
func (w Window) String() string {
	return fmt.Sprintf("[%s, %s)", w.From.UTC().Format(time.RFC3339Nano), w.To.UTC().Format(time.RFC3339Nano))
}
