package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/processors/models"
	"github.com/accumulus-metering/accumulus/processors/models/evaluation"
	"github.com/spf13/cobra"
)

func newEvaluate(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "evaluate",
		Short: "Hold the models of power and the forecasts against measurements",
		Long: `Scores the models of power, or forecasts, on measurements in a file: no leader is asked. What is
fitted from the file is scored on the part of it that the fit has not seen.`,
	}
	command.AddCommand(newEvaluatePower(a), newEvaluateTrace(a), newEvaluatePrior(a), newEvaluateForecast(a))
	parent(command)
	return command
}

func newEvaluatePower(a *app) *cobra.Command {
	var file string
	var seed uint64
	var asJSON bool
	command := &cobra.Command{
		Use:   "power --curves FILE",
		Short: "Score the models of a node's power on servers' curves, and of a box's split",
		Long: `Reads servers' power by load, scores each model of a node on the levels between the
points that it was given, and with --box the split of a meter over six nodes.

The file is CSV with w_idle, w_10 … w_100 (W), load_10 … load_100 (% that was
reached), nodes (behind the meter) and group (the processor: curves of one group
never teach and test at once); hw_avail, published and cores_per_node are used
where they are there. Errors are in % of the true power; the columns behind p95
are the mean error by level of load.`,
		Example: `  accumulus evaluate power --curves curves.csv
  accumulus evaluate power --curves curves.csv --box 1 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			curves, err := readWith(file, evaluation.ReadCurves)
			if err != nil {
				return err
			}
			results, err := evaluation.Power(curves, models.Shipped())
			if err != nil {
				return fmt.Errorf("evaluate %s: %w", file, err)
			}
			if cmd.Flags().Changed("box") {
				boxes, err := evaluation.Box(curves, models.Shipped(), seed)
				if err != nil {
					return fmt.Errorf("evaluate boxes of %s: %w", file, err)
				}
				results = append(results, boxes...)
			}
			return a.printResults(results, asJSON)
		},
	}
	command.Flags().StringVar(&file, "curves", "", "CSV file of servers' curves")
	command.Flags().Uint64Var(&seed, "box", 0, "also compose boxes of six nodes, from this seed, and split their meters")
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON: the figures by model")
	_ = command.MarkFlagRequired("curves") // the flag was just added
	return command
}

func newEvaluateTrace(a *app) *cobra.Command {
	var file string
	var asJSON bool
	command := &cobra.Command{
		Use:   "trace --csv FILE",
		Short: "Score models of counters and of RAPL on a node's time series",
		Long: `Reads a time series of one node and scores models of CPU time, of cycles, of all
counters and of RAPL, each on blocks of time that it has not seen.

The file is CSV with bpf_cpu_time_us, cpu_cycles, cpu_instructions and cache_miss
(per second), platform_power, package_power and dram_power (W), and block. Errors
are in % of the true power; the columns behind p95 are the mean error by CPU time,
in % of the most that was seen.`,
		Example: `  accumulus evaluate trace --csv trace.csv`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ticks, err := readWith(file, evaluation.ReadTrace)
			if err != nil {
				return err
			}
			results, err := evaluation.Trace(ticks)
			if err != nil {
				return fmt.Errorf("evaluate %s: %w", file, err)
			}
			return a.printResults(results, asJSON)
		},
	}
	command.Flags().StringVar(&file, "csv", "", "CSV file of the time series")
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON: the figures by model")
	_ = command.MarkFlagRequired("csv") // the flag was just added
	return command
}

func newEvaluatePrior(a *app) *cobra.Command {
	var file, source string
	command := &cobra.Command{
		Use:   "prior --curves FILE --source TEXT",
		Short: "Make a prior shape of servers' curves",
		Long: `Reads servers' curves (as evaluate power does) and prints the prior made of them, as
JSON: by idle power, year and load the median share of the way from idle to full
power. The prior that is built in was made so.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			curves, err := readWith(file, evaluation.ReadCurves)
			if err != nil {
				return err
			}
			prior, err := models.BuildPrior(evaluation.Servers(curves), source)
			if err != nil {
				return fmt.Errorf("prior of %s: %w", file, err)
			}
			return json.NewEncoder(a.out).Encode(prior)
		},
	}
	command.Flags().StringVar(&file, "curves", "", "CSV file of servers' curves")
	command.Flags().StringVar(&source, "source", "", "who measured them: it is printed wherever the prior is used")
	_ = command.MarkFlagRequired("curves") // the flag was just added
	_ = command.MarkFlagRequired("source") // the flag was just added
	return command
}

// readWith reads a file.
func readWith[T any](file string, read func(io.Reader) (T, error)) (T, error) {
	var none T
	r, err := os.Open(file)
	if err != nil {
		return none, err
	}
	defer func() { _ = r.Close() }() // nothing was written
	content, err := read(r)
	if err != nil {
		return none, fmt.Errorf("read %s: %w", file, err)
	}
	return content, nil
}

// printResults prints the figures: JSON by model, or a table for each part of
// the evaluation and how each model was obtained.
func (a *app) printResults(results []evaluation.Result, asJSON bool) error {
	if asJSON {
		return a.printJSON(evaluation.ByModel(results))
	}
	part := func(r evaluation.Result) string {
		before, _, found := strings.Cut(r.Model, "/")
		if !found {
			return ""
		}
		return before
	}
	for start := 0; start < len(results); {
		end := start + 1
		for end < len(results) && part(results[end]) == part(results[start]) {
			end++
		}
		if start > 0 {
			a.printf("\n")
		}
		if err := a.printPart(results[start:end]); err != nil {
			return err
		}
		start = end
	}
	return nil
}

func (a *app) printPart(results []evaluation.Result) error {
	names := map[string]bool{}
	for _, r := range results {
		for level := range r.Levels {
			names[level] = true
		}
	}
	lowest := func(level string) int {
		before, _, _ := strings.Cut(level, "-")
		n, _ := strconv.Atoi(before) // levels are numbers or ranges of them
		return n
	}
	levels := slices.SortedFunc(maps.Keys(names), func(x, y string) int { return lowest(x) - lowest(y) })
	t := table{columns: append(left("MODEL"), right("POINTS", "MAPE %", "≤5 %", "≤10 %", "P95 %")...)}
	for _, level := range levels {
		t.columns = append(t.columns, column{title: "@" + level, right: true})
	}
	for _, r := range results {
		row := []string{r.Model, strconv.Itoa(r.Points), fixed(r.MAPE, 2), fixed(r.Within5, 1), fixed(r.Within10, 1), fixed(r.P95, 2)}
		for _, level := range levels {
			cell := ""
			if e, ok := r.Levels[level]; ok {
				cell = fixed(e, 1)
			}
			row = append(row, cell)
		}
		t.add(row...)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	a.printf("\n")
	how := table{columns: left("MODEL", "HOW IT WAS OBTAINED")}
	for _, r := range results {
		how.add(r.Model, r.How)
	}
	return how.write(a.out)
}

func fixed(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
