package query

import (
	"errors"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
)

// TestCellsAddUpToUsage: the cells of a cluster are what its usage is, by minutes,
// by quarters and whole.
func TestCellsAddUpToUsage(t *testing.T) {
	f := newFixture(t, edge()...)
	f.fill(pods, 0, 60)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	f.coarsen(pods, 0, 3)
	for _, w := range []schema.Window{{From: at(0), To: at(60)}, {From: at(15), To: at(45)}, {From: at(7), To: at(52)}} {
		for _, step := range []time.Duration{0, schema.Quarter} {
			for _, cluster := range []string{"edge-a", "edge-b"} {
				cells, err := f.Cells(t.Context(), cluster, w, step)
				if err != nil {
					t.Fatal(err)
				}
				cpu, energy, uptime := int64(0), int64(0), int64(0)
				for _, c := range cells {
					cpu, energy, uptime = cpu+c.Quantities[processors.CPUUsed], energy+c.Quantities[processors.Energy], uptime+c.Uptime
					if step == 0 && (!c.From.Equal(w.From) || !c.To.Equal(w.To)) || step > 0 && c.To.Sub(c.From) > step {
						t.Errorf("%s %s: cell from %s to %s", w, step, c.From, c.To)
					}
				}
				answer := f.usage(Request{Window: w.From.Format(time.RFC3339) + "," + w.To.Format(time.RFC3339), Filter: []Condition{{Key: Cluster, Values: []string{cluster}}}})
				s := answer.Rows[0].Sums
				total, err := s.Energy()
				if err != nil || cpu != s[usage.CPU] || energy != total || uptime != s[usage.Uptime] || cpu == 0 || energy == 0 {
					t.Errorf("%s in %s by %s: cpu %d of %d, energy %d of %d, uptime %d of %d, %v", cluster, w, step, cpu, s[usage.CPU], energy, total, uptime, s[usage.Uptime], err)
				}
			}
		}
	}
}

// TestCellsRefuseDeletedMinutes: where rules by label need rows per pod and these
// have been deleted, nothing is taken for not used.
func TestCellsRefuseDeletedMinutes(t *testing.T) {
	f := newFixture(t, append(edge(), fleet.NewObject("team", fleet.Assignment{Labels: map[string]string{"team": "x"}, Customer: "acme"}))...)
	f.fill(pods, 0, 30)
	f.receive("edge-a", 60)
	f.receive("edge-b", 60)
	f.coarsen(pods, 0, 4) // the quarters hold an hour, the minutes half of it
	if _, err := f.Cells(t.Context(), "edge-a", schema.Window{From: at(0), To: at(30)}, 0); err != nil {
		t.Errorf("minutes that are there: %v", err)
	}
	if _, err := f.Cells(t.Context(), "edge-a", schema.Window{From: at(0), To: at(60)}, 0); !errors.Is(err, ErrExpired) {
		t.Errorf("deleted minutes: %v", err)
	}
}
