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
// *InputError, *rating.MissingPriceError, ErrOverflow, and what the stores say.
func (e *Engine) Bills(ctx context.Context, w schema.Window, lists []fleet.Object) ([]Charged, error) {
	b := &bills{sums: make(map[billKey]*bill)}
	table, err := e.tallyWith(ctx, Request{Aggregate: []Key{Customer, Cluster, Namespace}}, w, lists, b, false)
	if err != nil {
		return nil, err
	}
	if err := b.hold(table); err != nil {
		return nil, err
	}
	var all []Charged
	for key, one := range b.sums {
		owner, _ := table.parts[len(table.parts)-1].fleet.Customer(key.customer)
		location, err := time.LoadLocation(owner.TimeZone)
		if err != nil {
			return nil, fmt.Errorf("time zone of %s: %w", key.customer, err)
		}
		in := rating.Input{Period: w, Held: usage.Joined(one.held), Location: location}
		for of, quantities := range one.usage {
			in.Usage = append(in.Usage, rating.Usage{Key: of.key, Facts: of.facts, Slot: of.slot, Quantities: quantities})
		}
		slices.SortFunc(in.Usage, compareUsage)
		charged := Charged{Customer: key.customer, List: one.plan.List().Name, Currency: one.plan.List().Currency, Input: in}
		if charged.Result, err = one.plan.Charges(in); err != nil {
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

// bills are sums by customer and list.
type bills struct{ sums map[billKey]*bill }

// billKey is a list's text for a customer.
type billKey = planKey

type bill struct {
	plan  *rating.Plan
	usage map[usageKey]processors.Quantities
	held  []schema.Window
}

type usageKey struct {
	key   string
	facts rating.Facts
	slot  rating.Slot
}

func (b *bills) of(p *pricing, list fleet.PriceList, f *fleet.Fleet, customer string) (*bill, error) {
	key, plan, err := p.planOf(list, f, customer)
	if err != nil {
		return nil, err
	}
	if b.sums[key] == nil {
		b.sums[key] = &bill{plan: plan, usage: make(map[usageKey]processors.Quantities)}
	}
	return b.sums[key], nil
}

// add counts a group's sums in the slot of the quarter that holds at.
func (b *bills) add(p *pricing, list fleet.PriceList, who identity, at time.Time, sums Sums, named processors.Quantities) error {
	one, err := b.of(p, list, who.fleet, who.billed)
	if err != nil {
		return err
	}
	key := usageKey{key: who.cluster + "/" + who.namespace}
	if one.plan.MatchesPlaces() {
		key.facts = who.facts()
	}
	if one.plan.Timed() {
		key.slot = one.plan.SlotAt(at)
	}
	quantities, err := quantitiesOf(sums, named)
	if err != nil {
		return err
	}
	sum := one.usage[key]
	err = usage.AddNamed(&sum, quantities)
	one.usage[key] = sum
	return err
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
			if _, err := b.of(t.pricing, list, part.fleet, cluster.Customer); err != nil {
				return err
			}
		}
		for key, one := range b.sums {
			for _, list := range part.fleet.PriceLists() {
				if mine, _, err := t.pricing.planOf(list, part.fleet, key.customer); err == nil && mine == key {
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
