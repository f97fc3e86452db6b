package query

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

// edge is a fleet of two clusters of two customers that share a box.
func edge() []fleet.Object {
	return []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("bolt", fleet.Customer{Currency: "USD"}),
		fleet.NewObject("edge-a", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Provider: "own", Region: "eu"}),
		fleet.NewObject("edge-b", fleet.Cluster{Customer: "bolt", URL: "http://127.0.0.1:2", Provider: "own", Region: "us"}),
		fleet.NewObject("box-1", fleet.Box{Site: "cellar"}),
		fleet.NewObject("small", fleet.Hardware{Cores: 4, IdleWatts: 5, MaxWatts: 20, Source: "test"}),
		fleet.NewObject("edge-a.n1", fleet.Node{Cluster: "edge-a", Node: "n1", Box: "box-1", Hardware: "small"}),
		fleet.NewObject("edge-b.n1", fleet.Node{Cluster: "edge-b", Node: "n1", Box: "box-1", Hardware: "small"}),
		fleet.NewObject("all-a", fleet.Assignment{Cluster: "edge-a", Project: "shop"}),
		fleet.NewObject("prices-a", fleet.PriceList{Currency: "EUR", Customers: []string{"acme"}, Rates: []fleet.Rate{
			{Resource: "cpu_used", Price: "0.031"}, {Resource: "memory_used", Price: "0.004"}, {Resource: "energy", Price: "0.28"}}}),
		fleet.NewObject("prices-b", fleet.PriceList{Currency: "USD", Clusters: []string{"edge-b"}, Rates: []fleet.Rate{
			{Resource: "cpu_used", Price: "0.05"}, {Resource: "node_hours", Price: "1"}}}),
	}
}

var pods = []podID{
	{"edge-a", "n1", "shop", "web-1", "web", "box-1"},
	{"edge-a", "n1", "shop", "web-22", "web", "box-1"},
	{"edge-a", "n1", "base", "db-0", "", "box-1"},
	{"edge-a", "n1", schema.SystemNamespace, schema.SystemNamespace, "", "box-1"},
	{"edge-b", "n1", "shop", "api-333", "api", "box-1"},
}

// sum adds a field of the pods that are kept over [from, to).
func sum(values func(podID, int) map[string]int64, field string, from, to int, keep func(podID) bool) int64 {
	var total int64
	for i := from; i < to; i++ {
		for _, p := range pods {
			if keep(p) {
				total += values(p, i)[field]
			}
		}
	}
	return total
}

func TestUsageIsTheSumOfTheRows(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	answer := f.usage(Request{Window: window(7, 52), Aggregate: []Key{Cluster, Namespace}})
	rows := rowsByKey(answer)
	delete(rows, "edge-b/"+schema.SystemNamespace) // only the node's own time stands there
	if len(rows) != 4 {
		t.Fatalf("got %d rows, want 4: %v", len(rows), rows)
	}
	for id, row := range rows {
		keep := func(p podID) bool { return p.cluster+"/"+p.namespace == id }
		of := func(field string) int64 { return sum(podValues, field, 7, 52, keep) }
		joule := func(fields ...string) (total int64) {
			for _, field := range fields {
				total += sum(energyValues, field, 7, 52, keep)
			}
			return total
		}
		for name, check := range map[string]struct{ got, want Exact }{
			"cpu":             {row.CPUCoreSeconds, usage.CoreSeconds(of(schema.CPU))},
			"memory":          {row.MemoryByteSeconds, usage.ByteSeconds(of(schema.Memory))},
			"receive":         {row.NetworkReceiveBytes, usage.Whole(of(schema.NetworkReceive))},
			"transmit":        {row.NetworkTransmitBytes, usage.Whole(of(schema.NetworkTransmit))},
			"cpu request":     {row.CPURequestCoreSeconds, usage.CoreSeconds(of(schema.CPURequest))},
			"memory request":  {row.MemoryRequestByteSeconds, usage.ByteSeconds(of(schema.MemoryRequest))},
			"interpolated":    {row.Interpolated, usage.Whole(of(schema.Interpolated))},
			"energy":          {row.EnergyJoules, usage.Joules(joule(schema.EnergyActive, schema.EnergyIdle, schema.EnergyOverhead))},
			"active energy":   {row.EnergyActiveJoules, usage.Joules(joule(schema.EnergyActive))},
			"modelled energy": {row.EnergyModelledJoules, usage.Joules(joule(schema.EnergyModelled))},
		} {
			if check.got.String() != check.want.String() {
				t.Errorf("%s: %s: got %s, want %s", id, name, check.got, check.want)
			}
		}
		if row.Coverage != 1 || row.Quality != schema.Measured || !row.Provisional {
			t.Errorf("%s: coverage %v, quality %s, provisional %v; want 1, measured, true", id, row.Coverage, row.Quality, row.Provisional)
		}
	}
}

