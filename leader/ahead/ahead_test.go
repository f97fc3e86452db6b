package ahead

import (
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

func desk(u *usedBy) *Desk {
	if u.ahead == nil {
		u.ahead = big.NewRat(1, 10)
	}
	return NewDesk(u, u, finished{}, clock.NewManual(now))
}

var byCustomer = []usage.Key{usage.Customer}

func TestRates(t *testing.T) {
	d := desk(&usedBy{since: now.Add(-6 * time.Hour), cores: map[string]float64{"acme": 2, "zeta": 0.5}})
	rates, err := d.Rates(t.Context(), Question{Aggregate: byCustomer})
	if err != nil || len(rates.Rows) != 2 || rates.Rows[0].Key["customer"] != "acme" {
		t.Fatalf("%+v, %v", rates, err)
	}
	hour, day := rates.Rows[0].Hour, rates.Rows[0].Day
	if hour.CPUCores != 2 || hour.Watts != 20 || *hour.GramsPerHour != 72 {
		t.Errorf("hour %+v", hour)
	}
	if diff := cmp.Diff([]usage.Money{{Cost: "0.20", Currency: "EUR"}}, hour.CostPerHour); diff != "" {
		t.Error(diff)
	}
	if day.CPUCores != 0.5 || day.CostPerHour[0].Cost != "0.05" {
		t.Errorf("of a day with 6 hours %+v", day)
	}
}

// TestForecastOfTheMonth: what is used evenly costs at the end what it costs; so far at
// the prices that held, the rest at those that come.
func TestForecastOfTheMonth(t *testing.T) {
	u := &usedBy{since: now.AddDate(0, 0, -30), cores: map[string]float64{"acme": 2}, ahead: big.NewRat(2, 10)}
	f, err := desk(u).Forecast(t.Context(), Question{Aggregate: byCustomer})
	if err != nil || len(f.Rows) != 1 {
		t.Fatalf("%+v, %v", f, err)
	}
	row := f.Rows[0]
	if !row.From.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) || !row.To.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("from %s to %s", row.From, row.To)
	}
	const past, coming = 22*24 + 12, 30*24 - (22*24 + 12)
	if r := row.Resources[0]; r.Resource != "cpuCoreSeconds" || r.SoFar.Float() != 2*3600*past || r.P50.Float() != 2*3600*720 || r.P90 == nil {
		t.Errorf("%+v", r)
	}
	if c := row.Costs[0]; c.SoFar != usage.Decimal(big.NewRat(2*past, 10), "EUR") || c.P50 != usage.Decimal(big.NewRat(2*past+4*coming, 10), "EUR") || *c.P10 != c.P50 {
		t.Errorf("%+v", c)
	}
	if len(f.Assumptions) != 2 {
		t.Errorf("%q", f.Assumptions)
	}
}

// TestAnOutageIsNoSaving: hours in which nothing was metered of the fleet do not lower
// what is expected.
func TestAnOutageIsNoSaving(t *testing.T) {
	hour := now.Truncate(time.Hour)
	u := &usedBy{since: now.AddDate(0, 0, -20), cores: map[string]float64{"acme": 2}, outage: schema.Window{From: hour.Add(-20 * time.Hour), To: hour.Add(-10 * time.Hour)}}
	f, err := desk(u).Forecast(t.Context(), Question{Until: "24h"})
	if err != nil || len(f.Rows) != 1 || f.Rows[0].Resources[0].P50.Float() != 2*3600*24 {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestMonthsOfCustomers: each customer's month is that of its time zone.
func TestMonthsOfCustomers(t *testing.T) {
	u := &usedBy{since: now.AddDate(0, 0, -30), cores: map[string]float64{"acme": 2, "kiwi": 1, "nobody": 1}, objects: []fleet.Object{
		{Kind: fleet.KindCustomer, Metadata: fleet.Metadata{Name: "acme"}, Spec: fleet.Customer{TimeZone: "Europe/Amsterdam"}},
		{Kind: fleet.KindCustomer, Metadata: fleet.Metadata{Name: "kiwi"}, Spec: fleet.Customer{TimeZone: "Pacific/Auckland"}}}}
	f, err := desk(u).Forecast(t.Context(), Question{Aggregate: byCustomer})
	if err != nil || len(f.Rows) != 3 {
		t.Fatalf("%+v, %v", f.Rows, err)
	}
	for i, want := range []string{"2026-11-30T23:00:00Z", "2026-11-30T11:00:00Z", "2026-12-01T00:00:00Z"} {
		if got := f.Rows[i].To.Format(time.RFC3339); got != want {
			t.Errorf("%s: the month ends at %s, want %s", f.Rows[i].Key, got, want)
		}
	}
	only, err := desk(u).Forecast(t.Context(), Question{Filter: []usage.Condition{{Key: usage.Customer, Values: []string{"kiwi"}}}})
	if err != nil || len(only.Rows) != 1 || only.Rows[0].Zone != "Pacific/Auckland" {
		t.Errorf("%+v, %v", only.Rows, err)
	}
}

func TestBadQuestions(t *testing.T) {
	d := desk(&usedBy{since: now.Add(-time.Hour), cores: map[string]float64{"acme": 2}})
	for _, q := range []Question{{Until: "yesterday"}, {Until: "2026-11-01T00:00:00Z"}, {Until: "-3h"}, {Until: "500d"}, {Until: "90s"}, {Zone: "Mars/Base"}, {Zone: "Local"}} {
		var input *usage.InputError
		if _, err := d.Forecast(t.Context(), q); !errors.As(err, &input) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, text := range []string{"window=1h", "aggregate=colour", "nothing=1", "until=month"} {
		var input *usage.InputError
		if _, err := ParseQuestion(text, RatesParameters); !errors.As(err, &input) {
			t.Errorf("%s: %v", text, err)
		}
	}
	q, err := ParseQuestion("until=7d&aggregate=customer&namespace=shop", ForecastParameters)
	if err != nil || q.Until != "7d" || len(q.Filter) != 1 || len(q.Aggregate) != 1 {
		t.Errorf("%+v, %v", q, err)
	}
}
