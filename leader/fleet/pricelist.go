package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
)

// PriceMatch says which usage a rate is for; "" is any. The most specific rate
// counts.
type PriceMatch struct {
	Hardware string `json:"hardware,omitempty"`
	Provider string `json:"provider,omitempty"` // as clusters name theirs
	Region   string `json:"region,omitempty"`
}

// PriceTiers are prices by how much a billing period's sum of the customer is.
type PriceTiers struct {
	Kind  string      `json:"kind"` // graduated or volume
	Steps []PriceStep `json:"steps"`
}

// PriceStep is one tier; the last has no UpTo.
type PriceStep struct {
	UpTo  Decimal `json:"upTo,omitempty"` // in units, included
	Price Decimal `json:"price"`
}

// DynamicPrice is a price by a named series of quarters of an hour:
// value · factor + surcharge.
type DynamicPrice struct {
	Series    string  `json:"series"`
	Factor    Decimal `json:"factor,omitempty"`    // "" = 1
	Surcharge Decimal `json:"surcharge,omitempty"` // "" = 0
	Fallback  Decimal `json:"fallback,omitempty"`  // the price where the series has no value; "" = that is an error
}

// TimeOfUse names the slots of time of a list's rates.
type TimeOfUse struct {
	Zone    string     `json:"zone"`              // IANA
	Default string     `json:"default,omitempty"` // the slot that no rule names; "" = default
	Rules   []TimeRule `json:"rules"`             // the first that holds decides
}

// TimeRule is when a slot is, by the zone's clock.
type TimeRule struct {
	Slot string   `json:"slot"`
	Days []string `json:"days,omitempty"` // mon to sun; empty = every day; of hours beyond midnight the day on which they begin
	From string   `json:"from,omitempty"` // "07:00"; a quarter of an hour; "" = 00:00
	To   string   `json:"to,omitempty"`   // "23:00", excluded; at or before from it is on the next day; "" = 24:00
}

// Discount is what customers pay less than the list price: the first one that is
// for the customer and the resource counts.
type Discount struct {
	Customers []string `json:"customers,omitempty"` // empty = all whom the list is for
	Resources []string `json:"resources,omitempty"` // as rates name them; empty = all but heat_credit
	Percent   Decimal  `json:"percent,omitempty"`
	Price     Decimal  `json:"price,omitempty"` // in place of percent: the negotiated unit price
}

// Rating is the list as rating compiles it. version names this version of the
// list. Errors name the field.
func (p PriceList) Rating(version string) (rating.List, error) {
	list := rating.List{Name: p.Name, Version: version, Currency: p.Currency}
	c := converter{}
	list.Minimum, list.Markup = c.decimal("minimum", p.Minimum), c.decimal("markup", p.Markup)
	if p.TimeOfUse != nil {
		list.TimeOfUse = c.timeOfUse(*p.TimeOfUse)
	}
	for _, r := range p.Rates {
		list.Rates = append(list.Rates, c.rates(r)...)
	}
	for i, d := range p.Discounts {
		field := fmt.Sprintf("discounts[%d]", i)
		out := rating.Discount{Customers: d.Customers, Percent: c.decimal(field+".percent", d.Percent), Price: c.decimal(field+".price", d.Price)}
		for _, resource := range d.Resources {
			out.Resources = append(out.Resources, c.resources(field+".resources", resource, "")...)
		}
		list.Discounts = append(list.Discounts, out)
	}
	return list, errors.Join(c.errs...)
}

