package kube

import (
	"context"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
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
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() {
		stop()
		<-ended
	})
	clk := clock.System()
	go func() {
		defer close(ended)
		for {
			// The value was the counter's at some moment between before and after.
			before := clk.Now()
			if value, err := usedBy(group); err == nil {
				tr.add(before, value)
			}
			if clk.Sleep(ctx, traceEach) != nil {
				return
			}
		}
	}()
	return tr
}

func (tr *trace) add(at time.Time, value int64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.at, tr.value = append(tr.at, at), append(tr.value, value)
}

// within is what the counter was at least and at most between two moments: a
// counter only grows. ok says that it was read before and after.
func (tr *trace) within(from, to time.Time) (low, high int64, ok bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	i := sort.Search(len(tr.at), func(i int) bool { return tr.at[i].After(from) })
	j := sort.Search(len(tr.at), func(j int) bool { return !tr.at[j].Before(to) })
	if i < 2 || j == len(tr.at) {
		return 0, 0, false
	}
	// The one before from was read after its moment, so the one before that.
	return tr.value[i-2], tr.value[j], true
}

// last is the newest value.
func (tr *trace) last() int64 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.value) == 0 {
		return 0
	}
	return tr.value[len(tr.value)-1]
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
