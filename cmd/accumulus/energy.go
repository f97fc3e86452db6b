package main

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

// question is what the flags of energy, heat and carbon ask for.
type question struct {
	window, step, sort          string
	aggregate, filter, clusters []string
	limit                       int
	command                     *cobra.Command
}

// flags adds the flags; by is what rows are of where nothing is said.
func (q *question) flags(a *app, command *cobra.Command, sort string, by ...string) {
	q.command = command
	flags := command.Flags()
	flags.StringVarP(&q.window, "window", "w", "1h", "time to sum over")
	flags.StringSliceVarP(&q.aggregate, "aggregate", "a", by, "keys to sum by; \"\" for one row")
	flags.StringArrayVarP(&q.filter, "filter", "f", nil, "keep only key=value[,value]; * stands for anything; may be repeated, all must hold")
	flags.StringSliceVar(&q.clusters, "cluster", nil, "only these clusters: short for --filter cluster=NAME")
	flags.StringVar(&q.step, "step", "", "a row per step: 15m, 1h, 1d")
	flags.StringVar(&q.sort, "sort", "", sort+", key or from; - before it for descending")
	flags.IntVar(&q.limit, "limit", 0, "only the first rows")
	a.outputFlag(command, asTable, asJSON, asCSV)
	a.unitsFlag(command)
}

// values are the question as the leader reads it.
func (q *question) values(a *app) url.Values {
	filter := q.filter
	if len(q.clusters) > 0 {
		filter = append(filter, "cluster="+strings.Join(q.clusters, ","))
	}
	values := url.Values{"window": {q.window}, "filter": filter}
	for name, value := range map[string]string{"aggregate": strings.Join(q.aggregate, ","), "step": q.step, "sort": q.sort} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.command.Flags().Changed("limit") {
		values.Set("limit", strconv.Itoa(q.limit))
	}
	if a.output != asCSV {
		values.Set("completeness", "true")
	}
	return values
}

const windowHelp = `Windows end at the last settled minute: 1h, 24h, 7d; or they are calendar times
in UTC: today, yesterday, month, lastmonth, 2026-11; or FROM,TO in RFC 3339.`

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
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			answer, err := c.Energy(cmd.Context(), q.values(a))
			if err != nil {
				return err
			}
			return a.showEnergy(answer)
		},
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
		a.printf("Nothing was metered from %s to %s. `accumulus status` says why.\n", humanTime(answer.From), humanTime(answer.To))
		a.showIncomplete(incomplete)
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
	a.printf("\n%s to %s", humanTime(answer.From), humanTime(answer.To))
	if open {
		a.printf("; * may still change")
	}
	if left := answer.Total - len(answer.Rows); left > 0 {
		a.printf("; %d more rows", left)
	}
	a.printf("\n")
	for _, note := range answer.Notes {
		a.printf("%s\n", note)
	}
	a.showIncomplete(incomplete)
	return nil
}
