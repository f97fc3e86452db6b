package main

import (
	"cmp"
	"fmt"
	"math/big"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/allocation"
	"github.com/spf13/cobra"
)

// pluginName is the name by which kubectl finds the program.
const pluginName = "kubectl-accumulus"

// isPlugin says whether the program was called as kubectl's plugin.
func isPlugin(program string) bool {
	return strings.TrimSuffix(filepath.Base(program), ".exe") == pluginName
}

// costQuestion are the flags of the plugin's commands.
type costQuestion struct {
	window, namespace, cluster, label, shareIdle, currency string
	historical, all, idle                                  bool
	cpu, memory, gpu, pv, network, energy, efficiency      bool
}

// newPlugin is the command line of `kubectl accumulus`, shaped like `kubectl cost`.
func newPlugin(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   pluginName,
		Short: "What clusters, namespaces, controllers, labels, pods and nodes cost",
		Long: `What clusters, namespaces, controllers, labels, pods and nodes of the fleet cost,
as the leader of Accumulus says. Costs are rates of a month of 730 hours, at the
pace of the window; --historical shows what the window itself cost.

The leader is not found by the kubeconfig: name it with --server or ACCUMULUS_SERVER.`,
		Example: `  kubectl accumulus namespace --window 7d --show-all-resources
  kubectl accumulus deployment --window lastmonth --historical -n shop
  kubectl accumulus label --label app --window 7d
  kubectl accumulus node --window today --idle`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl accumulus"},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	a.prepare(root)
	for _, by := range []struct{ name, keys, short string }{
		{"cluster", "cluster", "by cluster"},
		{"namespace", "cluster,namespace", "by namespace"},
		{"deployment", "cluster,namespace,deployment", "by deployment"},
		{"controller", "cluster,namespace,controller", "by controller: deployments, stateful sets, daemon sets, jobs"},
		{"label", "label:", "by the value of a label of the pods: --label NAME"},
		{"pod", "cluster,namespace,pod", "by pod"},
		{"node", "cluster,node", "by node"},
	} {
		root.AddCommand(newCost(a, by.name, by.keys, by.short))
	}
	root.AddCommand(newVersion(a))
	parent(root)
	return root
}

func newCost(a *app, name, keys, short string) *cobra.Command {
	var q costQuestion
	command := &cobra.Command{Use: name, Short: "Show cost " + short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if name == "label" {
			if q.label == "" {
				return fmt.Errorf("by which label? Name it: %s --label app", cmd.CommandPath())
			}
			keys = "label:" + q.label
		}
		values, err := q.values(keys)
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		answer, err := c.Allocation(cmd.Context(), values)
		if err != nil {
			return err
		}
		return a.showCost(q, strings.Split(keys, ","), answer)
	}}
	flags := command.Flags()
	flags.StringVar(&q.window, "window", "1d", "today, yesterday, week, lastweek, month, lastmonth, 12h, 7d, or two times with a comma between them")
	flags.BoolVar(&q.historical, "historical", false, "what the window cost, and not the rate of a month")
	flags.StringVarP(&q.namespace, "namespace", "n", "", "of one namespace alone")
	flags.StringVar(&q.cluster, "cluster", "", "of one cluster alone")
	flags.StringVar(&q.currency, "currency", "", "where the prices are in several: the one to show")
	flags.StringVar(&q.shareIdle, "share-idle", "", "put what is idle on the rest: weighted or even")
	flags.BoolVar(&q.idle, "idle", false, "show what is idle")
	flags.BoolVarP(&q.all, "show-all-resources", "A", false, "show all resources: CPU, memory, GPU, volumes, network, energy")
	for flag, into := range map[string]*bool{"cpu": &q.cpu, "memory": &q.memory, "gpu": &q.gpu, "pv": &q.pv, "network": &q.network, "energy": &q.energy} {
		flags.BoolVar(into, "show-"+flag, false, "show the cost of "+flag)
	}
	flags.BoolVar(&q.efficiency, "show-efficiency", true, "show what is used of what is requested")
	if name == "label" {
		flags.StringVarP(&q.label, "label", "l", "", "name of the label")
	}
	a.outputFlag(command, asTable, asJSON, asCSV)
	return command
}

// values is the question to the leader.
func (q costQuestion) values(keys string) (url.Values, error) {
	values := url.Values{"window": {q.window}, "aggregate": {keys}, "accumulate": {"true"}}
	if !q.historical {
		values.Set("costMetric", "monthly")
	}
	if q.idle {
		values.Set("includeIdle", "true")
	}
	for name, value := range map[string]string{"shareIdle": q.shareIdle, "currency": q.currency} {
		if value != "" {
			values.Set(name, value)
		}
	}
	var filters []string
	for _, f := range []struct{ field, value string }{{"namespace", q.namespace}, {"cluster", q.cluster}} {
		if f.value == "" {
			continue
		}
		if !usage.IsText(f.value) {
			return nil, fmt.Errorf("%s %q is no name", f.field, f.value)
		}
		filters = append(filters, f.field+":"+strconv.Quote(f.value))
	}
	if len(filters) > 0 {
		values.Set("filter", strings.Join(filters, "+"))
	}
	return values, nil
}

