package query

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// figuresFixture is an hour of minutes; with quarters, of which two are in the
// quarter tables alone.
func figuresFixture(t *testing.T, quarters bool) *fixture {
	t.Helper()
	f := newFixture(t, append(edge(), fleet.NewObject("pool", fleet.HeatSource{Box: "box-1", Method: fleet.HeatCapture, CaptureFactor: 0.5}))...)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	for q := range 4 {
		if err := f.books.AddDue(f.ctx, registry.Due{Processor: registry.ProcessorPower, Scope: "box-1", Quarter: at(q * 15), Reason: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	first := 0
	if quarters {
		f.coarsen(pods, 0, 2)
		first = 30
	}
	f.fill(pods, first, 60)
	own := func(table schema.Table, minute, n int) influxsync.Point {
		return point(table, at(minute), map[string]string{schema.Cluster: schema.BoxCluster, schema.Box: "box-1"}, map[string]int64{
			schema.EnergyMeasured: boxCounted(minute, n), schema.UsefulHeat: int64(n) * 1_003, schema.CarbonAvoided: int64(n) * 17})
	}
	var minutes, coarse []influxsync.Point
	for i := first; i < 60; i++ {
		minutes = append(minutes, own(schema.BoxMinute, i, 1))
	}
	for q := 0; q < first/15; q++ {
		coarse = append(coarse, own(schema.BoxQuarter, q*15, 15))
	}
	f.write(f.minute, minutes)
	if len(coarse) > 0 {
		f.write(f.quarter, coarse)
	}
	return f
}

// boxCounted is what the meter counted: all that the pods carry, and 2 mJ in each
// minute.
func boxCounted(from, minutes int) int64 {
	return sum(energyValues, schema.EnergyMeasured, from, from+minutes, func(podID) bool { return true }) + 2*int64(minutes)
}

func energyTotal(rows []usage.EnergyRow) string {
	total := usage.TotalEnergy(rows)
	for i := range rows {
		rows[i].ResidualJoules = nil
	}
	return text(total.EnergyJoules, total.EnergyActiveJoules, total.EnergyIdleJoules, total.EnergyOverheadJoules, total.EnergyMeasuredJoules, total.EnergyModelledJoules, total.HeatJoules)
}

func heatTotal(rows []usage.HeatRow) string {
	total := usage.TotalHeat(rows)
	return text(total.EnergyJoules, total.ProducedJoules)
}

func carbonTotal(rows []usage.CarbonRow) string {
	c := usage.TotalCarbon(rows)
	return text(c.EnergyJoules, c.LocationGrams, c.LocationEnergyJoules, c.LocationEstimatedJoules, c.MarketGrams, c.MarketEnergyJoules, c.EmbodiedGrams)
}

func text(values ...Exact) string {
	var all []string
	for _, v := range values {
		all = append(all, v.String())
	}
	return strings.Join(all, " ")
}

// Whatever the keys, the steps and the windows: the rows add up to the whole.
func TestFiguresAddUp(t *testing.T) {
	var former []string
	for _, quarters := range []bool{false, true} {
		f := figuresFixture(t, quarters)
		totals := func(request Request) []string {
			t.Helper()
			energy, err := f.Energy(f.ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			heat, err := f.Heat(f.ctx, request, false)
			if err != nil {
				t.Fatal(err)
			}
			carbon, err := f.Carbon(f.ctx, request, false)
			if err != nil {
				t.Fatal(err)
			}
			return []string{energyTotal(energy.Rows), heatTotal(heat.Rows), carbonTotal(carbon.Rows)}
		}
		whole := totals(Request{Window: window(0, 60)})
		of := func(field string) int64 {
			return sum(energyValues, field, 0, 60, func(podID) bool { return true })
		}
		want := text(usage.Joules(of(schema.EnergyActive)+of(schema.EnergyIdle)+of(schema.EnergyOverhead)), usage.Grams(of(schema.CarbonLocation)),
			usage.Joules(of(schema.CarbonLocationEnergy)), usage.Joules(of(schema.CarbonEstimatedEnergy)), usage.Grams(of(schema.CarbonMarket)),
			usage.Joules(of(schema.CarbonMarketEnergy)), usage.Grams(of(schema.CarbonEmbodied)))
		if whole[2] != want {
			t.Errorf("carbon: got %s, want %s", whole[2], want)
		}
		if former != nil && !slices.Equal(former, whole) {
			t.Errorf("by minutes %v, by quarters %v", former, whole)
		}
		former = whole
		keys := []Key{Cluster, Box, Node, Hardware, Namespace, Workload, Customer, Project, User, Provider, Region}
		if !quarters {
			keys = append(keys, Pod, "label:app")
		}
		for i, k := range keys {
			for _, step := range []time.Duration{0, 15 * time.Minute, 30 * time.Minute} {
				request := Request{Window: window(0, 60), Aggregate: []Key{k, keys[(i+3)%len(keys)]}, Step: step}
				if diff := cmp.Diff(whole, totals(request)); diff != "" {
					t.Errorf("by %v in steps of %s:\n%s", request.Aggregate, step, diff)
				}
			}
		}
		if one, other := totals(Request{Window: window(0, 30)}), totals(Request{Window: window(30, 60)}); one[0] == whole[0] || other[0] == whole[0] {
			t.Error("the halves are not halves: the test would see nothing")
		}
	}
}

// What a box has of its own stands in questions of boxes alone.
func TestFiguresOfBoxes(t *testing.T) {
	for _, quarters := range []bool{false, true} {
		f := figuresFixture(t, quarters)
		byBox := Request{Window: window(0, 60), Aggregate: []Key{Box}, Filter: []Condition{{Key: Box, Values: []string{"box-1"}}}}
		energy, err := f.Energy(f.ctx, byBox)
		if err != nil || len(energy.Rows) != 1 || energy.Rows[0].ResidualJoules == nil || energy.Rows[0].ResidualJoules.String() != "0.12" {
			t.Fatalf("residual: %+v, %v", energy.Rows, err)
		}
		if energy.Rows[0].Coverage != 1 || energy.Rows[0].Quality != schema.Measured {
			t.Errorf("coverage %v, quality %s", energy.Rows[0].Coverage, energy.Rows[0].Quality)
		}
		heat, err := f.Heat(f.ctx, byBox, false)
		if err != nil || len(heat.Rows) != 1 || heat.Rows[0].UsefulJoules == nil || heat.Rows[0].UsefulJoules.String() != "60.18" {
			t.Fatalf("useful: %+v, %v", heat.Rows, err)
		}
		carbon, err := f.Carbon(f.ctx, byBox, false)
		if err != nil || len(carbon.Rows) != 1 || carbon.Rows[0].AvoidedGrams == nil || carbon.Rows[0].AvoidedGrams.String() != "0.00102" {
			t.Fatalf("avoided: %+v, %v", carbon.Rows, err)
		}
		if diff := cmp.Diff([]string{mean, "TSO report"}, carbon.Sources); diff != "" {
			t.Errorf("sources:\n%s", diff)
		}
		if diff := cmp.Diff([]string{"gas_boiler, 0.202 kg/kWh, efficiency 1.0"}, carbon.References); diff != "" {
			t.Errorf("references:\n%s", diff)
		}
		// Avoided is no part of the other figures: they are what they are by cluster.
		byCluster, err := f.Carbon(f.ctx, Request{Window: window(0, 60), Aggregate: []Key{Cluster}}, false)
		if err != nil || carbonTotal(byCluster.Rows) != carbonTotal(carbon.Rows) {
			t.Errorf("%v, %v", byCluster.Rows, err)
		}
		for _, row := range byCluster.Rows {
			if row.AvoidedGrams != nil || row.LocationQuality != schema.Mixed {
				t.Errorf("by cluster: %+v", row)
			}
		}
		for _, request := range []Request{{Window: window(0, 60), Aggregate: []Key{Namespace, Box}}, {Window: window(0, 60), Filter: []Condition{{Key: Cluster, Values: []string{"edge-a"}}}}} {
			energy, err := f.Energy(f.ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range energy.Rows {
				if row.ResidualJoules != nil {
					t.Errorf("residual of %v", row.Key)
				}
			}
		}
	}
}

// What is not known is null and no zero.
func TestUnknownCarbonIsNull(t *testing.T) {
	f := newFixture(t, edge()...)
	f.write(f.minute, []influxsync.Point{point(schema.EnergyMinute, at(0), pods[0].tags(), map[string]int64{schema.EnergyActive: 5})})
	f.receive("edge-a", 1)
	f.receive("edge-b", 1)
	answer, err := f.Carbon(f.ctx, Request{Window: window(0, 1)}, false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(answer.Rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"locationGrams":null`, `"locationEnergyJoules":0`, `"marketGrams":null`, `"embodiedGrams":null`, `"locationQuality":""`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestFiguresRefuse(t *testing.T) {
	f := newFixture(t, edge()...)
	for name, request := range map[string]Request{
		"container": {Aggregate: []Key{Container}}, "claim": {Filter: []Condition{{Key: usage.Claim, Values: []string{"x"}}}},
		"sort": {Sort: "cpu"}, "window": {Window: "never"}, "step": {Window: window(0, 1_000_000), Step: time.Minute},
	} {
		var wrong *InputError
		if _, err := f.Energy(f.ctx, request); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.Heat(f.ctx, request, false); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.Carbon(f.ctx, request, false); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var wrong *InputError
	if _, err := f.Heat(f.ctx, Request{Filter: []Condition{{Key: Cluster, Values: []string{"edge-a"}}}}, true); !errors.As(err, &wrong) || wrong.Parameter != "days" {
		t.Errorf("days by cluster: %v", err)
	}
}

// Whatever is asked, a household's heat is told by whole days alone, and once
// nothing can change them: a day that grows while it is told tells of its hours.
func TestHouseholdsByDayAlone(t *testing.T) {
	midnight := start.Truncate(24 * time.Hour)
	quarter := func(source, household string, day, n int, useful int64) registry.HeatQuarter {
		return registry.HeatQuarter{Quarter: midnight.AddDate(0, 0, day).Add(time.Duration(n) * schema.Quarter), HeatSums: registry.HeatSums{
			Source: source, Household: household, Box: "box-1", Useful: useful, Avoided: 7, Reference: "gas"}}
	}
	const canary, other = 987_654_321, 123_123_123
	f := figuresFixture(t, false)
	list := []registry.HeatQuarter{quarter("pool", "", -1, 3, 41), quarter("pool", "", 0, 3, 43)}
	for _, day := range []int{0, -1, -3, -4} { // the present is 12:00 of day 0
		list = append(list, quarter("tank", "h-0412", day, 40, canary), quarter("tank", "h-0412", day, 41, other))
	}
	if err := f.books.PutHeatQuarters(f.ctx, list); err != nil {
		t.Fatal(err)
	}
	told := func(request Request) (days []string) {
		t.Helper()
		heat, err := f.Heat(f.ctx, request, true)
		if err != nil {
			t.Fatal(err)
		}
		carbon, err := f.Carbon(f.ctx, request, true)
		if err != nil {
			t.Fatal(err)
		}
		energy, err := f.Energy(f.ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		for _, answer := range []any{heat, carbon, energy} {
			text, err := json.Marshal(answer)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"987654.321", "123123.123", "987654321", "123123123"} {
				if strings.Contains(string(text), secret) {
					t.Errorf("%+v tells %s", request, secret)
				}
			}
		}
		for _, d := range heat.Days {
			days = append(days, d.Day+" "+d.Source+" "+d.UsefulJoules.String())
		}
		return days
	}
	span := func(from, to int) string {
		return midnight.AddDate(0, 0, from).Format(time.RFC3339) + "," + midnight.AddDate(0, 0, to).Format(time.RFC3339)
	}
	want := []string{"2026-11-19 tank 1110777.444", "2026-11-22 pool 0.041"}
	for _, step := range []time.Duration{0, 15 * time.Minute, 24 * time.Hour} {
		if diff := cmp.Diff(want, told(Request{Window: span(-6, 3), Aggregate: []Key{Box}, Step: step})); diff != "" {
			t.Errorf("steps of %s:\n%s", step, diff)
		}
	}
	part := midnight.AddDate(0, 0, -4).Add(time.Minute).Format(time.RFC3339) + "," + midnight.AddDate(0, 0, -2).Format(time.RFC3339)
	if got := told(Request{Window: part}); len(got) != 0 {
		t.Errorf("a part of a day tells %v", got)
	}
	if got := told(Request{Window: span(-6, 3), Filter: []Condition{{Key: Box, Values: []string{"box-2"}}}}); len(got) != 0 {
		t.Errorf("another box tells %v", got)
	}
}
