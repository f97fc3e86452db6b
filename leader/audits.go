package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"
)

// AuditConfig schedules the audits.
type AuditConfig struct {
	Schedule string // five cron fields in UTC, such as "17 3 * * *"; "" is never
}

// Validate lists what is wrong.
func (c AuditConfig) Validate() error {
	if c.Schedule == "" {
		return nil
	}
	if _, err := cron.ParseStandard(c.Schedule); err != nil {
		return fmt.Errorf("audit schedule %q: %w", c.Schedule, err)
	}
	return nil
}

func newFindings(registerer prometheus.Registerer) (*prometheus.GaugeVec, error) {
	findings := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "accumulus_audit_findings",
		Help: "Windows that the last scheduled audit found wrong, by what does not agree."}, []string{"cluster", "table", "kind"})
	return findings, registerer.Register(findings)
}

// runAudits audits, without repair, the UTC day before each scheduled moment,
// until ctx ends.
func (l *Leader) runAudits(ctx context.Context) error {
	return l.onSchedule(ctx, l.config.Audits.Schedule, func(at time.Time) {
		today := at.UTC().Truncate(24 * time.Hour)
		if err := l.AuditAll(ctx, schema.Window{From: today.AddDate(0, 0, -1), To: today}); err != nil && ctx.Err() == nil {
			l.log.Error("audits failed", "err", err)
		}
	})
}

// AuditAll audits a window of every cluster, one after the other, logs what does
// not agree and sets the metric. It repairs nothing.
func (l *Leader) AuditAll(ctx context.Context, window schema.Window) error {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return err
	}
	var errs []error
	for _, cluster := range snapshot.Clusters() {
		report, err := l.auditor.Audit(ctx, audit.Request{Cluster: cluster.Name, Window: window})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.tell(report)
	}
	return errors.Join(errs...)
}

// tell logs a report's findings and counts their windows.
func (l *Leader) tell(report audit.Report) {
	l.findings.DeletePartialMatch(prometheus.Labels{"cluster": report.Cluster})
	windows := 0
	for _, table := range report.Tables {
		windows += table.Windows
		for _, f := range table.Findings {
			if !f.Wrong() {
				continue
			}
			l.findings.WithLabelValues(report.Cluster, table.Table, string(f.Kind)).Add(float64(max(1, f.Windows)))
			l.log.Warn("audit found what does not agree", "cluster", report.Cluster, "table", table.Table, "kind", f.Kind,
				"from", f.From, "to", f.To, "windows", f.Windows, "expected", f.Expected, "found", f.Found, "message", f.Message)
		}
	}
	l.log.Info("audited", "cluster", report.Cluster, "from", report.From, "windows", windows, "findings", report.Wrong())
}

// followerOf is a cluster's store, or why it cannot be asked.
func (l *Leader) followerOf(ctx context.Context, name string) (*influxsync.Server, error) {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return nil, err
	}
	cluster, known := snapshot.Cluster(name)
	if !known {
		return nil, fmt.Errorf("cluster %s is not pulled any more", name)
	}
	follower, err := l.pool.Get(cluster)
	if err != nil {
		return nil, err
	}
	return follower.Store, nil
}
