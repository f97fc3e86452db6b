package meter

import (
	"context"
	"fmt"
	"sort"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Reasons of a journal entry.
const (
	reasonSettled  = "settled"  // every living series was read at or after the end
	reasonDeadline = "deadline" // the deadline came first
)

// batchWindows bounds what one request holds when many windows are due.
const batchWindows = 30

// output is a window ready to be written.
type output struct {
	w      int64
	reason string
	write  []influxsync.Point // rows that the store does not have as they are
	tables map[string]tally
	waits  map[string]missing
	nodes  map[string]int64 // what it adds to the balance of each node
	// seconds that the rows of the node table cover, and of how many nodes
	covered, present int64
}

// tally is what the journal says of a table's window.
type tally struct {
	rows   int64
	digest influxsync.Digest
}

// Settle revises settled windows that later readings, ends or facts changed,
// then writes the windows that are due, in order. It returns how many windows
// got a journal entry. After an error the same windows are due again.
func (m *Meter) Settle(ctx context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return 0, err
	}
	now := m.deps.Clock.Now().UnixNano()
	m.observe()
	for _, n := range m.nodes {
		m.resolve(n)
	}
	m.touchFacts(now)
	total, err := m.revise(ctx, now)
	for err == nil {
		var outs []output
		if outs, err = m.due(ctx, now); err != nil || len(outs) == 0 {
			break
		}
		var n int
		n, err = m.commit(ctx, outs)
		total += n
		if err == nil {
			m.settled(outs)
		}
	}
	if err == nil {
		err = m.save(ctx)
	}
	m.prune(now)
	m.measure(now)
	return total, err
}

// due builds the next windows that settle now.
func (m *Meter) due(ctx context.Context, now int64) ([]output, error) {
	var outs []output
	for w := m.mark; m.from != 0 && len(outs) < batchWindows; w += minute {
		if m.to != 0 && w >= m.to {
			m.why = "the lane is settled"
			break
		}
		reason, why := m.settles(w, now)
		if m.why = why; reason == "" {
			break
		}
		out, err := m.first(ctx, w, now, reason)
		if err != nil {
			return nil, err
		}
		outs = append(outs, out)
	}
	return outs, nil
}

// settles says by which reason the window at w settles now, or why it waits.
func (m *Meter) settles(w, now int64) (reason, why string) {
	end := w + minute
	if now < end {
		return "", "the window has not ended"
	}
	if now >= max(end, m.started)+int64(m.cfg.SettleDeadline) {
		reason = reasonDeadline
	}
	read := 0
	for _, n := range m.sortedNodes() {
		if !m.present(n, span{w, end}) {
			continue
		}
		if now-max(n.received, m.started) > int64(m.cfg.SettleDeadline) {
			continue // silent: it holds nobody back
		}
		read++
		if why == "" {
			why = m.nodeWaits(n, span{w, end})
		}
	}
	switch {
	case read > 0 && why == "":
		return reasonSettled, ""
	case reason != "":
		return reason, ""
	case read == 0:
		return "", "no node was read"
	}
	return "", why
}

// nodeWaits says what of a node the window still waits for, or "".
func (m *Meter) nodeWaits(n *node, win span) string {
	until := win.to
	shared := false
	for _, p := range n.pods {
		if p.ended() == 0 || p.unseen != nil && p.unseen.fixed {
			continue
		}
		e := p.over()
		if l := n.unseenFrom(p); l != 0 && l < e && win.overlap(l, e) > 0 && n.kube != nil {
			at, ok := n.kube.firstAt(e)
			if !ok {
				return fmt.Sprintf("node %s: its pods' parent has no reading after the end of pod %s/%s", n.name, p.namespace, p.name)
			}
			until, shared = max(until, at), true
		}
	}
	if s := m.waitsFor(n, until); s != nil {
		return fmt.Sprintf("node %s: no reading after %s of %s", n.name, at(until).Format("15:04:05"), s.name())
	}
	if shared && !m.told(n, until) {
		return fmt.Sprintf("node %s: pods ended before %s, and another reading will tell which others ran beside them", n.name, at(until).Format("15:04:05"))
	}
	return ""
}

// waitsFor is a living series of the node without a reading at or after t, or
// nil. A series that two bodies in turn did not show no longer lives; a pod
// that ended is closed by its end.
func (m *Meter) waitsFor(n *node, t int64) *series {
	if n.own == nil {
		return &series{}
	}
	var found *series
	n.each(func(s *series, p *pod) {
		if s.last.time >= t || n.seq-s.seq >= 2 {
			return
		}
		if p != nil && p.ended() != 0 {
			return
		}
		if found == nil || s.name() < found.name() {
			found = s
		}
	})
	return found
}

func (s *series) name() string {
	switch {
	case s.id.Kind == "":
		return "the node"
	case s.id.Pod == "":
		return string(s.id.Kind)
	}
	return string(s.id.Kind) + " " + s.id.Namespace + "/" + s.id.Pod + " " + s.id.Container
}

