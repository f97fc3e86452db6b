package kubelet

import (
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// life is the epoch of one cgroup's counters.
//
// cAdvisor reports as start time the modification time of the cgroup's
// directory or of a file in it. The kernel may move that without the counters
// starting anew: a child was made, or the directory's inode left the cache and
// came back. A meter that believed it would count the whole counter again. So
// a start is believed once, and an epoch ends only where the counter fell.
type life struct {
	known bool
	epoch time.Time
	cpu   int64
	time  time.Time
}

// observe takes a sample and returns the epoch it belongs to. start is what
// the body said, zero when it said nothing.
func (l *life) observe(start time.Time, cpu int64, at time.Time) time.Time {
	switch {
	case !l.known:
		*l = life{known: true, epoch: start, cpu: cpu, time: at}
	case at.Before(l.time):
	case cpu < l.cpu:
		*l = life{known: true, epoch: begin(start, l.epoch, l.time), cpu: cpu, time: at}
	default:
		l.cpu, l.time = cpu, at
		if l.epoch.IsZero() {
			l.epoch = start
		}
	}
	return l.epoch
}

// begin is when a counter that fell began again: the start that is reported
// now if it is a new one, else the last moment at which the old life was seen.
func begin(start, epoch, last time.Time) time.Time {
	if start.After(epoch) {
		return start
	}
	return last
}

// resume takes up the life that a series had before the follower's restart. It
// is the same life unless the counter fell, or the start lies after the last
// reading.
func (l *life) resume(last reading.Reading, start time.Time, cpu int64) {
	before, ok := last.Values.Get(reading.CPU)
	if !ok || l.known || start.After(last.Time) {
		return
	}
	*l = life{known: true, epoch: last.Epoch, cpu: before, time: last.Time}
	if cpu < before {
		l.epoch, l.cpu = begin(start, last.Epoch, last.Time), cpu
	}
}
