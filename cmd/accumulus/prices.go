package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/prices"
	"github.com/spf13/cobra"
)

func newPrices(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "prices",
		Short: "Price lists: apply, show, simulate; dynamic prices: push, ahead",
		Long: `Price lists say what things cost, for whom and when. docs/prices.md has an example of
each kind of price. A version of a list is not edited after its start: a changed list
holds from now on, or from its validFrom, and who changed it and why is recorded.`,
		Example: `  accumulus prices simulate -f prices.yaml --period 2026-10
  accumulus prices apply -f prices.yaml --reason "prices of 2027"
  accumulus prices show standard
  accumulus prices push spot-nl -f tomorrow.csv
  accumulus prices ahead`,
	}
	apply := &cobra.Command{Use: "apply -f FILE", Short: "Apply price lists, exchange rates and price series; shows what would change and asks first",
		Long: "Apply objects as `accumulus apply` does, with a reason.\n\n" + applyHelp,
		Example: `  accumulus prices apply -f prices.yaml --reason "prices of 2027"
  accumulus prices apply -f prices.yaml --correct --reason "a slip of the decimal point"`}
	a.applies(apply)
	command.AddCommand(apply, newPricesList(a), newPricesShow(a), newPricesSimulate(a), newPricesPush(a), newPricesAhead(a), newPricesImport(a))
	parent(command)
	return command
}

// lists are the price lists that hold at a moment, "" is now.
func (a *app) lists(cmd *cobra.Command, name, at string) ([]fleet.Object, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	values := url.Values{}
	if at != "" {
		values.Set("at", at)
	}
	return c.Objects(cmd.Context(), "pricelist", name, values)
}

func newPricesList(a *app) *cobra.Command {
	var at string
	command := &cobra.Command{
		Use: "list", Short: "Show the price lists that hold", Args: cobra.NoArgs,
		Example: "  accumulus prices list --at 2026-10-01T00:00:00Z",
		RunE: func(cmd *cobra.Command, _ []string) error {
			objects, err := a.lists(cmd, "", at)
			if err != nil {
				return err
			}
			if a.output != asTable {
				return a.showObjects(objects, "pricelist")
			}
			t := &table{columns: append(left("NAME", "CURRENCY", "FOR", "SINCE", "KINDS"), right("RATES")...)}
			for _, o := range objects {
				list, ok := o.Spec.(fleet.PriceList)
				if !ok {
					continue
				}
				since := ""
				if !o.ValidFrom.IsZero() {
					since = humanTime(o.ValidFrom)
				}
				t.add(o.Name(), list.Currency, boundTo(list), since, strings.Join(kindsOf(list), ","), fmt.Sprint(len(list.Rates)))
			}
			return t.writeOr(a.out, "No price list holds. Apply one: accumulus prices apply -f prices.yaml; docs/prices.md has examples")
		},
	}
	command.Flags().StringVar(&at, "at", "", "the moment, RFC 3339; default now")
	a.outputFlag(command, asTable, asJSON, asYAML)
	return command
}

func boundTo(list fleet.PriceList) string {
	bound := append(slices.Clone(list.Customers), list.Clusters...)
	if len(bound) == 0 {
		return "all others"
	}
	return strings.Join(bound, ",")
}

