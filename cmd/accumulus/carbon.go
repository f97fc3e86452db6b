package main

import (
	"fmt"
	"io"
	"os"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

func newCarbon(a *app) *cobra.Command {
	var q question
	command := &cobra.Command{
		Use:   "carbon",
		Short: "Show the CO2e of the fleet's energy, or import intensities",
		Long: `Show the CO2e of a window. LOCATION is by the grid's intensity and of the part KNOWN
of the energy; MARKET is by contract and of the part COVERED; EMBODIED is a share of
the hardware's making; AVOIDED, of boxes alone, what useful heat avoided against its
reference. None is part of another, and none is subtracted from another.

` + windowHelp,
		Example: `  accumulus carbon --window lastmonth --aggregate customer
  accumulus carbon --window 24h --aggregate box
  accumulus carbon --window lastmonth --aggregate box --days
  accumulus carbon import -f intensity-2026-11.csv`,
		RunE: asking(a, &q, (*client.Client).Carbon, func(answer query.CarbonAnswer) error { return a.showCarbon(answer, q.days) }),
	}
	q.flags(a, command, "energy, location, market, embodied, avoided", "cluster", "namespace")
	q.daysFlag("what useful heat avoided,")
	command.AddCommand(newCarbonImport(a))
	suggest(command)
	return command
}

func (a *app) showCarbon(answer query.CarbonAnswer, days bool) error {
	switch {
	case a.output == asJSON:
		return a.printJSON(answer)
	case a.output == asCSV && days:
		return a.daysTable(answer.Days).writeCSV(a.out)
	case a.output == asCSV:
		return usage.WriteFiguresCSV(a.out, answer.Aggregate, answer.Rows)
	}
	if err := writeFigures(a, a.carbonTable(answer.Rows), answer.Figures.Figures, answer.Incomplete); err != nil {
		return err
	}
	for _, name := range answer.Sources {
		a.printf("Intensity: %s\n", name)
	}
	for _, name := range answer.References {
		a.printf("Avoided against: %s\n", name)
	}
	return a.showDays(answer.Days, days)
}

func (a *app) carbonTable(rows []usage.CarbonRow) figureTable {
	total := usage.TotalCarbon(rows)
	avoided := total.AvoidedGrams != nil
	t := figureTable{columns: right(a.titles("J", "ENERGY")...)}
	t.columns = append(append(t.columns, right(a.titles("g", "LOCATION")...)...), right("KNOWN")...)
	t.columns = append(append(t.columns, right(a.titles("g", "MARKET")...)...), right("COVERED")...)
	t.columns = append(t.columns, right(a.titles("g", "EMBODIED")...)...)
	if avoided {
		t.columns = append(t.columns, right(a.titles("g", "AVOIDED")...)...)
	}
	t.columns = append(t.columns, left("INTENSITY IS", "ENERGY IS")...)
	cells := func(r usage.CarbonRow, intensity, quality string) []string {
		list := []string{a.joules(r.EnergyJoules), a.grams(r.LocationGrams), part(r.LocationEnergyJoules, r.EnergyJoules), a.grams(r.MarketGrams),
			part(r.MarketEnergyJoules, r.EnergyJoules), a.grams(r.EmbodiedGrams)}
		if avoided {
			apart := ""
			if r.AvoidedGrams != nil {
				apart = a.grams(*r.AvoidedGrams)
			}
			list = append(list, apart)
		}
		return append(list, intensity, quality)
	}
	for _, r := range rows {
		t.add(r.Key, r.From, r.Provisional, cells(r, r.LocationQuality, starred(r.Quality, r.Provisional)))
	}
	t.total = cells(total, " ", " ")
	return t
}

// part is how much of the energy a figure is of.
func part(of, energy usage.Exact) string {
	if !of.Known() || !energy.Known() || energy.Float() == 0 {
		return ""
	}
	return percent(of.Float() / energy.Float())
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
