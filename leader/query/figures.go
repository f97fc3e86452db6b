package query

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Figures is a page of energy, heat or carbon.
type Figures[R any] struct {
	usage.Figures[R]
	// Incomplete is as in Answer.
	Incomplete []ClusterCompleteness `json:"incomplete,omitempty"`
}

// EnergyAnswer is a page of energy.
type EnergyAnswer = Figures[usage.EnergyRow]

// HeatAnswer is a page of heat.
type HeatAnswer struct {
	Figures[usage.HeatRow]
	// Days are useful heat by source and UTC day; absent where they were not asked
	// for.
	Days []HeatDay `json:"days,omitempty"`
}

// CarbonAnswer is a page of CO2e.
type CarbonAnswer struct {
	Figures[usage.CarbonRow]
	Sources []string `json:"sources"` // of the intensities, with their years
	// References are what avoidedGrams are told against; of boxes alone.
	References []string  `json:"references,omitempty"`
	Days       []HeatDay `json:"days,omitempty"` // as in HeatAnswer
}

// HeatDay is what of a source's heat was of use in a UTC day, and what it avoided.
type HeatDay struct {
	Day             string `json:"day"` // 2026-11-23
	Source          string `json:"source"`
	Household       string `json:"household,omitempty"`
	Box             string `json:"box"`
	UsefulJoules    Exact  `json:"usefulJoules"`
	AvoidedGrams    Exact  `json:"avoidedGrams"`
	Reference       string `json:"reference"`
	CoveredSeconds  Exact  `json:"coveredSeconds"` // with readings that count
	FullSeconds     Exact  `json:"fullSeconds"`    // the store was at its maximum
	FaultySeconds   Exact  `json:"faultySeconds"`
	ReversedSeconds Exact  `json:"reversedSeconds"`
	GapSeconds      Exact  `json:"gapSeconds"`
	// ImplausibleQuarters have more useful heat than the box can have produced.
	ImplausibleQuarters int    `json:"implausibleQuarters"`
	Quality             string `json:"quality"` // estimated by a capture factor, measured, or mixed; "" without a reading
}

// What the answers say of themselves, in words.
const (
	notByBox = "of whole boxes: ask by box, filtered by nothing else"

	noteResidual  = "What the meters counted and no row carries (residualJoules) is " + notByBox + "."
	noteUseful    = "Useful heat is " + notByBox + "."
	noteHousehold = "Useful heat of households is told by day, three days after its end (`days`)."
	noteAvoided   = "What useful heat avoided is " + notByBox + "."
	noteApart     = "Location-based, market-based, embodied and avoided are four figures: none is part of another, and none is subtracted from another."
	noteEmbodied  = "No hardware of these rows has embodiedKg: what was emitted to make it is unknown."
)

// Energy answers a question about energy. Errors: those of Usage.
func (e *Engine) Energy(ctx context.Context, request Request) (EnergyAnswer, error) {
	request.About = usage.AboutEnergy
	_, answer, err := e.answer(ctx, request)
	if err != nil {
		return EnergyAnswer{}, err
	}
	ofBoxes := request.OfBoxes() && !Scoped(ctx)
	figures := usage.FiguresOf(answer.Answer, func(r Row) usage.EnergyRow { return usage.EnergyOf(r, ofBoxes) })
	if !ofBoxes {
		figures.Notes = append(figures.Notes, noteResidual)
	}
	return EnergyAnswer{figures, answer.Incomplete}, nil
}

// Heat answers a question about heat, with the useful heat of each day where days
// are asked for. Errors: those of Usage.
func (e *Engine) Heat(ctx context.Context, request Request, days bool) (HeatAnswer, error) {
	request.About = usage.AboutHeat
	table, answer, err := e.answer(ctx, request)
	if err != nil {
		return HeatAnswer{}, err
	}
	ofBoxes := request.OfBoxes() && !Scoped(ctx)
	figures := usage.FiguresOf(answer.Answer, func(r Row) usage.HeatRow { return usage.HeatOf(r, ofBoxes) })
	if !ofBoxes {
		figures.Notes = append(figures.Notes, noteUseful)
	}
	figures.Notes = append(figures.Notes, noteHousehold)
	list, err := e.days(ctx, table, days)
	return HeatAnswer{Figures[usage.HeatRow]{figures, answer.Incomplete}, list}, err
}

// Carbon answers a question about CO2e. Errors: those of Usage.
func (e *Engine) Carbon(ctx context.Context, request Request, days bool) (CarbonAnswer, error) {
	request.About = usage.AboutCarbon
	table, answer, err := e.answer(ctx, request)
	if err != nil {
		return CarbonAnswer{}, err
	}
	embodied := false
	for _, row := range table.rowsByID {
		embodied = embodied || row.Sums[usage.CarbonEmbodied] != 0
	}
	ofBoxes := request.OfBoxes() && !Scoped(ctx)
	figures := usage.FiguresOf(answer.Answer, func(r Row) usage.CarbonRow { return usage.CarbonOf(r, ofBoxes, embodied) })
	figures.Notes = append(figures.Notes, noteApart)
	if !embodied {
		figures.Notes = append(figures.Notes, noteEmbodied)
	}
	all := CarbonAnswer{Figures: Figures[usage.CarbonRow]{figures, answer.Incomplete}}
	if ofBoxes {
		all.References = table.references()
	} else {
		all.Notes = append(all.Notes, noteAvoided)
	}
	if all.Sources, err = table.carbonSources(ctx); err != nil {
		return CarbonAnswer{}, err
	}
	all.Days, err = e.days(ctx, table, days)
	return all, err
}

