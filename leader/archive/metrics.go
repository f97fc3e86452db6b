package archive

import (
	"context"
	"errors"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are of the archive. None has a cluster's name but the newest day.
type metrics struct {
	revisions, rows, bytes, deleted, restored, failures, copied, copyFailures prometheus.Counter
	duration                                                                  prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, reg *registry.Registry) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_archive_" + name, Help: help})
	}
	m := &metrics{
		revisions: counter("revisions_total", "Revisions of days of clusters that were archived."),
		rows:      counter("rows_total", "Rows that were archived, those of later revisions again."),
		bytes:     counter("bytes_total", "Bytes of Parquet that were written."),
		deleted:   counter("deleted_days_total", "Days of clusters whose minute rows were deleted from the store."),
		restored:  counter("restored_days_total", "Days of clusters whose minute rows were brought back into the store."),
		failures:  counter("failures_total", "Passes over a cluster's days that failed; they are tried again."),
		copied:    counter("copied_bytes_total", "Bytes that were copied into the bucket."),
		copyFailures: counter("copy_failures_total",
			"Passes that could not copy into the bucket all that waits: it cannot be reached, or something of the archive is damaged. Minute rows stay until it is copied."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "accumulus_archive_write_duration_seconds",
			Help: "Time of archiving a day of a cluster.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 12)}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.revisions, m.rows, m.bytes, m.deleted, m.restored, m.failures, m.copied, m.copyFailures, m.duration, newest{reg}} {
		errs = append(errs, registerer.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) wrote(of Manifest, took time.Duration) {
	m.revisions.Inc()
	m.rows.Add(float64(of.Rows()))
	m.bytes.Add(float64(of.Bytes()))
	m.duration.Observe(took.Seconds())
}

// newest tells when the newest archived day of each cluster begins.
type newest struct{ registry *registry.Registry }

var newestDesc = prometheus.NewDesc("accumulus_archive_newest_day_timestamp_seconds", "Begin of the newest archived day of the cluster.", []string{"cluster"}, nil)

// Describe tells of the metric.
func (n newest) Describe(to chan<- *prometheus.Desc) { to <- newestDesc }

// Collect reads the registry.
func (n newest) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	days, err := n.registry.NewestArchived(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(newestDesc, err)
		return
	}
	for cluster, day := range days {
		if cluster != schema.BoxCluster {
			to <- prometheus.MustNewConstMetric(newestDesc, prometheus.GaugeValue, float64(day.Unix()), cluster)
		}
	}
}
