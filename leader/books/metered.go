package books

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// ExplainedBox is what the meters of a box counted on a day of a cluster.
type ExplainedBox struct {
	Box     string    `json:"box"`
	Cluster string    `json:"cluster"`
	Date    string    `json:"date"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	// Measured is the box's energy by closed meter intervals, as it was split, and
	// Carried what of it the cluster's namespaces carry, whoever's they are.
	Measured int64            `json:"measuredMillijoules"`
	Carried  int64            `json:"carriedMillijoules"`
	Meters   []ExplainedMeter `json:"meters,omitempty"`
	Note     string           `json:"note,omitempty"` // why its readings are not compared
}

// ExplainedMeter is what a meter told: its closed intervals, without a gap in each
// run, by the readings at the day's edges and about every hour between them. Times
// are those of the usage that was counted: the meter's lag is taken off.
type ExplainedMeter struct {
	Meter string               `json:"meter"`
	Runs  [][]ExplainedReading `json:"runs"`
}

// ExplainedReading is a counter at a moment.
type ExplainedReading struct {
	At      time.Time `json:"at"`
	Counter int64     `json:"counterMillijoules"`
}

// aroundDay is how far before and after a day the readings that bound its intervals
// are looked for.
const aroundDay = 2 * time.Hour

// explainMeters adds the readings of a cluster's boxes on a day, of a line of energy.
func (b *Books) explainMeters(ctx context.Context, d registry.BookDay, e *Explanation) error {
	if b.config.Readings == nil || e.Line.Kind != KindUsage || processors.Resource(e.Line.Resource) != processors.Energy {
		return nil
	}
	snapshot, err := b.registry.Fleet(ctx, d.Window.From)
	if err != nil {
		return fmt.Errorf("read fleet: %w", err)
	}
	later, err := b.registry.Fleet(ctx, d.Window.To.Add(-time.Second))
	if err != nil {
		return fmt.Errorf("read fleet: %w", err)
	}
	boxes := snapshot.BoxesOfCluster(d.Cluster)
	if len(boxes) == 0 {
		return nil
	}
	answer, err := b.engine.Boxes(ctx, d.Window.From.Format(time.RFC3339)+","+d.Window.To.Format(time.RFC3339))
	if err != nil {
		return err
	}
	lags, err := meters.ReadLags(ctx, b.registry)
	if err != nil {
		return err
	}
	for _, box := range boxes {
		i := slices.IndexFunc(answer.Boxes, func(row query.BoxRow) bool { return row.Box == box.Name })
		if i < 0 || answer.Boxes[i].MeasuredJoules == nil {
			continue
		}
		one := ExplainedBox{Box: box.Name, Cluster: d.Cluster, Date: e.dateOf(d), From: d.Window.From, To: d.Window.To, Measured: millijoules(*answer.Boxes[i].MeasuredJoules)}
		for key, carried := range answer.Boxes[i].AttributedJoules {
			if strings.HasPrefix(key, d.Cluster+"/") {
				one.Carried += millijoules(carried)
			}
		}
		if one.Meters, one.Note, err = b.readingsOf(ctx, snapshot, later, lags, box.Name, d); err != nil {
			return err
		}
		e.Meters = append(e.Meters, one)
	}
	return nil
}

// dateOf is a day's local date.
func (e Explanation) dateOf(d registry.BookDay) string {
	zone, err := time.LoadLocation(e.Zone)
	if err != nil {
		zone = time.UTC
	}
	return d.Window.From.In(zone).Format(time.DateOnly)
}

// millijoules is an amount of joules, which has at most three decimals.
func millijoules(joules usage.Exact) int64 {
	value, ok := new(big.Rat).SetString(joules.String())
	if !ok {
		return 0
	}
	value.Mul(value, big.NewRat(1000, 1))
	return new(big.Int).Quo(value.Num(), value.Denom()).Int64()
}

// readingsOf are the readings of a box's meters about a day, or why they say nothing
// of the box alone.
func (b *Books) readingsOf(ctx context.Context, f, later *fleet.Fleet, lags meters.Lags, box string, d registry.BookDay) ([]ExplainedMeter, string, error) {
	found := f.MetersOfBox(box)
	for _, m := range found {
		if m.Node != "" || len(f.BoxesOfMeter(m)) != 1 {
			return nil, "a meter counts a node of it, or other boxes too: its part is by the model", nil
		}
	}
	same := func(a, b fleet.Meter) bool { return a.Name == b.Name }
	if !slices.EqualFunc(found, later.MetersOfBox(box), same) {
		return nil, "its meters changed on that day", nil
	}
	var all []ExplainedMeter
	for _, m := range found {
		plain, err := b.counterOf(ctx, m, lags, d.Window)
		if err != nil {
			return nil, "", fmt.Errorf("readings of meter %s: %w", m.Name, err)
		}
		if runs := runsOf(plain.Intervals(), d); len(runs) > 0 {
			all = append(all, ExplainedMeter{m.Name, runs})
		}
	}
	if len(all) < len(found) {
		return nil, "readings of its meters have been deleted", nil
	}
	return all, "", nil
}

// counterOf is a meter with its readings about a day: from before it, however long the
// meter was silent then, or from the first that there is.
func (b *Books) counterOf(ctx context.Context, m fleet.Meter, lags meters.Lags, day schema.Window) (processors.Meter, error) {
	lag := lags.Longest(m)
	plain := processors.Meter{Name: m.Name}
	for _, back := range []time.Duration{aroundDay, 7 * 24 * time.Hour, 400 * 24 * time.Hour} {
		loaded, err := b.config.Readings.Load(ctx, m.Place(), day.From.Add(-back-lag), day.To.Add(aroundDay+lag))
		if err != nil {
			return plain, err
		}
		own := slices.DeleteFunc(loaded, func(r meters.Reading) bool { return r.Meter != m.Name || !r.HasCounter })
		plain.Readings, plain.FromFirst = nil, true
		for _, r := range lags.Shift(m, own) {
			plain.FromFirst = plain.FromFirst && !r.Time.Before(day.From)
			plain.Readings = append(plain.Readings, processors.Reading{Time: r.Time, CounterMillijoules: r.CounterMillijoules, StepMillijoules: r.StepMillijoules, Epoch: r.Epoch.UnixNano(), Integrated: r.Integrated()})
		}
		if !plain.FromFirst || len(plain.Readings) == 0 {
			break // of none, nothing that was before is needed
		}
	}
	return plain, nil
}

// runsOf are the closed intervals that overlap a day, as runs of readings without a
// gap: those at its edges, and about one an hour.
func runsOf(intervals []processors.Interval, d registry.BookDay) [][]ExplainedReading {
	var runs [][]ExplainedReading
	for _, i := range intervals {
		if !i.From.Before(d.Window.To) || !i.To.After(d.Window.From) {
			continue
		}
		start, end := ExplainedReading{i.From.UTC(), i.Start}, ExplainedReading{i.To.UTC(), i.End}
		last := len(runs) - 1
		if last < 0 || runs[last][len(runs[last])-1] != start {
			runs = append(runs, []ExplainedReading{start, end})
			continue
		}
		runs[last] = append(runs[last], end)
	}
	for k, run := range runs {
		thin := run[:1]
		for i := 1; i < len(run); i++ {
			edge := i == len(run)-1 || i == len(run)-2 && run[i+1].At.After(d.Window.To) || i == 1 && run[0].At.Before(d.Window.From)
			if edge || run[i].At.Sub(thin[len(thin)-1].At) >= time.Hour {
				thin = append(thin, run[i])
			}
		}
		runs[k] = thin
	}
	return runs
}

// counted is what the runs count inside a day, and with the intervals that reach
// over its edges.
func (m ExplainedMeter) counted(from, to time.Time) (inside, outside int64, err error) {
	for _, run := range m.Runs {
		for i := 1; i < len(run); i++ {
			if !run[i].At.After(run[i-1].At) || run[i].Counter < run[i-1].Counter {
				return 0, 0, fmt.Errorf("its counter falls at %s", run[i].At.Format(time.RFC3339))
			}
		}
		outside += run[len(run)-1].Counter - run[0].Counter
		first := slices.IndexFunc(run, func(r ExplainedReading) bool { return !r.At.Before(from) })
		last := len(run) - 1
		for last >= 0 && run[last].At.After(to) {
			last--
		}
		if first >= 0 && last > first {
			inside += run[last].Counter - run[first].Counter
		}
	}
	return inside, outside, nil
}

// verifyMeters holds the boxes' energy against their meters' readings: what the
// intervals inside a day counted is in it, and no more than with the intervals that
// reach over its edges, which minutes divide by the model.
func (e Explanation) verifyMeters() Finding {
	const what = "meters of the boxes"
	compared, without := 0, 0
	var measured int64
	for _, box := range e.Meters {
		if len(box.Meters) == 0 {
			without++
			continue
		}
		var inside, outside int64
		for _, m := range box.Meters {
			in, out, err := m.counted(box.From, box.To)
			if err != nil {
				return Finding{what, false, fmt.Sprintf("meter %s of box %s: %v", m.Meter, box.Box, err)}
			}
			inside, outside = inside+in, outside+out
		}
		switch {
		case box.Measured < inside || box.Measured > outside:
			return Finding{what, false, fmt.Sprintf("box %s on %s has %d mJ, and its meters counted %d to %d", box.Box, box.Date, box.Measured, inside, outside)}
		case box.Carried > box.Measured:
			return Finding{what, false, fmt.Sprintf("box %s on %s: cluster %s carries %d mJ of %d", box.Box, box.Date, box.Cluster, box.Carried, box.Measured)}
		}
		compared, measured = compared+1, measured+box.Measured
	}
	detail := fmt.Sprintf("%s of boxes come to %s kWh, as their meters' readings do", plural.Of(compared, "day", "days"), big.NewRat(measured, 3_600_000_000).FloatString(6))
	if without > 0 {
		detail += "; of " + plural.Of(without, "day", "days") + " the readings say nothing of the box alone, or had been deleted"
	}
	return Finding{what, true, detail}
}
