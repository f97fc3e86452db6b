package query

import (
	"context"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Assets are the nodes by cluster, node and step, with what they would be charged
// if all of their allocatable CPU and memory were requested and used, at the prices
// of who owns the cluster. What of that was not charged to anybody is idle. Row.Sums
// has what was allocatable. Inside a scope they are those of clusters in which nobody
// else has anything: of others, what is idle would tell what all of them use together.
// Errors: those of Usage.
func (e *Engine) Assets(ctx context.Context, request ChargeRequest) ([]Charges, error) {
	keys, filter := []Key{Cluster, Node}, request.Filter
	if scopes := scopesOf(ctx); len(scopes) > 0 {
		names, err := e.aloneIn(ctx, request.Window, scopes)
		if err != nil || len(names) == 0 {
			return nil, err
		}
		filter = append(slices.Clone(filter), Condition{Key: Cluster, Values: names})
	}
	table, err := e.tallyWith(ctx, Request{Aggregate: keys, Step: request.Step, Filter: filter}, request.Window, nil, nil, true)
	if err != nil {
		return nil, err
	}
	return chargesOf(table, ChargeRequest{})
}

// aloneIn are the clusters of which all is in the scopes for all of a window.
func (e *Engine) aloneIn(ctx context.Context, w schema.Window, scopes bounds) ([]string, error) {
	parts, err := e.slices(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	names, err := e.clusters(ctx, w)
	return slices.DeleteFunc(names, func(name string) bool { return !scopes.alone(name, fleetsOf(parts)...) }), err
}

// assetSources is the table of nodes alone.
func assetSources(cluster string, db Reader, node schema.Table) []source {
	if cluster == schema.BoxCluster {
		return nil
	}
	return []source{{db, node, usage.OfAssets, podTags, nil}}
}

// fullyUsed makes a node's sums as if all that is allocatable were requested and used.
func fullyUsed(s *Sums) {
	for _, q := range []usage.Quantity{usage.CPU, usage.CPURequest, usage.CPUMax} {
		s[q] = s[usage.AllocatableCPU]
	}
	for _, q := range []usage.Quantity{usage.Memory, usage.MemoryRequest, usage.MemoryMax} {
		s[q] = s[usage.AllocatableMemory]
	}
}
