package processors

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Intensity is how much CO2e one kWh stands for in [From, To); zero is open.
type Intensity struct {
	From, To  time.Time
	Milligram int64  // CO2e per kWh
	Estimated bool   // a yearly mean, or what its source calls an estimate
	Source    string // for people: where it is from, with its year
}

// Making is the CO2e of making a node's hardware, in [From, To); zero is open.
type Making struct {
	Cluster, Node string
	From, To      time.Time
	Micrograms    int64         // TE: of all of it
	Lifetime      time.Duration // EL: that it is spread over
}

// Reference is what would have heated otherwise.
type Reference struct {
	Name            string
	MilligramPerKWh int64 // CO2e per kWh of its fuel
	EfficiencyMicro int64 // heat per fuel, 1e-6; of a heat pump its seasonal factor
}

// HeatCredit is heat that was made use of in place of a reference's.
type HeatCredit struct {
	Source    string
	Reference Reference
	Minutes   []HeatMinute // or sums of several, at their first
}

// CarbonInput is a box and a quarter.
type CarbonInput struct {
	Window schema.Window
	Box    string
	Rows   []EnergyRow
	// Location is the grid's intensity, Market that of the contracts. What lies in
	// none is not known: its energy is not covered, and stands for no grams.
	Location, Market []Intensity
	Making           []Making
	Nodes            []Node // their minutes' pods, for what they requested
	Heat             []HeatCredit
}

// CarbonSums are micrograms of CO2e, and mJ of the energy that they are of. The
// three figures of grams are never added up, nor is what was avoided taken off.
type CarbonSums struct {
	Location        int64 // µg, by the grid's intensity
	LocationEnergy  int64 // mJ whose intensity is known
	EstimatedEnergy int64 // mJ of it whose intensity is estimated
	Market          int64 // µg, by contract
	MarketEnergy    int64 // mJ that a contract covers
	Embodied        int64 // µg, of making the hardware
}

// CarbonRow is a row's part.
type CarbonRow struct {
	Key RowKey
	CarbonSums
}

// CarbonMinute is a box's minute: the sum of its rows.
type CarbonMinute struct {
	Time time.Time
	CarbonSums
}

// Avoided is what a source's useful heat avoided against its reference, µg.
type Avoided struct {
	Source    string
	Reference Reference
	Total     int64
	Minutes   []AvoidedMinute // as those of the credit
}

// AvoidedMinute is what the heat of one minute avoided, µg.
type AvoidedMinute struct {
	Time       time.Time
	Micrograms int64
}

// CarbonResult is a box's CO2e in the quarter.
type CarbonResult struct {
	Rows    []CarbonRow // by key
	Minutes []CarbonMinute
	Box     CarbonSums // the sum of Minutes
	Avoided []Avoided  // by source
	Sources []string   // of the intensities that were used, sorted
}

// gramScale brings mJ · mg/kWh to µg.
const gramScale = millijoulesPerKWh / 1000

// Carbon finds how many grams of CO2e a box's energy stands for. Each minute's
// energy counts with the intensity that holds at its start. A quarter's micrograms
// are the exact sum, rounded down once; a minute's are shared over its rows by
// their energy, with the largest remainders, so that rows add up to the box.
//
// Hardware's making (ISO/IEC 21031:2024, M = TE · TiR/EL · RR/ToR) counts for the
// minutes that a node has rows of: its pods carry it by what they requested, the
// larger of the shares of CPU and memory, and __idle__ what nobody did.
type Carbon struct{}

// Name is "carbon".
func (Carbon) Name() string { return "carbon" }

var _ Processor[CarbonInput, CarbonResult] = Carbon{}

// Process computes grams by row.
func (Carbon) Process(in CarbonInput) (CarbonResult, error) {
	in = in.canonical()
	if err := in.check(); err != nil {
		return CarbonResult{}, fmt.Errorf("check carbon of box %s: %w", in.Box, err)
	}
	run := carbonRun{in: in, sources: make(map[string]bool)}
	if err := eachMinute(in.Rows, run.minute); err != nil {
		return CarbonResult{}, fmt.Errorf("carbon of box %s: %w", in.Box, err)
	}
	for _, credit := range in.Heat {
		avoided, err := credit.avoided()
		if err != nil {
			return CarbonResult{}, fmt.Errorf("heat of source %s: %w", credit.Source, err)
		}
		run.result.Avoided = append(run.result.Avoided, avoided)
	}
	for source := range run.sources {
		run.result.Sources = append(run.result.Sources, source)
	}
	slices.Sort(run.result.Sources)
	return run.result, nil
}

