package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower"
	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/prometheus/client_golang/prometheus"
)

// childEnv holds, in a sub-process, the child that it is.
const childEnv = "ACCUMULUS_TEST_CHILD"

// child is what a sub-process is told.
type child struct {
	Role         string // follower or leader
	Dir          string
	ClockURL     string
	Listen       string
	JournalFirst bool

	Cluster, APIURL, CAFile, TokenFile, SeedDir string            // of a follower
	FollowerURL, FollowerToken                  string            // of a leader
	Meters                                      map[string]string // of a leader: box → URL of its meter
}

// TestMain runs the tests, or the sub-process that a test has started.
func TestMain(m *testing.M) {
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var c child
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run(context.Background())
	}
	fmt.Fprintln(os.Stderr, "child:", err) // a child never ends by itself
	os.Exit(1)
}

// teller is the remote clock; it tells the parent of each sleep until a slot.
type teller struct {
	*clock.Remote
	wire   *wire
	sleeps atomic.Int64
}

func (c *teller) SleepUntil(ctx context.Context, t time.Time) error {
	id := c.sleeps.Add(1)
	c.wire.say("rest %d %d", id, t.UnixNano())
	err := c.Remote.SleepUntil(ctx, t)
	c.wire.say("wake %d", id)
	return err
}

func (c child) run(ctx context.Context) error {
	w := newWire()
	clk := &teller{Remote: clock.NewRemote(c.ClockURL, &http.Client{Timeout: 2 * clock.RemotePatience}), wire: w}
	if c.Role == "leader" {
		return c.lead(ctx, clk, w)
	}
	return c.follow(ctx, clk, w)
}

// follow is a follower as its command runs it, on a store whose writes are
// told, and with a source that waits for the watch.
func (c child) follow(ctx context.Context, clk *teller, w *wire) error {
	store, err := openTap(filepath.Join(c.Dir, "influxdb"), w, c.JournalFirst)
	if err != nil {
		return err
	}
	input, err := c.input(clk)
	if err != nil {
		return err
	}
	config := follower.Config{Cluster: c.Cluster, Dir: c.Dir, SeedDir: c.SeedDir, Interval: crashInterval, Listen: c.Listen, InfluxURL: store,
		SettleDeadline: follower.DefaultSettleDeadline, FactsDeadline: follower.DefaultFactsDeadline}
	made, err := follower.New(config, follower.Deps{Clock: clk, Log: quiet(), Registry: prometheus.NewRegistry(), Input: input})
	if err != nil {
		return err
	}
	return made.Run(ctx)
}

// input is the kubelet source with its watch, as the configuration makes it.
func (c child) input(clk clock.Clock) (*follower.Input, error) {
	truth, err := simulator.New(crashFleet())
	if err != nil {
		return nil, err
	}
	client, err := watch.NewClient(watch.ClientConfig{URL: c.APIURL, CAFile: c.CAFile, TokenFile: c.TokenFile}, clk)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	seen, err := watch.New(watch.Config{}, client, clk, quiet(), registry)
	if err != nil {
		return nil, err
	}
	source, err := kubelet.New(kubelet.Config{CAFile: c.CAFile, TokenFile: c.TokenFile}, seen.Log, clk, quiet(), registry)
	if err != nil {
		return nil, err
	}
	return &follower.Input{Source: &patient{source, seen, truth, clk, c.Cluster}, Log: seen.Log, Run: seen.Run, Resume: source.RestoreReadings,
		Offset: client.Offset, Status: source.Status, Watch: seen.Status}, nil
}

// patient reads when the watch has told all that happened: the input of two
// runs is the same, however fast events travel.
type patient struct {
	*kubelet.Source
	watch   *watch.Watch
	truth   *simulator.Simulator
	clock   clock.Clock
	cluster string
}

func (p *patient) Read(ctx context.Context) ([]reading.Body, error) {
	for now := p.clock.Now(); !p.watch.Status().Synced || !p.told(now); {
		if err := clock.System().Sleep(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	return p.Source.Read(ctx)
}

// told says whether the log knows which pods live now, and whose they are.
func (p *patient) told(now time.Time) bool {
	lives := make(map[string]bool)
	for _, info := range p.truth.PodInfos(p.cluster, now, now) {
		lives[info.UID] = info.End.IsZero()
	}
	for _, info := range p.watch.Pods() {
		if lives[info.UID] != info.End.IsZero() || !info.OwnerKnown {
			return false
		}
		delete(lives, info.UID)
	}
	for _, living := range lives {
		if living {
			return false
		}
	}
	return true
}

// lead is a leader as its command runs it, on a store whose writes are told.
func (c child) lead(ctx context.Context, clk *teller, w *wire) error {
	store, err := openTap(filepath.Join(c.Dir, "store"), w, false)
	if err != nil {
		return err
	}
	opened, err := leader.Open(ctx, leader.Config{Dir: c.Dir, StoreURL: store, Tick: leaderTick, MeterInterval: leaderTick,
		API: api.Config{Listen: c.Listen}}, clk, quiet(), prometheus.NewRegistry())
	if err != nil {
		return err
	}
	if _, err := opened.Registry().Apply(ctx, c.objects(), "test"); err != nil {
		return err
	}
	listener, err := opened.Listen(ctx)
	if err != nil {
		return err
	}
	return opened.Run(ctx, listener)
}

func (c child) objects() []fleet.Object {
	all := []fleet.Object{fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: prices}),
		fleet.NewObject("acme", fleet.Customer{Currency: "EUR"})}
	for _, cluster := range crashFleet().Clusters {
		all = append(all, fleet.NewObject(cluster.Name, fleet.Cluster{Customer: "acme", URL: c.FollowerURL, TokenFile: c.FollowerToken}))
		for _, n := range cluster.Nodes {
			all = append(all, hardware(cluster.Name, n, n.CPUType),
				fleet.NewObject(cluster.Name+"."+n.Name, fleet.Node{Cluster: cluster.Name, Node: n.Name, Box: n.Box, Hardware: hardwareName(cluster.Name, n)}))
		}
	}
	for _, b := range crashFleet().Boxes {
		all = append(all, fleet.NewObject(b.Name, fleet.Box{OverheadWatts: b.OverheadWatts}))
		for _, m := range b.Meters {
			all = append(all, fleet.NewObject(m.Name, fleet.Meter{Box: b.Name, Driver: fleet.DriverShellyGen2, URL: c.Meters[b.Name]}))
		}
	}
	return all
}
