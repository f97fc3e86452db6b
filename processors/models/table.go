package models

import (
	"math"
	"slices"

	"github.com/accumulus-metering/accumulus/processors"
)

// tabulateAt is the function at the utilisations given, in integers, never
// falling. Utilisations that are one millionth, or outside 0 … 1, stand once or
// not at all.
func tabulateAt(at func(float64) float64, grid []float64) []processors.CurvePoint {
	grid = slices.Clone(grid)
	slices.Sort(grid)
	var table []processors.CurvePoint
	for _, u := range grid {
		if !(u >= 0 && u <= 1) {
			continue
		}
		p := processors.CurvePoint{Utilisation: processors.Utilisation(math.Round(u * float64(processors.Full))), Microwatts: microwatts(at(u))}
		if n := len(table); n > 0 {
			if table[n-1].Utilisation == p.Utilisation {
				continue
			}
			p.Microwatts = max(p.Microwatts, table[n-1].Microwatts)
		}
		table = append(table, p)
	}
	return table
}

// microwatts of watts: rounded, not negative, and no more than fits.
func microwatts(watts float64) int64 {
	const most = 1e12 // a megawatt
	switch {
	case !(watts > 0):
		return 0
	case watts*1e6 >= most:
		return most
	}
	return int64(math.Round(watts * 1e6))
}
