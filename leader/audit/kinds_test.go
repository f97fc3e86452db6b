package audit

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// of names a window of the ledger in SQL.
func of(table string, n int) string {
	return fmt.Sprintf("cluster = 'a' AND tbl = '%s' AND window_from = %d", table, minute(n).From.UnixNano())
}

// kinds are ways in which the centre or the ledger can be wrong, what an audit
// finds then, and what it says when it has repaired.
var kinds = map[string]struct {
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
	"a field added to a row": {func(b *bench) {
		grown := row(schema.PodMinute, 6, "p", 5)
		grown.Fields = append(grown.Fields, influxsync.FieldValue{Name: "zz", Value: influxsync.Int(1)})
		b.write(grown)
	}, []string{"pod rows-differ 6"}, []string{"pod rows-differ 6 repaired"}},
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
