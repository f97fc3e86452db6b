package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// MaxRefused is how many refused rows of a cluster's table are kept until it is
// not pulled any more. Rows beyond it are kept too: what came, came.
const MaxRefused = 100_000

// QuarantineRoom is how many more refused rows of a cluster's table there is
// room for. At 0 the table must not be pulled: its rows are safe at their
// source, and here they would only pile up.
func (r *Registry) QuarantineRoom(ctx context.Context, cluster, table string) (int, error) {
	var kept int
	err := r.reader.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM quarantine
		WHERE cluster = ? AND tbl = ? AND kind = ? AND discarded_at IS NULL LIMIT ?)`,
		cluster, table, Refused, MaxRefused).Scan(&kept)
	if err != nil {
		return 0, fmt.Errorf("room in the quarantine of %s %s: %w", cluster, table, err)
	}
	return MaxRefused - kept, nil
}

// keepRefused makes the refused rows of the receipt's windows those that are
// kept of them, in the transaction of the mark that goes past them. Rows that an
// older revision of such a window had refused go: replayed, they would write an
// old value over a new one. What came from another store, or in another era, is
// kept and marked, for absence never deletes; so is what was discarded.
func (r *Registry) keepRefused(ctx context.Context, tx *sql.Tx, cluster, table string, receipt Receipt) error {
	fresh := make(map[int64][]influxsync.Refused)
	for _, row := range receipt.Refused {
		fresh[nanos(row.Window.From)] = append(fresh[nanos(row.Window.From)], row)
	}
	k := &keeper{tx: tx, cluster: cluster, table: table, mark: receipt.Mark, now: nanos(r.clock.Now())}
	counts := make(map[schema.Window]int64)
	held, err := k.windows(ctx, receipt.Windows)
	if err != nil {
		return err
	}
	for _, w := range receipt.Windows {
		from := nanos(w.Window.From)
		rows := fresh[from]
		delete(fresh, from)
		if len(rows) == 0 && !held[from] {
			continue
		}
		if err := k.replace(ctx, from, rows); err != nil {
			return err
		}
		counts[schema.Window{From: moment(from), To: moment(nanos(w.Window.To))}] = int64(len(rows))
	}
	for _, rows := range fresh {
		return fmt.Errorf("refused row of window %s, which is not among the received ones", rows[0].Window)
	}
	// The same revision may come again and be refused otherwise than before.
	return setRefused(ctx, tx, cluster, table, counts)
}

// keeper changes the refused rows of one cluster's table.
type keeper struct {
	tx             *sql.Tx
	cluster, table string
	mark           influxsync.Mark // its store and era are those of the rows
	now            int64
}

// windows are those, by their begin, of which rows are kept.
func (k *keeper) windows(ctx context.Context, windows []influxsync.Confirmed) (map[int64]bool, error) {
	held := make(map[int64]bool)
	if len(windows) == 0 {
		return held, nil
	}
	first, last := nanos(windows[0].Window.From), nanos(windows[0].Window.From)
	for _, w := range windows {
		first, last = min(first, nanos(w.Window.From)), max(last, nanos(w.Window.From))
	}
	return held, each(ctx, k.tx, func(scan func(...any) error) error {
		var from int64
		err := scan(&from)
		held[from] = true
		return err
	}, `SELECT DISTINCT window_from FROM quarantine WHERE cluster = ? AND tbl = ? AND kind = ? AND window_from BETWEEN ? AND ?`,
		k.cluster, k.table, Refused, first, last)
}

// replace makes rows the refused ones of the window that begins at from.
func (k *keeper) replace(ctx context.Context, from int64, rows []influxsync.Refused) error {
	wanted := make(map[int64]bool)
	for _, row := range rows {
		wanted[int64(row.Hash)] = true
	}
	var gone []int64
	err := each(ctx, k.tx, func(scan func(...any) error) error {
		var id, hash int64
		err := scan(&id, &hash)
		if !wanted[hash] {
			gone = append(gone, id)
		}
		return err
	}, "SELECT id, hash FROM quarantine WHERE cluster = ? AND tbl = ? AND kind = ? AND window_from = ? AND superseded_at IS NULL",
		k.cluster, k.table, Refused, from)
	if err != nil {
		return err
	}
	for _, id := range gone {
		_, err := k.tx.ExecContext(ctx, "DELETE FROM quarantine WHERE id = ? AND store = ? AND era = ? AND discarded_at IS NULL",
			id, k.mark.Store, k.mark.Era)
		if err != nil {
			return err
		}
		if _, err := k.tx.ExecContext(ctx, "UPDATE quarantine SET superseded_at = ? WHERE id = ?", k.now, id); err != nil {
			return err
		}
	}
	for _, row := range rows {
		if err := k.put(ctx, row); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) put(ctx context.Context, row influxsync.Refused) error {
	_, err := k.tx.ExecContext(ctx, `INSERT INTO quarantine
		(cluster, tbl, kind, class, window_from, window_to, store, era, hash, reason, point, line, first_at, last_at, seen)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, ?, 1)
		ON CONFLICT DO UPDATE SET class = excluded.class, window_to = excluded.window_to, store = excluded.store, era = excluded.era,
			reason = excluded.reason, line = excluded.line, last_at = excluded.last_at, seen = seen + 1, superseded_at = NULL`,
		k.cluster, k.table, Refused, string(row.Class), nanos(row.Window.From), nanos(row.Window.To), k.mark.Store, k.mark.Era, int64(row.Hash),
		row.Reason, strings.TrimSuffix(row.Line, "\n"), k.now, k.now)
	return err
}

// KeptRows are the rows of a cluster's table that the quarantine keeps and the
// centre's store does not hold, as far as a window's rows and digest count them.
type KeptRows struct {
	Refused []Quarantined // by their windows' beginnings; the discarded ones too, not the superseded
	Foreign []ForeignRow
}

// ForeignRow is a kept row that names another cluster.
type ForeignRow struct {
	Time time.Time
	Hash uint64
}

// Kept reads the quarantined rows of a cluster's table in [w.From, w.To): by the
// refused rows' windows, and by the foreign rows' own time.
func (r *Registry) Kept(ctx context.Context, cluster, table string, w schema.Window) (KeptRows, error) {
	var kept KeptRows
	var err error
	kept.Refused, err = r.quarantined(ctx, `cluster = ? AND tbl = ? AND kind = ? AND window_from >= ? AND window_from < ?
		AND superseded_at IS NULL ORDER BY window_from`, cluster, table, Refused, nanos(w.From), nanos(w.To))
	if err != nil {
		return kept, err
	}
	err = each(ctx, r.reader, func(scan func(...any) error) error {
		var text string
		var hash int64
		if err := scan(&text, &hash); err != nil {
			return err
		}
		var point struct{ Time time.Time }
		if err := json.Unmarshal([]byte(text), &point); err != nil {
			return err
		}
		if w.Contains(point.Time) {
			kept.Foreign = append(kept.Foreign, ForeignRow{point.Time, uint64(hash)})
		}
		return nil
	}, "SELECT point, hash FROM quarantine WHERE cluster = ? AND tbl = ? AND kind = ?", cluster, table, Foreign)
	if err != nil {
		return kept, fmt.Errorf("read quarantine of %s %s: %w", cluster, table, err)
	}
	return kept, nil
}
