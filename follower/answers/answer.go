package answers

import (
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// answer is the page that was asked for.
func (t *tally) answer() (usage.Answer, error) {
	rows := make([]usage.Row, 0, len(t.rows))
	for _, made := range t.rows {
		row, err := t.finish(made)
		if err != nil {
			return usage.Answer{}, err
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b usage.Row) int { return usage.CompareKeys(a, b, t.request.Aggregate) })
	config := t.engine.config
	answer := usage.Answer{From: t.window.From, To: t.window.To, Settled: t.settled, StepSeconds: int64(t.request.Step / time.Second),
		Aggregate: t.request.Aggregate, Total: len(rows), Provisional: []usage.ClusterWindow{},
		Clusters: []usage.ClusterSettled{{Cluster: config.Cluster, Settled: t.asOf.Settled}}}
	if answer.Aggregate == nil {
		answer.Aggregate = []usage.Key{}
	}
	if open := t.asOf.open(); open.Before(t.window.To) {
		if open.Before(t.window.From) {
			open = t.window.From
		}
		answer.Provisional = append(answer.Provisional, usage.ClusterWindow{Cluster: config.Cluster, From: open, To: t.window.To})
	}
	var err error
	answer.Rows, answer.Next, err = usage.Page(rows, t.request, config.PageRows)
	return answer, err
}

// finish makes a row of the answer. Energy of a time of which none was pushed
// is unknown.
func (t *tally) finish(made *row) (usage.Row, error) {
	made.Open = t.asOf.open().Before(made.Window.To)
	row, err := made.Row()
	if err != nil {
		return usage.Row{}, err
	}
	if pushed := t.asOf.Energy; !t.parts.energy || pushed == nil || !pushed.After(made.Window.From) {
		row.EnergyJoules, row.EnergyActiveJoules, row.EnergyIdleJoules = usage.Unknown, usage.Unknown, usage.Unknown
		row.EnergyOverheadJoules, row.EnergyMeasuredJoules, row.EnergyModelledJoules = usage.Unknown, usage.Unknown, usage.Unknown
		row.EnergyUncertaintyJoules = usage.Unknown
		row.Quality = ""
	}
	row.SetCost(made.costs())
	return row, nil
}

// behind is how far pushed results may lie behind what has settled before an
// answer says so in words: the running quarter, and one more for the push.
const behind = 2 * schema.Quarter

// marks say as of when the answer is, of what, and what is not in it.
func (t *tally) marks() Marks {
	m := Marks{AsOf: t.asOf, Covers: t.scope.covers(), Notes: []string{}}
	note := func(format string, values ...any) { m.Notes = append(m.Notes, fmt.Sprintf(format, values...)) }
	if t.asOf.Settled == nil {
		note("No minute has settled yet: nothing is metered so far.")
	}
	for _, of := range []struct {
		wanted     bool
		name, none string
		pushed     *time.Time
	}{
		{t.parts.energy, "energy", "No energy was pushed by the leader yet: it is unknown, not zero.", t.asOf.Energy},
		{t.costs, "cost", "No prices were pushed by the leader yet: there is no cost.", t.asOf.Cost},
	} {
		switch {
		case !of.wanted:
		case of.pushed == nil:
			note("%s", of.none)
		case !of.pushed.After(t.window.From):
			note("The newest %s that the leader pushed ends at %s, before this window.", of.name, of.pushed.Format(time.RFC3339))
		case t.asOf.Settled != nil && of.pushed.Before(t.window.To) && t.asOf.Settled.Sub(*of.pushed) > behind:
			note("The leader pushed %s up to %s; of the time after that it is not in the answer.", of.name, of.pushed.Format(time.RFC3339))
		}
	}
	if t.parts.cost && !t.costs && t.asOf.Cost != nil {
		note("Cost is stored by namespace and workload and by quarters of an hour: this question's keys or step have none.")
	}
	if t.costs && t.asOf.Cost != nil && !t.window.From.Equal(t.window.From.Truncate(schema.Quarter)) {
		note("Cost is of the quarters of an hour that begin in the window.")
	}
	return m
}
