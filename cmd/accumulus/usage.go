package main

import (
	"math/big"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

func newUsage(a *app) *cobra.Command {
	var q question
	command := &cobra.Command{
		Use:   "usage",
		Short: "Show what was used, its energy and its cost",
		Long: `Show what was used in a window, its energy and its cost.

` + windowHelp + `

Keys: ` + keyList() + `, label:NAME.`,
		Example: `  accumulus usage --window 1h --aggregate cluster,namespace
  accumulus usage --cluster ams-03 --aggregate namespace,workload
  accumulus usage --window 24h --aggregate customer --sort -cost
  accumulus usage --window today --aggregate label:team --filter cluster=edge-a
  accumulus usage --window 24h --aggregate namespace,claim,storageClass --sort -volumeClaimed
  accumulus usage --window 24h --step 1h --aggregate namespace --filter 'namespace=shop*' -o csv`,
		Args: cobra.NoArgs,
		RunE: asking(a, &q, (*client.Client).Usage, func(answer query.Answer) error {
			ask := "accumulus status"
			if len(q.clusters) == 1 { // one that the leader does not know is told there
				ask = "accumulus cluster status " + q.clusters[0]
			}
			return a.showUsage(answer, q.step != "", ask)
		}),
	}
	q.flags(a, command, "cpu, memory, networkReceive, networkTransmit, ephemeral, volumeClaimed, volumeUsed, energy, cost", "cluster", "namespace")
	return command
}

func keyList() string {
	names := make([]string, len(query.Keys))
	for i, key := range query.Keys {
		names[i] = string(key)
	}
	return strings.Join(names, ", ")
}

// showUsage prints an answer; ask is the command that says why there is nothing.
func (a *app) showUsage(answer query.Answer, steps bool, ask string) error {
	switch a.output {
	case asJSON:
		return a.printJSON(answer)
	case asCSV:
		return usage.WriteCSV(a.out, answer.Aggregate, answer.Rows)
	}
	if len(answer.Rows) == 0 {
		a.showNothing(answer.From, answer.To, ask, answer.Incomplete)
		return nil
	}
	t := usageTable(answer, a.units == baseUnits, steps)
	if err := t.write(a.out); err != nil {
		return err
	}
	open := slices.ContainsFunc(answer.Rows, func(row query.Row) bool { return row.Provisional })
	a.showWindow(answer.From, answer.To, open, answer.Total-len(answer.Rows))
	a.showExcluded(answer.Rows)
	a.showIncomplete(answer.Incomplete)
	for _, rule := range answer.NotApplied {
		a.printf("Cost without: %s\n", rule)
	}
	return nil
}

// showExcluded says what is not in the cost because a price list excludes it.
func (a *app) showExcluded(rows []query.Row) {
	sums := make(map[string]*big.Rat)
	for _, row := range rows {
		for _, money := range row.Excluded {
			if sums[money.Currency] == nil {
				sums[money.Currency] = new(big.Rat)
			}
			if amount, ok := new(big.Rat).SetString(money.Cost); ok {
				sums[money.Currency].Add(sums[money.Currency], amount)
			}
		}
	}
	for _, money := range usage.Moneys(sums) {
		a.printf("Not in the cost: %s of namespaces that a price list excludes\n", humanMoney(money.Cost, money.Currency))
	}
}

// showIncomplete names clusters of which something is missing in the window.
func (a *app) showIncomplete(clusters []query.ClusterCompleteness) {
	const most = 5
	for i, c := range clusters {
		if i == most {
			a.printf("Incomplete: %d more clusters; -o json has all\n", len(clusters)-most)
			break
		}
		a.printf("Incomplete: %s; `accumulus cluster status %s` says why\n", c, c.Cluster)
	}
}

// usageTable is for people: in human units by default.
func usageTable(answer query.Answer, base, steps bool) *table {
	t := &table{}
	for _, key := range answer.Aggregate {
		t.columns = append(t.columns, left(strings.ToUpper(string(key)))...)
	}
	if steps {
		t.columns = append(t.columns, left("FROM")...)
	}
	if base {
		t.columns = append(t.columns, right("CPU core-s", "MEMORY B-s", "RECEIVED B", "SENT B", "ENERGY J", "COST", "COVERAGE")...)
	} else {
		t.columns = append(t.columns, right("CPU core-h", "MEMORY GiB-h", "RECEIVED", "SENT", "ENERGY", "COST", "COVERAGE")...)
	}
	t.columns = append(t.columns, left("ENERGY IS")...)
	storage := storageColumns(answer)
	t.columns = append(t.columns, right(storage.titles(base)...)...)
	for _, row := range answer.Rows {
		var cells []string
		for _, key := range answer.Aggregate {
			cells = append(cells, row.Key[string(key)])
		}
		if steps {
			cells = append(cells, humanTime(row.From))
		}
		quality := row.Quality
		switch volumes := row.EnergyJoules.Float() == 0 && row.PodSeconds.Float() == 0 && row.NodeSeconds.Float() == 0; {
		case volumes: // they have no energy that could be of a quality
			quality = ""
		case row.Provisional:
			quality += " *"
		}
		cells = append(cells, figures(row, base)...)
		t.add(append(append(cells, percent(row.Coverage), quality), storage.figures(row, base)...)...)
	}
	if len(answer.Rows) > 1 && len(answer.Aggregate) > 0 {
		total, cells := totalRow(answer, base, steps)
		t.add(append(cells, storage.figures(total, base)...)...)
	}
	return t
}

func figures(row query.Row, base bool) []string {
	if base {
		return []string{row.CPUCoreSeconds.String(), row.MemoryByteSeconds.String(), row.NetworkReceiveBytes.String(),
			row.NetworkTransmitBytes.String(), row.EnergyJoules.String(), costText(row, true)}
	}
	return []string{number(row.CPUCoreSeconds.Float() / 3600), number(row.MemoryByteSeconds.Float() / (1 << 30) / 3600),
		humanBytes(row.NetworkReceiveBytes.Float()), humanBytes(row.NetworkTransmitBytes.Float()),
		humanEnergy(row.EnergyJoules.Float()), costText(row, false)}
}

// costText is the row's cost in all its currencies, "" without a price.
func costText(row query.Row, exact bool) string {
	var texts []string
	for _, money := range row.Money() {
		if exact {
			texts = append(texts, money.Cost+" "+money.Currency)
		} else {
			texts = append(texts, humanMoney(money.Cost, money.Currency))
		}
	}
	return strings.Join(texts, " + ")
}

// totalRow adds the rows up, exactly.
func totalRow(answer query.Answer, base, steps bool) (query.Row, []string) {
	total := query.Row{}
	costs := make(map[string]*big.Rat)
	var currencies []string
	for _, row := range answer.Rows {
		total.CPUCoreSeconds = total.CPUCoreSeconds.Plus(row.CPUCoreSeconds)
		total.MemoryByteSeconds = total.MemoryByteSeconds.Plus(row.MemoryByteSeconds)
		total.NetworkReceiveBytes = total.NetworkReceiveBytes.Plus(row.NetworkReceiveBytes)
		total.NetworkTransmitBytes = total.NetworkTransmitBytes.Plus(row.NetworkTransmitBytes)
		total.EnergyJoules = total.EnergyJoules.Plus(row.EnergyJoules)
		addStorage(&total, row)
		for _, money := range row.Money() {
			if costs[money.Currency] == nil {
				costs[money.Currency] = new(big.Rat)
				currencies = append(currencies, money.Currency)
			}
			if amount, ok := new(big.Rat).SetString(money.Cost); ok {
				costs[money.Currency].Add(costs[money.Currency], amount)
			}
		}
	}
	for _, currency := range currencies {
		total.Costs = append(total.Costs, query.Money{Cost: costs[currency].FloatString(9), Currency: currency})
	}
	cells := make([]string, len(answer.Aggregate))
	for i := range cells {
		cells[i] = " "
	}
	cells[0] = "TOTAL"
	if steps {
		cells = append(cells, " ")
	}
	return total, append(append(cells, figures(total, base)...), " ", " ")
}
