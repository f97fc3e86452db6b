package registry

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

func TestDays(t *testing.T) {
	r, clk := open(t)
	ctx := t.Context()
	midnight := noon.Truncate(day)
	done := func(at time.Time, fingerprint string) {
		t.Helper()
		if err := r.Done(ctx, Due{Processor: ProcessorUsage, Scope: "alpha", Quarter: at}, fingerprint, nil); err != nil {
			t.Fatal(err)
		}
	}
	opened := func() []OpenDay {
		t.Helper()
		list, err := r.OpenDays(ctx, midnight.Add(2*day), OpenDay{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	kept := func(w schema.Window) int {
		t.Helper()
		list, err := r.Days(ctx, "alpha", w)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	whole := schema.WindowAt(noon, day)
	done(noon, "one")
	done(midnight.Add(2*day), "one") // a day that has not ended
	list := opened()
	if len(list) != 1 || list[0].Cluster != "alpha" || !list[0].Day.Equal(midnight) {
		t.Fatalf("open days: %v", list)
	}
	sums := DaySums{Usage: []byte{1}, Nodes: []byte{2}, Volumes: []byte{3}}
	done(noon.Add(schema.Quarter), "one") // while it is summed
	if err := r.FillDay(ctx, list[0], sums); err != nil {
		t.Fatal(err)
	}
	if kept(whole) != 0 {
		t.Error("sums of what was before a change are kept")
	}
	if err := r.FillDay(ctx, opened()[0], sums); err != nil {
		t.Fatal(err)
	}
	late := schema.Window{From: whole.From.Add(1), To: whole.To}
	if kept(whole) != 1 || kept(late) != 0 || kept(schema.Window{From: whole.From, To: whole.To.Add(-1)}) != 0 || len(opened()) != 0 {
		t.Errorf("kept %d of the day, %d of a part of it, and %d are open", kept(whole), kept(late), len(opened()))
	}
	if done(noon, "one"); kept(whole) != 1 {
		t.Error("the same inputs take the sums away")
	}
	if done(noon, "two"); kept(whole) != 0 || len(opened()) != 1 {
		t.Error("other inputs leave the sums")
	}
	settled := func() bool {
		t.Helper()
		ok, err := r.DaySettled(ctx, opened()[0])
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	clk.Set(midnight.Add(day + time.Hour))
	if settled() {
		t.Error("settled while its minutes have not come")
	}
	clk.Set(midnight.Add(day + FoldAfter))
	if !settled() {
		t.Error("not settled long after its end")
	}
	if err := r.AddDue(ctx, Due{Processor: ProcessorUsage, Scope: "alpha", Quarter: noon}); err != nil {
		t.Fatal(err)
	}
	if settled() {
		t.Error("settled while a quarter is due")
	}
	if err := r.Forget(ctx, "alpha"); err != nil {
		t.Fatal(err)
	}
	if len(opened()) != 0 {
		t.Error("days of a cluster that was forgotten")
	}
}

func TestDaysFromBeforeThereWereSumsAreOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	clk := clock.NewManual(noon)
	r, err := Open(t.Context(), path, clk)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * 96 {
		if err := r.Done(t.Context(), Due{Processor: ProcessorUsage, Scope: "alpha", Quarter: noon.Add(-time.Duration(i) * schema.Quarter)}, "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.writer.ExecContext(t.Context(), "DROP TABLE usage_day; DELETE FROM migration WHERE name = '0019_usage_day'"); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(t.Context(), path, clk); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	list, err := r.OpenDays(t.Context(), noon.Add(day), OpenDay{}, 10)
	if err != nil || len(list) != 4 || !list[0].Day.Equal(noon.Truncate(day).Add(-3*day)) {
		t.Errorf("open days: %v, %v; want the four that the quarters are in", list, err)
	}
	if rest, err := r.OpenDays(t.Context(), noon.Add(day), list[1], 1); err != nil || len(rest) != 1 || !rest[0].Day.Equal(list[2].Day) {
		t.Errorf("after the second: %v, %v", rest, err)
	}
}
