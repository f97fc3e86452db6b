package processors

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// OtherBox is another box that a meter counts together with this one: what its
// model needs. Its nodes' minutes reach over Span and need no pods.
type OtherBox struct {
	Name               string
	OverheadMilliwatts int64
	Nodes              []Node
	// Meters count this box alone: it has no part of the common meter's energy, from
	// which theirs is taken off. Its nodes' minutes reach over Span of these, too.
	Meters []Meter
}

// part says whether the meter counts one node of the box alone: its energy is a
// part of what the box's meters count.
func (m Meter) part() bool { return m.Node != "" }

// sharedOver are the meter's intervals as this box's part of them: of each
// interval's growth what the boxes' models say, by largest remainder in the order
// of their names, so that the parts of all boxes add up to the growth exactly.
// Inside the interval the part follows this box's model. Where no model says
// anything, all boxes draw alike. What boxes with meters of their own counted, and
// the model says of the times in which those did not, is taken off before; more than
// there is cannot be, and then nothing is left. An interval over which one of their
// intervals is still open is open too, with all that follow.
func (c coverage) sharedOver(box string, others []otherTimeline) coverage {
	names := []string{box}
	for _, other := range others {
		if other.own == nil {
			names = append(names, other.name)
		}
	}
	slices.Sort(names)
	own, _ := slices.BinarySearch(names, box)
	c.intervals = slices.Clone(c.intervals)
	for i, interval := range c.intervals {
		growth, open := interval.Growth(), false
		for _, other := range others {
			if other.own != nil {
				e, _ := other.own.energy(schema.Window{From: interval.From, To: interval.To})
				growth -= e.Measured + e.Provisional + e.Estimated
				c.intervals[i].Integrated = c.intervals[i].Integrated || e.Integrated > 0
				open = open || e.Provisional > 0
			}
		}
		if open {
			c.intervals = c.intervals[:i]
			break
		}
		growth = max(growth, 0)
		weights := make([]int64, len(names))
		weights[own] = c.model.between(interval.From, interval.To)
		for _, other := range others {
			if other.own != nil {
				continue
			}
			at, _ := slices.BinarySearch(names, other.name)
			weights[at] = other.model.between(interval.From, interval.To)
		}
		parts := LargestRemainder(growth, weights)
		if parts == nil {
			for j := range weights {
				weights[j] = 1
			}
			parts = LargestRemainder(growth, weights)
		}
		c.intervals[i].Start, c.intervals[i].End = 0, parts[own]
	}
	return c
}

// otherTimeline is another box's modelled energy.
type otherTimeline struct {
	name  string
	model *timeline
	own   *powerRun // what its own meters counted; nil without
}

// otherTimeline is the model of another box over the span, and with meters of its
// own what they counted.
func (p Power) otherTimeline(other OtherBox, span schema.Window, settled time.Time) (otherTimeline, error) {
	span, _ = Span(span, other.Meters)
	in := PowerInput{Box: Box{Name: other.Name, OverheadMilliwatts: other.OverheadMilliwatts}, Nodes: other.Nodes}
	model, err := newTimeline(span, in, p.model())
	if err != nil || len(other.Meters) == 0 {
		return otherTimeline{name: other.Name, model: model}, err
	}
	own := &powerRun{model: model}
	for _, m := range other.Meters {
		c := newCoverage(m, settled, model)
		own.meters = append(own.meters, c)
		own.attributed = append(own.attributed, make([]int64, len(c.intervals)))
	}
	return otherTimeline{other.Name, model, own}, nil
}

// nodePart is a meter of one node of the box.
type nodePart struct {
	coverage
	cluster, node string
}

// coverages are the closed intervals of the box's meters and of those of its
// nodes. Within an interval of the box, what the nodes' meters counted stands in
// the place of what the model says of them.
func (p Power) coverages(in PowerInput, span schema.Window, settled time.Time, model *timeline) (whole []coverage, parts []nodePart, err error) {
	inside := model.clone()
	for _, m := range in.Meters {
		if !m.part() {
			continue
		}
		alone := PowerInput{Nodes: slices.DeleteFunc(slices.Clone(in.Nodes), func(n Node) bool { return n.Cluster != m.Cluster || n.Name != m.Node })}
		own, err := newTimeline(span, alone, p.model())
		if err != nil {
			return nil, nil, err
		}
		part := nodePart{newCoverage(m, settled, own), m.Cluster, m.Node}
		inside.replace(part)
		parts = append(parts, part)
	}
	if err := inside.addUp(); err != nil {
		return nil, nil, fmt.Errorf("energy of box %s: %w", in.Box.Name, err)
	}
	for _, m := range in.Meters {
		if m.part() {
			continue
		}
		c := newCoverage(m, settled, inside)
		if len(m.Others) > 0 {
			var others []otherTimeline
			for _, other := range m.Others {
				t, err := p.otherTimeline(other, span, settled)
				if err != nil {
					return nil, nil, err
				}
				others = append(others, t)
			}
			c.model = model // the other boxes know nothing of this one's parts
			c = c.sharedOver(in.Box.Name, others)
			c.model = inside
		}
		whole = append(whole, c)
	}
	return whole, parts, nil
}

