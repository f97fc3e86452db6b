package follower

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/facts"
	"github.com/accumulus-metering/accumulus/follower/meter"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// rawKept is how far back readings are of use, and with them the pods that
// ended: a node that was silent for less than this comes back in full.
const rawKept = 48 * time.Hour

// metrics are of the loop. None has a pod's name.
type metrics struct {
	ticks  prometheus.Counter
	missed prometheus.Counter
	length prometheus.Histogram
	errors *prometheus.CounterVec
	trust  prometheus.Gauge

	deleted prometheus.Counter
	disk    prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		ticks: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_follower_ticks_total",
			Help: "Slots worked on."}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_follower_missed_slots_total",
			Help: "Slots that passed while an earlier one was worked on; their usage is in the next reading."}),
		length: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "accumulus_follower_tick_duration_seconds",
			Help: "Time of a slot's work.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_follower_errors_total",
			Help: "Failed steps of a slot, by step (read, store, time)."}, []string{"step"}),
		trust: prometheus.NewGauge(prometheus.GaugeOpts{Name: "accumulus_follower_clock_trusted",
			Help: "1 while windows may settle by this clock, else 0."}),
		deleted: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_follower_deleted_table_days_total",
			Help: "Days of tables of minutes that were deleted for their age, or for the disk budget."}),
		disk: prometheus.NewGauge(prometheus.GaugeOpts{Name: "accumulus_follower_store_bytes",
			Help: "What the embedded store took of the disk when that was last looked at; 0 without a disk budget."}),
	}
	for _, c := range []prometheus.Collector{m.ticks, m.missed, m.length, m.errors, m.trust, m.deleted, m.disk} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register follower metrics: %w", err)
		}
	}
	return m, nil
}

// restoreFacts takes the seed into use and rebuilds the watch log.
func (f *Follower) restoreFacts(ctx context.Context) (err error) {
	if f.storeID, err = influxsync.StoreID(ctx, f.store.Database(schema.MinuteDB)); err != nil {
		return err
	}
	if err := f.tagger.Open(ctx); err != nil {
		return err
	}
	if f.facts == nil {
		stores := facts.Stores{Facts: f.store.Database(schema.FactsDB), Minute: f.store.Database(schema.MinuteDB)}
		f.facts, err = facts.New(facts.Config{Cluster: f.config.Cluster}, stores, f.clock, f.log, f.reg)
		if err != nil {
			return err
		}
	}
	if err := f.facts.Restore(ctx); err != nil {
		return err
	}
	return f.input.Log.Restore(f.facts.Load())
}

func (f *Follower) newMeter(lane string, from, to time.Time, clk clock.Clock) (*meter.Meter, error) {
	return meter.New(meter.Config{Cluster: f.config.Cluster, SharedRoot: f.config.SharedRoot, Lane: lane, Interval: f.config.Interval, From: from, To: to,
		SettleDeadline: f.config.SettleDeadline, FactsDeadline: f.config.FactsDeadline},
		meter.Deps{Clock: clk, Raw: rows{f.store.Database(schema.RawDB)}, Minute: rows{f.store.Database(schema.MinuteDB)},
			Journals: f.journals, Watch: f.input.Log, Tagger: f.tagger}, f.log, f.reg)
}

// tick is the work of one slot. What fails is done by the next one.
func (f *Follower) tick(ctx context.Context, slot time.Time) {
	f.beat()
	began := f.clock.Now()
	f.askTime(ctx)
	f.read(ctx)
	err := f.settle(ctx)
	if err == nil && f.trusts() {
		err = f.retain(ctx)
	}
	limitMemory(f.config.MemoryTarget)
	if ctx.Err() != nil {
		return
	}
	f.note(&f.state.storeErr, err, "readings cannot be stored or settled")
	if err != nil {
		f.met.errors.WithLabelValues("store").Inc()
	}
	f.met.ticks.Inc()
	f.met.length.Observe(f.clock.Now().Sub(began).Seconds())
	f.mu.Lock()
	f.state.lastTick = slot
	f.mu.Unlock()
}

