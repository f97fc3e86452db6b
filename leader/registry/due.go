package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Processors whose work a change of the fleet makes due, and their scopes.
const (
	ProcessorPower = "power" // scope: a box
	ProcessorUsage = "usage" // scope: a cluster; power and received windows make it due
	ProcessorCost  = "cost"  // scope: a cluster

	ProcessorHeat   = "heat"   // scope: as power's, whose run computes it too; readings of heat sources make it due
	ProcessorCarbon = "carbon" // scope: as power's, whose run computes it too; intensities make it due
)

// Due is work: one processor, one scope, one quarter.
type Due struct {
	Processor string    `json:"processor"`
	Scope     string    `json:"scope"`
	Quarter   time.Time `json:"quarter"` // its start
	Reason    string    `json:"reason"`  // all reasons since it was last done, "; " between them
	Added     time.Time `json:"added"`   // when it became due; set by Due
	// Sequence says which adding of the entry this is; set by Due. Done takes
	// away only what was not added again since.
	Sequence int64 `json:"-"`
}

// maxReason bounds the merged reasons of one entry, in bytes.
const maxReason = 500

// AddDue makes work due. What is due already keeps its age and gets the new
// reason besides.
func (r *Registry) AddDue(ctx context.Context, due ...Due) error {
	if len(due) == 0 {
		return nil
	}
	err := r.write(ctx, ordered, func(tx *sql.Tx) error { return r.addDue(ctx, tx, due) })
	if err != nil {
		return fmt.Errorf("add due work: %w", err)
	}
	return nil
}

func (r *Registry) addDue(ctx context.Context, tx *sql.Tx, due []Due) error {
	if len(due) == 0 {
		return nil
	}
	var seq int64
	if err := tx.QueryRowContext(ctx, "UPDATE due_seq SET seq = seq + ? RETURNING seq", len(due)).Scan(&seq); err != nil {
		return err
	}
	seq -= int64(len(due))
	find, err := tx.PrepareContext(ctx, "SELECT reason FROM due WHERE processor = ? AND scope = ? AND quarter = ?")
	if err != nil {
		return err
	}
	defer func() { _ = find.Close() }()
	put, err := tx.PrepareContext(ctx, `INSERT INTO due (processor, scope, quarter, reason, seq, added_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET reason = excluded.reason, seq = excluded.seq`)
	if err != nil {
		return err
	}
	defer func() { _ = put.Close() }()
	now := nanos(r.clock.Now())
	for _, d := range due {
		if err := d.check(); err != nil {
			return err
		}
		var former string
		err := find.QueryRowContext(ctx, d.Processor, d.Scope, nanos(d.Quarter)).Scan(&former)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		seq++
		if _, err := put.ExecContext(ctx, d.Processor, d.Scope, nanos(d.Quarter), mergeReasons(former, d.Reason), seq, now); err != nil {
			return err
		}
	}
	return nil
}

func (d Due) check() error {
	if d.Processor == "" || d.Scope == "" || !d.Quarter.Equal(quarterOf(d.Quarter)) {
		return fmt.Errorf("due %q %q %s: no processor, no scope or no start of a quarter", d.Processor, d.Scope, d.Quarter)
	}
	return nil
}

func mergeReasons(former, reason string) string {
	if former == "" || reason == "" {
		return former + reason
	}
	if slices.Contains(strings.Split(former, "; "), reason) || len(former)+len(reason)+2 > maxReason {
		return former
	}
	return former + "; " + reason
}

// Due is the work of a processor, the oldest quarter first, then what has been
// due longest; at most limit entries, all where limit is not above 0.
func (r *Registry) Due(ctx context.Context, processor string, limit int) ([]Due, error) {
	if limit <= 0 {
		limit = -1
	}
	var list []Due
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		d := Due{Processor: processor}
		var quarter, added int64
		if err := scan(&d.Scope, &quarter, &d.Reason, &d.Sequence, &added); err != nil {
			return err
		}
		d.Quarter, d.Added = moment(quarter), moment(added)
		list = append(list, d)
		return nil
	}, `SELECT scope, quarter, reason, seq, added_at FROM due WHERE processor = ?
		ORDER BY quarter, added_at, scope LIMIT ?`, processor, limit)
	if err != nil {
		return nil, fmt.Errorf("due work of %s: %w", processor, err)
	}
	return list, nil
}

// DueCount is how many entries are due, by processor.
func (r *Registry) DueCount(ctx context.Context) (map[string]int, error) {
	counts := make(map[string]int)
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var processor string
		var n int
		if err := scan(&processor, &n); err != nil {
			return err
		}
		counts[processor] = n
		return nil
	}, "SELECT processor, count(*) FROM due GROUP BY processor")
	if err != nil {
		return nil, fmt.Errorf("count due work: %w", err)
	}
	return counts, nil
}

// Done records that work which Due returned has been done, of what (the
// fingerprint), and what follows from it, in one transaction. An entry that was
// added again since Due returned it stays due. To keep the entry due itself, as
// the running quarter is, name it in next. A quarter of usage that has changed takes
// away the sums of its day.
func (r *Registry) Done(ctx context.Context, done Due, fingerprint string, next []Due) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		if done.Processor == ProcessorUsage {
			former, err := fingerprintOf(ctx, tx, done.Processor, done.Scope, done.Quarter)
			if err == nil && former != fingerprint {
				err = openDay(ctx, tx, done.Scope, done.Quarter)
			}
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO fingerprint (processor, scope, quarter, fingerprint, at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET fingerprint = excluded.fingerprint, at = excluded.at`,
			done.Processor, done.Scope, nanos(done.Quarter), fingerprint, nanos(r.clock.Now()))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM due WHERE processor = ? AND scope = ? AND quarter = ? AND seq = ?",
			done.Processor, done.Scope, nanos(done.Quarter), done.Sequence)
		if err != nil {
			return err
		}
		return r.addDue(ctx, tx, next)
	})
	if err != nil {
		return fmt.Errorf("done %s %s %s: %w", done.Processor, done.Scope, done.Quarter.Format(time.RFC3339), err)
	}
	return nil
}

// Fingerprint is that of the inputs of the last run, or "" before the first.
func (r *Registry) Fingerprint(ctx context.Context, processor, scope string, quarter time.Time) (string, error) {
	return fingerprintOf(ctx, r.reader, processor, scope, quarter)
}

func fingerprintOf(ctx context.Context, q queryer, processor, scope string, quarter time.Time) (string, error) {
	var fingerprint string
	err := q.QueryRowContext(ctx, "SELECT fingerprint FROM fingerprint WHERE processor = ? AND scope = ? AND quarter = ?",
		processor, scope, nanos(quarter)).Scan(&fingerprint)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("fingerprint of %s %s: %w", processor, scope, err)
	}
	return fingerprint, nil
}