// Series are the names of the series that rates use, sorted.
func (p PriceList) Series() []string {
	var names []string
	for _, r := range p.Rates {
		if r.Dynamic != nil {
			names = append(names, r.Dynamic.Series)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Timed says whether prices change with time while the list holds.
func (p PriceList) Timed() bool { return p.TimeOfUse != nil || len(p.Series()) > 0 }

// MatchesHardware says whether a rate is for some hardware alone.
func (p PriceList) MatchesHardware() bool {
	return slices.ContainsFunc(p.Rates, func(r Rate) bool { return r.matching().Hardware != "" })
}

// ForCustomers says whether the list's prices depend on the customer: it is bound
// to some, or has discounts for some.
func (p PriceList) ForCustomers() bool {
	return len(p.Customers) > 0 || slices.ContainsFunc(p.Discounts, func(d Discount) bool { return len(d.Customers) > 0 })
}

// converter collects what is wrong.
type converter struct{ errs []error }

func (c *converter) fail(field, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(field+": "+format, args...))
}

// decimal is a number, nil where it is not given or none.
func (c *converter) decimal(field string, text Decimal) *apd.Decimal {
	if text == "" {
		return nil
	}
	value, err := text.Value()
	if err == nil && (value.Exponent < -maxPriceDigits || value.NumDigits()+int64(value.Exponent) > maxPriceDigits) {
		err = fmt.Errorf("has more than %d digits before or after the point", maxPriceDigits)
	}
	if err != nil {
		c.fail(field, "%v", err)
		return nil
	}
	return value
}

// resources are what a name means: cpu in its modes, or a resource as it is; all
// its modes where none is named for a discount.
func (c *converter) resources(field, name string, mode string) []processors.Resource {
	found, err := rating.InMode(name, rating.Mode(mode))
	if err != nil {
		c.fail(field, "%s", strings.TrimSuffix(err.Error(), ": "+processors.ErrInput.Error()))
	}
	return found
}

// rates is a rate, twice where its mode is two resources.
func (c *converter) rates(r Rate) []rating.Rate {
	field := rateField(r)
	out := rating.Rate{Per: rating.Per(r.Per), Match: rating.Match(r.matching()), Price: c.decimal(field+".price", r.Price),
		Cost: c.decimal(field+".cost", r.Cost), Markup: c.decimal(field+".markup", r.Markup)}
	for _, slot := range slices.Sorted(maps.Keys(r.Slots)) {
		if out.Slots == nil {
			out.Slots = make(map[string]*apd.Decimal)
		}
		if out.Slots[slot] = c.decimal(field+".slots."+slot, r.Slots[slot]); r.Slots[slot] == "" {
			c.fail(field+".slots."+slot, "is empty")
		}
	}
	if r.Tiers != nil {
		out.Tiers = &rating.Tiers{Kind: rating.TierKind(r.Tiers.Kind)}
		for i, step := range r.Tiers.Steps {
			of := fmt.Sprintf("%s.tiers.steps[%d]", field, i)
			out.Tiers.Steps = append(out.Tiers.Steps, rating.Tier{UpTo: c.decimal(of+".upTo", step.UpTo), Price: c.decimal(of+".price", step.Price)})
		}
	}
	if d := r.Dynamic; d != nil {
		out.Dynamic = &rating.Dynamic{Series: d.Series, Factor: c.decimal(field+".dynamic.factor", d.Factor),
			Surcharge: c.decimal(field+".dynamic.surcharge", d.Surcharge), Fallback: c.decimal(field+".dynamic.fallback", d.Fallback)}
		if d.Series != "" && !SeriesForm(d.Series) {
			c.fail(field+".dynamic.series", "%q is not lower-case letters, digits, '-' and '.'", d.Series)
		}
	}
	var all []rating.Rate
	for _, resource := range c.resources(field+".mode", r.Resource, r.Mode) {
		one := out
		one.Resource = resource
		all = append(all, one)
	}
	return all
}

// SeriesForm says whether a text can name a series of prices.
func SeriesForm(name string) bool { return nameForm.MatchString(name) && len(name) <= maxName }

func (r Rate) matching() PriceMatch {
	if r.Match == nil {
		return PriceMatch{}
	}
	return *r.Match
}

// rateField names a rate in messages.
func rateField(r Rate) string {
	name := r.Resource
	if m := rating.Match(r.matching()).String(); m != "" {
		name += "{" + m + "}"
	}
	return "rates[" + name + "]"
}

var weekdays = map[string]time.Weekday{"mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday, "thu": time.Thursday,
	"fri": time.Friday, "sat": time.Saturday, "sun": time.Sunday}

func (c *converter) timeOfUse(in TimeOfUse) *rating.TimeOfUse {
	out := &rating.TimeOfUse{Zone: in.Zone, Default: in.Default}
	for i, r := range in.Rules {
		field := fmt.Sprintf("timeOfUse.rules[%d]", i)
		rule := rating.Rule{Slot: r.Slot, From: c.clock(field+".from", r.From), To: c.clock(field+".to", r.To)}
		for _, name := range r.Days {
			day, ok := weekdays[name]
			if !ok {
				c.fail(field+".days", "%q is none of mon, tue, wed, thu, fri, sat, sun", name)
			}
			rule.Days = append(rule.Days, day)
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// clock is minutes since midnight; 24:00 is midnight too.
func (c *converter) clock(field, text string) int {
	if text == "" || text == "24:00" {
		return 0
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		c.fail(field, "%q is no time such as 07:00", text)
		return 0
	}
	return t.Hour()*60 + t.Minute()
}

// checkRating reports what rating says of the list, where nothing else is wrong.
func (p PriceList) checkRating(report reporter) {
	list, err := p.Rating("")
	if err == nil {
		_, err = rating.Compile(list, "", nil)
	}
	for _, one := range leaves(err) {
		text := strings.TrimPrefix(one.Error(), "price list "+p.Name+": ")
		text = strings.TrimSuffix(text, ": "+processors.ErrInput.Error())
		field, message, found := strings.Cut(text, ": ")
		if !found || strings.Contains(field, " ") {
			field, message = "rates", text
		}
		report(field, "%s", message)
	}
}

// leaves are the errors that are joined in one.
func leaves(err error) []error {
	switch e := err.(type) {
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		if slices.Contains(e.Unwrap(), processors.ErrInput) {
			break
		}
		var all []error
		for _, one := range e.Unwrap() {
			all = append(all, leaves(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		if found := leaves(e.Unwrap()); len(found) > 0 && found[0] != e.Unwrap() {
			return found
		}
	}
	return []error{err}
}

// ExchangeRates are the rates between currencies of one month, fixed.
type ExchangeRates struct {
	Name   string             `json:"-"`
	Month  string             `json:"month"` // 2026-11
	Base   string             `json:"base"`  // ISO 4217
	Rates  map[string]Decimal `json:"rates"` // how much of the currency one of base is
	Source string             `json:"source,omitempty"`
}

// KindExchangeRates is the kind of ExchangeRates.
const KindExchangeRates Kind = "ExchangeRates"

// Kind is KindExchangeRates.
func (ExchangeRates) Kind() Kind { return KindExchangeRates }

func (x ExchangeRates) named(name string) Spec  { x.Name = name; return x }
func (x ExchangeRates) references() []reference { return nil }

// Exchange is the table as rating takes it.
func (x ExchangeRates) Exchange() (rating.Exchange, error) {
	table := rating.Exchange{Month: x.Month, Base: x.Base, Source: x.Source, Rates: make(map[string]*apd.Decimal)}
	c := converter{}
	for _, currency := range slices.Sorted(maps.Keys(x.Rates)) {
		if value := c.decimal("rates."+currency, x.Rates[currency]); value != nil {
			table.Rates[currency] = value
		} else if x.Rates[currency] == "" {
			c.fail("rates."+currency, "is empty")
		}
	}
	return table, errors.Join(c.errs...)
}

func (x ExchangeRates) check(report reporter) {
	if _, err := time.Parse("2006-01", x.Month); err != nil {
		report("month", "%q is no month such as 2026-11", x.Month)
	}
	if len(x.Rates) == 0 {
		report("rates", "is empty: name at least one currency")
	}
	for _, code := range append([]string{x.Base}, slices.Sorted(maps.Keys(x.Rates))...) {
		if currencyForm.MatchString(code) { // what is no code at all is told below
			checkCurrency(report, "rates", code)
		}
	}
	table, err := x.Exchange()
	if err == nil {
		err = table.Check()
	}
	for _, one := range leaves(err) {
		field, message, _ := strings.Cut(strings.TrimSuffix(one.Error(), ": "+processors.ErrInput.Error()), ": ")
		report(field, "%s", message)
	}
}

// Exchanges are the tables of exchange rates, by name.
func (f *Fleet) Exchanges() []ExchangeRates { return f.exchanges.all() }

// exchanges refuses two objects for one month and base at the same time.
func (v *validator) exchanges(objects, known []Object) {
	for _, o := range objects {
		mine, ok := o.Spec.(ExchangeRates)
		if !ok {
			continue
		}
		for _, other := range known {
			theirs, ok := other.Spec.(ExchangeRates)
			if ok && other.Name() != o.Name() && other.Overlaps(o.ValidFrom, o.ValidTo) && theirs.Month == mine.Month && theirs.Base == mine.Base {
				v.report(o, "spec.month", "%s has the rates of %s to %s already", other, mine.Base, mine.Month)
			}
		}
	}
}
