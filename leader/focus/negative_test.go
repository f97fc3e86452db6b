package focus

import (
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/apd/v3"
)

// TestPricesBelowZero: a price of a market may be below 0, and a unit price of FOCUS not:
// the usage stands at 0 with its quantity and energy, and a credit with what it comes to.
// The rows hold every rule, and come to what the engine says.
func TestPricesBelowZero(t *testing.T) {
	w := newWorld(t)
	w.price = "-0.0310"
	for _, version := range []Version{V14, V12} {
		files := w.exported(t, Request{Period: "2026-11", Customer: "acme"}, Options{Version: version, Compression: None})
		sum, credits, usages := new(big.Rat), 0, 0
		for name, text := range files {
			if !strings.HasSuffix(name, "part-0000.csv") || strings.Contains(name, "billing_periods") {
				continue
			}
			for _, row := range records(t, text) {
				cost, _ := new(big.Rat).SetString(row["BilledCost"])
				if row["SkuId"] == "cpu_used" {
					sum.Add(sum, cost)
				}
				switch {
				case row["ChargeCategory"] == "Credit":
					credits++
					if cost.Sign() >= 0 || row["ListUnitPrice"] != "" || row["ConsumedQuantity"] != "" || row["ListCost"] != row["BilledCost"] {
						t.Fatalf("credit %v", row)
					}
				case row["SkuId"] == "cpu_used":
					usages++
					if row["ListUnitPrice"] != "0.0" || row["PricingQuantity"] != "1.944444444" || !strings.Contains(row["SkuPriceDetails"], `"x_UnitPrice":"-0.031"`) {
						t.Fatalf("usage %v", row)
					}
				}
			}
		}
		want := new(big.Rat).Mul(big.NewRat(-31, 1000), new(big.Rat).SetFrac64(1944444444*int64(usages), 1e9))
		if usages == 0 || credits != usages || sum.Cmp(want) != 0 {
			t.Errorf("%s: %d usages, %d credits, %s, want %s", version, usages, credits, sum.FloatString(12), want.FloatString(12))
		}
	}
	row := &Row{ChargeCategory: categoryUsage, ListUnitPrice: apd.New(-1, 0)} // the control: such a row is refused
	if price := rowRules[slices.IndexFunc(rowRules, func(r rowRule) bool { return r.id == "ListUnitPrice-C-008-M" })]; price.broken(row) == "" {
		t.Error("a unit price below 0 breaks no rule")
	}
}
