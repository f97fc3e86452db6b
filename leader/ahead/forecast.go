package ahead

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors/forecast"
)

// Forecasts are what will have been used and spent by a moment ahead.
type Forecasts struct {
	Settled   time.Time     `json:"settled"` // the last settled hour: forecasts go on from here
	Until     string        `json:"until"`
	Aggregate []usage.Key   `json:"aggregate"`
	Stated    float64       `json:"statedCoverage"` // what p10 to p90 claim
	Rows      []ForecastRow `json:"rows"`
	// Assumptions are what the cost rests on, for people.
	Assumptions []string `json:"assumptions"`
}

// ForecastRow is a key's period: what was used so far and what is expected by its end.
type ForecastRow struct {
	Key       map[string]string `json:"key"`
	From      time.Time         `json:"from"` // of the period
	To        time.Time         `json:"to"`
	Zone      string            `json:"zone"`
	Resources []Expected        `json:"resources"`
	Costs     []ExpectedCost    `json:"costs"` // by currency; none without a price
}

// Expected is the sum of a resource over the period.
type Expected struct {
	Resource string       `json:"resource"`
	SoFar    usage.Exact  `json:"soFar"`
	P10      *usage.Exact `json:"p10"` // null, as p90, where the back-test has too few errors
	P50      usage.Exact  `json:"p50"`
	P90      *usage.Exact `json:"p90"`
	Basis
}

// ExpectedCost is the cost of the period in a currency; decimals as in usage.
type ExpectedCost struct {
	Currency string  `json:"currency"`
	SoFar    string  `json:"soFar"` // at the prices that held
	P10      *string `json:"p10"`
	P50      string  `json:"p50"`
	P90      *string `json:"p90"`
	// SpentBy is when the amount that was asked for is spent: p10 is early, p90 late.
	// One that is null is not before the period's end, or not known.
	SpentBy *Moments `json:"spentBy,omitempty"`
	Basis
}

// Basis is what a forecast rests on.
type Basis struct {
	Model forecast.Model `json:"model"`
	// MeasuredCoverage is the share of CheckedOrigins of the back-test at which the
	// truth lay from P10 to P90; null where there were none.
	MeasuredCoverage *float64 `json:"measuredCoverage"`
	CheckedOrigins   int      `json:"checkedOrigins"`
	// WAPE is Σ|error| / Σ truth in the back-test, MASE the error over the run-rate's;
	// null without a back-test.
	WAPE *float64 `json:"wape"`
	MASE *float64 `json:"mase"`
	// TestedHours is how far ahead the back-test looked; where that is less than the
	// forecast does the interval was widened.
	TestedHours int `json:"testedHours"`
	Hours       int `json:"hours"` // of history
}

// period is what a forecast is of.
type period struct {
	schema.Window
	zone string
}

// Forecast says what will have been used and spent by the end of the month or another
// moment. Errors: ErrNothing, *usage.InputError, and those of the engine.
func (d *Desk) Forecast(ctx context.Context, q Question) (Forecasts, error) {
	if q.Until == "" {
		q.Until = "month"
	}
	end, err := d.settled(ctx)
	if err != nil {
		return Forecasts{}, err
	}
	end = end.Truncate(time.Hour)
	snapshot, err := d.books.Fleet(ctx, end)
	if err != nil {
		return Forecasts{}, fmt.Errorf("read fleet: %w", err)
	}
	periods, err := q.periods(snapshot, end)
	if err != nil {
		return Forecasts{}, err
	}
	coming := schema.Window{From: end, To: end}
	for _, p := range periods {
		coming.To = schema.Later(coming.To, p.To)
	}
	answer := Forecasts{Settled: end, Until: q.Until, Aggregate: keysOf(q.Aggregate), Stated: forecast.Stated, Rows: []ForecastRow{}}
	past, err := d.history(ctx, q, end, coming)
	if err != nil {
		return answer, err
	}
	answer.Assumptions = append([]string{"price lists go on as they hold now; tiers, fees, minimum charges and discounts of a bill are not in the cost"}, past.assumed...)
	distinct := slices.SortedFunc(maps.Values(periods), func(a, b period) int {
		return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To), strings.Compare(a.zone, b.zone))
	})
	for _, p := range slices.Compact(distinct) {
		rows, err := d.forecastOf(ctx, q, p, periods, past, end)
		if err != nil {
			return answer, err
		}
		answer.Rows = append(answer.Rows, rows...)
	}
	sortRows(answer.Rows, q.Aggregate, func(r ForecastRow) map[string]string { return r.Key })
	return answer, nil
}

