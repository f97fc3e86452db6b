package allocation

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
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// now is a Monday's noon; data reach back for ten days.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type pod struct{ cluster, node, namespace, name, workload string }

var pods = []pod{
	{"edge-a", "n1", "shop", "web-1", "web"},
	{"edge-a", "n2", "shop", "web-2", "web"},
	{"edge-a", "n1", "base", "db-0", ""},
	{"edge-b", "n1", "shop", "api-1", "api"},
}

func objects() []fleet.Object {
	rates := []fleet.Rate{{Resource: "cpu_max", Price: "0.03"}, {Resource: "memory_max", Price: "0.004"}, {Resource: "energy", Price: "0.28"}, {Resource: "volume_claimed", Price: "0.0001"}}
	list := []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("bolt", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("edge-a", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Provider: "own", Region: "eu"}),
		fleet.NewObject("edge-b", fleet.Cluster{Customer: "bolt", URL: "http://127.0.0.1:2", Provider: "own", Region: "us"}),
		fleet.NewObject("box-1", fleet.Box{Site: "cellar"}),
		fleet.NewObject("small", fleet.Hardware{Cores: 4, IdleWatts: 5, MaxWatts: 20, Source: "test"}),
		fleet.NewObject("all", fleet.PriceList{Currency: "EUR", Rates: rates}),
	}
	for _, n := range []string{"edge-a/n1", "edge-a/n2", "edge-b/n1"} {
		list = append(list, fleet.NewObject(n[:6]+"."+n[7:], fleet.Node{Cluster: n[:6], Node: n[7:], Box: "box-1", Hardware: "small"}))
	}
	return list
}

// engine is a real one over ten days of quarters and a day of minutes.
func engine(t *testing.T, objects []fleet.Object) *query.Engine {
	t.Helper()
	ctx := t.Context()
	server := influxtest.New(t)
	if err := server.Create(ctx, schema.MinuteDB, schema.QuarterDB); err != nil {
		t.Fatal(err)
	}
	clk := clock.NewManual(now.Add(-300 * time.Hour))
	books, err := registry.Open(ctx, filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	if _, err := books.Apply(ctx, objects, "test"); err != nil {
		t.Fatal(err)
	}
	clk.Set(now)
	spec := func(end string) influxsync.Value {
		return influxsync.Str(`{"node":"n1","claims":["data"],"labels":{"annotation:example.com/cost-centre":"4711","app":"db"},"start":"2026-11-13T12:00:00Z"` + end + `}`)
	}
	var seen []influxsync.Point
	for name, end := range map[string]string{"db-0": "", "db-before": `,"end":"2026-11-13T13:00:00Z"`} {
		seen = append(seen, influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Cluster: "edge-a", schema.Kind: "Pod", schema.Namespace: "base", "name": name, "uid": "uid-" + name},
			map[string]influxsync.Value{"spec": spec(end), "reason": influxsync.Str(""), "valid_from": influxsync.Int(now.Add(-240 * time.Hour).UnixNano()), "valid_to": influxsync.Int(0)}, now.Add(-240*time.Hour)))
	}
	if err := books.PutObjects(ctx, seen); err != nil {
		t.Fatal(err)
	}
	minute, quarter := server.Database(schema.MinuteDB), server.Database(schema.QuarterDB)
	fill(ctx, t, quarter, schema.Quarter, now.Add(-240*time.Hour), schema.UsageQuarter, schema.EnergyQuarter, schema.NodeQuarter, schema.VolumeQuarter)
	fill(ctx, t, minute, schema.Minute, now.Add(-30*time.Hour), schema.PodMinute, schema.EnergyMinute, schema.NodeMinute, schema.VolumeMinute, schema.ContainerMinute)
	receive(ctx, t, books)
	return query.New(query.Config{}, query.Stores{Minute: minute, Quarter: quarter}, books, clk)
}

