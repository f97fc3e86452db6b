package kube

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// usedBy is the CPU counter of a control group, core-µs, read where the kernel
// shows it.
func usedBy(group string) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuacct", group, "cpuacct.usage"))
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return ns / 1000, err
}

// trace is what a control group's CPU counter showed, five times a second.
type trace struct {
	mu    sync.Mutex
	at    []time.Time
	value []int64 // core-µs
}

const traceEach = 200 * time.Millisecond

// follow reads a control group's counter until the test ends. A moment without
// the group has no value.
func follow(t testing.TB, group string) *trace {
	t.Helper()
	tr := &trace{}
	clk := clock.System()
	background(t, traceEach, func() {
		if value, err := usedBy(group); err == nil {
			tr.add(clk.Now(), value)
		}
	})
	return tr
}

// background does something again and again until the test ends.
func background(t testing.TB, each time.Duration, do func()) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() {
		stop()
		<-ended
	})
	clk := clock.System()
	go func() {
		defer close(ended)
		for do(); clk.Sleep(ctx, each) == nil; do() {
		}
	}()
}

func (tr *trace) add(at time.Time, value int64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.at, tr.value = append(tr.at, at), append(tr.value, value)
}

// within is what the counter was at least and at most at a moment: it only
// grows. ok says that it was read before and after.
func (tr *trace) within(moment time.Time) (low, high int64, ok bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	// A value was the counter's shortly before the time that stands beside it.
	i := sort.Search(len(tr.at), func(i int) bool { return !tr.at[i].Before(moment) })
	if i == 0 || i+1 >= len(tr.at) {
		return 0, 0, false
	}
	return tr.value[i-1], tr.value[i+1], true
}

// rates are the least and the most that the counter grew in a second, core-s,
// over spans of a second between two moments.
func (tr *trace) rates(from, to time.Time) (low, high float64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	low = math.Inf(1)
	for i, j := 0, 0; j < len(tr.at); j++ {
		for tr.at[j].Sub(tr.at[i]) > time.Second {
			i++
		}
		if i == 0 || tr.at[i-1].Before(from) || tr.at[j].After(to) {
			continue
		}
		rate := float64(tr.value[j]-tr.value[i-1]) / 1e6 / tr.at[j].Sub(tr.at[i-1]).Seconds()
		low, high = min(low, rate), max(high, rate)
	}
	return min(low, high), high
}

// podTraces are the newest values of the CPU counters of all pods of a node,
// core-µs by UID. A pod that is gone keeps its last.
type podTraces struct {
	mu   sync.Mutex
	last map[string]int64
}

// followPods reads them ten times a second until the test ends.
func followPods(t testing.TB, node kubetest.Node) *podTraces {
	t.Helper()
	p := &podTraces{last: make(map[string]int64)}
	background(t, traceEach/2, func() {
		for _, class := range []string{"", "burstable", "besteffort"} {
			dirs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/cpuacct", node.Cgroup, "kubepods", class, "pod*"))
			for _, dir := range dirs {
				value, err := usedBy(strings.TrimPrefix(dir, "/sys/fs/cgroup/cpuacct/"))
				if err != nil {
					continue // it has just ended
				}
				p.mu.Lock()
				p.last[strings.TrimPrefix(filepath.Base(dir), "pod")] = value
				p.mu.Unlock()
			}
		}
	})
	return p
}

func (p *podTraces) of(uid string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[uid]
}

// cpuOf is Σ CPU (core-µs) of the rows of a node's minutes in a window, by pod
// UID; the rests have their namespaces' names.
func (m *meter) cpuOf(ctx context.Context, node string, w schema.Window) (pods map[string]int64, whole int64, err error) {
	pods = make(map[string]int64)
	rows, err := m.rows(ctx, schema.PodMinute.Name)
	if err != nil {
		return nil, 0, err
	}
	within := func(row map[string]string) (int64, bool, error) {
		at, err := time.Parse(time.RFC3339, row["time"])
		if err != nil || !w.Contains(at) || row[schema.Node] != node {
			return 0, false, err
		}
		value, err := strconv.ParseInt(row[schema.CPU], 10, 64)
		return value, true, err
	}
	for _, row := range rows {
		value, in, err := within(row)
		if err != nil {
			return nil, 0, err
		}
		if in {
			pods[row[schema.PodUID]] += value
		}
	}
	if rows, err = m.rows(ctx, schema.NodeMinute.Name); err != nil {
		return nil, 0, err
	}
	for _, row := range rows {
		value, in, err := within(row)
		if err != nil {
			return nil, 0, err
		}
		if in {
			whole += value
		}
	}
	return pods, whole, nil
}
