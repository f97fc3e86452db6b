// Package models keeps the power model of each hardware type: of what its owner
// said of it, of calibrations, and of what the meters of boxes taught, it chooses
// by evidence, and records the choice as a state with a validity.
//
// It guarantees that a model does not change the past unless it is asked to: a
// state begins at the next whole minute, or where the fact begins that it follows
// from. The same knowledge records nothing a second time. A curve that was learned
// is taken only if on windows that it has not seen it is better than what is in
// use. It computes no energy: package work reads the states.
package models

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/models"
)

// Choice is the model that was chosen for a type, as it is stored.
type Choice struct {
	Kind       models.Kind     `json:"kind,omitempty"`
	Why        string          `json:"why,omitempty"`
	Model      json.RawMessage `json:"model,omitempty"` // of utilisation; none in a box: what holds in general
	Candidates []Candidate     `json:"candidates,omitempty"`
	// Processors is a model of what the processors count (RAPL), for the minutes that
	// they count, where a box's meter showed it to be better than that of utilisation.
	Processors *models.Counted `json:"processors,omitempty"`
}

// Candidate is a model that could be made of what is known.
type Candidate struct {
	Kind  models.Kind     `json:"kind"`
	Error models.Evidence `json:"error"`
}

// Hardware is the choice as the power processor takes it.
func (c Choice) Hardware() (processors.Hardware, error) {
	t, err := c.table()
	hardware := t.Hardware()
	if err == nil && c.Processors != nil {
		hardware.Processor, err = c.Processors.Processor()
	}
	return hardware, err
}

func (c Choice) table() (models.Tabulated, error) {
	m, err := models.Decode(c.Model)
	if err != nil {
		return models.Tabulated{}, err
	}
	t, ok := m.(models.Tabulated)
	if !ok {
		return t, fmt.Errorf("model of kind %s reads counters, and none are metered", m.Kind())
	}
	return t, nil
}

// choose is the best of what can be made of what is known; none, without an
// error, if nothing is.
func choose(known models.Known) (*Choice, error) {
	candidates, err := known.Candidates()
	if err != nil || len(candidates) == 0 {
		return nil, err
	}
	best, why := models.Choose(models.Sample{Utilisation: 0.5}, candidates...)
	if best == nil {
		return nil, nil
	}
	c := &Choice{Kind: best.Kind(), Why: why}
	for _, m := range candidates {
		c.Candidates = append(c.Candidates, Candidate{m.Kind(), m.Evidence()})
	}
	c.Model, err = json.Marshal(best)
	return c, err
}

