package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func newCarbon(a *app) *cobra.Command {
	command := &cobra.Command{Use: "carbon", Short: "CO2e of the fleet's energy"}
	command.AddCommand(newCarbonImport(a))
	parent(command)
	return command
}

func newCarbonImport(a *app) *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   "import -f FILE",
		Short: "Import the CO2e of a kWh by zone and time from CSV",
		Long: `Import intensities of grids. A Grid with the source "imported" uses those of its
zone. What is imported again replaces what was there; of the time that it changes,
carbon is computed again, and nothing else. The columns:

  zone,from,grams_per_kwh,to,estimated,source
  NL,2026-11-23T10:00:00Z,231.4,2026-11-23T11:00:00Z,false,TSO report

Only the first three are needed: without "to" a value holds until the next one.
Times carry their offset; estimated is true or false.`,
		Example: `  accumulus carbon import -f intensity-2026-11.csv
  curl -s https://example.org/nl.csv | accumulus carbon import -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var text []byte
			var err error
			if file == "-" {
				text, err = io.ReadAll(a.in)
			} else {
				text, err = os.ReadFile(file)
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", file, err)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			answer, err := c.ImportIntensities(cmd.Context(), text)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(answer)
			}
			t := &table{columns: append(left("ZONE"), right("VALUES", "NEW OR CHANGED")...)}
			for _, zone := range answer.Zones {
				t.add(zone.Zone, fmt.Sprint(zone.Values), fmt.Sprint(zone.Changed))
			}
			if err := t.write(a.out); err != nil {
				return err
			}
			for _, zone := range answer.Zones {
				if zone.Unused {
					_, _ = fmt.Fprintf(a.errOut, "Warning: no Grid with the source \"imported\" has the zone %s: its values are kept and not used\n", zone.Zone) // nowhere is left to tell
				}
			}
			return nil
		},
	}
	command.Flags().StringVarP(&file, "filename", "f", "", "CSV file, - for standard input")
	_ = command.MarkFlagRequired("filename") // the flag was just added
	a.outputFlag(command, asTable, asJSON)
	return command
}
