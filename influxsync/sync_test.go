package influxsync_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// writer settles windows of one table as a meter does: rows, then journal.
type writer struct {
	t       testing.TB
	db      *influxsync.Database
	table   schema.Table
	cluster string
	journal *influxsync.Journal
	rows    map[schema.Window]map[string]influxsync.Point
}

func newWriter(t testing.TB, db *influxsync.Database, table schema.Table, cluster string) *writer {
	t.Helper()
	journal, err := influxsync.OpenJournal(t.Context(), db, cluster, table, clock.NewManual(start))
	if err != nil {
		t.Fatal(err)
	}
	return &writer{t: t, db: db, table: table, cluster: cluster, journal: journal,
		rows: make(map[schema.Window]map[string]influxsync.Point)}
}

// put stores a row and remembers it.
func (w *writer) put(window schema.Window, pod string, value int64) {
	w.t.Helper()
	row := influxsync.NewPoint(w.table.Name, map[string]string{schema.Cluster: w.cluster, schema.Pod: pod},
		map[string]influxsync.Value{schema.CPU: influxsync.Int(value), schema.Memory: influxsync.Int(-value)}, window.From)
	if w.rows[window] == nil {
		w.rows[window] = make(map[string]influxsync.Point)
	}
	w.rows[window][pod] = row
	if err := w.db.Write(w.t.Context(), []influxsync.Point{row}); err != nil {
		w.t.Fatal(err)
	}
}

// settle journals windows as they are.
func (w *writer) settle(windows ...schema.Window) []influxsync.Entry {
	w.t.Helper()
	var entries []influxsync.Entry
	for _, window := range windows {
		e := influxsync.Entry{Window: window, Coverage: 1000, Reason: "settled"}
		for _, row := range w.rows[window] {
			e.Rows++
			e.Digest.Add(row)
		}
		entries = append(entries, e)
	}
	stored, err := w.journal.Append(w.t.Context(), entries...)
	if err != nil {
		w.t.Fatal(err)
	}
	return stored
}

// settleEach writes and settles minutes with a row of each pod.
func (w *writer) settleEach(from, to int, pods ...string) {
	w.t.Helper()
	for i := from; i < to; i++ {
		for _, pod := range pods {
			w.put(minute(i), pod, int64(i))
		}
		w.settle(minute(i))
	}
}

