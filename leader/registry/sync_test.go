package registry

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

// TestMigrations starts from every version of the schema, the empty file first.
func TestMigrations(t *testing.T) {
	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	for version := range len(steps) + 1 {
		path := filepath.Join(t.TempDir(), "registry.db")
		db, err := sql.Open("sqlite3", dsn(path, ""))
		if err != nil {
			t.Fatal(err)
		}
		if err := migrateTo(t.Context(), db, steps[:version]); err != nil {
			t.Fatalf("to version %d: %v", version, err)
		}
		if version > 0 {
			if _, err := db.Exec(`INSERT INTO object (kind, name, valid_from, valid_to, spec, recorded_at, recorded_by)
				VALUES ('Box', 'kept', 0, 9, '{}', 0, 'old')`); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := Open(t.Context(), path, nil)
		if err != nil {
			t.Fatalf("from version %d: %v", version, err)
		}
		objects, err := r.Objects(t.Context())
		if want := min(version, 1); err != nil || len(objects) != want {
			t.Errorf("from version %d: %d objects, %v; want %d", version, len(objects), err, want)
		}
		var got int
		if err := r.writer.QueryRow("PRAGMA user_version").Scan(&got); err != nil || got != steps[len(steps)-1].number {
			t.Errorf("from version %d: now %d, %v; want %d", version, got, err, steps[len(steps)-1].number)
		}
		if _, err := r.writer.Exec("PRAGMA user_version = 99"); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, nil); !errors.Is(err, ErrNewer) {
			t.Errorf("a newer file: %v, want ErrNewer", err)
		}
	}
}

func TestAFailedMigrationChangesNothing(t *testing.T) {
	db, err := sql.Open("sqlite3", dsn(filepath.Join(t.TempDir(), "r.db"), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if err := migrateTo(t.Context(), db, []step{{"0001_a", 1, "CREATE TABLE a (x); CREATE TABLE b (x); nonsense;"}}); err == nil {
		t.Error("no error")
	}
	var tables, version int
	err = errors.Join(db.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&tables), db.QueryRow("PRAGMA user_version").Scan(&version))
	if err != nil || tables != 0 || version != 0 {
		t.Errorf("%d tables, version %d, %v after a failed step", tables, version, err)
	}
}

func TestWAL(t *testing.T) {
	r, _ := open(t)
	var mode string
	if err := r.writer.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal mode %s, %v", mode, err)
	}
	if _, err := r.reader.Exec("DELETE FROM due"); err == nil {
		t.Error("the reader may write")
	}
}

func entry(from time.Time, revision, rows int64) influxsync.Confirmed {
	return influxsync.Confirmed{Entry: influxsync.Entry{Cluster: "alpha", Table: "pod", Window: schema.WindowAt(from, schema.Minute), Revision: revision, Rows: rows,
		Digest: 1<<63 + 5, Coverage: 1000, Time: from.Add(time.Duration(revision) * time.Minute)}}
}

