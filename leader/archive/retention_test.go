package archive

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// questions that only minute rows can answer, or of which a part only they can; the
// last one is answered from quarters.
var questions = []query.Request{
	{Window: "2026-11-01T00:00:00Z,2026-11-02T00:00:00Z", Aggregate: []query.Key{query.Pod}},
	{Window: "2026-11-01T00:00:00Z,2026-11-03T00:00:00Z", Aggregate: []query.Key{query.Pod}, Step: 7 * time.Minute},
	{Window: "2026-11-01T00:05:00Z,2026-11-02T00:20:00Z", Aggregate: []query.Key{query.Namespace, query.Container}},
	{Window: "2026-11-01T00:07:00Z,2026-11-02T00:08:00Z", Aggregate: []query.Key{query.Namespace}},
	{Window: "2026-11-01T00:07:00Z,2026-11-02T00:08:00Z", Aggregate: []query.Key{query.Cluster}, Filter: []query.Condition{{Key: query.Pod, Values: []string{"a"}}}},
	{Window: "2026-11-01T00:00:00Z,2026-11-04T00:00:00Z", Aggregate: []query.Key{query.Node}},
}

func (w *world) answers() []string {
	w.t.Helper()
	var all []string
	for _, q := range questions {
		all = append(all, w.usage(q))
	}
	return all
}

// TestRetention: minute rows go when they are old and archived, and every answer stays
// what it was.
func TestRetention(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 4*dayLength)
	w.pass()
	before := w.answers()
	if strings.Count(before[0], "\n") < 2 {
		t.Fatalf("no answer by pod: %s", before[0])
	}
	w.clk.Set(first.Add(15*dayLength - time.Second))
	w.pass()
	if w.inStore(schema.PodMinute, edge, first).Rows == 0 {
		t.Fatal("rows are gone before 14 days")
	}
	w.clk.Set(first.Add(15 * dayLength))
	w.pass()
	for _, cluster := range []string{edge, schema.BoxCluster} {
		for _, table := range minuteTables(cluster) {
			if left := w.inStore(table, cluster, first); left.Rows > 0 {
				t.Errorf("%s of %s: %d rows are left", table.Name, cluster, left.Rows)
			}
		}
	}
	if w.inStore(schema.PodMinute, edge, first.Add(dayLength)).Rows == 0 {
		t.Error("the next day went too")
	}
	if diff := cmp.Diff(before, w.answers()); diff != "" {
		t.Error(diff)
	}
	w.clk.Set(first.AddDate(1, 0, 0))
	w.pass()
	if diff := cmp.Diff(before, w.answers()); diff != "" {
		t.Errorf("a year later: %s", diff)
	}
	if entries, err := w.reg.Ledger(t.Context(), edge, "pod", schema.Window{From: first, To: first.Add(dayLength)}); err != nil || len(entries) != busy {
		t.Errorf("the ledger has %d windows, want %d: %v", len(entries), busy, err)
	}
	if _, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil {
		t.Error(err)
	}
}

