package follower

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/customer"
	"github.com/accumulus-metering/accumulus/follower/facts"
	"github.com/accumulus-metering/accumulus/follower/meter"
	"github.com/accumulus-metering/accumulus/follower/pseudonym"
	"github.com/accumulus-metering/accumulus/follower/tagger"
	"github.com/accumulus-metering/accumulus/follower/volumes"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Deps are what a follower is given beside its Config.
type Deps struct {
	Clock    clock.Clock
	Log      *slog.Logger
	Registry *prometheus.Registry // one for each follower; shown under /metrics
	Input    *Input               // in place of the source that the Config names
}

// Follower meters one cluster. New makes it, Run runs it once.
type Follower struct {
	config Config
	clock  clock.Clock
	log    *slog.Logger
	reg    *prometheus.Registry
	input  Input
	tagger *tagger.Tagger
	trust  trust
	met    *metrics

	customer *customer.Customer
	pushed   pushed

	viewers *semaphore.Weighted
	packers *packers

	// turn is held while the stores are used: the live loop and the filling of
	// history take turns, so that neither starves the other.
	turn sync.Mutex
	// opened is closed when store and meter can be used.
	opened chan struct{}

	// These are the loop's until opened is closed.
	store         *store
	storeID       string
	facts         *facts.Writer
	factsRestored bool
	journals      map[string]meter.Journal
	meter         *meter.Meter
	volumes       *volumes.Writer
	fence         *fence
	retention     retention

	mu     sync.Mutex
	tokens *tokens // nil before Run
	state  state
}

// state is what the loop tells of itself.
type state struct {
	started   time.Time
	lastTick  time.Time // start of the last slot that was worked on to its end
	beat      time.Time // when the loop last moved
	lastRead  time.Time // when a source last gave a body
	readError failure
	storeErr  failure // of the last attempt to store or settle
	distrust  string  // why nothing settles, or ""
	history   *HistoryStatus
	open      bool
}

// failure is an error and since when it is the same.
type failure struct {
	text  string
	since time.Time
}

// New checks the configuration and makes a follower; it opens nothing.
func New(config Config, deps Deps) (*Follower, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config.KeepMinutes = cmp.Or(config.KeepMinutes, DefaultKeepMinutes)
	f := &Follower{config: config, clock: deps.Clock, log: deps.Log, reg: deps.Registry, opened: make(chan struct{}),
		viewers: semaphore.NewWeighted(viewerQueries), packers: newPackers()}
	switch {
	case deps.Input != nil:
		f.input = *deps.Input
	case config.Source == "":
		return nil, errors.New("source: one is needed")
	default:
		var err error
		if f.input, err = newInput(config, deps.Clock, deps.Log, deps.Registry); err != nil {
			return nil, err
		}
	}
	f.trust.local = f.input.Offset == nil
	var key ed25519.PublicKey
	if config.SeedPublicKey != "" {
		var err error
		if key, err = tagger.ParsePublicKey(config.SeedPublicKey); err != nil {
			return nil, err
		}
	}
	f.tagger = tagger.New(tagger.Config{Dir: config.SeedDir, PublicKey: key, Path: filepath.Join(config.Dir, "facts.db"), Cluster: config.Cluster,
		Interval: config.Interval}, deps.Clock, deps.Log, deps.Registry)
	var err error
	if f.met, err = newMetrics(deps.Registry); err != nil {
		return nil, err
	}
	if f.customer, err = f.newCustomer(deps.Registry); err != nil {
		return nil, err
	}
	return f, nil
}

// Log is the watch log. Whoever fills history tells it the pods that ended
// before the follower ran.
func (f *Follower) Log() *watch.Log { return f.input.Log }

// Names are the pseudonyms that stand in all that the follower stores, and what
// they stand for: for the cluster's own eyes. It is nil where names are stored.
func (f *Follower) Names() *pseudonym.Table { return f.input.Names }

