package work

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	chosen "github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/processors"
)

// meter is one that counts a box, alone or with others, or a node of it.
type meter struct {
	processors.Meter
	described fleet.Meter
	boxes     []string // that it counts, by name
}

// meters are the box's electricity meters, with readings as far back as the
// intervals of the quarter reach, and as far on as the first that closes it. The
// readings stand at the times of the usage that they count.
func (w *Worker) meters(ctx context.Context, box string, quarter schema.Window, parts []validity) ([]meter, error) {
	valid := meterValidity(box, quarter, parts)
	if len(valid) == 0 {
		return nil, nil
	}
	lags, err := meters.ReadLags(ctx, w.registry)
	if err != nil {
		return nil, err
	}
	for reach := 2 * schema.Quarter; ; reach *= 4 {
		from, to := quarter.From.Add(-reach), quarter.To.Add(reach)
		loaded := make(map[string][]meters.Reading)
		found := make([]meter, len(valid))
		plain := make([]processors.Meter, len(valid))
		closed := true
		for i, m := range valid {
			place, lag := m.described.Place(), lags.Longest(m.described)
			if _, known := loaded[place]; !known {
				if loaded[place], err = w.readings.Load(ctx, place, from.Add(-lag), to.Add(lag)); err != nil {
					return nil, err
				}
			}
			own := slices.DeleteFunc(slices.Clone(loaded[place]), func(r meters.Reading) bool { return r.Meter != m.Name || !r.HasCounter })
			found[i] = m
			found[i].Meter = withReadings(m.Meter, lags.Shift(m.described, own), from)
			plain[i] = found[i].Meter
			intervals := plain[i].Intervals()
			closed = closed && len(intervals) > 0 && !intervals[len(intervals)-1].To.Before(quarter.To)
		}
		_, complete := processors.Span(quarter, plain)
		if complete && (closed || to.After(w.clock.Now())) || reach > maxReach {
			return found, nil
		}
	}
}

// meterValidity are the meters of the box in the quarter, by name, and when each
// of them stood there.
func meterValidity(box string, quarter schema.Window, parts []validity) []meter {
	var found []meter
	for _, part := range parts {
		for _, described := range part.fleet.MetersOfBox(box) {
			node, partial := part.fleet.NodeOfMeter(described)
			if described.Node != "" && (!partial || node.Box != box) {
				continue // its node is elsewhere: it counts nothing here
			}
			i := slices.IndexFunc(found, func(m meter) bool { return m.Name == described.Name })
			if i < 0 {
				i = len(found)
				m := meter{Meter: processors.Meter{Name: described.Name, ClassError: described.ClassError(), Cluster: node.Cluster, Node: node.Node}, described: described, boxes: part.fleet.BoxesOfMeter(described)}
				if part.From.After(quarter.From) {
					m.From = part.From
				}
				found = append(found, m)
			}
			found[i].To = time.Time{}
			if part.To.Before(quarter.To) {
				found[i].To = part.To
			}
		}
	}
	return found
}

// withReadings gives a meter its readings, which were loaded from a moment on: with
// none before it, the first is the first that there is.
func withReadings(m processors.Meter, readings []meters.Reading, from time.Time) processors.Meter {
	m.FromFirst = true
	for _, r := range readings {
		m.FromFirst = m.FromFirst && !r.Time.Before(from)
		m.Readings = append(m.Readings, processors.Reading{Time: r.Time, CounterMillijoules: r.CounterMillijoules,
			StepMillijoules: r.StepMillijoules, Epoch: r.Epoch.UnixNano(), Integrated: r.Integrated()})
	}
	return m
}

// others gives each meter that counts several boxes the other ones, with their
// nodes' minutes over span. It returns the clusters of those nodes.
func (w *Worker) others(ctx context.Context, in *processors.PowerInput, found []meter, parts []validity, span schema.Window) ([]string, error) {
	var clusters []string
	read := make(map[string]processors.OtherBox)
	for i, m := range found {
		for _, name := range m.boxes {
			if name == in.Box.Name {
				continue
			}
			other, known := read[name]
			if !known {
				var err error
				if other, err = w.otherBox(ctx, name, parts, span); err != nil {
					return nil, err
				}
				read[name] = other
			}
			in.Meters[i].Others = append(in.Meters[i].Others, other)
		}
	}
	for _, other := range read {
		for _, node := range other.Nodes {
			clusters = append(clusters, node.Cluster)
		}
	}
	slices.Sort(clusters)
	return slices.Compact(clusters), nil
}

// otherBox is what the model needs of another box, with its own meters.
func (w *Worker) otherBox(ctx context.Context, name string, parts []validity, span schema.Window) (processors.OtherBox, error) {
	other := processors.OtherBox{Name: name}
	found, err := w.meters(ctx, name, span, parts)
	if err != nil {
		return other, err
	}
	for _, m := range found {
		if m.described.Box == name && m.described.Node == "" {
			other.Meters = append(other.Meters, m.Meter)
		}
	}
	if len(other.Meters) > 0 {
		span, _ = processors.Span(span, other.Meters)
		if parts, err = w.boxValidities(ctx, span, name); err != nil {
			return other, err
		}
	}
	for _, part := range parts {
		described, _ := part.fleet.Box(name)
		other.OverheadMilliwatts = int64(math.Round(described.OverheadWatts * 1000))
		for _, node := range nodesOf(part.fleet, name) {
			read, err := w.node(ctx, name, node, part, schema.Window{From: span.From, To: span.From}, span)
			if err != nil {
				return other, err
			}
			other.Nodes = append(other.Nodes, read)
		}
	}
	return other, nil
}

// processors gives minutes of a node that do not tell what its processors counted what
// its meter of fleet.RoleRAPL says. at are the places of the minutes.
func (w *Worker) processors(ctx context.Context, node fleet.Node, f *fleet.Fleet, span schema.Window, at map[time.Time]int, minutes []processors.NodeMinute) error {
	m, ok := f.ProcessorMeter(node)
	if !ok {
		return nil
	}
	lags, err := meters.ReadLags(ctx, w.registry)
	if err != nil {
		return err
	}
	counted, err := chosen.ProcessorMinutes(ctx, w.readings, lags, m, span)
	if err != nil {
		return err
	}
	for when, i := range at {
		if energy, ok := counted[when.UTC()]; ok && !minutes[i].HasProcessor {
			minutes[i].Processor, minutes[i].HasProcessor = energy, true
		}
	}
	return nil
}
