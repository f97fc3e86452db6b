package work

import (
	"context"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// heatSources are what is known of a box's heat sources beside the processor's
// input.
type heatSources struct {
	fingerprint string
	described   map[string]fleet.HeatSource // by name, as the quarter began or where the source did
	gone        []registry.HeatQuarter      // of sources that the box does not have any more: they become zeros
}

// household says whether a source's heat is a household's.
func (h heatSources) household(source string) bool { return h.described[source].Household != "" }

// heat finds what the energy became. A source whose readings may be gone keeps
// what was found of it.
func (w *Worker) heat(ctx context.Context, scope string, quarter schema.Window, parts []validity, energy []processors.EnergyRow) (processors.HeatResult, heatSources, error) {
	found := heatSources{described: make(map[string]fleet.HeatSource)}
	in := processors.HeatInput{Window: quarter, Box: scope, ProducedMicro: fleet.Box{}.HeatMicro(), Rows: energy}
	kept, err := w.registry.HeatQuarters(ctx, scope, quarter)
	if err != nil {
		return processors.HeatResult{}, found, err
	}
	for _, part := range parts {
		if box, known := part.fleet.Box(scope); known {
			in.ProducedMicro = box.HeatMicro()
		}
		for _, described := range part.fleet.HeatSourcesOfBox(scope) {
			_, twice := found.described[described.Name]
			if !twice {
				found.described[described.Name] = described
			}
			source := heatSource(described, part.Window)
			if w.final(described, quarter) {
				if !keep(&source, kept) || twice {
					continue
				}
			} else if source.Readings, err = w.heatReadings(ctx, source, quarter); err != nil {
				return processors.HeatResult{}, found, err
			}
			in.Sources = append(in.Sources, source)
		}
	}
	for _, former := range kept {
		if _, has := found.described[former.Source]; !has && w.clock.Now().Before(quarter.To.Add(registry.HeatFinal)) {
			former.HeatSums = registry.HeatSums{Source: former.Source, Household: former.Household, Box: former.Box, Reference: former.Reference}
			former.Minutes = []processors.HeatMinute{}
			found.gone = append(found.gone, former)
		}
	}
	result, err := processors.Heat{}.Process(in)
	found.fingerprint = processors.Heat{}.Fingerprint(in)
	return result, found, err
}

// final says whether what was found of a source stays, whatever comes: its
// readings are deleted, or soon.
func (w *Worker) final(h fleet.HeatSource, quarter schema.Window) bool {
	needs := h.Method != fleet.HeatCapture || h.MaxStoreCelsius != nil
	return needs && !w.clock.Now().Before(quarter.To.Add(registry.HeatFinal))
}

// keep gives a source what was found of it: a household's is one sum. False says
// that nothing was, or that it was deleted.
func keep(source *processors.HeatSource, kept []registry.HeatQuarter) bool {
	i := slices.IndexFunc(kept, func(q registry.HeatQuarter) bool { return q.Source == source.Name })
	if i < 0 {
		return false
	}
	source.Kept, source.KeptCircumstance = kept[i].Minutes, kept[i].Circumstances
	if source.Kept == nil {
		source.Kept = []processors.HeatMinute{{Time: kept[i].Quarter, Millijoule: kept[i].Useful}}
	}
	return true
}

func (w *Worker) heatReadings(ctx context.Context, source processors.HeatSource, quarter schema.Window) ([]processors.HeatReading, error) {
	near := schema.Window{From: quarter.From.Add(-source.Reach()), To: quarter.To.Add(source.Reach())}
	return w.registry.HeatReadings(ctx, source.Name, near)
}

// heatSource is a source of the fleet as the processor reads it, valid in a part
// of the quarter.
func heatSource(h fleet.HeatSource, valid schema.Window) processors.HeatSource {
	celsius := processors.Sensor{Kind: processors.SensorCelsius}
	source := processors.HeatSource{Name: h.Name, From: valid.From, To: valid.To, Method: processors.HeatTemperatures,
		Supply: celsius, Return: celsius, Store: celsius,
		OffsetMillikelvin: milli(h.PairOffsetKelvin), ReversedMillikelvin: h.ReversedMillikelvin(),
		FluidMillijoules: h.FluidMillijoules(), Period: h.PeriodOrDefault(), CaptureMicro: milli(h.CaptureFactor * 1000)}
	if h.Method == fleet.HeatCapture {
		source.Method = processors.HeatCapture
	}
	if h.Method == fleet.HeatThermistors {
		source.Supply = thermistor(h.Thermistor)
		source.Return = source.Supply
	}
	if h.MaxStoreCelsius != nil {
		source.Limited, source.MaxMillicelsius = true, milli(*h.MaxStoreCelsius)
	}
	return source
}

func thermistor(t fleet.Thermistor) processors.Sensor {
	t = t.Resolved()
	sensor := processors.Sensor{Kind: processors.SensorOhm, BetaMillikelvin: milli(t.Beta), Milliohm: milli(t.Ohm),
		SeriesMilliohm: milli(t.SeriesOhm), FullScaleMicro: milli(t.FullScale * 1000), ToSupply: t.ToSupply}
	if t.Reading == fleet.ReadingADC {
		sensor.Kind = processors.SensorADC
	}
	return sensor
}

// credits are the sources' useful heat against their references.
func (h heatSources) credits(result processors.HeatResult) []processors.HeatCredit {
	var credits []processors.HeatCredit
	for _, source := range result.Sources {
		reference := h.described[source.Name].Reference
		credits = append(credits, processors.HeatCredit{Source: source.Name, Minutes: source.Minutes,
			Reference: processors.Reference{Name: reference.Resolved().Name, MilligramPerKWh: reference.MilligramPerKWh(), EfficiencyMicro: reference.EfficiencyMicro()}})
	}
	return credits
}

// quarters are the sources' quarters as the registry keeps them.
func (h heatSources) quarters(box string, quarter schema.Window, heat processors.HeatResult, carbon processors.CarbonResult) []registry.HeatQuarter {
	byName := make(map[string]*registry.HeatQuarter)
	list := h.gone
	for _, source := range heat.Sources {
		described := h.described[source.Name]
		if len(heat.Minutes) == 0 && source.Gap == quarter.Length() {
			continue // nothing is known of the quarter at all
		}
		q := byName[source.Name]
		if q == nil {
			q = &registry.HeatQuarter{Quarter: quarter.From, HeatSums: registry.HeatSums{Source: source.Name, Household: described.Household, Box: box,
				Reference: described.Reference.String()}}
			if heat.Implausible {
				q.Implausible = 1
			}
			if source.Estimated {
				q.Estimated = 1
			}
			for _, avoided := range carbon.Avoided {
				if avoided.Source == source.Name {
					q.Avoided += avoided.Total
				}
			}
			byName[source.Name] = q
		}
		q.Useful += source.Useful // one box and quarter: the processor has checked the sum
		q.Minutes = append(q.Minutes, source.Minutes...)
		for _, pair := range []struct {
			sum *time.Duration
			d   time.Duration
		}{{&q.Covered, source.Covered}, {&q.Full, source.Full}, {&q.Faulty, source.Faulty}, {&q.Reversed, source.Reversed}, {&q.Gap, source.Gap}} {
			*pair.sum += pair.d
		}
	}
	for _, q := range byName {
		list = append(list, *q)
	}
	return list
}
