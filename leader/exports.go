package leader

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/bucket"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/robfig/cron/v3"
)

// ExportConfig schedules the billing export.
type ExportConfig struct {
	Schedule string // five cron fields in UTC, such as "15 2 * * *"; "" is never
	Dir      string // where PERIOD.csv or the directories of files go; they are replaced whole

	Format      string // "" and csv are PERIOD.csv in Dir; api.FormatFocus and api.FormatOpenCost are files
	Version     focus.Version
	Compression focus.Compression
	Step        time.Duration // of a charge period: an hour or a day; 0 is a day
	Labels      []string      // of pods, columns of OpenCost's CSV
	Bucket      bucket.Config // where files go in place of Dir; without a URL there is none
	Parties     focus.Parties // names in the files, also of those that are asked for
}

// files says whether the scheduled export is one of files.
func (c ExportConfig) files() bool {
	return c.Format == api.FormatFocus || c.Format == api.FormatOpenCost
}

// withDefaults is the configuration with what is "" made the default.
func (c ExportConfig) withDefaults() ExportConfig {
	c.Version, c.Compression = cmp.Or(c.Version, focus.V14), cmp.Or(c.Compression, focus.Gzip)
	return c
}

// Validate lists what is wrong.
func (c ExportConfig) Validate() error {
	if !c.files() && c.Format != "" && c.Format != "csv" {
		return fmt.Errorf("export format %q: use csv, %s or %s", c.Format, api.FormatFocus, api.FormatOpenCost)
	}
	if c.Bucket.URL != "" {
		if !c.files() {
			return fmt.Errorf("export bucket: only the formats %s and %s go to a bucket", api.FormatFocus, api.FormatOpenCost)
		}
		if err := c.Bucket.Validate(); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	if _, err := focus.ParseVersion(string(c.Version)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if _, err := focus.ParseCompression(string(c.Compression)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if len(c.Labels) > 0 && c.Format != api.FormatOpenCost {
		return fmt.Errorf("export labels: they are columns of the format %s", api.FormatOpenCost)
	}
	if c.Step != 0 && c.Step != time.Hour && c.Step != 24*time.Hour {
		return fmt.Errorf("export: a charge period of %s: use 1h or 24h", c.Step)
	}
	if c.Schedule == "" {
		return nil
	}
	if _, err := cron.ParseStandard(c.Schedule); err != nil {
		return fmt.Errorf("export schedule %q: %w", c.Schedule, err)
	}
	if c.Dir == "" && c.Bucket.URL == "" {
		return fmt.Errorf("export schedule %q: name a directory for the files", c.Schedule)
	}
	return nil
}

// runExports writes the export of the month that the last minute before each
// scheduled moment lies in, until ctx ends.
func (l *Leader) runExports(ctx context.Context) error {
	return l.onSchedule(ctx, l.config.Exports.Schedule, func(at time.Time) {
		if l.config.Exports.files() {
			l.sendExports(ctx, at)
			return
		}
		period := at.Add(-time.Minute).Format("2006-01")
		path, err := l.WriteExport(ctx, period)
		if err != nil {
			l.log.Error("export failed", "period", period, "err", err)
			return
		}
		l.log.Info("export written", "period", period, "path", path)
	})
}

// sendExports writes the files of a scheduled moment.
func (l *Leader) sendExports(ctx context.Context, at time.Time) {
	for _, period := range periods(at) {
		manifest, err := l.SendExport(ctx, period)
		if err != nil {
			l.log.Error("export failed", "period", period, "err", err)
			continue
		}
		l.log.Info("export written", "period", period, "rows", manifest.Rows, "files", len(manifest.Files), "complete", manifest.Complete)
	}
}

// onSchedule calls do at each moment of a cron schedule, until ctx ends; never
// for "".
func (l *Leader) onSchedule(ctx context.Context, spec string, do func(at time.Time)) error {
	if spec == "" {
		<-ctx.Done()
		return nil
	}
	schedule, err := cron.ParseStandard(spec)
	if err != nil {
		return err
	}
	for {
		next := schedule.Next(l.clock.Now())
		if err := clock.At(ctx, l.clock, next); err != nil {
			return nil // the end of ctx is the way to stop
		}
		do(next)
	}
}

// WriteExport writes a month's export as CSV and returns its path. What of the
// month is not here is in the column completeness, and in the log.
func (l *Leader) WriteExport(ctx context.Context, period string) (string, error) {
	export, err := l.query.Export(ctx, query.ExportRequest{Period: period})
	if err != nil {
		return "", fmt.Errorf("export %s: %w", period, err)
	}
	for _, c := range export.Incomplete() {
		l.log.Warn("export is incomplete", "period", period, "cluster", c.Cluster, "expected", c.Expected, "received", c.Received,
			"refused", c.Refused, "completeness", c.Ratio)
	}
	var text bytes.Buffer
	if err := export.WriteCSV(&text); err != nil {
		return "", err
	}
	if err := os.MkdirAll(l.config.Exports.Dir, 0o700); err != nil {
		return "", fmt.Errorf("export %s: %w", period, err)
	}
	path := filepath.Join(l.config.Exports.Dir, period+".csv")
	if err := os.WriteFile(path+".new", text.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("export %s: %w", period, err)
	}
	return path, os.Rename(path+".new", path)
}
