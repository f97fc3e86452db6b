package models

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// What makes a lesson.
const (
	// lessonLength and lessonSteps: so long at least, and so many steps of the
	// counter, whose ends are known to one step each.
	lessonLength = schema.Quarter
	lessonSteps  = 100
	// longest: over more the mean load says too little of a curve.
	longest = 6 * time.Hour
	// firstLook is how far back a box is looked at that is new; chunk how much of it
	// at once.
	firstLook = 7 * 24 * time.Hour
	chunk     = 24 * time.Hour
	// kept lessons of a box: ten days of quarters.
	kept = 1000
	// gap is the longest time between two readings in which a counter is
	// interpolated.
	gap = 2 * time.Minute
)

// composition is what stands in a box.
type composition struct {
	fleet    *fleet.Fleet
	nodes    []fleet.Node
	meters   []fleet.Meter
	overhead float64
}

// compose is what stands in a box at a moment; why not: it cannot teach.
func compose(f *fleet.Fleet, box string) (c composition, why string) {
	described, _ := f.Box(box)
	c.fleet, c.overhead = f, described.OverheadWatts
	alone := true
	for _, m := range f.MetersOfBox(box) {
		if m.Node == "" { // those of nodes are parts of them
			c.meters = append(c.meters, m)
			alone = alone && m.Place() == box
		}
	}
	c.nodes = f.NodesOfBox(box)
	slices.SortFunc(c.nodes, func(a, b fleet.Node) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Node, b.Node))
	})
	slices.SortFunc(c.meters, func(a, b fleet.Meter) int { return cmp.Compare(a.Name, b.Name) })
	switch {
	case len(c.meters) == 0:
		return c, "it has no meter of its own"
	case !alone:
		return c, "its meter counts other boxes too"
	case len(c.nodes) == 0:
		return c, "it has no nodes"
	}
	for _, n := range c.nodes {
		if n.Hardware == "" {
			return c, "its node " + n.Name + " names no hardware"
		}
	}
	return c, ""
}

func (c composition) same(o composition) bool {
	return slices.Equal(c.nodes, o.nodes) && slices.EqualFunc(c.meters, o.meters, func(a, b fleet.Meter) bool { return a.Name == b.Name })
}

// take takes the lessons that a box's meters have taught since it was looked at
// last, up to the settled moment.
func (k *Keeper) take(ctx context.Context, box string, from, settled time.Time) (lessons []registry.Lesson, taken time.Time, err error) {
	taken = from
	for taken.Add(lessonLength).Before(settled) {
		w := schema.Window{From: taken, To: schema.Earlier(taken.Add(chunk), settled)}
		more, end, err := k.takeWindow(ctx, box, w)
		if err != nil {
			return nil, from, err
		}
		lessons = append(lessons, more...)
		switch {
		case end.After(taken):
			taken = end
		case w.To.Before(settled): // it taught nothing
			taken = w.To.Add(-longest)
			if !taken.After(w.From) {
				taken = w.To
			}
		default:
			return lessons, schema.Later(taken, w.To.Add(-longest)), nil
		}
	}
	return lessons, taken, nil
}

// takeWindow takes the lessons of a window, and says where the last ends.
func (k *Keeper) takeWindow(ctx context.Context, box string, w schema.Window) (lessons []registry.Lesson, end time.Time, err error) {
	f, err := k.registry.Fleet(ctx, w.From)
	if err != nil {
		return nil, w.From, err
	}
	here, why := compose(f, box)
	cuts, err := k.registry.Cuts(ctx, w)
	if err != nil {
		return nil, w.From, err
	}
	for _, cut := range cuts { // up to where something else stands in it
		later, err := k.registry.Fleet(ctx, cut)
		if err != nil {
			return nil, w.From, err
		}
		if c, _ := compose(later, box); !c.same(here) {
			lessons, _, err := k.takeFrom(ctx, box, here, why, schema.Window{From: w.From, To: cut})
			return lessons, cut, err
		}
	}
	return k.takeFrom(ctx, box, here, why, w)
}

func (k *Keeper) takeFrom(ctx context.Context, box string, here composition, why string, w schema.Window) (lessons []registry.Lesson, end time.Time, err error) {
	if why != "" {
		return nil, w.To, nil
	}
	windows, err := k.metered(ctx, box, here, w)
	if err != nil || len(windows) == 0 {
		return nil, w.From, err
	}
	loads := make([]map[time.Time]busy, len(here.nodes))
	for i, node := range here.nodes {
		if loads[i], err = k.loads(ctx, node, w); err != nil {
			return nil, w.From, err
		}
		if err := k.addProcessors(ctx, here.fleet, node, w, loads[i]); err != nil {
			return nil, w.From, err
		}
	}
	for _, m := range windows {
		lesson := registry.Lesson{At: m.To, Milliwatts: processors.MulDiv(m.millijoules, int64(time.Second), int64(m.Length())), Loads: make(map[string][]int64)}
		complete, counted := lesson.Milliwatts > 0, true
		drawn := make(map[string][]int64)
		for i, node := range here.nodes {
			u, ok := loadOver(loads[i], m.Window)
			complete = complete && ok
			lesson.Loads[node.Hardware] = append(lesson.Loads[node.Hardware], u)
			watts, ok := processorsOver(loads[i], m.Window)
			counted = counted && ok
			drawn[node.Hardware] = append(drawn[node.Hardware], watts)
		}
		if counted {
			lesson.Processors = drawn
		}
		if complete {
			lessons = append(lessons, lesson)
		}
	}
	return lessons, windows[len(windows)-1].To, nil
}

