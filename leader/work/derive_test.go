package work

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/push"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

// 60 W by the model over a quarter: 54 kJ, 15 Wh.
const quarterEnergy = 54_000_000 // mJ

func nl() fleet.Object {
	return fleet.NewObject("nl", fleet.Grid{Zone: "NL", Source: fleet.GridImported})
}

// intensity imports a value of NL for minutes of the test.
func (w *world) intensity(from, to int, milligram int64, estimated bool) int {
	w.t.Helper()
	changed, err := w.books.PutIntensities(w.t.Context(), fleet.GridImported, "NL",
		[]registry.Intensity{{At: at(from), Until: at(to), Milligram: milligram, Estimated: estimated, Origin: "test"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return changed
}

// sums adds the derived fields of rows.
func sumsOfRows(rows []influxsync.Point) map[string]int64 {
	sums := make(map[string]int64)
	for _, field := range rowFields {
		sums[field] = total(rows, field)
	}
	return sums
}

// same compares the sums of the rows of all clusters with the box's, by minute
// and by quarter, and returns them.
func (w *world) addsUp(clusters ...string) map[string]int64 {
	w.t.Helper()
	var rows []influxsync.Point
	for _, cluster := range append(clusters, schema.BoxCluster) {
		rows = append(rows, w.rows(schema.EnergyMinute, cluster, minutes(0, 15))...)
	}
	sums := sumsOfRows(rows)
	for _, table := range []schema.Table{schema.BoxMinute, schema.BoxQuarter} {
		if diff := cmp.Diff(sums, sumsOfRows(w.rows(table, schema.BoxCluster, minutes(0, 15)))); diff != "" {
			w.t.Errorf("Σ rows and %s.%s:\n%s", table.DB, table.Name, diff)
		}
	}
	var workloads []influxsync.Point
	for _, cluster := range append(clusters, schema.BoxCluster) {
		workloads = append(workloads, w.rows(schema.UsageQuarter, cluster, minutes(0, 15))...)
	}
	if diff := cmp.Diff(sums, sumsOfRows(workloads)); diff != "" {
		w.t.Errorf("Σ rows and usage:\n%s", diff)
	}
	return sums
}

// TestCarbonOfRows: the intensity of a quarter, a contract and the making of the
// node, each a figure of its own, in rows, box and usage alike.
func TestCarbonOfRows(t *testing.T) {
	objects := append(rackedFleet(), nl(), fleet.NewObject("wind", fleet.EnergyContract{Binding: fleet.Binding{Boxes: []string{"rack"}}, GramsPerKWh: "12.5", Instrument: "ppa"}))
	objects[2].Spec = fleet.Hardware{Cores: 10, IdleWatts: 10, MaxWatts: 110, EmbodiedKg: 1577.88, LifetimeYears: 5}
	w := newWorld(t, Config{}, objects...)
	w.intensity(0, 10, 300_000, false)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(17))
	w.tick()
	got := w.addsUp("a")
	want := map[string]int64{schema.Heat: quarterEnergy, schema.CarbonLocation: 36_000_000*300_000/3_600_000 + 18_000_000*252_700/3_600_000,
		schema.CarbonLocationEnergy: quarterEnergy, schema.CarbonEstimatedEnergy: 18_000_000, // the yearly mean's
		schema.CarbonMarket: quarterEnergy * 12_500 / 3_600_000, schema.CarbonMarketEnergy: quarterEnergy, schema.CarbonEmbodied: 9_000_000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
	pods := sumBy(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), schema.Pod, schema.CarbonEmbodied)
	if pods["p1"] != 900_000 || pods["p2"] != 3_600_000 || pods[schema.IdleNamespace] != 4_500_000 { // they requested 10% and 40%
		t.Errorf("embodied by pod: %v", pods)
	}
	box := w.rows(schema.BoxQuarter, schema.BoxCluster, minutes(0, 15))
	for _, row := range w.rows(schema.EnergyMinute, "a", minutes(0, 15)) {
		source, told := row.Field(schema.CarbonSource)
		if idle := row.Tag(schema.Namespace) == schema.IdleNamespace; told != idle || idle && source.Str() != "Ember yearly mean of NL, 2024; test" {
			t.Fatalf("namespace %s: the cluster is told %q, want the grid's sources beside idle, and no contract", row.Tag(schema.Namespace), source.Str())
		}
	}
	if source, _ := box[0].Field(schema.CarbonSource); source.Str() != "Ember yearly mean of NL, 2024; contract wind (ppa); test" {
		t.Errorf("sources: %q", source.Str())
	}
}

// TestIntensityMakesCarbonDue: a value that comes, or is revised, makes carbon
// due and nothing else; the same one again nothing at all; the energy stays.
func TestIntensityMakesCarbonDue(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), nl(), fleet.NewObject("de", fleet.Grid{Zone: "DE", Source: fleet.GridImported, Binding: fleet.Binding{Regions: []string{"east"}}}))...)
	w.settle("a", "n1", minutes(0, 30), twoPods...)
	w.clk.Set(at(32))
	w.tick()
	if due := w.due(); len(due) != 0 {
		t.Fatalf("due: %v", due)
	}
	energy := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), energyFields...)
	for i, c := range []struct {
		from, to  int
		milligram int64
		estimated bool
		due       map[string]int
	}{
		{0, 15, 300_000, true, map[string]int{registry.ProcessorCarbon: 1}},
		{0, 15, 300_000, true, map[string]int{}},
		{0, 15, 310_000, false, map[string]int{registry.ProcessorCarbon: 1}},
		{0, 60, 310_000, false, map[string]int{registry.ProcessorCarbon: 2}},
		{45, 60, 1, false, map[string]int{}}, // nothing was computed there
	} {
		w.intensity(c.from, c.to, c.milligram, c.estimated)
		if diff := cmp.Diff(c.due, w.due()); diff != "" {
			t.Errorf("value %d makes due:\n%s", i, diff)
		}
		w.tick()
		if got, want := w.addsUp("a")[schema.CarbonLocation], quarterEnergy*c.milligram/3_600_000; i < 4 && got != want {
			t.Errorf("value %d: %d µg, want %d", i, got, want)
		}
	}
	if got := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), energyFields...); got != energy {
		t.Errorf("energy became %d, was %d", got, energy)
	}
	before := w.written()
	w.apply(fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1", Region: "east"}).Since(at(0)))
	if due := w.due(); len(due) != 2 || due[registry.ProcessorCarbon] != 3 || due[registry.ProcessorCost] != 3 { // quarters since its first, the running one too; a price may be one of a region
		t.Errorf("a region makes due %v", due)
	}
	w.tick()
	if got, want := w.addsUp("a")[schema.CarbonLocation], int64(quarterEnergy)*342_060/3_600_000; got != want {
		t.Errorf("in DE: %d µg, want %d", got, want)
	}
	if after := w.written(); after["minute.energy/a"] != before["minute.energy/a"]+30 {
		t.Errorf("%d minutes were revised", after["minute.energy/a"]-before["minute.energy/a"])
	}
}

