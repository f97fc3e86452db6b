package work

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// siteFleet is two boxes at a site, each with a node of a cluster of its own, and
// one meter for both.
func siteFleet() []fleet.Object {
	return []fleet.Object{
		fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"}), fleet.NewObject("b", fleet.Cluster{URL: "http://127.0.0.1:2"}),
		fleet.NewObject("rack", fleet.Box{Site: "hall"}), fleet.NewObject("shelf", fleet.Box{Site: "hall"}), fleet.NewObject("far", fleet.Box{Site: "elsewhere"}),
		fleet.NewObject("server", fleet.Hardware{Cores: 10, IdleWatts: 10, MaxWatts: 110}),
		fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1", Box: "rack", Hardware: "server"}),
		fleet.NewObject("b.n2", fleet.Node{Cluster: "b", Node: "n2", Box: "shelf", Hardware: "server"}),
		fleet.NewObject("mains", fleet.Meter{Site: "hall", Driver: fleet.DriverPush}),
	}
}

// TestMeterOfASite: the boxes of a site share what its meter counted, as their models
// say; together it is the meter to the millijoule. A cluster that comes late makes
// both boxes due again.
func TestMeterOfASite(t *testing.T) {
	w := newWorld(t, Config{}, siteFleet()...)
	const perMinute = 7_000_001
	w.meter("site/hall", "mains", minutes(0, 20), perMinute, 1000)
	w.settle("a", "n1", minutes(0, 20), twoPods...) // 60 W
	w.settle("b", "n2", minutes(0, 5))              // 10 W; then it falls silent
	w.clk.Set(at(21))
	w.tick()
	sums := func() (rack, shelf int64) {
		w.t.Helper()
		in := minutes(0, 15)
		return total(w.rows(schema.EnergyMinute, "a", in), schema.EnergyMeasured), total(w.rows(schema.EnergyMinute, "b", in), schema.EnergyMeasured)
	}
	w.clk.Set(at(21).Add(2 * time.Hour)) // it is given up
	w.tick()
	rack, shelf := sums()
	if rack+shelf != 15*perMinute || rack < 14*perMinute {
		t.Fatalf("while b is silent: rack %d, shelf %d mJ; want together %d, nearly all of it rack's", rack, shelf, 15*perMinute)
	}
	w.settle("b", "n2", minutes(5, 20))
	w.tick()
	rack, shelf = sums()
	if rack+shelf != 15*perMinute {
		t.Errorf("rack %d and shelf %d mJ are %d, the meter counted %d", rack, shelf, rack+shelf, 15*perMinute)
	}
	if off := rack - 15*perMinute/7*6; off < -15 || off > 15 {
		t.Errorf("rack has %d mJ, want 60 W of 70: %d", rack, 15*perMinute/7*6)
	}
	if due := w.due(); due[registry.ProcessorPower] > 1 { // the running quarter
		t.Errorf("due: %v", due)
	}
}

