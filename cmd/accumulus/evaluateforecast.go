package main

import (
	"fmt"

	"github.com/accumulus-metering/accumulus/processors/forecast"
	"github.com/spf13/cobra"
)

func newEvaluateForecast(a *app) *cobra.Command {
	var file string
	var hours, origins int
	var asJSON bool
	command := &cobra.Command{
		Use: "forecast", Short: "Hold forecasts against what came", Args: cobra.NoArgs,
		Long: `Forecasts series from many moments, each with what lay before it alone, and prints the
error beside that of the baselines, and how often P10 to P90 held the truth, of 80 in 100
that it claims. Without a file: series that are made up (docs/forecasts.md).

The file is CSV with the columns time (RFC 3339, whole hours), value (at least 0) and,
where there are several, series. An hour that is missing is unknown. A series needs a
week and twice the time ahead.`,
		Example: `  accumulus evaluate forecast
  accumulus evaluate forecast --csv usage.csv --ahead 168 --json`,
		RunE: func(*cobra.Command, []string) error {
			all, err := evaluateForecasts(file, hours, origins)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(all)
			}
			t := &table{columns: append(left("SERIES"), right("HOURS AHEAD", "ORIGINS", "WAPE %", "RUN-RATE %", "DAY-NAIVE %", "WEEK-NAIVE %", "HELD %", "OF")...)}
			for _, e := range all {
				hours := fmt.Sprint(e.Hours)
				if e.Hours == forecast.ToMonthEnd {
					hours = "month's end"
				}
				t.add(e.Series, hours, fmt.Sprint(e.Origins), fixed(100*e.WAPE, 2), fixed(100*e.RunRate, 2), fixed(100*e.DayAgo, 2), fixed(100*e.WeekAgo, 2), fixed(100*e.Covered, 0), fmt.Sprint(e.Bounded))
			}
			return t.write(a.out)
		},
	}
	flags := command.Flags()
	flags.StringVar(&file, "csv", "", "CSV file of series by the hour; default series that are made up")
	flags.IntVar(&hours, "ahead", 24, "how many hours ahead, of a file's series")
	flags.IntVar(&origins, "origins", 24, "from how many moments about, of a file's series")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

func evaluateForecasts(file string, hours, origins int) ([]forecast.Evaluation, error) {
	var all []forecast.Evaluation
	if file == "" {
		for _, x := range forecast.Examples() {
			e, err := x.Evaluate()
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
		return all, nil
	}
	if hours < 1 || origins < 1 || hours > 8760 {
		return nil, fmt.Errorf("ahead %d, origins %d: use 1 to 8760 hours and at least one origin", hours, origins)
	}
	series, err := readWith(file, forecast.ReadCSV)
	if err != nil {
		return nil, err
	}
	for _, one := range series {
		e, err := forecast.Evaluate(one.Name, one.Series, hours, origins)
		if err != nil {
			return nil, fmt.Errorf("series %q: %w", one.Name, err)
		}
		all = append(all, e)
	}
	if len(all) > 1 {
		all = append(all, forecast.Together("all", all))
	}
	return all, nil
}
