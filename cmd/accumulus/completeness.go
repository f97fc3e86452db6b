package main

import (
	"fmt"

	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/spf13/cobra"
)

// gapLines bounds the gaps that are printed.
const gapLines = 20

func newClusterStatus(a *app) *cobra.Command {
	var window string
	command := &cobra.Command{
		Use:   "status NAME",
		Short: "Show what arrived of a cluster, against what must exist",
		Long: `Show what arrived of a cluster, against what must exist.

EXPECTED, RECEIVED, AUDITED and RATED count node-windows: a minute counts once for
each node that was there. AUDITED were found right by "accumulus sync audit" since
they came, RATED are in a cost that is computed and not due again. REFUSED are rows
that the centre's store did not take, REVISED windows that came more than once.
Below the table is each gap with its reason, and what that means.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			answer, err := c.Completeness(cmd.Context(), args[0], window)
			if err != nil {
				return err
			}
			installation, err := c.Installation(cmd.Context(), args[0])
			if err != nil && !client.IsNotFound(err) {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(struct {
					query.Completeness
					Installation *registry.Installation `json:"installation,omitempty"`
				}{answer, known(installation)})
			}
			a.showInstallation(installation)
			return a.showCompleteness(answer)
		},
	}
	command.Flags().StringVarP(&window, "window", "w", "24h", "time to look at")
	a.outputFlag(command, asTable, asJSON)
	return command
}

// known is an installation, nil where the leader has nothing to do with that of
// the cluster.
func known(i registry.Installation) *registry.Installation {
	if i.State == "" {
		return nil
	}
	return &i
}

// showInstallation prints how the follower is installed, where the leader knows.
func (a *app) showInstallation(i registry.Installation) {
	if known(i) == nil {
		return
	}
	version := ""
	if i.Installed != "" {
		version = fmt.Sprintf(", chart %s, revision %d", i.Installed, i.Revision)
	}
	a.printf("Follower: %s since %s%s\n", i.State, humanTime(i.Since), version)
	for _, line := range []string{i.Step, i.Message, i.Hint} {
		if line != "" && (i.State != registry.InstallReady || line != i.Step) {
			a.printf("  %s\n", line)
		}
	}
	if !i.Next.IsZero() && i.Attempts > 0 && i.State == registry.InstallFailed {
		a.printf("  attempt %d failed; the next one is at %s\n", i.Attempts, humanTime(i.Next))
	}
	a.printf("\n")
}

// showCompleteness prints a line per table and each gap with its reason.
func (a *app) showCompleteness(answer query.Completeness) error {
	settled := "no window has arrived yet"
	if answer.Settled != nil {
		settled = "settled until " + humanTime(*answer.Settled)
	}
	a.printf("Cluster %s: %s; %d of %d node-windows from %s to %s are here\n\n", answer.Cluster, settled, answer.Received, answer.Expected,
		humanTime(answer.From), humanTime(answer.To))
	if err := completenessTable(answer.Quarters).write(a.out); err != nil {
		return err
	}
	for _, era := range answer.Eras {
		if w := answer.From; !era.Began.Before(w) && era.Began.Before(answer.To) {
			a.printf("\nTable %s comes from store %s since %s, before that from %s\n", era.Table, era.Store, humanTime(era.Began), era.Former)
		}
	}
	a.showGaps(query.Gaps(answer.Cluster, answer.Quarters))
	return nil
}

// completenessTable has a line per table.
func completenessTable(parts []registry.Completeness) *table {
	sums := make(map[string]*registry.Completeness)
	var order []string
	for _, p := range parts {
		s, ok := sums[p.Table]
		if !ok {
			s = &registry.Completeness{ExpectedBy: p.ExpectedBy}
			sums[p.Table], order = s, append(order, p.Table)
		}
		s.Expected, s.Received, s.Audited, s.Rated = s.Expected+p.Expected, s.Received+p.Received, s.Audited+p.Audited, s.Rated+p.Rated
		s.Refused, s.Rows, s.Revisions = s.Refused+p.Refused, s.Rows+p.Rows, s.Revisions+p.Revisions-int64(p.Windows)
	}
	t := &table{columns: append(left("TABLE"), right("EXPECTED", "RECEIVED", "AUDITED", "RATED", "REFUSED", "ROWS", "REVISED")...)}
	for _, name := range order {
		s := sums[name]
		expected, rated := "", ""
		if s.ExpectedBy != "" {
			expected, rated = fmt.Sprint(s.Expected), fmt.Sprint(s.Rated)
		}
		t.add(name, expected, fmt.Sprint(s.Received), fmt.Sprint(s.Audited), rated, fmt.Sprint(s.Refused), fmt.Sprint(s.Rows), fmt.Sprint(s.Revisions))
	}
	return t
}

// showGaps prints gaps, and what their reasons mean.
func (a *app) showGaps(gaps []query.Gap) {
	if len(gaps) == 0 {
		a.printf("\nNothing is missing.\n")
		return
	}
	a.printf("\nMissing:\n")
	used := make(map[registry.GapCode]bool)
	for i, gap := range gaps {
		used[gap.Reason] = true
		if i < gapLines {
			a.printf("  %s\n", gap)
		}
	}
	if more := len(gaps) - gapLines; more > 0 {
		a.printf("  … and %d more; -o json has all\n", more)
	}
	a.printf("\n")
	for _, code := range registry.GapCodes {
		if used[code.Code] {
			a.printf("%s: %s\n", code.Code, code.Meaning)
		}
	}
}
