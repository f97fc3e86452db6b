package processors

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/cockroachdb/apd/v3"
)

// nanoPlaces: cost_nanos counts 1e-9 of the currency.
const nanoPlaces = 9

// Usage is what one workload used in one price slot.
type Usage struct {
	Namespace    string
	WorkloadKind string
	Workload     string
	Quantities   Quantities
}

// CostSlot is a part of the quarter in which the same prices hold; a price that
// changes within a quarter cuts it.
//
// Where prices depend on the place (hardware, provider, region), a slot of time
// stands once per place, with what was used there.
type CostSlot struct {
	Window schema.Window
	Place  string      // "" where prices do not depend on it
	Prices []PriceList // one per kind and currency
	Usage  []Usage     // one per workload, summed over the slot
}

// CostInput is a cluster and a quarter.
type CostInput struct {
	Window  schema.Window
	Cluster string
	Slots   []CostSlot // disjoint but for places, within Window
}

// CostRow is one row of the table cost.
type CostRow struct {
	Time         time.Time // the quarter's start
	Cluster      string
	Namespace    string
	WorkloadKind string
	Workload     string
	Resource     Resource
	Currency     string
	PriceKind    PriceKind
	Nanos        int64  // 1e-9 of the currency
	PriceVersion string // the slots' versions in the order of time, joined by "+"
}

// CostResult is a cluster's showback in the quarter.
type CostResult struct {
	// Rows in the order of their keys; one for each quantity that has a price,
	// zeros included.
	Rows []CostRow
	// Unpriced is the resources of which there is a quantity and a slot without
	// a sale price.
	Unpriced []Resource
}

// Cost rates a cluster's quarter. Per slot, resource and price list, the rows
// add up to the cost of the summed quantity, to the nano.
type Cost struct{}

// Name is "cost".
func (Cost) Name() string { return "cost" }

// Process rates each slot and adds up the slots of a row.
func (Cost) Process(in CostInput) (CostResult, error) {
	in = in.canonical()
	if err := in.check(); err != nil {
		return CostResult{}, fmt.Errorf("check input of cluster %s: %w", in.Cluster, err)
	}
	var result CostResult
	var rows []CostRow
	for _, slot := range in.Slots {
		rated, unpriced, err := in.rate(slot)
		if err != nil {
			return CostResult{}, fmt.Errorf("rate cluster %s, %s: %w", in.Cluster, slot.Window, err)
		}
		rows = append(rows, rated...)
		result.Unpriced = append(result.Unpriced, unpriced...)
	}
	if len(rows) > 0 {
		result.Rows = make([]CostRow, 0, len(rows))
	}
	for _, i := range inOrder(rows) {
		row := rows[i]
		last := len(result.Rows) - 1
		if last < 0 || compareCostRows(result.Rows[last], row) != 0 {
			result.Rows = append(result.Rows, row)
			continue
		}
		if err := result.Rows[last].add(row); err != nil {
			return CostResult{}, fmt.Errorf("add up cluster %s: %w", in.Cluster, err)
		}
	}
	slices.Sort(result.Unpriced)
	result.Unpriced = slices.Compact(result.Unpriced)
	return result, nil
}

// inOrder are the rows' places in the order of their keys, those of one key in
// that of the slots.
func inOrder(rows []CostRow) []int {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(compareCostRows(rows[a], rows[b]), cmp.Compare(a, b)) })
	return order
}

func (r *CostRow) add(o CostRow) error {
	sum, err := Sum(r.Nanos, o.Nanos)
	if err != nil {
		return err
	}
	r.Nanos = sum
	if o.PriceVersion != r.PriceVersion {
		r.PriceVersion += "+" + o.PriceVersion
	}
	return nil
}

