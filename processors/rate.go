package processors

import (
	"fmt"
	"math/big"
	"slices"

	"github.com/cockroachdb/apd/v3"
)

// Resource is what has a price.
type Resource string

// The resources, in the order of lines.
const (
	CPUUsed         Resource = "cpu_used"
	CPURequested    Resource = "cpu_requested"
	MemoryUsed      Resource = "memory_used"
	MemoryRequested Resource = "memory_requested"
	CPUMax          Resource = "cpu_max"          // Σ over pod-minutes of max(used, requested)
	MemoryMax       Resource = "memory_max"       // Σ over pod-minutes of max(used, requested)
	NetworkReceive  Resource = "network_receive"  // NetworkReceive.Of(class): of a network class
	NetworkTransmit Resource = "network_transmit" // NetworkTransmit.Of(class): of a network class
	Energy          Resource = "energy"
	NodeHours       Resource = "node_hours"
	NodeReceive     Resource = "node_network_receive"  // what nodes' interfaces counted
	NodeTransmit    Resource = "node_network_transmit" // what nodes' interfaces counted
	EphemeralUsed   Resource = "ephemeral_used"        // of nodes' disks, by pods
	VolumeClaimed   Resource = "volume_claimed"        // VolumeClaimed.Of(class): of a storage class
	VolumeUsed      Resource = "volume_used"           // VolumeUsed.Of(class): of a storage class
	CPUIdle         Resource = "cpu_idle"              // of nodes, neither requested nor used, where it is shared
	MemoryIdle      Resource = "memory_idle"           // of nodes, neither requested nor used, where it is shared
	UsefulHeat      Resource = "heat_credit"           // useful heat: its cost is a credit, below 0
)

// Resources is all of them but those with a name of their own (Of, Extended), in
// the order of lines.
func Resources() []Resource { return slices.Clone(resources) }

var resources = []Resource{CPUUsed, CPURequested, CPUMax, MemoryUsed, MemoryRequested, MemoryMax, NetworkReceive, NetworkTransmit, Energy, NodeHours,
	NodeReceive, NodeTransmit, EphemeralUsed, VolumeClaimed, VolumeUsed, CPUIdle, MemoryIdle, UsefulHeat}

// Derived says that the resource is another way to count what other resources
// count too: without a price, nothing is missing.
func (r Resource) Derived() bool {
	return r == CPUMax || r == MemoryMax || r == CPUIdle || r == MemoryIdle || r == UsefulHeat
}

// pricing is the unit that a resource is priced in, and how many base units,
// in which it is stored, make one.
type pricing struct {
	unit string
	base int64
}

const (
	microsecondsPerHour = 3_600_000_000
	millisecondsPerHour = 3_600_000
	kibPerGiB           = 1 << 20
	bytesPerGB          = 1_000_000_000
	millijoulesPerKWh   = 3_600_000_000
)

func (r Resource) pricing() (pricing, bool) {
	general, name, named := r.parts()
	switch {
	case !named:
	case name == "":
		return pricing{}, false
	case general == extended && bytesOf(name):
		return pricing{"GiB-hour", kibPerGiB * 3600}, true // of KiB·s
	case general == extended:
		return pricing{"hour", millisecondsPerHour}, true // of ms
	case general != VolumeClaimed && general != VolumeUsed && general != NetworkReceive && general != NetworkTransmit:
		return pricing{}, false
	}
	switch general {
	case CPUUsed, CPURequested, CPUMax, CPUIdle:
		return pricing{"core-hour", microsecondsPerHour}, true // of core-µs
	case MemoryUsed, MemoryRequested, MemoryMax, MemoryIdle:
		return pricing{"GiB-hour", kibPerGiB * 3600}, true // of KiB·s
	case EphemeralUsed, VolumeClaimed, VolumeUsed:
		return pricing{"GiB-hour", kibPerGiB * 3600}, true // of KiB·s
	case NetworkReceive, NetworkTransmit, NodeReceive, NodeTransmit:
		return pricing{"GB", bytesPerGB}, true // of B
	case Energy, UsefulHeat:
		return pricing{"kWh", millijoulesPerKWh}, true // of mJ
	case NodeHours:
		return pricing{"hour", millisecondsPerHour}, true // of ms
	}
	return pricing{}, false
}

// Unit is the unit that the resource is priced in: core-hour, GiB-hour (2^30 B),
// GB (10^9 B), kWh, hour; "" of an unknown one.
func (r Resource) Unit() string {
	p, _ := r.pricing()
	return p.unit
}

// Base is how many stored units (Quantities) make one priced Unit; 0 of an
// unknown resource.
func (r Resource) Base() int64 {
	p, _ := r.pricing()
	return p.base
}

