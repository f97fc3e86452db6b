package query

import (
	"context"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Assets are the nodes by cluster, node and step, with what they would be charged
// if all of their allocatable CPU and memory were requested and used, at the prices
// of who owns the cluster. What of that was not charged to anybody is idle. Row.Sums
// has what was allocatable. Errors: those of Usage, ErrScope.
func (e *Engine) Assets(ctx context.Context, request ChargeRequest) ([]Charges, error) {
	if Scoped(ctx) {
		return nil, fmt.Errorf("nodes: %w", ErrScope)
	}
	keys := []Key{Cluster, Node}
	table, err := e.tallyWith(ctx, Request{Aggregate: keys, Step: request.Step, Filter: request.Filter}, request.Window, nil, nil, true)
	if err != nil {
		return nil, err
	}
	all := make([]Charges, 0, len(table.rowsByID))
	for _, row := range table.rowsByID {
		made, err := row.charges()
		if err != nil {
			return nil, fmt.Errorf("assets of %v: %w", row.Key, err)
		}
		all = append(all, made)
	}
	slices.SortFunc(all, func(a, b Charges) int { return usage.CompareKeys(a.Row, b.Row, keys) })
	return all, nil
}

// assetSources is the table of nodes alone.
func assetSources(cluster string, db Reader, node schema.Table) []source {
	if cluster == schema.BoxCluster {
		return nil
	}
	return []source{{db, node, usage.OfAssets, podTags, nil}}
}

// fullyUsed are a node's sums as if all that is allocatable were requested and used.
func fullyUsed(s Sums) Sums {
	for _, q := range []usage.Quantity{usage.CPU, usage.CPURequest, usage.CPUMax} {
		s[q] = s[usage.AllocatableCPU]
	}
	for _, q := range []usage.Quantity{usage.Memory, usage.MemoryRequest, usage.MemoryMax} {
		s[q] = s[usage.AllocatableMemory]
	}
	return s
}
