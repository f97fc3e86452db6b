package registry

import (
	"context"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// comparison is one cluster's ledger against what must exist.
type comparison struct {
	q        queryer
	cluster  string
	window   schema.Window
	alive    schema.Window // a zero To is open
	settled  time.Time     // windows that ended later are not missing yet
	expected expectation
	numbers  numbering
	link     link
	filling  schema.Window // what the follower has yet to fill of its history
	rated    map[int64]bool
	extents  map[string]schema.Window // what was received, by table; none before the first window
	// uniform are the parts of the table of nodes in which each window came of
	// the same nodes.
	uniform map[span]nodeSet
	// days are the sums of the folded days that the window touches, and quarters those of
	// loose windows, of all tables.
	days, quarters byTable

	// of the table that is being compared
	table       schema.Table
	first, last time.Time // of what was received of it; zero before
	runs        runs
}

// part is a quarter or a folded day, as far as it lies in the window.
type part struct {
	span
	grain string
	sums  *sums // nil where they are of more than the part
	odd   bool  // a window is not a whole minute
}

// compare is the comparison of one table.
func (c *comparison) compare(ctx context.Context, table schema.Table) ([]Completeness, error) {
	c.table, c.runs = table, runs{}
	c.first, c.last = c.extents[table.Name].From, c.extents[table.Name].To
	parts := c.parts()
	counted := make([]Completeness, len(parts))
	for i, p := range parts {
		var err error
		if counted[i], err = c.count(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := c.explain(ctx, parts, counted); err != nil {
		return nil, err
	}
	var result []Completeness
	for _, k := range counted {
		if k.Expected > 0 || k.Windows > 0 {
			result = append(result, k)
		}
	}
	return result, nil
}

// minutes says whether each minute must have a window in the table.
func (c *comparison) minutes() bool { return c.table.EachMinute() }

// count is one part's comparison. What lacks is in c.runs.
func (c *comparison) count(ctx context.Context, p part) (Completeness, error) {
	k := Completeness{Table: c.table.Name, Quarter: quarterOf(moment(p.from)), Grain: p.grain}
	if p.grain == GrainDay {
		k.Quarter = moment(dayOf(p.from))
	}
	if c.minutes() {
		k.ExpectedBy = c.expected.by
	}
	var err error
	if p.sums == nil || !c.atOnce(&k, p) {
		var s sums
		if s, err = c.each(ctx, &k, p); p.sums == nil {
			p.sums = &s
		}
	}
	s := p.sums
	k.Windows, k.Rows, k.Revisions, k.Refused, k.Extra, k.Overlaps = int(s.windows), s.rows, s.revisions, s.refused, s.extra, s.overlaps
	k.Unexplained = s.unexplained
	if s.windows > 0 {
		k.Coverage, k.Newest = s.coverage/s.windows, moment(s.newest)
	}
	return k, err
}

// atOnce counts a part whose windows are all there and all of the same nodes,
// without looking at each. It says whether that could be done.
func (c *comparison) atOnce(k *Completeness, p part) bool {
	s := p.sums
	if s.refused > 0 || s.unexplained > 0 {
		return false
	}
	if !c.minutes() {
		k.Received, k.Audited = int(s.windows), int(s.audited)
		return true
	}
	minutes := (p.to - p.from) / int64(schema.Minute)
	if s.windows != minutes || p.odd || s.unnamed > 0 || !s.all.equal(s.any) || !c.due(p.from) || !c.due(p.to-int64(schema.Minute)) {
		return false
	}
	want, until := c.expected.at(p.from)
	if until < p.to {
		return false
	}
	read, uniform := c.uniform[p.span]
	if c.table.Name == schema.NodeMinute.Name {
		read, uniform = append(nodeSet{}, s.all...), true
	}
	if !uniform {
		return false
	}
	came := c.counted(s.all, read)
	silent := want.minus(came)
	if nanos(c.first) >= p.from && silent.count() > 0 { // in the first minute nobody is silent
		return false
	}
	c.uniform[p.span] = read
	perMinute := max(1, came.count())
	k.Received = perMinute * int(minutes)
	k.Audited = perMinute * int(s.audited)
	for at := p.from; at < p.to && len(c.rated) > 0; {
		quarter := nanos(quarterOf(moment(at)))
		until := min(quarter+int64(schema.Quarter), p.to)
		if c.rated[quarter] {
			k.Rated += perMinute * int((until-at)/int64(schema.Minute))
		}
		at = until
	}
	k.Expected = max(1, want.union(came).count()) * int(minutes)
	if came.count() == 0 && silent.count() > 0 { // the window came, of nobody
		k.Received, k.Audited, k.Rated = 0, 0, 0
	}
	silent.each(func(n int) { c.runs.add(p.from, p.to, run{node: n}) })
	return true
}

// each counts a part window by window.
func (c *comparison) each(ctx context.Context, k *Completeness, p part) (sums, error) {
	var all sums
	var rows []ledgerRow
	nodes := make(map[int64]nodeSet) // that were read, by the table of nodes
	collect := func(e ledgerRow) error {
		rows = append(rows, e)
		all.add(e, len(rows) == 1)
		return nil
	}
	if p.sums == nil || p.sums.windows > 0 {
		if err := eachWindow(ctx, c.q, c.cluster, c.table.Name, p.span, collect); err != nil {
			return all, err
		}
	}
	if c.table.Name != schema.NodeMinute.Name && c.minutes() && len(rows) > 0 {
		err := eachWindow(ctx, c.q, c.cluster, schema.NodeMinute.Name, p.span, func(e ledgerRow) error {
			if nodes[e.from] = e.nodes; e.nodes == nil {
				want, _ := c.want(e.from)
				nodes[e.from] = append(nodeSet{}, want...)
			}
			return nil
		})
		if err != nil {
			return all, err
		}
	}
	step := int64(schema.Minute)
	at := (p.from + step - 1) / step * step
	for i := 0; at < p.to || i < len(rows); {
		if i < len(rows) && (rows[i].from <= at || at >= p.to) {
			if c.came(k, rows[i], nodes[rows[i].from]); rows[i].from == at {
				at += step
			}
			i++
			continue
		}
		if c.due(at) {
			set, _ := c.want(at)
			k.Expected += max(1, set.count())
			c.runs.add(at, at+step, run{node: -1})
		}
		at += step
	}
	return all, nil
}

// counted are the nodes of which a window counts as received, of those that have
// rows in it. The table of nodes says which were read, by what was counted of its
// rows; nil where that window is not here. A node that was not reached has rows of
// its pods with nothing in them, and one without a container that was read has no
// rows in the table of containers.
func (c *comparison) counted(rows, read nodeSet) nodeSet {
	switch {
	case read == nil || c.table.Name == schema.NodeMinute.Name:
		return rows
	case c.table.Name == schema.ContainerMinute.Name:
		return read
	}
	return rows.and(read)
}

// came counts a window that is there; read are the nodes that were read in it by
// the table of nodes, nil where that is not known. In the table's first minute
// the follower began: of the nodes that it came to after the minute's end there
// was nobody to read them.
func (c *comparison) came(k *Completeness, e ledgerRow, read nodeSet) {
	if e.refused > 0 {
		c.runs.add(e.from, e.to, run{node: -1, refused: true, rows: e.refused})
	}
	if e.unexplained > 0 {
		c.runs.add(e.from, e.to, run{node: -1, unexplained: true, rows: e.unexplained})
	}
	count := 1
	if c.minutes() {
		want, counted := c.want(e.from)
		came := e.nodes
		if came == nil {
			came = want
		}
		if came = c.counted(came, read); e.from == nanos(c.first) {
			came = came.union(want)
		}
		both := want.union(came)
		k.Expected += max(1, both.count())
		if count = came.count(); both.count() == 0 {
			count = 1
		}
		if counted {
			want.minus(came).each(func(n int) { c.runs.add(e.from, e.to, run{node: n, disk: saysDisk(e.reason)}) })
		}
	}
	k.Received += count
	if e.audited >= e.received {
		k.Audited += count
	}
	if c.minutes() && c.rated[nanos(quarterOf(moment(e.from)))] {
		k.Rated += count
	}
}

// want are the nodes that must have rows in the minute; none, and false, where
// the cluster was not there.
func (c *comparison) want(at int64) (nodeSet, bool) {
	at = nanos(minute(moment(at)))
	if !c.there(at) {
		return nil, false
	}
	set, _ := c.expected.at(at)
	return set, true
}

// there says whether the cluster was there in a part of the minute.
func (c *comparison) there(at int64) bool {
	return !c.alive.From.IsZero() && at+int64(schema.Minute) > nanos(c.alive.From) && (c.alive.To.IsZero() || at < nanos(c.alive.To))
}

// due says whether the minute must have a window by now.
func (c *comparison) due(at int64) bool {
	return c.minutes() && c.there(at) && at+int64(schema.Minute) <= nanos(c.settled)
}
