package meters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// Config of the loop. Zero fields take the defaults.
type Config struct {
	Interval time.Duration // length of a slot; default 10 s
	Timeout  time.Duration // of one meter's answer; default half a slot
	Parallel int           // meters that are read at once; default 256
}

// Status is how one meter is read.
type Status struct {
	Meter     string    `json:"meter"`
	Box       string    `json:"box"`
	Last      Reading   `json:"-"`                    // the last that counted; zero before the first
	LastTime  time.Time `json:"lastReading,omitzero"` // its time
	Error     string    `json:"error,omitempty"`      // why the last attempt gave no reading that counts
	ErrorTime time.Time `json:"errorTime,omitzero"`
	Refused   int64     `json:"refused"` // readings refused since the start
}

// meterKey is a meter in its box; a meter that moves begins a new life.
type meterKey struct{ box, meter string }

// Loop reads the meters. Status may be called at any time.
type Loop struct {
	config   Config
	registry *registry.Registry
	store    *Store
	clients  clients
	clock    clock.Clock
	log      *slog.Logger
	metrics  metrics

	tick  sync.Mutex // one at a time
	lives map[meterKey]life
	read  map[meterKey]time.Time // slot of the last attempt

	mu     sync.Mutex
	status map[meterKey]Status
}

type metrics struct {
	readings *prometheus.CounterVec
	missed   prometheus.Counter
}

// New makes a loop over the meters of the registry's fleet. The client reads
// them; one with a CA file of its own gets a copy that trusts that CA.
func New(config Config, r *registry.Registry, store *Store, client *http.Client, clk clock.Clock, log *slog.Logger, metricsRegistry prometheus.Registerer) *Loop {
	if config.Interval <= 0 {
		config.Interval = 10 * time.Second
	}
	if config.Timeout <= 0 {
		config.Timeout = config.Interval / 2
	}
	if config.Parallel <= 0 {
		config.Parallel = 256
	}
	l := &Loop{config: config, registry: r, store: store, clients: newClients(client), clock: clk, log: log,
		lives: make(map[meterKey]life), read: make(map[meterKey]time.Time), status: make(map[meterKey]Status),
		metrics: metrics{
			readings: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_meters_readings_total",
				Help: "Readings of electricity meters by result (counted, refused, error)."}, []string{"result"}),
			missed: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_meters_missed_slots_total",
				Help: "Slots that began while an earlier one ran."}),
		}}
	metricsRegistry.MustRegister(l.metrics.readings, l.metrics.missed)
	return l
}

// Run reads at each slot until ctx ends. What fails is logged when it begins
// and when it ends, and tried again at the next slot.
func (l *Loop) Run(ctx context.Context) error {
	failing := false
	var last time.Time
	for {
		slot, err := clock.Until(ctx, l.clock, l.config.Interval)
		if err != nil {
			return nil
		}
		if !last.IsZero() {
			if missed := int64(slot.Sub(last)/l.config.Interval) - 1; missed > 0 {
				l.metrics.missed.Add(float64(missed))
			}
		}
		last = slot
		err = l.Tick(ctx, slot)
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				l.log.Error("meter readings are not stored", "slot", slot, "err", err)
			} else {
				l.log.Info("meter readings are stored again", "slot", slot)
			}
		}
	}
}

// job is a meter to read, and what was known of it when the tick began.
type job struct {
	fleet.Meter
	known life
	limit int64 // most that its box can draw, mW
}

func (j job) key() meterKey { return meterKey{j.Box, j.Name} }

// outcome is what one meter answered.
type outcome struct {
	key    meterKey
	before life // what was known, here or in the store
	life   life // what is known once the rows are durable
	rows   []Reading
	reason string // why nothing counts; "" = it does, or nothing is new
	failed bool   // no answer that could be read
}

// Tick reads every meter that is due in the slot. Rows are written as the
// answers come, so that a meter that hangs holds up no other. A meter that
// fails is no error, but part of the Status; that rows cannot be written is.
func (l *Loop) Tick(ctx context.Context, slot time.Time) error {
	l.tick.Lock()
	defer l.tick.Unlock()
	f, err := l.registry.Fleet(ctx, slot)
	if err != nil {
		return fmt.Errorf("read meters: %w", err)
	}
	due := l.due(f, slot)
	outcomes := make(chan outcome, len(due))
	var wait sync.WaitGroup
	places := make(chan struct{}, l.config.Parallel)
	wait.Go(func() {
		for _, j := range due {
			places <- struct{}{}
			wait.Go(func() {
				defer func() { <-places }()
				outcomes <- l.one(ctx, j)
			})
		}
	})
	go func() {
		wait.Wait()
		close(outcomes)
	}()
	return l.collect(ctx, outcomes)
}

