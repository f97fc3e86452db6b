package main

import (
	"context"
	"fmt"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/spf13/cobra"
)

func newBooksVerify(a *app) *cobra.Command {
	var o bookOptions
	var dir string
	command := &cobra.Command{Use: "verify --customer NAME", Short: "Recompute a customer's chain, and name the first line that is wrong",
		Long: `Recomputes a customer's chain from its first line: the sequence, each hash of the
line before and the text, each signature, that shares come to their line, and lines
to their statement; then the archived days that closed periods name, of which it asks
the leader's archive, or with --dir looks itself at an archive or a copy of one. It
ends with code 1 and the first thing that is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			chain, err := c.Chain(cmd.Context(), o.customer)
			if err != nil {
				return err
			}
			found, err := books.Verify(chain)
			if err != nil {
				return err
			}
			days, lost, err := verifySeals(cmd.Context(), c, found, dir, chain.PublicKey)
			if err != nil || a.output != asTable {
				return a.answerOr(err, found)
			}
			a.printf("%s: %s and %s hold; the last line's hash is %s\n", found.Customer, plural.Of(found.Lines, "line", "lines"),
				plural.Of(found.Statements, "statement", "statements"), orDash(found.Head))
			if len(found.Sealed) > 0 {
				a.printf("%s on %s, which the archive has as they were\n", plural.Of(len(found.Sealed), "closed period rests", "closed periods rest"),
					plural.Of(days, "archived day of a cluster", "archived days of clusters"))
			}
			for _, day := range lost {
				a.printf("%s on %s was lost before: it %s\n", day.Cluster, day.Day, day.Unsettled)
			}
			return nil
		}}
	command.Flags().StringVar(&dir, "dir", "", "look at this archive, or a copy, in place of asking the leader")
	command.Flags().StringVar(&o.customer, "customer", "", "the customer")
	a.answerFlags(command)
	_ = command.MarkFlagRequired("customer") // the flag was just added
	return command
}

// verifySeals holds the archived days that closed periods name against their digests,
// and against the leader's archive or the one in dir. It returns how many there are, and
// those that could not be archived.
func verifySeals(ctx context.Context, c *client.Client, found books.Verified, dir string, key []byte) (days int, lost []registry.SealedDay, err error) {
	for _, s := range found.Sealed {
		if s.Archive.Days == 0 {
			continue
		}
		seal, err := c.BookSeal(ctx, s.Customer, s.Number)
		if err == nil {
			err = books.VerifySeal(s, seal)
		}
		if err != nil {
			return days, lost, err
		}
		if dir != "" {
			seal.Wrong = ""
		}
		for _, day := range seal.Days {
			if day.Lost() {
				lost = append(lost, day)
			} else {
				days++
			}
			if dir == "" || seal.Wrong != "" {
				continue
			}
			if err := archive.CheckSealed(dir, day, key); err != nil {
				seal.Wrong = err.Error()
			}
		}
		if seal.Wrong != "" {
			return days, lost, fmt.Errorf("%w: period %s of %s, statement %d: %s", errArchive, s.Period, s.Customer, s.Number, seal.Wrong)
		}
	}
	return days, lost, nil
}
