package prices

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// TestGridsAhead: what the source told of the time counts, then that of the day before,
// then the yearly mean, and it is said which.
func TestGridsAhead(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	hour := func(n int, milligram int64) registry.Intensity {
		return registry.Intensity{At: at.Add(time.Duration(n) * time.Hour), Until: at.Add(time.Duration(n+1) * time.Hour), Milligram: milligram}
	}
	grid := fleet.Grid{Zone: "NL", Source: "csv"}
	told := []registry.Intensity{hour(-23, 250_500), hour(0, 300_000)}
	slots := gridSlots(grid, told, schema.Window{From: at, To: at.Add(3 * time.Hour)})
	if len(slots) != 3 || slots[0].GramsPerKWh.String() != "300" || slots[0].Basis != TellsSource || slots[1].GramsPerKWh.String() != "250.5" || slots[1].Basis != TellsDayAgo || slots[2].Basis != TellsYearly {
		t.Errorf("%+v", slots)
	}
	for _, slot := range slots {
		if slot.To.Sub(slot.From) != time.Hour {
			t.Errorf("%+v is no hour", slot)
		}
	}
	grid.NoYearly = true
	if slots := gridSlots(grid, nil, schema.Window{From: at, To: at.Add(time.Hour)}); len(slots) != 0 {
		t.Errorf("without a value %+v", slots)
	}
}
