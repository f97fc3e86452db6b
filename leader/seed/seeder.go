package seed

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Config of a Seeder. Zero values take the defaults.
type Config struct {
	Interval time.Duration // between two looks at the fleet, 15 s
	Verify   time.Duration // after which a cluster's ConfigMap is looked at, changed or not, 10 min
	Timeout  time.Duration // of one cluster's API server, 20 s
}

// Bounds of what runs at once: clusters whose API server did not answer the last
// time wait for each other, not for them the others.
const (
	parallel = 16
	doubtful = 4
)

// maxBackoff is the longest pause after a cluster failed.
const maxBackoff = time.Minute

// Clients gives the clients of the clusters whose follower is seeded by a
// ConfigMap.
type Clients interface {
	// Clusters are their names.
	Clusters(ctx context.Context) ([]string, error)
	// Client speaks to the API server of one of them; its follower stands in the
	// namespace.
	Client(ctx context.Context, cluster string) (client kubernetes.Interface, namespace string, err error)
}

// Access gives the leader's own credentials for a cluster, and the namespace of
// its follower.
type Access interface {
	RESTConfig(ctx context.Context, cluster string) (*rest.Config, error)
	Namespace(ctx context.Context, cluster string) (string, error)
}

// Remote are the Clients of what Access gives.
type Remote struct {
	Access Access
	List   func(ctx context.Context) ([]string, error)
}

// Clusters are what List gives.
func (r Remote) Clusters(ctx context.Context) ([]string, error) { return r.List(ctx) }

// Client is a new one at each call; it shares its connections with others of the
// same cluster.
func (r Remote) Client(ctx context.Context, cluster string) (kubernetes.Interface, string, error) {
	config, err := r.Access.RESTConfig(ctx, cluster)
	if err != nil {
		return nil, "", err
	}
	namespace, err := r.Access.Namespace(ctx, cluster)
	if err != nil {
		return nil, "", err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, "", fmt.Errorf("client of %s: %w", cluster, err)
	}
	return client, namespace, nil
}

// State is how the seed of one cluster stands.
type State struct {
	Version    string    // that its ConfigMap has; "" before the first
	Generation int64     //
	Applied    time.Time // when it was last seen to have it
	Err        error     // of the last attempt, nil when it went well
	Since      time.Time // since when attempts fail
}

// Seeder keeps the seeds in the clusters as the fleet is.
type Seeder struct {
	config   Config
	registry *registry.Registry
	key      Key
	clients  Clients
	clock    clock.Clock
	log      *slog.Logger

	healthy, ill *semaphore.Weighted
	running      sync.WaitGroup
	applied      *prometheus.CounterVec

	mu       sync.Mutex
	clusters map[string]*state
}

// state is a cluster's, with what the next look depends on.
type state struct {
	State
	busy     bool
	revision int64     // of the fleet, of which it has the seed
	next     time.Time // not before this, after a failure
	failures int
}

// NewSeeder makes a seeder that does nothing yet.
func NewSeeder(config Config, r *registry.Registry, key Key, clients Clients, clk clock.Clock, log *slog.Logger, metrics prometheus.Registerer) (*Seeder, error) {
	config.Interval = cmp.Or(config.Interval, 15*time.Second)
	config.Verify = cmp.Or(config.Verify, 10*time.Minute)
	config.Timeout = cmp.Or(config.Timeout, 20*time.Second)
	s := &Seeder{config: config, registry: r, key: key, clients: clients, clock: clk, log: log, clusters: make(map[string]*state),
		healthy: semaphore.NewWeighted(parallel), ill: semaphore.NewWeighted(doubtful),
		applied: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_seed_applies_total",
			Help: "Looks at a cluster's seed, by result (written, same, failed)."}, []string{"result"})}
	if err := metrics.Register(s.applied); err != nil {
		return nil, fmt.Errorf("register metrics of the seeds: %w", err)
	}
	return s, nil
}

// Run keeps the seeds until ctx ends, and waits for what it started.
func (s *Seeder) Run(ctx context.Context) error {
	defer s.running.Wait()
	for {
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("seeds cannot be looked at", "err", err)
		}
		if s.clock.Sleep(ctx, s.config.Interval) != nil {
			return nil
		}
	}
}

// State is how a cluster's seed stands; false for one that is not seeded here.
func (s *Seeder) State(cluster string) (State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.clusters[cluster]; ok {
		return c.State, true
	}
	return State{}, false
}

// Again makes the next look ask a cluster, also when the fleet has not changed.
func (s *Seeder) Again(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.clusters[cluster]; ok {
		c.Applied, c.next = time.Time{}, time.Time{}
	}
}

