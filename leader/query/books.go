package query

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// settledMinute is the end of the newest minute that has arrived of a cluster,
// the zero time before the first.
func (e *Engine) settledMinute(ctx context.Context, cluster string) (time.Time, error) {
	ends, err := e.settledMinutes(ctx, []string{cluster})
	return ends[cluster], err
}

// settledMinutes are those of several clusters; zero of which nothing has settled.
func (e *Engine) settledMinutes(ctx context.Context, clusters []string) (map[string]time.Time, error) {
	extents, err := e.registry.Extents(ctx, clusters, schema.PodMinute.Name)
	if err != nil {
		return nil, fmt.Errorf("look up the last settled minutes: %w", err)
	}
	ends := make(map[string]time.Time, len(extents))
	for cluster, extent := range extents {
		ends[cluster] = extent.To
	}
	return ends, nil
}

// openQuarters are the quarters of the window of which some work is due: their
// energy, usage or cost may still change, and the quarter tables are not read.
// Work of a cluster's boxes is its own; schema.BoxCluster stands for all boxes,
// whose energy the clusters' sums hold.
func (e *Engine) openQuarters(ctx context.Context, cluster string, w schema.Window) ([]schema.Window, error) {
	work, err := e.workIn(ctx, w)
	if err != nil {
		return nil, err
	}
	return work.open(cluster), nil
}

// dueWork is what is due in a window.
type dueWork struct {
	due   []registry.Due
	boxes map[string]map[string]bool // in which a node of a cluster stood during the window, by cluster
}

// workIn reads what is due in a window: once for all clusters.
func (e *Engine) workIn(ctx context.Context, w schema.Window) (dueWork, error) {
	nodes, err := e.registry.History(ctx, fleet.KindNode, w)
	if err != nil {
		return dueWork{}, fmt.Errorf("read history of nodes: %w", err)
	}
	in := dueWork{boxes: make(map[string]map[string]bool)}
	for _, o := range nodes {
		node, ok := o.Spec.(fleet.Node)
		if !ok {
			continue
		}
		if in.boxes[node.Cluster] == nil {
			in.boxes[node.Cluster] = make(map[string]bool)
		}
		in.boxes[node.Cluster][node.Box] = true
	}
	counts, err := e.registry.DueCount(ctx)
	if err != nil {
		return dueWork{}, err
	}
	for processor := range counts {
		due, err := e.registry.Due(ctx, processor, 0)
		if err != nil {
			return dueWork{}, err
		}
		for _, d := range due {
			if w.Overlap(d.Quarter, d.Quarter.Add(schema.Quarter)) > 0 {
				in.due = append(in.due, d)
			}
		}
	}
	return in, nil
}

// open are the quarters of which some work of a cluster is due.
func (w dueWork) open(cluster string) []schema.Window {
	found := make(map[time.Time]bool)
	for _, d := range w.due {
		if d.Scope == cluster || w.boxes[cluster][d.Scope] || cluster == schema.BoxCluster && d.Processor != registry.ProcessorCost {
			found[d.Quarter] = true
		}
	}
	open := make([]schema.Window, 0, len(found))
	for _, from := range slices.SortedFunc(maps.Keys(found), time.Time.Compare) {
		open = append(open, schema.WindowAt(from, schema.Quarter))
	}
	return open
}

// podLabels are the labels of a cluster's pods that were there in the window,
// by UID, the older version first; versions with the same labels are one.
func (e *Engine) podLabels(ctx context.Context, cluster string, w schema.Window) (map[string]usage.Labels, error) {
	byPod := make(map[string]usage.Labels)
	err := e.registry.KubeObjects(ctx, cluster, "Pod", w, func(o registry.KubeObject) error {
		versions := byPod[o.UID]
		if last := len(versions) - 1; last >= 0 && maps.Equal(versions[last].Labels, o.Labels) {
			return nil
		}
		byPod[o.UID] = append(versions, usage.LabelVersion{From: o.ValidFrom, Labels: o.Labels})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read labels of %s: %w", cluster, err)
	}
	return byPod, nil
}
