package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// report is build/bench-sync.json.
type report struct {
	Rows   int                `json:"rows"` // of the full window
	Runs   int                `json:"runs"`
	Cases  []line             `json:"cases"`
	Ratios map[string]float64 `json:"ratios"`
	// Goals are those of the ratios that have one, and Met whether it was reached.
	Goals map[string]float64 `json:"goals"`
	Met   map[string]bool    `json:"met"`

	ratios []ratio // in their order
}

// line is a case: medians of its runs, but for the peak, which is the highest.
type line struct {
	Name          string  `json:"name"`
	Group         string  `json:"group"`
	Verify        string  `json:"verify"`
	Rows          int     `json:"rows"`
	TablesAtOnce  int     `json:"tablesAtOnce"`
	Parts         int     `json:"parts"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	CPU           cpu     `json:"cpuSecondsPerMillionRows"`
	PeakClientMiB float64 `json:"peakClientMiB"`
	// TotalCPU is the median of the sums, Least and Most their range.
	TotalCPU float64 `json:"totalCpuSecondsPerMillionRows"`
	Least    float64 `json:"leastTotalCpuSecondsPerMillionRows"`
	Most     float64 `json:"mostTotalCpuSecondsPerMillionRows"`
	// Settling is the part of source and sink that came after the client's end.
	Settling float64 `json:"settlingCpuSecondsPerMillionRows"`

	kind string
}

type cpu struct {
	Client float64 `json:"client"`
	Source float64 `json:"source"`
	Sink   float64 `json:"sink"`
}

// ratio is one figure against another of the same run.
type ratio struct {
	name, text  string
	value, goal float64 // goal 0 is none
	atLeast     bool    // the goal is a lower bound
}

func (r ratio) met() bool {
	if r.atLeast {
		return r.value >= r.goal
	}
	return r.value <= r.goal
}

func newReport(measurements []*measured, c config) report {
	r := report{Rows: c.minutes() * c.perMinute(), Runs: c.runs,
		Ratios: make(map[string]float64), Goals: make(map[string]float64), Met: make(map[string]bool)}
	for _, m := range measurements {
		r.Cases = append(r.Cases, newLine(m))
	}
	r.ratios = r.compare()
	for _, ratio := range r.ratios {
		r.Ratios[ratio.name] = ratio.value
		if ratio.goal != 0 {
			r.Goals[ratio.name], r.Met[ratio.name] = ratio.goal, ratio.met()
		}
	}
	return r
}

func newLine(m *measured) line {
	each := func(of func(sample) time.Duration) []float64 {
		var values []float64
		for _, s := range m.samples {
			values = append(values, of(s).Seconds()/float64(m.rows)*1e6)
		}
		return values
	}
	totals := each(sample.total)
	l := line{Name: m.Name, Group: m.Group, Verify: m.Verify, Rows: m.rows, TablesAtOnce: m.SideBySide, Parts: m.Parts,
		RowsPerSecond: 1e6 / median(each(func(s sample) time.Duration { return s.elapsed })),
		CPU: cpu{Client: median(each(func(s sample) time.Duration { return s.client })),
			Source: median(each(func(s sample) time.Duration { return s.source })),
			Sink:   median(each(func(s sample) time.Duration { return s.sink }))},
		TotalCPU: median(totals), Least: totals[0], Most: totals[0],
		Settling: median(each(func(s sample) time.Duration { return s.settling })), kind: m.Kind}
	for i, s := range m.samples {
		l.Least, l.Most = min(l.Least, totals[i]), max(l.Most, totals[i])
		l.PeakClientMiB = max(l.PeakClientMiB, float64(s.peakKiB)/1024)
	}
	return l
}

// find is the first case that fits, or nil.
func (r report) find(fits func(line) bool) *line {
	for i := range r.Cases {
		if fits(r.Cases[i]) {
			return &r.Cases[i]
		}
	}
	return nil
}

func (r report) baseline(group, kind string, tables int) *line {
	return r.find(func(l line) bool { return l.Group == group && l.kind == kind && l.TablesAtOnce == tables })
}

// fastest is the case of Sync with that verification that was done first.
func (r report) fastest(group, verify string) *line {
	var best *line
	for i, l := range r.Cases {
		if l.Group == group && l.kind == kindSync && l.Verify == verify && (best == nil || l.RowsPerSecond > best.RowsPerSecond) {
			best = &r.Cases[i]
		}
	}
	return best
}

// compare makes the ratios of the run. The case of Sync is the fastest of its
// verification; the floors are those with as many tables at once.
func (r report) compare() []ratio {
	var all []ratio
	for _, group := range []string{groupFull, groupTick, groupWide} {
		for _, verify := range []string{verifyStream, verifyReadBack, verifyNone} {
			if ours := r.fastest(group, verify); ours != nil {
				all = append(all, r.compareOne(group, ours)...)
			}
		}
	}
	peak := 0.0
	for _, l := range r.Cases {
		if l.kind == kindSync {
			peak = max(peak, l.PeakClientMiB)
		}
	}
	if peak == 0 { // none of ours was run
		return all
	}
	all = append(all, ratio{name: "peakClientMiB", text: "most memory of Sync in any case, MiB", value: peak, goal: 64})
	return append(all, r.growth()...)
}

// growth is the memory of the long cases against that of the full window with
// as many tables at once, which Sync does not cut into parts.
func (r report) growth() []ratio {
	var all []ratio
	for _, long := range r.Cases {
		if long.Group != groupLong {
			continue
		}
		full := r.find(func(l line) bool {
			return l.Group == groupFull && l.kind == long.kind && l.Verify == long.Verify && l.TablesAtOnce == long.TablesAtOnce
		})
		if full != nil {
			all = append(all, ratio{name: fmt.Sprintf("peakLongToFull.%dx%d", long.TablesAtOnce, long.Parts),
				text: fmt.Sprintf("%s: memory / %s's", long.Name, full.Name), value: long.PeakClientMiB / full.PeakClientMiB})
		}
	}
	return all
}

// goals are of the full window.
var goals = map[string]struct{ naive, floors, client float64 }{
	verifyStream:   {0.45, 1.1, 0.1},
	verifyReadBack: {0.75, 1.15, 0.2},
}

const speedGoal = 2

func (r report) compareOne(group string, ours *line) []ratio {
	prefix, goal, speed := ours.Verify+".", goals[ours.Verify], 0.0
	if group != groupFull {
		prefix, goal = group+"."+prefix, goals[""]
	} else if goal.naive != 0 {
		speed = speedGoal
	}
	var all []ratio
	if naive := r.baseline(group, kindNaive, 1); naive != nil {
		all = append(all,
			ratio{name: prefix + "cpu/naive", text: ours.Name + ": CPU / naive", value: ours.TotalCPU / naive.TotalCPU, goal: goal.naive},
			ratio{name: prefix + "client/naive", text: ours.Name + ": client's CPU / naive's",
				value: ours.CPU.Client / naive.CPU.Client, goal: goal.client},
			ratio{name: prefix + "rowsPerSecond/naive", text: ours.Name + ": rows per second / naive's",
				value: ours.RowsPerSecond / naive.RowsPerSecond, goal: speed, atLeast: true})
	}
	if chunked := r.baseline(group, kindNaiveChunked, 1); chunked != nil {
		all = append(all, ratio{name: prefix + "cpu/naiveChunked", text: ours.Name + ": CPU / naive in chunks",
			value: ours.TotalCPU / chunked.TotalCPU})
	}
	reads, floors := 1.0, "read + write floors"
	if ours.Verify == verifyReadBack {
		reads, floors = 2, "2 read + write floors"
	}
	read, write := r.baseline(group, kindRead, ours.TablesAtOnce), r.baseline(group, kindWrite, ours.TablesAtOnce)
	if read != nil && write != nil {
		all = append(all, ratio{name: prefix + "cpu/floors", text: ours.Name + ": CPU / " + floors,
			value: ours.TotalCPU / (reads*read.TotalCPU + write.TotalCPU), goal: goal.floors})
	}
	return all
}

// print shows the cases and the ratios.
func (r report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format, args...) } // Flush has the error
	say("case\tverify\trows\trows/s\tCPU s per million rows: client\tsource\tsink\ttotal\tleast\tmost\tclient MiB\t\n")
	for _, l := range r.Cases {
		say("%s\t%s\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t\n", l.Name, l.Verify, l.Rows, l.RowsPerSecond,
			l.CPU.Client, l.CPU.Source, l.CPU.Sink, l.TotalCPU, l.Least, l.Most, l.PeakClientMiB)
	}
	say("\n")
	if err := t.Flush(); err != nil {
		return err
	}
	say("ratio\tvalue\tgoal\t\t\n")
	for _, ratio := range r.ratios {
		goal, met := "", ""
		if ratio.goal != 0 {
			goal, met = fmt.Sprintf("≤ %g", ratio.goal), "missed"
			if ratio.atLeast {
				goal = fmt.Sprintf("≥ %g", ratio.goal)
			}
			if ratio.met() {
				met = "met"
			}
		}
		say("%s\t%.3f\t%s\t%s\t\n", ratio.text, ratio.value, goal, met)
	}
	return t.Flush()
}

// write puts the report into a file.
func (r report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
