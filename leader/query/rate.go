package query

import (
	"fmt"
	"maps"
	"math/big"

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
	for _, resource := range quantities.Resources() {
		price, ok := p.prices.PriceOf(resource)
		if !ok {
			continue
		}
		text := price.Text('f')
		value, ok := new(big.Rat).SetString(text)
		if !ok {
			return nil, fmt.Errorf("price %q of %s is not a decimal", text, resource)
		}
		cost := new(big.Rat).Mul(value, big.NewRat(quantities[resource], resource.Base()))
		before, _ := p.before.PriceOf(resource)
		lines = append(lines, ratedLine{resource, p.prices.Currency, before.Text('f'), text, quantities[resource], cost})
	}
	return lines, nil
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
