package query

import (
	"math/big"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

// boxFixture is two minutes of box-1 with a meter, the second half open, and of
// box-2 without one.
func boxFixture(t *testing.T) *fixture {
	objects := append(edge(),
		fleet.NewObject("box-2", fleet.Box{Site: "attic"}),
		fleet.NewObject("meter-1", fleet.Meter{Box: "box-1", Driver: fleet.DriverShellyGen2, URL: "http://127.0.0.1:3"}))
	f := newFixture(t, objects...)
	energy := func(minute int, cluster, node, namespace, box string, active, idle, overhead, measured int64) influxsync.Point {
		return point(schema.EnergyMinute, at(minute), map[string]string{schema.Cluster: cluster, schema.Node: node, schema.Namespace: namespace, schema.Pod: namespace, schema.Box: box},
			map[string]int64{schema.EnergyActive: active, schema.EnergyIdle: idle, schema.EnergyOverhead: overhead, schema.EnergyMeasured: measured, schema.EnergyModelled: active})
	}
	box := func(minute int, name string, measured, model, provisional, estimated, modelled int64) influxsync.Point {
		return point(schema.BoxMinute, at(minute), map[string]string{schema.Cluster: schema.BoxCluster, schema.Box: name}, map[string]int64{
			schema.EnergyMeasured: measured, schema.MeasuredModel: model, schema.Provisional: provisional, schema.EstimatedEnergy: estimated, schema.EnergyModelled: modelled})
	}
	f.write(f.minute, []influxsync.Point{
		energy(0, "edge-a", "n1", "default", "box-1", 100, 20, 3, 123),
		energy(0, "edge-b", "n1", "default", "box-1", 50, 10, 2, 62),
		energy(0, "edge-a", "n1", schema.SystemNamespace, "box-1", 7, 0, 0, 7),
		energy(0, "edge-a", "n1", schema.UnattributedNamespace, "box-1", 1, 0, 0, 1),
		energy(0, "edge-b", "n1", schema.IdleNamespace, "box-1", 0, 40, 0, 40),
		energy(0, schema.BoxCluster, schema.BoxCluster, schema.OverheadNamespace, "box-1", 0, 0, 5, 5),
		box(0, "box-1", 238, 200, 0, 0, 200),
		energy(1, "edge-a", "n1", "default", "box-1", 90, 0, 0, 30), // a third of the minute is measured
		box(1, "box-1", 30, 31, 60, 0, 91),
		energy(0, "edge-c", "n9", "default", "box-2", 11, 22, 33, 0),
		box(0, "box-2", 0, 0, 0, 66, 66),
	})
	f.receive("edge-a", 2)
	f.receive("edge-b", 2)
	return f
}

func TestBoxes(t *testing.T) {
	f := boxFixture(t)
	answer, err := f.Boxes(f.ctx, window(0, 2))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Boxes) != 2 {
		t.Fatalf("got %d boxes, want 2", len(answer.Boxes))
	}
	attributed := func(row BoxRow) map[string]string {
		texts := make(map[string]string)
		for key, value := range row.AttributedJoules {
			texts[key] = value.String()
		}
		return texts
	}
	one := answer.Boxes[0]
	want := map[string]string{"edge-a/default": "0.153", "edge-b/default": "0.062", "edge-a/__system__": "0.007", "unattributed": "0.001", "idle": "0.04", "overhead": "0.005"}
	if diff := cmp.Diff(want, attributed(one)); diff != "" {
		t.Errorf("box-1 attributed:\n%s", diff)
	}
	if one.MeasuredJoules == nil || one.MeasuredJoules.String() != "0.268" || one.ResidualJoules.String() != "0" || one.ProvisionalJoules.String() != "0.06" ||
		one.ModelledJoules.String() != "0.231" || one.Quality != schema.Mixed || !one.MeasuredUntil.Equal(at(1)) {
		t.Errorf("box-1: got %+v", one)
	}
	if parts := one.ActiveJoules.String() + " " + one.IdleJoules.String() + " " + one.OverheadJoules.String(); parts != "0.248 0.07 0.01" {
		t.Errorf("box-1: active, idle and overhead are %s", parts)
	}
	if one.IdlePolicy != fleet.IdleRequests || answer.Boxes[1].IdlePolicy != fleet.IdleEqual { // box-1 is of two customers
		t.Errorf("idle by %q and %q", one.IdlePolicy, answer.Boxes[1].IdlePolicy)
	}
	two := answer.Boxes[1]
	if diff := cmp.Diff(map[string]string{"edge-c/default": "0.066", "unattributed": "0", "idle": "0", "overhead": "0"}, attributed(two)); diff != "" {
		t.Errorf("box-2 attributed:\n%s", diff)
	}
	if two.MeasuredJoules != nil || two.ResidualJoules != nil || two.Quality != schema.Estimated || two.ModelledJoules.String() != "0.066" {
		t.Errorf("box-2 has no meter: got %+v", two)
	}
}

