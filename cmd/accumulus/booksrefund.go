package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/spf13/cobra"
)

// required marks flags of a command, which were just added.
func required(command *cobra.Command, names ...string) {
	for _, name := range names {
		_ = command.MarkFlagRequired(name) // the flag was just added
	}
}

func newBooksRefund(a *app) *cobra.Command {
	var o bookOptions
	var request books.RefundRequest
	command := &cobra.Command{Use: "refund --customer NAME --statement N --amount AMOUNT --reason TEXT",
		Short: "Ask for money back; another person approves it",
		Long: `Asks for money back, under the name of the token that is used. Another person
approves it with a token of his own (accumulus books approve-refund), and the
customer gets a credit note; or declines it (accumulus books decline-refund). The
operator's token, which several may have, does neither: accumulus token create makes
a person's own.`, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			asked, err := c.RequestRefund(cmd.Context(), o.customer, request)
			if err != nil || a.output != asTable {
				return a.answerOr(err, asked)
			}
			a.printf("Refund %d of %s on statement %d is asked for by %s.\nAnother person approves it: accumulus books approve-refund --customer %s --refund %d\n",
				asked.ID, money(asked.Amount, asked.Currency), asked.Statement, asked.Requested.By, asked.Customer, asked.ID)
			return nil
		}}
	flags := command.Flags()
	flags.StringVar(&o.customer, "customer", "", "the customer")
	flags.Int64Var(&request.Statement, "statement", 0, "number of the statement that it refers to")
	flags.StringVar(&request.Amount, "amount", "", "how much, of the statement's currency")
	flags.StringVar(&request.Reason, "reason", "", "why: the customer reads it")
	flags.StringVar(&request.By, "by", "", "who asks: the token's own name")
	flags.StringVar(&request.Approver, "approver", "", "who approves")
	_ = flags.MarkDeprecated("approver", "nobody approves by being named: accumulus books approve-refund, with a token of his own") // the flag was just added
	_ = flags.MarkHidden("by")                                                                                                      // the flag was just added
	a.answerFlags(command)
	required(command, "customer", "statement", "amount", "reason")
	return command
}

// decideRefund is a command about one refund that was asked for.
func (a *app) decideRefund(use, short string, reason *string, run func(ctx context.Context, c *client.Client, o bookOptions, id int64) error) *cobra.Command {
	var o bookOptions
	var id int64
	command := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, o, id)
	}}
	flags := command.Flags()
	flags.StringVar(&o.customer, "customer", "", "the customer")
	flags.Int64Var(&id, "refund", 0, "number of the refund")
	a.answerFlags(command)
	required(command, "customer", "refund")
	if reason != nil {
		flags.StringVar(reason, "reason", "", "why")
		required(command, "reason")
	}
	return command
}

func newBooksApproveRefund(a *app) *cobra.Command {
	return a.decideRefund("approve-refund --customer NAME --refund N", "Approve a refund that somebody else asked for, and issue its credit note", nil,
		func(ctx context.Context, c *client.Client, o bookOptions, id int64) error {
			note, err := c.ApproveRefund(ctx, o.customer, id)
			if err != nil || a.output != asTable {
				return a.answerOr(err, note)
			}
			a.printf("Credit note %s of statement %d: %s\n", note.ID, note.Refers, money(note.Total, note.Currency))
			return nil
		})
}

func newBooksDeclineRefund(a *app) *cobra.Command {
	var reason string
	return a.decideRefund("decline-refund --customer NAME --refund N --reason TEXT", "Decline a refund, or take one's own back", &reason,
		func(ctx context.Context, c *client.Client, o bookOptions, id int64) error {
			refund, err := c.DeclineRefund(ctx, o.customer, id, reason)
			if err != nil || a.output != asTable {
				return a.answerOr(err, refund)
			}
			a.printf("Refund %d is declined by %s: %s\n", refund.ID, refund.Decided.By, refund.Note)
			return nil
		})
}

func newBooksRefunds(a *app) *cobra.Command {
	var o bookOptions
	command := &cobra.Command{Use: "refunds --customer NAME", Short: "Refunds that were asked for, and what became of them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.Refunds(cmd.Context(), o.customer)
			if err != nil || a.output != asTable {
				return a.answerOr(err, all)
			}
			t := &table{columns: append(left("REFUND", "STATEMENT", "STATE", "ASKED BY", "DECIDED BY"), right("AMOUNT")...)}
			t.columns = append(t.columns, left("REASON")...)
			for _, r := range all.Items {
				decided := "-"
				if r.Decided != nil {
					decided = r.Decided.By
				}
				t.add(fmt.Sprint(r.ID), fmt.Sprint(r.Statement), r.State, r.Requested.By, decided, money(r.Amount, r.Currency), r.Reason)
			}
			return t.writeOr(a.out, "No refund was asked for yet.")
		}}
	command.Flags().StringVar(&o.customer, "customer", "", "the customer")
	a.answerFlags(command)
	required(command, "customer")
	return command
}

