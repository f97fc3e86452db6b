package query

import (
	"fmt"
	"maps"
	"math/big"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
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

// ratedLine is one resource under one price list, exact.
type ratedLine struct {
	resource processors.Resource
	currency string
	price    fleet.Decimal
	quantity int64
	cost     *big.Rat
}

// rate is the exact cost of each resource that has a price in the list, in the
// order of processors.Quantities.Resources.
func (p *priced) rate() ([]ratedLine, error) {
	list := p.list
	quantities, err := quantitiesOf(p.sums, p.named)
	if err != nil {
		return nil, err
	}
	var lines []ratedLine
	for _, resource := range quantities.Resources() {
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
