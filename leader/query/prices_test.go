package query

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
)

// timedPrices has a dear quarter, prices by hardware, a series and a discount.
func timedPrices() fleet.PriceList {
	return fleet.PriceList{Currency: "EUR", Customers: []string{"acme"},
		TimeOfUse: &fleet.TimeOfUse{Zone: "UTC", Rules: []fleet.TimeRule{{Slot: "peak", From: at(15).Format("15:04"), To: at(30).Format("15:04")}}},
		Rates: []fleet.Rate{
			{Resource: "cpu_used", Price: "100", Slots: map[string]fleet.Decimal{"peak": "700"}},
			{Resource: "memory_used", Price: "1"}, {Resource: "memory_used", Match: &fleet.PriceMatch{Hardware: "small", Region: "eu"}, Price: "31"},
			{Resource: "energy", Dynamic: &fleet.DynamicPrice{Series: "spot", Factor: "2", Surcharge: "1"}},
			{Resource: "cpu_requested", Tiers: &fleet.PriceTiers{Kind: "graduated", Steps: []fleet.PriceStep{{UpTo: "1", Price: "3"}, {Price: "1"}}}}},
		Discounts: []fleet.Discount{{Customers: []string{"acme"}, Resources: []string{"cpu_used"}, Percent: "10"}}, Minimum: "5"}
}

// TestShowbackAgreesWithCharges: by whatever keys and steps one asks, the cost is
// what rating's lines come to, unrounded, of the same quantities by quarter.
func TestShowbackAgreesWithCharges(t *testing.T) {
	objects := edge()
	for i, o := range objects {
		if o.Name() == "prices-a" {
			objects[i] = fleet.NewObject("prices-a", timedPrices())
		}
	}
	f := newFixture(t, objects...)
	var slots []registry.PriceSlot
	series := make(rating.Series)
	for i, value := range []string{"100", "300", "-50"} { // the last quarter has none
		price, _, _ := apd.NewFromString(value)
		slots = append(slots, registry.PriceSlot{From: at(15 * i), To: at(15*i + 15), Value: price})
		series[at(15*i)] = price
	}
	if n, err := f.books.PutPrices(t.Context(), "spot", "test", slots); err != nil || n != 3 {
		t.Fatalf("stored %d, %v", n, err)
	}
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	list, err := timedPrices().Rating("x")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := rating.Compile(list, "acme", map[string]rating.Series{"spot": series})
	if err != nil {
		t.Fatal(err)
	}
	inA := func(p podID) bool { return p.cluster == "edge-a" }
	want := new(big.Rat)
	for from := 7; from < 52; { // each quarter at its prices
		to := min(from/15*15+15, 52)
		prices, err := plan.PricesIn(plan.SlotAt(at(from)), rating.Facts{Hardware: "small", Region: "eu"})
		if err != nil {
			t.Fatal(err)
		}
		energy := sum(energyValues, schema.EnergyActive, from, to, inA) + sum(energyValues, schema.EnergyIdle, from, to, inA) + sum(energyValues, schema.EnergyOverhead, from, to, inA)
		for resource, quantity := range map[processors.Resource]int64{processors.CPUUsed: sum(podValues, schema.CPU, from, to, inA), processors.MemoryUsed: sum(podValues, schema.Memory, from, to, inA),
			processors.CPURequested: sum(podValues, schema.CPURequest, from, to, inA), processors.Energy: energy} {
			if price, ok := prices.Sale.PriceOf(resource); ok {
				value, _ := new(big.Rat).SetString(price.Text('f'))
				want.Add(want, value.Mul(value, big.NewRat(quantity, resource.Base())))
			}
		}
		from = to
	}
	for name, request := range map[string]Request{"customer": {Aggregate: []Key{Customer}}, "nodes": {Aggregate: []Key{Customer, Node}},
		"pods": {Aggregate: []Key{Customer, Namespace, Pod}}, "quarters": {Aggregate: []Key{Customer}, Step: schema.Quarter}, "7 minutes": {Aggregate: []Key{Customer}, Step: 7 * time.Minute}} {
		request.Window = window(7, 52)
		request.Filter = []Condition{{Key: Cluster, Values: []string{"edge-a"}}}
		answer := f.usage(request)
		total := new(big.Rat)
		for _, row := range answer.Rows {
			if row.Cost != nil {
				value, _ := new(big.Rat).SetString(*row.Cost)
				total.Add(total, value)
			}
		}
		if diff := new(big.Rat).Sub(total, want); diff.Abs(diff).Cmp(big.NewRat(int64(len(answer.Rows)), 1_000_000_000)) > 0 {
			t.Errorf("by %s: %s, want %s", name, total.FloatString(9), want.FloatString(9))
		}
		told := strings.Join(answer.NotApplied, "\n")
		for _, rule := range []string{"minimum charge of 5 EUR", "tiers of cpu_requested", "series spot has no price for the quarter from " + at(45).Format(time.RFC3339)} {
			if !strings.Contains(told, rule) {
				t.Errorf("by %s: nothing about %q in\n%s", name, rule, told)
			}
		}
	}
	slotted := make(map[string]bool) // what was used in each slot of time stands apart
	charges, err := f.Charges(t.Context(), ChargeRequest{Window: schema.Window{From: at(7), To: at(52)}, Aggregate: []Key{Customer}})
	for _, c := range charges {
		for _, line := range c.Lines {
			if line.Resource == processors.MemoryUsed && line.List != nil && line.List.Name == "prices-a" {
				slotted[line.Slot] = true
			}
		}
	}
	if err != nil || len(slotted) != 2 || !slotted["peak"] {
		t.Errorf("slots %v, %v", slotted, err)
	}
	export, err := f.Export(t.Context(), ExportRequest{Period: window(7, 52)})
	if err != nil {
		t.Fatal(err)
	}
	prices := make(map[string]bool)
	for _, line := range export.Lines {
		if line.Cluster == "edge-a" && line.UnitPrice != "" {
			prices[line.Resource+" "+line.UnitPrice] = true
		}
	}
	for _, price := range []string{"cpu_used 90.00", "cpu_used 630.00", "memory_used 31", "energy 201", "energy 601", "energy -99"} {
		if !prices[price] {
			t.Errorf("no line of the export has %s: %v", price, prices)
		}
	}
	if got := usage.Decimal(want, "EUR"); export.Totals[0].Cost != got {
		t.Errorf("the export's total is %s, want %s", export.Totals[0].Cost, got)
	}
}

