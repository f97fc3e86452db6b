package registry

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
)

// BoxID is the name of a box in one cluster: random, made once and then kept.
// A box that two clusters share has another name in each.
func (r *Registry) BoxID(ctx context.Context, cluster, box string) (string, error) {
	const query = "SELECT id FROM box_id WHERE cluster = ? AND box = ?"
	var id string
	err := r.reader.QueryRowContext(ctx, query, cluster, box).Scan(&id)
	if err == nil {
		return id, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("id of box %s in %s: %w", box, cluster, err)
	}
	err = r.write(ctx, synced, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO box_id (cluster, box, id) VALUES (?, ?, ?) ON CONFLICT (cluster, box) DO NOTHING",
			cluster, box, "box-"+rand.Text()); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, query, cluster, box).Scan(&id)
	})
	if err != nil {
		return "", fmt.Errorf("id of box %s in %s: %w", box, cluster, err)
	}
	return id, nil
}

// ClustersOfBox are the clusters in which a box has an id: those that have a node
// in it, and those that had one, whose rows name it still.
func (r *Registry) ClustersOfBox(ctx context.Context, box string) ([]string, error) {
	clusters, err := names(ctx, r.reader, "SELECT cluster FROM box_id WHERE box = ? ORDER BY cluster", box)
	if err != nil {
		return nil, fmt.Errorf("clusters of box %s: %w", box, err)
	}
	return clusters, nil
}

// BoxOf is the box behind an id of a cluster; false for one that is not known.
func (r *Registry) BoxOf(ctx context.Context, cluster, id string) (string, bool, error) {
	var box string
	err := r.reader.QueryRowContext(ctx, "SELECT box FROM box_id WHERE cluster = ? AND id = ?", cluster, id).Scan(&box)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("box %s of %s: %w", id, cluster, err)
	}
	return box, true, nil
}