// held reads a table whole, by row.
func held(t testing.TB, db *influxsync.Database, table string, where ...influxsync.Condition) map[string]influxsync.Point {
	t.Helper()
	rows := make(map[string]influxsync.Point)
	err := db.TimeQuery(t.Context(), table, schema.Window{}, where, func(p influxsync.Point) error {
		rows[fmt.Sprint(p.Tags, p.Time.UnixNano())] = p
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func equalTables(t testing.TB, source, sink *influxsync.Database, table string) string {
	t.Helper()
	return cmp.Diff(held(t, source, table), held(t, sink, table), cmp.AllowUnexported(influxsync.Value{}))
}

var podTable = schema.Table{Name: "pod", DB: schema.MinuteDB, Grain: schema.Minute, Tags: []string{schema.Cluster, schema.Pod},
	Fields: []schema.Field{{Name: schema.CPU}, {Name: schema.Memory}}}

func TestSyncCopiesWhatTheJournalNames(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		source, sink := create(t, s, "source"), create(t, s, "sink")
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge", Limit: 4}
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || result.Mark != (influxsync.Mark{}) {
			t.Errorf("a source without a store: %+v, %v", result, err)
		}
		w := newWriter(t, source, podTable, "edge")
		for i := range 6 {
			for pod := range 3 {
				w.put(minute(i), fmt.Sprint("pod-", pod), int64(100*i+pod))
			}
		}
		w.settle(minute(0), minute(1), minute(2), minute(3), minute(4)) // not yet the last
		result, err = influxsync.Sync(t.Context(), request)
		if err != nil || !result.More || result.Rows != 12 || len(result.Windows) != 4 || result.NewEra {
			t.Fatalf("first: %+v, %v; want 4 windows of 3 rows and more", result, err)
		}
		w.put(minute(1), "late", 5)
		w.settle(minute(1))
		request.Mark = result.Mark
		result, err = influxsync.Sync(t.Context(), request)
		if err != nil || result.More || result.Rows != 3+4 || len(result.Windows) != 2 {
			t.Fatalf("second: %+v, %v; want one new window and one revised", result, err)
		}
		if got := result.Windows[1]; got.Revision != 2 || got.Rows != 4 {
			t.Errorf("revised entry %+v", got)
		}
		delete(w.rows, minute(5))
		if got := len(held(t, sink, "pod")); got != 16 {
			t.Errorf("sink has %d rows, want 16: what is not journalled is not copied", got)
		}
		request.Mark = result.Mark
		again, err := influxsync.Sync(t.Context(), request)
		if diff := cmp.Diff(influxsync.SyncResult{Mark: result.Mark}, again, cmp.AllowUnexported(influxsync.Value{})); err != nil || diff != "" {
			t.Errorf("a call with nothing new: %v\n%s", err, diff)
		}
	})
}

// TestSyncSeesRevisionsBehindItsLimit: the rows are those of a revision whose
// entry this call does not reach.
func TestSyncSeesRevisionsBehindItsLimit(t *testing.T) {
	servers(t, testSyncSeesRevisionsBehindItsLimit)
}

func testSyncSeesRevisionsBehindItsLimit(t *testing.T, s *influxsync.Server) {
	source, sink := create(t, s, "source"), create(t, s, "sink")
	w := newWriter(t, source, podTable, "edge")
	for i := range 6 {
		w.put(minute(i%2), "a", int64(i))
		w.settle(minute(i % 2))
	}
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge", Limit: 1}
	for i := range 6 {
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || result.More != (i < 5) || result.Windows[0].Revision != 3 {
			t.Fatalf("call %d: %+v, %v", i, result, err)
		}
		request.Mark = result.Mark
	}
	if diff := equalTables(t, source, sink, "pod"); diff != "" {
		t.Error(diff)
	}
}

func TestSyncMismatches(t *testing.T) { servers(t, testSyncMismatches) }

func testSyncMismatches(t *testing.T, s *influxsync.Server) {
	for name, spoil := range map[string]func(w *writer, sink *influxsync.Database){
		"row changed, not journalled": func(w *writer, _ *influxsync.Database) { w.put(minute(0), "a", 99) },
		"row more, not journalled":    func(w *writer, _ *influxsync.Database) { w.put(minute(0), "c", 1) },
	} {
		source, sink := create(t, s, "source "+name), create(t, s, "sink "+name)
		w := newWriter(t, source, podTable, "edge")
		w.put(minute(0), "a", 1)
		w.settle(minute(0))
		spoil(w, sink)
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		result, err := influxsync.Sync(t.Context(), request)
		if !errors.Is(err, influxsync.ErrMismatch) || result.Mark != request.Mark || len(result.Windows) != 0 {
			t.Errorf("%s: %+v, %v; want ErrMismatch and the old mark", name, result, err)
		}
		w.settle(minute(0))
		if _, err := influxsync.Sync(t.Context(), request); err != nil {
			t.Errorf("%s, then journalled: %v", name, err)
		}
	}
}

// TestSyncFindsRowsThatOnlyTheSinkHas: in an era a row cannot leave, so more
// rows in the sink may be doubled usage. They are told of, and do not stop what
// comes after them.
func TestSyncFindsRowsThatOnlyTheSinkHas(t *testing.T) {
	servers(t, testSyncFindsRowsThatOnlyTheSinkHas)
}

func testSyncFindsRowsThatOnlyTheSinkHas(t *testing.T, s *influxsync.Server) {
	source, sink := create(t, s, "source"), create(t, s, "sink")
	w := newWriter(t, source, podTable, "edge")
	w.put(minute(0), "a", 1)
	w.settle(minute(0))
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	result, err := influxsync.Sync(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	w.put(minute(1), "a", 1)
	w.settle(minute(1))
	stray := influxsync.NewPoint("pod", map[string]string{schema.Cluster: "edge", schema.Pod: "a", "cpu_type": "xeon"},
		map[string]influxsync.Value{schema.CPU: influxsync.Int(1)}, minute(1).From)
	if err := sink.Write(t.Context(), []influxsync.Point{stray}); err != nil {
		t.Fatal(err)
	}
	request.Mark = result.Mark
	result, err = influxsync.Sync(t.Context(), request)
	if err != nil || result.Extra != 1 || len(result.Windows) != 1 || result.Windows[0].Extra != 1 || !result.Windows[0].Unexplained {
		t.Errorf("a row twice in the sink: %+v, %v; want one that nothing explains", result, err)
	}
}

// TestSyncReplacesRowsThatLostFields: a write takes no field away, so a row
// that has fewer than before is deleted and written. Its neighbours stay.
func TestSyncReplacesRowsThatLostFields(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		source, sink := create(t, s, "fewer source"), create(t, s, "fewer sink")
		w := newWriter(t, source, podTable, "edge")
		row := func(pod, zone string, fields map[string]influxsync.Value) {
			t.Helper()
			p := influxsync.NewPoint("pod", map[string]string{schema.Cluster: "edge", schema.Pod: pod, "zone": zone}, fields, minute(0).From)
			if w.rows[minute(0)] == nil {
				w.rows[minute(0)] = make(map[string]influxsync.Point)
			}
			w.rows[minute(0)][pod+zone] = p
			if err := source.Write(t.Context(), []influxsync.Point{p}); err != nil {
				t.Fatal(err)
			}
		}
		both := map[string]influxsync.Value{schema.CPU: influxsync.Int(1), schema.DiskRead: influxsync.Int(2)}
		for _, zone := range []string{"", "it's", "b"} {
			row("a", zone, both)
		}
		w.settle(minute(0))
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if err := source.Clear(t.Context(), "pod", nil); err != nil { // a volume that is metered anew
			t.Fatal(err)
		}
		row("a", "", map[string]influxsync.Value{schema.CPU: influxsync.Int(3)})
		row("a", "it's", map[string]influxsync.Value{schema.CPU: influxsync.Int(1)})
		row("a", "b", both)
		w.settle(minute(0))
		request.Mark = result.Mark
		if result, err = influxsync.Sync(t.Context(), request); err != nil || result.Extra != 0 {
			t.Fatalf("%+v, %v", result, err)
		}
		if diff := equalTables(t, source, sink, "pod"); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSyncQuarantinesOtherClusters(t *testing.T) { servers(t, testSyncQuarantinesOtherClusters) }

func testSyncQuarantinesOtherClusters(t *testing.T, s *influxsync.Server) {
	source, sink := create(t, s, "source"), create(t, s, "sink")
	w := newWriter(t, source, podTable, "edge")
	w.put(minute(0), "a", 1)
	for i, cluster := range []string{"victim", ""} {
		row := influxsync.NewPoint("pod", map[string]string{schema.Cluster: cluster, schema.Pod: "b"},
			map[string]influxsync.Value{schema.CPU: influxsync.Int(int64(i))}, minute(0).From)
		if err := source.Write(t.Context(), []influxsync.Point{row}); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // one is journalled, the other not
			w.rows[minute(0)]["b"] = row
		}
	}
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	w.settle(minute(0))
	if _, err := influxsync.Sync(t.Context(), request); !errors.Is(err, influxsync.ErrMismatch) {
		t.Errorf("digest over a part of the foreign rows: %v; want ErrMismatch", err)
	}
	for _, journalled := range []bool{false, true} {
		delete(w.rows[minute(0)], "b")
		delete(w.rows[minute(0)], "c")
		if journalled {
			for key, row := range held(t, source, "pod") {
				if row.Tag(schema.Cluster) != "edge" {
					w.rows[minute(0)][key] = row
				}
			}
		}
		w.settle(minute(0))
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || result.ForeignRows != 2 || len(result.Foreign) != 2 || result.Rows != 1 {
			t.Errorf("journalled %v: %+v, %v; want two rows in quarantine", journalled, result, err)
		}
	}
	if got := held(t, sink, "pod"); len(got) != 1 {
		t.Errorf("sink holds %v; want the cluster's own row", got)
	}
}

func TestSyncOfOneClusterOutOfMany(t *testing.T) { servers(t, testSyncOfOneClusterOutOfMany) }

func testSyncOfOneClusterOutOfMany(t *testing.T, s *influxsync.Server) {
	source, sink := create(t, s, "source"), create(t, s, "sink")
	for i, cluster := range []string{"a", "b"} {
		w := newWriter(t, source, podTable, cluster)
		w.put(minute(0), "p", int64(i))
		w.settle(minute(0))
	}
	result, err := influxsync.Sync(t.Context(), influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable,
		Cluster: "b", Shared: true, SinkTable: "pushed"})
	if err != nil || result.Rows != 1 || result.ForeignRows != 0 {
		t.Errorf("%+v, %v; want the row of b", result, err)
	}
	for _, row := range held(t, sink, "pushed") {
		if row.Tag(schema.Cluster) != "b" {
			t.Errorf("sink holds %v", row)
		}
	}
}

// TestSyncAfterAChangeOfEra: the volume was lost and begins anew, or an older
// copy of it came back.
func TestSyncAfterAChangeOfEra(t *testing.T) { servers(t, testSyncAfterAChangeOfEra) }

func testSyncAfterAChangeOfEra(t *testing.T, s *influxsync.Server) {
	for _, lost := range []bool{true, false} {
		sink := create(t, s, fmt.Sprint("sink", lost))
		source, later := create(t, s, fmt.Sprint("source", lost)), create(t, s, fmt.Sprint("later", lost))
		w := newWriter(t, source, podTable, "edge")
		w.settleEach(0, 2, "a", "b")
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		if !lost { // a copy of the store and of its id, whose journal will end before the mark
			for _, at := range []time.Time{time.Unix(0, 0), start} {
				if _, err := influxsync.SyncFull(t.Context(), source, later, schema.WindowAt(at, 24*time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.settleEach(2, 4, "a", "b")
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || result.NewEra {
			t.Fatalf("lost %v: %+v, %v", lost, result, err)
		}
		request.Mark, request.Source = result.Mark, later
		fresh := newWriter(t, later, podTable, "edge")
		fresh.settleEach(3, 5, "a", "c") // b's row of window 3 is in the sink only
		result, err = influxsync.Sync(t.Context(), request)
		if err != nil || !result.NewEra || result.Extra != 1 {
			t.Errorf("lost %v: %+v, %v; want a new era with one row of the old beside it", lost, result, err)
		}
		if got := len(held(t, sink, "pod")); got != 8+1+2 {
			t.Errorf("lost %v: sink holds %d rows, want all of both eras: 11", lost, got)
		}
		fresh.put(minute(3), "a", 77)
		fresh.settle(minute(3))
		request.Mark = result.Mark
		result, err = influxsync.Sync(t.Context(), request)
		if err != nil || result.NewEra || result.Extra != 1 {
			t.Errorf("lost %v, later: %+v, %v; want no new era, the overlap reported", lost, result, err)
		}
	}
}

func TestSyncRefusesABrokenChain(t *testing.T) { servers(t, testSyncRefusesABrokenChain) }

func testSyncRefusesABrokenChain(t *testing.T, s *influxsync.Server) {
	source, sink := create(t, s, "source"), create(t, s, "sink")
	w := newWriter(t, source, podTable, "edge")
	w.put(minute(0), "a", 1)
	first := w.settle(minute(0))[0]
	w.settle(minute(1))
	forged := influxsync.NewPoint("journal", map[string]string{"cluster": "edge", "table": "pod"},
		map[string]influxsync.Value{"rows": influxsync.Int(0)}, first.Time)
	if err := source.Write(t.Context(), []influxsync.Point{forged}); err != nil {
		t.Fatal(err)
	}
	_, err := influxsync.Sync(t.Context(), influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"})
	if !errors.Is(err, influxsync.ErrChain) || len(held(t, sink, "pod")) != 0 {
		t.Errorf("%v; want ErrChain and nothing written", err)
	}
	if _, err := influxsync.OpenJournal(t.Context(), source, "edge", podTable, clock.NewManual(start)); !errors.Is(err, influxsync.ErrChain) {
		t.Errorf("open: %v; want ErrChain", err)
	}
}
