package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// filesOptions are the flags of exports that are files.
type filesOptions struct {
	out, version, compression, customer, step string
	labels                                    []string
}

func (o *filesOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.out, "out", "", "directory for the files")
	flags.StringVar(&o.version, "focus-version", string(focus.V14), "version of FOCUS: 1.4 or 1.2")
	flags.StringVar(&o.compression, "compression", string(focus.Gzip), "data files of FOCUS: gzip (CSV), none (CSV) or parquet")
	flags.StringVar(&o.customer, "customer", "", "only this customer's charges, of focus and opencost-csv")
	flags.StringSliceVar(&o.labels, "labels", nil, "labels of pods, of opencost-csv: a column Label_NAME for each, for * the column Labels with all of them")
	flags.StringVar(&o.step, "charge-period", "1d", "length of a charge period of FOCUS, in UTC: 1d or 1h")
}

// check says which flags do not go together.
func (o *filesOptions) check(flags *pflag.FlagSet, ofFiles bool, file string) error {
	if ofFiles {
		if o.out == "" {
			return errors.New("this format is files: name a directory for them with --out")
		}
		if file != "" {
			return errors.New("this format is files: use --out in place of --file")
		}
		return nil
	}
	if o.out != "" && file != "" {
		return errors.New("use --file or --out, not both")
	}
	for _, name := range []string{"focus-version", "compression", "customer", "charge-period", "labels"} {
		if flags.Changed(name) {
			return fmt.Errorf("--%s goes with --format focus or opencost-csv", name)
		}
	}
	return nil
}

// inDir is the file in the directory of an export that is one.
func (o *filesOptions) inDir(period, format string) (string, error) {
	if err := os.MkdirAll(o.out, 0o700); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return filepath.Join(o.out, focus.Partition(period)+"."+format), nil
}

// exportFiles asks for files and puts them into the directory.
func (a *app) exportFiles(cmd *cobra.Command, c *client.Client, o filesOptions, period, format string, require bool) error {
	values := url.Values{"period": {period}, "format": {format}, "requireComplete": {strconv.FormatBool(require)}, "focusVersion": {o.version},
		"compression": {o.compression}, "step": {o.step}}
	if o.customer != "" {
		values.Set("customer", o.customer)
	}
	if len(o.labels) > 0 {
		values.Set("labels", strings.Join(o.labels, ","))
	}
	archive, err := c.ExportFiles(cmd.Context(), values)
	if err != nil {
		return err
	}
	manifest, err := focus.Fetch(cmd.Context(), bytes.NewReader(archive), focus.Dir(o.out))
	if err != nil {
		return err
	}
	if !manifest.Complete {
		_, _ = fmt.Fprintf(a.errOut, "Warning: %s is not complete, or has not settled; metadata.json and `accumulus cluster status NAME` say of when and why\n", period) // nowhere else to tell
	}
	for i, left := range manifest.LeftOut {
		if i == 0 {
			_, _ = fmt.Fprintln(a.errOut, "Not in the rows:") // nowhere else to tell
		}
		_, _ = fmt.Fprintf(a.errOut, "  %s %s of %s (%s)\n", left.Quantity, left.Unit, left.Resource, left.Reason) // nowhere else to tell
	}
	_, err = fmt.Fprintf(a.out, "%s in %s below %s\n", plural.Of(manifest.Rows, "row", "rows"), plural.Of(len(manifest.Files)+1, "file", "files"), o.out)
	return err
}
