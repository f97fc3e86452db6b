package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Tables of the raw database that only the meter reads.
const (
	identityTable = "identity" // tag set of a node or pod, at the first window that has it
	lifetimeTable = "lifetime" // what the watch told of a pod, at the pod's start
	unseenTable   = "unseen"   // share of the balance that an ended pod got, at its end
	laneTable     = "lane"     // range of a lane, at time 0
)

// identity is what the tags of a node's or a pod's rows say, beside its names.
// A pod's is fixed at its first row and holds for its life, but that what was
// unknown then is known from the window on in which it came; a node's holds from
// a window on, until its facts change.
type identity struct {
	from  int64
	facts reading.Facts
	kind  string // workload
	name  string
}

// missing is what the rows of a settled window wait for.
type missing struct {
	node bool // the node's facts
	pods []string
	rows int
}

func (id identity) row(node, pod string) influxsync.Point {
	p := influxsync.Point{Table: identityTable, Time: at(id.from), Tags: tagList(schema.Node, node, schema.PodUID, pod),
		Fields: []influxsync.FieldValue{
			{Name: schema.Box, Value: influxsync.Str(id.facts.Box)},
			{Name: schema.CPUType, Value: influxsync.Str(id.facts.CPUType)},
			{Name: schema.RAMType, Value: influxsync.Str(id.facts.RAMType)},
			{Name: schema.DiskType, Value: influxsync.Str(id.facts.DiskType)},
			{Name: schema.WorkloadKind, Value: influxsync.Str(id.kind)},
			{Name: schema.Workload, Value: influxsync.Str(id.name)},
		}}
	p.Sort()
	return p
}

func identityOf(p influxsync.Point) identity {
	text := func(name string) string {
		v, _ := p.Field(name)
		return v.Str()
	}
	return identity{from: p.Time.UnixNano(), kind: text(schema.WorkloadKind), name: text(schema.Workload),
		facts: reading.Facts{Box: text(schema.Box), CPUType: text(schema.CPUType),
			RAMType: text(schema.RAMType), DiskType: text(schema.DiskType)}}
}

var unknownFacts = reading.Facts{Box: schema.Unknown, CPUType: schema.Unknown, RAMType: schema.Unknown, DiskType: schema.Unknown}

// nodeTags is the node's identity in the window at w, fixed if it is new. A
// window that had settled keeps the identity that it had.
func (m *Meter) nodeTags(n *node, w, now int64) (identity, bool) {
	i := len(n.tags)
	for i > 0 && n.tags[i-1].from > w {
		i--
	}
	if i > 0 && w < m.mark {
		return n.tags[i-1], true
	}
	facts, ok := m.deps.Tagger.FactsAt(n.name, at(w))
	switch {
	case ok && i > 0 && n.tags[i-1].facts == facts, !ok && i > 0:
		return n.tags[i-1], true
	case !ok && !m.factsOverdue(w, now):
		return identity{}, false
	case !ok:
		facts = unknownFacts
		if !n.warned {
			n.warned = true
			m.log.Warn("node unknown to the seed, its rows settle without facts", "node", n.name, "window", at(w))
		}
	}
	id := identity{from: w, facts: facts}
	n.tags = append(n.tags, identity{})
	copy(n.tags[i+1:], n.tags[i:])
	n.tags[i] = id
	m.unsaved = append(m.unsaved, id.row(n.name, ""))
	return id, true
}

// podTags is the pod's identity in the window at w, fixed at its first window.
// A window that had settled keeps what it had: of a pod no window has two rows.
func (m *Meter) podTags(n *node, p *pod, of identity, w, now int64) (identity, bool) {
	if len(p.tags) > 0 {
		return m.laterTags(n, p, of, w), true
	}
	id := identity{from: w, facts: of.facts, kind: p.info.WorkloadKind, name: p.info.Workload}
	if !p.known || !p.info.OwnerKnown {
		if !m.factsOverdue(w, now) {
			return identity{}, false
		}
		id.kind, id.name = schema.Unknown, schema.Unknown
		m.met.unknown.Inc()
	}
	p.tags = []identity{id}
	m.unsaved = append(m.unsaved, id.row(n.name, p.key()))
	return id, true
}

