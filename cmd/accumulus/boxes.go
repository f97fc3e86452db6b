package main

import (
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

func newBoxes(a *app) *cobra.Command {
	var window string
	command := &cobra.Command{
		Use:   "boxes",
		Short: "Show each box's energy against its electricity meters",
		Long: `Show each box's energy against its electricity meters.

MEASURED is what the meters counted, ATTRIBUTED what namespaces, idle, overhead
and unattributed carry of it, RESIDUAL the difference. PROVISIONAL is the model's
energy of the newest minutes, until the meters have counted them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			answer, err := c.Boxes(cmd.Context(), window)
			if err != nil {
				return err
			}
			return a.showBoxes(answer)
		},
	}
	command.Flags().StringVarP(&window, "window", "w", "1h", "time to sum over")
	a.outputFlag(command, asTable, asJSON, asCSV)
	a.unitsFlag(command)
	return command
}

func (a *app) showBoxes(answer query.BoxAnswer) error {
	if a.output == asJSON {
		return a.printJSON(answer)
	}
	if a.output == asCSV {
		return boxesCSV(answer).writeCSV(a.out)
	}
	if len(answer.Boxes) == 0 {
		a.printf("No box is described. Apply Box, Node and Meter objects: accumulus apply --help\n")
		return nil
	}
	energy := func(e *query.Exact) string {
		switch {
		case e == nil:
			return ""
		case a.units == baseUnits:
			return e.String() + " J"
		}
		return humanEnergy(e.Float())
	}
	t := &table{columns: append(left("BOX", "SITE"), right("MEASURED", "ATTRIBUTED", "IDLE", "OVERHEAD", "RESIDUAL", "PROVISIONAL", "MODELLED", "POWER")...)}
	t.columns = append(t.columns, left("QUALITY")...)
	for _, box := range answer.Boxes {
		var attributed query.Exact
		for _, value := range box.AttributedJoules {
			attributed = attributed.Plus(value)
		}
		idle, overhead := box.AttributedJoules["idle"], box.AttributedJoules["overhead"]
		power := box.MeasuredWatts
		if power == nil {
			power = box.ModelledWatts
		}
		t.add(box.Box, box.Site, energy(box.MeasuredJoules), energy(&attributed), energy(&idle), energy(&overhead), energy(box.ResidualJoules),
			energy(&box.ProvisionalJoules), energy(&box.ModelledJoules), humanWatts(power), box.Quality)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	a.printf("\n%s to %s\n", humanTime(answer.From), humanTime(answer.To))
	return nil
}

// boxesCSV has a line per box and who carries its energy.
func boxesCSV(answer query.BoxAnswer) *table {
	t := &table{columns: left("box", "key", "attributedJoules", "measuredJoules", "residualJoules", "provisionalJoules", "modelledJoules", "quality")}
	text := func(e *query.Exact) string {
		if e == nil {
			return ""
		}
		return e.String()
	}
	for _, box := range answer.Boxes {
		t.add(box.Box, "", "", text(box.MeasuredJoules), text(box.ResidualJoules), box.ProvisionalJoules.String(), box.ModelledJoules.String(), box.Quality)
		keys := make([]string, 0, len(box.AttributedJoules))
		for key := range box.AttributedJoules {
			keys = append(keys, key)
		}
		slices.SortFunc(keys, strings.Compare)
		for _, key := range keys {
			t.add(box.Box, key, box.AttributedJoules[key].String(), "", "", "", "", box.Quality)
		}
	}
	return t
}