// Without a grid no gram is known, and a node in no box has its cluster's.
func TestNoGrid(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), fleet.NewObject("b", fleet.Cluster{URL: "http://127.0.0.1:3"}))...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.settle("b", "stray", minutes(0, 15), twoPods...)
	w.clk.Set(at(17))
	w.tick()
	both := func() []influxsync.Point {
		return append(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), w.rows(schema.EnergyMinute, "b", minutes(0, 15))...)
	}
	rows := both()
	if total(rows, schema.CarbonLocation, schema.CarbonLocationEnergy, schema.CarbonMarketEnergy) != 0 || total(rows, schema.Heat) != total(rows, energyFields...) {
		t.Error("grams without a grid")
	}
	w.apply(fleet.NewObject("nl", fleet.Grid{Zone: "NL", Binding: fleet.Binding{Clusters: []string{"a", "b"}}}).Since(at(0)))
	w.tick()
	rows = both()
	for _, node := range []string{"n1", "stray"} {
		if energy, known := sumBy(rows, schema.Node, energyFields...)[node], sumBy(rows, schema.Node, schema.CarbonLocationEnergy)[node]; energy == 0 || energy != known {
			t.Errorf("%s: grams of %d of %d mJ", node, known, energy)
		}
	}
}

const canaryTemperature = 45_678_912 // µ°C: no other number is it

// pushHeat stores a reading each half minute.
func (w *world) pushHeat(source string, from, to int, supply, flow int64) {
	w.t.Helper()
	var list []processors.HeatReading
	for when := at(from); !when.After(at(to)); when = when.Add(30 * time.Second) {
		known := func(v int64) processors.Value { return processors.Value{Micro: v, Known: true} }
		list = append(list, processors.HeatReading{Time: when, Supply: known(supply), Return: known(40_678_912), Flow: known(flow)})
	}
	if err := w.books.PutHeatReadings(w.t.Context(), source, "rack", time.Minute, list); err != nil {
		w.t.Fatal(err)
	}
}

func heated(household string) fleet.Object {
	return fleet.NewObject("tank", fleet.HeatSource{Box: "rack", Household: household, Method: fleet.HeatTemperatures, Period: fleet.Duration(30 * time.Second)})
}