func TestCostIsRatedFromSummedQuantities(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	rows := rowsByKey(f.usage(Request{Window: window(0, 60), Aggregate: []Key{Customer}}))
	inA := func(p podID) bool { return p.cluster == "edge-a" }
	energy := sum(energyValues, schema.EnergyActive, 0, 60, inA) + sum(energyValues, schema.EnergyIdle, 0, 60, inA) + sum(energyValues, schema.EnergyOverhead, 0, 60, inA)
	want := new(big.Rat)
	for _, part := range []struct{ quantity, base, price, per int64 }{
		{sum(podValues, schema.CPU, 0, 60, inA), 3_600_000_000, 31, 1000},
		{sum(podValues, schema.Memory, 0, 60, inA), 3600 << 20, 4, 1000},
		{energy, 3_600_000_000, 28, 100},
	} {
		want.Add(want, new(big.Rat).Mul(big.NewRat(part.quantity, part.base), big.NewRat(part.price, part.per)))
	}
	row := rows["acme"]
	if row.Cost == nil || *row.Cost != usage.Decimal(want, "EUR") || row.Currency != "EUR" {
		t.Errorf("acme: got %v %s, want %s EUR", row.Cost, row.Currency, want.FloatString(9))
	}
	inB := func(p podID) bool { return p.cluster == "edge-b" }
	want = new(big.Rat).Mul(big.NewRat(sum(podValues, schema.CPU, 0, 60, inB), 3_600_000_000), big.NewRat(5, 100))
	want.Add(want, big.NewRat(1, 1)) // one node hour
	// No rule names edge-b: its usage is nobody's, at the cluster's own prices.
	if row := rows[schema.Unassigned]; row.Cost == nil || *row.Cost != usage.Decimal(want, "USD") {
		t.Errorf("unassigned: got %v, want %s", row.Cost, want.FloatString(9))
	}
	all := f.usage(Request{Window: window(0, 60)})
	if len(all.Rows) != 1 || all.Rows[0].Cost != nil || len(all.Rows[0].Costs) != 2 {
		t.Errorf("one row over two currencies: got %+v, want its costs apart", all.Rows)
	}
}

// Units of price lists are those of lines, and a unit is so many stored ones.
func TestBaseUnitsAgreeWithRating(t *testing.T) {
	base := map[processors.Resource]int64{
		processors.CPUUsed: 3_600_000_000, processors.CPURequested: 3_600_000_000, // core-µs per core-hour
		processors.MemoryUsed: 3600 << 20, processors.MemoryRequested: 3600 << 20, // KiB·s per GiB-hour
		processors.NetworkReceive: 1_000_000_000, processors.NetworkTransmit: 1_000_000_000, // B per GB
		processors.CPUMax: 3_600_000_000, processors.MemoryMax: 3600 << 20, processors.CPUIdle: 3_600_000_000, processors.MemoryIdle: 3600 << 20,
		processors.Energy: 3_600_000_000, processors.UsefulHeat: 3_600_000_000, // mJ per kWh
		processors.NodeHours: 3_600_000, // ms per hour

		processors.NodeReceive: 1_000_000_000, processors.NodeTransmit: 1_000_000_000,
		processors.EphemeralUsed: 3600 << 20, processors.VolumeClaimed: 3600 << 20, processors.VolumeUsed: 3600 << 20,
		processors.VolumeClaimed.Of("fast"): 3600 << 20, processors.VolumeUsed.Of("fast"): 3600 << 20,
		processors.Extended("nvidia.com/gpu"): 3_600_000, processors.Extended("hugepages-2Mi"): 3600 << 20,
	}
	for resource := range base {
		if unit, ok := fleet.UnitOf(string(resource)); !ok || unit != resource.Unit() {
			t.Errorf("%s: unit %q in price lists, %q in lines", resource, unit, resource.Unit())
		}
	}
	for _, resource := range append(processors.Resources(), processors.VolumeClaimed.Of("fast"), processors.Extended("nvidia.com/gpu"), processors.Extended("hugepages-2Mi")) {
		if got := resource.Base(); got != base[resource] {
			t.Errorf("%s: base %d, want %d", resource, got, base[resource])
		}
	}
}

