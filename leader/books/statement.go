package books

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// The kinds of statements.
const (
	StatementKind  = "statement"
	CreditNoteKind = "credit-note"
)

// Sum is what the lines of a resource, or of a place, come to.
type Sum struct {
	Name     string `json:"name"`
	Quantity string `json:"quantity,omitempty"` // with its unit, where it has one
	Cost     string `json:"cost"`
}

// Measured says how well what is billed was measured.
type Measured struct {
	Cluster      string `json:"cluster"`
	Completeness string `json:"completeness"`       // node-windows received by expected, to four decimals
	Coverage     string `json:"coverage,omitempty"` // of pods' time alive
	EnergyKWh    string `json:"energyKilowattHours"`
	MeasuredKWh  string `json:"measuredKilowattHours"`
	Co2eKg       string `json:"co2eKilograms,omitempty"`             // "" where no intensity is known
	Co2eOfKWh    string `json:"co2eOfEnergyKilowattHours,omitempty"` // the energy that it is of
}

// Statement is what a customer gets for a period; it is final.
type Statement struct {
	// Form is 2 where Previous and, of a period, Archive are there; 0 before they were.
	Form     int       `json:"form,omitempty"`
	Customer string    `json:"customer"`
	Name     string    `json:"customerName"`
	Issuer   string    `json:"issuer"`
	Number   int64     `json:"number"`
	ID       string    `json:"id"` // CUSTOMER-0007
	Kind     string    `json:"kind"`
	Refers   int64     `json:"refersTo,omitempty"` // the statement that a credit note is of
	Period   string    `json:"period"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Zone     string    `json:"timeZone"`
	Issued   time.Time `json:"issued"`
	Currency string    `json:"currency"`

	// Exchanges are the rates by which lines were converted from their price lists'
	// currencies.
	Exchanges []ExchangeUsed `json:"exchangeRates,omitempty"`

	Usage       string `json:"usage"`       // of the period itself, fees and minimum too
	Corrections string `json:"corrections"` // of closed periods, and refunds
	Total       string `json:"total"`

	Resources []Sum      `json:"resources"`
	Places    []Sum      `json:"namespaces"` // CLUSTER/NAMESPACE
	Measured  []Measured `json:"measured"`
	Unpriced  []Quantity `json:"unpriced,omitempty"`
	Excluded  []Quantity `json:"excluded,omitempty"`
	Estimate  *Estimate  `json:"estimate,omitempty"`

	Drafted  *Done `json:"drafted,omitempty"`
	Approved *Done `json:"approved,omitempty"`
	Closed   *Done `json:"closed,omitempty"`

	FirstLine int64  `json:"firstLine"` // its place in the chain
	LineCount int    `json:"lineCount"`
	Head      string `json:"head"` // hash of its last line
	// Previous is the SHA-256, in hex, of the text of the statement before; "" of the
	// first.
	Previous string `json:"previous,omitempty"`
	// Archive is what the period rests on in the archive.
	Archive *Rests `json:"archive,omitempty"`

	// Lines are the lines as they were closed. They are no part of the text that is
	// signed: the chain has them.
	Lines []Line `json:"lines,omitempty"`
}

// ExchangeUsed is a month's rate that lines were converted by.
type ExchangeUsed struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Month  string `json:"month"`
	Rate   string `json:"rate"` // how much of To one unit of From is
	Source string `json:"source,omitempty"`
	// Cost is what the lines cost in From, and Converted what in To: each line is
	// converted and rounded by itself.
	Cost      string `json:"cost"`
	Converted string `json:"converted"`
}

// Exchanges are the rates that lines were converted by, in the order in which each
// is first.
func Exchanges(lines []Line) []ExchangeUsed {
	var all []ExchangeUsed
	for _, l := range lines {
		if l.PriceCurrency == "" {
			continue
		}
		used := ExchangeUsed{From: l.PriceCurrency, To: l.Currency, Month: l.ExchangeMonth, Rate: l.ExchangeRate, Source: l.ExchangeSource, Cost: "0", Converted: "0"}
		i := slices.IndexFunc(all, func(o ExchangeUsed) bool {
			o.Cost, o.Converted = "0", "0"
			return o == used
		})
		if i < 0 {
			i = len(all)
			all = append(all, used)
		}
		if sum, err := plus(all[i].Cost, l.PriceCost); err == nil { // amounts that were rated are decimals
			all[i].Cost = sum
		}
		if sum, err := plus(all[i].Converted, l.Cost); err == nil {
			all[i].Converted = sum
		}
	}
	return all
}

// String is the rate for people.
func (x ExchangeUsed) String() string {
	text := fmt.Sprintf("%s %s at 1 %s = %s %s, the rate of %s", x.Cost, x.From, x.From, x.Rate, x.To, x.Month)
	if x.Source != "" {
		text += " by " + x.Source
	}
	return fmt.Sprintf("%s: %s %s", text, x.Converted, x.To)
}

// statementID names a statement for people.
func statementID(customer string, number int64) string {
	if number == 0 {
		return ""
	}
	return fmt.Sprintf("%s-%04d", customer, number)
}

// nameOf is what a customer is called at the end of a period.
func (b *Books) nameOf(ctx context.Context, c Calendar) (string, error) {
	snapshot, err := b.registry.Fleet(ctx, c.To.Add(-time.Minute))
	if err != nil {
		return "", fmt.Errorf("read fleet: %w", err)
	}
	customer, _ := snapshot.Customer(c.Customer)
	return cmp.Or(customer.DisplayName, c.Customer), nil
}

// statement is that of a draft whose lines begin at first.
func (b *Books) statement(c Calendar, name string, d Draft, first, number int64) Statement {
	s := Statement{Form: statementForm, Customer: c.Customer, Name: name, Issuer: b.config.Issuer, Number: number, ID: statementID(c.Customer, number), Kind: StatementKind,
		Period: c.Period, From: c.From, To: c.To, Zone: c.Zone.String(), Issued: b.now(), Currency: d.Currency, Total: d.Total, Usage: "0", Corrections: "0",
		Unpriced: d.Unpriced, Excluded: d.Excluded, Estimate: d.Period.Estimate, Drafted: d.Drafted, Approved: d.Approved, Closed: d.Closed,
		FirstLine: first, LineCount: len(d.Lines)}
	s.Resources, s.Places = sums(d.Lines)
	s.Exchanges = Exchanges(d.Lines)
	for _, l := range d.Lines {
		into := &s.Usage
		if l.Kind == KindCorrection || l.Kind == KindRefund {
			into = &s.Corrections
		}
		if sum, err := plus(*into, l.Cost); err == nil { // amounts that were rated are decimals
			*into = sum
		}
	}
	for _, f := range d.Clusters {
		s.Measured = append(s.Measured, f.measured())
	}
	return s
}

// sums are what lines come to by resource and by place, corrections left aside.
func sums(lines []Line) (resources, places []Sum) {
	type tally struct {
		cost, unit string
		quantity   *big.Rat
	}
	byResource, byPlace := make(map[string]*tally), make(map[string]*tally)
	count := func(into map[string]*tally, name, cost string) *tally {
		t := into[name]
		if t == nil {
			t = &tally{cost: "0", quantity: new(big.Rat)}
			into[name] = t
		}
		if sum, err := plus(t.cost, cost); err == nil { // amounts that were rated are decimals
			t.cost = sum
		}
		return t
	}
	for _, l := range lines {
		if l.Kind == KindCorrection || l.Kind == KindRefund {
			continue
		}
		t := count(byResource, l.Resource, l.Cost)
		if l.Base > 0 {
			t.unit = l.Unit
			t.quantity.Add(t.quantity, big.NewRat(l.Quantity, l.Base))
		}
		for _, share := range l.Shares {
			count(byPlace, share.Cluster+"/"+share.Namespace, share.Cost)
		}
	}
	resources, places = []Sum{}, []Sum{}
	names := sortedKeys(byResource)
	slices.SortStableFunc(names, func(a, b string) int {
		return processors.CompareResources(processors.Resource(a), processors.Resource(b))
	})
	for _, name := range names {
		t := byResource[name]
		one := Sum{Name: name, Cost: t.cost}
		if t.unit != "" {
			one.Quantity = t.quantity.FloatString(3) + " " + t.unit
		}
		resources = append(resources, one)
	}
	for _, name := range sortedKeys(byPlace) {
		places = append(places, Sum{Name: name, Cost: byPlace[name].cost})
	}
	return resources, places
}

func (c ClusterFigures) measured() Measured {
	kWh := func(millijoules int64) string { return big.NewRat(millijoules, 3_600_000_000).FloatString(6) }
	m := Measured{Cluster: c.Cluster, Coverage: c.coverage(), Completeness: "1.0000", EnergyKWh: kWh(c.Energy), MeasuredKWh: kWh(c.Figures.Measured)}
	if !c.Complete {
		m.Completeness = "0.0000"
		if c.Expected > 0 {
			m.Completeness = big.NewRat(min(9999, c.Received*10000/c.Expected), 10000).FloatString(4)
		}
	}
	if c.CarbonOf > 0 {
		m.Co2eKg, m.Co2eOfKWh = big.NewRat(c.Carbon, 1_000_000_000).FloatString(6), kWh(c.CarbonOf)
	}
	return m
}

// Statement is one that was issued, with its lines; number 0 is that of the period.
// Error: registry.ErrNotFound.
func (b *Books) Statement(ctx context.Context, customer, period string, number int64) (Statement, error) {
	all, err := b.registry.BookStatements(ctx, customer)
	if err != nil {
		return Statement{}, err
	}
	i := slices.IndexFunc(all, func(s registry.BookStatement) bool {
		return s.Number == number || number == 0 && s.Period == period && s.Kind == StatementKind
	})
	if i < 0 {
		if number != 0 {
			return Statement{}, fmt.Errorf("statement %d of %s: %w", number, customer, registry.ErrNotFound)
		}
		return Statement{}, &Error{Kind: registry.ErrNotFound, Text: fmt.Sprintf("period %s of %s has no statement: it is not closed", period, customer),
			Hint: fmt.Sprintf("See what it would have: accumulus books draft --customer %s --period %s", customer, period)}
	}
	var s Statement
	if err := json.Unmarshal([]byte(all[i].Text), &s); err != nil {
		return s, fmt.Errorf("statement %d of %s: %w", all[i].Number, customer, err)
	}
	err = b.registry.BookLines(ctx, customer, "", func(link registry.BookLine) error {
		if link.Statement != s.Number {
			return nil
		}
		var line Line
		if err := json.Unmarshal([]byte(link.Text), &line); err != nil {
			return fmt.Errorf("line %s: %w", lineID(customer, link.Seq), err)
		}
		s.Lines = append(s.Lines, line)
		return nil
	})
	return s, err
}

// Issued are all statements and credit notes of a customer, with their lines, by
// number.
func (b *Books) Issued(ctx context.Context, customer string) ([]Statement, error) {
	stored, err := b.registry.BookStatements(ctx, customer)
	if err != nil {
		return nil, err
	}
	all := make([]Statement, len(stored))
	for i, s := range stored {
		if err := json.Unmarshal([]byte(s.Text), &all[i]); err != nil {
			return nil, fmt.Errorf("statement %d of %s: %w", s.Number, customer, err)
		}
	}
	err = b.registry.BookLines(ctx, customer, "", func(link registry.BookLine) error {
		if link.Statement < 1 || link.Statement > int64(len(all)) {
			return fmt.Errorf("line %s: its statement %d is not there", lineID(customer, link.Seq), link.Statement)
		}
		var line Line
		if err := json.Unmarshal([]byte(link.Text), &line); err != nil {
			return fmt.Errorf("line %s: %w", lineID(customer, link.Seq), err)
		}
		of := &all[link.Statement-1]
		of.Lines = append(of.Lines, line)
		return nil
	})
	return all, err
}
