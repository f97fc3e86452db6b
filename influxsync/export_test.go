package influxsync

import (
	"context"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// SyncWithoutComparing is Sync with the bug that its tests must find: rows and
// digests are not looked at.
func SyncWithoutComparing(ctx context.Context, request SyncRequest) (SyncResult, error) {
	return syncWith(ctx, request, func(tally, tally) bool { return false })
}

// Statement is the InfluxQL of a query.
func (q Query) Statement() (string, error) { return q.build() }

// CountRows reads a table's rows in the window as the copying path does: flat,
// or grouped.
func CountRows(ctx context.Context, d *Database, t schema.Table, w schema.Window, flat bool) (n int, err error) {
	err = d.rows(ctx, short(t, w, flat), t.Name, t.Name, func(*row) error {
		n++
		return nil
	})
	return n, err
}

func short(t schema.Table, w schema.Window, flat bool) rowQuery {
	q := rowQuery{Query: Query{From: t.Name, Window: w}}
	if flat {
		q.kinds = flatKinds(t)
	}
	return q
}

// RowLines are the lines of a table's rows in the window with their hashes,
// sorted.
func RowLines(ctx context.Context, d *Database, t schema.Table, w schema.Window, flat bool) ([]string, error) {
	var lines []string
	err := d.rows(ctx, short(t, w, flat), t.Name, t.Name, func(r *row) error {
		line, err := r.appendLine(nil)
		lines = append(lines, fmt.Sprintf("%x %s", r.hash, line))
		return err
	})
	slices.Sort(lines)
	return lines, err
}

// ErrNotFlat is errNotFlat.
var ErrNotFlat = errNotFlat