// rate is the rows of one slot.
func (in CostInput) rate(slot CostSlot) (rows []CostRow, unpriced []Resource, err error) {
	all := slot.resources()
	rows = make([]CostRow, 0, len(slot.Usage)*min(len(all), 4))
	users, quantities := make([]int, 0, len(slot.Usage)), make([]int64, 0, len(slot.Usage))
	for _, r := range all {
		users, quantities = users[:0], quantities[:0]
		for i, u := range slot.Usage {
			if quantity, counted := u.Quantities[r]; counted {
				users, quantities = append(users, i), append(quantities, quantity)
			}
		}
		sold := false
		for _, list := range slot.Prices {
			price, priced := list.price(r)
			if !priced {
				continue
			}
			sold = sold || list.Kind == Sale
			nanos, err := shareCost(quantities, price, r)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", r, err)
			}
			for i, user := range users {
				u := &slot.Usage[user]
				rows = append(rows, CostRow{Time: in.Window.From, Cluster: in.Cluster, Namespace: u.Namespace,
					WorkloadKind: u.WorkloadKind, Workload: u.Workload, Resource: r, Currency: list.Currency,
					PriceKind: list.Kind, Nanos: nanos[i], PriceVersion: list.Version})
			}
		}
		if !sold && !r.Derived() && slices.ContainsFunc(quantities, func(q int64) bool { return q != 0 }) {
			unpriced = append(unpriced, r)
		}
	}
	return rows, unpriced, nil
}

// resources are those that somebody used in the slot, in the order of lines.
func (s CostSlot) resources() []Resource {
	all := make(Quantities)
	for _, u := range s.Usage {
		for r := range u.Quantities {
			all[r] = 0
		}
	}
	return all.Resources()
}

// shareCost is the cost of each quantity in nanos: exact and rounded down, the
// nanos that are missing from the rounded cost of all given to the largest
// remainders. Quantities may be negative (a rest is signed).
func shareCost(quantities []int64, price *apd.Decimal, r Resource) ([]int64, error) {
	p, _ := r.pricing()
	total, err := Sum(quantities...)
	if err != nil {
		return nil, err
	}
	left := exactCost(total, price, p.base, nanoPlaces).round()
	if shares, ok := shareSmall(quantities, exactCost(1, price, p.base, nanoPlaces), left); ok {
		return shares, nil
	}
	return shareLarge(quantities, price, p.base, left)
}

// shareSmall is shareLarge in integers of 64 bits; not ok where they are too
// small: a quantity below 0, a price with many digits, a cost beyond them.
func shareSmall(quantities []int64, each *ratio, left *big.Int) (shares []int64, ok bool) {
	common := new(big.Int).GCD(nil, nil, new(big.Int).Abs(&each.num), &each.den)
	num, den := new(big.Int).Quo(&each.num, common), new(big.Int).Quo(&each.den, common)
	if num.Sign() < 0 || !num.IsInt64() || !den.IsInt64() || !left.IsInt64() {
		return nil, false
	}
	n, d, rest := num.Int64(), den.Int64(), left.Int64()
	shares = make([]int64, len(quantities))
	remainders := make([]int64, len(quantities))
	order := make([]int, len(quantities))
	for i, quantity := range quantities {
		if quantity < 0 {
			return nil, false
		}
		shares[i], remainders[i] = mulDivRem(quantity, n, d)
		if shares[i] == math.MaxInt64 {
			return nil, false
		}
		order[i] = i
		rest -= shares[i]
	}
	if rest == 0 {
		return shares, true
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(remainders[b], remainders[a]), cmp.Compare(a, b)) })
	for _, i := range order[:rest] {
		shares[i]++
	}
	return shares, true
}

// shareLarge gives each quantity the floor of its exact cost, and what is left of
// the rounded cost of all to the largest remainders.
func shareLarge(quantities []int64, price *apd.Decimal, base int64, left *big.Int) ([]int64, error) {
	left = new(big.Int).Set(left)
	shares := make([]int64, len(quantities))
	remainders := make([]big.Int, len(quantities))
	order := make([]int, len(quantities))
	for i, quantity := range quantities {
		exact, floor := exactCost(quantity, price, base, nanoPlaces), new(big.Int)
		floor.DivMod(&exact.num, &exact.den, &remainders[i])
		if !floor.IsInt64() {
			return nil, ErrOverflow
		}
		shares[i], order[i] = floor.Int64(), i
		left.Sub(left, floor)
	}
	slices.SortStableFunc(order, func(a, b int) int { return remainders[b].Cmp(&remainders[a]) })
	for _, i := range order[:left.Int64()] {
		shares[i]++
	}
	return shares, nil
}

