// Package leader is the centre: it puts together the registry, the central
// store, the loops (pull, work, push, meters) and the REST API.
//
//	            ┌──────────────── manager (slots) ────────────────┐
//	followers ──┤ pull ─► minute, facts ─► work ─► energy, usage, ├──► followers'
//	            │   └──► registry: marks, ledger, due    cost     │    results
//	            └─────────────────────────────────────────────────┘
//	meters ─► loop ─► meters (readings)         query ◄─ api ◄─ people
//	heat readings ─► registry (3 days)    grids' intensities ─► registry
//
// Open does the I/O of a start, Run blocks until its context ends and waits for
// what it started, Close closes the stores. A process may hold several leaders,
// each with its own directory, registerer and logger.
package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/accumulus-metering/accumulus/leader/allocation"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/bucket"
	"github.com/accumulus-metering/accumulus/leader/carbon"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/events"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/heat"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/installer"
	"github.com/accumulus-metering/accumulus/leader/manager"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/prices"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/push"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/leader/work"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Config of a leader. Zero durations take the defaults.
type Config struct {
	Dir            string        // registry, embedded store, tokens
	StoreURL       string        // of an external InfluxDB 1.x; "" is the embedded one
	StoreTokenFile string        // bearer token of the external store; read again when it changes
	API            api.Config    // its Tokens are made in Dir
	Tick           time.Duration // 15 s
	MeterInterval  time.Duration // 10 s
	FailedAfter    time.Duration // how long a node must not be ready to have failed; 0 = 5 minutes
	OnePersonBooks bool          // one person may draft and approve a billing period, and that is recorded
	Access         AccessConfig
	Installer      InstallerConfig
	SeedKeyFile    string // PEM key that signs seeds; "" is seed.key in Dir, made at the first start
	Exports        ExportConfig
	Events         events.Config        // a webhook that is told of usage
	Announce       ahead.AnnounceConfig // a webhook that is told of runs that ended
	Audits         AuditConfig
	Archive        archive.Config // its Dir is archive in Dir where it is ""
	ArchiveBucket  bucket.Config  // that the archive is copied into; without a URL there is none

	Tokens      api.TokenFiles // tokens that somebody else keeps, such as mounted Secrets; else they are made in Dir
	AccessFile  string         // who is known beside the tokens, and how much each may take; "" is none
	InitialFile string         // fleet file of the first start; "" is none
}

// Validate lists all that is wrong.
func (c Config) Validate() error {
	var wrong []error
	if c.Dir == "" {
		wrong = append(wrong, errors.New("data: name a directory"))
	}
	for name, d := range map[string]time.Duration{"tick": c.Tick, "meter-interval": c.MeterInterval, "failed-after": c.FailedAfter} {
		if d != 0 && d < time.Second {
			wrong = append(wrong, fmt.Errorf("%s: %s is shorter than a second", name, d))
		}
	}
	withTokens := c.API
	withTokens.Tokens = api.Tokens{Operator: "o", Viewer: "v"} // made at the start
	return errors.Join(append(wrong, withTokens.Validate(), c.Exports.Validate(), c.validateEvents(), c.Announce.Validate(), c.Audits.Validate(), c.Archive.Validate(), c.validateArchiveBucket())...)
}

// databases of the centre.
var databases = []string{schema.MinuteDB, schema.FactsDB, schema.QuarterDB, schema.MetersDB}

// Leader is an open leader.
type Leader struct {
	config    Config
	clock     clock.Clock
	log       *slog.Logger
	started   time.Time
	registry  *registry.Registry
	id        string             // among other leaders
	keys      *credentials.Store // of clusters
	renewer   *credentials.Renewer
	engine    *embedded.Server // nil with an external store
	store     *influxsync.Server
	pool      *followers.Pool
	worker    *work.Worker
	manager   *manager.Manager
	meters    *meters.Loop
	models    *models.Keeper
	heat      *heat.Receiver
	carbon    *carbon.Loop
	prices    *prices.Loop
	query     *query.Engine
	auditor   *audit.Auditor
	books     *books.Books
	archive   *archive.Keeper
	events    *events.Sender // nil without a webhook
	ahead     *ahead.Desk
	budgets   *ahead.Budgeter
	announcer *ahead.Announcer // nil without a webhook
	installer *installer.Installer
	findings  *prometheus.GaugeVec // of the last scheduled audit
	api       *api.Server
	seedKey   seed.Key
	seeder    *seed.Seeder

	mu      sync.Mutex
	base    context.Context // of Run; nil before
	cancel  context.CancelFunc
	stopped chan struct{} // closed when the loops have ended; nil while they do not run
}