// What the meter counted stands beside what was attributed: a row that is lost
// shows as a residual.
func TestResidualShowsWhatIsMissing(t *testing.T) {
	f := boxFixture(t)
	f.write(f.minute, []influxsync.Point{point(schema.EnergyMinute, at(0), map[string]string{schema.Cluster: "edge-b", schema.Node: "n1",
		schema.Namespace: schema.IdleNamespace, schema.Pod: schema.IdleNamespace, schema.Box: "box-1"}, nil)})
	answer, err := f.Boxes(f.ctx, window(0, 2))
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Boxes[0].ResidualJoules.String(); got != "0.04" {
		t.Errorf("40 mJ of idle are gone: residual %s, want 0.04", got)
	}
}

func TestExportAddsUpToUsage(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	f.apply(fleet.NewObject("prices-a", fleet.PriceList{Currency: "EUR", Customers: []string{"acme"}, Rates: []fleet.Rate{
		{Resource: "cpu_used", Price: "0.0377"}, {Resource: "memory_used", Price: "0.0041"}}}).Since(at(23)))
	export, err := f.Export(f.ctx, ExportRequest{Period: "2026-11"})
	if err != nil {
		t.Fatal(err)
	}
	got, total := make(map[string]*big.Rat), make(map[string]*big.Rat)
	quantities := make(map[string]*big.Rat)
	add := func(sums map[string]*big.Rat, key, text string) {
		value, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		if sums[key] == nil {
			sums[key] = new(big.Rat)
		}
		sums[key].Add(sums[key], value)
	}
	for _, line := range export.Lines {
		add(quantities, line.Resource, line.Quantity)
		if line.Cost == "" {
			continue
		}
		add(got, line.Customer+"/"+line.Cluster+"/"+line.Namespace, line.Cost)
		add(total, line.Currency, line.Cost)
	}
	usage := f.usage(Request{Window: "2026-11", Aggregate: []Key{Customer, Cluster, Namespace}})
	for id, row := range rowsByKey(usage) {
		want, _ := new(big.Rat).SetString(*row.Cost)
		if got[id] == nil && want.Sign() == 0 {
			continue
		}
		if got[id] == nil || got[id].Cmp(want) != 0 {
			t.Errorf("%s: lines add up to %v, usage says %s", id, got[id], *row.Cost)
		}
	}
	for _, money := range export.Totals {
		if want, _ := new(big.Rat).SetString(money.Cost); total[money.Currency].Cmp(want) != 0 {
			t.Errorf("total %s: got %s, lines add up to %s", money.Currency, money.Cost, total[money.Currency].FloatString(9))
		}
	}
	cpu := sum(podValues, schema.CPU, 0, 60, func(podID) bool { return true })
	if got, want := quantities["cpu_used"].FloatString(6), big.NewRat(cpu, 3_600_000_000).FloatString(6); got != want {
		t.Errorf("core-hours: lines add up to %s, want %s", got, want)
	}
	if got := quantities["network_receive"]; got == nil || got.Sign() == 0 {
		t.Error("traffic has no price and is not in the export; want its quantity without a cost")
	}
}
