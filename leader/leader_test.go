package leader

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/manager"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func at(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }

// centre is an open leader on a clock of the test's, with one cluster, a, whose
// node stands in a metered box.
type centre struct {
	*Leader
	t        *testing.T
	clk      *clock.Manual
	follower *followertest.Follower
	url      string
}

func newCentre(t *testing.T, config Config) *centre {
	t.Helper()
	clk := clock.NewManual(at(16))
	config.Dir, config.API.Listen = t.TempDir(), "127.0.0.1:0"
	l, err := Open(t.Context(), config, clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	f := followertest.New(t, "a", clk)
	return &centre{Leader: l, t: t, clk: clk, follower: f, url: f.Serve().URL}
}

func (c *centre) apply(objects ...fleet.Object) {
	c.t.Helper()
	if _, err := c.registry.Apply(c.t.Context(), objects, "test"); err != nil {
		c.t.Fatal(err)
	}
}

// describe makes the fleet known, and writes a quarter of usage and readings.
func (c *centre) describe() {
	c.t.Helper()
	c.apply(fleet.NewObject("a", fleet.Cluster{URL: c.url}), fleet.NewObject("rack", fleet.Box{}),
		fleet.NewObject("server", fleet.Hardware{Cores: 10, IdleWatts: 10, MaxWatts: 110}),
		fleet.NewObject("a.n1", fleet.Node{Cluster: "a", Node: "n1", Box: "rack", Hardware: "server"}),
		fleet.NewObject("plug", fleet.Meter{Box: "rack", Driver: fleet.DriverShellyGen2, URL: "http://127.0.0.1:1"}),
		fleet.NewObject("list", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "3.6"}, {Resource: "energy", Price: "0.36"}}}))
	window := schema.Window{From: start, To: at(15)}
	var nodes, pods []influxsync.Point
	for _, minute := range window.Split(schema.Minute) {
		nodes = append(nodes, followertest.Row(schema.NodeMinute, minute.From, map[string]string{schema.Cluster: "a", schema.Node: "n1"},
			map[string]int64{schema.CPU: 300e6, schema.CapacityCPU: 600e6, schema.Uptime: 60_000, schema.Coverage: 60}))
		pods = append(pods, followertest.Row(schema.PodMinute, minute.From, map[string]string{schema.Cluster: "a", schema.Node: "n1",
			schema.Namespace: "web", schema.Pod: "p", schema.PodUID: "u"}, map[string]int64{schema.CPU: 300e6, schema.Uptime: 60_000, schema.Coverage: 60}))
	}
	c.follower.Settle(schema.NodeMinute, window, nodes...)
	c.follower.Settle(schema.PodMinute, window, pods...)
	var readings []meters.Reading
	for i := range 17 {
		readings = append(readings, meters.Reading{Box: "rack", Meter: "plug", Time: at(i), Received: at(i), Epoch: start,
			CounterMillijoules: int64(i) * 7_200_000, HasCounter: true, StepMillijoules: 1000})
	}
	if err := meters.NewStore(c.store).Write(c.t.Context(), readings); err != nil {
		c.t.Fatal(err)
	}
}

