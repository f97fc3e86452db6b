package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower"
	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// childVariable holds the configuration of a process that this binary starts
// of itself.
const childVariable = "ACCUMULUS_BENCH_CHILD"

// profileVariable names a directory for the children's profiles.
const profileVariable = "ACCUMULUS_BENCH_PROFILE"

const (
	roleFetch    = "fetch"    // asks for the bodies and throws them away
	roleDecode   = "decode"   // and makes readings of them
	roleFollower = "follower" // everything
)

type childConfig struct {
	Role, Dir, CA string
	Listen        string // address of the follower's port; "" = none
	Ports         []int
	Size          size
	At            time.Time
	Profiles      string // directory; "" = none
}

// childAnswer is how the child is after a slot.
type childAnswer struct {
	CPU                 time.Duration
	Live                uint64 // bytes of the heap after the last collection
	Anonymous, Resident uint64 // bytes in the machine's memory: its own, and with the files that are mapped
	Mark                time.Time
	Error               string
}

// TestMain is the child's main where the process is one.
func TestMain(m *testing.M) {
	text := os.Getenv(childVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	var config childConfig
	err := json.Unmarshal([]byte(text), &config)
	if err == nil {
		err = profiled(config)
	}
	if err != nil {
		say(childAnswer{Error: err.Error()})
		os.Exit(1)
	}
}

// profiled runs the child and, where profileVariable names a directory, leaves
// its CPU profile there, and that of its heap before it ends.
func profiled(config childConfig) error {
	if config.Profiles = os.Getenv(profileVariable); config.Profiles == "" {
		return runChild(config)
	}
	file, err := os.Create(filepath.Join(config.Profiles, config.name()+".cpu.pprof"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(err, file.Close())
	}
	err = runChild(config)
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}

// name is that of the child's profiles.
func (c childConfig) name() string {
	if c.Listen != "" {
		return c.Role + "-pulled"
	}
	return c.Role
}

func (c childConfig) profileHeap() error {
	if c.Profiles == "" {
		return nil
	}
	file, err := os.Create(filepath.Join(c.Profiles, c.name()+".heap.pprof"))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(file, 0), file.Close())
}

func say(answer childAnswer) {
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// slots is a clock that tells when the follower's loop waits for its next slot.
type slots struct {
	*clock.Manual
	idle chan struct{}
}

// SleepUntil waits until the clock shows t.
func (s slots) SleepUntil(ctx context.Context, t time.Time) error {
	select {
	case s.idle <- struct{}{}:
	case <-ctx.Done():
	}
	return s.Manual.SleepUntil(ctx, t)
}

func runChild(config childConfig) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	clk := slots{clock.NewManual(config.At), make(chan struct{})}
	log, err := knownObjects(config, clk)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	source, err := kubelet.New(kubelet.Config{CAFile: config.CA}, log, clk, slog.New(slog.DiscardHandler), registry)
	if err != nil {
		return err
	}
	if config.Role != roleFollower {
		get, err := fetcher(config)
		if err != nil {
			return err
		}
		return config.answerSlots(func(at time.Time) (time.Time, error) {
			clk.Set(at)
			if config.Role == roleFetch {
				return at, get(ctx)
			}
			_, err := source.Read(ctx)
			return at, err
		})
	}
	f, err := follower.New(follower.Config{Cluster: cluster, Dir: config.Dir, SeedDir: filepath.Join(config.Dir, "seed"), Interval: config.Size.Interval,
		SettleDeadline: follower.DefaultSettleDeadline, FactsDeadline: follower.DefaultFactsDeadline, Listen: config.Listen,
		MemoryTarget: follower.Frugal()}, // as the follower's own main does
		follower.Deps{Clock: clk, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Registry: registry,
			Input: &follower.Input{Source: source, Log: log, Resume: source.RestoreReadings, Status: source.Status}})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	rest := func() error {
		select {
		case <-clk.idle:
			return nil
		case err := <-done:
			return errors.Join(errors.New("the follower ended"), err)
		}
	}
	if err := rest(); err != nil {
		return err
	}
	err = config.answerSlots(func(at time.Time) (time.Time, error) {
		clk.Set(at)
		if err := rest(); err != nil {
			return at, err
		}
		status := f.Status()
		if status.StoreError != "" {
			return at, errors.New(status.StoreError)
		}
		if status.Mark == nil {
			return time.Time{}, nil
		}
		return *status.Mark, nil
	})
	cancel()
	return errors.Join(err, <-done)
}

// answerSlots does the work of each moment that stdin names; an empty line asks
// for the CPU alone.
func (c childConfig) answerSlots(work func(at time.Time) (mark time.Time, err error)) error {
	say(childAnswer{})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "" {
			say(childAnswer{CPU: CPU()})
			continue
		}
		ns, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return err
		}
		mark, err := work(time.Unix(0, ns).UTC())
		if err != nil {
			return err
		}
		answer := childAnswer{CPU: CPU(), Live: LastLiveBytes(), Mark: mark}
		if answer.Anonymous, answer.Resident, err = resident(); err != nil {
			return err
		}
		say(answer)
	}
	return errors.Join(lines.Err(), c.profileHeap())
}