func (l *timeline) clone() *timeline {
	return &timeline{from: l.from, minute: slices.Clone(l.minute), sum: slices.Clone(l.sum)}
}

// replace puts what a node's meter counted in the place of its model, in the
// minutes that it covers whole.
func (l *timeline) replace(part nodePart) {
	for i := range l.minute {
		w := schema.WindowAt(l.from.Add(time.Duration(i)*schema.Minute), schema.Minute)
		if growth, covered := part.energy(w.From, w.To); covered == w.Length() {
			l.minute[i] = max(l.minute[i]-part.model.minute[i], 0) + growth*1000
		}
	}
}

// addUp makes the sums follow the minutes.
func (l *timeline) addUp() error {
	for i, e := range l.minute {
		sum, err := Sum(l.sum[i], e)
		if err != nil {
			return err
		}
		l.sum[i+1] = sum
	}
	return nil
}

// energy is what the meter counted from one time to another, mJ, and for how long
// of that it has closed intervals.
func (c coverage) energy(from, to time.Time) (growth int64, covered time.Duration) {
	for i := c.from(from); i < len(c.intervals) && c.intervals[i].From.Before(to); i++ {
		a, b := schema.Later(from, c.intervals[i].From), schema.Earlier(to, c.intervals[i].To)
		if b.After(a) {
			growth += c.growth(i, a, b)
			covered += b.Sub(a)
		}
	}
	return growth, covered
}

// counted is what the meters of nodes counted from one time to another while the
// box's did not, mJ, what of it rests on watts, and what the model says of the same
// nodes.
func (r *powerRun) counted(from, to time.Time) (growth, integrated, model int64) {
	for _, part := range r.parts {
		if part.meter.validAt(from) && part.find(from, to) >= 0 {
			g, _ := part.energy(from, to)
			growth += g
			if part.intervals[part.find(from, to)].Integrated {
				integrated += g
			}
			model += part.model.between(from, to) / 1000
		}
	}
	return growth, integrated, model
}

// fixed is the energy of the nodes that have meters of their own, which cover the
// minute whole, by their places among those present; nil is none.
func (r *powerRun) fixed(w schema.Window, nodes []present) map[int]int64 {
	var fixed map[int]int64
	for _, part := range r.parts {
		growth, covered := part.energy(w.From, w.To)
		if covered < w.Length() {
			continue
		}
		for i, p := range nodes {
			if p.node.Cluster == part.cluster && p.node.Name == part.node {
				if fixed == nil {
					fixed = make(map[int]int64)
				}
				fixed[i] += growth
			}
		}
	}
	return fixed
}

// boxShares is the energy (mJ) as the box's overhead, each node's idle part and
// each node's dynamic part: nodes with meters of their own get what those counted,
// the others and the overhead the rest. More than the box's meter counted they do
// not get. nil: no node is on.
func (s *minuteSplit) boxShares(energy int64) []int64 {
	if len(s.fixed) == 0 {
		return LargestRemainder(energy, s.boxWeights(energy))
	}
	n := len(s.nodes)
	own := make([]int64, n)
	var sum int64
	for i, e := range s.fixed {
		own[i] = max(e, 0)
		sum += own[i]
	}
	if sum > energy {
		if own = LargestRemainder(energy, own); own == nil {
			own = make([]int64, n)
		}
		sum = energy
	}
	rest := &minuteSplit{overhead: s.overhead, nodes: slices.Clone(s.nodes)}
	for i := range s.fixed {
		rest.nodes[i] = nodeSplit{}
	}
	shares := LargestRemainder(energy-sum, rest.boxWeights(energy-sum))
	if shares == nil {
		shares = make([]int64, 1+2*n)
		shares[0] = energy - sum
	}
	for i := range s.fixed {
		alone := &minuteSplit{nodes: []nodeSplit{s.nodes[i]}}
		parts := LargestRemainder(own[i], alone.boxWeights(own[i]))
		if parts == nil { // it counts while the node is off
			parts = []int64{0, own[i], 0}
		}
		shares[1+i], shares[1+n+i] = parts[1], parts[2]
	}
	return shares
}

// others writes the other boxes that a meter counts into a fingerprint.
func (h *hasher) others(m Meter, span schema.Window, settled time.Time) {
	boxes := slices.Clone(m.Others)
	slices.SortFunc(boxes, func(a, b OtherBox) int { return cmp.Compare(a.Name, b.Name) })
	for _, other := range boxes {
		h.text("other", other.Name)
		h.ints(other.OverheadMilliwatts)
		own := PowerInput{Meters: other.Meters}.canonical().Meters
		for _, m := range own {
			h.meter(newCoverage(m, settled, nil), span)
		}
		span, _ := Span(span, own)
		for _, node := range (PowerInput{Nodes: other.Nodes}).canonical().Nodes {
			h.node(node, schema.Window{}, span)
		}
	}
}
