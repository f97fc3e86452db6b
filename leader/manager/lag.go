package manager

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTime bounds what a scrape waits for the registry.
const scrapeTime = 5 * time.Second

// lag tells how old each cluster's newest window is, at the moment of the
// scrape: it grows while a cluster cannot be reached.
type lag struct {
	manager *Manager
	desc    *prometheus.Desc
}

func newLag(m *Manager) lag {
	return lag{m, prometheus.NewDesc("accumulus_sync_lag_seconds", "Age of the newest settled window that has arrived.", []string{"cluster"}, nil)}
}

// Describe is of a prometheus.Collector.
func (l lag) Describe(to chan<- *prometheus.Desc) { to <- l.desc }

// Collect is of a prometheus.Collector. A cluster of which nothing has come has
// no age.
func (l lag) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	now := l.manager.clock.Now()
	snapshot, err := l.manager.parts.Registry.Fleet(ctx, now)
	if err != nil {
		to <- prometheus.NewInvalidMetric(l.desc, err)
		return
	}
	for _, cluster := range snapshot.Clusters() {
		settled, err := l.manager.Settled(ctx, cluster.Name)
		switch {
		case err != nil:
			to <- prometheus.NewInvalidMetric(l.desc, err)
		case !settled.IsZero():
			to <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, now.Sub(settled).Seconds(), cluster.Name)
		}
	}
}
