package query

import (
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
)

// ratedWorld is random price lists over random usage.
type ratedWorld struct {
	random *rand.Rand
	fleet  *fleet.Fleet
	series map[string]rating.Series
	plans  map[[2]string]*rating.Plan
}

var ratedResources = []string{"cpu_used", "cpu_requested", "cpu_max", "memory_used", "memory_max", "network_transmit", "energy", "node_hours", "ephemeral_used",
	"volume_claimed", "volume_claimed:fast", "extended:nvidia.com/gpu", "extended:hugepages-2Mi"}

func (w *ratedWorld) price() fleet.Decimal {
	price := apd.New(w.random.Int64N(1_000_000), -int32(w.random.IntN(19)))
	return fleet.Decimal(price.Text('f'))
}

// list has rates of every kind.
func (w *ratedWorld) list(bound fleet.PriceList) fleet.PriceList {
	bound.Currency = []string{"EUR", "USD", "JPY"}[w.random.IntN(3)]
	bound.TimeOfUse = &fleet.TimeOfUse{Zone: "Asia/Kathmandu", Default: "low", Rules: []fleet.TimeRule{{Slot: "peak", From: "07:00", To: "19:30"}}}
	for _, resource := range ratedResources {
		rate := fleet.Rate{Resource: resource}
		switch w.random.IntN(6) {
		case 0:
			continue
		case 1:
			rate.Price, rate.Slots = w.price(), map[string]fleet.Decimal{"peak": w.price()}
		case 2:
			rate.Tiers = &fleet.PriceTiers{Kind: "graduated", Steps: []fleet.PriceStep{{UpTo: "7", Price: w.price()}, {Price: w.price()}}}
		case 3:
			rate.Dynamic = &fleet.DynamicPrice{Series: "spot", Factor: "1.3", Surcharge: "-0.01"}
		default:
			rate.Price = w.price()
		}
		bound.Rates = append(bound.Rates, rate)
		if w.random.IntN(3) == 0 {
			bound.Rates = append(bound.Rates, fleet.Rate{Resource: resource, Match: &fleet.PriceMatch{Hardware: "large"}, Price: w.price()})
		}
	}
	bound.Rates = append(bound.Rates, fleet.Rate{Resource: "fee:base", Per: "month", Price: w.price()})
	if w.random.IntN(2) == 0 {
		bound.Discounts = []fleet.Discount{{Customers: []string{"acme"}, Percent: "12.5"}, {Resources: []string{"energy"}, Price: w.price()}}
	}
	if w.random.IntN(2) == 0 {
		bound.Minimum = "100"
	}
	if w.random.IntN(2) == 0 {
		bound.Share = []fleet.Sharing{{Of: fleet.ShareNamespaces, Namespaces: []string{"ns-2"}, Policy: fleet.IdleUsage}}
	}
	bound.Exclude = [][]string{nil, {}, {"ns-1"}}[w.random.IntN(3)]
	return bound
}

func newRatedWorld(seed uint64) *ratedWorld {
	w := &ratedWorld{random: rand.New(rand.NewPCG(seed, 26)), plans: make(map[[2]string]*rating.Plan), series: map[string]rating.Series{"spot": {}}}
	for at := start; at.Before(start.Add(24 * time.Hour)); at = at.Add(schema.Quarter) {
		if w.random.IntN(6) > 0 {
			w.series["spot"][at] = apd.New(w.random.Int64N(5)-1, -2)
		}
	}
	objects := []fleet.Object{fleet.NewObject("acme", fleet.Customer{}), fleet.NewObject("bolt", fleet.Customer{}),
		fleet.NewObject("large", fleet.Hardware{Cores: 8, IdleWatts: 9, MaxWatts: 40, Source: "test"}),
		fleet.NewObject("a", fleet.Cluster{Customer: "acme"}), fleet.NewObject("b", fleet.Cluster{Customer: "bolt"}), fleet.NewObject("c", fleet.Cluster{}),
		fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1", Hardware: "large"}),
		fleet.NewObject("all", w.list(fleet.PriceList{})), fleet.NewObject("acmes", w.list(fleet.PriceList{Customers: []string{"acme"}}))}
	if w.random.IntN(2) == 0 {
		objects = append(objects, fleet.NewObject("ofb", w.list(fleet.PriceList{Clusters: []string{"b"}})))
	}
	w.fleet = fleet.New(start, objects)
	return w
}

