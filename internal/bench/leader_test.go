package bench

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/meter"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/work"
	"github.com/prometheus/client_golang/prometheus"
)

// quarter is the one that is metered, pulled and rated; it ends a day, so that
// a day of its copies is one day.
var quarter = schema.WindowAt(began.AddDate(0, 0, 1).Truncate(24*time.Hour).Add(24*time.Hour-schema.Quarter), schema.Quarter)

// known is the watch and the tagger of a simulated cluster.
type known struct {
	nodes []reading.NodeInfo
	pods  []reading.PodInfo
	facts map[string]reading.Facts
}

// Nodes are all nodes.
func (k known) Nodes() []reading.NodeInfo { return k.nodes }

// Pods are all pods.
func (k known) Pods() []reading.PodInfo { return k.pods }

// FactsAt are a node's facts.
func (k known) FactsAt(node string, _ time.Time) (reading.Facts, bool) {
	f, ok := k.facts[node]
	return f, ok
}

func knownOf(sim *simulator.Simulator) known {
	k := known{nodes: sim.NodeInfos(cluster, quarter.From), pods: sim.PodInfos(cluster, quarter.From, quarter.From), facts: make(map[string]reading.Facts)}
	for _, n := range sim.Fleet().Clusters[0].Nodes {
		k.facts[n.Name] = reading.Facts{Box: n.Box, CPUType: n.CPUType, RAMType: n.RAMType, DiskType: n.DiskType}
	}
	return k
}

// metered is a follower's store that holds one settled quarter.
func metered(b *testing.B, sim *simulator.Simulator) *influxsync.Server {
	b.Helper()
	server, clk := influxtest.New(b), clock.NewManual(quarter.From.Add(-schema.Minute))
	check(b, server.Create(b.Context(), schema.RawDB, schema.MinuteDB, schema.FactsDB))
	minute := server.Database(schema.MinuteDB)
	journals := make(map[string]meter.Journal)
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		journal, err := influxsync.OpenJournal(b.Context(), minute, cluster, table, clk)
		check(b, err)
		journals[table.Name] = journal
	}
	k := knownOf(sim)
	m, err := meter.New(meter.Config{Cluster: cluster, Interval: schema.Minute, SettleDeadline: 2 * time.Minute, FactsDeadline: 10 * time.Minute,
		From: quarter.From, To: quarter.To}, meter.Deps{Clock: clk, Raw: meter.Influx(server.Database(schema.RawDB)), Minute: meter.Influx(minute),
		Journals: journals, Watch: k, Tagger: k}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	check(b, err)
	check(b, m.Restore(b.Context()))
	for !clk.Now().After(quarter.To) {
		check(b, m.Add(b.Context(), sim.ReadingsAt(cluster, clk.Now())))
		_, err := m.Settle(b.Context())
		check(b, err)
		clk.Advance(schema.Minute)
	}
	if mark := m.Status().Mark; !mark.Equal(quarter.To) {
		b.Fatalf("settled to %s, want %s", mark, quarter.To)
	}
	return server
}

// centre is a leader's stores with its parts.
type centre struct {
	clock    *clock.Manual
	store    *influxsync.Server
	registry *registry.Registry
	puller   *pull.Puller
	worker   *work.Worker
	query    *query.Engine
}