// costColumn is a resource that can be shown.
type costColumn struct {
	title string
	shown bool
	of    func(allocation.Allocation) allocation.Number
}

func (q costQuestion) columns() []costColumn {
	all := []costColumn{
		{"CPU", q.cpu, func(o allocation.Allocation) allocation.Number { return o.CPUCost }},
		{"MEMORY", q.memory, func(o allocation.Allocation) allocation.Number { return o.RAMCost }},
		{"GPU", q.gpu, func(o allocation.Allocation) allocation.Number { return o.GPUCost }},
		{"PV", q.pv, func(o allocation.Allocation) allocation.Number { return o.PVCost }},
		{"NETWORK", q.network, func(o allocation.Allocation) allocation.Number { return o.NetworkCost }},
		{"ENERGY", q.energy, func(o allocation.Allocation) allocation.Number { return o.EnergyCost }},
		{"OTHER", false, func(o allocation.Allocation) allocation.Number { return o.OtherCost }},
	}
	return slices.DeleteFunc(all, func(c costColumn) bool { return !c.shown && !q.all })
}

// showCost prints an answer, the dearest first, with the sum.
func (a *app) showCost(q costQuestion, keys []string, answer allocation.Response) error {
	if a.output == asJSON {
		return a.printJSON(answer)
	}
	var all []allocation.Allocation
	for _, set := range answer.Data {
		for _, o := range set {
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		a.printf("Nothing between %s and %s; `accumulus status` says how far the clusters have come\n", shownTime(answer.Accumulus.Window.Start), shownTime(answer.Accumulus.Window.End))
		return nil
	}
	slices.SortFunc(all, func(x, y allocation.Allocation) int {
		return cmp.Or(y.TotalCost.Value().Cmp(x.TotalCost.Value()), strings.Compare(x.Name, y.Name))
	})
	t := q.table(keys, all, answer.Accumulus.Currency, a.output == asCSV)
	if a.output == asCSV {
		return t.writeCSV(a.out)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	a.printf("From %s to %s", shownTime(answer.Accumulus.Window.Start), shownTime(answer.Accumulus.Window.End))
	if !q.historical {
		a.printf(", as the rate of a month of 730 hours")
	}
	a.printf("\n")
	for _, warning := range answer.Accumulus.Warnings {
		a.printf("Note: %s\n", warning)
	}
	return nil
}

// table has a row per name, and the sums; for programs without the sums, and exact.
func (q costQuestion) table(keys []string, all []allocation.Allocation, currency string, exact bool) *table {
	t := &table{}
	for _, key := range keys {
		t.columns = append(t.columns, left(strings.ToUpper(strings.TrimPrefix(key, "label:")))...)
	}
	columns := q.columns()
	for _, c := range columns {
		t.columns = append(t.columns, right(c.title)...)
	}
	title := "MONTHLY RATE"
	if q.historical {
		title = "COST"
	}
	columns = append(columns, costColumn{of: func(o allocation.Allocation) allocation.Number { return o.TotalCost }})
	t.columns = append(t.columns, right(strings.TrimSpace(title+" "+currency), "ENERGY kWh")...)
	if q.efficiency {
		t.columns = append(t.columns, right("EFFICIENCY")...)
	}
	sums := make([]big.Rat, len(columns)+1)
	for _, o := range all {
		cells := namesOf(o, len(keys))
		for i, c := range columns {
			amount := c.of(o).Value()
			sums[i].Add(&sums[i], amount)
			cells = append(cells, moneyCell(amount, exact))
		}
		sums[len(columns)].Add(&sums[len(columns)], o.EnergyKwh.Value())
		cells = append(cells, energyCell(o.EnergyKwh.Value(), exact))
		if q.efficiency {
			cells = append(cells, percent(o.TotalEfficiency))
		}
		t.add(cells...)
	}
	if len(all) > 1 && !exact {
		cells := append([]string{"SUMMED"}, make([]string, len(keys)-1)...)
		for i := range columns {
			cells = append(cells, moneyCell(&sums[i], false))
		}
		cells = append(cells, energyCell(&sums[len(columns)], false))
		if q.efficiency {
			cells = append(cells, "")
		}
		t.add(cells...)
	}
	return t
}

// namesOf are the cells of a name: its parts, of which a label's value and what is
// idle may have another count than there are keys.
func namesOf(o allocation.Allocation, keys int) []string {
	parts := []string{o.Name}
	if keys > 1 {
		parts = strings.SplitN(o.Name, "/", keys)
	}
	for len(parts) < keys {
		parts = append(parts, "")
	}
	return parts
}

func moneyCell(amount *big.Rat, exact bool) string {
	if exact {
		return allocation.Number{Rat: amount}.String()
	}
	return humanMoney(amount.FloatString(usage.CostPlaces), "")
}

func energyCell(amount *big.Rat, exact bool) string {
	if exact {
		return allocation.Number{Rat: amount}.String()
	}
	value, _ := amount.Float64()
	return usage.Number(value)
}