// receive tells that minutes have come up to now.
func receive(ctx context.Context, t *testing.T, books *registry.Registry) {
	t.Helper()
	for _, cluster := range []string{"edge-a", "edge-b"} {
		var windows []influxsync.Confirmed
		for at := now.Add(-2 * time.Hour); at.Before(now); at = at.Add(time.Minute) {
			windows = append(windows, influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: schema.PodMinute.Name, Revision: 1, Rows: 1, Coverage: 1000,
				Window: schema.WindowAt(at, schema.Minute), Time: at.Add(time.Minute), Hash: fmt.Sprintf("%x", at.Unix())}})
		}
		last := windows[len(windows)-1]
		mark := influxsync.Mark{Store: "store-" + cluster, Time: last.Time, Hash: last.Hash}
		if err := books.Received(ctx, cluster, schema.PodMinute.Name, registry.Receipt{Mark: mark, Windows: windows}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// fill writes a row of each table for each pod, node or claim and step of grain.
func fill(ctx context.Context, t *testing.T, db *influxsync.Database, grain time.Duration, from time.Time, tables ...schema.Table) {
	t.Helper()
	minutes := int64(grain / time.Minute)
	var points []influxsync.Point
	for at := from; at.Before(now); at = at.Add(grain) {
		nodes := make(map[string]bool)
		for i, p := range pods {
			n := int64(i + 1)
			values := map[string]int64{schema.CPU: 20_000_000 * n * minutes, schema.CPURequest: 30_000_000 * minutes, schema.Memory: 60 << 18 * n * minutes, schema.MemoryRequest: 60 << 19 * minutes,
				schema.Uptime: 60_000 * minutes, schema.Coverage: 60 * minutes, schema.NetworkReceive: 1000 * n * minutes, schema.NetworkTransmit: 300 * minutes}
			values[schema.CPUMax], values[schema.MemoryMax] = max(values[schema.CPU], values[schema.CPURequest]), max(values[schema.Memory], values[schema.MemoryRequest])
			energy := map[string]int64{schema.EnergyActive: 60_000 * n * minutes, schema.EnergyIdle: 30_000 * minutes, schema.EnergyMeasured: 50_000 * n * minutes,
				schema.Heat: (60_000*n + 30_000) * minutes, schema.CarbonLocation: 7000 * minutes, schema.CarbonLocationEnergy: (60_000*n + 30_000) * minutes}
			points = append(points, row(tables[0], at, p.tags(), values), row(tables[1], at, p.tags(), energy))
			if len(tables) > 4 {
				tags := p.tags()
				tags[schema.Container] = "main"
				points = append(points, row(tables[4], at, tags, values))
			}
			if nodes[p.cluster+p.node] {
				continue
			}
			nodes[p.cluster+p.node] = true
			host := map[string]string{schema.Cluster: p.cluster, schema.Node: p.node}
			points = append(points, row(tables[2], at, host, map[string]int64{schema.Uptime: 60_000 * minutes, schema.Coverage: 60 * minutes,
				schema.AllocatableCPU: 4 * 60_000_000 * minutes, schema.AllocatableMem: 60 * 8 << 20 * minutes}))
			host[schema.Namespace], host[schema.Box] = schema.IdleNamespace, "box-1"
			points = append(points, row(tables[1], at, host, map[string]int64{schema.EnergyIdle: 120_000 * minutes, schema.Heat: 120_000 * minutes,
				schema.CarbonLocation: 900 * minutes, schema.CarbonLocationEnergy: 120_000 * minutes}))
		}
		for claim, mounted := range map[string]int64{"data": 60_000, "old": 0} {
			points = append(points, row(tables[3], at, map[string]string{schema.Cluster: "edge-a", schema.Namespace: "base", schema.Claim: claim, schema.ClaimUID: "uid-" + claim,
				schema.StorageClass: "fast", schema.Storage: "local"}, map[string]int64{schema.Claimed: 60 * 10 << 20 * minutes, schema.Mounted: mounted * minutes, schema.Uptime: 60_000 * minutes, schema.Coverage: 60 * minutes}))
		}
	}
	for len(points) > 0 {
		n := min(len(points), 5000)
		if err := db.Write(ctx, points[:n]); err != nil {
			t.Fatal(err)
		}
		points = points[n:]
	}
}

func (p pod) tags() map[string]string {
	tags := map[string]string{schema.Cluster: p.cluster, schema.Node: p.node, schema.Namespace: p.namespace, schema.Pod: p.name, schema.PodUID: "uid-" + p.name, schema.Box: "box-1"}
	if p.workload != "" {
		tags[schema.WorkloadKind], tags[schema.Workload] = "Deployment", p.workload
	}
	return tags
}

// row has each field of the table, and of the tags those that it has.
func row(table schema.Table, at time.Time, tags map[string]string, values map[string]int64) influxsync.Point {
	fields := make(map[string]influxsync.Value)
	for _, field := range table.Fields {
		switch {
		case field.Type == schema.String:
			fields[field.Name] = influxsync.Str(schema.Mixed)
		case !field.Optional || values[field.Name] != 0:
			fields[field.Name] = influxsync.Int(values[field.Name])
		}
	}
	own := make(map[string]string)
	for _, tag := range table.Tags {
		if tags[tag] != "" {
			own[tag] = tags[tag]
		}
	}
	return influxsync.NewPoint(table.Name, own, fields, at)
}
