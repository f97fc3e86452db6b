package rating

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// Slot is a set of quarters in which all prices of a plan are the same. The zero
// Slot is that of a plan whose prices do not change with time.
type Slot struct {
	Tariff string // the name of a slot of TimeOfUse, "" without one
	// Prices are the values of the series that the plan uses, by their names in
	// order: "epex=0.0821", joined by "|"; "epex=?2026-11-03T10:15:00Z" where the
	// series has none. Quarters with the same values are one slot.
	Prices string
}

// Series is a dynamic price over time: half-open quarters with a value each. A
// quarter that is not there has no value.
type Series map[time.Time]*apd.Decimal // by the quarter's start, UTC

// Put adds the value of [from, to), which must be whole quarters.
func (s Series) Put(from, to time.Time, value *apd.Decimal) error {
	from, to = from.UTC(), to.UTC()
	if !from.Before(to) || !from.Equal(from.Truncate(schema.Quarter)) || !to.Equal(to.Truncate(schema.Quarter)) {
		return bad("slot %s: is not whole quarters of an hour", schema.Window{From: from, To: to})
	}
	for at := from; at.Before(to); at = at.Add(schema.Quarter) {
		s[at] = value
	}
	return nil
}

// SlotAt is the slot of the quarter that holds t.
func (p *Plan) SlotAt(t time.Time) Slot {
	var slot Slot
	quarter := t.UTC().Truncate(schema.Quarter)
	if p.tariff != nil {
		slot.Tariff = p.tariff.at(quarter)
	}
	if len(p.dynamic) == 0 {
		return slot
	}
	parts := make([]string, len(p.dynamic))
	for i, name := range p.dynamic {
		value := "?" + quarter.Format(time.RFC3339)
		if price := p.series[name][quarter]; price != nil {
			var plain apd.Decimal
			plain.Reduce(price)
			value = plain.Text('f')
		}
		parts[i] = name + "=" + value
	}
	slot.Prices = strings.Join(parts, "|")
	return slot
}

// value is a series' value in the slot; nil where it has none, and then the
// quarter that lacks it.
func (s Slot) value(series string) (*apd.Decimal, string, error) {
	for part := range strings.SplitSeq(s.Prices, "|") {
		text, found := strings.CutPrefix(part, series+"=")
		if !found {
			continue
		}
		if at, missing := strings.CutPrefix(text, "?"); missing {
			return nil, at, nil
		}
		value, _, err := apd.NewFromString(text)
		if err != nil || value.Form != apd.Finite {
			return nil, "", bad("slot %q: %q is no price", s.Prices, text)
		}
		return value, "", nil
	}
	return nil, "", bad("slot %q has no value of %s: take it from SlotAt of the same plan", s.Prices, series)
}

// MissingPriceError is a quarter of which a series has no price, and that has no
// fallback.
type MissingPriceError struct {
	List, Rate, Series string
	Quarter            string // RFC 3339, its start
}

func (e *MissingPriceError) Error() string {
	return fmt.Sprintf("price list %s: %s: the series %s has no price for the quarter from %s: push it (accumulus prices push %s -f FILE), or give the rate a dynamic.fallback",
		e.List, e.Rate, e.Series, e.Quarter, e.Series)
}

// pricesIn are the prices of a rate without tiers in a slot.
func (p *Plan) pricesIn(r *rate, slot Slot) (*prices, error) {
	switch {
	case r.dynamic != nil:
		value, missing, err := slot.value(r.dynamic.Series)
		if err != nil {
			return nil, about(r.id, err)
		}
		if value == nil && r.dynamic.Fallback == nil {
			return nil, &MissingPriceError{List: p.list.Name, Rate: r.id, Series: r.dynamic.Series, Quarter: missing}
		}
		return r.dynamicPrices(value)
	case r.slots != nil:
		if found := r.slots[slot.Tariff]; found != nil {
			return found, nil
		}
		return nil, bad("%s: %q is no slot of the plan: take it from SlotAt", r.id, slot.Tariff)
	}
	return r.fixed, nil
}

// tariff is a compiled TimeOfUse.
type tariff struct {
	location *time.Location
	rules    []Rule
	other    string
	names    []string // of all slots, sorted
}

// defaultSlot is the slot that no rule names.
const defaultSlot = "default"

const minutesOfDay = 24 * 60

