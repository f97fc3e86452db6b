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

// maxQuarantined bounds the foreign rows that are kept for each cluster and
// table; all are counted.
const maxQuarantined = 10_000

// The kinds of quarantined rows.
const (
	Foreign = "foreign" // it names another cluster than the one it was pulled from
	Refused = "refused" // the centre's store does not take it
)

// Quarantined is a row that was not taken.
type Quarantined struct {
	ID      int64  `json:"id"`
	Cluster string `json:"cluster"` // that it was pulled from
	Table   string `json:"table"`
	Kind    string `json:"kind"`
	Reason  string `json:"reason"`

	Point json.RawMessage `json:"point,omitempty"` // of a foreign row: {"time", "tags", "fields"}

	// Of a refused row: its window, what is the matter, and the row itself as
	// line protocol with the centre's table.
	From  time.Time        `json:"from,omitzero"`
	To    time.Time        `json:"to,omitzero"`
	Class influxsync.Class `json:"class,omitempty"`
	Line  string           `json:"line,omitempty"`
	Hash  uint64           `json:"-"` // as influxsync.Point.Hash

	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Seen  int64     `json:"seen"` // how often it came

	// Superseded is when its window came again from another store or in another
	// era, or, of a discarded row, in a revision without it. It is not replayed
	// any more.
	Superseded   time.Time `json:"superseded,omitzero"`
	Discarded    time.Time `json:"discarded,omitzero"` // given up, by whom and why
	DiscardedBy  string    `json:"discardedBy,omitempty"`
	DiscardedFor string    `json:"discardedFor,omitempty"`
}

// Quarantine keeps rows that were pulled from a cluster and name another one,
// each once: a row that comes again is counted.
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
		err = tx.QueryRowContext(ctx, "SELECT count(*) FROM quarantine WHERE cluster = ? AND tbl = ? AND kind = ?", cluster, table, Foreign).Scan(&kept)
		if err != nil {
			return err
		}
		now := nanos(r.clock.Now())
		for _, p := range points {
			known, err := tx.ExecContext(ctx, `UPDATE quarantine SET seen = seen + 1, last_at = ?, reason = ?
				WHERE cluster = ? AND tbl = ? AND kind = ? AND window_from = 0 AND hash = ?`, now, reason, cluster, table, Foreign, int64(p.Hash()))
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
			if _, err := tx.ExecContext(ctx, `INSERT INTO quarantine
				(cluster, tbl, kind, class, window_from, window_to, store, hash, reason, point, line, first_at, last_at, seen)
				VALUES (?, ?, ?, '', 0, 0, '', ?, ?, ?, '', ?, ?, 1)`,
				cluster, table, Foreign, int64(p.Hash()), reason, pointText(p), now, now); err != nil {
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

// QuarantineCount is how many rows from a cluster ever named another one.
func (r *Registry) QuarantineCount(ctx context.Context, cluster string) (int64, error) {
	var rows int64
	err := r.reader.QueryRowContext(ctx, "SELECT coalesce(sum(rows), 0) FROM quarantine_count WHERE cluster = ?", cluster).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("count quarantine: %w", err)
	}
	return rows, nil
}
