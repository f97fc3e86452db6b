package rating

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
)

// Usage is what was used of some resources in one slot. Any number of them may
// have the same key, facts and slot: they are summed.
type Usage struct {
	Key        string // what lines are split over, such as "cluster/namespace"
	Facts      Facts
	Slot       Slot // Plan.SlotAt
	Quantities processors.Quantities
}

// Input is a customer's billing period, or the part of one in which the list held.
type Input struct {
	Period schema.Window // the whole billing period
	// Held are the parts of it in which the list's version held, disjoint; nil is all
	// of it. Fees and the minimum charge are for these parts.
	Held []schema.Window
	// Location is where the customer's months and days begin; nil is UTC.
	Location *time.Location
	Usage    []Usage
}

// Result is the lines of a period.
type Result struct {
	Lines []Line // by resource, rate, slot and tier; then fees, then the minimum charge
	// Unpriced is what has a quantity and no price, in stored units.
	Unpriced processors.Quantities
}

// Charges makes the lines of a period. They depend on the sums alone: by key,
// facts and slot. Errors: processors.ErrInput, processors.ErrOverflow and
// *MissingPriceError.
func (p *Plan) Charges(in Input) (Result, error) {
	if !in.Period.From.Before(in.Period.To) {
		return Result{}, bad("period %s: is empty", in.Period)
	}
	c := newCharging(p)
	for i := range in.Usage {
		if err := c.add(&in.Usage[i]); err != nil {
			return Result{}, fmt.Errorf("price list %s: %w", p.list.Name, err)
		}
	}
	lines, err := c.lines()
	if err != nil {
		return Result{}, fmt.Errorf("price list %s: %w", p.list.Name, err)
	}
	fees, err := p.feeLines(in)
	if err != nil {
		return Result{}, fmt.Errorf("price list %s: %w", p.list.Name, err)
	}
	lines = append(lines, fees...)
	if least, ok := p.minimumLine(in, lines); ok {
		lines = append(lines, least)
	}
	return Result{Lines: lines, Unpriced: c.unpriced}, nil
}

// charging sums usage into cells.
type charging struct {
	plan     *Plan
	keys     map[string]int
	names    []string // of keys, as they came
	places   map[place]*contents
	cells    map[cellID]*cell
	classes  map[classID]*rate
	unpriced processors.Quantities

	reached map[string]int // RefundFailure: the tier of volume rates, by resource and rate

	last      *contents // of the usage before, which often is of the same place
	lastPlace place
	lastKey   string
	lastIndex int
}

// classID is a class of resource that has the price of all classes.
type classID struct {
	rate     *rate
	resource processors.Resource
}

// place is where and when something was used.
type place struct {
	facts Facts
	slot  Slot
}

// contents are the cells of a place by resource; nil is a resource without a
// price.
type contents map[processors.Resource]*cell

// cellID is what has one price: a rate in a slot. Slots count only as far as the
// rate depends on them.
type cellID struct {
	rate *rate
	slot Slot
}

// cell is the sum of what has one price.
type cell struct {
	cellID
	prices *prices // nil of tiers
	sums   []int64 // by key
}

func newCharging(p *Plan) *charging {
	return &charging{plan: p, keys: make(map[string]int), places: make(map[place]*contents), cells: make(map[cellID]*cell),
		classes: make(map[classID]*rate)}
}

// add counts a usage.
func (c *charging) add(u *Usage) error {
	key := c.lastIndex
	if len(c.names) == 0 || u.Key != c.lastKey {
		key = c.key(u.Key)
	}
	where := place{u.Facts, u.Slot}
	if c.last == nil || where != c.lastPlace {
		found := c.places[where]
		if found == nil {
			found = &contents{}
			c.places[where] = found
		}
		c.last, c.lastPlace = found, where
	}
	for resource, quantity := range u.Quantities {
		if quantity == 0 {
			continue
		}
		at, known := (*c.last)[resource]
		if !known {
			var err error
			if at, err = c.cell(resource, where); err != nil {
				return err
			}
			(*c.last)[resource] = at
		}
		if at == nil {
			if err := c.leave(resource, quantity); err != nil {
				return err
			}
			continue
		}
		if err := at.add(key, quantity); err != nil {
			return fmt.Errorf("sum of %s: %w", resource, err)
		}
	}
	return nil
}

