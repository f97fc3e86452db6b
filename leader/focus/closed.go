package focus

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// Ledger are the books: *books.Books.
type Ledger interface {
	List(ctx context.Context, customer, period string) ([]books.Period, error)
	Issued(ctx context.Context, customer string) ([]books.Statement, error)
	Used(ctx context.Context, customer, period string) ([]books.Use, error)
}

// Closed is the Source of what is final, where it is: of a customer whose month is
// closed the lines of its statement, a row for each namespace's share of a line;
// of the others what Open says. Credit notes are rows of the month in which they
// were issued. Inside a scope that does not hold all of the customer it is what Open says.
type Closed struct {
	Ledger  Ledger
	Open    Source // of customers whose month is not closed
	Parties Parties
}

// closedPeriods are the closed ones of a month, by customer.
func (s Closed) closedPeriods(ctx context.Context, request Request) (map[string]books.Period, error) {
	all, err := s.Ledger.List(ctx, request.Customer, request.Period)
	if err != nil {
		return nil, fmt.Errorf("closed periods of %s: %w", request.Period, err)
	}
	closed := make(map[string]books.Period)
	for _, p := range all {
		if p.State == books.StateClosed {
			closed[p.Customer] = p
		}
	}
	return closed, nil
}

// State is that of the open month, with the closed periods as such. Where a customer
// is asked for and its month is closed, nothing can still come.
func (s Closed) State(ctx context.Context, request Request) (State, error) {
	if _, _, err := request.Check(); err != nil {
		return State{}, err
	}
	if !query.Covers(ctx, request.Customer, "", "") {
		return s.Open.State(ctx, request)
	}
	closed, err := s.closedPeriods(ctx, request)
	if err != nil {
		return State{}, err
	}
	_, issuer := s.Parties.Names()
	if p, ok := closed[request.Customer]; ok {
		at := updated(p)
		return State{Sectors: []query.Sector{{Window: schema.Window{From: p.From, To: p.To}, Complete: true, Updated: at}},
			Periods: []Period{{Start: p.From, End: p.To, Created: p.From, Updated: at, Closed: true, Issuer: issuer}}}, nil
	}
	state, err := s.Open.State(ctx, request)
	if err != nil {
		return State{}, err
	}
	added := make(map[Period]bool)
	for _, p := range closed {
		one := Period{Start: p.From, End: p.To, Created: p.From, Updated: updated(p), Closed: true, Issuer: issuer}
		if !added[one] {
			added[one] = true
			state.Periods = append(state.Periods, one)
		}
	}
	sortPeriods(state.Periods)
	return state, nil
}

// updated is when a period was closed.
func updated(p books.Period) time.Time {
	if p.Closed == nil {
		return p.From
	}
	return p.Closed.At.UTC().Truncate(time.Second)
}

