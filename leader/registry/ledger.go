package registry

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// LedgerEntry is the newest revision of one window as received.
type LedgerEntry struct {
	Window   schema.Window     `json:"window"`
	Store    string            `json:"store"`
	Revision int64             `json:"revision"`
	Rows     int64             `json:"rows"`
	Digest   influxsync.Digest `json:"digest"`
	Coverage int64             `json:"coverage"` // 1/1000
	Reason   string            `json:"reason,omitempty"`
	Entered  time.Time         `json:"entered"`            // time of the journal entry
	Received time.Time         `json:"received"`           // when this revision came
	Nodes    []string          `json:"nodes,omitempty"`    // that had rows in it, sorted; nil where that was not counted
	Refused  int64             `json:"refused,omitempty"`  // rows that the centre's store did not take
	Extra    int64             `json:"extra,omitempty"`    // rows that only the centre has
	Overlaps int64             `json:"overlaps,omitempty"` // how often it came again from a store with another id
	Audited  time.Time         `json:"audited,omitzero"`   // the last audit that found it right; it speaks of this revision if not before Received
}

// Ledger are the windows of a cluster's table that begin in the given one, in
// order.
func (r *Registry) Ledger(ctx context.Context, cluster, table string, w schema.Window) ([]LedgerEntry, error) {
	tx, err := r.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // names and windows of one moment
	if err != nil {
		return nil, fmt.Errorf("ledger of %s %s: %w", cluster, table, err)
	}
	defer func() { _ = tx.Rollback() }()
	numbers, err := loadNumbers(ctx, tx, cluster)
	if err != nil {
		return nil, fmt.Errorf("ledger of %s %s: %w", cluster, table, err)
	}
	names := numbers.names()
	var entries []LedgerEntry
	err = eachWindow(ctx, tx, cluster, table, span{from: nanos(w.From), to: nanos(w.To)}, func(e ledgerRow) error {
		entries = append(entries, e.entry(names))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger of %s %s: %w", cluster, table, err)
	}
	return entries, nil
}

// ledgerRow is a window of the ledger as it is stored.
type ledgerRow struct {
	from, to                         int64
	store, reason                    string
	revision, rows, digest, coverage int64
	entered, received, audited       int64
	nodes                            nodeSet // nil where they were not counted; else not nil
	refused, extra, overlaps         int64
}

// ledgerColumns are those that scan reads, in order.
const ledgerColumns = `window_from, window_to, store, reason, revision, rows, digest, coverage,
	entry_time, received_at, audited_at, nodes, refused, extra, overlaps`

func (e *ledgerRow) scan(scan func(...any) error) error {
	var nodes any
	err := scan(&e.from, &e.to, &e.store, &e.reason, &e.revision, &e.rows, &e.digest, &e.coverage,
		&e.entered, &e.received, &e.audited, &nodes, &e.refused, &e.extra, &e.overlaps)
	if set, ok := nodes.([]byte); ok {
		e.nodes = append(nodeSet{}, set...)
	}
	return err
}

// entry is the row with the nodes by name, sorted.
func (e ledgerRow) entry(names []string) LedgerEntry {
	out := LedgerEntry{Window: schema.Window{From: moment(e.from), To: moment(e.to)}, Store: e.store, Revision: e.revision, Rows: e.rows,
		Digest: influxsync.Digest(e.digest), Coverage: e.coverage, Reason: e.reason, Entered: moment(e.entered), Received: moment(e.received),
		Refused: e.refused, Extra: e.extra, Overlaps: e.overlaps}
	if e.audited != 0 {
		out.Audited = moment(e.audited)
	}
	if e.nodes != nil {
		out.Nodes = []string{}
		e.nodes.each(func(n int) { out.Nodes = append(out.Nodes, names[n]) })
		slices.Sort(out.Nodes)
	}
	return out
}

// eachWindow calls f with the windows that begin in the span, in order.
func eachWindow(ctx context.Context, q queryer, cluster, table string, s span, f func(ledgerRow) error) error {
	return each(ctx, q, func(scan func(...any) error) error {
		var e ledgerRow
		if err := e.scan(scan); err != nil {
			return err
		}
		return f(e)
	}, "SELECT "+ledgerColumns+` FROM ledger WHERE cluster = ? AND tbl = ? AND window_from >= ? AND window_from < ?
		ORDER BY window_from`, cluster, table, s.from, s.to)
}

// MarkAudited notes that an audit which began at that time found windows of a
// cluster's table right: the same at the follower, in the ledger and in the
// centre. A window that the ledger does not have, or that came again since, is
// left as it is.
func (r *Registry) MarkAudited(ctx context.Context, cluster, table string, windows []schema.Window, at time.Time) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		return r.revise(ctx, tx, cluster, table, windows, func(e *ledgerRow, _ int) {
			if e.received <= nanos(at) {
				e.audited = max(e.audited, nanos(at))
			}
		})
	})
	if err != nil {
		return fmt.Errorf("mark audited %s %s: %w", cluster, table, err)
	}
	return nil
}

// lowerRefused takes rows off a window's refused ones, in the transaction of who
// took them out of the quarantine because the centre's store holds them now.
func (r *Registry) lowerRefused(ctx context.Context, tx *sql.Tx, cluster, table string, window schema.Window, rows int64) error {
	return r.revise(ctx, tx, cluster, table, []schema.Window{window}, func(e *ledgerRow, _ int) {
		e.refused = max(0, e.refused-rows)
	})
}

// revise changes what is noted of windows beside their journal entries.
func (r *Registry) revise(ctx context.Context, tx *sql.Tx, cluster, table string, windows []schema.Window, change func(e *ledgerRow, i int)) error {
	put, err := tx.PrepareContext(ctx, "UPDATE ledger SET audited_at = ?, refused = ? WHERE cluster = ? AND tbl = ? AND window_from = ?")
	if err != nil {
		return err
	}
	defer func() { _ = put.Close() }()
	for i, w := range windows {
		var found []ledgerRow
		err := eachWindow(ctx, tx, cluster, table, span{from: nanos(w.From), to: nanos(w.From) + 1}, func(e ledgerRow) error {
			found = append(found, e)
			return nil
		})
		if err != nil {
			return err
		}
		for _, e := range found {
			if e.to != nanos(w.To) {
				continue
			}
			change(&e, i)
			if _, err := put.ExecContext(ctx, e.audited, e.refused, cluster, table, e.from); err != nil {
				return err
			}
		}
	}
	return nil
}
