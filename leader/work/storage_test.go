package work

import (
	"maps"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
)

// Volumes have sums by quarter and, with devices, a cost; a volume's minute that
// comes after the pods' makes its quarter due again. A namespace that the price
// list excludes has no cost.
func TestVolumesAndDevices(t *testing.T) {
	w := newWorld(t, Config{}, fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"}),
		fleet.NewObject("prices", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{
			{Resource: "volume_claimed:fast", Price: "0.36"}, {Resource: "extended:nvidia.com/gpu", Price: "4"}, {Resource: "cpu_used", Price: "3.6"}}}))
	w.settle("a", "n1", minutes(0, 15), append(twoPods, pod{"accumulus", "follower", 10, 0})...)
	w.object("Pod", "ml", "train", `{"node":"n1","workloadKind":"Job","workload":"train","start":"2026-11-23T10:00:00Z","containers":[{"name":"c","extended":{"nvidia.com/gpu":2}}]}`)
	w.object("Namespace", "", "accumulus", `{"metering":true}`)
	w.clk.Set(at(15))
	w.tick()
	if got := w.rows(schema.VolumeQuarter, "a", minutes(0, 15)); len(got) != 0 {
		t.Errorf("volumes before there were any: %v", got)
	}
	var rows []influxsync.Point
	for _, minute := range minutes(0, 15).Split(schema.Minute) {
		rows = append(rows, followertest.Row(schema.VolumeMinute, minute.From, map[string]string{schema.Cluster: "a", schema.Namespace: "db", schema.Claim: "data",
			schema.ClaimUID: "c-1", schema.StorageClass: "fast", schema.Storage: "local"}, map[string]int64{schema.Claimed: 60 << 20, schema.Used: 30 << 20, schema.Mounted: 60_000, schema.Uptime: 60_000, schema.Coverage: 60}))
	}
	w.follower("a").Settle(schema.VolumeMinute, minutes(0, 15), rows...)
	w.clk.Set(at(19))
	w.tick()
	quarter := w.rows(schema.VolumeQuarter, "a", minutes(0, 15))
	if got := sumBy(quarter, schema.Claim, schema.Claimed); len(quarter) != 1 || got["data"] != 15*60<<20 {
		t.Errorf("the quarter's volume: %v", quarter)
	}
	cost := w.rows(schema.CostQuarter, "a", minutes(0, 15))
	want := map[string]int64{"volume_claimed:fast": 90_000_000, "extended:nvidia.com/gpu": 2_000_000_000, "cpu_used": 15 * 60_000_000 * 5}
	got := sumBy(cost, schema.Resource, schema.CostNanos)
	if want["cpu_used"] = got["cpu_used"]; got["cpu_used"] == 0 || !maps.Equal(got, want) {
		t.Errorf("cost by resource: %v, want %v", got, want)
	}
	by := sumBy(cost, schema.Namespace, schema.CostNanos)
	if by["accumulus"] != 0 || by["ml"] != 2_000_000_000 || by["web"] == 0 || by["db"] == 0 {
		t.Errorf("cost by namespace: %v", by)
	}
	before := w.written()
	w.tick()
	if after := w.written(); !maps.Equal(before, after) {
		t.Errorf("the same again writes: %v, had %v", after, before)
	}
	// The control: without the exclusion the metering has a cost.
	all := newWorld(t, Config{}, fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"}),
		fleet.NewObject("prices", fleet.PriceList{Currency: "EUR", Exclude: []string{}, Rates: []fleet.Rate{{Resource: "cpu_used", Price: "3.6"}}}))
	all.settle("a", "n1", minutes(0, 15), append(twoPods, pod{"accumulus", "follower", 10, 0})...)
	all.object("Namespace", "", "accumulus", `{"metering":true}`)
	all.clk.Set(at(15))
	all.tick()
	if by := sumBy(all.rows(schema.CostQuarter, "a", minutes(0, 15)), schema.Namespace, schema.CostNanos); by["accumulus"] != 15*10_000_000 {
		t.Errorf("nothing excluded: %v", by)
	}
}

// object puts a row of the table object into the registry.
func (w *world) object(kind, namespace, name, spec string) {
	w.t.Helper()
	tags := map[string]string{schema.Cluster: "a", schema.Kind: kind, "name": name, "uid": "uid-" + name}
	if namespace != "" {
		tags[schema.Namespace] = namespace
	}
	p := influxsync.NewPoint(schema.Object.Name, tags, map[string]influxsync.Value{"spec": influxsync.Str(spec), "reason": influxsync.Str(""),
		"valid_from": influxsync.Int(at(0).UnixNano()), "valid_to": influxsync.Int(0)}, at(0).Add(time.Second))
	if err := w.books.PutObjects(w.t.Context(), []influxsync.Point{p}); err != nil {
		w.t.Fatal(err)
	}
}
