package leader

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/robfig/cron/v3"
)

// ExportConfig schedules the billing export.
type ExportConfig struct {
	Schedule string // five cron fields in UTC, such as "15 2 * * *"; "" is never
	Dir      string // where PERIOD.csv goes; it is replaced whole
}

// Validate lists what is wrong.
func (c ExportConfig) Validate() error {
	if c.Schedule == "" {
		return nil
	}
	if _, err := cron.ParseStandard(c.Schedule); err != nil {
		return fmt.Errorf("export schedule %q: %w", c.Schedule, err)
	}
	if c.Dir == "" {
		return fmt.Errorf("export schedule %q: name a directory for the files", c.Schedule)
	}
	return nil
}

// runExports writes the export of the month that the last minute before each
// scheduled moment lies in, until ctx ends.
func (l *Leader) runExports(ctx context.Context) error {
	return l.onSchedule(ctx, l.config.Exports.Schedule, func(at time.Time) {
		period := at.Add(-time.Minute).Format("2006-01")
		path, err := l.WriteExport(ctx, period)
		if err != nil {
			l.log.Error("export failed", "period", period, "err", err)
			return
		}
		l.log.Info("export written", "period", period, "path", path)
	})
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
