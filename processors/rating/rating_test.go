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

// Stored units of one priced unit.
const (
	coreHour = 3_600_000_000
	gibHour  = 1 << 20 * 3600
	kWh      = 3_600_000_000
)

var october = schema.Window{From: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}

func dec(text string) *apd.Decimal {
	d, _, err := apd.NewFromString(text)
	if err != nil {
		panic(err)
	}
	return d
}

func euros(rates ...Rate) List {
	return List{Name: "standard", Version: "standard@2026-10-01T00:00:00Z", Currency: "EUR", Rates: rates}
}

func compiled(t *testing.T, list List, customer string, series map[string]Series) *Plan {
	t.Helper()
	plan, err := Compile(list, customer, series)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func charges(t *testing.T, plan *Plan, usage ...Usage) []Line {
	t.Helper()
	result, err := plan.Charges(Input{Period: october, Usage: usage})
	if err != nil {
		t.Fatal(err)
	}
	return result.Lines
}

// told is a line in one text: rate, slot, tier, quantity, unit prices and costs.
func told(lines []Line) []string {
	all := make([]string, len(lines))
	for i, l := range lines {
		tier := ""
		if l.Tier > 0 {
			tier = " tier " + string(rune('0'+l.Tier))
		}
		all[i] = strings.TrimSpace(l.Rate+" "+l.Slot) + tier + ": " + l.PricingQuantity.Text('f') + " " + l.Unit + " list " + l.ListUnitPrice.Text('f') + " = " + l.ListCost.Text('f') +
			", contracted " + l.ContractedUnitPrice.Text('f') + " = " + l.ContractedCost.Text('f')
		if l.OperatorCost != nil {
			all[i] += ", operator " + l.CostPrice.Text('f') + " = " + l.OperatorCost.Text('f')
		}
	}
	return all
}

func TestMostSpecificRate(t *testing.T) {
	list := euros(
		Rate{Resource: processors.CPUUsed, Price: dec("0.01")},
		Rate{Resource: processors.CPUUsed, Match: Match{Hardware: "gpu"}, Price: dec("0.05")},
		Rate{Resource: processors.CPUUsed, Match: Match{Region: "nl"}, Price: dec("0.02")},
		Rate{Resource: processors.CPUUsed, Match: Match{Hardware: "gpu", Region: "nl"}, Price: dec("0.06")},
		Rate{Resource: processors.VolumeClaimed, Price: dec("0.001")},
		Rate{Resource: processors.VolumeClaimed.Of("fast"), Price: dec("0.01")})
	plan := compiled(t, list, "", nil)
	use := func(facts Facts) Usage {
		return Usage{Facts: facts, Quantities: processors.Quantities{processors.CPUUsed: coreHour}}
	}
	got := told(charges(t, plan, use(Facts{}), use(Facts{Hardware: "gpu", Region: "de"}), use(Facts{Region: "nl"}), use(Facts{Hardware: "gpu", Region: "nl", Provider: "p"}),
		Usage{Quantities: processors.Quantities{processors.VolumeClaimed.Of("slow"): 100 * gibHour, processors.VolumeClaimed.Of("fast"): 100 * gibHour}}))
	want := []string{
		"cpu_used: 1 core-hour list 0.01 = 0.01, contracted 0.01 = 0.01",
		"cpu_used{hardware=gpu, region=nl}: 1 core-hour list 0.06 = 0.06, contracted 0.06 = 0.06",
		"cpu_used{hardware=gpu}: 1 core-hour list 0.05 = 0.05, contracted 0.05 = 0.05",
		"cpu_used{region=nl}: 1 core-hour list 0.02 = 0.02, contracted 0.02 = 0.02",
		"volume_claimed:fast: 100 GiB-hour list 0.01 = 1.00, contracted 0.01 = 1.00",
		"volume_claimed: 100 GiB-hour list 0.001 = 0.10, contracted 0.001 = 0.10"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	list.Rates = list.Rates[:3] // the one for both is gone
	if _, err := Compile(list, "", nil); !errors.Is(err, processors.ErrInput) || !strings.Contains(err.Error(), "hardware=gpu, region=nl") {
		t.Errorf("a tie: %v", err)
	}
}

func TestTiers(t *testing.T) {
	steps := []Tier{{UpTo: dec("100"), Price: dec("0.10")}, {UpTo: dec("1000"), Price: dec("0.08")}, {Price: dec("0.05")}}
	for kind, want := range map[TierKind][]string{
		Graduated: {"cpu_used tier 1: 100 core-hour list 0.1 = 10.00, contracted 0.1 = 10.00", "cpu_used tier 2: 900 core-hour list 0.08 = 72.00, contracted 0.08 = 72.00",
			"cpu_used tier 3: 200 core-hour list 0.05 = 10.00, contracted 0.05 = 10.00"},
		Volume: {"cpu_used tier 3: 1200 core-hour list 0.05 = 60.00, contracted 0.05 = 60.00"},
	} {
		plan := compiled(t, euros(Rate{Resource: processors.CPUUsed, Tiers: &Tiers{Kind: kind, Steps: steps}}), "", nil)
		lines := charges(t, plan, Usage{Key: "a", Quantities: processors.Quantities{processors.CPUUsed: 800 * coreHour}},
			Usage{Key: "b", Quantities: processors.Quantities{processors.CPUUsed: 400 * coreHour}})
		if diff := cmp.Diff(want, told(lines)); diff != "" {
			t.Errorf("%s:\n%s", kind, diff)
		}
		if at := lines[0].Shares; at[0].Quantity != 2*at[1].Quantity && at[0].Quantity != 2*at[1].Quantity+1 {
			t.Errorf("%s: shares %v", kind, at)
		}
	}
	// The edge belongs to the lower tier.
	plan := compiled(t, euros(Rate{Resource: processors.CPUUsed, Tiers: &Tiers{Kind: Volume, Steps: steps}}), "", nil)
	if lines := charges(t, plan, Usage{Quantities: processors.Quantities{processors.CPUUsed: 100 * coreHour}}); lines[0].Tier != 1 {
		t.Errorf("exactly 100 is in tier %d", lines[0].Tier)
	}
}

func TestDiscountMarkupAndHeat(t *testing.T) {
	list := euros(
		Rate{Resource: processors.CPUUsed, Price: dec("0.02"), Cost: dec("0.013")},
		Rate{Resource: processors.MemoryMax, Price: dec("0.005")},
		Rate{Resource: processors.Energy, Cost: dec("0.20")},
		Rate{Resource: processors.UsefulHeat, Price: dec("0.08")})
	list.Markup = dec("25")
	list.Discounts = []Discount{{Customers: []string{"acme"}, Resources: []processors.Resource{processors.MemoryMax}, Price: dec("0.004")},
		{Customers: []string{"acme"}, Percent: dec("10")}}
	used := Usage{Quantities: processors.Quantities{processors.CPUUsed: 1000 * coreHour, processors.MemoryMax: 1000 * gibHour, processors.Energy: 10 * kWh, processors.UsefulHeat: 50 * kWh}}
	want := []string{
		"cpu_used: 1000 core-hour list 0.02 = 20.00, contracted 0.018 = 18.00, operator 0.013 = 13.00",
		"memory_max: 1000 GiB-hour list 0.005 = 5.00, contracted 0.004 = 4.00, operator 0.004 = 4.00",
		"energy: 10 kWh list 0.25 = 2.50, contracted 0.225 = 2.25, operator 0.2 = 2.00",
		"heat_credit: 50 kWh list 0.08 = -4.00, contracted 0.08 = -4.00, operator 0.064 = -3.20"}
	lines := charges(t, compiled(t, list, "acme", nil), used)
	if diff := cmp.Diff(want, told(lines)); diff != "" {
		t.Error(diff)
	}
	for _, line := range lines {
		if shown := line.Public(); shown.OperatorCost != nil || shown.CostPrice != nil || shown.Shares[0].OperatorCost != nil {
			t.Errorf("%s shows its customer what the operator pays", line.Rate)
		}
		if line.OperatorCost == nil || line.Shares[0].OperatorCost == nil {
			t.Errorf("%s: Public has changed the line", line.Rate)
		}
	}
	if other := charges(t, compiled(t, list, "other", nil), used); other[0].ContractedCost.Text('f') != "20.00" {
		t.Errorf("another customer pays %s", other[0].ContractedCost.Text('f'))
	}
}

func TestMinimumAndFees(t *testing.T) {
	list := euros(Rate{Resource: processors.CPUUsed, Price: dec("0.02")}, Rate{Resource: Fee("platform"), Per: Month, Price: dec("31.00")},
		Rate{Resource: Fee("support"), Per: Day, Price: dec("2")})
	list.Minimum = dec("100")
	plan := compiled(t, list, "", nil)
	amsterdam, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		t.Fatal(err)
	}
	period := schema.Window{From: time.Date(2026, 10, 1, 0, 0, 0, 0, amsterdam).UTC(), To: time.Date(2026, 11, 1, 0, 0, 0, 0, amsterdam).UTC()}
	if period.Length() != 31*24*time.Hour+time.Hour {
		t.Fatalf("October has %s", period.Length())
	}
	for _, at := range []struct {
		held []schema.Window
		want []string
	}{
		{nil, []string{"fee:platform: 1 month list 31.00 = 31.00, contracted 31.00 = 31.00", "fee:support: 31 day list 2 = 62.00, contracted 2 = 62.00",
			"minimum_charge: 1 period list 7.00 = 7.00, contracted 7.00 = 7.00"}},
		// The last day has 25 hours, and is one day.
		{[]schema.Window{{From: time.Date(2026, 10, 25, 0, 0, 0, 0, amsterdam), To: time.Date(2026, 10, 26, 0, 0, 0, 0, amsterdam)}},
			[]string{"fee:platform: 0.033557046980 month list 31.00 = 1.04, contracted 31.00 = 1.04", "fee:support: 1 day list 2 = 2.00, contracted 2 = 2.00",
				"minimum_charge: 1 period list 0.32 = 0.32, contracted 0.32 = 0.32"}},
	} {
		result, err := plan.Charges(Input{Period: period, Held: at.held, Location: amsterdam})
		if err != nil {
			t.Fatal(err)
		}
		want := at.want
		for i := range want {
			want[i] = strings.Replace(want[i], "0.033557046980", "0.03355704698", 1)
		}
		if diff := cmp.Diff(want, told(result.Lines)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestExchange(t *testing.T) {
	plan := compiled(t, euros(Rate{Resource: processors.CPUUsed, Price: dec("0.10"), Cost: dec("0.05")}), "", nil)
	lines := charges(t, plan, Usage{Key: "a", Quantities: processors.Quantities{processors.CPUUsed: 10 * coreHour}}, Usage{Key: "b", Quantities: processors.Quantities{processors.CPUUsed: 20 * coreHour}})
	tables := []Exchange{{Month: "2026-10", Base: "EUR", Rates: map[string]*apd.Decimal{"USD": dec("1.0812"), "JPY": dec("163.27")}}}
	yen, err := ConvertLines(lines, "JPY", "2026-10", tables)
	if err != nil {
		t.Fatal(err)
	}
	// 3.00 EUR = 489.81 JPY, of which a has 163.27 and b 326.54.
	if got := []string{yen[0].ContractedCost.Text('f'), yen[0].Shares[0].ContractedCost.Text('f'), yen[0].Shares[1].ContractedCost.Text('f'), yen[0].OperatorCost.Text('f')}; !cmp.Equal(got, []string{"490", "163", "327", "245"}) {
		t.Errorf("got %v", got)
	}
	if lines[0].OperatorCost.Text('f') != "1.50" || lines[0].Currency != "EUR" {
		t.Error("the lines have been changed")
	}
	dollars, err := Convert(dec("100"), "JPY", "USD", "2026-10", tables)
	if err != nil || dollars.Text('f') != "0.66" {
		t.Errorf("got %s, %v", dollars.Text('f'), err)
	}
	var missing *MissingExchangeError
	if _, err := ConvertLines(lines, "CHF", "2026-10", tables); !errors.As(err, &missing) || !strings.Contains(err.Error(), "ExchangeRates") {
		t.Errorf("got %v", err)
	}
}

// TestNetworkIsUnclassified: until there are classes, all network is of the one that
// says so, and its price stands before that of all classes.
func TestNetworkIsUnclassified(t *testing.T) {
	class := processors.NetworkTransmit.Of("unclassified")
	for name, test := range map[string]struct {
		rates []Rate
		want  string
	}{
		"of the class": {[]Rate{{Resource: class, Price: dec("0.08")}}, "0.16"},
		"of all":       {[]Rate{{Resource: processors.NetworkTransmit, Price: dec("0.05")}}, "0.10"},
		"of both":      {[]Rate{{Resource: processors.NetworkTransmit, Price: dec("0.05")}, {Resource: class, Price: dec("0.08")}}, "0.16"},
		"of another":   {[]Rate{{Resource: processors.NetworkTransmit.Of("internet"), Price: dec("0.08")}}, "0"},
	} {
		result, err := compiled(t, euros(test.rates...), "", nil).Charges(Input{Period: october, Usage: []Usage{{Key: "a", Quantities: processors.Quantities{processors.NetworkTransmit: 2_000_000_000}}}})
		if err != nil {
			t.Fatal(err)
		}
		total, err := Total(result.Lines)
		if err != nil || total.Text('f') != test.want || (len(result.Lines) == 0) != (result.Unpriced[processors.NetworkTransmit] != 0) {
			t.Errorf("%s: %s, unpriced %v, %v; want %s", name, total.Text('f'), result.Unpriced, err, test.want)
		}
	}
}
