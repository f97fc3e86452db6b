package allocation

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

var (
	monthClusters   = flag.Int("month-clusters", 2, "clusters of the benchmark of a month")
	monthNamespaces = flag.Int("month-namespaces", 20, "namespaces of each, with one workload")
	monthDays       = flag.Int("month-days", 30, "days of quarters")
)

// BenchmarkMonth is a month by namespace, from the quarter tables. It prints how
// many rows there are.
func BenchmarkMonth(b *testing.B) {
	ctx := b.Context()
	server := influxtest.New(b)
	if err := server.Create(ctx, schema.MinuteDB, schema.QuarterDB); err != nil {
		b.Fatal(err)
	}
	from := now.Truncate(day).Add(-time.Duration(*monthDays) * day)
	clk := clock.NewManual(from.Add(-time.Hour))
	books, err := registry.Open(ctx, filepath.Join(b.TempDir(), "registry.db"), clk)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = books.Close() })
	list := []fleet.Object{fleet.NewObject("all", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_max", Price: "0.03"}, {Resource: "energy", Price: "0.28"}}})}
	for c := range *monthClusters {
		list = append(list, fleet.NewObject(fmt.Sprint("c-", c), fleet.Cluster{URL: "http://127.0.0.1:1", Provider: "own", Region: "eu"}))
	}
	if _, err := books.Apply(ctx, list, "test"); err != nil {
		b.Fatal(err)
	}
	clk.Set(now)
	quarter, rows := server.Database(schema.QuarterDB), 0
	for at := from; at.Before(now.Truncate(day)); at = at.Add(schema.Quarter) {
		var points []influxsync.Point
		for c := range *monthClusters {
			for n := range *monthNamespaces {
				p := pod{fmt.Sprint("c-", c), "n1", fmt.Sprint("ns-", n), "", "web"}
				values := map[string]int64{schema.CPU: int64(n+1) * 1e7, schema.CPURequest: 2e7, schema.CPUMax: max(2e7, int64(n+1)*1e7), schema.Memory: 1e6, schema.Uptime: 900_000, schema.Coverage: 900,
					schema.EnergyActive: int64(n) * 1000}
				points = append(points, row(schema.UsageQuarter, at, p.tags(), values), row(schema.EnergyQuarter, at, p.tags(), values))
			}
			points = append(points, row(schema.NodeQuarter, at, map[string]string{schema.Cluster: fmt.Sprint("c-", c), schema.Node: "n1"}, map[string]int64{schema.Uptime: 900_000, schema.AllocatableCPU: 4 * 900e6}))
		}
		if err := quarter.Write(ctx, points); err != nil {
			b.Fatal(err)
		}
		rows += len(points)
	}
	real := query.New(query.Config{}, query.Stores{Minute: server.Database(schema.MinuteDB), Quarter: quarter}, books, clk)
	e := New(real, real)
	b.Logf("%d clusters, %d namespaces each, %d days: %d quarter rows", *monthClusters, *monthNamespaces, *monthDays, rows)
	call := "window=" + stamp(from) + "," + stamp(now.Truncate(day)) + "&aggregate=cluster,namespace"
	for b.Loop() {
		r, err := e.Parse(ctx, call)
		if err != nil {
			b.Fatal(err)
		}
		answer, err := e.Compute(ctx, r)
		if err != nil || len(answer.Sets[0].Allocations) != *monthClusters**monthNamespaces {
			b.Fatal(err, len(answer.Sets[0].Allocations))
		}
	}
	b.ReportMetric(float64(rows), "rows")
}
