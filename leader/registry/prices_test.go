package registry

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/cockroachdb/apd/v3"
)

var spot = []PriceSlot{{From: noon.Add(-time.Hour), To: noon, Value: apd.New(21, -2)}, {From: noon, To: noon.Add(15 * time.Minute), Value: apd.New(-5, -2)}}

func TestPutPrices(t *testing.T) {
	r, clk := open(t)
	put := func(slots ...PriceSlot) int {
		t.Helper()
		n, err := r.PutPrices(t.Context(), "spot", "test", slots)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := put(spot...); n != 5 {
		t.Errorf("%d quarters are new, want 5", n)
	}
	if n := put(spot...); n != 0 {
		t.Errorf("the same again: %d changed", n)
	}
	clk.Set(clk.Now().Add(time.Second))
	if n := put(PriceSlot{From: noon, To: noon.Add(30 * time.Minute), Value: apd.New(7, 0)}); n != 2 {
		t.Errorf("one other and one new: %d changed", n)
	}
	all, err := r.PriceSeries(t.Context(), []string{"spot", "none"}, schema.Window{From: noon.Add(-20 * time.Minute), To: noon.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if got := all["spot"]; len(got) != 4 || got[noon].Text('f') != "7" || got[noon.Add(-30*time.Minute)].Text('f') != "0.21" || len(all["none"]) != 0 {
		t.Errorf("read %v", all)
	}
	if names, err := r.SeriesNames(t.Context()); err != nil || len(names) != 1 {
		t.Errorf("names %v, %v", names, err)
	}
	if _, err := r.PutPrices(t.Context(), "spot", "test", []PriceSlot{{From: noon.Add(time.Minute), To: noon.Add(time.Hour), Value: apd.New(1, 0)}}); err == nil {
		t.Error("a slot within a quarter is taken")
	}
}

// TestPricesThatHaveHeld: they change from now on, or by a correction with a reason
// that is recorded.
func TestPricesThatHaveHeld(t *testing.T) {
	r, _ := open(t)
	list := func(price fleet.Decimal) fleet.Object {
		return fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: price}}})
	}
	rates := fleet.NewObject("ecb", fleet.ExchangeRates{Month: "2026-10", Base: "EUR", Rates: map[string]fleet.Decimal{"USD": "1.08"}})
	if _, err := r.ApplyChange(t.Context(), []fleet.Object{list("1").Since(noon.AddDate(0, -1, 0)), rates.Since(noon.AddDate(0, -1, 0))}, Change{By: "anna"}); err != nil {
		t.Fatalf("prices where there were none: %v", err)
	}
	past := []fleet.Object{list("2").Since(noon.AddDate(0, 0, -1))}
	for want, change := range map[string]Change{"are not edited": {By: "anna", Reason: "x"}, "needs a reason": {By: "anna", Correct: true}} {
		for _, act := range []func() (Applied, error){
			func() (Applied, error) { return r.ApplyChange(t.Context(), past, change) },
			func() (Applied, error) { return r.PlanChange(t.Context(), past, change) }} {
			var problems fleet.Problems
			if _, err := act(); !errors.As(err, &problems) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
	}
	dear := fleet.NewObject("ecb", fleet.ExchangeRates{Month: "2026-10", Base: "EUR", Rates: map[string]fleet.Decimal{"USD": "2"}}).Since(noon.AddDate(0, 0, -1))
	if _, err := r.ApplyChange(t.Context(), []fleet.Object{dear}, Change{}); err == nil {
		t.Error("the exchange rates of a month are edited")
	}
	if _, err := r.ApplyChange(t.Context(), []fleet.Object{list("3")}, Change{By: "ben", Reason: "inflation"}); err != nil {
		t.Errorf("from now on: %v", err)
	}
	if _, err := r.ApplyChange(t.Context(), past, Change{By: "anna", Correct: true, Reason: "a slip of the decimal point"}); err != nil {
		t.Errorf("a correction: %v", err)
	}
	entries, err := r.AuditOf(t.Context(), fleet.KindPriceList, "standard")
	if err != nil || len(entries) != 3 || entries[0].By != "anna" || entries[0].Reason != "a slip of the decimal point" || entries[1].Reason != "inflation" || entries[2].Reason != "" {
		t.Errorf("recorded %+v, %v", entries, err)
	}
}