func compareCostRows(a, b CostRow) int {
	return compareKeys(
		[6]string{a.Namespace, a.WorkloadKind, a.Workload, string(a.Resource), a.Currency, string(a.PriceKind)},
		[6]string{b.Namespace, b.WorkloadKind, b.Workload, string(b.Resource), b.Currency, string(b.PriceKind)})
}

// compareKeys stops at the first text that differs, which cmp.Or does not.
func compareKeys(a, b [6]string) int {
	for i := range a {
		if a[i] != b[i] {
			return cmp.Compare(a[i], b[i])
		}
	}
	return 0
}

func compareUsage(a, b Usage) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.WorkloadKind, b.WorkloadKind), cmp.Compare(a.Workload, b.Workload))
}

// comparePriceLists orders the lists of one slot.
func comparePriceLists(a, b PriceList) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Currency, b.Currency))
}

// canonical is the input with slots, price lists, prices and usage in the order
// of their keys.
func (in CostInput) canonical() CostInput {
	in.Slots = slices.Clone(in.Slots)
	slices.SortStableFunc(in.Slots, func(a, b CostSlot) int {
		return cmp.Or(a.Window.From.Compare(b.Window.From), cmp.Compare(a.Place, b.Place))
	})
	for i := range in.Slots {
		s := &in.Slots[i]
		s.Usage, s.Prices = slices.Clone(s.Usage), slices.Clone(s.Prices)
		if !slices.IsSortedFunc(s.Usage, compareUsage) {
			slices.SortStableFunc(s.Usage, compareUsage)
		}
		slices.SortStableFunc(s.Prices, comparePriceLists)
		for j := range s.Prices {
			prices := slices.Clone(s.Prices[j].Prices)
			slices.SortStableFunc(prices, func(a, b Price) int { return cmp.Compare(a.Resource, b.Resource) })
			s.Prices[j].Prices = prices
		}
	}
	return in
}

// check looks for contradictions in a canonical input.
func (in CostInput) check() error {
	if !in.Window.From.Before(in.Window.To) {
		return fmt.Errorf("window %s: %w", in.Window, ErrInput)
	}
	for i, slot := range in.Slots {
		w := slot.Window
		if !w.From.Before(w.To) || w.From.Before(in.Window.From) || w.To.After(in.Window.To) || i > 0 && !slot.follows(in.Slots[i-1]) {
			return fmt.Errorf("slot %s: %w", w, ErrInput)
		}
		for j, list := range slot.Prices {
			if j > 0 && comparePriceLists(slot.Prices[j-1], list) == 0 {
				return fmt.Errorf("two price lists of %s in %s: %w", list.Kind, list.Currency, ErrInput)
			}
			if err := list.check(); err != nil {
				return err
			}
		}
		for j, u := range slot.Usage {
			if j > 0 && compareUsage(slot.Usage[j-1], u) == 0 {
				return fmt.Errorf("two usages of %s/%s/%s: %w", u.Namespace, u.WorkloadKind, u.Workload, ErrInput)
			}
		}
	}
	return nil
}

// follows says whether a slot is beside the one before it: in time or in place.
func (s CostSlot) follows(o CostSlot) bool {
	return !s.Window.From.Before(o.Window.To) || s.Window == o.Window && s.Place != o.Place
}

// Fingerprint covers the whole input.
func (Cost) Fingerprint(in CostInput) string {
	in = in.canonical()
	h := newHasher("cost/2")
	h.text(in.Cluster)
	h.times(in.Window.From, in.Window.To)
	h.ints(int64(len(in.Slots)))
	for _, slot := range in.Slots {
		h.times(slot.Window.From, slot.Window.To)
		if slot.Place != "" {
			h.text("place", slot.Place)
		}
		h.ints(int64(len(slot.Prices)))
		for _, list := range slot.Prices {
			h.text(list.Version, string(list.Kind), list.Currency, strconv.FormatBool(list.Signed))
			h.ints(int64(len(list.Prices)))
			for _, p := range list.Prices {
				h.text(string(p.Resource), p.Price.String())
			}
		}
		h.ints(int64(len(slot.Usage)))
		for _, u := range slot.Usage {
			h.text(u.Namespace, u.WorkloadKind, u.Workload)
			h.ints(int64(len(u.Quantities)))
			for _, r := range u.Quantities.Resources() {
				h.text(string(r))
				h.ints(u.Quantities[r])
			}
		}
	}
	return h.String()
}
