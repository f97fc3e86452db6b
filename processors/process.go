package processors

import (
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Process distributes the box's energy over its nodes and pods, for the settled
// minutes of the window.
func (p Power) Process(in PowerInput) (PowerResult, error) {
	in = in.canonical()
	if err := in.check(); err != nil {
		return PowerResult{}, fmt.Errorf("check input of box %s: %w", in.Box.Name, err)
	}
	run, err := p.newRun(in)
	if err != nil {
		return PowerResult{}, fmt.Errorf("model box %s: %w", in.Box.Name, err)
	}
	result := PowerResult{Metered: len(in.Meters) > 0, Provisional: run.end.Before(in.Window.To)}
	for _, w := range (schema.Window{From: in.Window.From, To: run.end}).Split(schema.Minute) {
		minute, rows := run.minute(w)
		if result.Rows == nil { // the others are much alike
			minutes := int(run.end.Sub(in.Window.From) / schema.Minute)
			result.Rows = make([]EnergyRow, 0, minutes*len(rows))
		}
		result.Minutes = append(result.Minutes, minute)
		result.Rows = append(result.Rows, rows...)
		if err := result.Box.add(minute.BoxEnergy); err != nil {
			return PowerResult{}, fmt.Errorf("add up box %s: %w", in.Box.Name, err)
		}
	}
	result.Intervals = run.summaries()
	result.Provisional = result.Provisional || slices.ContainsFunc(result.Intervals, func(i IntervalSummary) bool { return !i.Closed })
	return result, nil
}

// powerRun is one box and window in work.
type powerRun struct {
	in         PowerInput
	power      Model
	model      *timeline
	end        time.Time  // of the minutes processed
	meters     []coverage // of the box
	parts      []nodePart // of its nodes
	attributed [][]int64  // per meter and interval: mJ that went into rows
	gain       int64      // error of the meters, 1e-6
	shared     bool       // by customers, or its meter with other boxes
}

func (p Power) newRun(in PowerInput) (*powerRun, error) {
	span, _ := Span(in.Window, in.Meters)
	model, err := newTimeline(span, in, p.model())
	if err != nil {
		return nil, err
	}
	settled := in.settled(span)
	r := &powerRun{in: in, gain: gainOf(in.Meters), shared: in.Box.Shared || slices.ContainsFunc(in.Meters, func(m Meter) bool { return len(m.Others) > 0 }),
		power: p.model(), model: model, end: schema.Later(schema.Earlier(in.Window.To, settled), in.Window.From)}
	if r.meters, r.parts, err = p.coverages(in, span, settled, model); err != nil {
		return nil, err
	}
	for _, c := range r.meters {
		r.attributed = append(r.attributed, make([]int64, len(c.intervals)))
	}
	return r, nil
}

// settled is the end of the minutes that are settled.
func (in PowerInput) settled(span schema.Window) time.Time {
	if in.Settled.IsZero() {
		return span.To
	}
	return in.Settled.UTC().Truncate(schema.Minute)
}

// minute is the box's energy in one minute and its rows.
func (r *powerRun) minute(w schema.Window) (BoxMinute, []EnergyRow) {
	nodes, complete := r.present(w.From)
	split := newMinuteSplit(r.in.Box, w.From, nodes, r.power)
	energy, covered, integrated := r.energy(w)
	total := energy.Measured + energy.Provisional + energy.Estimated
	quality := schema.Mixed
	switch {
	case covered == 0 && energy.Measured == 0 || !complete:
		quality = schema.Estimated
	case covered == w.Length() && !integrated:
		quality = schema.Measured
	}
	fixed := r.fixed(w, nodes)
	split.fixed = fixed
	parts := split.share(total)
	split.fixed = nil
	model := split.share(energy.Modelled)
	totals := make([]int64, len(parts))
	for i := range parts {
		totals[i] = parts[i].total()
	}
	measured := LargestRemainder(energy.Measured, totals)
	off := newSplitErrors(split, r.gain, r.shared, fixed)
	node := 0
	for i := range split.rows {
		for node < len(split.nodes) && i >= split.nodes[node].first+len(split.nodes[node].active) {
			node++
		}
		row := &split.rows[i]
		row.Active, row.Idle, row.Overhead = parts[i].active, parts[i].idle, parts[i].overhead
		row.Modelled, row.Quality = model[i].total(), quality
		if measured != nil {
			row.Measured = measured[i]
		}
		row.Uncertainty = off.of(node, parts[i], row.Measured)
		energy.Attributed += row.Measured
	}
	energy.Residual = energy.Measured - energy.Attributed
	if covered > 0 && split.idleAbove(total) {
		energy.IdleAboveMeter = 1
	}
	return BoxMinute{Time: w.From, BoxEnergy: energy, Quality: quality}, split.rows
}

// present is the rows of the nodes that are in the box in the minute, and
// whether each of them has one that was read.
func (r *powerRun) present(minute time.Time) (nodes []present, complete bool) {
	complete = true
	for _, node := range r.in.Nodes {
		if !node.validAt(minute) {
			continue
		}
		i, found := slices.BinarySearchFunc(node.Minutes, minute, func(row NodeMinute, t time.Time) int { return row.Time.Compare(t) })
		if !found {
			complete = false
			continue
		}
		complete = complete && !node.Minutes[i].Estimated
		nodes = append(nodes, present{node, node.Minutes[i]})
	}
	return nodes, complete
}

// energy is the box's energy in a minute before it is distributed, for how long of
// it all meters have closed intervals, and whether any of those is of watts.
func (r *powerRun) energy(w schema.Window) (e BoxEnergy, covered time.Duration, integrated bool) {
	start, before := r.model.at(w.From), int64(0)
	cuts := r.cuts(w)
	for i := 1; i < len(cuts); i++ {
		from, to := cuts[i-1], cuts[i]
		sofar := (r.model.at(to) - start) / 1000 // mJ
		model := sofar - before
		before = sofar
		e.Modelled += model
		intervals, closed, open := r.closed(from, to)
		switch {
		case closed:
			covered += to.Sub(from)
			e.MeasuredModel += model
			for m, interval := range intervals {
				if interval < 0 {
					continue
				}
				growth := r.meters[m].growth(interval, from, to)
				integrated = integrated || r.meters[m].intervals[interval].Integrated
				r.attributed[m][interval] += growth
				e.Measured += growth
			}
		default:
			growth, known := r.counted(from, to)
			e.Measured += growth
			e.MeasuredModel += known
			if rest := max(model-known, 0); open {
				e.Provisional += rest
			} else {
				e.Estimated += rest
			}
		}
	}
	return e, covered, integrated
}

// cuts is the minute's edges and, within it, the ends of the meters' intervals
// and validities, in order.
func (r *powerRun) cuts(w schema.Window) []time.Time {
	cuts := []time.Time{w.From, w.To}
	add := func(t time.Time) {
		if t.After(w.From) && t.Before(w.To) {
			cuts = append(cuts, t)
		}
	}
	all := r.meters
	for _, part := range r.parts {
		all = append(slices.Clip(all), part.coverage)
	}
	for _, c := range all {
		add(c.meter.From)
		add(c.meter.To)
		for _, i := range c.within(w) {
			add(i.From)
			add(i.To)
		}
	}
	slices.SortFunc(cuts, time.Time.Compare)
	return slices.CompactFunc(cuts, time.Time.Equal)
}

// closed says whether all meters that are valid in [from, to) have closed
// intervals over it, in which interval of each meter it lies (-1: none), and
// if not, whether that may still come.
func (r *powerRun) closed(from, to time.Time) (intervals []int, closed, open bool) {
	intervals = make([]int, len(r.meters))
	valid := 0
	closed = true
	for m, c := range r.meters {
		intervals[m] = -1
		if !c.meter.validAt(from) {
			continue
		}
		valid++
		if intervals[m] = c.find(from, to); intervals[m] < 0 {
			closed = false
			open = open || c.open(from)
		}
	}
	return intervals, closed && valid > 0, open
}

// summaries is what became of each meter interval inside the minutes processed.
func (r *powerRun) summaries() []IntervalSummary {
	var all []IntervalSummary
	processed := schema.Window{From: r.in.Window.From, To: r.end}
	for m, c := range r.meters {
		for i, interval := range c.intervals {
			if !interval.overlaps(processed) {
				continue
			}
			from, to := schema.Later(interval.From, processed.From), schema.Earlier(interval.To, processed.To)
			s := IntervalSummary{Meter: c.meter.Name, From: interval.From, To: interval.To, Closed: true,
				Measured: c.growth(i, from, to), Modelled: r.model.between(from, to) / 1000, Attributed: r.attributed[m][i]}
			s.Residual = s.Measured - s.Attributed
			all = append(all, s)
		}
		if from, open := c.openFrom(processed); open {
			all = append(all, IntervalSummary{Meter: c.meter.Name, From: from, To: processed.To,
				Modelled: r.model.between(schema.Later(from, processed.From), processed.To) / 1000})
		}
	}
	return all
}

func (e *BoxEnergy) add(o BoxEnergy) error {
	for _, pair := range []struct {
		sum *int64
		v   int64
	}{
		{&e.Measured, o.Measured}, {&e.MeasuredModel, o.MeasuredModel}, {&e.Attributed, o.Attributed},
		{&e.Residual, o.Residual}, {&e.Provisional, o.Provisional}, {&e.Estimated, o.Estimated},
		{&e.Modelled, o.Modelled}, {&e.IdleAboveMeter, o.IdleAboveMeter},
	} {
		sum, err := Sum(*pair.sum, pair.v)
		if err != nil {
			return err
		}
		*pair.sum = sum
	}
	return nil
}
