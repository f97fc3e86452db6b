package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/spf13/cobra"
)

func newStatus(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "status",
		Short: "Show how the leader and its clusters are, and why data are missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			overview, err := c.Overview(cmd.Context())
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(overview)
			}
			return a.showStatus(overview)
		},
	}
	a.outputFlag(command, asTable, asJSON)
	return command
}

func (a *app) showStatus(o status.Overview) error {
	running := "running"
	if !o.Leader.Running {
		running = "loops stopped"
	}
	tick := "no tick yet"
	if o.Leader.LastTick != nil {
		tick = "last tick " + humanSpan(o.Now.Sub(*o.Leader.LastTick)) + " ago"
	}
	a.printf("Leader %s at %s: %s, %s, %s of work due\n\n", o.Leader.Version, a.server, running, tick, plural.Of(o.Leader.DueWork, "unit", "units"))
	if len(o.Clusters) > 0 {
		if err := clusterTable(o).write(a.out); err != nil {
			return err
		}
		a.printf("\n")
	}
	a.showProblems(o)
	return nil
}

// showProblems prints each reason why data are missing and what to do.
func (a *app) showProblems(o status.Overview) {
	type problem struct {
		of string
		status.Problem
	}
	var all []problem
	for _, p := range o.Leader.Problems {
		all = append(all, problem{"leader", p})
	}
	for _, cluster := range o.Clusters {
		for _, p := range cluster.Problems {
			all = append(all, problem{cluster.Name, p})
		}
	}
	if len(all) == 0 {
		a.printf("Nothing is wrong: every cluster's newest minute is here.\n")
		return
	}
	a.printf("Why data may be missing:\n")
	for _, p := range all {
		since := ""
		if p.Since != nil {
			since = " (for " + humanSpan(o.Now.Sub(*p.Since)) + ")"
		}
		a.printf("  %s: %s: %s%s\n", p.of, p.Code, p.Message, since)
		if p.Hint != "" {
			a.printf("      %s\n", p.Hint)
		}
	}
}

// clusterTable has a line per cluster.
func clusterTable(o status.Overview) *table {
	t := &table{columns: append(left("CLUSTER", "STATE"), right("NODES", "LAG")...)}
	t.columns = append(t.columns, left("SETTLED", "HISTORY", "LAST ERROR")...)
	for _, c := range o.Clusters {
		settled, lag, history, failure := nextWindow(c, o.Now), "", "", ""
		if c.Settled != nil {
			settled, lag = humanTime(*c.Settled), humanSpan(o.Now.Sub(*c.Settled))
		}
		if c.History != nil && c.History.Done.Before(c.History.To) {
			history = percent(c.History.Fraction())
		}
		if c.LastError != nil {
			failure = firstLine(c.LastError.Message)
			if c.NextAttempt != nil && c.NextAttempt.After(o.Now) {
				failure += " (again in " + humanSpan(c.NextAttempt.Sub(o.Now)) + ")"
			}
		}
		t.add(c.Name, string(c.State), fmt.Sprint(c.Nodes), lag, settled, history, failure)
	}
	return t
}

// nextWindow says when a cluster without a settled window gets its first.
func nextWindow(c status.Cluster, now time.Time) string {
	if c.NextWindow == nil {
		return "no window yet"
	}
	if wait := c.NextWindow.Sub(now); wait > 0 {
		return "first window in " + humanSpan(wait)
	}
	return "first window is due"
}

func firstLine(text string) string {
	line, _, more := strings.Cut(text, "\n")
	runes := []rune(line)
	if len(runes) > 80 {
		return string(runes[:79]) + "…"
	}
	if more {
		return line + " …"
	}
	return line
}
