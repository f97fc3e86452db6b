package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/models"
)

// How much better a learned curve must be than what is in use: by a part of its
// error, and in per cent of the power, below which no meter of a box is good.
const (
	gain  = 0.05
	least = 0.1
)

// Outcome is what came of learning from a box.
type Outcome struct {
	Lessons int    `json:"lessons"`
	Used    bool   `json:"used"` // curves that were learned are in use
	Why     string `json:"why"`
	// Learned is what the meters taught at the last look, used or not.
	Learned *models.Learned `json:"learned,omitempty"`
	// InUse is the error of the curves in use on the same unseen windows, %.
	InUse float64 `json:"inUse,omitempty"`
	// Processors is what came of the processors' own counters; "": not all nodes have
	// them.
	Processors string `json:"processors,omitempty"`
}

// learnAll looks at each box that has a meter.
func (k *Keeper) learnAll(ctx context.Context) error {
	f, err := k.registry.Fleet(ctx, k.clock.Now())
	if err != nil {
		return err
	}
	former, err := k.registry.Learnings(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, box := range f.Boxes() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(f.MetersOfBox(box.Name)) == 0 {
			continue
		}
		if err := k.learnBox(ctx, f, box.Name, former[box.Name]); err != nil {
			k.failed.Inc()
			failures = append(failures, fmt.Errorf("learn from box %s: %w", box.Name, err))
		}
	}
	return errors.Join(failures...)
}

func (k *Keeper) learnBox(ctx context.Context, f *fleet.Fleet, box string, former registry.Learning) error {
	here, why := compose(f, box)
	state := registry.Learning{Box: box, Taken: former.Taken}
	if why != "" {
		return k.record(ctx, state, nil, Outcome{Why: why})
	}
	settled, err := k.settled(ctx, here)
	if err != nil {
		return err
	}
	if state.Taken.IsZero() {
		state.Taken = k.clock.Now().Add(-firstLook)
	}
	fresh, taken, err := k.take(ctx, box, state.Taken, settled)
	if err != nil {
		return err
	}
	if len(fresh) == 0 && former.Outcome != nil {
		var outcome Outcome
		if json.Unmarshal(former.Outcome, &outcome) == nil && outcome.Lessons > 0 {
			return nil // nothing to learn from that was not known
		}
	}
	state.Taken = taken
	if err := k.record(ctx, state, fresh, Outcome{Why: "it is being looked at"}); err != nil {
		return err
	}
	lessons, err := k.registry.Lessons(ctx, box, kept)
	if err != nil {
		return err
	}
	outcome, err := k.learn(ctx, f, box, here, lessons)
	if err != nil {
		return err
	}
	return k.record(ctx, state, nil, outcome)
}

func (k *Keeper) record(ctx context.Context, state registry.Learning, lessons []registry.Lesson, outcome Outcome) error {
	var err error
	if state.Outcome, err = json.Marshal(outcome); err != nil {
		return err
	}
	return k.registry.AddLessons(ctx, state, lessons, kept)
}

// settled is the moment up to which the clusters of all nodes have delivered.
func (k *Keeper) settled(ctx context.Context, here composition) (time.Time, error) {
	settled := k.clock.Now()
	for _, node := range here.nodes {
		received, _, err := k.registry.Extent(ctx, node.Cluster, schema.NodeMinute.Name)
		if err != nil {
			return settled, err
		}
		settled = schema.Earlier(settled, received.To)
	}
	return settled, nil
}

// learn learns from the lessons, and takes what is better into use.
func (k *Keeper) learn(ctx context.Context, f *fleet.Fleet, box string, here composition, lessons []registry.Lesson) (Outcome, error) {
	outcome := Outcome{Lessons: len(lessons)}
	if len(lessons) < models.MinWindows {
		outcome.Why = fmt.Sprintf("%d windows of its meters, with the minutes of all nodes, are fewer than %d", len(lessons), models.MinWindows)
		return outcome, nil
	}
	now := k.clock.Now()
	recorded, err := k.registry.ModelStates(ctx)
	if err != nil {
		return outcome, err
	}
	states := States(recorded)
	windows := windowsOf(lessons)
	types, inBox, err := typesOf(f, windows, states, box, nextMinute(now))
	if err != nil {
		return outcome, err
	}
	learner := models.Learner{Priors: types.general(), OverheadWatts: here.overhead}
	learned, err := learner.Learn(windows)
	if err != nil {
		if errors.Is(err, models.ErrPoints) {
			outcome.Why = err.Error()
			return outcome, nil
		}
		return outcome, err
	}
	outcome.Learned, outcome.Why = &learned, learned.Why
	unseen := windows[len(windows)-learned.Error.Windows:]
	outcome.InUse = errorOf(unseen, types.inUse(), here.overhead)
	var changed []registry.ModelState
	switch {
	case learned.Accepted && learned.Error.MAPE < min(outcome.InUse*(1-gain), outcome.InUse-least):
		if changed, err = k.adopt(ctx, box, here, types, learned, nextMinute(now)); err != nil {
			return outcome, err
		}
		outcome.Used = slices.ContainsFunc(changed, func(s registry.ModelState) bool { return len(s.Body) > 0 })
		if !outcome.Used {
			outcome.Why += "; what is known of each type is better still"
		}
	case inBox && outcome.InUse > learned.Before.MAPE:
		changed = withdraw(box, types, nextMinute(now))
		outcome.Why += "; those in use have become worse than what is known otherwise, and are not used any more"
	case !inBox:
		outcome.Why += "; that is no gain, and nothing is changed"
	default:
		outcome.Used = true
		outcome.Why += fmt.Sprintf("; those in use, learned before, are %.2f %% off and stay", outcome.InUse)
	}
	by, err := learnProcessors(lessons, here, types)
	if err != nil {
		return outcome, err
	}
	outcome.Processors = by.why
	if changed, err = withProcessors(box, here, types, changed, by, nextMinute(now)); err != nil {
		return outcome, err
	}
	_, err = k.put(ctx, changed)
	return outcome, err
}

