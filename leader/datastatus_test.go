package leader

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestDataStatus: what is here of the last 24 hours, asked for once a minute.
func TestDataStatus(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	clk := clock.NewManual(noon)
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	_, err = books.Apply(t.Context(), []fleet.Object{fleet.NewObject("edge", fleet.Cluster{URL: "http://127.0.0.1:1"}),
		fleet.NewObject("n1", fleet.Node{Cluster: "edge", Node: "n1"}), fleet.NewObject("n2", fleet.Node{Cluster: "edge", Node: "n2"})}, "test")
	if err != nil {
		t.Fatal(err)
	}
	receive := func(minute, refused int64, nodes ...string) {
		t.Helper()
		w := influxsync.Confirmed{Values: nodes, Refused: refused, Entry: influxsync.Entry{Cluster: "edge", Table: "node", Revision: 1, Rows: 1,
			Window: schema.WindowAt(noon.Add(time.Duration(minute)*time.Minute), schema.Minute), Time: noon}}
		if err := books.Received(t.Context(), "edge", "node", registry.Receipt{Mark: influxsync.Mark{Store: "s"}, Windows: []influxsync.Confirmed{w}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(newDataStatus(books, clk))
	status := func() map[string]float64 {
		t.Helper()
		families, err := metrics.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "accumulus_data_status" {
			t.Fatal(families, err)
		}
		found := make(map[string]float64)
		for _, m := range families[0].GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["cluster"] == "edge" && labels["table"] == "node" {
				found[labels["status"]] = m.GetGauge().GetValue()
			}
		}
		return found
	}
	receive(-24*60-5, 0, "n1", "n2") // longer ago
	receive(-10, 0, "n1", "n2")
	receive(-9, 3, "n1")
	want := map[string]float64{"expected": 2 * (24*60 - 3), "received": 3, "missing": 2*(24*60-3) - 3, "audited": 0, "rated": 0, "refused": 3}
	if diff := cmp.Diff(want, status()); diff != "" {
		t.Error(diff)
	}
	receive(-8, 0, "n1", "n2")
	clk.Advance(statusEvery - time.Second)
	if got := status()["received"]; got != 3 {
		t.Errorf("%v received: the registry was asked again within a minute", got)
	}
	clk.Advance(time.Second)
	if got := status()["received"]; got != 5 {
		t.Errorf("%v received a minute later, want 5", got)
	}
	if _, err := books.Remove(t.Context(), fleet.KindCluster, "edge", "test"); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	if families, err := metrics.Gather(); err != nil || len(families) != 0 {
		t.Errorf("of a cluster that was removed: %v, %v", families, err)
	}
}