// laterTags is the identity that holds at w of a pod that has one. In a window
// that has not settled, what it does not know is taken from what is known now: a
// node may be described, and an owner be told, long after the pod's first minute.
func (m *Meter) laterTags(n *node, p *pod, of identity, w int64) identity {
	i := max(0, sort.Search(len(p.tags), func(i int) bool { return p.tags[i].from > w })-1)
	id := p.tags[i]
	if w < m.mark || w < id.from {
		return id
	}
	if id.facts == unknownFacts {
		id.facts = of.facts
	}
	if id.kind == schema.Unknown && p.known && p.info.OwnerKnown {
		id.kind, id.name = p.info.WorkloadKind, p.info.Workload
	}
	if id == p.tags[i] {
		return id
	}
	if id.from == w { // an attempt that was not written
		p.tags[i] = id
	} else {
		id.from = w
		p.tags = slices.Insert(p.tags, i+1, id)
	}
	m.unsaved = append(m.unsaved, id.row(n.name, p.key()))
	return id
}

func (m *Meter) factsOverdue(w, now int64) bool {
	return now >= w+minute+int64(m.cfg.FactsDeadline)
}

func (p *pod) key() string {
	if p.uid != "" {
		return p.uid
	}
	return p.namespace + "/" + p.name
}

// observe takes over what the watch tells. What it tells of a pod is made
// durable before the pod's rows: after a restart the API server no longer
// knows a pod that ended meanwhile.
func (m *Meter) observe() {
	m.observeNodes()
	told := make(map[*pod]bool)
	for _, info := range m.deps.Watch.Pods() {
		n := m.nodes[info.Node]
		if n == nil {
			continue
		}
		p := n.pods[info.UID]
		if p == nil {
			if e := unixNano(info.End); e != 0 && e <= n.hold {
				continue
			}
			p = n.pod(reading.Series{Namespace: info.Namespace, Pod: info.Name, PodUID: info.UID})
		}
		told[p] = true
		m.learn(n, p, info)
	}
	for _, n := range m.nodes {
		for _, p := range n.pods {
			if p.restored && !told[p] && p.info.End.IsZero() {
				m.bury(n, p)
			}
		}
	}
}

// bury ends a pod that lived when the follower stopped and that the watch does
// not know: nobody can tell when it ended, so its last reading is its end.
func (m *Meter) bury(n *node, p *pod) {
	end := p.lastSeen()
	if end == 0 {
		end = max(n.hold, unixNano(p.info.Start))
	}
	p.info.End, p.guessed = at(end), true
	m.touch(n, end, m.mark, "late")
}

// observeNodes takes over the lives of every node: one that was deleted and made
// again under its name is one node here, with a gap.
func (m *Meter) observeNodes() {
	lives := make(map[string][]reading.NodeInfo)
	for _, info := range m.deps.Watch.Nodes() {
		lives[info.Name] = append(lives[info.Name], info)
	}
	m.hosts = make(map[string][]*node)
	changed := make(map[*node]int64)
	for name, infos := range lives {
		newest := infos[len(infos)-1]
		n := m.nodes[name]
		if n == nil {
			if !newest.Left.IsZero() {
				continue
			}
			n = m.node(name)
		}
		if since := livesChanged(n.lives, infos); since != 0 && n.known {
			changed[n] = since
		}
		n.info, n.lives, n.known = newest, infos, true
		boots := make(map[string]bool)
		for _, info := range infos {
			boots[info.BootID] = true
			for _, past := range info.Past {
				boots[past.BootID] = true
			}
		}
		delete(boots, "")
		for boot := range boots {
			m.hosts[boot] = append(m.hosts[boot], n)
		}
	}
	for n, since := range changed {
		m.touch(n, max(n.hold, since), m.mark, "late")
	}
	for _, siblings := range m.hosts { // what one leaves, the others have
		for _, n := range siblings {
			if since := changed[n]; since != 0 && len(siblings) > 1 {
				for _, other := range siblings {
					m.touch(other, max(other.hold, since), m.mark, "late")
				}
			}
		}
	}
}

