package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// HeatCells are the useful heat of the boxes that a cluster's nodes stand in, as
// each cell's share of it: processors.UsefulHeat by its part of the box's energy, by
// largest remainder over all that the box's energy is of, in whichever clusters. What
// nobody carries of the energy is nobody's of the heat. Errors: those of Usage,
// ErrScope.
func (e *Engine) HeatCells(ctx context.Context, cluster string, w schema.Window, step time.Duration) ([]Cell, error) {
	if Scoped(ctx) {
		return nil, fmt.Errorf("heat of boxes: %w", ErrScope)
	}
	parts, err := e.slices(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	var boxes []string
	for _, part := range parts {
		for _, box := range part.fleet.BoxesOfCluster(cluster) {
			boxes = append(boxes, box.Name)
		}
	}
	if slices.Sort(boxes); len(boxes) == 0 {
		return nil, nil
	}
	filter := []Condition{{Key: Box, Values: slices.Compact(boxes)}}
	table, err := e.tally(ctx, Request{About: usage.AboutHeat, Aggregate: []Key{Box}, Step: step, Filter: filter}, w)
	if err != nil {
		return nil, fmt.Errorf("useful heat of the boxes of %s: %w", cluster, err)
	}
	type of struct {
		from time.Time
		box  string
	}
	useful := make(map[of]int64)
	for _, row := range table.rowsByID {
		if heat := row.Sums[usage.UsefulHeat]; heat > 0 {
			useful[of{row.Window.From, row.Key[string(Box)]}] += heat
		}
	}
	if len(useful) == 0 {
		return nil, nil
	}
	keys := append([]Key{Box, Cluster}, cellKeys...)
	if table, err = e.tally(ctx, Request{About: usage.AboutEnergy, Aggregate: keys, Step: step, Filter: filter}, w); err != nil {
		return nil, fmt.Errorf("energy of the boxes of %s: %w", cluster, err)
	}
	rows := make(map[of][]*tallyRow)
	for _, row := range table.rowsByID {
		at := of{row.Window.From, row.Key[string(Box)]}
		rows[at] = append(rows[at], row)
	}
	var cells []Cell
	for at, heat := range useful {
		shares, err := heatShares(heat, rows[at], keys)
		if err != nil {
			return nil, fmt.Errorf("useful heat of box %s: %w", at.box, err)
		}
		for i, row := range rows[at] {
			if row.Key[string(Cluster)] != cluster || shares == nil || shares[i] == 0 {
				continue
			}
			cell, err := row.cell()
			if err != nil {
				return nil, err
			}
			cells = append(cells, Cell{From: cell.From, To: cell.To, Customer: cell.Customer, Project: cell.Project, User: cell.User, Namespace: cell.Namespace,
				Hardware: cell.Hardware, Provider: cell.Provider, Region: cell.Region, Quantities: processors.Quantities{processors.UsefulHeat: shares[i]}})
		}
	}
	slices.SortFunc(cells, func(a, b Cell) int {
		if c := a.From.Compare(b.From); c != 0 {
			return c
		}
		return slices.Compare(a.key(), b.key())
	})
	return cells, nil
}

// heatShares are a box's heat by the energy of its rows, which it puts in order; nil
// where they have none.
func heatShares(heat int64, rows []*tallyRow, keys []Key) ([]int64, error) {
	slices.SortFunc(rows, func(a, b *tallyRow) int {
		return usage.CompareKeys(Row{Key: a.Key}, Row{Key: b.Key}, keys)
	})
	weights := make([]int64, len(rows))
	for i, row := range rows {
		energy, err := row.Sums.Energy()
		if err != nil {
			return nil, err
		}
		weights[i] = max(0, energy)
	}
	return processors.LargestRemainder(heat, weights), nil
}