// Gathering is where metrics are registered and read from.
type Gathering interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Open opens the stores and builds the parts. It starts nothing.
func Open(ctx context.Context, config Config, clk clock.Clock, log *slog.Logger, metrics Gathering) (_ *Leader, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config.Tick = cmp.Or(config.Tick, 15*time.Second)
	config.Exports = config.Exports.withDefaults()
	l := &Leader{config: config, clock: clk, log: log, started: clk.Now(), pool: followers.NewPool(clk)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.config.API.Tokens, err = api.EnsureTokens(config.Dir, config.Tokens); err != nil {
		return nil, err
	}
	l.config.API.TokenFiles = config.Tokens.In(config.Dir)
	if err := l.openStores(ctx); err != nil {
		return nil, err
	}
	if err := l.applyInitial(ctx); err != nil {
		return nil, err
	}
	if err := l.addLocal(ctx); err != nil { // it changes the fleet: after the initial objects, which want one that nobody has
		return nil, err
	}
	if err := l.build(metrics); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Leader) openStores(ctx context.Context) error {
	if err := os.MkdirAll(l.config.Dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	var err error
	if l.config.StoreURL != "" {
		l.store, err = influxsync.New(influxsync.Config{URL: l.config.StoreURL, TokenFile: l.config.StoreTokenFile})
	} else {
		if l.engine, err = embedded.Open(embedded.Config{Dir: filepath.Join(l.config.Dir, "store")}, l.log); err != nil {
			return err
		}
		l.store, err = l.engine.Client()
	}
	if err != nil {
		return err
	}
	if err := l.store.Create(ctx, databases...); err != nil {
		return err
	}
	if l.registry, err = registry.Open(ctx, filepath.Join(l.config.Dir, "registry.db"), l.clock); err != nil {
		return err
	}
	if l.pool.Fence, err = l.registry.NextFence(ctx); err != nil {
		return err
	}
	return l.openAccess(ctx)
}

func (l *Leader) build(metrics Gathering) error {
	minute, quarter := l.store.Database(schema.MinuteDB), l.store.Database(schema.QuarterDB)
	readings := meters.NewStore(l.store)
	err := metrics.Register(newDataStatus(l.registry, l.clock))
	if err != nil {
		return err
	}
	l.worker, err = work.New(work.Config{Budget: l.config.Tick, Archive: archived{l}}, l.registry, work.Stores{Minute: minute, Quarter: quarter}, readings, l.clock, l.log, metrics)
	if err != nil {
		return err
	}
	puller := pull.New(l.registry, l.store)
	l.manager, err = manager.New(manager.Config{Interval: l.config.Tick}, manager.Parts{
		Registry: l.registry, Followers: l.pool, Puller: puller, Worker: l.worker, Pusher: push.New(l.registry, l.store),
	}, l.clock, l.log, metrics)
	if err != nil {
		return err
	}
	l.meters = meters.New(meters.Config{Interval: l.config.MeterInterval}, l.registry, readings,
		&http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}, l.clock, l.log, metrics)
	if l.models, err = models.New(l.registry, minute, readings, l.clock, l.log, metrics); err != nil {
		return err
	}
	l.heat = heat.New(l.registry, l.clock, l.log)
	l.carbon, err = carbon.New(carbon.Config{}, l.registry, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}, l.clock, l.log, metrics)
	if err != nil {
		return err
	}
	l.prices, err = prices.NewLoop(prices.Config{}, l.registry, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}, l.clock, l.log, metrics)
	if err != nil {
		return err
	}
	l.query = query.New(query.Config{}, query.Stores{Minute: archive.NewMinutes(l.archiveDir(), l.registry, minute), Quarter: quarter}, l.registry, l.clock)
	if err := metrics.Register(newBoxMetrics(l.query, l.registry, l.clock, l.log)); err != nil {
		return err
	}
	if err := l.buildEvents(metrics); err != nil {
		return err
	}
	if err := l.buildAhead(metrics); err != nil {
		return err
	}
	l.auditor = audit.New(audit.Parts{Registry: l.registry, Centre: l.store, Copier: puller, Gate: l.manager, Follower: l.followerOf}, l.clock)
	if l.findings, err = newFindings(metrics); err != nil {
		return err
	}
	if err := metrics.Register(quarantine.NewCollector(l.registry, l.log)); err != nil {
		return err
	}
	if l.renewer, err = credentials.NewRenewer(l.keys, l.proxiedClusters, l.clock, l.log, metrics); err != nil {
		return err
	}
	if err := l.openSeeds(metrics); err != nil {
		return err
	}
	if err := l.buildArchive(metrics); err != nil {
		return err
	}
	if err := l.buildBooks(metrics); err != nil {
		return err
	}
	if err := l.buildInstaller(metrics); err != nil {
		return err
	}
	var contexts api.Contexts
	if l.config.Access.Kubeconfig != "" {
		contexts = l
	}
	tokens := identity.NewTokens(l.registry, l.clock, l.log)
	callers, err := l.callers(tokens, metrics)
	if err != nil {
		return err
	}
	l.api, err = api.New(l.config.API, api.Deps{
		Answers: l.query, Allocations: allocation.New(l.query, l.query), Overview: l, Loops: l, Clusters: l, Eraser: l, Objects: l.registry, Links: l.pool, Meters: l.meters, Models: l.models, Health: l, Metrics: metrics, Clock: l.clock,
		Kept: l.registry, Replayer: quarantine.New(l.registry, l.store, puller, l.manager), Auditor: l.auditor, Seeds: l, Credentials: l, Contexts: contexts,
		Installations: l.installer, Upgrades: l.installer, Heat: l.heat, Intensities: l.registry, Prices: prices.NewDesk(l.registry, l.query, l.clock), Exporter: l, Events: l.registry, RunsReach: l.config.Announce.Reach(), Books: l.books, Archive: l.archive, Ahead: l.ahead, Budgets: l.budgets,
		Callers: callers, Access: callers, Tokens: namedTokens{tokens, l.registry}, Log: l.registry,
	}, l.log, metrics)
	return err
}

