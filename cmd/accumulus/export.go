package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/spf13/cobra"
)

func newExport(a *app) *cobra.Command {
	var period, format, file string
	var require bool
	var files filesOptions
	command := &cobra.Command{
		Use:   "export",
		Short: "Export a period's cost, a line per customer, cluster, namespace and resource",
		Long: `Export a period's cost: a line per customer, cluster, namespace and resource with
quantity, unit, unit price, cost and currency. The lines add up to what
"accumulus usage --aggregate customer,cluster,namespace" shows for the period.

The column completeness is what came of the line's cluster by what must exist;
1.0000 is all of it. Clusters of which something is missing, those without a line
too, are named on standard error; with --require-complete nothing is written then.

The formats focus and opencost-csv are files: --out names a directory, into which
they go below focus/VERSION/ or opencost/, each whole, their manifest.json with
SHA-256 sums last. Without --out the formats csv and json go to the terminal or to
--file. docs/focus.md says what each column of FOCUS is filled with.`,
		Example: `  accumulus export --period 2026-11 --format csv > 2026-11.csv
  accumulus export --period lastmonth --format json --file lastmonth.json
  accumulus export --period lastmonth --require-complete --file lastmonth.csv
  accumulus export --format focus --period 2026-11 --out exports --compression parquet
  accumulus export --format opencost-csv --period 2026-11 --customer acme --out exports`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ofFiles := format == api.FormatFocus || format == api.FormatOpenCost
			if format != asCSV && format != asJSON && !ofFiles {
				return fmt.Errorf("format %q: use csv or json, focus or opencost-csv", format)
			}
			if err := files.check(cmd.Flags(), ofFiles, file); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if ofFiles {
				return a.exportFiles(cmd, c, files, period, format, require)
			}
			ask := c.Export
			if require {
				ask = c.ExportComplete
			}
			text, err := ask(cmd.Context(), period, asJSON) // with the completeness, which no CSV can hold of a cluster without a line
			if err != nil {
				return err
			}
			if text, err = a.exported(text, format); err != nil {
				return err
			}
			if files.out != "" {
				file, err = files.inDir(period, format)
				if err != nil {
					return err
				}
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
	flags.StringVar(&format, "format", asCSV, "csv, json, focus or opencost-csv")
	flags.BoolVar(&require, "require-complete", false, "write nothing and fail if something of the period is missing or was refused")
	flags.StringVar(&file, "file", "", "write to this file instead of the terminal")
	files.bind(flags)
	_ = command.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{asCSV, asJSON, api.FormatFocus, api.FormatOpenCost}, cobra.ShellCompDirectiveNoFileComp)) // the flag was just added
	return command
}

// exported is an export in the format, from JSON. It names the clusters that are
// incomplete.
func (a *app) exported(text []byte, format string) ([]byte, error) {
	var export query.Export
	if err := json.Unmarshal(text, &export); err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	for _, c := range export.Incomplete() {
		_, _ = fmt.Fprintf(a.errOut, "Warning: %s; `accumulus cluster status %s` says why\n", c, c.Cluster) // nowhere else to tell
	}
	for _, money := range export.Excluded {
		_, _ = fmt.Fprintf(a.errOut, "Not in the cost: %s of namespaces that a price list excludes; their lines have excluded=true\n", humanMoney(money.Cost, money.Currency))
	}
	if format == asJSON {
		return text, nil
	}
	var out bytes.Buffer
	err := export.WriteCSV(&out)
	return out.Bytes(), err
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
