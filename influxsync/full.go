package influxsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// FullResult is what a call of SyncFull did.
type FullResult struct {
	Windows int // compared, over all tables
	Copied  int // of them, those that differed
	Rows    int // written
	// Refused are the rows that the sink does not take; their windows differ
	// again the next time.
	Refused []Refused
}

// fullWindow is the length of the windows that SyncFull compares.
const fullWindow = time.Hour

// SyncFull makes the sink hold what the source holds of every table in the
// window, for databases without a journal. It compares hours, in UTC, by the
// number of values of each field, the sum of the integers and the least and
// greatest float, which both servers work out themselves; copies the hours
// that differ; and compares those row by row (ErrMismatch), so that a sink with
// rows of its own does not agree. What changed and left all of these as they
// were is not seen: that is what a journal is for. Calling it again copies
// nothing where nothing changed. A table or a day that fails does not hold up
// the others.
func SyncFull(ctx context.Context, source, sink *Database, w schema.Window) (FullResult, error) {
	var result FullResult
	if w.From.IsZero() || w.To.IsZero() {
		return result, fmt.Errorf("sync database %s: window %s is open", source.name, w)
	}
	tables, err := source.GetTables(ctx)
	if err != nil {
		return result, fmt.Errorf("sync database %s: %w", source.name, err)
	}
	var failures []error
	for _, name := range tables {
		table, err := source.GetTable(ctx, name)
		if err != nil {
			failures = append(failures, fmt.Errorf("sync table %s: %w", name, err))
			continue
		}
		f := &fullCopy{copier: copier{SyncRequest: SyncRequest{Source: source, Sink: sink, Table: table}, spare: make(chan []byte, 2)}, result: &result}
		f.complete()
		for _, day := range w.Split(shard) {
			if err := f.day(ctx, day); err != nil {
				failures = append(failures, fmt.Errorf("sync table %s of %s: %w", name, day, err))
			}
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
		}
	}
	return result, errors.Join(failures...)
}

// fullCopy copies one table.
type fullCopy struct {
	copier
	result *FullResult
}

// day copies the hours of a day that differ, those without a gap in one read.
func (f *fullCopy) day(ctx context.Context, day schema.Window) error {
	want, err := f.sums(ctx, f.Source, day)
	if err != nil {
		return err
	}
	got, err := f.sums(ctx, f.Sink, day)
	if err != nil {
		return err
	}
	var differing []*copied
	for _, hour := range day.Split(fullWindow) {
		at := hour.From.Truncate(fullWindow).UnixNano()
		f.result.Windows++
		if len(want[at]) > 0 && !maps.Equal(want[at], got[at]) {
			differing = append(differing, &copied{entry: Entry{Window: hour}})
		}
	}
	f.result.Copied += len(differing)
	var failures []error
	for _, p := range parts(differing, f.Span) {
		failures = append(failures, f.copyPart(ctx, p))
	}
	return errors.Join(failures...)
}

// fieldSum is what is compared of a field: the number of its values, and the
// integers' sum, which wraps at 2^63 alike on both ends, or the floats' bounds.
type fieldSum struct {
	values   int64
	sum      int64
	min, max float64
}

// sums are by hour and field; an hour without rows has none.
func (f *fullCopy) sums(ctx context.Context, db *Database, w schema.Window) (map[int64]map[string]fieldSum, error) {
	sums := make(map[int64]map[string]fieldSum)
	for _, aggregate := range []string{"count", "sum", "min", "max"} {
		var names []string
		for _, field := range f.Table.Fields {
			if aggregate == "count" || field.Type == schema.Integer && aggregate == "sum" || field.Type == schema.Float && aggregate != "sum" {
				names = append(names, field.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		query := Query{From: f.Table.Name, Select: names, Aggregate: aggregate, Every: fullWindow, Window: w}
		err := db.Query(ctx, query, func(p Point) error {
			at := p.Time.UnixNano()
			if sums[at] == nil {
				sums[at] = make(map[string]fieldSum)
			}
			for _, field := range p.Fields {
				s := sums[at][field.Name]
				switch aggregate {
				case "count":
					s.values = field.Value.Int()
				case "sum":
					s.sum = field.Value.Int()
				case "min":
					s.min = field.Value.Float()
				default:
					s.max = field.Value.Float()
				}
				sums[at][field.Name] = s
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// copyPart copies hours and reads them back.
func (f *fullCopy) copyPart(ctx context.Context, p *part) error {
	write := func(ctx context.Context, lines []byte) error { return f.write(ctx, p, lines) }
	var streamed, returned tally
	err := f.pump(ctx, write, func(ctx context.Context, send func(*row) error) error {
		return f.Source.rows(ctx, f.query(f.Table.Name, p.window, false), f.Table.Name, f.SinkTable, func(r *row) error {
			if len(p.of(r.at)) == 0 {
				return fmt.Errorf("the source gives a row outside of %s: %w", p.window, ErrMismatch)
			}
			streamed.add(r.hash)
			return f.sendOrSetApart(p, r, send)
		})
	})
	if err != nil {
		return err
	}
	p.setUnsendableApart()
	for _, r := range p.refused {
		streamed = streamed.less(tally{1, Digest(r.Hash)})
	}
	err = f.Sink.rows(ctx, f.query(f.SinkTable, p.window, false), f.Table.Name, f.SinkTable, func(r *row) error {
		if len(p.stale) == 0 || !p.stale[rowKey(r.point(""))] { // else it is what a refused row did not overwrite
			returned.add(r.hash)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.result.Rows += int(streamed.rows)
	f.result.Refused = append(f.result.Refused, p.refused...)
	if streamed != returned {
		return fmt.Errorf("source has %d rows of digest %x in %s, sink returns %d of %x: %w",
			streamed.rows, uint64(streamed.digest), p.window, returned.rows, uint64(returned.digest), ErrMismatch)
	}
	return nil
}
