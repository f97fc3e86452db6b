package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/spf13/cobra"
)

func newEstimate(a *app) *cobra.Command {
	var file, cluster string
	var duration time.Duration
	var json bool
	command := &cobra.Command{
		Use: "estimate -f FILE", Short: "Show what a run of a job will take and cost", Args: cobra.NoArgs,
		Long: `Show what a run of the Job, CronJob or Pod of a manifest will take and cost: by the runs
of the workload that have ended, by hardware type, and for each hour of the coming day in
which it may begin. Where none has ended, by its requests and --duration, or the most
that its activeDeadlineSeconds allows. BY says what a hardware type's figures rest on:
runs on it, the median run rated at its prices and power, or requests.
docs/forecasts.md says how.`,
		Example: `  accumulus estimate -f job.yaml
  kubectl get cronjob nightly -o yaml | accumulus estimate -f - --cluster edge-a --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := a.readFiles([]string{file})
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			values := url.Values{}
			if cluster != "" {
				values.Set("cluster", cluster)
			}
			if duration != 0 {
				values.Set("duration", duration.String())
			}
			e, err := c.Estimate(cmd.Context(), text, values)
			if err != nil {
				return err
			}
			if json || a.output == asJSON {
				return a.printJSON(e)
			}
			return a.showEstimate(e)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&file, "filename", "f", "", "manifest of a Job, CronJob or Pod, - for standard input")
	flags.StringVar(&cluster, "cluster", "", "only runs in this cluster")
	flags.DurationVar(&duration, "duration", 0, "how long a run takes, where no earlier run is known")
	flags.BoolVar(&json, "json", false, "the same as -o json")
	_ = command.MarkFlagRequired("filename") // the flag was just added
	a.outputFlag(command, asTable, asJSON)
	return command
}

// told is a figure for people, "" where it is unknown.
func told(v *float64, as func(float64) string) string {
	if v == nil {
		return ""
	}
	return as(*v)
}

func seconds(v float64) string { return humanSpan(time.Duration(v * float64(time.Second))) }

func (a *app) showEstimate(e ahead.Estimate) error {
	switch {
	case e.Runs > 0:
		a.printf("%s: by %s (%d); takes %s, P10 %s, P90 %s", e.Workload, e.Basis, e.Runs, orDash(told(e.Seconds.P50, seconds)), orDash(told(e.Seconds.P10, seconds)), orDash(told(e.Seconds.P90, seconds)))
	case e.Basis == ahead.ByRequests:
		a.printf("%s: by requests, for %s", e.Workload, orDash(told(e.Seconds.P50, seconds)))
	default:
		a.printf("%s: nothing is known of how long it takes", e.Workload)
	}
	a.printf("\n\n")
	t := &table{columns: append(append(left("HARDWARE", "BY"), right("RUNS", "TIME", "ENERGY", "CO2e g", "COST P10", "P50", "P90", "CHEAPEST START", "COSTS", "GREENEST START")...), right("CO2e g")...)}
	for _, h := range e.Hardware {
		money := func(v float64) string { return humanMoney(fmt.Sprintf("%.9f", v), h.Currency) }
		start := func(s *ahead.Start, of func(ahead.Start) *float64, as func(float64) string) (string, string) {
			if s == nil {
				return "", ""
			}
			return s.At.UTC().Format("Mon 15:04Z"), told(of(*s), as) // of the coming day
		}
		cheapest, costs := start(h.Cheapest, func(s ahead.Start) *float64 { return s.Cost }, money)
		greenest, grams := start(h.Greenest, func(s ahead.Start) *float64 { return s.Grams }, number)
		t.add(h.Hardware, h.Basis, fmt.Sprint(h.Runs), told(h.Seconds.P50, seconds), told(h.Joules.P50, humanEnergy), told(h.Grams.P50, number),
			told(h.Cost.P10, money), told(h.Cost.P50, money), told(h.Cost.P90, money), cheapest, costs, greenest, grams)
	}
	if len(e.Hardware) > 0 {
		if err := t.withoutEmpty().write(a.out); err != nil {
			return err
		}
		a.printf("\n")
	}
	if e.Cheapest != nil {
		a.printf("The cheapest start of the coming day: %s\n", humanTime(*e.Cheapest))
	}
	if e.Greenest != nil {
		a.printf("The greenest start of the coming day: %s\n", humanTime(*e.Greenest))
	}
	for _, note := range e.Notes {
		a.printf("Note: %s\n", note)
	}
	return nil
}

func newReport(a *app) *cobra.Command {
	command := &cobra.Command{Use: "report", Short: "Reports of what has finished", Long: "Reports of what has finished: of runs of jobs."}
	command.AddCommand(newReportRun(a))
	parent(command)
	return command
}

func newReportRun(a *app) *cobra.Command {
	var q ahead.ReportQuestion
	var json bool
	command := &cobra.Command{
		Use: "run [NAME]", Short: "Show what finished runs used and cost", Args: cobra.MaximumNArgs(1),
		Long: `Show what the finished runs of a pod, Job or CronJob, or of all pods with a label, used
and cost: time, resources, energy, CO2e, cost, used over requested, and the cost of the
runs that failed.`,
		Example: `  accumulus report run nightly --window 30d
  accumulus report run --group experiment=42 -o html > report.html`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (q.Group != "") {
				return errors.New("name a run, or a group as --group LABEL=VALUE")
			}
			values := url.Values{}
			if len(args) == 1 {
				values.Set("name", args[0])
			}
			for name, value := range map[string]string{"group": q.Group, "namespace": q.Namespace, "cluster": q.Cluster, "window": q.Window} {
				if value != "" {
					values.Set(name, value)
				}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			report, err := c.RunReport(cmd.Context(), values)
			switch {
			case err != nil:
				return err
			case json || a.output == asJSON:
				return a.printJSON(report)
			case a.output == asHTML:
				return report.WriteHTML(a.out)
			}
			return report.WriteText(a.out)
		},
	}
	flags := command.Flags()
	flags.StringVar(&q.Group, "group", "", "all pods with a label: LABEL=VALUE")
	flags.StringVarP(&q.Namespace, "namespace", "n", "", "only in this namespace")
	flags.StringVar(&q.Cluster, "cluster", "", "only in this cluster")
	flags.StringVarP(&q.Window, "window", "w", "7d", "in which the runs ended")
	flags.BoolVar(&json, "json", false, "the same as -o json")
	a.outputFlag(command, asTable, asJSON, asHTML)
	return command
}
