package rating

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

// cases is how many random lists a law is tried on.
const cases = 3000

var someResources = []processors.Resource{processors.CPUUsed, processors.CPURequested, processors.CPUMax, processors.MemoryUsed, processors.MemoryMax,
	processors.NetworkTransmit, processors.Energy, processors.VolumeClaimed, processors.VolumeClaimed.Of("fast"), processors.Extended("nvidia.com/gpu"),
	processors.UsefulHeat, processors.NodeHours}

func randomPrice(r *rand.Rand) *apd.Decimal {
	return apd.New(r.Int64N(1_000_000), -int32(r.IntN(9)))
}

// randomList has every kind of rate, and a series with holes.
func randomList(r *rand.Rand) (List, map[string]Series) {
	list := euros()
	list.Currency = []string{"EUR", "JPY", "KWD"}[r.IntN(3)]
	list.TimeOfUse = &TimeOfUse{Zone: []string{"Europe/Amsterdam", "Asia/Kathmandu"}[r.IntN(2)], Default: "low",
		Rules: []Rule{{Slot: "peak", Days: []time.Weekday{1, 2, 3, 4, 5}, From: 7 * 60, To: 23 * 60}, {Slot: "night", From: 23*60 + 45, To: 6 * 60}}}
	for _, resource := range someResources {
		rate := Rate{Resource: resource}
		switch r.IntN(7) {
		case 0:
			continue // no price
		case 1:
			rate.Price, rate.Slots = randomPrice(r), map[string]*apd.Decimal{"peak": randomPrice(r), "night": randomPrice(r)}
		case 2:
			rate.Dynamic = &Dynamic{Series: "spot", Factor: apd.New(r.Int64N(200), -2), Surcharge: apd.New(r.Int64N(200)-100, -3), Fallback: randomPrice(r)}
		case 3, 4:
			kind := []TierKind{Graduated, Volume}[r.IntN(2)]
			rate.Tiers = &Tiers{Kind: kind, Steps: []Tier{{UpTo: apd.New(1+r.Int64N(50), 0), Price: randomPrice(r)}, {UpTo: apd.New(51+r.Int64N(5000), 0), Price: randomPrice(r)}, {Price: randomPrice(r)}}}
		default:
			rate.Price = randomPrice(r)
		}
		if r.IntN(3) == 0 {
			rate.Cost = randomPrice(r)
		}
		list.Rates = append(list.Rates, rate)
		if r.IntN(2) == 0 {
			list.Rates = append(list.Rates, Rate{Resource: resource, Match: Match{Hardware: "h1"}, Price: randomPrice(r)})
		}
	}
	if r.IntN(2) == 0 {
		list.Discounts = []Discount{{Percent: apd.New(r.Int64N(1001), -1)}}
	}
	if r.IntN(2) == 0 {
		list.Markup = apd.New(r.Int64N(100), 0)
	}
	spot := make(Series)
	for at := october.From; at.Before(october.From.Add(6 * time.Hour)); at = at.Add(schema.Quarter) {
		if r.IntN(4) > 0 {
			spot[at] = apd.New(r.Int64N(400)-50, -3)
		}
	}
	return list, map[string]Series{"spot": spot}
}

// randomUsage is in the first six hours; some quantities are rests, below 0.
func randomUsage(r *rand.Rand, plan *Plan) []Usage {
	usage := make([]Usage, 1+r.IntN(40))
	for i := range usage {
		u := Usage{Key: fmt.Sprint("ns-", r.IntN(6)), Facts: Facts{Hardware: []string{"", "h1", "h2"}[r.IntN(3)]},
			Slot: plan.SlotAt(october.From.Add(time.Duration(r.IntN(24)) * schema.Quarter)), Quantities: make(processors.Quantities)}
		for range 1 + r.IntN(5) {
			resource := someResources[r.IntN(len(someResources))]
			u.Quantities[resource] = r.Int64N(1 << (1 + r.IntN(45)))
			if r.IntN(20) == 0 {
				u.Quantities[resource] *= -1
			}
		}
		usage[i] = u
	}
	return usage
}

