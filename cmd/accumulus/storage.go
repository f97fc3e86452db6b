package main

import (
	"maps"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// storageColumn is a column of disks, volumes or a device.
type storageColumn struct {
	title string // in human units
	base  string // in base units
	value func(query.Row) usage.Exact
	unit  float64 // base units in a human one
}

// columns are those that a table shows beside the usual ones.
type columns []storageColumn

const gibHour = (1 << 30) * 3600

// storageColumns are the columns of which some row has something: most clusters
// have neither volumes nor devices.
func storageColumns(answer query.Answer) columns {
	all := columns{
		{"EPHEMERAL GiB-h", "EPHEMERAL B-s", func(r query.Row) usage.Exact { return r.EphemeralByteSeconds }, gibHour},
		{"VOLUMES GiB-h", "VOLUMES B-s", func(r query.Row) usage.Exact { return r.VolumeClaimedByteSeconds }, gibHour},
		{"USED GiB-h", "USED B-s", func(r query.Row) usage.Exact { return r.VolumeUsedByteSeconds }, gibHour},
	}
	names := make(map[string]bool)
	for _, row := range answer.Rows {
		for name := range row.Extended {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		column := storageColumn{name + " h", name + " s", func(r query.Row) usage.Exact { return r.Extended[name] }, 3600}
		if usage.ExtendedInBytes(name) {
			column = storageColumn{name + " GiB-h", name + " B-s", column.value, gibHour}
		}
		all = append(all, column)
	}
	return slices.DeleteFunc(all, func(c storageColumn) bool {
		return !slices.ContainsFunc(answer.Rows, func(r query.Row) bool { return c.value(r).Float() != 0 })
	})
}

func (c columns) titles(base bool) []string {
	var titles []string
	for _, column := range c {
		if base {
			titles = append(titles, column.base)
		} else {
			titles = append(titles, column.title)
		}
	}
	return titles
}

func (c columns) figures(row query.Row, base bool) []string {
	var cells []string
	for _, column := range c {
		if value := column.value(row); base {
			cells = append(cells, value.String())
		} else {
			cells = append(cells, number(value.Float()/column.unit))
		}
	}
	return cells
}

// addStorage adds a row's disks, volumes and devices to the total's, exactly.
func addStorage(total *query.Row, row query.Row) {
	total.EphemeralByteSeconds = total.EphemeralByteSeconds.Plus(row.EphemeralByteSeconds)
	total.VolumeClaimedByteSeconds = total.VolumeClaimedByteSeconds.Plus(row.VolumeClaimedByteSeconds)
	total.VolumeUsedByteSeconds = total.VolumeUsedByteSeconds.Plus(row.VolumeUsedByteSeconds)
	for name, quantity := range row.Extended {
		if total.Extended == nil {
			total.Extended = make(map[string]usage.Exact)
		}
		total.Extended[name] = total.Extended[name].Plus(quantity)
	}
}
