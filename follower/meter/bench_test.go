package meter

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/bench"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

// farm is many nodes with twenty pods of one container each.
func farm(pods int, at time.Time) (*world, func(time.Time) []reading.Body) {
	w := &world{facts: map[string]reading.Facts{}}
	start := at.Add(-time.Hour)
	for i := range pods {
		node := fmt.Sprintf("node-%d", i/20)
		if i%20 == 0 {
			w.nodes = append(w.nodes, reading.NodeInfo{Name: node, CapacityMillicores: 32000})
			w.facts[node] = reading.Facts{Box: "b", CPUType: "xeon", RAMType: "ddr5", DiskType: "nvme"}
		}
		w.pods = append(w.pods, reading.PodInfo{UID: fmt.Sprintf("uid-%d", i), Namespace: "ns", Name: fmt.Sprintf("pod-%d", i),
			Node: node, OwnerKnown: true, WorkloadKind: "Deployment", Workload: "w", Start: start,
			Containers: []reading.ContainerInfo{{Name: "c", RequestMillicores: 100}}})
	}
	return w, func(now time.Time) []reading.Body {
		bodies := make([]reading.Body, len(w.nodes))
		us := now.Sub(start).Microseconds()
		for i, n := range w.nodes {
			bodies[i] = reading.Body{Node: n.Name, Received: now, NewestSample: now}
		}
		for i, p := range append(w.pods, make([]reading.PodInfo, 2*len(w.nodes))...) {
			b := &bodies[min(i/20, len(bodies)-1)]
			id := reading.Series{Kind: reading.Pod, Node: p.Node, Namespace: p.Namespace, Pod: p.Name, PodUID: p.UID}
			r := reading.Reading{Series: id, Time: now, Epoch: start}
			r.Values.Set(reading.CPU, us/20)
			r.Values.Set(reading.Memory, 1<<28)
			if p.UID == "" {
				k := i - len(w.pods)
				b = &bodies[k/2]
				r.Series = reading.Series{Kind: []reading.Kind{reading.Node, reading.Kubepods}[k%2], Node: b.Node}
				r.Values.Set(reading.CPU, us)
				b.Readings = append(b.Readings, r)
				continue
			}
			b.Readings = append(b.Readings, r)
			r.Kind, r.Container = reading.Container, "c"
			b.Readings = append(b.Readings, r)
		}
		return bodies
	}
}

// void is a store that keeps nothing: the meter's own cost.
func void() stores {
	d := newDisk(1)
	return stores{raw: nothing{}, minute: nothing{}, journals: func(clock.Clock) map[string]Journal { return d.journals() }}
}

// benchmarkMinutes meters farm's bodies, four slots of 15 s and one window that
// settles at a time. With rawAlone it only writes the rows of raw.
func benchmarkMinutes(b *testing.B, pods int, st stores, rawAlone bool) {
	start := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	w, bodies := farm(pods, start)
	clk := clock.NewManual(start)
	before := bench.LiveBytes()
	m := st.open(b, w, clk)
	readings := 0
	slot := func() {
		clk.Advance(15 * time.Second)
		now := bodies(clk.Now())
		if rawAlone {
			rows := m.prepare(now).samples
			points := make([]influxsync.Point, len(rows))
			for i, x := range rows {
				points[i] = x.row()
			}
			readings += len(points)
			must(b, st.raw.Write(b.Context(), points))
			return
		}
		for _, body := range now {
			readings += len(body.Readings)
		}
		must(b, m.Add(b.Context(), now))
		_, err := m.Settle(b.Context())
		must(b, err)
	}
	for range 16 { // until windows settle one by one
		slot()
	}
	readings = 0
	cpu := bench.Start(b)
	for b.Loop() {
		for range 4 {
			slot()
		}
	}
	cpu.Per(readings, "reading")
	if live := bench.LiveBytes(); live > before {
		b.ReportMetric(float64(live-before)*1000/float64(pods)/1e6, "live-MB/1000-containers")
	}
	runtime.KeepAlive(m)
}

// BenchmarkMinute is a minute of 2,000 pods with 2,000 containers: four times
// Add and Settle, one window written. memory keeps nothing: the meter's own
// cost. raw is the baseline of influxdb: the same rows of raw alone, into the
// same engine.
func BenchmarkMinute(b *testing.B) {
	const pods = 2000
	b.Run("memory", func(b *testing.B) { benchmarkMinutes(b, pods, void(), false) })
	b.Run("raw", func(b *testing.B) { benchmarkMinutes(b, pods, influxStores(b), true) })
	b.Run("influxdb", func(b *testing.B) { benchmarkMinutes(b, pods, influxStores(b), false) })
}
