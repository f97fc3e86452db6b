package simulator

import (
	"math"
	"time"
)

// rate is the cores that the whole node uses at t.
func (s *Simulator) rate(cluster string, n *Node, t time.Time) float64 {
	if !n.alive(t) {
		return 0
	}
	sum := n.System.At(n.age(t))
	for _, p := range s.pods[[2]string{cluster, n.Name}] {
		if cores := p.rate(t); cores > 0 {
			sum += cores
		}
	}
	return sum
}

// rate is the cores that the template's living instance uses at t, on a node that
// is there.
func (p *Pod) rate(t time.Time) float64 {
	start := p.Start
	if p.Every > 0 {
		n := p.runs(t)
		if n == 0 {
			return 0
		}
		start = p.Start.Add(time.Duration(n-1) * p.Every)
		if t.Sub(start) >= p.Duration {
			return 0
		}
	}
	if t.Before(start) || p.Every == 0 && !p.End.IsZero() && !t.Before(p.End) {
		return 0
	}
	return p.CPU.At(t.Sub(start))
}

// each calls do for every node of the box.
func (s *Simulator) each(box string, do func(cluster string, n *Node)) {
	for c := range s.fleet.Clusters {
		cluster := &s.fleet.Clusters[c]
		for n := range cluster.Nodes {
			if cluster.Nodes[n].Box == box {
				do(cluster.Name, &cluster.Nodes[n])
			}
		}
	}
}

func (s *Simulator) box(name string) *Box {
	for b := range s.fleet.Boxes {
		if s.fleet.Boxes[b].Name == name {
			return &s.fleet.Boxes[b]
		}
	}
	panic("simulator: no box " + name)
}

// BoxWatts is what the box draws at t.
func (s *Simulator) BoxWatts(box string, t time.Time) float64 {
	watts := s.box(box).OverheadWatts
	s.each(box, func(cluster string, n *Node) {
		if n.alive(t) {
			watts += n.watts(s.rate(cluster, n, t))
		}
	})
	return watts
}

// joules is what the box has drawn since its meters' zero.
func (s *Simulator) joules(box *Box, t time.Time) float64 {
	if !t.After(box.Since) {
		return 0
	}
	sum := box.OverheadWatts * t.Sub(box.Since).Seconds()
	s.each(box.Name, func(cluster string, n *Node) {
		sum += s.nodeJoules(cluster, n, box.Since, t)
	})
	return sum
}

// nodeJoules is what the node drew in [from, to).
func (s *Simulator) nodeJoules(cluster string, n *Node, from, to time.Time) float64 {
	return n.IdleWatts*s.NodeAlive(cluster, n.Name, from, to).Seconds() + s.activeJoules(cluster, n, to) - s.activeJoules(cluster, n, from)
}

// BoxMillijoules is what the box drew in [from, to): a closed form, but for
// nodes whose power is no straight line, which is summed second by second.
func (s *Simulator) BoxMillijoules(box string, from, to time.Time) int64 {
	b := s.box(box)
	return int64(math.Round(s.joules(b, to)*1000)) - int64(math.Round(s.joules(b, from)*1000))
}

// Energy is a pod's part of its box's millijoules.
type Energy struct {
	Active int64 // what its use added, by the node's watts per core
	Idle   int64 // its share of the node's idle, by seconds alive in each minute
}

// PodMillijoules is the instance's true part in [from, to): of a node with a
// curve by curvePart. It is not defined for nodes with a squared part.
func (s *Simulator) PodMillijoules(i Instance, from, to time.Time) Energy {
	n := s.node(i.Cluster, i.Node)
	active := n.WattsPerCore * float64(i.cpu(to)-i.cpu(from)) / 1e6
	if len(n.Curve) > 0 {
		active = 1000 * s.curvePart(i.Cluster, n, from, to, func(t time.Time) float64 {
			if !i.alive(t) {
				return 0
			}
			return i.pod.CPU.At(t.Sub(i.Start))
		})
	}
	idle := 0.0
	for from.Before(to) {
		end := from.Truncate(time.Minute).Add(time.Minute)
		if end.After(to) {
			end = to
		}
		if mine := s.Alive(i, from, end); mine > 0 {
			var all time.Duration
			for _, p := range s.pods[[2]string{i.Cluster, i.Node}] {
				for _, other := range s.overlapping(i.Cluster, p, from, end) {
					all += s.Alive(other, from, end)
				}
			}
			watts := n.IdleWatts * s.NodeAlive(i.Cluster, i.Node, from, end).Seconds()
			idle += 1000 * watts * float64(mine) / float64(all)
		}
		from = end
	}
	return Energy{Active: int64(math.Round(active)), Idle: int64(math.Round(idle))}
}

// SystemMillijoules is the active part of what runs outside the node's pods.
func (s *Simulator) SystemMillijoules(cluster, node string, from, to time.Time) int64 {
	n := s.node(cluster, node)
	if len(n.Curve) > 0 {
		return millijoules(s.curvePart(cluster, n, from, to, func(t time.Time) float64 { return n.System.At(n.age(t)) }))
	}
	return int64(math.Round(n.WattsPerCore * float64(n.systemCPU(to)-n.systemCPU(from)) / 1e6))
}

// NodeMillijoules is the node's part of its box: the active part of its pods
// and system, and its idle.
func (s *Simulator) NodeMillijoules(cluster, node string, from, to time.Time) Energy {
	n := s.node(cluster, node)
	return Energy{Active: millijoules(s.activeJoules(cluster, n, to) - s.activeJoules(cluster, n, from)),
		Idle: int64(math.Round(1000 * n.IdleWatts * s.NodeAlive(cluster, node, from, to).Seconds()))}
}
