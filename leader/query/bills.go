package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// Charged is what a billing period costs a customer by one price list: its lines as
// a bill has them, with tiers, fees and minimum charge. The shares' keys are
// "cluster/namespace".
type Charged struct {
	Customer string
	List     string
	Currency string
	// Input is what was rated, in the order of keys, and Result its lines.
	Input  rating.Input
	Result rating.Result
}

// Bills rates a billing period: for each customer the lines by each price list
// that held for him. lists, where there are any, are laid over the fleet's price
// lists for all of the window: what they would have cost. Nothing is stored. Errors:
// *InputError, *rating.MissingPriceError, ErrOverflow, ErrScope, and what the stores say.
func (e *Engine) Bills(ctx context.Context, w schema.Window, lists []fleet.Object) ([]Charged, error) {
	if Scoped(ctx) {
		return nil, fmt.Errorf("bills: %w", ErrScope)
	}
	b := &bills{sums: make(map[*plan]*bill)}
	table, err := e.tallyWith(ctx, Request{Aggregate: []Key{Customer, Cluster, Namespace}}, w, lists, b, false)
	if err != nil {
		return nil, err
	}
	if err := b.hold(table); err != nil {
		return nil, err
	}
	var all []Charged
	for of, one := range b.sums {
		owner, _ := table.parts[len(table.parts)-1].fleet.Customer(of.customer)
		location, err := time.LoadLocation(owner.TimeZone)
		if err != nil {
			return nil, fmt.Errorf("time zone of %s: %w", of.customer, err)
		}
		in := rating.Input{Period: w, Held: usage.Joined(one.held), Location: location}
		for used, quantities := range one.usage {
			in.Usage = append(in.Usage, rating.Usage{Key: used.key, Facts: used.facts, Slot: used.slot, Quantities: quantities})
		}
		slices.SortFunc(in.Usage, compareUsage)
		charged := Charged{Customer: of.customer, List: of.List().Name, Currency: of.List().Currency, Input: in}
		if charged.Result, err = of.Charges(in); err != nil {
			return nil, err
		}
		all = append(all, charged)
	}
	slices.SortFunc(all, func(a, b Charged) int {
		return cmp.Or(cmp.Compare(a.Customer, b.Customer), cmp.Compare(a.List, b.List), a.Input.Held[0].From.Compare(b.Input.Held[0].From))
	})
	return all, nil
}

func compareUsage(a, b rating.Usage) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Facts.String(), b.Facts.String()), cmp.Compare(a.Slot.Tariff, b.Slot.Tariff), cmp.Compare(a.Slot.Prices, b.Slot.Prices))
}

// bills are sums by list for a customer.
type bills struct{ sums map[*plan]*bill }

type bill struct {
	usage map[usageKey]processors.Quantities
	held  []schema.Window
}

type usageKey struct {
	key string
	place
}

func (b *bills) of(p *pricing, list *fleet.PriceList, f *fleet.Fleet, customer string) (*plan, *bill, error) {
	plan, err := p.planOf(list, f, customer)
	if err != nil {
		return nil, nil, err
	}
	if b.sums[plan] == nil {
		b.sums[plan] = &bill{usage: make(map[usageKey]processors.Quantities)}
	}
	return plan, b.sums[plan], nil
}

// add counts a group's sums in the slot of the quarter that holds at.
func (b *bills) add(p *pricing, list *fleet.PriceList, who *identity, at time.Time, sums *Sums, named processors.Quantities) error {
	plan, one, err := b.of(p, list, who.fleet, who.billed)
	if err != nil {
		return err
	}
	key := usageKey{who.cluster + "/" + who.namespace, plan.place(who, at)}
	quantities, err := quantitiesOf(sums, named)
	if err != nil {
		return err
	}
	return one.add(key, quantities)
}

func (b *bill) add(key usageKey, quantities processors.Quantities) error {
	sum := b.usage[key]
	err := usage.AddNamed(&sum, quantities)
	b.usage[key] = sum
	return err
}

// byCells says whether some list has what is of cells: a share of what others used,
// or useful heat.
func byCells(parts []slice) bool {
	return slices.ContainsFunc(parts, func(part slice) bool {
		return slices.ContainsFunc(part.fleet.PriceLists(), func(list fleet.PriceList) bool { return len(list.Share) > 0 || list.CreditsHeat() })
	})
}

// cluster counts what a cluster used as the books do: by the local days of those who
// are billed for it, or by quarters where prices change with time, after the list of
// its own customer has shared what it shares.
func (b *bills) cluster(ctx context.Context, t *tally, cluster string, part slice) error {
	zones, err := zonesIn(part.fleet, cluster)
	if err != nil {
		return err
	}
	for _, zone := range zones {
		pieces, step := localDays(part.Window, zone.Location), time.Duration(0)
		switch {
		case part.timed():
			step = schema.Quarter
		case zone.String() == time.UTC.String():
			pieces, step = []schema.Window{part.Window}, schema.Day
		}
		for _, piece := range pieces {
			if err := b.piece(ctx, t, cluster, part.fleet, piece, step, zone); err != nil {
				return err
			}
		}
	}
	return nil
}

