package query

import (
	"errors"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
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

// TestHeatCells: what a box's heat was of use is credited by whose its energy is, in
// whichever cluster, to the last millijoule; what nobody carries is nobody's.
func TestHeatCells(t *testing.T) {
	f := canaryFixture(t)
	w := schema.Window{From: at(0), To: at(60)}
	if cells, err := f.HeatCells(f.ctx, "own", w, 0); err != nil || len(cells) != 0 {
		t.Fatalf("no heat is of use: %v %v", cells, err)
	}
	nobody := canaryPods[len(canaryPods)-1]
	f.write(f.quarter, []influxsync.Point{
		point(schema.BoxQuarter, at(0), map[string]string{schema.Cluster: schema.BoxCluster, schema.Box: "canary-box"}, map[string]int64{schema.UsefulHeat: 1_000_003}),
		point(schema.EnergyQuarter, at(0), nobody.quarterTags(), energyValues(nobody, 0))})
	credited := int64(0)
	for _, cluster := range []string{"own", "common", "canary-own"} {
		cells, err := f.HeatCells(f.ctx, cluster, w, 0)
		if err != nil || len(cells) == 0 {
			t.Fatalf("%s: %v %v", cluster, cells, err)
		}
		for _, cell := range cells {
			credited += cell.Quantities[processors.UsefulHeat]
		}
	}
	energy := func(filter ...Condition) int64 {
		table, err := f.tally(f.ctx, Request{About: usage.AboutEnergy, Aggregate: []Key{Box}, Filter: filter}, w)
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, row := range table.rowsByID {
			of, err := row.Sums.Energy()
			if err != nil {
				t.Fatal(err)
			}
			sum += of
		}
		return sum
	}
	carried, all := energy(Condition{Key: Cluster, Values: []string{"own", "common", "canary-own"}}), energy()
	if want := 1_000_003 * carried / all; credited < want-1 || credited > want+1 || credited == 1_000_003 {
		t.Errorf("credited %d, want about %d of 1000003", credited, want)
	}
}
