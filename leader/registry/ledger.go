package registry

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
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
	Entered  time.Time         `json:"entered"`           // time of the journal entry
	Received time.Time         `json:"received"`          // when this revision came
	Nodes    []string          `json:"nodes,omitempty"`   // that had rows in it, sorted; nil where that was not counted
	Refused  int64             `json:"refused,omitempty"` // rows that the centre's store did not take
	Extra    int64             `json:"extra,omitempty"`   // rows that only the centre has
	// Unexplained are those of Extra that no earlier era can have left there.
	Unexplained int64     `json:"unexplained,omitempty"`
	Era         int64     `json:"era,omitempty"`      // of the follower's journal; counted up when it does not go on where it was left
	Overlaps    int64     `json:"overlaps,omitempty"` // how often it came again from a store with another id
	Audited     time.Time `json:"audited,omitzero"`   // the last audit that found it right; it speaks of this revision if not before Received
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
	era, unexplained                 int64
}

// ledgerColumns are those that scan reads, in order.
const ledgerColumns = `window_from, window_to, store, reason, revision, rows, digest, coverage,
	entry_time, received_at, audited_at, nodes, refused, extra, overlaps, era, unexplained`

func (e *ledgerRow) scan(scan func(...any) error) error {
	var nodes any
	err := scan(&e.from, &e.to, &e.store, &e.reason, &e.revision, &e.rows, &e.digest, &e.coverage,
		&e.entered, &e.received, &e.audited, &nodes, &e.refused, &e.extra, &e.overlaps, &e.era, &e.unexplained)
	if set, ok := nodes.([]byte); ok {
		e.nodes = append(nodeSet{}, set...)
	}
	return err
}

