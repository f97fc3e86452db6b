package rating

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

// TestCompileRefuses: each contradiction is an input error that names its place.
func TestCompileRefuses(t *testing.T) {
	cpu := func(change func(*Rate)) List {
		r := Rate{Resource: processors.CPUUsed, Price: dec("1")}
		change(&r)
		return euros(r)
	}
	tiers := func(steps ...Tier) List {
		return euros(Rate{Resource: processors.CPUUsed, Tiers: &Tiers{Kind: Graduated, Steps: steps}})
	}
	tou := func(zone string, rules ...Rule) List {
		list := cpu(func(*Rate) {})
		list.TimeOfUse = &TimeOfUse{Zone: zone, Rules: rules}
		return list
	}
	discount := func(d Discount) List {
		list := cpu(func(*Rate) {})
		list.Discounts = []Discount{d}
		return list
	}
	for want, list := range map[string]List{
		"ISO 4217":               {Currency: "euro"},
		"not known":              cpu(func(r *Rate) { r.Resource = "gpu" }),
		"has no price":           cpu(func(r *Rate) { r.Price = nil }),
		"is negative":            cpu(func(r *Rate) { r.Price = dec("-1") }),
		"more than one of":       cpu(func(r *Rate) { r.Tiers, r.Dynamic = &Tiers{}, &Dynamic{} }),
		"price beside":           cpu(func(r *Rate) { r.Dynamic = &Dynamic{Series: "x"} }),
		"dynamic.series":         cpu(func(r *Rate) { r.Price, r.Dynamic = nil, &Dynamic{} }),
		"no timeOfUse":           cpu(func(r *Rate) { r.Slots = map[string]*apd.Decimal{"peak": dec("1")} }),
		"per is for flat fees":   cpu(func(r *Rate) { r.Per = Month }),
		"neither month nor day":  cpu(func(r *Rate) { r.Resource = Fee("x") }),
		"write fee:NAME":         cpu(func(r *Rate) { r.Resource = Fee("") }),
		"for the customer":       cpu(func(r *Rate) { r.Resource, r.Per, r.Match = Fee("x"), Day, Match{Region: "nl"} }),
		"two prices: keep one":   euros(Rate{Resource: processors.Energy, Price: dec("1")}, Rate{Resource: processors.Energy, Price: dec("1")}),
		"leaves nothing":         cpu(func(r *Rate) { r.Markup = dec("-100") }),
		"tiers.kind":             euros(Rate{Resource: processors.CPUUsed, Tiers: &Tiers{Kind: "stairs"}}),
		"tiers.steps: is empty":  tiers(),
		"only the last step may": tiers(Tier{Price: dec("1")}, Tier{Price: dec("1")}),
		"what is beyond":         tiers(Tier{UpTo: dec("1"), Price: dec("1")}),
		"rising order":           tiers(Tier{UpTo: dec("2"), Price: dec("1")}, Tier{UpTo: dec("2"), Price: dec("1")}, Tier{Price: dec("1")}),
		"whole number of stored": tiers(Tier{UpTo: dec("0.00000000001"), Price: dec("1")}, Tier{Price: dec("1")}),
		"no IANA time zone":      tou("CET+1"),
		"minutes 00, 15":         tou("UTC", Rule{Slot: "peak", From: 5, To: 60}),
		"00:00 and 24:00":        tou("UTC", Rule{Slot: "peak", From: 0, To: 1500}),
		"no name of lower":       tou("UTC", Rule{Slot: "Peak=1"}),
		"one of percent":         discount(Discount{}),
		"name resources":         discount(Discount{Price: dec("1")}),
		"more than 100":          discount(Discount{Percent: dec("101")}),
	} {
		if _, err := Compile(list, "", nil); !errors.Is(err, processors.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	list := tou("UTC", Rule{Slot: "peak", From: 60, To: 120})
	list.Rates[0].Slots = map[string]*apd.Decimal{"noon": dec("1")}
	if _, err := Compile(list, "", nil); err == nil || !strings.Contains(err.Error(), `"noon" is none of`) {
		t.Errorf("a slot that is none: %v", err)
	}
}

// TestDynamic: quarters at their own prices are one line, with its parts; a hole is
// an error that names it, or has the fallback's price.
func TestDynamic(t *testing.T) {
	spot := make(Series)
	for i, value := range []string{"0.10", "0.30", "-0.02"} {
		at := october.From.Add(time.Duration(i) * schema.Quarter)
		if err := spot.Put(at, at.Add(schema.Quarter), dec(value)); err != nil {
			t.Fatal(err)
		}
	}
	list := euros(Rate{Resource: processors.Energy, Dynamic: &Dynamic{Series: "spot", Factor: dec("1.21"), Surcharge: dec("0.02")}})
	plan := compiled(t, list, "", map[string]Series{"spot": spot})
	use := func(quarter int, amount int64) Usage {
		return Usage{Slot: plan.SlotAt(october.From.Add(time.Duration(quarter) * schema.Quarter)), Quantities: processors.Quantities{processors.Energy: amount * kWh}}
	}
	lines := charges(t, plan, use(0, 10), use(1, 10), use(2, 100))
	// 10·0.141 + 10·0.383 + 100·-0.0042
	if diff := cmp.Diff([]string{"energy: 120 kWh list 0.040166666667 = 4.82, contracted 0.040166666667 = 4.82"}, told(lines)); diff != "" {
		t.Error(diff)
	}
	if len(lines[0].Parts) != 3 || lines[0].Parts[0].Prices != "spot=-0.02" || lines[0].Parts[0].List.Text('f') != "-0.0042" {
		t.Errorf("parts %+v", lines[0].Parts)
	}
	var missing *MissingPriceError
	if _, err := plan.Charges(Input{Period: october, Usage: []Usage{use(3, 1)}}); !errors.As(err, &missing) || missing.Quarter != "2026-10-01T00:45:00Z" || !strings.Contains(err.Error(), "accumulus prices push spot") {
		t.Errorf("got %v", err)
	}
	if _, err := plan.Charges(Input{Period: october, Usage: []Usage{use(3, 0)}}); err != nil {
		t.Errorf("nothing was used, and %v", err)
	}
	list.Rates[0].Dynamic.Fallback = dec("0.5")
	plan = compiled(t, list, "", map[string]Series{"spot": spot})
	if lines := charges(t, plan, use(3, 2)); lines[0].ContractedCost.Text('f') != "1.00" {
		t.Errorf("with a fallback: %v", told(lines))
	}
	if err := spot.Put(october.From.Add(time.Minute), october.To, dec("1")); !errors.Is(err, processors.ErrInput) {
		t.Errorf("a slot within a quarter: %v", err)
	}
}

// TestPricesIn are the same prices as those of Charges, without what is a billing
// period's, which is told.
func TestPricesIn(t *testing.T) {
	list := euros(
		Rate{Resource: processors.CPUUsed, Price: dec("1"), Slots: map[string]*apd.Decimal{"peak": dec("2")}, Cost: dec("0.5")},
		Rate{Resource: processors.CPUUsed, Match: Match{Hardware: "big"}, Price: dec("3")},
		Rate{Resource: processors.MemoryMax, Tiers: &Tiers{Kind: Volume, Steps: []Tier{{UpTo: dec("1"), Price: dec("4")}, {Price: dec("1")}}}},
		Rate{Resource: processors.UsefulHeat, Price: dec("1")}, Rate{Resource: Fee("base"), Per: Month, Price: dec("9")})
	list.TimeOfUse = &TimeOfUse{Zone: "Europe/Amsterdam", Rules: []Rule{{Slot: "peak", From: 8 * 60, To: 20 * 60}}}
	list.Discounts = []Discount{{Percent: dec("50")}}
	list.Minimum = dec("10")
	plan := compiled(t, list, "", nil)
	prices := func(at time.Duration, hardware string) string {
		found, err := plan.PricesIn(plan.SlotAt(october.From.Add(at)), Facts{Hardware: hardware})
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, p := range append(found.Sale.Prices, found.Cost.Prices...) {
			text = append(text, string(p.Resource)+" "+p.Price.Text('f'))
		}
		return strings.Join(text, ", ")
	}
	for got, want := range map[string]string{
		prices(12*time.Hour, ""):    "cpu_used 1.00, memory_max 2.00, cpu_used 0.5",
		prices(0, ""):               "cpu_used 0.50, memory_max 2.00, cpu_used 0.5",
		prices(12*time.Hour, "big"): "cpu_used 1.50, memory_max 2.00",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	want := []string{"fee:base: charged by the billing period", "heat_credit: credited by the billing period",
		"minimum charge of 10 EUR per billing period", "tiers of memory_max: shown at the price of the first tier"}
	if diff := cmp.Diff(want, plan.NotInShowback()); diff != "" {
		t.Error(diff)
	}
}

func TestInMode(t *testing.T) {
	for _, at := range []struct {
		name string
		mode Mode
		want string
	}{{"cpu", "", "cpu_used"}, {"memory", "", "memory_max"}, {"cpu", Max, "cpu_max"}, {"cpu", Reserved, "cpu_requested"}, {"memory", ReservedUsed, "memory_requested memory_used"},
		{"volume:fast", "", "volume_claimed:fast"}, {"volume", Used, "volume_used"}, {"ephemeral", Reserved, "extended:ephemeral-storage"}, {"energy", "", "energy"},
		{"cpu_used", Max, ""}, {"volume", Max, ""}, {"cpu", "most", ""}, {"cpu:x", Used, ""}} {
		found, err := InMode(at.name, at.mode)
		var names []string
		for _, r := range found {
			names = append(names, string(r))
		}
		if got := strings.Join(names, " "); got != at.want || (err != nil) != (at.want == "") {
			t.Errorf("%s in mode %q: %q, %v", at.name, at.mode, got, err)
		}
	}
}
