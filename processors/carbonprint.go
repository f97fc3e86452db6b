package processors

import "time"

// Fingerprint covers the energy rows, the sources' settings and their readings
// near the window.
func (Heat) Fingerprint(in HeatInput) string {
	in = in.canonical()
	h := newHasher("heat/1")
	h.text(in.Box)
	h.times(in.Window.From, in.Window.To)
	h.ints(in.ProducedMicro)
	h.rows(in.Rows)
	h.ints(int64(len(in.Sources)))
	for _, s := range in.Sources {
		h.source(s, in)
	}
	return h.String()
}

func (h *hasher) source(s HeatSource, in HeatInput) {
	h.text(s.Name, string(s.Method))
	h.times(clampTime(s.From, in.Window), clampTime(s.To, in.Window))
	for _, sensor := range []Sensor{s.Supply, s.Return, s.Store} {
		h.text(string(sensor.Kind))
		h.ints(sensor.BetaMillikelvin, sensor.Milliohm, sensor.SeriesMilliohm, sensor.FullScaleMicro)
		h.flag(sensor.ToSupply)
	}
	h.flag(s.Limited)
	h.ints(s.OffsetMillikelvin, s.ReversedMillikelvin, s.FluidMillijoules, int64(s.Period), s.MaxMillicelsius, s.CaptureMicro)
	h.flag(s.Kept != nil)
	if s.Kept != nil {
		h.minutes(s.Kept)
		for _, d := range []time.Duration{s.KeptCircumstance.Covered, s.KeptCircumstance.Full, s.KeptCircumstance.Faulty, s.KeptCircumstance.Reversed, s.KeptCircumstance.Gap} {
			h.ints(int64(d))
		}
		return
	}
	h.ints(int64(len(s.Readings)))
	for _, r := range s.Readings {
		h.times(r.Time)
		for _, v := range []Value{r.Supply, r.Return, r.Store, r.Flow} {
			h.flag(v.Known)
			h.ints(v.Micro)
		}
	}
}

func (h *hasher) minutes(minutes []HeatMinute) {
	h.ints(int64(len(minutes)))
	for _, m := range minutes {
		h.times(m.Time)
		h.ints(m.Millijoule)
	}
}

// rows writes keys and energies; how a row's energy is made up does not matter.
func (h *hasher) rows(rows []EnergyRow) {
	h.ints(int64(len(rows)))
	for _, row := range rows {
		h.times(row.Time)
		h.text(row.Cluster, row.Node, row.Namespace, row.Pod, row.UID, row.Box, row.WorkloadKind, row.Workload)
		h.ints(row.Total())
	}
}

// Fingerprint covers the energy rows, the intensities that hold in the window,
// the making of hardware with what was requested of it, and the heat.
func (Carbon) Fingerprint(in CarbonInput) string {
	in = in.canonical()
	h := newHasher("carbon/1")
	h.text(in.Box)
	h.times(in.Window.From, in.Window.To)
	h.rows(in.Rows)
	for _, list := range [][]Intensity{in.Location, in.Market} {
		h.ints(int64(len(list)))
		for _, one := range list {
			h.times(clampTime(one.From, in.Window), clampTime(one.To, in.Window))
			h.ints(one.Milligram)
			h.flag(one.Estimated)
			h.text(one.Source)
		}
	}
	h.ints(int64(len(in.Making)))
	for _, m := range in.Making {
		h.text(m.Cluster, m.Node)
		h.times(clampTime(m.From, in.Window), clampTime(m.To, in.Window))
		h.ints(m.Micrograms, int64(m.Lifetime))
	}
	if len(in.Making) > 0 {
		for _, n := range in.Nodes {
			h.node(n, in.Window, in.Window)
		}
	}
	h.ints(int64(len(in.Heat)))
	for _, credit := range in.Heat {
		h.text(credit.Source, credit.Reference.Name)
		h.ints(credit.Reference.MilligramPerKWh, credit.Reference.EfficiencyMicro)
		h.minutes(credit.Minutes)
	}
	return h.String()
}
