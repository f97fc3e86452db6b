package registry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// lacking are the node-windows of a table that did not come, by brute force: "."
// stands for a window of a minute without any node.
func (w *ledgerWorld) lacking(table string, now time.Time) (lacking []string, expected int) {
	first := true
	for _, minute := range w.window.Split(schema.Minute) {
		lost := within(minute.From, w.lost[table])
		began := first && !lost // then nobody is late
		first = first && lost
		if lost && minute.To.After(now.Add(-settleTime)) {
			continue
		}
		nobody := true
		for _, n := range w.nodes {
			if !n.there(minute) {
				continue
			}
			nobody = false
			expected++
			read := !within(minute.From, n.silent)
			if within(minute.From, w.lost["node"]) { // nothing but the table's own rows says that it was read
				read = n.rows(table, minute)
			}
			if lost || !read && !began {
				lacking = append(lacking, minute.From.Format("15:04 ")+n.name)
			}
		}
		if nobody {
			expected++
			if lost {
				lacking = append(lacking, minute.From.Format("15:04 ")+".")
			}
		}
	}
	slices.Sort(lacking)
	return lacking, expected
}

// shown are the same by the ledger's gaps.
func (w *ledgerWorld) shown(gaps []Gap) []string {
	var lacking []string
	for _, gap := range gaps {
		if gap.Reason == GapQuarantined {
			continue
		}
		for _, minute := range (schema.Window{From: gap.From, To: gap.To}).Split(schema.Minute) {
			if gap.Node != "" {
				lacking = append(lacking, minute.From.Format("15:04 ")+gap.Node)
				continue
			}
			any := false
			for _, n := range w.nodes {
				if n.there(minute) {
					any = true
					lacking = append(lacking, minute.From.Format("15:04 ")+n.name)
				}
			}
			if !any {
				lacking = append(lacking, minute.From.Format("15:04 ")+".")
			}
		}
	}
	slices.Sort(lacking)
	return lacking
}

// difference is what completeness says of a world, against the truth.
func (w *ledgerWorld) difference(t *testing.T, watch bool) string {
	t.Helper()
	r, clk := open(t)
	describe(t, r)
	if watch {
		if err := r.PutObjects(t.Context(), w.objects()); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range minuteTables {
		w.arrive(t, r, table.Name)
	}
	clk.Set(w.window.To.Add(time.Duration(w.random.IntN(8)-4) * time.Minute))
	all, err := r.Completeness(t.Context(), "alpha", w.window)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, table := range minuteTables {
		var sum Completeness
		var weight int
		for _, c := range all {
			if c.Table != table.Name {
				continue
			}
			sum.Expected, sum.Received, sum.Missing = sum.Expected+c.Expected, sum.Received+c.Received, append(sum.Missing, c.Missing...)
			for _, gap := range c.Missing {
				if gap.Reason != GapQuarantined {
					weight += gap.Windows
				}
			}
		}
		want, expected := w.lacking(table.Name, clk.Now())
		text += cmp.Diff(want, w.shown(sum.Missing))
		if sum.Expected != expected || sum.Expected-sum.Received != len(want) || weight != len(want) {
			text += fmt.Sprintf("%s: %d expected, %d received, gaps of %d; want %d expected, %d missing\n", table.Name, sum.Expected, sum.Received, weight,
				expected, len(want))
		}
	}
	return text
}

// TestEveryMissingNodeWindowIsShown: in worlds of nodes that come, go and are
// silent, and of windows that do not arrive.
func TestEveryMissingNodeWindowIsShown(t *testing.T) {
	for seed := range uint64(60) {
		if diff := newLedgerWorld(seed, 4*time.Hour).difference(t, true); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

// TestMissingControl: without the watch a node that is silent for long is not
// known to be missing.
func TestMissingControl(t *testing.T) {
	found := 0
	for seed := range uint64(20) {
		if newLedgerWorld(seed, 4*time.Hour).difference(t, false) != "" {
			found++
		}
	}
	if found < 5 {
		t.Errorf("%d of 20 worlds are wrong without the watch", found)
	}
}
