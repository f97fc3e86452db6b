package simulator

import (
	"fmt"
	"math"
	"time"
)

// Simulator answers for a fleet. It holds nothing that changes but a cache.
type Simulator struct {
	fleet    Fleet
	clusters map[string]*Cluster
	nodes    map[[2]string]*Node
	pods     map[[2]string][]*Pod // by cluster and node
	bends    bends
}

// New checks the fleet and answers for it.
func New(fleet Fleet) (*Simulator, error) {
	if err := fleet.Validate(); err != nil {
		return nil, fmt.Errorf("simulate fleet: %w", err)
	}
	s := &Simulator{fleet: fleet, clusters: make(map[string]*Cluster), nodes: make(map[[2]string]*Node), pods: make(map[[2]string][]*Pod)}
	for c := range s.fleet.Clusters {
		cluster := &s.fleet.Clusters[c]
		s.clusters[cluster.Name] = cluster
		for n := range cluster.Nodes {
			s.nodes[[2]string{cluster.Name, cluster.Nodes[n].Name}] = &cluster.Nodes[n]
		}
		for p := range cluster.Pods {
			key := [2]string{cluster.Name, cluster.Pods[p].Node}
			s.pods[key] = append(s.pods[key], &cluster.Pods[p])
		}
	}
	return s, nil
}

// Fleet is what the simulator answers for. It is not to be changed.
func (s *Simulator) Fleet() Fleet { return s.fleet }

// cluster, node and box name what a test wrote itself: a wrong name is a
// mistake of the program.
func (s *Simulator) cluster(name string) *Cluster {
	cluster := s.clusters[name]
	if cluster == nil {
		panic("simulator: no cluster " + name)
	}
	return cluster
}

func (s *Simulator) node(cluster, name string) *Node {
	node := s.nodes[[2]string{cluster, name}]
	if node == nil {
		panic("simulator: no node " + cluster + "." + name)
	}
	return node
}

// nanoseconds floors core-seconds to core-ns, as the kernel counts.
func nanoseconds(coreSeconds float64) int64 { return int64(math.Floor(coreSeconds * 1e9)) }

// cpu is the instance's core-ns from its start to t.
func (i Instance) cpu(t time.Time) int64 { return nanoseconds(i.pod.CPU.Grown(i.age(t))) }

// cpuTotal is the core-ns of all of a template's instances up to t: each run
// is like the others.
func (s *Simulator) cpuTotal(cluster string, p *Pod, t time.Time) int64 {
	if p.Every == 0 {
		return s.life(cluster, p, 0).cpu(t)
	}
	if left := s.node(cluster, p.Node).Left; !left.IsZero() && t.After(left) {
		t = left
	}
	n := p.runs(t)
	if n == 0 {
		return 0
	}
	running := min(t.Sub(p.Start)-time.Duration(n-1)*p.Every, p.Duration)
	return (n-1)*nanoseconds(p.CPU.Grown(p.Duration)) + nanoseconds(p.CPU.Grown(running))
}

// podsCPU is the core-ns of all pods of a node up to t, the ended included.
func (s *Simulator) podsCPU(cluster, node string, t time.Time) int64 {
	var sum int64
	for _, p := range s.pods[[2]string{cluster, node}] {
		sum += s.cpuTotal(cluster, p, t)
	}
	return sum
}

// systemCPU is the core-ns outside the pods since the node joined.
func (n *Node) systemCPU(t time.Time) int64 { return nanoseconds(n.System.Grown(n.age(t))) }

func (n *Node) alive(t time.Time) bool {
	return !t.Before(n.Joined) && (n.Left.IsZero() || t.Before(n.Left))
}

func (n *Node) age(t time.Time) time.Duration {
	if !n.Left.IsZero() && t.After(n.Left) {
		t = n.Left
	}
	return max(0, t.Sub(n.Joined))
}

// booted is when the node's counters began, as of t, and how often it has booted.
func (n *Node) booted(t time.Time) (at time.Time, boots int) {
	at = n.Joined
	for _, boot := range n.Boots {
		if boot.After(t) {
			break
		}
		at, boots = boot, boots+1
	}
	return at, boots
}

