package meter

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what a person asks of a meter. None has a pod's name.
type metrics struct {
	readings   prometheus.Counter
	ignored    *prometheus.CounterVec // reason: old, future
	uncounted  prometheus.Counter
	resets     prometheus.Counter
	shifts     prometheus.Counter
	settled    *prometheus.CounterVec // reason
	rows       prometheus.Counter
	errors     *prometheus.CounterVec // store: raw, minute, journal
	unknown    prometheus.Counter
	attributed prometheus.Counter
	lag        prometheus.Gauge
	waiting    prometheus.Gauge
	series     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, lane string) (*metrics, error) {
	labels := prometheus.Labels{"lane": lane}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Name: "accumulus_meter_" + name, Help: help, ConstLabels: labels})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "accumulus_meter_" + name, Help: help, ConstLabels: labels}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "accumulus_meter_" + name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		readings:   counter("readings_total", "Readings made durable."),
		ignored:    vector("readings_ignored_total", "Readings not stored: not after the last of their series, or outside the lane.", "reason"),
		uncounted:  counter("uncounted_core_microseconds_total", "CPU that counters showed at first sight and that was not counted: they began before we looked."),
		resets:     counter("counter_resets_total", "Lives of counters that began anew."),
		shifts:     counter("clock_shifts_total", "Changes of the shift between a node's clock and ours."),
		settled:    vector("windows_settled_total", "Windows written, by reason.", "reason"),
		rows:       counter("minute_rows_total", "Minute rows written."),
		errors:     vector("store_errors_total", "Failed requests to the stores.", "store"),
		unknown:    counter("unknown_rows_total", "Pods, and windows of nodes, that settled with a fact \"unknown\" because it did not come before the deadline."),
		attributed: counter("unseen_core_microseconds_total", "CPU of ended pods taken from the balance of their node."),
		lag:        gauge("settle_lag_seconds", "Age of the end of the last settled window."),
		waiting:    gauge("waiting_rows", "Rows of settled windows that wait for facts."),
		series:     gauge("series", "Series held in memory."),
	}
	for _, c := range []prometheus.Collector{m.readings, m.ignored, m.uncounted, m.resets, m.shifts, m.settled,
		m.rows, m.errors, m.unknown, m.attributed, m.lag, m.waiting, m.series} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
