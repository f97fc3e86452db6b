package e2e

import (
	"context"
	"math"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower"
	"github.com/accumulus-metering/accumulus/follower/host"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/prometheus/client_golang/prometheus"
)

// burned is what the child of the host test uses at least: the kernel's account
// of a group is too coarse for less.
const burned = 1500 * time.Millisecond

// TestHostAgainstKernel lets a child burn a few seconds of CPU in a control
// group of its own. Through meter, store, pull and API it must read what the
// kernel says of the process.
func TestHostAgainstKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("control groups can be made by root only")
	}
	w := newWorld(t, simulator.Fleet{}, time.Now().Add(-2*time.Minute), 15*time.Second)
	s := w.hostSite()
	w.run(w.clock.Now().Add(time.Minute))
	// The group's birth is told by the machine's clock, and has to lie between the last
	// reading without it and the first one with it.
	for now := time.Now(); w.clock.Now().Before(now.Truncate(w.interval)); now = time.Now() {
		w.run(now.Truncate(w.interval))
	}
	workload, err := host.StartWorkload(host.WorkloadConfig{Name: "accumulus-e2e",
		Command: []string{"sh", "-c", "i=0; while [ $i -lt 4500000 ]; do i=$((i+1)); done"}}, clock.System())
	if err != nil {
		t.Skipf("no control group can be made here: %v", err)
	}
	defer func() {
		if err := workload.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	used, err := workload.Wait()
	w.check(err)
	if used < burned {
		t.Fatalf("the child used %s; make it burn more", used)
	}
	w.run(w.clock.Now().Add(3 * time.Minute))
	w.check(workload.Stop(context.Background()))
	w.run(w.clock.Now().Add(5 * time.Minute))

	answer, err := w.centre.client.Usage(context.Background(), url.Values{"window": {"1h"}, "aggregate": {"pod"},
		"filter": {"pod=" + workload.Path()}})
	w.check(err)
	if len(answer.Rows) != 1 {
		t.Fatalf("got %d rows of %s, want 1; follower: %+v", len(answer.Rows), workload.Path(), s.follower.Status())
	}
	got, want := answer.Rows[0].CPUCoreSeconds.Float(), used.Seconds()
	t.Logf("API %.4f core-s, getrusage %.4f core-s, %+.2f %%", got, want, 100*(got/want-1))
	if math.Abs(got/want-1) > 0.02 {
		t.Errorf("the API says %.4f core-s, the kernel's account of the process %.4f", got, want)
	}
}

// hostSite adds a follower that meters this machine, and starts it.
func (w *world) hostSite() *site {
	w.Helper()
	s := &site{world: w, cluster: follower.HostCluster}
	s.config = follower.Config{Cluster: s.cluster, Dir: filepath.Join(w.dir, "follower-local"), Source: follower.SourceHost, Node: "machine",
		Interval: w.interval, SettleDeadline: follower.DefaultSettleDeadline, FactsDeadline: follower.DefaultFactsDeadline}
	s.link.Store(true)
	s.server = httptest.NewServer(s)
	w.Cleanup(s.server.Close)
	registry := w.centre.leader.Registry()
	_, err := registry.Apply(context.Background(), []fleet.Object{fleet.NewObject(s.cluster, fleet.Cluster{URL: s.server.URL,
		TokenFile: filepath.Join(s.config.Dir, "leader.token")})}, "test")
	w.check(err)
	s.pace = newPacer(w.clock)
	made, err := follower.New(s.config, follower.Deps{Clock: s.pace, Log: quiet(), Registry: prometheus.NewRegistry()})
	w.check(err)
	handler := made.Handler()
	s.follower, s.stop = made, s.background(made.Run)
	s.rest()
	s.handler.Store(&handler)
	w.sites = append(w.sites, s)
	return s
}