func TestWholeQuartersComeFromTheQuarterTables(t *testing.T) {
	question := Request{Window: window(7, 112), Aggregate: []Key{Cluster, Namespace, Workload, Box, Hardware, Customer}}
	fine := newFixture(t, edge()...)
	fine.fill(pods, 0, 120)
	fine.receive("edge-a", 120)
	fine.receive("edge-b", 120)
	want := fine.usage(question)
	if len(want.Rows) != 5 {
		t.Fatalf("got %d rows, want 5: %v", len(want.Rows), printed(want))
	}
	coarse := newFixture(t, edge()...)
	coarse.fill(pods, 0, 15)
	coarse.fill(pods, 105, 120)
	coarse.receive("edge-a", 120)
	coarse.receive("edge-b", 120)
	coarse.coarsen(pods, 1, 7)
	if diff := cmp.Diff(printed(want), printed(coarse.usage(question))); diff != "" {
		t.Errorf("from quarters (+) and from minutes (-) differ:\n%s", diff)
	}
	// The control: a quarter whose sums lack one microsecond must be seen.
	values := podValues(pods[2], 30)
	values[schema.CPU]--
	for i := 31; i < 45; i++ {
		for name, v := range podValues(pods[2], i) {
			values[name] += v
		}
	}
	coarse.write(coarse.quarter, []influxsync.Point{point(schema.UsageQuarter, at(30), pods[2].quarterTags(), values)})
	if cmp.Equal(printed(want), printed(coarse.usage(question))) {
		t.Error("a microsecond that a quarter lacks was not noticed")
	}
}

// printed is an answer's rows without what names the question.
func printed(answer Answer) []string {
	var lines []string
	for _, row := range answer.Rows {
		cost := "none"
		if row.Cost != nil {
			cost = *row.Cost
		}
		lines = append(lines, fmt.Sprint(row.Key, row.CPUCoreSeconds, row.MemoryByteSeconds, row.NetworkReceiveBytes, row.PodSeconds, row.NodeSeconds,
			row.EnergyJoules, row.EnergyModelledJoules, cost, row.Currency, row.Interpolated, row.Coverage))
	}
	return lines
}

