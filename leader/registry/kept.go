package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// ErrNoFilter is a change of quarantined rows that does not say which.
var ErrNoFilter = errors.New("say which rows: a cluster, a table, a class, ids, or all")

// ErrNoIDs is a change of quarantined rows by a list of ids without an id.
var ErrNoIDs = errors.New("the list of ids is empty: it would take all rows of the rest of the filter")

// QuarantineFilter selects quarantined rows. Empty parts select every row; All
// says that this is meant.
type QuarantineFilter struct {
	Cluster string           `json:"cluster,omitempty"`
	Table   string           `json:"table,omitempty"`
	Kind    string           `json:"kind,omitempty"`
	Class   influxsync.Class `json:"class,omitempty"`
	IDs     []int64          `json:"ids,omitempty"`
	All     bool             `json:"all,omitempty"`
}

// Validate refuses a filter that selects more than it says: everything
// (ErrNoFilter), or more than the ids of an empty list (ErrNoIDs).
func (f QuarantineFilter) Validate() error {
	if f.IDs != nil && len(f.IDs) == 0 {
		return ErrNoIDs
	}
	if f.Cluster == "" && f.Table == "" && f.Kind == "" && f.Class == "" && len(f.IDs) == 0 && !f.All {
		return ErrNoFilter
	}
	return nil
}

// Missing are the ids of the filter that none of the rows has, each once.
func (f QuarantineFilter) Missing(rows []Quarantined) []int64 {
	have := make(map[int64]bool)
	for _, row := range rows {
		have[row.ID] = true
	}
	missing := slices.DeleteFunc(slices.Clone(f.IDs), func(id int64) bool { return have[id] })
	slices.Sort(missing)
	return slices.Compact(missing)
}

// where is the filter as a condition of SQL with its arguments.
func (f QuarantineFilter) where() (string, []any) {
	parts, args := []string{"TRUE"}, []any{}
	for column, value := range map[string]string{"cluster": f.Cluster, "tbl": f.Table, "kind": f.Kind, "class": string(f.Class)} {
		if value != "" {
			parts, args = append(parts, column+" = ?"), append(args, value)
		}
	}
	if len(f.IDs) > 0 {
		ids, _ := json.Marshal(f.IDs) // numbers only
		parts, args = append(parts, "id IN (SELECT value FROM json_each(?))"), append(args, string(ids))
	}
	return strings.Join(parts, " AND "), args
}

const quarantineColumns = `id, cluster, tbl, kind, reason, point, window_from, window_to, class, line, hash,
	first_at, last_at, seen, superseded_at, discarded_at, discarded_by, discarded_for`

func scanQuarantined(scan func(...any) error) (Quarantined, error) {
	var q Quarantined
	var point string
	var from, to, hash, first, last int64
	var superseded, discarded sql.NullInt64
	err := scan(&q.ID, &q.Cluster, &q.Table, &q.Kind, &q.Reason, &point, &from, &to, &q.Class, &q.Line, &hash,
		&first, &last, &q.Seen, &superseded, &discarded, &q.DiscardedBy, &q.DiscardedFor)
	q.Hash = uint64(hash)
	if q.Kind == Foreign {
		q.Point = json.RawMessage(point)
	} else {
		q.From, q.To = moment(from), moment(to)
	}
	q.First, q.Last = moment(first), moment(last)
	if superseded.Valid {
		q.Superseded = moment(superseded.Int64)
	}
	if discarded.Valid {
		q.Discarded = moment(discarded.Int64)
	}
	return q, err
}

// Quarantined are the kept rows that the filter selects, also the discarded
// ones, newest first: at most limit with an id below before, or from the newest
// on where before is 0.
func (r *Registry) Quarantined(ctx context.Context, filter QuarantineFilter, before int64, limit int) ([]Quarantined, error) {
	where, args := filter.where()
	if before > 0 {
		where, args = where+" AND id < ?", append(args, before)
	}
	return r.quarantined(ctx, where+" ORDER BY id DESC LIMIT ?", append(args, limit)...)
}

// Replayable are the refused rows that the filter selects, oldest first: at most
// limit with an id above after. Rows that were discarded or superseded are none.
func (r *Registry) Replayable(ctx context.Context, filter QuarantineFilter, after int64, limit int) ([]Quarantined, error) {
	where, args := filter.where()
	where += " AND kind = ? AND discarded_at IS NULL AND superseded_at IS NULL AND id > ? ORDER BY id LIMIT ?"
	return r.quarantined(ctx, where, append(args, Refused, after, limit)...)
}

