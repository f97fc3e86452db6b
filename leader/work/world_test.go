package work

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func at(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }

func minutes(from, to int) schema.Window { return schema.Window{From: at(from), To: at(to)} }

// world is a centre with followers, all stores real.
type world struct {
	*Worker
	t         *testing.T
	clk       *clock.Manual
	books     *registry.Registry
	server    *influxsync.Server
	readings  *meters.Store
	puller    *pull.Puller
	followers map[string]*followertest.Follower
}

func newWorld(t *testing.T, config Config, objects ...fleet.Object) *world {
	t.Helper()
	clk := clock.NewManual(at(0))
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.MinuteDB, schema.FactsDB, schema.QuarterDB, schema.MetersDB); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, clk: clk, books: books, server: server, readings: meters.NewStore(server), puller: pull.New(books, server),
		followers: make(map[string]*followertest.Follower)}
	stores := Stores{Minute: server.Database(schema.MinuteDB), Quarter: server.Database(schema.QuarterDB)}
	if w.Worker, err = New(config, books, stores, w.readings, clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	w.apply(objects...)
	return w
}

func (w *world) apply(objects ...fleet.Object) {
	w.t.Helper()
	if _, err := w.books.Apply(w.t.Context(), objects, "test"); err != nil {
		w.t.Fatal(err)
	}
}

// pod is one pod's quantities in a minute.
type pod struct {
	namespace, name string
	cpu             int64 // core-s
	request         int64 // core-s
}

// settle writes minutes of a node of 10 cores at a follower. Its CPU time is its
// pods'.
func (w *world) settle(cluster, node string, window schema.Window, pods ...pod) {
	w.t.Helper()
	var nodeRows, podRows []influxsync.Point
	for _, minute := range window.Split(schema.Minute) {
		var cpu int64
		for _, p := range pods {
			cpu += p.cpu
			podRows = append(podRows, followertest.Row(schema.PodMinute, minute.From, map[string]string{schema.Cluster: cluster, schema.Node: node,
				schema.Namespace: p.namespace, schema.Pod: p.name, schema.PodUID: "uid-" + p.name, schema.WorkloadKind: "Deployment", schema.Workload: p.name},
				map[string]int64{schema.CPU: p.cpu * 1e6, schema.CPURequest: p.request * 1e6, schema.Uptime: 60_000, schema.Coverage: 60}))
		}
		nodeRows = append(nodeRows, followertest.Row(schema.NodeMinute, minute.From, map[string]string{schema.Cluster: cluster, schema.Node: node},
			map[string]int64{schema.CPU: cpu * 1e6, schema.CapacityCPU: 600e6, schema.AllocatableCPU: 600e6, schema.Uptime: 60_000, schema.Coverage: 60}))
	}
	w.follower(cluster).Settle(schema.NodeMinute, window, nodeRows...)
	w.follower(cluster).Settle(schema.PodMinute, window, podRows...)
}

func (w *world) follower(cluster string) *followertest.Follower {
	if w.followers[cluster] == nil {
		w.followers[cluster] = followertest.New(w.t, cluster, w.clk)
	}
	return w.followers[cluster]
}

// tick pulls all followers and works until nothing is due but what waits.
func (w *world) tick() {
	w.t.Helper()
	for cluster, follower := range w.followers {
		if _, err := w.puller.Pull(w.t.Context(), cluster, follower.Store); err != nil {
			w.t.Fatal(err)
		}
	}
	for range 4 { // what a pass makes due of earlier quarters is the next pass's
		if err := w.Run(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// meter writes readings of a box's meter, each minute of the window and at its
// end, of a steady growth.
func (w *world) meter(box, name string, window schema.Window, perMinute, step int64) {
	w.t.Helper()
	var list []meters.Reading
	for when := window.From; !when.After(window.To); when = when.Add(time.Minute) {
		growth := int64(when.Sub(start)/time.Minute) * perMinute
		list = append(list, meters.Reading{Box: box, Meter: name, Time: when, Received: when, Epoch: start,
			CounterMillijoules: 5_000_000 + growth, HasCounter: true, StepMillijoules: step})
	}
	if err := w.readings.Write(w.t.Context(), list); err != nil {
		w.t.Fatal(err)
	}
}

// rows are those of a table of the centre in a window.
func (w *world) rows(table schema.Table, cluster string, window schema.Window) []influxsync.Point {
	w.t.Helper()
	var rows []influxsync.Point
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}
	err := w.server.Database(table.DB).TimeQuery(w.t.Context(), table.Name, window, where, func(p influxsync.Point) error {
		rows = append(rows, p)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// sumBy adds fields of the rows, by a tag's values; rows of zeros leave nothing.
func sumBy(rows []influxsync.Point, tag string, fields ...string) map[string]int64 {
	sums := make(map[string]int64)
	for _, row := range rows {
		for _, field := range fields {
			if n := row.Int(field); n != 0 {
				sums[row.Tag(tag)] += n
			}
		}
	}
	return sums
}

func total(rows []influxsync.Point, fields ...string) int64 {
	var sum int64
	for _, n := range sumBy(rows, "none", fields...) {
		sum += n
	}
	return sum
}

var energyFields = []string{schema.EnergyActive, schema.EnergyIdle, schema.EnergyOverhead}

// written is how many journal entries the leader's own tables have, by
// "table/cluster".
func (w *world) written() map[string]int {
	w.t.Helper()
	counts := make(map[string]int)
	for _, table := range []schema.Table{schema.EnergyMinute, schema.BoxMinute, schema.UsageQuarter, schema.NodeQuarter, schema.EnergyQuarter, schema.BoxQuarter, schema.VolumeQuarter, schema.CostQuarter} {
		for _, cluster := range []string{"a", "b", schema.BoxCluster} {
			entries, err := influxsync.ReadJournal(w.t.Context(), w.server.Database(table.DB), cluster, table.Name, time.Time{}, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(entries) > 0 {
				counts[table.DB+"."+table.Name+"/"+cluster] = len(entries)
			}
		}
	}
	return counts
}

// due is how many entries are due, by processor.
func (w *world) due() map[string]int {
	w.t.Helper()
	counts, err := w.books.DueCount(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return counts
}

// rackedFleet is cluster a with node n1 in box rack: 10 W idle, 110 W at most,
// and a price list in which 1 core-µs costs 1 nano and 1 mJ 0.1 nano.
func rackedFleet() []fleet.Object {
	return []fleet.Object{
		fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"}),
		fleet.NewObject("rack", fleet.Box{}),
		fleet.NewObject("server", fleet.Hardware{Cores: 10, IdleWatts: 10, MaxWatts: 110}),
		fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1", Box: "rack", Hardware: "server"}),
		fleet.NewObject("list", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "3.6"}, {Resource: "energy", Price: "0.36"}}}),
	}
}

func meterObject() fleet.Object {
	return fleet.NewObject("plug", fleet.Meter{Box: "rack", Driver: fleet.DriverShellyGen2, URL: "http://127.0.0.1:2"})
}

// twoPods use half of the node's cores: 60 W, of which 10 W are idle.
var twoPods = []pod{{"web", "p1", 100, 60}, {"db", "p2", 200, 240}}
