package chaos

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
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

// turn is a pull in some weather.
type turn struct {
	weather
	calls atomic.Int64 // of Sync

	mu    sync.Mutex
	marks map[int][]influxsync.Mark // by table: of each call, in their order
}

func newTurn(w weather) *turn { return &turn{weather: w, marks: make(map[int][]influxsync.Mark)} }

// begins notes a call of Sync for a table, with the mark that it begins at.
func (t *turn) begins(table int, mark influxsync.Mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks[table] = append(t.marks[table], mark)
}

// mostCalls are more than a pull can need.
const mostCalls = 1500

// errEndless is a pull that does not come to its end.
var errEndless = errors.New("a pull without end")

// bounded gives a call the bounds of the turn, and tells the links what it is
// about. No time passes between two attempts.
func bounded(p *plan, copies syncing, now func() *turn) syncing {
	return func(ctx context.Context, request influxsync.SyncRequest) (influxsync.SyncResult, error) {
		w := now()
		if w.calls.Add(1) > mostCalls {
			return influxsync.SyncResult{Mark: request.Mark}, errEndless
		}
		request.Limit, request.Span, request.Parallel = w.limit, w.span, p.parallel
		request.CountIf = nil // the table that is called node has other fields
		request.Pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
		about := slices.IndexFunc(p.tables, func(t *table) bool { return t.Name == request.Table.Name })
		w.begins(about, request.Mark)
		return copies(context.WithValue(ctx, aboutTable{}, about), request)
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
func (c *centre) open(ctx context.Context, sink *influxsync.Server, copies syncing) (err error) {
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
	c.puller = pull.NewWith(c.registry, sink, pull.Options{Tables: tables, Sync: copies})
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
