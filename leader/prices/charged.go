package prices

import (
	"context"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// AheadPrices are what a customer is charged for a resource in a cluster, after
// discounts: per unit, at the first tier, and where a price is of some hardware alone
// without that. A part of the time that lies in no slot has no price yet.
type AheadPrices struct {
	Cluster  string `json:"cluster"`
	Customer string `json:"customer"` // "" is nobody
	List     string `json:"list"`
	Currency string `json:"currency"`
	Resource string `json:"resource"`
	Unit     string `json:"unit"`
	Slots    []Slot `json:"slots"`
}

// charged adds what is charged of what the caller may be told, of one customer unless
// that is "": the sale prices and, inside a scope, the slots and grids that go with them.
func (d *Desk) charged(ctx context.Context, ahead *Ahead, customer string) error {
	w := schema.Window{From: ahead.From, To: ahead.To}
	f, err := d.registry.Fleet(ctx, w.From)
	if err != nil {
		return err
	}
	used, err := d.usedClusters(ctx)
	if err != nil {
		return err
	}
	payers := query.Payers(ctx, f, used)
	if customer != "" {
		payers = slices.DeleteFunc(payers, func(p query.Payer) bool { return p.Customer != customer })
	}
	if query.Scoped(ctx) {
		if ahead.Carbon, err = d.gridsWhere(ctx, f, payers, w); err != nil {
			return err
		}
	}
	for _, payer := range payers {
		list, ok := f.PriceListFor(payer.Cluster, payer.Customer)
		if !ok {
			continue
		}
		plan, err := d.planFor(ctx, list, payer.Customer, w)
		if err != nil {
			return err
		}
		known := slices.ContainsFunc(ahead.TimeOfUse, func(t AheadTariff) bool { return t.List == list.Name })
		if list.TimeOfUse != nil && !known {
			ahead.TimeOfUse = append(ahead.TimeOfUse, AheadTariff{List: list.Name, Slots: tariffOf(plan, w)})
		}
		owner, _ := f.Cluster(payer.Cluster)
		all, err := pricesOf(plan, rating.Facts{Provider: owner.Provider, Region: owner.Region}, w)
		if err != nil {
			return fmt.Errorf("prices ahead of %s: %w", list.Name, err)
		}
		for _, one := range all {
			one.Cluster, one.Customer, one.List, one.Currency = payer.Cluster, payer.Customer, list.Name, list.Currency
			ahead.Prices = append(ahead.Prices, one)
		}
	}
	return nil
}

// usedClusters are the clusters in which the caller used something in the last settled
// day.
func (d *Desk) usedClusters(ctx context.Context) (map[string]bool, error) {
	used := make(map[string]bool)
	if !query.Scoped(ctx) {
		return used, nil
	}
	end, err := d.engine.Settled(ctx)
	if err != nil {
		return nil, err
	}
	all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: schema.Window{From: end.AddDate(0, 0, -1), To: end}, Aggregate: []usage.Key{usage.Cluster}})
	for _, c := range all {
		used[c.Row.Key[string(usage.Cluster)]] = true
	}
	return used, err
}

// planFor is a list compiled for a customer, with the series that it uses.
func (d *Desk) planFor(ctx context.Context, list fleet.PriceList, customer string, w schema.Window) (*rating.Plan, error) {
	series, err := d.registry.PriceSeries(ctx, list.Series(), w)
	if err != nil {
		return nil, err
	}
	compilable, err := list.Rating(list.Name)
	if err != nil {
		return nil, err
	}
	return rating.Compile(compilable, customer, series)
}

// pricesOf are the sale prices of a plan at a place, neighbours of one price as one slot.
func pricesOf(plan *rating.Plan, facts rating.Facts, w schema.Window) ([]AheadPrices, error) {
	byResource := make(map[processors.Resource]*AheadPrices)
	for _, quarter := range w.Split(schema.Quarter) {
		found, err := plan.PricesIn(plan.SlotAt(quarter.From), facts)
		if err != nil {
			return nil, err
		}
		for i := range found.Sale.Prices {
			price := &found.Sale.Prices[i]
			one := byResource[price.Resource]
			if one == nil {
				one = &AheadPrices{Resource: string(price.Resource), Unit: price.Resource.Unit()}
				byResource[price.Resource] = one
			}
			one.Slots = joined(one.Slots, quarter, price.Price.Text('f'))
		}
	}
	all := make([]AheadPrices, 0, len(byResource))
	for _, one := range byResource {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b AheadPrices) int {
		return processors.CompareResources(processors.Resource(a.Resource), processors.Resource(b.Resource))
	})
	return all, nil
}

// joined adds a quarter's price to slots.
func joined(slots []Slot, quarter schema.Window, price string) []Slot {
	if last := len(slots) - 1; last >= 0 && slots[last].Price == price && slots[last].To.Equal(quarter.From) {
		slots[last].To = quarter.To
		return slots
	}
	return append(slots, Slot{From: quarter.From, To: quarter.To, Price: price})
}

// gridsWhere are the intensities of the grids of the payers' clusters. They are named
// by their zone: whose a grid's name is cannot be told.
func (d *Desk) gridsWhere(ctx context.Context, f *fleet.Fleet, payers []query.Payer, w schema.Window) ([]AheadGrid, error) {
	var grids []fleet.Grid
	for _, payer := range payers {
		boxes := []string{""}
		for _, box := range f.BoxesOfCluster(payer.Cluster) {
			boxes = append(boxes, box.Name)
		}
		for _, box := range boxes {
			grid, ok := f.GridOf(box, payer.Cluster)
			if ok && !slices.ContainsFunc(grids, func(o fleet.Grid) bool { return o.Name == grid.Name }) {
				grids = append(grids, grid)
			}
		}
	}
	all, err := d.gridsAhead(ctx, grids, w)
	for i := range all {
		all[i].Grid = all[i].Zone
	}
	return all, err
}
