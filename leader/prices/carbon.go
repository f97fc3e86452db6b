package prices

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/carbon"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// What the intensity of a coming quarter of an hour rests on.
const (
	TellsSource  = "source"  // the grid's source has told of that time
	TellsDayAgo  = "day-ago" // what the source told of the same time of one of the last seven days
	TellsYearly  = "yearly"  // the yearly mean of the zone's country
	lookBackDays = 7
)

// AheadGrid is the CO2e of a kWh of a grid in the coming time; a part of it that lies
// in no slot is unknown.
type AheadGrid struct {
	Grid  string     `json:"grid"`
	Zone  string     `json:"zone"`
	Slots []GridSlot `json:"slots"`
}

// GridSlot is an intensity from From to To.
type GridSlot struct {
	From        time.Time   `json:"from"`
	To          time.Time   `json:"to"`
	GramsPerKWh usage.Exact `json:"gramsPerKWh"`
	Basis       string      `json:"basis"` // source, day-ago or yearly: the latter two are assumptions
}

// gridsAhead are the intensities of grids in a window.
func (d *Desk) gridsAhead(ctx context.Context, grids []fleet.Grid, w schema.Window) ([]AheadGrid, error) {
	all := []AheadGrid{}
	for _, grid := range grids {
		var told []registry.Intensity
		var err error
		if grid.SourceOrDefault() != fleet.GridYearly {
			told, err = d.registry.Intensities(ctx, grid.Values(), grid.Zone, schema.Window{From: w.From.AddDate(0, 0, -lookBackDays), To: w.To})
			if err != nil {
				return nil, fmt.Errorf("intensities of %s: %w", grid.Name, err)
			}
		}
		all = append(all, AheadGrid{Grid: grid.Name, Zone: grid.Zone, Slots: gridSlots(grid, told, w)})
	}
	return all, nil
}

// gridSlots are the known quarters, neighbours that say the same as one slot.
func gridSlots(grid fleet.Grid, told []registry.Intensity, w schema.Window) []GridSlot {
	slots := []GridSlot{}
	for _, quarter := range w.Split(schema.Quarter) {
		milligram, basis, known := intensityAhead(grid, told, quarter.From)
		if !known {
			continue
		}
		slot := GridSlot{From: quarter.From, To: quarter.To, GramsPerKWh: usage.Grams(1000 * milligram), Basis: basis}
		if last := len(slots) - 1; last >= 0 && slots[last].To.Equal(slot.From) && slots[last].Basis == basis && slots[last].GramsPerKWh.Cmp(slot.GramsPerKWh) == 0 {
			slots[last].To = slot.To
			continue
		}
		slots = append(slots, slot)
	}
	return slots
}

func intensityAhead(grid fleet.Grid, told []registry.Intensity, at time.Time) (milligram int64, basis string, known bool) {
	for back := range lookBackDays + 1 {
		moment := at.AddDate(0, 0, -back)
		for i := len(told) - 1; i >= 0; i-- {
			if one := told[i]; !moment.Before(one.At) && moment.Before(one.Until) {
				if back == 0 {
					return one.Milligram, TellsSource, true
				}
				return one.Milligram, TellsDayAgo, true
			}
		}
	}
	if grid.NoYearly {
		return 0, "", false
	}
	mean, known := carbon.Yearly(grid.Zone)
	return mean.Milligram, TellsYearly, known
}
