package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// prune deletes the minute rows of a cluster's days that are old enough.
func (k *Keeper) prune(ctx context.Context, cluster string) error {
	if k.config.Keep < 0 {
		return nil
	}
	old := k.clock.Now().Add(-k.config.Keep - dayLength) // begin of a day that ended Keep ago
	days, err := k.source.Registry.Archived(ctx, cluster, schema.Window{From: time.Unix(0, 0), To: old.Add(1)})
	if err != nil {
		return err
	}
	oldestFirst(days)
	var failures []error
	for _, d := range days {
		if ctx.Err() != nil {
			break
		}
		if !d.Deleted.IsZero() {
			continue
		}
		// Before the cluster is held: a bucket that does not answer holds back nobody.
		if there, err := k.inBucket(ctx, d); err != nil || !there {
			failures = append(failures, err)
			continue
		}
		err := k.alone(ctx, cluster, func(ctx context.Context) error { return k.delete(ctx, d) })
		if errors.Is(err, ErrNotArchived) { // it goes when its next revision is here, which nothing else may ask for
			_, err = k.Archive(ctx, cluster, d.Day)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// ErrNotArchived is a day whose minute rows stay, since what there is of it is not, as
// it is, in the archive.
var ErrNotArchived = errors.New("the day is not archived as it is")

// delete deletes the minute rows of a day; ErrNotArchived where they wait for its next
// revision. Before the first one, it is known durably
// that they are to be read from the archive, so that a crash loses none.
func (k *Keeper) delete(ctx context.Context, d registry.ArchivedDay) error {
	k.deleting.Lock()
	defer k.deleting.Unlock()
	if err := k.deletable(ctx, d); err != nil {
		return err
	}
	if err := k.source.Registry.SetGone(ctx, d.Cluster, d.Day, true); err != nil {
		return err
	}
	began := k.clock.Now()
	w := schema.Window{From: d.Day, To: d.Day.Add(dayLength)}
	for _, table := range minuteTables(d.Cluster) {
		where := []influxsync.Condition{{Tag: schema.Cluster, Value: d.Cluster}}
		if err := k.source.Store.Database(table.DB).Delete(ctx, table.Name, where, w); err != nil {
			return fmt.Errorf("minute rows of %s on %s: %w", d.Cluster, d.Day.Format(time.DateOnly), err)
		}
	}
	if err := k.source.Registry.SetDeleted(ctx, d.Cluster, d.Day, k.clock.Now()); err != nil {
		return err
	}
	k.metrics.deleted.Inc()
	k.log.Info("minute rows deleted, for they are archived", "cluster", d.Cluster, "day", d.Day.Format(time.DateOnly),
		"took", k.clock.Now().Sub(began))
	return nil
}

// deletable says why the minute rows of a day must stay: ErrNotArchived where there is
// anything that the archived revision does not have, or where its files are not those
// that the leader's key has signed.
func (k *Keeper) deletable(ctx context.Context, d registry.ArchivedDay) error {
	c, err := k.source.look(ctx, d.Cluster, d.Day)
	if err != nil {
		return err
	}
	if now, found, err := k.known(ctx, d.Cluster, d.Day); err != nil {
		return err
	} else if !found || now.Manifest != d.Manifest { // it was archived again since it was found in the bucket
		return ErrNotArchived
	}
	if !c.settled || c.state != d.State {
		return ErrNotArchived
	}
	one, err := OpenRevision(k.config.Dir, d.Cluster, d.Day, d.Revision, k.Key())
	if err != nil {
		return fmt.Errorf("minute rows stay: %w", err)
	}
	if one.Hash != d.Manifest {
		return fmt.Errorf("minute rows stay: %s of %s on %s is not the one that was recorded: %w", manifestName(d.Revision), d.Cluster, one.Manifest.Day, ErrDamaged)
	}
	if err := one.Files(ctx); err != nil {
		return fmt.Errorf("minute rows stay: %w", err)
	}
	return nil
}

// restoreBatch is how many rows are written at once.
const restoreBatch = 5_000

// Restore brings the minute rows of a day back into the store, if they are in the
// archive alone, before something is computed of them. A window of which a newer
// revision has come meanwhile is not touched.
func (k *Keeper) Restore(ctx context.Context, cluster string, day time.Time) error {
	if k.clock.Now().Add(-registry.FoldAfter).Before(day.Add(dayLength)) {
		return nil // none so new is archived
	}
	k.deleting.Lock()
	d, found, err := k.known(ctx, cluster, day)
	k.deleting.Unlock()
	if err != nil || !found || !d.Gone {
		return err
	}
	err = k.alone(ctx, cluster, func(ctx context.Context) error {
		if d, found, err = k.known(ctx, cluster, day); err != nil || !found || !d.Gone { // another was first
			return err
		}
		return k.restore(ctx, d)
	})
	if err != nil {
		return fmt.Errorf("bring back minute rows of %s on %s: %w", cluster, day.Format(time.DateOnly), err)
	}
	return nil
}

func (k *Keeper) restore(ctx context.Context, d registry.ArchivedDay) error {
	one, err := OpenRevision(k.config.Dir, d.Cluster, d.Day, d.Revision, k.Key())
	if err != nil {
		return err
	}
	if err := one.Files(ctx); err != nil {
		return err
	}
	if err := k.source.Registry.SetDeleted(ctx, d.Cluster, d.Day, time.Time{}); err != nil {
		return err
	}
	for _, table := range minuteTables(d.Cluster) {
		newer, err := k.newer(ctx, one, table)
		if err == nil {
			err = k.bringBack(ctx, one, table, newer)
		}
		if err != nil {
			return err
		}
	}
	k.metrics.restored.Inc()
	k.log.Info("minute rows brought back from the archive", "cluster", d.Cluster, "day", one.Manifest.Day)
	return k.source.Registry.SetGone(ctx, d.Cluster, d.Day, false)
}

// newer are the windows of a table of which the store has another revision than the
// archive.
func (k *Keeper) newer(ctx context.Context, one *Day, table schema.Table) (map[int64]bool, error) {
	newer := make(map[int64]bool)
	archived, err := one.windows(table.Name)
	if err != nil {
		return nil, err
	}
	day, err := one.Manifest.Begins()
	if err != nil {
		return nil, err
	}
	c := &content{source: k.source, cluster: one.Manifest.Cluster, day: schema.Window{From: day, To: day.Add(dayLength)}}
	now, err := c.journal(ctx, table)
	for from, held := range now {
		before := archived[from]
		if before == nil || before.revision != held.revision || before.store != held.store ||
			before.journal != (tally{held.rows, influxsync.Digest(held.digest)}) {
			newer[from] = true
		}
	}
	return newer, err
}

func (k *Keeper) bringBack(ctx context.Context, one *Day, table schema.Table, newer map[int64]bool) error {
	db := k.source.Store.Database(table.DB)
	batch := make([]influxsync.Point, 0, restoreBatch)
	flush := func() error {
		err := db.Write(ctx, batch)
		batch = batch[:0]
		return err
	}
	err := one.Rows(table.Name, func(p influxsync.Point) error {
		if newer[p.Time.Truncate(schema.Minute).UnixNano()] {
			return nil
		}
		if batch = append(batch, p); len(batch) < restoreBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
