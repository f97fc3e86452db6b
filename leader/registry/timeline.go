package registry

import (
	"math"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// A validity's open ends as they are stored.
const (
	always  = math.MinInt64
	forever = math.MaxInt64
)

// span is a body that holds in [from, to), Unix nanoseconds.
type span struct {
	from, to int64
	spec     fleet.Spec
}

// timeline is one name's spans in order; they do not overlap and neighbours
// that touch differ.
type timeline []span

func spanOf(o fleet.Object) span {
	s := span{from: always, to: forever, spec: o.Spec}
	if !o.ValidFrom.IsZero() {
		s.from = nanos(o.ValidFrom)
	}
	if !o.ValidTo.IsZero() {
		s.to = nanos(o.ValidTo)
	}
	return s
}

func (s span) object(kind fleet.Kind, name string) fleet.Object {
	o := fleet.Object{APIVersion: fleet.APIVersion, Kind: kind, Metadata: fleet.Metadata{Name: name}, Spec: s.spec}
	if s.from != always {
		o.ValidFrom = moment(s.from)
	}
	if s.to != forever {
		o.ValidTo = moment(s.to)
	}
	return o
}

// at is the span that holds at t.
func (tl timeline) at(t int64) (span, bool) {
	for _, s := range tl {
		if s.from <= t && t < s.to {
			return s, true
		}
	}
	return span{}, false
}

// put is the timeline with n laid over it. A span that begins where n begins is
// replaced whole, its end too; others keep what lies outside n. An open end of
// n is the start of the next span.
func (tl timeline) put(n span) timeline {
	if n.to == forever {
		for _, s := range tl {
			if s.from > n.from {
				n.to = min(n.to, s.from)
			}
		}
	}
	result := timeline{n}
	for _, s := range tl {
		if s.from == n.from {
			continue
		}
		if before := (span{s.from, min(s.to, n.from), s.spec}); before.from < before.to {
			result = append(result, before)
		}
		if after := (span{max(s.from, n.to), s.to, s.spec}); after.from < after.to {
			result = append(result, after)
		}
	}
	return result.merged()
}

// cut is the timeline with nothing from t on.
func (tl timeline) cut(t int64) timeline {
	var result timeline
	for _, s := range tl {
		if s.to = min(s.to, t); s.from < s.to {
			result = append(result, s)
		}
	}
	return result
}

func (tl timeline) merged() timeline {
	slices.SortFunc(tl, func(a, b span) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
	var result timeline
	for _, s := range tl {
		if last := len(result) - 1; last >= 0 && result[last].to == s.from && fleet.SameSpec(result[last].spec, s.spec) {
			result[last].to = s.to
			continue
		}
		result = append(result, s)
	}
	return result
}

func (tl timeline) equal(other timeline) bool {
	return slices.EqualFunc(tl, other, func(a, b span) bool {
		return a.from == b.from && a.to == b.to && fleet.SameSpec(a.spec, b.spec)
	})
}

// delta is a stretch of time in which two timelines say different things; nil
// where one of them says nothing.
type delta struct {
	from, to int64
	old, new fleet.Spec
}

// deltas are the stretches in which the timelines differ.
func deltas(old, new timeline) []delta {
	var edges []int64
	for _, s := range append(slices.Clone(old), new...) {
		edges = append(edges, s.from, s.to)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var result []delta
	for i := 1; i < len(edges); i++ {
		before, _ := old.at(edges[i-1])
		after, _ := new.at(edges[i-1])
		same := before.spec == nil && after.spec == nil ||
			before.spec != nil && after.spec != nil && fleet.SameSpec(before.spec, after.spec)
		if !same {
			result = append(result, delta{edges[i-1], edges[i], before.spec, after.spec})
		}
	}
	return result
}

// resolve gives the objects of one name that are to be applied their start, in
// order: a zero validFrom is the beginning where there are several or nothing
// else is known, the start of what holds now where it says the same, else now.
func resolve(objects []fleet.Object, known timeline, now time.Time) []fleet.Object {
	resolved := slices.Clone(objects)
	slices.SortStableFunc(resolved, func(a, b fleet.Object) int { return a.ValidFrom.Compare(b.ValidFrom) })
	o := &resolved[0]
	ended := !o.ValidTo.IsZero() && !o.ValidTo.After(now)
	if len(resolved) != 1 || !o.ValidFrom.IsZero() || len(known) == 0 || o.Spec == nil || ended {
		return resolved
	}
	current, ok := known.at(nanos(now))
	switch {
	case !ok || !fleet.SameSpec(current.spec, o.Spec):
		o.ValidFrom = now
	case current.from != always:
		o.ValidFrom = moment(current.from)
	}
	return resolved
}
