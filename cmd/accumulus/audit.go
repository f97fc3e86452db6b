package main

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/spf13/cobra"
)

// errDisagrees is an audit that found something.
var errDisagrees = errors.New("the audit found what does not agree")

func newSyncAudit(a *app) *cobra.Command {
	var cluster, window, tableName string
	var repair bool
	command := &cobra.Command{
		Use:   "audit --cluster NAME",
		Short: "Prove that the centre holds what the cluster settled",
		Long: `Computes rows and digest of each window anew from the rows in the centre, compares
them with the ledger, and the ledger with the journal of the cluster's follower.
With --repair, windows that are wrong are copied again; nothing is ever deleted.
The exit code is 0 if all agrees, and 1 if something does not.`,
		Example: `  accumulus sync audit --cluster edge-a
  accumulus sync audit --cluster edge-a --window yesterday --table pod --repair`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			values := url.Values{"window": {window}}
			if tableName != "" {
				values.Set("table", tableName)
			}
			if repair {
				values.Set("repair", "true")
			}
			report, err := c.Audit(cmd.Context(), cluster, values)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				err = a.printJSON(report)
			} else {
				err = a.showAudit(report)
			}
			if err == nil && report.Wrong() > 0 {
				err = fmt.Errorf("%w: %s", errDisagrees, plural.Of(report.Wrong(), "finding", "findings"))
			}
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&cluster, "cluster", "", "the cluster")
	flags.StringVarP(&window, "window", "w", "24h", "time to look at")
	flags.StringVar(&tableName, "table", "", "only this table")
	flags.BoolVar(&repair, "repair", false, "copy what is wrong again from the follower")
	_ = command.MarkFlagRequired("cluster") // the flag was just added
	a.outputFlag(command, asTable, asJSON)
	return command
}

// showAudit prints a line per table, and each finding.
func (a *app) showAudit(report audit.Report) error {
	a.printf("Cluster %s from %s to %s\n\n", report.Cluster, humanTime(report.From), humanTime(report.To))
	t := &table{columns: append(left("TABLE"), right("WINDOWS", "ROWS", "OK", "FINDINGS", "REPAIRED")...)}
	t.columns = append(t.columns, left("FOLLOWER")...)
	for _, table := range report.Tables {
		wrong, repaired, source := 0, 0, "compared"
		for _, f := range table.Findings {
			switch {
			case f.Repaired:
				repaired++
			case f.Wrong():
				wrong++
			}
		}
		if table.Source != "" {
			source = "not compared: " + firstLine(table.Source)
		}
		t.add(table.Table, fmt.Sprint(table.Windows), fmt.Sprint(table.Rows), fmt.Sprint(table.OK), fmt.Sprint(wrong), fmt.Sprint(repaired), source)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	for _, table := range report.Tables {
		for _, f := range table.Findings {
			a.printf("\n%s %s%s%s: %s", table.Table, f.Kind, spanOf(f), stateOf(f), f.Message)
		}
		for _, text := range table.Repair {
			a.printf("\n%s %s", table.Table, text)
		}
	}
	if report.Wrong() == 0 {
		text := "All agrees."
		if report.Windows() == 0 {
			text = "Nothing has come of this window: there was nothing to compare."
		}
		a.printf("\n%s", text)
	}
	a.printf("\n")
	return nil
}

func spanOf(f audit.Finding) string {
	if f.From.IsZero() {
		return ""
	}
	text := ", " + humanTime(f.From)
	if f.Windows > 1 {
		text += fmt.Sprintf(" to %s, %d windows", humanTime(f.To), f.Windows)
	}
	return text
}

func stateOf(f audit.Finding) string {
	switch {
	case f.Repaired:
		return " (repaired)"
	case f.Information:
		return " (nothing is wrong)"
	}
	return ""
}