// used is a piece of usage, and whose it is.
func (w *ratedWorld) used() (identity, time.Time, Sums, processors.Quantities) {
	n := w.random.IntN(3)
	who := identity{fleet: w.fleet, cluster: []string{"a", "b", "c"}[n], node: []string{"n1", "n2"}[w.random.IntN(2)], namespace: fmt.Sprint("ns-", w.random.IntN(4)), billed: []string{"acme", "bolt", ""}[n]}
	if w.random.IntN(5) == 0 {
		who.billed = "acme"
	}
	var sums Sums
	for _, q := range []usage.Quantity{usage.CPU, usage.CPURequest, usage.CPUMax, usage.Memory, usage.MemoryMax, usage.NetworkTransmit, usage.EnergyActive, usage.EnergyIdle, usage.NodeTime, usage.Ephemeral} {
		if w.random.IntN(3) > 0 {
			sums[q] = w.random.Int64N(1<<(1+w.random.IntN(52))) - w.random.Int64N(9)
		}
	}
	var named processors.Quantities
	for _, resource := range []processors.Resource{processors.VolumeClaimed, processors.VolumeClaimed.Of("fast"), processors.VolumeUsed.Of("slow"), processors.Extended("nvidia.com/gpu"), processors.Extended("hugepages-2Mi")} {
		if w.random.IntN(3) == 0 {
			named = processors.Quantities{resource: w.random.Int64N(1 << 50)}
		}
	}
	return who, start.Add(time.Duration(w.random.IntN(96)) * schema.Quarter), sums, named
}

// priceOf is what one piece of usage costs by itself, in fractions: by resource,
// price and currency. It is the oracle: no sum, no merging.
func (w *ratedWorld) priceOf(t *testing.T, who identity, at time.Time, sums Sums, named processors.Quantities, metering []string, f func(line string, currency string, excluded bool, quantity int64, cost *big.Rat)) {
	t.Helper()
	list, ok := w.fleet.PriceListFor(who.cluster, who.billed)
	if !ok {
		t.Fatal("a default list is for all")
	}
	key := [2]string{list.Name, who.billed}
	if w.plans[key] == nil {
		compilable, err := list.Rating("x")
		if err != nil {
			t.Fatal(err)
		}
		if w.plans[key], err = rating.Compile(compilable, who.billed, w.series); err != nil {
			t.Fatal(err)
		}
	}
	prices, err := w.plans[key].PricesIn(w.plans[key].SlotAt(at), who.facts())
	if err != nil {
		t.Fatal(err)
	}
	quantities, err := quantitiesOf(&sums, named)
	if err != nil {
		t.Fatal(err)
	}
	for resource, quantity := range quantities {
		if price, ok := prices.Sale.PriceOf(resource); ok {
			value, _ := new(big.Rat).SetString(price.Text('f'))
			cost := value.Mul(value, big.NewRat(quantity, resource.Base()))
			f(fmt.Sprint(resource, " ", price.Text('f'), " ", list.Name, " ", list.Currency), list.Currency, list.Excludes(who.namespace, metering), quantity, cost)
		}
	}
}