func TestReceived(t *testing.T) {
	r, _ := open(t)
	if mark, err := r.Mark(t.Context(), "alpha", "pod"); mark != (influxsync.Mark{}) || err != nil {
		t.Errorf("mark before the first pull: %+v, %v", mark, err)
	}
	receive := func(store string, windows ...influxsync.Confirmed) {
		t.Helper()
		mark := influxsync.Mark{Store: store, Time: noon.Add(1), Hash: "abc"}
		due := Due{Processor: ProcessorPower, Scope: "b", Quarter: noon, Reason: "journal"}
		if err := r.Received(t.Context(), "alpha", "pod", Receipt{Mark: mark, Windows: windows}, []Due{due}); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Mark(t.Context(), "alpha", "pod"); got != mark || err != nil {
			t.Errorf("mark %+v, %v; want %+v", got, err, mark)
		}
	}
	state := func() LedgerEntry {
		t.Helper()
		ledger, err := r.Ledger(t.Context(), "alpha", "pod", hours(0, 1))
		if err != nil || len(ledger) != 1 {
			t.Fatalf("ledger %v, %v", ledger, err)
		}
		return ledger[0]
	}
	steps := []struct {
		store                                string
		entry                                influxsync.Confirmed
		wantRevision, wantRows, wantOverlaps int64
	}{
		{"s1", entry(noon, 1, 10), 1, 10, 0},
		{"s1", entry(noon, 3, 30), 3, 30, 0},
		{"s1", entry(noon, 3, 30), 3, 30, 0},
		{"s1", entry(noon, 2, 20), 2, 20, 0}, // what the centre agreed with last stands: the store went back to a copy
		{"s2", entry(noon, 1, 11), 1, 11, 1}, // a new store begins again
		{"s2", entry(noon, 2, 12), 2, 12, 1},
	}
	for i, step := range steps {
		receive(step.store, step.entry)
		got := state()
		if got.Revision != step.wantRevision || got.Rows != step.wantRows || got.Overlaps != step.wantOverlaps || got.Digest != 1<<63+5 {
			t.Errorf("step %d: %+v, want %+v", i, got, step)
		}
	}
	if extent, ok, err := r.Extent(t.Context(), "alpha", "pod"); !ok || err != nil || extent != schema.WindowAt(noon, schema.Minute) {
		t.Errorf("extent %s %v %v", extent, ok, err)
	}
}

// TestReceivedIsOneTransaction: if any part fails, the mark stays.
func TestReceivedIsOneTransaction(t *testing.T) {
	r, _ := open(t)
	good := Due{Processor: ProcessorPower, Scope: "b", Quarter: noon}
	stranger := entry(noon, 1, 1)
	stranger.Cluster = "beta"
	failures := []struct {
		windows []influxsync.Confirmed
		due     []Due
	}{
		{[]influxsync.Confirmed{entry(noon, 1, 1)}, []Due{good, {Processor: ProcessorPower, Scope: "b", Quarter: noon.Add(time.Second)}}},
		{[]influxsync.Confirmed{entry(noon, 1, 1), stranger}, []Due{good}},
	}
	for i, f := range failures {
		if err := r.Received(t.Context(), "alpha", "pod", Receipt{Mark: influxsync.Mark{Store: "s", Time: noon}, Windows: f.windows}, f.due); err == nil {
			t.Errorf("case %d: no error", i)
		}
		mark, err1 := r.Mark(t.Context(), "alpha", "pod")
		ledger, err2 := r.Ledger(t.Context(), "alpha", "pod", hours(-1, 1))
		due, err3 := r.Due(t.Context(), ProcessorPower, 0)
		if err := errors.Join(err1, err2, err3); err != nil || mark.Store != "" || len(ledger)+len(due) != 0 {
			t.Errorf("case %d left mark %+v, ledger %v, due %v, %v", i, mark, ledger, due, err)
		}
	}
}