func TestOpenQuartersAreReadFromMinutesAndProvisional(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	want := f.usage(Request{Window: window(0, 60), Aggregate: []Key{Cluster}})
	f.coarsen(pods, 0, 4)
	f.coarsen(pods[1:4], 1, 2) // an old state of a quarter that is being computed again
	if err := f.books.AddDue(f.ctx, registry.Due{Processor: registry.ProcessorPower, Scope: "box-1", Quarter: at(15), Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	question := Request{Window: window(0, 60), Aggregate: []Key{Cluster}}
	got := f.usage(question)
	if diff := cmp.Diff(printed(want), printed(got)); diff != "" {
		t.Errorf("the open quarter was not read from its minutes:\n%s", diff)
	}
	open := []ClusterWindow{{Cluster: schema.BoxCluster, From: at(15), To: at(30)}, {Cluster: "edge-a", From: at(15), To: at(30)}, {Cluster: "edge-b", From: at(15), To: at(30)}}
	if diff := cmp.Diff(open, got.Provisional); diff != "" {
		t.Errorf("provisional windows:\n%s", diff)
	}
	question.Step = 15 * time.Minute
	for _, row := range f.usage(question).Rows {
		if row.Provisional != row.From.Equal(at(15)) {
			t.Errorf("%v at %s: provisional %v", row.Key, row.From, row.Provisional)
		}
	}
	f.settle(1, 2) // the control: now the old state is taken for the final one
	if cmp.Equal(printed(want), printed(f.usage(Request{Window: window(0, 60), Aggregate: []Key{Cluster}}))) {
		t.Error("the quarter tables were not read at all")
	}
}

func TestStepsAddUp(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	for _, step := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour} {
		whole := rowsByKey(f.usage(Request{Window: window(3, 58), Aggregate: []Key{Cluster, Namespace}}))
		got := make(map[string]Exact)
		for _, row := range f.usage(Request{Window: window(3, 58), Aggregate: []Key{Cluster, Namespace}, Step: step}).Rows {
			id := row.Key["cluster"] + "/" + row.Key["namespace"]
			got[id] = got[id].Plus(row.CPUCoreSeconds)
			if row.To.Sub(row.From) > step || row.From.Before(at(3)) || row.To.After(at(58)) {
				t.Errorf("step %s: row from %s to %s", step, row.From, row.To)
			}
		}
		for id, row := range whole {
			if got[id].Cmp(row.CPUCoreSeconds) != 0 {
				t.Errorf("step %s: %s: steps add up to %s, want %s", step, id, got[id], row.CPUCoreSeconds)
			}
		}
	}
}

func TestPriceAndOwnerChangeInsideTheWindow(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	f.apply(
		fleet.NewObject("prices-b", fleet.PriceList{Currency: "USD", Clusters: []string{"edge-b"}, Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.10"}}}).Since(at(20)),
		fleet.NewObject("shop-b", fleet.Assignment{Cluster: "edge-b", Namespace: "shop", User: "eve"}).Since(at(40).Add(time.Second)))
	inB := func(p podID) bool { return p.cluster == "edge-b" }
	rows := rowsByKey(f.usage(Request{Window: window(0, 60), Aggregate: []Key{User}, Filter: []Condition{{Key: Cluster, Values: []string{"edge-b"}}, {Key: Namespace, Values: []string{"shop"}}}}))
	cpu := func(from, to int) *big.Rat {
		return big.NewRat(sum(podValues, schema.CPU, from, to, inB), 3_600_000_000)
	}
	want := new(big.Rat).Mul(cpu(0, 20), big.NewRat(5, 100))
	want.Add(want, new(big.Rat).Mul(cpu(20, 41), big.NewRat(10, 100)))
	if row := rows[schema.Unassigned]; row.Cost == nil || *row.Cost != usage.Decimal(want, "USD") {
		t.Errorf("before the rule: got %v, want %s", row.Cost, usage.Decimal(want, "USD"))
	}
	want = new(big.Rat).Mul(cpu(41, 60), big.NewRat(10, 100))
	if row := rows["eve"]; row.Cost == nil || *row.Cost != usage.Decimal(want, "USD") {
		t.Errorf("by the rule: got %v, want %s", row.Cost, usage.Decimal(want, "USD"))
	}
}

func TestLabels(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 30)
	f.receive("edge-a", 30)
	f.receive("edge-b", 30)
	object := func(pod string, from int, labels string) influxsync.Point {
		return influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Cluster: "edge-a", schema.Kind: "Pod", schema.Namespace: "shop", "name": pod, "uid": "uid-" + pod},
			map[string]influxsync.Value{"spec": influxsync.Str(`{"labels":` + labels + `}`), "reason": influxsync.Str(""), "valid_from": influxsync.Int(at(from).UnixNano()), "valid_to": influxsync.Int(0)}, at(from))
	}
	if err := f.books.PutObjects(f.ctx, []influxsync.Point{object("web-1", 5, `{"team":"red"}`), object("web-22", 0, `{"team":"red"}`), object("web-22", 10, `{"team":"blue"}`)}); err != nil {
		t.Fatal(err)
	}
	rows := rowsByKey(f.usage(Request{Window: window(0, 30), Aggregate: []Key{usage.Label("team")}, Filter: []Condition{{Key: Namespace, Values: []string{"shop"}}, {Key: Cluster, Values: []string{"edge-a"}}}}))
	pod := func(name string) func(podID) bool { return func(p podID) bool { return p.pod == name } }
	want := map[string]int64{
		"red":  sum(podValues, schema.CPU, 0, 30, pod("web-1")) + sum(podValues, schema.CPU, 0, 10, pod("web-22")),
		"blue": sum(podValues, schema.CPU, 10, 30, pod("web-22")),
	}
	for team, cpu := range want {
		if got := rows[team].CPUCoreSeconds.String(); got != usage.CoreSeconds(cpu).String() {
			t.Errorf("team %s: got %s, want %s", team, got, usage.CoreSeconds(cpu))
		}
	}
}

func TestCoverageCountsTheTimeWithoutRows(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods[:4], 0, 30) // and nothing for half an hour
	f.fill(pods[4:], 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	rows := rowsByKey(f.usage(Request{Window: window(0, 60), Aggregate: []Key{Cluster}}))
	if got := rows["edge-a"].Coverage; math.Abs(got-0.5) > 1e-9 {
		t.Errorf("half of the hour has no rows: coverage %v, want 0.5", got)
	}
	if got := rows["edge-b"].Coverage; got != 1 {
		t.Errorf("whole hour: coverage %v, want 1", got)
	}
}

