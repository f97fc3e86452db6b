// Package life keeps the epoch of a control group's counters: when their life
// began. It decides only by what it is told.
//
// A group's start time is read from the modification time of its directory or
// of a file in it (cAdvisor does so too). The kernel may move that without the
// counters starting anew: a child was made, or the directory's inode left the
// cache and came back. A meter that believed it would count the whole counter
// again. So a start is believed once, and an epoch ends only where the counter
// fell.
package life

import (
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// Life is that of one group. The zero value has not been seen.
type Life struct {
	known bool
	epoch time.Time
	cpu   int64
	time  time.Time
}

// Known says whether a sample was observed.
func (l *Life) Known() bool { return l.known }

// Epoch is the present one, zero if no start was told.
func (l *Life) Epoch() time.Time { return l.epoch }

// Observe takes a sample of the CPU counter (core-µs) at a time and returns the
// epoch it belongs to. start is what the source says now, zero if nothing.
func (l *Life) Observe(start time.Time, cpu int64, at time.Time) time.Time {
	switch {
	case !l.known:
		*l = Life{known: true, epoch: start, cpu: cpu, time: at}
	case at.Before(l.time):
	case cpu < l.cpu:
		*l = Life{known: true, epoch: begin(start, l.epoch, l.time), cpu: cpu, time: at}
	default:
		l.cpu, l.time = cpu, at
		if l.epoch.IsZero() {
			l.epoch = start
		}
	}
	return l.epoch
}

// Resume takes up, before the first Observe, the life that a series had before
// the follower's restart, from its last reading with the times that its source
// gave. It is the same life unless the counter fell or the start lies after
// that reading.
func (l *Life) Resume(last reading.Reading, start time.Time, cpu int64) {
	before, ok := last.Values.Get(reading.CPU)
	if !ok || l.known || start.After(last.Time) {
		return
	}
	*l = Life{known: true, epoch: last.Epoch, cpu: before, time: last.Time}
	if cpu < before {
		l.epoch, l.cpu = begin(start, last.Epoch, last.Time), cpu
	}
}

// begin is when a counter that fell began again: the start that is reported
// now if it is a new one, else the last moment at which the old life was seen.
func begin(start, epoch, last time.Time) time.Time {
	if start.After(epoch) {
		return start
	}
	return last
}
