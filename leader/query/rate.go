package query

import (
	"fmt"
	"maps"
	"math/big"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// counted is a resource that sums tell, which has no class or name.
type counted int

// standard are those resources, in the order of lines.
var standard = [...]processors.Resource{processors.CPUUsed, processors.CPURequested, processors.CPUMax, processors.MemoryUsed, processors.MemoryRequested, processors.MemoryMax,
	processors.NetworkReceive, processors.NetworkTransmit, processors.Energy, processors.NodeHours, processors.NodeReceive, processors.NodeTransmit, processors.EphemeralUsed}

// amounts are quantities of the standard resources.
type amounts [len(standard)]int64

// amountsOf are the standard resources of sums.
func amountsOf(s *Sums) (amounts, error) {
	energy, err := s.Energy()
	return amounts{s[usage.CPU], s[usage.CPURequest], s[usage.CPUMax], s[usage.Memory], s[usage.MemoryRequest], s[usage.MemoryMax],
		s[usage.NetworkReceive], s[usage.NetworkTransmit], energy, s[usage.NodeTime], s[usage.NodeReceive], s[usage.NodeTransmit], s[usage.Ephemeral]}, err
}

// quantitiesOf are the summed quantities as rating takes them; volumes are among
// the named ones, by class.
func quantitiesOf(s *Sums, named processors.Quantities) (processors.Quantities, error) {
	known, err := amountsOf(s)
	if err != nil {
		return nil, err
	}
	all := make(processors.Quantities, len(standard)+len(named))
	for i, resource := range standard {
		all[resource] = known[i]
	}
	maps.Copy(all, named)
	return all, nil
}

// ratedLine is one resource at one price, exact.
type ratedLine struct {
	resource processors.Resource
	currency string
	unit     *unitPrice
	quantity int64
	cost     *big.Rat
}

// inOrder calls f with the standard resources and the named ones, in the order of
// processors.Quantities.Resources; those with a name have no number.
func inOrder(named processors.Quantities, f func(i counted, resource processors.Resource) error) error {
	const none = counted(-1)
	rest := named.Resources()
	for i, resource := range standard {
		for len(rest) > 0 && processors.CompareResources(rest[0], resource) < 0 {
			if err := f(none, rest[0]); err != nil {
				return err
			}
			rest = rest[1:]
		}
		if err := f(counted(i), resource); err != nil {
			return err
		}
	}
	for _, resource := range rest {
		if err := f(none, resource); err != nil {
			return err
		}
	}
	return nil
}

// each calls f with every resource that has a price, in the order of
// processors.Quantities.Resources, and its quantity.
func (p *priced) each(f func(i counted, resource processors.Resource, unit *unitPrice, quantity int64) error) error {
	known, err := amountsOf(&p.sums)
	if err != nil {
		return err
	}
	return inOrder(p.named, func(i counted, resource processors.Resource) error {
		unit, quantity, err := (*unitPrice)(nil), int64(0), error(nil)
		if i >= 0 {
			unit, err = p.at.unitOf(i)
			quantity = known[i]
		} else {
			unit, err = p.at.unit(resource)
			quantity = p.named[resource]
		}
		if unit == nil || err != nil {
			return err
		}
		return f(i, resource, unit, quantity)
	})
}

// rate is the exact cost of each resource that has a price, in the order of
// processors.Quantities.Resources.
func (p *priced) rate() ([]ratedLine, error) {
	var lines []ratedLine
	err := p.each(func(_ counted, resource processors.Resource, unit *unitPrice, quantity int64) error {
		lines = append(lines, ratedLine{resource, p.at.prices.Currency, unit, quantity, unit.cost(quantity)})
		return nil
	})
	return lines, err
}

// unitPrice is the price of one stored unit of a resource. The texts are per
// Resource.Unit: after and before discounts.
type unitPrice struct {
	price        *big.Rat
	text, before string
}

// cost is what a quantity costs.
func (u *unitPrice) cost(quantity int64) *big.Rat {
	return new(big.Rat).Mul(u.price, new(big.Rat).SetInt64(quantity))
}

// unitOf is unit of a standard resource.
func (r *resolved) unitOf(i counted) (*unitPrice, error) {
	if r.known[i] {
		return r.standard[i], nil
	}
	unit, err := r.unit(standard[i])
	r.standard[i], r.known[i] = unit, err == nil
	return unit, err
}

// unit is the price of a resource, worked out once; nil of one without a price.
func (r *resolved) unit(resource processors.Resource) (*unitPrice, error) {
	if unit, known := r.units[resource]; known {
		return unit, nil
	}
	var unit *unitPrice
	if price, ok := r.prices.PriceOf(resource); ok {
		before, _ := r.before.PriceOf(resource)
		unit = &unitPrice{text: price.Text('f'), before: before.Text('f')}
		value, ok := new(big.Rat).SetString(unit.text)
		if !ok {
			return nil, fmt.Errorf("price %q of %s is not a decimal", unit.text, resource)
		}
		unit.price = value.Quo(value, new(big.Rat).SetInt64(resource.Base()))
	}
	if r.units == nil {
		r.units = make(map[processors.Resource]*unitPrice)
	}
	r.units[resource] = unit
	return unit, nil
}

// together is the lines with those of one resource, currency and price as one, in
// the order in which each is first.
func together(lines []ratedLine) ([]ratedLine, error) {
	type key struct {
		resource        processors.Resource
		currency, price string
	}
	at := make(map[key]int)
	merged := lines[:0]
	for _, line := range lines {
		of := key{line.resource, line.currency, line.unit.text}
		i, known := at[of]
		if !known {
			at[of] = len(merged)
			merged = append(merged, line)
			continue
		}
		var err error
		if merged[i].quantity, err = usage.Add(merged[i].quantity, line.quantity); err != nil {
			return nil, err
		}
		merged[i].cost = new(big.Rat).Add(merged[i].cost, line.cost)
	}
	return merged, nil
}

// costsOf are the exact costs of a row by currency. Those under one list are added
// over the least common denominator of its prices, so that they are reduced once.
func costsOf(slots slots) (map[string]*big.Rat, error) {
	total := make(map[string]*big.Rat)
	for _, slot := range slots.all {
		sum, den, some := new(big.Int), big.NewInt(1), false
		err := slot.each(func(_ counted, _ processors.Resource, unit *unitPrice, quantity int64) error {
			some = true
			if quantity == 0 {
				return nil
			}
			cost := new(big.Int).Mul(unit.price.Num(), big.NewInt(quantity))
			if own := unit.price.Denom(); own.Cmp(den) != 0 {
				common := new(big.Int).Mul(den, new(big.Int).Quo(own, new(big.Int).GCD(nil, nil, den, own)))
				sum.Mul(sum, new(big.Int).Quo(common, den))
				cost.Mul(cost, new(big.Int).Quo(common, own))
				den = common
			}
			sum.Add(sum, cost)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !some {
			continue
		}
		cost, currency := new(big.Rat).SetFrac(sum, den), slot.at.prices.Currency
		if total[currency] == nil {
			total[currency] = cost
			continue
		}
		total[currency].Add(total[currency], cost)
	}
	return total, nil
}