// metered is a box's energy in a window.
type metered struct {
	schema.Window
	millijoules int64
}

// metered are windows at whose ends the first meter closes intervals, with the
// growth of all meters.
func (k *Keeper) metered(ctx context.Context, box string, here composition, w schema.Window) ([]metered, error) {
	lags, err := meters.ReadLags(ctx, k.registry)
	if err != nil {
		return nil, err
	}
	counters := make([][]processors.Reading, len(here.meters))
	for i, m := range here.meters {
		lag := lags.Longest(m)
		readings, err := k.readings.Load(ctx, box, w.From.Add(-lag), w.To.Add(lag))
		if err != nil {
			return nil, err
		}
		readings = slices.DeleteFunc(readings, func(r meters.Reading) bool { return r.Meter != m.Name || !r.HasCounter })
		for _, r := range lags.Shift(m, readings) {
			if w.Contains(r.Time) {
				counters[i] = append(counters[i], processors.Reading{Time: r.Time, CounterMillijoules: r.CounterMillijoules,
					StepMillijoules: r.StepMillijoules, Epoch: r.Epoch.UnixNano()})
			}
		}
	}
	var windows []metered
	var open *metered
	for _, i := range (processors.Meter{Readings: counters[0]}).Intervals() {
		if open == nil || !open.To.Equal(i.From) || i.To.Sub(open.From) > longest {
			open = &metered{Window: schema.Window{From: i.From}}
		}
		open.To = i.To
		if open.Length() < lessonLength {
			continue
		}
		sum, fine := grown(counters, open.Window)
		if fine {
			open.millijoules = sum
			windows = append(windows, *open)
			open = nil
		}
	}
	return windows, nil
}

// grown is how much the counters grew in a window together; not fine where one of
// them is not known at an end, begins anew within, or counts in steps too coarse.
func grown(counters [][]processors.Reading, w schema.Window) (sum int64, fine bool) {
	for _, readings := range counters {
		from, ok := counterAt(readings, w.From)
		to, also := counterAt(readings, w.To)
		if !ok || !also || from.Epoch != to.Epoch || to.CounterMillijoules < from.CounterMillijoules {
			return 0, false
		}
		growth := to.CounterMillijoules - from.CounterMillijoules
		if growth < lessonSteps*max(from.StepMillijoules, to.StepMillijoules, 1) {
			return 0, false
		}
		sum += growth
	}
	return sum, true
}

// counterAt is a counter at a moment: as it was read then, or between two
// readings that are near.
func counterAt(readings []processors.Reading, t time.Time) (processors.Reading, bool) {
	i, found := slices.BinarySearchFunc(readings, t, func(r processors.Reading, t time.Time) int { return r.Time.Compare(t) })
	if found {
		return readings[i], true
	}
	if i == 0 || i == len(readings) {
		return processors.Reading{}, false
	}
	a, b := readings[i-1], readings[i]
	if a.Epoch != b.Epoch || b.CounterMillijoules < a.CounterMillijoules || b.Time.Sub(a.Time) > gap {
		return processors.Reading{}, false
	}
	a.CounterMillijoules += processors.MulDiv(b.CounterMillijoules-a.CounterMillijoules, int64(t.Sub(a.Time)), int64(b.Time.Sub(a.Time)))
	return a, true
}

// busy is a node's minute.
type busy struct {
	cpu, capacity int64
	processor     int64 // mJ that its processors counted, if counted
	counted       bool
}

// loads are the minutes of a node in which it was on and read.
func (k *Keeper) loads(ctx context.Context, node fleet.Node, w schema.Window) (map[time.Time]busy, error) {
	loads := make(map[time.Time]busy)
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: node.Cluster}, {Tag: schema.Node, Value: node.Node}}
	whole := schema.Window{From: w.From.Truncate(schema.Minute), To: w.To}
	err := k.minute.TimeQuery(ctx, schema.NodeMinute.Name, whole, where, func(row influxsync.Point) error {
		read := row.Int(schema.Coverage) > 0 || row.Int(schema.Interpolated) > 0
		if read && row.Int(schema.Uptime) >= schema.Minute.Milliseconds() {
			energy, counted := row.Field(schema.ProcessorEnergy)
			loads[row.Time.UTC()] = busy{row.Int(schema.CPU), row.Int(schema.CapacityCPU), energy.Int(), counted}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read node %s: %w", node.Name, err)
	}
	return loads, nil
}

// loadOver is a node's utilisation over a window, 1e-6; not ok where a minute is
// missing. A minute that the window holds a part of counts as that part.
func loadOver(loads map[time.Time]busy, w schema.Window) (int64, bool) {
	var cpu, capacity int64
	for at := w.From.UTC().Truncate(schema.Minute); at.Before(w.To); at = at.Add(schema.Minute) {
		minute, ok := loads[at]
		if !ok || minute.capacity <= 0 {
			return 0, false
		}
		part := int64(schema.Earlier(at.Add(schema.Minute), w.To).Sub(schema.Later(at, w.From)))
		cpu += processors.MulDiv(max(minute.cpu, 0), part, int64(schema.Minute))
		capacity += processors.MulDiv(minute.capacity, part, int64(schema.Minute))
	}
	if capacity <= 0 {
		return 0, false
	}
	return min(processors.MulDiv(cpu, int64(processors.Full), capacity), int64(processors.Full)), true
}