// TestBills: a billing period's lines hold all that was used, by customer, and have
// the tiers, fees and minimum that showback leaves out; lists that are laid over the
// fleet's change nothing else.
func TestBills(t *testing.T) {
	objects := edge()
	list := timedPrices()
	list.Rates[3].Dynamic = nil
	list.Rates[3].Price = "0.3"
	list.Rates = append(list.Rates, fleet.Rate{Resource: "fee:base", Per: "day", Price: "24"})
	for i, o := range objects {
		if o.Name() == "prices-a" {
			objects[i] = fleet.NewObject("prices-a", list)
		}
	}
	f := newFixture(t, objects...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	w := schema.Window{From: at(0), To: at(60)}
	charged, err := f.Bills(t.Context(), w, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(charged) != 2 || charged[0].Customer != "acme" || charged[1].Customer != "bolt" || charged[1].Currency != "USD" {
		t.Fatalf("charged %+v", charged)
	}
	quantities := make(map[processors.Resource]int64)
	costs := make(map[string]string)
	for _, line := range charged[0].Result.Lines {
		quantities[line.Resource] += line.Quantity
		costs[line.Rate+" "+line.Slot] = line.ContractedCost.Text('f')
	}
	inA := func(p podID) bool { return p.cluster == "edge-a" }
	for resource, field := range map[processors.Resource]string{processors.CPUUsed: schema.CPU, processors.MemoryUsed: schema.Memory, processors.CPURequested: schema.CPURequest} {
		if want := sum(podValues, field, 0, 60, inA); quantities[resource] != want {
			t.Errorf("%s: the lines have %d, want %d", resource, quantities[resource], want)
		}
	}
	if costs["fee:base "] != "1.00" || costs["cpu_used peak"] == "" || costs["cpu_used default"] == "" {
		t.Errorf("lines %v", costs)
	}
	before, err := rating.Total(charged[1].Result.Lines)
	if err != nil {
		t.Fatal(err)
	}
	laid, err := f.Bills(t.Context(), w, []fleet.Object{fleet.NewObject("prices-a", fleet.PriceList{Currency: "EUR", Customers: []string{"acme"}, Minimum: "1000", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "1"}}})})
	if err != nil {
		t.Fatal(err)
	}
	total, err := rating.Total(laid[0].Result.Lines)
	if err != nil || total.Text('f') != "1000.00" {
		t.Errorf("with the minimum laid over: %s, %v", total.Text('f'), err)
	}
	if after, err := rating.Total(laid[1].Result.Lines); err != nil || after.Cmp(&before) != 0 {
		t.Errorf("the other customer paid %s, and now %s", before.Text('f'), after.Text('f'))
	}
}
