package ahead

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"text/tabwriter"
	"time"

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

var reportColumns = []string{"Cluster", "Namespace", "Pod", "Node", "Start", "Time", "Exit", "CPU core-h", "Energy", "CO2e", "Cost"}

// WriteText writes a report for a terminal.
func (r Report) WriteText(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) } // Flush tells
	line("Report of", r.Name)
	for _, f := range r.figures() {
		line(f.Name, f.Value)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	line(reportColumns...)
	for _, one := range r.Runs {
		line(one.cells()...)
	}
	for _, note := range r.Notes {
		line("Note: " + note)
	}
	return t.Flush()
}

var reportPage = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Report of {{.Name}}</title></head><body>
<h1>Report of {{.Name}}</h1>
<table>{{range .Figures}}<tr><th scope="row">{{.Name}}</th><td>{{.Value}}</td></tr>
{{end}}</table>
<h2>Runs</h2>
<table><thead><tr>{{range .Columns}}<th scope="col">{{.}}</th>{{end}}</tr></thead><tbody>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</tbody></table>
{{range .Notes}}<p>{{.}}</p>
{{end}}</body></html>
`))

// WriteHTML writes a report as a page that needs nothing else.
func (r Report) WriteHTML(out io.Writer) error {
	page := struct {
		Name    string
		Figures []figure
		Columns []string
		Rows    [][]string
		Notes   []string
	}{Name: r.Name, Figures: r.figures(), Columns: reportColumns, Notes: r.Notes}
	for _, one := range r.Runs {
		page.Rows = append(page.Rows, one.cells())
	}
	return reportPage.Execute(out, page)
}