// TestBoxWithAMeterWithinASite: what the site's meter counted beyond the box's own is
// the other box's, to the millijoule, also over a time in which the box's meter was
// silent, once it has come back.
func TestBoxWithAMeterWithinASite(t *testing.T) {
	w := newWorld(t, Config{}, append(siteFleet(), fleet.NewObject("plug", fleet.Meter{Box: "rack", Driver: fleet.DriverPush}))...)
	const all, own = 10_000_003, 7_000_001 // a minute
	w.settle("a", "n1", minutes(0, 80), twoPods...)
	w.settle("b", "n2", minutes(0, 80))
	w.meter("site/hall", "mains", minutes(0, 80), all, 1000)
	w.meter("rack", "plug", minutes(0, 10), own, 1000)
	sums := func(from, to int) (rack, shelf, shelfAll int64) {
		t.Helper()
		in := minutes(from, to)
		return total(w.rows(schema.EnergyMinute, "a", in), schema.EnergyMeasured), total(w.rows(schema.EnergyMinute, "b", in), schema.EnergyMeasured),
			total(w.rows(schema.EnergyMinute, "b", in), energyFields...)
	}
	w.clk.Set(at(81))
	w.tick()
	if rack, shelf, _ := sums(0, 9); rack != 9*own || shelf != 9*(all-own) { // the last reading bounds an interval once another follows
		t.Errorf("rack has %d mJ and shelf %d, want %d and %d", rack, shelf, 9*own, 9*(all-own))
	}
	// From then on the box's meter is silent: what it will have counted is not
	// known, and so is the rest.
	if rack, shelf, modelled := sums(10, 60); rack != 0 || shelf != 0 || modelled == 0 {
		t.Errorf("while its meter is silent rack has %d mJ and shelf %d, %d by the model", rack, shelf, modelled)
	}
	// It comes back and had counted on. Long after Open all of it is known.
	w.meter("rack", "plug", minutes(70, 80), own, 1000)
	if err := w.books.AddDue(t.Context(), registry.Due{Processor: registry.ProcessorPower, Scope: "rack", Quarter: at(60), Reason: "meter reading"}); err != nil {
		t.Fatal(err)
	}
	w.clk.Set(at(300))
	w.tick()
	if rack, shelf, _ := sums(0, 70); rack != 70*own || shelf != 70*(all-own) {
		t.Errorf("rack has %d mJ and shelf %d, want %d and %d", rack, shelf, 70*own, 70*(all-own))
	}
}

// TestMeterOfANode: a node has what its own meter counted, the other one and the
// overhead the rest.
func TestMeterOfANode(t *testing.T) {
	objects := append(rackedFleet(), meterObject(), fleet.NewObject("b", fleet.Cluster{URL: "http://127.0.0.1:3"}),
		fleet.NewObject("b.n2", fleet.Node{Cluster: "b", Node: "n2", Box: "rack", Hardware: "server"}),
		fleet.NewObject("psu", fleet.Meter{Box: "rack", Node: "b.n2", Driver: fleet.DriverPush}))
	w := newWorld(t, Config{}, objects...)
	w.settle("a", "n1", minutes(0, 20), twoPods...)
	w.settle("b", "n2", minutes(0, 20), pod{"web", "p3", 300, 60}) // the same load
	w.meter("rack", "plug", minutes(0, 20), 10_000_000, 1000)
	w.meter("rack", "psu", minutes(0, 20), 7_000_000, 1000)
	w.clk.Set(at(21))
	w.tick()
	n1 := total(w.rows(schema.EnergyMinute, "a", minutes(0, 15)), energyFields...)
	n2 := total(w.rows(schema.EnergyMinute, "b", minutes(0, 15)), energyFields...)
	if n1 != 15*3_000_000 || n2 != 15*7_000_000 {
		t.Errorf("%d and %d mJ, want 3 kJ and 7 kJ a minute", n1, n2)
	}
}

// TestLagOfAMeter: a meter whose times are ten minutes late shows its energy ten
// minutes late; with its lag, it is where it was used.
func TestLagOfAMeter(t *testing.T) {
	for lag, want := range map[time.Duration][2]int64{0: {0, 4 * 7_200_000}, 10 * time.Minute: {9 * 7_200_000, 4 * 7_200_000}} {
		w := newWorld(t, Config{}, append(rackedFleet(), meterObject())...)
		if err := w.books.PutMeterLag(t.Context(), registry.MeterLag{Place: "rack", Meter: "plug", Since: at(-100), Lag: lag, At: at(0)}, nil); err != nil {
			t.Fatal(err)
		}
		w.settle("a", "n1", minutes(0, 30), twoPods...)
		w.meter("rack", "plug", minutes(10, 40), 7_200_000, 1000) // of the usage from minute 0 on
		w.clk.Set(at(41))
		w.tick()
		early := total(w.rows(schema.EnergyMinute, "a", minutes(0, 9)), schema.EnergyMeasured)
		late := total(w.rows(schema.EnergyMinute, "a", minutes(11, 15)), schema.EnergyMeasured)
		if early != want[0] || late != want[1] {
			t.Errorf("lag %s: %d and %d mJ, want %v", lag, early, late, want)
		}
	}
}
