package leader

import (
	"context"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// daysWaiting counts the days of clusters that wait for what is done with a day.
type daysWaiting struct {
	registry *registry.Registry
	archive  *archive.Keeper
	clock    clock.Clock
}

var daysWaitingDesc = prometheus.NewDesc("accumulus_days_waiting",
	"UTC days of clusters that ended and wait: fill, for their sums in usage_day; archive, three days after their end, to be archived as they are (seen by the last pass); copy, to be copied into the archive's bucket.",
	[]string{"step"}, nil)

// Describe is of a prometheus.Collector.
func (d daysWaiting) Describe(to chan<- *prometheus.Desc) { to <- daysWaitingDesc }

// Collect is of a prometheus.Collector.
func (d daysWaiting) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTime)
	defer cancel()
	tell := func(step string, days int, err error) {
		if err != nil {
			to <- prometheus.NewInvalidMetric(daysWaitingDesc, err)
			return
		}
		to <- prometheus.MustNewConstMetric(daysWaitingDesc, prometheus.GaugeValue, float64(days), step)
	}
	fill, err := d.registry.CountOpenDays(ctx, d.clock.Now())
	tell("fill", fill, err)
	tell("archive", d.archive.Waiting(), nil)
	copies, err := d.archive.Copies(ctx)
	if err != nil || copies != nil {
		waiting := 0
		if copies != nil {
			waiting = copies.Waiting
		}
		tell("copy", waiting, err)
	}
}
