// Package work does what is due: it reads the inputs of a processor, runs it,
// and writes what it computed with a journal entry.
//
// It guarantees that the same inputs write nothing a second time, that an
// entry leaves the queue only after its rows are durable, and that a failing
// scope holds back only itself. Memory is one scope and quarter. It decides
// nothing about quantities or money: package processors does.
package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/output"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// Order is the order of the processors: each reads what those before it wrote.
// Power's run computes heat and carbon too; their own is for what changes alone.
var Order = []string{registry.ProcessorPower, registry.ProcessorHeat, registry.ProcessorCarbon, registry.ProcessorUsage, registry.ProcessorCost}

// Config bounds the waiting.
type Config struct {
	// Deadline is how long a box waits for its slowest cluster; then it is
	// computed with what is there, marked estimated, and is due again when the
	// rest comes. 0 is one quarter.
	Deadline time.Duration
	// Open is how long after its end a quarter stays due for an open meter
	// interval. A reading that comes later makes it due again. 0 is one hour.
	Open time.Duration
	// Budget ends a pass early, so that a backlog does not hold up a tick: what
	// is left stays due. Each processor has an equal part of it, so that a backlog
	// of one does not keep the others from their work, and does one entry at
	// least. 0 is no bound.
	Budget time.Duration
	// Archive brings back the minute rows of a day before something is computed of
	// them; nil where none are ever deleted.
	Archive Archive
}

// Archive has the minute rows of days that the store has no more.
type Archive interface {
	// Restore brings those of a cluster's UTC day back; it does nothing where they are
	// in the store.
	Restore(ctx context.Context, cluster string, day time.Time) error
}

// Stores are the centre's databases.
type Stores struct {
	Minute, Quarter *influxsync.Database
}

// Worker runs the processors.
type Worker struct {
	config   Config
	registry *registry.Registry
	stores   Stores
	readings *meters.Store
	clock    clock.Clock
	log      *slog.Logger

	energy, box                             *output.Table
	usage, nodes, energyQuarter, boxQuarter *output.Table
	volumes, cost                           *output.Table
	usageDay, nodeDay, volumeDay            *output.Table

	mu      sync.Mutex       // of Run
	lastDay registry.OpenDay // that a pass looked at; under mu
	done    *prometheus.CounterVec
	failed  *prometheus.CounterVec
}

// New makes a worker. It fails only where its metrics are registered already.
func New(config Config, reg *registry.Registry, stores Stores, readings *meters.Store, clk clock.Clock, log *slog.Logger, metrics prometheus.Registerer) (*Worker, error) {
	config.Deadline = cmp.Or(config.Deadline, schema.Quarter)
	config.Open = cmp.Or(config.Open, time.Hour)
	w := &Worker{config: config, registry: reg, stores: stores, readings: readings, clock: clk, log: log,
		energy:        output.New(stores.Minute, schema.EnergyMinute, clk),
		box:           output.New(stores.Minute, schema.BoxMinute, clk),
		usage:         output.New(stores.Quarter, schema.UsageQuarter, clk),
		nodes:         output.New(stores.Quarter, schema.NodeQuarter, clk),
		volumes:       output.New(stores.Quarter, schema.VolumeQuarter, clk),
		energyQuarter: output.New(stores.Quarter, schema.EnergyQuarter, clk),
		boxQuarter:    output.New(stores.Quarter, schema.BoxQuarter, clk),
		cost:          output.New(stores.Quarter, schema.CostQuarter, clk),
		usageDay:      output.New(stores.Quarter, schema.UsageDay, clk),
		nodeDay:       output.New(stores.Quarter, schema.NodeDay, clk),
		volumeDay:     output.New(stores.Quarter, schema.VolumeDay, clk),
		done: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_work_done_total",
			Help: "Scopes and quarters processed."}, []string{"processor"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_work_failed_total",
			Help: "Scopes and quarters whose processing failed; they stay due."}, []string{"processor"}),
	}
	return w, errors.Join(metrics.Register(w.done), metrics.Register(w.failed))
}

// Run makes one pass over what is due. It returns the errors of the scopes that
// failed; those stay due. A second call waits for the first to end.
func (w *Worker) Run(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	budget := w.config.Budget / time.Duration(len(Order)+1) // days are the last
	var failures []error
	for _, processor := range Order {
		began := w.clock.Now()
		list, err := w.registry.Due(ctx, processor, 0)
		if err != nil {
			return err
		}
		w.urgentFirst(list)
		for _, due := range list {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if budget > 0 && w.clock.Now().Sub(began) > budget {
				break
			}
			if err := w.run(ctx, due); err != nil {
				w.failed.WithLabelValues(processor).Inc()
				failures = append(failures, fmt.Errorf("%s of %s at %s: %w", processor, due.Scope, due.Quarter.Format(time.RFC3339), err))
				continue
			}
			w.done.WithLabelValues(processor).Inc()
		}
	}
	return errors.Join(append(failures, w.days(ctx, budget)...)...)
}

// urgentFirst puts what runs now before a backlog, which keeps its order: the
// oldest quarter first.
func (w *Worker) urgentFirst(list []registry.Due) {
	recent := w.clock.Now().Add(-2 * schema.Quarter)
	slices.SortStableFunc(list, func(a, b registry.Due) int {
		switch now, then := a.Quarter.After(recent), b.Quarter.After(recent); {
		case now == then:
			return 0
		case now:
			return -1
		default:
			return 1
		}
	})
}

func (w *Worker) run(ctx context.Context, due registry.Due) error {
	if err := w.bringBack(ctx, due); err != nil {
		return err
	}
	switch due.Processor {
	case registry.ProcessorPower:
		return w.power(ctx, due)
	case registry.ProcessorHeat, registry.ProcessorCarbon:
		return w.deriveAgain(ctx, due)
	case registry.ProcessorUsage:
		return w.sums(ctx, due)
	default:
		return w.rate(ctx, due)
	}
}

// quarterOf is the window of an entry.
func quarterOf(due registry.Due) schema.Window {
	return schema.Window{From: due.Quarter, To: due.Quarter.Add(schema.Quarter)}
}

// same says whether the scope's last run had these inputs.
func (w *Worker) same(ctx context.Context, due registry.Due, fingerprint string) (bool, error) {
	former, err := w.registry.Fingerprint(ctx, due.Processor, due.Scope, due.Quarter)
	return former == fingerprint, err
}

// Forget lets go of what is remembered of the leader's tables, after they were
// cleared. No pass may be running.
func (w *Worker) Forget() {
	for _, table := range []*output.Table{w.energy, w.box, w.usage, w.nodes, w.volumes, w.energyQuarter, w.boxQuarter, w.cost, w.usageDay, w.nodeDay, w.volumeDay} {
		table.Forget()
	}
}
