package influxsync_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

var pruneStart = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// pruneMinutes are windows of the table node.
func pruneMinutes(from, to int) []schema.Window {
	return schema.Window{From: pruneStart.Add(time.Duration(from) * time.Minute), To: pruneStart.Add(time.Duration(to) * time.Minute)}.Split(schema.Minute)
}

// settleEach writes one row in each window, and journals it.
func settleEach(t *testing.T, db *influxsync.Database, journal *influxsync.Journal, windows []schema.Window) {
	t.Helper()
	for _, w := range windows {
		row := influxsync.NewPoint("node", map[string]string{schema.Cluster: "c", schema.Node: "n"}, map[string]influxsync.Value{schema.CPU: influxsync.Int(1)}, w.From)
		if err := db.Write(t.Context(), []influxsync.Point{row}); err != nil {
			t.Fatal(err)
		}
		entry := influxsync.Entry{Window: w, Rows: 1, Coverage: 1000, Reason: "settled"}
		entry.Digest.Add(row)
		if _, err := journal.Append(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPrunedJournal: rows and entries of old windows are gone; the journal opens, goes
// on, is followed from a mark and from its beginning, and what is copied is whole. The
// control takes away the note of where it begins.
func TestPrunedJournal(t *testing.T) {
	source, sink := influxtest.New(t), influxtest.New(t)
	for _, server := range []*influxsync.Server{source, sink} {
		if err := server.Create(t.Context(), schema.MinuteDB); err != nil {
			t.Fatal(err)
		}
	}
	db, clk := source.Database(schema.MinuteDB), clock.NewManual(pruneStart.Add(time.Hour))
	journal, err := influxsync.OpenJournal(t.Context(), db, "c", schema.NodeMinute, clk)
	if err != nil {
		t.Fatal(err)
	}
	settleEach(t, db, journal, pruneMinutes(0, 20))
	request := influxsync.SyncRequest{Source: db, Sink: sink.Database(schema.MinuteDB), Table: schema.NodeMinute, Cluster: "c"}
	synced, err := influxsync.Sync(t.Context(), request)
	if err != nil || len(synced.Windows) != 20 {
		t.Fatalf("%d windows, %v", len(synced.Windows), err)
	}
	request.Mark = synced.Mark
	settleEach(t, db, journal, pruneMinutes(20, 30))
	if oldest, found := journal.Unread(request.Mark.Time); !found || !oldest.Equal(pruneStart.Add(20*time.Minute)) {
		t.Errorf("oldest unread %s, %t", oldest, found)
	}
	keep := pruneStart.Add(25 * time.Minute)
	if n, err := journal.Prune(t.Context(), keep, request.Mark.Time); err != nil || n != 19 {
		t.Errorf("%d windows went, %v: want those before the mark's own", n, err)
	}
	if err := db.Delete(t.Context(), "node", nil, schema.Window{From: pruneStart, To: pruneStart.Add(19 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if synced, err = influxsync.Sync(t.Context(), request); err != nil || len(synced.Windows) != 10 || synced.NewEra {
		t.Errorf("from the mark: %d windows, new era %t, %v", len(synced.Windows), synced.NewEra, err)
	}
	journal, err = influxsync.OpenJournal(t.Context(), db, "c", schema.NodeMinute, clk)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(journal.Windows(schema.Window{From: pruneStart, To: pruneStart.Add(time.Hour)})); n != 11 {
		t.Errorf("the journal that was opened again names %d windows, want 11", n)
	}
	settleEach(t, db, journal, pruneMinutes(30, 31))
	fresh := func() (influxsync.SyncResult, error) {
		other := influxtest.New(t)
		if err := other.Create(t.Context(), schema.MinuteDB); err != nil {
			t.Fatal(err)
		}
		return influxsync.Sync(t.Context(), influxsync.SyncRequest{Source: db, Sink: other.Database(schema.MinuteDB), Table: schema.NodeMinute, Cluster: "c"})
	}
	if synced, err := fresh(); err != nil || len(synced.Windows) != 12 {
		t.Errorf("from the beginning: %d windows, %v", len(synced.Windows), err)
	}
	if err := db.Clear(t.Context(), "journal_base", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh(); !errors.Is(err, influxsync.ErrChain) {
		t.Errorf("without the note: %v", err)
	}
	if _, err := influxsync.OpenJournal(t.Context(), db, "c", schema.NodeMinute, clk); !errors.Is(err, influxsync.ErrChain) {
		t.Errorf("opened without the note: %v", err)
	}
}

// TestDelete: what is in the window and meets the conditions goes, and nothing else; how
// long it takes is told.
func TestDelete(t *testing.T) {
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	db := server.Database(schema.MinuteDB)
	const pods, days = 200, 2
	for _, cluster := range []string{"a", "b"} {
		for i := range pods {
			rows := make([]influxsync.Point, 0, days*1440/4)
			for minute := 0; minute < days*1440; minute += 4 {
				rows = append(rows, influxsync.NewPoint("pod", map[string]string{"cluster": cluster, "pod": fmt.Sprint("p", i)},
					map[string]influxsync.Value{schema.CPU: influxsync.Int(1), schema.Memory: influxsync.Int(2)}, pruneStart.Add(time.Duration(minute)*time.Minute)))
			}
			if err := db.Write(t.Context(), rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := schema.Window{From: pruneStart, To: pruneStart.Add(24 * time.Hour)}
	began := time.Now()
	if err := db.Delete(t.Context(), "pod", []influxsync.Condition{{Tag: "cluster", Value: "a"}}, first); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows of %d series deleted in %s", pods*360, pods, time.Since(began))
	for cluster, want := range map[string]int{"a": pods * 360, "b": pods * 720} {
		got := 0
		if err := db.TimeQuery(t.Context(), "pod", schema.Window{}, []influxsync.Condition{{Tag: "cluster", Value: cluster}}, func(p influxsync.Point) error {
			if cluster == "a" && first.Contains(p.Time) {
				t.Fatal("a row is left")
			}
			got++
			return nil
		}); err != nil || got != want {
			t.Errorf("cluster %s has %d rows, want %d: %v", cluster, got, want, err)
		}
	}
	if err := db.Delete(t.Context(), "none", nil, first); err != nil {
		t.Errorf("of a table that is not there: %v", err)
	}
	if err := db.Delete(t.Context(), "pod", nil, schema.Window{From: pruneStart}); err == nil {
		t.Error("a window without an end is taken")
	}
}
