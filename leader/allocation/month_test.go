package allocation

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/daypack"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/work"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	monthClusters   = flag.Int("month-clusters", 2, "clusters of the benchmark of a month")
	monthNamespaces = flag.Int("month-namespaces", 20, "namespaces of each, with one workload")
	monthDays       = flag.Int("month-days", 30, "days of the month")
	monthSample     = flag.Int("month-sample", 2, "clusters whose quarters are written and summed by the leader; the days of the others come of the same formula")
	monthRows       = flag.Bool("month-rows", false, "also write all rows of usage_day to InfluxDB, and read them there")
)

// month is a centre with a month of many clusters.
type month struct {
	b       *testing.B
	window  schema.Window
	file    string // of the registry
	server  *influxsync.Server
	clk     *clock.Manual
	books   *registry.Registry
	written int // quarter rows
}

func monthCluster(c int) string { return fmt.Sprintf("c-%03d", c) }

// monthFields are the fields of monthOf.
var monthFields = []string{schema.CPU, schema.CPURequest, schema.CPUMax, schema.Memory, schema.MemoryRequest, schema.MemoryMax, schema.NetworkReceive, schema.NetworkTransmit,
	schema.Uptime, schema.Coverage, schema.EnergyActive, schema.EnergyIdle, schema.EnergyOverhead, schema.EnergyModelled, schema.EnergyMeasured, schema.Heat, schema.CarbonLocation,
	schema.CarbonLocationEnergy}

// monthOf is what a namespace uses in a quarter.
func monthOf(cluster, namespace int, at time.Time) [18]int64 {
	n := int64(namespace+1)*1_000_003 + int64(cluster)*7_919 + at.Unix()/900%97*131
	energy := n/50 + 4090
	return [18]int64{n * 11, 2e7, max(2e7, n*11), n * 3, 4e6, max(4e6, n*3), n * 5, n, 900_000, 900, n / 50, 4000, 90, energy + 3, energy, energy, energy / 9, energy}
}

// byName are values with the names of their fields.
func byName(values [18]int64) map[string]int64 {
	named := make(map[string]int64, len(values))
	for i, value := range values {
		named[monthFields[i]] = value
	}
	return named
}

var monthNode = map[string]int64{schema.Uptime: 900_000, schema.Coverage: 900, schema.AllocatableCPU: 4 * 900e6, schema.AllocatableMem: 900 * 8 << 20}

// newMonth fills a centre.
func newMonth(b *testing.B) *month {
	ctx := b.Context()
	m := &month{b: b, server: influxtest.New(b), file: filepath.Join(b.TempDir(), "registry.db")}
	to := now.Truncate(day)
	m.window = schema.Window{From: to.Add(-time.Duration(*monthDays) * day), To: to}
	m.clk = clock.NewManual(m.window.From.Add(-time.Hour))
	m.check(m.server.Create(ctx, schema.MinuteDB, schema.QuarterDB, schema.MetersDB))
	m.open()
	list := []fleet.Object{fleet.NewObject("all", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_max", Price: "0.03"}, {Resource: "memory_max", Price: "0.004"}, {Resource: "energy", Price: "0.28"}}})}
	for c := range *monthClusters {
		list = append(list, fleet.NewObject(monthCluster(c), fleet.Cluster{URL: "http://127.0.0.1:1", Provider: "own", Region: "eu"}))
	}
	_, err := m.books.Apply(ctx, list, "test")
	m.check(err)
	m.clk.Set(now.Add(registry.FoldAfter))
	for c := range *monthClusters {
		m.receive(monthCluster(c))
	}
	for c := range min(*monthSample, *monthClusters) {
		m.quarters(c)
	}
	m.sum()
	for c := *monthSample; c < *monthClusters; c++ {
		m.days(c)
	}
	m.ledger()
	return m
}

func (m *month) check(err error) {
	m.b.Helper()
	if err != nil {
		m.b.Fatal(err)
	}
}

// open opens the registry (again) and makes an engine.
func (m *month) open() (*Engine, *query.Engine) {
	books, err := registry.Open(m.b.Context(), m.file, m.clk)
	m.check(err)
	if m.books == nil {
		m.b.Cleanup(func() { _ = m.books.Close() })
	}
	m.books = books
	real := query.New(query.Config{}, query.Stores{Minute: m.server.Database(schema.MinuteDB), Quarter: m.server.Database(schema.QuarterDB)}, books, m.clk)
	return New(real, real), real
}

// receive tells that the cluster's minutes have come up to the month's end.
func (m *month) receive(cluster string) {
	last := influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: schema.PodMinute.Name, Revision: 1, Rows: 1, Coverage: 1000,
		Window: schema.WindowAt(m.window.To, schema.Minute), Time: m.window.To.Add(time.Minute), Hash: "1"}}
	mark := influxsync.Mark{Store: "store-" + cluster, Time: last.Time, Hash: last.Hash}
	m.check(m.books.Received(m.b.Context(), cluster, schema.PodMinute.Name, registry.Receipt{Mark: mark, Windows: []influxsync.Confirmed{last}}, nil))
}

