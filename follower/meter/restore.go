package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Restore reads the cache back from the stores. The mark is what the journals
// say; the readings are those from the oldest window on that can still be
// written, and the one before of each series. Windows that may have been
// interrupted, or whose rows waited for facts, are built again by the next
// Settle; where nothing differs nothing is written. The watch must have its
// first list by then.
func (m *Meter) Restore(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.restore(ctx)
}

// far is after every reading.
const far = int64(1) << 62

func (m *Meter) restore(ctx context.Context) error {
	m.state = state{nodes: make(map[string]*node), dirty: make(map[int64]map[string]string),
		waiting: make(map[int64]map[string]missing), stale: true}
	if err := m.restoreLane(ctx); err != nil {
		return err
	}
	newest, last, err := m.lastSamples(ctx)
	if err != nil {
		return err
	}
	now := m.deps.Clock.Now().UnixNano()
	m.started = now
	m.unsure = floorMinute(max(now, newest)) + minute
	m.mark = m.scanMark(max(now, newest) + int64(time.Hour))
	deadlines := int64(m.cfg.FactsDeadline + m.cfg.SettleDeadline)
	base := floorMinute(max(m.from, m.mark-deadlines-2*revisable))
	for name, samples := range last {
		if err := m.restoreNode(ctx, name, samples, base); err != nil {
			return err
		}
	}
	if err := m.restoreIdentities(ctx); err != nil {
		return err
	}
	m.restored, m.stale = true, false
	m.log.Info("meter restored", "lane", m.laneName(), "mark", at(m.mark), "nodes", len(m.nodes), "windows", len(m.dirty))
	return nil
}