// piece counts the part of the customers of a zone in a piece of a cluster's time.
func (b *bills) piece(ctx context.Context, t *tally, cluster string, f *fleet.Fleet, w schema.Window, step time.Duration, of zone) error {
	e := t.engine
	cells, err := e.Cells(ctx, cluster, w, step)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(f.PriceLists(), fleet.PriceList.CreditsHeat) {
		heat, err := e.HeatCells(ctx, cluster, w, step)
		if err != nil {
			return err
		}
		cells = append(cells, heat...)
	}
	metering, err := e.registry.MeteringNamespaces(ctx, cluster)
	if err != nil {
		return err
	}
	shared, err := Share(ctx, e, f, cluster, w, step, metering, cells)
	if err != nil {
		return err
	}
	for _, cell := range shared {
		customer := f.Billed(cluster, cell.Customer)
		list, ok := f.PriceListFor(cluster, customer)
		if !ok || !of.has[customer] || cell.Nobodys || list.Excludes(cell.Namespace, metering) {
			continue
		}
		plan, one, err := b.of(t.pricing, &list, f, customer)
		if err != nil {
			return err
		}
		who := place{facts: rating.Facts{Hardware: cell.Hardware, Provider: cell.Provider, Region: cell.Region}}
		if err := one.add(usageKey{cluster + "/" + cell.Namespace, plan.only(who, cell.From)}, cell.Quantities); err != nil {
			return err
		}
	}
	return nil
}

// zone is those who are billed for something in a cluster and have one clock.
type zone struct {
	*time.Location
	has map[string]bool // customers
}

// zonesIn are the zones of a cluster's customer and of those that a rule for it names.
func zonesIn(f *fleet.Fleet, cluster string) ([]zone, error) {
	owner, _ := f.Cluster(cluster)
	names := []string{owner.Customer}
	for _, rule := range f.Assignments() {
		if rule.Cluster == "" || rule.Cluster == cluster {
			names = append(names, cmp.Or(rule.Customer, owner.Customer))
		}
	}
	var all []zone
	for _, name := range names {
		customer, _ := f.Customer(name)
		location, err := time.LoadLocation(customer.TimeZone)
		if err != nil {
			return nil, fmt.Errorf("time zone of %s: %w", name, err)
		}
		i := slices.IndexFunc(all, func(z zone) bool { return z.String() == location.String() })
		if i < 0 {
			i, all = len(all), append(all, zone{location, make(map[string]bool)})
		}
		all[i].has[name] = true
	}
	return all, nil
}

// localDays cuts a window at the starts of a location's days.
func localDays(w schema.Window, location *time.Location) []schema.Window {
	var days []schema.Window
	for at := w.From; at.Before(w.To); {
		year, month, day := at.In(location).Date()
		end := schema.Earlier(rating.StartOfDay(year, month, day+1, location), w.To)
		days = append(days, schema.Window{From: at, To: end})
		at = end
	}
	return days
}

// hold notes when each list held for each customer of a cluster: he pays its fees
// though he used nothing.
func (b *bills) hold(t *tally) error {
	for _, part := range t.parts {
		for _, cluster := range part.fleet.Clusters() {
			list, ok := part.fleet.PriceListFor(cluster.Name, cluster.Customer)
			if !ok || cluster.Customer == "" {
				continue
			}
			if _, _, err := b.of(t.pricing, &list, part.fleet, cluster.Customer); err != nil {
				return err
			}
		}
		for of, one := range b.sums {
			for _, list := range part.fleet.PriceLists() {
				if mine, err := t.pricing.planOf(&list, part.fleet, of.customer); err == nil && mine == of {
					one.held = append(one.held, part.Window)
				}
			}
		}
	}
	return nil
}

// overlay is the slices with price lists laid over those of their fleets.
func (e *Engine) overlay(ctx context.Context, parts []slice, lists []fleet.Object) ([]slice, error) {
	if len(lists) == 0 {
		return parts, nil
	}
	objects, err := e.registry.Objects(ctx)
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	named := make(map[string]bool, len(lists))
	for _, list := range lists {
		named[list.String()] = true
	}
	objects = slices.DeleteFunc(slices.Clone(objects), func(o fleet.Object) bool { return named[o.String()] })
	for _, list := range lists {
		objects = append(objects, list.Since(time.Time{}).Until(time.Time{}))
	}
	laid := make([]slice, len(parts))
	for i, part := range parts {
		laid[i] = slice{part.Window, fleet.New(part.From, objects)}
	}
	return laid, nil
}
