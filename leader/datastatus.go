package leader

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// What the metric of the data's status speaks of, and how often it asks.
const (
	statusWindow = 24 * time.Hour
	statusEvery  = time.Minute
	statusTime   = 10 * time.Second // a scrape waits no longer
)

// dataStatus counts what is here of each cluster, at most once in statusEvery
// each.
type dataStatus struct {
	registry *registry.Registry
	clock    clock.Clock
	desc     *prometheus.Desc

	mu    sync.Mutex
	known map[string]counted // by cluster
}

// counted is a cluster's status at some moment.
type counted struct {
	at     time.Time
	tables map[string]map[string]float64 // by table and status
}

func newDataStatus(books *registry.Registry, clk clock.Clock) *dataStatus {
	return &dataStatus{registry: books, clock: clk, known: make(map[string]counted), desc: prometheus.NewDesc("accumulus_data_status",
		"Node-windows of the last 24 hours that were expected, received, audited, rated and are missing; of refused, rows.",
		[]string{"cluster", "table", "status"}, nil)}
}

// Describe is of a prometheus.Collector.
func (d *dataStatus) Describe(to chan<- *prometheus.Desc) { to <- d.desc }

// Collect is of a prometheus.Collector.
func (d *dataStatus) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTime)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Now()
	snapshot, err := d.registry.Fleet(ctx, now)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.desc, err)
		return
	}
	present := make(map[string]counted)
	for _, cluster := range snapshot.Clusters() {
		c, err := d.count(ctx, cluster.Name, now)
		if err != nil {
			to <- prometheus.NewInvalidMetric(d.desc, fmt.Errorf("status of %s: %w", cluster.Name, err))
			continue
		}
		present[cluster.Name] = c
		for table, statuses := range c.tables {
			for status, value := range statuses {
				to <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, value, cluster.Name, table, status)
			}
		}
	}
	d.known = present
}

func (d *dataStatus) count(ctx context.Context, cluster string, now time.Time) (counted, error) {
	if c, ok := d.known[cluster]; ok && now.Sub(c.at) < statusEvery && !now.Before(c.at) {
		return c, nil
	}
	until := now.UTC().Truncate(schema.Minute)
	parts, err := d.registry.Completeness(ctx, cluster, schema.Window{From: until.Add(-statusWindow), To: until})
	if err != nil {
		return counted{}, err
	}
	c := counted{at: now, tables: make(map[string]map[string]float64)}
	for _, table := range schema.Pulled {
		c.tables[table.Name] = map[string]float64{"received": 0, "audited": 0, "refused": 0}
		if table.EachMinute() {
			c.tables[table.Name] = map[string]float64{"received": 0, "audited": 0, "refused": 0, "expected": 0, "rated": 0, "missing": 0}
		}
	}
	for _, p := range parts {
		of := c.tables[p.Table]
		of["received"], of["audited"], of["refused"] = of["received"]+float64(p.Received), of["audited"]+float64(p.Audited), of["refused"]+float64(p.Refused)
		if p.ExpectedBy != "" {
			of["expected"], of["rated"] = of["expected"]+float64(p.Expected), of["rated"]+float64(p.Rated)
			of["missing"] = of["expected"] - of["received"]
		}
	}
	return c, nil
}
