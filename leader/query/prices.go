package query

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// pricing finds the prices of what is counted, and keeps what it has compiled.
type pricing struct {
	series   map[string]rating.Series
	lists    map[listKey]string // the list's text by where it is found
	versions map[listKey]string
	plans    map[planKey]*rating.Plan
	resolved map[resolvedKey]*resolved
	rules    map[string]bool   // that showback does not apply
	assumed  map[string]string // by series, of prices to come that are not known, for people
}

type listKey struct {
	fleet *fleet.Fleet
	name  string
}

// planKey is a list, by its text, for a customer.
type planKey struct{ list, customer string }

type resolvedKey struct {
	planKey
	slot  rating.Slot
	facts rating.Facts
}

// resolved are the prices in one slot at one place. Equal ones have one id.
type resolved struct {
	id     string
	list   fleet.PriceList
	before processors.PriceList // discounts
	prices processors.PriceList
}

// newPricing reads the series that the lists of the slices use.
func (e *Engine) newPricing(ctx context.Context, parts []slice, w schema.Window) (*pricing, error) {
	p := &pricing{lists: make(map[listKey]string), versions: make(map[listKey]string), plans: make(map[planKey]*rating.Plan), resolved: make(map[resolvedKey]*resolved), rules: make(map[string]bool), assumed: make(map[string]string)}
	versions, err := e.registry.History(ctx, fleet.KindPriceList, w)
	if err != nil {
		return nil, fmt.Errorf("read history of price lists: %w", err)
	}
	var names []string
	for _, part := range parts {
		for _, list := range part.fleet.PriceLists() {
			names = append(names, list.Series()...)
			p.versions[listKey{part.fleet, list.Name}] = list.Name
		}
		for _, o := range versions {
			if o.ValidAt(part.From) && !o.ValidFrom.IsZero() {
				p.versions[listKey{part.fleet, o.Name()}] = o.Name() + "@" + o.ValidFrom.UTC().Format(time.RFC3339)
			}
		}
	}
	slices.Sort(names)
	p.series, err = e.registry.PriceSeries(ctx, slices.Compact(names), w)
	return p, err
}

// timed says whether prices change with time while the slice's lists hold.
func (s slice) timed() bool {
	return slices.ContainsFunc(s.fleet.PriceLists(), fleet.PriceList.Timed)
}

// facts are where a group was used, as rates match it.
func (i identity) facts() rating.Facts {
	owner, _ := i.fleet.Cluster(i.cluster)
	node, _ := i.fleet.Node(i.cluster, i.node)
	return rating.Facts{Hardware: cmp.Or(i.as, node.Hardware), Provider: owner.Provider, Region: owner.Region}
}

// find is the prices of a list for a customer in the quarter that holds at, for what
// was used by who.
func (p *pricing) find(list fleet.PriceList, who identity, at time.Time) (*resolved, error) {
	customer := who.billed
	if !list.ForCustomers() {
		customer = ""
	}
	key, plan, err := p.planOf(list, who.fleet, customer)
	if err != nil {
		return nil, err
	}
	in := resolvedKey{planKey: key}
	if plan.Timed() {
		in.slot = plan.SlotAt(at)
	}
	if plan.MatchesPlaces() {
		in.facts = who.facts()
	}
	if found := p.resolved[in]; found != nil {
		return found, nil
	}
	prices, err := plan.PricesIn(in.slot, in.facts)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", list.Name, err)
	}
	for _, missing := range prices.Missing {
		p.rules[missing.Error()] = true
	}
	var id strings.Builder
	fmt.Fprintf(&id, "%s\x00%s", list.Name, list.Currency)
	for i := range prices.Sale.Prices {
		fmt.Fprintf(&id, "\x00%s=%s<%s", prices.Sale.Prices[i].Resource, prices.Sale.Prices[i].Price.Text('f'), prices.List.Prices[i].Price.Text('f'))
	}
	p.resolved[in] = &resolved{id: id.String(), list: list, before: prices.List, prices: prices.Sale}
	return p.resolved[in], nil
}

// planOf is a list as a snapshot has it, compiled for a customer.
func (p *pricing) planOf(list fleet.PriceList, f *fleet.Fleet, customer string) (planKey, *rating.Plan, error) {
	key := planKey{customer: customer}
	of := listKey{f, list.Name}
	if key.list = p.lists[of]; key.list == "" {
		text, err := json.Marshal(list)
		if err != nil {
			return key, nil, fmt.Errorf("price list %s: %w", list.Name, err)
		}
		key.list = list.Name + "\x00" + string(text)
		p.lists[of] = key.list
	}
	plan, err := p.plan(key, list, p.versions[of])
	return key, plan, err
}

func (p *pricing) plan(key planKey, list fleet.PriceList, version string) (*rating.Plan, error) {
	if plan := p.plans[key]; plan != nil {
		return plan, nil
	}
	compilable, err := list.Rating(version)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", list.Name, err)
	}
	plan, err := rating.Compile(compilable, key.customer, p.series)
	if err != nil {
		return nil, err
	}
	for _, rule := range plan.NotInShowback() {
		p.rules["price list "+list.Name+": "+rule] = true
	}
	if len(list.Share) > 0 {
		p.rules["price list "+list.Name+": share: idle nodes and namespaces that serve all others are shared in bills"] = true
	}
	p.plans[key] = plan
	return plan, nil
}

// notApplied are the rules of the price lists that the answer does not apply, for
// people.
func (t *tally) notApplied() []string {
	var rules []string
	for rule := range t.pricing.rules {
		rules = append(rules, rule)
	}
	slices.Sort(rules)
	return rules
}

// every is how finely a slice is read: by quarters where prices change with time
// (a quarter is in one price slot), else by the steps of the question.
func (t *tally) every(part slice) time.Duration {
	step := t.request.Step
	switch {
	case t.request.About != usage.AboutUsage || !part.timed():
		return step
	case step%schema.Quarter == 0:
		return schema.Quarter
	}
	return schema.Minute
}