// Quantities is how much of each resource was used, in the stored units:
// core-µs, KiB·s, B, mJ, ms. A resource that was not counted is absent.
type Quantities map[Resource]int64

// PriceKind says whose price it is.
type PriceKind string

// The kinds of price.
const (
	Sale      PriceKind = "sale" // what the customer pays; it alone reaches a cluster
	CostPrice PriceKind = "cost" // what the operator pays
)

// Price is the price of one unit of a resource.
type Price struct {
	Resource Resource
	Price    apd.Decimal // of the list's currency per Resource.Unit, >= 0
}

// PriceList is the prices that hold over one slot of time.
type PriceList struct {
	Version  string
	Kind     PriceKind
	Currency string // ISO 4217
	Prices   []Price
	Signed   bool // prices of a market may be below 0
}

// PriceOf is the price of a resource, if the list has one: its own, else that of any
// class.
func (l PriceList) PriceOf(r Resource) (*apd.Decimal, bool) { return l.price(r) }

// maxPriceDigits bounds a price's digits and its exponent.
const maxPriceDigits = 34

func checkPrice(p *apd.Decimal) error {
	switch {
	case p.Form != apd.Finite:
		return fmt.Errorf("not a finite number: %w", ErrInput)
	case p.Negative && !p.IsZero():
		return fmt.Errorf("negative: %w", ErrInput)
	case p.NumDigits() > maxPriceDigits || p.Exponent > maxPriceDigits || p.Exponent < -maxPriceDigits:
		return fmt.Errorf("more than %d digits: %w", maxPriceDigits, ErrInput)
	}
	return nil
}

// check looks for contradictions in the list. It returns ErrInput.
func (l PriceList) check() error {
	if _, ok := CurrencyExponent(l.Currency); !ok {
		return fmt.Errorf("price list %s: currency %q: %w", l.Version, l.Currency, ErrInput)
	}
	for i, p := range l.Prices {
		if _, known := p.Resource.pricing(); !known {
			return fmt.Errorf("price list %s: resource %q: %w", l.Version, p.Resource, ErrInput)
		}
		if slices.ContainsFunc(l.Prices[:i], func(o Price) bool { return o.Resource == p.Resource }) {
			return fmt.Errorf("price list %s: two prices of %s: %w", l.Version, p.Resource, ErrInput)
		}
		price := &p.Price
		if l.Signed {
			price = new(apd.Decimal).Abs(price)
		}
		if err := checkPrice(price); err != nil {
			return fmt.Errorf("price list %s: price of %s: %w", l.Version, p.Resource, err)
		}
	}
	return nil
}

// price is the price of a resource, if the list has one: its own, else that of
// any class.
func (l PriceList) price(r Resource) (*apd.Decimal, bool) {
	for _, wanted := range r.PricedAs() {
		for i := range l.Prices {
			if l.Prices[i].Resource == wanted {
				return &l.Prices[i].Price, true
			}
		}
	}
	return nil, false
}

// ratio is an exact amount in units of 10^-places of the currency; the
// denominator is > 0.
type ratio struct{ num, den big.Int }

// exactCost is quantity · price / base in units of 10^-places.
func exactCost(quantity int64, price *apd.Decimal, base int64, places int32) *ratio {
	var r ratio
	r.num.Mul(big.NewInt(quantity), price.Coeff.MathBigInt())
	if price.Negative {
		r.num.Neg(&r.num)
	}
	r.den.SetInt64(base)
	power := func(n int32) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
	if shift := price.Exponent + places; shift >= 0 {
		r.num.Mul(&r.num, power(shift))
	} else {
		r.den.Mul(&r.den, power(-shift))
	}
	return &r
}

// round is the nearest integer, halves away from zero.
func (r *ratio) round() *big.Int {
	n := new(big.Int).Abs(&r.num)
	n.Lsh(n, 1).Add(n, &r.den)
	n.Quo(n, new(big.Int).Lsh(&r.den, 1))
	if r.num.Sign() < 0 {
		n.Neg(n)
	}
	return n
}

// CurrencyExponent is how many decimals the currency's smallest unit has, by
// ISO 4217: 2, but for a few. It is false of what is no currency code.
func CurrencyExponent(code string) (int32, bool) {
	if len(code) != 3 {
		return 0, false
	}
	for _, c := range code {
		if c < 'A' || c > 'Z' {
			return 0, false
		}
	}
	switch code {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF":
		return 0, true
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		return 3, true
	case "CLF", "UYW":
		return 4, true
	}
	return 2, true
}
