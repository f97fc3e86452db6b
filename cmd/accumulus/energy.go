package main

import (
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

func newEnergy(a *app) *cobra.Command {
	var q question
	command := &cobra.Command{
		Use:   "energy",
		Short: "Show energy: who caused it, what is idle, what meters measured",
		Long: `Show the energy of a window. ENERGY is ACTIVE (by use), IDLE (its share) and
OVERHEAD (of the box) together. MEASURED is the part of it that closed meter
intervals cover; MODELLED is what the model alone would have said; OFF BY bounds one
standard error of ENERGY. By box, RESIDUAL is what the meters counted and nobody
carries: 0, or something is wrong.

` + windowHelp,
		Example: `  accumulus energy --window 24h --aggregate box
  accumulus energy --aggregate cluster,namespace,workload --sort -energy
  accumulus energy --window today --step 1h --aggregate namespace -o csv`,
		Args: cobra.NoArgs,
		RunE: asking(a, &q, (*client.Client).Energy, a.showEnergy),
	}
	q.flags(a, command, "energy, active, idle, measured", "cluster", "namespace")
	return command
}

func (a *app) showEnergy(answer query.EnergyAnswer) error {
	switch a.output {
	case asJSON:
		return a.printJSON(answer)
	case asCSV:
		return usage.WriteFiguresCSV(a.out, answer.Aggregate, answer.Rows)
	}
	total := usage.TotalEnergy(answer.Rows)
	residual := total.ResidualJoules != nil
	t := figureTable{columns: right(a.titles("J", "ENERGY", "ACTIVE", "IDLE", "OVERHEAD", "MEASURED", "MODELLED", "OFF BY")...)}
	if residual {
		t.columns = append(t.columns, right(a.titles("J", "RESIDUAL")...)...)
	}
	t.columns = append(append(t.columns, right("COVERAGE")...), left("ENERGY IS")...)
	cells := func(r usage.EnergyRow, coverage, quality string) []string {
		list := []string{a.joules(r.EnergyJoules), a.joules(r.EnergyActiveJoules), a.joules(r.EnergyIdleJoules), a.joules(r.EnergyOverheadJoules),
			a.joules(r.EnergyMeasuredJoules), a.joules(r.EnergyModelledJoules), a.joules(r.EnergyUncertaintyJoules)}
		if residual {
			list = append(list, a.perhapsJoules(r.ResidualJoules))
		}
		return append(list, coverage, quality)
	}
	for _, r := range answer.Rows {
		t.add(r.Key, r.From, r.Provisional, cells(r, percent(r.Coverage), starred(r.Quality, r.Provisional)))
	}
	t.total = cells(total, " ", " ")
	return writeFigures(a, t, answer.Figures, answer.Incomplete)
}

// starred marks what may still change.
func starred(quality string, provisional bool) string {
	if provisional {
		return quality + " *"
	}
	return quality
}

// titles have the base unit behind them where base units are shown.
func (a *app) titles(unit string, titles ...string) []string {
	if a.units == baseUnits {
		for i := range titles {
			titles[i] += " " + unit
		}
	}
	return titles
}

// joules are shown in the chosen units, "" where they are unknown.
func (a *app) joules(v usage.Exact) string {
	switch {
	case !v.Known():
		return ""
	case a.units == baseUnits:
		return v.String()
	}
	return humanEnergy(v.Float())
}

func (a *app) perhapsJoules(v *usage.Exact) string {
	if v == nil {
		return ""
	}
	return a.joules(*v)
}

// grams are shown in the chosen units, "" where they are unknown.
func (a *app) grams(v usage.Exact) string {
	switch {
	case !v.Known():
		return ""
	case a.units == baseUnits:
		return v.String()
	}
	return usage.HumanGrams(v.Float())
}

// figureTable is a table of energy, heat or carbon in the making: its columns but
// those of the keys and the steps.
type figureTable struct {
	columns []column
	lines   []figureLine
	total   []string
}

type figureLine struct {
	key         map[string]string
	from        time.Time
	provisional bool
	cells       []string
}

func (t *figureTable) add(key map[string]string, from time.Time, provisional bool, cells []string) {
	t.lines = append(t.lines, figureLine{key, from, provisional, cells})
}

// writeFigures prints the table with what is to be said of it.
func writeFigures[R any](a *app, from figureTable, answer usage.Figures[R], incomplete []query.ClusterCompleteness) error {
	if len(from.lines) == 0 {
		a.showNothing(answer.From, answer.To, "accumulus status", incomplete)
		return nil
	}
	t := &table{}
	for _, key := range answer.Aggregate {
		t.columns = append(t.columns, left(strings.ToUpper(string(key)))...)
	}
	steps := answer.StepSeconds > 0
	if steps {
		t.columns = append(t.columns, left("FROM")...)
	}
	t.columns = append(t.columns, from.columns...)
	open := false
	for _, line := range from.lines {
		var cells []string
		for _, key := range answer.Aggregate {
			cells = append(cells, line.key[string(key)])
		}
		if steps {
			cells = append(cells, humanTime(line.from))
		}
		t.add(append(cells, line.cells...)...)
		open = open || line.provisional
	}
	if len(from.lines) > 1 && len(answer.Aggregate) > 0 {
		cells := []string{"TOTAL"}
		for len(cells) < len(t.columns)-len(from.columns) {
			cells = append(cells, " ")
		}
		t.add(append(cells, from.total...)...)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	a.showWindow(answer.From, answer.To, open, answer.Total-len(answer.Rows))
	for _, note := range answer.Notes {
		a.printf("%s\n", note)
	}
	a.showIncomplete(incomplete)
	return nil
}
