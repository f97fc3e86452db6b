// Package manager is the leader's loop: in wall-clock slots it pulls every
// cluster, does what is due, and pushes each cluster's results.
//
// Clusters are visited side by side. The contact (its status), which is cheap,
// is made to many at once; only a follower that has answered takes one of the few
// places to pull. Who holds a place longer than Patience gives it back and goes
// on without one, and a cluster whose last visit straggled or failed goes through
// a lane of its own: so one that hangs, fails or is slow delays nobody. A slot
// ends after Grace; a cluster whose last visit still runs is left alone. Who had
// no turn comes first in the next slot; one that fails is tried less and less
// often, and one that is back is served after the others. A tick is only a wake-up: marks say what is to be pulled, the due queue
// what is to be computed, so a missed slot loses nothing and is counted.
package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is the rhythm.
type Config struct {
	Interval time.Duration // length of a slot; 0 is 15 s
	Timeout  time.Duration // of one cluster's pull or push; 0 is 10 min
	Grace    time.Duration // how long a slot waits for the slowest cluster; 0 is half of Interval
	Contact  time.Duration // how long a follower may take to tell its status; 0 is 30 s
	Patience time.Duration // how long contact, pull or push may keep a place from others; 0 is 2 s
	Backoff  time.Duration // the longest time between attempts at a cluster that fails; 0 is 5 min
	Contacts int           // clusters that are asked for their status at once; 0 is 64
	Parallel int           // clusters that are pulled, or pushed to, at once; 0 is 8
}

func (c Config) complete() Config {
	c.Interval = cmp.Or(c.Interval, 15*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Minute)
	c.Grace = cmp.Or(c.Grace, c.Interval/2)
	c.Contact = cmp.Or(c.Contact, 30*time.Second)
	c.Patience = cmp.Or(c.Patience, 2*time.Second)
	c.Backoff = cmp.Or(c.Backoff, 5*time.Minute)
	c.Contacts = cmp.Or(c.Contacts, 64)
	c.Parallel = cmp.Or(c.Parallel, 8)
	return c
}

// Puller copies what a cluster's follower has settled.
type Puller interface {
	Pull(ctx context.Context, cluster string, follower *influxsync.Server) (pull.Result, error)
}

// Pusher gives a cluster's results to its follower.
type Pusher interface {
	Push(ctx context.Context, cluster string, follower *influxsync.Server) (int, error)
}

// Worker does what is due.
type Worker interface {
	Run(ctx context.Context) error
}

// Parts are what the manager drives.
type Parts struct {
	Registry  *registry.Registry
	Followers *followers.Pool
	Puller    Puller
	Worker    Worker
	Pusher    Pusher
	// Random is uniform in [0, 1): it keeps clusters that failed together from
	// being tried together. nil is math/rand's.
	Random func() float64
}

// Contact is the last attempt to reach a cluster.
type Contact struct {
	Succeeded time.Time // the last one that did; zero before the first
	Failed    time.Time
	Err       error // of the last attempt; nil when it succeeded
	Windows   int   // pulled since the start
	Follower  FollowerStatus
	state     string // the ledger's word for it
	// NextAttempt is when a cluster whose last contact failed is tried again: at
	// the first slot after it. Zero where it did not fail.
	NextAttempt time.Time
	PushErr     error     // of the last push; nil when it succeeded
	PushFailed  time.Time // when a push first failed since the last one that succeeded
}

// ErrOpening is a follower that answers and has not opened its store yet.
var ErrOpening = errors.New("the follower is opening its store")

// errOther is a follower of another cluster than was asked for.
var errOther = errors.New("meters another cluster")

// Manager runs the loop.
type Manager struct {
	config Config
	parts  Parts
	clock  clock.Clock
	log    *slog.Logger

	visits         sync.WaitGroup
	well, doubtful *lane
	rank           atomic.Int64 // of visits in their lanes: who came first
	random         func() float64

	mu     sync.Mutex
	busy   map[string]chan struct{} // closed when the visit ends
	past   map[turn]past
	turns  int64 // visits since the start
	known  map[string]Contact
	failed error // of the last pass of the worker
	ticked time.Time
	missed int64

	metrics metrics
}

type metrics struct {
	pulled, rows, failures *prometheus.CounterVec
	missed                 prometheus.Counter
	tick                   prometheus.Histogram
}

