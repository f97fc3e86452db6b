package manager

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// finishing notes when the last pull of a healthy cluster ended, and how many
// there were.
type finishing struct {
	Puller
	clock clock.Clock
	mu    sync.Mutex
	last  time.Time
	n     int
}

func (f *finishing) Pull(ctx context.Context, cluster string, follower *influxsync.Server) (pull.Result, error) {
	result, err := f.Puller.Pull(ctx, cluster, follower)
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(cluster, healthy) && err == nil && result.Windows > 0 {
		f.last, f.n = f.clock.Now(), f.n+1
	}
	return result, err
}

func (f *finishing) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n = 0
}

// all is when the last of the healthy clusters was pulled. On a machine that is
// busy some may straggle, and outlast their slot.
func (f *finishing) all(b *testing.B) time.Time {
	b.Helper()
	for {
		f.mu.Lock()
		last, n := f.last, f.n
		f.mu.Unlock()
		if n == wellLinks {
			return last
		}
		if err := f.clock.Sleep(b.Context(), time.Millisecond); err != nil {
			b.Fatal(err)
		}
	}
}

// links are followers on loopback: 85 that answer, and 15 in trouble.
type links struct {
	healthy []*followertest.Follower
	objects []fleet.Object // the healthy first
	start   time.Time
}

const (
	wellLinks     = 85
	troubledLinks = 5 // of each kind
)

func newLinks(b *testing.B) *links {
	l := &links{start: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	clk := clock.NewManual(l.start)
	add := func(kind string, i int, url string) {
		l.objects = append(l.objects, fleet.NewObject(name(kind, i), fleet.Cluster{URL: url}))
	}
	for i := range wellLinks {
		f := followertest.New(b, name(healthy, i), clk)
		l.healthy = append(l.healthy, f)
		add(healthy, i, f.Serve().URL)
	}
	for i := range troubledLinks {
		silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody answers
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = silent.Close() })
		add(hangs, i, "http://"+silent.Addr().String())
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		add(refuses, i, "http://"+closed.Addr().String())
		if err := closed.Close(); err != nil {
			b.Fatal(err)
		}
		late := followertest.New(b, name(slow, i), clk)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if clock.System().Sleep(r.Context(), slowTime) == nil {
				late.ServeHTTP(w, r)
			}
		}))
		b.Cleanup(server.Close)
		add(slow, i, server.URL)
	}
	return l
}

// settle makes each healthy follower settle its n-th minute.
func (l *links) settle(n int) {
	window := schema.WindowAt(l.start.Add(time.Duration(n)*schema.Minute), schema.Minute)
	for _, f := range l.healthy {
		for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute} {
			var rows []influxsync.Point
			for i := range 20 {
				rows = append(rows, followertest.Row(table, window.From, map[string]string{schema.Cluster: f.Cluster, schema.Node: "n1", schema.Pod: fmt.Sprint("p", i)}, nil))
			}
			f.Settle(table, window, rows...)
		}
	}
}

// leaderOf is a manager of the objects with a store of its own.
func leaderOf(b *testing.B, objects []fleet.Object) (*Manager, *finishing) {
	clk := clock.System()
	books, err := registry.Open(b.Context(), filepath.Join(b.TempDir(), "registry.db"), clk)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = books.Close() })
	if _, err := books.Apply(b.Context(), objects, "benchmark"); err != nil {
		b.Fatal(err)
	}
	centre := influxtest.New(b)
	if err := centre.Create(b.Context(), schema.MinuteDB, schema.FactsDB); err != nil {
		b.Fatal(err)
	}
	f, idle := &finishing{Puller: pull.New(books, centre), clock: clk}, newScript()
	m, err := New(Config{}, Parts{Registry: books, Followers: followers.NewPool(clk), Puller: f, Worker: idle, Pusher: idle},
		clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	return m, f
}

// BenchmarkTroubledFleet is slots over followers behind real sockets, of which
// each settles a minute of 40 rows before: 85 alone, and the same with 5 that
// never answer, 5 that refuse and 5 that take 20 s for each answer. It tells how
// long after the slot's begin the last of the 85 is pulled, and the ratio of the
// two in the same run; that of the first slot, in which nothing is known of the
// 15, stands apart.
func BenchmarkTroubledFleet(b *testing.B) {
	l := newLinks(b)
	ctx, cancel := context.WithCancel(b.Context())
	alone, aloneDone := leaderOf(b, l.objects[:wellLinks])
	troubled, troubledDone := leaderOf(b, l.objects)
	defer func() {
		cancel()
		alone.visits.Wait()
		troubled.visits.Wait()
	}()
	slot := func(m *Manager, f *finishing) time.Duration {
		f.reset()
		began := m.clock.Now()
		if err := m.Tick(ctx); err != nil {
			b.Fatal(err)
		}
		return f.all(b).Sub(began)
	}
	l.settle(0)
	first := slot(troubled, troubledDone).Seconds() / slot(alone, aloneDone).Seconds()
	var without, with time.Duration
	n := 0
	for b.Loop() {
		n++
		b.StopTimer()
		l.settle(n)
		b.StartTimer()
		if n%2 == 0 {
			without += slot(alone, aloneDone)
			with += slot(troubled, troubledDone)
		} else {
			with += slot(troubled, troubledDone)
			without += slot(alone, aloneDone)
		}
	}
	b.ReportMetric(with.Seconds()/without.Seconds(), "ratio")
	b.ReportMetric(first, "first-slot-ratio")
	b.ReportMetric(without.Seconds()*1000/float64(n), "alone-ms/slot")
}