// Rows are the closed lines by customer, then the open rows of the others.
func (s Closed) Rows(ctx context.Context, request Request, yield func(*Row) error) ([]LeftOut, error) {
	if !query.Covers(ctx, request.Customer, "", "") {
		return s.Open.Rows(ctx, request, yield) // closed lines are of all that a customer has
	}
	closed, err := s.closedPeriods(ctx, request)
	if err != nil {
		return nil, err
	}
	customers, err := s.customers(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, customer := range customers {
		issued, err := s.Ledger.Issued(ctx, customer)
		if err != nil {
			return nil, err
		}
		for _, statement := range issued {
			if err := s.statement(ctx, request, statement, yield); err != nil {
				return nil, err
			}
		}
	}
	if _, ok := closed[request.Customer]; ok {
		return nil, nil
	}
	return s.Open.Rows(ctx, request, func(r *Row) error {
		if _, ok := closed[r.BillingAccountID]; ok {
			return nil
		}
		return yield(r)
	})
}

// statement yields the rows of a statement's lines that are billed in the month.
func (s Closed) statement(ctx context.Context, request Request, statement books.Statement, yield func(*Row) error) error {
	lines := slices.DeleteFunc(slices.Clone(statement.Lines), func(l books.Line) bool { return l.Period != request.Period })
	if len(lines) == 0 {
		return nil
	}
	var uses []books.Use
	if statement.Kind == books.StatementKind {
		var err error
		if uses, err = s.Ledger.Used(ctx, statement.Customer, statement.Period); err != nil {
			return err
		}
	}
	days, err := newDaily(statement, uses)
	if err != nil {
		return err
	}
	for _, line := range lines {
		if err := s.line(statement, line, days, yield); err != nil {
			return fmt.Errorf("line %s: %w", line.ID, err)
		}
	}
	return nil
}

// customers are those with something in the books, by name.
func (s Closed) customers(ctx context.Context, request Request) ([]string, error) {
	all, err := s.Ledger.List(ctx, request.Customer, "")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range all { // by customer
		if last := len(names) - 1; last < 0 || names[last] != p.Customer {
			names = append(names, p.Customer)
		}
	}
	return names, nil
}

// line yields the rows of a line: one for each share and day, of a fee and its likes
// one.
func (s Closed) line(statement books.Statement, line books.Line, days *daily, yield func(*Row) error) error {
	shares := line.Shares
	if len(shares) == 0 {
		shares = []books.Share{{Quantity: line.Quantity, ListCost: line.ListCost, Cost: line.Cost}}
	}
	for i, share := range shares {
		whole := part{schema.Window{From: line.ChargeFrom, To: line.ChargeTo}, share}
		parts := []part{whole}
		if cut := days.of(line, share); cut != nil {
			parts = cut
		}
		for _, p := range parts {
			row, err := s.row(statement, line, p.share)
			if err != nil {
				return err
			}
			row.ChargePeriodStart, row.ChargePeriodEnd = p.From, p.To
			row.InvoiceDetailID = Some(line.ID)
			if len(line.Shares) > 0 {
				row.InvoiceDetailID = Some(line.ID + "." + strconv.Itoa(i+1))
			}
			days.energy(row, line, p)
			if err := signed(row, yield); err != nil {
				return err
			}
		}
	}
	return nil
}

// row is a share of a line as a row. What was billed is the share, rounded with its
// line; the costs before that are exact.
func (s Closed) row(statement books.Statement, line books.Line, share books.Share) (*Row, error) {
	provider, issuer := s.Parties.Names()
	billing := schema.Window{From: statement.From, To: statement.To}
	if statement.Kind == books.CreditNoteKind { // of the month in which it was issued
		year, month, err := (&Request{Period: line.Period}).Check()
		if err != nil {
			return nil, err
		}
		zone, err := time.LoadLocation(statement.Zone)
		if err != nil {
			return nil, err
		}
		billing = BillingPeriod(year, month, zone)
	}
	p, err := productOfLine(line)
	if err != nil {
		return nil, err
	}
	billed, err := decimalOf(share.Cost)
	if err != nil {
		return nil, err
	}
	r := &Row{BillingAccountID: line.Customer, BillingAccountName: SomeOr(statement.Name), BillingAccountType: Some("Customer"), BillingCurrency: line.Currency,
		BillingPeriodStart: billing.From, BillingPeriodEnd: billing.To, ChargePeriodStart: line.ChargeFrom, ChargePeriodEnd: line.ChargeTo,
		ChargeCategory: categoryUsage, ChargeFrequency: Some(usageBased), ChargeDescription: Some(describe(line, share, p)),
		ServiceCategory: p.category, ServiceSubcategory: p.subcategory, ServiceName: p.service,
		InvoiceIssuerName: issuer, ServiceProviderName: provider, HostProviderName: notApplicable, InvoiceID: Some(statement.ID),
		BilledCost: billed, EffectiveCost: billed, ListCost: billed, ContractedCost: billed, TariffSlot: SomeOr(line.Slot), PriceListVersion: SomeOr(line.Version)}
	if line.PriceCurrency != "" {
		r.PricingCurrency, r.FxSource = line.PriceCurrency, SomeOr(line.ExchangeSource)
		if line.ExchangeSource == "" {
			r.FxSource = Some("ExchangeRates of " + line.ExchangeMonth)
		}
		if r.FxRate, err = decimalOf(line.ExchangeRate); err != nil {
			return nil, err
		}
	}
	if share.Cluster != "" {
		r.SubAccountID, r.SubAccountName, r.SubAccountType = Some(share.Cluster), Some(share.Cluster), Some("Cluster")
		r.ResourceID, r.ResourceName, r.ResourceType = Some(share.Cluster+"/"+share.Namespace), SomeOr(share.Namespace), Some("Namespace")
		r.ClusterID, r.Namespace = Some(share.Cluster), SomeOr(share.Namespace)
		r.RegionID, r.RegionName = SomeOr(line.Match.Region), SomeOr(line.Match.Region)
	}
	if share.Project != "" {
		r.Tags = KeyValue{tagPrefix + "project": share.Project}
		r.ResourceID = Some(share.Cluster + "/" + share.Namespace + "/" + share.Project)
	}
	if line.Coverage != "" {
		if r.DataCoverage, err = decimalOf(line.Coverage); err != nil {
			return nil, err
		}
	}
	r.MeasurementKind = SomeOr(kinds[line.Quality])
	return r, s.charge(r, line, share, p)
}

// charge fills the category, and what of quantity and price belongs to it.
func (s Closed) charge(r *Row, line books.Line, share books.Share, p product) error {
	switch line.Kind {
	case books.KindRefund:
		r.ChargeCategory, r.ChargeFrequency = categoryCredit, Some("One-Time")
		if !r.ChargePeriodEnd.After(r.BillingPeriodStart) { // of a month that is over
			r.ChargeClass = Some(correction)
		}
		return nil
	case books.KindMinimum:
		r.ChargeCategory = categoryAdjustment
		return nil
	case books.KindCorrection:
		r.ChargeClass = Some(correction)
	}
	if p.unit == "" {
		r.ChargeCategory = categoryAdjustment
		return nil
	}
	if processors.Resource(line.Resource) == processors.UsefulHeat {
		r.ChargeCategory = categoryCredit
		return nil
	}
	quantity, err := decimalOf(line.PricingQuantity)
	if err == nil && quantity != nil { // of a part of a month it has more decimals than a column
		quantity = fromRat(ratOf(quantity), scaleQuantity)
	}
	if line.Base > 0 {
		quantity, err = fromRat(big.NewRat(share.Quantity, line.Base), scaleQuantity), nil
	}
	if err != nil || line.Kind == books.KindCorrection && line.PricingQuantity == "" {
		r.ChargeCategory = categoryAdjustment
		return nil
	}
	list, price, err := unitPrices(line)
	if err != nil {
		return err
	}
	if line.Kind == books.KindFee {
		r.ChargeFrequency = Some("Recurring")
	}
	r.SkuID, r.SkuMeter, r.SkuPriceID = Some(line.Resource), Some(p.meter), Some(strings.Join([]string{line.Version, line.Rate, line.Slot, strconv.Itoa(line.Tier), line.Currency}, "/"))
	r.SkuPriceDetails = KeyValue{"x_PriceList": line.List, "x_Resource": line.Resource}
	if line.Tier > 0 {
		r.SkuPriceDetails["x_Tier"] = strconv.Itoa(line.Tier)
	}
	r.PricingCategory = Some("Standard")
	if len(line.Parts) > 0 {
		r.PricingCategory = Some("Dynamic")
	}
	r.ConsumedQuantity, r.ConsumedUnit = quantity, Some(p.unit)
	billed := r.BilledCost
	r.Price(list, price, quantity, p.unit, true)
	r.BilledCost, r.EffectiveCost = billed, billed
	if line.Kind == books.KindCorrection { // a difference: no price times its quantity
		r.ListCost, r.ContractedCost = billed, billed
	}
	return nil
}

// unitPrices are those of the line, in its own currency: a price of another one is
// converted by the rate that the line names.
func unitPrices(line books.Line) (list, price *apd.Decimal, err error) {
	if list, err = decimalOf(line.ListUnitPrice); err != nil {
		return nil, nil, err
	}
	if price, err = decimalOf(line.UnitPrice); err != nil || line.PriceCurrency == "" {
		return list, price, err
	}
	rate, ok := new(big.Rat).SetString(line.ExchangeRate)
	if !ok {
		return nil, nil, fmt.Errorf("line %s: exchange rate %q is no decimal", line.ID, line.ExchangeRate)
	}
	converted := func(d *apd.Decimal) *apd.Decimal { return fromRat(new(big.Rat).Mul(ratOf(d), rate), scalePrice) }
	return converted(list), converted(price), nil
}

// productOfLine names what a line is of.
func productOfLine(line books.Line) (product, error) {
	resource, fee := strings.CutPrefix(line.Resource, "fee:")
	switch {
	case fee:
		p := product{service: "Platform Fees", category: "Management and Governance", subcategory: "Other (Management and Governance)", meter: resource}
		p.unit = map[string]string{"month": "Months", "day": "Days"}[line.Unit]
		return p, nil
	case line.Kind == books.KindMinimum || line.Kind == books.KindRefund && line.Base == 0 || processors.Resource(line.Resource).Base() == 0:
		return product{service: "Billing", category: "Management and Governance", subcategory: "Cost Management", meter: line.Resource}, nil
	}
	return productOf(processors.Resource(line.Resource))
}

// describe says in words what a row is for.
func describe(line books.Line, share books.Share, p product) string {
	text := p.meter
	if line.Kind == books.KindCorrection {
		text = fmt.Sprintf("correction of statement %d, %s", line.Statement, text)
	}
	if share.Cluster != "" {
		text += fmt.Sprintf(", namespace %s, cluster %s", share.Namespace, share.Cluster)
	}
	if line.Reason != "" {
		text += ": " + line.Reason
	}
	return text
}

// decimalOf reads a decimal of the books.
func decimalOf(text string) (*apd.Decimal, error) {
	d, _, err := apd.NewFromString(text)
	if err != nil || d.Form != apd.Finite {
		return nil, fmt.Errorf("amount %q is no decimal", text)
	}
	return d, nil
}