// kindsOf are the kinds of prices that a list has.
func kindsOf(list fleet.PriceList) []string {
	has := make(map[string]bool)
	for _, r := range list.Rates {
		has["tiers"] = has["tiers"] || r.Tiers != nil
		has["dynamic"] = has["dynamic"] || r.Dynamic != nil
		has["match"] = has["match"] || r.Match != nil
		has["fees"] = has["fees"] || r.Per != ""
		has["time-of-use"] = has["time-of-use"] || len(r.Slots) > 0
	}
	has["discounts"], has["minimum"] = len(list.Discounts) > 0, list.Minimum != ""
	var kinds []string
	for kind, there := range has {
		if there {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

func newPricesShow(a *app) *cobra.Command {
	var at string
	command := &cobra.Command{
		Use: "show NAME", Short: "Show a price list, and who changed it and why", Args: cobra.ExactArgs(1),
		Example: "  accumulus prices show standard --at 2026-10-01T00:00:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := a.lists(cmd, args[0], at)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.showObjects(objects, "pricelist")
			}
			text, err := fleet.Encode(objects)
			if err != nil {
				return err
			}
			a.printf("%s", text)
			if a.output == asYAML {
				return nil
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			history, err := c.PriceHistory(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a.printf("\n")
			t := &table{columns: left("CHANGED", "BY", "WHAT", "WHY")}
			for _, entry := range history.Items {
				t.add(humanTime(entry.At), entry.By, entry.Action, entry.Reason)
			}
			return t.write(a.out)
		},
	}
	command.Flags().StringVar(&at, "at", "", "the moment, RFC 3339; default now")
	a.outputFlag(command, asTable, asJSON, asYAML)
	return command
}

func newPricesSimulate(a *app) *cobra.Command {
	var files []string
	var period string
	var asText bool
	command := &cobra.Command{
		Use: "simulate -f FILE --period 2026-10", Short: "Show what a period would have cost with other price lists; books nothing", Args: cobra.NoArgs,
		Long: `Rate a period twice: at the prices that held, and with the lists of the file laid over
them for all of the period, whatever their validity. Tiers, fees and minimum charges
count. PROFIT is revenue less the operator's cost, of the lines whose cost is known; a
star says that some line has none.`,
		Example: "  accumulus prices simulate -f prices.yaml --period 2026-10 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := a.readFiles(files)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			simulation, err := c.SimulatePrices(cmd.Context(), period, text)
			if err != nil {
				return err
			}
			if asText || a.output == asJSON {
				return a.printJSON(simulation)
			}
			return a.showSimulation(simulation)
		},
	}
	flags := command.Flags()
	flags.StringArrayVarP(&files, "filename", "f", nil, "file with price lists, - for standard input; may be repeated")
	flags.StringVar(&period, "period", "", "a month such as 2026-10 (in UTC), or a window such as lastmonth")
	flags.BoolVar(&asText, "json", false, "the same as -o json")
	_ = command.MarkFlagRequired("filename") // the flags were just added
	_ = command.MarkFlagRequired("period")
	a.outputFlag(command, asTable, asJSON)
	return command
}

func (a *app) showSimulation(s prices.Simulation) error {
	t := &table{columns: append(left("CUSTOMER"), append(right("BEFORE", "AFTER", "CHANGE"), append(left("CURRENCY"), right("PROFIT BEFORE", "PROFIT AFTER")...)...)...)}
	add := func(name string, x prices.Amounts) {
		star := ""
		if x.Partial {
			star = "*"
		}
		t.add(name, x.Before, x.After, x.Change, x.Currency, x.ProfitBefore+star, x.ProfitAfter+star)
	}
	for _, x := range s.Customers {
		add(x.Customer, x)
	}
	for _, x := range s.Totals {
		add("all", x)
	}
	return t.writeOr(a.out, "Nothing of a customer was metered in the period.")
}

func newPricesPush(a *app) *cobra.Command {
	var file string
	command := &cobra.Command{
		Use: "push SERIES -f FILE", Short: "Send the slots of a dynamic price", Args: cobra.ExactArgs(1),
		Long: `Send the slots of a dynamic price, which rates name as dynamic.series. CSV:

  from,to,price
  2026-11-03T12:00:00Z,2026-11-03T13:00:00Z,0.21

or JSON: {"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"0.21"}]}.
Slots are whole quarters of an hour; a price may be below 0. A slot that is there
already gets the new price, and cost that was computed with the old one is computed
again.`,
		Example: "  accumulus prices push spot-nl -f tomorrow.csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readFiles([]string{file})
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			pushed, err := c.PushPrices(cmd.Context(), args[0], text)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(pushed)
			}
			a.printf("%s: %d slots, %d quarters new or changed\n", pushed.Series, pushed.Slots, pushed.Changed)
			if pushed.Unused {
				_, _ = fmt.Fprintf(a.errOut, "Warning: no price list names the series %s: its prices are kept and not used\n", pushed.Series) // nowhere is left to tell
			}
			return nil
		},
	}
	command.Flags().StringVarP(&file, "filename", "f", "", "CSV or JSON file, - for standard input")
	_ = command.MarkFlagRequired("filename") // the flag was just added
	a.outputFlag(command, asTable, asJSON)
	return command
}

