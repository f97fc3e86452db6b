package work

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

// TestChain: one node at 60 W for a quarter, two pods. Per minute the model says
// 3,600 J: 600 J idle, shared equally, and 3,000 J by CPU time, one to two.
func TestChain(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(15))
	w.tick()
	energy := w.rows(schema.EnergyMinute, "a", minutes(0, 15))
	want := map[string]int64{"p1": 15 * 1_000_000, "p2": 15 * 2_000_000}
	if got := sumBy(energy, schema.Pod, schema.EnergyActive); !maps.Equal(got, want) {
		t.Errorf("active by pod: %v, want %v", got, want)
	}
	want = map[string]int64{"p1": 15 * 300_000, "p2": 15 * 300_000}
	if got := sumBy(energy, schema.Pod, schema.EnergyIdle); !maps.Equal(got, want) {
		t.Errorf("idle by pod: %v, want %v", got, want)
	}
	usage := w.rows(schema.UsageQuarter, "a", minutes(0, 15))
	want = map[string]int64{"web": 19_500_000, "db": 34_500_000}
	if got := sumBy(usage, schema.Namespace, energyFields...); !maps.Equal(got, want) {
		t.Errorf("energy in usage: %v, want %v", got, want)
	}
	want = map[string]int64{"web": 1_500_000_000, "db": 3_000_000_000}
	if got := sumBy(usage, schema.Namespace, schema.CPU); !maps.Equal(got, want) {
		t.Errorf("CPU in usage: %v, want %v", got, want)
	}
	cost := w.rows(schema.CostQuarter, "a", minutes(0, 15))
	want = map[string]int64{"web": 1_500_000_000 + 1_950_000, "db": 3_000_000_000 + 3_450_000}
	if got := sumBy(cost, schema.Namespace, schema.CostNanos); !maps.Equal(got, want) {
		t.Errorf("cost in nanos: %v, want %v", got, want)
	}
	if got := total(w.rows(schema.BoxQuarter, schema.BoxCluster, minutes(0, 15)), schema.EnergyModelled); got != 54_000_000 {
		t.Errorf("the box's model says %d mJ, want 54,000,000", got)
	}
	if got := w.rows(schema.CostQuarter, schema.BoxCluster, minutes(0, 15)); len(got) != 0 {
		t.Errorf("a box was given a cost: %v", got)
	}
	for _, row := range energy {
		if quality, _ := row.Field(schema.Quality); quality.Str() != schema.Estimated {
			t.Fatalf("without a meter the quality is %q", quality.Str())
		}
		if box := row.Tag(schema.Box); box == "rack" || !strings.HasPrefix(box, "box-") {
			t.Fatalf("a cluster's row names the box %q", box)
		}
	}
}

// TestSameInputs: what is due again without a change writes nothing.
func TestSameInputs(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(15))
	w.tick()
	before := w.written()
	w.again("a", "rack")
	w.tick()
	if diff := cmp.Diff(before, w.written()); diff != "" {
		t.Errorf("the same inputs wrote (-first +second):\n%s", diff)
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("still due: %v", due)
	}
	// Control: the count sees a change.
	w.settle("a", "n1", minutes(3, 4), pod{"web", "p1", 101, 60}, twoPods[1])
	w.tick()
	if maps.Equal(before, w.written()) {
		t.Error("control: a changed minute wrote nothing")
	}
}

// again makes the first quarter's work due once more.
func (w *world) again(cluster, box string) {
	w.t.Helper()
	err := w.books.AddDue(w.t.Context(), registry.Due{Processor: registry.ProcessorPower, Scope: box, Quarter: start, Reason: "again"},
		registry.Due{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: start, Reason: "again"},
		registry.Due{Processor: registry.ProcessorCost, Scope: cluster, Quarter: start, Reason: "again"})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestLateMinutes: a revision corrects all that followed from the minute.
func TestLateMinutes(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(40))
	w.tick()
	// p1 had used twice as much in minute 7, and p2 was not there: the node was at 20 cores·s of 600.
	w.settle("a", "n1", minutes(7, 8), pod{"web", "p1", 200, 60})
	w.tick()
	usage := w.rows(schema.UsageQuarter, "a", minutes(0, 15))
	want := map[string]int64{"web": 1_600_000_000, "db": 2_800_000_000}
	if got := sumBy(usage, schema.Namespace, schema.CPU); !maps.Equal(got, want) {
		t.Errorf("CPU: %v, want %v", got, want)
	}
	// Minute 7: 10 W + 100 W/3 = 43.333300 W by millionths of utilisation.
	energy := total(w.rows(schema.EnergyMinute, "a", minutes(7, 8)), energyFields...)
	if want := int64(2_599_998); energy != want {
		t.Errorf("energy of the late minute: %d mJ, want %d", energy, want)
	}
	want = map[string]int64{"p1": energy}
	if got := sumBy(w.rows(schema.EnergyMinute, "a", minutes(7, 8)), schema.Pod, energyFields...); !maps.Equal(got, want) {
		t.Errorf("energy by pod: %v, want %v", got, want)
	}
	cost := sumBy(w.rows(schema.CostQuarter, "a", minutes(0, 15)), schema.Resource, schema.CostNanos)
	if want := int64(4_400_000_000); cost["cpu_used"] != want {
		t.Errorf("cost of CPU: %d, want %d", cost["cpu_used"], want)
	}
}

