package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	_ "github.com/mattn/go-sqlite3"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func minute(n int) schema.Window {
	return schema.WindowAt(start.Add(time.Duration(n)*time.Minute), schema.Minute)
}

type gate struct{ held int }

func (g *gate) Alone(ctx context.Context, _ string, do func(context.Context) error) error {
	g.held++
	return do(ctx)
}

// bench is a centre that has pulled ten minutes of node and pod of a follower.
type bench struct {
	*Auditor
	t        *testing.T
	clk      *clock.Manual
	path     string
	books    *registry.Registry
	engine   *embedded.Server
	db       *influxsync.Database
	puller   *pull.Puller
	follower *followertest.Follower
	down     error
	gate     *gate
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, clk: clock.NewManual(start.Add(time.Hour)), path: filepath.Join(t.TempDir(), "registry.db"), engine: influxtest.Open(t, t.TempDir()), gate: &gate{}}
	centre, err := b.engine.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := centre.Create(t.Context(), schema.MinuteDB, schema.FactsDB); err != nil {
		t.Fatal(err)
	}
	if b.books, err = registry.Open(t.Context(), b.path, b.clk); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.books.Close() })
	if _, err := b.books.Apply(t.Context(), []fleet.Object{fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"})}, "test"); err != nil {
		t.Fatal(err)
	}
	b.db, b.puller, b.follower = centre.Database(schema.MinuteDB), pull.New(b.books, centre), followertest.New(t, "a", b.clk)
	b.Auditor = New(Parts{Registry: b.books, Centre: centre, Copier: b.puller, Gate: b.gate,
		Follower: func(context.Context, string) (*influxsync.Server, error) { return b.follower.Store, b.down }}, b.clk)
	var nodes, pods []influxsync.Point
	for n := range 10 {
		nodes = append(nodes, row(schema.NodeMinute, n, "", 5))
		pods = append(pods, row(schema.PodMinute, n, "p", 5), row(schema.PodMinute, n, "q", 5))
	}
	b.follower.Settle(schema.NodeMinute, schema.Window{From: start, To: minute(9).To}, nodes...)
	b.follower.Settle(schema.PodMinute, schema.Window{From: start, To: minute(9).To}, pods...)
	b.pull()
	return b
}

func row(table schema.Table, n int, pod string, cpu int64) influxsync.Point {
	tags := map[string]string{schema.Cluster: "a", schema.Node: "n1"}
	if table.Name == schema.PodMinute.Name {
		tags[schema.Pod] = pod
	}
	return followertest.Row(table, minute(n).From, tags, map[string]int64{schema.CPU: cpu, schema.Uptime: 60_000})
}

// settle makes a minute of the follower, in a new revision.
func (b *bench) settle(n int, cpu int64, pods ...string) {
	b.t.Helper()
	b.follower.Settle(schema.NodeMinute, minute(n), row(schema.NodeMinute, n, "", cpu))
	var rows []influxsync.Point
	for _, pod := range pods {
		rows = append(rows, row(schema.PodMinute, n, pod, cpu))
	}
	b.follower.Settle(schema.PodMinute, minute(n), rows...)
}

func (b *bench) pull() {
	b.t.Helper()
	if _, err := b.puller.Pull(b.t.Context(), "a", b.follower.Store); err != nil {
		b.t.Fatal(err)
	}
	b.clk.Advance(time.Minute)
}

// execute runs a statement on the centre's store, past everything.
func (b *bench) execute(engine *embedded.Server, statement string) {
	b.t.Helper()
	q := url.Values{"db": {schema.MinuteDB}, "q": {statement}}
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "http://centre/query?"+q.Encode(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	response, err := engine.Transport().RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		b.t.Fatal(response, err)
	}
	text, err := io.ReadAll(response.Body) // who leaves early ends the statement
	if err != nil || strings.Contains(string(text), "error") {
		b.t.Fatal(string(text), err)
	}
	_ = response.Body.Close()
}

func (b *bench) write(rows ...influxsync.Point) {
	b.t.Helper()
	if err := b.db.Write(b.t.Context(), rows); err != nil {
		b.t.Fatal(err)
	}
}

