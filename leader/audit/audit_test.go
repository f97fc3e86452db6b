package audit

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

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
	for name, c := range kinds {
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
}

func TestAJournalThatDoesNotGoOn(t *testing.T) {
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
		expect(t, report, "node other-store", "pod other-store", "container other-store", "volume other-store")
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
