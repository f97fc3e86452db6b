package validate

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/stress"
)

// Pod is the container under load.
type Pod interface {
	// Load sets one load: kind is cpu, ram or disk.
	Load(ctx context.Context, kind string, size int) error
	// Fetch lets it fetch the other pod's page n times.
	Fetch(ctx context.Context, n int) error
	// Readings are its own, since from, on its own clock.
	Readings(ctx context.Context, from time.Time) ([]stress.Reading, error)
}

// Meter is what is held against the pod.
type Meter interface {
	// Settled is the end of the newest window that will not change any more.
	Settled(ctx context.Context) (time.Time, error)
	// Usage is the container's in a window of whole minutes.
	Usage(ctx context.Context, w schema.Window) (Metered, error)
}

// Run runs the plan and compares. It takes Plan.Length and then until the meter
// has settled. progress is told each step; it may be nil.
func Run(ctx context.Context, plan Plan, pod Pod, meter Meter, clk clock.Clock, progress func(string)) ([]Result, error) {
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	shift, err := clockShift(ctx, pod, clk)
	if err != nil {
		return nil, err
	}
	begun := clk.Now()
	var plateaus []plateau
	for i, step := range plan.Steps {
		progress(fmt.Sprintf("step %d of %d: %d cores, %d MB of memory, %d MB of disk, %d pages", i+1, len(plan.Steps), step.Cores, step.RAM, step.Disk, step.Fetches))
		p, err := hold(ctx, step, plan, pod, clk)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		plateaus = append(plateaus, p)
	}
	if err := load(ctx, Step{}, pod); err != nil {
		return nil, err
	}
	readings, err := pod.Readings(ctx, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("read the container: %w", err)
	}
	for i := range readings {
		readings[i].Time = readings[i].Time.Add(shift)
	}
	whole := schema.Window{From: plateaus[0].window.From, To: plateaus[len(plateaus)-1].window.To}
	progress("waiting until " + whole.To.Format(time.TimeOnly) + " has settled")
	if err := settled(ctx, meter, whole.To, begun, clk); err != nil {
		return nil, err
	}
	return compare(readings, plateaus, whole, func(w schema.Window) (Metered, error) {
		m, err := meter.Usage(ctx, w)
		if err != nil {
			return Metered{}, fmt.Errorf("ask for %s: %w", w, err)
		}
		if m.Coverage == 0 {
			return Metered{}, fmt.Errorf("the meter knows nothing of the container in %s", w)
		}
		return m, nil
	})
}

// clockShift is what the container's clock lacks to ours.
func clockShift(ctx context.Context, pod Pod, clk clock.Clock) (time.Duration, error) {
	asked := clk.Now()
	readings, err := pod.Readings(ctx, time.Time{})
	if err != nil {
		return 0, fmt.Errorf("read the container: %w", err)
	}
	if len(readings) == 0 {
		return 0, fmt.Errorf("read the container: it has no readings")
	}
	middle := asked.Add(clk.Now().Sub(asked) / 2)
	shift := middle.Sub(readings[len(readings)-1].Time)
	if shift.Abs() < time.Second {
		return 0, nil // the request's own time
	}
	return shift, nil
}

// hold sets a step's loads, lets the meter's gauges follow, stays for the whole
// minutes that come then, and until the meter has read their end.
func hold(ctx context.Context, step Step, plan Plan, pod Pod, clk clock.Clock) (plateau, error) {
	if err := load(ctx, step, pod); err != nil {
		return plateau{}, err
	}
	if step.Fetches > 0 {
		if err := pod.Fetch(ctx, step.Fetches); err != nil {
			return plateau{}, fmt.Errorf("fetch: %w", err)
		}
	}
	from := clk.Now().Add(plan.before()).Truncate(schema.Minute).Add(schema.Minute)
	w := schema.Window{From: from, To: from.Add(time.Duration(plan.Minutes) * schema.Minute)}
	return plateau{step, w}, clock.At(ctx, clk, w.To.Add(plan.after()))
}

func load(ctx context.Context, step Step, pod Pod) error {
	for _, l := range []struct {
		kind string
		size int
	}{{"cpu", step.Cores}, {"ram", step.RAM}, {"disk", step.Disk}} {
		if err := pod.Load(ctx, l.kind, l.size); err != nil {
			return fmt.Errorf("load %s of %d: %w", l.kind, l.size, err)
		}
	}
	return nil
}

// Waits for the meter.
const (
	settledPoll = 5 * time.Second
	settledMost = 20 * time.Minute
)

func settled(ctx context.Context, meter Meter, to, begun time.Time, clk clock.Clock) error {
	for end := clk.Now().Add(settledMost); ; {
		at, err := meter.Settled(ctx)
		if err != nil {
			return fmt.Errorf("ask what has settled: %w", err)
		}
		if !at.Before(to) {
			return nil
		}
		if clk.Now().After(end) {
			return fmt.Errorf("the meter has settled only until %s after %s; `accumulus status` says why", at.Format(time.RFC3339), clk.Now().Sub(begun).Round(time.Second))
		}
		if err := clk.Sleep(ctx, settledPoll); err != nil {
			return err
		}
	}
}
