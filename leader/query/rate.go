package query

import (
	"fmt"
	"math/big"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
)

// quantitiesOf are the summed quantities as rating takes them.
func quantitiesOf(s Sums) (processors.Quantities, error) {
	energy, err := s.Energy()
	if err != nil {
		return nil, err
	}
	return processors.Quantities{
		processors.CPUUsed: s[usage.CPU], processors.CPURequested: s[usage.CPURequest],
		processors.MemoryUsed: s[usage.Memory], processors.MemoryRequested: s[usage.MemoryRequest],
		processors.NetworkReceive: s[usage.NetworkReceive], processors.NetworkTransmit: s[usage.NetworkTransmit],
		processors.Energy: energy, processors.NodeHours: s[usage.NodeTime],
	}, nil
}

// ratedLine is one resource under one price list, exact.
type ratedLine struct {
	resource processors.Resource
	currency string
	price    fleet.Decimal
	quantity int64
	cost     *big.Rat
}

// rate is the exact cost of each resource that has a price in the list, in the
// order of processors.Resources.
func rate(list fleet.PriceList, sums Sums) ([]ratedLine, error) {
	quantities, err := quantitiesOf(sums)
	if err != nil {
		return nil, err
	}
	var lines []ratedLine
	for _, resource := range processors.Resources() {
		price, ok := list.Price(string(resource))
		if !ok {
			continue
		}
		value, ok := new(big.Rat).SetString(string(price))
		if !ok {
			return nil, fmt.Errorf("price list %s: price %q of %s is not a decimal", list.Name, price, resource)
		}
		cost := new(big.Rat).Mul(value, big.NewRat(quantities[resource], resource.Base()))
		lines = append(lines, ratedLine{resource, list.Currency, price, quantities[resource], cost})
	}
	return lines, nil
}

// costs are the exact costs of a row by currency.
func (row *tallyRow) costs() (map[string]*big.Rat, error) {
	total := make(map[string]*big.Rat)
	for _, slot := range row.prices {
		lines, err := rate(slot.list, slot.sums)
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