func newTariff(in TimeOfUse) (*tariff, error) {
	location, err := time.LoadLocation(in.Zone)
	if err != nil || in.Zone == "" || in.Zone == "Local" {
		return nil, bad("timeOfUse.zone: %q is no IANA time zone, such as Europe/Amsterdam", in.Zone)
	}
	t := &tariff{location: location, rules: in.Rules, other: in.Default}
	if t.other == "" {
		t.other = defaultSlot
	}
	t.names = []string{t.other}
	for i, rule := range in.Rules {
		field := fmt.Sprintf("timeOfUse.rules[%d]", i)
		switch {
		case !slotForm(rule.Slot):
			return nil, bad("%s.slot: %q is no name of lower-case letters, digits, '-' and '_'", field, rule.Slot)
		case rule.From < 0 || rule.From >= minutesOfDay || rule.To < 0 || rule.To > minutesOfDay:
			return nil, bad("%s: hours lie between 00:00 and 24:00", field)
		case rule.From%15 != 0 || rule.To%15 != 0:
			return nil, bad("%s: hours begin and end on a quarter: use minutes 00, 15, 30 or 45", field)
		}
		for _, day := range rule.Days {
			if day < time.Sunday || day > time.Saturday {
				return nil, bad("%s.days: %d is no day of the week", field, day)
			}
		}
		t.names = append(t.names, rule.Slot)
	}
	if !slotForm(t.other) {
		return nil, bad("timeOfUse.default: %q is no name of lower-case letters, digits, '-' and '_'", t.other)
	}
	slices.Sort(t.names)
	t.names = slices.Compact(t.names)
	return t, nil
}

func slotForm(name string) bool {
	return name != "" && len(name) <= 63 && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
}

// at is the slot of the quarter that begins at t: by what the zone's clock says
// then. An hour that a clock shows twice is twice in its slot, one that it skips
// is in none. Offsets of zones are multiples of a quarter (since 1972), so a
// boundary never lies within one.
func (t *tariff) at(quarter time.Time) string {
	local := quarter.In(t.location)
	day, minute := local.Weekday(), local.Hour()*60+local.Minute()
	for i := range t.rules {
		if t.rules[i].holds(day, minute) {
			return t.rules[i].Slot
		}
	}
	return t.other
}

func (r *Rule) holds(day time.Weekday, minute int) bool {
	on := func(d time.Weekday) bool { return len(r.Days) == 0 || slices.Contains(r.Days, d) }
	if r.From < r.To {
		return minute >= r.From && minute < r.To && on(day)
	}
	return minute >= r.From && on(day) || minute < r.To && on((day+6)%7)
}

// Prices are those of all resources in a slot and at a place.
type Prices struct {
	List processors.PriceList // before discounts
	Sale processors.PriceList
	Cost processors.PriceList // what the operator pays; without prices where nothing of it is known
	// Missing are the resources without a price because a series has none, nor a
	// fallback.
	Missing []*MissingPriceError
}

// PricesIn are the prices in a slot, as showback takes them: a rate with tiers at
// the price of its first tier; without flat fees, minimum charge and heat credits,
// which are a billing period's (NotInShowback). Errors: processors.ErrInput.
func (p *Plan) PricesIn(slot Slot, facts Facts) (Prices, error) {
	all := Prices{List: processors.PriceList{Version: p.list.Version, Kind: processors.Sale, Currency: p.list.Currency, Signed: true},
		Sale: processors.PriceList{Version: p.list.Version, Kind: processors.Sale, Currency: p.list.Currency, Signed: true},
		Cost: processors.PriceList{Version: p.list.Version, Kind: processors.CostPrice, Currency: p.list.Currency, Signed: true}}
	for resource := range p.rates {
		r := p.rate(resource, facts)
		if r == nil || r.credit {
			continue
		}
		found, err := p.firstPrices(r, slot)
		if missing := (*MissingPriceError)(nil); errors.As(err, &missing) {
			all.Missing = append(all.Missing, missing)
			continue
		}
		if err != nil {
			return Prices{}, err
		}
		all.List.Prices = append(all.List.Prices, processors.Price{Resource: resource, Price: found.list})
		all.Sale.Prices = append(all.Sale.Prices, processors.Price{Resource: resource, Price: found.contracted})
		if found.cost != nil {
			all.Cost.Prices = append(all.Cost.Prices, processors.Price{Resource: resource, Price: shownExactly(&found.cost.Rat)})
		}
	}
	byResource := func(a, b processors.Price) int { return processors.CompareResources(a.Resource, b.Resource) }
	slices.SortFunc(all.List.Prices, byResource)
	slices.SortFunc(all.Sale.Prices, byResource)
	slices.SortFunc(all.Cost.Prices, byResource)
	slices.SortFunc(all.Missing, func(a, b *MissingPriceError) int { return strings.Compare(a.Rate, b.Rate) })
	return all, nil
}

func (p *Plan) firstPrices(r *rate, slot Slot) (*prices, error) {
	if r.tiers != nil {
		return &r.tiers[0].prices, nil
	}
	return p.pricesIn(r, slot)
}

// NotInShowback are the rules of the list that PricesIn does not apply, for
// people; nil is none.
func (p *Plan) NotInShowback() []string {
	var rules []string
	for _, rates := range p.rates {
		for _, r := range rates {
			switch {
			case r.tiers != nil:
				rules = append(rules, "tiers of "+r.id+": shown at the price of the first tier")
			case r.credit:
				rules = append(rules, r.id+": credited by the billing period")
			}
		}
	}
	for _, fee := range p.fees {
		rules = append(rules, fee.id+": charged by the billing period")
	}
	if p.list.Minimum != nil {
		rules = append(rules, "minimum charge of "+p.list.Minimum.Text('f')+" "+p.list.Currency+" per billing period")
	}
	slices.Sort(rules)
	return rules
}
