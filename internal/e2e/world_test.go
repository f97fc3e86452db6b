package e2e

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower"
	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/prometheus/client_golang/prometheus"
)

// patience is how long, in the machine's time, anything may take that the
// tests wait for.
const patience = 2 * time.Minute

// start is when the fleets began.
var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// world is a simulated fleet with a follower for each cluster and a leader.
type world struct {
	testing.TB
	clock    *clock.Manual
	interval time.Duration // of scrapes
	tick     time.Duration // of the leader
	sim      *simulator.Server
	sites    []*site
	centre   *centre
	dir      string
}

// site is one cluster's follower behind a link.
type site struct {
	*world
	cluster  string
	config   follower.Config
	server   *httptest.Server
	link     atomic.Bool // the leader reaches the port
	handler  atomic.Pointer[http.Handler]
	follower *follower.Follower // nil while it is down
	pace     *pacer
	stop     func() error
}

// centre is the leader.
type centre struct {
	*world
	dir    string
	leader *leader.Leader
	pace   *pacer
	stop   func() error
	client *client.Client
	url    string
	adjust func(*leader.Config) // before it is opened; nil changes nothing
	more   int                  // loops beside leaderLoops
	loose  int                  // of these, how many may wait for something else than a slot
}

// leaderLoops are those that wait for slots: the manager's, the meters', that of
// their lags, the carbon's, the prices', the models' and the budgets'.
const leaderLoops = 7

// quiet logs nothing, or what ACCUMULUS_TEST_LOG names: debug, info, …
func quiet() *slog.Logger {
	if level := os.Getenv("ACCUMULUS_TEST_LOG"); level != "" {
		var least slog.Level
		if err := least.UnmarshalText([]byte(level)); err != nil {
			panic("ACCUMULUS_TEST_LOG: " + err.Error())
		}
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: least}))
	}
	return slog.New(slog.DiscardHandler)
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// newWorld starts the simulator at a moment, makes the sites and describes
// them to a leader. Nothing runs yet.
func newWorld(t testing.TB, fleet simulator.Fleet, at time.Time, interval time.Duration) *world {
	t.Helper()
	w := &world{TB: t, clock: clock.NewManual(at), interval: interval, tick: max(schema.Minute, 5*interval), dir: t.TempDir()}
	sim, err := simulator.Start(context.Background(), simulator.Config{Fleet: fleet, Clock: w.clock})
	w.check(err)
	w.sim = sim
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range fleet.Clusters {
		w.sites = append(w.sites, w.newSite(c.Name))
	}
	w.centre = &centre{world: w, dir: filepath.Join(w.dir, "leader")}
	w.centre.start()
	w.apply(objects(w)...)
	return w
}

func (w *world) newSite(cluster string) *site {
	w.Helper()
	s := &site{world: w, cluster: cluster}
	dir := filepath.Join(w.dir, "follower-"+cluster)
	access := filepath.Join(dir, "serviceaccount")
	w.check(os.MkdirAll(access, 0o700))
	ca, token, err := w.sim.WriteFiles(cluster, access)
	w.check(err)
	s.config = follower.Config{Cluster: cluster, Dir: dir, SeedDir: filepath.Join(dir, "seed"), Source: follower.SourceKubelet,
		API:      watch.ClientConfig{URL: w.sim.Access(cluster).URL, TokenFile: token, CAFile: ca},
		Kubelet:  kubelet.Config{TokenFile: token, CAFile: ca},
		Interval: w.interval, SettleDeadline: follower.DefaultSettleDeadline, FactsDeadline: follower.DefaultFactsDeadline}
	s.link.Store(true)
	s.server = httptest.NewServer(s)
	w.Cleanup(s.server.Close)
	return s
}

// ServeHTTP is the follower's port as the leader sees it.
func (s *site) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	handler := s.handler.Load()
	if handler == nil || !s.link.Load() {
		panic(http.ErrAbortHandler)
	}
	(*handler).ServeHTTP(out, r)
}

// background runs something until the returned function is called.
func (w *world) background(run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	w.Cleanup(func() {
		if err := stop(); err != nil {
			w.Error(err)
		}
	})
	return stop
}

// up starts the site's follower and waits until its loop rests.
func (s *site) up() {
	s.Helper()
	s.pace = newPacer(s.clock)
	made, err := follower.New(s.config, follower.Deps{Clock: s.pace, Log: quiet().With("cluster", s.cluster), Registry: prometheus.NewRegistry()})
	s.check(err)
	handler := made.Handler()
	s.follower = made
	s.stop = s.background(made.Run)
	s.rest()
	s.handler.Store(&handler)
	for !made.Status().Watch.Synced {
		s.check(clock.System().Sleep(context.Background(), time.Millisecond))
	}
}

