package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/spf13/cobra"
)

func newPower(a *app) *cobra.Command {
	command := &cobra.Command{Use: "power", Short: "Power models of the fleet's hardware"}
	list := &cobra.Command{
		Use:   "models",
		Short: "Show which power model each hardware type uses, its points and its error",
		Long: `Show which power model each hardware type uses, its points and its error.

A model is a line between idle and full load, a curve through calibration points
(what was not measured comes from published servers), or one that was learned from
the meter of a box, for the nodes in it; there also one over what the nodes' processors
count of their own energy (rapl), for the minutes that have the counter. Of those that can be made of what is known,
the one with the least error is used; the error is that on what it had not seen.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			answer, err := c.Models(cmd.Context())
			if err != nil {
				return err
			}
			return a.showModels(answer)
		},
	}
	a.outputFlag(list, asTable, asJSON)
	command.AddCommand(list)
	parent(command)
	return command
}

func (a *app) showModels(answer models.Answer) error {
	if a.output == asJSON {
		return a.printJSON(answer)
	}
	if len(answer.Models) == 0 {
		a.printf("No hardware is described. Apply Hardware objects: accumulus apply --help\n")
		return nil
	}
	t := &table{columns: append(left("HARDWARE", "BOX", "MODEL", "SINCE"), right("ERROR", "P95", "IDLE", "10 %", "50 %", "100 %")...)}
	t.columns = append(t.columns, left("CANDIDATES", "WHY")...)
	for _, m := range answer.Models {
		since, off, p95 := "", "", ""
		if m.From != nil {
			since = humanTime(*m.From)
			off, p95 = fmt.Sprintf("%.1f %%", m.ErrorPercent), fmt.Sprintf("%.1f %%", m.P95Percent)
		}
		points := m.Points
		if len(points) == 0 {
			points = m.Measured
		}
		var candidates []string
		for _, c := range m.Candidates {
			candidates = append(candidates, fmt.Sprintf("%s %.1f %%", c.Kind, c.Error.MAPE))
		}
		kind := string(m.Kind)
		if p := m.Processors; p != nil {
			kind = fmt.Sprintf("%s: %.1f W + %.3f × RAPL, else %s", m.Kind, p.BaseWatts, p.Slope, p.Otherwise)
		}
		t.add(m.Hardware, m.Box, kind, since, off, p95, wattsAt(points, 0), wattsAt(points, 10), wattsAt(points, 50), wattsAt(points, 100),
			strings.Join(candidates, ", "), m.Why)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	for _, m := range answer.Models {
		if m.Next != nil {
			a.printf("\nAnother model of %s begins %s.\n", strings.TrimSpace(m.Hardware+" "+m.Box), humanTime(*m.Next))
		}
	}
	for _, c := range answer.Calibrations {
		var points []string
		for _, p := range c.Points {
			points = append(points, fmt.Sprintf("%.0f %%: %.1f W ± %.1f", p.Load, p.Watts, p.SpreadWatts/2))
		}
		a.printf("\nCalibration %d of %s on %s/%s, %s: %s\n", c.ID, c.Hardware, c.Cluster, c.Node, c.At.UTC().Format(time.DateOnly), strings.Join(points, ", "))
	}
	for _, l := range answer.Learning {
		a.printf("\nBox %s, %d windows: %s\n", l.Box, l.Outcome.Lessons, l.Outcome.Why)
		if l.Outcome.Processors != "" {
			a.printf("Box %s: %s\n", l.Box, l.Outcome.Processors)
		}
	}
	return nil
}

func wattsAt(points []models.LevelWatts, load float64) string {
	for _, p := range points {
		if p.Load == load {
			return fmt.Sprintf("%.1f W", p.Watts)
		}
	}
	return ""
}