// New makes a manager. It fails only where its metrics are registered already.
func New(config Config, parts Parts, clk clock.Clock, log *slog.Logger, registerer prometheus.Registerer) (*Manager, error) {
	m := assemble(config.complete(), parts, clk, log)
	cluster := []string{"cluster"}
	m.metrics = metrics{
		pulled:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_sync_windows_total", Help: "Windows pulled and confirmed."}, cluster),
		rows:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_sync_rows_total", Help: "Rows pulled."}, cluster),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_sync_failures_total", Help: "Pulls and pushes that failed."}, cluster),
		missed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_manager_missed_slots_total", Help: "Slots that began while an earlier one ran."}),
		tick:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "accumulus_manager_tick_seconds", Help: "Length of a tick.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 12)}),
	}
	x := m.metrics
	var errs []error
	for _, c := range []prometheus.Collector{x.pulled, x.rows, x.failures, newLag(m), x.missed, x.tick} {
		errs = append(errs, registerer.Register(c))
	}
	return m, errors.Join(errs...)
}

func assemble(config Config, parts Parts, clk clock.Clock, log *slog.Logger) *Manager {
	m := &Manager{config: config, parts: parts, clock: clk, log: log, random: parts.Random,
		busy: make(map[string]chan struct{}), past: make(map[turn]past), known: make(map[string]Contact),
		well: newLane(config.Contacts, config.Parallel), doubtful: newLane(config.Contacts/4, config.Parallel/2)}
	if m.random == nil {
		m.random = rand.Float64
	}
	return m
}

// Run ticks until ctx ends, and waits for what it started.
func (m *Manager) Run(ctx context.Context) error {
	defer m.visits.Wait()
	next := m.clock.Now().Truncate(m.config.Interval)
	for {
		_ = m.Tick(ctx) // its error is in Loop, and its changes in the log
		slot, err := clock.Until(ctx, m.clock, m.config.Interval)
		if err != nil {
			return nil // the end of ctx is the way to stop
		}
		if missed := int64(slot.Sub(next)/m.config.Interval) - 1; missed > 0 {
			m.mu.Lock()
			m.missed += missed
			m.mu.Unlock()
			m.metrics.missed.Add(float64(missed))
		}
		next = slot
	}
}

// Tick pulls, works and pushes once. Its error is that of the fleet, without
// which there is nothing to do, or of the work; a cluster's is in its Contact.
func (m *Manager) Tick(ctx context.Context) error {
	began := m.clock.Now()
	err := m.tick(ctx, began)
	ended := m.clock.Now()
	m.mu.Lock()
	before := m.failed
	if ctx.Err() == nil { // what was interrupted says nothing
		m.failed = err
		m.ticked = ended
	}
	m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case before == nil && err != nil:
		m.log.Warn("work fails", "err", err)
	case before != nil && err == nil:
		m.log.Info("work recovered")
	}
	m.metrics.tick.Observe(ended.Sub(began).Seconds())
	return err
}

func (m *Manager) tick(ctx context.Context, now time.Time) error {
	snapshot, err := m.parts.Registry.Fleet(ctx, now)
	if err != nil {
		return err
	}
	clusters := snapshot.Clusters()
	pulled := m.each(ctx, clusters, errand{phase: pulling, contact: true, do: m.pull})
	err = m.parts.Worker.Run(ctx)
	reached := slices.DeleteFunc(slices.Clone(clusters), func(c fleet.Cluster) bool {
		contact := m.Contact(c.Name)
		return contact.Err != nil || contact.Succeeded.IsZero()
	})
	push := errand{phase: pushing, do: m.push}
	pushed := m.each(ctx, reached, push)
	// The others are served: now for those that were in doubt.
	if back := m.recovered(pulling, pulled); len(back) > 0 && ctx.Err() == nil {
		err = errors.Join(err, m.parts.Worker.Run(ctx))
		m.recovered(pushing, m.each(ctx, back, push))
	}
	m.recovered(pushing, pushed)
	return err
}

// The phases of a slot in which clusters are visited.
const (
	pulling = "pull"
	pushing = "push"
)

func (m *Manager) pull(ctx context.Context, cluster fleet.Cluster, s *stay) error {
	result, followerStatus, err := m.contact(ctx, cluster, s.work)
	if stopped(ctx) {
		return ctx.Err()
	}
	err = displaced(ctx, err)
	m.record(ctx, cluster.Name, result, followerStatus, err)
	if err == nil && s.straggles() && m.mayPush(cluster) {
		// It may be busy whenever the others are pushed to.
		m.outcome(pushing, cluster, m.push(ctx, cluster, s), true)
	}
	return err
}

