package influxsync

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// copier copies parts of one table.
type copier struct {
	SyncRequest
	differ func(want, got tally) bool
	last   Entry // the newest entry that this call follows
	spare  chan []byte
	// refusals counts the refused rows of all parts.
	refusals atomic.Int64
}

// copy streams the part's rows into the sink, and compares.
func (c *copier) copy(ctx context.Context, p *part) error {
	if err := c.stream(ctx, p); err != nil {
		return err
	}
	if c.Verify == VerifyNone {
		return nil
	}
	if err := c.compareSource(ctx, p); err != nil {
		return err
	}
	if c.Verify == VerifyStream {
		return nil
	}
	return c.compareSink(ctx, p)
}

// stream reads and writes side by side, one request ahead.
func (c *copier) stream(ctx context.Context, p *part) error {
	write := func(ctx context.Context, lines []byte) error { return c.write(ctx, p, lines) }
	return c.pump(ctx, write, func(ctx context.Context, send func(*row) error) error {
		head, bit, foreign := 0, -1, false
		return c.Source.rows(ctx, c.query(c.Table.Name, p.window, c.Shared), c.Table.Name, c.SinkTable, func(r *row) error {
			if r.series.number != head {
				head = r.series.number
				foreign = string(r.series.tag(schema.Cluster)) != c.Cluster
				bit = p.number(r.series.tag(c.CountBy))
			}
			for _, w := range p.of(r.at) {
				w.streamed.add(r.hash)
				if !foreign {
					w.accepted.add(r.hash)
					w.count(bit)
				}
			}
			if foreign {
				p.stray(r, c.Table.Name)
				return nil
			}
			p.rows++
			return send(r)
		})
	})
}

func (p *part) stray(r *row, table string) {
	p.strays++
	if len(p.foreign) < keptForeign {
		p.foreign = append(p.foreign, r.point(table))
	}
}

// query asks for the rows of a window, of this cluster only where others are
// in the table too.
func (c *copier) query(table string, w schema.Window, shared bool) Query {
	q := Query{From: table, Window: w}
	if shared {
		q.Where = []Condition{{schema.Cluster, c.Cluster}}
	}
	return q
}

// write sends one request. Rows that the sink does not take are set apart; what
// may pass is tried again; anything else is an error.
func (c *copier) write(ctx context.Context, p *part, lines []byte) error {
	err := c.attempt(ctx, lines)
	if class := ClassOf(err); class == "" || !class.Row() && class != Rejected {
		return err
	}
	each := splitLines(lines)
	refused, err := writeLines(ctx, each, c.attempt)
	if err != nil {
		return err
	}
	for _, refusal := range refused {
		if err := c.refuse(p, string(each[refusal.index]), refusal.class, refusal.reason); err != nil {
			return err
		}
	}
	if c.refusals.Add(int64(len(refused))) > maxRefused && c.Limit > 1 {
		return errManyRefused
	}
	return nil
}

// refuse sets a row apart that the sink does not take.
func (c *copier) refuse(p *part, line string, class Class, reason string) error {
	row, err := ParseLine(line)
	if err != nil {
		return err
	}
	row.Table = c.Table.Name // as the source's row was hashed
	refused := Refused{Line: line, Hash: row.Hash(), Class: class, Reason: reason}
	p.stale[rowKey(row)] = true
	for _, w := range p.of(row.Time.UnixNano()) {
		w.refused.add(refused.Hash)
		refused.Window = w.entry.Window
	}
	p.refused = append(p.refused, refused)
	return nil
}

