package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/simulator"
)

const (
	nodes       = 20
	podsPerNode = 100
	// containersPerPod is what the simulator gives each pod.
	containersPerPod = 2
	interval         = 15 * time.Second
	sweepsPerMinute  = int(time.Minute / interval)
	cluster          = "scale"
)

// size is a cluster's, and how often it is scraped.
type size struct {
	Nodes, PodsPerNode int
	Interval           time.Duration
}

// standard is the size of the benchmarks.
var standard = size{nodes, podsPerNode, interval}

func (s size) containers() int { return s.Nodes * s.PodsPerNode * containersPerPod }
func (s size) sweeps() int     { return int(time.Minute / s.Interval) }

// began is when the fleet began.
var began = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

// scale is a cluster of 2,000 pods with 4,000 containers on 20 nodes of 4
// cores, in 20 namespaces and 200 workloads; five nodes share a box.
func scale() simulator.Fleet { return standard.fleet() }

// fleet is a cluster of that size, like scale.
func (s size) fleet() simulator.Fleet {
	fleet := simulator.Scale(began, s.Nodes, s.PodsPerNode)
	only := &fleet.Clusters[0]
	fleet.Boxes = nil
	for i := range only.Nodes {
		only.Nodes[i].Box = fmt.Sprintf("box-%d", i/5)
		if i%5 == 0 {
			fleet.Boxes = append(fleet.Boxes, simulator.Box{Name: only.Nodes[i].Box, Since: began,
				Meters: []simulator.Meter{{Name: "meter-" + only.Nodes[i].Box, Generation: 2}}})
		}
	}
	for i := range only.Pods {
		only.Pods[i].Namespace = fmt.Sprintf("team-%d", i%20)
		only.Pods[i].Workload = fmt.Sprintf("service-%d", i%200)
	}
	return fleet
}

// skipped are families of a kubelet's body that nobody reads here. With them
// and what the simulator writes, a pod of two containers has about 49 kB, as on
// a real node.
var skipped = strings.Fields(`container_blkio_device_usage_total container_cpu_cfs_periods_total
	container_cpu_cfs_throttled_periods_total container_cpu_cfs_throttled_seconds_total container_cpu_load_average_10s
	container_cpu_system_seconds_total container_cpu_user_seconds_total container_file_descriptors
	container_fs_inodes_free container_fs_inodes_total container_fs_io_current container_fs_limit_bytes
	container_memory_cache container_memory_failcnt container_memory_failures_total container_memory_kernel_usage
	container_memory_mapped_file container_memory_max_usage_bytes container_memory_rss container_memory_swap
	container_memory_total_active_file_bytes container_memory_total_inactive_file_bytes container_memory_usage_bytes
	container_oom_events_total container_processes container_sockets container_spec_cpu_period
	container_spec_cpu_shares container_spec_memory_reservation_limit_bytes container_spec_memory_swap_limit_bytes
	container_tasks_state container_threads container_threads_max container_ulimits_soft`)

// kubelets serve bodies that were made beforehand, so that making them costs
// the measured time nothing.
type kubelets struct {
	sim    *simulator.Server
	client *http.Client
	token  string
	ca     string // file
	size   size
	bodies []atomic.Pointer[[]byte] // of /metrics/cadvisor
	stats  []atomic.Pointer[[]byte] // of /stats/summary
	ports  []int
	urls   []string
}

func newKubelets(b *testing.B, clk clock.Clock) *kubelets { return newKubeletsOf(b, standard, clk) }

func newKubeletsOf(b *testing.B, s size, clk clock.Clock) *kubelets {
	b.Helper()
	k := &kubelets{size: s, bodies: make([]atomic.Pointer[[]byte], s.Nodes), stats: make([]atomic.Pointer[[]byte], s.Nodes),
		ports: make([]int, s.Nodes), urls: make([]string, s.Nodes)}
	var err error
	k.sim, err = simulator.Start(b.Context(), simulator.Config{Fleet: s.fleet(), Clock: clk})
	check(b, err)
	b.Cleanup(func() { check(b, k.sim.Close()) })
	access := k.sim.Access(cluster)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(access.CA)
	k.client, k.token = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}, access.Token
	for n := range s.Nodes {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == summaryPath {
				_, _ = w.Write(*k.stats[n].Load())
				return
			}
			_, _ = w.Write(*k.bodies[n].Load())
		}))
		server.EnableHTTP2 = true
		server.StartTLS()
		b.Cleanup(server.Close)
		k.urls[n] = server.URL
		k.ports[n] = server.Listener.Addr().(*net.TCPAddr).Port
		if n == 0 {
			k.ca = filepath.Join(b.TempDir(), "ca.pem")
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			check(b, os.WriteFile(k.ca, text, 0o600))
		}
	}
	return k
}