func newCentre(b *testing.B, sim *simulator.Simulator) *centre {
	b.Helper()
	c := &centre{clock: clock.NewManual(quarter.To.Add(2 * schema.Minute)), store: influxtest.New(b)}
	check(b, c.store.Create(b.Context(), schema.MinuteDB, schema.FactsDB, schema.QuarterDB, schema.MetersDB))
	var err error
	c.registry, err = registry.Open(b.Context(), filepath.Join(b.TempDir(), "registry.db"), c.clock)
	check(b, err)
	b.Cleanup(func() { check(b, c.registry.Close()) })
	minute, quarters := c.store.Database(schema.MinuteDB), c.store.Database(schema.QuarterDB)
	readings := meters.NewStore(c.store)
	c.puller = pull.New(c.registry, c.store)
	c.worker, err = work.New(work.Config{}, c.registry, work.Stores{Minute: minute, Quarter: quarters}, readings, c.clock,
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	check(b, err)
	c.query = query.New(query.Config{}, query.Stores{Minute: minute, Quarter: quarters}, c.registry, c.clock)
	c.apply(b, described(sim)...)
	c.apply(b, prices("0.024"))
	for _, box := range sim.Fleet().Boxes {
		var all []meters.Reading
		for at := quarter.From.Add(-schema.Quarter); !at.After(quarter.To); at = at.Add(schema.Minute) {
			all = append(all, meters.Reading{Box: box.Name, Meter: box.Meters[0].Name, Time: at, Received: at, Epoch: began, HasCounter: true,
				CounterMillijoules: sim.MeterMillijoules(box.Name, box.Meters[0].Name, at), StepMillijoules: 3600})
		}
		check(b, readings.Write(b.Context(), all))
	}
	return c
}

func (c *centre) apply(b *testing.B, objects ...fleet.Object) {
	b.Helper()
	_, err := c.registry.Apply(b.Context(), objects, "benchmark")
	check(b, err)
}

// hardware is what all nodes are, with so many watts when idle.
func hardware(sim *simulator.Simulator, idleWatts float64) fleet.Object {
	n := sim.Fleet().Clusters[0].Nodes[0]
	return fleet.NewObject("small", fleet.Hardware{CPUType: n.CPUType, RAMType: n.RAMType, DiskType: n.DiskType,
		Cores: int64(n.Cores), MemoryBytes: n.MemoryBytes, IdleWatts: idleWatts, MaxWatts: 40})
}

// described is the fleet.
func described(sim *simulator.Simulator) []fleet.Object {
	all := []fleet.Object{hardware(sim, 7), fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject(cluster, fleet.Cluster{Customer: "acme", URL: "https://127.0.0.1:1"}),
		fleet.NewObject("owners", fleet.Assignment{Project: "all"})}
	for _, box := range sim.Fleet().Boxes {
		all = append(all, fleet.NewObject(box.Name, fleet.Box{}),
			fleet.NewObject(box.Meters[0].Name, fleet.Meter{Box: box.Name, Driver: fleet.DriverShellyGen2, URL: "http://127.0.0.1:1"}))
	}
	for _, n := range sim.Fleet().Clusters[0].Nodes {
		all = append(all, fleet.NewObject(cluster+"."+n.Name, fleet.Node{Cluster: cluster, Node: n.Name, Box: n.Box, Hardware: "small"}))
	}
	return all
}

func prices(cpu string) fleet.Object {
	return fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: fleet.Decimal(cpu)},
		{Resource: "memory_used", Price: "0.0032"}, {Resource: "energy", Price: "0.31"}}})
}

// BenchmarkLeader is the centre's work for one quarter of one cluster of 2,000
// pods with 4,000 containers: 15 minutes of rows in, energy by pod, sums, cost.
func BenchmarkLeader(b *testing.B) {
	sim, err := simulator.New(scale())
	check(b, err)
	source, c := metered(b, sim), newCentre(b, sim)
	// The baseline: the same rows read from the one store and written to the other.
	b.Run("copy", func(b *testing.B) { benchmarkCopy(b, source) })
	b.Run("pull", func(b *testing.B) { c.benchmarkPull(b, source) })
	_, err = c.puller.Pull(b.Context(), cluster, source)
	check(b, err)
	check(b, c.worker.Run(b.Context()))
	turn := 0
	b.Run("power-usage-cost", func(b *testing.B) { // what a corrected model makes due
		c.benchmarkWork(b, true, func() { turn++; c.apply(b, hardware(sim, 7+float64(turn)/100).Since(quarter.From)) })
	})
	b.Run("cost", func(b *testing.B) { // what a corrected price makes due
		c.benchmarkWork(b, true, func() { turn++; c.apply(b, prices(fmt.Sprintf("0.%05d", 2400+turn)).Since(quarter.From)) })
	})
	b.Run("unchanged", func(b *testing.B) { // due again with the same inputs
		c.benchmarkWork(b, false, func() {
			due := []registry.Due{{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: quarter.From},
				{Processor: registry.ProcessorCost, Scope: cluster, Quarter: quarter.From}}
			for _, box := range sim.Fleet().Boxes {
				due = append(due, registry.Due{Processor: registry.ProcessorPower, Scope: box.Name, Quarter: quarter.From})
			}
			check(b, c.registry.AddDue(b.Context(), due...))
		})
	})
	c.repeat(b)
	b.Run("query-24h", c.benchmarkQuery)
}

func benchmarkCopy(b *testing.B, source *influxsync.Server) {
	sink := influxtest.New(b)
	check(b, sink.Create(b.Context(), schema.MinuteDB))
	rows := 0
	w := Start(b)
	for b.Loop() {
		for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
			rows += copyRows(b, source.Database(schema.MinuteDB), sink.Database(schema.MinuteDB), table.Name, 0)
		}
	}
	w.Per(rows, "row")
}

