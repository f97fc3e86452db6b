package rating

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/cockroachdb/apd/v3"
)

// held are the parts of the period in which the list holds, in order.
func (in *Input) held() ([]schema.Window, error) {
	if in.Held == nil {
		return []schema.Window{in.Period}, nil
	}
	parts := slices.Clone(in.Held)
	slices.SortFunc(parts, func(a, b schema.Window) int { return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To)) })
	for i, part := range parts {
		if !part.From.Before(part.To) || part.From.Before(in.Period.From) || part.To.After(in.Period.To) || i > 0 && part.From.Before(parts[i-1].To) {
			return nil, bad("held %s: is empty, outside the period or twice", part)
		}
	}
	return parts, nil
}

// feeLines are the flat fees: for each calendar month or day of the customer's that
// is held in part, that part of it.
func (p *Plan) feeLines(in Input) ([]Line, error) {
	parts, err := in.held()
	if err != nil || len(p.fees) == 0 {
		return nil, err
	}
	location := in.Location
	if location == nil {
		location = time.UTC
	}
	lines := make([]Line, len(p.fees))
	for i, r := range p.fees {
		quantity, charged := new(big.Rat), time.Duration(0)
		for _, part := range parts {
			quantity.Add(quantity, calendarParts(part, r.per, location))
			charged += part.Length()
		}
		line := p.blank(r)
		line.Quantity, line.Unit, line.PricingQuantity = charged.Milliseconds(), string(r.per), shown(quantity)
		line.ListUnitPrice.Set(&r.fixed.list)
		line.ContractedUnitPrice.Set(&r.fixed.contracted)
		cost := func(price *big.Rat) apd.Decimal {
			return decimal(rounded(new(big.Rat).Mul(quantity, price), p.exponent), p.exponent)
		}
		line.ListCost, line.ContractedCost = cost(ratOf(&r.fixed.list)), cost(ratOf(&r.fixed.contracted))
		if r.fixed.cost != nil {
			unit, total := shownExactly(&r.fixed.cost.Rat), cost(&r.fixed.cost.Rat)
			line.CostPrice, line.OperatorCost = &unit, &total
		}
		lines[i] = line
	}
	return lines, nil
}

// calendarParts is how many calendar months or days a window is: of each that it
// holds in part, that share of its true length.
func calendarParts(w schema.Window, per Per, location *time.Location) *big.Rat {
	sum := new(big.Rat)
	for at := w.From; at.Before(w.To); {
		unit := calendar(at, per, location)
		end := schema.Earlier(unit.To, w.To)
		sum.Add(sum, big.NewRat(int64(end.Sub(at)), int64(unit.Length())))
		at = end
	}
	return sum
}

// calendar is the month or day of the location that holds t. A day may begin
// after midnight, where the clock skips it.
func calendar(t time.Time, per Per, location *time.Location) schema.Window {
	year, month, day := t.In(location).Date()
	begin := func(months, days int) time.Time {
		if per == Month {
			return StartOfDay(year, month+time.Month(months), 1, location)
		}
		return StartOfDay(year, month, day+days, location)
	}
	return schema.Window{From: begin(0, 0), To: begin(1, 1)}
}

// StartOfDay is the moment from which a location's clock shows a date up to its
// noon: midnight, or what comes after it where the clock skips midnight.
func StartOfDay(year int, month time.Month, day int, location *time.Location) time.Time {
	t := time.Date(year, month, day, 12, 0, 0, 0, location)
	for date := t.Day(); t.Add(-schema.Quarter).Day() == date; {
		t = t.Add(-schema.Quarter)
	}
	return t.UTC()
}

// minimumLine fills the lines up to the list's minimum, of a period that it holds in
// part up to that part. Credits do not count.
func (p *Plan) minimumLine(in Input, lines []Line) (Line, bool) {
	if p.list.Minimum == nil {
		return Line{}, false
	}
	parts, err := in.held()
	if err != nil {
		return Line{}, false // feeLines has told it
	}
	held := time.Duration(0)
	for _, part := range parts {
		held += part.Length()
	}
	least := new(big.Rat).Mul(ratOf(p.list.Minimum), big.NewRat(int64(held), int64(in.Period.Length())))
	missing := decimal(rounded(least, p.exponent), p.exponent)
	for i := range lines {
		if lines[i].Credit() {
			continue
		}
		var negative apd.Decimal
		if missing, err = add(&missing, negative.Neg(&lines[i].ContractedCost)); err != nil {
			return Line{}, false
		}
	}
	if missing.Negative || missing.IsZero() {
		return Line{}, false
	}
	line := Line{Resource: MinimumCharge, Rate: string(MinimumCharge), List: p.list.Name, Version: p.list.Version, Currency: p.list.Currency, Unit: "period"}
	line.Quantity = held.Milliseconds()
	line.PricingQuantity.Set(one)
	for _, d := range []*apd.Decimal{&line.ListUnitPrice, &line.ContractedUnitPrice, &line.ListCost, &line.ContractedCost} {
		d.Set(&missing)
	}
	return line, true
}

// Total is the sum of the lines' contracted costs, which is what they cost to the
// smallest unit. All must be of one currency.
func Total(lines []Line) (apd.Decimal, error) {
	var total apd.Decimal
	for i := range lines {
		if lines[i].Currency != lines[0].Currency {
			return total, bad("lines in %s and in %s have no sum: convert them first", lines[0].Currency, lines[i].Currency)
		}
		var err error
		if total, err = add(&total, &lines[i].ContractedCost); err != nil {
			return total, fmt.Errorf("total: %w", err)
		}
	}
	return total, nil
}

// OperatorTotal is the sum of the lines' operator's costs, and of the costs of the
// lines that have none: known says that there is no such line.
func OperatorTotal(lines []Line) (total apd.Decimal, known bool, err error) {
	known = true
	for i := range lines {
		if lines[i].OperatorCost == nil {
			known = known && lines[i].Resource == MinimumCharge
			continue
		}
		if total, err = add(&total, lines[i].OperatorCost); err != nil {
			return total, false, fmt.Errorf("total: %w", err)
		}
	}
	return total, known, nil
}