func (r *Registry) quarantined(ctx context.Context, where string, args ...any) ([]Quarantined, error) {
	list := []Quarantined{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		q, err := scanQuarantined(scan)
		list = append(list, q)
		return err
	}, "SELECT "+quarantineColumns+" FROM quarantine WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	return list, nil
}

// QuarantineCount is how many rows are kept of one kind and class.
type QuarantineCount struct {
	Cluster   string           `json:"cluster"`
	Table     string           `json:"table"`
	Kind      string           `json:"kind"`
	Class     influxsync.Class `json:"class,omitempty"`
	Rows      int64            `json:"rows"` // without the discarded ones
	Discarded int64            `json:"discarded"`
}

// QuarantineCounts are the kept rows that the filter selects, by cluster, table,
// kind and class.
func (r *Registry) QuarantineCounts(ctx context.Context, filter QuarantineFilter) ([]QuarantineCount, error) {
	where, args := filter.where()
	counts := []QuarantineCount{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var c QuarantineCount
		err := scan(&c.Cluster, &c.Table, &c.Kind, &c.Class, &c.Rows, &c.Discarded)
		counts = append(counts, c)
		return err
	}, `SELECT cluster, tbl, kind, class, count(*) - count(discarded_at), count(discarded_at) FROM quarantine
		WHERE `+where+" GROUP BY cluster, tbl, kind, class ORDER BY cluster, tbl, kind, class", args...)
	if err != nil {
		return nil, fmt.Errorf("count quarantine: %w", err)
	}
	return counts, nil
}

// Replay is what came of writing refused rows of one cluster's table again.
type Replay struct {
	Cluster, Table string
	Accepted       []Quarantined
	Refused        []Quarantined // with their new Class and Reason
}

// Replayed records in one transaction that the centre's store has taken rows, or
// refused them again: the accepted ones leave the quarantine, their windows have
// so many refused rows less, and the work that this makes due is due.
func (r *Registry) Replayed(ctx context.Context, replay Replay, due []Due) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		lower := make(map[schema.Window]int64)
		for _, row := range replay.Accepted {
			gone, err := tx.ExecContext(ctx, `DELETE FROM quarantine WHERE id = ? AND kind = ? AND discarded_at IS NULL
				AND superseded_at IS NULL`, row.ID, Refused)
			if err != nil {
				return err
			}
			if n, err := gone.RowsAffected(); err != nil || n == 0 {
				if err != nil {
					return err
				}
				continue // somebody else was faster: it is counted already
			}
			lower[schema.Window{From: row.From, To: row.To}]++
		}
		if err := lowerRefused(ctx, tx, replay.Cluster, replay.Table, lower); err != nil {
			return err
		}
		now := nanos(r.clock.Now())
		for _, row := range replay.Refused {
			_, err := tx.ExecContext(ctx, "UPDATE quarantine SET class = ?, reason = ?, last_at = ?, seen = seen + 1 WHERE id = ?",
				string(row.Class), row.Reason, now, row.ID)
			if err != nil {
				return err
			}
		}
		return r.addDue(ctx, tx, due)
	})
	if err != nil {
		return fmt.Errorf("replayed %s %s: %w", replay.Cluster, replay.Table, err)
	}
	return nil
}

// Discard gives up the rows that the filter selects, and says how many: they
// stay on record, with who gave them up and why, are not replayed any more, and
// their windows stay incomplete in the ledger.
func (r *Registry) Discard(ctx context.Context, filter QuarantineFilter, reason, by string) (int64, error) {
	if err := filter.Validate(); err != nil {
		return 0, fmt.Errorf("discard: %w", err)
	}
	if strings.TrimSpace(reason) == "" {
		return 0, errors.New("discard: give a reason; it is kept with the rows")
	}
	where, args := filter.where()
	var rows int64
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		changed, err := tx.ExecContext(ctx, "UPDATE quarantine SET discarded_at = ?, discarded_by = ?, discarded_for = ? WHERE "+
			where+" AND discarded_at IS NULL", append([]any{nanos(r.clock.Now()), by, reason}, args...)...)
		if err != nil {
			return err
		}
		rows, err = changed.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("discard: %w", err)
	}
	return rows, nil
}

// Repaired records windows that were copied again without following the journal,
// in one transaction: as Received, but the mark stays.
func (r *Registry) Repaired(ctx context.Context, cluster, table string, receipt Receipt, due []Due) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		return r.take(ctx, tx, cluster, table, receipt, due)
	})
	if err != nil {
		return fmt.Errorf("repaired %s %s: %w", cluster, table, err)
	}
	return nil
}
