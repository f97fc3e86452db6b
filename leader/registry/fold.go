package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// day is a UTC day, which the ledger folds as one.
const day = 24 * time.Hour

// FoldAfter is how old the end of a day must be before the ledger folds it:
// most revisions come within the first hours, and a day that is unfolded again
// is written as a whole.
const FoldAfter = 3 * day

// foldsAtOnce bounds the days that one call of FoldLedger folds.
const foldsAtOnce = 200

// dayOf is the start of the UTC day that holds a moment.
func dayOf(at int64) int64 { return nanos(moment(at).Truncate(day)) }

// Folding is what FoldLedger did.
type Folding struct {
	Days    int  // of one table each
	Windows int  // in them
	Bytes   int  // that they take now
	More    bool // there is more to fold
}

// FoldLedger makes one packed row of each day of a cluster's table that ended
// FoldAfter ago or longer, that has no due work and no rows in quarantine, and
// beyond which the journal has gone on. What can be asked of the ledger is
// answered as before; when a revision of the day comes it is unfolded. A call
// folds so many days at most, each in its own transaction.
func (r *Registry) FoldLedger(ctx context.Context, now time.Time) (Folding, error) {
	var total Folding
	tables, err := r.tables(ctx)
	if err != nil {
		return total, fmt.Errorf("fold the ledger: %w", err)
	}
	for _, t := range tables {
		days, err := r.settledDays(ctx, t.cluster, t.table, nanos(now.Add(-FoldAfter)), foldsAtOnce+1-total.Days)
		if err != nil {
			return total, fmt.Errorf("fold the ledger of %s %s: %w", t.cluster, t.table, err)
		}
		for _, at := range days {
			if total.Days == foldsAtOnce {
				total.More = true
				return total, nil
			}
			err := r.write(ctx, ordered, func(tx *sql.Tx) error {
				windows, bytes, err := fold(ctx, tx, t.cluster, t.table, at)
				if windows > 0 {
					total.Days, total.Windows, total.Bytes = total.Days+1, total.Windows+windows, total.Bytes+bytes
				}
				return err
			})
			if err != nil {
				return total, fmt.Errorf("fold the ledger of %s %s: %w", t.cluster, t.table, err)
			}
		}
	}
	return total, nil
}

// clusterTable names a table of a cluster.
type clusterTable struct{ cluster, table string }

// tables are those of which anything was received.
func (r *Registry) tables(ctx context.Context) ([]clusterTable, error) {
	var list []clusterTable
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var t clusterTable
		err := scan(&t.cluster, &t.table)
		list = append(list, t)
		return err
	}, "SELECT cluster, tbl FROM mark ORDER BY cluster, tbl")
	return list, err
}

// settledDays are the oldest days in the ledger that can be folded, at most
// limit, all of them ended at the given moment.
func (r *Registry) settledDays(ctx context.Context, cluster, table string, ended int64, limit int) ([]int64, error) {
	newest, err := newestMinute(ctx, r.reader, cluster, table)
	if err != nil {
		return nil, err
	}
	var days []int64
	var due map[int64]bool
	for next := int64(always); len(days) < limit; {
		var first sql.NullInt64
		err := r.reader.QueryRowContext(ctx, "SELECT min(window_from) FROM ledger WHERE cluster = ? AND tbl = ? AND window_from >= ?",
			cluster, table, next).Scan(&first)
		if err != nil || !first.Valid {
			return days, err
		}
		at := dayOf(first.Int64)
		if next = at + int64(day); next > min(ended, newest) {
			return days, nil
		}
		if due == nil {
			if due, err = r.dueDays(ctx, cluster, schema.Window{From: moment(at), To: moment(ended)}); err != nil {
				return nil, err
			}
		}
		settled, err := quiet(ctx, r.reader, cluster, table, span{from: at, to: next})
		if err != nil {
			return nil, err
		}
		if settled && !due[at] {
			days = append(days, at)
		}
	}
	return days, nil
}

// dueDays are the days of which some work of a cluster is due.
func (r *Registry) dueDays(ctx context.Context, cluster string, w schema.Window) (map[int64]bool, error) {
	boxes, err := r.boxesOf(ctx, cluster, w)
	if err != nil {
		return nil, err
	}
	quarters, err := dueQuarters(ctx, r.reader, cluster, boxes, w)
	if err != nil {
		return nil, err
	}
	days := make(map[int64]bool)
	for quarter := range quarters {
		days[dayOf(quarter)] = true
	}
	return days, nil
}

// newestMinute is how far a table has come; of a table of events, which has
// windows only where something happened, how far the nodes' has.
func newestMinute(ctx context.Context, q queryer, cluster, table string) (int64, error) {
	for _, t := range schema.Pulled {
		if t.Name == table && !t.EachMinute() {
			table = schema.NodeMinute.Name
		}
	}
	w, ok, err := extent(ctx, q, cluster, table)
	if err != nil || !ok {
		return always, err
	}
	return nanos(w.To), nil
}

