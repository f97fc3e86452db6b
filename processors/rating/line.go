package rating

import (
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// Line is one line of a customer's billing period: a resource at a rate, in a slot
// of time of use, in a tier.
type Line struct {
	Resource processors.Resource // or Fee(name), MinimumCharge
	Rate     string              // names the rate within its list version: the resource, and in braces what it is for
	List     string
	Version  string // of the list
	Currency string
	Match    Match  // what the rate is for
	Slot     string // of time of use; "" without
	Tier     int    // 1 is the first; 0 without tiers
	Dynamic  bool   // the unit prices are means over Parts

	// Quantity is in stored units (processors.Resource.Base of them make one Unit),
	// exact; of a fee the milliseconds that it is charged for.
	Quantity int64
	Base     int64 // stored units per Unit; 0 of fees and the minimum charge
	Unit     string
	// PricingQuantity is Quantity in units, to 12 decimals: for people.
	PricingQuantity apd.Decimal

	ListUnitPrice       apd.Decimal
	ContractedUnitPrice apd.Decimal // after discounts
	CostPrice           *apd.Decimal

	ListCost       apd.Decimal // rounded once, to the currency's smallest unit; below 0 of a credit
	ContractedCost apd.Decimal // what the customer pays
	// OperatorCost is what the operator pays; nil where no cost price is known, as
	// is CostPrice. Both are the operator's alone: see Public.
	OperatorCost *apd.Decimal

	// Exchanged is what the line was before it was converted; nil where it was not.
	Exchanged *Exchanged

	Parts  []Part  // of a dynamic price, the dearest last
	Shares []Share // one per key with a quantity, by key; none of fees and the minimum charge
}

// Exchanged is a line in the currency of its price list, and how it was converted.
type Exchanged struct {
	Currency                 string      // of the list: of unit prices and Parts too
	ListCost, ContractedCost apd.Decimal // rounded in that currency
	// Rate is how much of the line's currency one unit of the list's is, to
	// 18 decimals, for people: amounts are converted by the exact one.
	Rate   apd.Decimal
	Month  string
	Source string // who says so
}

// Part is a part of a line at its own price.
type Part struct {
	Prices     string // Slot.Prices
	Quantity   int64  // stored units
	List       apd.Decimal
	Contracted apd.Decimal
}

// Share is a key's part of a line. Over the keys quantity and costs add up to the
// line's.
type Share struct {
	Key            string
	Quantity       int64 // stored units
	ListCost       apd.Decimal
	ContractedCost apd.Decimal
	OperatorCost   *apd.Decimal
}

// Public is the line as its customer may see it: without what the operator pays.
func (l Line) Public() Line {
	l.CostPrice, l.OperatorCost = nil, nil
	shares := make([]Share, len(l.Shares))
	for i, share := range l.Shares {
		share.OperatorCost = nil
		shares[i] = share
	}
	l.Shares = shares
	return l
}

// Credit says that the line is one: its cost is below 0.
func (l Line) Credit() bool { return l.ContractedCost.Negative && !l.ContractedCost.IsZero() }
