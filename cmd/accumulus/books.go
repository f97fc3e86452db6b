package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/spf13/cobra"
)

// bookOptions are what most commands of the books take.
type bookOptions struct {
	customer, period, as string
}

func newBooks(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "books",
		Short: "Billing periods: draft, review, approve, close; statements, corrections and refunds",
		Long: `The books: a period is a calendar month in the customer's time zone. It is drafted,
reviewed, approved by another person than who drafted it, and closed with a
statement; then it does not change any more. What comes later is a correction in
the next statement. docs/books.md shows the life of a period.`,
		Example: `  accumulus books draft --customer acme --period 2026-11 --as dora
  accumulus books review --customer acme --period 2026-11 --as dora
  accumulus books approve --customer acme --period 2026-11 --as anna
  accumulus books close --customer acme --period 2026-11 --as anna
  accumulus books statement --customer acme --period 2026-11 -o html > acme.html`,
	}
	command.AddCommand(newBooksList(a), newBooksDraft(a), newBooksReview(a), newBooksApprove(a), newBooksClose(a), newBooksStatement(a), newBooksRerate(a),
		newBooksRefund(a), newBooksApproveRefund(a), newBooksDeclineRefund(a), newBooksRefunds(a), newBooksFailures(a), newBooksVerify(a), newBooksLog(a))
	parent(command)
	return command
}

// bind adds the flags that name a period, and --as where something is changed.
func (o *bookOptions) bind(a *app, command *cobra.Command, changes bool) {
	flags := command.Flags()
	flags.StringVar(&o.customer, "customer", "", "the customer")
	flags.StringVar(&o.period, "period", "", "the month, such as 2026-11")
	a.answerFlags(command)
	if changes {
		o.who(a, command, "as", "who you are: the books record it (ACCUMULUS_AS)")
	}
	command.Args = cobra.NoArgs
	for _, name := range []string{"customer", "period"} {
		_ = command.MarkFlagRequired(name) // the flag was just added
	}
}

func (o *bookOptions) who(a *app, command *cobra.Command, name, usage string) {
	command.Flags().StringVar(&o.as, name, a.env("ACCUMULUS_AS", ""), usage)
}

func newBooksList(a *app) *cobra.Command {
	var o bookOptions
	command := &cobra.Command{Use: "list", Short: "Periods that were drafted or closed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.Books(cmd.Context(), o.customer, o.period)
			if err != nil || a.output != asTable {
				return a.answerOr(err, all)
			}
			t := &table{columns: append(left("CUSTOMER", "PERIOD", "STATE", "STATEMENT", "COMPLETE"), right("TOTAL")...)}
			for _, p := range all {
				t.add(p.Customer, p.Period, p.State, numberOf(p.Statement), fmt.Sprint(p.Complete), money(p.Total, p.Currency))
			}
			return t.writeOr(a.out, "No period was drafted yet. Draft one: accumulus books draft --customer NAME --period MONTH")
		}}
	flags := command.Flags()
	flags.StringVar(&o.customer, "customer", "", "only this customer")
	flags.StringVar(&o.period, "period", "", "only this month, such as 2026-11")
	a.answerFlags(command)
	return command
}

func numberOf(statement int64) string {
	if statement == 0 {
		return "-"
	}
	return fmt.Sprint(statement)
}

func money(amount, currency string) string { return strings.TrimSpace(amount + " " + currency) }

func newBooksDraft(a *app) *cobra.Command {
	var o bookOptions
	command := &cobra.Command{Use: "draft --customer NAME --period MONTH --as NAME", Short: "Rate a period as it is now, and keep that as its draft",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			d, err := c.DraftBook(cmd.Context(), o.customer, o.period, o.as)
			if err != nil || a.output != asTable {
				return a.answerOr(err, d)
			}
			return a.showDraft(d)
		}}
	o.bind(a, command, true)
	return command
}