// entry is the row with the nodes by name, sorted.
func (e ledgerRow) entry(names []string) LedgerEntry {
	out := LedgerEntry{Window: schema.Window{From: moment(e.from), To: moment(e.to)}, Store: e.store, Revision: e.revision, Rows: e.rows,
		Digest: influxsync.Digest(e.digest), Coverage: e.coverage, Reason: e.reason, Entered: moment(e.entered), Received: moment(e.received),
		Refused: e.refused, Extra: e.extra, Unexplained: e.unexplained, Overlaps: e.overlaps, Era: e.era}
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

// eachWindow calls f with the windows that begin in the span, in order, those of
// folded days too. f asks nothing of q.
func eachWindow(ctx context.Context, q queryer, cluster, table string, s span, f func(ledgerRow) error) error {
	at := s.from
	err := eachFolded(ctx, q, cluster, table, s, func(began int64, rows []ledgerRow) error {
		if at < began {
			if err := eachLoose(ctx, q, cluster, table, span{from: at, to: began}, f); err != nil {
				return err
			}
		}
		at = began + int64(day)
		for _, e := range rows {
			if e.from < s.from || e.from >= s.to {
				continue
			}
			if err := f(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || at >= s.to {
		return err
	}
	return eachLoose(ctx, q, cluster, table, span{from: at, to: s.to}, f)
}

// eachFolded calls f with the windows of each folded day that the span touches,
// in order, also those outside the span.
func eachFolded(ctx context.Context, q queryer, cluster, table string, s span, f func(began int64, rows []ledgerRow) error) error {
	type folded struct {
		day    int64
		packed []byte
	}
	var days []folded // before f asks again
	err := each(ctx, q, func(scan func(...any) error) error {
		var d folded
		err := scan(&d.day, &d.packed)
		days = append(days, d)
		return err
	}, "SELECT day, packed FROM ledger_day WHERE cluster = ? AND tbl = ? AND day >= ? AND day < ? ORDER BY day",
		cluster, table, dayOf(s.from), s.to)
	if err != nil {
		return err
	}
	for _, d := range days {
		rows, err := unpack(d.packed)
		if err != nil {
			return fmt.Errorf("%s: %w", moment(d.day).Format(time.DateOnly), err)
		}
		if err := f(d.day, rows); err != nil {
			return err
		}
	}
	return nil
}

// eachLoose calls f with the windows that begin in the span and are not folded.
func eachLoose(ctx context.Context, q queryer, cluster, table string, s span, f func(ledgerRow) error) error {
	return each(ctx, q, func(scan func(...any) error) error {
		var e ledgerRow
		if err := e.scan(scan); err != nil {
			return err
		}
		return f(e)
	}, "SELECT "+ledgerColumns+` FROM ledger WHERE cluster = ? AND tbl = ? AND window_from >= ? AND window_from < ?
		ORDER BY window_from`, cluster, table, s.from, s.to)
}

// windowBefore is the last window that begins before a moment.
func windowBefore(ctx context.Context, q queryer, cluster, table string, at int64) (ledgerRow, bool, error) {
	near := nearby{loose: "window_from < ? ORDER BY window_from DESC", folded: "window_from < ? ORDER BY day DESC", last: true}
	return near.find(ctx, q, cluster, table, at)
}

// windowAfter is the first window that begins at a moment or later.
func windowAfter(ctx context.Context, q queryer, cluster, table string, at int64) (ledgerRow, bool, error) {
	near := nearby{loose: "window_from >= ? ORDER BY window_from", folded: "window_to > ? ORDER BY day"} // a day's windows are whole minutes
	return near.find(ctx, q, cluster, table, at)
}

// nearby is how the window next to a moment is found.
type nearby struct {
	loose, folded string // conditions and order
	last          bool   // before the moment; else after it
}

func (n nearby) find(ctx context.Context, q queryer, cluster, table string, at int64) (best ledgerRow, found bool, err error) {
	take := func(e ledgerRow) {
		mine := e.from < at == n.last
		if mine && (!found || e.from > best.from == n.last) {
			best, found = e, true
		}
	}
	err = each(ctx, q, func(scan func(...any) error) error {
		var e ledgerRow
		if err := e.scan(scan); err != nil {
			return err
		}
		take(e)
		return nil
	}, "SELECT "+ledgerColumns+" FROM ledger WHERE cluster = ? AND tbl = ? AND "+n.loose+" LIMIT 1", cluster, table, at)
	if err != nil {
		return best, false, err
	}
	err = each(ctx, q, func(scan func(...any) error) error {
		var packed []byte
		if err := scan(&packed); err != nil {
			return err
		}
		rows, err := unpack(packed)
		for _, e := range rows {
			take(e)
		}
		return err
	}, "SELECT packed FROM ledger_day WHERE cluster = ? AND tbl = ? AND "+n.folded+" LIMIT 1", cluster, table, at)
	return best, found, err
}

// MarkAudited notes that an audit which began at that time found windows of a
// cluster's table right: the same at the follower, in the ledger and in the
// centre. A window that the ledger does not have, or that came again since, is
// left as it is. A folded day stays folded.
func (r *Registry) MarkAudited(ctx context.Context, cluster, table string, windows []schema.Window, at time.Time) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		return annotate(ctx, tx, cluster, table, windows, func(e *ledgerRow) {
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

// lowerRefused takes rows off windows' refused ones, in the transaction of who
// took them out of the quarantine because the centre's store holds them now.
func lowerRefused(ctx context.Context, tx *sql.Tx, cluster, table string, rows map[schema.Window]int64) error {
	return annotate(ctx, tx, cluster, table, slices.Collect(maps.Keys(rows)), func(e *ledgerRow) { e.refused = max(0, e.refused-rows[e.window()]) })
}

// setRefused says how many rows of windows were refused.
func setRefused(ctx context.Context, tx *sql.Tx, cluster, table string, rows map[schema.Window]int64) error {
	return annotate(ctx, tx, cluster, table, slices.Collect(maps.Keys(rows)), func(e *ledgerRow) { e.refused = rows[e.window()] })
}

func (e *ledgerRow) window() schema.Window {
	return schema.Window{From: moment(e.from), To: moment(e.to)}
}

// annotate changes what is noted of windows beside their journal entries.
func annotate(ctx context.Context, tx *sql.Tx, cluster, table string, windows []schema.Window, change func(*ledgerRow)) error {
	byDay := make(map[int64]map[span]bool)
	for _, w := range windows {
		at := dayOf(nanos(w.From))
		if byDay[at] == nil {
			byDay[at] = make(map[span]bool)
		}
		byDay[at][span{from: nanos(w.From), to: nanos(w.To)}] = true
	}
	for at, wanted := range byDay {
		if err := annotateDay(ctx, tx, cluster, table, at, func(e *ledgerRow) bool {
			if !wanted[span{from: e.from, to: e.to}] {
				return false
			}
			before := *e
			change(e)
			return before.audited != e.audited || before.refused != e.refused
		}); err != nil {
			return err
		}
	}
	return nil
}

// annotateDay calls change with each window of a day, and stores those that it
// says it changed.
func annotateDay(ctx context.Context, tx *sql.Tx, cluster, table string, at int64, change func(*ledgerRow) bool) error {
	var rows []ledgerRow
	var changed []int
	err := eachWindow(ctx, tx, cluster, table, span{from: at, to: at + int64(day)}, func(e ledgerRow) error {
		if change(&e) {
			changed = append(changed, len(rows))
		}
		rows = append(rows, e)
		return nil
	})
	if err != nil || len(changed) == 0 {
		return err
	}
	folded, err := isFolded(ctx, tx, cluster, table, at)
	if err != nil {
		return err
	}
	if folded {
		_, err := putDay(ctx, tx, cluster, table, at, rows)
		return err
	}
	put, err := tx.PrepareContext(ctx, "UPDATE ledger SET audited_at = ?, refused = ? WHERE cluster = ? AND tbl = ? AND window_from = ?")
	if err != nil {
		return err
	}
	defer func() { _ = put.Close() }()
	for _, i := range changed {
		if _, err := put.ExecContext(ctx, rows[i].audited, rows[i].refused, cluster, table, rows[i].from); err != nil {
			return err
		}
	}
	return nil
}

func isFolded(ctx context.Context, q queryer, cluster, table string, at int64) (bool, error) {
	var n int
	err := q.QueryRowContext(ctx, "SELECT count(*) FROM ledger_day WHERE cluster = ? AND tbl = ? AND day = ?", cluster, table, at).Scan(&n)
	return n > 0, err
}