// copyRows copies a quarter's rows of a table, moved by so much.
func copyRows(b *testing.B, from, to *influxsync.Database, table string, shift time.Duration) int {
	b.Helper()
	var rows []influxsync.Point
	count := 0
	flush := func() {
		check(b, to.Write(b.Context(), rows))
		count += len(rows)
		rows = rows[:0]
	}
	check(b, from.TimeQuery(b.Context(), table, quarter, nil, func(p influxsync.Point) error {
		p.Tags, p.Fields = append([]influxsync.Tag{}, p.Tags...), append([]influxsync.FieldValue{}, p.Fields...)
		p.Time = p.Time.Add(shift)
		if rows = append(rows, p); len(rows) == 5000 {
			flush()
		}
		return nil
	}))
	flush()
	return count
}

func (c *centre) benchmarkPull(b *testing.B, source *influxsync.Server) {
	rows := 0
	w := Start(b)
	for b.Loop() {
		w.Stop()
		check(b, c.registry.Forget(b.Context(), cluster))
		w.Go()
		result, err := c.puller.Pull(b.Context(), cluster, source)
		check(b, err)
		rows += result.Rows
	}
	w.Per(rows, "row")
}

// benchmarkWork runs the worker over what make made due. A pass that must
// write, writes cost rows.
func (c *centre) benchmarkWork(b *testing.B, writes bool, make func()) {
	passes := 0
	w := Start(b)
	for b.Loop() {
		w.Stop()
		make()
		before := c.costEntry(b)
		w.Go()
		check(b, c.worker.Run(b.Context()))
		passes++
		w.Stop()
		if after := c.costEntry(b); (after != before) != writes {
			b.Fatalf("cost's journal went from entry %q to %q", before, after)
		}
		w.Go()
	}
	w.Per(passes*nodes*podsPerNode, "pod")
}

// costEntry is the hash of the newest journal entry of the table cost.
func (c *centre) costEntry(b *testing.B) string {
	b.Helper()
	journal, err := influxsync.OpenJournal(b.Context(), c.store.Database(schema.QuarterDB), cluster, schema.CostQuarter, c.clock)
	check(b, err)
	head, _ := journal.Head()
	return head.Hash
}

// repeat gives every other quarter of the day the rows of the last one.
func (c *centre) repeat(b *testing.B) {
	b.Helper()
	const day = 24 * time.Hour
	db := c.store.Database(schema.QuarterDB)
	for _, table := range []schema.Table{schema.UsageQuarter, schema.NodeQuarter, schema.EnergyQuarter, schema.BoxQuarter, schema.CostQuarter} {
		for shift := schema.Quarter; shift < day; shift += schema.Quarter {
			if copyRows(b, db, db, table.Name, -shift) == 0 {
				b.Fatal(errors.New("no rows in " + table.Name))
			}
		}
	}
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute} {
		var windows []influxsync.Confirmed
		for at := quarter.To.Add(-day); at.Before(quarter.From); at = at.Add(schema.Minute) {
			windows = append(windows, influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: table.Name, Window: schema.WindowAt(at, schema.Minute),
				Revision: 1, Rows: 1, Coverage: 1000, Time: at}})
		}
		mark, err := c.registry.Mark(b.Context(), cluster, table.Name)
		check(b, err)
		check(b, c.registry.Received(b.Context(), cluster, table.Name, registry.Receipt{Mark: mark, Windows: windows}, nil))
	}
}

// benchmarkQuery asks for a day by cluster and namespace, in quarters.
func (c *centre) benchmarkQuery(b *testing.B) {
	request := query.Request{Window: "24h", Aggregate: []query.Key{"cluster", "namespace"}}
	for _, step := range []time.Duration{0, schema.Quarter} {
		b.Run("step="+step.String(), func(b *testing.B) {
			request.Step = step
			answers := 0
			w := Start(b)
			for b.Loop() {
				answer, err := c.query.Usage(b.Context(), request)
				check(b, err)
				if want := 21 * max(1, int(24*time.Hour/max(step, time.Minute))); answer.Total < 20 || step > 0 && answer.Total < want {
					b.Fatalf("%d rows, want %d", answer.Total, want)
				}
				answers++
			}
			w.Per(answers, "answer")
		})
	}
}
