package focus

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

// dayLedger is a closed November of three days, of two namespaces: CPU on two kinds of
// hardware, energy at a dynamic price, and a fee.
type dayLedger struct{ uses []books.Use }

func (dayLedger) List(ctx context.Context, customer, period string) ([]books.Period, error) {
	return ledger{}.List(ctx, customer, period)
}

func (l dayLedger) Used(context.Context, string, string) ([]books.Use, error) { return l.uses, nil }

const version = "standard@always#1"

func newDayLedger() dayLedger {
	var l dayLedger
	for _, namespace := range []string{"shop", "blog"} {
		for day := range int64(3) {
			w := schema.Window{From: closedMonth.From.AddDate(0, 0, int(day)), To: closedMonth.From.AddDate(0, 0, int(day)+1)}
			for i, hardware := range []string{"small", "gpu"} {
				for j, prices := range []string{"spot=0.1", "spot=0.3"} {
					n := 1 + day + 3*int64(i) + 5*int64(j) + int64(len(namespace))
					energy := 3_600_000_000 * n
					l.uses = append(l.uses, books.Use{Window: w, Cluster: "edge-a", Namespace: namespace, Project: "web", Version: version, Facts: rating.Facts{Hardware: hardware}, Slot: rating.Slot{Prices: prices},
						Quantities: processors.Quantities{processors.CPUUsed: 3_600_000_000 * n, processors.Energy: energy, processors.MemoryUsed: 7 * n},
						Figures:    books.Figures{Uptime: 1000, Covered: 900, Energy: energy, Active: energy / 2, Idle: energy / 4, Measured: energy, Carbon: energy / 10, CarbonOf: energy, Heat: energy / 3}})
				}
			}
		}
	}
	return l
}

// Issued are the lines that the uses come to.
func (l dayLedger) Issued(context.Context, string) ([]books.Statement, error) {
	s := books.Statement{Customer: "acme", Kind: books.StatementKind, ID: "acme-0001", Number: 1, Period: "2026-11", From: closedMonth.From, To: closedMonth.To, Zone: "Europe/Amsterdam"}
	price := func(r processors.Resource, hardware, prices string) *big.Rat {
		switch {
		case r == processors.Energy && prices == "spot=0.1":
			return big.NewRat(1, 10)
		case r == processors.Energy:
			return big.NewRat(3, 10)
		case hardware == "gpu":
			return big.NewRat(7, 3)
		}
		return big.NewRat(1, 7)
	}
	add := func(resource processors.Resource, match rating.Match, parts ...books.Part) {
		line := books.Line{ID: fmt.Sprintf("acme/%d", len(s.Lines)+1), Kind: books.KindUsage, Customer: "acme", Period: "2026-11", ChargePeriod: "2026-11", ChargeFrom: closedMonth.From, ChargeTo: closedMonth.To,
			Resource: string(resource), Rate: string(resource), List: "standard", Version: version, Match: match, Base: resource.Base(), Unit: resource.Unit(), ListUnitPrice: "0.5", UnitPrice: "0.5", PricingQuantity: "1", Currency: "EUR", Parts: parts}
		for _, namespace := range []string{"shop", "blog"} {
			share, cost := books.Share{Cluster: "edge-a", Namespace: namespace, Project: "web"}, new(big.Rat)
			for _, use := range l.uses {
				if use.Namespace != namespace || resource == processors.CPUUsed && (use.Facts.Hardware == "gpu") != (match.Hardware == "gpu") {
					continue
				}
				share.Quantity += use.Quantities[resource]
				cost.Add(cost, new(big.Rat).Mul(big.NewRat(use.Quantities[resource], resource.Base()), price(resource, use.Facts.Hardware, use.Slot.Prices)))
			}
			share.Cost = cost.FloatString(2)
			share.ListCost = share.Cost
			line.Shares = append(line.Shares, share)
		}
		s.Lines = append(s.Lines, line)
	}
	add(processors.CPUUsed, rating.Match{})
	add(processors.CPUUsed, rating.Match{Hardware: "gpu"})
	add(processors.Energy, rating.Match{}, books.Part{Prices: "spot=0.1", Price: "0.1"}, books.Part{Prices: "spot=0.3", Price: "0.3"})
	s.Lines = append(s.Lines, books.Line{ID: "acme/4", Kind: books.KindFee, Customer: "acme", Period: "2026-11", ChargePeriod: "2026-11", ChargeFrom: closedMonth.From, ChargeTo: closedMonth.To,
		Resource: "fee:platform", Rate: "fee:platform", List: "standard", Version: version, PricingQuantity: "1", Unit: "month", ListUnitPrice: "10", UnitPrice: "10", ListCost: "10.00", Cost: "10.00", Currency: "EUR"})
	return []books.Statement{s}, nil
}

