package work

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

func TestADayIsSummedWhenItHasSettledAndAgainWhenAQuarterChanges(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	day := schema.WindowAt(start, schema.Day)
	check := func(when string, kept int) {
		t.Helper()
		list, err := w.books.Days(t.Context(), "a", day)
		if err != nil || len(list) != kept {
			t.Fatalf("%s: %d days are kept, %v; want %d", when, len(list), err, kept)
		}
		if kept == 0 {
			return
		}
		fields := append([]string{schema.CPU, schema.CPURequest, schema.Uptime}, energyFields...)
		if diff := cmp.Diff(sumBy(w.rows(schema.UsageQuarter, "a", day), schema.Namespace, fields...), sumBy(w.rows(schema.UsageDay, "a", day), schema.Namespace, fields...)); diff != "" {
			t.Errorf("%s (-quarters +day):\n%s", when, diff)
		}
		if got, want := total(w.rows(schema.NodeDay, "a", day), schema.Uptime), total(w.rows(schema.NodeQuarter, "a", day), schema.Uptime); got != want || want == 0 {
			t.Errorf("%s: uptime of nodes %d, want %d", when, got, want)
		}
	}
	w.settle("a", "n1", minutes(0, 30), twoPods...)
	w.clk.Set(at(31))
	w.tick()
	check("while the day runs", 0)
	w.clk.Set(day.To.Add(time.Hour))
	w.tick()
	check("before its minutes have come", 0)
	w.clk.Set(day.To.Add(registry.FoldAfter))
	w.tick()
	check("long after its end", 1)
	before := w.rows(schema.UsageDay, "a", day)
	w.tick()
	if diff := cmp.Diff(len(before), len(w.rows(schema.UsageDay, "a", day))); diff != "" {
		t.Error(diff)
	}
	w.settle("a", "n1", minutes(30, 45), twoPods...)
	w.tick()
	check("after a late quarter", 1)
	if got, want := total(w.rows(schema.UsageDay, "a", day), schema.CPU), total(before, schema.CPU); got != want*3/2 {
		t.Errorf("with a late quarter: %d core-µs, want %d", got, want*3/2)
	}
}
