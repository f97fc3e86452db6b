package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/spf13/cobra"
)

func newGet(a *app) *cobra.Command {
	var at string
	var history bool
	command := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "Show fleet objects: " + kindList() + ", all",
		Example: `  accumulus get nodes
  accumulus get pricelist standard -o yaml
  accumulus get all -o yaml > fleet.yaml`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: cobra.FixedCompletions(append(kindNames(), "all"), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			values := url.Values{}
			if at != "" {
				values.Set("at", at)
			}
			if history {
				values.Set("history", "true")
			}
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			objects, err := c.Objects(cmd.Context(), args[0], name, values)
			if err != nil {
				return err
			}
			if err := a.showObjects(objects, args[0]); err != nil || a.output != asTable || len(objects) == 0 || objects[0].Kind != fleet.KindMeter {
				return err
			}
			read, err := c.Meters(cmd.Context())
			if err != nil {
				return err
			}
			read = slices.DeleteFunc(read, func(m meters.Status) bool {
				return !slices.ContainsFunc(objects, func(o fleet.Object) bool { return o.Kind == fleet.KindMeter && o.Name() == m.Meter })
			})
			if len(read) == 0 {
				return nil
			}
			a.printf("\n")
			return a.showMeters(read)
		},
	}
	command.Flags().StringVar(&at, "at", "", "what held at this time, RFC 3339 (default now)")
	command.Flags().BoolVar(&history, "history", false, "every version")
	a.outputFlag(command, asTable, asYAML, asJSON)
	return command
}

func kindNames() []string {
	names := make([]string, len(fleet.Kinds))
	for i, kind := range fleet.Kinds {
		names[i] = strings.ToLower(string(kind))
	}
	return names
}

func kindList() string { return strings.Join(kindNames(), ", ") }

func (a *app) showObjects(objects []fleet.Object, asked string) error {
	switch a.output {
	case asJSON:
		return a.printJSON(objects)
	case asYAML:
		text, err := fleet.Encode(objects)
		if err != nil {
			return err
		}
		_, err = a.out.Write(text)
		return err
	}
	if len(objects) == 0 {
		a.printf("No %s holds now. `accumulus apply -f FILE` adds objects.\n", asked)
		return nil
	}
	t := &table{columns: left("KIND", "NAME", "VALID FROM", "VALID TO", "SPEC")}
	for _, o := range objects {
		from, to := "", ""
		if !o.ValidFrom.IsZero() {
			from = humanTime(o.ValidFrom)
		}
		if !o.ValidTo.IsZero() {
			to = humanTime(o.ValidTo)
		}
		summary, err := specSummary(o.Spec)
		if err != nil {
			return fmt.Errorf("show %s: %w", o, err)
		}
		t.add(string(o.Kind), o.Name(), from, to, summary)
	}
	return t.write(a.out)
}

// specSummary is a body in one line: its plain fields as key=value.
func specSummary(spec fleet.Spec) (string, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return "", err
	}
	var parts []string
	for name, value := range fields {
		switch value := value.(type) {
		case []any:
			parts = append(parts, fmt.Sprintf("%s=[%d]", name, len(value)))
		case map[string]any:
			parts = append(parts, name+"={…}")
		default:
			parts = append(parts, fmt.Sprintf("%s=%v", name, value))
		}
	}
	slices.Sort(parts)
	return firstLine(strings.Join(parts, " ")), nil
}
