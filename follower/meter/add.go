package meter

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
)

// batch is what one Add made of its bodies: it is written whole before any of
// it is believed.
type batch struct {
	samples []sample
	bodies  []bodyState
}

type bodyState struct {
	node                    string
	shift, newest, received int64
	seen                    []reading.Series
}

// Add makes the bodies' readings durable in raw, oldest first in one request,
// then takes them into the cache. After an error nothing of the bodies is
// believed: their batch is written again by the next call of Add or Settle,
// and until that succeeds new bodies are refused (a counter's next sample
// holds it all).
func (m *Meter) Add(ctx context.Context, bodies []reading.Body) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return err
	}
	b := m.prepare(bodies)
	if len(b.samples) == 0 && len(b.bodies) == 0 {
		return nil
	}
	if m.from == 0 && len(b.samples) > 0 {
		if err := m.claimLane(ctx, floorMinute(b.samples[0].time)); err != nil {
			return err
		}
	}
	m.pending = &b
	return m.flush(ctx)
}

// ready brings the cache in line with the store after an error.
func (m *Meter) ready(ctx context.Context) error {
	if m.stale {
		if err := m.restore(ctx); err != nil {
			return err
		}
	}
	if !m.restored {
		return ErrNotRestored
	}
	return m.flush(ctx)
}

// flush writes the batch that is not durable yet.
func (m *Meter) flush(ctx context.Context) error {
	if m.pending == nil {
		return nil
	}
	b := *m.pending
	points := make([]influxsync.Point, len(b.samples))
	for i, x := range b.samples {
		points[i] = x.row()
	}
	if len(points) > 0 {
		if err := m.deps.Raw.Write(ctx, points); err != nil {
			m.met.errors.WithLabelValues("raw").Inc()
			if refused(err) { // writing it again cannot help; what of it is durable, the store tells
				m.pending, m.stale = nil, true
			}
			return fmt.Errorf("write %d readings: %w", len(points), err)
		}
	}
	m.pending = nil
	m.met.readings.Add(float64(len(points)))
	m.apply(b)
	return nil
}

// prepare shifts the bodies' readings and keeps those that are newer than the
// last of their series. It changes nothing.
func (m *Meter) prepare(bodies []reading.Body) batch {
	count := 0
	for _, body := range bodies {
		count += len(body.Readings)
	}
	b := batch{samples: make([]sample, 0, count), bodies: make([]bodyState, 0, len(bodies))}
	last := make(map[reading.Series]int64, count)
	shifts := make(map[string]*node)
	for _, body := range bodies {
		n := m.nodes[body.Node]
		if n == nil {
			n = newNode(body.Node)
		}
		if ahead := shifts[body.Node]; ahead != nil {
			n = ahead // a second body of the node in this batch
		}
		state := bodyState{node: body.Node, shift: n.shiftOf(body, m.cfg.Interval),
			newest: unixNano(body.NewestSample), received: body.Received.UnixNano(),
			seen: make([]reading.Series, 0, len(body.Readings))}
		shifts[body.Node] = &node{shift: state.shift, newest: state.newest, own: n.own, kube: n.kube, pods: n.pods}
		boot := n.boot(body)
		for _, r := range body.Readings {
			r.Series.Node = body.Node
			state.seen = append(state.seen, r.Series)
			x := sample{id: r.Series, time: r.Time.UnixNano() + state.shift, shift: state.shift,
				epoch: max(unixNano(r.Epoch), boot), received: state.received, values: r.Values}
			if reason := m.refuse(n, x, last[x.id]); reason != "" {
				m.met.ignored.WithLabelValues(reason).Inc()
				continue
			}
			last[x.id] = x.time
			b.samples = append(b.samples, x)
		}
		b.bodies = append(b.bodies, state)
	}
	slices.SortStableFunc(b.samples, func(a, b sample) int { return cmp.Compare(a.time, b.time) })
	return b
}

// boot is the epoch of the node itself: no counter on it is older.
func (n *node) boot(body reading.Body) int64 {
	for _, r := range body.Readings {
		if r.Kind == reading.Node && !r.Epoch.IsZero() {
			return r.Epoch.UnixNano()
		}
	}
	if n.own != nil {
		return n.own.last.epoch
	}
	return 0
}

// refuse says why a sample is not taken, or "". A sample that is not newer
// than the last of its series must not reach raw: it would stand between
// readings that have been settled.
func (m *Meter) refuse(n *node, x sample, before int64) string {
	if s := n.find(x.id); s != nil {
		before = max(before, s.last.time)
	}
	if before != 0 && x.time <= before {
		return "old"
	}
	if m.to != 0 && x.time > m.to+lookback {
		return "lane"
	}
	if p := n.pods[podKey(x.id)]; p != nil && p.unseen != nil && p.unseen.fixed && x.time > p.unseen.from {
		return "ended"
	}
	return ""
}

// apply takes a durable batch into the cache.
func (m *Meter) apply(b batch) {
	for _, state := range b.bodies {
		n := m.node(state.node)
		if n.shift != state.shift {
			m.met.shifts.Inc()
		}
		n.shift, n.newest = state.shift, state.newest
		n.received = max(n.received, state.received)
		n.seq++
	}
	for _, x := range b.samples {
		n := m.node(x.id.Node)
		parts := n.stoodInFor(x.id)
		st := m.take(n, x)
		if from := min(st.from, parts); x.id.Kind == reading.Node || x.id.Kind == reading.Kubepods {
			m.touchHost(n, from, st.to, "late")
		} else {
			m.touch(n, from, st.to, "late")
		}
	}
	for _, state := range b.bodies {
		n := m.nodes[state.node]
		for _, id := range state.seen {
			if s := n.find(id); s != nil {
				s.seq = n.seq
			}
		}
	}
}

// stoodInFor is since when the parts of a series that was never read have been
// counted in its place; windows since then change when it comes.
func (n *node) stoodInFor(id reading.Series) int64 {
	if id.Kind == reading.Container || n.find(id) != nil {
		return far
	}
	if id.Kind != reading.Pod {
		return n.hold
	}
	since := far
	if p := n.pods[podKey(id)]; p != nil {
		for _, s := range p.containers {
			if len(s.steps) > 0 {
				since = min(since, s.steps[0].from)
			}
		}
	}
	return since
}

// take appends a sample to its series.
func (m *Meter) take(n *node, x sample) step {
	s := n.series(x.id)
	st, reset, uncounted := n.advance(s, x)
	fresh := s.last.time == 0 || st.prev == 0
	if uncounted > 0 && x.id.Kind == reading.Pod {
		m.met.uncounted.Add(float64(uncounted))
	}
	if reset {
		m.met.resets.Inc()
	}
	s.take(x, st, fresh)
	return st
}

// touch marks the settled windows over (from, to] of a node for a revision.
func (m *Meter) touch(n *node, from, to int64, reason string) {
	if from >= m.mark || from >= to {
		return
	}
	for w := max(floorMinute(from), m.from, n.hold); w < min(to, m.mark); w += minute {
		nodes := m.dirty[w]
		if nodes == nil {
			nodes = make(map[string]string)
			m.dirty[w] = nodes
		}
		if _, ok := nodes[n.name]; !ok {
			nodes[n.name] = reason
		}
	}
}

func (m *Meter) node(name string) *node {
	n := m.nodes[name]
	if n == nil {
		n = newNode(name)
		m.nodes[name] = n
	}
	return n
}
