package models

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// Every is how often the models are looked at.
const Every = time.Hour

// Readings are the meters' readings.
type Readings interface {
	// Load are the readings of a box that count, in [from, to), with the last
	// before and the first after of each meter, by meter and time.
	Load(ctx context.Context, box string, from, to time.Time) ([]meters.Reading, error)
}

// Keeper keeps the models.
type Keeper struct {
	registry *registry.Registry
	minute   *influxsync.Database
	readings Readings
	clock    clock.Clock
	log      *slog.Logger

	mu      sync.Mutex // of passes
	changes prometheus.Counter
	failed  prometheus.Counter
}

// New makes a keeper. It fails only where its metrics are registered already.
func New(reg *registry.Registry, minute *influxsync.Database, readings Readings, clk clock.Clock, log *slog.Logger, metrics prometheus.Registerer) (*Keeper, error) {
	k := &Keeper{registry: reg, minute: minute, readings: readings, clock: clk, log: log,
		changes: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_models_changes_total",
			Help: "Power models of hardware types that were changed."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_models_failed_total",
			Help: "Looks at the power models, or at what a box's meters teach, that failed; they are repeated within the hour."}),
	}
	return k, errors.Join(metrics.Register(k.changes), metrics.Register(k.failed))
}

// Run looks at the models at once and then each hour, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := k.Pass(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("power models", "err", err)
		}
		next := k.clock.Now().UTC().Truncate(Every).Add(Every)
		if clock.At(ctx, k.clock, next) != nil {
			break // the end of ctx is the way to stop
		}
	}
	return nil
}

// Pass makes the models follow what is known, takes lessons from the meters and
// learns from them. It returns the errors of the boxes that failed; the others
// are done.
func (k *Keeper) Pass(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	states, err := k.general(ctx, time.Time{}, "")
	if err == nil {
		_, err = k.put(ctx, states)
	}
	if err != nil {
		k.failed.Inc()
		return fmt.Errorf("choose models: %w", err)
	}
	return k.learnAll(ctx)
}

func (k *Keeper) put(ctx context.Context, states []registry.ModelState) ([]registry.Due, error) {
	if len(states) == 0 {
		return nil, nil
	}
	due, err := k.registry.PutModels(ctx, states)
	if err != nil {
		return nil, err
	}
	k.changes.Add(float64(len(states)))
	for _, s := range states {
		k.log.Info("power model changed", "hardware", s.Hardware, "box", s.Box, "from", s.From)
	}
	return due, nil
}

// Changed is what a calibration led to.
type Changed struct {
	Calibration registry.Calibration  `json:"calibration"`
	Models      []registry.ModelState `json:"models"` // new; none: the choice is as it was
	Due         int                   `json:"due"`    // boxes and quarters whose energy is computed again
}

// Calibrate records a calibration and makes the type's model follow it: from the
// next minute on, or since a moment in the past. Errors: ErrCalibration.
func (k *Keeper) Calibrate(ctx context.Context, c registry.Calibration, since time.Time) (Changed, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := k.registry.Fleet(ctx, k.clock.Now())
	if err != nil {
		return Changed{}, err
	}
	if node, ok := f.Node(c.Cluster, c.Node); ok && c.Hardware == "" {
		c.Hardware = node.Hardware
	}
	h, ok := f.Hardware(c.Hardware)
	if !ok {
		return Changed{}, fmt.Errorf("hardware %q of node %s/%s is not described: apply a Hardware object, and name it in the Node object: %w",
			c.Hardware, c.Cluster, c.Node, ErrCalibration)
	}
	if since.After(k.clock.Now()) || c.At.After(k.clock.Now().Add(schema.Minute)) {
		return Changed{}, fmt.Errorf("since and at must not lie in the future: %w", ErrCalibration)
	}
	earlier, err := k.registry.Calibrations(ctx, h.Name)
	if err != nil {
		return Changed{}, err
	}
	if err := checkPoints(c); err != nil {
		return Changed{}, err
	}
	if _, err := choose(knownOf(h, append(earlier, c))); err != nil {
		return Changed{}, fmt.Errorf("no model can be made of it: %w: %w", err, ErrCalibration)
	}
	changed := Changed{}
	if changed.Calibration, err = k.registry.AddCalibration(ctx, c); err != nil {
		return changed, err
	}
	if changed.Models, err = k.general(ctx, since, h.Name); err != nil {
		return changed, err
	}
	due, err := k.put(ctx, changed.Models)
	changed.Due = len(due)
	return changed, err
}

// ErrCalibration is a calibration that cannot be taken; the error says why.
var ErrCalibration = errors.New("the calibration was not taken")

func checkPoints(c registry.Calibration) error {
	if len(c.Points) == 0 {
		return fmt.Errorf("it has no points: %w", ErrCalibration)
	}
	for i, p := range c.Points {
		switch {
		case !(p.Load >= 0 && p.Load <= 100) || !(p.Utilisation >= 0 && p.Utilisation <= 1):
			return fmt.Errorf("points[%d]: load %v %% is not between 0 and 100, or utilisation %v not between 0 and 1: %w", i, p.Load, p.Utilisation, ErrCalibration)
		case !(p.Watts > 0 && p.Watts <= 1e6) || !(p.SpreadWatts >= 0 && p.SpreadWatts <= 1e6):
			return fmt.Errorf("points[%d]: %v W with a spread of %v W are not between 0 and 1e6: %w", i, p.Watts, p.SpreadWatts, ErrCalibration)
		}
		for _, o := range c.Points[:i] {
			if sameLevel(o.Utilisation, p.Utilisation) || o.Load == p.Load {
				return fmt.Errorf("points[%d] is at the load of another one: %w", i, ErrCalibration)
			}
		}
	}
	return nil
}
