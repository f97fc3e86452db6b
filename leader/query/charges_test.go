package query

import (
	"math/big"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// TestCharges: cut by the hour, the exact charges add up to what the export of the
// whole says, and a sector is complete when its work is done.
func TestCharges(t *testing.T) {
	f := newFixture(t, edge()...)
	pods := []podID{{cluster: "edge-a", node: "n1", namespace: "shop", pod: "web-1", workload: "web", box: "box-1"}, {cluster: "edge-a", node: "n1", namespace: "db", pod: "db-1", box: "box-1"}}
	f.receive("edge-a", 120)
	f.fill(pods, 0, 120)
	f.coarsen(pods, 0, 8)
	keys := []Key{Customer, Cluster, Namespace}
	charges, err := f.Charges(f.ctx, ChargeRequest{Window: schema.Window{From: at(0), To: at(120)}, Step: time.Hour, Aggregate: keys, Figures: true})
	if err != nil {
		t.Fatal(err)
	}
	costs, quantities, priced := make(map[string]*big.Rat), make(map[string]*big.Rat), 0
	hours := make(map[time.Time]bool)
	for _, c := range charges {
		hours[c.Row.From] = true
		if c.Row.To.Sub(c.Row.From) != time.Hour {
			t.Errorf("a step from %s to %s", c.Row.From, c.Row.To)
		}
		if energy, _ := c.Row.Sums.Energy(); energy > 0 && !c.HeatKnown {
			t.Errorf("%v has energy and no heat", c.Row.Key)
		}
		for _, line := range c.Lines {
			addTo(quantities, string(line.Resource), big.NewRat(line.Quantity, line.Resource.Base()))
			if line.List != nil {
				addTo(costs, line.List.Currency, line.Cost())
				priced++
			}
		}
	}
	export, err := f.Export(f.ctx, ExportRequest{Period: window(0, 120)})
	if err != nil || len(hours) != 2 || len(export.Totals) != 1 {
		t.Fatal(err, hours, export.Totals)
	}
	want := make(map[string]*big.Rat)
	for _, line := range export.Lines {
		quantity, _ := new(big.Rat).SetString(line.Quantity)
		addTo(want, line.Resource, quantity)
	}
	for resource, quantity := range want {
		difference := new(big.Rat).Sub(quantity, quantities[resource])
		if difference.Abs(difference).Cmp(big.NewRat(int64(len(export.Lines)), 1e9)) > 0 {
			t.Errorf("%s: %s by the hour, %s in the export", resource, quantities[resource].FloatString(9), quantity.FloatString(9))
		}
	}
	for _, total := range export.Totals {
		if got := usage.Moneys(costs); len(got) != 1 || priced == 0 || got[0] != total {
			t.Errorf("cost %v by the hour, %v in the export", got, total)
		}
	}
	sectors, err := f.Sectors(f.ctx, schema.Window{From: at(0), To: at(180)}, time.Hour)
	if err != nil || len(sectors) != 3 || sectors[2].Complete {
		t.Fatalf("%v, %+v", err, sectors)
	}
	for _, sector := range sectors[:2] {
		if sector.Updated.IsZero() {
			t.Errorf("nothing came of %s", sector.Window)
		}
	}
}

func addTo(sums map[string]*big.Rat, key string, more *big.Rat) {
	if sums[key] == nil {
		sums[key] = new(big.Rat)
	}
	sums[key].Add(sums[key], more)
}
