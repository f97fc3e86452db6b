package registry

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Sealed are a cluster's credentials as they are stored: only who has the key
// can read them.
type Sealed struct {
	Cluster  string
	KeyID    string // of the key that sealed them
	Sealed   []byte
	Revision int64 // rises with each change
	Changed  time.Time
}

// Credential are a cluster's sealed credentials; ErrNotFound.
func (r *Registry) Credential(ctx context.Context, cluster string) (Sealed, error) {
	var s Sealed
	var changed int64
	err := r.reader.QueryRowContext(ctx, `SELECT cluster, key_id, sealed, revision, changed_ns FROM credential WHERE cluster = ?`, cluster).
		Scan(&s.Cluster, &s.KeyID, &s.Sealed, &s.Revision, &changed)
	if errors.Is(err, sql.ErrNoRows) {
		return Sealed{}, fmt.Errorf("credentials of %s: %w", cluster, ErrNotFound)
	}
	if err != nil {
		return Sealed{}, fmt.Errorf("read credentials of %s: %w", cluster, err)
	}
	s.Changed = moment(changed)
	return s, nil
}

// Credentials are all sealed credentials, by cluster.
func (r *Registry) Credentials(ctx context.Context) ([]Sealed, error) {
	var all []Sealed
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var s Sealed
		var changed int64
		if err := scan(&s.Cluster, &s.KeyID, &s.Sealed, &s.Revision, &changed); err != nil {
			return err
		}
		s.Changed = moment(changed)
		all = append(all, s)
		return nil
	}, `SELECT cluster, key_id, sealed, revision, changed_ns FROM credential ORDER BY cluster`)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	return all, nil
}

// PutCredential stores a cluster's sealed credentials in place of those of the
// revision that they were made from, 0 where there were none, and returns the
// new revision. ErrChanged when others stand there meanwhile.
func (r *Registry) PutCredential(ctx context.Context, s Sealed) (int64, error) {
	next := max(nanos(r.clock.Now()), s.Revision+1) // above those of credentials that were removed, too
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		var present int64
		err := tx.QueryRowContext(ctx, `SELECT revision FROM credential WHERE cluster = ?`, s.Cluster).Scan(&present)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if present != s.Revision {
			return ErrChanged
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO credential (cluster, key_id, sealed, revision, changed_ns) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, revision = excluded.revision, changed_ns = excluded.changed_ns`,
			s.Cluster, s.KeyID, s.Sealed, next, nanos(r.clock.Now()))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("store credentials of %s: %w", s.Cluster, err)
	}
	return next, nil
}

// ErrChanged is a change that was made of something that is not there any more.
var ErrChanged = errors.New("it was changed by somebody else meanwhile")

// RemoveCredential deletes a cluster's credentials, if there are any.
func (r *Registry) RemoveCredential(ctx context.Context, cluster string) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM credential WHERE cluster = ?`, cluster)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove credentials of %s: %w", cluster, err)
	}
	return nil
}

// LeaderID names this leader among others: random, made when it is first asked
// for, and kept with the registry.
func (r *Registry) LeaderID(ctx context.Context) (string, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("name the leader: %w", err)
	}
	var id string
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO identity (id, leader) VALUES (1, ?)
			ON CONFLICT DO UPDATE SET leader = leader RETURNING leader`, hex.EncodeToString(random[:])).Scan(&id)
	})
	if err != nil {
		return "", fmt.Errorf("name the leader: %w", err)
	}
	return id, nil
}
