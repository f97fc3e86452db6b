package facts

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// TestRunOfAPodWhoseFirstMinutesWereDeleted is what it would be with them; without
// having been carried (the control) they lack in it.
func TestRunOfAPodWhoseFirstMinutesWereDeleted(t *testing.T) {
	for name, test := range map[string]struct {
		carry bool
		want  int64
	}{"carried": {true, 3*1000 + 2*500}, "control": {false, 2 * 500}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			w := f.writer()
			p := pod("a")
			p.Start = epoch
			f.observe(w, nil, p)
			f.minutes(p, epoch, 3, 1000, 60)
			midnight := epoch.Truncate(24 * time.Hour)
			day := schema.Window{From: midnight, To: midnight.Add(24 * time.Hour)}
			for range 2 { // it may be repeated, also when a crash has left a part of the rows
				if !test.carry {
					break
				}
				if err := w.Carry(t.Context(), day); err != nil {
					t.Fatal(err)
				}
				if err := w.stores.Minute.Delete(t.Context(), schema.PodMinute.Name, nil, schema.Window{From: epoch, To: epoch.Add(time.Minute)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.stores.Minute.Delete(t.Context(), schema.PodMinute.Name, nil, day); err != nil {
				t.Fatal(err)
			}
			p.End = day.To.Add(2*time.Minute - time.Second)
			f.minutes(p, day.To, 2, 500, 60)
			f.clock.Set(p.End.Add(time.Minute))
			f.observe(w, nil, p)
			rows := f.rows(schema.Run.Name)
			if len(rows) != 1 || rows[0].Int(schema.CPU) != test.want {
				t.Errorf("runs %v, want one of %d core-µs", rows, test.want)
			}
		})
	}
}
