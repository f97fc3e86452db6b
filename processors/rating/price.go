package rating

import (
	"math/big"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// linePart is what of a line has one price: the sums by key, in the order of
// lines.
type linePart struct {
	slot   string
	tier   int
	prices *prices
	sums   []int64
}

// line makes a line of parts at their prices.
func (c *charging) line(r *rate, tariff string, parts []linePart, order []int) (Line, error) {
	line := c.plan.blank(r)
	line.Slot, line.Tier = tariff, parts[0].tier
	line.Unit, line.Base = r.resource.Unit(), r.resource.Base()
	sums, err := line.addUp(parts)
	if err != nil {
		return Line{}, err
	}
	if line.Dynamic = r.dynamic != nil; line.Dynamic {
		if line.Parts, err = partsOf(parts); err != nil {
			return Line{}, err
		}
	}
	sign := int64(1)
	if r.credit {
		sign = -1
	}
	amounts := []struct {
		of   func(*prices) *big.Rat
		unit **apd.Decimal
		cost **apd.Decimal
		set  func(*Share, apd.Decimal)
	}{
		{func(p *prices) *big.Rat { return ratOf(&p.list) }, ptr(&line.ListUnitPrice), ptr(&line.ListCost), func(s *Share, d apd.Decimal) { s.ListCost = d }},
		{func(p *prices) *big.Rat { return ratOf(&p.contracted) }, ptr(&line.ContractedUnitPrice), ptr(&line.ContractedCost), func(s *Share, d apd.Decimal) { s.ContractedCost = d }},
		{func(p *prices) *big.Rat {
			if p.cost == nil {
				return nil
			}
			return &p.cost.Rat
		}, &line.CostPrice, &line.OperatorCost, func(s *Share, d apd.Decimal) { s.OperatorCost = &d }},
	}
	for i, one := range sums {
		if one != 0 {
			line.Shares = append(line.Shares, Share{Key: c.names[order[i]], Quantity: one})
		}
	}
	for _, amount := range amounts {
		total, unit, shares, known := c.plan.priced(parts, line.Quantity, line.Base, sign, amount.of)
		if !known {
			continue
		}
		if shares == nil {
			return Line{}, processors.ErrOverflow
		}
		put(amount.unit, unit)
		put(amount.cost, decimal(total, c.plan.exponent))
		at := 0
		for i, one := range sums {
			if one != 0 {
				amount.set(&line.Shares[at], decimal(big.NewInt(shares[i]), c.plan.exponent))
				at++
			}
		}
	}
	return line, nil
}

func ptr(d *apd.Decimal) **apd.Decimal { return &d }

// put sets what a pointer points at, or makes something for it to point at.
func put(to **apd.Decimal, value apd.Decimal) {
	if *to == nil {
		*to = new(apd.Decimal)
	}
	(*to).Set(&value)
}

// blank is a line of a rate with no quantity.
func (p *Plan) blank(r *rate) Line {
	return Line{Resource: r.resource, Rate: r.id, List: p.list.Name, Version: p.list.Version, Currency: p.list.Currency, Match: r.match}
}

// addUp sets the quantity, and returns the sums by key over all parts.
func (l *Line) addUp(parts []linePart) ([]int64, error) {
	sums := parts[0].sums
	if len(parts) > 1 {
		sums = make([]int64, len(sums))
		for _, part := range parts {
			for i, one := range part.sums {
				var err error
				if sums[i], err = sum(sums[i], one); err != nil {
					return nil, err
				}
			}
		}
	}
	var err error
	if l.Quantity, err = sumAll(sums); err != nil {
		return nil, err
	}
	l.PricingQuantity = shown(big.NewRat(l.Quantity, l.Base))
	return sums, nil
}

func partsOf(parts []linePart) ([]Part, error) {
	all := make([]Part, len(parts))
	for i, part := range parts {
		quantity, err := sumAll(part.sums)
		if err != nil {
			return nil, err
		}
		all[i] = Part{Prices: part.slot, Quantity: quantity}
		all[i].List.Set(&part.prices.list)
		all[i].Contracted.Set(&part.prices.contracted)
	}
	return all, nil
}

// priced is the rounded cost of the parts in the currency's smallest unit, the unit
// price that it comes of, and its shares by key; nil shares are beyond int64. Not
// known where a part has no such price.
func (p *Plan) priced(parts []linePart, quantity, base, sign int64, of func(*prices) *big.Rat) (total *big.Int, unit apd.Decimal, shares []int64, known bool) {
	exact, price := new(big.Rat), (*big.Rat)(nil)
	den := big.NewInt(1) // the least common denominator of the prices
	for _, part := range parts {
		if price = of(part.prices); price == nil {
			return nil, unit, nil, false
		}
		den.Mul(den, new(big.Int).Quo(price.Denom(), new(big.Int).GCD(nil, nil, den, price.Denom())))
	}
	weights := make([]*big.Int, len(parts[0].sums))
	numerators := make([]*big.Int, len(parts))
	for i, part := range parts {
		own := of(part.prices)
		n := new(big.Int).Mul(own.Num(), new(big.Int).Quo(den, own.Denom()))
		numerators[i] = n.Mul(n, big.NewInt(sign))
		whole, _ := sumAll(part.sums) // addUp has checked it
		exact.Add(exact, new(big.Rat).SetInt(new(big.Int).Mul(numerators[i], big.NewInt(whole))))
	}
	scale := new(big.Int).Mul(den, big.NewInt(base))
	exact.Quo(exact, new(big.Rat).SetInt(scale))
	total = rounded(exact, p.exponent)
	switch {
	case len(parts) == 1:
		unit = shownExactly(price)
	case quantity != 0:
		mean := new(big.Rat).Mul(exact, big.NewRat(base, 1))
		unit = shown(mean.Quo(mean, big.NewRat(quantity*sign, 1)))
	}
	if len(parts) == 1 && quantity != 0 && total.IsInt64() {
		if shares, ok := signedSmall(total.Int64(), parts[0].sums, quantity); ok {
			return total, unit, shares, true
		}
	}
	for k := range weights {
		weights[k] = new(big.Int)
		for i, part := range parts {
			if part.sums[k] != 0 {
				weights[k].Add(weights[k], new(big.Int).Mul(numerators[i], big.NewInt(part.sums[k])))
			}
		}
		weights[k].Mul(weights[k], pow10(p.exponent))
	}
	return total, unit, spread(total, weights, scale), true
}

// signedSmall is apportionSmall for costs and quantities of either sign.
func signedSmall(total int64, weights []int64, sum int64) ([]int64, bool) {
	if total >= 0 {
		return apportionSmall(total, weights, sum)
	}
	shares, ok := apportionSmall(-total, weights, sum)
	for i := range shares {
		shares[i] = -shares[i]
	}
	return shares, ok
}

// shownExactly is a price: all its digits where it is a finite decimal of at most
// 34 of them, else to pricePlaces.
func shownExactly(r *big.Rat) apd.Decimal {
	if places, ok := r.FloatPrec(); ok && places <= maxDigits {
		d := decimal(rounded(r, int32(places)), int32(places))
		return d
	}
	return shown(r)
}
