package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
)

// Names in a customer's cluster.
const (
	Release      = "accumulus-follower" // of the release, and of its Deployment
	TokensSecret = "accumulus-follower-tokens"
	SeedMap      = "accumulus-follower-seed"
	LeaseName    = "accumulus-pusher"
	FieldManager = "accumulus-leader" // of what the leader makes itself, and its label
)

// Config is the rhythm and the identity. Zero durations take the defaults.
type Config struct {
	Leader     string        // id of this leader: 1 to 63 letters, digits, -
	Interval   time.Duration // how often the loop looks whose time has come; 0 is 5 s
	Connect    time.Duration // for the first answer of an API server; 0 is 5 s
	Timeout    time.Duration // of one visit but the last pull; 0 is 90 s
	LastPull   time.Duration // for the last pull; 0 is 5 min
	Poll       time.Duration // between looks at a follower that is not ready yet; 0 is 5 s
	Look       time.Duration // between looks at one that is; 0 is 1 min
	Verify     time.Duration // between comparisons of the release; 0 is 15 min
	ReadyAfter time.Duration // how long a follower may take to become ready; 0 is 5 min
	Backoff    time.Duration // the longest time between attempts that fail; 0 is 5 min
	Lease      time.Duration // after which a silent holder of the Lease counts as dead; 0 is 2 min
	Parallel   int           // visits at once; 0 is 8
}

func (c Config) complete() Config {
	c.Interval = cmp.Or(c.Interval, 5*time.Second)
	c.Connect = cmp.Or(c.Connect, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 90*time.Second)
	c.LastPull = cmp.Or(c.LastPull, 5*time.Minute)
	c.Poll = cmp.Or(c.Poll, 5*time.Second)
	c.Look = cmp.Or(c.Look, time.Minute)
	c.Verify = cmp.Or(c.Verify, 15*time.Minute)
	c.ReadyAfter = cmp.Or(c.ReadyAfter, 5*time.Minute)
	c.Backoff = cmp.Or(c.Backoff, 5*time.Minute)
	c.Lease = cmp.Or(c.Lease, 2*time.Minute)
	c.Parallel = cmp.Or(c.Parallel, 8)
	return c
}

// Store keeps what is wanted and how far it is: *registry.Registry.
type Store interface {
	Installation(ctx context.Context, cluster string) (registry.Installation, error)
	Installations(ctx context.Context) ([]registry.Installation, error)
	ChangeInstallation(ctx context.Context, cluster string, change func(*registry.Installation) error) (registry.Installation, error)
	AddUpgrade(ctx context.Context, u registry.Upgrade) (registry.Upgrade, error)
	PutUpgrade(ctx context.Context, u registry.Upgrade) error
	Upgrades(ctx context.Context) ([]registry.Upgrade, error)
}

// Credentials are the leader's access to clusters: *credentials.Store.
type Credentials interface {
	RESTConfig(ctx context.Context, cluster string) (*rest.Config, error)
	// Namespace is where the follower stands.
	Namespace(ctx context.Context, cluster string) (string, error)
}

// Target is a cluster of the fleet that the leader has access to.
type Target struct {
	Cluster string
	GitOps  bool // somebody else installs and upgrades the follower
}

// Parts are what an Installer stands on. Functions that are nil are left out.
type Parts struct {
	Store       Store
	Credentials Credentials
	// Clusters are those of the fleet: one that is new among them is installed. One
	// that is no longer among them is left as it is; Remove removes.
	Clusters func(ctx context.Context) ([]Target, error)
	// Chart is the follower's chart; the version that can be installed is its own.
	Chart fs.FS
	// Values are those that a cluster's release gets, without those of its
	// Installation, which go over them.
	Values func(ctx context.Context, cluster string) (helm.Values, error)
	// Tokens makes the Secret of tokens where it is not there. The namespace is.
	Tokens func(ctx context.Context, cluster string) error
	// Seed brings what the follower may know to the cluster, so that it is there
	// when the follower starts. Failing is no obstacle: who keeps the seeds goes on.
	Seed func(ctx context.Context, cluster string) error
	// Ready asks the cluster's follower whether it is ready.
	Ready func(ctx context.Context, cluster string) error
	// LastPull pulls what the follower has settled.
	LastPull func(ctx context.Context, cluster string) error
	// Removed ends the cluster when nothing of its installation is left. It may be
	// told twice.
	Removed func(ctx context.Context, cluster string) error
}

