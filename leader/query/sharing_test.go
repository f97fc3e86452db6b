package query

import (
	"math/rand/v2"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
)

// TestSharingKeepsEveryUnit: whatever is shared, by whichever policy, what all cells
// have is what was there with what the nodes had left.
func TestSharingKeepsEveryUnit(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 12))
	policies := []string{fleet.IdleEqual, fleet.IdleRequests, fleet.IdleUsage, fleet.IdleNone}
	at := dayStart
	carried, controlled := 0, false
	for range 300 {
		list := fleet.PriceList{Name: "l", Share: []fleet.Sharing{{Of: fleet.ShareIdle, Policy: policies[random.IntN(4)]}, {Of: fleet.ShareMetering, Policy: policies[random.IntN(4)]},
			{Of: fleet.ShareNamespaces, Namespaces: []string{"ingress*"}, Policy: policies[random.IntN(4)]}}}
		s := &sharing{list: list, metering: []string{"accumulus"}, owner: fleet.Cluster{Customer: "acme"}, carriers: make(map[string]*carrier), capacity: map[string]allocatable{"": {1 << 40, 1 << 40}, "arm": {1 << 38, 1 << 38}}}
		before := make(processors.Quantities)
		var energy int64
		for i, namespace := range []string{"accumulus", "ingress-a", "ingress-b", "shop", "blog", "__system__", "shop"} {
			cell := Cell{From: at, To: at.Add(schema.Quarter), Customer: []string{"acme", "globex"}[i%2], Namespace: namespace, Hardware: []string{"", "arm"}[random.IntN(2)], Uptime: random.Int64N(900_000),
				Quantities: processors.Quantities{processors.CPUUsed: random.Int64N(1 << 36), processors.CPURequested: random.Int64N(1 << 36), processors.MemoryRequested: random.Int64N(1 << 36), processors.Energy: random.Int64N(1 << 30)}}
			cell.EnergyMeasured = cell.Quantities[processors.Energy] / 2
			energy += cell.EnergyMeasured
			for resource, quantity := range cell.Quantities {
				before[resource] += quantity
			}
			s.cells = append(s.cells, cell)
		}
		for _, cell := range s.idle() {
			for resource, quantity := range cell.Quantities {
				before[resource] += quantity
			}
		}
		made, err := s.apply()
		if err != nil {
			t.Fatal(err)
		}
		sums, kept := make(processors.Quantities), make(processors.Quantities)
		for _, cell := range made {
			energy -= cell.EnergyMeasured
			for resource, quantity := range cell.Quantities {
				sums[resource] += quantity
				if cell.Origin == "" {
					kept[resource] += quantity
				}
				if cell.Origin != "" && (cell.Namespace == "accumulus" || cell.Namespace == "__system__" || cell.Namespace == "ingress-a") {
					t.Errorf("%s carries a part of %s", cell.Namespace, cell.Origin)
				}
			}
			if cell.Origin != "" {
				carried++
			}
		}
		for resource, want := range before {
			if sums[resource] != want {
				t.Errorf("%v: %s is %d, and was %d", list.Share, resource, sums[resource], want)
			}
			controlled = controlled || kept[resource] != want // Control: without the carried parts they do not add up
		}
		if energy != 0 {
			t.Errorf("measured energy differs by %d", energy)
		}
	}
	if carried == 0 || !controlled {
		t.Error("nothing is carried: the test sees nothing")
	}
}