// Run opens the stores, serves the port, and meters until ctx ends, which is
// no error. A store in this process that cannot be opened, a port in use, and a
// directory in use are errors; an external store that does not answer is waited
// for.
func (f *Follower) Run(ctx context.Context) (err error) {
	if err := f.openTokens(); err != nil {
		return err
	}
	if f.input.Names != nil {
		if err := f.input.Names.Open(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.input.Names.Close()) }()
	}
	listener, err := f.listen()
	if err != nil {
		return err
	}
	opened, err := openStore(f.config, f.log)
	if err != nil {
		if listener != nil {
			err = errors.Join(err, listener.Close())
		}
		return err
	}
	f.store = opened
	f.mu.Lock()
	f.state.started, f.state.beat = f.clock.Now(), f.clock.Now()
	f.mu.Unlock()
	defer func() { err = errors.Join(err, f.shut()) }()
	group, ctx := errgroup.WithContext(ctx)
	if listener != nil {
		f.log.Info("serving", "address", listener.Addr().String(), "tls", f.config.encrypted())
		group.Go(func() error { return f.serve(ctx, listener) })
	}
	group.Go(func() error { return f.loop(ctx) })
	return group.Wait()
}

// shut waits until nobody uses the stores, and closes them.
func (f *Follower) shut() error {
	f.mu.Lock()
	f.state.open = false
	f.mu.Unlock()
	f.turn.Lock()
	defer f.turn.Unlock()
	return f.store.close()
}

// loop restores, then ticks in slots of wall-clock time.
func (f *Follower) loop(ctx context.Context) error {
	for {
		err := f.restore(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.note(&f.state.storeErr, err, "stores cannot be opened")
		if err == nil {
			break
		}
		if f.clock.Sleep(ctx, f.config.Interval) != nil {
			return nil
		}
	}
	close(f.opened)
	f.log.Info("follower is open", "cluster", f.config.Cluster, "store", f.storeID)
	group, ctx := errgroup.WithContext(ctx)
	if f.input.Run != nil {
		group.Go(func() error { return f.input.Run(ctx) })
	}
	group.Go(func() error {
		f.ticks(ctx)
		return nil
	})
	return group.Wait()
}

// ticks works on each slot, until ctx ends. A slot that begins while the one
// before is worked on is worked on right after it; of several, the last one.
func (f *Follower) ticks(ctx context.Context) {
	interval := f.config.Interval
	slot := f.clock.Now().Truncate(interval)
	for {
		next := slot.Add(interval)
		switch now := f.clock.Now(); {
		case now.Sub(next) >= interval:
			next = now.Truncate(interval)
			f.met.missed.Add(float64(next.Sub(slot)/interval - 1))
		case next.Sub(now) > interval: // the clock was set back
			next = now.Truncate(interval).Add(interval)
		}
		if clock.At(ctx, f.clock, next) != nil {
			return
		}
		f.tick(ctx, next)
		slot = next
	}
}

// restore opens databases, journals, facts and meter. It may be called again
// after an error and goes on where it stopped.
func (f *Follower) restore(ctx context.Context) (err error) {
	f.beat()
	if err = f.store.Create(ctx, databases...); err != nil {
		return err
	}
	minute := f.store.Database(schema.MinuteDB)
	if !f.factsRestored {
		if err := f.restoreFacts(ctx); err != nil {
			return err
		}
		f.factsRestored = true
	}
	if f.fence == nil {
		if f.fence, err = openFence(ctx, minute, f.config.Cluster); err != nil {
			return err
		}
	}
	if f.journals == nil {
		if f.journals, err = openJournals(ctx, minute, f.config.Cluster, f.clock); err != nil {
			return err
		}
	}
	if f.meter == nil {
		if f.meter, err = f.newMeter("", f.config.From, time.Time{}, f.clock); err != nil {
			return err
		}
	}
	if err := f.meter.Restore(ctx); err != nil {
		return err
	}
	if f.volumes == nil {
		stores := volumes.Stores{Raw: f.store.Database(schema.RawDB), Minute: minute}
		if f.volumes, err = volumes.New(f.config.Cluster, stores, f.input.Log, f.clock, f.log, f.reg); err != nil {
			return err
		}
	}
	if err := f.volumes.Restore(ctx); err != nil {
		return err
	}
	if f.input.Resume != nil {
		last, err := lastReadings(ctx, f.store.Database(schema.RawDB), f.meter.Status().Mark)
		if err != nil {
			return err
		}
		f.input.Resume(last)
	}
	if err := f.readBegun(); err != nil {
		return err
	}
	// One that cannot be ended now does not keep the cluster from being metered: each
	// tick goes on with it, and until then who pulls is told that rows and journal differ.
	if err := f.goOn(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		f.log.Error("minutes that were being deleted cannot be deleted now: each slot goes on with it", "err", err)
	}
	f.mu.Lock()
	f.state.open = true
	f.mu.Unlock()
	return nil
}