// days are the sums of a source by day.
func (w *world) days() []registry.HeatDay {
	w.t.Helper()
	days, err := w.books.HeatDays(w.t.Context(), schema.Window{From: start.Truncate(24 * time.Hour), To: start.Truncate(24 * time.Hour).Add(24 * time.Hour)})
	if err != nil {
		w.t.Fatal(err)
	}
	return days
}

// TestUsefulHeat: readings make heat due; of a building's source it stands in
// the box's rows, and what it avoids beside the grams, never in them.
func TestUsefulHeat(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), nl(), heated(""))...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(17))
	w.tick()
	before := w.addsUp("a")
	w.pushHeat("tank", 0, 10, canaryTemperature, 100_000) // 0.1 l/min · 5 K: 34.89 W
	if diff := cmp.Diff(map[string]int{registry.ProcessorHeat: 2}, w.due()); diff != "" {
		t.Errorf("readings make due:\n%s", diff)
	}
	w.tick()
	const useful = 20_934_000
	for _, table := range []schema.Table{schema.BoxMinute, schema.BoxQuarter} {
		rows := w.rows(table, schema.BoxCluster, minutes(0, 15))
		if got, avoided := total(rows, schema.UsefulHeat), total(rows, schema.CarbonAvoided); got != useful || avoided != useful*202_000/3_600_000 {
			t.Errorf("%s.%s: useful %d mJ, avoided %d µg", table.DB, table.Name, got, avoided)
		}
	}
	if diff := cmp.Diff(before, w.addsUp("a")); diff != "" {
		t.Errorf("useful heat changed the rows:\n%s", diff)
	}
	days := w.days()
	if len(days) != 1 || days[0].Useful != useful || days[0].Avoided != useful*202_000/3_600_000 || days[0].Covered != 10*time.Minute || days[0].Gap != 5*time.Minute ||
		days[0].Implausible != 0 || days[0].Reference != "gas_boiler, 0.202 kg/kWh, efficiency 1.0" {
		t.Errorf("days: %+v", days)
	}
	w.pushHeat("tank", 0, 15, canaryTemperature, 2_000_000) // 698 W of 60
	w.tick()
	if days = w.days(); days[0].Implausible != 1 {
		t.Errorf("12 times what was produced: %+v", days[0])
	}
}

// TestHouseholdHeat: a household's heat is in no row but its day's, and no
// temperature is anywhere but in the readings. The control: without a household
// the box's rows have it.
func TestHouseholdHeat(t *testing.T) {
	for _, household := range []string{"h-canary-1", ""} {
		w := newWorld(t, Config{}, append(rackedFleet(), nl(), heated(household))...)
		w.settle("a", "n1", minutes(0, 15), twoPods...)
		w.clk.Set(at(17))
		w.pushHeat("tank", 0, 15, canaryTemperature, 100_000)
		w.tick()
		box := append(w.rows(schema.BoxMinute, schema.BoxCluster, minutes(0, 15)), w.rows(schema.BoxQuarter, schema.BoxCluster, minutes(0, 15))...)
		if told := total(box, schema.UsefulHeat, schema.CarbonAvoided) > 0; told != (household == "") {
			t.Errorf("household %q: the box's rows tell of useful heat: %v", household, told)
		}
		if days := w.days(); len(days) != 1 || days[0].Useful != 31_401_000 || days[0].Household != household {
			t.Errorf("days: %+v", days)
		}
		quarters, err := w.books.HeatQuarters(t.Context(), "rack", minutes(0, 15))
		if err != nil || len(quarters) != 1 || (quarters[0].Minutes == nil) != (household != "") {
			t.Errorf("quarters: %+v %v", quarters, err)
		}
		follower := w.follower("a")
		if _, err := push.New(w.books, w.server).Push(t.Context(), "a", follower.Store); err != nil {
			t.Fatal(err)
		}
		told := dump(t, follower.Store, schema.ResultsDB) + dump(t, w.server, schema.MinuteDB) + dump(t, w.server, schema.QuarterDB)
		for _, canary := range []string{fmt.Sprint(canaryTemperature), "45678", "40678912", "h-canary-1", "tank"} {
			if strings.Contains(told, canary) {
				t.Errorf("%q is told", canary)
			}
		}
		if results := dump(t, follower.Store, schema.ResultsDB); !strings.Contains(results, schema.CarbonLocation) || !strings.Contains(results, schema.Heat) ||
			strings.Contains(results, schema.UsefulHeat) || strings.Contains(results, schema.CarbonAvoided) {
			t.Error("a cluster gets its pods' grams and heat, and no useful heat")
		}
	}
}

