package models

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/models"
)

// Answer is which models are in use, and what they come from.
type Answer struct {
	Now          time.Time              `json:"now"`
	Models       []InUse                `json:"models"`
	Calibrations []registry.Calibration `json:"calibrations"`
	Learning     []BoxLearning          `json:"learning"` // what each box's meters taught
}

// InUse is the model of a type, in general or in a box.
type InUse struct {
	Hardware string `json:"hardware"`
	Box      string `json:"box,omitempty"`
	// Kind is that of the model; "line" without a From is the watts that the type's
	// owner gave, "none" that he gave none: then power is by core.
	Kind models.Kind `json:"kind"`
	From *time.Time  `json:"from,omitempty"`
	// Next is when a model takes this one's place that is chosen and has not begun: at
	// the next whole minute. Nil where none is.
	Next         *time.Time      `json:"next,omitempty"`
	Why          string          `json:"why"`
	ErrorPercent float64         `json:"errorPercent,omitempty"` // mean, on what it had not seen
	P95Percent   float64         `json:"p95Percent,omitempty"`
	Source       string          `json:"source,omitempty"` // what the error was seen on
	Points       []LevelWatts    `json:"points,omitempty"` // of the curve
	Measured     []LevelWatts    `json:"measured,omitempty"`
	Prior        string          `json:"prior,omitempty"` // where what was not measured comes from
	Candidates   []Candidate     `json:"candidates,omitempty"`
	Model        json.RawMessage `json:"model,omitempty"` // as it is stored
	// Processors is a model of what the processors count, by which the minutes go that
	// have the counter; the others go by the curve. Kind is then KindRAPL, and the error
	// is this one's.
	Processors *ProcessorsInUse `json:"processors,omitempty"`
}

// ProcessorsInUse is a base and a slope over what a node's processors count (RAPL).
type ProcessorsInUse struct {
	BaseWatts float64     `json:"baseWatts"`
	Slope     float64     `json:"slope"`     // joules at the wall for one that they count
	Otherwise models.Kind `json:"otherwise"` // the kind of model of the minutes without the counter
}

// LevelWatts is a power at a load.
type LevelWatts struct {
	Load  float64 `json:"load"` // %
	Watts float64 `json:"watts"`
}

// BoxLearning is what came of the look at a box.
type BoxLearning struct {
	Box     string    `json:"box"`
	At      time.Time `json:"at"`
	Taken   time.Time `json:"taken"` // what the meters counted until then has been looked at
	Outcome Outcome   `json:"outcome"`
}

// shown are the loads whose watts an answer has.
var shown = []float64{0, 10, 25, 50, 75, 100}

// Answer is the state now.
func (k *Keeper) Answer(ctx context.Context) (Answer, error) {
	now := k.clock.Now()
	a := Answer{Now: now, Models: []InUse{}, Calibrations: []registry.Calibration{}, Learning: []BoxLearning{}}
	f, err := k.registry.Fleet(ctx, now)
	if err != nil {
		return a, err
	}
	recorded, err := k.registry.ModelStates(ctx)
	if err != nil {
		return a, err
	}
	states := States(recorded)
	for _, h := range f.HardwareTypes() {
		general, err := inUse(states, h.Name, "", now)
		if err != nil {
			return a, err
		}
		choice, err := states.Of(h, "", now)
		if err != nil {
			return a, err
		}
		if choice == nil {
			general = &InUse{Hardware: h.Name, Kind: models.KindLine, Why: "the watts that its owner gave: no model has begun yet"}
			if general.Measured = []LevelWatts{{0, h.IdleWatts}, {100, h.MaxWatts}}; h.MaxWatts <= 0 {
				general.Kind, general.Measured, general.Why = "none", nil, "nothing is known of its power: so much for each core; give idleWatts and maxWatts, or calibrate a node"
			}
		}
		general.Next = states.next(h.Name, "", now)
		a.Models = append(a.Models, *general)
		for _, box := range f.Boxes() {
			s := states.at(h.Name, box.Name, now)
			if s == nil || len(s.Body) == 0 || s.Known != Digest(h) {
				continue
			}
			in, err := inUse(states, h.Name, box.Name, now)
			if err != nil {
				return a, err
			}
			in.Next = states.next(h.Name, box.Name, now)
			a.Models = append(a.Models, *in)
		}
	}
	if a.Calibrations, err = k.registry.Calibrations(ctx, ""); err != nil {
		return a, err
	}
	learnings, err := k.registry.Learnings(ctx)
	if err != nil {
		return a, err
	}
	for _, box := range f.Boxes() {
		l, ok := learnings[box.Name]
		if !ok {
			continue
		}
		one := BoxLearning{Box: box.Name, At: l.At, Taken: l.Taken}
		if err := json.Unmarshal(l.Outcome, &one.Outcome); err != nil {
			return a, err
		}
		a.Learning = append(a.Learning, one)
	}
	return a, nil
}

// inUse is the state of a type and box as it is told; nil if there is none.
func inUse(states States, hardware, box string, at time.Time) (*InUse, error) {
	s := states.at(hardware, box, at)
	if s == nil || len(s.Body) == 0 {
		return nil, nil
	}
	var c Choice
	if err := json.Unmarshal(s.Body, &c); err != nil {
		return nil, err
	}
	if general := states.at(hardware, "", at); len(c.Model) == 0 && general != nil && len(general.Body) > 0 {
		counted := c.Processors
		if err := json.Unmarshal(general.Body, &c); err != nil {
			return nil, err
		}
		c.Processors = counted
	}
	t, err := c.table()
	if err != nil {
		return nil, err
	}
	in := &InUse{Hardware: hardware, Box: box, Kind: c.Kind, From: &s.From, Why: c.Why, ErrorPercent: t.Error.MAPE, P95Percent: t.Error.P95,
		Source: t.Error.Source, Prior: t.Prior, Candidates: c.Candidates, Model: c.Model}
	for _, load := range shown {
		in.Points = append(in.Points, LevelWatts{load, t.Watts(load / 100)})
	}
	for _, p := range t.Measured {
		in.Measured = append(in.Measured, LevelWatts{p.Utilisation * 100, p.Watts})
	}
	if c.Processors != nil {
		return in, in.byProcessors(*c.Processors)
	}
	return in, nil
}

// byProcessors tells of a model of what the processors count in the place of the
// curve, which stays for the minutes without their counter.
func (in *InUse) byProcessors(c models.Counted) error {
	p, err := c.Processor()
	if err != nil {
		return err
	}
	in.Processors = &ProcessorsInUse{BaseWatts: float64(p.BaseMicrowatts) / 1e6, Slope: float64(p.Slope) / 1e6, Otherwise: in.Kind}
	in.Candidates = append(slices.Clone(in.Candidates), Candidate{models.KindRAPL, c.Error})
	in.Why = fmt.Sprintf("%s: %s; minutes without the counter by %s", models.KindRAPL, c.Error, in.Kind)
	in.Kind, in.ErrorPercent, in.P95Percent, in.Source = models.KindRAPL, c.Error.MAPE, c.Error.P95, c.Error.Source
	return nil
}
