package archive

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// TestSettledDayIsArchived: the files have the rows of the store, their digests are
// those of the journal, and the archive verifies.
func TestSettledDayIsArchived(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(2, dayLength)
	w.pass()
	if days, err := w.List(t.Context(), edge, schema.Window{From: first, To: first.AddDate(1, 0, 0)}); err != nil || len(days) != 0 {
		t.Fatalf("%v are archived, though no day ended 3 days ago: %v", days, err)
	}
	w.clk.Set(first.AddDate(0, 0, 4).Add(time.Minute))
	w.work()
	w.pass()
	d, err := OpenSigned(w.Dir(), edge, first, w.Key())
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]int64)
	for _, table := range d.Manifest.Tables {
		rows[table.Name] = table.Rows
	}
	want := map[string]int64{"node": busy, "pod": 2 * busy, "container": 2 * busy, "volume": 0, "object": 0, "run": 0, "held": 0, "box": 30, "meter": 0}
	for name, n := range want {
		if rows[name] != n {
			t.Errorf("table %s has %d rows, want %d", name, rows[name], n)
		}
	}
	for _, table := range minuteTables(edge) {
		var got tally
		if err := d.Rows(table.Name, func(p influxsync.Point) error { got.add(p); return nil }); err != nil {
			t.Fatal(err)
		}
		if want := w.inStore(table, edge, first); got != want {
			t.Errorf("%s: archive %+v, store %+v", table.Name, got, want)
		}
	}
	if rows["energy"] == 0 || rows["window"] == 0 {
		t.Errorf("tables: %v", rows)
	}
	var kinds []string
	if err := d.Rows(RegistryTable, func(p influxsync.Point) error {
		spec, _ := p.Field("spec")
		if strings.Contains(spec.Str(), "secret") || strings.Contains(spec.Str(), "127.0.0.1") {
			t.Errorf("%s tells how a cluster is reached: %s", p.Tag("name"), spec.Str())
		}
		kinds = append(kinds, p.Tag(schema.Kind))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"Box", "Cluster", "Hardware", "Node", "PriceList"}; !slices.Equal(kinds, want) {
		t.Errorf("objects %v, want %v", kinds, want)
	}
	if seen, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil || seen.Clusters != 2 || seen.Manifests == 0 {
		t.Errorf("verify: %+v, %v", seen, err)
	}
	if _, err := VerifyDir(t.Context(), t.TempDir(), Scope{}, w.Key()); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "nothing is archived in") {
		t.Errorf("verify of nothing: %v", err)
	}
	before := w.files(edge, first)
	w.pass()
	if got := w.files(edge, first); !maps.Equal(got, before) {
		t.Error("a pass over what is archived wrote something")
	}
}

