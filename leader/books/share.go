package books

import (
	"context"
	"time"

	"github.com/accumulus-metering/accumulus/leader/query"
)

// share is the cells of a piece of time of a cluster after the price list of its own
// customer has shared what it shares.
func (b *Books) share(ctx context.Context, p part, cluster string, cells []query.Cell, step time.Duration, metering []string) ([]query.SharedCell, error) {
	owner, _ := p.fleet.Cluster(cluster)
	list, _ := p.fleet.PriceListFor(cluster, owner.Customer)
	var capacity query.Capacity
	if len(list.Share) > 0 {
		assets, err := b.engine.Assets(ctx, query.ChargeRequest{Window: p.Window, Step: step, Filter: []query.Condition{{Key: query.Cluster, Values: []string{cluster}}}})
		if err != nil {
			return nil, err
		}
		capacity = query.CapacityOf(assets, p.fleet, cluster)
	}
	return query.Share(list, owner, metering, cells, capacity)
}
