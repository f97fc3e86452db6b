package main

import (
	"net/url"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/spf13/cobra"
)

// keysAsked are the flags of a question by keys and filters alone.
type keysAsked struct {
	aggregate, filter, clusters []string
	json                        bool
}

func (k *keysAsked) flags(a *app, command *cobra.Command, by ...string) {
	flags := command.Flags()
	flags.StringSliceVarP(&k.aggregate, "aggregate", "a", by, "keys to sum by; \"\" for one row")
	flags.StringArrayVarP(&k.filter, "filter", "f", nil, "keep only key=value[,value]; * stands for anything; may be repeated, all must hold")
	flags.StringSliceVar(&k.clusters, "cluster", nil, "only these clusters: short for --filter cluster=NAME")
	flags.BoolVar(&k.json, "json", false, "the same as -o json")
	a.outputFlag(command, asTable, asJSON)
}

func (k *keysAsked) values() url.Values {
	values := url.Values{"filter": k.filter}
	if len(k.clusters) > 0 {
		values.Add("filter", "cluster="+strings.Join(k.clusters, ","))
	}
	if keys := strings.Join(k.aggregate, ","); keys != "" {
		values.Set("aggregate", keys)
	}
	return values
}

func newRates(a *app) *cobra.Command {
	var k keysAsked
	command := &cobra.Command{
		Use: "rates", Short: "Show what is used and spent by the hour now", Args: cobra.NoArgs,
		Long: `Show what is used and spent over the last settled hour, and beside it over the last
settled day.

Keys: ` + keyList() + `, label:NAME.`,
		Example: `  accumulus rates
  accumulus rates -a cluster,namespace -f customer=acme --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			rates, err := c.Rates(cmd.Context(), k.values())
			if err != nil {
				return err
			}
			if k.json || a.output == asJSON {
				return a.printJSON(rates)
			}
			return a.showRates(rates)
		},
	}
	k.flags(a, command, "customer")
	return command
}

func (a *app) showRates(rates ahead.Rates) error {
	t := &table{columns: append(keyColumns(rates.Aggregate), right("CORES", "REQUESTED", "MEMORY", "POWER", "COST/h", "LAST DAY/h", "CO2e g/h")...)}
	for _, row := range rates.Rows {
		grams := ""
		if row.Hour.GramsPerHour != nil {
			grams = number(*row.Hour.GramsPerHour)
		}
		t.add(append(keyCells(rates.Aggregate, row.Key), number(row.Hour.CPUCores), number(row.Hour.CPURequestCores), humanMemory(row.Hour.MemoryBytes),
			humanWatts(&row.Hour.Watts), moneys(row.Hour.CostPerHour), moneys(row.Day.CostPerHour), grams)...)
	}
	if err := t.writeOr(a.out, "Nothing was metered in the last settled hour and day."); err != nil {
		return err
	}
	a.printf("\nThe hour that ends at %s\n", humanTime(rates.Settled))
	return nil
}

func newForecast(a *app) *cobra.Command {
	var k keysAsked
	var until, zone, amount string
	command := &cobra.Command{
		Use: "forecast", Short: "Show what will have been used and spent by the end of the month", Args: cobra.NoArgs,
		Long: `Show what will have been used and spent by the end of the month, or another moment:
what there was so far, and what is expected by then. P10 to P90 is meant to hold the
truth in 80 of 100 cases; HELD is the share of the back-test in which it did, on this
very series, with what was known each time. docs/forecasts.md says how.

Keys: ` + keyList() + `, label:NAME.`,
		Example: `  accumulus forecast
  accumulus forecast -a namespace -f customer=acme --until 7d
  accumulus forecast -a customer --amount "500 EUR"
  accumulus forecast job nightly-28912345
  accumulus forecast -a cluster --until 2026-12-24T00:00:00Z --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			values := k.values()
			values.Set("until", until)
			for name, value := range map[string]string{"zone": zone, "amount": amount} {
				if value != "" {
					values.Set(name, value)
				}
			}
			forecasts, err := c.Forecast(cmd.Context(), values)
			if err != nil {
				return err
			}
			if k.json || a.output == asJSON {
				return a.printJSON(forecasts)
			}
			return a.showForecasts(forecasts)
		},
	}
	k.flags(a, command, "customer")
	command.Flags().StringVar(&until, "until", "month", "month, a length such as 7d, or an RFC 3339 time")
	command.Flags().StringVar(&zone, "zone", "", "IANA time zone of the month; default the customer's, else UTC")
	command.Flags().StringVar(&amount, "amount", "", "say also when this much will have been spent, such as \"500 EUR\"")
	command.AddCommand(newForecastJob(a))
	return command
}

