package models

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/models"
)

// ProcessorMinutes is what a meter of fleet.RoleRAPL counted in each whole minute of
// a window, mJ. A minute at whose ends the counter is not known, or in which it began
// anew, is missing.
func ProcessorMinutes(ctx context.Context, store Readings, lags meters.Lags, m fleet.Meter, w schema.Window) (map[time.Time]int64, error) {
	lag := lags.Longest(m)
	loaded, err := store.Load(ctx, m.Place(), w.From.Add(-lag), w.To.Add(lag))
	if err != nil {
		return nil, err
	}
	own := slices.DeleteFunc(loaded, func(r meters.Reading) bool { return r.Meter != m.Name || !r.HasCounter })
	counter := make([]processors.Reading, 0, len(own))
	for _, r := range lags.Shift(m, own) {
		counter = append(counter, processors.Reading{Time: r.Time, CounterMillijoules: r.CounterMillijoules, Epoch: r.Epoch.UnixNano()})
	}
	minutes := make(map[time.Time]int64)
	for _, minute := range w.Split(schema.Minute) {
		from, known := counterAt(counter, minute.From)
		to, also := counterAt(counter, minute.To)
		if known && also && from.Epoch == to.Epoch && to.CounterMillijoules >= from.CounterMillijoules {
			minutes[minute.From.UTC()] = to.CounterMillijoules - from.CounterMillijoules
		}
	}
	return minutes, nil
}

// addProcessors gives minutes of a node that do not tell what its processors counted
// what its meter of that role says.
func (k *Keeper) addProcessors(ctx context.Context, f *fleet.Fleet, node fleet.Node, w schema.Window, loads map[time.Time]busy) error {
	m, ok := f.ProcessorMeter(node)
	if !ok {
		return nil
	}
	lags, err := meters.ReadLags(ctx, k.registry)
	if err != nil {
		return err
	}
	counted, err := ProcessorMinutes(ctx, k.readings, lags, m, schema.Window{From: w.From.Truncate(schema.Minute), To: w.To})
	if err != nil {
		return err
	}
	for at, minute := range loads {
		if energy, ok := counted[at]; ok && !minute.counted {
			minute.processor, minute.counted = energy, true
			loads[at] = minute
		}
	}
	return nil
}

// processorsOver is the mean power that a node's processors counted over a window,
// mW; not ok where a minute is missing.
func processorsOver(loads map[time.Time]busy, w schema.Window) (int64, bool) {
	var energy int64
	for at := w.From.UTC().Truncate(schema.Minute); at.Before(w.To); at = at.Add(schema.Minute) {
		minute, ok := loads[at]
		if !ok || !minute.counted || minute.processor < 0 {
			return 0, false
		}
		part := int64(schema.Earlier(at.Add(schema.Minute), w.To).Sub(schema.Later(at, w.From)))
		energy += processors.MulDiv(minute.processor, part, int64(schema.Minute))
	}
	return processors.MulDiv(energy, int64(time.Second), int64(w.Length())), true
}

// byProcessors is what a look at a box's processors came to.
type byProcessors struct {
	types map[string]models.Counted // in use from now on; those of a box stand together
	why   string                    // "": its processors were not counted
}

// learnProcessors learns from the lessons in which all processors of the box
// counted, and keeps what is best on the last of them, unseen: the new model, the one
// in use, or none, where utilisation tells more.
func learnProcessors(lessons []registry.Lesson, here composition, types typeStates) (byProcessors, error) {
	lessons = slices.DeleteFunc(slices.Clone(lessons), func(l registry.Lesson) bool { return l.Processors == nil })
	inUse, idle := make(map[string]models.Counted), make(map[string]float64)
	for name, t := range types {
		if t.processors != nil {
			inUse[name] = *t.processors
		}
		if t.inUse != nil {
			idle[name] = t.inUse.Watts(0)
		}
	}
	kept := byProcessors{types: inUse}
	if len(lessons) == 0 {
		return kept, nil
	}
	if len(lessons) < models.MinWindows {
		kept.why = fmt.Sprintf("%d windows in which all processors counted are fewer than %d", len(lessons), models.MinWindows)
		return kept, nil
	}
	windows := processorWindows(lessons)
	for _, n := range here.nodes {
		if _, known := idle[n.Hardware]; !known {
			kept.why = "nothing is known of the idle power of " + n.Hardware + ", which the split needs beside what its processors count"
			return kept, nil
		}
	}
	learned, err := models.LearnProcessors(windows, here.overhead, idle)
	if err != nil {
		return kept, err
	}
	unseen := len(windows) - learned.Error.Windows
	plain := errorOf(windowsOf(lessons[unseen:]), types.inUse(), here.overhead)
	kept.why = fmt.Sprintf("by what the processors count, on the last %d windows, unseen, %.2f %% off; by utilisation %.2f %%", learned.Error.Windows, learned.Error.MAPE, plain)
	best := plain
	if len(inUse) > 0 {
		current := models.ProcessorError(windows[unseen:], inUse, here.overhead).MAPE
		if current > plain {
			kept.types = nil
		}
		best = min(best, current)
	}
	if learned.Error.MAPE < min(best*(1-gain), best-least) {
		kept.types = learned.Types
	}
	return kept, nil
}

func processorWindows(lessons []registry.Lesson) []models.ProcessorWindow {
	windows := make([]models.ProcessorWindow, len(lessons))
	for i, l := range lessons {
		windows[i].Watts = float64(l.Milliwatts) / 1000
		for _, name := range slices.Sorted(maps.Keys(l.Processors)) {
			for _, milliwatts := range l.Processors[name] {
				windows[i].Nodes = append(windows[i].Nodes, models.ProcessorLoad{Type: name, Watts: float64(milliwatts) / 1000})
			}
		}
	}
	return windows
}

// withProcessors gives the states of a box's types their model of what processors
// count: those that changed, and those that change by it.
func withProcessors(box string, here composition, types typeStates, changed []registry.ModelState, by byProcessors, from time.Time) ([]registry.ModelState, error) {
	for name, t := range types {
		if !slices.ContainsFunc(here.nodes, func(n fleet.Node) bool { return n.Hardware == name }) {
			continue
		}
		i := slices.IndexFunc(changed, func(s registry.ModelState) bool { return s.Hardware == name })
		state := registry.ModelState{Hardware: name, Box: box, From: from, Known: Digest(t.hardware), Body: t.body}
		if i >= 0 {
			state = changed[i]
		}
		var c Choice
		if len(state.Body) > 0 {
			if err := json.Unmarshal(state.Body, &c); err != nil {
				return nil, fmt.Errorf("model of %s: %w", name, err)
			}
		}
		c.Processors = nil
		if counted, ok := by.types[name]; ok {
			c.Processors = &counted
		}
		if len(c.Model) == 0 { // what is known in general stands beside it
			c = Choice{Processors: c.Processors}
		}
		state.Body = nil
		if len(c.Model) > 0 || c.Processors != nil {
			var err error
			if state.Body, err = json.Marshal(c); err != nil {
				return nil, fmt.Errorf("model of %s: %w", name, err)
			}
		}
		switch {
		case i >= 0:
			changed[i] = state
		case !bytes.Equal(state.Body, t.body):
			changed = append(changed, state)
		}
	}
	slices.SortFunc(changed, func(a, b registry.ModelState) int { return bytes.Compare([]byte(a.Hardware), []byte(b.Hardware)) })
	return changed, nil
}
