package meter

import (
	"math/rand/v2"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// simulation is a small fleet whose truth is a rate per second of each
// container; everything above it is a sum.
type simulation struct {
	rng     *rand.Rand
	start   time.Time
	seconds int
	nodes   []*simNode
}

type simNode struct {
	name          string
	system        []int64 // cumulative core-µs by second, since start − base
	base          int64
	pods          []*simPod
	reboot        int   // second; 0: none
	step          int   // second at which the node's clock is set
	by            int64 // ns
	silent        [2]int
	boot, reboots time.Time
}

type simPod struct {
	info       reading.PodInfo
	from, to   int // seconds alive
	base       int64
	containers []*simContainer
}

type simContainer struct {
	name    string
	used    []int64 // cumulative core-µs by second
	base    int64
	restart int // second; 0: none
	memory  []int64
}

type simOptions struct {
	nodes, pods, containers, seconds int
	resets, clocks, ends, silence    bool
	constant                         bool
}

var simStart = time.Date(2026, 11, 3, 10, 0, 20, 0, time.UTC)

func newSimulation(seed uint64, o simOptions) *simulation {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &simulation{rng: rng, start: simStart.Add(time.Duration(rng.IntN(60)) * time.Second), seconds: o.seconds}
	for i := range 1 + rng.IntN(o.nodes) {
		n := &simNode{name: string(rune('a' + i)), base: rng.Int64N(1e12), boot: s.start.Add(-40 * time.Hour)}
		n.system = s.usage(0, o.seconds, 2_000_000, o.constant)
		if o.resets && rng.IntN(4) == 0 {
			n.reboot = 60 + rng.IntN(o.seconds-90)
			n.reboots = s.at(n.reboot)
		}
		if o.clocks && rng.IntN(2) == 0 {
			n.step = 30 + rng.IntN(o.seconds-60)
			n.by = []int64{-25, -12, 3, 12, 25, -3600, 3600, 86400 * 30, -100}[rng.IntN(9)] * int64(time.Second)
		}
		if o.silence && rng.IntN(3) == 0 {
			from := rng.IntN(o.seconds)
			n.silent = [2]int{from, from + 20 + rng.IntN(200)}
		}
		for j := range 1 + rng.IntN(o.pods) {
			n.pods = append(n.pods, s.pod(n, j, o))
		}
		s.nodes = append(s.nodes, n)
	}
	return s
}

func (s *simulation) at(second int) time.Time {
	return s.start.Add(time.Duration(second) * time.Second)
}

func (s *simulation) pod(n *simNode, j int, o simOptions) *simPod {
	p := &simPod{to: o.seconds * 2}
	if !o.constant && s.rng.IntN(2) == 0 {
		p.from = s.rng.IntN(o.seconds * 2 / 3)
	} else {
		p.from = -1000
		p.base = s.rng.Int64N(1e9)
	}
	if o.ends && s.rng.IntN(2) == 0 {
		p.to = max(p.from, 0) + 5 + s.rng.IntN(o.seconds)
	}
	if p.to >= o.seconds-60 {
		p.to = o.seconds * 2
	}
	name := n.name + string(rune('0'+j))
	p.info = reading.PodInfo{UID: "uid-" + name, Namespace: "ns", Name: "pod-" + name, Node: n.name,
		WorkloadKind: "Deployment", Workload: "w", OwnerKnown: true, Start: s.at(p.from)}
	if p.to <= o.seconds {
		p.info.End = s.at(p.to)
	}
	for k := range 1 + s.rng.IntN(o.containers) {
		c := &simContainer{name: string(rune('x' + k))}
		c.used = s.usage(max(0, p.from), min(p.to, o.seconds), 1_500_000, o.constant)
		if p.from < 0 {
			c.base = s.rng.Int64N(1e9)
			p.base += c.base
		}
		if o.resets && s.rng.IntN(4) == 0 {
			c.restart = max(0, p.from) + 10 + s.rng.IntN(o.seconds)
		}
		for range o.seconds/15 + 2 {
			c.memory = append(c.memory, s.rng.Int64N(1<<33))
		}
		limit := []int64{0, 500, 2000}[s.rng.IntN(3)]
		p.info.Containers = append(p.info.Containers, reading.ContainerInfo{Name: c.name, RequestMillicores: 100,
			LimitMillicores: limit, RequestMemoryBytes: 64 << 20, LimitMemoryBytes: 128 << 20})
		p.containers = append(p.containers, c)
	}
	return p
}

// usage is cumulative by second; its rate changes every few seconds.
func (s *simulation) usage(from, to int, most int64, constant bool) []int64 {
	c := make([]int64, s.seconds+1)
	rate := s.rng.Int64N(most)
	for i := 1; i <= s.seconds; i++ {
		if !constant && s.rng.IntN(7) == 0 {
			rate = s.rng.Int64N(most)
		}
		c[i] = c[i-1]
		if i > from && i <= to {
			c[i] += rate
		}
	}
	return c
}

// value is a cumulative curve at a moment of ms since the start.
func value(c []int64, ms int64) int64 {
	i := ms / 1000
	if i >= int64(len(c)-1) {
		return c[len(c)-1]
	}
	return c[i] + (c[i+1]-c[i])*(ms%1000)/1000
}

// since is the growth since a second, or the whole with its base before it.
func since(c []int64, base, ms int64, second int) int64 {
	if second > 0 && ms >= int64(second)*1000 {
		return value(c, ms) - value(c, int64(second)*1000)
	}
	return base + value(c, ms)
}

func (c *simContainer) at(n *simNode, ms int64) (v int64, restart int) {
	for _, r := range []int{c.restart, n.reboot} {
		if r > restart && ms >= int64(r)*1000 {
			restart = r
		}
	}
	return since(c.used, c.base, ms, restart), restart
}

func (p *simPod) at(n *simNode, ms int64) int64 {
	v := since(make([]int64, 2), p.base-p.containerBase(), ms, n.reboot)
	for _, c := range p.containers {
		v += since(c.used, c.base, ms, n.reboot)
	}
	return v
}

func (p *simPod) containerBase() (sum int64) {
	for _, c := range p.containers {
		sum += c.base
	}
	return sum
}

func (n *simNode) kube(ms int64) int64 {
	var v int64
	for _, p := range n.pods {
		v += p.at(n, ms)
	}
	return v
}

// body is the node read at a second: the node now, the others up to 23 s
// before, each at a moment of its own.
func (s *simulation) body(rng *rand.Rand, n *simNode, second int) (reading.Body, bool) {
	b := reading.Body{Node: n.name, Received: s.at(second)}
	if second >= n.silent[0] && second < n.silent[1] {
		return b, false
	}
	var offset time.Duration
	if n.step > 0 && second >= n.step {
		offset = time.Duration(n.by)
	}
	boot := n.boot
	ms := int64(second)*1000 - 200 - rng.Int64N(3000)
	if ms < 0 || n.reboot > 0 && ms >= int64(n.reboot)*1000 && ms < int64(n.reboot+20)*1000 {
		return b, false
	}
	if n.reboot > 0 && second >= n.reboot {
		boot = n.reboots
	}
	add := func(id reading.Series, ms int64, epoch time.Time, cpu int64, memory int64) {
		r := reading.Reading{Series: id, Time: s.start.Add(time.Duration(ms) * time.Millisecond).Add(offset), Epoch: epoch.Add(offset)}
		r.Values.Set(reading.CPU, cpu)
		r.Values.Set(reading.Memory, memory)
		if id.Kind == reading.Node || id.Kind == reading.Pod {
			r.Values.Set(reading.NetworkReceive, cpu/7)
			r.Values.Set(reading.NetworkTransmit, cpu/11)
		}
		if r.Time.After(b.NewestSample) {
			b.NewestSample = r.Time
		}
		b.Readings = append(b.Readings, r)
	}
	kube := n.kube(ms)
	add(reading.Series{Kind: reading.Node, Node: n.name}, ms, boot, since(n.system, n.base, ms, n.reboot)+kube, 1<<35)
	add(reading.Series{Kind: reading.Kubepods, Node: n.name}, ms, boot, kube, 1<<34)
	for _, p := range n.pods {
		s.readPod(rng, n, p, second, add)
	}
	return b, true
}

func (s *simulation) readPod(rng *rand.Rand, n *simNode, p *simPod, second int,
	add func(reading.Series, int64, time.Time, int64, int64)) {
	if p.to <= second || p.from > second {
		return
	}
	id := reading.Series{Kind: reading.Pod, Node: n.name, Namespace: p.info.Namespace, Pod: p.info.Name, PodUID: p.info.UID}
	moment := func() (int64, bool) {
		ms := int64(second)*1000 - 300 - rng.Int64N(22000)
		return ms, ms >= int64(max(p.from, 0))*1000 && ms >= int64(n.reboot)*1000*b2i(second >= n.reboot)
	}
	if ms, ok := moment(); ok {
		add(id, ms, s.at(p.from), p.at(n, ms), 1<<30)
	}
	id.Kind = reading.Container
	for _, c := range p.containers {
		if ms, ok := moment(); ok {
			v, restart := c.at(n, ms)
			epoch := s.at(p.from)
			if restart > 0 && restart > p.from {
				epoch = s.at(restart)
			}
			id.Container = c.name
			add(id, ms, epoch, v, c.memory[ms/15000])
		}
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// podsAt is what the watch tells at a second: ends only when they came.
func (s *simulation) podsAt(second int) []reading.PodInfo {
	var pods []reading.PodInfo
	for _, n := range s.nodes {
		for _, p := range n.pods {
			if p.from > second {
				continue
			}
			info := p.info
			if p.to > second {
				info.End = time.Time{}
			}
			pods = append(pods, info)
		}
	}
	return pods
}

func (s *simulation) world() *world {
	w := &world{facts: map[string]reading.Facts{}}
	for _, n := range s.nodes {
		w.nodes = append(w.nodes, reading.NodeInfo{Name: n.name, CapacityMillicores: 8000, AllocatableMilli: 7500,
			AllocatableMemoryKiB: 1 << 24, Joined: n.boot})
		w.facts[n.name] = reading.Facts{Box: "b", CPUType: "xeon", RAMType: "ddr4", DiskType: "ssd"}
	}
	return w
}
