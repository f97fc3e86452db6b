package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// lastPull bounds the pull of a cluster that is being removed.
const lastPull = time.Minute

// byOperator is who changes come from that nobody is named for.
const byOperator = "operator"

// changedBy is who a change comes from.
func changedBy(ctx context.Context) string {
	return cmp.Or(identity.Of(ctx).Name, byOperator)
}

// AddCluster adds a cluster that is not there yet. Errors: api.ErrConflict,
// fleet.Problems, and api.ErrInvalid for a file that it names and that cannot be
// used: without it the follower can't be reached.
func (l *Leader) AddCluster(ctx context.Context, name string, spec fleet.Cluster) error {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return err
	}
	if _, exists := snapshot.Cluster(name); exists {
		return taken(name)
	}
	objects := []fleet.Object{fleet.NewObject(name, spec)}
	if _, err := l.registry.Plan(ctx, objects); err != nil {
		return err
	}
	if err := l.pool.Check(spec); err != nil {
		return &api.Hinted{Err: fmt.Errorf("add cluster %s: nothing was changed: %w: %w", name, api.ErrInvalid, err),
			Hint: "The files are on the leader's machine. Where one is to come later, `accumulus apply` takes the cluster all the same."}
	}
	_, err = l.registry.Apply(ctx, objects, changedBy(ctx))
	return err
}

// taken is the error of a cluster that is to be added and is there.
func taken(name string) error {
	return &api.Hinted{Err: fmt.Errorf("cluster %s is there already: %w", name, api.ErrConflict),
		Hint:    "Choose another name; to change the cluster, apply its object with POST /api/v1/fleet.",
		Command: fmt.Sprintf("Choose another name; to change the cluster: `accumulus get cluster %s -o yaml`, then `accumulus apply`.", name)}
}

// RemoveCluster pulls to the last settled window and ends the cluster. Where the
// leader reaches it through its API server, the follower is uninstalled first,
// and a pull or a removal that fails ends nothing, unless force says so. Its
// history is kept; so are the marks, so that a cluster that comes back goes on
// where it was.
func (l *Leader) RemoveCluster(ctx context.Context, name string, force bool) error {
	cluster, err := l.clusterNow(ctx, name)
	if err != nil {
		return err
	}
	if cluster.Via == fleet.ViaServiceProxy {
		err := l.uninstall(ctx, name, force)
		if !errors.Is(err, registry.ErrNotFound) { // else the installer never heard of it
			return err
		}
	}
	timed, cancel := context.WithTimeout(ctx, lastPull)
	defer cancel()
	if err := l.pullLast(timed, name); err != nil {
		l.log.Warn("cluster removed without a last pull", "cluster", name, "err", err)
	}
	return l.endCluster(ctx, name)
}

// Clear deletes the centre's copy of what was metered of a cluster, or of all
// where cluster is "", with marks and ledger. Followers keep theirs: what they
// still hold is pulled again from the beginning. The readings of electricity
// meters stay: nobody else has them.
func (l *Leader) Clear(ctx context.Context, cluster string) error {
	resume := l.running()
	if err := l.StopLoops(ctx); err != nil {
		return err
	}
	err := l.clear(ctx, cluster)
	if resume {
		err = errors.Join(err, l.StartLoops(ctx))
	}
	return err
}

func (l *Leader) clear(ctx context.Context, cluster string) error {
	known, err := l.registry.Known(ctx)
	if err != nil {
		return err
	}
	var where []influxsync.Condition
	if cluster != "" {
		found := false
		for _, name := range known {
			found = found || name == cluster
		}
		if !found {
			return fmt.Errorf("nothing was metered of cluster %q: %w", cluster, api.ErrNotFound)
		}
		known = []string{cluster}
		where = []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}
	}
	for _, name := range []string{schema.MinuteDB, schema.FactsDB, schema.QuarterDB} {
		db := l.store.Database(name)
		tables, err := db.GetTables(ctx)
		if err != nil {
			return err
		}
		for _, table := range tables {
			if table == influxsync.StoreTable {
				continue // the store stays the same store
			}
			if err := db.Clear(ctx, table, where); err != nil {
				return err
			}
		}
	}
	for _, name := range known {
		if err := l.registry.Forget(ctx, name); err != nil {
			return err
		}
	}
	l.worker.Forget()
	return nil
}