func windowsOf(lessons []registry.Lesson) []models.Window {
	windows := make([]models.Window, len(lessons))
	for i, l := range lessons {
		windows[i] = models.Window{Time: l.At, Watts: float64(l.Milliwatts) / 1000}
		for _, name := range slices.Sorted(maps.Keys(l.Loads)) {
			for _, u := range l.Loads[name] {
				windows[i].Nodes = append(windows[i].Nodes, models.Load{Type: name, Utilisation: float64(u) / float64(processors.Full)})
			}
		}
	}
	return windows
}

// typeState is what is known of a type, and what is in use in the box.
type typeState struct {
	hardware fleet.Hardware
	general  *models.Tabulated // chosen without the box's meter
	inUse    *models.Tabulated
	inBox    bool // a learned one is

	processors *models.Counted // of what the processors count, in use in the box
	body       json.RawMessage // of the box's state; none: it has none that holds
}

type typeStates map[string]typeState

// typesOf are the types in the windows; inBox: of one of them a learned curve is
// in use.
func typesOf(f *fleet.Fleet, windows []models.Window, states States, box string, at time.Time) (types typeStates, inBox bool, err error) {
	types = make(typeStates)
	for _, w := range windows {
		for _, n := range w.Nodes {
			if _, done := types[n.Type]; done {
				continue
			}
			h, _ := f.Hardware(n.Type)
			h.Name = n.Type
			t := typeState{hardware: h}
			if t.general, err = tableOf(states, h, "", at); err != nil {
				return nil, false, err
			}
			if t.inUse, err = tableOf(states, h, box, at); err != nil {
				return nil, false, err
			}
			if s := states.at(n.Type, box, at); s != nil && len(s.Body) > 0 && s.Known == Digest(h) {
				var c Choice
				if err := json.Unmarshal(s.Body, &c); err != nil {
					return nil, false, fmt.Errorf("model of %s: %w", n.Type, err)
				}
				t.inBox, t.processors, t.body = len(c.Model) > 0, c.Processors, s.Body
			}
			inBox = inBox || t.inBox
			types[n.Type] = t
		}
	}
	return types, inBox, nil
}

func tableOf(states States, h fleet.Hardware, box string, at time.Time) (*models.Tabulated, error) {
	choice, err := states.Of(h, box, at)
	if err != nil || choice == nil {
		return nil, err
	}
	table, err := choice.table()
	return &table, err
}

func (t typeStates) general() map[string]models.Curve {
	curves := make(map[string]models.Curve)
	for name, s := range t {
		if s.general != nil {
			curves[name] = *s.general
		}
	}
	return curves
}

func (t typeStates) inUse() map[string]models.Curve {
	curves := make(map[string]models.Curve)
	for name, s := range t {
		if s.inUse != nil {
			curves[name] = *s.inUse
		}
	}
	return curves
}

// errorOf is the mean error of curves on windows, %.
func errorOf(windows []models.Window, curves map[string]models.Curve, overhead float64) float64 {
	sum := 0.0
	for _, w := range windows {
		watts := overhead
		for _, n := range w.Nodes {
			if curve, ok := curves[n.Type]; ok {
				watts += curve.At(n.Utilisation)
			}
		}
		sum += math.Abs(watts-w.Watts) / w.Watts * 100
	}
	return sum / float64(len(windows))
}

// adopt are the states of what was learned: for each type in the box the learned
// curve where it is the best that is known, else none.
func (k *Keeper) adopt(ctx context.Context, box string, here composition, types typeStates, learned models.Learned, from time.Time) ([]registry.ModelState, error) {
	// The processor knows the box's declared base: what the meter showed beside it
	// is a part of the boards'.
	extra := int64(math.Round((learned.BaseWatts - here.overhead) / float64(len(here.nodes)) * 1e6))
	var changed []registry.ModelState
	for _, name := range slices.Sorted(maps.Keys(types)) {
		t := types[name]
		table, ok := learned.Types[name]
		if !ok || !slices.ContainsFunc(here.nodes, func(n fleet.Node) bool { return n.Hardware == name }) {
			continue
		}
		table.Points = slices.Clone(table.Points)
		for i := range table.Points {
			table.Points[i].Microwatts = max(table.Points[i].Microwatts+extra, 0)
		}
		calibrations, err := k.registry.Calibrations(ctx, name)
		if err != nil {
			return nil, err
		}
		known := knownOf(t.hardware, calibrations)
		known.Learned = &table
		choice, err := choose(known)
		if err != nil {
			return nil, fmt.Errorf("choose a model of %s: %w", name, err)
		}
		state := registry.ModelState{Hardware: name, Box: box, From: from, Known: Digest(t.hardware)}
		switch {
		case choice != nil && choice.Kind == models.KindLearned:
			if state.Body, err = json.Marshal(choice); err != nil {
				return nil, err
			}
		case !t.inBox:
			continue
		}
		changed = append(changed, state)
	}
	return changed, nil
}

// withdraw ends the learned curves of a box.
func withdraw(box string, types typeStates, from time.Time) []registry.ModelState {
	var changed []registry.ModelState
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if t := types[name]; t.inBox {
			changed = append(changed, registry.ModelState{Hardware: name, Box: box, From: from, Known: Digest(t.hardware)})
		}
	}
	return changed
}
