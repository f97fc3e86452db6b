package host

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// tree writes files below a new directory. A path that ends with a slash is an
// empty directory; an empty text removes.
func tree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		full := filepath.Join(root, path)
		var err error
		switch text := files[path]; {
		case strings.HasSuffix(path, "/"):
			err = os.MkdirAll(full, 0o755)
		case text == "":
			err = os.RemoveAll(full)
		default:
			if err = os.MkdirAll(filepath.Dir(full), 0o755); err == nil {
				err = os.WriteFile(full, []byte(text), 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// procFiles are a machine of two cores that booted an hour before noon.
var procFiles = map[string]string{
	"stat": "cpu  1000 200 300 90000 10 5 15 0 100 50\ncpu0 500 100 150 45000 5 2 8 0 50 25\ncpu1 500 100 150 45000 5 3 7 0 50 25\n" +
		"intr 1\nctxt 1\nbtime 1795431600\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
	"meminfo": "MemTotal:  8000 kB\nMemFree:  1000 kB\nMemAvailable:  3000 kB\n",
	"net/dev": "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo:    7  1 0 0 0 0 0 0   7  1 0 0 0 0 0 0\n  eth0: 1000  1 0 0 0 0 0 0 200  1 0 0 0 0 0 0\n  eth1:   30  1 0 0 0 0 0 0   4  1 0 0 0 0 0 0\n" +
		"veth12: 5000  1 0 0 0 0 0 0 900  1 0 0 0 0 0 0\n",
	"devices":                   "Character devices:\n  1 mem\n\nBlock devices:\n  7 loop\n252 device-mapper\n253 zram\n254 virtblk\n",
	"sys/kernel/random/boot_id": "9eb9b12c-e999-42a6-bbfc-c69599db6e8f\n",
}

func cpuStat(microseconds string) string {
	return "usage_usec " + microseconds + "\nuser_usec 1\nsystem_usec 1\n"
}

// unifiedFiles are a machine under systemd with cgroup v2.
var unifiedFiles = map[string]string{
	"cgroup.controllers":                "cpu memory io\n",
	"cpu.stat":                          cpuStat("9000000"),
	"io.stat":                           "254:0 rbytes=4096 wbytes=8192 rios=1 wios=1 dbytes=0 dios=0\n252:0 rbytes=4096 wbytes=8192\n",
	"init.scope/cpu.stat":               cpuStat("100"),
	"system.slice/cpu.stat":             cpuStat("5000000"),
	"system.slice/ssh.service/cpu.stat": cpuStat("1234567"), "system.slice/ssh.service/memory.current": "5000\n",
	"system.slice/ssh.service/memory.stat": "anon 1\ninactive_file 1000\n", "system.slice/ssh.service/io.stat": "254:0 rbytes=1 wbytes=2\n",
	"system.slice/ssh.service/inner/cpu.stat":          cpuStat("5"),
	"system.slice/system-getty.slice/cpu.stat":         cpuStat("8"),
	"system.slice/docker-0af3.scope/cpu.stat":          cpuStat("77"),
	"user.slice/user-0.slice/session-1.scope/cpu.stat": cpuStat("66"),
	"docker/c1/cpu.stat":                               cpuStat("55"),
	"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab_c.slice/cri-containerd-1.scope/cpu.stat": cpuStat("1"),
	"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab_c.slice/cpu.stat":                        cpuStat("44"),
	"demo/cpu.stat": cpuStat("33"),
}

type machineDir struct{ cgroups, proc, power string }

func newMachine(t *testing.T, cgroups map[string]string) machineDir {
	t.Helper()
	m := machineDir{cgroups: t.TempDir(), proc: t.TempDir(), power: t.TempDir()}
	tree(t, m.cgroups, cgroups)
	tree(t, m.proc, procFiles)
	return m
}

func (m machineDir) source(t *testing.T) (*Source, *clock.Manual) {
	t.Helper()
	clk := clock.NewManual(noon)
	s, err := New(Config{Node: "edge", CgroupRoot: m.cgroups, ProcRoot: m.proc, PowerRoot: m.power, Filesystem: m.cgroups}, clk,
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s, clk
}

func sweep(t *testing.T, s *Source) reading.Body {
	t.Helper()
	bodies, err := s.Read(t.Context())
	if err != nil || len(bodies) != 1 {
		t.Fatalf("%d bodies, %v", len(bodies), err)
	}
	return bodies[0]
}

// quantities of a reading, by name; the node's filesystem is the test's own
// and left out.
func quantities(r reading.Reading) map[string]int64 {
	all := make(map[string]int64)
	for q, name := range []string{"cpu", "rx", "tx", "read", "write", "processor", "memory"} {
		if v, ok := r.Values.Get(reading.Quantity(q)); ok {
			all[name] = v
		}
	}
	return all
}

func byPod(body reading.Body) map[string]map[string]int64 {
	all := make(map[string]map[string]int64)
	for _, r := range body.Readings {
		all[r.Pod] = quantities(r)
	}
	return all
}

func TestReadUnified(t *testing.T) {
	s, _ := newMachine(t, unifiedFiles).source(t)
	body := sweep(t, s)
	want := map[string]map[string]int64{
		"":                                 {"cpu": 9000000, "rx": 1030, "tx": 204, "memory": 5000 << 10, "read": 4096, "write": 8192},
		"/init.scope":                      {"cpu": 100},
		"/system.slice/ssh.service":        {"cpu": 1234567, "memory": 4000, "read": 1, "write": 2},
		"/system.slice/system-getty.slice": {"cpu": 8},
		"/system.slice/docker-0af3.scope":  {"cpu": 77},
		"/user.slice/user-0.slice/session-1.scope": {"cpu": 66},
		"/docker/c1": {"cpu": 55},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab_c.slice": {"cpu": 44},
		"/demo": {"cpu": 33},
	}
	if diff := cmp.Diff(want, byPod(body)); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
	node := body.Readings[0]
	if node.Kind != reading.Node || node.Node != "edge" || !node.Epoch.Equal(noon.Add(-time.Hour)) || !node.Time.Equal(noon) ||
		!body.NewestSample.Equal(noon) || !body.Received.Equal(noon) {
		t.Errorf("node %+v", node)
	}
	if fs, ok := node.Values.Get(reading.Filesystem); !ok || fs <= 0 {
		t.Errorf("filesystem %d, %v", fs, ok)
	}
	info := s.Nodes()[0]
	wantInfo := reading.NodeInfo{Name: "edge", UID: "host/edge", BootID: "9eb9b12c-e999-42a6-bbfc-c69599db6e8f", CapacityMillicores: 2000,
		AllocatableMilli: 2000, AllocatableMemoryKiB: 8000, Joined: noon}
	if diff := cmp.Diff(wantInfo, info); diff != "" {
		t.Errorf("node info (-want +got):\n%s", diff)
	}
	pods := s.Pods()
	if len(pods) != 8 || pods[0].Name != "/demo" || pods[0].WorkloadKind != "Cgroup" || pods[0].Workload != "/demo" ||
		pods[0].Namespace != "host" || !pods[0].OwnerKnown || !strings.HasPrefix(pods[0].UID, "/demo#9eb9b12c-") || pods[0].Start.IsZero() {
		t.Errorf("pods %+v", pods)
	}
}

func TestReadSplit(t *testing.T) {
	files := map[string]string{
		"cpuacct/cpuacct.usage":              "9000000999\n",
		"cpuacct/demo/cpuacct.usage":         "1999\n",
		"cpuacct/other/cpuacct.usage":        "5000\n",
		"memory/demo/memory.usage_in_bytes":  "5000\n",
		"memory/demo/memory.stat":            "total_inactive_file 1000\n",
		"memory/process/x":                   "only in memory: it has no CPU to meter\n",
		"blkio/" + throttleFile:              "254:0 Read 0\n254:0 Write 0\n254:0 Total 0\nTotal 0\n",
		"blkio/demo/" + throttleFile:         "254:0 Read 0\n254:0 Write 0\n254:0 Total 0\nTotal 0\n",
		"unified/cgroup.controllers":         "",
		"cpuacct/other/nested/cpuacct.usage": "1\n",
	}
	for name, test := range map[string]struct {
		root string
		want map[string]map[string]int64
	}{
		"disk not counted": {files["blkio/"+throttleFile], map[string]map[string]int64{
			"":       {"cpu": 9000000, "rx": 1030, "tx": 204, "memory": 5000 << 10},
			"/demo":  {"cpu": 1, "memory": 4000},
			"/other": {"cpu": 5},
		}},
		"disk counted": {"254:0 Read 512\n254:0 Write 1024\n252:0 Read 512\n254:0 Sync 3\nTotal 2048\n", map[string]map[string]int64{
			"":       {"cpu": 9000000, "rx": 1030, "tx": 204, "memory": 5000 << 10, "read": 512, "write": 1024},
			"/demo":  {"cpu": 1, "memory": 4000, "read": 0, "write": 0},
			"/other": {"cpu": 5},
		}},
	} {
		files["blkio/"+throttleFile] = test.root
		s, _ := newMachine(t, files).source(t)
		if diff := cmp.Diff(test.want, byPod(sweep(t, s))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A kernel whose root group counts nothing: the node's CPU is /proc/stat's,
// 15.20 s over both cores.
func TestRootWithoutCounter(t *testing.T) {
	s, _ := newMachine(t, map[string]string{"cgroup.controllers": "cpu\n"}).source(t)
	if diff := cmp.Diff(map[string]map[string]int64{"": {"cpu": 15_200_000, "rx": 1030, "tx": 204, "memory": 5000 << 10}}, byPod(sweep(t, s))); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
	if pods := s.Pods(); len(pods) != 0 {
		t.Errorf("pods %+v on a machine without groups", pods)
	}
}

func TestNoGroups(t *testing.T) {
	empty := machineDir{cgroups: t.TempDir(), proc: t.TempDir()}
	_, err := New(Config{Node: "n", CgroupRoot: empty.cgroups, ProcRoot: empty.proc}, clock.System(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err == nil || !strings.Contains(err.Error(), "no control groups") {
		t.Errorf("error %v", err)
	}
}

// Each life of a group is a pod of its own, and its end is seen.
func TestLivesOfAGroup(t *testing.T) {
	m := newMachine(t, map[string]string{"cgroup.controllers": "cpu\n", "cpu.stat": cpuStat("100"), "job/cpu.stat": cpuStat("10"), "old/x/": ""})
	s, clk := m.source(t)
	sweep(t, s)
	first := s.Pods()[0]
	clk.Advance(15 * time.Second)
	tree(t, m.cgroups, map[string]string{"keep/": "", "job": ""})
	tree(t, m.cgroups, map[string]string{"placeholder/": ""}) // takes the inode that became free
	tree(t, m.cgroups, map[string]string{"job/cpu.stat": cpuStat("3"), "placeholder": ""})
	body := sweep(t, s)
	var ended, running []reading.PodInfo
	for _, pod := range s.Pods() {
		if pod.Name == "/job" && pod.End.IsZero() {
			running = append(running, pod)
		} else if pod.Name == "/job" {
			ended = append(ended, pod)
		}
	}
	if len(ended) != 1 || len(running) != 1 || ended[0].UID != first.UID || !ended[0].End.Equal(clk.Now()) {
		t.Fatalf("ended %+v, running %+v", ended, running)
	}
	if got := byPod(body)["/job"]["cpu"]; got != 3 {
		t.Errorf("the new life has %d µs", got)
	}
	s.Forget(clk.Now().Add(time.Second))
	if len(s.Pods()) != 1 {
		t.Errorf("pods %+v, want the running one", s.Pods())
	}
}

// After a restart the epochs go on, though the directories were touched.
func TestEpochsGoOn(t *testing.T) {
	m := newMachine(t, map[string]string{"cgroup.controllers": "cpu\n", "cpu.stat": cpuStat("100"), "job/cpu.stat": cpuStat("10")})
	s, _ := m.source(t)
	before := sweep(t, s)
	changes := s.Pending()
	later := noon.Add(-time.Second)
	if err := os.Chtimes(filepath.Join(m.cgroups, "job"), later, later); err != nil {
		t.Fatal(err)
	}
	again, clk := m.source(t)
	if err := again.Restore(changes); err != nil {
		t.Fatal(err)
	}
	again.RestoreReadings(before.Readings)
	clk.Advance(time.Minute)
	after := sweep(t, again)
	for i := range before.Readings {
		if !after.Readings[i].Epoch.Equal(before.Readings[i].Epoch) || after.Readings[i].Series != before.Readings[i].Series {
			t.Errorf("before %+v, after %+v", before.Readings[i], after.Readings[i])
		}
	}
	if pods := again.Pods(); len(pods) != 1 || !pods[0].End.IsZero() || len(again.Nodes()) != 1 || !again.Nodes()[0].Joined.Equal(noon) {
		t.Errorf("pods %+v, nodes %+v", pods, again.Nodes())
	}
	if got := again.Pending(); len(got) != 0 {
		t.Errorf("nothing changed, and %+v", got)
	}
}
