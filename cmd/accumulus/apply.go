package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/spf13/cobra"
)

const applyHelp = `Apply objects from YAML. Shows what would change and asks first. To apply the same
file again changes nothing. An object without validFrom holds from now on (a new
one: from the beginning); one with validFrom in the past is a correction, and
what depends on it is computed again. Prices that have held are corrected only with
--correct and --reason.

  apiVersion: accumulus.dev/v1
  kind: PriceList
  metadata: {name: standard}
  spec:
    currency: EUR
    rates:
    - {resource: cpu_used, price: "0.031"}      # a core-hour
    - {resource: memory_used, price: "0.004"}   # a GiB-hour
    - {resource: energy, price: "0.28"}         # a kWh

"accumulus get all -o yaml" prints what there is in the same form.`

func newApply(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Apply customers, clusters, boxes, nodes, hardware, meters, assignments and prices",
		Long:  applyHelp,
		Example: `  accumulus apply -f fleet.yaml
  accumulus apply -f prices.yaml --dry-run
  accumulus get pricelist standard -o yaml | sed 's/0.031/0.029/' | accumulus apply -f - --yes`,
	}
	a.applies(command)
	return command
}

// applies makes a command one that applies files.
func (a *app) applies(command *cobra.Command) {
	var files []string
	var yes, dryRun bool
	var change client.Change
	command.Args = cobra.NoArgs
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		text, err := a.readFiles(files)
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		plan, err := c.ApplyChange(cmd.Context(), text, true, change)
		if err != nil {
			return err
		}
		for _, warning := range plan.Warnings {
			_, _ = fmt.Fprintf(a.errOut, "Warning: %s; the cluster is not reached until that is mended\n", warning) // nowhere is left to tell
		}
		if len(plan.Changes) == 0 {
			return fmt.Errorf("no object is in %s: each document needs apiVersion, kind, metadata.name and spec", strings.Join(files, ", "))
		}
		a.printf("%s", plan.Changes)
		if plan.Changes.Empty() || dryRun {
			return nil
		}
		if plan.Due > 0 {
			a.printf("%s computed again\n", plural.Of(plan.Due, "quarter is", "quarters are"))
		}
		if err := a.confirm(yes, "Apply?"); err != nil {
			return err
		}
		if _, err := c.ApplyChange(cmd.Context(), text, false, change); err != nil {
			return err
		}
		a.printf("applied\n")
		return nil
	}
	flags := command.Flags()
	flags.StringArrayVarP(&files, "filename", "f", nil, "file to apply, - for standard input; may be repeated")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&dryRun, "dry-run", false, "only show what would change")
	flags.StringVar(&change.Reason, "reason", "", "why, in your words: it is recorded with the change")
	flags.BoolVar(&change.Correct, "correct", false, "also change prices that have held; needs --reason")
	_ = command.MarkFlagRequired("filename") // the flag was just added
}

// readFiles joins the files as documents of one text.
func (a *app) readFiles(files []string) ([]byte, error) {
	var texts [][]byte
	for _, name := range files {
		var text []byte
		var err error
		if name == "-" {
			text, err = io.ReadAll(a.in)
			a.interactive = false // standard input is used up
		} else {
			text, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		texts = append(texts, text)
	}
	return bytes.Join(texts, []byte("\n---\n")), nil
}