func (a *app) showDraft(d books.Draft) error {
	a.printf("%s %s: %s, %s to %s (%s)\n\n", d.Customer, d.Period.Period, d.State, humanTime(d.From), humanTime(d.To), d.Zone)
	if err := a.showLines(d.Lines); err != nil {
		return err
	}
	a.printf("\nTotal %s\n", money(d.Total, d.Currency))
	for _, q := range d.Unpriced {
		a.printf("Without a price: %s %s\n", q.Resource, q.Text)
	}
	for _, q := range d.Excluded {
		a.printf("Left out by the price list: %s %s\n", q.Resource, q.Text)
	}
	for _, c := range d.Clusters {
		if !c.Complete {
			a.printf("Incomplete: %s, %d of %d node-windows are here\n", c.Cluster, c.Received, c.Expected)
		}
	}
	for _, f := range d.Failures {
		by := f.Source
		if f.By != "" {
			by = f.By
		}
		a.printf("Refunded: %s of node %s of %s, which failed at %s by the word of %s: %s\n", plural.Of(len(f.Pods), "pod", "pods"), f.Node, f.Cluster, humanTime(f.At), by, f.Evidence)
		for _, note := range f.Notes {
			a.printf("  Not given back: %s\n", note)
		}
	}
	a.showWithheld(d.Withheld)
	if d.Preview != "" {
		a.printf("Preview: %s.\n", d.Preview)
	}
	if len(d.Waiting) > 0 {
		a.printf("Not settled, so not in it or not final: %s\n", strings.Join(d.Waiting, ", "))
	}
	if d.Outdated {
		a.printf("Facts have changed since it was drafted: draft it again.\n")
	}
	return nil
}

// showWithheld says what corrections do not give back.
func (a *app) showWithheld(withheld []books.Withheld) {
	for _, one := range withheld {
		a.printf("Withheld from a correction, as it was given back before: %s\n", one)
	}
}

