package query

import (
	"context"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// extended adds what the cluster's pods requested of extended resources in a
// slice, up to where its minutes reach. No table repeats it: a request is exact
// for the time in which it held.
func (t *tally) extended(ctx context.Context, cluster string, part slice) error {
	if cluster == schema.BoxCluster {
		return nil
	}
	w := schema.Window{From: part.From, To: schema.Earlier(part.To, t.settled)}
	if !w.From.Before(w.To) {
		return nil
	}
	return t.engine.registry.ExtendedRequests(ctx, cluster, w, func(of registry.ExtendedRequest) error {
		who := t.identify(cluster, part, influxsync.NewPoint(schema.Object.Name, map[string]string{
			schema.Node: of.Node, schema.Namespace: of.Namespace, schema.Pod: of.Pod, schema.PodUID: of.UID,
			schema.WorkloadKind: of.WorkloadKind, schema.Workload: of.Workload}, nil, of.Held.From), false)
		pieces := []schema.Window{w}
		if part.timed() {
			pieces = w.Split(schema.Quarter)
		}
		for _, piece := range pieces {
			err := t.request.RequestedBySteps(t.window, piece, of.Held, of.Requests, func(b schema.Window, named processors.Quantities) error {
				return t.add(&who, b, piece.From, &Sums{}, named)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
