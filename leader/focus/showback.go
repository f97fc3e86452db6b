package focus

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// tagPrefix marks the tags that Accumulus itself sets.
const tagPrefix = "accumulus/"

// Unassigned is the billing account of usage that is no customer's: nobody is
// billed for it.
const Unassigned = "unassigned"

// Engine answers questions about charges: *query.Engine.
type Engine interface {
	Charges(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error)
	Sectors(ctx context.Context, w schema.Window, step time.Duration) ([]query.Sector, error)
	Settled(ctx context.Context) (time.Time, error)
}

// Fleet knows customers and clusters: *registry.Registry.
type Fleet interface {
	Fleet(ctx context.Context, at time.Time) (*fleet.Fleet, error)
}

// Parties are the names in the columns of that name.
type Parties struct {
	Provider string // ServiceProviderName: who sells; "" is Accumulus
	Issuer   string // InvoiceIssuerName: who bills; "" is the provider
}

// Names are the provider and the issuer.
func (p Parties) Names() (provider, issuer string) {
	if provider = p.Provider; provider == "" {
		provider = "Accumulus"
	}
	if issuer = p.Issuer; issuer == "" {
		issuer = provider
	}
	return provider, issuer
}

// Showback is the Source of what is rated now: nothing of it is closed, and no
// invoice has it yet. A row is what a customer's namespace in one cluster used of
// one resource at one price in one charge period.
type Showback struct {
	Engine  Engine
	Fleet   Fleet
	Parties Parties
}

// keys are what showback rows are by.
var keys = []query.Key{query.Customer, query.Cluster, query.Namespace, query.Project}

// accounts are who is billed in a period, and when it begins and ends for them.
type accounts struct {
	fleet   *fleet.Fleet
	year    int
	month   time.Month
	settled time.Time
	only    string // "" is all
}

func (s Showback) accounts(ctx context.Context, request *Request) (accounts, error) {
	year, month, err := request.Check()
	if err != nil {
		return accounts{}, err
	}
	settled, err := s.Engine.Settled(ctx)
	if err != nil {
		return accounts{}, err
	}
	// The facts as they are at the period's end, or as far as it has come.
	at := schema.Earlier(BillingPeriod(year, month, time.UTC).To.Add(-time.Minute), settled)
	snapshot, err := s.Fleet.Fleet(ctx, at)
	if err != nil {
		return accounts{}, fmt.Errorf("read fleet at %s: %w", at.Format(time.RFC3339), err)
	}
	return accounts{snapshot, year, month, settled, request.Customer}, nil
}

// of is a customer's billing period. An unknown zone, and nobody's usage, is UTC.
func (a accounts) of(customer string) schema.Window {
	zone := time.UTC
	if c, ok := a.fleet.Customer(customer); ok && c.TimeZone != "" {
		if named, err := time.LoadLocation(c.TimeZone); err == nil {
			zone = named
		}
	}
	return BillingPeriod(a.year, a.month, zone)
}

// windows are all different billing periods, the earliest first.
func (a accounts) windows() []schema.Window {
	found := []schema.Window{}
	if a.only == "" {
		found = append(found, a.of(""))
	}
	for _, c := range a.fleet.Customers() {
		if a.only == "" || a.only == c.Name {
			found = append(found, a.of(c.Name))
		}
	}
	if len(found) == 0 {
		found = append(found, a.of(a.only))
	}
	slices.SortFunc(found, func(x, y schema.Window) int { return cmp.Or(x.From.Compare(y.From), x.To.Compare(y.To)) })
	return slices.Compact(found)
}

// State is how complete the period is, in UTC from the earliest of its customers'
// starts to the latest end.
func (s Showback) State(ctx context.Context, request Request) (State, error) {
	a, err := s.accounts(ctx, &request)
	if err != nil {
		return State{}, err
	}
	all := a.windows()
	span := all[0]
	for _, w := range all {
		span.To = schema.Later(span.To, w.To)
	}
	sectors, err := s.Engine.Sectors(ctx, span, request.Step)
	if err != nil {
		return State{}, fmt.Errorf("completeness of %s: %w", request.Period, err)
	}
	state := State{Sectors: sectors}
	_, issuer := s.Parties.Names()
	for _, w := range all {
		state.Periods = append(state.Periods, Period{Start: w.From, End: w.To, Created: w.From, Updated: schema.Later(state.updated(), w.From), Issuer: issuer})
	}
	return state, nil
}

// Rows are the charges of the period, day by day; those of what has not settled
// are those so far.
func (s Showback) Rows(ctx context.Context, request Request, yield func(*Row) error) ([]LeftOut, error) {
	a, err := s.accounts(ctx, &request)
	if err != nil {
		return nil, err
	}
	var out leftOut
	for _, period := range a.windows() {
		w := period
		w.To = schema.Earlier(w.To, a.settled)
		for at := w.From; at.Before(w.To); {
			day := usage.Bucket(w, 24*time.Hour, at)
			at = day.To
			if err := s.day(ctx, a, request, period, day, &out, yield); err != nil {
				return nil, err
			}
		}
	}
	return out.list(), nil
}

