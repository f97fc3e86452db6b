package registry

import (
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
