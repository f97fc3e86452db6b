package query

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// start is the beginning of every fixture's data: a whole hour.
var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

// fixture is an engine over a real store and a real registry.
type fixture struct {
	*Engine
	t        *testing.T
	ctx      context.Context
	books    *registry.Registry
	minute   *influxsync.Database
	quarter  *influxsync.Database
	received map[string]int // minutes, by cluster
}

func newFixture(t *testing.T, objects ...fleet.Object) *fixture {
	t.Helper()
	ctx := t.Context()
	server := influxtest.New(t)
	if err := server.Create(ctx, schema.MinuteDB, schema.QuarterDB); err != nil {
		t.Fatal(err)
	}
	clk := clock.NewManual(at(120))
	books, err := registry.Open(ctx, filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	f := &fixture{t: t, ctx: ctx, books: books, minute: server.Database(schema.MinuteDB), quarter: server.Database(schema.QuarterDB),
		received: make(map[string]int)}
	f.Engine = New(Config{}, Stores{Minute: f.minute, Quarter: f.quarter}, books, clk)
	f.apply(objects...)
	return f
}

func (f *fixture) apply(objects ...fleet.Object) {
	f.t.Helper()
	if len(objects) == 0 {
		return
	}
	if _, err := f.books.Apply(f.ctx, objects, "test"); err != nil {
		f.t.Fatal(err)
	}
}

// settle does the due work of the quarters [from, to).
func (f *fixture) settle(from, to int) {
	f.t.Helper()
	counts, err := f.books.DueCount(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	for processor := range counts {
		due, err := f.books.Due(f.ctx, processor, 0)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, d := range due {
			if d.Quarter.Before(at(from*15)) || !d.Quarter.Before(at(to*15)) {
				continue
			}
			if err := f.books.Done(f.ctx, d, "x", nil); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// receive tells the registry that the first minutes of a cluster have arrived,
// which makes their quarters due.
func (f *fixture) receive(cluster string, minutes int) {
	f.t.Helper()
	var windows []influxsync.Confirmed
	var due []registry.Due
	for i := f.received[cluster]; i < minutes; i++ {
		windows = append(windows, influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: schema.PodMinute.Name, Revision: 1, Rows: 1, Coverage: 1000,
			Window: schema.WindowAt(at(i), schema.Minute), Time: at(i + 1), Hash: fmt.Sprintf("%x", i)}})
		due = append(due, registry.Due{Processor: registry.ProcessorCost, Scope: cluster, Quarter: at(i).Truncate(schema.Quarter), Reason: "test"})
	}
	f.received[cluster] = minutes
	last := windows[len(windows)-1]
	mark := influxsync.Mark{Store: "store-" + cluster, Time: last.Time, Hash: last.Hash}
	if err := f.books.Received(f.ctx, cluster, schema.PodMinute.Name, registry.Receipt{Mark: mark, Windows: windows}, due); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) write(db *influxsync.Database, points []influxsync.Point) {
	f.t.Helper()
	if err := db.Write(f.ctx, points); err != nil {
		f.t.Fatal(err)
	}
}

const mean = "Ember yearly mean of NL, 2024"

// point is a whole row of a table: each field that is not given is zero.
func point(table schema.Table, when time.Time, tags map[string]string, values map[string]int64) influxsync.Point {
	fields := make(map[string]influxsync.Value)
	for _, field := range table.Fields {
		switch {
		case field.Name == schema.CarbonSource:
			fields[field.Name] = influxsync.Str(mean + "; TSO report")
		case field.Type == schema.String:
			fields[field.Name] = influxsync.Str(schema.Measured)
		case !field.Optional || values[field.Name] != 0:
			fields[field.Name] = influxsync.Int(values[field.Name])
		}
	}
	return influxsync.NewPoint(table.Name, tags, fields, when)
}

// podTag is the identity of a test's pod.
type podID struct{ cluster, node, namespace, pod, workload, box string }

func (p podID) tags() map[string]string {
	tags := map[string]string{schema.Cluster: p.cluster, schema.Node: p.node, schema.Namespace: p.namespace, schema.Pod: p.pod,
		schema.PodUID: "uid-" + p.pod, schema.Box: p.box}
	if p.workload != "" {
		tags[schema.WorkloadKind], tags[schema.Workload] = "Deployment", p.workload
	}
	return tags
}

// quarterTags are the tags that a row has in the quarter tables.
func (p podID) quarterTags() map[string]string {
	tags := p.tags()
	delete(tags, schema.Pod)
	delete(tags, schema.PodUID)
	return tags
}

// podValues are one pod's quantities in minute i, different in each.
func podValues(p podID, i int) map[string]int64 {
	n := int64(len(p.pod)*7+i*13%29) + 1
	return map[string]int64{schema.CPU: 1_000_003 * n, schema.Memory: 524_287 * n, schema.NetworkReceive: 1001 * n, schema.NetworkTransmit: 307 * n,
		schema.CPURequest: 15_000_000, schema.MemoryRequest: 60 << 18, schema.Uptime: 60_000, schema.Coverage: 60, schema.Interpolated: n % 3}
}

func energyValues(p podID, i int) map[string]int64 {
	n := int64(len(p.pod)*5+i*11%23) + 1
	return map[string]int64{schema.EnergyActive: 1_001 * n, schema.EnergyIdle: 503 * n, schema.EnergyOverhead: 97 * n,
		schema.EnergyModelled: 1_500 * n, schema.EnergyMeasured: 1_601 * n, schema.Heat: 1_571 * n,
		schema.CarbonLocation: 7 * n, schema.CarbonLocationEnergy: 1_301 * n, schema.CarbonEstimatedEnergy: 401 * n,
		schema.CarbonMarket: 3 * n, schema.CarbonMarketEnergy: 1_601 * n, schema.CarbonEmbodied: 11 * n}
}

// fill writes the minutes [from, to) of the pods, with node rows.
func (f *fixture) fill(pods []podID, from, to int) {
	f.t.Helper()
	var points []influxsync.Point
	nodes := make(map[[2]string]bool)
	for i := from; i < to; i++ {
		for _, p := range pods {
			points = append(points, point(schema.PodMinute, at(i), p.tags(), podValues(p, i)), point(schema.EnergyMinute, at(i), p.tags(), energyValues(p, i)))
			nodes[[2]string{p.cluster, p.node}] = true
		}
		for n := range nodes {
			points = append(points, point(schema.NodeMinute, at(i), map[string]string{schema.Cluster: n[0], schema.Node: n[1]},
				map[string]int64{schema.Uptime: 60_000, schema.Coverage: 60}))
		}
	}
	f.write(f.minute, points)
}

// coarsen writes the quarter rows of the pods for the quarters [from, to), the
// sums of their minutes, and settles them.
func (f *fixture) coarsen(pods []podID, from, to int) {
	f.t.Helper()
	var points []influxsync.Point
	nodes := make(map[[2]string]bool)
	for q := from; q < to; q++ {
		usage, energy, tags := map[string]map[string]int64{}, map[string]map[string]int64{}, map[string]map[string]string{}
		for _, p := range pods {
			nodes[[2]string{p.cluster, p.node}] = true
			id := fmt.Sprint(p.quarterTags())
			tags[id] = p.quarterTags()
			if usage[id] == nil {
				usage[id], energy[id] = map[string]int64{}, map[string]int64{}
			}
			for i := q * 15; i < q*15+15; i++ {
				for name, v := range podValues(p, i) {
					usage[id][name] += v
				}
				for name, v := range energyValues(p, i) {
					energy[id][name] += v
				}
			}
		}
		for id := range usage {
			points = append(points, point(schema.UsageQuarter, at(q*15), tags[id], usage[id]), point(schema.EnergyQuarter, at(q*15), tags[id], energy[id]))
		}
		for n := range nodes {
			points = append(points, point(schema.NodeQuarter, at(q*15), map[string]string{schema.Cluster: n[0], schema.Node: n[1]},
				map[string]int64{schema.Uptime: 15 * 60_000, schema.Coverage: 15 * 60}))
		}
	}
	f.write(f.quarter, points)
	f.settle(from, to)
}

func (f *fixture) usage(request Request) Answer {
	f.t.Helper()
	answer, err := f.Usage(f.ctx, request)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer
}

// rowsByKey are the rows of one step, named by their key's values.
func rowsByKey(answer Answer) map[string]Row {
	rows := make(map[string]Row)
	for _, row := range answer.Rows {
		id := ""
		for _, key := range answer.Aggregate {
			id += "/" + row.Key[string(key)]
		}
		rows[id[min(1, len(id)):]] = row
	}
	return rows
}

// window is FROM,TO of the minutes.
func window(from, to int) string {
	return at(from).Format(time.RFC3339) + "," + at(to).Format(time.RFC3339)
}
