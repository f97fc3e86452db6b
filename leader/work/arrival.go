package work

import (
	"context"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
)

// arrived narrows an input to the minutes that are here while more of the quarter
// may be on its way: a backlog comes window by window, and what a meter counted
// while pods ran whose rows are not here yet must not look like overhead. When
// nothing more has come for Deadline, it is computed as it stands.
func (w *Worker) arrived(ctx context.Context, in processors.PowerInput, clusters []string, quarter schema.Window) (processors.PowerInput, bool, error) {
	end := quarter.To
	if in.Settled.Before(end) {
		end = in.Settled
	}
	here := minutesOf(in.Nodes, quarter)
	if here.From.IsZero() || !here.From.After(in.Window.From) && !here.To.Before(end) {
		return in, false, nil
	}
	newest, err := w.newestReceipt(ctx, clusters, quarter)
	if err != nil || !w.clock.Now().Before(newest.Add(w.config.Deadline)) {
		return in, false, err
	}
	if here.From.After(in.Window.From) {
		in.Window.From = here.From
	}
	if here.To.Before(in.Settled) {
		in.Settled = here.To
	}
	return in, true, nil
}

// minutesOf is from the first to the last minute of the quarter that any node has
// a row of; zero without one.
func minutesOf(nodes []processors.Node, quarter schema.Window) schema.Window {
	var here schema.Window
	for _, node := range nodes {
		for _, minute := range node.Minutes {
			if !quarter.Contains(minute.Time) {
				continue
			}
			if here.From.IsZero() || minute.Time.Before(here.From) {
				here.From = minute.Time
			}
			if to := minute.Time.Add(schema.Minute); to.After(here.To) {
				here.To = to
			}
		}
	}
	return here
}

// newestReceipt is when the newest of the quarter's windows arrived.
func (w *Worker) newestReceipt(ctx context.Context, clusters []string, quarter schema.Window) (time.Time, error) {
	var newest time.Time
	for _, cluster := range clusters {
		for _, table := range metered {
			entries, err := w.registry.Ledger(ctx, cluster, table.Name, quarter)
			if err != nil {
				return newest, err
			}
			for _, entry := range entries {
				if entry.Received.After(newest) {
					newest = entry.Received
				}
			}
		}
	}
	return newest, nil
}

// metered are the tables that energy is shared out by. They arrive side by side.
var metered = []schema.Table{schema.NodeMinute, schema.PodMinute}

// begin is where the metering of a quarter begins: before the first minute that
// any of the clusters has delivered, nothing is attributed or estimated. Without
// one it is the quarter's end.
func (w *Worker) begin(ctx context.Context, clusters []string, quarter schema.Window) (time.Time, error) {
	first := quarter.To
	for _, cluster := range clusters {
		for _, table := range metered {
			received, any, err := w.registry.Extent(ctx, cluster, table.Name)
			if err != nil {
				return first, err
			}
			if any && received.From.Before(first) {
				first = received.From
			}
		}
	}
	if first.Before(quarter.From) {
		first = quarter.From
	}
	return first, nil
}

// settled is the moment up to which all of the clusters have delivered, or were
// given up.
func (w *Worker) settled(ctx context.Context, clusters []string) (time.Time, error) {
	now := w.clock.Now()
	var settled time.Time
	givenUp := now.Add(-w.config.Deadline).Truncate(schema.Minute)
	for _, cluster := range clusters {
		for _, table := range metered {
			received, _, err := w.registry.Extent(ctx, cluster, table.Name)
			if err != nil {
				return settled, err
			}
			newest := received.To
			if newest.Before(givenUp) {
				newest = givenUp
			}
			if settled.IsZero() || newest.Before(settled) {
				settled = newest
			}
		}
	}
	return settled, nil
}
