package volumes

import (
	"context"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

const (
	// revisable is how old a minute may be to be built anew: its readings and what
	// the watch knew of it are kept a little longer.
	revisable = reach - time.Hour
	// recheck is how many of the newest minutes are built anew after a start: what
	// became known last may have been stored without them.
	recheck = time.Hour
)

// never is the end of what lasts.
var never = time.Unix(1<<40, 0)

// history is what the watch tells that minutes are made of.
type history struct {
	claims map[string]watch.ClaimInfo // by UID
	pods   map[string]reading.PodInfo // by UID: those that mount claims
}

func (v *Writer) look() history {
	h := history{claims: make(map[string]watch.ClaimInfo), pods: make(map[string]reading.PodInfo)}
	for _, c := range v.watch.Claims() {
		h.claims[c.UID] = c
	}
	for _, p := range v.watch.Pods() {
		if len(p.Claims) > 0 {
			h.pods[p.UID] = p
		}
	}
	return h
}

// compare marks the settled minutes, from the first one on, that what the watch
// has learned since concerns.
func (v *Writer) compare(first time.Time) {
	now := v.look()
	v.first = schema.Later(first, v.clock.Now().Add(-revisable)).Truncate(schema.Minute)
	for uid, c := range now.claims {
		before := v.known.claims[uid]
		is, was := lifeOf(c), lifeOf(before)
		differ(was, is, v.mark)
		if c.Storage != before.Storage || c.Class != before.Class {
			v.mark(is.from, is.to)
		}
		switch {
		case len(c.Past) > len(before.Past):
			v.mark(c.Past[len(before.Past)].Until, is.to)
		case c.ClaimedBytes != before.ClaimedBytes:
			v.mark(is.from, is.to)
		}
	}
	for uid, p := range now.pods {
		differ(runOf(v.known.pods[uid]), runOf(p), v.mark)
	}
	if v.resumed {
		v.mark(v.next.Add(-recheck), v.next)
	}
	v.known, v.resumed = now, false
	for claim, at := range v.newest {
		if at.Before(v.first) {
			delete(v.newest, claim)
		}
	}
}

// lifeOf is the time in which a claim is bound; empty for one that never was.
func lifeOf(c watch.ClaimInfo) span {
	switch {
	case c.Bound == nil:
		return span{never, never}
	case c.End == nil:
		return span{*c.Bound, never}
	}
	return span{*c.Bound, *c.End}
}

// runOf is the time in which a pod runs.
func runOf(p reading.PodInfo) span {
	switch {
	case p.Start.IsZero():
		return span{never, never}
	case p.End.IsZero():
		return span{p.Start, never}
	}
	return span{p.Start, p.End}
}

// differ calls f with the times that lie in one of two spans alone.
func differ(a, b span, f func(from, to time.Time)) {
	if !a.from.Before(a.to) || !b.from.Before(b.to) || !a.from.Before(b.to) || !b.from.Before(a.to) {
		f(a.from, a.to)
		f(b.from, b.to)
		return
	}
	f(schema.Earlier(a.from, b.from), schema.Later(a.from, b.from))
	f(schema.Earlier(a.to, b.to), schema.Later(a.to, b.to))
}

// mark has the settled minutes that a time touches built anew.
func (v *Writer) mark(from, to time.Time) {
	if v.first.IsZero() {
		return // the newest minutes are built anew anyhow
	}
	from, to = schema.Later(from, v.first), schema.Earlier(to, v.next)
	for at := from.Truncate(schema.Minute); at.Before(to) && from.Before(to); at = at.Add(schema.Minute) {
		v.dirty[at.UTC()] = true
	}
}

// read marks the settled minutes of which a reading tells: those since the
// claim's newest reading, which it is joined with. One that is older than that
// stands between two others.
func (v *Writer) read(claim [2]string, at time.Time) {
	newest := v.newest[claim]
	switch {
	case at.Equal(newest): // a kubelet measures once a minute, and is read more often
	case at.After(newest):
		v.newest[claim] = at
		v.mark(schema.Later(newest, at.Add(-apart)), at)
	default:
		v.mark(at.Add(-apart), at.Add(apart))
	}
}

// revise builds the marked minutes anew, oldest first. It returns how many have
// got an entry.
func (v *Writer) revise(ctx context.Context) (int, error) {
	var starts []time.Time
	for at := range v.dirty {
		starts = append(starts, at)
	}
	slices.SortFunc(starts, time.Time.Compare)
	total := 0
	for len(starts) > 0 {
		w := schema.Window{From: starts[0], To: starts[0].Add(schema.Minute)}
		n := 1
		for n < len(starts) && n < batch && starts[n].Equal(w.To) {
			w.To, n = w.To.Add(schema.Minute), n+1
		}
		changed, err := v.settle(ctx, w, reasonLate)
		if err != nil {
			return total, err
		}
		total += changed
		for _, at := range starts[:n] {
			delete(v.dirty, at)
		}
		starts = starts[n:]
	}
	return total, nil
}
