package work

import (
	"context"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

// restored notes the days of cluster a that were to be brought back.
type restored struct{ days []string }

func (r *restored) Restore(_ context.Context, cluster string, day time.Time) error {
	if cluster == "a" {
		r.days = append(r.days, day.Format(time.DateOnly))
	}
	return nil
}

// TestIntervalOverMidnightNeedsBothDays: the energy of a meter's interval is split by
// all of its minutes, so those of the day before are brought back too.
func TestIntervalOverMidnightNeedsBothDays(t *testing.T) {
	kept := new(restored)
	w := newWorld(t, Config{Archive: kept}, append(rackedFleet(), meterObject())...)
	if _, err := w.books.BoxID(t.Context(), "a", "rack"); err != nil {
		t.Fatal(err)
	}
	midnight := start.Truncate(schema.Day).Add(schema.Day)
	for i, at := range []time.Duration{-2 * time.Hour, -10 * time.Minute, 5 * time.Minute, 20 * time.Minute, 2 * time.Hour} {
		w.reading("plug", midnight.Add(at), int64(i+1)*1_000_000)
	}
	w.clk.Set(midnight.Add(20 * schema.Day))
	for name, test := range map[string]struct {
		due  registry.Due
		want []string
	}{
		"the first quarter": {registry.Due{Processor: registry.ProcessorPower, Scope: "rack", Quarter: midnight}, []string{"2026-11-23", "2026-11-24"}},
		"its sums":          {registry.Due{Processor: registry.ProcessorUsage, Scope: "a", Quarter: midnight}, []string{"2026-11-24"}},
		"a later quarter":   {registry.Due{Processor: registry.ProcessorPower, Scope: "rack", Quarter: midnight.Add(time.Hour)}, []string{"2026-11-24"}},
		"the last quarter":  {registry.Due{Processor: registry.ProcessorPower, Scope: "rack", Quarter: midnight.Add(-schema.Quarter)}, []string{"2026-11-23", "2026-11-24"}},
	} {
		kept.days = nil
		if err := w.bringBack(t.Context(), test.due); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, kept.days); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
