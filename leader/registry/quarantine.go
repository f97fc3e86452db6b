package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// maxQuarantined bounds the rows that are kept for each cluster and table; all
// are counted.
const maxQuarantined = 10_000

// Quarantined is a row that was not taken.
type Quarantined struct {
	Cluster string          `json:"cluster"` // that it was pulled from
	Table   string          `json:"table"`
	Reason  string          `json:"reason"`
	Point   json.RawMessage `json:"point"` // {"time", "tags", "fields"}
	First   time.Time       `json:"first"`
	Last    time.Time       `json:"last"`
	Seen    int64           `json:"seen"` // how often it came
}

// Quarantine keeps rows that were pulled from a cluster and not taken, each
// once: a row that comes again is counted.
func (r *Registry) Quarantine(ctx context.Context, cluster, table string, points []influxsync.Point, reason string) error {
	if len(points) == 0 {
		return nil
	}
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO quarantine_count (cluster, tbl, rows) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET rows = rows + excluded.rows`, cluster, table, len(points))
		if err != nil {
			return err
		}
		var kept int
		err = tx.QueryRowContext(ctx, "SELECT count(*) FROM quarantine WHERE cluster = ? AND tbl = ?", cluster, table).Scan(&kept)
		if err != nil {
			return err
		}
		now := nanos(r.clock.Now())
		for _, p := range points {
			known, err := tx.ExecContext(ctx, `UPDATE quarantine SET seen = seen + 1, last_at = ?, reason = ?
				WHERE cluster = ? AND tbl = ? AND hash = ?`, now, reason, cluster, table, int64(p.Hash()))
			if err != nil {
				return err
			}
			if n, err := known.RowsAffected(); err != nil || n > 0 || kept >= maxQuarantined {
				if err != nil {
					return err
				}
				continue
			}
			kept++
			if _, err := tx.ExecContext(ctx, `INSERT INTO quarantine (cluster, tbl, hash, reason, point, first_at, last_at, seen)
				VALUES (?, ?, ?, ?, ?, ?, ?, 1)`, cluster, table, int64(p.Hash()), reason, pointText(p), now, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("quarantine %s %s: %w", cluster, table, err)
	}
	return nil
}

// keepRefused keeps rows that the centre's store refused, in the transaction of
// the mark that goes past them. A row that comes again is counted.
func (r *Registry) keepRefused(ctx context.Context, tx *sql.Tx, cluster, table string, rows []influxsync.Refused) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO quarantine_count (cluster, tbl, rows) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET rows = rows + excluded.rows`, cluster, table, len(rows))
	if err != nil {
		return err
	}
	now := nanos(r.clock.Now())
	for _, row := range rows {
		point, err := json.Marshal(map[string]string{"line": row.Line})
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO quarantine (cluster, tbl, hash, reason, point, first_at, last_at, seen)
			VALUES (?, ?, ?, ?, ?, ?, ?, 1)
			ON CONFLICT DO UPDATE SET seen = seen + 1, last_at = excluded.last_at, reason = excluded.reason, point = excluded.point`,
			cluster, table, int64(row.Hash), string(row.Class)+": "+row.Reason, string(point), now, now)
		if err != nil {
			return err
		}
	}
	return nil
}

// pointText is a row as JSON; integers as text keep their 64 bits.
func pointText(p influxsync.Point) string {
	tags, fields := make(map[string]string), make(map[string]any)
	for _, tag := range p.Tags {
		tags[tag.Key] = tag.Value
	}
	for _, field := range p.Fields {
		switch field.Value.Type {
		case schema.Integer:
			fields[field.Name] = field.Value.Int()
		case schema.Float:
			fields[field.Name] = fmt.Sprint(field.Value.Float()) // NaN has no JSON number
		case schema.Boolean:
			fields[field.Name] = field.Value.Bool()
		default:
			fields[field.Name] = field.Value.Str()
		}
	}
	text, _ := json.Marshal(map[string]any{"time": p.Time, "tags": tags, "fields": fields}) // strings and numbers only
	return string(text)
}

// Quarantined are the rows kept of a cluster, or of all for "", newest first,
// at most limit.
func (r *Registry) Quarantined(ctx context.Context, cluster string, limit int) ([]Quarantined, error) {
	var list []Quarantined
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var q Quarantined
		var point string
		var first, last int64
		err := scan(&q.Cluster, &q.Table, &q.Reason, &point, &first, &last, &q.Seen)
		q.Point, q.First, q.Last = json.RawMessage(point), moment(first), moment(last)
		list = append(list, q)
		return err
	}, `SELECT cluster, tbl, reason, point, first_at, last_at, seen FROM quarantine
		WHERE ?1 = '' OR cluster = ?1 ORDER BY last_at DESC, id DESC LIMIT ?2`, cluster, limit)
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	return list, nil
}

// QuarantineCount is how many rows of a cluster were ever refused.
func (r *Registry) QuarantineCount(ctx context.Context, cluster string) (int64, error) {
	var rows int64
	err := r.reader.QueryRowContext(ctx, "SELECT coalesce(sum(rows), 0) FROM quarantine_count WHERE cluster = ?", cluster).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("count quarantine: %w", err)
	}
	return rows, nil
}
