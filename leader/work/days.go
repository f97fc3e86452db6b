package work

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/daypack"
	"github.com/accumulus-metering/accumulus/leader/output"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// workDay is the days' name in the metrics. They are no entries of the queue: what
// is to be summed is in the registry's table of days.
const workDay = "day"

// daysAtOnce bounds how many days are looked at before the rest is asked for.
const daysAtOnce = 100

// days sums UTC days that have settled, for as long as the budget lasts and at least
// one; the next pass goes on where this one ended, so that days which cannot settle
// hold up no others.
func (w *Worker) days(ctx context.Context, budget time.Duration) (failures []error) {
	began, looked := w.clock.Now(), false
	for {
		list, err := w.registry.OpenDays(ctx, began, w.lastDay, daysAtOnce)
		if err != nil {
			return append(failures, err)
		}
		for _, open := range list {
			if ctx.Err() != nil || budget > 0 && looked && w.clock.Now().Sub(began) > budget {
				return failures
			}
			w.lastDay, looked = open, true
			done, err := w.day(ctx, open)
			switch {
			case err != nil:
				w.failed.WithLabelValues(workDay).Inc()
				failures = append(failures, fmt.Errorf("sum %s of %s: %w", open.Day.Format(time.DateOnly), open.Cluster, err))
			case done:
				w.done.WithLabelValues(workDay).Inc()
			}
		}
		if len(list) < daysAtOnce {
			w.lastDay = registry.OpenDay{} // from the beginning the next time
			return failures
		}
	}
}

// dayTable is a table of days: what it sums, and where its rows go.
type dayTable struct {
	quarter, day schema.Table
	to           *output.Table
}

// day sums a cluster's day from its quarters, if it has settled. The rows are
// durable and journalled before the registry believes in their sums.
func (w *Worker) day(ctx context.Context, open registry.OpenDay) (done bool, err error) {
	settled, err := w.registry.DaySettled(ctx, open)
	if err != nil || !settled {
		return false, err
	}
	window := schema.WindowAt(open.Day, schema.Day)
	packed := make([][]byte, 0, 3)
	for _, table := range []dayTable{{schema.UsageQuarter, schema.UsageDay, w.usageDay}, {schema.NodeQuarter, schema.NodeDay, w.nodeDay},
		{schema.VolumeQuarter, schema.VolumeDay, w.volumeDay}} {
		rows, err := w.sumDay(ctx, table, open.Cluster, window)
		if err != nil {
			return false, err
		}
		all := func(influxsync.Point) bool { return true }
		if _, err := table.to.Replace(ctx, open.Cluster, window, all, rows, "day"); err != nil {
			return false, err
		}
		packed = append(packed, daypack.Pack(table.day.Tags[1:], table.day.Integers(), rows)) // the cluster is known
	}
	return true, w.registry.FillDay(ctx, open, registry.DaySums{Usage: packed[0], Nodes: packed[1], Volumes: packed[2]})
}

// sumDay adds a cluster's quarters of a day, by the tags of the table of days.
func (w *Worker) sumDay(ctx context.Context, table dayTable, cluster string, window schema.Window) ([]influxsync.Point, error) {
	rows, err := w.sumFrom(ctx, w.stores.Quarter, table.quarter, cluster, window, table.day.Tags)
	if err != nil {
		return nil, err
	}
	qualities := make(map[string]string)
	hasQuality := slices.ContainsFunc(table.day.Fields, func(f schema.Field) bool { return f.Name == schema.Quality })
	if hasQuality {
		if qualities, err = w.qualitiesBy(ctx, w.stores.Quarter, table.quarter, cluster, window, table.day.Tags); err != nil {
			return nil, err
		}
	}
	for i, row := range rows {
		var more map[string]influxsync.Value
		if hasQuality {
			more = qualityOf(qualities[part(row)])
		}
		rows[i] = withFields(row, table.day, more)
	}
	return rows, nil
}
