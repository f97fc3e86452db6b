package rating

import (
	"fmt"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// BenchmarkCharges rates a month of quarter rows of a customer with 200 namespaces
// at time-of-use, tiered and discounted prices: seven quantities a row, as the table
// usage has them. The target is 500,000 rows per second and core.
func BenchmarkCharges(b *testing.B) {
	list := euros(
		Rate{Resource: processors.CPUUsed, Price: dec("0.02"), Slots: map[string]*apd.Decimal{"peak": dec("0.03")}, Cost: dec("0.01")},
		Rate{Resource: processors.CPUUsed, Match: Match{Hardware: "h1"}, Price: dec("0.04")},
		Rate{Resource: processors.MemoryMax, Tiers: &Tiers{Kind: Graduated, Steps: []Tier{{UpTo: dec("1000"), Price: dec("0.005")}, {Price: dec("0.004")}}}},
		Rate{Resource: processors.NetworkTransmit, Price: dec("0.01")},
		Rate{Resource: processors.NetworkReceive, Price: dec("0.01")},
		Rate{Resource: processors.Energy, Price: dec("0.31")})
	list.TimeOfUse = &TimeOfUse{Zone: "Europe/Amsterdam", Rules: []Rule{{Slot: "peak", From: 7 * 60, To: 23 * 60}}}
	list.Discounts = []Discount{{Percent: dec("12.5")}}
	plan, err := Compile(list, "", nil)
	if err != nil {
		b.Fatal(err)
	}
	var usage []Usage
	for _, quarter := range october.Split(schema.Quarter) {
		slot := plan.SlotAt(quarter.From)
		for i := range 200 {
			usage = append(usage, Usage{Key: fmt.Sprintf("cluster/ns-%03d", i), Facts: Facts{Hardware: fmt.Sprint("h", i%3)}, Slot: slot,
				Quantities: processors.Quantities{processors.CPUUsed: 1000 + int64(i), processors.CPURequested: 5, processors.MemoryUsed: 4, processors.MemoryMax: 7,
					processors.NetworkTransmit: 3, processors.NetworkReceive: 2, processors.Energy: 9}})
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := plan.Charges(Input{Period: october, Usage: usage}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(usage))*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
