package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Mark is how far a table of a cluster has been pulled; zero before the first
// pull.
func (r *Registry) Mark(ctx context.Context, cluster, table string) (influxsync.Mark, error) {
	var mark influxsync.Mark
	var at int64
	err := r.reader.QueryRowContext(ctx, "SELECT store, time, hash, era FROM mark WHERE cluster = ? AND tbl = ?", cluster, table).
		Scan(&mark.Store, &at, &mark.Hash, &mark.Era)
	if errors.Is(err, sql.ErrNoRows) {
		return influxsync.Mark{}, nil
	}
	if err != nil {
		return influxsync.Mark{}, fmt.Errorf("mark of %s %s: %w", cluster, table, err)
	}
	if at != 0 {
		mark.Time = moment(at)
	}
	return mark, nil
}

// Receipt is what a confirmed step of a sync brought.
type Receipt struct {
	Mark    influxsync.Mark
	Windows []influxsync.Confirmed
	Refused []influxsync.Refused // rows that the sink did not take
	NewEra  bool                 // the source is another store, or has lost the end of its journal
}

// Received records a confirmed step of a sync in one transaction: the new mark,
// the windows as the ledger's newest, the rows that were refused, and the work
// that the windows make due. It may be repeated. The ledger has of each window
// the entry that the sink agreed with last: one that is older than the ledger's
// is of a store that went back to a copy. A window that comes again from another
// store or era counts as an overlap.
func (r *Registry) Received(ctx context.Context, cluster, table string, receipt Receipt, due []Due) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		if err := r.advance(ctx, tx, cluster, table, receipt); err != nil {
			return err
		}
		return r.take(ctx, tx, cluster, table, receipt, due)
	})
	if err != nil {
		return fmt.Errorf("received %s %s: %w", cluster, table, err)
	}
	return nil
}

// take records what a step brought, but for its mark.
func (r *Registry) take(ctx context.Context, tx *sql.Tx, cluster, table string, receipt Receipt, due []Due) error {
	if err := r.enter(ctx, tx, cluster, table, receipt.Mark, receipt.Windows); err != nil {
		return err
	}
	if err := r.keepRefused(ctx, tx, cluster, table, receipt); err != nil {
		return err
	}
	return r.addDue(ctx, tx, due)
}