// due are the meters whose interval has passed, those that failed last.
func (l *Loop) due(f *fleet.Fleet, slot time.Time) []job {
	var due []job
	present := make(map[meterKey]bool)
	for _, m := range f.Meters() {
		j := job{Meter: m, known: l.lives[meterKey{m.Box, m.Name}], limit: anyBox}
		present[j.key()] = true
		last, ok := l.read[j.key()]
		if ok && !slot.Before(last) && slot.Sub(last) < time.Duration(m.Interval) {
			continue
		}
		l.read[j.key()] = slot
		if nameplate, ok := f.MaxMilliwatts(m.Box); ok {
			j.limit = min(j.limit, nameplate*nameplateFactor)
		}
		due = append(due, j)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.lives, func(k meterKey, _ life) bool { return !present[k] })
	maps.DeleteFunc(l.read, func(k meterKey, _ time.Time) bool { return !present[k] })
	maps.DeleteFunc(l.status, func(k meterKey, _ Status) bool { return !present[k] })
	slices.SortStableFunc(due, func(a, b job) int { return failures(l.status[a.key()]) - failures(l.status[b.key()]) })
	return due
}

func failures(s Status) int {
	if s.Error != "" {
		return 1
	}
	return 0
}

// one reads a meter and judges its answer.
func (l *Loop) one(ctx context.Context, j job) outcome {
	o := outcome{key: j.key(), before: j.known, life: j.known}
	r, err := l.reading(ctx, j.Meter)
	if err == nil && !o.before.known {
		o.before, err = l.store.life(ctx, j.Box, j.Name)
	}
	if err != nil {
		o.reason, o.failed = err.Error(), true
		return o
	}
	o.life, o.rows = o.before.judge(r, j.limit)
	if n := len(o.rows); n > 0 {
		o.reason = o.rows[n-1].Refused
	}
	return o
}

// reading asks the device.
func (l *Loop) reading(ctx context.Context, m fleet.Meter) (Reading, error) {
	client, err := l.clients.of(m)
	if err != nil {
		return Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	asked := l.clock.Now()
	body, err := fetch(ctx, client, m)
	if err != nil {
		return Reading{}, err
	}
	s, err := decode(m, body)
	if err != nil {
		return Reading{}, fmt.Errorf("read %s: %w", endpoint(m), err)
	}
	received := asked.Add(l.clock.Now().Sub(asked) / 2)
	r := Reading{Box: m.Box, Meter: m.Name, Time: received, Received: received,
		CounterMillijoules: s.counter, HasCounter: s.hasCounter, PowerMilliwatts: s.power, HasPower: s.hasPower}
	if s.hasCounter {
		r.StepMillijoules = step(m)
	}
	if !s.time.IsZero() {
		r.Time = s.time
	}
	return r, nil
}

// collect writes the outcomes in batches of what has come so far.
func (l *Loop) collect(ctx context.Context, outcomes <-chan outcome) error {
	var errs []error
	for o := range outcomes {
		batch := []outcome{o}
		for more := true; more; {
			select {
			case o, ok := <-outcomes:
				if more = ok; ok {
					batch = append(batch, o)
				}
			default:
				more = false
			}
		}
		errs = append(errs, l.keep(ctx, batch))
	}
	return errors.Join(errs...)
}

// keep makes a batch durable, then what it changes due, and only then moves on
// what is known of its meters.
func (l *Loop) keep(ctx context.Context, batch []outcome) error {
	var rows []Reading
	var due []registry.Due
	for _, o := range batch {
		rows = append(rows, o.rows...)
		due = append(due, o.reached()...)
	}
	var err error
	if len(rows) > 0 {
		err = l.store.Write(ctx, rows)
	}
	if err == nil {
		err = l.registry.AddDue(ctx, due...)
	}
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err()) // stopping says nothing about a meter
	}
	now := l.clock.Now()
	for _, o := range batch {
		if err != nil && len(o.rows) > 0 {
			o.reason, o.failed, o.life = err.Error(), true, l.lives[o.key]
		} else {
			l.lives[o.key] = o.life
		}
		l.record(o, now)
	}
	return err
}

// reached is the power work that an outcome makes due: every quarter from the
// last reading that counted to the new one. After a restart the last one comes
// from the store, so that work that was not added before the stop is added now.
func (o outcome) reached() []registry.Due {
	var due []registry.Due
	for _, r := range o.rows {
		if r.Refused != "" {
			continue
		}
		from := r.Time
		if o.before.known {
			from = o.before.last.Time
		}
		for at := from.Truncate(schema.Quarter); !at.After(r.Time); at = at.Add(schema.Quarter) {
			due = append(due, registry.Due{Processor: registry.ProcessorPower, Scope: o.key.box, Quarter: at, Reason: "meter reading"})
		}
	}
	return due
}

// Status is how each meter is read, by name.
func (l *Loop) Status() []Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Collect(maps.Values(l.status))
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Meter+"\x00"+a.Box, b.Meter+"\x00"+b.Box) })
	return list
}

func (l *Loop) record(o outcome, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status[o.key]
	s.Meter, s.Box = o.key.meter, o.key.box
	if o.life.known {
		s.Last, s.LastTime = o.life.last, o.life.last.Time
	}
	if o.reason != s.Error && (o.reason == "" || s.Error == "") {
		l.log.Info("meter changed state", "meter", s.Meter, "box", s.Box, "err", o.reason)
	}
	s.Error, s.ErrorTime = o.reason, now
	result := "counted"
	switch {
	case o.reason == "":
		s.ErrorTime = time.Time{}
	case o.failed:
		result = "error"
	default:
		result = "refused"
		s.Refused++
	}
	l.metrics.readings.WithLabelValues(result).Inc()
	l.status[o.key] = s
}