// periods are the periods by customer, "" for all others. A customer's month is that
// of the customer's time zone.
func (q Question) periods(f *fleet.Fleet, end time.Time) (map[string]period, error) {
	zones := map[string]string{"": "UTC"}
	switch only, one := q.onlyCustomer(); {
	case q.Zone != "":
		zones[""] = q.Zone
	case one:
		if c, ok := f.Customer(only); ok && c.TimeZone != "" {
			zones[""] = c.TimeZone
		}
	case slices.Contains(q.Aggregate, usage.Customer):
		for _, c := range f.Customers() {
			if c.TimeZone != "" {
				zones[c.Name] = c.TimeZone
			}
		}
	}
	periods := make(map[string]period, len(zones))
	for customer, zone := range zones {
		p, err := until(q.Until, zone, end)
		if err != nil {
			return nil, err
		}
		periods[customer] = p
	}
	return periods, nil
}

// onlyCustomer is the one customer that the filter keeps.
func (q Question) onlyCustomer() (string, bool) {
	for _, c := range q.Filter {
		if c.Key == usage.Customer && len(c.Values) == 1 && !strings.Contains(c.Values[0], "*") {
			return c.Values[0], true
		}
	}
	return "", false
}

const untilHint = "use month, a length such as 12h or 7d, or an RFC 3339 time in whole minutes, at most a year ahead"

// until is the period that ends at a moment written as a user writes it: the month from
// its start, anything else from the last settled hour.
func until(text, zone string, end time.Time) (period, error) {
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return period{}, usage.Wrong("zone", zone, "use an IANA time zone such as Europe/Amsterdam")
	}
	if text == "month" {
		local := end.In(location)
		from := time.Date(local.Year(), local.Month(), 1, 0, 0, 0, 0, location)
		return period{schema.Window{From: from.UTC(), To: from.AddDate(0, 1, 0).UTC()}, zone}, nil
	}
	to, err := time.Parse(time.RFC3339, text)
	if err != nil {
		length, ok := lengthOf(text)
		if !ok {
			return period{}, usage.Wrong("until", text, untilHint)
		}
		to = end.Add(length)
	}
	if to = to.UTC(); !to.After(end) || to.Sub(end) > 366*24*time.Hour || !to.Equal(to.Truncate(schema.Minute)) {
		return period{}, usage.Wrong("until", text, untilHint+"; forecasts go on from the last settled hour, "+end.Format(time.RFC3339))
	}
	return period{schema.Window{From: end, To: to}, zone}, nil
}

// lengthOf reads a Go duration or days.
func lengthOf(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := time.ParseDuration(days + "h")
		if err != nil || n > 1000*time.Hour {
			return 0, false
		}
		return 24 * n, true
	}
	n, err := time.ParseDuration(text)
	return n, err == nil
}