// restoreLane takes the lane's stored range, or stores the configured one.
func (m *Meter) restoreLane(ctx context.Context) error {
	found := false
	epoch := schema.Window{From: time.Unix(0, 0).UTC(), To: time.Unix(1, 0).UTC()}
	err := m.deps.Raw.Rows(ctx, laneTable, "", epoch, func(p influxsync.Point) error {
		if p.Tag("lane") == m.laneName() {
			m.from, m.to, found = p.Int("from"), p.Int("to"), true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read lane %s: %w", m.laneName(), err)
	}
	if found {
		return nil
	}
	m.to = unixNano(m.cfg.To)
	if m.cfg.From.IsZero() {
		return nil
	}
	return m.claimLane(ctx, m.cfg.From.UnixNano())
}

// bound is where this lane's readings end.
func (m *Meter) bound() int64 {
	if m.to != 0 {
		return m.to
	}
	return far
}

// LaneMargin is how long before the end of a lane its readings are not read
// back at a restart: samples that the next lane's first bodies brought may lie
// there, and would make this lane's own, which are older, come too late. Who
// feeds a lane with an end feeds that time again.
const LaneMargin = 2 * time.Minute

// readable is where the readings end that this lane reads back.
func (m *Meter) readable() int64 {
	if m.to != 0 {
		return m.to - int64(LaneMargin)
	}
	return far
}

// lastSamples are the newest samples of all series, by node.
func (m *Meter) lastSamples(ctx context.Context) (newest int64, last map[string][]sample, err error) {
	last = make(map[string][]sample)
	err = m.deps.Raw.Last(ctx, schema.Raw.Name, "", at(m.readable()), func(p influxsync.Point) error {
		x := sampleOf(p)
		newest = max(newest, x.time)
		last[x.id.Node] = append(last[x.id.Node], x)
		return nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read the last readings: %w", err)
	}
	return newest, last, nil
}

// scanMark is the end of the newest window of the lane that every table's
// journal knows; windows settle in order.
func (m *Meter) scanMark(until int64) int64 {
	if m.from == 0 {
		return 0
	}
	mark := int64(far)
	for _, table := range tables {
		w := floorMinute(min(until, m.bound()-1))
		for w >= m.from {
			if _, ok := m.deps.Journals[table.Name].Latest(window(w)); ok {
				break
			}
			w -= minute
		}
		mark = min(mark, w+minute)
	}
	return max(mark, m.from)
}

// restoreNode reads a node's readings from the start of its oldest window that
// can still be written; a gap that ends after base moves that start.
func (m *Meter) restoreNode(ctx context.Context, name string, last []sample, base int64) error {
	var own int64
	for _, x := range last {
		if x.id.Kind == reading.Node {
			own = x.time
		}
	}
	hold := base
	for _, x := range last {
		if own-lookback-x.time <= forgetAfter {
			hold = min(hold, floorMinute(x.time))
		}
	}
	for {
		n := newNode(name)
		n.hold, n.seq = hold, 1
		m.nodes[name] = n
		if err := m.load(ctx, n); err != nil {
			return err
		}
		if err := m.restoreLifetimes(ctx, n); err != nil {
			return err
		}
		from := n.reaches(base)
		if from >= hold {
			break
		}
		hold = max(floorMinute(from), 0)
	}
	n := m.nodes[name]
	for _, x := range last {
		if x.received > n.received {
			n.received, n.newest = x.received, 0
		}
		if x.received == n.received {
			n.shift, n.newest = x.shift, max(n.newest, x.time-x.shift)
		}
	}
	m.touch(n, min(base, n.reaches(base)), m.mark, "restart")
	return nil
}

// load takes the node's readings since its hold into the cache.
func (m *Meter) load(ctx context.Context, n *node) error {
	since := n.hold - lookback
	var samples, before []sample
	var own int64
	err := m.deps.Raw.Last(ctx, schema.Raw.Name, n.name, at(since), func(p influxsync.Point) error {
		x := sampleOf(p)
		if x.id.Kind == reading.Node {
			own = x.time
		}
		before = append(before, x)
		return nil
	})
	if err == nil {
		err = m.deps.Raw.Rows(ctx, schema.Raw.Name, n.name, schema.Window{From: at(since), To: at(m.readable())},
			func(p influxsync.Point) error {
				samples = append(samples, sampleOf(p))
				return nil
			})
	}
	if err != nil {
		return fmt.Errorf("read readings of node %s: %w", n.name, err)
	}
	for _, x := range before {
		if own-x.time <= forgetAfter {
			samples = append(samples, x)
		}
	}
	sort.SliceStable(samples, func(i, j int) bool { return samples[i].time < samples[j].time })
	for _, x := range samples {
		m.take(n, x)
		n.find(x.id).seq = n.seq
	}
	return nil
}

// reaches is the earliest moment that a step ending after base, or a pod that
// ended after it unseen, begins at.
func (n *node) reaches(base int64) int64 {
	from := far
	n.each(func(s *series, _ *pod) {
		for _, st := range s.steps {
			if st.to > base {
				from = min(from, st.from)
			}
		}
	})
	for _, p := range n.pods {
		if e := p.over(); e > base && (p.unseen == nil || !p.unseen.fixed) {
			if l := n.unseenFrom(p); l != 0 {
				from = min(from, l)
			}
		}
	}
	return from
}

// restoreLifetimes reads what the watch told of the node's pods, and the
// shares that ended ones got.
func (m *Meter) restoreLifetimes(ctx context.Context, n *node) error {
	always := schema.Window{From: time.Unix(0, 0).UTC(), To: at(far)}
	infos := make(map[string]reading.PodInfo)
	told := make(map[string]time.Time)
	err := m.deps.Raw.Rows(ctx, lifetimeTable, n.name, always, func(p influxsync.Point) error {
		var info reading.PodInfo
		text, _ := p.Field("info")
		if err := json.Unmarshal([]byte(text.Str()), &info); err != nil {
			return fmt.Errorf("lifetime of pod %s: %w", p.Tag(schema.PodUID), err)
		}
		key := p.Tag(schema.PodUID)
		if old, ok := infos[key]; !ok || old.End.IsZero() && (!info.End.IsZero() || !p.Time.Before(told[key])) {
			infos[key], told[key] = info, p.Time
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read lifetimes of node %s: %w", n.name, err)
	}
	for key, info := range infos {
		p := n.pods[key]
		if e := unixNano(info.End); p == nil && e != 0 && e <= n.hold-lookback {
			continue
		}
		if p == nil {
			p = n.pod(reading.Series{Namespace: info.Namespace, Pod: info.Name, PodUID: info.UID})
		}
		p.info, p.known, p.saved, p.restored = info, true, true, true
	}
	// A pod that ended before the hold is there too if its last readings were
	// loaded: its share stays what it was.
	err = m.deps.Raw.Rows(ctx, unseenTable, n.name, always, func(row influxsync.Point) error {
		if p := n.pods[row.Tag(schema.PodUID)]; p != nil {
			p.unseen = &unseen{from: row.Int("from"), to: row.Time.UnixNano(), cpu: row.Int(schema.CPU), fixed: true}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read unseen shares of node %s: %w", n.name, err)
	}
	return nil
}

// restoreIdentities reads the fixed tags of nodes and pods.
func (m *Meter) restoreIdentities(ctx context.Context) error {
	always := schema.Window{From: time.Unix(0, 0).UTC(), To: at(far)}
	err := m.deps.Raw.Rows(ctx, identityTable, "", always, func(row influxsync.Point) error {
		id, pod := identityOf(row), row.Tag(schema.PodUID)
		if pod == "" {
			n := m.node(row.Tag(schema.Node))
			n.tags = append(n.tags, id)
			return nil
		}
		if n := m.nodes[row.Tag(schema.Node)]; n != nil && n.pods[pod] != nil {
			n.pods[pod].tags = append(n.pods[pod].tags, id)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read identities: %w", err)
	}
	for _, n := range m.nodes {
		sort.Slice(n.tags, func(i, j int) bool { return n.tags[i].from < n.tags[j].from })
		for _, p := range n.pods {
			sort.Slice(p.tags, func(i, j int) bool { return p.tags[i].from < p.tags[j].from })
		}
	}
	return nil
}
