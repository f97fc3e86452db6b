package simulator

import (
	"errors"
	"math"
	"sync"
	"time"
)

// watts is what the node draws with so many of its cores busy. A curve is
// straight between its points, which stand at even loads from none to all.
func (n *Node) watts(cores float64) float64 {
	if len(n.Curve) == 0 {
		return n.IdleWatts + n.WattsPerCore*cores + n.WattsPerSquaredCore*cores*cores
	}
	last := len(n.Curve) - 1
	at := min(cores/float64(n.Cores), 1) * float64(last)
	i := min(int(at), last-1)
	return n.Curve[i] + (n.Curve[i+1]-n.Curve[i])*(at-float64(i))
}

// MaxWatts is what the node draws with all cores busy.
func (n *Node) MaxWatts() float64 { return n.watts(float64(n.Cores)) }

// bent says whether the node's power is no straight line of its cores: then its
// energy is summed second by second.
func (n *Node) bent() bool { return len(n.Curve) > 0 || n.WattsPerSquaredCore > 0 }

// checkCurve says what is wrong with the node's curve.
func (n *Node) checkCurve() error {
	if len(n.Curve) == 0 {
		return nil
	}
	if len(n.Curve) == 1 || n.Curve[0] != n.IdleWatts || n.WattsPerCore != 0 || n.WattsPerSquaredCore != 0 || n.Cores <= 0 {
		return errors.New("a curve begins at the idle watts, has two points or more, and stands in place of watts per core")
	}
	for i := 1; i < len(n.Curve); i++ {
		if n.Curve[i] < n.Curve[i-1] {
			return errors.New("a curve does not fall")
		}
	}
	return nil
}

// bends remembers, for each node, its active joules at whole minutes.
type bends struct {
	mu      sync.Mutex
	minutes map[*Node][]float64 // [k] is the sum over the first k minutes since it joined
}

// activeJoules is what the node drew above its idle since it joined: of a
// straight line in closed form, else taken at the middle of each second.
func (s *Simulator) activeJoules(cluster string, n *Node, t time.Time) float64 {
	if !n.bent() {
		return n.WattsPerCore * float64(s.nodeCPU(cluster, n.Name, t)) / 1e9
	}
	age := n.age(t)
	s.bends.mu.Lock()
	defer s.bends.mu.Unlock()
	if s.bends.minutes == nil {
		s.bends.minutes = make(map[*Node][]float64)
	}
	sums := s.bends.minutes[n]
	if sums == nil {
		sums = []float64{0}
	}
	whole := int(age / time.Minute)
	for k := len(sums) - 1; k < whole; k++ {
		sum := sums[k]
		for second := range 60 {
			at := n.Joined.Add(time.Duration(k)*time.Minute + time.Duration(second)*time.Second + time.Second/2)
			sum += n.watts(s.rate(cluster, n, at)) - n.IdleWatts
		}
		sums = append(sums, sum)
	}
	s.bends.minutes[n] = sums
	sum, end := sums[whole], n.Joined.Add(age)
	for at := n.Joined.Add(time.Duration(whole) * time.Minute); at.Before(end); at = at.Add(time.Second) {
		sum += (n.watts(s.rate(cluster, n, at.Add(time.Second/2))) - n.IdleWatts) * min(1, end.Sub(at).Seconds())
	}
	return sum
}

// part is what one user of a node with a curve added to its power in [from, to),
// in joules: of each second's power above idle its part of the cores in use. It is
// the Aumann-Shapley price of a curve that all core time climbs together.
func (s *Simulator) curvePart(cluster string, n *Node, from, to time.Time, cores func(t time.Time) float64) float64 {
	sum := 0.0
	for at := from; at.Before(to); at = at.Add(time.Second) {
		middle := at.Add(time.Second / 2)
		all := s.rate(cluster, n, middle)
		if mine := cores(middle); mine > 0 && all > 0 {
			sum += (n.watts(all) - n.IdleWatts) * mine / all * min(1, to.Sub(at).Seconds())
		}
	}
	return sum
}

// millijoules rounds joules.
func millijoules(joules float64) int64 { return int64(math.Round(1000 * joules)) }
