package meters

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

const (
	lagEvery  = time.Hour
	lagWindow = 26 * time.Hour
	// lagChange is the least change of a lag that is worth computing again for:
	// usage is known by the minute.
	lagChange = 10 * time.Second
)

// RunLags looks each hour how long the times of each meter are behind usage, until
// ctx ends. A lag that is found twice in a row is kept.
func (l *Loop) RunLags(ctx context.Context) error {
	found := make(map[meterKey]time.Duration)
	for {
		slot, err := clock.Until(ctx, l.clock, lagEvery)
		if err != nil {
			return nil
		}
		if err := l.EstimateLags(ctx, slot, found); err != nil && ctx.Err() == nil {
			l.log.Warn("lags of meters cannot be estimated", "err", err)
		}
	}
}

// EstimateLags looks at all meters once. found is what was found the last time.
func (l *Loop) EstimateLags(ctx context.Context, now time.Time, found map[meterKey]time.Duration) error {
	snapshot, err := l.registry.Fleet(ctx, now)
	if err != nil {
		return err
	}
	lags, err := ReadLags(ctx, l.registry)
	if err != nil {
		return err
	}
	for _, m := range snapshot.Meters() {
		if m.Lag != 0 {
			continue
		}
		key := meterKey{m.Place(), m.Name}
		window := schema.Window{From: now.Add(-lagWindow), To: now}
		readings, err := l.store.Load(ctx, m.Place(), window.From, window.To)
		if err != nil {
			return err
		}
		counted := countedBy(m, readings, window)
		usage, err := l.store.modelled(ctx, snapshot, m, window)
		if err != nil {
			return err
		}
		estimate, ok := EstimateLag(counted, usage)
		current := lags.of(m, now)
		if !ok || (estimate.Lag-current.Lag).Abs() < lagChange {
			delete(found, key)
			continue
		}
		former, twice := found[key]
		found[key] = estimate.Lag
		if !twice || (former-estimate.Lag).Abs() >= lagChange {
			continue
		}
		if err := l.keepLag(ctx, snapshot, m, estimate, current, counted[0].Time, now); err != nil {
			return err
		}
		delete(found, key)
	}
	return nil
}

// keepLag stores a lag. The first that is found of a meter holds for the readings
// that it was found in, too; a later one for those to come, since nobody knows
// when it changed.
func (l *Loop) keepLag(ctx context.Context, f *fleet.Fleet, m fleet.Meter, e LagEstimate, current registry.MeterLag, first, now time.Time) error {
	kept := registry.MeterLag{Place: m.Place(), Meter: m.Name, Since: first, Lag: e.Lag, Correlation: e.Correlation, Samples: e.Samples, At: now}
	var due []registry.Due
	if current.At.IsZero() {
		due = dueOf(f.MeteredWith(f.BoxesOfMeter(m)...), first.Add(min(-e.Lag, 0)), now.Add(max(-e.Lag, 0)), "lag of meter "+m.Name)
	} else {
		kept.Since = now
	}
	l.log.Info("meter's times are behind usage", "meter", m.Name, "place", m.Place(), "lag", e.Lag, "former", current.Lag, "correlation", e.Correlation)
	return l.registry.PutMeterLag(ctx, kept, due)
}

// countedBy is what a meter counted in its newest life, in pieces that span enough
// of its steps.
func countedBy(m fleet.Meter, readings []Reading, w schema.Window) []Energy {
	var counted []Energy
	var epoch time.Time
	for _, r := range readings {
		if r.Meter != m.Name || !r.HasCounter || !w.Contains(r.Time) {
			continue
		}
		if !r.Epoch.Equal(epoch) {
			epoch, counted = r.Epoch, nil
		}
		if n := len(counted); n == 0 || r.CounterMillijoules-counted[n-1].Total >= processors.MinSteps*max(r.StepMillijoules, 1) {
			counted = append(counted, Energy{r.Time, r.CounterMillijoules})
		}
	}
	return counted
}

// modelled is what the models say that a meter's boxes, or its node, used: at the
// end of each minute, from the start of the first on.
func (s *Store) modelled(ctx context.Context, f *fleet.Fleet, m fleet.Meter, w schema.Window) ([]Energy, error) {
	byMinute := make(map[time.Time]int64)
	add := func(row influxsync.Point) error {
		byMinute[row.Time] += row.Int(schema.EnergyModelled)
		return nil
	}
	if node, ok := f.NodeOfMeter(m); ok {
		where := []influxsync.Condition{{Tag: schema.Cluster, Value: node.Cluster}, {Tag: schema.Node, Value: node.Node}}
		if err := s.minute.TimeQuery(ctx, schema.EnergyMinute.Name, w, where, add); err != nil {
			return nil, fmt.Errorf("read energy of node %s: %w", node.Node, err)
		}
	} else {
		for _, box := range f.BoxesOfMeter(m) {
			where := []influxsync.Condition{{Tag: schema.Box, Value: box}}
			if err := s.minute.TimeQuery(ctx, schema.BoxMinute.Name, w, where, add); err != nil {
				return nil, fmt.Errorf("read energy of box %s: %w", box, err)
			}
		}
	}
	minutes := make([]time.Time, 0, len(byMinute))
	for t := range byMinute {
		minutes = append(minutes, t)
	}
	slices.SortFunc(minutes, time.Time.Compare)
	var usage []Energy
	var total int64
	for i, t := range minutes {
		if i == 0 {
			usage = append(usage, Energy{t, 0})
		}
		total += byMinute[t]
		usage = append(usage, Energy{t.Add(schema.Minute), total})
	}
	return usage, nil
}