// spoil changes the registry's file behind its back.
func (b *bench) spoil(statement string, args ...any) {
	b.t.Helper()
	db, err := sql.Open("sqlite3", b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(statement, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) audit(repair bool) Report {
	b.t.Helper()
	report, err := b.Audit(b.t.Context(), Request{Cluster: "a", Window: schema.Window{From: start.Add(-24 * time.Hour), To: start.Add(time.Hour)}, Repair: repair})
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

// found are the findings as "table kind minute[+windows][ repaired]".
func found(report Report) []string {
	list := []string{}
	for _, table := range report.Tables {
		for _, f := range table.Findings {
			text := table.Table + " " + string(f.Kind)
			if !f.From.IsZero() {
				text += fmt.Sprint(" ", int(f.From.Sub(start)/time.Minute))
			}
			if f.Windows > 1 {
				text += fmt.Sprint("+", f.Windows-1)
			}
			if f.Repaired {
				text += " repaired"
			}
			list = append(list, text)
		}
	}
	return list
}

func expect(t *testing.T, report Report, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, found(report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
		for _, table := range report.Tables {
			for _, f := range table.Findings {
				t.Logf("%s %s: %s", table.Table, f.Kind, f.Message)
			}
			t.Log(table.Table, table.Source, table.Repair)
		}
	}
}

func (b *bench) audited(table string) (audited, all int) {
	b.t.Helper()
	entries, err := b.books.Ledger(b.t.Context(), "a", table, schema.Window{From: start, To: start.Add(time.Hour)})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Audited.IsZero() {
			audited++
		}
	}
	return audited, len(entries)
}

func TestAllAgrees(t *testing.T) {
	b := newBench(t)
	b.settle(3, 50, "p", "q") // a revision
	b.pull()
	report := b.audit(false)
	expect(t, report)
	if report.Wrong() != 0 || len(report.Tables) != len(schema.Pulled) {
		t.Errorf("%+v", report)
	}
	for _, table := range report.Tables {
		want := map[string]Table{"node": {Windows: 10, Rows: 10, OK: 10}, "pod": {Windows: 10, Rows: 20, OK: 10}}[table.Table]
		if table.Windows != want.Windows || table.Rows != want.Rows || table.OK != want.OK || table.Source != "" {
			t.Errorf("%+v, want %+v", table, want)
		}
	}
	if n, all := b.audited("pod"); n != 10 || all != 10 {
		t.Errorf("%d of %d windows are audited", n, all)
	}
	if want := 2 * len(schema.Pulled); b.gate.held != want {
		t.Errorf("the cluster was held %d times, want %d: each day of each table", b.gate.held, want)
	}
	if _, err := b.Audit(t.Context(), Request{Cluster: "a", Table: "nowhere"}); !errors.Is(err, ErrTable) {
		t.Errorf("a table that is not pulled: %v", err)
	}
}

// TestEachKindIsFoundAndRepaired: every case is a control of the others, for the
// same audit of an untouched centre finds nothing.
func TestEachKindIsFoundAndRepaired(t *testing.T) {
	of := func(table string, n int) string {
		return fmt.Sprintf("cluster = 'a' AND tbl = '%s' AND window_from = %d", table, minute(n).From.UnixNano())
	}
	for name, c := range map[string]struct {
		spoil    func(*bench)
		want     []string
		repaired []string
	}{
		"a row deleted in the centre": {func(b *bench) {
			b.execute(b.engine, fmt.Sprintf("DELETE FROM pod WHERE pod = 'p' AND time = %d", minute(4).From.UnixNano()))
		}, []string{"pod rows-missing 4"}, []string{"pod rows-missing 4 repaired"}},
		"a window deleted in the centre, and its neighbour": {func(b *bench) {
			b.execute(b.engine, fmt.Sprintf("DELETE FROM pod WHERE time >= %d AND time < %d", minute(4).From.UnixNano(), minute(5).To.UnixNano()))
		}, []string{"pod rows-missing 4+1"}, []string{"pod rows-missing 4+1 repaired"}},
		"a row changed": {func(b *bench) { b.write(row(schema.PodMinute, 6, "p", 6)) },
			[]string{"pod rows-differ 6"}, []string{"pod rows-differ 6 repaired"}},
		"a row added": {func(b *bench) { b.write(row(schema.PodMinute, 7, "r", 5)) },
			[]string{"pod rows-extra 7"}, []string{"pod rows-extra 7"}},
		"a row added where no window is": {func(b *bench) { b.write(row(schema.PodMinute, 30, "r", 5)) },
			[]string{"pod rows-extra 30"}, []string{"pod rows-extra 30"}},
		"a row added and one deleted": {func(b *bench) {
			b.execute(b.engine, fmt.Sprintf("DELETE FROM pod WHERE pod = 'p' AND time = %d", minute(4).From.UnixNano()))
			b.write(row(schema.PodMinute, 4, "r", 5))
		}, []string{"pod rows-differ 4"}, []string{"pod rows-differ 4 repaired", "pod rows-extra 4"}},
		"a revision lost in the ledger and in the centre": {func(b *bench) {
			var before influxsync.Digest
			for _, e := range ledgerOf(b, "node") {
				if e.Window == minute(2) {
					before = e.Digest
				}
			}
			b.settle(2, 50, "p", "q")
			b.pull()
			b.write(row(schema.NodeMinute, 2, "", 5))
			b.spoil("UPDATE ledger SET revision = 1, digest = ? WHERE "+of("node", 2), int64(before))
		}, []string{"node revision-lost 2"}, []string{"node revision-lost 2 repaired"}},
		"a revision lost in the ledger alone": {func(b *bench) {
			b.settle(2, 50, "p", "q")
			b.pull()
			b.spoil("UPDATE ledger SET revision = 1, digest = 1 WHERE " + of("node", 2))
		}, []string{"node revision-lost 2", "node rows-differ 2"}, []string{"node revision-lost 2 repaired", "node rows-differ 2 repaired"}},
		"a window lost in the ledger": {func(b *bench) { b.spoil("DELETE FROM ledger WHERE " + of("node", 2)) },
			[]string{"node window-lost 2"}, []string{"node window-lost 2 repaired"}},
		"everything lost in the centre": {func(b *bench) { b.execute(b.engine, "DROP MEASUREMENT pod") },
			[]string{"pod rows-missing 0+9"}, []string{"pod rows-missing 0+9 repaired"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			c.spoil(b)
			mark, err := b.books.Mark(t.Context(), "a", "pod")
			if err != nil {
				t.Fatal(err)
			}
			report := b.audit(false)
			expect(t, report, c.want...)
			if report.Wrong() != len(c.want) {
				t.Errorf("%d are wrong", report.Wrong())
			}
			b.clk.Advance(time.Minute)
			expect(t, b.audit(true), c.repaired...)
			var left []string
			for _, f := range c.repaired {
				if !strings.HasSuffix(f, " repaired") {
					left = append(left, f)
				}
			}
			b.clk.Advance(time.Minute)
			last := b.audit(false)
			expect(t, last, left...)
			if last.Wrong() != len(left) {
				t.Errorf("%d are wrong after the repair", last.Wrong())
			}
			if after, err := b.books.Mark(t.Context(), "a", "pod"); after != mark || err != nil {
				t.Errorf("the mark moved from %+v to %+v, %v", mark, after, err)
			}
			if n, all := b.audited("pod"); n != all-count(left, "pod rows-") && !strings.Contains(name, "where no window") {
				t.Errorf("%d of %d windows of pod are audited, findings %v", n, all, left)
			}
		})
	}
}

func count(list []string, prefix string) (n int) {
	for _, text := range list {
		if strings.HasPrefix(text, prefix) {
			n++
		}
	}
	return n
}

func ledgerOf(b *bench, table string) []registry.LedgerEntry {
	b.t.Helper()
	entries, err := b.books.Ledger(b.t.Context(), "a", table, schema.Window{From: start, To: start.Add(time.Hour)})
	if err != nil {
		b.t.Fatal(err)
	}
	return entries
}

// TestRepairMakesTheQuarterDue: what a repair changes is computed again.
func TestRepairMakesTheQuarterDue(t *testing.T) {
	b := newBench(t)
	b.spoil("DELETE FROM due")
	b.execute(b.engine, "DROP MEASUREMENT pod")
	b.audit(true)
	due, err := b.books.Due(t.Context(), registry.ProcessorUsage, 0)
	if err != nil || len(due) != 1 || !due[0].Quarter.Equal(start) {
		t.Errorf("due %+v, %v", due, err)
	}
}

func TestWhatTheFollowerSays(t *testing.T) {
	t.Run("it cannot be reached", func(t *testing.T) {
		b := newBench(t)
		b.down = errors.New("connection refused")
		b.write(row(schema.PodMinute, 6, "p", 6))
		report := b.audit(true)
		expect(t, report, "pod rows-differ 6")
		if pods := report.Tables[1]; pods.Source != "connection refused" || len(pods.Repair) != 1 {
			t.Errorf("%+v", pods)
		}
		if n, _ := b.audited("node"); n != 0 {
			t.Errorf("%d windows count as audited without the follower", n)
		}
	})
	t.Run("it has lost the rows", func(t *testing.T) {
		b := newBench(t)
		b.execute(b.engine, "DROP MEASUREMENT pod")
		if err := b.follower.Store.Database(schema.MinuteDB).Clear(t.Context(), "pod", nil); err != nil {
			t.Fatal(err)
		}
		report := b.audit(true)
		expect(t, report, "pod rows-missing 0+9")
		if pods := report.Tables[1]; len(pods.Repair) != 10 || !strings.Contains(pods.Repair[0], "source gave 0 rows") {
			t.Errorf("%v", pods.Repair)
		}
	})
	t.Run("some of it", func(t *testing.T) {
		b := newBench(t)
		b.execute(b.engine, "DROP MEASUREMENT pod")
		where := []influxsync.Condition{{Tag: schema.Pod, Value: "p"}}
		if err := b.follower.Store.Database(schema.MinuteDB).Clear(t.Context(), "pod", where); err != nil {
			t.Fatal(err)
		}
		b.settle(3, 9, "p", "q") // one is whole again
		report := b.audit(true)
		if got := found(report); !slices.Contains(got, "pod rows-missing 4+5") || slices.Contains(got, "pod rows-missing 3") {
			t.Errorf("%v", got)
		}
	})
	t.Run("another chain", func(t *testing.T) {
		b := newBench(t)
		db := b.follower.Store.Database(schema.MinuteDB)
		entries, err := influxsync.ReadJournal(t.Context(), db, "a", "node", time.Time{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		forged := influxsync.NewPoint("journal", map[string]string{schema.Cluster: "a", "table": "node"},
			map[string]influxsync.Value{"rows": influxsync.Int(99)}, entries[4].Time)
		if err := db.Write(t.Context(), []influxsync.Point{forged}); err != nil {
			t.Fatal(err)
		}
		expect(t, b.audit(true), "node chain-broken")
		if n, _ := b.audited("node"); n != 0 {
			t.Errorf("%d windows count as audited by a broken journal", n)
		}
	})
	t.Run("a journal without the mark", func(t *testing.T) {
		b := newBench(t)
		b.spoil("UPDATE mark SET hash = 'other' WHERE tbl = 'node'")
		expect(t, b.audit(false), "node chain-broken")
	})
	t.Run("another store", func(t *testing.T) {
		b := newBench(t)
		b.follower = followertest.New(t, "a", b.clk)
		b.settle(8, 5, "p", "q")
		report := b.audit(true)
		expect(t, report, "node other-store", "pod other-store", "container other-store")
		if report.Wrong() != 0 {
			t.Errorf("%d are wrong", report.Wrong())
		}
		b.pull() // an era begins: of most windows the new store knows nothing
		expect(t, b.audit(false), "node not-at-source 0+7", "node not-at-source 9", "pod not-at-source 0+7", "pod not-at-source 9")
	})
	t.Run("a revision on its way", func(t *testing.T) {
		b := newBench(t)
		b.settle(5, 7, "p", "q")
		b.settle(20, 7, "p")
		expect(t, b.audit(false)) // the centre is as the ledger says
		b.write(row(schema.PodMinute, 5, "p", 7), row(schema.PodMinute, 20, "p", 7))
		report := b.audit(false)
		expect(t, report, "pod not-pulled 5", "pod not-pulled 20") // and here a pull broke off
		if report.Wrong() != 0 {
			t.Errorf("%d are wrong", report.Wrong())
		}
	})
}

// TestErasExplainTheirRows: rows of an earlier era that the ledger has noted are
// no finding; one more is, and one that hides among them is.
func TestErasExplainTheirRows(t *testing.T) {
	era := func(t *testing.T) *bench {
		b := newBench(t)
		b.follower = followertest.New(t, "a", b.clk)
		b.settle(8, 5, "p", "x") // the old store had p and q there
		b.pull()
		if e := ledgerOf(b, "pod")[8]; e.Extra != 1 || e.Overlaps != 1 {
			t.Fatalf("ledger %+v, want an extra row of an overlap", e)
		}
		return b
	}
	at := func(kind string) []string {
		return []string{"node not-at-source 0+7", "node not-at-source 9", "pod not-at-source 0+7", "pod " + kind, "pod not-at-source 9"}
	}
	t.Run("as noted", func(t *testing.T) {
		b := era(t)
		report := b.audit(false)
		expect(t, report, at("rows-explained 8")...)
		if report.Wrong() != 0 {
			t.Errorf("%d are wrong", report.Wrong())
		}
	})
	t.Run("one more", func(t *testing.T) {
		b := era(t)
		b.write(row(schema.PodMinute, 8, "y", 5))
		expect(t, b.audit(false), at("rows-extra 8")...)
	})
	t.Run("one of the new era changed", func(t *testing.T) {
		b := era(t)
		b.write(row(schema.PodMinute, 8, "x", 6))
		expect(t, b.audit(false), at("rows-differ 8")...)
		got := found(b.audit(true))
		if !slices.Contains(got, "pod rows-differ 8 repaired") {
			t.Errorf("%v", got)
		}
		expect(t, b.audit(false), at("rows-explained 8")...)
	})
	t.Run("nothing noted", func(t *testing.T) { // control: the note is what explains them
		b := era(t)
		b.spoil("UPDATE ledger SET extra = 0")
		expect(t, b.audit(false), at("rows-extra 8")...)
	})
}

// TestRefusedAndForeignRowsAreCounted: rows that the quarantine keeps are no
// findings, for the journal's digest has them; without the quarantine they are.
func TestRefusedAndForeignRowsAreCounted(t *testing.T) {
	b := newBench(t)
	tomorrow := 24 * 60 // another shard: its fields have no type yet
	other := influxsync.NewPoint("pod", map[string]string{"by": "somebody"}, map[string]influxsync.Value{schema.CPU: influxsync.Float(1)}, minute(tomorrow).From)
	b.write(other)
	b.settle(tomorrow, 5, "p", "q")
	foreign := row(schema.NodeMinute, 3, "", 5)
	foreign.Tags[0].Value = "z"
	b.follower.Settle(schema.NodeMinute, minute(3), row(schema.NodeMinute, 3, "", 5))
	if err := b.follower.Store.Database(schema.MinuteDB).Write(t.Context(), []influxsync.Point{foreign}); err != nil {
		t.Fatal(err)
	}
	b.pull()
	if n := len(ledgerOf(b, "pod")); n != 10 {
		t.Fatalf("%d windows", n)
	}
	audit := func() Report {
		t.Helper()
		report, err := b.Audit(t.Context(), Request{Cluster: "a", Window: schema.Window{From: start, To: start.Add(48 * time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	expect(t, audit())
	counts, err := b.books.QuarantineCounts(t.Context(), registry.QuarantineFilter{Kind: registry.Refused})
	if err != nil || len(counts) != 1 || counts[0].Rows != 2 {
		t.Fatalf("refused %+v, %v; want two rows", counts, err)
	}
	b.spoil("DELETE FROM quarantine WHERE kind = 'refused'")
	expect(t, audit(), fmt.Sprintf("pod rows-missing %d", tomorrow))
}
