package leader

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/carbon"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// boxMetrics are the boxes' energy and heat, and the grids' intensity, in the
// newest quarter that has ended and settled. They are gauges of a window and no
// counters: a meter's interval that closes later changes what a quarter had, and
// a counter cannot be corrected. They are asked for once in statusEvery.
type boxMetrics struct {
	query    *query.Engine
	registry *registry.Registry
	clock    clock.Clock
	log      *slog.Logger

	energy, residual, heat, useful, intensity, end *prometheus.Desc

	mu    sync.Mutex
	asked time.Time
	known []prometheus.Metric
}

func newBoxMetrics(engine *query.Engine, books *registry.Registry, clk clock.Clock, log *slog.Logger) *boxMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help+" In the newest settled quarter of an hour; see accumulus_box_window_end_timestamp_seconds.", labels, nil)
	}
	return &boxMetrics{query: engine, registry: books, clock: clk, log: log,
		energy:    desc("accumulus_box_energy_joules", "Energy of a box: measured by its meters, modelled for the same time, estimated where no meter ran, provisional until its meters' interval closes.", "box", "kind"),
		residual:  desc("accumulus_box_residual_joules", "What a box's meters counted and nobody carries: 0, or something is wrong.", "box"),
		heat:      desc("accumulus_box_heat_joules", "Heat that a box's energy became.", "box"),
		useful:    desc("accumulus_box_useful_heat_joules", "Heat of a box that was made use of, by sources that are no household's.", "box"),
		intensity: desc("accumulus_carbon_intensity_grams_per_kwh", "CO2e of a kWh of a grid, when the window began; source yearly is a yearly mean.", "grid", "zone", "source"),
		end:       prometheus.NewDesc("accumulus_box_window_end_timestamp_seconds", "End of the quarter that the metrics of boxes are of.", nil, nil)}
}

// Describe is of a prometheus.Collector.
func (b *boxMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{b.energy, b.residual, b.heat, b.useful, b.intensity, b.end} {
		to <- d
	}
}

// Collect is of a prometheus.Collector. Where the store cannot be read there is
// nothing to tell of boxes, and the other metrics are told.
func (b *boxMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTime)
	defer cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.clock.Now(); b.asked.IsZero() || now.Before(b.asked) || now.Sub(b.asked) >= statusEvery {
		known, err := b.ask(ctx)
		if err != nil {
			b.log.Warn("metrics of boxes cannot be read", "err", err)
			known = nil
		}
		b.known, b.asked = known, now
	}
	for _, m := range b.known {
		to <- m
	}
}

func (b *boxMetrics) ask(ctx context.Context) ([]prometheus.Metric, error) {
	settled, err := b.query.Settled(ctx)
	if err != nil {
		return nil, err
	}
	end := settled.Truncate(schema.Quarter)
	w := schema.Window{From: end.Add(-schema.Quarter), To: end}
	window := w.From.Format(time.RFC3339) + "," + w.To.Format(time.RFC3339)
	boxes, err := b.query.Boxes(ctx, window)
	if err != nil {
		return nil, err
	}
	heat, err := b.query.Heat(ctx, query.Request{Window: window, Aggregate: []query.Key{query.Box}, Limit: len(boxes.Boxes) + 1}, false)
	if err != nil {
		return nil, err
	}
	var all []prometheus.Metric
	add := func(desc *prometheus.Desc, value float64, labels ...string) {
		all = append(all, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...))
	}
	add(b.end, float64(w.To.Unix()))
	for _, box := range boxes.Boxes {
		if box.ModelledWatts == nil {
			continue // there are no rows of it
		}
		add(b.energy, box.ModelledJoules.Float(), box.Box, "modelled")
		add(b.energy, box.EstimatedJoules.Float(), box.Box, "estimated")
		add(b.energy, box.ProvisionalJoules.Float(), box.Box, "provisional")
		if box.MeasuredJoules != nil {
			add(b.energy, box.MeasuredJoules.Float(), box.Box, "measured")
			add(b.residual, box.ResidualJoules.Float(), box.Box)
		}
	}
	for _, row := range heat.Rows {
		box := row.Key[string(query.Box)]
		if box == "" {
			continue // nodes that stand in none
		}
		if row.ProducedJoules.Known() {
			add(b.heat, row.ProducedJoules.Float(), box)
		}
		add(b.useful, row.UsefulJoules.Float(), box)
	}
	return all, b.intensities(ctx, w, add)
}

// intensities are those of the grids at the window's start.
func (b *boxMetrics) intensities(ctx context.Context, w schema.Window, add func(*prometheus.Desc, float64, ...string)) error {
	snapshot, err := b.registry.Fleet(ctx, w.From)
	if err != nil {
		return err
	}
	for _, grid := range snapshot.Grids() {
		source, milligram, known := grid.SourceOrDefault(), int64(0), false
		if source != fleet.GridYearly {
			told, err := b.registry.Intensities(ctx, grid.Values(), grid.Zone, w)
			if err != nil {
				return err
			}
			for _, one := range told {
				if !one.At.After(w.From) && one.Until.After(w.From) {
					milligram, known = one.Milligram, true
				}
			}
		}
		if mean, there := carbon.Yearly(grid.Zone); !known && there && !grid.NoYearly {
			source, milligram, known = fleet.GridYearly, mean.Milligram, true
		}
		if known {
			add(b.intensity, float64(milligram)/1000, grid.Name, grid.Zone, source)
		}
	}
	return nil
}