// dump is everything in a database as text.
func dump(t *testing.T, server *influxsync.Server, name string) string {
	t.Helper()
	var text bytes.Buffer
	for _, table := range []schema.Table{schema.EnergyMinute, schema.BoxMinute, schema.UsageQuarter, schema.CostQuarter} {
		err := server.Database(name).TimeQuery(t.Context(), table.Name, minutes(-60, 60), nil, func(p influxsync.Point) error {
			_, err := fmt.Fprintf(&text, "%v\n", p)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// TestFinalHeat: after three days the readings are gone, and a household's
// quarters a day later. What was found stays, also where power comes again.
func TestFinalHeat(t *testing.T) {
	for _, household := range []string{"h-1", ""} {
		w := newWorld(t, Config{}, append(rackedFleet(), nl(), heated(household))...)
		w.settle("a", "n1", minutes(0, 15), twoPods...)
		w.clk.Set(at(17))
		w.pushHeat("tank", 0, 15, canaryTemperature, 100_000)
		w.tick()
		before := w.days()
		useful := total(w.rows(schema.BoxMinute, schema.BoxCluster, minutes(0, 15)), schema.UsefulHeat)
		count := func() (readings, quarters int) {
			list, err := w.books.HeatReadings(t.Context(), "tank", minutes(-60, 60))
			kept, err2 := w.books.HeatQuarters(t.Context(), "rack", minutes(0, 15))
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			return len(list), len(kept)
		}
		purge := func(now time.Time) {
			w.clk.Set(now)
			if _, err := w.books.PurgeHeat(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		purge(at(0).Add(registry.HeatReadingLife))
		if readings, _ := count(); readings != 31 {
			t.Errorf("%d readings after 72 h, want all 31", readings)
		}
		for _, now := range []time.Time{at(15).Add(registry.HeatReadingLife + time.Second), start.Truncate(24 * time.Hour).Add(registry.HeatReadingLife + 24*time.Hour + time.Second)} {
			purge(now)
			if readings, _ := count(); readings != 0 {
				t.Errorf("%d readings are left", readings)
			}
			watts := 120 + float64(now.Day())
			w.apply(fleet.NewObject("server", fleet.Hardware{Cores: 10, IdleWatts: 10, MaxWatts: watts}).Since(at(0)).Until(at(15))) // power again
			w.tick()
			if diff := cmp.Diff(before, w.days()); diff != "" {
				t.Errorf("household %q, %s: the day became:\n%s", household, now, diff)
			}
			if got := total(w.rows(schema.BoxMinute, schema.BoxCluster, minutes(0, 15)), schema.UsefulHeat); got != useful {
				t.Errorf("household %q, %s: useful %d, was %d", household, now, got, useful)
			}
		}
		if _, quarters := count(); (quarters == 0) != (household != "") {
			t.Errorf("household %q: %d quarters are left", household, quarters)
		}
	}
}

// TestDerivedFailure: what carbon cannot compute holds up no energy. It stays due.
func TestDerivedFailure(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), nl())...)
	broken := &boxRows{energy: map[string][]influxsync.Point{"a": {influxsync.NewPoint(schema.EnergyMinute.Name, map[string]string{schema.Cluster: "a"},
		map[string]influxsync.Value{schema.EnergyActive: influxsync.Int(-1)}, at(0))}}}
	_, err := w.derive(t.Context(), "rack", minutes(0, 15), nil, broken)
	due := derivedFor(registry.Due{Scope: "rack", Quarter: at(0)}, err)
	if err == nil || len(due) != 2 {
		t.Fatalf("%v, due %v", err, due)
	}
	if row := broken.energy["a"][0]; len(row.Fields) != 1+len(rowFields) || row.Int(schema.Heat) != 0 {
		t.Errorf("the row has not every field: %v", row)
	}
	if err := w.books.AddDue(context.Background(), due...); err != nil {
		t.Error(err)
	}
}

// A source that was never the box's leaves nothing there.
func TestSourceMoves(t *testing.T) {
	w := newWorld(t, Config{}, append(rackedFleet(), nl(), heated(""), fleet.NewObject("other", fleet.Box{}))...)
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(17))
	w.pushHeat("tank", 0, 15, canaryTemperature, 100_000)
	w.tick()
	w.apply(fleet.NewObject("tank", fleet.HeatSource{Box: "other", Method: fleet.HeatTemperatures, Period: fleet.Duration(30 * time.Second)}).Since(at(0).Add(-time.Hour)))
	w.tick()
	if got := total(w.rows(schema.BoxMinute, schema.BoxCluster, minutes(0, 15)), schema.UsefulHeat); got != 0 {
		t.Errorf("the box has %d mJ still", got)
	}
	var useful int64
	for _, day := range w.days() {
		useful += day.Useful
	}
	if useful != 0 && useful != 31_401_000 { // the other box has no cluster: its quarters come with its readings
		t.Errorf("the day has %d mJ", useful)
	}
}
