package registry

import (
	"context"
	"slices"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// carbon adds what a grid or a contract is for. One for all others touches all:
// what it does not change has the same fingerprint, and nothing is written.
func (w world) carbon(b fleet.Binding, to reach) {
	if len(b.Boxes)+len(b.Clusters)+len(b.Regions) == 0 {
		w.carbonOf(to, func(fleet.Cluster) bool { return true })
		return
	}
	for _, box := range b.Boxes {
		to.carbon[box] = true
	}
	w.carbonOf(to, func(c fleet.Cluster) bool {
		return slices.Contains(b.Clusters, c.Name) || slices.Contains(b.Regions, c.Region)
	})
}

// carbonOf adds the boxes of the clusters' nodes, and those nodes that stand in
// none.
func (w world) carbonOf(to reach, match func(fleet.Cluster) bool) {
	matching := make(map[string]bool)
	for _, o := range w {
		if c, ok := o.Spec.(fleet.Cluster); ok {
			c.Name = o.Name()
			matching[o.Name()] = matching[o.Name()] || match(c)
		}
	}
	for cluster, ok := range matching {
		if ok {
			to.carbonOf[cluster] = true
		}
	}
	to.carbonOfNodes(w, func(n fleet.Node) bool { return matching[n.Cluster] })
}

func (to reach) carbonOfNodes(w world, match func(fleet.Node) bool) {
	carbon := newReach()
	w.nodes(carbon, match)
	for box := range carbon.boxes {
		to.carbon[box] = true
	}
}

// undescribed adds the nodes of the clusters in carbonOf of which something has
// come, though no object describes them.
func (to reach) undescribed(ctx context.Context, q queryer, s stretch) error {
	if len(to.carbonOf) == 0 {
		return nil
	}
	described := make(map[[2]string]bool)
	for _, o := range s.world {
		if n, ok := o.Spec.(fleet.Node); ok {
			described[[2]string{n.Cluster, n.Node}] = true
		}
	}
	for cluster := range to.carbonOf {
		scopes, err := looseNodes(ctx, q, cluster, func(node string) bool { return !described[[2]string{cluster, node}] })
		if err != nil {
			return err
		}
		for _, scope := range scopes {
			to.carbon[scope] = true
		}
	}
	return nil
}