// TestLines: of random price lists and usage, the lines partition what was used and
// each is its exact cost rounded once; shares add up; the order and the pieces in
// which usage comes change nothing.
func TestLines(t *testing.T) {
	wrong := 0
	for seed := range uint64(cases) {
		r := rand.New(rand.NewPCG(seed, 1))
		list, series := randomList(r)
		plan := compiled(t, list, "", series)
		usage := randomUsage(r, plan)
		in := Input{Period: october, Usage: usage}
		got, err := plan.Charges(in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		left := make(processors.Quantities)
		for _, u := range usage {
			for resource, quantity := range u.Quantities {
				left[resource] += quantity
			}
		}
		for resource, quantity := range got.Unpriced {
			left[resource] -= quantity
		}
		for _, line := range got.Lines {
			left[line.Resource] -= line.Quantity
			checkLine(t, seed, plan, line)
			wrong += roundedApart(plan, line)
		}
		for resource, quantity := range left {
			if quantity != 0 {
				t.Fatalf("seed %d: %d of %s is in no line", seed, quantity, resource)
			}
		}
		again, err := plan.Charges(Input{Period: october, Usage: pieces(r, usage)})
		if err != nil {
			t.Fatalf("seed %d, in pieces: %v", seed, err)
		}
		if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", again); a != b {
			t.Fatalf("seed %d: another order, in other pieces:\n%s", seed, cmp.Diff(a, b))
		}
	}
	if wrong == 0 {
		t.Error("control: no line has shares that, rounded each by itself, miss it: the law is not tried")
	}
}

// pieces is the same usage in another order, some of it in two parts.
func pieces(r *rand.Rand, usage []Usage) []Usage {
	var cut []Usage
	for _, u := range usage {
		a, b := u, u
		a.Quantities, b.Quantities = make(processors.Quantities), make(processors.Quantities)
		for resource, quantity := range u.Quantities {
			a.Quantities[resource] = quantity / 3
			b.Quantities[resource] = quantity - quantity/3
		}
		cut = append(cut, a, b)
	}
	r.Shuffle(len(cut), func(i, j int) { cut[i], cut[j] = cut[j], cut[i] })
	return cut
}

// checkLine checks a line against its parts, its shares and its exact cost.
func checkLine(t *testing.T, seed uint64, plan *Plan, line Line) {
	t.Helper()
	quantity, costs := int64(0), [3]*big.Rat{new(big.Rat), new(big.Rat), new(big.Rat)}
	for _, share := range line.Shares {
		quantity += share.Quantity
		costs[0].Add(costs[0], ratOf(&share.ListCost))
		costs[1].Add(costs[1], ratOf(&share.ContractedCost))
		if share.OperatorCost != nil {
			costs[2].Add(costs[2], ratOf(share.OperatorCost))
		}
	}
	operator := new(apd.Decimal)
	if line.OperatorCost != nil {
		operator = line.OperatorCost
	}
	for i, cost := range []*apd.Decimal{&line.ListCost, &line.ContractedCost, operator} {
		if costs[i].Cmp(ratOf(cost)) != 0 {
			t.Fatalf("seed %d: %s: shares of cost %d add up to %s of %s", seed, line.Rate, i, costs[i].FloatString(6), cost.Text('f'))
		}
	}
	if quantity != line.Quantity {
		t.Fatalf("seed %d: %s: shares add up to %d of %d", seed, line.Rate, quantity, line.Quantity)
	}
	parts := line.Parts
	if parts == nil {
		parts = []Part{{Quantity: line.Quantity, List: line.ListUnitPrice, Contracted: line.ContractedUnitPrice}}
	}
	exact := [2]*big.Rat{new(big.Rat), new(big.Rat)}
	for _, part := range parts {
		for i, price := range []*apd.Decimal{&part.List, &part.Contracted} {
			exact[i].Add(exact[i], new(big.Rat).Mul(ratOf(price), big.NewRat(part.Quantity, line.Base)))
		}
	}
	for i, cost := range []*apd.Decimal{&line.ListCost, &line.ContractedCost} {
		if line.Resource == processors.UsefulHeat {
			exact[i].Neg(exact[i])
		}
		if want := exact[i].FloatString(int(plan.exponent)); ratOf(cost).Cmp(mustRat(want)) != 0 { // FloatString rounds halves away from zero
			t.Fatalf("seed %d: %s: cost %d is %s, want %s", seed, line.Rate, i, cost.Text('f'), want)
		}
	}
}

