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
	History  time.Duration // how old a reading may be that is sent; default 14 days, as long as minutes are kept
}

// Status is how one meter is read.
type Status struct {
	Meter     string    `json:"meter"`
	Box       string    `json:"box"`
	Last      Reading   `json:"-"`                    // the last that counted; zero before the first
	LastTime  time.Time `json:"lastReading,omitzero"` // its time
	Error     string    `json:"error,omitempty"`      // why the last attempt gave no reading that counts
	ErrorTime time.Time `json:"errorTime,omitzero"`
	Refused   int64     `json:"refused"`          // readings refused since the start
	Origin    string    `json:"origin,omitempty"` // "integrated": we count its watts
	Note      string    `json:"note,omitempty"`   // of the last reading that counted
	// LagSeconds is how long its times are behind usage, and Correlation how sure
	// that is: 0 where it is given, or not known yet.
	LagSeconds  float64 `json:"lagSeconds,omitempty"`
	Correlation float64 `json:"correlation,omitempty"`
	Counted     int64   `json:"counted"` // readings since the start
}

// meterKey is a meter in its box; a meter that moves begins a new life.
type meterKey struct{ box, meter string }

// Loop reads the meters. Status may be called at any time.
type Loop struct {
	config   Config
	registry *registry.Registry
	store    *Store
	readers  readers
	clock    clock.Clock
	log      *slog.Logger
	metrics  metrics

	tick  sync.Mutex // one at a time
	lives map[meterKey]life
	read  map[meterKey]time.Time // slot of the last attempt
	lags  Lags
	// devices are what each meter was at the last tick, and when it was replaced.
	devices map[meterKey]apparatus

	mu     sync.Mutex
	status map[meterKey]Status
}

type metrics struct {
	readings *prometheus.CounterVec
	missed   prometheus.Counter
	lag      *prometheus.GaugeVec
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
	if config.History <= 0 {
		config.History = 14 * 24 * time.Hour
	}
	l := &Loop{config: config, registry: r, store: store, readers: newReaders(client, clk, log), clock: clk, log: log,
		lives: make(map[meterKey]life), devices: make(map[meterKey]apparatus), read: make(map[meterKey]time.Time), status: make(map[meterKey]Status),
		metrics: metrics{
			readings: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_meters_readings_total",
				Help: "Readings of electricity meters by result (counted, refused, error)."}, []string{"result"}),
			missed: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_meters_missed_slots_total",
				Help: "Slots that began while an earlier one ran."}),
			lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "accumulus_meters_lag_seconds",
				Help: "How long the times of an electricity meter are behind usage."}, []string{"meter", "place"}),
		}}
	metricsRegistry.MustRegister(l.metrics.readings, l.metrics.missed, l.metrics.lag)
	return l
}

// Run reads at each slot until ctx ends. What fails is logged when it begins
// and when it ends, and tried again at the next slot.
func (l *Loop) Run(ctx context.Context) error {
	defer l.readers.close()
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
	rules rules
	boxes []string // that it counts
	lag   time.Duration
}

func (j job) key() meterKey { return meterKey{j.Place(), j.Name} }

// outcome is what one meter answered.
type outcome struct {
	job
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
	if l.lags, err = ReadLags(ctx, l.registry); err != nil {
		return fmt.Errorf("read meters: %w", err)
	}
	if err := l.noteReplaced(ctx, f.Meters()); err != nil {
		return fmt.Errorf("read meters: %w", err)
	}
	l.readers.keep(f.Meters())
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
		j := l.job(f, m)
		present[j.key()] = true
		last, ok := l.read[j.key()]
		if !polled(m) || ok && !slot.Before(last) && slot.Sub(last) < time.Duration(m.Interval) {
			continue
		}
		l.read[j.key()] = slot
		due = append(due, j)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.lives, func(k meterKey, _ life) bool { return !present[k] })
	maps.DeleteFunc(l.devices, func(k meterKey, _ apparatus) bool { return !present[k] })
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

// job is what is known of a meter of the fleet.
func (l *Loop) job(f *fleet.Fleet, m fleet.Meter) job {
	j := job{Meter: m, boxes: f.MeteredWith(f.BoxesOfMeter(m)...), rules: rules{maxPower: anyBox, rollover: m.RolloverMillijoules(), period: period(m, l.config.Interval)}}
	j.known, j.rules.replaced = l.lives[j.key()], l.devices[j.key()].replaced
	j.lag = l.lags.of(m, l.clock.Now()).Lag
	if most, ok := f.MeterMaxMilliwatts(m); ok {
		j.rules.maxPower = min(anyBox, most*nameplateFactor)
	}
	return j
}

