package main

import (
	"fmt"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

func newHeat(a *app) *cobra.Command {
	var q question
	command := &cobra.Command{
		Use:   "heat",
		Short: "Show what energy became, and what heat was of use",
		Long: `Show the heat of a window. PRODUCED is what energy became in the boxes; USEFUL,
of boxes alone, what was made use of, by sources that are no household's. --days
adds each source by whole UTC days, and households three days after their end: how
a household heats by the hour is told to nobody.

` + windowHelp,
		Example: `  accumulus heat --window 24h
  accumulus heat --window lastmonth --days
  accumulus heat --aggregate cluster,namespace`,
		Args: cobra.NoArgs,
		RunE: asking(a, &q, (*client.Client).Heat, func(answer query.HeatAnswer) error { return a.showHeat(answer, q.days) }),
	}
	q.flags(a, command, "energy, produced, useful", "box")
	q.daysFlag("useful heat")
	return command
}

func (a *app) showHeat(answer query.HeatAnswer, days bool) error {
	switch {
	case a.output == asJSON:
		return a.printJSON(answer)
	case a.output == asCSV && days:
		return a.daysTable(answer.Days).writeCSV(a.out)
	case a.output == asCSV:
		return usage.WriteFiguresCSV(a.out, answer.Aggregate, answer.Rows)
	}
	total := usage.TotalHeat(answer.Rows)
	useful := total.UsefulJoules != nil
	t := figureTable{columns: right(a.titles("J", "ENERGY", "PRODUCED")...)}
	if useful {
		t.columns = append(t.columns, right(a.titles("J", "USEFUL")...)...)
	}
	t.columns = append(t.columns, left("ENERGY IS")...)
	cells := func(r usage.HeatRow, quality string) []string {
		list := []string{a.joules(r.EnergyJoules), a.joules(r.ProducedJoules)}
		if useful {
			list = append(list, a.perhapsJoules(r.UsefulJoules))
		}
		return append(list, quality)
	}
	for _, r := range answer.Rows {
		t.add(r.Key, r.From, r.Provisional, cells(r, starred(r.Quality, r.Provisional)))
	}
	t.total = cells(total, " ")
	if err := writeFigures(a, t, answer.Figures.Figures, answer.Incomplete); err != nil {
		return err
	}
	return a.showDays(answer.Days, days)
}

// showDays prints useful heat by day, where it was asked for.
func (a *app) showDays(days []query.HeatDay, wanted bool) error {
	if !wanted {
		return nil
	}
	if len(days) == 0 {
		a.printf("\nNo day of a heat source lies in the window whole and may be told.\n")
		return nil
	}
	a.printf("\n")
	return a.daysTable(days).write(a.out)
}

// daysTable is for people; as CSV it has the names and the units of the API.
func (a *app) daysTable(days []query.HeatDay) *table {
	if a.output == asCSV {
		t := &table{columns: left("day", "source", "household", "box", "usefulJoules", "avoidedGrams", "reference", "coveredSeconds", "fullSeconds",
			"faultySeconds", "reversedSeconds", "gapSeconds", "implausibleQuarters", "quality")}
		for _, d := range days {
			t.add(d.Day, d.Source, d.Household, d.Box, d.UsefulJoules.String(), d.AvoidedGrams.String(), d.Reference, d.CoveredSeconds.String(),
				d.FullSeconds.String(), d.FaultySeconds.String(), d.ReversedSeconds.String(), d.GapSeconds.String(), fmt.Sprint(d.ImplausibleQuarters), d.Quality)
		}
		return t
	}
	t := &table{columns: append(left("DAY", "SOURCE", "HOUSEHOLD", "BOX"), right(a.titles("J", "USEFUL")...)...)}
	t.columns = append(append(t.columns, right(a.titles("g", "AVOIDED")...)...), right("COVERED", "FULL", "FAULTY", "REVERSED", "GAP")...)
	t.columns = append(t.columns, left("HEAT IS", "AGAINST")...)
	for _, d := range days {
		quality := d.Quality
		if d.ImplausibleQuarters > 0 {
			quality += ", implausible"
		}
		hours := func(v usage.Exact) string { return number(v.Float()/3600) + " h" }
		t.add(d.Day, d.Source, d.Household, d.Box, a.joules(d.UsefulJoules), a.grams(d.AvoidedGrams), hours(d.CoveredSeconds), hours(d.FullSeconds),
			hours(d.FaultySeconds), hours(d.ReversedSeconds), hours(d.GapSeconds), quality, d.Reference)
	}
	return t
}
