package archive

import (
	"flag"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/bench"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

var archivePods = flag.Int("archive-pods", 25, "pods of the day of BenchmarkArchive, with a container each")

// BenchmarkArchive is a day of a cluster: all of its files, and its rows read and
// thrown away. cpu-us/row counts the embedded store's work too.
func BenchmarkArchive(b *testing.B) {
	w := newWorld(b, Config{})
	w.large(*archivePods)
	c, err := w.source.look(b.Context(), edge, first)
	if err != nil {
		b.Fatal(err)
	}
	report := func(b *testing.B, name string, of func(w *dayWriter) (rows int64, err error)) {
		b.Run(name, func(b *testing.B) {
			rows, watch := int64(0), bench.Start(b)
			for revision := int64(1); b.Loop(); revision++ {
				n, err := of(&dayWriter{content: c, dir: b.TempDir(), revision: revision})
				if err != nil {
					b.Fatal(err)
				}
				rows += n
			}
			watch.Per(int(rows), "row")
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	report(b, "day", func(w *dayWriter) (rows int64, err error) {
		err = w.writeDay(b.Context())
		for _, table := range w.tables {
			rows += table.Rows
		}
		return rows, err
	})
	report(b, "read", func(w *dayWriter) (rows int64, err error) {
		for _, table := range minuteTables(edge) {
			where := []influxsync.Condition{{Tag: schema.Cluster, Value: edge}}
			if err := w.rows(b.Context(), table, where, func(influxsync.Point) error { rows++; return nil }); err != nil {
				return rows, err
			}
		}
		return rows, nil
	})
}
