package query

import (
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// quantitiesOf are the summed quantities as rating takes them; volumes are among
// the named ones, by class.
func quantitiesOf(s Sums, named processors.Quantities) (processors.Quantities, error) {
	energy, err := s.Energy()
	if err != nil {
		return nil, err
	}
	all := processors.Quantities{
		processors.CPUUsed: s[usage.CPU], processors.CPURequested: s[usage.CPURequest],
		processors.MemoryUsed: s[usage.Memory], processors.MemoryRequested: s[usage.MemoryRequest],
		processors.NetworkReceive: s[usage.NetworkReceive], processors.NetworkTransmit: s[usage.NetworkTransmit],
		processors.Energy: energy, processors.NodeHours: s[usage.NodeTime],
		processors.NodeReceive: s[usage.NodeReceive], processors.NodeTransmit: s[usage.NodeTransmit],
		processors.EphemeralUsed: s[usage.Ephemeral], processors.CPUMax: s[usage.CPUMax], processors.MemoryMax: s[usage.MemoryMax],
	}
	maps.Copy(all, named)
	return all, nil
}

// ratedLine is one resource at one price, exact.
type ratedLine struct {
	resource  processors.Resource
	currency  string
	listPrice string // before discounts
	price     string
	quantity  int64
	cost      *big.Rat
}

// rate is the exact cost of each resource that has a price, in the order of
// processors.Quantities.Resources.
func (p *priced) rate() ([]ratedLine, error) {
	quantities, err := quantitiesOf(p.sums, p.named)
	if err != nil {
		return nil, err
	}
	var lines []ratedLine
	for resource, quantity := range quantities {
		unit, err := p.at.unit(resource)
		if err != nil {
			return nil, err
		}
		if unit.price != nil {
			cost := new(big.Rat).Mul(unit.price, new(big.Rat).SetInt64(quantity))
			lines = append(lines, ratedLine{resource, p.at.prices.Currency, unit.before, unit.text, quantity, cost})
		}
	}
	slices.SortFunc(lines, func(a, b ratedLine) int { return processors.CompareResources(a.resource, b.resource) })
	return lines, nil
}

// unitPrice is the price of one stored unit of a resource; nil of one without a
// price. The texts are per Resource.Unit: after and before discounts.
type unitPrice struct {
	price        *big.Rat
	text, before string
}

// unit is the price of a resource, worked out once.
func (r *resolved) unit(resource processors.Resource) (unitPrice, error) {
	if unit, known := r.units[resource]; known {
		return unit, nil
	}
	var unit unitPrice
	if price, ok := r.prices.PriceOf(resource); ok {
		before, _ := r.before.PriceOf(resource)
		unit.text, unit.before = price.Text('f'), before.Text('f')
		value, ok := new(big.Rat).SetString(unit.text)
		if !ok {
			return unit, fmt.Errorf("price %q of %s is not a decimal", unit.text, resource)
		}
		unit.price = value.Quo(value, new(big.Rat).SetInt64(resource.Base()))
	}
	if r.units == nil {
		r.units = make(map[processors.Resource]unitPrice)
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
		of := key{line.resource, line.currency, line.price}
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

// costsOf are the exact costs of a row by currency.
func costsOf(slots map[string]*priced) (map[string]*big.Rat, error) {
	total := make(map[string]*big.Rat)
	for _, slot := range slots {
		lines, err := slot.rate()
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			if total[line.currency] == nil {
				total[line.currency] = new(big.Rat)
			}
			total[line.currency].Add(total[line.currency], line.cost)
		}
	}
	return total, nil
}
