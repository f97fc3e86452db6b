// Package push gives a cluster its own results back: energy and showback cost,
// by the leader's journal, into the follower's database results.
//
// It guarantees what a pull guarantees, since it is the same sync, and that
// only rows of that cluster leave the centre: the tables carry sale prices
// alone, and a box only under its random id. Beside them it tells the follower how
// far its own tables were pulled, so that it may delete what is old.
package push

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// entriesAtOnce is how many journal entries one step follows.
const entriesAtOnce = 240

// Tables are what is pushed.
var Tables = []schema.Table{schema.EnergyMinute, schema.CostQuarter}

// Pusher copies results to followers.
type Pusher struct {
	registry *registry.Registry
	centre   *influxsync.Server

	mu           sync.Mutex
	acknowledged map[told]influxsync.Mark // by this process
}

// New makes a pusher out of the centre's databases.
func New(reg *registry.Registry, centre *influxsync.Server) *Pusher {
	return &Pusher{registry: reg, centre: centre, acknowledged: make(map[told]influxsync.Mark)}
}

// Push follows the leader's journals of the cluster to their ends, and tells the
// follower what of its own the centre has. It returns how many rows were written.
func (p *Pusher) Push(ctx context.Context, cluster string, follower *influxsync.Server) (int, error) {
	var failures []error
	total := 0
	for _, table := range Tables {
		rows, err := p.table(ctx, cluster, table, follower)
		total += rows
		failures = append(failures, err)
	}
	return total, errors.Join(append(failures, p.acknowledge(ctx, cluster, follower))...)
}

// mark is the name under which the registry keeps how far a table was pushed.
func mark(table schema.Table) string { return "push/" + table.Name }

func (p *Pusher) table(ctx context.Context, cluster string, table schema.Table, follower *influxsync.Server) (int, error) {
	total := 0
	gone, err := p.gone(ctx, cluster, table)
	if err != nil {
		return 0, err
	}
	for {
		at, err := p.registry.Mark(ctx, cluster, mark(table))
		if err != nil {
			return total, err
		}
		synced, err := influxsync.Sync(ctx, influxsync.SyncRequest{
			Source: p.centre.Database(table.DB), Sink: follower.Database(schema.ResultsDB),
			Table: table, Cluster: cluster, Mark: at, Limit: entriesAtOnce, Shared: true, Gone: gone,
		})
		if err != nil {
			return total, err
		}
		total += synced.Rows
		if synced.Mark == at {
			return total, nil
		}
		if err := p.registry.Received(ctx, cluster, mark(table),
			registry.Receipt{Mark: synced.Mark, Refused: synced.Refused, NewEra: synced.NewEra}, nil); err != nil {
			return total, err
		}
		if !synced.More {
			return total, nil
		}
	}
}

// gone says of which windows the rows have been archived and deleted: a follower that
// was away for so long does not get them any more.
func (p *Pusher) gone(ctx context.Context, cluster string, table schema.Table) (func(schema.Window) bool, error) {
	if table.DB != schema.MinuteDB {
		return nil, nil
	}
	days, err := p.registry.ArchivedGone(ctx)
	if err != nil {
		return nil, err
	}
	const day = 24 * time.Hour
	begin := make(map[time.Time]bool)
	for _, d := range days {
		if d.Cluster == cluster {
			begin[d.Day] = true
		}
	}
	return func(w schema.Window) bool { return begin[w.From.UTC().Truncate(day)] }, nil
}