// Registry is the leader's memory, for who embeds a leader.
func (l *Leader) Registry() *registry.Registry { return l.registry }

// Books are the leader's books, for who embeds a leader.
func (l *Leader) Books() *books.Books { return l.books }

// Store is the central store, for who embeds a leader.
func (l *Leader) Store() *influxsync.Server { return l.store }

// Listen opens the address of the API.
func (l *Leader) Listen(ctx context.Context) (net.Listener, error) { return l.api.Listen(ctx) }

// Run serves the API on the listener and runs the loops until ctx ends.
func (l *Leader) Run(ctx context.Context, listener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	l.mu.Lock()
	l.base = ctx
	l.mu.Unlock()
	if err := l.StartLoops(ctx); err != nil {
		return err
	}
	group.Go(func() error { return l.api.Serve(ctx, listener) })
	group.Go(func() error { return l.runExports(ctx) })
	group.Go(func() error { return l.runEvents(ctx) })
	group.Go(func() error { return l.runBudgets(ctx) })
	group.Go(func() error { return l.runAnnouncer(ctx) })
	group.Go(func() error { return l.runAudits(ctx) })
	group.Go(func() error { return l.installer.Run(ctx) })
	group.Go(func() error { return l.renewer.Run(ctx) }) // also while the loops are stopped: tokens go on ending
	group.Go(func() error {
		<-ctx.Done()
		return l.StopLoops(context.WithoutCancel(ctx))
	})
	return group.Wait()
}

// Close closes the stores.
func (l *Leader) Close() error {
	var errs []error
	if l.registry != nil {
		errs = append(errs, l.registry.Close())
	}
	if l.engine != nil {
		errs = append(errs, l.engine.Close())
	}
	return errors.Join(errs...)
}