// Installer is the loop and what can be asked of it.
type Installer struct {
	config Config
	parts  Parts
	chart  helm.Chart
	clock  clock.Clock
	log    *slog.Logger
	open   opener
	random func() float64

	mu       sync.Mutex
	wake     context.CancelFunc // ends the loop's sleep; nil while it does not sleep
	woken    bool               // while it did not sleep
	running  map[string]bool    // clusters that are visited
	doubtful int                // of them, those that failed before
	holders  map[string]holder  // of Leases that others hold
	upgrades sync.Mutex         // one changes upgrades at a time
	visits   sync.WaitGroup     // of Run
}

// New checks what it is given and registers its metrics; it asks nothing and
// starts nothing.
func New(config Config, parts Parts, clk clock.Clock, log *slog.Logger, registerer prometheus.Registerer) (*Installer, error) {
	config = config.complete()
	if config.Leader == "" {
		return nil, errors.New("installer: no id of the leader")
	}
	chart, err := helm.Load(parts.Chart)
	if err != nil {
		return nil, fmt.Errorf("installer: %w", err)
	}
	i := &Installer{config: config, parts: parts, chart: chart, clock: clk, log: log, random: rand.Float64,
		running: make(map[string]bool), holders: make(map[string]holder)}
	i.open = i.connect
	if err := registerer.Register(newCollector(parts.Store)); err != nil {
		return nil, fmt.Errorf("register metrics of the installer: %w", err)
	}
	return i, nil
}

// Version is that of the chart that can be installed.
func (i *Installer) Version() string { return i.chart.Version }

// Run visits clusters until ctx ends, and waits for the visits that run.
func (i *Installer) Run(ctx context.Context) error {
	defer i.visits.Wait()
	for ctx.Err() == nil {
		if err := i.pass(ctx); err != nil && ctx.Err() == nil {
			i.log.Error("installations cannot be read", "err", err)
		}
		i.sleep(ctx)
	}
	return nil
}

// sleep is until the next look, or until Wake.
func (i *Installer) sleep(ctx context.Context) {
	sleeping, wake := context.WithCancel(ctx)
	defer wake()
	i.mu.Lock()
	if i.woken {
		i.woken = false
		i.mu.Unlock()
		return
	}
	i.wake = wake
	i.mu.Unlock()
	_ = i.clock.Sleep(sleeping, i.config.Interval) // its end says the same as its time
	i.mu.Lock()
	i.wake, i.woken = nil, false
	i.mu.Unlock()
}

// Wake makes the loop look now.
func (i *Installer) Wake() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.woken = true
	if i.wake != nil {
		i.wake()
	}
}

// pass moves the upgrade that runs, and starts the visits whose time has come,
// as far as there are places: those that waited longest first. Those that failed
// before take at most half of the places.
func (i *Installer) pass(ctx context.Context) error {
	if err := errors.Join(i.follow(ctx), i.advance(ctx)); err != nil {
		return err
	}
	due, err := i.due(ctx)
	if err != nil {
		return err
	}
	for _, one := range due {
		cluster, failed := one.Cluster, one.Attempts > 0
		if !i.enter(cluster, failed) {
			continue
		}
		i.visits.Go(func() {
			recorded := i.visit(ctx, cluster)
			i.leave(cluster, failed)
			if recorded { // else it would be due at once, and fail at once
				i.Wake() // a place is free
			}
		})
	}
	return nil
}

func (i *Installer) enter(cluster string, failed bool) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running[cluster] || len(i.running) >= i.config.Parallel || failed && i.doubtful >= max(1, i.config.Parallel/2) {
		return false
	}
	i.running[cluster] = true
	if failed {
		i.doubtful++
	}
	return true
}

func (i *Installer) leave(cluster string, failed bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.running, cluster)
	if failed {
		i.doubtful--
	}
}