// down stops the site's follower.
func (s *site) down() {
	s.Helper()
	if s.follower == nil {
		return
	}
	s.handler.Store(nil)
	s.follower = nil
	s.check(s.stop())
}

func (s *site) rest() {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.pace.rest(ctx, 1, 1); err != nil {
		s.Fatalf("follower of %s does not come to rest at %s: %+v", s.cluster, s.clock.Now(), s.follower.Status())
	}
}

// database is one of the follower's, over its port, with the viewer's token.
func (s *site) database(name string) *influxsync.Database {
	s.Helper()
	token, err := os.ReadFile(filepath.Join(s.config.Dir, "viewer.token"))
	s.check(err)
	server, err := influxsync.New(influxsync.Config{URL: s.server.URL, Token: influxsync.Secret(strings.TrimSpace(string(token)))})
	s.check(err)
	return server.Database(name)
}

// start opens the leader and runs it until its first tick is done.
func (c *centre) start() {
	c.Helper()
	c.pace = newPacer(c.clock)
	config := leader.Config{Dir: c.dir, Tick: c.tick, MeterInterval: c.interval, API: api.Config{Listen: "127.0.0.1:0"}}
	if c.adjust != nil {
		c.adjust(&config)
	}
	opened, err := leader.Open(context.Background(), config, c.pace, quiet().With("role", "leader"), prometheus.NewRegistry())
	c.check(err)
	listener, err := opened.Listen(context.Background())
	c.check(err)
	c.leader, c.url = opened, "http://"+listener.Addr().String()
	c.stop = c.background(func(ctx context.Context) error { return c.serve(ctx, opened, listener) })
	c.client, err = client.New(client.Config{Server: c.url, TokenFile: filepath.Join(c.dir, api.OperatorFile)})
	c.check(err)
	c.rest()
}

func (c *centre) serve(ctx context.Context, opened *leader.Leader, listener net.Listener) error {
	err := opened.Run(ctx, listener)
	if closed := opened.Close(); err == nil {
		err = closed
	}
	return err
}

func (c *centre) rest() {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.pace.rest(ctx, leaderLoops+c.more-c.loose, leaderLoops+c.more); err != nil {
		c.Fatalf("the leader does not come to rest at %s: %v", c.clock.Now(), err)
	}
}

// again runs one more tick of the leader without moving the clock.
func (c *centre) again() {
	c.Helper()
	c.check(c.leader.StopLoops(context.Background()))
	c.check(c.leader.StartLoops(context.Background()))
	c.rest()
}

func (c *centre) database(name string) *influxsync.Database { return c.leader.Store().Database(name) }

// apply changes the fleet and gives each follower the seed that follows.
func (w *world) apply(objects ...fleet.Object) {
	w.Helper()
	registry := w.centre.leader.Registry()
	_, err := registry.Apply(context.Background(), objects, "test")
	w.check(err)
	for _, s := range w.sites {
		facts, err := seed.Of(context.Background(), registry, s.cluster)
		w.check(err)
		w.check(facts.Write(s.config.SeedDir))
	}
}

// site is the one of a cluster.
func (w *world) site(cluster string) *site {
	for _, s := range w.sites {
		if s.cluster == cluster {
			return s
		}
	}
	w.Fatalf("no site %s", cluster)
	return nil
}

// up starts all followers.
func (w *world) up() {
	w.Helper()
	for _, s := range w.sites {
		s.up()
	}
}

// run moves the clock slot by slot until it shows to. Between two moves all
// that runs has come to rest.
func (w *world) run(to time.Time) {
	w.Helper()
	for w.clock.Now().Before(to) {
		w.clock.Set(w.clock.Now().Truncate(w.interval).Add(w.interval))
		for _, s := range w.sites {
			if s.follower != nil {
				s.rest()
			}
		}
		w.centre.rest()
	}
}

// drain ends the readings and lets everything settle: nothing is in flight
// afterwards, and the last reading of each series lies in a settled window.
func (w *world) drain() {
	w.Helper()
	for _, c := range w.sim.Fleet().Clusters {
		for _, n := range c.Nodes {
			w.sim.SetKubeletFault(c.Name, n.Name, simulator.Fault{Down: true})
		}
	}
	w.run(w.clock.Now().Truncate(schema.Minute).Add(follower.DefaultFactsDeadline + follower.DefaultSettleDeadline + 2*time.Minute))
	w.centre.again()
}
