package allocation

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// TestMergedCharges: charges that are added as quantities by their price come to the sum
// of each one's cost, to the last digit, also where the quantities are beyond 64 bits,
// and where parts of them are moved. Control: at the one price of a resource they do not.
func TestMergedCharges(t *testing.T) {
	resources := []processors.Resource{processors.CPUMax, processors.CPUUsed, processors.MemoryMax, processors.Energy, processors.NodeHours, processors.VolumeClaimed.Of("fast"), processors.Extended("nvidia.com/gpu")}
	list := &fleet.PriceList{Currency: "EUR"}
	controls, huge := 0, 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 3))
		var prices []*big.Rat
		for range 1 + random.IntN(12) {
			prices = append(prices, big.NewRat(random.Int64N(1_000_000)-1000, 1+random.Int64N(1e12)))
		}
		total, first := make(map[quantity]*big.Rat), make(map[quantity]*big.Rat)
		var all []*values
		for range 1 + random.IntN(30) {
			c := query.Charges{}
			for range random.IntN(6) {
				line := query.Charge{Resource: resources[random.IntN(len(resources))], Quantity: random.Int64N(math.MaxInt64 >> random.IntN(40)), List: list, UnitPrice: prices[random.IntN(len(prices))]}
				if random.IntN(9) == 0 {
					line.Quantity = -line.Quantity
				}
				q := costOf(line.Resource)
				if total[q] == nil {
					total[q], first[q] = new(big.Rat), new(big.Rat)
				}
				total[q].Add(total[q], line.Cost())
				first[q].Add(first[q], charge{q, prices[0]}.of(line.Quantity))
				c.Lines = append(c.Lines, line)
			}
			v := new(values)
			v.take(&c, "EUR")
			all = append(all, v)
		}
		sum := new(values)
		for i, v := range all {
			if i%3 == 1 { // a part that was shared, settled or not
				v.settle()
			}
			sum.plus(v)
		}
		for q := range sum.rest {
			if sum.rest[q] != nil {
				huge++
			}
		}
		for q, want := range total {
			if got := sum.get(q); got.Cmp(want) != 0 || want.Sign() != 0 && !sum.has(q) {
				t.Fatalf("seed %d: cost %d is %s, want %s", seed, q, got, want)
			}
			if first[q].Cmp(want) != 0 {
				controls++
			}
		}
		before := sum.total()
		sum.settle()
		if after := sum.total(); after.Cmp(before) != 0 {
			t.Fatalf("seed %d: %s, and settled %s", seed, before, after)
		}
		sum.clear(costCPU)
		if sum.has(costCPU) || sum.get(costCPU).Sign() != 0 {
			t.Fatalf("seed %d: CPU is left", seed)
		}
	}
	if controls == 0 || huge == 0 {
		t.Errorf("controls: %d differ at one price, %d are beyond 64 bits", controls, huge)
	}
}
