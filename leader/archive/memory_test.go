package archive

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/followertest"
)

// memoryVariable has the number of pods of the smaller day of TestMemoryOfALargeDay.
const memoryVariable = "ACCUMULUS_TEST_ARCHIVE_PODS"

// TestMemoryOfALargeDay prints by how much archiving raises the heap for a day of so many
// pods, and of four times as many: the embedded store is in it, which reads an hour.
func TestMemoryOfALargeDay(t *testing.T) {
	pods, _ := strconv.Atoi(os.Getenv(memoryVariable))
	if pods < 1 {
		t.Skipf("a measurement: %s=50 runs it", memoryVariable)
	}
	var peaks [2]float64
	for i, n := range []int{pods, 4 * pods} {
		w := newWorld(t, Config{})
		w.large(n)
		rows, peak, took := w.measure()
		peaks[i] = peak
		t.Logf("%d pods, %d rows: %.1f MiB more heap at the peak, %s, %.0f rows/s", n, rows, peak, took.Round(time.Millisecond), float64(rows)/took.Seconds())
	}
	t.Logf("four times the day takes %.2f times the heap", peaks[1]/peaks[0])
}

// large settles a day of so many pods, each with a container and a row in each minute.
func (w *world) large(pods int) {
	w.t.Helper()
	w.clk.Set(first.Add(dayLength))
	for hour := range 24 {
		span := schema.Window{From: first.Add(time.Duration(hour) * time.Hour), To: first.Add(time.Duration(hour+1) * time.Hour)}
		var nodes, podRows, containers []influxsync.Point
		for _, minute := range span.Split(schema.Minute) {
			values := map[string]int64{schema.CPU: 1e6, schema.Uptime: 60_000, schema.Coverage: 60}
			nodes = append(nodes, followertest.Row(schema.NodeMinute, minute.From, map[string]string{schema.Cluster: edge, schema.Node: "n1"}, values))
			for i := range pods {
				name := fmt.Sprintf("pod-%04d", i)
				tags := map[string]string{schema.Cluster: edge, schema.Node: "n1", schema.Namespace: "shop", schema.Pod: name, schema.PodUID: "uid-" + name,
					schema.WorkloadKind: "Deployment", schema.Workload: "web"}
				podRows = append(podRows, followertest.Row(schema.PodMinute, minute.From, tags, values))
				tags[schema.Container] = "main"
				containers = append(containers, followertest.Row(schema.ContainerMinute, minute.From, tags, values))
			}
		}
		w.follower.Settle(schema.NodeMinute, span, nodes...)
		w.follower.Settle(schema.PodMinute, span, podRows...)
		w.follower.Settle(schema.ContainerMinute, span, containers...)
	}
	for {
		more, err := w.puller.Pull(w.t.Context(), edge, w.follower.Store)
		if err != nil {
			w.t.Fatal(err)
		}
		if more.Windows == 0 {
			return
		}
	}
}

// measure archives the day and samples the heap meanwhile.
func (w *world) measure() (rows int64, peak float64, took time.Duration) {
	w.t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what lives, and little that does not
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for clock.System().Sleep(ctx, 5*time.Millisecond) == nil {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}()
	began := clock.System().Now()
	_, _, err := w.Seal(w.t.Context(), edge, schema.Window{From: first, To: first.Add(dayLength)})
	took = clock.System().Now().Sub(began)
	cancel()
	<-done
	if err != nil {
		w.t.Fatal(err)
	}
	return w.archived(edge, first).Rows, float64(int64(most)-int64(before)) / (1 << 20), took
}
