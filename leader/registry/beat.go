package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// BeatEvery is how often a leader that runs says so.
const BeatEvery = time.Minute

// silentAfter is the time without a beat from which the leader did not run.
const silentAfter = 3 * BeatEvery

// Beat notes that the leader runs: every BeatEvery, and when it stops.
func (r *Registry) Beat(ctx context.Context, now time.Time) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error { return beat(ctx, tx, now) })
	if err != nil {
		return fmt.Errorf("note that the leader runs: %w", err)
	}
	return nil
}

func beat(ctx context.Context, tx *sql.Tx, now time.Time) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO heartbeat (id, at) VALUES (1, ?) ON CONFLICT DO UPDATE SET at = excluded.at", nanos(now))
	return err
}

// Woke is the first beat after a start, before the first contact. After a
// silence the links' states since the last beat are unknown, so that no follower
// is blamed for the leader's absence.
func (r *Registry) Woke(ctx context.Context, now time.Time) error {
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		var last int64
		err := tx.QueryRowContext(ctx, "SELECT at FROM heartbeat").Scan(&last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err == nil && nanos(now)-last > int64(silentAfter) {
			_, err := tx.ExecContext(ctx, `INSERT INTO cluster_state (cluster, since, state, message)
				SELECT cluster, ?1, ?2, 'the leader did not run' FROM cluster_state GROUP BY cluster HAVING max(since) <= ?1
				ON CONFLICT DO UPDATE SET state = excluded.state, message = excluded.message`, last, StateUnknown)
			if err != nil {
				return err
			}
		}
		return beat(ctx, tx, now)
	})
	if err != nil {
		return fmt.Errorf("note that the leader runs: %w", err)
	}
	return nil
}

// Era is when a cluster's table began to come from another store, or from one
// that had lost the end of its journal: then both are the same.
type Era struct {
	Table  string    `json:"table"`
	Began  time.Time `json:"began"` // when the leader saw it
	Former string    `json:"former"`
	Store  string    `json:"store"`
}

// Eras are a cluster's, oldest first, those of what is pushed to it as well
// (their tables begin with "push/").
func (r *Registry) Eras(ctx context.Context, cluster string) ([]Era, error) {
	var eras []Era
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var e Era
		var began int64
		err := scan(&e.Table, &began, &e.Former, &e.Store)
		e.Began = moment(began)
		eras = append(eras, e)
		return err
	}, "SELECT tbl, began_at, former_store, store FROM era WHERE cluster = ? ORDER BY began_at, tbl", cluster)
	if err != nil {
		return nil, fmt.Errorf("eras of %s: %w", cluster, err)
	}
	return eras, nil
}

// SetFilling notes what a cluster's follower has yet to fill of its history, an
// empty window for nothing: what lacks there comes by itself. It is how things
// are, said again at each contact, and not on record.
func (r *Registry) SetFilling(cluster string, rest schema.Window) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !rest.From.Before(rest.To) {
		delete(r.filling, cluster)
		return
	}
	if r.filling == nil {
		r.filling = make(map[string]schema.Window)
	}
	r.filling[cluster] = rest
}

func (r *Registry) fillingOf(cluster string) schema.Window {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.filling[cluster]
}
