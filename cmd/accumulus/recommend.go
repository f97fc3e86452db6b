package main

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/spf13/cobra"
)

func newRecommend(a *app) *cobra.Command {
	var filter []string
	var json bool
	command := &cobra.Command{
		Use: "recommend", Short: "Show requests, hardware and hours that cost less, and what that saves", Args: cobra.NoArgs,
		Long: `Show for each workload what its pods request of CPU and memory, what they used by the
minute over the last settled day, and what would fit: P99 of CPU and 15 %, the maximum of
memory and 15 %. Below it, which workloads cost less on another hardware type of their
cluster, and which CronJobs at another hour. docs/forecasts.md says what that rests on.`,
		Example: `  accumulus recommend
  accumulus recommend -f namespace=shop --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			r, err := c.Recommendations(cmd.Context(), url.Values{"filter": filter})
			if err != nil {
				return err
			}
			if json || a.output == asJSON {
				return a.printJSON(r)
			}
			t := &table{columns: append(left("CLUSTER", "NAMESPACE", "WORKLOAD"), right("CORES", "P99", "BETTER", "MEMORY", "MAX", "BETTER", "SAVES/month", "POD-MINUTES")...)}
			for _, row := range r.Rows {
				t.add(row.Cluster, row.Namespace, row.Workload, number(row.CPU.Requested), number(row.CPU.P99), number(row.CPU.Recommend),
					humanMemory(row.Memory.Requested), humanMemory(row.Memory.Max), humanMemory(row.Memory.Recommend), moneys(row.Saving), fmt.Sprint(row.Minutes))
			}
			if err := t.writeOr(a.out, "No workload whose pods request something ran for twelve hours of the last settled day."); err != nil {
				return err
			}
			if err := a.showMoves(r.Moves); err != nil {
				return err
			}
			for _, note := range r.Notes {
				a.printf("Note: %s\n", note)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringArrayVarP(&filter, "filter", "f", nil, "keep only key=value[,value]; * stands for anything; may be repeated, all must hold")
	flags.BoolVar(&json, "json", false, "the same as -o json")
	a.outputFlag(command, asTable, asJSON)
	return command
}

// showMoves are the moves to other hardware and hours, none without one.
func (a *app) showMoves(moves []ahead.Move) error {
	if len(moves) == 0 {
		return nil
	}
	a.printf("\n")
	t := &table{columns: append(append(left("CLUSTER", "NAMESPACE", "WORKLOAD", "MOVE", "FROM", "TO"), right("SAVES/month", "ENERGY", "CO2e g")...), left("BY")...)}
	for _, m := range moves {
		t.add(m.Cluster, m.Namespace, m.Workload, m.Kind, m.From, m.To, moneys(m.Saving), told(m.Joules, humanEnergy), told(m.Grams, number), m.Evidence)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	var assumed []string
	for _, m := range moves {
		for _, text := range m.Assumes {
			if !slices.Contains(assumed, text) {
				assumed = append(assumed, text)
				a.printf("Assumed: %s\n", text)
			}
		}
	}
	return nil
}