// livesChanged is the first moment at which a node's lives are others than they
// were known, 0 if at none.
func livesChanged(old, lives []reading.NodeInfo) int64 {
	since := int64(0)
	for i, info := range lives {
		if i >= len(old) || old[i].UID != info.UID {
			since = minNonZero(since, max(1, unixNano(info.Joined)))
			continue
		}
		if !old[i].Left.Equal(info.Left) {
			since = minNonZero(since, minNonZero(unixNano(old[i].Left), unixNano(info.Left)))
		}
		if n := len(info.Past); n > len(old[i].Past) {
			since = minNonZero(since, info.Past[len(old[i].Past)].Until.UnixNano())
		}
	}
	return since
}

func (m *Meter) learn(n *node, p *pod, info reading.PodInfo) {
	old := p.info
	same := !p.guessed && p.known && p.saved && old.Start.Equal(info.Start) && old.End.Equal(info.End) &&
		old.OwnerKnown == info.OwnerKnown && len(old.Past) == len(info.Past) && slices.Equal(old.Containers, info.Containers)
	if same {
		return
	}
	if p.known && !old.End.IsZero() && info.End.IsZero() && !p.guessed {
		info.End = old.End // the end that we stored stands
	}
	before := p.known
	p.info, p.known, p.saved, p.guessed = info, true, true, false
	if text, err := json.Marshal(info); err == nil {
		told := info.Created
		if told.IsZero() {
			told = info.Start
		}
		m.unsaved = append(m.unsaved, influxsync.Point{Table: lifetimeTable, Time: at(unixNano(told)),
			Tags:   tagList(schema.Node, n.name, schema.PodUID, p.key()),
			Fields: []influxsync.FieldValue{{Name: "info", Value: influxsync.Str(string(text))}}})
	}
	if from := changedSince(old, info, before); from != 0 {
		m.touch(n, max(n.hold, from), m.mark, "late")
	}
}

// changedSince is the first moment at which a pod's life or requests are others
// than they were known; 0: at none that has been.
func changedSince(old, info reading.PodInfo, known bool) int64 {
	since := int64(0)
	earlier := func(moments ...time.Time) {
		for _, t := range moments {
			since = minNonZero(since, unixNano(t))
		}
	}
	if !known {
		earlier(info.Start)
		return max(since, 1)
	}
	if !old.Start.Equal(info.Start) {
		earlier(old.Start, info.Start)
	}
	if !old.End.Equal(info.End) {
		earlier(old.End, info.End)
	}
	if resizes := len(info.Past); resizes != len(old.Past) && resizes > 0 {
		earlier(info.Past[min(len(old.Past), resizes-1)].Until)
	}
	return since
}

func minNonZero(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// save makes identities, lifetimes and unseen shares durable.
func (m *Meter) save(ctx context.Context) error {
	if len(m.unsaved) == 0 {
		return nil
	}
	if err := m.deps.Raw.Write(ctx, m.unsaved); err != nil {
		m.met.errors.WithLabelValues("raw").Inc()
		return fmt.Errorf("write %d identities: %w", len(m.unsaved), err)
	}
	m.unsaved = nil
	return nil
}

// claimLane fixes the range of this lane, durably, at its first reading.
func (m *Meter) claimLane(ctx context.Context, from int64) error {
	p := influxsync.NewPoint(laneTable, map[string]string{"lane": m.laneName()},
		map[string]influxsync.Value{"from": influxsync.Int(from), "to": influxsync.Int(m.to)}, time.Unix(0, 0))
	if err := m.deps.Raw.Write(ctx, []influxsync.Point{p}); err != nil {
		m.met.errors.WithLabelValues("raw").Inc()
		return fmt.Errorf("write lane %s: %w", m.laneName(), err)
	}
	m.from, m.mark = from, from
	return nil
}

func (m *Meter) laneName() string {
	if m.cfg.Lane == "" {
		return "live"
	}
	return m.cfg.Lane
}
