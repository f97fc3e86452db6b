// Package calibrate measures a node's power by load: it lets a load stand on the
// node for some minutes at idle, 10, 50 and 100 % of its cores, and reads what its
// meter counted meanwhile from the leader. Whatever else runs on the node stays:
// a point is at the load that was metered, not at the one that was aimed at.
package calibrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Levels are the loads, in % of the node's cores.
var Levels = []float64{0, 10, 50, 100}

// Plan is how long each load stands.
type Plan struct {
	Idle, Hold time.Duration // without and with a load
	Drop       time.Duration // of each, its begin
	Repeats    int
}

// DefaultPlan takes about 80 minutes.
func DefaultPlan() Plan {
	return Plan{Idle: 10 * time.Minute, Hold: 5 * time.Minute, Drop: time.Minute, Repeats: 3}
}

// Validate lists all that is wrong.
func (p Plan) Validate() error {
	var wrong []error
	if p.Drop < 0 || p.Idle < p.Drop+2*schema.Minute || p.Hold < p.Drop+2*schema.Minute {
		wrong = append(wrong, fmt.Errorf("idle %s and hold %s must be 2m longer than drop %s, at least", p.Idle, p.Hold, p.Drop))
	}
	if p.Repeats < 1 || p.Repeats > 20 {
		wrong = append(wrong, fmt.Errorf("repeats: %d is not between 1 and 20", p.Repeats))
	}
	return errors.Join(wrong...)
}

// Length is how long the loads stand in all.
func (p Plan) Length() time.Duration {
	return time.Duration(p.Repeats) * (p.Idle + time.Duration(len(Levels)-1)*p.Hold)
}

// Load keeps so many thousandths of a core busy on the node; 0 ends it.
type Load interface {
	Hold(ctx context.Context, millicores int64) error
}

// Meter is the leader's answer of a window.
type Meter interface {
	Measure(ctx context.Context, node string, w schema.Window) (models.Measured, error)
}

// Times of the wait for what the leader has to receive.
const (
	poll    = 15 * time.Second
	patient = 30 * time.Minute
)

// Run runs the plan and returns the points: of each load the median of the repeats
// and their spread. progress is told each step.
func Run(ctx context.Context, node string, cores float64, plan Plan, load Load, meter Meter, clk clock.Clock, progress func(string)) (points []registry.CalibrationPoint, err error) {
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, load.Hold(context.WithoutCancel(ctx), 0)) }()
	windows := make([][]schema.Window, len(Levels))
	for repeat := range plan.Repeats {
		for i, level := range Levels {
			progress(fmt.Sprintf("repeat %d of %d: %.0f %% of %.0f cores", repeat+1, plan.Repeats, level, cores))
			w, err := hold(ctx, int64(math.Round(level*cores*10)), plan, load, clk)
			if err != nil {
				return nil, err
			}
			windows[i] = append(windows[i], w)
		}
	}
	if err := load.Hold(ctx, 0); err != nil {
		return nil, err
	}
	for i, level := range Levels {
		var measured []models.Measured
		for _, w := range windows[i] {
			m, err := await(ctx, node, w, meter, clk, progress)
			if err != nil {
				return nil, err
			}
			measured = append(measured, m)
		}
		points = append(points, pointOf(level, measured))
	}
	return points, apart(points)
}

// leastApart is how far the loads of two points must lie apart to be two points.
const leastApart = 0.025

// apart says what is wrong where a load did not make the node busier than the one
// before: then nothing can be told of it.
func apart(points []registry.CalibrationPoint) error {
	for i, p := range points {
		if i > 0 && p.Utilisation < points[i-1].Utilisation+leastApart {
			former := points[i-1]
			return fmt.Errorf("with a load of %.0f %% the node's cores were %.1f %% busy (%.1f W), with %.0f %% %.1f %% (%.1f W): something takes the load's cores, such as what else runs there, a limit, or a machine that nodes share; calibrate again when it is quiet, or enter the points with --points",
				former.Load, former.Utilisation*100, former.Watts, p.Load, p.Utilisation*100, p.Watts)
		}
	}
	return nil
}

// hold lets a load stand and returns the whole minutes of it that count.
func hold(ctx context.Context, millicores int64, plan Plan, load Load, clk clock.Clock) (schema.Window, error) {
	if err := load.Hold(ctx, millicores); err != nil {
		return schema.Window{}, err
	}
	length := plan.Hold
	if millicores == 0 {
		length = plan.Idle
	}
	from := clk.Now().Add(plan.Drop).UTC().Truncate(schema.Minute).Add(schema.Minute)
	w := schema.Window{From: from, To: from.Add((length - plan.Drop).Truncate(schema.Minute))}
	return w, clock.At(ctx, clk, w.To)
}

// await asks until the leader has all of a window.
func await(ctx context.Context, node string, w schema.Window, meter Meter, clk clock.Clock, progress func(string)) (models.Measured, error) {
	told := ""
	for end := clk.Now().Add(patient); ; {
		m, err := meter.Measure(ctx, node, w)
		if err != nil {
			return m, err
		}
		if m.Ready {
			for _, other := range m.Others {
				if !other.Idle {
					return m, fmt.Errorf("node %s, behind the same meter, was busy (%.0f %% of its cores) in %s: let it be idle, or give node %s a meter of its own", other.Node, other.Utilisation*100, w, node)
				}
			}
			if m.Watts <= 0 {
				return m, fmt.Errorf("the meter showed %.1f W in %s, no more than the %.1f W of the box's overhead and its other nodes", m.MeterWatts, w, m.OtherWatts)
			}
			return m, nil
		}
		if m.Why != told {
			told = m.Why
			progress("waiting: " + told)
		}
		if clk.Now().After(end) {
			return m, fmt.Errorf("after %s: %s", patient, m.Why)
		}
		if err := clk.Sleep(ctx, poll); err != nil {
			return m, err
		}
	}
}

// pointOf is the median of the repeats, at the load that was metered.
func pointOf(level float64, measured []models.Measured) registry.CalibrationPoint {
	middle := func(of func(models.Measured) float64) (median, spread float64) {
		var values []float64
		for _, m := range measured {
			values = append(values, of(m))
		}
		slices.Sort(values)
		n := len(values)
		return (values[(n-1)/2] + values[n/2]) / 2, values[n-1] - values[0]
	}
	p := registry.CalibrationPoint{Load: level, Repeats: len(measured)}
	p.Watts, p.SpreadWatts = middle(func(m models.Measured) float64 { return m.Watts })
	p.Utilisation, _ = middle(func(m models.Measured) float64 { return m.Utilisation })
	for _, m := range measured {
		p.Seconds += m.To.Sub(m.From).Seconds()
	}
	return p
}
