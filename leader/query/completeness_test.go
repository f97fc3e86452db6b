package query

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// arrive enters minutes of all tables into a cluster's ledger, as they came of
// the nodes; change may alter a window, or say that it did not come.
func (f *fixture) arrive(cluster string, from, to int, change func(table string, minute int, w *influxsync.Confirmed) bool, nodes ...string) {
	f.t.Helper()
	for _, table := range schema.Pulled {
		var windows []influxsync.Confirmed
		for i := from; i < to && table.DB == schema.MinuteDB; i++ {
			w := influxsync.Confirmed{Values: nodes, Entry: influxsync.Entry{Cluster: cluster, Table: table.Name, Revision: 1, Rows: 1, Coverage: 1000,
				Window: schema.WindowAt(at(i), schema.Minute), Time: at(i + 1)}}
			if change == nil || change(table.Name, i, &w) {
				windows = append(windows, w)
			}
		}
		receipt := registry.Receipt{Mark: influxsync.Mark{Store: "s", Time: at(to), Hash: "h"}, Windows: windows}
		if err := f.books.Received(f.ctx, cluster, table.Name, receipt, nil); err != nil {
			f.t.Fatal(err)
		}
	}
}

// twoClusters have one described node each; of edge-b the pods of two minutes
// and the whole of node n2 in another are missing, and a row was refused.
func twoClusters(t *testing.T) *fixture {
	f := newFixture(t, fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("edge-a", fleet.Cluster{URL: "http://127.0.0.1:1", Customer: "acme"}).Since(at(0)),
		fleet.NewObject("edge-b", fleet.Cluster{URL: "http://127.0.0.1:2", Customer: "acme"}).Since(at(0)),
		fleet.NewObject("edge-a.n1", fleet.Node{Cluster: "edge-a", Node: "n1"}),
		fleet.NewObject("edge-b.n1", fleet.Node{Cluster: "edge-b", Node: "n1"}),
		fleet.NewObject("edge-b.n2", fleet.Node{Cluster: "edge-b", Node: "n2"}))
	f.arrive("edge-a", 0, 118, nil, "n1")
	f.arrive("edge-b", 0, 118, func(table string, minute int, w *influxsync.Confirmed) bool {
		if minute == 40 {
			w.Values = []string{"n1"}
		}
		if table == "pod" && minute == 70 {
			w.Refused = 1
		}
		return table != "pod" || minute != 14 && minute != 15
	}, "n1", "n2")
	return f
}

func TestExportTellsWhatIsMissing(t *testing.T) {
	f := twoClusters(t)
	f.fill(pods, 0, 60)
	for i := 0; i < 60; i += 15 { // the minutes are read, not the sums of the quarters
		for _, cluster := range []string{"edge-a", "edge-b"} {
			if err := f.books.AddDue(f.ctx, registry.Due{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: at(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	export, err := f.Export(f.ctx, ExportRequest{Period: window(0, 200)}) // what lies ahead is not missing
	if err != nil {
		t.Fatal(err)
	}
	wantClusters := []ClusterCompleteness{
		{Cluster: "edge-a", Totals: Totals{Expected: 354, Received: 354}, Complete: true, Ratio: "1.0000"},
		{Cluster: "edge-b", Totals: Totals{Expected: 708, Received: 701, Refused: 1, Missing: 7}, Ratio: "0.9901"},
	}
	if diff := cmp.Diff(wantClusters, export.Clusters); diff != "" || export.Complete {
		t.Errorf("complete %v (-want +got):\n%s", export.Complete, diff)
	}
	gap := func(from, to int, node string, windows int, reason registry.GapCode, message string, tables ...string) Gap {
		return Gap{"edge-b", tables, registry.Gap{From: at(from), To: at(to), Node: node, Windows: windows, Reason: reason, Message: message}}
	}
	wantGaps := []Gap{gap(14, 16, "", 4, registry.GapNotJournaled, "", "pod"), gap(40, 41, "n2", 3, registry.GapNodeSilent, "node not reached", "container", "node", "pod"),
		gap(70, 71, "", 1, registry.GapQuarantined, "1 row is in quarantine", "pod")}
	if diff := cmp.Diff(wantGaps, export.Gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	ratios := make(map[string]string)
	for _, line := range export.Lines {
		ratios[line.Cluster] = line.Completeness
	}
	if diff := cmp.Diff(map[string]string{"edge-a": "1.0000", "edge-b": "0.9901"}, ratios); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	var text bytes.Buffer
	if err := export.WriteCSV(&text); err != nil || !strings.Contains(text.String(), ",completeness,excluded\n") || !strings.Contains(text.String(), ",0.9901,false\n") {
		t.Errorf("%v\n%s", err, &text)
	}
	var incomplete *IncompleteError
	_, err = f.Export(f.ctx, ExportRequest{Period: window(0, 200), RequireComplete: true})
	if !errors.As(err, &incomplete) || len(incomplete.Clusters) != 1 || incomplete.Clusters[0].Cluster != "edge-b" || len(incomplete.Gaps) != 3 {
		t.Errorf("required: %v", err)
	}
	for _, period := range []string{"month", "2026-12", "2031-01"} { // it goes on, or has not begun
		if _, err := f.Export(f.ctx, ExportRequest{Period: period, RequireComplete: true}); !errors.As(err, &incomplete) {
			t.Errorf("required of %s: %v", period, err)
		}
	}
	if _, err := f.Export(f.ctx, ExportRequest{Period: window(0, 14), RequireComplete: true}); err != nil {
		t.Errorf("of a complete part: %v", err)
	}
	answer := f.usage(Request{Window: window(0, 118), Filter: []Condition{{Key: Cluster, Values: []string{"edge-*"}}}, Completeness: true})
	if diff := cmp.Diff(wantClusters[1:], answer.Incomplete); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if answer := f.usage(Request{Window: window(0, 118)}); answer.Incomplete != nil {
		t.Errorf("nobody asked: %v", answer.Incomplete)
	}
}

func TestCompletenessOfACluster(t *testing.T) {
	f := twoClusters(t)
	answer, err := f.Completeness(f.ctx, "edge-b", window(0, 120))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Totals{Expected: 708, Received: 701, Refused: 1, Missing: 7}); answer.Totals != want || answer.Complete {
		t.Errorf("%+v, complete %v, want %+v", answer.Totals, answer.Complete, want)
	}
	if answer, err = f.Completeness(f.ctx, "edge-a", window(0, 120)); err != nil || !answer.Complete {
		t.Errorf("edge-a: %+v, %v", answer.Totals, err)
	}
}

// TestRatio: only what is complete reads 1.0000.
func TestRatio(t *testing.T) {
	for want, totals := range map[string]Totals{"1.0000": {Expected: 3, Received: 3}, "0.9999": {Expected: 1e6, Received: 1e6 - 1, Missing: 1}, "": {},
		"0.0000": {Expected: 3, Missing: 3}, "0.6666": {Expected: 3, Received: 2, Missing: 1}} {
		if got := totals.Ratio(); got != want {
			t.Errorf("%+v: %q, want %q", totals, got, want)
		}
	}
	for name, totals := range map[string]Totals{"a row refused": {Expected: 3, Received: 3, Refused: 1}, "a row that may count twice": {Expected: 3, Received: 3, Unexplained: 1}} {
		if got := totals.Ratio(); got != "0.9999" || totals.Complete() {
			t.Errorf("with %s: %s, complete %v", name, got, totals.Complete())
		}
	}
}