// Digest tells what its owner says of a type's power from anything else that he
// might say.
func Digest(h fleet.Hardware) string {
	text, _ := json.Marshal([]any{h.IdleWatts, h.MaxWatts, h.Curve, h.Year}) // numbers, which Validate has looked at
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// knownOf is what is known of a type: what its owner said, and calibrations in
// the order in which they were measured.
func knownOf(h fleet.Hardware, calibrations []registry.Calibration) models.Known {
	known := models.Known{IdleWatts: h.IdleWatts, MaxWatts: h.MaxWatts, Year: h.Year, Measured: measured(calibrations)}
	for _, p := range h.Curve {
		if p.Watts > 0 && !slices.ContainsFunc(known.Measured, func(m models.Point) bool { return sameLevel(m.Utilisation, p.Load/100) }) {
			known.Measured = append(known.Measured, models.Point{Utilisation: p.Load / 100, Watts: p.Watts})
		}
	}
	slices.SortFunc(known.Measured, func(a, b models.Point) int { return cmp.Compare(a.Utilisation, b.Utilisation) })
	return known
}

// sameLevel says whether two loads are so near that one point is enough.
func sameLevel(a, b float64) bool { return a-b < 0.025 && b-a < 0.025 }

// measured are the points of calibrations: of each node its newest at each load,
// and over the nodes their median.
func measured(calibrations []registry.Calibration) []models.Point {
	type place struct {
		cluster, node string
		load          float64
	}
	newest := make(map[place]registry.CalibrationPoint)
	byLoad := make(map[float64][]models.Point)
	for _, c := range calibrations {
		for _, p := range c.Points {
			newest[place{c.Cluster, c.Node, p.Load}] = p
		}
	}
	for at, p := range newest {
		byLoad[at.load] = append(byLoad[at.load], models.Point{Utilisation: p.Utilisation, Watts: p.Watts})
	}
	var points []models.Point
	for _, of := range byLoad {
		p := models.Point{Utilisation: median(of, func(p models.Point) float64 { return p.Utilisation }), Watts: median(of, func(p models.Point) float64 { return p.Watts })}
		points = append(points, p)
	}
	slices.SortFunc(points, func(a, b models.Point) int {
		return cmp.Or(cmp.Compare(a.Utilisation, b.Utilisation), cmp.Compare(a.Watts, b.Watts))
	})
	return slices.CompactFunc(points, func(a, b models.Point) bool { return a.Utilisation == b.Utilisation })
}

// median of a list that is not empty; of an even number the mean of the two.
func median(points []models.Point, of func(models.Point) float64) float64 {
	values := make([]float64, len(points))
	for i, p := range points {
		values[i] = of(p)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// States are the recorded states, as the registry returns them.
type States []registry.ModelState

// Of is the choice for a type in a box at a moment: what was learned in the box,
// else what holds in general; nil if there is none that follows from what its
// owner says of it. What was learned of the processors' counters in the box stands
// beside either.
func (s States) Of(h fleet.Hardware, box string, at time.Time) (*Choice, error) {
	var counted *models.Counted
	for _, where := range []string{box, ""} {
		state := s.at(h.Name, where, at)
		if state == nil || len(state.Body) == 0 || state.Known != Digest(h) {
			continue
		}
		var c Choice
		if err := json.Unmarshal(state.Body, &c); err != nil {
			return nil, fmt.Errorf("model of %s since %s: %w", h.Name, state.From.Format(time.RFC3339), err)
		}
		if c.Processors == nil {
			c.Processors = counted
		}
		if counted = c.Processors; len(c.Model) == 0 {
			continue
		}
		return &c, nil
	}
	return nil, nil
}

// at is the newest state of a type and box that has begun.
func (s States) at(hardware, box string, at time.Time) *registry.ModelState {
	var found *registry.ModelState
	for i := range s {
		if s[i].Hardware == hardware && s[i].Box == box && !s[i].From.After(at) {
			found = &s[i]
		}
	}
	return found
}

// next is when the type's first model after the moment begins in that box; nil for none.
func (s States) next(hardware, box string, after time.Time) *time.Time {
	for i := range s {
		if s[i].Hardware == hardware && s[i].Box == box && s[i].From.After(after) {
			return &s[i].From
		}
	}
	return nil
}

// Cuts are the moments within the window at which a model that may count in one of
// the boxes began.
func (s States) Cuts(w schema.Window, boxes ...string) []time.Time {
	var cuts []time.Time
	for _, state := range s {
		if (state.Box == "" || slices.Contains(boxes, state.Box)) && state.From.After(w.From) && state.From.Before(w.To) {
			cuts = append(cuts, state.From)
		}
	}
	return cuts
}

// general are the states that what is known makes new, from since on; a zero
// since is where each fact begins.
func (k *Keeper) general(ctx context.Context, since time.Time, only string) ([]registry.ModelState, error) {
	now := k.clock.Now()
	f, err := k.registry.Fleet(ctx, now)
	if err != nil {
		return nil, err
	}
	states, err := k.registry.ModelStates(ctx)
	if err != nil {
		return nil, err
	}
	versions, err := k.registry.History(ctx, fleet.KindHardware, schema.Window{From: now, To: now.Add(1)})
	if err != nil {
		return nil, err
	}
	var changed []registry.ModelState
	for _, version := range versions {
		h, ok := f.Hardware(version.Name())
		if !ok || only != "" && only != h.Name {
			continue
		}
		calibrations, err := k.registry.Calibrations(ctx, h.Name)
		if err != nil {
			return nil, err
		}
		choice, err := choose(knownOf(h, calibrations))
		if err != nil {
			k.log.Warn("no model can be made of what is known of a hardware type", "hardware", h.Name, "err", err)
			continue
		}
		if choice == nil {
			continue
		}
		state := registry.ModelState{Hardware: h.Name, Known: Digest(h)}
		if state.Body, err = json.Marshal(choice); err != nil {
			return nil, fmt.Errorf("model of %s: %w", h.Name, err)
		}
		if begin(&state, states, version.ValidFrom, since, now) {
			changed = append(changed, state)
		}
	}
	return changed, nil
}

// begin sets where a new state begins, and says whether it is new. It follows the
// fact that changed (a type that was described anew, from then on), but never to
// before the first state: what was computed without a model stays.
func begin(state *registry.ModelState, states []registry.ModelState, valid, since, now time.Time) bool {
	var first, last *registry.ModelState
	for i := range states {
		if s := &states[i]; s.Hardware == state.Hardware && s.Box == state.Box {
			if first == nil {
				first = s
			}
			last = s
		}
	}
	same := last != nil && last.Known == state.Known && bytes.Equal(last.Body, state.Body)
	switch {
	case !since.IsZero():
		state.From = since.UTC().Truncate(schema.Minute)
		return !same || last.From.After(state.From)
	case same:
		return false
	}
	state.From = nextMinute(now)
	if last != nil && last.Known != state.Known {
		state.From = schema.Earlier(schema.Later(valid, first.From), state.From)
	}
	return true
}

// nextMinute is the first whole minute that has not begun: no meter interval that
// has closed reaches into it.
func nextMinute(now time.Time) time.Time {
	return now.UTC().Truncate(schema.Minute).Add(schema.Minute)
}
