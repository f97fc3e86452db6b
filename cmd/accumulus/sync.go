package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/spf13/cobra"
)

// errRefusedAgain is a replay of which rows stay in the quarantine.
var errRefusedAgain = errors.New("the store refused rows again; they stay in the quarantine")

// patience is how long the leader may work on a request of this file.
const patience = 2 * time.Hour

func newSync(a *app) *cobra.Command {
	command := &cobra.Command{Use: "sync", Short: "Prove what was copied from the clusters; rows that were not taken"}
	command.AddCommand(newSyncAudit(a), newSyncQuarantine(a), newSyncReplay(a), newSyncDiscard(a))
	parent(command)
	return command
}

// patientClient waits for long work.
func (a *app) patientClient() (*client.Client, error) {
	return client.New(client.Config{Server: a.server, TokenFile: a.tokenFile, CAFile: a.caFile, Timeout: patience})
}

// selection are the flags that say which quarantined rows are meant.
type selection struct {
	filter registry.QuarantineFilter
	class  string
	ids    []int64
	// changed says whether a flag was given.
	changed func(flag string) bool
}

func (s *selection) bind(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&s.filter.Cluster, "cluster", "", "rows of this cluster")
	flags.StringVar(&s.filter.Table, "table", "", "rows of this table")
	flags.StringVar(&s.class, "class", "", "rows with which this is the matter, such as type-conflict")
}

func (s *selection) bindChange(command *cobra.Command) {
	s.bind(command)
	s.changed = command.Flags().Changed
	command.Flags().Int64SliceVar(&s.ids, "id", nil, "these rows, by the id that accumulus sync quarantine shows")
	command.Flags().BoolVar(&s.filter.All, "all", false, "all rows of all clusters")
}

// complete is the filter, or an error where it selects everything without
// saying so.
func (s *selection) complete() (registry.QuarantineFilter, error) {
	s.filter.Class, s.filter.IDs = influxsync.Class(s.class), s.ids
	for flag, value := range map[string]string{"cluster": s.filter.Cluster, "table": s.filter.Table, "class": s.class} {
		if s.changed(flag) && value == "" { // an empty variable of a shell would take more rows than were meant
			return s.filter, fmt.Errorf("--%s has no value: give it one, or leave it out", flag)
		}
	}
	if err := s.filter.Validate(); err != nil {
		return s.filter, fmt.Errorf("%w: add --cluster, --table, --class, --id or --all", err)
	}
	return s.filter, nil
}