// TestSameRowsGiveTheSameFiles in two archives of one centre.
func TestSameRowsGiveTheSameFiles(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(2, 4*dayLength)
	w.pass()
	one := w.files(edge, first)
	again := &dayWriter{dir: t.TempDir(), revision: 1}
	var err error
	if again.content, err = w.source.look(t.Context(), edge, first); err != nil {
		t.Fatal(err)
	}
	if err := again.writeDay(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range again.tables {
		if len(one[table.File]) == 0 || hashOf([]byte(one[table.File])) != table.SHA256 {
			t.Errorf("%s differs", table.File)
		}
	}
}

// TestRevisedDay is archived again, beside what it was, in a chain.
func TestRevisedDay(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(2, 4*dayLength)
	w.pass()
	before := w.files(edge, first)
	w.clk.Advance(time.Hour)
	w.settle(first, 3, 5, 77)
	w.work()
	w.clk.Advance(time.Hour)
	w.work()
	w.pass()
	after := w.files(edge, first)
	for name, text := range before {
		if name != newestName && after[name] != text {
			t.Errorf("%s was changed", name)
		}
	}
	if d := w.archived(edge, first); d.Revision != 2 || after["pod-2.parquet"] == "" || after[newestName] != after["manifest-2.json"] {
		t.Errorf("revision %d with %v", d.Revision, slices.Sorted(maps.Keys(after)))
	}
	if _, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil {
		t.Error(err)
	}
	var cpu int64
	d, err := Open(w.Dir(), edge, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RowsIn("pod", schema.Window{From: first.Add(4 * time.Minute), To: first.Add(5 * time.Minute)}, func(p influxsync.Point) error {
		cpu += p.Int(schema.CPU)
		return nil
	}); err != nil || cpu != 3*77e6 {
		t.Errorf("the newest revision has %d of minute 4, %v", cpu, err)
	}
}

// TestDayThatIsRevisedWhileItIsWritten is archived again. The control puts the end of
// writing in place of its begin.
func TestDayThatIsRevisedWhileItIsWritten(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(2, 4*dayLength)
	came := false
	w.whileWriting(func() {
		w.clk.Advance(time.Minute)
		w.settle(first, 3, 5, 77)
		w.work()
		w.clk.Advance(time.Minute)
		came = true
	})
	if written, err := w.Archive(t.Context(), edge, first); !written || !came || err != nil {
		t.Fatalf("written: %t, revised meanwhile: %t, %v", written, came, err)
	}
	ended := w.clk.Now()
	w.clk.Advance(time.Hour)
	w.work()
	waits := func() bool {
		t.Helper()
		days, err := w.reg.Archivable(t.Context(), edge, w.clk.Now())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(days, first.Equal)
	}
	if !waits() {
		t.Error("nobody knows that it was revised")
	}
	began := w.archived(edge, first).Archived
	if err := w.reg.ArchiveChecked(t.Context(), edge, first, ended); err != nil || waits() {
		t.Errorf("control: a day that was looked at after it was revised waits, or: %v", err)
	}
	if err := w.reg.ArchiveChecked(t.Context(), edge, first, began); err != nil {
		t.Fatal(err)
	}
	w.pass()
	if d := w.archived(edge, first); d.Revision != 2 {
		t.Errorf("revision %d", d.Revision)
	}
}

// TestRowsThatTheJournalDoesNotName are not archived; nor is what lacks a row.
func TestRowsThatTheJournalDoesNotName(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"one more": func(w *world) {
			row := influxsync.NewPoint("pod", map[string]string{schema.Cluster: edge, schema.Pod: "z"}, map[string]influxsync.Value{schema.CPU: influxsync.Int(1)}, first)
			if err := w.store.Database(schema.MinuteDB).Write(w.t.Context(), []influxsync.Point{row}); err != nil {
				w.t.Fatal(err)
			}
		},
		"one less": func(w *world) {
			if err := w.store.Database(schema.MinuteDB).Delete(w.t.Context(), "pod", []influxsync.Condition{{Tag: schema.Pod, Value: "a"}},
				schema.Window{From: first, To: first.Add(time.Minute)}); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.days(2, 4*dayLength)
			spoil(w)
			w.Pass(t.Context())
			if !strings.Contains(w.failed[edge], "not those of the journal") {
				t.Errorf("pass: %v", w.failed)
			}
			if _, err := Open(w.Dir(), edge, first); err == nil {
				t.Error("the day is archived")
			}
		})
	}
}

// TestUnknownColumns: what another version of the program wrote comes back as it was.
func TestUnknownColumns(t *testing.T) {
	at := first.Add(time.Minute)
	rows := []influxsync.Point{
		influxsync.NewPoint("pod", map[string]string{"cluster": "c", "gpu": "a,b =c"}, map[string]influxsync.Value{schema.CPU: influxsync.Int(-5)}, at),
		influxsync.NewPoint("pod", map[string]string{"cluster": "c"}, map[string]influxsync.Value{schema.CPU: influxsync.Float(1.5), "new": influxsync.Str("x\n\"y"), "flag": influxsync.Bool(false)}, at),
		influxsync.NewPoint("pod", nil, map[string]influxsync.Value{schema.Memory: influxsync.Int(1 << 62)}, at),
	}
	var got []influxsync.Point
	file := &strings.Builder{}
	out := newTableWriter(file, schema.PodMinute)
	for _, p := range rows {
		if err := out.write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.close(); err != nil {
		t.Fatal(err)
	}
	if err := readTable(strings.NewReader(file.String()), int64(file.Len()), schema.Window{}, func(p influxsync.Point) error {
		got = append(got, p)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var a, b tally
	for i := range rows {
		a.add(rows[i])
		b.add(got[i])
	}
	if a != b {
		t.Errorf("rows differ: %s", cmp.Diff(rows, got, cmp.AllowUnexported(influxsync.Value{})))
	}
}