// first builds a window that has not settled yet. Where an attempt before may
// have left rows, those are read: what this one does not make becomes zeros.
func (m *Meter) first(ctx context.Context, w, now int64, reason string) (output, error) {
	rows := rowSet{}
	out := output{w: w, reason: reason, waits: map[string]missing{}}
	for _, n := range m.sortedNodes() {
		if lacks := m.build(n, w, now, rows); lacks.rows > 0 {
			out.waits[n.name] = lacks
		}
	}
	var old rowSet
	if w < m.unsure {
		var err error
		if old, err = m.stored(ctx, w); err != nil {
			return out, err
		}
	}
	out.merge(rows, old, nil)
	return out, nil
}

// revise writes the windows again that changed, oldest first.
func (m *Meter) revise(ctx context.Context, now int64) (int, error) {
	total := 0
	for len(m.dirty) > 0 {
		windows := make([]int64, 0, len(m.dirty))
		for w := range m.dirty {
			windows = append(windows, w)
		}
		sort.Slice(windows, func(i, j int) bool { return windows[i] < windows[j] })
		windows = windows[:min(len(windows), batchWindows)]
		outs := make([]output, len(windows))
		for i, w := range windows {
			var err error
			if outs[i], err = m.again(ctx, w, now); err != nil {
				return total, err
			}
		}
		n, err := m.commit(ctx, outs)
		total += n
		if err != nil {
			return total, err
		}
		for _, out := range outs {
			delete(m.dirty, out.w)
			m.waits(out)
		}
	}
	return total, nil
}

// again builds a settled window anew: the rows of the nodes that changed, and
// as stored those of the others.
func (m *Meter) again(ctx context.Context, w, now int64) (output, error) {
	nodes := m.dirty[w]
	out := output{w: w, waits: map[string]missing{}}
	old, err := m.stored(ctx, w)
	if err != nil {
		return out, err
	}
	rows := rowSet{}
	for _, n := range m.sortedNodes() {
		reason, ok := nodes[n.name]
		if !ok {
			continue
		}
		out.reason = reason
		lacks := m.build(n, w, now, rows)
		if lacks.rows > 0 || m.waiting[w][n.name].rows > 0 {
			out.waits[n.name] = lacks
		}
	}
	out.merge(rows, old, nodes)
	return out, nil
}

// stored reads the window's rows of all tables.
func (m *Meter) stored(ctx context.Context, w int64) (rowSet, error) {
	rows := rowSet{}
	for _, table := range tables {
		err := m.deps.Minute.Rows(ctx, table.Name, "", window(w), func(p influxsync.Point) error {
			if p.Tag(schema.Cluster) == m.cfg.Cluster {
				rows.add(table.Name, p)
			}
			return nil
		})
		if err != nil {
			m.met.errors.WithLabelValues("minute").Inc()
			return nil, fmt.Errorf("read %s of %v: %w", table.Name, window(w), err)
		}
	}
	return rows, nil
}

// merge counts the whole window: the new rows, the stored rows of other nodes
// than those named (of no node when nil), and as zeros the stored rows that
// the new ones no longer hold: absence never deletes.
func (out *output) merge(rows, old rowSet, nodes map[string]string) {
	out.tables, out.nodes = map[string]tally{}, map[string]int64{}
	for _, table := range tables {
		var t tally
		stored := make(map[string]influxsync.Point, len(old[table.Name]))
		for _, p := range old[table.Name] {
			stored[rowKey(p)] = p
			if nodes != nil && isRest(p) {
				out.nodes[p.Tag(schema.Node)] -= p.Int(schema.CPU)
			}
		}
		count := func(p influxsync.Point) {
			t.rows++
			t.digest.Add(p)
			switch {
			case isRest(p):
				out.nodes[p.Tag(schema.Node)] += p.Int(schema.CPU)
			case p.Table == schema.NodeMinute.Name:
				out.covered += p.Int(schema.Coverage)
				out.present++
			}
		}
		for _, p := range rows[table.Name] {
			key := rowKey(p)
			before, had := stored[key]
			delete(stored, key)
			count(p)
			if !had || before.Hash() != p.Hash() {
				out.write = append(out.write, p)
			}
		}
		for _, p := range stored {
			if _, changed := nodes[p.Tag(schema.Node)]; nodes == nil || changed {
				if z, differs := zeroed(p); differs {
					p = z
					out.write = append(out.write, p)
				}
			}
			count(p)
		}
		out.tables[table.Name] = t
	}
}

func isRest(p influxsync.Point) bool {
	return p.Table == schema.PodMinute.Name && p.Tag(schema.Namespace) == schema.UnattributedNamespace
}

func rowKey(p influxsync.Point) string {
	n := 0
	for _, tag := range p.Tags {
		n += len(tag.Key) + len(tag.Value) + 2
	}
	key := make([]byte, 0, n)
	for _, tag := range p.Tags {
		key = append(append(append(append(key, tag.Key...), 0), tag.Value...), 0)
	}
	return string(key)
}

// zeroed is the row with zeros, and whether that changes it.
func zeroed(p influxsync.Point) (influxsync.Point, bool) {
	z, differs := p, false
	z.Fields = make([]influxsync.FieldValue, len(p.Fields))
	for i, f := range p.Fields {
		differs = differs || f.Value != influxsync.Int(0)
		z.Fields[i] = influxsync.FieldValue{Name: f.Name, Value: influxsync.Int(0)}
	}
	return z, differs
}