// advance stores the mark, and the era that begins with it.
func (r *Registry) advance(ctx context.Context, tx *sql.Tx, cluster, table string, receipt Receipt) error {
	var former string
	err := tx.QueryRowContext(ctx, "SELECT store FROM mark WHERE cluster = ? AND tbl = ?", cluster, table).Scan(&former)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	mark := receipt.Mark
	if receipt.NewEra || former != "" && mark.Store != "" && former != mark.Store {
		_, err := tx.ExecContext(ctx, `INSERT INTO era (cluster, tbl, began_at, former_store, store) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET store = excluded.store`, cluster, table, nanos(r.clock.Now()), former, mark.Store)
		if err != nil {
			return err
		}
	}
	var at int64
	if !mark.Time.IsZero() {
		at = nanos(mark.Time)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO mark (cluster, tbl, store, time, hash, era) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET store = excluded.store, time = excluded.time, hash = excluded.hash, era = excluded.era`,
		cluster, table, mark.Store, at, mark.Hash, mark.Era)
	return err
}

func (r *Registry) enter(ctx context.Context, tx *sql.Tx, cluster, table string, mark influxsync.Mark, windows []influxsync.Confirmed) error {
	if len(windows) == 0 {
		return nil
	}
	numbers, err := numberNodes(ctx, tx, cluster, windows)
	if err != nil {
		return err
	}
	put, err := tx.PrepareContext(ctx, `INSERT INTO ledger (cluster, tbl, window_from, window_to, quarter, store, revision,
			rows, digest, coverage, reason, entry_time, received_at, nodes, refused, extra, unexplained, era)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET window_to = excluded.window_to, revision = excluded.revision, rows = excluded.rows,
			digest = excluded.digest, coverage = excluded.coverage, reason = excluded.reason, entry_time = excluded.entry_time,
			received_at = CASE WHEN store <> excluded.store OR era <> excluded.era OR entry_time <> excluded.entry_time
				OR revision <> excluded.revision THEN excluded.received_at ELSE received_at END,
			nodes = excluded.nodes, refused = excluded.refused, extra = excluded.extra,
			unexplained = excluded.unexplained, overlaps = overlaps + (store <> excluded.store OR era <> excluded.era),
			store = excluded.store, era = excluded.era`)
	if err != nil {
		return err
	}
	defer func() { _ = put.Close() }()
	now := nanos(r.clock.Now())
	unfolded := make(map[int64]bool)
	for _, w := range windows {
		if w.Cluster != cluster || w.Table != table {
			return fmt.Errorf("journal entry of %s %s", w.Cluster, w.Table)
		}
		if at := dayOf(nanos(w.Window.From)); !unfolded[at] {
			if err := unfold(ctx, tx, cluster, table, at); err != nil {
				return err
			}
			unfolded[at] = true
		}
		unexplained := int64(0)
		if w.Unexplained {
			unexplained = w.Extra
		}
		_, err := put.ExecContext(ctx, cluster, table, nanos(w.Window.From), nanos(w.Window.To), nanos(quarterOf(w.Window.From)),
			mark.Store, w.Revision, w.Rows, int64(w.Digest), w.Coverage, w.Reason, nanos(w.Time), now, numbers.of(w), w.Refused, w.Extra,
			unexplained, mark.Era)
		if err != nil {
			return err
		}
	}
	return nil
}

// Extent is the window from the first to the last that was received of a
// cluster's table; false before anything was.
func (r *Registry) Extent(ctx context.Context, cluster, table string) (schema.Window, bool, error) {
	return extent(ctx, r.reader, cluster, table)
}

// Extents are the extents of one table of several clusters; none of which nothing was
// received.
func (r *Registry) Extents(ctx context.Context, clusters []string, table string) (map[string]schema.Window, error) {
	return extents(ctx, r.reader, "?2, value", clusters, table)
}

func extent(ctx context.Context, q queryer, cluster, table string) (schema.Window, bool, error) {
	found, err := extents(ctx, q, "value, ?2", []string{table}, cluster)
	w, ok := found[table]
	return w, ok, err
}

// extents are those of several tables of a cluster, "value, ?2", or of a table of
// several clusters, "?2, value": values are the former, and what is one of each the latter.
func extents(ctx context.Context, q queryer, by string, values []string, one string) (map[string]schema.Window, error) {
	if len(values) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	found := make(map[string]schema.Window, len(values))
	err = each(ctx, q, func(scan func(...any) error) error {
		var value string
		var from, to, last, packedFrom, packedTo, packedDay sql.NullInt64
		if err := scan(&value, &from, &last, &to, &packedFrom, &packedDay, &packedTo); err != nil {
			return err
		}
		if packedFrom.Valid && (!from.Valid || packedFrom.Int64 < from.Int64) {
			from = packedFrom
		}
		if packedTo.Valid && (!to.Valid || packedDay.Int64 > last.Int64) {
			to = packedTo
		}
		if from.Valid {
			found[value] = schema.Window{From: moment(from.Int64), To: moment(to.Int64)}
		}
		return nil
	}, `SELECT value,
		(SELECT min(window_from) FROM ledger WHERE (tbl, cluster) = (`+by+`)),
		(SELECT max(window_from) FROM ledger WHERE (tbl, cluster) = (`+by+`)),
		(SELECT window_to FROM ledger WHERE (tbl, cluster) = (`+by+`) ORDER BY window_from DESC LIMIT 1),
		(SELECT window_from FROM ledger_day WHERE (tbl, cluster) = (`+by+`) ORDER BY day LIMIT 1),
		(SELECT day FROM ledger_day WHERE (tbl, cluster) = (`+by+`) ORDER BY day DESC LIMIT 1),
		(SELECT window_to FROM ledger_day WHERE (tbl, cluster) = (`+by+`) ORDER BY day DESC LIMIT 1)
		FROM json_each(?1)`, string(list), one)
	if err != nil {
		return nil, fmt.Errorf("extents of %s: %w", one, err)
	}
	return found, nil
}

// ClusterState is what a cluster's link was like from Since on.
type ClusterState struct {
	State   string    `json:"state"` // StateOK, StateUnknown, or the code of the gaps that it explains
	Since   time.Time `json:"since"`
	Message string    `json:"message,omitempty"`
}

// SetClusterState records a change of a cluster's link. The same state again
// only renews its message and keeps its since.
func (r *Registry) SetClusterState(ctx context.Context, cluster, state string, since time.Time, message string) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		var former string
		var at int64
		err := tx.QueryRowContext(ctx, "SELECT state, since FROM cluster_state WHERE cluster = ? AND since <= ? ORDER BY since DESC LIMIT 1",
			cluster, nanos(since)).Scan(&former, &at)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err == nil && former == state {
			since = moment(at)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO cluster_state (cluster, since, state, message) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET state = excluded.state, message = excluded.message`, cluster, nanos(since), state, message)
		return err
	})
	if err != nil {
		return fmt.Errorf("state of %s: %w", cluster, err)
	}
	return nil
}

