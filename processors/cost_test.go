package processors

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

func prices(t testing.TB, currency string, list map[Resource]string) PriceList {
	t.Helper()
	prices := PriceList{Version: "v1", Kind: Sale, Currency: currency}
	for _, r := range Resources() {
		if s, priced := list[r]; priced {
			prices.Prices = append(prices.Prices, Price{r, decimal(s)})
		}
	}
	return prices
}

// decimal is a number that is one.
func decimal(text string) apd.Decimal {
	d, _, err := apd.NewFromString(text)
	if err != nil {
		panic(err)
	}
	return *d
}

// A cost is rounded once: a second rounding, of a value already rounded
// to 34 digits or to nanos, would turn these.
func TestCostsAreRoundedOnce(t *testing.T) {
	for _, test := range []struct {
		name, price, want string // cents
		quantity          int64  // kWh
	}{
		{"half up", "0.005", "1", 1},
		{"just below half", "0.0049999999999999999999999999999999", "0", 1},
		{"just below half, by less than a nano", "0.0049999999999", "0", 1},
		{"half of a negative goes away from zero", "0.005", "-1", -1},
		{"exact", "0.01", "3", 3},
		{"nothing", "0.31", "0", 0},
		{"huge", "1000000000", "256200000000000", 2562},
	} {
		t.Run(test.name, func(t *testing.T) {
			price := decimal(test.price)
			if got := exactCost(test.quantity*millijoulesPerKWh, &price, Energy.Base(), 2).round().String(); got != test.want {
				t.Errorf("cost = %s, want %s", got, test.want)
			}
		})
	}
}

// Costs against rationals: each is the nearest cent of quantity · price.
func TestCostsAreNearest(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	half := big.NewRat(1, 200)
	for range cases(t, 3000) {
		r := Resources()[rng.IntN(8)]
		p, _ := r.pricing()
		quantity := rng.Int64N(1 << uint(1+rng.IntN(62)))
		price := apd.New(rng.Int64N(1<<40), -int32(rng.IntN(20)))
		exact, _ := new(big.Rat).SetString(price.Text('f'))
		exact.Mul(exact, big.NewRat(quantity, p.base))
		got := new(big.Rat).SetFrac(exactCost(quantity, price, p.base, 2).round(), big.NewInt(100))
		if off := new(big.Rat).Sub(got, exact); off.Abs(off).Cmp(half) > 0 {
			t.Fatalf("%d of %s at %s cost %s, want %s", quantity, r, price, got.FloatString(2), exact.FloatString(20))
		}
	}
}

func TestPriceListsAreChecked(t *testing.T) {
	one := *apd.New(1, 0)
	for name, list := range map[string]PriceList{
		"currency": {Currency: "euro"},
		"case":     {Currency: "eur"},
		"resource": {Currency: "EUR", Prices: []Price{{"gpu", one}}},
		"twice":    {Currency: "EUR", Prices: []Price{{Energy, one}, {Energy, one}}},
		"negative": {Currency: "EUR", Prices: []Price{{Energy, *apd.New(-1, 0)}}},
		"infinite": {Currency: "EUR", Prices: []Price{{Energy, apd.Decimal{Form: apd.Infinite}}}},
		"exponent": {Currency: "EUR", Prices: []Price{{Energy, *apd.New(1, 100_000)}}},
	} {
		if err := list.check(); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v, want %v", name, err, ErrInput)
		}
	}
}

// costsAddUp is the law of showback: per slot price, the rows are the cost of
// the summed quantity.
func costsAddUp(in CostInput, rows []CostRow) error {
	type key struct {
		resource Resource
		kind     PriceKind
		currency string
	}
	got, want := map[key]*big.Int{}, map[key]*big.Int{}
	for _, row := range rows {
		k := key{row.Resource, row.PriceKind, row.Currency}
		if got[k] == nil {
			got[k] = new(big.Int)
		}
		got[k].Add(got[k], big.NewInt(row.Nanos))
	}
	for _, slot := range in.Slots {
		for _, list := range slot.Prices {
			for _, price := range list.Prices {
				var total int64
				counted := false
				for _, u := range slot.Usage {
					q, ok := u.Quantities[price.Resource]
					total, counted = total+q, counted || ok
				}
				if !counted {
					continue
				}
				p, _ := price.Resource.pricing()
				k := key{price.Resource, list.Kind, list.Currency}
				if want[k] == nil {
					want[k] = new(big.Int)
				}
				exact, _ := new(big.Rat).SetString(price.Price.Text('f'))
				exact.Mul(exact, big.NewRat(total, p.base)).Mul(exact, big.NewRat(1_000_000_000, 1))
				nanos, _ := new(big.Int).SetString(exact.FloatString(0), 10) // halves away from zero
				want[k].Add(want[k], nanos)
			}
		}
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); diff != "" {
		return errors.New(diff)
	}
	return nil
}

