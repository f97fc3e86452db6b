package books

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
)

// The kinds of lines.
const (
	KindUsage      = "usage"
	KindFee        = "fee"
	KindMinimum    = "minimum"
	KindCorrection = "correction" // of a closed period
	KindRefund     = "refund"
)

// Line is a line of the books. Amounts are decimals of Currency; quantities are in
// stored units, Base of which are one Unit. It never has what the operator pays.
type Line struct {
	ID       string `json:"id,omitempty"` // CUSTOMER/NUMBER, its place in the chain; "" of a draft
	Kind     string `json:"kind"`
	Customer string `json:"customer"`
	Period   string `json:"period"` // in which it is billed
	// ChargePeriod is the month in which it was used, with its moments: of a
	// correction the closed one.
	ChargePeriod string    `json:"chargePeriod"`
	ChargeFrom   time.Time `json:"chargeFrom"`
	ChargeTo     time.Time `json:"chargeTo"`

	Resource string       `json:"resource"`
	Rate     string       `json:"rate"`
	List     string       `json:"list,omitempty"`
	Version  string       `json:"version,omitempty"` // of the list
	Match    rating.Match `json:"match,omitzero"`
	Slot     string       `json:"slot,omitempty"` // of time of use
	Tier     int          `json:"tier,omitempty"`

	Quantity        int64  `json:"quantity"`
	Base            int64  `json:"base,omitempty"`
	PricingQuantity string `json:"pricingQuantity,omitempty"`
	Unit            string `json:"unit,omitempty"`
	ListUnitPrice   string `json:"listUnitPrice,omitempty"`
	UnitPrice       string `json:"unitPrice,omitempty"` // after discounts
	ListCost        string `json:"listCost"`
	Cost            string `json:"cost"` // what the customer pays
	Currency        string `json:"currency"`
	// PriceCurrency is that of the unit prices, where it is another one; then
	// PriceListCost and PriceCost are the costs in it, ExchangeRate is how much of
	// Currency one unit of it is, in the month ExchangeMonth, and ExchangeSource who
	// says so.
	PriceCurrency  string `json:"priceCurrency,omitempty"`
	PriceListCost  string `json:"priceListCost,omitempty"`
	PriceCost      string `json:"priceCost,omitempty"`
	ExchangeRate   string `json:"exchangeRate,omitempty"`
	ExchangeMonth  string `json:"exchangeMonth,omitempty"`
	ExchangeSource string `json:"exchangeSource,omitempty"`

	Parts  []Part  `json:"parts,omitempty"` // of a dynamic price
	Shares []Share `json:"shares,omitempty"`

	Coverage string `json:"coverage,omitempty"` // 0 to 1 of the period's pod time that has readings
	Quality  string `json:"quality,omitempty"`  // of the energy: measured, mixed, estimated

	Reason   string   `json:"reason,omitempty"`   // of a correction or refund
	Corrects []string `json:"corrects,omitempty"` // ids of closed lines
	// Withheld is what of a correction is not given back, as it was given back before: its
	// difference is Cost less this.
	Withheld  string `json:"withheld,omitempty"`
	Statement int64  `json:"statement,omitempty"` // to which a correction or refund refers
	By        string `json:"by,omitempty"`
	Approver  string `json:"approver,omitempty"`
	// Estimate says that the line was closed though something was missing.
	Estimate bool `json:"estimate,omitempty"`
	// OnePerson says that the period was approved without another person's eyes.
	OnePerson bool `json:"onePerson,omitempty"`
}

// Part is a part of a line at its own dynamic price.
type Part struct {
	Prices    string `json:"prices"`
	Quantity  int64  `json:"quantity"`
	ListPrice string `json:"listPrice"`
	Price     string `json:"price"`
}

// Share is what of a line is somebody's. Shares add up to their line.
type Share struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Project   string `json:"project,omitempty"`
	User      string `json:"user,omitempty"`
	Quantity  int64  `json:"quantity"`
	ListCost  string `json:"listCost"`
	Cost      string `json:"cost"`
}

// keySeparator lies between the names of a rating key: no name has it.
const keySeparator = "\x00"

func keyOf(cluster string, at place) string {
	return strings.Join([]string{cluster, at.Namespace, at.Project, at.User}, keySeparator)
}

func (s Share) key() string {
	return strings.Join([]string{s.Cluster, s.Namespace, s.Project, s.User}, keySeparator)
}

func shareAt(key string) Share {
	parts := append(strings.Split(key, keySeparator), "", "", "")
	return Share{Cluster: parts[0], Namespace: parts[1], Project: assigned(parts[2]), User: assigned(parts[3])}
}

// assigned is a name of an assignment; what no rule names is "".
func assigned(name string) string {
	if name == schema.Unassigned {
		return ""
	}
	return name
}

