// Package host meters this machine without Kubernetes: the machine as a node,
// and each service, container or top-level control group on it as a pod, as
// readings like a kubelet's and as a watch.Log like a cluster's.
//
// It guarantees that the node's CPU is counted by the same hierarchy as its
// parts (where that counts it at all: old kernels with cgroup v2 do not, there
// it is /proc/stat's), that no pod contains another, and that a quantity that
// the kernel does not count is absent, not zero. Each life of a group is a pod
// of its own (its UID holds the boot and the inode), and a group that was
// removed ends its pod.
//
// Epochs: the node's is the boot; a group's is the time of its making as near
// as the kernel tells it, remembered (packages groups and life say how).
//
// What ran in a group between its last reading and its removal, or in no group
// at all, is in the node's counter alone.
package host

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/procfs"

	"github.com/accumulus-metering/accumulus/follower/life"
	"github.com/accumulus-metering/accumulus/follower/nic"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

// Names that a host's rows carry.
const (
	Cluster      = "local"
	Namespace    = "host"
	WorkloadKind = "Cgroup"
)

// Config is what is metered.
type Config struct {
	Node       string // name of the machine in the rows
	CgroupRoot string // default /sys/fs/cgroup
	ProcRoot   string // default /proc
	PowerRoot  string // of the powercap zones; default /sys/class/powercap
	Filesystem string // path on the filesystem whose used space is the node's; default /
}

// Source reads this machine. Its Log tells its one node and its pods.
type Source struct {
	*watch.Log
	config Config
	tree   hierarchy
	proc   procfs.FS
	power  *rapl
	clock  clock.Clock
	log    *slog.Logger
	failed prometheus.Counter

	mu       sync.Mutex // held by Read
	lives    map[string]*life.Life
	restored map[string]reading.Reading // by pod UID; "" = the node
}

// New finds out which control groups the machine has. It is an error if none
// count CPU.
func New(config Config, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) (*Source, error) {
	config.CgroupRoot = cmp.Or(config.CgroupRoot, "/sys/fs/cgroup")
	config.ProcRoot = cmp.Or(config.ProcRoot, "/proc")
	config.PowerRoot = cmp.Or(config.PowerRoot, "/sys/class/powercap")
	config.Filesystem = cmp.Or(config.Filesystem, "/")
	if config.Node == "" {
		return nil, fmt.Errorf("host source: no name for the node")
	}
	tree, err := detect(config.CgroupRoot, config.ProcRoot)
	if err != nil {
		return nil, fmt.Errorf("host source: %w", err)
	}
	proc, err := procfs.NewFS(config.ProcRoot)
	if err != nil {
		return nil, fmt.Errorf("host source: %w", err)
	}
	state, err := watch.NewLog(watch.Config{}, clk, log)
	if err != nil {
		return nil, err
	}
	s := &Source{Log: state, config: config, tree: tree, proc: proc, clock: clk, log: log, power: &rapl{root: config.PowerRoot, log: log},
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_host_groups_failed_total",
			Help: "Control groups that could not be read at a sweep, removed ones not counted."}),
		lives: make(map[string]*life.Life), restored: make(map[string]reading.Reading)}
	if err := registry.Register(s.failed); err != nil {
		return nil, fmt.Errorf("register host metrics: %w", err)
	}
	return s, nil
}

// RestoreReadings tells the source the last readings before a restart, with the
// times and epochs that it gave them, so that epochs go on.
func (s *Source) RestoreReadings(last []reading.Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range last {
		if _, ok := r.Values.Get(reading.CPU); ok && s.restored[r.PodUID].Time.Before(r.Time) {
			s.restored[r.PodUID] = r
		}
	}
}

// Read reads the machine once: one body. A group that cannot be read is
// counted and left out; without the node's own counter it is an error.
func (s *Source) Read(ctx context.Context) ([]reading.Body, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	machine, err := s.machine()
	if err != nil {
		return nil, fmt.Errorf("read host: %w", err)
	}
	groups, err := groupsBelow(s.tree.root())
	if err != nil {
		return nil, fmt.Errorf("read host: %w", err)
	}
	body := reading.Body{Node: s.config.Node}
	present := make(map[string]bool, len(groups))
	for _, g := range groups {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		uid := uidOf(g, machine.boot)
		values, err := s.tree.usage(g.path)
		if err != nil {
			if !gone(err) {
				s.failed.Inc()
				s.log.Warn("control group cannot be read", "group", g.path, "err", err)
				present[uid] = true
			}
			continue
		}
		present[uid] = true
		body.Readings = append(body.Readings, s.reading(reading.Series{Kind: reading.Pod, Node: s.config.Node,
			Namespace: Namespace, Pod: legible(g.path), PodUID: uid}, g.start, values))
		s.PutPod(uid, Namespace, legible(g.path), s.pod(g, uid))
	}
	for _, uid := range s.EndMissing(present) {
		delete(s.lives, uid)
	}
	// The node is read last, so that it holds all that its parts showed.
	node, err := s.node(machine)
	if err != nil {
		return nil, fmt.Errorf("read host: %w", err)
	}
	body.Readings = append([]reading.Reading{node}, body.Readings...)
	body.NewestSample = node.Time
	body.Received = s.clock.Now()
	return []reading.Body{body}, nil
}

// uidOf is the UID of one life of a group: paths come again, inodes do not
// within a boot.
func uidOf(g group, boot string) string {
	boot = strings.ReplaceAll(boot, "-", "")
	return legible(g.path) + "#" + boot[:min(8, len(boot))] + "-" + strconv.FormatUint(g.inode, 10)
}