// TestPriceChange: only cost is computed again, and says which version it is of.
func TestPriceChange(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(15))
	w.tick()
	before := w.written()
	w.apply(fleet.NewObject("list", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "7.2"}}}).Since(at(0)))
	if diff := cmp.Diff(map[string]int{registry.ProcessorCost: 1}, w.due()); diff != "" {
		t.Errorf("due after a price change (-want +got):\n%s", diff)
	}
	w.tick()
	before["quarter.cost/a"]++
	if diff := cmp.Diff(before, w.written()); diff != "" {
		t.Errorf("journal entries (-want +got):\n%s", diff)
	}
	rows := w.rows(schema.CostQuarter, "a", minutes(0, 15))
	want := map[string]int64{"cpu_used": 9_000_000_000} // what has no price any more is zero
	if got := sumBy(rows, schema.Resource, schema.CostNanos); !maps.Equal(got, want) {
		t.Errorf("cost: %v, want %v", got, want)
	}
	for _, row := range rows {
		version, _ := row.Field(schema.PriceVersion)
		if row.Int(schema.CostNanos) != 0 && version.Str() != "list@2026-11-23T10:00:00Z" {
			t.Errorf("price version %q, want the list with its beginning", version.Str())
		}
	}
}

// TestFailingScope: a box whose node stands in it twice at one time holds back
// itself alone.
func TestFailingScope(t *testing.T) {
	objects := append(rackedFleet(), fleet.NewObject("other", fleet.Box{}),
		fleet.NewObject("a.n2", fleet.Node{Cluster: "a", Node: "n2", Box: "other", Hardware: "server"}), meterObject())
	w := newWorld(t, Config{}, objects...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(15))
	w.meter("rack", "plug", minutes(0, 15), 7_200_000, 1000)
	// A row between minutes contradicts itself.
	w.foreign(halfMinute("n1"))
	w.pullAll()
	if err := w.books.AddDue(t.Context(), registry.Due{Processor: registry.ProcessorPower, Scope: "other", Quarter: start, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	err := w.Run(t.Context())
	if !errors.Is(err, processors.ErrInput) || !strings.Contains(err.Error(), "power of rack") {
		t.Errorf("Run says %v, want the box rack's contradiction", err)
	}
	list, err := w.books.Due(t.Context(), registry.ProcessorPower, 0)
	if err != nil {
		t.Fatal(err)
	}
	still := make(map[string]bool)
	for _, d := range list {
		still[d.Scope] = true
	}
	if !still["rack"] {
		t.Error("the failing box is not due any more")
	}
	if got := len(w.rows(schema.UsageQuarter, "a", minutes(0, 15))); got == 0 {
		t.Error("usage was held back")
	}
	if fingerprint, err := w.books.Fingerprint(t.Context(), registry.ProcessorPower, "other", start); err != nil || fingerprint == "" {
		t.Errorf("the other box was held back: %q, %v", fingerprint, err)
	}
}

// halfMinute is a row at half a minute, which no meter writes.
func halfMinute(node string) influxsync.Point {
	return influxsync.NewPoint(schema.NodeMinute.Name, map[string]string{schema.Cluster: "a", schema.Node: node},
		map[string]influxsync.Value{schema.CPU: influxsync.Int(1), schema.Uptime: influxsync.Int(1)}, at(3).Add(30*time.Second))
}

func (w *world) foreign(rows ...influxsync.Point) {
	w.t.Helper()
	if err := w.server.Database(schema.MinuteDB).Write(w.t.Context(), rows); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pullAll() {
	w.t.Helper()
	for cluster, follower := range w.followers {
		if _, err := w.puller.Pull(w.t.Context(), cluster, follower.Store); err != nil {
			w.t.Logf("pull %s: %v", cluster, err)
		}
	}
}

// TestPlacesSeriesAndCost: a rate for some hardware, a dynamic price that comes
// late; what the operator pays is in no row, since the rows go to the cluster.
func TestPlacesSeriesAndCost(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	w.apply(fleet.NewObject("list", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{
		{Resource: "cpu_used", Price: "7.2"}, {Resource: "cpu_used", Match: &fleet.PriceMatch{Hardware: "server"}, Price: "3.6", Cost: "1.8"},
		{Resource: "node_hours", Dynamic: &fleet.DynamicPrice{Series: "spot"}}}}))
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(15))
	w.tick()
	costs := func() map[string]int64 {
		rows := w.rows(schema.CostQuarter, "a", minutes(0, 15))
		for _, row := range rows {
			if row.Tag(schema.PriceKind) != string(processors.Sale) {
				t.Errorf("what is pushed to the cluster has a price of kind %s", row.Tag(schema.PriceKind))
			}
		}
		return sumBy(rows, schema.Resource, schema.CostNanos)
	}
	before := costs()
	if before["cpu_used"] != 4_500_000_000 || before["node_hours"] != 0 {
		t.Errorf("cost by the hardware's rate: %v", before)
	}
	one := apd.New(1, 0)
	if n, err := w.registry.PutPrices(t.Context(), "spot", "test", []registry.PriceSlot{{From: at(0), To: at(30), Value: one}}); err != nil || n != 2 {
		t.Fatalf("stored %d, %v", n, err)
	}
	if diff := cmp.Diff(map[string]int{registry.ProcessorCost: 1}, w.due()); diff != "" {
		t.Errorf("due after a price has come (-want +got):\n%s", diff)
	}
	w.tick()
	if after := costs(); after["node_hours"] != 250_000_000 || after["cpu_used"] != before["cpu_used"] {
		t.Errorf("with the price: %v", after)
	}
	if n, err := w.registry.PutPrices(t.Context(), "spot", "test", []registry.PriceSlot{{From: at(0), To: at(30), Value: one}}); err != nil || n != 0 || len(w.due()) > 0 {
		t.Errorf("the same again: %d changed, due %v, %v", n, w.due(), err)
	}
}