func (c *centre) tick() {
	c.t.Helper()
	for range 3 {
		if err := c.manager.Tick(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// sums are the centre's sums of cluster a and of the boxes.
func (c *centre) sums() map[string]int64 {
	c.t.Helper()
	found := make(map[string]int64)
	for _, table := range []schema.Table{schema.PodMinute, schema.EnergyMinute, schema.BoxMinute, schema.UsageQuarter, schema.BoxQuarter, schema.CostQuarter} {
		err := c.store.Database(table.DB).TimeQuery(c.t.Context(), table.Name, schema.Window{}, nil, func(row influxsync.Point) error {
			for _, field := range row.Fields {
				if n := field.Value.Int(); n != 0 {
					found[table.DB+"."+table.Name+"."+field.Name] += n
				}
			}
			return nil
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return found
}

// TestClear: what was cleared and pulled again has the same sums, energy and
// cost included; fingerprints do not stand in the way, readings stay.
func TestClear(t *testing.T) {
	for _, which := range []string{"a", ""} {
		t.Run("cluster="+which, func(t *testing.T) {
			c := newCentre(t, Config{})
			c.describe()
			c.tick()
			before := c.sums()
			if got, want := before["minute.energy."+schema.EnergyMeasured], int64(15*7_200_000); got != want {
				t.Fatalf("measured %d mJ, want %d", got, want)
			}
			if before["quarter.cost."+schema.CostNanos] == 0 {
				t.Fatal("no cost before")
			}
			if err := c.Clear(t.Context(), which); err != nil {
				t.Fatal(err)
			}
			for table, n := range c.sums() {
				if !strings.Contains(table, ".box.") {
					t.Errorf("after Clear %s is %d", table, n)
				}
			}
			c.tick()
			if diff := cmp.Diff(before, c.sums()); diff != "" {
				t.Errorf("after the second pull (-before +after):\n%s", diff)
			}
		})
	}
	c := newCentre(t, Config{})
	if err := c.Clear(t.Context(), "nobody"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("Clear of an unknown cluster: %v", err)
	}
}

// TestClusters: add, conflict, remove with a last pull; the history stays.
func TestClusters(t *testing.T) {
	c := newCentre(t, Config{})
	c.describe()
	if err := c.AddCluster(t.Context(), "a", fleet.Cluster{URL: c.url}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a second cluster a: %v", err)
	}
	if err := c.RemoveCluster(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	if got := c.sums()["quarter.usage."+schema.CPU]; got != 15*300e6 {
		t.Errorf("usage of a removed cluster: %d, want what it had settled until then", got)
	}
	if err := c.RemoveCluster(t.Context(), "a", false); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	token := filepath.Join(t.TempDir(), "token")
	b := fleet.Cluster{URL: "http://127.0.0.1:1", TokenFile: token}
	if err := c.AddCluster(t.Context(), "b", b); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), token) {
		t.Errorf("add with a token that is not there: %v", err)
	}
	var problems fleet.Problems
	if err := c.AddCluster(t.Context(), "b", fleet.Cluster{URL: "odd", TokenFile: token}); !errors.As(err, &problems) {
		t.Errorf("add with a URL that is none: %v", err)
	}
	if err := os.WriteFile(token, []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.AddCluster(t.Context(), "b", b); err != nil {
		t.Errorf("add: %v", err)
	}
}

// codes are the problems of the leader and of its only cluster.
func (c *centre) codes() []status.Code {
	c.t.Helper()
	overview, err := c.Overview(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	found := make(map[status.Code]bool)
	for _, p := range overview.Leader.Problems {
		found[p.Code] = true
	}
	for _, cluster := range overview.Clusters {
		if cluster.Problems == nil { // null, which the page does not go through
			c.t.Errorf("cluster %s has no list of problems", cluster.Name)
		}
		for _, p := range cluster.Problems {
			found[p.Code] = true
			if p.Hint == "" {
				c.t.Errorf("%s says nothing of what to do", p.Code)
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestOverviewProblems: each reason why data are missing, by its code.
func TestOverviewProblems(t *testing.T) {
	c := newCentre(t, Config{})
	if got := c.codes(); !slices.Contains(got, status.NoCluster) || !slices.Contains(got, status.NoPriceList) || !slices.Contains(got, status.LoopsStopped) {
		t.Errorf("an empty leader: %v", got)
	}
	c.describe()
	c.tick()
	if got := c.codes(); !slices.Equal(got, []status.Code{status.LoopsStopped}) {
		t.Errorf("all well but the loops: %v", got)
	}
	if overview, err := c.Overview(t.Context()); err != nil || overview.Clusters[0].Problems == nil {
		t.Errorf("no problem is an empty list, not null: %+v, %v", overview.Clusters, err)
	}
	for name, test := range map[string]struct {
		tell map[string]any
		code int
		want status.Code
	}{
		"401":          {code: http.StatusUnauthorized, want: status.FollowerUnauthorized},
		"unreachable":  {code: http.StatusBadGateway, want: status.FollowerUnreachable},
		"kubelet 403":  {tell: map[string]any{"sources": []map[string]any{{"name": "n1", "error": "kubelet n1: 403 Forbidden"}}}, want: status.KubeletForbidden},
		"clock":        {tell: map[string]any{"clock": map[string]any{"trusted": false, "reason": "40 s off"}}, want: status.ClockOff},
		"seed refused": {tell: map[string]any{"seed": map[string]any{"loaded": true, "error": "not signed"}}, want: status.SeedRefused},
		"seed":         {tell: map[string]any{"seed": map[string]any{"loaded": false}}, want: status.SeedMissing},
		"unknown node": {tell: map[string]any{"unknownNodes": []string{"n7"}}, want: status.UnknownNode},
		"wrong name":   {tell: map[string]any{"cluster": "other"}, want: status.FollowerUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				c.follower.Refuse(0)
				c.follower.Tell(map[string]any{"cluster": "a", "sources": nil, "unknownNodes": nil, "seed": map[string]any{"loaded": true}, "clock": map[string]any{"trusted": true}})
			}()
			c.follower.Tell(test.tell)
			c.follower.Refuse(test.code)
			c.clk.Advance(10 * time.Minute) // one that failed before is tried again
			c.tick()
			if got := c.codes(); !slices.Contains(got, test.want) {
				t.Errorf("problems %v, want %s", got, test.want)
			}
		})
	}
	c.clk.Advance(10 * time.Minute)
	c.tick()
	if got := c.codes(); !slices.Equal(got, []status.Code{status.LoopsStopped}) {
		t.Errorf("after recovery: %v", got)
	}
}

// TestOverviewFiles: a file that an applied cluster names and that is not there
// is told as that, not as a follower that is not running.
func TestOverviewFiles(t *testing.T) {
	c := newCentre(t, Config{})
	c.describe()
	c.apply(fleet.NewObject("a", fleet.Cluster{URL: c.url, TokenFile: filepath.Join(t.TempDir(), "token")}))
	c.tick()
	if got := c.codes(); !slices.Contains(got, status.LinkFiles) || slices.Contains(got, status.FollowerUnreachable) {
		t.Errorf("%v", got)
	}
}

// TestOverviewLag: a cluster is behind when its newest minute is older than
// settling, a tick and its own pull interval make it.
func TestOverviewLag(t *testing.T) {
	l := &Leader{config: Config{Tick: 15 * time.Second}}
	mark := at(4)
	for name, test := range map[string]struct {
		lag, interval time.Duration
		contact       manager.Contact
		want          string
	}{
		"as it must be":           {lag: 3*time.Minute + 30*time.Second},
		"three and a half":        {lag: 3*time.Minute + 31*time.Second, want: "usual is up to 3m30s"},
		"pulled each ten minutes": {lag: 13 * time.Minute, interval: 10 * time.Minute},
		"and not even that":       {lag: 14 * time.Minute, interval: 10 * time.Minute, want: "the newest minute is 14m0s old"},
		"the copy":                {lag: 5 * time.Minute, contact: manager.Contact{Follower: manager.FollowerStatus{Mark: &mark}}, want: "settled up to 2026-11-23T10:04:00Z: the copy"},
		"the follower":            {lag: 5 * time.Minute, contact: manager.Contact{Follower: manager.FollowerStatus{Waiting: "kubelet n1"}}, want: "the follower waits: kubelet n1"},
	} {
		cluster := fleet.Cluster{PullInterval: fleet.Duration(test.interval)}
		problem, behind := l.behind(start.Add(test.lag), start, cluster, test.contact)
		if behind != (test.want != "") || behind && (problem.Code != status.SyncLag || !strings.Contains(problem.Message, test.want)) {
			t.Errorf("%s: %t %+v, want %q", name, behind, problem, test.want)
		}
	}
	if problem, behind := l.behind(at(60), time.Time{}, fleet.Cluster{}, manager.Contact{}); behind {
		t.Errorf("before the first window: %+v", problem)
	}
}

// TestFillingIsNoGap: what the follower says of its history reaches the reasons of
// the ledger, and goes when it is done.
func TestFillingIsNoGap(t *testing.T) {
	c := newCentre(t, Config{})
	c.describe()
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute} {
		c.follower.Settle(table, schema.Window{From: at(25), To: at(30)}, followertest.Row(table, at(26), map[string]string{schema.Cluster: "a", schema.Node: "n1"}, nil))
	}
	for done, want := range map[int]registry.GapCode{15: registry.GapFilling, 25: registry.GapNotJournaled} {
		c.clk.Advance(20 * time.Minute)
		c.follower.Tell(map[string]any{"history": map[string]any{"from": at(0), "to": at(25), "done": at(done)}})
		c.tick()
		answer, err := c.query.Completeness(t.Context(), "a", "2026-11-23T10:16:00Z,2026-11-23T10:20:00Z")
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[registry.GapCode]bool)
		for _, part := range answer.Quarters {
			for _, gap := range part.Missing {
				if part.Table == schema.NodeMinute.Name {
					found[gap.Reason] = true
				}
			}
		}
		if !found[want] {
			t.Errorf("done up to %d: %v, want %s", done, found, want)
		}
	}
}

// TestRun: loops start, stop and start again; ready when each cluster has rows;
// not live when the loop hangs; the end of the context ends all.
func TestRun(t *testing.T) {
	c := newCentre(t, Config{})
	if err := c.StartLoops(t.Context()); !errors.Is(err, errNotRunning) {
		t.Errorf("StartLoops before Run: %v", err)
	}
	if err := c.Ready(); err == nil {
		t.Error("ready before the first tick")
	}
	c.describe()
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := c.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, listener) }()
	for c.Ready() != nil && t.Context().Err() == nil {
		if err := clock.System().Sleep(ctx, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Live(); err != nil {
		t.Errorf("live: %v", err)
	}
	if err := errors.Join(c.StopLoops(ctx), c.StopLoops(ctx)); err != nil || c.running() {
		t.Errorf("stopped twice: %v, running %t", err, c.running())
	}
	c.clk.Advance(time.Hour)
	if err := c.Live(); err != nil {
		t.Errorf("stopped loops do not hang: %v", err)
	}
	if err := c.StartLoops(ctx); err != nil || !c.running() {
		t.Errorf("start again: %v", err)
	}
	c.clk.Advance(time.Hour)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if c.running() {
		t.Error("loops run after Run has returned")
	}
}

// TestLive: a loop without a finished tick for twenty slots hangs.
func TestLive(t *testing.T) {
	c := newCentre(t, Config{})
	c.stopped = make(chan struct{}) // as if the loops ran
	if err := c.Live(); err != nil {
		t.Errorf("just started: %v", err)
	}
	c.clk.Advance(hanging*c.config.Tick + time.Second)
	if err := c.Live(); err == nil {
		t.Error("a loop that never ticked counts as live")
	}
	c.stopped = nil
}

// TestExport: the file is whole, its header is the export's, and the schedule
// writes the month of the minute before.
func TestExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "exports")
	c := newCentre(t, Config{Exports: ExportConfig{Schedule: "0 0 1 * *", Dir: dir}})
	c.describe()
	c.tick()
	path, err := c.WriteExport(t.Context(), "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil || len(records) < 3 {
		t.Fatalf("%d records, %v; want a header and lines for CPU and energy", len(records), err)
	}
	if _, err := c.WriteExport(t.Context(), "no month"); err == nil {
		t.Error("a period that is none was exported")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asleep, done := make(chan time.Time), make(chan error, 1)
	c.Leader.clock = telling{c.clk, asleep}
	go func() { done <- c.runExports(ctx) }()
	december := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if next := <-asleep; !next.Equal(december) {
		t.Errorf("the first export is at %s, want %s", next, december)
	}
	c.clk.Set(december)
	if next := <-asleep; !next.Equal(december.AddDate(0, 1, 0)) {
		t.Errorf("the second export is at %s", next)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("what the schedule wrote: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("schedule: %v", err)
	}
}

// TestExportFiles: the schedule writes files, the same each time, of the month of
// the minute before and of the one before that in the first days.
func TestExportFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "exports")
	c := newCentre(t, Config{Exports: ExportConfig{Schedule: "15 2 * * *", Dir: dir, Format: api.FormatFocus, Compression: focus.None}})
	c.describe()
	c.tick()
	manifest, err := c.SendExport(t.Context(), "2026-11")
	if err != nil || manifest.Rows == 0 || manifest.Totals["EUR"] == "" {
		t.Fatalf("%v, %+v", err, manifest)
	}
	export, err := c.query.Export(t.Context(), query.ExportRequest{Period: "2026-11"})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := strconv.ParseFloat(export.Totals[0].Cost, 64)
	if got, err := strconv.ParseFloat(manifest.Totals["EUR"], 64); err != nil || math.Abs(got-want) > 1e-8 {
		t.Errorf("the files cost %s, the export %s", manifest.Totals["EUR"], export.Totals[0].Cost)
	}
	path := filepath.Join(dir, "focus", "1.4", "billing_period=2026-11", "manifest.json")
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SendExport(t.Context(), "2026-11"); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(path); err != nil || !bytes.Equal(first, second) {
		t.Errorf("a second run differs (%v)", err)
	}
	opencost, err := c.PrepareExport(t.Context(), api.ExportRequest{Format: api.FormatOpenCost, Request: focus.Request{Period: "2026-11"}})
	if err != nil || opencost.Manifest.Rows == 0 {
		t.Fatalf("OpenCost's CSV: %v", err)
	}
	if err := opencost.Close(); err != nil {
		t.Error(err)
	}
	for at, want := range map[string][]string{"2026-12-01T00:00:00Z": {"2026-11"}, "2026-12-01T02:15:00Z": {"2026-11", "2026-12"}, "2026-12-06T00:00:00Z": {"2026-11", "2026-12"}, "2026-12-06T02:15:00Z": {"2026-12"}} {
		moment, _ := time.Parse(time.RFC3339, at)
		if got := periods(moment); !slices.Equal(got, want) {
			t.Errorf("at %s: %v, want %v", at, got, want)
		}
	}
}

// telling is a clock that tells until when it is slept on.
type telling struct {
	*clock.Manual
	asleep chan<- time.Time
}

func (c telling) SleepUntil(ctx context.Context, until time.Time) error {
	c.asleep <- until
	return c.Manual.SleepUntil(ctx, until)
}

// TestValidate names all that is wrong.
func TestValidate(t *testing.T) {
	err := Config{Tick: -1, MeterInterval: time.Millisecond, API: api.Config{Listen: "nowhere"}, Exports: ExportConfig{Schedule: "often"}}.Validate()
	for _, part := range []string{"data:", "tick: -1ns", "meter-interval: 1ms", "listen", "schedule"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not speak of %q", err, part)
		}
	}
}