// ClusterStates are the states of a cluster's link, oldest first.
func (r *Registry) ClusterStates(ctx context.Context, cluster string) ([]ClusterState, error) {
	return clusterStates(ctx, r.reader, cluster)
}

func clusterStates(ctx context.Context, q queryer, cluster string) ([]ClusterState, error) {
	var states []ClusterState
	err := each(ctx, q, func(scan func(...any) error) error {
		var s ClusterState
		var since int64
		err := scan(&s.State, &since, &s.Message)
		s.Since = moment(since)
		states = append(states, s)
		return err
	}, "SELECT state, since, message FROM cluster_state WHERE cluster = ? ORDER BY since", cluster)
	if err != nil {
		return nil, fmt.Errorf("states of %s: %w", cluster, err)
	}
	return states, nil
}

// Forget removes marks, ledger, states, refused rows, objects and due work of a
// cluster, so that it can be pulled from its beginning, and the fingerprints of
// what was computed from its rows. The fleet's objects, the audit and what was
// archived stay; no day's rows are read from the archive any more.
func (r *Registry) Forget(ctx context.Context, cluster string) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		for _, table := range []string{"mark", "ledger", "ledger_day", "era", "node_number", "cluster_state",
			"quarantine", "quarantine_count", "kube_object"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE cluster = ?", cluster); err != nil {
				return err
			}
		}
		if err := forgetDays(ctx, tx, cluster); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE archive_day SET gone = 0, deleted_at = 0, checked_at = 0 WHERE cluster = ?", cluster); err != nil {
			return err
		}
		for _, table := range []string{"due", "fingerprint"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE processor IN (?, ?) AND scope = ?",
				ProcessorUsage, ProcessorCost, cluster); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM fingerprint WHERE processor IN (?, ?, ?) AND scope IN (SELECT box FROM box_id WHERE cluster = ?)",
			ProcessorPower, ProcessorHeat, ProcessorCarbon, cluster)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget %s: %w", cluster, err)
	}
	return nil
}

// Known are the clusters of which anything was received, by name.
func (r *Registry) Known(ctx context.Context) ([]string, error) {
	all, err := names(ctx, r.reader, "SELECT DISTINCT cluster FROM mark ORDER BY cluster")
	if err != nil {
		return nil, fmt.Errorf("known clusters: %w", err)
	}
	return all, nil
}
