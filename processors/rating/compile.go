package rating

import (
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// cost is a price that need not be a finite decimal.
type cost struct{ big.Rat }

func bad(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, processors.ErrInput)...)
}

// maxDigits bounds a price on either side of its point, so that exact sums carry
// every digit.
const maxDigits = 34

// checkAmount refuses what is no amount of money.
func checkAmount(d *apd.Decimal) error {
	switch {
	case d.Form != apd.Finite:
		return bad("%s is not a finite number", d)
	case d.Negative && !d.IsZero():
		return bad("%s is negative", d.Text('f'))
	case d.NumDigits() > maxDigits || d.Exponent > maxDigits || d.Exponent < -maxDigits:
		return bad("has more than %d digits", maxDigits)
	}
	return nil
}

// checkMarkup refuses what is no percentage above -100.
func checkMarkup(d *apd.Decimal) error {
	if d.Form != apd.Finite || d.NumDigits() > maxDigits || d.Exponent < -maxDigits || d.Exponent > 6 {
		return bad("%s is no percentage", d)
	}
	if whole := ratOf(d); whole.Cmp(big.NewRat(-100, 1)) <= 0 {
		return bad("%s %% leaves nothing: use more than -100", d.Text('f'))
	}
	return nil
}

// compile checks a rate.
func (p *Plan) compile(in *Rate, customer string) (*rate, error) {
	r := &rate{id: name(in.Resource, in.Match), resource: in.Resource, match: in.Match, per: in.Per, dynamic: in.Dynamic,
		cost: in.Cost, markup: in.Markup, credit: in.Resource == processors.UsefulHeat}
	if r.markup == nil {
		r.markup = p.list.Markup
	}
	if err := r.checkKind(in); err != nil {
		return nil, err
	}
	for what, d := range map[string]*apd.Decimal{"price": in.Price, "cost": in.Cost} {
		if d == nil {
			continue
		}
		if err := checkAmount(d); err != nil {
			return nil, about(what, err)
		}
	}
	if in.Markup != nil {
		if err := checkMarkup(in.Markup); err != nil {
			return nil, about("markup", err)
		}
	}
	p.discount(r, customer)
	switch {
	case in.Tiers != nil:
		return r, r.compileTiers(in.Tiers)
	case in.Dynamic != nil:
		return r, in.Dynamic.check()
	case len(in.Slots) > 0:
		return r, p.compileSlots(r, in)
	}
	list := in.Price
	if list == nil {
		price, err := percentOf(in.Cost, r.markup)
		if err != nil {
			return nil, bad("cost and markup: %w", err)
		}
		list = &price
	}
	var err error
	r.fixed, err = r.prices(list)
	return r, err
}

// checkKind refuses prices of two kinds, or of none, and fees that are no fees.
func (r *rate) checkKind(in *Rate) error {
	if IsFee(in.Resource) {
		switch {
		case in.Resource == feePrefix:
			return bad("has no name: write fee:NAME")
		case in.Per != Month && in.Per != Day:
			return bad("per: %q is neither %s nor %s", in.Per, Month, Day)
		case in.Match != Match{}:
			return bad("match: a flat fee is for the customer, wherever he is: leave it out")
		case in.Tiers != nil || in.Dynamic != nil || len(in.Slots) > 0:
			return bad("a flat fee has one price: leave out slots, tiers and dynamic")
		}
	} else {
		if in.Resource.Unit() == "" {
			return bad("the resource is not known")
		}
		if in.Per != "" {
			return bad("per is for flat fees only (fee:NAME)")
		}
	}
	given := 0
	for _, has := range []bool{in.Tiers != nil, in.Dynamic != nil, len(in.Slots) > 0} {
		if has {
			given++
		}
	}
	switch {
	case given > 1:
		return bad("has more than one of slots, tiers and dynamic: choose one")
	case in.Price != nil && (in.Tiers != nil || in.Dynamic != nil):
		return bad("price beside tiers or dynamic: leave it out")
	case given == 0 && in.Price == nil && (in.Cost == nil || r.markup == nil):
		return bad("has no price: give price, slots, tiers or dynamic; or cost and markup")
	}
	return nil
}

// discount takes the first discount that is for the customer and the resource.
func (p *Plan) discount(r *rate, customer string) {
	for _, d := range p.list.Discounts {
		if len(d.Customers) > 0 && !slices.Contains(d.Customers, customer) || !d.isFor(r.resource) {
			continue
		}
		r.percent, r.agreed = d.Percent, d.Price
		return
	}
}

func (d Discount) isFor(r processors.Resource) bool {
	if len(d.Resources) == 0 {
		return r != processors.UsefulHeat
	}
	return slices.Contains(d.Resources, r) || !IsFee(r) && slices.Contains(d.Resources, r.General())
}

