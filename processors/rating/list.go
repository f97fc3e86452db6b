package rating

import (
	"fmt"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// List is one version of a price list.
type List struct {
	Name      string
	Version   string // names the version for ever, such as "standard@2026-11-01T00:00:00Z"
	Currency  string // ISO 4217
	TimeOfUse *TimeOfUse
	Rates     []Rate
	Discounts []Discount
	// Minimum is the least that a billing period costs a customer, credits left
	// aside; nil is none. Of a part of a period it is the part.
	Minimum *apd.Decimal
	// Markup in percent is laid on the cost prices of rates that have no price, and
	// taken off the prices of rates that have no cost price; nil is none.
	Markup *apd.Decimal
}

// Match says what a rate is for; "" is any.
type Match struct {
	Hardware string `json:"hardware,omitempty"`
	Provider string `json:"provider,omitempty"`
	Region   string `json:"region,omitempty"`
}

// Facts is where something was used: "" is unknown, which only "any" matches.
type Facts = Match

// Rate is the price of a resource. It has one of Price, Price with Slots, Tiers and
// Dynamic; or none, and Cost with a markup.
type Rate struct {
	Resource processors.Resource // or Fee(name)
	Match    Match
	Price    *apd.Decimal            // of the currency per unit
	Slots    map[string]*apd.Decimal // by slot of TimeOfUse; Price is for those not named
	Tiers    *Tiers
	Dynamic  *Dynamic
	Per      Per // of a fee
	// Cost is what the operator pays per unit; Markup in percent is the list's where
	// nil.
	Cost, Markup *apd.Decimal
}

// Per is what a flat fee is for.
type Per string

// The periods of fees: the customer's calendar months and days, of whatever length.
const (
	Month Per = "month"
	Day   Per = "day"
)

// Tiers are prices by how much a billing period's sum is.
type Tiers struct {
	Kind  TierKind
	Steps []Tier // rising; the last has no UpTo
}

// TierKind says what a tier's price is for.
type TierKind string

// The kinds of tiers.
const (
	Graduated TierKind = "graduated" // each part of the sum at its own tier's price
	Volume    TierKind = "volume"    // all of the sum at the price of the tier that it reaches
)

// Tier is one step.
type Tier struct {
	UpTo  *apd.Decimal // in units, included; nil is without end
	Price *apd.Decimal
}

// Dynamic is a price that a series says per quarter: its value · Factor + Surcharge.
type Dynamic struct {
	Series    string
	Factor    *apd.Decimal // nil is 1
	Surcharge *apd.Decimal // nil is 0
	// Fallback is the price where the series has no value; nil makes that an error.
	Fallback *apd.Decimal
}

// Discount is what some customers pay less than the list price.
type Discount struct {
	Customers []string              // empty is all
	Resources []processors.Resource // empty is all but UsefulHeat; Fee(name) for fees; a class's general part is for its classes
	Percent   *apd.Decimal          // off the list price, 0 to 100
	Price     *apd.Decimal          // in place of Percent: the negotiated unit price
}

const feePrefix = "fee:"

// Fee is the resource of a flat fee.
func Fee(name string) processors.Resource { return processors.Resource(feePrefix + name) }

// IsFee says whether a resource is a flat fee.
func IsFee(r processors.Resource) bool { return strings.HasPrefix(string(r), feePrefix) }

// MinimumCharge is the resource of the line that fills a period up to the list's
// minimum.
const MinimumCharge processors.Resource = "minimum_charge"

// Mode says which quantity of a resource is billed.
type Mode string

// The modes.
const (
	Used         Mode = "used"
	Reserved     Mode = "reserved"
	Max          Mode = "max" // per pod and minute the larger one of both
	ReservedUsed Mode = "reserved+used"
)

// modes are the resources that a mode chooses from; the first is the default.
var modes = map[string]struct {
	byDefault      Mode
	used, reserved processors.Resource
	max            processors.Resource
}{
	"cpu":       {Used, processors.CPUUsed, processors.CPURequested, processors.CPUMax},
	"memory":    {Max, processors.MemoryUsed, processors.MemoryRequested, processors.MemoryMax},
	"ephemeral": {Used, processors.EphemeralUsed, processors.Extended("ephemeral-storage"), ""},
	"volume":    {Reserved, processors.VolumeUsed, processors.VolumeClaimed, ""},
}

// Moded says whether a name is of a resource with modes: cpu, memory, ephemeral,
// volume, volume:CLASS.
func Moded(name string) bool {
	general, class, named := strings.Cut(name, ":")
	_, ok := modes[general]
	return ok && (!named || general == "volume" && class != "")
}

// InMode are the resources that a name means in a mode; "" is its default: used,
// for memory max, for volumes reserved. Two resources are two lines. A name
// without modes is itself.
func InMode(name string, mode Mode) ([]processors.Resource, error) {
	if !Moded(name) {
		if mode != "" {
			return nil, fmt.Errorf("mode %q: %s has no modes, only cpu, memory, ephemeral and volume have: leave it out: %w", mode, name, processors.ErrInput)
		}
		return []processors.Resource{processors.Resource(name)}, nil
	}
	general, class, _ := strings.Cut(name, ":")
	of := modes[general]
	if mode == "" {
		mode = of.byDefault
	}
	switch {
	case mode == Used:
		return []processors.Resource{of.used.Of(class)}, nil
	case mode == Reserved:
		return []processors.Resource{of.reserved.Of(class)}, nil
	case mode == ReservedUsed:
		return []processors.Resource{of.reserved.Of(class), of.used.Of(class)}, nil
	case mode == Max && of.max != "":
		return []processors.Resource{of.max}, nil
	case mode == Max:
		return nil, fmt.Errorf("mode max is for cpu and memory; use used, reserved or reserved+used for %s: %w", name, processors.ErrInput)
	}
	return nil, fmt.Errorf("mode %q is none of used, reserved, max, reserved+used: %w", mode, processors.ErrInput)
}

// TimeOfUse puts each quarter of an hour into a named slot by the clock of a zone.
type TimeOfUse struct {
	Zone    string // IANA
	Default string // the slot that no rule names; "" is "default"
	Rules   []Rule // the first that holds decides
}

// Rule is when a slot is: on those days, in those hours, by the zone's clock.
type Rule struct {
	Slot string
	Days []time.Weekday // empty is every day; of hours beyond midnight, the day on which they begin
	// From and To are minutes since midnight by the clock, multiples of 15; To <=
	// From goes beyond midnight, so 0 to 0 is the whole day.
	From, To int
}