// Pull copies what one cluster has settled, outside the loop: a cluster that is
// removed is pulled to its last settled window first. That it failed before does
// not matter. The outcome is not on record.
func (m *Manager) Pull(ctx context.Context, cluster fleet.Cluster) (result pull.Result, err error) {
	err = m.Alone(ctx, cluster.Name, func(ctx context.Context) error {
		result, _, err = m.contact(ctx, cluster, func(context.Context) error { return nil })
		return err
	})
	return result, err
}

// Alone runs do while nobody visits the cluster: it waits for a visit of the
// loop to end, and none begins until do has ended. It needs no place. Its error
// is do's.
func (m *Manager) Alone(ctx context.Context, cluster string, do func(context.Context) error) error {
	for {
		ended, mine := m.take(cluster, "alone")
		if mine {
			break
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer m.release(cluster)
	return do(ctx)
}

// contact asks a follower how it is, and copies from it when place has returned.
func (m *Manager) contact(ctx context.Context, cluster fleet.Cluster, place func(context.Context) error) (pull.Result, FollowerStatus, error) {
	var followerStatus FollowerStatus
	follower, err := m.parts.Followers.Get(cluster)
	if err != nil {
		return pull.Result{}, followerStatus, err
	}
	asking, cancel := context.WithTimeout(ctx, m.config.Contact)
	defer cancel()
	if err := follower.Status(asking, &followerStatus); err != nil {
		return pull.Result{}, followerStatus, err
	}
	if followerStatus.Cluster != "" && followerStatus.Cluster != cluster.Name {
		return pull.Result{}, followerStatus, fmt.Errorf("the follower at %s %w: %s", cluster.URL, errOther, followerStatus.Cluster)
	}
	if err := place(ctx); err != nil {
		return pull.Result{}, followerStatus, err
	}
	timed, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	result, err := m.parts.Puller.Pull(timed, cluster.Name, follower.Store)
	return result, followerStatus, err
}

// record keeps the outcome for status, ledger and metrics, and logs a change of
// state.
func (m *Manager) record(timed context.Context, cluster string, result pull.Result, followerStatus FollowerStatus, err error) {
	ctx := context.WithoutCancel(timed) // a pull that took too long is on record too
	now := m.clock.Now()
	m.mu.Lock()
	before := m.known[cluster]
	contact := before
	contact.Err = err
	contact.Windows += result.Windows
	state, message := linkState(followerStatus, err)
	contact.state = state
	if err == nil {
		contact.Succeeded, contact.Follower = now, followerStatus
	} else {
		contact.Failed = now
		m.metrics.failures.WithLabelValues(cluster).Inc()
	}
	m.known[cluster] = contact
	m.mu.Unlock()
	if err == nil {
		m.parts.Registry.SetFilling(cluster, followerStatus.rest())
	}
	m.metrics.pulled.WithLabelValues(cluster).Add(float64(result.Windows))
	m.metrics.rows.WithLabelValues(cluster).Add(float64(result.Rows))
	if result.Quarantined > 0 || len(result.Eras) > 0 {
		m.log.Warn("cluster sent what was not expected", "cluster", cluster, "quarantined", result.Quarantined, "eras", result.Eras)
	}
	if state != before.state {
		m.log.Info("cluster link changed", "cluster", cluster, "state", state, "err", err)
		if err := m.parts.Registry.SetClusterState(ctx, cluster, state, now, message); err != nil {
			m.log.Warn("cluster state not kept", "cluster", cluster, "err", err)
		}
	}
}

func (m *Manager) push(ctx context.Context, cluster fleet.Cluster, _ *stay) error {
	timed, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	follower, err := m.parts.Followers.Get(cluster)
	if err == nil {
		_, err = m.parts.Pusher.Push(timed, cluster.Name, follower.Store)
	}
	if stopped(ctx) {
		return ctx.Err()
	}
	if err = displaced(ctx, err); err != nil {
		m.metrics.failures.WithLabelValues(cluster.Name).Inc()
	}
	now := m.clock.Now()
	m.mu.Lock()
	contact := m.known[cluster.Name]
	before := contact.PushErr
	switch contact.PushErr = err; {
	case err == nil:
		contact.PushFailed = time.Time{}
	case before == nil:
		contact.PushFailed = now
	}
	m.known[cluster.Name] = contact
	m.mu.Unlock()
	if (before != nil) != (err != nil) {
		m.log.Info("cluster push changed", "cluster", cluster.Name, "works", err == nil, "err", err)
	}
	return err
}

// mayPush says whether pushing to the cluster does not back off.
func (m *Manager) mayPush(cluster fleet.Cluster) bool {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.past[turn{pushing, cluster.Name}].due(cluster, now)
}