// quiet says whether no row of a day waits in the quarantine, and each of its
// windows is a minute.
func quiet(ctx context.Context, q queryer, cluster, table string, s span) (bool, error) {
	var loud int64
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM ledger WHERE cluster = ?2 AND tbl = ?3 AND window_from >= ?4 AND window_from < ?5
		AND (refused > 0 OR window_from % ?1 <> 0 OR window_to - window_from <> ?1)`,
		int64(schema.Minute), cluster, table, s.from, s.to).Scan(&loud)
	return loud == 0, err
}

// fold packs a day. It returns how many windows it has, and how many bytes they
// take now.
func fold(ctx context.Context, tx *sql.Tx, cluster, table string, at int64) (windows, bytes int, err error) {
	var rows []ledgerRow
	until := at + int64(day)
	err = eachLoose(ctx, tx, cluster, table, span{from: at, to: until}, func(e ledgerRow) error {
		rows = append(rows, e)
		return nil
	})
	if err != nil || len(rows) == 0 {
		return 0, 0, err
	}
	packed, err := putDay(ctx, tx, cluster, table, at, rows)
	if err != nil {
		return 0, 0, err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM ledger WHERE cluster = ? AND tbl = ? AND window_from >= ? AND window_from < ?", cluster, table, at, until)
	return len(rows), packed, err
}

// putDay stores a day's windows with their sums.
func putDay(ctx context.Context, tx *sql.Tx, cluster, table string, at int64, rows []ledgerRow) (bytes int, err error) {
	packed, err := pack(rows)
	if err != nil {
		return 0, err
	}
	s := sumsOf(rows)
	_, err = tx.ExecContext(ctx, `INSERT INTO ledger_day (cluster, tbl, day, window_from, window_to, windows, unnamed, nodes_all, nodes_any,
			audited, rows, revisions, coverage, refused, extra, unexplained, overlaps, newest, packed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET audited = excluded.audited,
			refused = excluded.refused, packed = excluded.packed`,
		cluster, table, at, rows[0].from, rows[len(rows)-1].to, s.windows, s.unnamed, []byte(s.all), []byte(s.any),
		s.audited, s.rows, s.revisions, s.coverage, s.refused, s.extra, s.unexplained, s.overlaps, s.newest, packed)
	return len(packed), err
}

// unfold gives a day back its windows, before one of them changes.
func unfold(ctx context.Context, tx *sql.Tx, cluster, table string, at int64) error {
	var packed []byte
	err := tx.QueryRowContext(ctx, "DELETE FROM ledger_day WHERE cluster = ? AND tbl = ? AND day = ? RETURNING packed", cluster, table, at).Scan(&packed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	rows, err := unpack(packed)
	if err != nil {
		return fmt.Errorf("unfold %s: %w", moment(at).Format(time.DateOnly), err)
	}
	put, err := tx.PrepareContext(ctx, "INSERT INTO ledger (cluster, tbl, quarter, "+ledgerColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer func() { _ = put.Close() }()
	for _, e := range rows {
		var nodes any
		if e.nodes != nil {
			nodes = []byte(e.nodes)
		}
		_, err := put.ExecContext(ctx, cluster, table, nanos(quarterOf(moment(e.from))), e.from, e.to, e.store, e.reason, e.revision,
			e.rows, e.digest, e.coverage, e.entered, e.received, e.audited, nodes, e.refused, e.extra, e.overlaps, e.era, e.unexplained)
		if err != nil {
			return err
		}
	}
	return nil
}

// sums are what can be told of windows without looking at each.
type sums struct {
	windows, unnamed, audited        int64
	all, any                         nodeSet // the nodes of every window, and of any
	rows, revisions, coverage        int64   // coverage is a sum, too
	refused, extra, overlaps, newest int64
	unexplained                      int64
}

func sumsOf(rows []ledgerRow) sums {
	var s sums
	for i, e := range rows {
		s.add(e, i == 0)
	}
	return s
}

func (s *sums) add(e ledgerRow, first bool) {
	s.windows++
	if e.nodes == nil {
		s.unnamed++
	}
	if first {
		s.all, s.any = append(nodeSet{}, e.nodes...), append(nodeSet{}, e.nodes...)
	} else if !s.all.equal(e.nodes) || !s.any.equal(e.nodes) {
		s.all, s.any = s.all.and(e.nodes), s.any.union(e.nodes)
	}
	if e.audited >= e.received {
		s.audited++
	}
	s.rows, s.revisions, s.coverage = s.rows+e.rows, s.revisions+e.revision, s.coverage+e.coverage
	s.unexplained += e.unexplained
	s.refused, s.extra, s.overlaps, s.newest = s.refused+e.refused, s.extra+e.extra, s.overlaps+e.overlaps, max(s.newest, e.received)
}