func TestCompleteness(t *testing.T) {
	r, clk := open(t)
	apply(t, r, small()...)
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	span := func(from, to int) schema.Window { return schema.Window{From: at(from), To: at(to)} }
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		receive(t, r, "alpha", table, "s", span(5, 10))
		receive(t, r, "alpha", table, "s", span(13, 22))
		receive(t, r, "alpha", table, "s", span(26, 28))
	}
	receive(t, r, "alpha", schema.Object, "s", span(7, 8))
	for _, state := range []struct {
		minute         int
		state, message string
	}{{0, StateOK, ""}, {11, string(GapFollowerDown), "connection refused"}, {12, string(GapFollowerDown), "502"}, {14, StateOK, ""}, {20, StateOK, ""}} {
		if err := r.SetClusterState(t.Context(), "alpha", state.state, at(state.minute), state.message); err != nil {
			t.Fatal(err)
		}
	}
	clk.Set(at(40))
	all, err := r.Completeness(t.Context(), "alpha", span(-30, 35))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][]Completeness)
	for _, c := range all {
		if !c.Newest.Equal(noon) && c.Received > 0 {
			t.Errorf("newest receipt %s", c.Newest)
		}
		c.Newest = time.Time{}
		got[c.Table] = append(got[c.Table], c)
	}
	newest := "the newest window ends at 2026-11-23T12:28:00Z"
	want := []Completeness{
		{Table: "node", Quarter: noon, Grain: GrainQuarter, Expected: 10, ExpectedBy: ByFleet, Received: 7, Windows: 7, Rows: 21, Revisions: 7, Coverage: 1000,
			Missing: []Gap{{at(10), at(13), "", 3, GapFollowerDown, "since 2026-11-23T12:11:00Z until 2026-11-23T12:14:00Z: 502"}}},
		{Table: "node", Quarter: at(15), Grain: GrainQuarter, Expected: 15, ExpectedBy: ByFleet, Received: 9, Windows: 9, Rows: 27, Revisions: 9, Coverage: 1000,
			Missing: []Gap{{at(22), at(26), "", 4, GapNotJournaled, ""}, {at(28), at(30), "", 2, GapNotYet, newest}}},
		{Table: "node", Quarter: at(30), Grain: GrainQuarter, Expected: 5, ExpectedBy: ByFleet, Missing: []Gap{{at(30), at(35), "", 5, GapNotYet, newest}}},
	}
	if diff := cmp.Diff(want, got["node"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Completeness{{Table: "object", Quarter: noon, Grain: GrainQuarter, Received: 1, Windows: 1, Rows: 3, Revisions: 1, Coverage: 1000}}, got["object"]); diff != "" {
		t.Error(diff)
	}
}

func TestCompletenessBeginsAndEnds(t *testing.T) {
	r, clk := open(t)
	cluster := fleet.NewObject("alpha", fleet.Cluster{URL: "http://127.0.0.1:1"}).Since(noon.Add(-30 * time.Minute)).Until(noon)
	apply(t, r, cluster, fleet.NewObject("beta", fleet.Cluster{URL: "http://127.0.0.1:1"}))
	clk.Advance(2 * time.Hour)
	count := func(cluster string) (expected, missing int, reason string) {
		t.Helper()
		all, err := r.Completeness(t.Context(), cluster, hours(-1, 1))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.Table == schema.NodeMinute.Name {
				expected += c.Expected
				for _, gap := range c.Missing {
					missing += int(gap.To.Sub(gap.From) / schema.Minute)
					reason = string(gap.Reason) + ": " + gap.Message
				}
			}
		}
		return expected, missing, reason
	}
	if e, m, why := count("alpha"); e != 30 || m != 30 || !strings.Contains(why, "nothing has come") {
		t.Errorf("of a validity of 30 minutes %d expected, %d missing: %s", e, m, why)
	}
	if e, _, _ := count("beta"); e != 60 {
		t.Errorf("of a cluster added at noon %d minutes of the next hour are expected", e)
	}
	if e, _, _ := count("nobody"); e != 0 {
		t.Errorf("of no cluster %d minutes are expected", e)
	}
	receive(t, r, "alpha", schema.NodeMinute, "s", schema.Window{From: noon.Add(-40 * time.Minute), To: noon.Add(-10 * time.Minute)})
	if e, m, _ := count("alpha"); e != 40 || m != 10 {
		t.Errorf("with history before its validity %d expected, %d missing; want 40, 10", e, m)
	}
}

