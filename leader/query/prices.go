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
	plans    map[planKey]*plan
	named    map[namedPlan]*plan // the same, by where the list is found
	payers   map[payerKey]*payer
	last     *payer            // that was asked for
	rules    map[string]bool   // that showback does not apply
	assumed  map[string]string // by series, of prices to come that are not known, for people
}

type listKey struct {
	fleet *fleet.Fleet
	name  string
}

// planKey is a list, by its text, for a customer.
type planKey struct{ list, customer string }

type namedPlan struct {
	listKey
	customer string
}

// plan is a list that was compiled for a customer: one of each text.
type plan struct {
	*rating.Plan
	customer      string
	timed, placed bool // whether prices hang on the time, and on where something was used
	resolved      map[place]*resolved
}

// place is when and where something was used, as far as prices hang on it.
type place struct {
	slot  rating.Slot
	facts rating.Facts
}

type payerKey struct {
	fleet             *fleet.Fleet
	cluster, customer string
}

// payer is a customer in a cluster, and the list whose prices hold for him there.
type payer struct {
	payerKey
	priced bool
	list   *fleet.PriceList
	plan   *plan // for showback; nil until it is asked for
}

// resolved are the prices in one slot at one place. Equal ones have one id.
type resolved struct {
	id     string
	tariff string // slot of the list's time of use
	list   fleet.PriceList
	before processors.PriceList // discounts
	prices processors.PriceList
	units  map[processors.Resource]*unitPrice // that were asked for; nil has no price
	// standard are those of the standard resources, where known says so.
	standard [len(standard)]*unitPrice
	known    [len(standard)]bool
}

// newPricing reads the series that the lists of the slices use.
func (e *Engine) newPricing(ctx context.Context, parts []slice, w schema.Window) (*pricing, error) {
	p := &pricing{lists: make(map[listKey]string), versions: make(map[listKey]string), plans: make(map[planKey]*plan), named: make(map[namedPlan]*plan), payers: make(map[payerKey]*payer), rules: make(map[string]bool), assumed: make(map[string]string)}
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
func (i *identity) facts() rating.Facts {
	owner, _ := i.fleet.Cluster(i.cluster)
	node, _ := i.fleet.Node(i.cluster, i.node)
	return rating.Facts{Hardware: cmp.Or(i.as, node.Hardware), Provider: owner.Provider, Region: owner.Region}
}

// payerOf is who is billed for something, and by which list.
func (p *pricing) payerOf(who *identity) *payer {
	key := payerKey{who.fleet, who.cluster, who.billed}
	if p.last != nil && p.last.payerKey == key {
		return p.last
	}
	if p.last = p.payers[key]; p.last == nil {
		p.last = &payer{payerKey: key}
		var list fleet.PriceList
		list, p.last.priced = who.fleet.PriceListFor(who.cluster, who.billed)
		p.last.list = &list
		p.payers[key] = p.last
	}
	return p.last
}

// find is the prices for a payer in the quarter that holds at, for what was used by
// who.
func (p *pricing) find(of *payer, who *identity, at time.Time) (*resolved, error) {
	if of.plan == nil {
		customer := who.billed
		if !of.list.ForCustomers() {
			customer = ""
		}
		var err error
		if of.plan, err = p.planOf(of.list, who.fleet, customer); err != nil {
			return nil, err
		}
	}
	in := of.plan.place(who, at)
	if found := of.plan.resolved[in]; found != nil {
		return found, nil
	}
	list := of.list
	prices, err := of.plan.PricesIn(in.slot, in.facts)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", list.Name, err)
	}
	for _, missing := range prices.Missing {
		p.rules[missing.Error()] = true
	}
	var id strings.Builder
	tariff := ""
	if list.TimeOfUse != nil {
		tariff = in.slot.Tariff
	}
	fmt.Fprintf(&id, "%s\x00%s\x00%s", list.Name, list.Currency, tariff)
	for i := range prices.Sale.Prices {
		fmt.Fprintf(&id, "\x00%s=%s<%s", prices.Sale.Prices[i].Resource, prices.Sale.Prices[i].Price.Text('f'), prices.List.Prices[i].Price.Text('f'))
	}
	of.plan.resolved[in] = &resolved{id: id.String(), tariff: tariff, list: *list, before: prices.List, prices: prices.Sale}
	return of.plan.resolved[in], nil
}

// place is where and when, as far as the plan's prices hang on it.
func (c *plan) place(who *identity, at time.Time) place {
	var in place
	if c.placed {
		in.facts = who.facts()
	}
	return c.only(in, at)
}

// only is a place at a time, as far as the plan's prices hang on both.
func (c *plan) only(in place, at time.Time) place {
	if !c.placed {
		in.facts = rating.Facts{}
	}
	if c.timed {
		in.slot = c.SlotAt(at)
	}
	return in
}

// planOf is a list as a snapshot has it, compiled for a customer.
func (p *pricing) planOf(list *fleet.PriceList, f *fleet.Fleet, customer string) (*plan, error) {
	of := listKey{f, list.Name}
	if found := p.named[namedPlan{of, customer}]; found != nil {
		return found, nil
	}
	key := planKey{customer: customer}
	if key.list = p.lists[of]; key.list == "" {
		text, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("price list %s: %w", list.Name, err)
		}
		key.list = list.Name + "\x00" + string(text)
		p.lists[of] = key.list
	}
	made, err := p.compile(key, list, p.versions[of])
	if err == nil {
		p.named[namedPlan{of, customer}] = made
	}
	return made, err
}

func (p *pricing) compile(key planKey, list *fleet.PriceList, version string) (*plan, error) {
	if made := p.plans[key]; made != nil {
		return made, nil
	}
	compilable, err := list.Rating(version)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", list.Name, err)
	}
	compiled, err := rating.Compile(compilable, key.customer, p.series)
	if err != nil {
		return nil, err
	}
	for _, rule := range compiled.NotInShowback() {
		p.rules["price list "+list.Name+": "+rule] = true
	}
	if len(list.Share) > 0 {
		p.rules["price list "+list.Name+": share: idle nodes and namespaces that serve all others are shared in bills"] = true
	}
	p.plans[key] = &plan{Plan: compiled, customer: key.customer, timed: compiled.Timed(), placed: compiled.MatchesPlaces(), resolved: make(map[place]*resolved)}
	return p.plans[key], nil
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
