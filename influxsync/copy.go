package influxsync

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// copier copies parts of one table.
type copier struct {
	SyncRequest
	differ func(want, got tally) bool
	flat   columnKinds // of the table, where short windows may be asked for flat
	last   Entry       // the newest entry that this call follows
	reach  reach
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
	err := c.pump(ctx, write, func(ctx context.Context, send func(*row) error) error {
		head, bit, foreign := 0, -1, false
		return c.Source.rows(ctx, c.brief(c.query(c.Table.Name, p.window, c.Shared)), c.Table.Name, c.SinkTable, func(r *row) error {
			if r.series.number != head {
				head = r.series.number
				foreign = string(r.series.tag(schema.Cluster)) != c.Cluster
				bit = p.number(r.series.tag(c.CountBy))
			}
			named := p.of(r.at)
			if len(named) == 0 {
				return fmt.Errorf("the source gives a row of %s, which was not asked for: %w", time.Unix(0, r.at).UTC().Format(time.RFC3339Nano), ErrMismatch)
			}
			counts := bit >= 0 && (c.CountIf == nil || c.CountIf(r.integer))
			for _, w := range named {
				w.streamed.add(r.hash)
				if !foreign {
					w.accepted.add(r.hash)
					if counts {
						w.count(bit)
					}
				}
			}
			if foreign {
				p.stray(r, c.Table.Name)
				return nil
			}
			p.rows++
			return c.sendOrSetApart(p, r, send)
		})
	})
	if err != nil {
		return err
	}
	p.setUnsendableApart()
	return nil
}

// setUnsendableApart is for when nobody writes or reads the part any more.
func (p *part) setUnsendableApart() {
	for _, unsendable := range p.unsendable {
		p.setApart(unsendable.row, unsendable.Refused)
	}
}

// sendOrSetApart sets a row apart of which no line can be made: InfluxDB takes
// a tag from others that it has no way to write again.
func (c *copier) sendOrSetApart(p *part, r *row, send func(*row) error) error {
	err := send(r)
	var cannot errNoLine
	if !errors.As(err, &cannot) {
		return err
	}
	row := r.point(c.Table.Name)
	p.unsendable = append(p.unsendable, unsendable{row, Refused{Line: unsendableLine(row), Hash: r.hash, Class: Malformed, Reason: err.Error()}})
	return c.tooMany(1)
}

// tooMany counts rows that are set apart.
func (c *copier) tooMany(more int) error {
	if c.refusals.Add(int64(more)) > maxRefused && c.Limit > 1 {
		return errManyRefused
	}
	return nil
}

func (p *part) stray(r *row, table string) {
	p.strays++
	if len(p.foreign) < keptForeign {
		p.foreign = append(p.foreign, r.point(table))
	}
}

// query asks for the rows of a window, of this cluster only where others are
// in the table too.
func (c *copier) query(table string, w schema.Window, shared bool) rowQuery {
	q := rowQuery{Query: Query{From: table, Window: w}}
	if shared {
		q.Where = []Condition{{Tag: schema.Cluster, Value: c.Cluster}}
	}
	return q
}

// brief asks for a short window flat, where that can be understood.
func (c *copier) brief(q rowQuery) rowQuery {
	if q.Window.Length() < flatSpan {
		q.kinds = c.flat
	}
	return q
}

// write sends one request. Rows that the sink does not take are set apart; what
// may pass is tried again; anything else is an error.
func (c *copier) write(ctx context.Context, p *part, lines []byte) error {
	err := c.attempt(ctx, lines)
	var refusal *WriteError
	if !errors.As(err, &refusal) || !selective(refusal) {
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
	return c.tooMany(len(refused))
}

// refuse sets a row apart that the sink does not take.
func (c *copier) refuse(p *part, line string, class Class, reason string) error {
	row, err := ParseLine(line)
	if err != nil {
		return err
	}
	row.Table = c.Table.Name // as the source's row was hashed
	p.setApart(row, Refused{Line: line, Hash: row.Hash(), Class: class, Reason: reason})
	return nil
}

// setApart counts a refused row for its windows. It does not ask of: another
// goroutine may read the part meanwhile.
func (p *part) setApart(row Point, refused Refused) {
	p.stale[rowKey(row)] = true
	for _, w := range p.windows {
		if w.entry.Window.Contains(row.Time) {
			w.refused.add(refused.Hash)
			refused.Window = w.entry.Window
		}
	}
	p.refused = append(p.refused, refused)
}