func TestQuarantine(t *testing.T) {
	r, clk := open(t)
	point := func(n int64) influxsync.Point {
		return influxsync.NewPoint("pod", map[string]string{"cluster": "beta"}, map[string]influxsync.Value{"cpu": influxsync.Int(1<<62 + n)}, noon)
	}
	for range 3 {
		if err := r.Quarantine(t.Context(), "alpha", "pod", []influxsync.Point{point(1), point(2)}, "another cluster's row"); err != nil {
			t.Fatal(err)
		}
		clk.Advance(time.Minute)
	}
	kept, err := r.Quarantined(t.Context(), QuarantineFilter{}, 0, 10)
	if err != nil || len(kept) != 2 || kept[0].Seen != 3 || !kept[0].First.Equal(noon) || !kept[0].Last.Equal(noon.Add(2*time.Minute)) ||
		!strings.Contains(string(kept[0].Point), "4611686018427387906") {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if n, err := r.QuarantineCount(t.Context(), "alpha"); n != 6 || err != nil {
		t.Errorf("counted %d, %v; want 6", n, err)
	}
	if other, err := r.Quarantined(t.Context(), QuarantineFilter{Cluster: "beta"}, 0, 10); len(other) != 0 || err != nil {
		t.Errorf("of another cluster: %v, %v", other, err)
	}
}

func TestKubeObjects(t *testing.T) {
	r, _ := open(t)
	row := func(name, spec string, from, to time.Time) influxsync.Point {
		until := int64(0)
		if !to.IsZero() {
			until = to.UnixNano()
		}
		return influxsync.NewPoint("object", map[string]string{"cluster": "alpha", "kind": "Pod", "namespace": "web", "name": name, "uid": name},
			map[string]influxsync.Value{"spec": influxsync.Str(spec), "reason": influxsync.Str("r"),
				"valid_from": influxsync.Int(from.UnixNano()), "valid_to": influxsync.Int(until)}, from)
	}
	points := []influxsync.Point{
		row("a", `{"labels":{"team":"x"},"node":"n1"}`, noon, noon.Add(time.Hour)),
		row("a", `{"labels":{"team":"y"}}`, noon.Add(time.Hour), time.Time{}),
		row("b", `not JSON`, noon, time.Time{}),
	}
	for range 2 {
		if err := r.PutObjects(t.Context(), points); err != nil {
			t.Fatal(err)
		}
	}
	read := func(w schema.Window) (got []string) {
		t.Helper()
		err := r.KubeObjects(t.Context(), "alpha", "Pod", w, func(o KubeObject) error {
			got = append(got, o.Name+o.Labels["team"])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for w, want := range map[schema.Window]string{hours(0, 1): "ax b", hours(1, 2): "ay b", hours(0, 2): "ax ay b", hours(-1, 0): ""} {
		if got := strings.Join(read(w), " "); got != want {
			t.Errorf("in %s: %q, want %q", w, got, want)
		}
	}
	if err := r.Forget(context.Background(), "alpha"); err != nil || len(read(hours(0, 2))) != 0 {
		t.Errorf("forgotten: %v", err)
	}
}

// TestUnexplainedRowsAreAGap: rows that only the centre has are shown, where no
// era of the follower's store explains them.
func TestUnexplainedRowsAreAGap(t *testing.T) {
	r, _ := open(t)
	for i, unexplained := range []bool{false, true} {
		at := noon.Add(time.Duration(i) * time.Minute)
		w := entry(at, 1, 10)
		w.Extra, w.Unexplained = 2, unexplained
		if err := r.Received(t.Context(), "alpha", "pod", Receipt{Mark: influxsync.Mark{Store: "s", Time: at, Era: 1}, Windows: []influxsync.Confirmed{w}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	parts, err := r.Completeness(t.Context(), "alpha", hours(0, 1))
	if err != nil {
		t.Fatal(err)
	}
	var found []Gap
	extra := int64(0)
	for _, part := range parts {
		extra += part.Extra
		for _, gap := range part.Missing {
			if gap.Reason == GapUnexplained {
				found = append(found, gap)
			}
		}
	}
	if len(found) != 1 || !found[0].From.Equal(noon.Add(time.Minute)) || found[0].Message != "2 rows" || extra != 4 {
		t.Errorf("gaps %+v, %d extra rows; want the second minute's", found, extra)
	}
	ledger, err := r.Ledger(t.Context(), "alpha", "pod", hours(0, 1))
	if err != nil || len(ledger) != 2 || ledger[0].Unexplained != 0 || ledger[1].Unexplained != 2 || ledger[1].Era != 1 {
		t.Errorf("%+v, %v", ledger, err)
	}
}
