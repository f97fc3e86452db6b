package follower

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// aged makes, once, the directory of a follower that was away for three days: its
// counters' growth is spread over them, so that all their minutes are there.
var aged struct {
	sync.Once
	dir string
	now time.Time
}

func TestMain(m *testing.M) {
	code := m.Run()
	if aged.dir != "" {
		_ = os.RemoveAll(aged.dir) // a test's own
	}
	os.Exit(code)
}

// old is a follower on a copy of that directory.
func old(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	aged.Do(func() {
		var err error
		if aged.dir, err = os.MkdirTemp("", "aged-"); err != nil {
			t.Fatal(err)
		}
		clk := clock.NewManual(epoch.Add(time.Hour))
		r := start(t, aged.dir, clk, nil)
		r.tickTo(epoch.Add(time.Hour + 5*time.Minute))
		r.stop()
		clk.Set(epoch.Add(time.Hour + 3*day))
		r = start(t, aged.dir, clk, nil)
		r.retention.looked = clk.Now().Add(day) // nothing goes yet
		r.tickTo(clk.Now().Add(4 * time.Minute))
		if mark := r.meter.Status().Mark; clk.Now().Sub(mark) > 10*time.Minute {
			t.Fatalf("settled until %s, now is %s", mark, clk.Now())
		}
		r.stop()
		aged.now = clk.Now()
	})
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(aged.dir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"leader.token", "viewer.token"} { // CopyFS makes them readable for all
		if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clk := clock.NewManual(aged.now)
	r := start(t, dir, clk, func(c *Config, _ *Input) {
		c.KeepMinutes = 2 * day
		if change != nil {
			change(c)
		}
	})
	r.retention.looked = clk.Now().Add(day) // the test looks
	r.tickTo(clk.Now().Add(time.Minute))
	return r
}

// look lets retention look now.
func (r *rig) look() {
	r.Helper()
	r.retention.looked = time.Time{}
	if err := r.retain(r.Context()); err != nil {
		r.Fatal(err)
	}
}

// count is how many rows a table has in a window.
func (r *rig) count(db, table string, w schema.Window) int {
	r.Helper()
	n := 0
	if err := r.store.Database(db).TimeQuery(r.Context(), table, w, nil, func(influxsync.Point) error { n++; return nil }); err != nil {
		r.Fatal(err)
	}
	return n
}

// acknowledge is a leader that has copied a table's journal until a moment.
func (r *rig) acknowledge(store string, at time.Time) {
	r.Helper()
	for _, table := range schema.Pulled {
		row := influxsync.NewPoint(schema.PulledTable, map[string]string{schema.Cluster: "edge", "table": table.Name},
			map[string]influxsync.Value{"at": influxsync.Int(at.UnixNano()), "store": influxsync.Str(store)}, time.Unix(0, 0))
		if err := r.store.Database(schema.ResultsDB).Write(r.Context(), []influxsync.Point{row}); err != nil {
			r.Fatal(err)
		}
	}
}

// pull copies the pods' minutes from a mark into a centre.
func (r *rig) pull(sink *influxsync.Server, mark influxsync.Mark) (influxsync.SyncResult, error) {
	var all influxsync.SyncResult
	for {
		synced, err := influxsync.Sync(r.Context(), influxsync.SyncRequest{Source: r.store.Database(schema.MinuteDB), Sink: sink.Database(schema.MinuteDB),
			Table: schema.PodMinute, Cluster: "edge", Mark: mark, Limit: 2000})
		all.Windows, all.NewEra = append(all.Windows, synced.Windows...), all.NewEra || synced.NewEra
		if err != nil || !synced.More {
			all.Mark = synced.Mark
			return all, err
		}
		mark = synced.Mark
	}
}

func centre(t *testing.T) *influxsync.Server {
	t.Helper()
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	return server
}

var (
	day1 = schema.Window{From: epoch.Truncate(day), To: epoch.Truncate(day).Add(day)}
	day2 = schema.Window{From: day1.To, To: day1.To.Add(day)}
)

// TestRetentionWithoutLeader: old minutes and readings go with their journal, which a
// leader that comes later can follow, also after a restart.
func TestRetentionWithoutLeader(t *testing.T) {
	r := old(t, nil)
	if r.count(schema.MinuteDB, "pod", day1) == 0 || r.count(schema.RawDB, "raw", day1) == 0 {
		t.Fatal("there is nothing old")
	}
	second := r.count(schema.MinuteDB, "pod", day2)
	r.look()
	for _, table := range []string{"node", "pod", "container"} {
		if n := r.count(schema.MinuteDB, table, day1); n > 0 {
			t.Errorf("%d rows of %s are left", n, table)
		}
	}
	if n := r.count(schema.RawDB, "raw", day1); n > 0 {
		t.Errorf("%d readings are left", n)
	}
	if n := r.count(schema.RawDB, "lifetime", schema.Window{From: epoch.Add(-day), To: epoch.Add(day)}); n == 0 {
		t.Error("the lifetime of a pod that lives is gone")
	}
	if n := r.count(schema.MinuteDB, "pod", day2); n != second || n == 0 {
		t.Errorf("the next day has %d rows, had %d", n, second)
	}
	if _, err := r.pull(centre(t), influxsync.Mark{}); err != nil {
		t.Errorf("a leader that comes now: %v", err)
	}
	at := r.clock.Now()
	r.stop()
	r = start(t, r.dir, r.clock, nil)
	r.tickTo(at.Add(4 * time.Minute))
	if synced, err := r.pull(centre(t), influxsync.Mark{}); err != nil || len(synced.Windows) < 2*1440 {
		t.Errorf("after a restart: %d windows, %v", len(synced.Windows), err)
	}
}

// TestNothingUnpulledGoes: where there is a leader, minutes wait for it. The control
// deletes without looking, and the leader cannot copy what it has not.
func TestNothingUnpulledGoes(t *testing.T) {
	r := old(t, nil)
	sink := centre(t)
	synced, err := r.pull(sink, influxsync.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	whole := r.count(schema.MinuteDB, "pod", day1)
	for name, of := range map[string]struct {
		store string
		at    time.Time
	}{
		"nothing was pulled":   {r.storeID, time.Unix(0, 1)},
		"of its first minutes": {r.storeID, epoch.Add(time.Hour + 3*time.Minute)},
	} {
		r.acknowledge(of.store, of.at)
		r.look()
		if got := r.count(schema.MinuteDB, "pod", day1); got != whole {
			t.Fatalf("%s: %d rows are left of %d", name, got, whole)
		}
	}
	r.acknowledge(r.storeID, synced.Mark.Time)
	r.look()
	if got := r.count(schema.MinuteDB, "pod", day1); got != 0 {
		t.Errorf("%d rows are left that were pulled", got)
	}
	r.tickTo(r.clock.Now().Add(3 * time.Minute))
	if again, err := r.pull(sink, synced.Mark); err != nil || again.NewEra || len(again.Windows) == 0 {
		t.Errorf("the leader goes on: %d windows, new era %t, %v", len(again.Windows), again.NewEra, err)
	}
	control := old(t, nil)
	if err := control.store.Database(schema.MinuteDB).Delete(t.Context(), "pod", nil, day1); err != nil {
		t.Fatal(err)
	}
	if _, err := control.pull(centre(t), influxsync.Mark{}); err == nil {
		t.Error("rows that were deleted before they were pulled are not missed")
	}
}

// TestDiskBudget: beyond it, what was pulled goes first; what was not goes on record.
func TestDiskBudget(t *testing.T) {
	r := old(t, func(c *Config) { c.KeepMinutes, c.DiskBudget = 30*day, 1 })
	r.acknowledge(r.storeID, time.Unix(0, 1))
	r.look()
	if r.count(schema.MinuteDB, "pod", day1) == 0 {
		t.Fatal("rows went that nobody has pulled, at once")
	}
	r.retention.overSince = r.clock.Now().Add(-forcedAfter)
	r.look()
	if n := r.count(schema.MinuteDB, "pod", day1); n > 0 {
		t.Errorf("%d rows are left", n)
	}
	if r.count(schema.MinuteDB, "pod", day2) == 0 {
		t.Error("the next day went too")
	}
	synced, err := r.pull(centre(t), influxsync.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, w := range synced.Windows {
		if day1.Contains(w.Window.From) && w.Rows == 0 && strings.Contains(w.Reason, "disk") {
			told++
		}
	}
	if told == 0 {
		t.Error("no window says that it was deleted for the disk")
	}
	r.acknowledge(r.storeID, synced.Mark.Time)
	r.look()
	if r.count(schema.MinuteDB, "pod", day2) == 0 {
		t.Error("the last two days went")
	}
}

// TestDiskBudgetGoesOn: a leader that stays away for long costs one day after the
// other, not the first one again and again.
func TestDiskBudgetGoesOn(t *testing.T) {
	r := old(t, func(c *Config) { c.KeepMinutes, c.DiskBudget = 30*day, 1 })
	r.acknowledge(r.storeID, time.Unix(0, 1))
	r.clock.Set(r.clock.Now().Add(2 * day))
	r.tickTo(r.clock.Now().Add(4 * time.Minute))
	day3 := schema.Window{From: day2.To, To: day2.To.Add(day)}
	for _, gone := range []schema.Window{day1, day2, day3} {
		if r.count(schema.MinuteDB, "pod", gone) == 0 {
			t.Fatalf("there is nothing of %s", gone)
		}
		r.look() // the budget is exceeded
		r.retention.overSince = r.clock.Now().Add(-forcedAfter)
		r.look()
		if n := r.count(schema.MinuteDB, "pod", gone); n > 0 {
			t.Errorf("%d rows of %s are left", n, gone)
		}
	}
	r.retention.overSince = r.clock.Now().Add(-forcedAfter)
	r.look()
	if r.count(schema.MinuteDB, "pod", schema.Window{From: day3.To, To: day3.To.Add(day)}) == 0 {
		t.Error("the last two days went")
	}
	if _, err := r.pull(centre(t), influxsync.Mark{}); err != nil {
		t.Errorf("a leader that comes now: %v", err)
	}
}

// TestLateRevisionStays: the entry of an old window that was revised late is behind
// the journal's new begin, and so are its rows: a leader that comes anew wants them.
func TestLateRevisionStays(t *testing.T) {
	r := old(t, nil)
	pods := r.journals[schema.PodMinute.Name].(journal)
	late := schema.Window{From: day1.To.Add(-time.Minute), To: day1.To}
	entry, ok := pods.Latest(late)
	if !ok || entry.Rows == 0 {
		t.Fatalf("the last window of the day has no rows: %+v", entry)
	}
	if _, err := pods.Append(t.Context(), influxsync.Entry{Window: late, Rows: entry.Rows, Digest: entry.Digest, Coverage: entry.Coverage, Reason: "late"}); err != nil {
		t.Fatal(err)
	}
	r.tickTo(r.clock.Now().Add(3 * time.Minute))
	for range 2 {
		r.retention.looked = time.Time{}
		r.look()
		if got := r.count(schema.MinuteDB, "pod", day1); got != int(entry.Rows) {
			t.Errorf("%d rows are left of the day, want the %d of the late window", got, entry.Rows)
		}
		synced, err := r.pull(centre(t), influxsync.Mark{})
		if err != nil || len(synced.Windows) == 0 {
			t.Errorf("a leader that comes now: %d windows, %v", len(synced.Windows), err)
		}
	}
}

// TestCrashWhileMinutesAreForcedOut: a follower that ended between the revision that says
// that rows are gone and their deletion deletes them before it answers, so that a pull
// agrees. The control forgets what was begun.
func TestCrashWhileMinutesAreForcedOut(t *testing.T) {
	for name, test := range map[string]struct {
		what  begun
		crash func(r *rig, tables []kept)
	}{
		"forced": {begun{Forced: day1.From}, func(r *rig, tables []kept) {
			for _, table := range tables {
				if _, err := r.giveUp(r.Context(), table, day1); err != nil {
					r.Fatal(err)
				}
			}
		}},
		"old": {begun{Before: day1.To}, func(r *rig, tables []kept) {
			for _, table := range tables {
				if err := r.deleteMinutes(r.Context(), table, day1, nil); err != nil {
					r.Fatal(err)
				}
			}
		}},
	} {
		for _, forgets := range []bool{false, true} {
			if forgets && name != "forced" {
				continue // one control
			}
			r := old(t, func(c *Config) { c.KeepMinutes = 30 * day })
			tables, _, err := r.keptTables(t.Context())
			if err == nil {
				err = r.begin(test.what)
			}
			if err != nil {
				t.Fatal(err)
			}
			test.crash(r, tables)
			r.retention.looked = r.clock.Now().Add(day)
			r.stop()
			if forgets {
				if err := os.Remove(filepath.Join(r.dir, begunName)); err != nil {
					t.Fatal(err)
				}
			}
			r = start(t, r.dir, r.clock, func(c *Config, _ *Input) { c.KeepMinutes = 30 * day })
			rows := r.count(schema.MinuteDB, "pod", day1)
			if _, err := r.pull(centre(t), influxsync.Mark{}); (err != nil) != forgets {
				t.Errorf("%s, what was begun is forgotten %t: %d rows, pull: %v", name, forgets, rows, err)
			}
			if !forgets && rows > 0 {
				t.Errorf("%s: %d rows are left", name, rows)
			}
			if _, err := os.Stat(filepath.Join(r.dir, begunName)); err == nil {
				t.Errorf("%s: it is still said to be begun", name)
			}
			r.stop()
		}
	}
}

// TestDeletionThatFailsGoesOn at the next tick, not an hour later.
func TestDeletionThatFailsGoesOn(t *testing.T) {
	r := old(t, func(c *Config) { c.KeepMinutes, c.DiskBudget = 30*day, 1 })
	r.acknowledge(r.storeID, time.Unix(0, 1))
	tables, _, err := r.keptTables(t.Context())
	if err == nil {
		err = r.begin(begun{Forced: day1.From})
	}
	if err == nil {
		_, err = r.giveUp(t.Context(), tables[1], day1)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.tickTo(r.clock.Now().Add(time.Minute))
	if n := r.count(schema.MinuteDB, "pod", day1); n > 0 {
		t.Errorf("%d rows are left", n)
	}
	if r.retention.begun != (begun{}) {
		t.Errorf("it is still said to be begun: %+v", r.retention.begun)
	}
}