func (c *charging) key(name string) int {
	index, known := c.keys[name]
	if !known {
		index = len(c.names)
		c.keys[name] = index
		c.names = append(c.names, name)
	}
	c.lastKey, c.lastIndex = name, index
	return index
}

func (c *charging) leave(r processors.Resource, quantity int64) error {
	if c.unpriced == nil {
		c.unpriced = make(processors.Quantities)
	}
	total, err := sum(c.unpriced[r], quantity)
	if err != nil {
		return fmt.Errorf("sum of %s: %w", r, err)
	}
	c.unpriced[r] = total
	return nil
}

// cell finds or makes the cell of a resource at a place; nil where it has no price.
func (c *charging) cell(resource processors.Resource, where place) (*cell, error) {
	if resource.Unit() == "" {
		return nil, bad("resource %q is not known", resource)
	}
	r := c.plan.rate(resource, where.facts)
	if r == nil {
		return nil, nil
	}
	if r.resource != resource { // the class has the price of all classes, and a line of its own
		own := c.classes[classID{r, resource}]
		if own == nil {
			own = new(rate)
			*own = *r
			own.resource = resource
			c.classes[classID{r, resource}] = own
		}
		r = own
	}
	id := cellID{rate: r}
	switch {
	case r.dynamic != nil:
		id.slot.Prices = where.slot.Prices
	case r.slots != nil:
		id.slot.Tariff = where.slot.Tariff
	}
	if found := c.cells[id]; found != nil {
		return found, nil
	}
	made := &cell{cellID: id}
	if r.tiers == nil {
		var err error
		if made.prices, err = c.plan.pricesIn(r, where.slot); err != nil {
			return nil, err
		}
	}
	c.cells[id] = made
	return made, nil
}

func (c *cell) add(key int, quantity int64) error {
	if key >= len(c.sums) {
		c.sums = append(c.sums, make([]int64, key+1-len(c.sums))...)
	}
	total, err := sum(c.sums[key], quantity)
	c.sums[key] = total
	return err
}

// lines are the lines of all cells, those of a dynamic rate as one.
func (c *charging) lines() ([]Line, error) {
	order := make([]int, len(c.names)) // keys by their names
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(c.names[a], c.names[b]) })
	type group struct {
		rate   *rate
		tariff string
	}
	byGroup := make(map[group][]*cell)
	for id, one := range c.cells {
		of := group{id.rate, id.slot.Tariff}
		byGroup[of] = append(byGroup[of], one)
	}
	groups := slices.SortedFunc(maps.Keys(byGroup), func(a, b group) int {
		return cmp.Or(processors.CompareResources(a.rate.resource, b.rate.resource), cmp.Compare(a.rate.id, b.rate.id), cmp.Compare(a.tariff, b.tariff))
	})
	var lines []Line
	for _, of := range groups {
		parts := make([]linePart, 0, len(byGroup[of]))
		for _, one := range byGroup[of] {
			parts = append(parts, linePart{slot: one.slot.Prices, prices: one.prices, sums: inOrder(one.sums, order)})
		}
		if of.rate.tiers != nil {
			var err error
			if parts, err = of.rate.partition(parts[0].sums, c.reached[of.rate.tierKey()]); err != nil {
				return nil, fmt.Errorf("%s: %w", of.rate.id, err)
			}
			for _, part := range parts {
				line, err := c.line(of.rate, "", []linePart{part}, order)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", of.rate.id, err)
				}
				lines = append(lines, line)
			}
			continue
		}
		slices.SortFunc(parts, func(a, b linePart) int {
			return cmp.Or(a.prices.list.Cmp(&b.prices.list), cmp.Compare(a.slot, b.slot))
		})
		line, err := c.line(of.rate, of.tariff, parts, order)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", of.rate.id, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func inOrder(sums []int64, order []int) []int64 {
	sorted := make([]int64, len(order))
	for i, key := range order {
		if key < len(sums) {
			sorted[i] = sums[key]
		}
	}
	return sorted
}
