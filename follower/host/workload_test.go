package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

// burnFor makes the test binary burn that much CPU and exit.
const burnFor = "HOST_TEST_BURN"

func TestMain(m *testing.M) {
	if text := os.Getenv(burnFor); text != "" {
		want, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		burn(want)
		return
	}
	os.Exit(m.Run())
}

func burn(want time.Duration) {
	var usage syscall.Rusage
	for x := uint64(1); ; {
		for range 1 << 20 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			panic(err)
		}
		if time.Duration(usage.Utime.Nano()+usage.Stime.Nano()) >= want {
			return
		}
	}
}

func testWorkload(t *testing.T, burn string) *Workload {
	t.Helper()
	w, err := StartWorkload(WorkloadConfig{Name: fmt.Sprintf("accumulus-test-%d", os.Getpid()), Command: []string{os.Args[0]},
		Env: append(os.Environ(), burnFor+"="+burn), Output: os.Stderr}, clock.System())
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrNotExist) {
		t.Skipf("this machine lets the test make no control group: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // t.Context has ended by then
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

func machineSource(t *testing.T) *Source {
	t.Helper()
	s, err := New(Config{Node: "here"}, clock.System(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Skipf("this machine has nothing to meter by: %v", err)
	}
	return s
}

// The kernel's account of a process and of its group agree within 2% for burns
// of a second or more, and the node's counter holds the group's.
func TestBurnAgainstRusage(t *testing.T) {
	amount := "3s"
	if testing.Short() {
		amount = "1s"
	}
	s := machineSource(t)
	w := testWorkload(t, amount)
	before := sweep(t, s)
	used, err := w.Wait()
	if err != nil {
		t.Fatal(err)
	}
	after := sweep(t, s)
	got := time.Duration(cpuOf(after, w.Path())) * time.Microsecond
	if diff := got - used; diff > used/50 || diff < -used/50 {
		t.Errorf("the group used %s, the process %s: %.2f%% apart", got, used, 100*float64(diff)/float64(used))
	}
	t.Logf("group %s, getrusage %s: %+.3f%%", got, used, 100*float64(got-used)/float64(used))
	node := time.Duration(cpuOf(after, "")-cpuOf(before, "")) * time.Microsecond
	part := got - time.Duration(cpuOf(before, w.Path()))*time.Microsecond
	if node < part {
		t.Errorf("the node grew by %s, its part by %s", node, part)
	}
}

func cpuOf(body reading.Body, pod string) int64 {
	for _, r := range body.Readings {
		if r.Pod == pod {
			cpu, _ := r.Values.Get(reading.CPU)
			return cpu
		}
	}
	return 0
}

func TestWorkloadStops(t *testing.T) {
	s := machineSource(t)
	w := testWorkload(t, "1h")
	if _, err := StartWorkload(WorkloadConfig{Name: w.config.Name, Command: []string{"/bin/true"}}, clock.System()); err == nil {
		t.Error("a group in use was taken")
	}
	sweep(t, s)
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, directory := range w.directories {
		if exists(directory) {
			t.Errorf("%s is still there", directory)
		}
	}
	sweep(t, s)
	for _, pod := range s.Pods() {
		if pod.Name == w.Path() && pod.End.IsZero() {
			t.Errorf("the removed group runs on: %+v", pod)
		}
	}
}

func TestWorkloadRefuses(t *testing.T) {
	for _, config := range []WorkloadConfig{{}, {Name: "a/b", Command: []string{"x"}}, {Name: "..", Command: []string{"x"}}, {Name: "a"}} {
		if _, err := StartWorkload(config, clock.System()); err == nil {
			t.Errorf("%+v was started", config)
		}
	}
	// Where no group can be made nothing stays behind.
	root := t.TempDir()
	_, err := StartWorkload(WorkloadConfig{CgroupRoot: root, Name: "a", Command: []string{"/bin/true"}}, clock.System())
	if err == nil || !strings.Contains(err.Error(), "start workload a") || exists(filepath.Join(root, "cpuacct", "a")) {
		t.Errorf("error %v", err)
	}
}
