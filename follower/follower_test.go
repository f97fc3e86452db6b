package follower

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

func (r *rig) sum(table string, tags map[string]string) (cpu int64, rows int) {
	r.Helper()
	var where []influxsync.Condition
	for tag, value := range tags {
		where = append(where, influxsync.Condition{Tag: tag, Value: value})
	}
	minute := r.client(r.token("leader")).Database(schema.MinuteDB)
	err := minute.TimeQuery(r.Context(), table, schema.Window{}, where, func(p influxsync.Point) error {
		cpu += p.Int(schema.CPU)
		rows++
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	return cpu, rows
}

// checkSums holds the sums of all settled windows against the counters.
func (r *rig) checkSums(from time.Time) {
	r.Helper()
	mark := r.Status().Mark
	if mark == nil {
		r.Fatal("nothing has settled")
	}
	seconds := int64(mark.Sub(from) / time.Second)
	for _, tc := range []struct {
		table string
		tags  map[string]string
		rate  int64
	}{
		{"node", nil, nodeRate},
		{"pod", map[string]string{schema.Pod: "web"}, podRate},
		{"pod", map[string]string{schema.Namespace: schema.SystemNamespace}, nodeRate - kubepodsRate},
		{"pod", map[string]string{schema.Namespace: schema.UnattributedNamespace}, kubepodsRate - podRate},
		{"container", map[string]string{schema.Container: schema.PodRest}, 1000},
	} {
		if got, rows := r.sum(tc.table, tc.tags); got != tc.rate*seconds {
			r.Errorf("Σ %s %v = %d in %d rows, want %d: %d s", tc.table, tc.tags, got, rows, tc.rate*seconds, seconds)
		}
	}
	for _, table := range []string{"node", "pod", "container"} {
		entries, err := influxsync.ReadJournal(r.Context(), r.client(r.token("viewer")).Database(schema.MinuteDB), "edge", table, time.Time{}, 0)
		if err != nil {
			r.Fatal(err)
		}
		if err := influxsync.VerifyChain(entries, ""); err != nil {
			r.Error(err)
		}
		windows := map[time.Time]bool{}
		for _, e := range entries {
			windows[e.Window.From] = true
		}
		if want := int(mark.Sub(from.Truncate(time.Minute)) / time.Minute); len(windows) != want {
			r.Errorf("journal of %s names %d windows, want %d", table, len(windows), want)
		}
	}
}

// TestSettleRestartNoLoss drives a follower over its port: minutes settle,
// the follower is stopped and started again with a hole of two minutes, and
// every counter's growth is in the windows.
func TestSettleRestartNoLoss(t *testing.T) {
	began := epoch.Add(time.Hour)
	dir, clk := t.TempDir(), clock.NewManual(began)
	r := start(t, dir, clk, nil)
	if r.Status().Mark != nil {
		t.Errorf("mark before any reading: %+v", r.Status())
	}
	first := began.Add(DefaultInterval) // the first slot's reading
	r.tickTo(began.Add(5*time.Minute + 30*time.Second))
	r.checkSums(first)
	store := r.Status().Store
	r.stop()

	clk.Advance(2 * time.Minute)
	r = start(t, dir, clk, nil)
	if got := r.Status(); got.Store != store || got.Mark == nil {
		t.Errorf("after a restart: %+v", got)
	}
	r.tickTo(began.Add(12 * time.Minute))
	r.checkSums(first)
	if got := r.Status().Mark; got.Before(began.Add(11 * time.Minute)) {
		t.Errorf("mark %s", got)
	}
	objects := 0
	facts := r.client(r.token("viewer")).Database(schema.FactsDB)
	if err := facts.TimeQuery(t.Context(), "object", schema.Window{}, nil, func(influxsync.Point) error { objects++; return nil }); err != nil {
		t.Fatal(err)
	}
	if objects != 2 {
		t.Errorf("%d object rows, want the node's and the pod's", objects)
	}
}

func TestFillBeforeLive(t *testing.T) {
	began := epoch.Add(time.Hour)
	dir, clk := t.TempDir(), clock.NewManual(began)
	fill := func(r *rig, source func(time.Time) ([]reading.Body, error)) error {
		return r.Fill(t.Context(), began.Add(-30*time.Minute), began, source, nil)
	}
	r := start(t, dir, clk, func(c *Config, _ *Input) { c.From = began })
	broken := errors.New("stopped half-way")
	err := fill(r, func(at time.Time) ([]reading.Body, error) {
		if at.After(began.Add(-15 * time.Minute)) {
			return nil, broken
		}
		return r.machine.at(at), nil
	})
	if !errors.Is(err, broken) {
		t.Fatalf("fill: %v", err)
	}
	r.tickTo(began.Add(2 * time.Minute))
	r.stop()

	r = start(t, dir, clk, func(c *Config, _ *Input) { c.From = began })
	asked := began
	err = fill(r, func(at time.Time) ([]reading.Body, error) {
		if at.Before(asked) {
			asked = at
		}
		return r.machine.at(at), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked.Before(began.Add(-20 * time.Minute)) {
		t.Errorf("after a restart history was read from %s on", asked)
	}
	r.tickTo(began.Add(4 * time.Minute))
	if _, rows := r.sum("node", nil); rows != 34 {
		t.Errorf("%d node rows, want 30 of history and 4 live ones", rows)
	}
	entries, err := influxsync.ReadJournal(t.Context(), r.client(r.token("leader")).Database(schema.MinuteDB), "edge", "pod", time.Time{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := influxsync.VerifyChain(entries, ""); err != nil {
		t.Error(err)
	}
	if h := r.Status().History; h == nil || !h.Done.Equal(began) {
		t.Errorf("history %+v", h)
	}
	if err := r.Fill(t.Context(), began, began.Add(time.Minute), nil, nil); !errors.Is(err, ErrHistory) {
		t.Errorf("filling a live window: %v", err)
	}
}

func TestSourceDownIsToldAndForgiven(t *testing.T) {
	began := epoch.Add(time.Hour)
	clk := clock.NewManual(began)
	r := start(t, t.TempDir(), clk, nil)
	first := began.Add(DefaultInterval)
	r.tickTo(began.Add(time.Minute))
	r.machine.fail(errors.New("no route"))
	r.tickTo(began.Add(5 * time.Minute))
	s := r.Status()
	if len(s.Sources) != 1 || !strings.Contains(s.Sources[0].Error, "no route") || s.Sources[0].LastSuccess == nil || s.Sources[0].ErrorSince == nil {
		t.Errorf("sources %+v", s.Sources)
	}
	r.machine.fail(nil)
	r.tickTo(began.Add(8 * time.Minute))
	if s := r.Status(); s.Sources[0].Error != "" {
		t.Errorf("sources %+v", s.Sources)
	}
	r.checkSums(first)
}

// TestNothingSettlesByAClockNobodyConfirmed also covers what makes it right
// again: a leader's contact.
func TestNothingSettlesByAClockNobodyConfirmed(t *testing.T) {
	began := epoch.Add(time.Hour)
	clk := clock.NewManual(began)
	offset := errors.New("API server does not answer")
	r := start(t, t.TempDir(), clk, func(_ *Config, in *Input) {
		in.Offset = func(context.Context) (time.Duration, error) { return 0, offset }
	})
	r.tickTo(began.Add(4 * time.Minute))
	if s := r.Status(); s.Mark != nil || s.Clock.Trusted || s.Clock.Reason == "" {
		t.Errorf("status %+v", s)
	}
	contact := func(at time.Time) {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, r.server.URL+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+r.token("leader"))
		request.Header.Set("Date", at.Format(http.TimeFormat))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	contact(clk.Now().Add(31 * time.Second))
	r.tickTo(began.Add(5 * time.Minute))
	if s := r.Status(); s.Mark != nil || s.Clock.OffsetSeconds == nil || *s.Clock.OffsetSeconds != 31 {
		t.Errorf("status by a clock that is off: %+v", s)
	}
	contact(clk.Now())
	r.tickTo(began.Add(6 * time.Minute))
	if s := r.Status(); !s.Clock.Trusted || s.Clock.By != "leader" {
		t.Errorf("status %+v", s.Clock)
	}
	r.checkSums(began.Add(DefaultInterval)) // nothing was lost meanwhile
}

func TestSecondOpenerIsRefused(t *testing.T) {
	dir, clk := t.TempDir(), clock.NewManual(epoch)
	r := start(t, dir, clk, nil)
	other, err := New(testConfig(dir), Deps{Clock: clk, Log: discard(), Registry: prometheus.NewRegistry(), Input: &Input{Source: r.machine, Log: r.Follower.Log()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); !errors.Is(err, embedded.ErrLocked) {
		t.Errorf("second follower on the directory: %v", err)
	}
}

func TestSeveralInOneProcess(t *testing.T) {
	clk := clock.NewManual(epoch.Add(time.Hour))
	a, b := start(t, t.TempDir(), clk, nil), start(t, t.TempDir(), clk, nil)
	a.next, b.next = <-a.idle, <-b.idle
	for range 9 {
		clk.Set(a.next)
		a.next, b.next = <-a.idle, <-b.idle
	}
	a.checkSums(epoch.Add(time.Hour + DefaultInterval))
	b.checkSums(epoch.Add(time.Hour + DefaultInterval))
}

func TestHealth(t *testing.T) {
	clk := clock.NewManual(epoch.Add(time.Hour))
	r := start(t, t.TempDir(), clk, nil)
	get := func(path string) int {
		t.Helper()
		response, err := http.Get(r.server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	if got := get("/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("readyz before the first slot: %d", got)
	}
	r.tickTo(clk.Now().Add(DefaultInterval))
	for path, want := range map[string]int{"/healthz": 200, "/livez": 200, "/readyz": 200, "/metrics": 200, "/api/v1/status": 401, "/query": 401, "/ping": 401, "/": 401, "/api/v1/usage": 401, "/other": 404} {
		if got := get(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	// A loop that hangs in its slot.
	release := r.machine.hang()
	clk.Set(r.next)
	<-r.machine.entered
	clk.Advance((hangs + 1) * DefaultInterval)
	if got := get("/livez"); got != http.StatusServiceUnavailable {
		t.Errorf("livez while the loop hangs: %d", got)
	}
	release()
	r.next = <-r.idle
	clk.Set(r.next)
	r.next = <-r.idle
	if got := get("/livez"); got != http.StatusOK {
		t.Errorf("livez when it goes on: %d", got)
	}
}

func TestStatusOverHTTP(t *testing.T) {
	clk := clock.NewManual(epoch.Add(time.Hour))
	r := start(t, t.TempDir(), clk, func(c *Config, _ *Input) { c.SeedDir = filepath.Join(t.TempDir(), "absent") })
	r.tickTo(clk.Now().Add(3 * time.Minute))
	request, err := http.NewRequest(http.MethodGet, r.server.URL+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.token("viewer"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	seed, _ := got["seed"].(map[string]any)
	if got["cluster"] != "edge" || seed["loaded"] != false || seed["error"] == nil || fmt.Sprint(got["unknownNodes"]) != "[n1]" {
		t.Errorf("status %v", got)
	}
	if rows, _ := got["waitingRows"].(float64); rows == 0 {
		t.Errorf("no rows wait for the facts of n1: %v", got)
	}
}