// fetcher asks all kubelets for their bodies, as many at once as the follower
// does, and keeps nothing.
func fetcher(config childConfig) (func(context.Context) error, error) {
	ca, err := os.ReadFile(config.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableCompression: true, ForceAttemptHTTP2: true}}
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(8)
		for _, port := range config.Ports {
			group.Go(func() error {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/metrics/cadvisor", port), nil)
				if err != nil {
					return err
				}
				response, err := client.Do(request)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, response.Body)
				return errors.Join(err, response.Body.Close())
			})
		}
		return group.Wait()
	}, nil
}

// resident is what the process has in the machine's memory, in bytes: its own,
// and with the files that it maps, which the machine takes back when it needs.
func resident() (anonymous, all uint64, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "RssAnon:" && fields[0] != "VmRSS:" {
			continue
		}
		kib, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if fields[0] == "VmRSS:" {
			all = kib * 1024
		} else {
			anonymous = kib * 1024
		}
	}
	return anonymous, all, nil
}

// knownObjects is the watch's log as it is when the cluster was listed. It
// writes the seed too.
func knownObjects(config childConfig, clk clock.Clock) (*watch.Log, error) {
	log, err := watch.NewLog(watch.Config{}, clk, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	sim, err := simulator.New(config.Size.fleet())
	if err != nil {
		return nil, err
	}
	for i, n := range sim.NodeInfos(cluster, config.At) {
		log.PutNode(n.UID, n.Name, watch.NodeSpec{BootID: n.BootID, Address: "127.0.0.1", KubeletPort: config.Ports[i],
			CapacityMillicores: n.CapacityMillicores, AllocatableMilli: n.AllocatableMilli, AllocatableMemoryKiB: n.AllocatableMemoryKiB, Joined: n.Joined})
	}
	for _, pod := range sim.PodInfos(cluster, config.At, config.At) {
		spec := watch.PodSpec{Node: pod.Node, WorkloadKind: pod.WorkloadKind, Workload: pod.Workload, OwnerKnown: true, Labels: pod.Labels,
			Created: pod.Start, Start: &pod.Start}
		for _, c := range pod.Containers {
			spec.Containers = append(spec.Containers, watch.ContainerSpec{Name: c.Name, RequestMillicores: c.RequestMillicores,
				LimitMillicores: c.LimitMillicores, RequestMemoryBytes: c.RequestMemoryBytes, LimitMemoryBytes: c.LimitMemoryBytes})
		}
		log.PutPod(pod.UID, pod.Namespace, pod.Name, spec)
	}
	return log, writeSeed(sim.Fleet().Clusters[0], filepath.Join(config.Dir, "seed"))
}

func writeSeed(c simulator.Cluster, dir string) error {
	text := `CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
		CREATE TABLE node(cluster TEXT, node TEXT, box TEXT, cpu_type TEXT, ram_type TEXT, disk_type TEXT, valid_from, valid_to);
		INSERT INTO meta VALUES('cluster', '` + c.Name + `'), ('version', '1');`
	for _, n := range c.Nodes {
		text += fmt.Sprintf("INSERT INTO node VALUES('%s', '%s', '%s', '%s', '%s', '%s', NULL, NULL);\n",
			c.Name, n.Name, n.Box, n.CPUType, n.RAMType, n.DiskType)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "nodes.sql"), []byte(text), 0o600)
}
