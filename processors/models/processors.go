package models

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/accumulus-metering/accumulus/processors"
)

// ProcessorWindow is a box in a window of its meter, with what the processors of all
// of its nodes counted of themselves.
type ProcessorWindow struct {
	Watts float64 // the mean that the meter showed
	Nodes []ProcessorLoad
}

// ProcessorLoad is a node in it.
type ProcessorLoad struct {
	Type  string  // of hardware
	Watts float64 // the mean that its processors and their memory counted (RAPL)
}

// wallOfRAPL is how many joules at the wall one joule of RAPL stands for where the
// windows do not say: kepler-model-db's nx12, packages and memory against its power
// supply, P = 86.2 W + 1.144 · RAPL.
const wallOfRAPL = 1.144

// raplUnit is the count at which a slope is written down: 1 kW.
const raplUnit = 1_000_000_000

// ByProcessors is what a box's meter taught of its types by what their processors
// count.
type ByProcessors struct {
	Types map[string]Counted
	Error Evidence // of the box, on the last windows, which it had not seen
}

// LearnProcessors learns each type's base and slope over what its processors count,
// from the box's meter, by least squares with nothing negative. The windows are in
// the order of time; the last, held back, tell the error. idle is what a node of
// each type draws without work, as far as known: with several types the meter shows
// only the sum of their bases. It fails on fewer than MinWindows.
func LearnProcessors(windows []ProcessorWindow, overheadWatts float64, idle map[string]float64) (ByProcessors, error) {
	if len(windows) < MinWindows {
		return ByProcessors{}, fmt.Errorf("%d windows in which all processors counted, fewer than %d: %w", len(windows), MinWindows, ErrPoints)
	}
	for i, w := range windows {
		if !(w.Watts > 0) || !finite(w.Watts) || len(w.Nodes) == 0 {
			return ByProcessors{}, fmt.Errorf("window %d: %v W of %d nodes: %w", i, w.Watts, len(w.Nodes), ErrPoints)
		}
		for _, n := range w.Nodes {
			if !(n.Watts >= 0) || !finite(n.Watts) {
				return ByProcessors{}, fmt.Errorf("window %d: the processors of a node of type %q counted %v W: %w", i, n.Type, n.Watts, ErrPoints)
			}
		}
	}
	seen := len(windows) - max(int(float64(len(windows))*unseenShare), 1)
	trial, err := fitProcessors(windows[:seen], overheadWatts, idle)
	if err != nil {
		return ByProcessors{}, err
	}
	learned := ByProcessors{}
	if learned.Types, err = fitProcessors(windows, overheadWatts, idle); err != nil {
		return learned, err
	}
	learned.Error = ProcessorError(windows[seen:], trial, overheadWatts)
	for name, c := range learned.Types {
		c.Error = learned.Error
		if len(learned.Types) > 1 { // as of learned curves: see evidenceOf
			c.Error.MAPE, c.Error.P95 = max(c.Error.MAPE, 2.3), max(c.Error.P95, 6.7)
		}
		learned.Types[name] = c
	}
	return learned, nil
}

// ProcessorError is how far models of what processors count are off on windows of a
// box; a type without a model draws nothing.
func ProcessorError(windows []ProcessorWindow, types map[string]Counted, overheadWatts float64) Evidence {
	errors := make([]float64, 0, len(windows))
	sum := 0.0
	for _, w := range windows {
		watts := overheadWatts
		for _, n := range w.Nodes {
			microwatts, _ := types[n.Type].Predict(Sample{Counts: map[Counter]float64{RAPL: n.Watts * 1e6}})
			watts += float64(microwatts) / 1e6
		}
		errors = append(errors, math.Abs(watts-w.Watts)/w.Watts*100)
		sum += errors[len(errors)-1]
	}
	slices.Sort(errors)
	return Evidence{MAPE: sum / float64(len(errors)), P95: errors[len(errors)*95/100], Windows: len(windows),
		Source: fmt.Sprintf("the box's meter, %d unseen windows", len(windows))}
}

// fitProcessors fits a base and a slope of each type; a little ties them to what is
// likely.
func fitProcessors(windows []ProcessorWindow, overheadWatts float64, idle map[string]float64) (map[string]Counted, error) {
	least := make(map[string]float64)
	mean, nodes := 0.0, 0
	for _, w := range windows {
		mean += w.Watts / float64(len(windows))
		nodes = max(nodes, len(w.Nodes))
		for _, n := range w.Nodes {
			if before, known := least[n.Type]; !known || n.Watts < before {
				least[n.Type] = n.Watts
			}
		}
	}
	names := slices.Sorted(maps.Keys(least))
	unit := max(mean/float64(nodes), 1e-3) // of bases
	bases := make([]float64, len(names))   // that are likely, in units
	for i, name := range names {
		if bases[i] = 0.3; idle[name] > 0 {
			bases[i] = max(idle[name]-wallOfRAPL*least[name], 0) / unit
		}
	}
	e := newNormal(2 * len(names))
	row := make([]float64, 2*len(names))
	for _, w := range windows {
		clear(row)
		for _, n := range w.Nodes {
			i, _ := slices.BinarySearch(names, n.Type)
			row[2*i] += unit / mean
			row[2*i+1] += wallOfRAPL * n.Watts / mean
		}
		e.add(row, (w.Watts-overheadWatts)/mean, 1)
	}
	for i, base := range bases {
		e.pull(2*i, base, ridge/(typicalError*typicalError))
		e.pull(2*i+1, 1, ridge/(typicalError*typicalError))
	}
	multiple, err := nnls(e.a, e.b)
	if err != nil {
		return nil, fmt.Errorf("learn from %d windows: %w", len(windows), err)
	}
	types := make(map[string]Counted, len(names))
	for i, name := range names {
		slope := int64(math.Round(wallOfRAPL * multiple[2*i+1] * 1e6))
		types[name] = Counted{Of: KindRAPL, Microwatts: microwatts(unit * multiple[2*i]), Samples: len(windows),
			Parts: []Part{{Counter: RAPL, Points: []PartStep{{}, {Count: raplUnit, Microwatts: slope * (raplUnit / 1e6)}}}}}
	}
	return types, nil
}

// Processor is a model of KindRAPL as the power processor takes it: its base and the
// slope of its first piece.
func (c Counted) Processor() (*processors.ProcessorModel, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("model of kind %s: %w", c.Of, err)
	}
	if c.Of != KindRAPL || len(c.Parts) != 1 || c.Parts[0].Counter != RAPL {
		return nil, fmt.Errorf("model of kind %s reads more than the processors' energy, which is all that nodes are metered by: %w", c.Of, ErrPoints)
	}
	p := c.Parts[0].Points[1]
	return &processors.ProcessorModel{BaseMicrowatts: c.Microwatts, Slope: processors.MulDiv(p.Microwatts, 1_000_000, p.Count), Uncertainty: c.Error.Uncertainty()}, nil
}