func mustRat(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	return r
}

// roundedApart is 1 where the shares, each rounded by itself, would not add up.
func roundedApart(plan *Plan, line Line) int {
	total := new(big.Rat)
	for _, share := range line.Shares {
		cost := new(big.Rat).Mul(ratOf(&line.ContractedUnitPrice), big.NewRat(share.Quantity, line.Base))
		total.Add(total, mustRat(cost.FloatString(int(plan.exponent))))
	}
	if line.Parts == nil && line.Resource != processors.UsefulHeat && total.Cmp(ratOf(&line.ContractedCost)) != 0 {
		return 1
	}
	return 0
}

// TestTenThousandPods: 10,000 pods of one millicore cost what their sum costs.
func TestTenThousandPods(t *testing.T) {
	plan := compiled(t, euros(Rate{Resource: processors.CPURequested, Price: dec("0.0237")}), "", nil)
	month := int64(october.Length() / time.Hour)
	var usage []Usage
	for i := range 10_000 {
		usage = append(usage, Usage{Key: fmt.Sprintf("pod-%05d", i), Quantities: processors.Quantities{processors.CPURequested: month * coreHour / 1000}})
	}
	lines := charges(t, plan, usage...)
	whole := charges(t, plan, Usage{Key: "one", Quantities: processors.Quantities{processors.CPURequested: 10 * month * coreHour}})
	if lines[0].ContractedCost.Cmp(&whole[0].ContractedCost) != 0 || whole[0].ContractedCost.Text('f') != "176.33" {
		t.Errorf("10,000 pods cost %s, one of 10 cores %s", lines[0].ContractedCost.Text('f'), whole[0].ContractedCost.Text('f'))
	}
	alone, total := charges(t, plan, usage[0])[0].ContractedCost, new(big.Rat)
	if each := new(big.Rat).Mul(ratOf(&alone), big.NewRat(10_000, 1)); each.Cmp(ratOf(&whole[0].ContractedCost)) == 0 {
		t.Error("control: rounded each by itself they cost the same: the law is not tried")
	}
	for _, share := range lines[0].Shares {
		total.Add(total, ratOf(&share.ContractedCost))
	}
	if total.Cmp(ratOf(&lines[0].ContractedCost)) != 0 {
		t.Errorf("shares are %s", total.FloatString(2))
	}
}

// TestZones: each quarter of a day is in one slot by the zone's clock, also where a
// day has 23 or 25 hours and where the offset is no whole hour.
func TestZones(t *testing.T) {
	for _, at := range []struct {
		zone    string
		year    int
		month   time.Month
		day     int
		hours   float64
		peak    int // quarters from 00:00 to 03:00 of the clock, where a change is
		differs bool
	}{
		{"Europe/Amsterdam", 2026, 3, 29, 23, 8, true},
		{"Europe/Amsterdam", 2026, 10, 25, 25, 16, true},
		{"Europe/Amsterdam", 2026, 10, 26, 24, 12, false},
		{"America/Sao_Paulo", 2018, 11, 4, 23, 8, false}, // midnight is skipped: the day begins with the new offset
		{"America/Sao_Paulo", 2018, 2, 17, 25, 12, true},
		{"America/Sao_Paulo", 2026, 11, 1, 24, 12, false},
		{"Pacific/Auckland", 2026, 9, 27, 23, 8, true},
		{"Pacific/Auckland", 2026, 4, 5, 25, 16, true},
		{"Asia/Kathmandu", 2026, 10, 25, 24, 12, false},
	} {
		location, err := time.LoadLocation(at.zone)
		if err != nil {
			t.Fatal(err)
		}
		day := schema.Window{From: StartOfDay(at.year, at.month, at.day, location), To: StartOfDay(at.year, at.month, at.day+1, location)}
		if day.Length().Hours() != at.hours {
			t.Errorf("%s, %d-%d-%d has %v hours, want %v", at.zone, at.year, at.month, at.day, day.Length().Hours(), at.hours)
		}
		list := euros(Rate{Resource: processors.CPUUsed, Price: dec("1"), Slots: map[string]*apd.Decimal{"peak": dec("2")}})
		list.TimeOfUse = &TimeOfUse{Zone: at.zone, Rules: []Rule{{Slot: "peak", From: 0, To: 3 * 60}}}
		plan := compiled(t, list, "", nil)
		var usage []Usage
		shifted := 0 // control: the offset of the day's start stays
		_, offset := day.From.In(location).Zone()
		for quarter := day.From; quarter.Before(day.To); quarter = quarter.Add(schema.Quarter) {
			usage = append(usage, Usage{Slot: plan.SlotAt(quarter), Quantities: processors.Quantities{processors.CPUUsed: coreHour / 4}})
			if early := quarter.Add(time.Duration(offset)*time.Second).Hour() < 3; early != (plan.SlotAt(quarter).Tariff == "peak") {
				shifted++
			}
		}
		lines := charges(t, plan, usage...)
		quarters := map[string]int64{}
		for _, line := range lines {
			quarters[line.Slot] = line.Quantity * 4 / coreHour
		}
		if quarters["peak"] != int64(at.peak) || quarters["peak"]+quarters["default"] != int64(at.hours*4) {
			t.Errorf("%s, %d-%d-%d: %v quarters, want %d of %v at peak", at.zone, at.year, at.month, at.day, quarters, at.peak, at.hours*4)
		}
		if shifted > 0 != at.differs {
			t.Errorf("%s, %d-%d-%d: control: with a fixed offset %d quarters are in another slot", at.zone, at.year, at.month, at.day, shifted)
		}
	}
}

