package books

import (
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	priced "github.com/accumulus-metering/accumulus/leader/prices"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// TestWhatIsSimulatedIsBilled: of random usage and price lists that share idle nodes and
// namespaces, by local days or by quarters, what a period is simulated to cost is what its
// draft comes to, for customers of different time zones in one cluster. Control: without
// the shares it is something else.
func TestWhatIsSimulatedIsBilled(t *testing.T) {
	ctx := t.Context()
	server := influxtest.New(t)
	if err := server.Create(ctx, schema.MinuteDB, schema.QuarterDB); err != nil {
		t.Fatal(err)
	}
	minute, quarter := server.Database(schema.MinuteDB), server.Database(schema.QuarterDB)
	random := rand.New(rand.NewPCG(4, 26))
	writeUsage(t, quarter, random)
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	zones := map[string]string{"acme": "Europe/Amsterdam", "globex": "UTC"}
	rates := []fleet.Rate{{Resource: "cpu_used", Price: "31"}, {Resource: "cpu_requested", Price: "0.7"}, {Resource: "memory", Price: "40"}, {Resource: "cpu_idle", Price: "11"}, {Resource: "memory_idle", Price: "20"}}
	timed := append(rates[1:len(rates):len(rates)], fleet.Rate{Resource: "cpu_used", Price: "31", Slots: map[string]fleet.Decimal{"peak": "90"}})
	tariff := &fleet.TimeOfUse{Zone: "Europe/Amsterdam", Rules: []fleet.TimeRule{{Slot: "peak", From: "22:00", To: "01:30"}}}
	controls := 0
	for name, list := range map[string]fleet.PriceList{
		"idle equally":                {Rates: rates, Share: []fleet.Sharing{{Of: fleet.ShareIdle, Policy: fleet.IdleEqual}}},
		"idle by requests, a service": {Rates: rates, Share: []fleet.Sharing{{Of: fleet.ShareIdle, Policy: fleet.IdleRequests}, {Of: fleet.ShareNamespaces, Namespaces: []string{"ingress"}, Policy: fleet.IdleUsage}}},
		"by quarters":                 {Rates: timed, TimeOfUse: tariff, Share: []fleet.Sharing{{Of: fleet.ShareNamespaces, Namespaces: []string{"ingress"}, Policy: fleet.IdleUsage}}},
		"excluded":                    {Rates: rates, Exclude: []string{"blog"}, Share: []fleet.Sharing{{Of: fleet.ShareIdle, Policy: fleet.IdleUsage}}},
		"nothing":                     {Rates: timed, TimeOfUse: tariff, Minimum: "10"},
	} {
		list.Currency = "EUR"
		clk := clock.NewManual(december)
		reg, err := registry.Open(ctx, filepath.Join(t.TempDir(), "registry.db"), clk)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = reg.Close() })
		objects := []fleet.Object{fleet.NewObject("edge-a", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Region: "eu"}).Since(since),
			fleet.NewObject("small", fleet.Hardware{Cores: 4, IdleWatts: 5, MaxWatts: 20, Source: "test"}).Since(since),
			fleet.NewObject("edge-a.n1", fleet.Node{Cluster: "edge-a", Node: "n1", Hardware: "small"}).Since(since),
			fleet.NewObject("blog", fleet.Assignment{Namespace: "b*", Customer: "globex"}).Since(since),
			fleet.NewObject("standard", list).Since(since)}
		for customer, zone := range zones {
			objects = append(objects, fleet.NewObject(customer, fleet.Customer{TimeZone: zone}).Since(since))
		}
		if _, err := reg.Apply(ctx, objects, "test"); err != nil {
			t.Fatal(err)
		}
		engine := query.New(query.Config{}, query.Stores{Minute: minute, Quarter: quarter}, reg, clk)
		kept, err := New(Config{}, reg, engine, signer{}, clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		plain := list
		plain.Share = nil
		for customer, zone := range zones {
			draft, err := kept.Draft(ctx, customer, "2026-11", "dora")
			if err != nil {
				t.Fatal(name, err)
			}
			location, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			w := schema.Window{From: time.Date(2026, 11, 1, 0, 0, 0, 0, location).UTC(), To: time.Date(2026, 12, 1, 0, 0, 0, 0, location).UTC()}
			simulated, err := priced.Simulate(ctx, engine, w, []fleet.Object{fleet.NewObject("standard", plain)})
			if err != nil {
				t.Fatal(name, err)
			}
			var own priced.Amounts
			for _, one := range simulated.Customers {
				if one.Customer == customer {
					own = one
				}
			}
			if own.Before != draft.Total || draft.Total == "0" {
				t.Errorf("%s: %s is simulated to pay %s, and its draft is %s", name, customer, own.Before, draft.Total)
			}
			if own.After != draft.Total {
				controls++
			}
		}
	}
	if controls < 6 {
		t.Errorf("control: without the shares %d drafts would be otherwise: the law is not tried", controls)
	}
}

// writeUsage is quarters about midnights, of a node that is not full.
func writeUsage(t *testing.T, db *influxsync.Database, random *rand.Rand) {
	t.Helper()
	var points []influxsync.Point
	put := func(table schema.Table, at time.Time, namespace string, values map[string]int64) {
		fields := make(map[string]influxsync.Value)
		for _, field := range table.Fields {
			if field.Type == schema.String {
				fields[field.Name] = influxsync.Str(schema.Measured)
			} else if !field.Optional || values[field.Name] != 0 {
				fields[field.Name] = influxsync.Int(values[field.Name])
			}
		}
		tags := map[string]string{schema.Cluster: "edge-a", schema.Node: "n1"}
		if namespace != "" {
			tags[schema.Namespace] = namespace
		}
		points = append(points, influxsync.NewPoint(table.Name, tags, fields, at))
	}
	for at := time.Date(2026, 11, 3, 21, 0, 0, 0, time.UTC); at.Before(time.Date(2026, 11, 5, 2, 0, 0, 0, time.UTC)); at = at.Add(schema.Quarter) {
		for _, namespace := range []string{"shop", "blog", "barn", "ingress"} {
			if random.IntN(4) == 0 {
				continue
			}
			cpu, request, memory := random.Int64N(800e6), random.Int64N(900e6), random.Int64N(900<<20)
			put(schema.UsageQuarter, at, namespace, map[string]int64{schema.CPU: cpu, schema.CPURequest: request, schema.CPUMax: max(cpu, request), schema.Memory: memory, schema.MemoryMax: memory,
				schema.MemoryRequest: memory / 2, schema.Uptime: random.Int64N(900_000), schema.Coverage: 900})
		}
		put(schema.NodeQuarter, at, "", map[string]int64{schema.Uptime: 900_000, schema.Coverage: 900, schema.AllocatableCPU: 4 * 900e6, schema.AllocatableMem: 900 * 8 << 20})
	}
	if err := db.Write(t.Context(), points); err != nil {
		t.Fatal(err)
	}
}
