package ahead

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// figure is a line of a report for people.
type figure struct{ Name, Value string }

// figures are a report's sums for people.
func (r Report) figures() []figure {
	share := func(v *float64) string {
		if v == nil {
			return "of no request"
		}
		return usage.Percent(*v) + " of requests"
	}
	all := []figure{
		{"Runs", fmt.Sprintf("%d, of which %d failed", len(r.Runs), r.Failures)},
		{"Time", fmt.Sprintf("%s from %s to %s", usage.HumanSpan(time.Duration(r.Seconds*float64(time.Second))), usage.HumanTime(r.From), usage.HumanTime(r.To))},
		{"CPU", usage.Number(r.Total.CPUCoreSeconds.Float()/3600) + " core-h, " + share(r.Total.CPUEfficiency)},
		{"Memory", usage.Number(r.Total.MemoryByteSeconds.Float()/(1<<30)/3600) + " GiB-h, " + share(r.Total.MemoryEfficiency)},
		{"Energy", energyText(r.Total.EnergyJoules)}, {"CO2e", gramsText(r.Total.CO2eGrams)}, {"Cost", costText(r.Total.Cost)},
		{"Cost of failed runs", costText(r.Failed.Cost)},
	}
	if t := r.Turnaround; t.P50 != nil {
		span := func(v *float64) string { return usage.HumanSpan(time.Duration(*v * float64(time.Second))) }
		all = append(all, figure{"Turnaround of a run", fmt.Sprintf("%s (P10 %s, P90 %s)", span(t.P50), span(t.P10), span(t.P90))})
	}
	return all
}

func energyText(joules usage.Exact) string {
	if !joules.Known() {
		return "unknown"
	}
	return usage.HumanEnergy(joules.Float())
}

func gramsText(grams usage.Exact) string {
	if !grams.Known() {
		return "unknown"
	}
	return usage.Number(grams.Float()) + " g"
}

func costText(all []usage.Money) string {
	var texts []string
	for _, money := range all {
		texts = append(texts, usage.HumanMoney(money.Cost, money.Currency))
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, " + ")
}

// cells are a run's cells, in the order of reportColumns.
func (c RunCost) cells() []string {
	return []string{c.Cluster, c.Namespace, c.Pod, c.Node, usage.HumanTime(c.Start), usage.HumanSpan(c.End.Sub(c.Start)), fmt.Sprint(c.ExitCode),
		usage.Number(c.CPUCoreSeconds.Float() / 3600), energyText(c.EnergyJoules), gramsText(c.CO2eGrams), costText(c.Cost)}
}

// column is a column of runs; numbers stand on the right.
type column struct {
	Name  string
	Right bool
}

var reportColumns = []column{{Name: "Cluster"}, {Name: "Namespace"}, {Name: "Pod"}, {Name: "Node"}, {Name: "Start"}, {"Time", true}, {"Exit", true},
	{"CPU core-h", true}, {"Energy", true}, {"CO2e", true}, {"Cost", true}}

// WriteText writes a report for a terminal.
func (r Report) WriteText(out io.Writer) error {
	sums := [][]string{{"Report of", r.Name}}
	for _, f := range r.figures() {
		sums = append(sums, []string{f.Name, f.Value})
	}
	heads := make([]string, len(reportColumns))
	for i, c := range reportColumns {
		heads[i] = c.Name
		if rest := c.Name[1:]; rest == strings.ToLower(rest) { // no unit
			heads[i] = strings.ToUpper(c.Name)
		}
	}
	runs := [][]string{heads}
	for _, one := range r.Runs {
		runs = append(runs, one.cells())
	}
	text := aligned(make([]column, 2), sums) + "\n" + aligned(reportColumns, runs)
	for _, note := range r.Notes {
		text += "Note: " + note + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// aligned are rows of cells with two spaces between their columns.
func aligned(columns []column, rows [][]string) string {
	widths := make([]int, len(columns))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if columns[i].Right {
				cell = pad + cell
			} else {
				cell += pad
			}
			line.WriteString(cell + "  ")
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return out.String()
}

//go:embed report.html
var reportText string

var reportPage = template.Must(template.New("report").Parse(reportText))

// WriteHTML writes a report as a page that needs nothing else.
func (r Report) WriteHTML(out io.Writer) error {
	page := struct {
		Name    string
		Figures []figure
		Columns []column
		Rows    [][]string
		Notes   []string
	}{Name: r.Name, Figures: r.figures(), Columns: reportColumns, Notes: r.Notes}
	for _, one := range r.Runs {
		page.Rows = append(page.Rows, one.cells())
	}
	return reportPage.Execute(out, page)
}
