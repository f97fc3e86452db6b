package work

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// backlog is a box whose follower was away: of the second quarter the first five
// minutes have come, hours late, while its meter was read all the time.
func backlog(t *testing.T) *world {
	w := newWorld(t, Config{}, append(rackedFleet(), meterObject())...)
	w.settle("a", "n1", minutes(0, 20), twoPods...)
	w.meter("rack", "plug", minutes(0, 40), 7_200_000, 1000)
	w.clk.Set(at(240))
	w.tick()
	return w
}

func overhead(w *world) int64 {
	return total(w.rows(schema.EnergyMinute, schema.BoxCluster, minutes(15, 30)), energyFields...)
}

// TestBacklogIsNoOverhead: what the meter counted in minutes that are on their way
// is given to nobody until they are here.
func TestBacklogIsNoOverhead(t *testing.T) {
	w := backlog(t)
	if got := overhead(w); got != 0 {
		t.Errorf("overhead of %d mJ while the quarter arrives", got)
	}
	if got, want := total(w.rows(schema.EnergyMinute, "a", minutes(15, 30)), schema.EnergyMeasured), int64(5*7_200_000); got != want {
		t.Errorf("measured %d mJ of the minutes that are here, want %d", got, want)
	}
	if got := w.due()[registry.ProcessorPower]; got != 1 {
		t.Errorf("%d boxes due, want the one that waits", got)
	}
	w.settle("a", "n1", minutes(20, 30), twoPods...)
	w.tick()
	if got, want := total(w.rows(schema.EnergyMinute, "a", minutes(15, 30)), schema.EnergyMeasured), int64(15*7_200_000); got != want || overhead(w) != 0 {
		t.Errorf("measured %d mJ, overhead %d, want %d and 0", got, overhead(w), want)
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("due when all is here: %v", due)
	}
}

// TestNothingMoreComes is the other side: minutes that stay away do not keep the
// meter's energy from landing somewhere.
func TestNothingMoreComes(t *testing.T) {
	w := backlog(t)
	w.clk.Advance(schema.Quarter + time.Minute)
	w.tick()
	if got, want := overhead(w), int64(10*7_200_000); got != want {
		t.Errorf("overhead of %d mJ for the ten minutes without rows, want %d", got, want)
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("due when it was given up: %v", due)
	}
}
