package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/models"
)

// Errors of Measure.
var (
	ErrNode   = errors.New("no such node")
	ErrNoPart = errors.New("its power cannot be told from the meters")
)

// idleBelow is the utilisation below which the other nodes of a box count as idle
// while one is calibrated.
const idleBelow = 0.05

// Measured is a node's power and load over a window, by the meters.
type Measured struct {
	Node     string    `json:"node"` // name of the object
	Cluster  string    `json:"cluster"`
	Name     string    `json:"name"` // in its cluster
	Hardware string    `json:"hardware"`
	Box      string    `json:"box,omitempty"`
	Meters   []string  `json:"meters"`
	Own      bool      `json:"own"` // the meters count this node alone
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`

	Ready       bool    `json:"ready"` // what follows is known; else Why says what is missing
	Why         string  `json:"why,omitempty"`
	MeterWatts  float64 `json:"meterWatts"`  // what the meters showed
	OtherWatts  float64 `json:"otherWatts"`  // the box's declared overhead and the other nodes, by their models
	Watts       float64 `json:"watts"`       // the node: what is left
	StepWatts   float64 `json:"stepWatts"`   // what one step of the counters is over the window
	Utilisation float64 `json:"utilisation"` // 0 … 1
	Capacity    float64 `json:"capacity"`    // cores

	Others []Other `json:"others,omitempty"` // nodes in the box without a meter of their own
}

// Other is another node behind the same meter.
type Other struct {
	Node        string  `json:"node"`
	Utilisation float64 `json:"utilisation"`
	Watts       float64 `json:"watts"` // by its model
	Idle        bool    `json:"idle"`
}

// Measure is what the meters say of one node over a window: its own meter, or that
// of its box less the overhead and the other nodes by their models. Errors: ErrNode,
// ErrNoPart. Where rows or readings are on their way it is not Ready.
func (k *Keeper) Measure(ctx context.Context, name string, w schema.Window) (Measured, error) {
	f, err := k.registry.Fleet(ctx, k.clock.Now())
	if err != nil {
		return Measured{}, err
	}
	i := slices.IndexFunc(f.Nodes(), func(n fleet.Node) bool { return n.Name == name || n.Cluster+"/"+n.Node == name })
	if i < 0 {
		return Measured{}, fmt.Errorf("node %q: %w", name, ErrNode)
	}
	node := f.Nodes()[i]
	m := Measured{Node: node.Name, Cluster: node.Cluster, Name: node.Node, Hardware: node.Hardware, Box: node.Box, From: w.From, To: w.To}
	if _, known := f.Hardware(node.Hardware); !known {
		return m, fmt.Errorf("node %s names no hardware that is described: %w", name, ErrNoPart)
	}
	counting, others, overhead, err := k.behind(f, node)
	if err != nil {
		return m, err
	}
	for _, c := range counting {
		m.Meters = append(m.Meters, c.Name)
		m.Own = m.Own || c.Node == node.Name
	}
	if err := k.watts(ctx, counting, w, &m); err != nil || m.Why != "" {
		return m, err
	}
	u, capacity, ok, err := k.loadOf(ctx, node, w)
	if err != nil {
		return m, err
	}
	if !ok {
		m.Why = "the minutes of node " + node.Name + " have not come yet"
		return m, nil
	}
	m.Utilisation, m.Capacity = u, capacity
	m.OtherWatts = overhead
	if err := k.others(ctx, f, others, w, &m); err != nil || m.Why != "" {
		return m, err
	}
	m.Watts, m.Ready = m.MeterWatts-m.OtherWatts, true
	return m, nil
}

// behind are the meters that count a node, and the other nodes that they count.
func (k *Keeper) behind(f *fleet.Fleet, node fleet.Node) (counting []fleet.Meter, others []fleet.Node, overhead float64, err error) {
	if node.Box == "" {
		return nil, nil, 0, fmt.Errorf("node %s stands in no box: %w", node.Name, ErrNoPart)
	}
	own := make(map[string]bool) // nodes with a meter of their own
	for _, m := range f.MetersOfBox(node.Box) {
		switch {
		case m.Node == node.Name:
			return []fleet.Meter{m}, nil, 0, nil
		case m.Node != "":
			own[m.Node] = true
		case m.Place() != node.Box:
			return nil, nil, 0, fmt.Errorf("meter %s of box %s counts other boxes too: %w", m.Name, node.Box, ErrNoPart)
		default:
			counting = append(counting, m)
		}
	}
	if len(counting) == 0 {
		return nil, nil, 0, fmt.Errorf("box %s has no meter: %w", node.Box, ErrNoPart)
	}
	if len(own) > 0 {
		return nil, nil, 0, fmt.Errorf("other nodes of box %s have meters of their own, and node %s has none: give it one, or enter points that were measured elsewhere: %w", node.Box, node.Name, ErrNoPart)
	}
	box, _ := f.Box(node.Box)
	for _, n := range f.NodesOfBox(node.Box) {
		if n.Name != node.Name {
			others = append(others, n)
		}
	}
	return counting, others, box.OverheadWatts, nil
}

// watts is what the meters counted between their first and last readings in the
// window.
func (k *Keeper) watts(ctx context.Context, counting []fleet.Meter, w schema.Window, m *Measured) error {
	lags, err := meters.ReadLags(ctx, k.registry)
	if err != nil {
		return err
	}
	for _, meter := range counting {
		lag := lags.Longest(meter)
		readings, err := k.readings.Load(ctx, meter.Place(), w.From.Add(-lag), w.To.Add(lag))
		if err != nil {
			return err
		}
		own := slices.DeleteFunc(readings, func(r meters.Reading) bool { return r.Meter != meter.Name || !r.HasCounter })
		inside := slices.DeleteFunc(lags.Shift(meter, own), func(r meters.Reading) bool { return !w.Contains(r.Time) })
		if len(inside) < 2 || inside[len(inside)-1].Time.Sub(inside[0].Time) < w.Length()/2 {
			m.Why = fmt.Sprintf("meter %s has %d readings in the window, which span less than a half of it", meter.Name, len(inside))
			return nil
		}
		first, last := inside[0], inside[len(inside)-1]
		seconds := last.Time.Sub(first.Time).Seconds()
		if !first.Epoch.Equal(last.Epoch) || last.CounterMillijoules < first.CounterMillijoules {
			m.Why = fmt.Sprintf("the counter of meter %s began anew in the window", meter.Name)
			return nil
		}
		m.MeterWatts += float64(last.CounterMillijoules-first.CounterMillijoules) / 1000 / seconds
		m.StepWatts += float64(max(first.StepMillijoules, last.StepMillijoules)) / 1000 / seconds
	}
	return nil
}

// loadOf is a node's utilisation and its cores; not ok while a minute is missing.
func (k *Keeper) loadOf(ctx context.Context, node fleet.Node, w schema.Window) (utilisation, cores float64, ok bool, err error) {
	loads, err := k.loads(ctx, node, w)
	if err != nil {
		return 0, 0, false, err
	}
	u, ok := loadOver(loads, w)
	for _, minute := range loads {
		cores = max(cores, float64(minute.capacity)/60e6)
	}
	return float64(u) / float64(processors.Full), cores, ok, nil
}

// others is what the other nodes behind the meter drew, by their models.
func (k *Keeper) others(ctx context.Context, f *fleet.Fleet, nodes []fleet.Node, w schema.Window, m *Measured) error {
	recorded, err := k.registry.ModelStates(ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		u, _, ok, err := k.loadOf(ctx, node, w)
		if err != nil {
			return err
		}
		if !ok {
			m.Why = "the minutes of node " + node.Name + ", behind the same meter, have not come yet"
			return nil
		}
		hardware, _ := f.Hardware(node.Hardware)
		table, err := tableOf(States(recorded), hardware, node.Box, w.From)
		if err != nil {
			return err
		}
		if table == nil && hardware.MaxWatts > 0 {
			line, err := models.Line(hardware.IdleWatts, hardware.MaxWatts)
			if err != nil {
				return err
			}
			table = &line
		}
		if table == nil {
			return fmt.Errorf("nothing is known of the power of node %s, behind the same meter: describe its hardware's watts, give it or node %s a meter of its own, or enter points that were measured elsewhere: %w", node.Name, m.Node, ErrNoPart)
		}
		other := Other{Node: node.Name, Utilisation: u, Watts: table.Watts(u), Idle: u < idleBelow}
		m.Others = append(m.Others, other)
		m.OtherWatts += other.Watts
	}
	return nil
}
