package facts

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// ledger writes rows of one table and the journal entries that cover them. An
// entry speaks of its whole window: digests add, so that later rows of a
// window need no reading of the earlier ones.
type ledger struct {
	db      *influxsync.Database
	journal *influxsync.Journal
	table   schema.Table
	cluster string
	// pending was begun and is not known to have ended. A request that was
	// given up may still become durable, so the same rows and entries are sent
	// until they are acknowledged, before anything else.
	pending *write
}

// write is one set of rows, the sums of their windows with them, and what to
// do when all is durable.
type write struct {
	rows    []influxsync.Point
	windows map[schema.Window]sum
	reason  string
	commit  func()
}

// sum is what a window holds.
type sum struct {
	rows   int64
	digest influxsync.Digest
}

// write stores rows, first the rows, then the entries of their windows, and
// commits. Replaced are rows of the same keys that the new ones overwrite.
func (l *ledger) write(ctx context.Context, rows, replaced []influxsync.Point, reason string, commit func()) error {
	if err := l.flush(ctx); err != nil {
		return err
	}
	windows := make(map[schema.Window]sum)
	at := func(row influxsync.Point) (schema.Window, sum) {
		w := schema.WindowAt(row.Time, l.table.Grain)
		s, ok := windows[w]
		if last, has := l.journal.Latest(w); !ok && has {
			s = sum{rows: last.Rows, digest: last.Digest}
		}
		return w, s
	}
	for _, row := range rows {
		w, s := at(row)
		s.rows++
		s.digest.Add(row)
		windows[w] = s
	}
	for _, row := range replaced {
		w, s := at(row)
		s.rows--
		s.digest.Remove(row)
		windows[w] = s
	}
	l.pending = &write{rows: rows, windows: windows, reason: reason, commit: commit}
	return l.flush(ctx)
}

// flush ends what was begun.
func (l *ledger) flush(ctx context.Context) error {
	if l.pending == nil {
		return nil
	}
	if err := l.db.Write(ctx, l.pending.rows); err != nil {
		return fmt.Errorf("write table %s: %w", l.table.Name, err)
	}
	if err := l.enter(ctx, l.pending.windows, l.pending.reason); err != nil {
		return err
	}
	l.pending.commit()
	l.pending = nil
	return nil
}

// enter appends an entry for each window, oldest first.
func (l *ledger) enter(ctx context.Context, windows map[schema.Window]sum, reason string) error {
	if len(windows) == 0 {
		return nil
	}
	var entries []influxsync.Entry
	for w, s := range windows {
		entries = append(entries, influxsync.Entry{Window: w, Rows: s.rows, Digest: s.digest, Coverage: 1000, Reason: reason})
	}
	slices.SortFunc(entries, func(a, b influxsync.Entry) int { return a.Window.From.Compare(b.Window.From) })
	if _, err := l.journal.Append(ctx, entries...); err != nil {
		return fmt.Errorf("journal of table %s: %w", l.table.Name, err)
	}
	return nil
}

// reconcile compares the store with the journal from a time on and enters the
// windows in which rows became durable and their entry did not. Each row is
// handed over.
func (l *ledger) reconcile(ctx context.Context, from time.Time, each func(influxsync.Point) error) error {
	stored := make(map[schema.Window]sum)
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: l.cluster}}
	err := l.db.TimeQuery(ctx, l.table.Name, schema.Window{From: from}, where, func(row influxsync.Point) error {
		row.Table = l.table.Name
		w := schema.WindowAt(row.Time, l.table.Grain)
		s := stored[w]
		s.rows++
		s.digest.Add(row)
		stored[w] = s
		return each(row)
	})
	if err != nil {
		return fmt.Errorf("reconcile table %s: %w", l.table.Name, err)
	}
	for w, s := range stored {
		if last, ok := l.journal.Latest(w); ok && last.Rows == s.rows && last.Digest == s.digest {
			delete(stored, w)
		}
	}
	return l.enter(ctx, stored, "restart")
}