func (a *app) showForecasts(f ahead.Forecasts) error {
	t := &table{columns: append(keyColumns(f.Aggregate), append(left("OF", "UNTIL"), append(right("SO FAR", "P10", "P50", "P90", "HELD"), left("MODEL")...)...)...)}
	for _, row := range f.Rows {
		add := func(of string, sofar, low, middle, high string, b ahead.Basis) {
			held := ""
			if b.MeasuredCoverage != nil {
				held = percent(*b.MeasuredCoverage)
			}
			t.add(append(keyCells(f.Aggregate, row.Key), of, humanTime(row.To), sofar, low, middle, high, held, string(b.Model))...)
		}
		for _, cost := range row.Costs {
			money := func(amount *string) string {
				if amount == nil {
					return ""
				}
				return humanMoney(*amount, cost.Currency)
			}
			add("cost", money(&cost.SoFar), money(cost.P10), money(&cost.P50), money(cost.P90), cost.Basis)
		}
		for _, r := range row.Resources {
			name, shown := shownResource(r.Resource)
			text := func(v *usage.Exact) string {
				if v == nil {
					return ""
				}
				return shown(v.Float())
			}
			add(name, text(&r.SoFar), text(r.P10), text(&r.P50), text(r.P90), r.Basis)
		}
	}
	if err := t.writeOr(a.out, "Nothing was metered that a forecast could go on from."); err != nil {
		return err
	}
	a.printf("\nFrom %s on; so far until then\n", humanTime(f.Settled))
	for _, row := range f.Rows {
		for _, cost := range row.Costs {
			if cost.SpentBy != nil {
				a.printf("%sThe amount in %s is spent: %s\n", named(f.Aggregate, row.Key), cost.Currency, spentText(*cost.SpentBy))
			}
		}
	}
	for _, assumption := range f.Assumptions {
		a.printf("Assumed: %s\n", assumption)
	}
	return nil
}

// shownResource is a resource's name and figure for people.
func shownResource(name string) (string, func(float64) string) {
	switch name {
	case "cpuCoreSeconds":
		return "CPU core-h", coreHours
	case "cpuRequestCoreSeconds":
		return "CPU requested core-h", coreHours
	case "memoryByteSeconds":
		return "memory GiB-h", gibHours
	case "memoryRequestByteSeconds":
		return "memory requested GiB-h", gibHours
	case "energyJoules":
		return "energy", humanEnergy
	case "co2eGrams":
		return "CO2e g", number
	case "networkReceiveBytes":
		return "received", humanBytes
	case "networkTransmitBytes":
		return "sent", humanBytes
	}
	return strings.TrimSuffix(name, "ByteSeconds") + " GiB-h", gibHours
}

func coreHours(coreSeconds float64) string { return number(coreSeconds / 3600) }
func gibHours(byteSeconds float64) string  { return number(byteSeconds / (1 << 30) / 3600) }

func keyColumns(keys []usage.Key) []column {
	var columns []column
	for _, key := range keys {
		columns = append(columns, left(strings.ToUpper(string(key)))...)
	}
	return columns
}

func keyCells(keys []usage.Key, row map[string]string) []string {
	var cells []string
	for _, key := range keys {
		cells = append(cells, row[string(key)])
	}
	return cells
}

func moneys(all []usage.Money) string {
	var texts []string
	for _, money := range all {
		texts = append(texts, humanMoney(money.Cost, money.Currency))
	}
	return strings.Join(texts, " + ")
}
