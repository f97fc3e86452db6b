package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newExport(a *app) *cobra.Command {
	var period, format, file string
	command := &cobra.Command{
		Use:   "export",
		Short: "Export a period's cost, a line per customer, cluster, namespace and resource",
		Long: `Export a period's cost: a line per customer, cluster, namespace and resource with
quantity, unit, unit price, cost and currency. The lines add up to what
"accumulus usage --aggregate customer,cluster,namespace" shows for the period.`,
		Example: `  accumulus export --period 2026-11 --format csv > 2026-11.csv
  accumulus export --period lastmonth --format json --file lastmonth.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != asCSV && format != asJSON {
				return fmt.Errorf("format %q: use csv or json", format)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			text, err := c.Export(cmd.Context(), period, format)
			if err != nil {
				return err
			}
			if file == "" {
				_, err = a.out.Write(text)
				return err
			}
			return writeWhole(file, text)
		},
	}
	flags := command.Flags()
	flags.StringVar(&period, "period", "month", "a month in UTC (2026-11), month, lastmonth, or any window that usage takes")
	flags.StringVar(&format, "format", asCSV, "csv or json")
	flags.StringVar(&file, "file", "", "write to this file instead of the terminal")
	_ = command.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{asCSV, asJSON}, cobra.ShellCompDirectiveNoFileComp)) // the flag was just added
	return command
}

// writeWhole writes a file so that no half of it is ever seen under its name.
func writeWhole(path string, text []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".accumulus-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temporary.Write(text)
	if closed := temporary.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name()) // the first error tells
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
