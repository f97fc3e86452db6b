package meter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sort"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// commit makes windows durable in the order that a restart relies on:
// identities, then the rows of all tables in one request, then the journals.
// A table whose journal already says the same gets no second entry.
func (m *Meter) commit(ctx context.Context, outs []output) (int, error) {
	if len(outs) == 0 {
		return 0, nil
	}
	if err := m.save(ctx); err != nil {
		return 0, err
	}
	last := outs[len(outs)-1].w + minute
	var points []influxsync.Point
	for _, out := range outs {
		points = append(points, out.write...)
	}
	if len(points) > 0 {
		if err := m.deps.Minute.Write(ctx, points); err != nil {
			m.unsure = max(m.unsure, last)
			m.met.errors.WithLabelValues("minute").Inc()
			return 0, fmt.Errorf("write %d minute rows: %w", len(points), err)
		}
		m.met.rows.Add(float64(len(points)))
	}
	written := make(map[int64]bool)
	for _, table := range tables {
		journal := m.deps.Journals[table.Name]
		var entries []influxsync.Entry
		for _, out := range outs {
			t := out.tables[table.Name]
			if old, ok := journal.Latest(window(out.w)); ok && old.Rows == t.rows && old.Digest == t.digest {
				continue
			}
			entries = append(entries, influxsync.Entry{Window: window(out.w), Rows: t.rows, Digest: t.digest,
				Coverage: out.coverage(), Reason: out.reason})
			written[out.w] = true
		}
		if len(entries) == 0 {
			continue
		}
		if _, err := journal.Append(ctx, entries...); err != nil {
			m.unsure = max(m.unsure, last)
			m.met.errors.WithLabelValues("journal").Inc()
			return 0, fmt.Errorf("append %d entries to the journal of %s: %w", len(entries), table.Name, err)
		}
	}
	for _, out := range outs {
		if written[out.w] {
			m.met.settled.WithLabelValues(out.reason).Inc()
		}
	}
	return len(written), nil
}

// coverage is the covered part of the node-seconds, in 1/1000. A node whose
// rows wait covers nothing yet.
func (out output) coverage() int64 {
	nodes := out.present
	for _, lacks := range out.waits {
		if lacks.node {
			nodes++
		}
	}
	if nodes == 0 {
		return 0
	}
	return out.covered * 1000 / (nodes * 60)
}

// settled moves the mark over windows whose journal entries are durable.
func (m *Meter) settled(outs []output) {
	for _, out := range outs {
		m.mark = out.w + minute
		m.waits(out)
	}
}

// waits takes over what a written window still waits for.
func (m *Meter) waits(out output) {
	for name, delta := range out.nodes {
		if n := m.nodes[name]; n != nil {
			n.balance += delta
		}
	}
	for name, lacks := range out.waits {
		if lacks.rows == 0 {
			delete(m.waiting[out.w], name)
			continue
		}
		if m.waiting[out.w] == nil {
			m.waiting[out.w] = make(map[string]missing)
		}
		m.waiting[out.w][name] = lacks
	}
	if len(m.waiting[out.w]) == 0 {
		delete(m.waiting, out.w)
	}
}

// touchFacts marks the windows whose missing facts came, or are overdue.
func (m *Meter) touchFacts(now int64) {
	for w, nodes := range m.waiting {
		for name, lacks := range nodes {
			n := m.nodes[name]
			if n == nil {
				delete(nodes, name)
				continue
			}
			came := m.factsOverdue(w, now)
			if lacks.node && !came {
				_, came = m.deps.Tagger.FactsAt(name, at(w))
			}
			for i := 0; i < len(lacks.pods) && !came; i++ {
				p := n.pods[lacks.pods[i]]
				came = p == nil || len(p.tags) > 0 || p.known && p.info.OwnerKnown
			}
			if came {
				m.touch(n, w, w+minute, "facts")
			}
		}
	}
}

// refused says that the store answered that it will never take these rows.
func refused(err error) bool {
	var refusal *influxsync.WriteError
	return errors.As(err, &refusal) && refusal.Status != http.StatusRequestTimeout && refusal.Status != http.StatusTooManyRequests
}

// revisable is how long before the mark windows can be written again although
// no living series is late: a counter that began may be seen that much later.
const revisable = 2 * lookback

// prune forgets what no window needs that can still be written.
func (m *Meter) prune(now int64) {
	if m.mark == 0 {
		return
	}
	for name, n := range m.nodes {
		n.hold = max(n.hold, m.holdOf(n))
		keep := n.hold - lookback
		n.each(func(s *series, p *pod) { s.prune(keep, s == n.own) })
		for key, p := range n.pods {
			m.prunePod(n, key, p)
		}
		if len(n.tags) > 1 {
			i := len(n.tags) - 1
			for i > 0 && n.tags[i].from > n.hold {
				i--
			}
			n.tags = n.tags[i:]
		}
		gone := n.known && !n.info.Left.IsZero() && n.info.Left.UnixNano() < n.hold-revisable
		if gone && now-n.received > int64(m.cfg.SettleDeadline)+revisable && len(n.pods) == 0 {
			delete(m.nodes, name)
		}
	}
}

// holdOf is the start of the node's oldest window that can still be written.
func (m *Meter) holdOf(n *node) int64 {
	hold := m.mark - revisable
	for w, nodes := range m.waiting {
		if _, ok := nodes[n.name]; ok {
			hold = min(hold, w)
		}
	}
	for w, nodes := range m.dirty {
		if _, ok := nodes[n.name]; ok {
			hold = min(hold, w)
		}
	}
	n.each(func(s *series, p *pod) {
		if p == nil || p.ended() == 0 {
			hold = min(hold, floorMinute(s.last.time))
		}
	})
	for _, p := range n.pods {
		if e := p.ended(); e != 0 && (p.unseen == nil || !p.unseen.fixed) && (n.kube != nil || e > m.mark) {
			if l := n.unseenFrom(p); l != 0 && l < p.over() {
				hold = min(hold, floorMinute(l))
			}
		}
	}
	return hold
}

// prune drops the steps that end at or before keep; of the node's own series
// one more stays, which tells when the node was read.
func (s *series) prune(keep int64, bracket bool) {
	i := sort.Search(len(s.steps), func(i int) bool { return s.steps[i].to > keep })
	if bracket && i > 0 {
		i--
	}
	if i == 0 {
		return
	}
	s.steps = append(s.steps[:0], s.steps[i:]...)
}

// prunePod drops series that are long gone, and the pod when it ended and no
// window needs it.
func (m *Meter) prunePod(n *node, key string, p *pod) {
	e := p.ended()
	gone := func(s *series) bool {
		return e == 0 && n.own != nil && n.seq-s.seq >= 2 && n.forgotten(s.last.time, n.own.last.time)
	}
	for name, s := range p.containers {
		if gone(s) {
			delete(p.containers, name)
		}
	}
	if p.own != nil && gone(p.own) {
		p.own = nil
	}
	switch {
	case e != 0 && max(e, p.lastSeen()) < n.hold-lookback:
		delete(n.pods, key)
	case !p.known && p.own == nil && len(p.containers) == 0:
		delete(n.pods, key)
	}
}
