package simulator

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// level of a cgroup in the node's tree.
type cgroupKind int

const (
	rootCgroup cgroupKind = iota
	kubepodsCgroup
	qosCgroup
	podCgroup
	sandboxCgroup
	containerCgroup
)

// sample is what a kubelet last saw of one cgroup.
type sample struct {
	kind      cgroupKind
	id        string // path
	hash      string // of a container or sandbox
	image     string
	instance  Instance // of a pod, its sandbox or container
	container *Container
	time      time.Time
	epoch     time.Time

	cpu               int64 // core-ns
	memory            int64 // B
	receive, transmit int64 // B; root and sandbox
	filesystem        int64 // B; root, and containers that have one
}

// housekept is when the cgroup called id, whose counters began at epoch, was
// last sampled at t; false if it was not yet.
func (s *Simulator) housekept(id string, epoch, t time.Time, exact bool) (time.Time, bool) {
	t = t.Truncate(time.Millisecond)
	h := s.fleet.Housekeeping
	if exact || h == Exact {
		return t, !t.Before(epoch)
	}
	sum := hash(s.fleet.Seed, "housekeeping", id)
	spread := (h.Max - h.Min).Milliseconds() + 1
	period := h.Min.Milliseconds() + int64(uint16(sum[0])<<8|uint16(sum[1]))%spread
	phase := int64(uint16(sum[2])<<8|uint16(sum[3])) % period
	jitter := func(k int64) int64 {
		if h.Jitter < time.Millisecond {
			return 0
		}
		return int64(mix(uint64(k)^uint64(sum[4])<<56) % uint64(h.Jitter.Milliseconds()+1))
	}
	k := (t.UnixMilli() - phase) / period
	at := phase + k*period + jitter(k)
	if at > t.UnixMilli() {
		at = phase + (k-1)*period + jitter(k-1)
	}
	moment := time.UnixMilli(at).UTC()
	return moment, !moment.Before(epoch)
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// samples are what the node's kubelet shows at t; with exact all of t itself.
func (s *Simulator) samples(cluster string, n *Node, t time.Time, exact bool) []sample {
	if !n.alive(t) {
		return nil
	}
	boot, _ := n.booted(t)
	all := s.parents(cluster, n, boot, t, exact)
	for _, p := range s.pods[[2]string{cluster, n.Name}] {
		for _, i := range s.overlapping(cluster, p, t, t) {
			if i.alive(t) {
				all = s.podSamples(all, i.identify(s.fleet.Seed), t, exact)
			}
		}
	}
	for at := range all {
		if n.MemoryOff && all[at].kind != rootCgroup {
			all[at].memory = 0
		}
	}
	return all
}

// parents are the cgroups above the pods.
func (s *Simulator) parents(cluster string, n *Node, boot, t time.Time, exact bool) []sample {
	name := func(path string) string { return cluster + "\x00" + n.Name + "\x00" + path }
	var all []sample
	if at, ok := s.housekept(name("/"), boot, t, exact); ok {
		root := sample{kind: rootCgroup, id: "/", time: at, epoch: boot}
		root.cpu = s.nodeCPU(cluster, n.Name, at) - s.nodeCPU(cluster, n.Name, boot)
		root.memory = s.podsMemory(cluster, n.Name, "", at) + level(n.SystemMemory, n.age(at))
		root.receive, root.transmit = s.nodeNetwork(cluster, n, at)
		receive, transmit := s.nodeNetwork(cluster, n, boot)
		root.receive, root.transmit = root.receive-receive, root.transmit-transmit
		root.filesystem = level(n.Filesystem, n.age(at))
		all = append(all, root)
	}
	for _, class := range []string{"", "besteffort", "burstable"} {
		parent := sample{kind: kubepodsCgroup, id: "/kubepods", epoch: boot}
		if class != "" {
			parent.kind, parent.id = qosCgroup, "/kubepods/"+class
		}
		at, ok := s.housekept(name(parent.id), boot, t, exact)
		if !ok {
			continue
		}
		parent.time = at
		for _, p := range s.pods[[2]string{cluster, n.Name}] {
			if class == "" || p.qos() == class {
				parent.cpu += s.cpuTotal(cluster, p, at) - s.cpuTotal(cluster, p, boot)
			}
		}
		parent.memory = s.podsMemory(cluster, n.Name, class, at)
		all = append(all, parent)
	}
	return all
}

// podSamples appends those of a pod, its sandbox and its containers.
func (s *Simulator) podSamples(all []sample, i Instance, t time.Time, exact bool) []sample {
	p := i.pod
	id := "/kubepods"
	if class := p.qos(); class != "" {
		id += "/" + class
	}
	id += "/pod" + i.UID
	epoch := s.epoch(i, t)
	if at, ok := s.housekept(id, epoch, t, exact); ok {
		all = append(all, sample{kind: podCgroup, id: id, instance: i, time: at, epoch: epoch,
			cpu: i.cpu(at) - i.cpu(epoch), memory: level(p.Memory, i.age(at))})
	}
	digest := hash(s.fleet.Seed, "sandbox", i.UID, epoch.String())
	box := sample{kind: sandboxCgroup, hash: hex.EncodeToString(digest[:]), image: "registry.k8s.io/pause:3.10", instance: i, epoch: epoch}
	box.id = id + "/" + box.hash
	if at, ok := s.housekept(box.id, epoch, t, exact); ok {
		box.time = at
		box.cpu = part(sandboxShare, i.cpu(at)-i.cpu(epoch))
		box.memory = part(sandboxShare, level(p.Memory, i.age(at)))
		box.receive = grown(p.Receive, i.age(at)) - grown(p.Receive, i.age(epoch))
		box.transmit = grown(p.Transmit, i.age(at)) - grown(p.Transmit, i.age(epoch))
		all = append(all, box)
	}
	for c := range p.Containers {
		if one, ok := s.containerSample(i, &p.Containers[c], id, t, exact); ok {
			all = append(all, one)
		}
	}
	return all
}

func (s *Simulator) containerSample(i Instance, c *Container, podID string, t time.Time, exact bool) (sample, bool) {
	epoch, _ := s.containerEpoch(i, c, t)
	one := sample{kind: containerCgroup, hash: s.containerHash(i, c, epoch), image: image(i, c), instance: i, container: c, epoch: epoch}
	one.id = podID + "/" + one.hash
	at, ok := s.housekept(one.id, epoch, t, exact)
	if !ok {
		return sample{}, false
	}
	one.time = at
	one.cpu = part(c.Share, i.cpu(at)-i.cpu(epoch))
	one.memory = part(c.Share, level(i.pod.Memory, i.age(at)))
	one.filesystem = level(c.Filesystem, i.age(at))
	return one, true
}

func (s *Simulator) containerHash(i Instance, c *Container, epoch time.Time) string {
	digest := hash(s.fleet.Seed, "container", i.UID, c.Name, epoch.UTC().Format(time.RFC3339))
	return hex.EncodeToString(digest[:])
}

func image(i Instance, c *Container) string {
	return fmt.Sprintf("registry.example/%s/%s:1.0", i.Namespace, c.Name)
}

// qos is the directory of the pod's class: "" guaranteed, burstable, besteffort.
func (p *Pod) qos() string {
	guaranteed, any := true, false
	for _, c := range p.Containers {
		any = any || c.RequestMillicores+c.LimitMillicores+c.RequestMemoryBytes+c.LimitMemoryBytes > 0
		guaranteed = guaranteed && c.RequestMillicores > 0 && c.RequestMillicores == c.LimitMillicores &&
			c.RequestMemoryBytes > 0 && c.RequestMemoryBytes == c.LimitMemoryBytes
	}
	switch {
	case !any:
		return "besteffort"
	case guaranteed:
		return ""
	}
	return "burstable"
}

// podsMemory sums the living pods' working sets, of one class or of all ("").
func (s *Simulator) podsMemory(cluster, node, class string, t time.Time) int64 {
	var sum int64
	for _, p := range s.pods[[2]string{cluster, node}] {
		if class != "" && p.qos() != class {
			continue
		}
		for _, i := range s.overlapping(cluster, p, t, t) {
			if i.alive(t) {
				sum += level(p.Memory, i.age(t))
			}
		}
	}
	return sum
}

// nodeNetwork is what went through the node's interface since it joined: its
// own and its pods' traffic.
func (s *Simulator) nodeNetwork(cluster string, n *Node, t time.Time) (receive, transmit int64) {
	receive, transmit = grown(n.Receive, n.age(t)), grown(n.Transmit, n.age(t))
	for _, p := range s.pods[[2]string{cluster, n.Name}] {
		receive += s.total(cluster, p, t, p.Receive)
		transmit += s.total(cluster, p, t, p.Transmit)
	}
	return receive, transmit
}

// total is a byte counter summed over a template's instances up to t.
func (s *Simulator) total(cluster string, p *Pod, t time.Time, w Wave) int64 {
	if p.Every == 0 {
		return grown(w, s.life(cluster, p, 0).age(t))
	}
	if left := s.node(cluster, p.Node).Left; !left.IsZero() && t.After(left) {
		t = left
	}
	n := p.runs(t)
	if n == 0 {
		return 0
	}
	running := min(t.Sub(p.Start)-time.Duration(n-1)*p.Every, p.Duration)
	return (n-1)*grown(w, p.Duration) + grown(w, running)
}

// values are the sample's quantities as a reading holds them.
func (one sample) values() reading.Values {
	var v reading.Values
	v.Set(reading.CPU, one.cpu/1000)
	v.Set(reading.Memory, one.memory)
	if one.kind == rootCgroup {
		v.Set(reading.NetworkReceive, one.receive)
		v.Set(reading.NetworkTransmit, one.transmit)
		v.Set(reading.Filesystem, one.filesystem)
	}
	if one.container != nil && one.container.Filesystem != (Wave{}) {
		v.Set(reading.Filesystem, one.filesystem)
	}
	return v
}