// quarters writes a cluster's quarters and tells the registry.
func (m *month) quarters(c int) {
	cluster, db := monthCluster(c), m.server.Database(schema.QuarterDB)
	for at := m.window.From; at.Before(m.window.To); at = at.Add(schema.Quarter) {
		var points []influxsync.Point
		for n := range *monthNamespaces {
			tags, values := pod{cluster, "n1", fmt.Sprintf("ns-%03d", n), "", "web"}.tags(), byName(monthOf(c, n, at))
			points = append(points, row(schema.UsageQuarter, at, tags, values), row(schema.EnergyQuarter, at, tags, values))
		}
		points = append(points, row(schema.NodeQuarter, at, map[string]string{schema.Cluster: cluster, schema.Node: "n1"}, monthNode))
		m.check(db.Write(m.b.Context(), points))
		m.written += len(points)
		m.check(m.books.Done(m.b.Context(), registry.Due{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: at}, "x", nil))
	}
}

// sum lets the leader sum the days.
func (m *month) sum() {
	stores := work.Stores{Minute: m.server.Database(schema.MinuteDB), Quarter: m.server.Database(schema.QuarterDB)}
	worker, err := work.New(work.Config{}, m.books, stores, meters.NewStore(m.server), m.clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	m.check(err)
	m.check(worker.Run(m.b.Context()))
}

// dayRows are a cluster's rows of a day, by the formula.
func (m *month) dayRows(c int, from time.Time) (spaces, nodes []influxsync.Point) {
	cluster := monthCluster(c)
	for n := range *monthNamespaces {
		var sums [18]int64
		for at := from; at.Before(from.Add(day)); at = at.Add(schema.Quarter) {
			for i, value := range monthOf(c, n, at) {
				sums[i] += value
			}
		}
		spaces = append(spaces, row(schema.UsageDay, from, map[string]string{schema.Cluster: cluster, schema.Namespace: fmt.Sprintf("ns-%03d", n)}, byName(sums)))
	}
	node := make(map[string]int64)
	for name, value := range monthNode {
		node[name] = 96 * value
	}
	return spaces, []influxsync.Point{row(schema.NodeDay, from, map[string]string{schema.Cluster: cluster, schema.Node: "n1"}, node)}
}

// days keeps the sums of a cluster's days as the leader does, without its quarters.
func (m *month) days(c int) {
	ctx := m.b.Context()
	for at := m.window.From; at.Before(m.window.To); at = at.Add(day) {
		m.check(m.books.Done(ctx, registry.Due{Processor: registry.ProcessorUsage, Scope: monthCluster(c), Quarter: at}, "x", nil))
		spaces, nodes := m.dayRows(c, at)
		pack := func(table schema.Table, rows []influxsync.Point) []byte {
			return daypack.Pack(table.Tags[1:], table.Integers(), rows)
		}
		m.check(m.books.FillDay(ctx, registry.OpenDay{Cluster: monthCluster(c), Day: at, Sequence: 1},
			registry.DaySums{Usage: pack(schema.UsageDay, spaces), Nodes: pack(schema.NodeDay, nodes), Volumes: pack(schema.VolumeDay, nil)}))
	}
}

// sampleIsEqual holds the sample's days against its quarters: a window that begins a
// minute later and one that ends a quarter earlier, and those days by the formula.
func (m *month) sampleIsEqual(e *query.Engine) {
	ctx := m.b.Context()
	for c := range min(*monthSample, *monthClusters) {
		filter := []usage.Condition{{Key: usage.Cluster, Values: []string{monthCluster(c)}}}
		answer, err := e.Usage(ctx, query.Request{Window: stamp(m.window.From) + "," + stamp(m.window.To), Aggregate: []usage.Key{usage.Namespace}, Filter: filter, Limit: 1000})
		m.check(err)
		want := make(map[string]int64)
		q := influxsync.Query{Select: []string{schema.CPU}, Aggregate: "sum", From: schema.UsageQuarter.Name, Window: m.window, Group: []string{schema.Namespace},
			Where: []influxsync.Condition{{Tag: schema.Cluster, Value: monthCluster(c)}}}
		m.check(m.server.Database(schema.QuarterDB).Query(ctx, q, func(p influxsync.Point) error {
			want[p.Tag(schema.Namespace)] = p.Int(schema.CPU)
			return nil
		}))
		if len(want) != *monthNamespaces {
			m.b.Fatalf("%d namespaces, want %d", len(want), *monthNamespaces)
		}
		for _, r := range answer.Rows {
			if of := r.Key[string(usage.Namespace)]; r.Sums[usage.CPU] != want[of] {
				m.b.Fatalf("%s of %s: %d from days, %d from quarters", of, monthCluster(c), r.Sums[usage.CPU], want[of])
			}
		}
		for at := m.window.From; at.Before(m.window.To); at = at.Add(day) {
			kept, err := m.books.Days(ctx, monthCluster(c), schema.WindowAt(at, day))
			spaces, _ := m.dayRows(c, at)
			if m.check(err); len(kept) != 1 || !slices.Equal(kept[0].Usage, daypack.Pack(schema.UsageDay.Tags[1:], schema.UsageDay.Integers(), spaces)) {
				m.b.Fatalf("%s of %s: the formula's day is not the leader's", at, monthCluster(c))
			}
		}
	}
}

// BenchmarkMonth is a month of many clusters from its days, warm and cold. Cold is a
// new engine over a registry that was opened again, its file out of the page cache.
func BenchmarkMonth(b *testing.B) {
	m := newMonth(b)
	allocations, real := m.open()
	m.sampleIsEqual(real)
	m.tellSize()
	window := stamp(m.window.From) + "," + stamp(m.window.To)
	ask := func(aggregate ...usage.Key) func() {
		return func() {
			answer, err := real.Usage(b.Context(), query.Request{Window: window, Aggregate: aggregate, Limit: 1000})
			m.check(err)
			if want := (*monthNamespaces + 1) * max(1, (len(aggregate)-1)**monthClusters); answer.Total != want { // with __system__, the node's own time
				m.b.Fatalf("%d rows, want %d", answer.Total, want)
			}
		}
	}
	compute := func(aggregate string) func() {
		return func() {
			r, err := allocations.Parse(b.Context(), "window="+window+"&aggregate="+aggregate)
			m.check(err)
			_, err = allocations.Compute(b.Context(), r)
			m.check(err)
		}
	}
	reopen := func() {
		m.check(m.books.Close())
		m.dropCache()
		allocations, real = m.open()
	}
	for _, c := range []struct {
		name string
		ask  func()
	}{{"usage/namespace", ask(usage.Namespace)}, {"usage/cluster,namespace", ask(usage.Cluster, usage.Namespace)},
		{"allocation/namespace", compute("namespace")}, {"allocation/cluster,namespace", compute("cluster,namespace")}} {
		b.Run(c.name+"/warm", func(b *testing.B) { m.laps(b, func() {}, c.ask) })
		b.Run(c.name+"/cold", func(b *testing.B) { m.laps(b, reopen, c.ask) })
	}
	if *monthRows {
		m.writeRows()
		b.Run("usage_day/influxdb", func(b *testing.B) { m.laps(b, func() {}, m.readRows) })
	}
}

// laps reports the 95th percentile beside the mean, and the CPU time of one, which
// other work on the machine does not change much.
func (m *month) laps(b *testing.B, before, of func()) {
	defer func(outer *testing.B) { m.b = outer }(m.b)
	m.b = b
	var times []time.Duration
	var cpu int64
	for b.Loop() {
		b.StopTimer()
		before()
		began, spent := b.Elapsed(), m.cpu()
		b.StartTimer()
		of()
		cpu += m.cpu() - spent
		times = append(times, b.Elapsed()-began)
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[(len(times)*95+99)/100-1].Microseconds())/1000, "p95-ms")
	b.ReportMetric(float64(cpu/int64(len(times)))/1e6, "cpu-ms")
}