// one reads a meter and judges its answer.
func (l *Loop) one(ctx context.Context, j job) outcome {
	o := outcome{job: j, before: j.known, life: j.known}
	fail := func(err error) outcome {
		o.reason, o.failed = err.Error(), true
		return o
	}
	var err error
	if !o.before.known && j.Driver == fleet.DriverInfluxDB { // it is asked for what came since
		if o.before, err = l.store.life(ctx, j.Place(), j.Name); err != nil {
			return fail(err)
		}
	}
	readings, err := l.readings(ctx, j.Meter, o.before.last.Time)
	if err == nil && len(readings) > 0 && !o.before.known {
		o.before, err = l.store.life(ctx, j.Place(), j.Name)
	}
	if err != nil {
		return fail(err)
	}
	o.life = o.before
	for _, r := range readings {
		var rows []Reading
		o.life, rows = o.life.judge(r, j.rules)
		if o.rows, o.reason = append(o.rows, rows...), ""; len(rows) > 0 {
			o.reason = rows[len(rows)-1].Refused
		}
	}
	return o
}

// readings asks the device.
func (l *Loop) readings(ctx context.Context, m fleet.Meter, after time.Time) ([]Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	samples, err := l.readers.read(ctx, m, after)
	if err != nil {
		return nil, err
	}
	readings := make([]Reading, len(samples))
	for i, s := range samples {
		readings[i] = s.reading(m)
	}
	return readings, nil
}

// reading is a sample as a row of the meter's.
func (s sample) reading(m fleet.Meter) Reading {
	r := Reading{Box: m.Place(), Meter: m.Name, Received: s.received, CounterMillijoules: s.counter, HasCounter: s.hasCounter,
		PowerMilliwatts: s.power, HasPower: s.hasPower}
	if s.hasCounter {
		r.StepMillijoules = s.step
	}
	if m.Driver == fleet.DriverInfluxDB { // what is in a store is as old as it is
		r.Time = s.time
		return r
	}
	return stamp(r, s.time, m.Clock == fleet.ClockReceipt)
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
			o.reason, o.failed, o.life = err.Error(), true, l.lives[o.key()]
		} else {
			l.lives[o.key()] = o.life
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
	from := o.before.last.Time
	for _, r := range o.rows {
		if r.Refused != "" {
			continue
		}
		if from.IsZero() {
			from = r.Time
		}
		due = append(due, dueOf(o.boxes, from.Add(-o.lag), r.Time.Add(-o.lag), "meter reading")...)
		from = r.Time
	}
	return due
}

// dueOf is the power work of the boxes in the quarters from one time to another.
func dueOf(boxes []string, from, to time.Time, reason string) []registry.Due {
	var due []registry.Due
	for _, box := range boxes {
		for at := from.Truncate(schema.Quarter); !at.After(to); at = at.Add(schema.Quarter) {
			due = append(due, registry.Due{Processor: registry.ProcessorPower, Scope: box, Quarter: at, Reason: reason})
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
	s := l.status[o.key()]
	s.Meter, s.Box = o.Name, o.Place()
	if o.life.known {
		s.Last, s.LastTime = o.life.last, o.life.last.Time
		s.Origin, s.Note = o.life.last.Origin, o.life.last.Note
	}
	lag := l.lags.of(o.Meter, now)
	s.LagSeconds, s.Correlation = lag.Lag.Seconds(), lag.Correlation
	l.metrics.lag.WithLabelValues(o.Name, o.Place()).Set(s.LagSeconds)
	if o.reason != s.Error && (o.reason == "" || s.Error == "") {
		l.log.Info("meter changed state", "meter", s.Meter, "box", s.Box, "err", o.reason)
	}
	s.Error, s.ErrorTime = o.reason, now
	if o.reason == "" {
		s.ErrorTime = time.Time{}
	}
	if o.failed {
		l.metrics.readings.WithLabelValues("error").Inc()
	}
	for _, r := range o.rows {
		if r.Refused != "" {
			s.Refused++
			l.metrics.readings.WithLabelValues("refused").Inc()
		} else {
			s.Counted++
			l.metrics.readings.WithLabelValues("counted").Inc()
		}
	}
	l.status[o.key()] = s
}