// canonical is the input in the order of its keys.
func (in CarbonInput) canonical() CarbonInput {
	in.Rows = sortedEnergy(in.Rows)
	in.Location, in.Market = slices.Clone(in.Location), slices.Clone(in.Market)
	in.Making, in.Heat = slices.Clone(in.Making), slices.Clone(in.Heat)
	byStart := func(a, b Intensity) int { return a.From.Compare(b.From) }
	slices.SortStableFunc(in.Location, byStart)
	slices.SortStableFunc(in.Market, byStart)
	slices.SortStableFunc(in.Making, func(a, b Making) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Node, b.Node), a.From.Compare(b.From))
	})
	slices.SortStableFunc(in.Heat, func(a, b HeatCredit) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Reference.Name, b.Reference.Name),
			cmp.Compare(a.Reference.MilligramPerKWh, b.Reference.MilligramPerKWh), cmp.Compare(a.Reference.EfficiencyMicro, b.Reference.EfficiencyMicro))
	})
	for i := range in.Heat {
		minutes := slices.Clone(in.Heat[i].Minutes)
		slices.SortStableFunc(minutes, func(a, b HeatMinute) int { return a.Time.Compare(b.Time) })
		in.Heat[i].Minutes = minutes
	}
	in.Nodes = PowerInput{Nodes: in.Nodes}.canonical().Nodes
	return in
}

func (in CarbonInput) check() error {
	if err := checkWindow(in.Window); err != nil {
		return err
	}
	for _, list := range [][]Intensity{in.Location, in.Market} {
		for i, one := range list {
			if one.Milligram < 0 {
				return fmt.Errorf("an intensity of %d mg/kWh: %w", one.Milligram, ErrInput)
			}
			if i > 0 && (list[i-1].To.IsZero() || list[i-1].To.After(one.From)) {
				return fmt.Errorf("two intensities hold at %s: %w", one.From.Format(time.RFC3339), ErrInput)
			}
		}
	}
	for i, m := range in.Making {
		if m.Micrograms < 0 || m.Lifetime < time.Second {
			return fmt.Errorf("node %s/%s: %d µg over %s: %w", m.Cluster, m.Node, m.Micrograms, m.Lifetime, ErrInput)
		}
		if i > 0 && m.Cluster == in.Making[i-1].Cluster && m.Node == in.Making[i-1].Node && (in.Making[i-1].To.IsZero() || in.Making[i-1].To.After(m.From)) {
			return fmt.Errorf("the making of node %s/%s stands twice at one time: %w", m.Cluster, m.Node, ErrInput)
		}
	}
	for _, h := range in.Heat {
		if h.Reference.MilligramPerKWh < 0 || h.Reference.EfficiencyMicro <= 0 {
			return fmt.Errorf("reference %s of source %s: %w", h.Reference.Name, h.Source, ErrInput)
		}
	}
	return checkRows(in.Rows, in.Window)
}

// avoided is what the reference would have emitted for the heat.
func (h HeatCredit) avoided() (Avoided, error) {
	out := Avoided{Source: h.Source, Reference: h.Reference}
	var grams carry
	// mJ · mg/kWh · 1e3 µg/mg / (3.6e9 mJ/kWh · efficiency)
	denominator := MulDiv(gramScale, h.Reference.EfficiencyMicro, 1)
	for _, m := range h.Minutes {
		if m.Millijoule < 0 {
			return out, fmt.Errorf("heat of %d mJ at %s: %w", m.Millijoule, m.Time.Format(time.RFC3339), ErrInput)
		}
		micro := grams.mulDiv(m.Millijoule, MulDiv(h.Reference.MilligramPerKWh, whole, 1), denominator)
		out.Minutes = append(out.Minutes, AvoidedMinute{m.Time, micro})
		var err error
		if out.Total, err = Sum(out.Total, micro); err != nil {
			return out, err
		}
	}
	return out, nil
}

// add adds o, field by field.
func (s *CarbonSums) add(o CarbonSums) error {
	for _, pair := range []struct {
		sum *int64
		v   int64
	}{
		{&s.Location, o.Location}, {&s.LocationEnergy, o.LocationEnergy}, {&s.EstimatedEnergy, o.EstimatedEnergy},
		{&s.Market, o.Market}, {&s.MarketEnergy, o.MarketEnergy}, {&s.Embodied, o.Embodied},
	} {
		sum, err := Sum(*pair.sum, pair.v)
		if err != nil {
			return err
		}
		*pair.sum = sum
	}
	return nil
}
