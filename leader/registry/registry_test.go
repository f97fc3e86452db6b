package registry

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// noon is when the tests begin.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) (*Registry, *clock.Manual) {
	t.Helper()
	clk := clock.NewManual(noon)
	r, err := Open(t.Context(), filepath.Join(t.TempDir(), "registry #1?.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, clk
}

// small is one box that holds nodes of two customers' clusters.
func small() []fleet.Object {
	return []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("globex", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("alpha", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:8081"}),
		fleet.NewObject("beta", fleet.Cluster{Customer: "globex", URL: "http://127.0.0.1:8082"}),
		fleet.NewObject("box-1", fleet.Box{OverheadWatts: 10}),
		fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon", IdleWatts: 30, MaxWatts: 80}),
		fleet.NewObject("alpha.n1", fleet.Node{Cluster: "alpha", Node: "n1", Box: "box-1", Hardware: "xeon"}),
		fleet.NewObject("beta.n1", fleet.Node{Cluster: "beta", Node: "n1", Box: "box-1", Hardware: "xeon"}),
		fleet.NewObject("default", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.02"}}}),
	}
}

func apply(t *testing.T, r *Registry, objects ...fleet.Object) Applied {
	t.Helper()
	applied, err := r.Apply(t.Context(), objects, "test")
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// receive enters the minutes of a window into the ledger.
func receive(t *testing.T, r *Registry, cluster string, table schema.Table, store string, w schema.Window) {
	t.Helper()
	var windows []influxsync.Confirmed
	for _, minute := range w.Split(schema.Minute) {
		windows = append(windows, influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: table.Name, Window: minute,
			Revision: 1, Rows: 3, Coverage: 1000, Time: minute.To}})
	}
	mark := influxsync.Mark{Store: store, Time: w.To, Hash: "h"}
	if err := r.Received(t.Context(), cluster, table.Name, Receipt{Mark: mark, Windows: windows}, nil); err != nil {
		t.Fatal(err)
	}
}

func hours(from, to int) schema.Window {
	return schema.Window{From: noon.Add(time.Duration(from) * time.Hour), To: noon.Add(time.Duration(to) * time.Hour)}
}

func TestApplyIsIdempotent(t *testing.T) {
	r, clk := open(t)
	if got, want := apply(t, r, small()...).Diff.Count(fleet.Added), len(small()); got != want {
		t.Errorf("added %d, want %d", got, want)
	}
	clk.Advance(time.Hour)
	again := apply(t, r, small()...)
	if !again.Diff.Empty() || len(again.Due) > 0 {
		t.Errorf("second apply: %s due %v", again.Diff, again.Due)
	}
	objects, err := r.Objects(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if again := apply(t, r, objects...); !again.Diff.Empty() {
		t.Errorf("apply of what Objects gives: %s", again.Diff)
	}
	audit, err := r.Audit(t.Context(), 100)
	if err != nil || len(audit) != len(small()) {
		t.Errorf("audit has %d rows, %v; want %d", len(audit), err, len(small()))
	}
}
