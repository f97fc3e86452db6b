package installer

import (
	"context"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fault"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTime bounds what a scrape waits for the registry.
const scrapeTime = 5 * time.Second

// passing says whether what is wrong with an installation may pass by itself.
func passing(one registry.Installation) bool { return passes(fault.Class(one.Class)) }

// collector shows the state of each cluster's installation.
type collector struct {
	store Store
	state *prometheus.Desc
}

func newCollector(store Store) *collector {
	return &collector{store, prometheus.NewDesc("accumulus_installation_state",
		"1 for the state that the follower's installation in a cluster is in.", []string{"cluster", "state"}, nil)}
}

// Describe is of a prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) { to <- c.state }

// Collect is of a prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	all, err := c.store.Installations(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.state, err)
		return
	}
	for _, one := range all {
		if one.State == registry.InstallRemoved {
			continue
		}
		for _, state := range registry.InstallStates {
			value := 0.0
			if state == one.State {
				value = 1
			}
			to <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, value, one.Cluster, state)
		}
	}
}
