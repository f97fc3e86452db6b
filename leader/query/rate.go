package query

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
)

// costPlaces are the decimals of an answer's cost: nanos, as showback is
// stored. A bill rounds to the currency's smallest unit (processors.Rate).
const costPlaces = 9

// quantitiesOf are the summed quantities as rating takes them.
func quantitiesOf(s Sums) (processors.Quantities, error) {
	energy, err := s.Energy()
	if err != nil {
		return nil, err
	}
	return processors.Quantities{
		processors.CPUUsed: s[CPU], processors.CPURequested: s[CPURequest],
		processors.MemoryUsed: s[Memory], processors.MemoryRequested: s[MemoryRequest],
		processors.NetworkReceive: s[NetworkReceive], processors.NetworkTransmit: s[NetworkTransmit],
		processors.Energy: energy, processors.NodeHours: s[NodeTime],
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

// decimal rounds an exact amount once, half away from zero, and drops zeros
// beyond the currency's own decimals.
func decimal(amount *big.Rat, currency string) string {
	return trimMoney(amount.FloatString(costPlaces), currency)
}

func trimMoney(text, currency string) string {
	least, ok := processors.CurrencyExponent(currency)
	if !ok {
		least = 2
	}
	point := strings.IndexByte(text, '.')
	if point < 0 {
		return text
	}
	end := len(text)
	for end > point+1+int(least) && text[end-1] == '0' {
		end--
	}
	text = strings.TrimSuffix(text[:end], ".")
	if strings.Trim(text, "-0.") == "" {
		text = strings.TrimPrefix(text, "-")
	}
	return text
}

// setCost fills the row's money.
func (r *Row) setCost(costs map[string]*big.Rat) {
	for currency, amount := range costs {
		r.Costs = append(r.Costs, Money{Cost: decimal(amount, currency), Currency: currency})
	}
	slices.SortFunc(r.Costs, func(a, b Money) int { return strings.Compare(a.Currency, b.Currency) })
	if len(r.Costs) == 1 {
		r.Cost, r.Currency = &r.Costs[0].Cost, r.Costs[0].Currency
		r.Costs = nil
	}
}