// TestRuleBeyondMidnight: the days are those on which the hours begin.
func TestRuleBeyondMidnight(t *testing.T) {
	list := euros(Rate{Resource: processors.CPUUsed, Price: dec("1")})
	list.TimeOfUse = &TimeOfUse{Zone: "Europe/Amsterdam", Rules: []Rule{{Slot: "weekend", Days: []time.Weekday{time.Friday}, From: 20 * 60, To: 6 * 60},
		{Slot: "sunday", Days: []time.Weekday{time.Sunday}}}}
	plan := compiled(t, list, "", nil)
	for text, want := range map[string]string{"2026-11-06T18:45:00Z": "default", "2026-11-06T19:00:00Z": "weekend", "2026-11-07T04:59:59Z": "weekend", "2026-11-07T05:00:00Z": "default",
		"2026-11-07T23:00:00Z": "sunday", "2026-11-08T22:59:00Z": "sunday", "2026-11-08T23:00:00Z": "default"} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.SlotAt(at).Tariff; got != want {
			t.Errorf("%s is in %s, want %s", text, got, want)
		}
	}
}

// TestTiersPartition: a graduated rate's parts add up by key and by tier.
func TestTiersPartition(t *testing.T) {
	for seed := range uint64(cases) {
		r := rand.New(rand.NewPCG(seed, 2))
		one := &rate{tiers: []tier{{upTo: 1 + r.Int64N(1000)}, {upTo: 1001 + r.Int64N(1<<40)}, {upTo: 1<<41 + r.Int64N(1<<50)}, {upTo: 1<<63 - 1}}}
		sums := make([]int64, 1+r.IntN(20))
		for i := range sums {
			sums[i] = r.Int64N(1 << (1 + r.IntN(50)))
		}
		total, _ := sumAll(sums)
		parts, err := one.partition(sums, 0)
		if err != nil {
			t.Fatal(err)
		}
		left, below := slices.Clone(sums), int64(0)
		for _, part := range parts {
			column, _ := sumAll(part.sums)
			if want := min(total, one.tiers[part.tier-1].upTo) - below; column != want {
				t.Fatalf("seed %d: tier %d has %d, want %d", seed, part.tier, column, want)
			}
			below = one.tiers[part.tier-1].upTo
			for i, q := range part.sums {
				if left[i] -= q; q < 0 || left[i] < 0 {
					t.Fatalf("seed %d: key %d has %d in tier %d, left %d", seed, i, q, part.tier, left[i])
				}
			}
		}
		if slices.ContainsFunc(left, func(q int64) bool { return q != 0 }) {
			t.Fatalf("seed %d: left %v", seed, left)
		}
	}
}
