package main

import (
	"net/url"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/spf13/cobra"
)

func newBudget(a *app) *cobra.Command {
	command := &cobra.Command{
		Use: "budget", Short: "Budgets: apply, list, and how they stand",
		Long: `A budget is an amount that the cost of a calendar month is held against. Each of its
thresholds, of what is spent or of what is expected by the month's end, is told once a
month. docs/forecasts.md has an example.`,
		Example: `  accumulus budget apply -f budgets.yaml --reason "budgets of 2027"
  accumulus budget status`,
	}
	apply := &cobra.Command{Use: "apply -f FILE", Short: "Apply budgets; shows what would change and asks first",
		Long: "Apply objects as `accumulus apply` does.\n\n" + applyHelp, Example: "  accumulus budget apply -f budgets.yaml"}
	a.applies(apply)
	command.AddCommand(apply, newBudgetList(a), newBudgetStatus(a))
	parent(command)
	return command
}

func newBudgetList(a *app) *cobra.Command {
	var json bool
	command := &cobra.Command{
		Use: "list", Short: "Show the budgets that hold", Args: cobra.NoArgs, Example: "  accumulus budget list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			objects, err := c.Objects(cmd.Context(), "budget", "", url.Values{})
			if err != nil {
				return err
			}
			switch {
			case json:
				return a.printJSON(objects)
			case a.output != asTable:
				return a.showObjects(objects, "budget")
			}
			t := &table{columns: append(left("NAME", "OF"), append(right("AMOUNT"), left("THRESHOLDS", "WEBHOOK")...)...)}
			for _, o := range objects {
				if b, ok := o.Spec.(fleet.Budget); ok {
					t.add(o.Name(), ofBudget(b), humanMoney(string(b.Amount), b.Currency), thresholdsOf(b), hookOf(b))
				}
			}
			return t.writeOr(a.out, noBudget)
		},
	}
	command.Flags().BoolVar(&json, "json", false, "the same as -o json")
	a.outputFlag(command, asTable, asJSON, asYAML)
	return command
}

func ofBudget(b fleet.Budget) string {
	var of []string
	for _, one := range [][2]string{{"customer", b.Customer}, {"project", b.Project}, {"cluster", b.Cluster}, {"namespace", b.Namespace}} {
		if one[1] != "" {
			of = append(of, one[0]+"="+one[1])
		}
	}
	if len(of) == 0 {
		return "all"
	}
	return strings.Join(of, " ")
}

func thresholdsOf(b fleet.Budget) string {
	var all []string
	for _, t := range b.Thresholds {
		all = append(all, percent(float64(t.Percent)/100)+" "+t.OnOrDefault())
	}
	return strings.Join(all, ", ")
}

// hookOf is the webhook's host: its path may hold what is secret.
func hookOf(b fleet.Budget) string {
	if b.Webhook == nil {
		return ""
	}
	target, err := url.Parse(b.Webhook.URL)
	if err != nil {
		return ""
	}
	return target.Host
}

func newBudgetStatus(a *app) *cobra.Command {
	var json bool
	command := &cobra.Command{
		Use: "status", Short: "Show what is spent of each budget, what is expected, and what was told", Args: cobra.NoArgs, Example: "  accumulus budget status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			states, err := c.Budgets(cmd.Context())
			if err != nil {
				return err
			}
			if json || a.output == asJSON {
				return a.printJSON(states)
			}
			return a.showBudgets(states)
		},
	}
	command.Flags().BoolVar(&json, "json", false, "the same as -o json")
	a.outputFlag(command, asTable, asJSON)
	return command
}

const noBudget = "No budget holds. Apply one: accumulus budget apply -f budget.yaml; docs/forecasts.md has an example"

func (a *app) showBudgets(states ahead.BudgetStates) error {
	t := &table{columns: append(left("BUDGET", "UNTIL"), append(right("AMOUNT", "SPENT", "OF IT", "EXPECTED", "OF IT"), left("SPENT BY", "TOLD")...)...)}
	for _, s := range states.Items {
		var told []string
		for _, alert := range s.Alerts {
			text := percent(float64(alert.Percent)/100) + " " + alert.On + " " + alert.At.UTC().Format(time.DateOnly) + " " + alert.State
			if alert.Error != "" {
				text += " (" + alert.Error + ")"
			}
			told = append(told, text)
		}
		t.add(s.Budget, humanTime(s.To), humanMoney(s.Amount, s.Currency), humanMoney(s.Actual, s.Currency), percent(s.ActualShare), humanMoney(s.Forecast, s.Currency), percent(s.ForecastShare), momentText(s.SpentBy.P50), strings.Join(told, ", "))
	}
	return t.writeOr(a.out, noBudget)
}