func (s *Source) pod(g group, uid string) watch.PodSpec {
	start := g.start
	if l := s.lives[uid]; l != nil && !l.Epoch().IsZero() {
		start = l.Epoch()
	}
	return watch.PodSpec{Node: s.config.Node, WorkloadKind: WorkloadKind, Workload: legible(g.path), Created: start, Start: &start}
}

// reading is a sample taken now, with the epoch of its life.
func (s *Source) reading(series reading.Series, start time.Time, values reading.Values) reading.Reading {
	at := s.clock.Now().Truncate(time.Millisecond)
	cpu, _ := values.Get(reading.CPU)
	l := s.lives[series.PodUID]
	if l == nil {
		l = &life.Life{}
		s.lives[series.PodUID] = l
		if last, ok := s.restored[series.PodUID]; ok {
			l.Resume(last, start, cpu)
			delete(s.restored, series.PodUID)
		}
	}
	return reading.Reading{Series: series, Time: at, Epoch: l.Observe(start, cpu, at), Values: values}
}

// machine is what a sweep needs to know of the machine as a whole.
type machine struct {
	boot   string // id of the boot, or its second
	since  time.Time
	stat   procfs.Stat
	memory procfs.Meminfo
}

func (s *Source) machine() (machine, error) {
	var m machine
	var err error
	if m.stat, err = s.proc.Stat(); err != nil {
		return m, err
	}
	if m.memory, err = s.proc.Meminfo(); err != nil {
		return m, err
	}
	m.since = time.Unix(int64(m.stat.BootTime), 0).UTC()
	m.boot = firstWord(filepath.Join(s.config.ProcRoot, "sys/kernel/random/boot_id"))
	if m.boot == "" {
		m.boot = strconv.FormatUint(m.stat.BootTime, 16)
	}
	s.PutNode(s.nodeUID(), s.config.Node, watch.NodeSpec{BootID: m.boot,
		CapacityMillicores: int64(len(m.stat.CPU)) * 1000, AllocatableMilli: int64(len(m.stat.CPU)) * 1000,
		AllocatableMemoryKiB: int64(value(m.memory.MemTotal))})
	return m, nil
}

// nodeUID is the node's name: the machine is the same node as long as it is
// called so.
func (s *Source) nodeUID() string { return "host/" + s.config.Node }

// node reads the machine's own quantities.
func (s *Source) node(m machine) (reading.Reading, error) {
	values, err := s.tree.usage("")
	if err != nil && s.tree.version() == 2 && gone(err) {
		values, err = fromStat(m.stat), nil
	}
	if err != nil {
		return reading.Reading{}, err
	}
	if m.memory.MemTotal != nil && m.memory.MemAvailable != nil {
		values.Set(reading.Memory, int64(value(m.memory.MemTotal)-min(value(m.memory.MemAvailable), value(m.memory.MemTotal)))<<10)
	}
	devices, err := s.proc.NetDev()
	if err != nil {
		return reading.Reading{}, err
	}
	var received, sent uint64
	for name, device := range devices {
		if nic.Counts(name) {
			received += device.RxBytes
			sent += device.TxBytes
		}
	}
	values.Set(reading.NetworkReceive, int64(received))
	values.Set(reading.NetworkTransmit, int64(sent))
	var disk syscall.Statfs_t
	if err := syscall.Statfs(s.config.Filesystem, &disk); err != nil {
		return reading.Reading{}, fmt.Errorf("statfs %s: %w", s.config.Filesystem, err)
	}
	values.Set(reading.Filesystem, int64(disk.Blocks-disk.Bfree)*disk.Bsize)
	if energy, ok := s.power.read(s.clock.Now()); ok {
		values.Set(reading.Processor, energy)
	}
	return s.reading(reading.Series{Kind: reading.Node, Node: s.config.Node}, m.since, values), nil
}

// fromStat is the CPU used since the boot by /proc/stat, in hundredths of a
// second; guests are in user and nice already.
func fromStat(stat procfs.Stat) reading.Values {
	t := stat.CPUTotal
	var values reading.Values
	values.Set(reading.CPU, int64((t.User+t.Nice+t.System+t.IRQ+t.SoftIRQ)*100+0.5)*10_000)
	return values
}

func value(p *uint64) uint64 {
	if p == nil {
		return 0
	}
	return *p
}

func firstWord(path string) string {
	word := ""
	_ = eachFields(path, func(fields []string) {
		if word == "" {
			word = fields[0]
		}
	})
	return word
}

// legible is a group's path as a row can hold it: control characters,
// backslashes and bytes that are no UTF-8 stand as %XX.
func legible(path string) string {
	plain := func(r rune) bool { return r >= ' ' && r != 0x7f && r != '\\' && r != '%' && r != utf8.RuneError }
	if !strings.ContainsFunc(path, func(r rune) bool { return !plain(r) }) {
		return path
	}
	var b strings.Builder
	for i, r := range path {
		if plain(r) {
			b.WriteRune(r)
			continue
		}
		for _, octet := range []byte(path[i : i+runeLength(path[i:])]) {
			fmt.Fprintf(&b, "%%%02X", octet)
		}
	}
	return b.String()
}

// runeLength is how many bytes the first character takes.
func runeLength(text string) int {
	_, length := utf8.DecodeRuneInString(text)
	return length
}
