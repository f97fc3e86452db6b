package meter

import (
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// What a pod used between its last reading and its end was counted by its
// parent, kubepods, and by no series of its own. It is found as a difference, in
// each slot between two readings of kubepods that the pod's unseen time (L, E]
// meets:
//
//	D = max(0, growth of C_kubepods − Σ growth of C_pod − Σ shares that are fixed)
//
// L is the pod's last reading, or its start; E the end of the second that the
// kubelet tells as its end. The ended pods whose unseen times meet a slot share
// its D:
//
//	weight = time in the slot · (limit, else last rate, else request)
//	cap    = time in the slot · (limit, or the node's processors if those are less)
//
// by weight, then what a cap cut off by the weights of the others, floored;
// what is left stays __unattributed__. Where the pod's last reading stands for a
// time that began in an earlier slot, that slot's D, with its sign, is the next
// one's too: the pod's growth was spread over both evenly, whatever it was. So is
// a D below zero of a slot that is shared. A pod's share is the sum over its slots,
// spread evenly over (L, E]. It is fixed, durably, when kubepods and every living
// series of the node have a reading at or after the end of its last slot, and a
// later sweep showed what had started or ended in it; or when that never will be.
// Until then it is zero.

// unseen is a pod's share.
type unseen struct {
	from, to int64 // L, E
	cpu      int64 // core-µs
	fixed    bool
	parts    map[int64]int64 // of cpu, by the slot's end; nil: not known any more
}

// part is what of a fixed share lies in a slot.
func (u *unseen) part(slot span) int64 {
	switch {
	case u == nil || !u.fixed:
		return 0
	case u.parts != nil:
		return u.parts[slot.to]
	}
	return spread(u.cpu, u.from, u.to, slot.to) - spread(u.cpu, u.from, u.to, slot.from)
}

type claim struct {
	p        *pod
	span           // L, E
	reach    int64 // from where its last reading's growth was spread
	until    int64 // end of its last slot
	complete bool
	rate     float64         // millicores, for its weight
	most     int64           // millicores
	parts    map[int64]int64 // core-µs, by the slot's end
}

// resolve finds the shares of the node's ended pods, and marks settled windows
// for a revision where one changed.
func (m *Meter) resolve(n *node) {
	claims := m.claims(n)
	if len(claims) == 0 {
		return
	}
	if n.kube != nil {
		var carry int64
		for _, st := range n.kube.steps {
			carry = n.share(span{st.from, st.to}, st.growth[reading.CPU], carry, claims, int64(m.cfg.Interval))
		}
	}
	for _, c := range claims {
		u := &unseen{from: c.from, to: c.to, fixed: c.complete, parts: c.parts}
		if u.fixed {
			for _, cpu := range c.parts {
				u.cpu += cpu
			}
			m.met.attributed.Add(float64(u.cpu))
			m.unsaved = append(m.unsaved, u.row(n.name, c.p.key()))
		}
		m.setUnseen(n, c.p, u)
		m.touchChanged(n, c.p)
	}
}

// claims are the ended pods whose share is not fixed, in the order of their ends.
func (m *Meter) claims(n *node) []claim {
	var claims []claim
	for _, p := range n.sorted() {
		if p.ended() == 0 || p.unseen != nil && p.unseen.fixed {
			continue
		}
		l, e := n.unseenFrom(p), p.over()
		if l == 0 || l >= e {
			m.setUnseen(n, p, nil)
			continue
		}
		until, read := n.kube.firstAt(e)
		c := claim{p: p, span: span{l, e}, reach: p.reach(l), until: until, most: maxInt64, parts: make(map[int64]int64)}
		c.complete = n.kube != nil && (read && m.told(n, until) || !n.info.Left.IsZero() || n.own != nil && n.own.last.time > until+forgetAfter)
		rate, limited := p.rate(l)
		if c.rate = max(rate, 1); limited {
			c.most = int64(rate)
		}
		if n.info.CapacityMillicores > 0 {
			c.most = min(c.most, n.info.CapacityMillicores)
		}
		claims = append(claims, c)
	}
	sort.SliceStable(claims, func(i, j int) bool { return claims[i].to < claims[j].to })
	return claims
}

// statusDelay is how long a kubelet may take to tell that a pod has started or
// ended.
const statusDelay = int64(5 * time.Second)

// told says whether all is known that used the node until t: every living
// series was read at or after it, and so was every pod that the watch has alive.
func (m *Meter) told(n *node, t int64) bool {
	return m.waitsFor(n, t) == nil && n.own.last.time > t+statusDelay && n.restless(t) == nil
}

// restless is a pod that lives as far as the watch knows and that was read or
// began shortly before t, but was not read since; nil: there is none.
func (n *node) restless(t int64) *pod {
	for _, p := range n.sorted() {
		if !p.known || p.ended() != 0 || p.info.Start.IsZero() {
			continue
		}
		if last := max(p.lastSeen(), unixNano(p.info.Start)); p.lastSeen() < t && last < t && last > t-lookback {
			return p
		}
	}
	return nil
}

// over is when the pod was surely over: kubelets cut times to whole seconds.
func (p *pod) over() int64 {
	e := p.ended()
	if e != 0 && e%int64(time.Second) == 0 && !p.guessed {
		e += int64(time.Second)
	}
	return e
}

// unseenFrom is where the time begins in which nobody read the pod; 0: there
// is none. It lies at most two lookbacks before the node's readings.
func (n *node) unseenFrom(p *pod) int64 {
	if p.known && p.info.Start.IsZero() { // none of its containers ever started
		return 0
	}
	last := p.lastSeen()
	seen, ok := n.readAt(p.ended() - lookback)
	switch {
	case last == 0 && !ok:
		if n.own == nil || len(n.own.steps) == 0 {
			return 0
		}
		return max(unixNano(p.info.Start), n.own.steps[0].to) // since the node's first reading
	case last == 0:
		return max(unixNano(p.info.Start), seen-lookback)
	case ok:
		return max(last, seen-lookback)
	}
	return last
}

// reach is where the growth that its last reading showed began, or last.
func (p *pod) reach(last int64) int64 {
	if p.own != nil && len(p.own.steps) > 0 {
		if st := p.own.steps[len(p.own.steps)-1]; st.to == last {
			return st.from
		}
	}
	return last
}

// firstAt is the first reading at or after t, or t when there is none yet.
func (s *series) firstAt(t int64) (int64, bool) {
	if s == nil {
		return t, true
	}
	i := sort.Search(len(s.steps), func(i int) bool { return s.steps[i].to >= t })
	if i == len(s.steps) {
		return t, false
	}
	return s.steps[i].to, true
}

// rate is what the pod may have used while unseen, in millicores, and whether
// that is its limit.
func (p *pod) rate(last int64) (millicores float64, limited bool) {
	var limit, request int64
	limited = len(p.info.Containers) > 0
	for _, c := range p.info.Containers {
		if c.Init && !c.Sidecar {
			continue
		}
		limited = limited && (c.LimitMillicores > 0 || c.Name == schema.PodRest)
		limit += c.LimitMillicores
		request += c.RequestMillicores
	}
	if limited && limit > 0 {
		return float64(limit), true
	}
	if p.own != nil && len(p.own.steps) > 0 {
		st := p.own.steps[len(p.own.steps)-1]
		if st.to == last && st.to > st.from && st.growth[reading.CPU] > 0 {
			return float64(st.growth[reading.CPU]) * 1e6 / float64(st.to-st.from), false
		}
	}
	return float64(request), false
}

// part is a claim's of one slot.
type part struct {
	weight     float64
	limit, got int64 // core-µs
}

// share gives what a slot's growth of kubepods leaves, and the slot before it
// carried, to the claims that meet it. It returns what it carries itself.
func (n *node) share(slot span, growth, carried int64, claims []claim, interval int64) (carry int64) {
	parts := make([]part, len(claims))
	reached, met := false, false
	for i, c := range claims {
		reached = reached || slot.overlap(c.reach, c.to) > 0
		overlap := slot.overlap(c.from, c.to)
		if overlap == 0 {
			continue // no weight, no share
		}
		met = true
		parts[i] = part{weight: c.rate * float64(overlap), limit: mulDiv(c.most, overlap, 1e6)} // millicores · ns → core-µs
	}
	if !reached {
		return 0
	}
	growth += carried
	for _, p := range n.pods {
		growth -= p.counted(slot, interval).q[reading.CPU] + p.unseen.part(slot)
	}
	if !met || growth < 0 {
		return growth
	}
	divide(parts, growth)
	for i, part := range parts {
		if part.got > 0 {
			claims[i].parts[slot.to] += part.got
		}
	}
	return 0
}

// divide gives d out by weight, none above its limit.
func divide(parts []part, d int64) {
	for d > 0 {
		var total float64
		for _, p := range parts {
			if p.got < p.limit {
				total += p.weight
			}
		}
		if total == 0 {
			return
		}
		var given int64
		for i := range parts {
			if p := &parts[i]; p.got < p.limit {
				more := min(int64(float64(d)*(p.weight/total)), p.limit-p.got, d-given)
				p.got += more
				given += more
			}
		}
		if given == 0 { // less than one core-µs for each: to the first that may
			for i := range parts {
				if parts[i].got < parts[i].limit {
					parts[i].got++
					given = 1
					break
				}
			}
		}
		d -= given
	}
}

// setUnseen replaces the pod's share; what it was stays in p.before until
// touchChanged compares.
func (m *Meter) setUnseen(n *node, p *pod, u *unseen) {
	if p.unseen != nil && p.compared == nil {
		old := *p.unseen
		p.compared = &old
	}
	p.unseen = u
	if u == nil {
		m.touchChanged(n, p)
	}
}

// touchChanged marks the windows of a share that is not what it was.
func (m *Meter) touchChanged(n *node, p *pod) {
	old, u := p.compared, p.unseen
	p.compared = nil
	switch {
	case old == nil && u == nil:
	case old == nil:
		m.touch(n, max(u.from, n.hold), u.to, "ended")
	case u == nil:
		m.touch(n, max(old.from, n.hold), old.to, "ended")
	case old.from != u.from || old.to != u.to || old.cpu != u.cpu:
		m.touch(n, max(min(old.from, u.from), n.hold), max(old.to, u.to), "ended")
	}
}

func (u *unseen) row(node, pod string) influxsync.Point {
	return influxsync.Point{Table: unseenTable, Time: at(u.to), Tags: tagList(schema.Node, node, schema.PodUID, pod),
		Fields: []influxsync.FieldValue{
			{Name: schema.CPU, Value: influxsync.Int(u.cpu)},
			{Name: "from", Value: influxsync.Int(u.from)},
		}}
}

// counted is what the pod's readings say that it used in w: its cgroup's
// counters, and of what that does not count the sum of its containers.
func (p *pod) counted(w span, interval int64) amount {
	a := p.own.amount(w, interval)
	counts := a.counts
	for _, s := range p.containers {
		if s.counts&^counts == 0 {
			continue
		}
		c := s.amount(w, interval)
		if p.own == nil {
			a.covered, a.interpolated = max(a.covered, c.covered), max(a.interpolated, c.interpolated)
		}
		for q := range c.q {
			if counts&(1<<q) == 0 {
				a.q[q] += c.q[q]
				a.counts |= c.counts & (1 << q)
			}
		}
	}
	return a
}

// amount is what the pod used in w: what was counted, and its share while
// unseen.
func (p *pod) amount(w span, interval int64) amount {
	a := p.counted(w, interval)
	if u := p.unseen; u != nil {
		a.q[reading.CPU] += spread(u.cpu, u.from, u.to, w.to) - spread(u.cpu, u.from, u.to, w.from)
		a.q[reading.Memory] += p.requestMemory(span{max(w.from, u.from), min(w.to, u.to)})
		if u.to-u.from > interval*3/2 {
			a.interpolated = min(w.to-w.from, a.interpolated+w.overlap(u.from, u.to))
		}
	}
	return a
}