func newBooksFailures(a *app) *cobra.Command {
	var cluster string
	command := &cobra.Command{Use: "failures [--cluster NAME]", Short: "Nodes that failed, and the pods whose use is refunded",
		Long: `Lists the nodes that failed: by the word of the watch, where a node that was ready was
not, or was not reached, for longer than the leader's --failed-after, or until it
left its cluster; and those that somebody recorded. What the pods that died with them
used since their start is given back in the drafts of the periods that are open.`,
		Example: `  accumulus books failures
  accumulus books failures record --cluster ams-03 --node n7 --at 2026-11-20T14:03:00Z --reason "its power supply burnt" --as olga
  accumulus books failures dismiss 3 --reason "it was drained" --as olga
  accumulus books failures reinstate 3 --reason "another node was drained" --as olga`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.Failures(cmd.Context(), cluster)
			if err != nil || a.output != asTable {
				return a.answerOr(err, all)
			}
			return a.showFailures(all.Items)
		}}
	command.Flags().StringVar(&cluster, "cluster", "", "only this cluster")
	a.answerFlags(command)
	command.AddCommand(newFailureRecord(a), newFailureDismiss(a), newFailureReinstate(a))
	return command
}

// showFailures prints failures, and below each its pods.
func (a *app) showFailures(all []books.Failure) error {
	t := &table{columns: left("FAILURE", "CLUSTER", "NODE", "AT", "BY", "COUNTS", "PODS", "EVIDENCE")}
	for _, f := range all {
		counts, pods := "yes", plural.Of(len(f.Pods), "pod", "pods")
		evidence := f.Evidence
		switch {
		case f.Dismissed != nil:
			counts, evidence = "no", fmt.Sprintf("%s; dismissed by %s: %s", evidence, f.Dismissed.By, f.Dismissed.Reason)
		case !f.Summed:
			pods = "not known yet"
		}
		by := f.Source
		if f.By != "" {
			by = f.By
		}
		if len(f.Log) > 0 && f.Log[len(f.Log)-1].Action == "reinstate" {
			last := f.Log[len(f.Log)-1]
			evidence = fmt.Sprintf("%s; its dismissal is taken back by %s (%s)", evidence, last.By, last.Detail)
		}
		t.add(fmt.Sprint(f.ID), f.Cluster, f.Node, humanTime(f.At), by, counts, pods, evidence)
	}
	if err := t.writeOr(a.out, "No node has failed."); err != nil {
		return err
	}
	for _, f := range all {
		for _, pod := range f.Pods {
			a.printf("\n%d: %s/%s since %s, of %s%s", f.ID, pod.Namespace, pod.Pod, humanTime(pod.Start), strings.Join(pod.Customers, ", "), refundedIn(pod))
			if pod.Estimated {
				a.printf("; a part is its share of its workload's use")
			}
			if pod.Note != "" {
				a.printf("; %s", pod.Note)
			}
		}
	}
	a.printf("\n")
	return nil
}

func refundedIn(pod books.LostPod) string {
	text := ""
	for _, given := range pod.Refunds {
		text += fmt.Sprintf("; what it used in %s is given back in statement %d of %s", given.Period, given.Statement, given.Customer)
	}
	return text
}

func newFailureRecord(a *app) *cobra.Command {
	var o bookOptions
	var request books.FailureRequest
	var at string
	command := &cobra.Command{Use: "record --cluster NAME --node NAME --at TIME --reason TEXT --as NAME", Short: "Record that a node failed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if request.At, err = time.Parse(time.RFC3339, at); err != nil {
				return fmt.Errorf("--at %q: write it as 2026-11-20T14:03:00Z", at)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			request.By = o.as
			made, err := c.RecordFailure(cmd.Context(), request)
			if err != nil || a.output != asTable {
				return a.answerOr(err, made)
			}
			return a.showFailures([]books.Failure{made})
		}}
	flags := command.Flags()
	flags.StringVar(&request.Cluster, "cluster", "", "the cluster")
	flags.StringVar(&request.Node, "node", "", "the node, as Kubernetes names it")
	flags.StringVar(&at, "at", "", "when it failed, such as 2026-11-20T14:03:00Z")
	flags.StringVar(&request.Reason, "reason", "", "how that is known: who approves the period reads it")
	a.answerFlags(command)
	o.who(a, command, "as", "who you are: the books record it (ACCUMULUS_AS)")
	required(command, "cluster", "node", "at", "reason")
	return command
}

// aboutFailure is a command about one failure, by whom and why.
func (a *app) aboutFailure(use, short string, do func(c *client.Client, ctx context.Context, id int64, by, reason string) (books.Failure, error)) *cobra.Command {
	var o bookOptions
	var reason string
	command := &cobra.Command{Use: use + " FAILURE --reason TEXT --as NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("failure %q: name it by the number that accumulus books failures shows", args[0])
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			made, err := do(c, cmd.Context(), id, o.as, reason)
			if err != nil || a.output != asTable {
				return a.answerOr(err, made)
			}
			return a.showFailures([]books.Failure{made})
		}}
	command.Flags().StringVar(&reason, "reason", "", "why")
	a.answerFlags(command)
	o.who(a, command, "as", "who you are: the books record it (ACCUMULUS_AS)")
	required(command, "reason")
	return command
}

func newFailureDismiss(a *app) *cobra.Command {
	return a.aboutFailure("dismiss", "Say that a failure does not count; it stays recorded", (*client.Client).DismissFailure)
}

func newFailureReinstate(a *app) *cobra.Command {
	return a.aboutFailure("reinstate", "Take back that a failure was dismissed: it counts again", (*client.Client).ReinstateFailure)
}