// askTime compares our clock with the API server's, where there is one.
func (f *Follower) askTime(ctx context.Context) {
	if f.input.Offset == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, f.config.Interval/3)
	defer cancel()
	offset, err := f.input.Offset(ctx)
	if err != nil {
		f.met.errors.WithLabelValues("time").Inc()
		f.log.Debug("ask for the time", "err", err)
		return
	}
	f.trust.saw("API server", offset)
}

// read asks the source, for at most the length of the slot, and makes the
// readings durable.
func (f *Follower) read(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, f.config.Interval)
	defer cancel()
	bodies, err := f.input.Source.Read(limited)
	if saved := f.saveNames(ctx); saved != nil {
		bodies, err = nil, errors.Join(err, saved) // a counter's next sample holds it all
	}
	if len(bodies) > 0 {
		f.turn.Lock()
		err = errors.Join(err, f.meter.Add(ctx, bodies), f.volumes.Add(ctx, bodies))
		f.turn.Unlock()
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		f.met.errors.WithLabelValues("read").Inc()
	}
	f.note(&f.state.readError, err, "source cannot be read in full")
	if len(bodies) > 0 {
		f.mu.Lock()
		f.state.lastRead = f.clock.Now()
		f.mu.Unlock()
	}
}

// settle takes a changed seed into use, stores what the watch told, and
// settles the windows that are due. What rows depend on becomes durable before
// them.
func (f *Follower) settle(ctx context.Context) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.tagger.Refresh(ctx)
	now := f.clock.Now()
	if !f.trusted(now) || f.unwatched(now) {
		return nil
	}
	changes := f.input.Log.Pending()
	if err := f.saveNames(ctx); err != nil {
		return err
	}
	if err := f.facts.Observe(ctx, changes); err != nil {
		return err
	}
	f.input.Log.Stored(len(changes))
	n, err := f.meter.Settle(ctx)
	if err != nil {
		return err
	}
	volumes, err := f.settleVolumes(ctx)
	if err != nil {
		return err
	}
	if n += volumes; n > 0 {
		f.log.Debug("windows settled", "windows", n)
	}
	f.input.Log.Forget(now.Add(-rawKept))
	return nil
}

// settleVolumes settles the minutes of claims, once these were listed.
func (f *Follower) settleVolumes(ctx context.Context) (int, error) {
	if f.input.Watch != nil {
		if watched := f.input.Watch(); !watched.Synced || slices.Contains(watched.Unlisted, watch.KindClaim) {
			return 0, nil
		}
	}
	status := f.meter.Status()
	return f.volumes.Settle(ctx, status.From, status.Mark)
}

// saveNames makes durable what the pseudonyms of the rows to come stand for.
func (f *Follower) saveNames(ctx context.Context) error {
	if f.input.Names == nil {
		return nil
	}
	return f.input.Names.Save(ctx)
}

// trusted says whether windows may settle, and logs changes.
func (f *Follower) trusted(now time.Time) bool {
	why := f.trust.check(now, f.meter.Status().Mark)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case why != "" && f.state.distrust == "":
		f.log.Warn("nothing settles: the clock cannot be trusted", "reason", why)
	case why == "" && f.state.distrust != "":
		f.log.Info("the clock is trusted")
	}
	f.state.distrust = why
	if why == "" {
		f.met.trust.Set(1)
	} else {
		f.met.trust.Set(0)
	}
	return why == ""
}

// trusts says whether the last slot's windows could settle.
func (f *Follower) trusts() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.distrust == ""
}

// unwatched says whether the watch has not listed the cluster yet: pods that
// ended while nobody watched would hold windows back. It is waited for as long
// as for a silent node.
func (f *Follower) unwatched(now time.Time) bool {
	f.mu.Lock()
	started := f.state.started
	f.mu.Unlock()
	return f.input.Watch != nil && !f.input.Watch().Synced && now.Sub(started) < f.config.SettleDeadline
}

// beat is a sign of life.
func (f *Follower) beat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.beat = f.clock.Now()
}

// note keeps the outcome of a step and logs when it changes.
func (f *Follower) note(of *failure, err error, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil && of.text != "":
		f.log.Info("it works again", "after", message)
		*of = failure{}
	case err != nil && of.text == "":
		f.log.Warn(message, "err", err)
		*of = failure{text: err.Error(), since: f.clock.Now()}
	case err != nil:
		of.text = err.Error()
	}
}
