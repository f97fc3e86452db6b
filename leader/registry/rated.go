package registry

import (
	"context"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// boxesOf are the boxes in which a node of the cluster stood at some moment of
// the window.
func (r *Registry) boxesOf(ctx context.Context, cluster string, w schema.Window) ([]string, error) {
	nodes, err := r.History(ctx, fleet.KindNode, w)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	var boxes []string
	for _, o := range nodes {
		if n, ok := o.Spec.(fleet.Node); ok && n.Cluster == cluster && n.Box != "" && !known[n.Box] {
			known[n.Box] = true
			boxes = append(boxes, n.Box)
		}
	}
	return boxes, nil
}

// dueQuarters are the quarters of the window of which some work is due whose
// outcome is in a cluster's cost: power of its boxes or of its nodes that stand
// in none, its usage, its cost.
func dueQuarters(ctx context.Context, q queryer, cluster string, boxes []string, w schema.Window) (map[int64]bool, error) {
	due := make(map[int64]bool)
	from, to := nanos(quarterOf(w.From)), nanos(w.To)
	take := func(scan func(...any) error) error {
		var quarter int64
		err := scan(&quarter)
		due[quarter] = true
		return err
	}
	err := each(ctx, q, take, "SELECT quarter FROM due WHERE processor IN (?, ?) AND scope = ? AND quarter >= ? AND quarter < ?",
		ProcessorUsage, ProcessorCost, cluster, from, to)
	if err != nil {
		return nil, err
	}
	err = each(ctx, q, take, "SELECT quarter FROM due WHERE processor = ? AND scope >= ? AND scope < ? AND quarter >= ? AND quarter < ?",
		ProcessorPower, LooseScope(cluster, ""), loose+cluster+"0", from, to) // "0" comes after "/"
	if err != nil {
		return nil, err
	}
	for _, box := range boxes {
		err := each(ctx, q, take, "SELECT quarter FROM due WHERE processor = ? AND scope = ? AND quarter >= ? AND quarter < ?",
			ProcessorPower, box, from, to)
		if err != nil {
			return nil, err
		}
	}
	return due, nil
}

// ratedQuarters are the quarters of the window whose cost was computed of all
// that has come.
func ratedQuarters(ctx context.Context, q queryer, cluster string, boxes []string, w schema.Window) (map[int64]bool, error) {
	due, err := dueQuarters(ctx, q, cluster, boxes, w)
	if err != nil {
		return nil, err
	}
	rated := make(map[int64]bool)
	err = each(ctx, q, func(scan func(...any) error) error {
		var quarter int64
		err := scan(&quarter)
		if !due[quarter] {
			rated[quarter] = true
		}
		return err
	}, "SELECT quarter FROM fingerprint WHERE processor = ? AND scope = ? AND quarter >= ? AND quarter < ?",
		ProcessorCost, cluster, nanos(quarterOf(w.From)), nanos(w.To))
	return rated, err
}
