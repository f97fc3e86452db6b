package simulator

import (
	"math"
	"sync"
	"time"
)

// rate is the cores that the whole node uses at t.
func (s *Simulator) rate(cluster string, n *Node, t time.Time) float64 {
	if !n.alive(t) {
		return 0
	}
	sum := n.System.At(n.age(t))
	for _, p := range s.pods[[2]string{cluster, n.Name}] {
		for _, i := range s.overlapping(cluster, p, t, t) {
			if i.alive(t) {
				sum += p.CPU.At(t.Sub(i.Start))
			}
		}
	}
	return sum
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
			cores := s.rate(cluster, n, t)
			watts += n.IdleWatts + n.WattsPerCore*cores + n.WattsPerSquaredCore*cores*cores
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
		sum += n.IdleWatts * s.NodeAlive(cluster, n.Name, box.Since, t).Seconds()
		used := float64(s.nodeCPU(cluster, n.Name, t)-s.nodeCPU(cluster, n.Name, box.Since)) / 1e9
		sum += n.WattsPerCore * used
		if n.WattsPerSquaredCore > 0 {
			sum += n.WattsPerSquaredCore * s.squaredCoreSeconds(cluster, n, box.Since, t)
		}
	})
	return sum
}

// BoxMillijoules is what the box drew in [from, to): a closed form, but for
// nodes with a squared part, whose square is summed second by second.
func (s *Simulator) BoxMillijoules(box string, from, to time.Time) int64 {
	b := s.box(box)
	return int64(math.Round(s.joules(b, to)*1000)) - int64(math.Round(s.joules(b, from)*1000))
}

// squares remembers, for each node, the sum of the squared rate at whole minutes.
type squares struct {
	mu      sync.Mutex
	minutes map[*Node][]float64 // [k] is the sum over the first k minutes since from
}

// squaredCoreSeconds is the integral of the node's squared rate, taken at the
// middle of each second.
func (s *Simulator) squaredCoreSeconds(cluster string, n *Node, from, to time.Time) float64 {
	s.squares.mu.Lock()
	defer s.squares.mu.Unlock()
	if s.squares.minutes == nil {
		s.squares.minutes = make(map[*Node][]float64)
	}
	sums := s.squares.minutes[n]
	if sums == nil {
		sums = []float64{0}
	}
	square := func(second time.Time) float64 {
		cores := s.rate(cluster, n, second.Add(time.Second/2))
		return cores * cores
	}
	whole := int(to.Sub(from) / time.Minute)
	for k := len(sums) - 1; k < whole; k++ {
		sum := sums[k]
		for second := range 60 {
			sum += square(from.Add(time.Duration(k)*time.Minute + time.Duration(second)*time.Second))
		}
		sums = append(sums, sum)
	}
	s.squares.minutes[n] = sums
	sum := sums[whole]
	for at := from.Add(time.Duration(whole) * time.Minute); at.Before(to); at = at.Add(time.Second) {
		sum += square(at) * min(1, to.Sub(at).Seconds())
	}
	return sum
}

// Energy is a pod's part of its box's millijoules.
type Energy struct {
	Active int64 // what its use added, by the node's watts per core
	Idle   int64 // its share of the node's idle, by seconds alive in each minute
}

// PodMillijoules is the instance's true part in [from, to). It is defined for
// nodes without a squared part: a square belongs to no pod alone.
func (s *Simulator) PodMillijoules(i Instance, from, to time.Time) Energy {
	n := s.node(i.Cluster, i.Node)
	active := n.WattsPerCore * float64(i.cpu(to)-i.cpu(from)) / 1e6
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
	return int64(math.Round(n.WattsPerCore * float64(n.systemCPU(to)-n.systemCPU(from)) / 1e6))
}

// NodeMillijoules is the node's part of its box: the active part of its pods
// and system, without a squared part, and its idle.
func (s *Simulator) NodeMillijoules(cluster, node string, from, to time.Time) Energy {
	n := s.node(cluster, node)
	used := float64(s.nodeCPU(cluster, node, to)-s.nodeCPU(cluster, node, from)) / 1e6
	return Energy{Active: int64(math.Round(n.WattsPerCore * used)),
		Idle: int64(math.Round(1000 * n.IdleWatts * s.NodeAlive(cluster, node, from, to).Seconds()))}
}

// MeterMillijoules is what the box's meter shows at t: a counter since the
// box's zero or its own last reset, floored to its step.
func (s *Simulator) MeterMillijoules(box, meter string, t time.Time) int64 {
	b := s.box(box)
	for _, m := range b.Meters {
		if m.Name == meter {
			return s.meterCounter(b, m, t)
		}
	}
	panic("simulator: box " + box + " has no meter " + meter)
}

func (s *Simulator) meterCounter(b *Box, m Meter, t time.Time) int64 {
	sum := s.joules(b, t)
	for _, reset := range m.Resets {
		if !reset.After(t) {
			sum = s.joules(b, t) - s.joules(b, reset)
		}
	}
	counter := int64(math.Floor(sum * m.share() * 1000))
	return counter - counter%m.step()
}

func (m Meter) share() float64 {
	if m.Share == 0 {
		return 1
	}
	return m.Share
}

// step is the counter's step in mJ: a first-generation Shelly counts
// Watt-minutes, a second-generation one mWh.
func (m Meter) step() int64 {
	switch {
	case m.StepMillijoules > 0:
		return m.StepMillijoules
	case m.Generation == 1:
		return 60_000
	default:
		return 3_600
	}
}