func text(d *apd.Decimal) string { return d.Text('f') }

// lineOf is a line of rating as the books have it: without the operator's cost.
func lineOf(c Calendar, r rating.Line) Line {
	r = r.Public()
	l := Line{Kind: KindUsage, Customer: c.Customer, Period: c.Period, ChargePeriod: c.Period, ChargeFrom: c.From, ChargeTo: c.To,
		Resource: string(r.Resource), Rate: r.Rate, List: r.List, Version: r.Version, Match: r.Match, Slot: r.Slot, Tier: r.Tier,
		Quantity: r.Quantity, Base: r.Base, Unit: r.Unit, PricingQuantity: text(&r.PricingQuantity),
		ListUnitPrice: text(&r.ListUnitPrice), UnitPrice: text(&r.ContractedUnitPrice), ListCost: text(&r.ListCost), Cost: text(&r.ContractedCost), Currency: r.Currency}
	if x := r.Exchanged; x != nil {
		l.PriceCurrency, l.PriceListCost, l.PriceCost = x.Currency, text(&x.ListCost), text(&x.ContractedCost)
		l.ExchangeRate, l.ExchangeMonth, l.ExchangeSource = text(&x.Rate), x.Month, x.Source
	}
	switch {
	case rating.IsFee(r.Resource):
		l.Kind = KindFee
	case r.Resource == rating.MinimumCharge:
		l.Kind = KindMinimum
	case r.Resource == rating.Refund:
		l.Kind = KindRefund
	}
	for i := range r.Parts {
		p := &r.Parts[i]
		l.Parts = append(l.Parts, Part{Prices: p.Prices, Quantity: p.Quantity, ListPrice: text(&p.List), Price: text(&p.Contracted)})
	}
	for i := range r.Shares {
		s := shareAt(r.Shares[i].Key)
		s.Quantity, s.ListCost, s.Cost = r.Shares[i].Quantity, text(&r.Shares[i].ListCost), text(&r.Shares[i].ContractedCost)
		l.Shares = append(l.Shares, s)
	}
	return l
}

// identity is what a line is the line of: a correction has that of the lines which
// it corrects. A version that was corrected is the same one here.
func (l Line) identity() string {
	version, _, _ := strings.Cut(l.Version, "#")
	return strings.Join([]string{l.Resource, l.Rate, l.List, version, l.Slot, fmt.Sprint(l.Tier)}, keySeparator)
}

// canonical is the text of a line that is hashed: JSON with its fields in the order
// of Line, without spaces, HTML not escaped.
func canonical(value any) (string, error) {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// exactly adds amounts without loss.
var exactly = apd.Context{Precision: 200, MaxExponent: 400, MinExponent: -400, Traps: apd.DefaultTraps | apd.Inexact | apd.Rounded}

// amount reads a decimal of a line.
func amount(s string) (apd.Decimal, error) {
	d, _, err := apd.NewFromString(s)
	if err != nil || d.Form != apd.Finite {
		return apd.Decimal{}, fmt.Errorf("amount %q is no decimal", s)
	}
	return *d, nil
}

// plus and minus are exact, and keep the decimals of money.
func plus(a, b string) (string, error)  { return combine(a, b, exactly.Add) }
func minus(a, b string) (string, error) { return combine(a, b, exactly.Sub) }

func combine(a, b string, do func(d, x, y *apd.Decimal) (apd.Condition, error)) (string, error) {
	x, err := amount(cmp.Or(a, "0"))
	if err != nil {
		return "", err
	}
	y, err := amount(cmp.Or(b, "0"))
	if err != nil {
		return "", err
	}
	var d apd.Decimal
	if _, err := do(&d, &x, &y); err != nil {
		return "", err
	}
	if d.IsZero() {
		d.Negative = false
	}
	return d.Text('f'), nil
}

// isZero says whether an amount is 0.
func isZero(s string) bool {
	d, err := amount(cmp.Or(s, "0"))
	return err == nil && d.IsZero()
}

// below says whether an amount is below 0.
func below(s string) bool {
	d, err := amount(cmp.Or(s, "0"))
	return err == nil && d.Negative && !d.IsZero()
}

// total is the sum of lines' costs; they have one currency.
func total(lines []Line) (string, error) {
	sum := "0"
	for _, l := range lines {
		if l.Currency != lines[0].Currency {
			return "", fmt.Errorf("lines in %s and %s have no sum", lines[0].Currency, l.Currency)
		}
		var err error
		if sum, err = plus(sum, l.Cost); err != nil {
			return "", err
		}
	}
	return sum, nil
}

// sorted puts lines into the order in which they are billed.
func sorted(lines []Line) {
	order := []string{KindUsage, KindFee, KindMinimum, KindCorrection, KindRefund}
	slices.SortStableFunc(lines, func(a, b Line) int {
		return cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind))
	})
}
