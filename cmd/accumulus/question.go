package main

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

// question is what the flags of usage, energy, heat and carbon ask for.
type question struct {
	window, step, sort          string
	aggregate, filter, clusters []string
	limit                       int
	days                        bool
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

// daysFlag adds --days; what says what of each source and day.
func (q *question) daysFlag(what string) {
	q.command.Flags().BoolVar(&q.days, "days", false, "also "+what+" by source and whole day; as CSV these alone")
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
	if q.days {
		values.Set("days", "true")
	}
	return values
}

// asking is a command that asks the leader and shows what it answers.
func asking[A any](a *app, q *question, ask func(*client.Client, context.Context, url.Values) (A, error), show func(A) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		answer, err := ask(c, cmd.Context(), q.values(a))
		if err != nil {
			return err
		}
		return show(answer)
	}
}

const windowHelp = `Windows end at the last settled minute: 1h, 24h, 7d; or they are calendar times
in UTC: today, yesterday, month, lastmonth, 2026-11; or FROM,TO in RFC 3339.`

// showNothing is in the place of a table without rows; ask is the command that says
// why there are none.
func (a *app) showNothing(from, to time.Time, ask string, incomplete []query.ClusterCompleteness) {
	a.printf("Nothing was metered from %s to %s. `%s` says why.\n", humanTime(from), humanTime(to), ask)
	a.showIncomplete(incomplete)
}

// showWindow is the line below a table: its time, whether some of it may change,
// and how many rows are left out.
func (a *app) showWindow(from, to time.Time, open bool, left int) {
	a.printf("\n%s to %s", humanTime(from), humanTime(to))
	if open {
		a.printf("; * may still change")
	}
	if left > 0 {
		a.printf("; %d more rows", left)
	}
	a.printf("\n")
}
