package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/spf13/cobra"
)

func newAudit(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "audit",
		Short: "Who changed what by the leader's API",
		Long: `Shows the log of changes. To compare the centre's rows with the clusters, see
"accumulus sync audit".`,
	}
	command.AddCommand(newAuditLog(a))
	parent(command)
	return command
}

// errLogBroken is a log that was tampered with.
var errLogBroken = errors.New("the audit log does not agree with its hashes")

func newAuditLog(a *app) *cobra.Command {
	var since string
	var limit int
	var verify, asJSONToo bool
	command := &cobra.Command{
		Use:   "log",
		Short: "List changes, the newest first: who, from where, what, and what came of it",
		Example: `  accumulus audit log --since 7d
  accumulus audit log --verify --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			values := url.Values{"limit": {fmt.Sprint(limit)}}
			if since != "" {
				values.Set("since", since)
			}
			if verify {
				values.Set("verify", "true")
			}
			list, err := c.Changes(cmd.Context(), values)
			if err != nil {
				return err
			}
			if asJSONToo || a.output == asJSON {
				err = a.printJSON(list)
			} else {
				err = a.showChanges(list)
			}
			if err == nil && list.Chain != nil && list.Chain.Broken != "" {
				err = fmt.Errorf("%w: %s", errLogBroken, list.Chain.Broken)
			}
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&since, "since", "", "since when: 24h, 7d, or a time in RFC 3339 (default all)")
	flags.IntVar(&limit, "limit", 100, "how many at most")
	flags.BoolVar(&verify, "verify", false, "compute the hashes of the whole log anew; the exit code is 1 if they do not agree")
	flags.BoolVar(&asJSONToo, "json", false, "the same as -o json")
	a.outputFlag(command, asTable, asJSON)
	return command
}

func (a *app) showChanges(list api.ChangeList) error {
	t := &table{columns: left("TIME", "WHO", "ROLE", "VIA", "FROM", "WHAT", "OUTCOME", "OBJECTS")}
	for _, c := range list.Changes {
		what, outcome := strings.TrimSpace(c.Method+" "+c.Path), fmt.Sprint(c.Status)
		switch {
		case c.Seq == 0:
			what, outcome = "the leader itself", ""
		case c.Status == 0:
			outcome = "unknown"
		}
		t.add(humanTime(c.At), c.Principal, c.Role, c.Via, c.Source, what, outcome, objectNames(c.Objects))
	}
	if err := t.writeOr(a.out, "Nobody has asked for a change in that time."); err != nil {
		return err
	}
	if list.Next != "" {
		a.printf("\nThere is more: take a larger --limit.\n")
	}
	if list.Chain != nil && list.Chain.Broken == "" {
		a.printf("\nThe %d entries of the log agree with their hashes. The newest is %s: note it elsewhere.\n", list.Chain.Entries, list.Chain.Head)
	}
	return nil
}

// objectNames are the first few objects of a change.
func objectNames(objects []registry.ObjectChange) string {
	const most = 3
	var names []string
	for i, o := range objects {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(objects)-most))
			break
		}
		names = append(names, fmt.Sprintf("%s %s/%s", o.Action, o.Kind, o.Name))
	}
	return strings.Join(names, ", ")
}