func TestRelativeWindowsEndAtTheLastSettledMinute(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 58)
	if answer := f.usage(Request{Window: "10m"}); !answer.To.Equal(at(58)) || !answer.From.Equal(at(48)) {
		t.Errorf("both: %s to %s, want the slower one's end", answer.From, answer.To)
	}
	if answer := f.usage(Request{Window: "10m", Filter: []Condition{{Key: Cluster, Values: []string{"edge-a"}}}}); !answer.To.Equal(at(60)) {
		t.Errorf("edge-a alone: to %s, want %s", answer.To, at(60))
	}
	f.receive("edge-a", 100)
	answer := f.usage(Request{Window: "10m", Aggregate: []Key{Cluster}})
	if !answer.To.Equal(at(100)) {
		t.Errorf("a cluster that is far behind holds back the window: to %s", answer.To)
	}
}

func TestPages(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 5)
	f.receive("edge-a", 5)
	f.receive("edge-b", 5)
	var got []string
	request := Request{Window: window(0, 5), Aggregate: []Key{Cluster, Namespace}, Sort: "-cpu", Limit: 3}
	for {
		answer := f.usage(request)
		for _, row := range answer.Rows {
			got = append(got, row.CPUCoreSeconds.String())
		}
		if answer.Next == "" {
			break
		}
		request.Page = answer.Next
	}
	whole := f.usage(Request{Window: window(0, 5), Aggregate: []Key{Cluster, Namespace}, Sort: "-cpu"})
	var want []string
	for _, row := range whole.Rows {
		want = append(want, row.CPUCoreSeconds.String())
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 5 {
		t.Errorf("pages:\n%s", diff)
	}
	for i := 1; i < len(whole.Rows); i++ {
		if whole.Rows[i-1].CPUCoreSeconds.Cmp(whole.Rows[i].CPUCoreSeconds) < 0 {
			t.Errorf("rows are not sorted: %v", want)
		}
	}
}

func TestSumsDoNotWrap(t *testing.T) {
	f := newFixture(t, edge()...)
	for _, p := range []podID{pods[0], pods[4]} {
		f.write(f.minute, []influxsync.Point{point(schema.PodMinute, at(0), p.tags(), map[string]int64{schema.CPU: math.MaxInt64 - 5, schema.Uptime: 60_000})})
	}
	f.receive("edge-a", 1)
	f.receive("edge-b", 1)
	if _, err := f.Usage(f.ctx, Request{Window: window(0, 1)}); !errors.Is(err, ErrOverflow) {
		t.Errorf("sum beyond int64: got %v, want ErrOverflow", err)
	}
	if _, err := f.Usage(f.ctx, Request{Window: window(0, 1), Aggregate: []Key{Cluster}}); err != nil {
		t.Errorf("each cluster fits: %v", err)
	}
}

func TestAWrongClockMovesNobodyElsesWindows(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60+24*60) // its clock is a day ahead
	f.clock.(*clock.Manual).Set(at(61))
	answer := f.usage(Request{Window: "10m", Aggregate: []Key{Cluster}})
	if !answer.To.Equal(at(60)) || len(answer.Rows) != 2 {
		t.Errorf("to %s with %d rows, want %s and both clusters", answer.To, len(answer.Rows), at(60))
	}
}

func TestTooManySteps(t *testing.T) {
	f := newFixture(t, edge()...)
	var input *InputError
	_, err := f.Usage(f.ctx, Request{Window: "3650d", Step: 15 * time.Minute})
	if !errors.As(err, &input) || input.Parameter != "step" {
		t.Errorf("350,400 steps: got %v, want an InputError of the step", err)
	}
}

func TestCompletenessAsksForNothingAhead(t *testing.T) {
	f := newFixture(t, edge()...)
	f.receive("edge-a", 60)
	f.clock.(*clock.Manual).Set(at(60))
	answer, err := f.Completeness(f.ctx, "edge-a", window(0, 365*24*60))
	if err != nil || !answer.To.Equal(at(60)) {
		t.Errorf("to %s, %v; want what lies ahead cut off", answer.To, err)
	}
	var input *InputError
	if _, err := f.Completeness(f.ctx, "edge-a", "3650d"); !errors.As(err, &input) {
		t.Errorf("ten years by quarter: got %v, want an InputError", err)
	}
}