// compareSource compares the streamed rows with the newest entry of each
// window. The digest of an entry may count rows that are foreign.
func (c *copier) compareSource(ctx context.Context, p *part) error {
	stale := make(map[span]*copied)
	for _, w := range p.windows {
		if !c.agrees(w.entry, w) {
			stale[spanOf(w.entry.Window)] = w
		}
	}
	if len(stale) == 0 {
		return nil
	}
	// A newer revision may stand behind the limit, or have come in between.
	previous := c.last.Hash
	err := eachEntry(ctx, c.Source, c.Cluster, c.Table.Name, schema.Window{From: following(c.last.Time)}, 0, func(e Entry) error {
		if err := e.follows(previous); err != nil {
			return err
		}
		previous = e.Hash
		if w, ok := stale[spanOf(e.Window)]; ok {
			w.entry = e
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, w := range stale {
		if !c.agrees(w.entry, w) {
			return fmt.Errorf("window %s revision %d: journal has %d rows, digest %x; source gave %d rows, digest %x: %w",
				w.entry.Window, w.entry.Revision, w.entry.Rows, uint64(w.entry.Digest),
				w.streamed.rows, uint64(w.streamed.digest), ErrMismatch)
		}
	}
	return nil
}

func (c *copier) agrees(e Entry, w *copied) bool {
	want := tally{e.Rows, e.Digest}
	return !c.differ(want, w.accepted) || !c.differ(want, w.streamed)
}

// compareSink reads the windows back from the sink.
func (c *copier) compareSink(ctx context.Context, p *part) error {
	err := c.Sink.rows(ctx, c.query(c.SinkTable, p.window, true), c.Table.Name, c.SinkTable, func(r *row) error {
		for _, w := range p.of(r.at) {
			w.returned.add(r.hash)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, w := range p.windows {
		if c.differ(w.accepted.less(w.refused), w.returned) {
			if err := c.compareRows(ctx, p, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareRows looks for each row of a window in the sink, by reading both once
// more: the memory of a copy does not grow with what it copies. Rows of the
// sink beyond them are from an earlier era, or what a refused row did not
// overwrite, or a mismatch.
func (c *copier) compareRows(ctx context.Context, p *part, w *copied) error {
	missing := make(map[uint64]struct{}, w.accepted.rows)
	var again tally
	err := c.Source.rows(ctx, c.query(c.Table.Name, w.entry.Window, true), c.Table.Name, c.SinkTable, func(r *row) error {
		again.add(r.hash)
		missing[r.hash] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	if again != w.accepted {
		return fmt.Errorf("window %s: the source was written while it was copied: %w", w.entry.Window, ErrMismatch)
	}
	for _, refused := range p.refused {
		delete(missing, refused.Hash)
	}
	extra := 0
	err = c.Sink.rows(ctx, c.query(c.SinkTable, w.entry.Window, true), c.Table.Name, c.SinkTable, func(r *row) error {
		if _, ok := missing[r.hash]; ok {
			delete(missing, r.hash)
		} else if len(p.stale) == 0 || !p.stale[rowKey(r.point(""))] {
			extra++
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		return fmt.Errorf("window %s: sink does not return %d of %d rows: %w", w.entry.Window, len(missing), w.accepted.rows, ErrMismatch)
	case extra == 0:
		return nil
	}
	w.extra = int64(extra)
	known, err := c.overlaps(ctx, p)
	if err == nil && !known {
		err = fmt.Errorf("window %s: sink holds %d rows that the source does not: %w", w.entry.Window, extra, ErrMismatch)
	}
	return err
}

// eraTable notes in the sink, by cluster and table, that an earlier era's rows
// may stand there. Its rows are at the time of the mark that was given up.
const eraTable = "era"

func (c *copier) beginEra(ctx context.Context) error {
	at := c.Mark.Time
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	return c.Sink.Write(ctx, []Point{NewPoint(eraTable,
		map[string]string{schema.Cluster: c.Cluster, tableTag: c.SinkTable},
		map[string]Value{"store": Str(c.Mark.Store), "hash": Str(c.Mark.Hash)}, at)})
}

// overlaps says whether an earlier era's rows may be in the sink: one was
// noted, or the mark is the beginning and the sink is not empty.
func (c *copier) overlaps(ctx context.Context, p *part) (bool, error) {
	if c.Mark == (Mark{}) {
		p.newEra = true
		return true, c.beginEra(ctx)
	}
	known := false
	err := c.Sink.TimeQuery(ctx, eraTable, schema.Window{}, []Condition{{schema.Cluster, c.Cluster}, {tableTag, c.SinkTable}},
		func(Point) error {
			known = true
			return nil
		})
	return known, err
}