func newSyncQuarantine(a *app) *cobra.Command {
	var selected selection
	var kind string
	var limit int
	command := &cobra.Command{
		Use:   "quarantine",
		Short: "List the rows that were not taken, with the reason",
		Long: `Lists the rows that were not taken, newest first: refused ones, which the central
store does not take, whole and to be replayed; and foreign ones, which name another
cluster than the one they came from.`,
		Example: `  accumulus sync quarantine --cluster edge-a
  accumulus sync quarantine --class type-conflict -o csv > refused.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return fmt.Errorf("limit %d: use a number above 0", limit)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			values := url.Values{}
			for name, value := range map[string]string{"cluster": selected.filter.Cluster, "table": selected.filter.Table, "class": selected.class, "kind": kind} {
				if value != "" {
					values.Set(name, value)
				}
			}
			list, err := quarantineRows(cmd, c, values, limit)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(list)
			}
			return a.showQuarantine(list)
		},
	}
	selected.bind(command)
	command.Flags().StringVar(&kind, "kind", "", "foreign or refused")
	command.Flags().IntVar(&limit, "limit", 100, "the most rows that are shown")
	a.outputFlag(command, asTable, asJSON, asCSV)
	return command
}

// quarantineRows asks for pages until there are limit rows.
func quarantineRows(cmd *cobra.Command, c *client.Client, values url.Values, limit int) (api.QuarantineList, error) {
	var all api.QuarantineList
	for {
		values.Set("limit", fmt.Sprint(min(limit-len(all.Rows), 10_000)))
		page, err := c.Quarantine(cmd.Context(), values)
		if err != nil {
			return all, err
		}
		page.Rows = append(all.Rows, page.Rows...)
		all = page
		if all.Next == "" || len(all.Rows) >= limit {
			return all, nil
		}
		values.Set("page", all.Next)
	}
}

func (a *app) showQuarantine(list api.QuarantineList) error {
	t := &table{columns: slices.Concat(right("ID"), left("CLUSTER", "TABLE", "KIND", "CLASS", "WINDOW"), right("SEEN"), left("LAST", "STATE", "REASON"))}
	moment := humanTime
	if a.output == asCSV {
		t.columns = append(t.columns, left("ROW")...)
		moment = func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	}
	for _, row := range list.Rows {
		window, state := "", "kept"
		if !row.From.IsZero() {
			window = moment(row.From)
		}
		if !row.Superseded.IsZero() {
			state = "superseded"
		}
		if !row.Discarded.IsZero() {
			state = "discarded: " + row.DiscardedFor
		}
		cells := []string{fmt.Sprint(row.ID), row.Cluster, row.Table, row.Kind, string(row.Class), window, fmt.Sprint(row.Seen),
			moment(row.Last), state, row.Reason}
		if a.output == asCSV {
			cells = append(cells, row.Line+string(row.Point))
		} else {
			cells[8], cells[9] = firstLine(state), firstLine(row.Reason)
		}
		t.add(cells...)
	}
	if a.output == asCSV {
		return t.writeCSV(a.out)
	}
	var kept, discarded int64
	classes := make(map[influxsync.Class]bool)
	for _, c := range list.Counts {
		kept, discarded = kept+c.Rows, discarded+c.Discarded
		classes[c.Class] = classes[c.Class] || c.Rows > 0
	}
	if kept+discarded == 0 {
		a.printf("No row was refused.\n")
		return nil
	}
	a.printf("%s kept, %s discarded\n\n", plural.Of(kept, "row is", "rows are"), plural.Of(discarded, "was", "were"))
	if err := t.write(a.out); err != nil {
		return err
	}
	if list.Next != "" {
		a.printf("… and more; --limit shows them\n")
	}
	a.printClassHints(classes)
	return nil
}

// printClassHints says what can be done about each class.
func (a *app) printClassHints(classes map[influxsync.Class]bool) {
	var names []string
	for class, wanted := range classes {
		if wanted && class.Hint() != "" {
			names = append(names, string(class))
		}
	}
	slices.Sort(names)
	for i, name := range names {
		if i == 0 {
			a.printf("\n")
		}
		a.printf("%s: %s\n", name, influxsync.Class(name).Hint())
	}
}

func newSyncReplay(a *app) *cobra.Command {
	var selected selection
	command := &cobra.Command{
		Use:   "replay",
		Short: "Write refused rows again, when what was the matter has been mended",
		Long: `Writes refused rows into the central store again. Those that it takes and gives
back leave the quarantine, and their quarters are computed again; the others stay,
with what is the matter now. It may be repeated. The exit code is 0 if the store
took all rows, and 1 if it refused some again.`,
		Example: `  accumulus sync replay --cluster edge-a
  accumulus sync replay --class type-conflict
  accumulus sync replay --id 17,18`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := selected.complete()
			if err != nil {
				return err
			}
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			outcome, err := c.Replay(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				err = a.printJSON(outcome)
			} else {
				a.showReplay(outcome)
			}
			var again int64
			for _, n := range outcome.Refused {
				again += n
			}
			if err == nil && again > 0 {
				err = fmt.Errorf("%w: %s", errRefusedAgain, plural.Of(again, "row", "rows"))
			}
			return err
		},
	}
	selected.bindChange(command)
	a.outputFlag(command, asTable, asJSON)
	return command
}

// showReplay says what came of a replay, and what can be done about the rest.
func (a *app) showReplay(outcome quarantine.Outcome) {
	if outcome.Accepted == 0 && len(outcome.Refused) == 0 {
		a.printf("There was no row to replay.\n")
		return
	}
	a.printf("%s taken\n", plural.Of(outcome.Accepted, "row was", "rows were"))
	classes := make(map[influxsync.Class]bool)
	for _, class := range sortedClasses(outcome.Refused) {
		a.printf("%s refused again: %s\n", plural.Of(outcome.Refused[class], "row was", "rows were"), class)
		classes[class] = true
	}
	a.printClassHints(classes)
}

func sortedClasses(counts map[influxsync.Class]int64) []influxsync.Class {
	var classes []influxsync.Class
	for class := range counts {
		classes = append(classes, class)
	}
	slices.Sort(classes)
	return classes
}

func newSyncDiscard(a *app) *cobra.Command {
	var selected selection
	var kind, reason string
	var yes bool
	command := &cobra.Command{
		Use:   "discard --reason WHY",
		Short: "Give rows up: they stay on record and are never written",
		Long: `Gives rows of the quarantine up. They stay on record with who gave them up and why,
are not replayed any more, and their windows stay incomplete in the ledger.`,
		Example: `  accumulus sync discard --cluster edge-a --class retention --reason "before the contract began"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			selected.filter.Kind = kind
			filter, err := selected.complete()
			if err != nil {
				return err
			}
			if strings.TrimSpace(reason) == "" {
				return errors.New("say why with --reason: it is kept with the rows")
			}
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			if err := a.confirm(yes, "Give up the rows of "+described(filter)+"? They are on record, and never written."); err != nil {
				return err
			}
			rows, err := c.Discard(cmd.Context(), api.DiscardRequest{QuarantineFilter: filter, Reason: reason})
			if err != nil {
				return err
			}
			a.printf("%s given up; %s on record\n", plural.Of(rows, "row was", "rows were"), map[bool]string{true: "it stays", false: "they stay"}[rows == 1])
			return nil
		},
	}
	selected.bindChange(command)
	command.Flags().StringVar(&kind, "kind", "", "foreign or refused")
	command.Flags().StringVar(&reason, "reason", "", "why; it is kept with the rows")
	command.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return command
}

// described names what a filter selects.
func described(filter registry.QuarantineFilter) string {
	var parts []string
	for _, part := range [][2]string{{"cluster", filter.Cluster}, {"table", filter.Table}, {"kind", filter.Kind}, {"class", string(filter.Class)}} {
		if part[1] != "" {
			parts = append(parts, part[0]+" "+part[1])
		}
	}
	if len(filter.IDs) > 0 {
		parts = append(parts, fmt.Sprintf("ids %v", filter.IDs))
	}
	if len(parts) == 0 {
		return "all clusters"
	}
	return strings.Join(parts, ", ")
}
