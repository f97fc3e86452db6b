package rating

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// Plan is a compiled list for one customer. It is immutable and safe for
// concurrent use.
type Plan struct {
	list     List
	exponent int32
	tariff   *tariff
	rates    map[processors.Resource][]*rate // the most specific first
	fees     []*rate
	dynamic  []string // names of the series that rates use, sorted
	series   map[string]Series
}

// rate is a compiled Rate.
type rate struct {
	id       string
	resource processors.Resource
	match    Match
	per      Per
	fixed    *prices
	slots    map[string]*prices
	volume   bool
	tiers    []tier
	dynamic  *Dynamic
	percent  *apd.Decimal // off the list price; nil is none
	agreed   *apd.Decimal // the negotiated price; nil is none
	cost     *apd.Decimal
	markup   *apd.Decimal
	credit   bool // its costs are below 0
}

type tier struct {
	upTo int64 // stored units, included; math.MaxInt64 of the last
	prices
}

// prices are those of one unit, >= 0.
type prices struct {
	list, contracted apd.Decimal
	cost             *cost // nil: not known
}

// Compile checks a list and makes the plan of a customer of it; "" is nobody's, to
// whom only discounts for all apply. series are the dynamic prices by name; a
// series that is not there has no value at any time. Errors: every
// contradiction of the list, joined; each is processors.ErrInput.
func Compile(list List, customer string, series map[string]Series) (*Plan, error) {
	p := &Plan{list: list, rates: make(map[processors.Resource][]*rate), series: series}
	var errs []error
	var ok bool
	if p.exponent, ok = processors.CurrencyExponent(list.Currency); !ok {
		errs = append(errs, fmt.Errorf("currency %q is not three capital letters (ISO 4217): %w", list.Currency, processors.ErrInput))
	}
	if list.TimeOfUse != nil {
		var err error
		if p.tariff, err = newTariff(*list.TimeOfUse); err != nil {
			errs = append(errs, err)
		}
	}
	if list.Minimum != nil {
		errs = append(errs, about("minimum", checkAmount(list.Minimum)))
	}
	if list.Markup != nil {
		errs = append(errs, about("markup", checkMarkup(list.Markup)))
	}
	for i := range list.Rates {
		r, err := p.compile(&list.Rates[i], customer)
		if err != nil {
			errs = append(errs, about(name(list.Rates[i].Resource, list.Rates[i].Match), err))
			continue
		}
		p.place(r)
	}
	for i, d := range list.Discounts {
		errs = append(errs, about(fmt.Sprintf("discounts[%d]", i), d.check()))
	}
	errs = append(errs, p.ties()...)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("price list %s: %w", list.Name, err)
	}
	return p, nil
}

// about names what an error is of.
func about(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (p *Plan) place(r *rate) {
	if r.per != "" {
		p.fees = append(p.fees, r)
		slices.SortStableFunc(p.fees, func(a, b *rate) int { return cmp.Compare(a.id, b.id) })
		return
	}
	list := append(p.rates[r.resource], r)
	slices.SortStableFunc(list, func(a, b *rate) int {
		return cmp.Or(cmp.Compare(b.match.named(), a.match.named()), cmp.Compare(a.id, b.id))
	})
	p.rates[r.resource] = list
	if r.dynamic != nil && !slices.Contains(p.dynamic, r.dynamic.Series) {
		p.dynamic = append(p.dynamic, r.dynamic.Series)
		slices.Sort(p.dynamic)
	}
}

// List is what the plan was made of.
func (p *Plan) List() List { return p.list }

// MatchesPlaces says whether a rate is for some hardware, provider or region only.
func (p *Plan) MatchesPlaces() bool {
	for _, rates := range p.rates {
		if slices.ContainsFunc(rates, func(r *rate) bool { return r.match != Match{} }) {
			return true
		}
	}
	return false
}

// Timed says whether prices change with time within the list's validity: by
// time of use or by a series.
func (p *Plan) Timed() bool { return p.tariff != nil || len(p.dynamic) > 0 }

// rate is the rate of a resource where it was used: its own, else that of all
// classes, and of these the most specific; nil is none.
func (p *Plan) rate(r processors.Resource, facts Facts) *rate {
	for _, wanted := range r.PricedAs() {
		for _, one := range p.rates[wanted] {
			if one.match.holds(facts) {
				return one
			}
		}
	}
	return nil
}

// named is how many fields the match names.
func (m Match) named() int {
	n := 0
	for _, field := range m.fields() {
		n += min(len(field), 1)
	}
	return n
}

func (m Match) fields() [3]string { return [3]string{m.Hardware, m.Provider, m.Region} }

func (m Match) holds(facts Facts) bool {
	at := facts.fields()
	for i, field := range m.fields() {
		if field != "" && field != at[i] {
			return false
		}
	}
	return true
}

// both is the match of what two matches hold for together, and whether there is
// anything.
func (m Match) both(o Match) (Match, bool) {
	theirs, merged := o.fields(), m.fields()
	for i, field := range merged {
		if field != "" && theirs[i] != "" && field != theirs[i] {
			return Match{}, false
		}
		merged[i] = cmp.Or(field, theirs[i])
	}
	return Match{merged[0], merged[1], merged[2]}, true
}

// String is the match as "hardware=x, region=y".
func (m Match) String() string {
	text := ""
	for i, field := range m.fields() {
		if field == "" {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += [3]string{"hardware", "provider", "region"}[i] + "=" + field
	}
	return text
}

// name identifies a rate within its list.
func name(r processors.Resource, m Match) string {
	if (m == Match{}) {
		return string(r)
	}
	return string(r) + "{" + m.String() + "}"
}

// ties are pairs of rates of one resource that are equally specific where both
// hold, unless a third one is for just that.
func (p *Plan) ties() []error {
	var errs []error
	for resource, rates := range p.rates {
		for i, a := range rates {
			for _, b := range rates[:i] {
				common, meet := a.match.both(b.match)
				if !meet || a.match.named() != b.match.named() {
					continue
				}
				if a.match == b.match {
					errs = append(errs, fmt.Errorf("%s has two prices: keep one: %w", a.id, processors.ErrInput))
				} else if !slices.ContainsFunc(rates, func(o *rate) bool { return o.match == common }) {
					errs = append(errs, fmt.Errorf("%s has two prices for {%s}, and none is more specific: add one for just that: %w", resource, common, processors.ErrInput))
				}
			}
		}
	}
	for i, a := range p.fees {
		if i > 0 && p.fees[i-1].resource == a.resource {
			errs = append(errs, fmt.Errorf("%s has two prices: keep one: %w", a.id, processors.ErrInput))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errs
}
