package work

import (
	"context"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// bringBack has the minute rows that an entry is computed of put back into the store,
// where they are in the archive alone: without them it would come to zeros.
func (w *Worker) bringBack(ctx context.Context, due registry.Due) error {
	if w.config.Archive == nil || due.Processor == registry.ProcessorCost { // rated from quarters
		return nil
	}
	clusters := []string{due.Scope}
	if due.Processor != registry.ProcessorUsage {
		var err error
		if clusters, err = w.clustersIn(ctx, due); err != nil {
			return err
		}
	}
	span, err := w.reach(ctx, due)
	if err != nil {
		return err
	}
	for day := span.From.UTC().Truncate(schema.Day); day.Before(span.To); day = day.Add(schema.Day) {
		for _, cluster := range clusters {
			if err := w.config.Archive.Restore(ctx, cluster, day); err != nil {
				return err
			}
		}
	}
	return nil
}

// reach is the time whose minute rows an entry is computed of: of power that of the
// meters' intervals too, which may begin on the day before or end on the next. A
// quarter that is too new to be archived has none that is.
func (w *Worker) reach(ctx context.Context, due registry.Due) (schema.Window, error) {
	quarter := quarterOf(due)
	if due.Processor != registry.ProcessorPower || w.clock.Now().Sub(quarter.To) < registry.FoldAfter {
		return quarter, nil
	}
	parts, err := w.boxValidities(ctx, quarter, due.Scope)
	if err != nil {
		return quarter, err
	}
	found, err := w.meters(ctx, due.Scope, quarter, parts)
	if err != nil {
		return quarter, err
	}
	var counted []processors.Meter
	for _, m := range found {
		counted = append(counted, m.Meter)
	}
	span, _ := processors.Span(quarter, counted)
	return span, nil
}

// clustersIn are those whose rows the power of a box is computed of: of the box, and of
// those that a meter counts together with it.
func (w *Worker) clustersIn(ctx context.Context, due registry.Due) ([]string, error) {
	if cluster, _, loose := registry.LooseNode(due.Scope); loose {
		return []string{cluster, schema.BoxCluster}, nil
	}
	parts, err := w.validities(ctx, quarterOf(due))
	if err != nil {
		return nil, err
	}
	boxes := []string{due.Scope}
	for _, part := range parts {
		boxes = append(boxes, part.fleet.MeteredWith(due.Scope)...)
	}
	slices.Sort(boxes)
	clusters := []string{schema.BoxCluster}
	for _, box := range slices.Compact(boxes) {
		of, err := w.registry.ClustersOfBox(ctx, box)
		if err != nil {
			return nil, err
		}
		clusters = append(clusters, of...)
	}
	slices.Sort(clusters)
	return slices.Compact(clusters), nil
}