// forecastOf are the rows of one period.
func (d *Desk) forecastOf(ctx context.Context, q Question, p period, periods map[string]period, h *history, end time.Time) ([]ForecastRow, error) {
	soFar := make(map[string]query.Charges)
	if p.From.Before(end) {
		all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: schema.Window{From: p.From, To: end}, Aggregate: q.Aggregate, Filter: q.Filter, Figures: true})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", p.Window, err)
		}
		for _, c := range all {
			soFar[keyOf(c.Row, q.Aggregate)] = c
		}
	}
	var rows []ForecastRow
	for id, one := range h.keys {
		mine, ok := periods[one.key[string(usage.Customer)]]
		if !ok || len(periods) == 1 {
			mine = periods[""]
		}
		if mine != p {
			continue
		}
		row := ForecastRow{Key: one.key, From: p.From, To: p.To, Zone: p.zone, Resources: []Expected{}, Costs: []ExpectedCost{}}
		if err := row.expect(h, one, soFar[id], p.To.Sub(end).Hours()); err != nil {
			return nil, fmt.Errorf("forecast of %v: %w", one.key, err)
		}
		if err := d.spend(ctx, q, &row, h, one, soFar[id], end); err != nil {
			return nil, fmt.Errorf("forecast of %v: %w", one.key, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// spend says of a row when the amount that was asked for is spent.
func (d *Desk) spend(ctx context.Context, q Question, row *ForecastRow, h *history, one *past, soFar query.Charges, end time.Time) error {
	if q.Amount == nil {
		return nil
	}
	for i, cost := range row.Costs {
		if cost.Currency != q.Amount.Currency {
			continue
		}
		spent := costsOf(soFar)[cost.Currency]
		if spent == nil {
			spent = new(big.Rat)
		}
		var by Moments
		var err error
		if spent.Cmp(q.Amount.Value) >= 0 {
			by, err = d.wasSpent(ctx, q, row.Key, row.From, end)
		} else if values := one.costs[cost.Currency]; values != nil {
			by, err = q.Amount.spentBy(h.series(values, one.first), spent, end, row.To.Sub(end).Hours())
		}
		if err != nil {
			return fmt.Errorf("when the amount is spent: %w", err)
		}
		row.Costs[i].SpentBy = &by
	}
	return nil
}

// expect fills a row: what is so far and what is expected of the hours ahead.
func (row *ForecastRow) expect(h *history, one *past, soFar query.Charges, hours float64) error {
	for _, m := range measures {
		already, err := m.of(soFar)
		if err != nil {
			return err
		}
		if m.name == "co2eGrams" && !one.carbon || already == 0 && zero(one.values[m.name]) {
			continue
		}
		f, err := forecast.Of(h.series(one.values[m.name], one.first), hours)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		total := func(v int64) usage.Exact { return m.exact(already).Plus(m.exact(v)) }
		expected := Expected{Resource: m.name, SoFar: m.exact(already), P50: total(f.P50), Basis: basisOf(f, h.hours-one.first)}
		if f.Interval {
			low, high := total(f.P10), total(f.P90)
			expected.P10, expected.P90 = &low, &high
		}
		row.Resources = append(row.Resources, expected)
	}
	spent := costsOf(soFar)
	currencies := slices.Collect(maps.Keys(one.costs))
	for currency := range spent {
		currencies = append(currencies, currency)
	}
	slices.Sort(currencies)
	for _, currency := range slices.Compact(currencies) {
		values := one.costs[currency]
		if values == nil {
			values = make([]int64, h.hours)
		}
		f, err := forecast.Of(h.series(values, one.first), hours)
		if err != nil {
			return fmt.Errorf("cost in %s: %w", currency, err)
		}
		row.Costs = append(row.Costs, costOf(currency, spent[currency], f, h.hours-one.first))
	}
	return nil
}

func costOf(currency string, spent *big.Rat, f forecast.Forecast, hours int) ExpectedCost {
	if spent == nil {
		spent = new(big.Rat)
	}
	total := func(nanos int64) string {
		return usage.Decimal(new(big.Rat).Add(spent, new(big.Rat).Quo(big.NewRat(nanos, 1), nano)), currency)
	}
	cost := ExpectedCost{Currency: currency, SoFar: usage.Decimal(spent, currency), P50: total(f.P50), Basis: basisOf(f, hours)}
	if f.Interval {
		low, high := total(f.P10), total(f.P90)
		cost.P10, cost.P90 = &low, &high
	}
	return cost
}

func basisOf(f forecast.Forecast, hours int) Basis {
	b := Basis{Model: f.Model, CheckedOrigins: f.Checked, TestedHours: f.TestedHours, Hours: hours}
	if f.Checked > 0 {
		b.MeasuredCoverage = &f.Covered
	}
	if f.Origins > 0 {
		b.WAPE, b.MASE = told(f.WAPE), told(f.MASE)
	}
	return b
}

// told is a figure, nothing where it is none.
func told(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func zero(values []int64) bool {
	return !slices.ContainsFunc(values, func(v int64) bool { return v != 0 })
}