// day yields the rows of a day, of the customers whose period is the one that is
// being read: those of another time zone have their turn in another.
func (s Showback) day(ctx context.Context, a accounts, request Request, period, day schema.Window, out *leftOut, yield func(*Row) error) error {
	question := query.ChargeRequest{Window: day, Step: request.Step, Aggregate: keys, Figures: true}
	if request.Customer != "" {
		question.Filter = []query.Condition{{Key: query.Customer, Values: []string{request.Customer}}}
	}
	charges, err := s.Engine.Charges(ctx, question)
	if err != nil {
		return fmt.Errorf("charges of %s: %w", day, err)
	}
	for _, c := range charges {
		if own := a.of(c.Row.Key[string(query.Customer)]); !own.From.Equal(period.From) || !own.To.Equal(period.To) {
			continue
		}
		if err := s.group(a, period, c, out, yield); err != nil {
			return err
		}
	}
	return nil
}

// group yields the rows of one key and charge period. Its energy stands in one of
// them: that of the energy, else the first.
func (s Showback) group(a accounts, period schema.Window, c query.Charges, out *leftOut, yield func(*Row) error) error {
	carrier := -1
	for i, line := range c.Lines {
		if line.List == nil {
			out.add(line)
			continue
		}
		if carrier < 0 || line.Resource == processors.Energy && c.Lines[carrier].Resource != processors.Energy {
			carrier = i
		}
	}
	for i, line := range c.Lines {
		if line.List == nil {
			continue
		}
		row, err := s.row(a, period, c, line)
		if err != nil {
			return err
		}
		if i == carrier {
			if err := energy(row, c); err != nil {
				return err
			}
		}
		if err := signed(row, yield); err != nil {
			return err
		}
	}
	return nil
}

// row is one line as a row.
func (s Showback) row(a accounts, period schema.Window, c query.Charges, line query.Charge) (*Row, error) {
	key := func(k query.Key) string { return c.Row.Key[string(k)] }
	product, err := productOf(line.Resource)
	if err != nil {
		return nil, err
	}
	price, err := line.Price.Value()
	if err != nil {
		return nil, fmt.Errorf("price list %s, %s: %w", line.List.Name, line.Resource, err)
	}
	listed, err := line.ListPrice.Value()
	if err != nil {
		return nil, fmt.Errorf("price list %s, %s: %w", line.List.Name, line.Resource, err)
	}
	quantity := fromRat(big.NewRat(line.Quantity, line.Resource.Base()), scaleQuantity)
	customer, cluster, namespace := key(query.Customer), key(query.Cluster), key(query.Namespace)
	provider, issuer := s.Parties.Names()
	r := &Row{BillingAccountID: customer, BillingAccountName: Some(customer), BillingAccountType: Some("Customer"), BillingCurrency: line.List.Currency,
		BillingPeriodStart: period.From, BillingPeriodEnd: period.To, ChargePeriodStart: c.Row.From.UTC(), ChargePeriodEnd: c.Row.To.UTC(),
		ChargeCategory: categoryUsage, ChargeFrequency: Some(usageBased),
		ChargeDescription: Some(fmt.Sprintf("%s %s of %s, namespace %s, cluster %s", plainDecimal(quantity), product.unit, product.meter, namespace, cluster)),
		PricingCategory:   Some("Standard"), ConsumedQuantity: quantity, ConsumedUnit: Some(product.unit),
		ServiceCategory: product.category, ServiceSubcategory: product.subcategory, ServiceName: product.service,
		InvoiceIssuerName: issuer, ServiceProviderName: provider, HostProviderName: notApplicable,
		ResourceID: Some(cluster + "/" + namespace), ResourceName: SomeOr(namespace), ResourceType: Some("Namespace"),
		SubAccountID: Some(cluster), SubAccountName: Some(cluster), SubAccountType: Some("Cluster"),
		SkuID: Some(string(line.Resource)), SkuMeter: Some(product.meter), SkuPriceID: Some(priceID(line)),
		SkuPriceDetails: KeyValue{"x_PriceList": line.List.Name, "x_Resource": string(line.Resource)},
		ClusterID:       Some(cluster), Namespace: SomeOr(namespace), MeasurementKind: SomeOr(kinds[c.Row.Quality]), PriceListVersion: Some(listVersion(line.List)), TariffSlot: SomeOr(line.Slot),
		DataCoverage: fromRat(new(big.Rat).SetFloat64(c.Row.Coverage), 6)}
	r.Price(listed, price, quantity, product.unit, customer != "")
	if customer == "" {
		r.BillingAccountID, r.BillingAccountName = Unassigned, Some(Unassigned)
	} else if known, ok := a.fleet.Customer(customer); ok && known.DisplayName != "" {
		r.BillingAccountName = Some(known.DisplayName)
	}
	if project := key(query.Project); project != "" {
		r.Tags = KeyValue{tagPrefix + "project": project}
		r.ResourceID = Some(cluster + "/" + namespace + "/" + project)
	}
	if known, ok := a.fleet.Cluster(cluster); ok {
		r.RegionID, r.RegionName = SomeOr(known.Region), SomeOr(known.Region)
		if known.Provider != "" {
			r.HostProviderName = known.Provider
		}
	}
	return r, nil
}