// make asks the simulator for the bodies of this moment and adds what a real
// node's have besides. It returns their length, all together.
func (k *kubelets) make(b *testing.B) int {
	b.Helper()
	sum := 0
	for n, node := range k.sim.Fleet().Clusters[0].Nodes {
		text := full(k.get(b, k.sim.KubeletURL(cluster, node.Name)+"/metrics/cadvisor"))
		k.bodies[n].Store(&text)
		summary := k.get(b, k.sim.KubeletURL(cluster, node.Name)+summaryPath)
		k.stats[n].Store(&summary)
		sum += len(text)
	}
	return sum
}

const summaryPath = "/stats/summary"

func (k *kubelets) get(b *testing.B, url string) []byte {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	check(b, err)
	request.Header.Set("Authorization", "Bearer "+k.token)
	response, err := k.client.Do(request)
	check(b, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(b, err)
	if response.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s %s", url, response.Status, text)
	}
	return text
}

// full adds the skipped families to a body.
func full(body []byte) []byte {
	const model = "container_last_seen"
	var lines [][]byte
	for line := range bytes.Lines(body) {
		if rest, ok := bytes.CutPrefix(line, []byte(model)); ok {
			lines = append(lines, rest)
		}
	}
	var out bytes.Buffer
	out.Grow(len(body) * 8)
	out.Write(body)
	for _, family := range skipped {
		fmt.Fprintf(&out, "# HELP %s Not metered.\n# TYPE %s gauge\n", family, family)
		for _, rest := range lines {
			out.WriteString(family)
			out.Write(rest)
		}
	}
	return out.Bytes()
}

// child is a follower in a process of its own.
type child struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func startChild(b *testing.B, k *kubelets, role string, at time.Time) *child {
	b.Helper()
	return startChildOn(b, k, childConfig{Role: role, Dir: b.TempDir(), At: at})
}

func startChildOn(b *testing.B, k *kubelets, config childConfig) *child {
	b.Helper()
	config.CA, config.Ports, config.Size = k.ca, k.ports, k.size
	text, err := json.Marshal(config)
	check(b, err)
	command := exec.Command(os.Args[0]) // it ends when its stdin does
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	check(b, err)
	out, err := command.StdoutPipe()
	check(b, err)
	check(b, command.Start())
	c := &child{in: in, out: bufio.NewScanner(out)}
	b.Cleanup(func() {
		_ = in.Close()
		if err := command.Wait(); err != nil {
			b.Errorf("child: %v", err)
		}
	})
	c.read(b) // it is open
	return c
}

// tick moves the child's clock and waits until its slot is done.
func (c *child) tick(b *testing.B, at time.Time) childAnswer {
	b.Helper()
	_, err := fmt.Fprintln(c.in, strconv.FormatInt(at.UnixNano(), 10))
	check(b, err)
	return c.read(b)
}

// cpu is what the child has used until now.
func (c *child) cpu(b *testing.B) time.Duration {
	b.Helper()
	_, err := fmt.Fprintln(c.in)
	check(b, err)
	return c.read(b).CPU
}

func (c *child) read(b *testing.B) childAnswer {
	b.Helper()
	if !c.out.Scan() {
		b.Fatalf("the child ended: %v", c.out.Err())
	}
	var answer childAnswer
	check(b, json.Unmarshal(c.out.Bytes(), &answer))
	if answer.Error != "" {
		b.Fatal(answer.Error)
	}
	return answer
}

// BenchmarkFollower is one minute (four slots of 15 s, of which one settles a
// window) of a follower that meters 2,000 pods with 4,000 containers on 20
// nodes of 4 cores: TLS, 98 MB of text a slot, readings, store, minutes,
// journal. It runs in a process of its own, whose CPU and memory are reported.
// fetch is the baseline: the same bodies over the same client, thrown away.
func BenchmarkFollower(b *testing.B) {
	for _, role := range []string{roleFetch, roleDecode, roleFollower} {
		b.Run(role, func(b *testing.B) { benchmarkFollower(b, role) })
	}
}