// cpu is what the process has used, in ns.
func (m *month) cpu() int64 {
	var usage syscall.Rusage
	m.check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// dropCache puts the registry's file out of the system's page cache.
func (m *month) dropCache() {
	for _, file := range []string{m.file, m.file + "-wal"} {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if told, err := exec.Command("sync", file).CombinedOutput(); err != nil {
			m.b.Fatalf("sync: %v: %s", err, told)
		}
		if told, err := exec.Command("dd", "if="+file, "iflag=nocache", "count=0").CombinedOutput(); err != nil {
			m.b.Fatalf("cold needs GNU dd: %v: %s", err, told)
		}
	}
}

// tellSize prints how much there is.
func (m *month) tellSize() {
	stat, err := os.Stat(m.file)
	m.check(err)
	var packed, days int
	for c := range *monthClusters {
		kept, err := m.books.Days(m.b.Context(), monthCluster(c), m.window)
		m.check(err)
		for _, d := range kept {
			packed, days = packed+len(d.Usage)+len(d.Nodes)+len(d.Volumes), days+1
		}
	}
	if want := *monthClusters * *monthDays; days != want {
		m.b.Fatalf("%d days are kept, want %d", days, want)
	}
	m.b.Logf("%d clusters of %d namespaces, %d days: %d rows of usage_day, the sums of %d of usage; %d quarter rows were written; the days take %.1f MB packed, the registry %.1f MB",
		*monthClusters, *monthNamespaces, *monthDays, days**monthNamespaces, days**monthNamespaces*96, m.written, float64(packed)/1e6, float64(stat.Size())/1e6)
}

// writeRows writes the month's rows of usage_day.
func (m *month) writeRows() {
	for c := *monthSample; c < *monthClusters; c++ {
		var points []influxsync.Point
		for at := m.window.From; at.Before(m.window.To); at = at.Add(day) {
			spaces, _ := m.dayRows(c, at)
			points = append(points, spaces...)
		}
		m.check(m.server.Database(schema.QuarterDB).Write(m.b.Context(), points))
	}
}

// readRows sums usage_day by namespace in InfluxDB.
func (m *month) readRows() {
	var columns []string
	for _, q := range slices.Concat(usage.OfEnergy, usage.OfPods) {
		columns = append(columns, q.Field())
	}
	sums := make(map[string]int64)
	for c := range *monthClusters {
		q := influxsync.Query{Select: columns, Aggregate: "sum", From: schema.UsageDay.Name, Window: m.window, Group: []string{schema.Namespace},
			Where: []influxsync.Condition{{Tag: schema.Cluster, Value: monthCluster(c)}}}
		m.check(m.server.Database(schema.QuarterDB).Query(m.b.Context(), q, func(p influxsync.Point) error {
			sums[p.Tag(schema.Namespace)] += p.Int(schema.CPU)
			return nil
		}))
	}
	if len(sums) != *monthNamespaces {
		m.b.Fatalf("%d namespaces, want %d", len(sums), *monthNamespaces)
	}
}
