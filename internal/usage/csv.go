package usage

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// csvColumns are the names of the API, in base units.
var csvColumns = []string{"from", "to", "cpuCoreSeconds", "memoryByteSeconds", "networkReceiveBytes", "networkTransmitBytes",
	"cpuRequestCoreSeconds", "memoryRequestByteSeconds", "podSeconds", "nodeSeconds", "energyJoules", "energyActiveJoules", "energyIdleJoules",
	"energyOverheadJoules", "energyMeasuredJoules", "energyModelledJoules", "cost", "currency", "coverage", "interpolated", "quality", "provisional", "filesystemByteSeconds",
	"nodeReceiveBytes", "nodeTransmitBytes", "ephemeralByteSeconds", "volumeClaimedByteSeconds", "volumeUsedByteSeconds", "volumeMountedSeconds", "extended", "excludedCost", "energyUncertaintyJoules"}

// WriteCSV writes the rows for programs: a column for each key, then those of
// the API. A row has a line for each currency; its quantities stand in the
// first.
func WriteCSV(w io.Writer, aggregate []Key, rows []Row) error {
	out := csv.NewWriter(w)
	var titles []string
	for _, key := range aggregate {
		titles = append(titles, string(key))
	}
	if err := out.Write(append(titles, csvColumns...)); err != nil {
		return err
	}
	for _, row := range rows {
		if err := out.WriteAll(row.lines(aggregate)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func (r Row) lines(aggregate []Key) [][]string {
	money := r.Money()
	if len(money) == 0 {
		money = []Money{{}}
	}
	var lines [][]string
	for i, m := range money {
		var cells []string
		for _, key := range aggregate {
			cells = append(cells, r.Key[string(key)])
		}
		cells = append(cells, r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
		for _, quantity := range []Exact{r.CPUCoreSeconds, r.MemoryByteSeconds, r.NetworkReceiveBytes, r.NetworkTransmitBytes,
			r.CPURequestCoreSeconds, r.MemoryRequestByteSeconds, r.PodSeconds, r.NodeSeconds, r.EnergyJoules, r.EnergyActiveJoules,
			r.EnergyIdleJoules, r.EnergyOverheadJoules, r.EnergyMeasuredJoules, r.EnergyModelledJoules} {
			if i > 0 {
				quantity = Exact{}
			}
			cells = append(cells, quantity.String())
		}
		lines = append(lines, append(cells, m.Cost, m.Currency, strconv.FormatFloat(r.Coverage, 'f', 4, 64), r.Interpolated.String(),
			r.Quality, strconv.FormatBool(r.Provisional), r.files(i == 0)))
		lines[i] = append(lines[i], r.storage(i == 0)...)
	}
	return lines
}

// storage are the columns that came later, in the first of a row's lines. Extended
// resources stand in one cell: "nvidia.com/gpu=7200 hugepages-2Mi=0".
func (r Row) storage(first bool) []string {
	if !first {
		return []string{"0", "0", "0", "0", "0", "0", "", "", "0"}
	}
	var extended, excluded []string
	for name, quantity := range r.Extended {
		extended = append(extended, name+"="+quantity.String())
	}
	slices.Sort(extended)
	for _, m := range r.Excluded {
		excluded = append(excluded, m.Cost+" "+m.Currency)
	}
	return []string{r.NodeReceiveBytes.String(), r.NodeTransmitBytes.String(), r.EphemeralByteSeconds.String(), r.VolumeClaimedByteSeconds.String(),
		r.VolumeUsedByteSeconds.String(), r.VolumeMountedSeconds.String(), strings.Join(extended, " "), strings.Join(excluded, " "),
		r.EnergyUncertaintyJoules.String()}
}

// files are the containers' files, in the first of a row's lines.
func (r Row) files(first bool) string {
	if r.FilesystemByteSeconds == nil {
		return ""
	}
	if !first {
		return "0"
	}
	return r.FilesystemByteSeconds.String()
}
