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

// KubeObject is one row of the table object: a pod, node or owner of a cluster
// as it was in [ValidFrom, ValidTo).
type KubeObject struct {
	Cluster, Kind, Namespace, Name, UID string
	Labels                              map[string]string // by the allow-list; nil where the row has none
	Spec                                json.RawMessage   // as the follower wrote it, "labels" included
	Reason                              string
	ValidFrom, ValidTo                  time.Time // a zero ValidTo is open
}

// PutObjects keeps rows of the table object for look-ups. It may be repeated;
// call it before Received moves the mark past them.
func (r *Registry) PutObjects(ctx context.Context, points []influxsync.Point) error {
	if len(points) == 0 {
		return nil
	}
	err := r.write(ctx, ordered, func(tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, `INSERT INTO kube_object
			(cluster, kind, namespace, name, uid, time, valid_from, valid_to, spec, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET valid_from = excluded.valid_from, valid_to = excluded.valid_to,
				spec = excluded.spec, reason = excluded.reason`)
		if err != nil {
			return err
		}
		defer func() { _ = put.Close() }()
		for _, p := range points {
			spec, _ := p.Field("spec")
			reason, _ := p.Field("reason")
			if _, err := put.ExecContext(ctx, p.Tag(schema.Cluster), p.Tag(schema.Kind), p.Tag(schema.Namespace), p.Tag("name"), p.Tag("uid"),
				nanos(p.Time), p.Int("valid_from"), p.Int("valid_to"), spec.Str(), reason.Str()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep objects: %w", err)
	}
	return nil
}

// KubeObjects calls fn with a cluster's objects of a kind ("Pod") that were
// there in the window, or of all kinds for "", the older version of each first.
func (r *Registry) KubeObjects(ctx context.Context, cluster, kind string, w schema.Window, fn func(KubeObject) error) error {
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		o := KubeObject{Cluster: cluster}
		var from, to int64
		var spec string
		if err := scan(&o.Kind, &o.Namespace, &o.Name, &o.UID, &from, &to, &spec, &o.Reason); err != nil {
			return err
		}
		o.ValidFrom = moment(from)
		if to != 0 {
			o.ValidTo = moment(to)
		}
		var body struct {
			Labels map[string]string `json:"labels"`
		}
		if json.Unmarshal([]byte(spec), &body) == nil { // a foreign text that is no JSON has no labels
			o.Spec, o.Labels = json.RawMessage(spec), body.Labels
		}
		return fn(o)
	}, `SELECT kind, namespace, name, uid, valid_from, valid_to, spec, reason FROM kube_object
		WHERE cluster = ?1 AND (?2 = '' OR kind = ?2) AND valid_from < ?4 AND (valid_to = 0 OR valid_to > ?3)
		ORDER BY kind, namespace, name, uid, time`, cluster, kind, nanos(w.From), nanos(w.To))
	if err != nil {
		return fmt.Errorf("objects of %s: %w", cluster, err)
	}
	return nil
}