func (a *app) showLines(lines []books.Line) error {
	t := &table{columns: append(left("LINE", "KIND", "RATE"), right("QUANTITY", "UNIT PRICE", "COST")...)}
	t.columns = append(t.columns, left("REASON")...)
	for _, l := range lines {
		rate := l.Rate
		if l.Slot != "" {
			rate += " " + l.Slot
		}
		if l.Tier > 0 {
			rate += fmt.Sprintf(" tier %d", l.Tier)
		}
		reason := l.Reason
		if l.Statement > 0 {
			reason = strings.TrimSuffix(fmt.Sprintf("of statement %d: %s", l.Statement, reason), ": ")
		}
		cost := money(l.Cost, l.Currency)
		if l.PriceCurrency != "" {
			cost = money(l.PriceCost, l.PriceCurrency) + " = " + cost
		}
		t.add(orDash(l.ID), l.Kind, rate, strings.TrimSpace(l.PricingQuantity+" "+l.Unit), l.UnitPrice, cost, reason)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	for i, used := range books.Exchanges(lines) {
		if i == 0 {
			a.printf("\n")
		}
		a.printf("Converted: %s\n", used)
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newBooksReview(a *app) *cobra.Command {
	var o bookOptions
	command := &cobra.Command{Use: "review --customer NAME --period MONTH [--as NAME]", Short: "A draft against the month before, and days that are not as the others",
		Long: `A draft against the month before by resource and namespace, and days that are not as
the others. With --as the draft moves to review, which comes before its approval;
without, nothing is changed.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			var r books.Review
			if o.as == "" {
				r, err = c.LookAtBook(cmd.Context(), o.customer, o.period)
			} else {
				r, err = c.ReviewBook(cmd.Context(), o.customer, o.period, o.as)
			}
			if err != nil || a.output != asTable {
				return a.answerOr(err, r)
			}
			return a.showReview(r)
		}}
	o.bind(a, command, true)
	return command
}

func (a *app) showReview(r books.Review) error {
	if err := a.showDraft(r.Draft); err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		of    []books.Variance
	}{{"RESOURCE", r.Resources}, {"NAMESPACE", r.Namespaces}} {
		before := r.Previous
		if before == "" {
			before = "NOTHING BEFORE"
		}
		a.printf("\n")
		t := &table{columns: append(left(part.title), right(before, r.Draft.Period.Period, "CHANGE", "%")...)}
		for _, v := range part.of {
			t.add(v.Name, v.Before, v.Now, v.Change, v.Percent)
		}
		if err := t.write(a.out); err != nil {
			return err
		}
	}
	a.printf("\nOutliers: %s\n", r.Rule)
	if len(r.NotJudged) > 0 {
		a.printf("Not judged, as too new: %s\n", strings.Join(r.NotJudged, ", "))
	}
	if len(r.Outliers) == 0 {
		a.printf("There are none.\n")
		return nil
	}
	t := &table{columns: append(left("DAY", "CLUSTER", "NAMESPACE", "RESOURCE"), right("QUANTITY", "MEDIAN", "DEVIATIONS")...)}
	for _, one := range r.Outliers {
		t.add(one.Day, one.Cluster, one.Namespace, one.Resource, one.Quantity+" "+one.Unit, one.Median, one.Deviations)
	}
	return t.write(a.out)
}

func newBooksApprove(a *app) *cobra.Command {
	var o bookOptions
	command := &cobra.Command{Use: "approve --customer NAME --period MONTH --as NAME", Short: "Approve a draft, as another person than who drafted it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			p, err := c.ApproveBook(cmd.Context(), o.customer, o.period, o.as)
			if err != nil || a.output != asTable {
				return a.answerOr(err, p)
			}
			by := o.as
			if p.Approved != nil {
				by = p.Approved.By
				if p.Approved.OnePerson {
					by += " alone, as the leader is set to allow"
				}
			}
			a.printf("%s %s: %s by %s, %s\n", p.Customer, p.Period, p.State, by, money(p.Total, p.Currency))
			return nil
		}}
	o.bind(a, command, true)
	return command
}

func newBooksClose(a *app) *cobra.Command {
	var o bookOptions
	var request books.CloseRequest
	command := &cobra.Command{Use: "close --customer NAME --period MONTH --as NAME", Short: "Make an approved period final, and issue its statement",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			request.By = o.as
			s, err := c.CloseBook(cmd.Context(), o.customer, o.period, request)
			if err != nil || a.output != asTable {
				return a.answerOr(err, s)
			}
			a.printf("%s %s is closed: statement %s, %s, %s\n", s.Customer, s.Period, s.ID, plural.Of(s.LineCount, "line", "lines"), money(s.Total, s.Currency))
			return nil
		}}
	o.bind(a, command, true)
	flags := command.Flags()
	flags.StringVar(&request.Reason, "estimate-reason", "", "why it is closed though something is missing: recorded, and on the statement")
	flags.StringVar(&request.Method, "estimate-method", "", "how what is missing is estimated: measured (as not used; what comes later is a correction)")
	return command
}

func newBooksStatement(a *app) *cobra.Command {
	var o bookOptions
	var number string
	command := &cobra.Command{Use: "statement --customer NAME {--period MONTH | --number N}", Short: "Print a statement or credit note", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (o.period == "") == (number == "") {
				return fmt.Errorf("name the statement: --period MONTH or --number N")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			format := asJSON
			if a.output == asHTML {
				format = asHTML
			}
			text, err := c.Statement(cmd.Context(), o.customer, o.period, number, format)
			if err != nil {
				return err
			}
			if a.output == asHTML {
				_, err = a.out.Write(text)
				return err
			}
			var s books.Statement
			if err := json.Unmarshal(text, &s); err != nil {
				return fmt.Errorf("read statement: %w", err)
			}
			if a.output != asTable {
				return a.answerOr(nil, s)
			}
			a.printf("%s %s of %s, period %s, issued %s\n\n", s.Kind, s.ID, s.Name, s.Period, humanTime(s.Issued))
			if err := a.showLines(s.Lines); err != nil {
				return err
			}
			a.printf("\nPeriod %s, corrections %s, total %s\n", s.Usage, s.Corrections, money(s.Total, s.Currency))
			return nil
		}}
	flags := command.Flags()
	flags.StringVar(&o.customer, "customer", "", "the customer")
	flags.StringVar(&o.period, "period", "", "the closed month, such as 2026-11")
	flags.StringVar(&number, "number", "", "the number of a statement or credit note")
	_ = command.MarkFlagRequired("customer") // the flag was just added
	a.answerFlags(command, asHTML)
	return command
}

// asHTML is an output format of statements and reports.
const asHTML = "html"

func newBooksRerate(a *app) *cobra.Command {
	var o bookOptions
	var apply bool
	var reason string
	command := &cobra.Command{Use: "rerate --customer NAME --period MONTH [--apply --reason TEXT --as NAME]",
		Short: "What a closed period comes to now, less what was billed for it",
		Long: `Rates a closed period again, of what is known of its days now, and prints what that
differs from what was billed for it. With --apply the difference becomes a
correction, which the customer's next statement bills. To apply it again changes
nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			if apply && strings.TrimSpace(reason) == "" {
				return fmt.Errorf("--apply needs --reason TEXT: the customer reads it")
			}
			if !apply && reason != "" {
				return fmt.Errorf("--reason goes with --apply, which makes the difference a correction")
			}
			var made books.Correction
			if apply {
				made, err = c.CorrectBook(cmd.Context(), o.customer, o.period, o.as, reason)
			} else {
				made, err = c.Rerate(cmd.Context(), o.customer, o.period)
			}
			if err != nil || a.output != asTable {
				return a.answerOr(err, made)
			}
			return a.showCorrection(made)
		}}
	o.bind(a, command, true)
	command.Flags().BoolVar(&apply, "apply", false, "make the difference a correction")
	command.Flags().StringVar(&reason, "reason", "", "why, with --apply: the customer reads it")
	return command
}

func (a *app) showCorrection(made books.Correction) error {
	for _, day := range made.Changed {
		a.printf("Changed since it was closed: %s\n", day)
	}
	if len(made.Waiting) > 0 {
		a.printf("Still being computed: %s\n", strings.Join(made.Waiting, ", "))
	}
	if len(made.Lines) == 0 && len(made.Withheld) == 0 {
		a.printf("%s %s: nothing differs from statement %d, %s\n", made.Customer, made.Period, made.Statement, money(made.Before, made.Currency))
		return nil
	}
	if err := a.showLines(made.Lines); err != nil {
		return err
	}
	a.printf("\nBilled %s, now %s: %s\n", made.Before, made.After, money(made.Total, made.Currency))
	a.showWithheld(made.Withheld)
	if made.Applied {
		a.printf("Applied: the next statement has it.\n")
	} else {
		a.printf("Nothing was changed: --apply --reason TEXT makes it a correction.\n")
	}
	return nil
}

func newBooksLog(a *app) *cobra.Command {
	var o bookOptions
	command := &cobra.Command{Use: "log --customer NAME", Short: "Who did what with a customer's books", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			log, err := c.BookLog(cmd.Context(), o.customer)
			if err != nil || a.output != asTable {
				return a.answerOr(err, log)
			}
			t := &table{columns: left("TIME", "WHO", "WHAT", "PERIOD", "DETAIL")}
			for _, one := range log.Items {
				t.add(humanTime(one.At), one.By, one.Action, one.Period, one.Detail)
			}
			return t.writeOr(a.out, "Nobody has done anything with these books yet.")
		}}
	command.Flags().StringVar(&o.customer, "customer", "", "the customer")
	a.answerFlags(command)
	_ = command.MarkFlagRequired("customer") // the flag was just added
	return command
}