func TestCostAddsUp(t *testing.T) {
	in := costInput()
	result, err := Cost{}.Process(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := costsAddUp(in, result.Rows); err != nil {
		t.Error(err)
	}
	// The control: rows that are rounded one by one.
	rounded := slices.Clone(result.Rows)
	rounded[0].Nanos++
	if costsAddUp(in, rounded) == nil {
		t.Error("a nano too much was not noticed")
	}
	if want := []Resource{CPURequested, MemoryRequested}; !slices.Equal(result.Unpriced, want) {
		t.Errorf("unpriced = %v, want %v", result.Unpriced, want)
	}
	var out bytes.Buffer
	for _, r := range result.Rows {
		fmt.Fprintf(&out, "%s\t%s\t%s/%s\t%s\t%d\t%s %s %s\n", r.Cluster, r.Namespace, r.WorkloadKind, r.Workload, r.Resource, r.Nanos, r.Currency, r.PriceKind, r.PriceVersion)
	}
	golden(t, "cost.golden", out.Bytes())
}

func TestCostAddsUpAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	naive := 0
	for range cases(t, 300) {
		in := costInput()
		for s := range in.Slots {
			slot := &in.Slots[s]
			for p := range slot.Prices[0].Prices {
				slot.Prices[0].Prices[p].Price = *apd.New(rng.Int64N(1<<30), -int32(4+rng.IntN(9)))
			}
			slot.Usage = nil
			for u := range 1 + rng.IntN(20) {
				slot.Usage = append(slot.Usage, Usage{Namespace: fmt.Sprint(u), Quantities: Quantities{
					CPUUsed: rng.Int64N(1<<40) - 1<<36, Energy: rng.Int64N(1 << 30), MemoryUsed: rng.Int64N(1 << 40)}})
			}
		}
		result, err := Cost{}.Process(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := costsAddUp(in, result.Rows); err != nil {
			t.Fatal(err)
		}
		// The control: what each row costs, rounded by itself.
		alone := slices.Clone(result.Rows)
		for i := range alone {
			alone[i].Nanos = roundedAlone(in, alone[i])
		}
		if costsAddUp(in, alone) != nil {
			naive++
		}
	}
	if naive == 0 {
		t.Error("rounding each row by itself was never noticed")
	}
}

func roundedAlone(in CostInput, row CostRow) int64 {
	var nanos int64
	for _, slot := range in.Slots {
		for _, list := range slot.Prices {
			price, priced := list.price(row.Resource)
			if !priced || list.Kind != row.PriceKind {
				continue
			}
			p, _ := row.Resource.pricing()
			for _, u := range slot.Usage {
				if u.Namespace == row.Namespace {
					nanos += exactCost(u.Quantities[row.Resource], price, p.base, nanoPlaces).round().Int64()
				}
			}
		}
	}
	return nanos
}

func TestCostRefusesContradictions(t *testing.T) {
	for name, spoil := range map[string]func(*CostInput){
		"window":           func(in *CostInput) { in.Window.To = in.Window.From },
		"slot outside":     func(in *CostInput) { in.Slots[1].Window.To = in.Window.To.Add(1) },
		"slots overlap":    func(in *CostInput) { in.Slots[1].Window.From = in.Window.From.Add(1) },
		"two lists":        func(in *CostInput) { s := &in.Slots[0]; s.Prices = append(s.Prices, s.Prices[0]) },
		"two usages":       func(in *CostInput) { s := &in.Slots[0]; s.Usage = append(s.Usage, s.Usage[0]) },
		"unknown currency": func(in *CostInput) { in.Slots[0].Prices[0].Currency = "E" },
	} {
		in := costInput()
		spoil(&in)
		if _, err := (Cost{}).Process(in); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v, want %v", name, err, ErrInput)
		}
	}
	in := costInput()
	for i := range in.Slots[0].Usage {
		in.Slots[0].Usage[i].Quantities[CPUUsed] = math.MaxInt64
	}
	if _, err := (Cost{}).Process(in); !errors.Is(err, ErrOverflow) {
		t.Errorf("a sum beyond 64 bits: %v, want %v", err, ErrOverflow)
	}
}

func BenchmarkCost(b *testing.B) {
	in := costInput()
	usage := in.Slots[0].Usage[0]
	for s := range in.Slots {
		in.Slots[s].Usage = nil
		for i := range 500 {
			usage.Workload = fmt.Sprintf("app-%03d", i)
			in.Slots[s].Usage = append(in.Slots[s].Usage, usage)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Cost{}).Process(in); err != nil {
			b.Fatal(err)
		}
	}
}

// Small prices and quantities are shared in 64 bits: as in exact numbers.
func TestSmallSharesAreTheLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	small := 0
	for range cases(t, 5000) {
		price := apd.New(rng.Int64N(1_000_000_000), -int32(rng.IntN(14)))
		quantities := make([]int64, 1+rng.IntN(8))
		for i := range quantities {
			quantities[i] = rng.Int64N(1 << rng.IntN(50))
			if rng.IntN(30) == 0 {
				quantities[i] *= -1
			}
		}
		total, err := Sum(quantities...)
		if err != nil {
			t.Fatal(err)
		}
		r := []Resource{CPUUsed, MemoryUsed, Energy, NodeHours}[rng.IntN(4)]
		p, _ := r.pricing()
		left := exactCost(total, price, p.base, nanoPlaces).round()
		want, err := shareLarge(quantities, price, p.base, left)
		got, ok := shareSmall(quantities, exactCost(1, price, p.base, nanoPlaces), left)
		if !ok {
			continue
		}
		small++
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s at %s of %d: %d in 64 bits, %d, %v", r, price, quantities, got, want, err)
		}
	}
	if small < 1000 {
		t.Errorf("only %d were small", small)
	}
}
