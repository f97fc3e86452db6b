package work

import (
	"context"
	"math"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/carbon"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// year is 365.25 days: what lifetimes are told in.
const year = 31_557_600 * time.Second

// intensities are what the grid and the contracts of a scope say of a quarter.
// Where the grid's source has no value, the yearly mean of its country counts, as
// an estimate, unless the grid says otherwise. Without a contract, market is
// empty: the grid's intensity never stands in for it.
func (w *Worker) intensities(ctx context.Context, scope string, quarter schema.Window, parts []validity) (location, market []processors.Intensity, err error) {
	for _, part := range parts {
		box, clusters := scope, []string(nil)
		if cluster, _, loose := registry.LooseNode(scope); loose {
			box, clusters = "", []string{cluster}
		}
		if contract, bound := part.fleet.ContractOf(box, clusters...); bound {
			market = append(market, processors.Intensity{From: part.From, To: part.To, Milligram: contract.GramsPerKWh.Thousandths(),
				Source: "contract " + contract.Name + " (" + contract.Instrument + ")"})
		}
		grid, bound := part.fleet.GridOf(box, clusters...)
		if !bound {
			continue
		}
		var told []registry.Intensity
		if grid.SourceOrDefault() != fleet.GridYearly {
			if told, err = w.registry.Intensities(ctx, grid.Values(), grid.Zone, quarter); err != nil {
				return nil, nil, err
			}
		}
		location = append(location, ofGrid(grid, told, part.Window)...)
	}
	return location, market, nil
}

// ofGrid is a grid's intensity in a time, minute by minute where it changes.
func ofGrid(grid fleet.Grid, told []registry.Intensity, w schema.Window) []processors.Intensity {
	var list []processors.Intensity
	for _, minute := range w.Split(schema.Minute) {
		one, known := toldAt(told, minute.From)
		if !known && !grid.NoYearly {
			var mean carbon.Mean
			if mean, known = carbon.Yearly(grid.Zone); known {
				one = processors.Intensity{Milligram: mean.Milligram, Estimated: true, Source: mean.String()}
			}
		}
		if !known {
			continue
		}
		one.From, one.To = minute.From, minute.To
		if last := len(list) - 1; last >= 0 && list[last].To.Equal(one.From) {
			former := list[last]
			former.From, former.To = one.From, one.To
			if former == one {
				list[last].To = one.To
				continue
			}
		}
		list = append(list, one)
	}
	return list
}

// toldAt is the value that holds at a moment: of several, the one that began
// last.
func toldAt(told []registry.Intensity, at time.Time) (processors.Intensity, bool) {
	for i := len(told) - 1; i >= 0; i-- {
		if one := told[i]; !at.Before(one.At) && at.Before(one.Until) {
			source := one.Origin
			if source == "" {
				source = "imported"
			}
			return processors.Intensity{Milligram: one.Milligram, Estimated: one.Estimated, Source: source}, true
		}
	}
	return processors.Intensity{}, false
}

// makingOf is what is known of the making of a scope's nodes.
func makingOf(parts []validity, scope string) []processors.Making {
	var list []processors.Making
	for _, part := range parts {
		for _, node := range nodesOf(part.fleet, scope) {
			hardware, _ := part.fleet.Hardware(node.Hardware)
			if hardware.EmbodiedKg <= 0 || hardware.LifetimeYears <= 0 {
				continue
			}
			list = append(list, processors.Making{Cluster: node.Cluster, Node: node.Node, From: part.From, To: part.To,
				Micrograms: int64(math.Round(hardware.EmbodiedKg * 1e9)), Lifetime: time.Duration(math.Round(hardware.LifetimeYears*float64(year/time.Second))) * time.Second})
		}
	}
	return list
}

// milli is 1000·v, rounded to the nearest integer.
func milli(v float64) int64 { return int64(math.Round(v * 1000)) }
