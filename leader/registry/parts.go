package registry

import (
	"context"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// sumColumns are sums of loose windows, in the order that scanSums reads. The
// nodes are those of all of them where the least set is the greatest one.
const sumColumns = `count(*), count(*) - count(nodes), min(nodes), max(nodes), sum(audited_at >= received_at), sum(rows), sum(revision),
	sum(coverage), sum(refused), sum(extra), sum(unexplained), sum(overlaps), max(received_at), min(window_from % 60000000000 = 0 AND window_to - window_from = 60000000000)`

// daySums are the same of a folded day, whose windows are whole minutes.
const daySums = `windows, unnamed, nodes_all, nodes_any, audited, rows, revisions, coverage, refused, extra, unexplained, overlaps, newest, 1`

// scanSums reads a table, a start and sums.
func scanSums(scan func(...any) error) (table string, at int64, s *sums, odd bool, err error) {
	s = &sums{}
	var all, any any
	var whole bool
	err = scan(&table, &at, &s.windows, &s.unnamed, &all, &any, &s.audited, &s.rows, &s.revisions, &s.coverage, &s.refused, &s.extra, &s.unexplained, &s.overlaps,
		&s.newest, &whole)
	if set, ok := all.([]byte); ok {
		s.all = append(nodeSet{}, set...)
	}
	if set, ok := any.([]byte); ok {
		s.any = append(nodeSet{}, set...)
	}
	return table, at, s, !whole, err
}

// pulled are the names of the tables that are compared.
var pulled = func() []string {
	var names []string
	for _, table := range schema.Pulled {
		names = append(names, table.Name)
	}
	return names
}()

// byTable are sums by table and start.
type byTable map[string]map[int64]part

// read reads the sums of all tables in the window.
func (c *comparison) read(ctx context.Context) (err error) {
	from, to := nanos(c.window.From), nanos(c.window.To)
	tables := "('" + strings.Join(pulled, "', '") + "')"
	c.days, err = c.sums(ctx, "SELECT tbl, day, "+daySums+" FROM ledger_day WHERE cluster = ? AND tbl IN "+tables+" AND day >= ? AND day < ?", dayOf(from), to)
	if err != nil {
		return err
	}
	c.quarters, err = c.sums(ctx, "SELECT tbl, quarter, "+sumColumns+` FROM ledger
		WHERE cluster = ? AND tbl IN `+tables+` AND window_from >= ? AND window_from < ? GROUP BY tbl, +quarter`, from, to) // by the primary key, not by the quarters' index
	return err
}

// parts are the quarters, and in their place the folded days, that have something
// to say of the table.
func (c *comparison) parts() []part {
	days, quarters := c.days[c.table.Name], c.quarters[c.table.Name]
	within := c.within(days, quarters)
	var parts []part
	for at := within.from; at < within.to; {
		start := dayOf(at)
		p, folded := days[start]
		length := int64(day)
		p.grain = GrainDay
		if !folded {
			start, length = nanos(quarterOf(moment(at))), int64(schema.Quarter)
			if p, folded = quarters[start]; !folded {
				p.sums = &sums{}
			}
			p.grain = GrainQuarter
		}
		p.span = span{from: at, to: min(start+length, within.to)}
		if p.grain == GrainDay && (p.from > start || p.to < start+length) {
			p.sums = nil
		}
		parts = append(parts, p)
		at = p.to
	}
	return parts
}

// sums are those that the query selects, by table and start.
func (c *comparison) sums(ctx context.Context, query string, from, to int64) (byTable, error) {
	found := make(byTable)
	err := each(ctx, c.q, func(scan func(...any) error) error {
		table, at, s, odd, err := scanSums(scan)
		if found[table] == nil {
			found[table] = make(map[int64]part)
		}
		found[table][at] = part{sums: s, odd: odd}
		return err
	}, query, c.cluster, from, to)
	return found, err
}

// within is the part of the window that can have something to say: where the
// cluster was there, and from the first to the last quarter with rows.
func (c *comparison) within(days, quarters map[int64]part) span {
	first, last := int64(forever), int64(always)
	if !c.alive.From.IsZero() && c.minutes() {
		first, last = nanos(quarterOf(c.alive.From)), forever
	}
	if !c.alive.To.IsZero() && last == forever {
		last = nanos(c.alive.To)
	}
	for at := range quarters {
		first, last = min(first, at), max(last, at+int64(schema.Quarter))
	}
	for at := range days {
		first, last = min(first, at), max(last, at+int64(day))
	}
	return span{from: max(first, nanos(c.window.From)), to: min(last, nanos(c.window.To))}
}