func newPricesAhead(a *app) *cobra.Command {
	var hours int
	var customer string
	command := &cobra.Command{
		Use: "ahead", Short: "Show what is known of the prices and the CO2e of the coming hours", Args: cobra.NoArgs,
		Example: "  accumulus prices ahead --hours 48\n  accumulus prices ahead --customer acme",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			ahead, err := c.PricesAhead(cmd.Context(), hours, customer)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(ahead)
			}
			t := &table{columns: append(left("OF", "FROM", "TO"), right("PRICE OR SLOT")...)}
			for _, series := range ahead.Series {
				for _, slot := range series.Slots {
					t.add(series.Series, humanTime(slot.From), humanTime(slot.To), slot.Price)
				}
			}
			for _, tariff := range ahead.TimeOfUse {
				for _, slot := range tariff.Slots {
					t.add(tariff.List, humanTime(slot.From), humanTime(slot.To), slot.Slot)
				}
			}
			for _, grid := range ahead.Carbon {
				for _, slot := range grid.Slots {
					t.add("grid "+grid.Grid, humanTime(slot.From), humanTime(slot.To), slot.GramsPerKWh.String()+" g/kWh ("+slot.Basis+")")
				}
			}
			for _, charged := range ahead.Prices {
				for _, slot := range charged.Slots {
					t.add(charged.Cluster+" "+charged.Resource, humanTime(slot.From), humanTime(slot.To), slot.Price+" "+charged.Currency+"/"+charged.Unit)
				}
			}
			return t.writeOr(a.out, "No price that changes by the hour is known: no list has slots or dynamic prices, and no grid is described")
		},
	}
	command.Flags().IntVar(&hours, "hours", 24, "how far ahead")
	command.Flags().StringVar(&customer, "customer", "", "with what this customer is charged")
	a.outputFlag(command, asTable, asJSON)
	return command
}

func newPricesImport(a *app) *cobra.Command {
	var name, currency string
	command := &cobra.Command{
		Use: "import-opencost FILE.csv", Short: "Make a price list of OpenCost's custom pricing CSV; prints it", Args: cobra.ExactArgs(1),
		Long: `Print the price list that says what OpenCost's CSV of custom pricing says (EndTimestamp,
InstanceID, Region, AssetClass, InstanceIDField, InstanceType, MarketPriceHourly, Version):
nodes as node_hours of their hardware, pv as volume_claimed of their class, gpu as
extended:nvidia.com/gpu. Nothing is sent: look at it, then apply it.`,
		Example: "  accumulus prices import-opencost prices.csv --currency EUR | accumulus prices apply -f - --yes --reason \"from OpenCost\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readFiles(args)
			if err != nil {
				return err
			}
			imported, err := prices.ImportOpenCost(text, name, currency)
			if err != nil {
				return err
			}
			out, err := fleet.Encode([]fleet.Object{imported.Object})
			if err != nil {
				return err
			}
			a.printf("%s", out)
			for _, skipped := range imported.Skipped {
				_, _ = fmt.Fprintf(a.errOut, "Skipped %s\n", skipped) // nowhere is left to tell
			}
			if len(imported.Hardware) > 0 {
				_, _ = fmt.Fprintf(a.errOut, "Needs objects of kind Hardware named %s, which the nodes name\n", strings.Join(imported.Hardware, ", ")) // nowhere is left to tell
			}
			return nil
		},
	}
	command.Flags().StringVar(&name, "name", "opencost", "the list's name")
	command.Flags().StringVar(&currency, "currency", "USD", "ISO 4217: OpenCost's file has none")
	return command
}