// TestClosedDays: what is closed is rows by day, which come to the lines that the
// customer was billed; the energy of a namespace's day stands in one of them. The
// control is the same statement without its days, as rows of the month.
func TestClosedDays(t *testing.T) {
	rows := func(l Ledger) (billed, quantity map[string]string, energy, carbon, heat string, all []*Row) {
		t.Helper()
		cost, used := map[string]*apd.Decimal{}, map[string]*apd.Decimal{}
		checks := newChecker(V14)
		sums := map[string]*apd.Decimal{"energy": new(apd.Decimal), "carbon": new(apd.Decimal), "heat": new(apd.Decimal)}
		if _, err := (Closed{Ledger: l}).Rows(t.Context(), Request{Period: "2026-11", Customer: "acme"}, func(r *Row) error {
			all = append(all, r)
			add(cost, r.InvoiceDetailID.Value, r.BilledCost)
			if r.PricingQuantity != nil {
				add(used, r.InvoiceDetailID.Value, r.PricingQuantity)
			}
			for name, figure := range map[string]*apd.Decimal{"energy": r.EnergyKilowattHours, "carbon": r.Co2eKilograms, "heat": r.HeatKilowattHours} {
				if figure != nil {
					add(sums, name, figure)
				}
			}
			_, err := checks.check(r)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		told := texts(sums)
		return texts(cost), texts(used), told["energy"], told["carbon"], told["heat"], all
	}
	l := newDayLedger()
	billed, quantity, energy, carbon, heat, byDay := rows(l)
	monthBilled, monthQuantity, none, _, _, byMonth := rows(lostDays{l})
	if diff := cmp.Diff(monthBilled, billed); diff != "" {
		t.Errorf("billed by day (+) and by month (-): %s", diff)
	}
	if diff := cmp.Diff(monthQuantity, quantity); diff != "" {
		t.Errorf("quantity by day (+) and by month (-): %s", diff)
	}
	if len(byDay) != 3*2*3+1 || len(byMonth) != 3*2+1 || none != "0" {
		t.Errorf("%d rows by day, %d by month with %s kWh", len(byDay), len(byMonth), none)
	}
	var want int64
	for _, use := range l.uses {
		want += use.Figures.Energy / 3_600_000_000
	}
	if energy != fmt.Sprint(want) || carbon == "0" || heat == "0" {
		t.Errorf("%s kWh of %d, %s kg, heat %s kWh", energy, want, carbon, heat)
	}
	for _, r := range byDay {
		length := r.ChargePeriodEnd.Sub(r.ChargePeriodStart)
		if daily := length == 24*time.Hour; daily != (r.ServiceName != "Platform Fees") {
			t.Errorf("%s lasts %s", r.ChargeDescription.Value, length)
		}
	}
	for i, r := range byDay[:3] { // of the small hardware alone, in namespace shop: two slots
		if got, want := plainDecimal(r.PricingQuantity), fmt.Sprint(2*(1+i+4)+5); got != want {
			t.Errorf("day %d: %s core-hours, want %s", i, got, want)
		}
	}
}

// lostDays has the statement, and its days no more.
type lostDays struct{ dayLedger }

func (lostDays) Used(context.Context, string, string) ([]books.Use, error) { return nil, nil }

// TestApportion: parts add up to the amount, whatever the weights.
func TestApportion(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		weights := make([]*big.Rat, 1+random.IntN(31))
		for i := range weights {
			weights[i] = big.NewRat(random.Int64N(1_000_000), 1+random.Int64N(1000))
		}
		weights[0].Add(weights[0], big.NewRat(1, 1))
		text := big.NewRat(random.Int64N(2_000_001)-1_000_000, 100).FloatString(2)
		parts, ok := apportionText(text, weights, nil)
		sum := new(big.Rat)
		for _, part := range parts {
			amount, _ := new(big.Rat).SetString(part)
			sum.Add(sum, amount)
		}
		if !ok || sum.FloatString(2) != text {
			t.Fatalf("%s by %v is %v, which comes to %s", text, weights, parts, sum.FloatString(2))
		}
	}
	if _, ok := apportion(big.NewRat(1, 1), 2, []*big.Rat{new(big.Rat)}); ok {
		t.Error("by nothing")
	}
	if _, ok := apportion(big.NewRat(1, 3), 2, []*big.Rat{big.NewRat(1, 1)}); ok {
		t.Error("more decimals than there are")
	}
}
