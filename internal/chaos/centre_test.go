package chaos

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// syncing is what copies a table: influxsync.Sync, or one with a bug.
type syncing func(context.Context, influxsync.SyncRequest) (influxsync.SyncResult, error)

// bounded gives a call the bounds of the weather, and tells the links what it is
// about. No time passes between two attempts.
func bounded(p *plan, sync syncing, now func() weather) syncing {
	return func(ctx context.Context, request influxsync.SyncRequest) (influxsync.SyncResult, error) {
		w := now()
		request.Limit, request.Span = w.limit, w.span
		request.Pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
		about := slices.IndexFunc(p.tables, func(t *table) bool { return t.Name == request.Table.Name })
		return sync(context.WithValue(ctx, aboutTable{}, about), request)
	}
}

// centre is the leader's process: a store, a registry and a puller.
type centre struct {
	plan     *plan
	dir      string
	clock    clock.Clock
	engine   *embedded.Server
	server   *influxsync.Server // without faults
	registry *registry.Registry
	puller   *pull.Puller
}

// open starts it. What it pulls passes the links.
func (c *centre) open(ctx context.Context, sink *influxsync.Server, sync syncing) (err error) {
	if c.engine, c.server, err = openEngine(ctx, filepath.Join(c.dir, "store")); err != nil {
		return err
	}
	c.registry, err = registry.Open(ctx, filepath.Join(c.dir, "registry.db"), c.clock)
	if err != nil {
		return errors.Join(err, c.engine.Close())
	}
	var tables []schema.Table
	for _, t := range c.plan.tables {
		tables = append(tables, t.Table)
	}
	c.puller = pull.NewWith(c.registry, sink, pull.Options{Tables: tables, Sync: sync})
	return nil
}

func (c *centre) close() error { return errors.Join(c.registry.Close(), c.engine.Close()) }

// prepare makes the cluster known, and gives the conflicting fields another type.
func (c *centre) prepare(ctx context.Context) error {
	if _, err := c.registry.Apply(ctx, []fleet.Object{fleet.NewObject(cluster, fleet.Cluster{URL: "http://127.0.0.1:1"})}, "test"); err != nil {
		return err
	}
	for _, t := range c.plan.tables {
		if t.conflict == "" {
			continue
		}
		row := influxsync.NewPoint(t.Name, map[string]string{schema.Cluster: foreign}, map[string]influxsync.Value{t.conflict: influxsync.Str("text")},
			c.plan.start.Truncate(day))
		if err := c.server.Database(t.DB).Write(ctx, []influxsync.Point{row}); err != nil {
			return err
		}
	}
	return nil
}

// held are the rows of the cluster in a table of the centre.
func (c *centre) held(ctx context.Context, t *table) (map[key]influxsync.Point, error) {
	rows := make(map[key]influxsync.Point)
	err := c.server.Database(t.DB).TimeQuery(ctx, t.Name, schema.Window{}, []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}},
		func(p influxsync.Point) error {
			rows[keyOf(p)] = p
			return nil
		})
	return rows, err
}