// figureSources are the tables of energy, heat and carbon. What boxes have of
// their own is read for questions of boxes alone.
func (t *tally) figureSources(cluster string, whole bool) []source {
	db, energy, pods, box := t.engine.stores.Minute, schema.EnergyMinute, schema.PodMinute, schema.BoxMinute
	if whole {
		db, energy, pods, box = t.engine.stores.Quarter, schema.EnergyQuarter, schema.UsageQuarter, schema.BoxQuarter
	}
	take := map[usage.Subject][]usage.Quantity{
		usage.AboutEnergy: append(slices.Clone(usage.OfEnergy), usage.Heat),
		usage.AboutHeat:   append(slices.Clone(usage.OfEnergy), usage.Heat),
		usage.AboutCarbon: slices.Concat(usage.OfEnergy, usage.OfCarbon),
	}[t.request.About]
	sources := []source{{db, energy, take, []string{schema.Container}, nil}}
	switch {
	case cluster == schema.BoxCluster && t.request.OfBoxes():
		own := map[usage.Subject]usage.Quantity{usage.AboutEnergy: usage.BoxMeasured, usage.AboutHeat: usage.UsefulHeat, usage.AboutCarbon: usage.CarbonAvoided}
		return append(sources, source{db, box, []usage.Quantity{own[t.request.About]}, append([]string{schema.Node}, podTags...), nil})
	case cluster != schema.BoxCluster && t.request.About == usage.AboutEnergy:
		return append(sources, source{db, pods, usage.OfCoverage, nil, nil})
	}
	return sources
}

// carbonSources are the names of the intensities that the answer's boxes were
// computed with.
func (t *tally) carbonSources(ctx context.Context) ([]string, error) {
	open, err := t.engine.openQuarters(ctx, schema.BoxCluster, t.window)
	if err != nil {
		return nil, err
	}
	found := make(map[string]bool)
	for _, r := range runs(t.window, open, true) {
		db, table := t.engine.stores.Minute, schema.BoxMinute
		if r.whole {
			db, table = t.engine.stores.Quarter, schema.BoxQuarter
		}
		q := influxsync.Query{Select: []string{schema.CarbonSource}, Aggregate: "distinct", From: table.Name, Window: r.Window, Group: []string{schema.Box}}
		err := db.Query(ctx, q, func(p influxsync.Point) error {
			box := p.Tag(schema.Box)
			if _, _, loose := registry.LooseNode(box); loose {
				if Scoped(ctx) {
					return nil // whose it is, the box does not say
				}
				box = ""
			}
			if stored, ok := p.Field(schema.CarbonSource); ok && t.boxes[box] {
				for _, name := range strings.Split(stored.Str(), "; ") {
					found[name] = found[name] || name != ""
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read sources of intensities: %w", err)
		}
	}
	delete(found, "")
	names := slices.Sorted(maps.Keys(found))
	if names == nil {
		names = []string{}
	}
	return names, nil
}

// references are what the heat of the answer's boxes is held against.
func (t *tally) references() []string {
	found := make(map[string]bool)
	for _, part := range t.parts {
		for _, s := range part.fleet.HeatSources() {
			if t.boxes[s.Box] && s.Household == "" {
				found[s.Reference.String()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// days are the useful heat of the whole days in the window. A household's are
// told when nothing can change them any more: a day that is told while it grows
// would tell of its hours.
func (e *Engine) days(ctx context.Context, t *tally, wanted bool) ([]HeatDay, error) {
	if !wanted {
		return nil, nil
	}
	if Scoped(ctx) {
		return nil, fmt.Errorf("days of heat: %w", ErrScope)
	}
	for _, c := range t.request.Filter {
		if c.Key != Box {
			return nil, usage.Wrong("days", "true", "useful heat by day is of boxes: filter by box alone")
		}
	}
	const whole = 24 * time.Hour
	now := e.clock.Now()
	list, err := e.registry.HeatDays(ctx, schema.Window{From: t.window.From, To: schema.Earlier(t.window.To, now)})
	if err != nil {
		return nil, err
	}
	all := []HeatDay{}
	for _, d := range list {
		if d.Household != "" && now.Sub(d.Day.Add(whole)) < registry.HeatReadingLife || !usage.KeepsAll(t.request.Filter, Box, d.Box) {
			continue
		}
		if len(all) >= e.config.MaxRows {
			return nil, usage.Wrong("window", t.request.Window, fmt.Sprintf("it has more than %d days of heat sources: take a shorter one", e.config.MaxRows))
		}
		all = append(all, heatDay(d))
	}
	return all, nil
}

func heatDay(d registry.HeatDay) HeatDay {
	seconds := func(length time.Duration) Exact { return usage.Seconds(length.Milliseconds()) }
	day := HeatDay{Day: d.Day.UTC().Format(time.DateOnly), Source: d.Source, Household: d.Household, Box: d.Box, UsefulJoules: usage.Joules(d.Useful),
		AvoidedGrams: usage.Grams(d.Avoided), Reference: d.Reference, CoveredSeconds: seconds(d.Covered), FullSeconds: seconds(d.Full),
		FaultySeconds: seconds(d.Faulty), ReversedSeconds: seconds(d.Reversed), GapSeconds: seconds(d.Gap), ImplausibleQuarters: d.Implausible}
	estimated := time.Duration(d.Estimated) * schema.Quarter
	switch {
	case d.Covered+d.Full == 0:
	case d.Estimated == 0:
		day.Quality = schema.Measured
	case estimated >= d.Covered+d.Full:
		day.Quality = schema.Estimated
	default:
		day.Quality = schema.Mixed
	}
	return day
}