// epoch is when the counters of the instance's cgroup began, as of t.
func (s *Simulator) epoch(i Instance, t time.Time) time.Time {
	if boot, _ := s.node(i.Cluster, i.Node).booted(t); boot.After(i.Start) {
		return boot
	}
	return i.Start
}

// containerEpoch is when the counters of a container began, as of t, and how
// often it had started before.
func (s *Simulator) containerEpoch(i Instance, c *Container, t time.Time) (at time.Time, restarts int) {
	at = i.Start
	later := func(moment time.Time) {
		if moment.After(i.Start) && !moment.After(t) {
			restarts++
			if moment.After(at) {
				at = moment
			}
		}
	}
	for _, restart := range c.Restarts {
		later(i.Start.Add(restart))
	}
	for _, boot := range s.node(i.Cluster, i.Node).Boots {
		later(boot)
	}
	return at, restarts
}

// CoreMicroseconds is what the instance used in [from, to): the growth of its
// counter, which is floored to whole µs.
func (s *Simulator) CoreMicroseconds(i Instance, from, to time.Time) int64 {
	return i.cpu(to)/1000 - i.cpu(from)/1000
}

// KubepodsCoreMicroseconds is what all pods of the node used in [from, to),
// those that ended in it included.
func (s *Simulator) KubepodsCoreMicroseconds(cluster, node string, from, to time.Time) int64 {
	return s.podsCPU(cluster, node, to)/1000 - s.podsCPU(cluster, node, from)/1000
}

// NodeCoreMicroseconds is what the whole node used in [from, to).
func (s *Simulator) NodeCoreMicroseconds(cluster, node string, from, to time.Time) int64 {
	return s.nodeCPU(cluster, node, to)/1000 - s.nodeCPU(cluster, node, from)/1000
}

func (s *Simulator) nodeCPU(cluster, node string, t time.Time) int64 {
	return s.podsCPU(cluster, node, t) + s.node(cluster, node).systemCPU(t)
}

// Alive is how long of [from, to) the instance lived.
func (s *Simulator) Alive(i Instance, from, to time.Time) time.Duration {
	return i.age(to) - i.age(from)
}

// NodeAlive is how long of [from, to) the node was there.
func (s *Simulator) NodeAlive(cluster, node string, from, to time.Time) time.Duration {
	n := s.node(cluster, node)
	return n.age(to) - n.age(from)
}

// grown floors a counter of bytes.
func grown(w Wave, x time.Duration) int64 { return int64(math.Floor(w.Grown(x))) }

// level floors a gauge of bytes.
func level(w Wave, x time.Duration) int64 { return int64(math.Floor(w.At(x))) }

// part is the floor of a share.
func part(share float64, whole int64) int64 { return int64(math.Floor(share * float64(whole))) }

// RateChangeBound is the most by which the instance's rate can change within
// gap, in cores: interpolation over a gap is off by at most this times the gap.
func (s *Simulator) RateChangeBound(i Instance, gap time.Duration) float64 {
	return i.pod.CPU.MaxChange(gap)
}

// BalanceBound is the most, in core-µs, that reading moments alone can bring
// into a node's running balance (kubepods − Σ pods, each interpolated linearly
// between readings): Σ over the pods that live in [from, to] of rate change
// within gap × gap / 2. A line over a gap in which the rate changes by c is off
// by c · gap / 4 at most, where the change stands in the middle; once for the
// pod, once for its part of kubepods. gap is the longest time between two
// readings of a series (Housekeeping.MaxGap). Pods that start or end within a
// gap are not in it: their unseen time is another matter.
func (s *Simulator) BalanceBound(cluster, node string, from, to time.Time, gap time.Duration) float64 {
	sum := 0.0
	for _, i := range s.Instances(cluster, from, to) {
		if i.Node == node {
			sum += s.RateChangeBound(i, gap) * gap.Seconds() * 1e6 / 2
		}
	}
	return sum
}
