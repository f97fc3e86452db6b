package bench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// BenchmarkPulled is what a leader costs a follower: minutes of two followers
// of the same 2,000 pods, each in a process of its own, of which a leader pulls
// one over its port, by its journal, after each minute, or after five. The
// leader is in the benchmark's process and counts to neither. cpu-ratio is the
// CPU of the one that is pulled by that of the other, in the same minutes of the
// same run.
func BenchmarkPulled(b *testing.B) {
	for _, every := range []int{1, 5} {
		b.Run(fmt.Sprintf("every-%dm", every), func(b *testing.B) { benchmarkPulled(b, every) })
	}
}

func benchmarkPulled(b *testing.B, every int) {
	clk := clock.NewManual(began.Add(time.Hour))
	k := newKubelets(b, clk)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(b, err)
	address := listener.Addr().String()
	check(b, listener.Close())
	dir := b.TempDir()
	alone := startChild(b, k, roleFollower, clk.Now())
	pulled := startChildOn(b, k, childConfig{Role: roleFollower, Dir: dir, Listen: address, At: clk.Now()})
	fetch := newFetching(b, dir, address, clk)
	sweep := func() {
		clk.Advance(interval)
		k.make(b)
		alone.tick(b, clk.Now())
		pulled.tick(b, clk.Now())
	}
	for range 4 * sweepsPerMinute { // until windows settle one by one
		sweep()
	}
	fetch()
	before := [2]time.Duration{alone.cpu(b), pulled.cpu(b)}
	b.ResetTimer()
	minutes, rows := 0, 0
	for b.Loop() {
		for range every * sweepsPerMinute {
			sweep()
		}
		rows += fetch()
		minutes += every
	}
	b.StopTimer()
	of, with := (alone.cpu(b) - before[0]).Seconds(), (pulled.cpu(b) - before[1]).Seconds()
	if rows == 0 {
		b.Error("nothing was pulled")
	}
	b.ReportMetric(with/of, "cpu-ratio")
	b.ReportMetric(of*1000/float64(minutes), "alone-cpu-ms/minute")
	b.ReportMetric((with-of)*1000/float64(minutes), "pull-cpu-ms/minute")
	b.ReportMetric(float64(rows)/float64(minutes), "rows/minute")
}

// newFetching is a leader that pulls from the address until nothing is left, and
// says how many rows that were.
func newFetching(b *testing.B, dir, address string, clk clock.Clock) func() int {
	b.Helper()
	token, err := os.ReadFile(filepath.Join(dir, "leader.token"))
	check(b, err)
	source, err := influxsync.New(influxsync.Config{URL: "http://" + address, Token: influxsync.Secret(strings.TrimSpace(string(token)))})
	check(b, err)
	centre := influxtest.New(b)
	check(b, centre.Create(b.Context(), schema.MinuteDB, schema.FactsDB))
	books, err := registry.Open(b.Context(), filepath.Join(b.TempDir(), "registry.db"), clk)
	check(b, err)
	b.Cleanup(func() { check(b, books.Close()) })
	puller := pull.New(books, centre)
	return func() int {
		result, err := puller.Pull(b.Context(), cluster, source)
		check(b, err)
		return result.Rows
	}
}