// TestDeletedWithoutArchive is the control of TestRetention: where rows go without
// having been archived, answers change.
func TestDeletedWithoutArchive(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 4*dayLength)
	before := w.answers()
	for _, table := range minuteTables(edge) {
		if err := w.store.Database(table.DB).Delete(t.Context(), table.Name, []influxsync.Condition{{Tag: schema.Cluster, Value: edge}},
			schema.Window{From: first, To: first.Add(dayLength)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, after := range w.answers() {
		if fromQuarters := i == len(questions)-1; (after == before[i]) != fromQuarters {
			t.Errorf("question %d: the same answer without the rows: %t", i, !fromQuarters)
		}
	}
}

// TestNothingGoesUnarchived: rows stay for as long as the archive does not have them
// as they are, signed.
func TestNothingGoesUnarchived(t *testing.T) {
	file := func(w *world, name string) string {
		dir, err := dayDir(w.Dir(), edge, first)
		if err != nil {
			w.t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	flip := func(w *world, name string) {
		text, err := os.ReadFile(file(w, name))
		if err != nil {
			w.t.Fatal(err)
		}
		text[len(text)/2] ^= 1
		if err := os.WriteFile(file(w, name), text, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, spoil := range map[string]func(*world){
		"a file changed":     func(w *world) { flip(w, "pod-1.parquet") },
		"a manifest changed": func(w *world) { flip(w, "manifest-1.json") },
		"a file lost":        func(w *world) { _ = os.Remove(file(w, "energy-1.parquet")) },
		"a key that is another's": func(w *world) {
			d, err := Open(w.Dir(), edge, first)
			if err != nil {
				w.t.Fatal(err)
			}
			text, _, err := sign(d.Manifest, signer{other})
			if err != nil {
				w.t.Fatal(err)
			}
			if err := os.WriteFile(file(w, "manifest-1.json"), text, 0o600); err != nil {
				w.t.Fatal(err)
			}
		},
		"power is due on the day after": func(w *world) {
			if err := w.reg.AddDue(w.t.Context(), registry.Due{Processor: registry.ProcessorPower, Scope: "b1", Quarter: first.Add(dayLength), Reason: "test"}); err != nil {
				w.t.Fatal(err)
			}
		},
		"work is due": func(w *world) {
			w.settle(first, 3, 4, 99)
			if _, err := w.puller.Pull(w.t.Context(), edge, w.follower.Store); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.days(2, 4*dayLength)
			w.pass()
			spoil(w)
			w.clk.Set(first.Add(20 * dayLength))
			w.Pass(t.Context())
			if got := w.inStore(schema.PodMinute, edge, first).Rows; got != 2*busy {
				t.Errorf("%d rows are left, want all", got)
			}
			if d := w.archived(edge, first); d.Gone {
				t.Error("the rows are said to be gone")
			}
		})
	}
}

// TestRevisionOfADeletedDay: a revision that comes a month later meets all rows of its
// quarter, and the answers are those of a centre that has deleted nothing.
func TestRevisionOfADeletedDay(t *testing.T) {
	revise := func(keep time.Duration) (answers []string, w *world) {
		w = newWorld(t, Config{Keep: keep})
		w.days(2, 4*dayLength)
		w.pass()
		w.clk.Set(first.Add(30 * dayLength))
		w.pass()
		gone := w.inStore(schema.PodMinute, edge, first).Rows == 0
		if gone != (keep == 0) {
			t.Fatalf("rows gone: %t", gone)
		}
		w.settle(first, 3, 5, 77)
		w.work()
		answers = w.answers()
		w.clk.Advance(time.Hour)
		w.work()
		w.pass()
		if diff := cmp.Diff(answers, w.answers()); diff != "" {
			t.Error(diff)
		}
		return answers, w
	}
	want, kept := revise(-1)
	got, w := revise(0)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d := w.archived(edge, first); d.Revision != 2 || !d.Gone {
		t.Errorf("revision %d, gone %t: want it archived again and deleted again", d.Revision, d.Gone)
	}
	if d := kept.archived(edge, first); d.Revision != 2 || d.Gone {
		t.Errorf("where all is kept: revision %d, gone %t", d.Revision, d.Gone)
	}
	for _, table := range minuteTables(edge) {
		var both [2]tally
		for i, of := range []*world{w, kept} {
			d, err := Open(of.Dir(), edge, first)
			if err == nil {
				err = d.Rows(table.Name, func(p influxsync.Point) error {
					p.Tags = slices.DeleteFunc(p.Tags, func(tag influxsync.Tag) bool { return tag.Key == schema.Box }) // each centre has its own ids
					both[i].add(p)
					return nil
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if both[0] != both[1] {
			t.Errorf("%s: archived %+v, by a centre that keeps all %+v", table.Name, both[0], both[1])
		}
	}
	if _, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil {
		t.Error(err)
	}
}

// TestFactsThatMakeNothingDue: of what a day's registry table has, a change that makes no
// work due is in the revision that a period's close names, and holds back no deletion.
// The control is what concerns another month.
func TestFactsThatMakeNothingDue(t *testing.T) {
	rates := func(month string) fleet.Object {
		return fleet.NewObject("ecb-"+month, fleet.ExchangeRates{Month: month, Base: "EUR", Rates: map[string]fleet.Decimal{"USD": "1.16"}})
	}
	disk := func(kind string) fleet.Object {
		o := fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon", IdleWatts: 40, MaxWatts: 120, DiskType: kind})
		o.ValidFrom = first.Add(-dayLength)
		return o
	}
	for name, one := range map[string]struct {
		object  fleet.Object
		revised bool
	}{
		"exchange rates of the month": {rates("2026-11"), true},
		"of the month before":         {rates("2026-10"), true}, // the first of a month here is the last of one elsewhere
		"of another month":            {rates("2026-09"), false},
		"hardware":                    {disk("nvme"), true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.days(3, 4*dayLength)
			w.clk.Advance(time.Minute) // else a pass looks at what came in the minute before
			w.pass()
			before, err := w.reg.DueCount(t.Context())
			w.apply(one.object)
			if due, err2 := w.reg.DueCount(t.Context()); errors.Join(err, err2) != nil || !maps.Equal(due, before) {
				t.Fatalf("due are %v, and were %v: %v", due, before, errors.Join(err, err2))
			}
			w.clk.Advance(time.Hour)
			if w.pass(); w.archived(edge, first).Revision != 1 {
				t.Fatal("a pass sees it")
			}
			days, _, err := w.Seal(t.Context(), edge, schema.Window{From: first, To: first.Add(dayLength)})
			if err != nil || len(days) != 1 || days[0].Revision != 1+int64(count(one.revised)) {
				t.Fatalf("%+v %v", days, err)
			}
			if _, err := w.Verify(t.Context(), Scope{Cluster: edge, Day: first}); err != nil {
				t.Error(err)
			}
			second := first.Add(dayLength)
			w.clk.Set(first.Add(20 * dayLength))
			w.pass()
			w.pass()
			for _, day := range []time.Time{first, second} {
				if d := w.archived(edge, day); !d.Gone || w.inStore(schema.PodMinute, edge, day).Rows > 0 {
					t.Errorf("the rows of %s stay: %+v", day.Format(time.DateOnly), d)
				}
			}
			if d := w.archived(edge, second); d.Revision != 1+int64(count(one.revised && name != "of the month before")) {
				t.Errorf("revision %d of the day after", d.Revision)
			}
			w.apply(disk("tape"))
			if days, n, err := w.Seal(t.Context(), edge, schema.Window{From: second, To: second.Add(dayLength)}); err != nil || n != 1 || w.archived(edge, second).Manifest != days[0].Manifest {
				t.Errorf("a day whose rows are gone: %+v %v", days, err)
			}
			if w.pass(); w.inStore(schema.PodMinute, edge, second).Rows > 0 {
				t.Error("its rows came back for good")
			}
		})
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// TestCrashWhileDeleting: what was begun is ended, and answers are whole meanwhile.
func TestCrashWhileDeleting(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(2, 4*dayLength)
	w.pass()
	before := w.answers()
	w.clk.Set(first.Add(15 * dayLength))
	if err := w.reg.SetGone(t.Context(), edge, first, true); err != nil {
		t.Fatal(err)
	}
	half := schema.Window{From: first, To: first.Add(10 * time.Minute)}
	if err := w.store.Database(schema.MinuteDB).Delete(t.Context(), "pod", nil, half); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, w.answers()); diff != "" {
		t.Error(diff)
	}
	w.pass()
	if got := w.inStore(schema.PodMinute, edge, first).Rows; got != 0 {
		t.Errorf("%d rows are left", got)
	}
	if diff := cmp.Diff(before, w.answers()); diff != "" {
		t.Error(diff)
	}
}

// TestManifestThatWasNotRecorded is adopted: the chain has no second one in its place.
func TestManifestThatWasNotRecorded(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 4*dayLength)
	if _, err := w.Archive(t.Context(), edge, first); err != nil {
		t.Fatal(err)
	}
	second := first.Add(dayLength)
	text, hash := w.unrecorded(second, 2)
	clear(w.adopted) // another process
	w.pass()
	if got := w.archived(edge, second); got.Manifest != hash || got.Revision != 1 {
		t.Errorf("recorded %+v", got)
	}
	if !bytes.Equal([]byte(w.files(edge, second)[newestName]), text) {
		t.Error("manifest.json is another one")
	}
	if _, err := VerifyDir(t.Context(), w.Dir(), Scope{}, w.Key()); err != nil {
		t.Error(err)
	}
}

// unrecorded archives a day up to its manifest, after that of the first day; then a
// crash comes.
func (w *world) unrecorded(day time.Time, sequence int64) (manifest []byte, hash string) {
	w.t.Helper()
	c, err := w.source.look(w.t.Context(), edge, day)
	if err != nil {
		w.t.Fatal(err)
	}
	dir, err := dayDir(w.Dir(), edge, day)
	if err == nil {
		err = makeDay(w.Dir(), dir)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	d := &dayWriter{content: c, dir: dir, revision: 1}
	if err := d.writeDay(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	manifest, hash, err = sign(Manifest{Format: manifestFormat, Cluster: edge, Day: day.Format(time.DateOnly), Revision: 1, Sequence: sequence, State: c.state,
		Previous: w.archived(edge, first).Manifest, Made: w.clk.Now(), Tables: d.tables}, w.signer)
	if err == nil {
		err = replaceBytes(filepath.Join(dir, "manifest-1.json"), manifest)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return manifest, hash
}

// TestVerifySaysWhatIsWrong, for each kind of damage, and stops there.
func TestVerifySaysWhatIsWrong(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 4*dayLength)
	w.pass()
	whole := w.Dir()
	at := func(root string, day time.Time, name string) string {
		dir, err := dayDir(root, edge, day)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	second := first.Add(dayLength)
	for name, one := range map[string]struct {
		spoil func(root string) error
		want  string
		is    error
	}{
		"a bit of a table": {func(root string) error {
			path := at(root, first, "pod-1.parquet")
			text, err := os.ReadFile(path)
			text[len(text)/2] ^= 4
			return errors.Join(err, os.WriteFile(path, text, 0o600))
		}, "pod-1.parquet of edge-a on 2026-11-01: it is not what the manifest says: its SHA-256", ErrDamaged},
		"a table cut off": {func(root string) error { return os.Truncate(at(root, first, "pod-1.parquet"), 100) }, "it has 100 bytes", ErrDamaged},
		"a table lost":    {func(root string) error { return os.Remove(at(root, second, "run-1.parquet")) }, "run-1.parquet of edge-a on 2026-11-02", ErrDamaged},
		"a day lost": {func(root string) error { return os.RemoveAll(filepath.Dir(at(root, first, newestName))) },
			"chain of edge-a: the manifest 1 is missing", ErrDamaged},
		"a manifest edited": {func(root string) error {
			path := at(root, second, "manifest-1.json")
			text, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, bytes.Replace(text, []byte(`"rows": `), []byte(`"rows": 1`), 1), 0o600))
		}, "manifest-1.json", ErrSignature},
		"a table whose manifest was signed again by another": {func(root string) error {
			return resign(root, first, func(*Manifest) {}, signer{other})
		}, "manifest-1.json", ErrSignature},
		"rows that are not the windows'": {func(root string) error {
			return resign(root, first, func(m *Manifest) {
				m.Tables[1].Digest = "0000000000000001"
			}, w.signer)
		}, "", ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.CopyFS(root, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			if err := one.spoil(root); err != nil {
				t.Fatal(err)
			}
			_, err := VerifyDir(t.Context(), root, Scope{}, w.Key())
			if !errors.Is(err, one.is) || !strings.Contains(err.Error(), one.want) {
				t.Errorf("verify: %v, want %q", err, one.want)
			}
		})
	}
}

// resign signs a changed manifest of a day as its first revision.
func resign(root string, day time.Time, change func(*Manifest), with Signer) error {
	d, err := Open(root, edge, day)
	if err != nil {
		return err
	}
	change(&d.Manifest)
	text, _, err := sign(d.Manifest, with)
	for _, name := range []string{"manifest-1.json", newestName} {
		err = errors.Join(err, os.WriteFile(filepath.Join(d.dir, name), text, 0o600))
	}
	return err
}

// TestDayThatGoesWhileAnotherIsReadFromTheArchive: a question that begins in the
// archive and whose later day goes meanwhile has no answer, and not a part of one.
func TestDayThatGoesWhileAnotherIsReadFromTheArchive(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 4*dayLength)
	w.pass()
	w.clk.Set(first.Add(15*dayLength + time.Hour))
	w.pass()
	second := first.Add(dayLength)
	if !w.archived(edge, first).Gone || w.archived(edge, second).Gone {
		t.Fatal("want the first day gone, and the second one there")
	}
	minutes := NewMinutes(w.Dir(), w.reg, w.store.Database(schema.MinuteDB))
	q := influxsync.Query{From: schema.PodMinute.Name, Window: schema.Window{From: first, To: second.Add(dayLength)}, Group: []string{"*"},
		Where: []influxsync.Condition{{Tag: schema.Cluster, Value: edge}}}
	ask := func(meanwhile func()) (rows int, err error) {
		err = minutes.Query(t.Context(), q, func(influxsync.Point) error {
			if rows++; rows == 1 {
				meanwhile()
			}
			return nil
		})
		return rows, err
	}
	if rows, err := ask(func() {}); err != nil || rows != 4*busy {
		t.Fatalf("%d rows, %v; want %d", rows, err, 4*busy)
	}
	rows, err := ask(func() {
		w.clk.Set(first.Add(16*dayLength + time.Hour))
		w.pass()
	})
	if !errors.Is(err, ErrMoved) {
		t.Errorf("%d rows of %d, and %v; want ErrMoved", rows, 4*busy, err)
	}
}

func TestClusterThatNoDirectoryCanBe(t *testing.T) {
	for _, cluster := range []string{"", "..", ".new-1", strings.Repeat("x", 9000)} {
		if _, err := Open(t.TempDir(), cluster, time.Unix(0, 0)); !errors.Is(err, ErrAbsent) {
			t.Errorf("%.10q: %v", cluster, err)
		}
	}
}