// kinds are the values of x_MeasurementKind by the quality of the energy.
var kinds = map[string]string{"measured": "Measured", "mixed": "Modelled", "estimated": "Estimated"}

// priceID names a price: another price is another id.
func priceID(line query.Charge) string {
	price, err := line.ListPrice.Value() // a discount is no other price
	if err != nil {
		return string(line.ListPrice) // row has said so
	}
	return strings.Join([]string{line.List.Name, string(line.Resource), line.List.Currency, plainDecimal(price)}, "/")
}

// listVersion names a price list as it was: its name and a sum of its rates.
func listVersion(list *fleet.PriceList) string {
	sum := sha256.New()
	for _, rate := range list.Rates {
		for _, part := range []string{rate.Resource, rate.Unit, string(rate.Price)} {
			_, _ = sum.Write([]byte(strconv.Itoa(len(part)) + ":" + part)) // a hash returns no error
		}
	}
	rest := *list
	rest.Rates, rest.Customers, rest.Clusters, rest.Exclude = nil, nil, nil, nil
	for _, rate := range list.Rates {
		if plain := (fleet.Rate{Resource: rate.Resource, Unit: rate.Unit, Price: rate.Price}); !reflect.DeepEqual(rate, plain) {
			rest.Rates = append(rest.Rates, rate)
		}
	}
	if len(rest.Rates) > 0 || rest.TimeOfUse != nil || len(rest.Discounts) > 0 {
		text, _ := json.Marshal(rest) // text, lists and maps of them: there is no error
		_, _ = sum.Write(text)
	}
	return list.Name + "@" + hex.EncodeToString(sum.Sum(nil)[:6])
}

// energy fills the columns of energy, heat and CO2e of a charge period.
func energy(r *Row, c query.Charges) error {
	total, err := c.Row.Sums.Energy()
	if err != nil {
		return err
	}
	r.EnergyKilowattHours = kilowattHours(total)
	r.EnergyActiveKilowattHours, r.EnergyIdleKilowattHours = kilowattHours(c.Row.Sums[usage.EnergyActive]), kilowattHours(c.Row.Sums[usage.EnergyIdle])
	if r.SkuID.Value == string(processors.Energy) {
		r.EnergyCost = r.ListCost
	}
	if c.HeatKnown {
		r.HeatKilowattHours = kilowattHours(c.HeatMillijoules)
	}
	if c.CarbonKnown {
		r.emitted(c.CarbonMicrograms, total)
	}
	return nil
}

func kilowattHours(millijoules int64) *apd.Decimal {
	return fromRat(big.NewRat(millijoules, 3_600_000_000), 12)
}

// emitted fills the CO2e of all of a row's energy, in µg of mJ.
func (r *Row) emitted(micrograms, millijoules int64) {
	r.Co2eKilograms = fromRat(big.NewRat(micrograms, 1_000_000_000), 12)
	grams := big.NewRat(micrograms, 1_000_000)
	r.GridCarbonIntensity = fromRat(grams.Quo(grams, big.NewRat(millijoules, 3_600_000_000)), 6)
}

// leftOut adds up what is in no row.
type leftOut struct{ sums map[LeftOut]*big.Rat }

func (l *leftOut) add(line query.Charge) {
	if l.sums == nil {
		l.sums = make(map[LeftOut]*big.Rat)
	}
	of := LeftOut{Resource: string(line.Resource), Unit: line.Resource.Unit(), Reason: "no price"}
	if line.Excluded {
		of.Reason = "excluded by the price list"
	}
	if l.sums[of] == nil {
		l.sums[of] = new(big.Rat)
	}
	if base := line.Resource.Base(); base != 0 {
		l.sums[of].Add(l.sums[of], big.NewRat(line.Quantity, base))
	}
}

func (l *leftOut) list() []LeftOut {
	var all []LeftOut
	for of, sum := range l.sums {
		of.Quantity = plainDecimal(fromRat(sum, scaleQuantity))
		all = append(all, of)
	}
	slices.SortFunc(all, func(a, b LeftOut) int { return strings.Compare(a.Resource+a.Reason, b.Resource+b.Reason) })
	return all
}