// look starts the clusters that have something to do and waits for none.
func (s *Seeder) look(ctx context.Context) error {
	revision, err := s.registry.Revision(ctx)
	if err != nil {
		return err
	}
	names, err := s.clients.Clusters(ctx)
	if err != nil {
		return err
	}
	due, err := s.due(ctx, names, revision)
	if err != nil {
		return err
	}
	for name, failed := range due {
		lane := s.healthy
		if failed {
			lane = s.ill
		}
		s.running.Go(func() {
			err := lane.Acquire(ctx, 1)
			var has Signed
			if err == nil {
				has, err = s.seed(ctx, name)
				lane.Release(1)
			}
			s.done(ctx, name, has, revision, err)
		})
	}
	return nil
}

// due are the clusters to look at now, and whether they failed the last time;
// they are busy from now on. What is no longer named is forgotten.
func (s *Seeder) due(ctx context.Context, names []string, revision int64) (map[string]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	named := make(map[string]bool)
	due := make(map[string]bool)
	since := make(map[int64][]string) // touched since a revision
	for _, name := range names {
		named[name] = true
		c := s.clusters[name]
		if c == nil {
			c = &state{}
			s.clusters[name] = c
		}
		if c.busy || now.Before(c.next) {
			continue
		}
		if _, asked := since[c.revision]; !asked && c.revision != revision {
			touched, err := s.registry.Touched(ctx, c.revision)
			if err != nil {
				return nil, err
			}
			since[c.revision] = touched
		}
		if verify := now.Sub(c.Applied) >= s.config.Verify; verify || c.Err != nil || slices.Contains(since[c.revision], name) {
			due[name] = c.failures > 0
		} else {
			c.revision = revision
		}
	}
	for name := range due {
		s.clusters[name].busy = true
	}
	for name, c := range s.clusters {
		if !named[name] && !c.busy {
			delete(s.clusters, name)
		}
	}
	return due, nil
}

// seed makes a cluster's ConfigMap say what the registry says.
func (s *Seeder) seed(ctx context.Context, cluster string) (Signed, error) {
	of, err := Of(ctx, s.registry, cluster)
	if err != nil {
		return Signed{}, err
	}
	if had, _ := s.State(cluster); had.Err == nil && had.Version == of.Version && had.Generation == of.Generation &&
		s.clock.Now().Sub(had.Applied) < s.config.Verify {
		return Signed{Version: of.Version, Generation: of.Generation}, nil // the change was none of this cluster's
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	client, namespace, err := s.clients.Client(ctx, cluster)
	if err != nil {
		return Signed{}, err
	}
	return s.put(ctx, client, namespace, of)
}

func (s *Seeder) put(ctx context.Context, client kubernetes.Interface, namespace string, of Seed) (Signed, error) {
	there, err := read(ctx, client, namespace)
	if err != nil {
		return Signed{}, fmt.Errorf("seed of %s: %w", of.Cluster, err)
	}
	if there != nil {
		if of, err = s.ahead(ctx, of, there.BinaryData); err != nil {
			return Signed{}, err
		}
	}
	signed, err := s.key.Sign(of)
	if err != nil {
		return Signed{}, err
	}
	wrote, err := signed.apply(ctx, client, namespace, there)
	if err != nil {
		return Signed{}, err
	}
	result := "same"
	if wrote {
		result = "written"
		s.log.Info("seed written", "cluster", of.Cluster, "version", of.Version, "generation", of.Generation, "bytes", len(signed.Packed))
	}
	s.applied.WithLabelValues(result).Inc()
	return signed, nil
}

// ahead is the seed with a generation above that of what the cluster has: this
// leader signed it, so the registry went back, to a copy that was restored.
func (s *Seeder) ahead(ctx context.Context, of Seed, data map[string][]byte) (Seed, error) {
	had, ours := s.key.generation(of.Cluster, data[schema.SeedFile], data[schema.SeedSignatureFile])
	if !ours || had <= of.Generation {
		return of, nil
	}
	s.log.Warn("the registry is behind the seed that a cluster has; the seed is renewed", "cluster", of.Cluster, "has", had, "registry", of.Generation)
	if err := s.registry.RaiseSeed(ctx, of.Cluster, had); err != nil {
		return Seed{}, err
	}
	return Of(ctx, s.registry, of.Cluster)
}

// done keeps the result of a look.
func (s *Seeder) done(ctx context.Context, cluster string, has Signed, revision int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusters[cluster]
	c.busy = false
	if err != nil && ctx.Err() != nil {
		return // the end of the loop is no failure of the cluster
	}
	now := s.clock.Now()
	if err == nil {
		if c.Err != nil {
			s.log.Info("seed stands again", "cluster", cluster)
		}
		if has.Packed == nil { // it was not asked
			now = c.Applied
		}
		*c = state{State: State{Version: has.Version, Generation: has.Generation, Applied: now}, revision: revision}
		return
	}
	s.applied.WithLabelValues("failed").Inc()
	if c.Err == nil {
		c.Since = now
	}
	if c.Err == nil || c.Err.Error() != err.Error() {
		s.log.Warn("seed cannot be given", "cluster", cluster, "err", err)
	}
	c.Err = err
	c.next = now.Add(min(maxBackoff, s.config.Interval<<min(c.failures, 10)))
	c.failures++
}
