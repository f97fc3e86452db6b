// Package demo is the whole product in one process: a leader and three
// followers on embedded stores. One follower meters this very machine; two
// meter simulated edge clusters, whose kubelets, API servers and electricity
// meters answer over HTTPS and HTTP on loopback.
//
//	simulator ──HTTPS──► follower edge-ams ─┐
//	   │     └──HTTPS──► follower edge-par ─┤─HTTP─► leader ──► page, REST
//	   └──HTTP (meters)────────────────────►│
//	this machine's cgroups ► follower local ┘
//
// What is simulated is the world outside; everything from the scraper on is the
// code of production. The day of history before the start comes out of the same
// simulator through the same meter, without HTTP.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// hostCluster is the cluster of the follower that meters this machine.
const hostCluster = "local"

// Config of a demonstration.
type Config struct {
	Dir      string        // everything is kept here
	Listen   string        // of the leader; a loopback address
	Interval time.Duration // of scrapes and ticks; 0 is 5 s
	History  bool          // fill the day before the start
	Host     bool          // meter this machine too
	Version  string
	// Workload is a command that burns CPU, for two small workloads on this
	// machine where it may make control groups; its last argument will be
	// "steady" or "bursty". nil is none.
	Workload []string
	// Progress is told of what happens; it may be called from several goroutines.
	Progress func(Event)
}

// Event is something that a person who watches wants to know.
type Event struct {
	Kind    string // listening, history, workloads, books
	Cluster string
	Period  string // that is closed in the books
	Address string // of the leader
	Time    time.Time
	Done    float64
	Err     error
}

// Demo is a demonstration; Run runs it once.
type Demo struct {
	config    Config
	clock     clock.Clock
	log       *slog.Logger
	state     state
	lock      *flock.Flock
	simulated *simulator.Server
	leader    *leader.Leader
	agents    []*agent
}

// New checks the configuration. It opens nothing.
func New(config Config, clk clock.Clock, log *slog.Logger) (*Demo, error) {
	if config.Dir == "" {
		return nil, errors.New("data: a directory is needed")
	}
	config.Interval = cmp.Or(config.Interval, 5*time.Second)
	if config.Progress == nil {
		config.Progress = func(Event) {}
	}
	return &Demo{config: config, clock: clk, log: log}, nil
}

// Run opens everything, serves until ctx ends, and stops cleanly.
func (d *Demo) Run(ctx context.Context) (err error) {
	if err := d.open(ctx); err != nil {
		return errors.Join(err, d.close())
	}
	defer func() { err = errors.Join(err, d.close()) }()
	listener, err := d.leader.Listen(ctx)
	if err != nil {
		return err
	}
	d.config.Progress(Event{Kind: "listening", Address: listener.Addr().String(), Time: d.clock.Now()})
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range d.agents {
		group.Go(func() error { return a.run(ctx) })
	}
	group.Go(func() error { return d.leader.Run(ctx, listener) })
	group.Go(func() error { return d.runWorkloads(ctx) })
	group.Go(func() error { return d.runTank(ctx) })
	if d.config.History {
		group.Go(func() error { return d.lookBack(ctx) })
	}
	return group.Wait()
}

// open takes the directory, starts the simulator, opens the leader, tells it the
// fleet, and makes the followers.
func (d *Demo) open(ctx context.Context) error {
	if err := os.MkdirAll(d.config.Dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	d.lock = flock.New(filepath.Join(d.config.Dir, "demo.lock"))
	if taken, err := d.lock.TryLock(); err != nil || !taken {
		d.lock = nil
		return errors.Join(fmt.Errorf("%s is in use by another process: stop it, or name another directory with --data", d.config.Dir), err)
	}
	var err error
	if d.state, err = loadState(d.config.Dir, d.clock.Now()); err != nil {
		return err
	}
	if d.simulated, err = simulator.Start(ctx, simulator.Config{Fleet: simulator.DemoSince(d.state.Start), Clock: d.clock}); err != nil {
		return err
	}
	if d.leader, err = d.openLeader(ctx); err != nil {
		return err
	}
	if err := d.makeAgents(ctx); err != nil {
		return err
	}
	return d.describe(ctx)
}

func (d *Demo) openLeader(ctx context.Context) (*leader.Leader, error) {
	return leader.Open(ctx, leader.Config{Dir: filepath.Join(d.config.Dir, "leader"), Tick: d.config.Interval, MeterInterval: d.config.Interval,
		API: api.Config{Listen: d.config.Listen, Demo: true, Version: d.config.Version}}, d.clock, d.log.With("role", "leader"), prometheus.NewRegistry())
}

// describe tells the leader the fleet: addresses at each start, what a user may
// have changed at the first.
func (d *Demo) describe(ctx context.Context) error {
	registry := d.leader.Registry()
	known, err := registry.Objects(ctx)
	if err != nil {
		return err
	}
	have := make(map[string]bool)
	for _, object := range known {
		have[object.String()] = true
	}
	endpoints := make(map[string]endpoint)
	for _, a := range d.agents {
		endpoints[a.cluster] = a.endpoint()
	}
	wanted := described(d.simulated.Simulator)
	if d.config.Host {
		wanted = append(wanted, hostNode(hostName()))
	}
	var objects []fleet.Object
	for _, object := range wanted {
		if !have[object.String()] {
			objects = append(objects, object)
		}
	}
	objects = append(objects, places(d.simulated, endpoints)...)
	if _, err := registry.Apply(ctx, objects, "demo"); err != nil {
		return err
	}
	for _, a := range d.agents {
		facts, err := seed.Of(ctx, registry, a.cluster)
		if err != nil {
			return err
		}
		if err := facts.Write(a.seedDir()); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demo) close() error {
	var errs []error
	for _, a := range d.agents {
		errs = append(errs, a.close())
	}
	if d.leader != nil {
		errs = append(errs, d.leader.Close())
	}
	if d.simulated != nil {
		errs = append(errs, d.simulated.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Unlock())
	}
	return errors.Join(errs...)
}

// hostName is the name of this machine in rows; the kernel's, or a plain word.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || net.ParseIP(name) != nil || name == "" {
		return "localhost"
	}
	return name
}