// TestMergedPricing: sums that are priced once for each price come to what each piece
// of usage comes to by itself, to the last digit, line by line, whatever the price
// lists and keys. Control: at the price of the first piece of a row they do not.
func TestMergedPricing(t *testing.T) {
	controls := 0
	for seed := range uint64(200) {
		w := newRatedWorld(seed)
		keys := [][]Key{{Cluster, Namespace}, {Namespace}, {Cluster, Node}, {}}[seed%4]
		table := &tally{engine: &Engine{config: Config{}.withDefaults()}, request: Request{About: usage.AboutUsage, Aggregate: keys}, window: schema.Window{From: start, To: start.Add(24 * time.Hour)},
			rowsByID: make(map[string]*tallyRow), boxes: make(map[string]bool), seen: make(map[string]bool), metering: []string{"ns-3"},
			pricing: &pricing{series: w.series, lists: make(map[listKey]string), plans: make(map[planKey]*plan), named: make(map[namedPlan]*plan), payers: make(map[payerKey]*payer), rules: make(map[string]bool)}}
		type rowCosts struct {
			cost, excluded, lines, first map[string]*big.Rat
			quantities                   map[string]int64
		}
		want := make(map[string]*rowCosts)
		firstPrice := make(map[string]*big.Rat)
		for range 60 {
			who, at, sums, named := w.used()
			id := ""
			for _, k := range keys {
				id += who.value(k) + "/"
			}
			if want[id] == nil {
				want[id] = &rowCosts{make(map[string]*big.Rat), make(map[string]*big.Rat), make(map[string]*big.Rat), make(map[string]*big.Rat), make(map[string]int64)}
			}
			w.priceOf(t, who, at, sums, named, table.metering, func(line, currency string, excluded bool, quantity int64, cost *big.Rat) {
				of := want[id]
				if excluded {
					addTo(of.excluded, currency, cost)
					return
				}
				addTo(of.cost, currency, cost)
				var resource string
				_, _ = fmt.Sscan(line, &resource)
				if quantity != 0 {
					addTo(of.lines, line, cost)
					of.quantities[line] += quantity
					if firstPrice[resource] == nil {
						firstPrice[resource] = new(big.Rat).Quo(cost, big.NewRat(quantity, 1))
					}
				}
				addTo(of.first, currency, new(big.Rat).Mul(ratOr0(firstPrice[resource]), big.NewRat(quantity, 1)))
			})
			if err := table.add(&who, table.window, at, &sums, named); err != nil {
				t.Fatal(err)
			}
		}
		for _, row := range table.sorted() {
			id := ""
			for _, value := range row.values {
				id += value + "/"
			}
			of := want[id]
			checkCosts(t, seed, "row "+id, costs(t, &row.prices), of.cost)
			checkCosts(t, seed, "excluded of "+id, costs(t, &row.excluded), of.excluded)
			var made Charges
			if err := row.charges(&made, false); err != nil {
				t.Fatal(err)
			}
			lines, quantities := make(map[string]*big.Rat), make(map[string]int64)
			for _, line := range made.Lines {
				if line.List != nil {
					name := fmt.Sprint(line.Resource, " ", line.Price, " ", line.List.Name, " ", line.List.Currency)
					addTo(lines, name, line.Cost())
					quantities[name] += line.Quantity
				}
			}
			for name, sum := range of.quantities {
				if sum == 0 && quantities[name] == 0 { // what adds up to nothing is no line
					delete(of.lines, name)
					delete(lines, name)
				}
			}
			checkCosts(t, seed, "lines of "+id, lines, of.lines)
			for currency, cost := range of.first {
				if of.cost[currency].Cmp(cost) != 0 {
					controls++
				}
			}
		}
	}
	if controls == 0 {
		t.Error("control: one price for all would do: the law is not tried")
	}
}

func ratOr0(r *big.Rat) *big.Rat {
	if r == nil {
		return new(big.Rat)
	}
	return r
}

func costs(t *testing.T, s *slots) map[string]*big.Rat {
	t.Helper()
	all, err := costsOf(*s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func checkCosts(t *testing.T, seed uint64, of string, got, want map[string]*big.Rat) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] == nil || got[name].Cmp(want[name]) != 0 {
			t.Fatalf("seed %d, %s: %s costs %v, want %v", seed, of, name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("seed %d, %s: %d costs, want %d: %v and %v", seed, of, len(got), len(want), got, want)
	}
}

// TestStandardResources: their numbers are in the order of lines.
func TestStandardResources(t *testing.T) {
	if !slices.IsSortedFunc(standard[:], processors.CompareResources) {
		t.Errorf("%v are not in order", standard)
	}
	var sums Sums
	for i := range sums {
		sums[i] = int64(1 + i)
	}
	known, err := amountsOf(&sums)
	all, err2 := quantitiesOf(&sums, nil)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for i, resource := range standard {
		if all[resource] != known[i] || all[resource] == 0 {
			t.Errorf("%s is %d and %d", resource, all[resource], known[i])
		}
	}
	if all[processors.CPUMax] != sums[usage.CPUMax] || all[processors.EphemeralUsed] != sums[usage.Ephemeral] || all[processors.Energy] != sums[usage.EnergyActive]+sums[usage.EnergyIdle]+sums[usage.EnergyOverhead] {
		t.Errorf("quantities %v of %v", all, sums)
	}
}
