package meter

import (
	"sort"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// What a pod used between its last reading and its end was counted by its
// parent, kubepods, and by no series of its own. It is found as a difference:
//
//	balance(t) = C_kubepods(t) − Σ C_pod(t), the running sum of __unattributed__
//	D          = max(0, balance(E₂) − balance(L))
//
// L is the pod's last reading, E its end, E₂ kubepods' first reading at or
// after E (the parent's reading spreads what was used before E up to there).
// Pods whose ranges [L, E₂] meet and that end in the same minute share one D:
//
//	weight = (E − L) · (limit, else last rate, else request)
//	cap    = (E − L) · limit, or D where there is none
//
// by weight, then what a cap cut off by the weights of the others, floored;
// what is left stays __unattributed__. A share is spread evenly over (L, E].
// It is fixed, durably, when kubepods and every living series of the node have
// a reading at or after E₂, or never will; until then it is zero.

// unseen is a pod's share.
type unseen struct {
	from, to int64 // L, E
	cpu      int64 // core-µs
	fixed    bool
}

type claim struct {
	p          *pod
	span       // L, E
	until      int64
	weight     float64
	limit, got int64
}

// resolve finds the shares of the node's ended pods, and marks settled windows
// for a revision where one changed.
func (m *Meter) resolve(n *node) {
	claims := m.claims(n)
	for len(claims) > 0 {
		hull, size := span{claims[0].from, claims[0].until}, 1
		for size < len(claims) && claims[size].from < hull.to &&
			floorMinute(claims[size].to) == floorMinute(claims[0].to) {
			hull = span{min(hull.from, claims[size].from), max(hull.to, claims[size].until)}
			size++
		}
		m.share(n, claims[:size], hull)
		claims = claims[size:]
	}
}

// claims are the ended pods whose share is not fixed, in the order of their ends.
func (m *Meter) claims(n *node) []claim {
	var claims []claim
	for _, p := range n.sorted() {
		e := p.ended()
		if e == 0 || p.unseen != nil && p.unseen.fixed {
			continue
		}
		l := n.unseenFrom(p)
		if l == 0 || l >= e {
			m.setUnseen(n, p, nil)
			continue
		}
		until, _ := n.kube.firstAt(e)
		c := claim{p: p, span: span{l, e}, until: until}
		rate, limited := p.rate(l)
		c.weight = max(rate, 1) * float64(e-l)
		c.limit = maxInt64
		if limited {
			c.limit = mulDiv(int64(rate), e-l, 1e6) // millicores · ns → core-µs
		}
		claims = append(claims, c)
		m.setUnseen(n, p, &unseen{from: l, to: e}) // counts nothing while D is computed
	}
	sort.SliceStable(claims, func(i, j int) bool { return claims[i].to < claims[j].to })
	return claims
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
		return 0
	case last == 0:
		return max(unixNano(p.info.Start), seen-lookback)
	case ok:
		return max(last, seen-lookback)
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

// share gives the growth of the balance over the hull to the claims.
func (m *Meter) share(n *node, claims []claim, hull span) {
	var d int64
	complete := true
	if n.kube != nil {
		d = n.kube.amount(hull, int64(m.cfg.Interval)).q[reading.CPU]
		for _, p := range n.pods {
			d -= p.amount(hull, int64(m.cfg.Interval)).q[reading.CPU]
		}
		for _, c := range claims {
			_, ok := n.kube.firstAt(c.to)
			complete = complete && ok
		}
		complete = complete && m.readUntil(n, hull.to) || !n.info.Left.IsZero() ||
			n.own != nil && n.own.last.time > hull.to+forgetAfter
	}
	if !complete || n.kube == nil {
		d = 0
	}
	divide(claims, max(0, d))
	for _, c := range claims {
		u := &unseen{from: c.from, to: c.to, cpu: c.got, fixed: complete && n.kube != nil}
		m.setUnseen(n, c.p, u)
		if u.fixed {
			m.met.attributed.Add(float64(u.cpu))
			m.unsaved = append(m.unsaved, u.row(n.name, c.p.key()))
		}
	}
	for _, c := range claims {
		m.touchChanged(n, c.p)
	}
}

// divide gives d out by weight, none above its cap.
func divide(claims []claim, d int64) {
	for d > 0 {
		var total float64
		for _, c := range claims {
			if c.got < c.limit {
				total += c.weight
			}
		}
		if total == 0 {
			return
		}
		var given int64
		for i := range claims {
			if c := &claims[i]; c.got < c.limit {
				part := min(int64(float64(d)*(c.weight/total)), c.limit-c.got, d-given)
				c.got += part
				given += part
			}
		}
		if given == 0 { // less than one core-µs for each: to the first that may
			for i := range claims {
				if claims[i].got < claims[i].limit {
					claims[i].got++
					given = 1
					break
				}
			}
		}
		d -= given
	}
}

// readUntil says whether every living series of the node has a reading at or
// after t.
func (m *Meter) readUntil(n *node, t int64) bool {
	return m.waitsFor(n, t) == nil
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

// amount is what the pod used in w: its cgroup's counters, of what that does
// not count the sum of its containers, and its share while unseen.
func (p *pod) amount(w span, interval int64) amount {
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
	if u := p.unseen; u != nil {
		a.q[reading.CPU] += spread(u.cpu, u.from, u.to, w.to) - spread(u.cpu, u.from, u.to, w.from)
		a.q[reading.Memory] += p.requestMemory(span{max(w.from, u.from), min(w.to, u.to)})
		if u.to-u.from > interval*3/2 {
			a.interpolated = min(w.to-w.from, a.interpolated+w.overlap(u.from, u.to))
		}
	}
	return a
}
