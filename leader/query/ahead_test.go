package query

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
)

// TestChargesAhead: at prices that do not change with time the past costs ahead what it
// cost, and under a list that holds from the coming window on what that list says.
func TestChargesAhead(t *testing.T) {
	f := newFixture(t, edge()...)
	pods := []podID{{cluster: "edge-a", node: "n1", namespace: "shop", pod: "web-1", workload: "web", box: "box-1"}}
	f.receive("edge-a", 120)
	f.fill(pods, 0, 120)
	request := ChargeRequest{Window: schema.Window{From: at(0), To: at(120)}, Step: time.Hour, Aggregate: []Key{Namespace}}
	total := func(charges []Charges) *big.Rat {
		sum := new(big.Rat)
		for _, c := range charges {
			for _, line := range c.Lines {
				if line.UnitPrice != nil {
					sum.Add(sum, line.Cost())
				}
			}
		}
		return sum
	}
	now, err := f.Charges(f.ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	ahead, assumed, err := f.ChargesAhead(f.ctx, request, schema.Window{From: at(120), To: at(120 + 7*24*60)})
	if err != nil || len(assumed) > 0 {
		t.Fatal(assumed, err)
	}
	if a, b := total(now), total(ahead); a.Sign() <= 0 || a.Cmp(b) != 0 {
		t.Errorf("cost %s, ahead %s", a.FloatString(9), b.FloatString(9))
	}
	if _, _, err := f.ChargesAhead(f.ctx, request, schema.Window{From: at(120), To: at(120)}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty window: %v", err)
	}
}

// TestChargesAsOnOtherHardware: what was used on one hardware type costs on another what
// the rates for that one say, now and ahead; what has no such rate costs the same.
func TestChargesAsOnOtherHardware(t *testing.T) {
	objects := append(edge(), fleet.NewObject("big", fleet.Hardware{Cores: 64, MaxWatts: 400, Source: "test"}))
	for i, o := range objects {
		if list, ok := o.Spec.(fleet.PriceList); ok && o.Name() == "prices-a" {
			list.Rates = append(slices.Clone(list.Rates), fleet.Rate{Resource: "cpu_used", Price: "0.062", Match: &fleet.PriceMatch{Hardware: "big"}})
			objects[i].Spec = list
		}
	}
	f := newFixture(t, objects...)
	f.receive("edge-a", 120)
	f.fill([]podID{{cluster: "edge-a", node: "n1", namespace: "shop", pod: "web-1", workload: "web", box: "box-1"}}, 0, 120)
	request := ChargeRequest{Window: schema.Window{From: at(0), To: at(120)}, Filter: []Condition{{Key: Namespace, Values: []string{"shop"}}}}
	costs := func(hardware string, ahead bool) map[processors.Resource]*big.Rat {
		t.Helper()
		request.Hardware = hardware
		all, err := f.Charges(f.ctx, request)
		if ahead {
			all, _, err = f.ChargesAhead(f.ctx, request, schema.Window{From: at(120), To: at(240)})
		}
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		of := make(map[processors.Resource]*big.Rat)
		for _, line := range all[0].Lines {
			if line.UnitPrice != nil {
				of[line.Resource] = line.Cost()
			}
		}
		return of
	}
	for _, ahead := range []bool{false, true} {
		own, same, other := costs("", ahead), costs("small", ahead), costs("big", ahead)
		for resource, cost := range own {
			want := new(big.Rat).Set(cost)
			if resource == processors.CPUUsed {
				want.Mul(want, big.NewRat(2, 1))
			}
			if same[resource].Cmp(cost) != 0 || other[resource].Cmp(want) != 0 {
				t.Errorf("%s, ahead %v: own %s, as small %s, as big %s", resource, ahead, cost, same[resource], other[resource])
			}
		}
	}
}

// TestCostsAt: a quarter of the past stands for the coming quarter of the same hour of
// the week, or of the day.
func TestCostsAt(t *testing.T) {
	table := tally{coming: schema.Window{From: at(120), To: at(120 + 14*24*60)}}
	for past, want := range map[int]int{105: 105 + 7*24*60, 120 - 7*24*60: 120, 0: 7 * 24 * 60, -3 * 24 * 60: 4 * 24 * 60} {
		if got := table.costsAt(at(past)); !got.Equal(at(want)) {
			t.Errorf("%s costs as %s, want %s", at(past), got, at(want))
		}
	}
	table.coming.To = at(120 + 24*60)
	if got := table.costsAt(at(105 - 3*24*60)); !got.Equal(at(105 + 24*60)) {
		t.Errorf("in a day ahead: %s", got)
	}
	table.coming.To = at(180)
	if got := table.costsAt(at(60)); !got.Equal(at(120)) {
		t.Errorf("in an hour ahead: %s", got)
	}
}

// TestUnknownPricesAreAssumed: of the hours without a price the last known one counts,
// and it is said.
func TestUnknownPricesAreAssumed(t *testing.T) {
	known := make(rating.Series)
	for q := range 96 {
		known[at(q*15)] = apd.New(int64(q), -2)
	}
	p := pricing{series: map[string]rating.Series{"spot": known}, assumed: make(map[string]string)}
	p.assume(schema.Window{From: at(12 * 60), To: at(72 * 60)})
	for q := range 72 * 4 {
		if got := known[at(q*15)]; got == nil || got.Cmp(apd.New(int64(q%96), -2)) != 0 {
			t.Fatalf("quarter %d costs %v", q, got)
		}
	}
	if len(p.assumed) != 1 || !strings.Contains(p.assumed["spot"], at(24*60).Format(time.RFC3339)) {
		t.Errorf("%q", p.assumed)
	}
}
