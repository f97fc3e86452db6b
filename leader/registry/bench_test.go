package registry

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// month fills a registry with 30 days of one cluster's node windows.
func month(b *testing.B) *Registry {
	b.Helper()
	r, err := Open(b.Context(), filepath.Join(b.TempDir(), "registry.db"), clock.NewManual(noon))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	var windows []influxsync.Confirmed
	for at := noon.AddDate(0, 0, -30); at.Before(noon); at = at.Add(time.Minute) {
		windows = append(windows, influxsync.Confirmed{Entry: influxsync.Entry{Cluster: "alpha", Table: "node", Window: schema.WindowAt(at, schema.Minute), Revision: 1, Time: at}})
	}
	if err := r.Received(b.Context(), "alpha", "node", Receipt{Mark: influxsync.Mark{Store: "s", Time: noon}, Windows: windows}, nil); err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkCompleteness is one cluster's ledger of a month.
func BenchmarkCompleteness(b *testing.B) {
	r := month(b)
	for b.Loop() {
		if _, err := r.Completeness(b.Context(), "alpha", schema.Window{From: noon.AddDate(0, 0, -30), To: noon}); err != nil {
			b.Fatal(err)
		}
	}
}

// days fills a registry with days of a cluster of 20 nodes that its watch knows,
// in all tables of minutes.
func days(b *testing.B, n int) *Registry {
	b.Helper()
	r, err := Open(b.Context(), filepath.Join(b.TempDir(), "registry.db"), clock.NewManual(noon))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	var nodes []string
	var objects []influxsync.Point
	from := noon.Truncate(day).AddDate(0, 0, -n)
	for i := range 20 {
		nodes = append(nodes, fmt.Sprintf("node-%02d", i))
		objects = append(objects, influxsync.NewPoint("object", map[string]string{"cluster": "alpha", "kind": "Node", "name": nodes[i], "uid": nodes[i]},
			map[string]influxsync.Value{"spec": influxsync.Str("{}"), "reason": influxsync.Str("added"),
				"valid_from": influxsync.Int(from.UnixNano()), "valid_to": influxsync.Int(0)}, from))
	}
	if err := r.PutObjects(b.Context(), objects); err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for _, table := range minuteTables {
		var windows []influxsync.Confirmed
		for at := from; at.Before(noon); at = at.Add(time.Minute) {
			windows = append(windows, influxsync.Confirmed{Values: nodes, Entry: influxsync.Entry{Cluster: "alpha", Table: table.Name,
				Window: schema.WindowAt(at, schema.Minute), Revision: 1, Rows: 400 + random.Int64N(20), Digest: influxsync.Digest(random.Uint64()),
				Coverage: 1000, Reason: "settled", Time: at.Add(75*time.Second + time.Duration(random.Int64N(1e9)))}})
		}
		take(b, r, table.Name, "0123456789abcdef0123456789abcdef", windows)
	}
	return r
}

// BenchmarkCompletenessDay is 24 hours of 20 nodes, nothing of it missing.
func BenchmarkCompletenessDay(b *testing.B) {
	r := days(b, 3)
	w := schema.Window{From: noon.Add(-day), To: noon}
	for b.Loop() {
		all, err := r.Completeness(b.Context(), "alpha", w)
		if err != nil || len(all) != 3*96 || all[0].Expected != 300 || all[0].Received != 300 {
			b.Fatal(len(all), err)
		}
	}
}

// BenchmarkCompletenessFolded is 30 days of 20 nodes, 26 of them folded; it
// tells the bytes of a day and table before and after, in the file.
func BenchmarkCompletenessFolded(b *testing.B) {
	r := days(b, 30)
	used := func() (bytes float64) {
		if _, err := r.writer.Exec("VACUUM"); err != nil {
			b.Fatal(err)
		}
		if err := r.writer.QueryRow("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").Scan(&bytes); err != nil {
			b.Fatal(err)
		}
		return bytes
	}
	before := used()
	folded, err := r.FoldLedger(b.Context(), noon)
	if err != nil || folded.Days == 0 {
		b.Fatal(folded, err)
	}
	packed := float64(folded.Bytes) / float64(folded.Days)
	loose := (before-used())/float64(folded.Days) + packed
	for b.Loop() {
		all, err := r.Completeness(b.Context(), "alpha", schema.Window{From: noon.AddDate(0, 0, -30), To: noon})
		if err != nil || all[len(all)-1].Received != 300 {
			b.Fatal(len(all), err)
		}
	}
	b.ReportMetric(loose, "B/loose-day")
	b.ReportMetric(packed, "B/folded-day")
}

// BenchmarkReceived is a tick's transaction: two windows of one table, with the
// power of one box due.
func BenchmarkReceived(b *testing.B) {
	r := month(b)
	revision := int64(1)
	for b.Loop() {
		revision++
		var windows []influxsync.Confirmed
		for _, at := range []time.Time{noon, noon.Add(time.Minute)} {
			windows = append(windows, influxsync.Confirmed{Entry: influxsync.Entry{Cluster: "alpha", Table: "node",
				Window: schema.WindowAt(at, schema.Minute), Revision: revision, Time: noon}})
		}
		err := r.Received(b.Context(), "alpha", "node", Receipt{Mark: influxsync.Mark{Store: "s", Time: noon}, Windows: windows},
			[]Due{{Processor: ProcessorPower, Scope: "b", Quarter: noon, Reason: "usage"}})
		if err != nil {
			b.Fatal(err)
		}
	}
}
