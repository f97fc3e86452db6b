package quarantine

import (
	"context"
	"log/slog"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTimeout bounds a scrape's question.
const scrapeTimeout = 5 * time.Second

var rows = prometheus.NewDesc("accumulus_quarantine_rows", "Rows that were not taken and are kept, without the discarded ones.",
	[]string{"cluster", "table", "kind", "class"}, nil)

// collector counts at each scrape.
type collector struct {
	registry *registry.Registry
	log      *slog.Logger
}

// NewCollector tells how many rows are kept, by cluster, table, kind and class.
func NewCollector(reg *registry.Registry, log *slog.Logger) prometheus.Collector {
	return &collector{registry: reg, log: log}
}

// Describe sends the one metric there is.
func (c *collector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- rows }

// Collect counts.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	counts, err := c.registry.QuarantineCounts(ctx, registry.QuarantineFilter{})
	if err != nil {
		c.log.Warn("quarantine was not counted", "err", err)
		return
	}
	for _, n := range counts {
		metrics <- prometheus.MustNewConstMetric(rows, prometheus.GaugeValue, float64(n.Rows), n.Cluster, n.Table, n.Kind, string(n.Class))
	}
}
