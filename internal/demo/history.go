package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"golang.org/x/sync/errgroup"
)

// fill meters the day before the start: what the boxes' electricity meters
// showed, and what the simulated kubelets would have said, one cluster after
// the other so that the live loops keep their pace.
func (d *Demo) fill(ctx context.Context) error {
	if err := d.fillMeters(ctx); err != nil {
		return err
	}
	if err := d.fillTank(ctx); err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(1)
	for _, a := range d.agents {
		if a.cluster == hostCluster {
			continue
		}
		group.Go(func() error {
			err := d.fillCluster(ctx, a)
			if ctx.Err() != nil {
				return nil // the next start goes on here
			}
			if err != nil {
				d.log.Error("history failed", "cluster", a.cluster, "err", err)
			}
			d.config.Progress(Event{Kind: "history", Cluster: a.cluster, Done: 1, Err: err})
			return nil
		})
	}
	return group.Wait()
}

// lookBack fills the day before the start and closes the month before, which takes less
// and comes first.
func (d *Demo) lookBack(ctx context.Context) error {
	var group errgroup.Group
	pulled := make(chan struct{})
	group.Go(func() error { <-pulled; return d.fill(ctx) })
	group.Go(func() error {
		err := d.closeMonth(ctx, sync.OnceFunc(func() { close(pulled) }))
		if err == nil || ctx.Err() != nil {
			return nil // the next start goes on here
		}
		d.log.Error("the month before is not closed", "err", err)
		d.config.Progress(Event{Kind: "books", Done: 1, Err: err})
		return nil
	})
	return group.Wait()
}

func (d *Demo) fillCluster(ctx context.Context, a *agent) error {
	for !a.follower.Status().Open {
		if err := d.clock.Sleep(ctx, d.config.Interval/10); err != nil {
			return err
		}
	}
	from := d.state.Live.Add(-historyLength)
	a.follower.Log().PutEnded(d.simulated.PodInfos(a.cluster, from, d.state.Live))
	source := func(t time.Time) ([]reading.Body, error) { return d.simulated.Readings(a.cluster, t), nil }
	told := 0
	return a.follower.Fill(ctx, from, d.state.Live, source, func(done, total time.Duration) {
		if tenth := int(10 * done / total); tenth > told && tenth < 10 {
			told = tenth
			d.config.Progress(Event{Kind: "history", Cluster: a.cluster, Done: float64(tenth) / 10})
		}
	})
}

// fillMeters writes what the electricity meters showed each minute before the
// start; it is repeated at each start and writes the same rows.
func (d *Demo) fillMeters(ctx context.Context) error {
	store := meters.NewStore(d.leader.Store())
	for _, box := range d.simulated.Fleet().Boxes {
		for _, meter := range box.Meters {
			readings := meterHistory(d.simulated.Simulator, box, meter, d.state.Live)
			if err := store.Write(ctx, readings); err != nil {
				return fmt.Errorf("history of meter %s: %w", meter.Name, err)
			}
		}
	}
	return nil
}

// meterHistory is what a meter showed while it answered.
func meterHistory(simulated *simulator.Simulator, box simulator.Box, meter simulator.Meter, live time.Time) []meters.Reading {
	from := live.Add(-historyLength)
	var readings []meters.Reading
	for at := from; at.Before(live); at = at.Add(schema.Minute) {
		if meter.DeadAt(at) {
			continue
		}
		readings = append(readings, meters.Reading{Box: meterSpec(box, meter, "").Place(), Meter: meter.Name, Time: at, Received: at, Epoch: from,
			CounterMillijoules: simulated.MeterMillijoules(box.Name, meter.Name, at), HasCounter: true,
			StepMillijoules: simulated.MeterStep(box.Name, meter.Name, at)})
	}
	return readings
}