func (d Discount) check() error {
	switch {
	case (d.Percent == nil) == (d.Price == nil):
		return bad("needs one of percent and price")
	case d.Price != nil && len(d.Resources) == 0:
		return bad("price: a negotiated price is of a resource: name resources")
	case d.Price != nil:
		return about("price", checkAmount(d.Price))
	}
	if err := checkAmount(d.Percent); err != nil {
		return about("percent", err)
	}
	if ratOf(d.Percent).Cmp(big.NewRat(100, 1)) > 0 {
		return bad("percent: %s is more than 100", d.Percent.Text('f'))
	}
	return nil
}

// prices are those that come of a list price.
func (r *rate) prices(list *apd.Decimal) (*prices, error) {
	p := new(prices)
	p.list.Set(list)
	switch {
	case r.agreed != nil:
		p.contracted.Set(r.agreed)
	case r.percent != nil:
		var off apd.Decimal
		contracted, err := percentOf(list, off.Neg(r.percent))
		if err != nil {
			return nil, bad("discount: %w", err)
		}
		p.contracted.Set(&contracted)
	default:
		p.contracted.Set(list)
	}
	switch {
	case r.cost != nil:
		p.cost = &cost{*ratOf(r.cost)}
	case r.markup != nil: // the price without it
		factor := new(big.Rat).Add(big.NewRat(1, 1), new(big.Rat).Quo(ratOf(r.markup), big.NewRat(100, 1)))
		p.cost = &cost{*factor.Quo(ratOf(list), factor)}
	}
	return p, nil
}

func (r *rate) compileTiers(in *Tiers) error {
	if in.Kind != Graduated && in.Kind != Volume {
		return bad("tiers.kind: %q is neither %s nor %s", in.Kind, Graduated, Volume)
	}
	if len(in.Steps) == 0 {
		return bad("tiers.steps: is empty")
	}
	r.volume = in.Kind == Volume
	last := int64(0)
	for i, step := range in.Steps {
		field := fmt.Sprintf("tiers.steps[%d]", i)
		t := tier{upTo: math.MaxInt64}
		switch {
		case step.UpTo == nil && i < len(in.Steps)-1:
			return bad("%s: has no upTo, which only the last step may lack", field)
		case step.UpTo != nil && i == len(in.Steps)-1:
			return bad("%s: the last step has an upTo: leave it out, so that what is beyond has a price", field)
		case step.Price == nil:
			return bad("%s: has no price", field)
		case step.UpTo != nil:
			upTo, err := units(step.UpTo, r.resource.Base())
			if err != nil {
				return about(field+".upTo", err)
			}
			if upTo <= last {
				return bad("%s: upTo %s does not follow the step before: name the steps in rising order", field, step.UpTo.Text('f'))
			}
			t.upTo, last = upTo, upTo
		}
		if err := checkAmount(step.Price); err != nil {
			return about(field+".price", err)
		}
		p, err := r.prices(step.Price)
		if err != nil {
			return about(field, err)
		}
		t.prices = *p
		r.tiers = append(r.tiers, t)
	}
	return nil
}

func (p *Plan) compileSlots(r *rate, in *Rate) error {
	if p.tariff == nil {
		if p.list.TimeOfUse != nil {
			return nil // what is wrong with it is told already
		}
		return bad("slots: the list has no timeOfUse, which says when they are")
	}
	r.slots = make(map[string]*prices, len(p.tariff.names))
	for slot, price := range in.Slots {
		if !slices.Contains(p.tariff.names, slot) {
			return bad("slots: %q is none of the slots %q of timeOfUse", slot, p.tariff.names)
		}
		if err := checkAmount(price); err != nil {
			return about("slots."+slot, err)
		}
	}
	for _, slot := range p.tariff.names {
		price := in.Slots[slot]
		if price == nil {
			price = in.Price
		}
		if price == nil {
			return bad("slots: has no price for %q: name it, or give price for the slots that are not named", slot)
		}
		var err error
		if r.slots[slot], err = r.prices(price); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dynamic) check() error {
	if d.Series == "" {
		return bad("dynamic.series: is empty")
	}
	for field, value := range map[string]*apd.Decimal{"factor": d.Factor, "fallback": d.Fallback} {
		if value == nil {
			continue
		}
		if err := checkAmount(value); err != nil {
			return about("dynamic."+field, err)
		}
	}
	if s := d.Surcharge; s != nil {
		var positive apd.Decimal
		if err := checkAmount(positive.Abs(s)); err != nil {
			return about("dynamic.surcharge", err)
		}
	}
	return nil
}

// dynamicPrices are those of one value of the series; nil is where it has none. A
// value may be below 0, and so may the price.
func (r *rate) dynamicPrices(value *apd.Decimal) (*prices, error) {
	if value == nil {
		return r.prices(r.dynamic.Fallback)
	}
	var price apd.Decimal
	price.Set(value)
	if r.dynamic.Factor != nil {
		var err error
		if price, err = mul(value, r.dynamic.Factor); err != nil {
			return nil, bad("price of %s: %w", r.dynamic.Series, err)
		}
	}
	if r.dynamic.Surcharge != nil {
		var err error
		if price, err = add(&price, r.dynamic.Surcharge); err != nil {
			return nil, bad("price of %s: %w", r.dynamic.Series, err)
		}
	}
	return r.prices(&price)
}