func benchmarkFollower(b *testing.B, role string) {
	k, answers := minutes(b, standard, role)
	bytes := 0
	for n := range k.bodies {
		bytes += len(*k.bodies[n].Load())
	}
	report(b, standard, answers.used, answers.of, bytes)
	thousands := float64(standard.containers()) / 1000
	b.ReportMetric(float64(answers.after.Live)/1e6/thousands, "live-MB/1000-containers")
	b.ReportMetric(float64(answers.after.Anonymous)/1e6/thousands, "rss-MB/1000-containers")
	b.ReportMetric(float64(answers.after.Resident)/1e6, "rss-with-files-MB")
}

// spent is what a child used in a span of metered time.
type spent struct {
	used, of time.Duration
	after    childAnswer
}

// minutes runs the benchmark's minutes in a child of that role.
func minutes(b *testing.B, s size, role string) (*kubelets, spent) {
	b.Helper()
	clk := clock.NewManual(began.Add(time.Hour))
	k := newKubeletsOf(b, s, clk)
	c := startChild(b, k, role, clk.Now())
	sweep := func() childAnswer {
		clk.Advance(s.Interval)
		b.StopTimer()
		k.make(b)
		b.StartTimer()
		return c.tick(b, clk.Now())
	}
	warm := 1
	if role == roleFollower {
		warm = 4 * s.sweeps() // until windows settle one by one
	}
	var before, after childAnswer
	for range warm {
		before = sweep()
	}
	b.ResetTimer()
	n := 0
	for b.Loop() {
		for range s.sweeps() {
			after = sweep()
		}
		n++
	}
	b.StopTimer()
	if settled := after.Mark.Sub(before.Mark); role == roleFollower && settled != time.Duration(n)*time.Minute {
		b.Errorf("%s settled in %d minutes", settled, n)
	}
	return k, spent{after.CPU - before.CPU, time.Duration(n) * time.Minute, after}
}

// report gives the CPU of a span of metered time as shares.
func report(b *testing.B, s size, used, of time.Duration, bytes int) {
	core := used.Seconds() / of.Seconds()
	cores := 0
	for _, n := range s.fleet().Clusters[0].Nodes {
		cores += n.Cores
	}
	b.ReportMetric(100*core, "%core")
	b.ReportMetric(100*core/float64(cores), "%nodes")
	b.ReportMetric(core*s.Interval.Seconds()*1000/float64(s.containers())*1000, "cpu-ms/1000-containers/scrape")
	b.ReportMetric(float64(bytes)/1000/float64(s.Nodes*s.PodsPerNode), "kB/pod")
}

// BenchmarkScale is a follower with its store over intervals and sizes: 1 to 8
// nodes of 200 containers, 50 nodes with 2,500 pods. At 30 s it is to stay below
// 150m of a core and 200 MiB. `make experiments` runs it.
func BenchmarkScale(b *testing.B) {
	if os.Getenv(experimentsVariable) == "" {
		b.Skip("make experiments runs this")
	}
	seconds := []time.Duration{60, 30, 15, 5, 1}
	for _, s := range []size{{Nodes: 1, PodsPerNode: 100}, {Nodes: 2, PodsPerNode: 100}, {Nodes: 4, PodsPerNode: 100},
		{Nodes: 8, PodsPerNode: 100}, {Nodes: 50, PodsPerNode: 50}} {
		for _, every := range seconds {
			if s.Interval = every * time.Second; s.Nodes == 50 && every < 15 {
				continue // more text than two cores make and read
			}
			b.Run(fmt.Sprintf("%d-nodes/%d-containers/every-%s", s.Nodes, s.containers(), s.Interval), func(b *testing.B) {
				_, answers := minutes(b, s, roleFollower)
				b.ReportMetric(1000*answers.used.Seconds()/answers.of.Seconds(), "millicores")
				b.ReportMetric(float64(answers.after.Anonymous)/(1<<20), "rss-MiB")
				b.ReportMetric(float64(answers.after.Resident)/(1<<20), "rss-with-files-MiB")
			})
		}
	}
}

// experimentsVariable is set where the experiments are wanted: they take long.
const experimentsVariable = "ACCUMULUS_EXPERIMENTS"

func check(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
