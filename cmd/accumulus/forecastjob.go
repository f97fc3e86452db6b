package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/spf13/cobra"
)

func newForecastJob(a *app) *cobra.Command {
	var namespace, cluster string
	var completions int
	var json bool
	command := &cobra.Command{
		Use: "job NAME", Short: "Show when a Job that runs will be done, and what it will have cost", Args: cobra.ExactArgs(1),
		Long: `Show when a Job that runs will be done, by how many of its pods have succeeded and how
long they took, and what it will have cost. Where fewer than nine have, pods of earlier
runs of its workload count, too; where --completions is not given, earlier runs say how
many pods must succeed. P10 to P90 is meant to hold the truth in 80 of 100 cases.`,
		Example: `  accumulus forecast job nightly-28912345
  accumulus forecast job simulate -n lab --completions 500 --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			values := url.Values{"name": {args[0]}}
			for name, value := range map[string]string{"namespace": namespace, "cluster": cluster} {
				if value != "" {
					values.Set(name, value)
				}
			}
			if completions != 0 {
				values.Set("completions", fmt.Sprint(completions))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			f, err := c.ForecastJob(cmd.Context(), values)
			if err != nil {
				return err
			}
			if json || a.output == asJSON {
				return a.printJSON(f)
			}
			return a.showForecastJob(f)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&namespace, "namespace", "n", "", "the Job's namespace, where several have one of that name")
	flags.StringVar(&cluster, "cluster", "", "the Job's cluster, likewise")
	flags.IntVar(&completions, "completions", 0, "how many pods must succeed: spec.completions (default: as in earlier runs)")
	flags.BoolVar(&json, "json", false, "the same as -o json")
	a.outputFlag(command, asTable, asJSON)
	return command
}

func (a *app) showForecastJob(f ahead.JobForecast) error {
	a.printf("%s/%s/%s: %d of %d succeeded, %d failed, %d run", f.Cluster, f.Namespace, f.Name, f.Succeeded, f.Completions, f.Failed, f.Running)
	if f.Turnaround.P50 != nil {
		a.printf("; a pod takes %s (P10 %s, P90 %s, of %d)", told(f.Turnaround.P50, seconds), told(f.Turnaround.P10, seconds), told(f.Turnaround.P90, seconds), f.Pods)
	}
	a.printf("\n\n")
	t := &table{columns: append(left("OF"), right("SO FAR", "P10", "P50", "P90")...)}
	if f.End.P50 != nil {
		t.add("end", "", momentText(f.End.P10), momentText(f.End.P50), momentText(f.End.P90))
	}
	for _, cost := range f.Costs {
		money := func(amount *string) string {
			if amount == nil {
				return ""
			}
			return humanMoney(*amount, cost.Currency)
		}
		t.add("cost", money(&cost.SoFar), money(cost.P10), money(&cost.P50), money(cost.P90))
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	a.printf("\nFrom %s on; so far until then\n", humanTime(f.Settled))
	for _, assumption := range f.Assumptions {
		a.printf("Assumed: %s\n", assumption)
	}
	return nil
}

func momentText(at *time.Time) string {
	if at == nil {
		return ""
	}
	return humanTime(*at)
}

// spentText says when an amount is spent.
func spentText(m ahead.Moments) string {
	if m.P50 == nil && m.P10 == nil {
		return "not before the end"
	}
	var parts []string
	for i, at := range []*time.Time{m.P10, m.P50, m.P90} {
		text := "not before the end"
		if at != nil {
			text = humanTime(*at)
		}
		parts = append(parts, []string{"P10", "P50", "P90"}[i]+" "+text)
	}
	return strings.Join(parts, ", ")
}

// named is a row's key as the beginning of a line.
func named(keys []usage.Key, key map[string]string) string {
	if len(keys) == 0 {
		return ""
	}
	return strings.Join(keyCells(keys, key), "/") + ": "
}
