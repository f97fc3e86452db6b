package evaluation

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/accumulus-metering/accumulus/processors/models"
)

// Tick is a node in one sample of a time series.
type Tick struct {
	Block string // of time; a block is never taught and tested at once
	models.Counts
}

// traceColumns are what a trace needs, and which counter each is. Other columns
// are not read.
var traceColumns = []struct {
	name    string
	counter models.Counter
}{
	{"bpf_cpu_time_us", models.CPUTime},
	{"cpu_cycles", models.Cycles},
	{"cpu_instructions", models.Instructions},
	{"cache_miss", models.CacheMisses},
}

// ReadTrace reads a time series of one node: CPU time, cycles, instructions and
// cache misses per second, the watts of the whole node (platform_power) and of
// its packages and memory by RAPL (package_power, dram_power), and the block of
// time.
func ReadTrace(r io.Reader) ([]Tick, error) {
	needed := []string{"block", "platform_power", "package_power", "dram_power"}
	for _, c := range traceColumns {
		needed = append(needed, c.name)
	}
	s, err := readSheet(r, needed)
	if err != nil {
		return nil, err
	}
	ticks := make([]Tick, 0, len(s.rows))
	for row := range s.rows {
		t := Tick{Block: s.text(row, "block")}
		if t.Block == "" {
			return nil, fmt.Errorf("line %d: block is empty: %w", s.lines[row], ErrFile)
		}
		t.Sample.Counts = map[models.Counter]float64{}
		for _, c := range traceColumns {
			if t.Sample.Counts[c.counter], err = s.number(row, c.name, 0); err != nil {
				return nil, err
			}
		}
		if t.Watts, err = s.number(row, "platform_power", 1e-9); err != nil {
			return nil, err
		}
		packages, err := s.number(row, "package_power", 0)
		if err != nil {
			return nil, err
		}
		dram, err := s.number(row, "dram_power", 0)
		if err != nil {
			return nil, err
		}
		t.Sample.Counts[models.RAPL] = (packages + dram) * 1e6
		ticks = append(ticks, t)
	}
	return ticks, nil
}

// maxBlockFolds of the blocks: each block is scored by models of the others.
const maxBlockFolds = 10

// Trace scores models of counters on blocks of time that they have not seen.
func Trace(ticks []Tick) ([]Result, error) {
	names := map[string]int{}
	for _, t := range ticks {
		if _, known := names[t.Block]; !known {
			names[t.Block] = len(names)
		}
	}
	if len(names) < 2 {
		return nil, fmt.Errorf("all rows are of one block (%s): a model is scored on blocks that it has not seen: %w", slices.Collect(maps.Keys(names))[0], ErrFile)
	}
	n := min(len(names), maxBlockFolds)
	most := 0.0
	for _, t := range ticks {
		most = max(most, t.Sample.Counts[models.CPUTime])
	}
	line := newScore(TraceLine, "the thesis: from the least to the most power seen, by CPU time")
	fits := []struct {
		*score
		kind     models.Kind
		counters []models.Counter
	}{
		{newScore(TraceCPU, "a curve over CPU time"), models.KindCounters, models.ByCPUTime},
		{newScore(TraceCycles, "a curve over cycles"), models.KindCounters, models.ByCycles},
		{newScore(TraceCounters, "curves over CPU time, cycles, instructions and cache misses"), models.KindCounters, models.ByCounters},
		{newScore(TraceRAPL, "a line over RAPL's packages and memory"), models.KindRAPL, models.ByRAPL},
	}
	for fold := range n {
		var teach []models.Counts
		var test []Tick
		for _, t := range ticks {
			if names[t.Block]%n == fold {
				test = append(test, t)
			} else {
				teach = append(teach, t.Counts)
			}
		}
		straight := lineOf(teach)
		for _, t := range test {
			line.add(band(t, most), straight(t.Sample.Counts[models.CPUTime]), t.Watts)
		}
		for _, f := range fits {
			model, err := models.FitCounts(f.kind, teach, f.counters)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.model, err)
			}
			for _, t := range test {
				microwatts, _ := model.Predict(t.Sample) // it has what the fit had
				f.add(band(t, most), float64(microwatts)/1e6, t.Watts)
			}
		}
	}
	scores := []*score{line}
	for _, f := range fits {
		scores = append(scores, f.score)
	}
	return results(scores...), nil
}

// lineOf is idle + (full - idle)·u by what was seen.
func lineOf(seen []models.Counts) func(cpu float64) float64 {
	idle, full, most := seen[0].Watts, seen[0].Watts, 1e-9
	for _, s := range seen {
		idle, full, most = min(idle, s.Watts), max(full, s.Watts), max(most, s.Sample.Counts[models.CPUTime])
	}
	return func(cpu float64) float64 { return idle + (full-idle)*min(cpu/most, 1) }
}

// band is the quarter of the CPU time's range in which a sample lies.
func band(t Tick, most float64) string {
	quarter := min(int(4*t.Sample.Counts[models.CPUTime]/max(most, 1e-9)), 3)
	return fmt.Sprintf("%d-%d", quarter*25, quarter*25+25)
}
