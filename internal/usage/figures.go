package usage

import "time"

// Figures is a page of energy, heat or carbon.
type Figures[R any] struct {
	From        time.Time        `json:"from"`
	To          time.Time        `json:"to"`
	Settled     time.Time        `json:"settled"` // where relative windows end
	StepSeconds int64            `json:"stepSeconds,omitempty"`
	Aggregate   []Key            `json:"aggregate"`
	Rows        []R              `json:"rows"`
	Total       int              `json:"total"` // rows on all pages
	Provisional []ClusterWindow  `json:"provisional"`
	Clusters    []ClusterSettled `json:"clusters"`
	Notes       []string         `json:"notes"` // in words: what is not in the answer, and why
	Next        string           `json:"next"`  // "" on the last page
}

// FiguresOf are an answer's rows in another form.
func FiguresOf[R any](answer Answer, form func(Row) R) Figures[R] {
	f := Figures[R]{From: answer.From, To: answer.To, Settled: answer.Settled, StepSeconds: answer.StepSeconds, Aggregate: answer.Aggregate,
		Rows: make([]R, len(answer.Rows)), Total: answer.Total, Provisional: answer.Provisional, Clusters: answer.Clusters, Notes: []string{}, Next: answer.Next}
	for i, r := range answer.Rows {
		f.Rows[i] = form(r)
	}
	return f
}

// EnergyRow is the energy of one key in one step.
type EnergyRow struct {
	Key                  map[string]string `json:"key"`
	From                 time.Time         `json:"from"`
	To                   time.Time         `json:"to"`
	EnergyJoules         Exact             `json:"energyJoules"` // active + idle + overhead
	EnergyActiveJoules   Exact             `json:"energyActiveJoules"`
	EnergyIdleJoules     Exact             `json:"energyIdleJoules"`
	EnergyOverheadJoules Exact             `json:"energyOverheadJoules"`
	EnergyMeasuredJoules Exact             `json:"energyMeasuredJoules"` // the part of energyJoules that closed meter intervals cover
	EnergyModelledJoules Exact             `json:"energyModelledJoules"` // what the model alone would have said
	// EnergyUncertaintyJoules is what energyJoules is off by at the most, of one
	// standard error of the models and of the meters' gain.
	EnergyUncertaintyJoules Exact `json:"energyUncertaintyJoules"`
	// ResidualJoules is what the meters counted less what rows carry of it; of
	// boxes with meters alone, and 0 there.
	ResidualJoules *Exact  `json:"residualJoules,omitempty"`
	HeatJoules     Exact   `json:"heatJoules"` // what became heat in the box; null where nobody has computed it
	Coverage       float64 `json:"coverage"`   // 0..1 of the time asked for, with readings close enough
	Quality        string  `json:"quality"`    // measured, estimated or mixed
	Provisional    bool    `json:"provisional"`
}

// EnergyOf is a row's energy; ofBoxes says that the question was of whole boxes.
func EnergyOf(r Row, ofBoxes bool) EnergyRow {
	e := EnergyRow{Key: r.Key, From: r.From, To: r.To, EnergyJoules: r.EnergyJoules, EnergyActiveJoules: r.EnergyActiveJoules,
		EnergyIdleJoules: r.EnergyIdleJoules, EnergyOverheadJoules: r.EnergyOverheadJoules, EnergyMeasuredJoules: r.EnergyMeasuredJoules,
		EnergyModelledJoules: r.EnergyModelledJoules, EnergyUncertaintyJoules: r.EnergyUncertaintyJoules, HeatJoules: r.heat(), Coverage: r.Coverage, Quality: r.Quality, Provisional: r.Provisional}
	if counted := r.Sums[BoxMeasured]; ofBoxes && (counted != 0 || r.Sums[EnergyMeasured] != 0) {
		left := Joules(counted).Minus(Joules(r.Sums[EnergyMeasured]))
		e.ResidualJoules = &left
	}
	return e
}

// heat is what the row's energy became. Rows from before heat was computed have
// none: it is unknown, and not 0.
func (r Row) heat() Exact {
	if r.Sums[Heat] == 0 && (!r.EnergyJoules.Known() || r.EnergyJoules.integer().Sign() != 0) {
		return Unknown
	}
	return Joules(r.Sums[Heat])
}

// HeatRow is the heat of one key in one step.
type HeatRow struct {
	Key            map[string]string `json:"key"`
	From           time.Time         `json:"from"`
	To             time.Time         `json:"to"`
	EnergyJoules   Exact             `json:"energyJoules"`
	ProducedJoules Exact             `json:"producedJoules"` // null where nobody has computed it
	// UsefulJoules are of boxes alone, of sources that are no household's.
	UsefulJoules *Exact `json:"usefulJoules,omitempty"`
	Quality      string `json:"quality"` // of the energy: measured, estimated or mixed
	Provisional  bool   `json:"provisional"`
}

// HeatOf is a row's heat.
func HeatOf(r Row, ofBoxes bool) HeatRow {
	h := HeatRow{Key: r.Key, From: r.From, To: r.To, EnergyJoules: r.EnergyJoules, ProducedJoules: r.heat(), Quality: r.Quality, Provisional: r.Provisional}
	if ofBoxes {
		useful := Joules(r.Sums[UsefulHeat])
		h.UsefulJoules = &useful
	}
	return h
}

// CarbonRow is the CO2e of one key in one step: four figures, of which none is
// part of another and none is subtracted from another.
type CarbonRow struct {
	Key          map[string]string `json:"key"`
	From         time.Time         `json:"from"`
	To           time.Time         `json:"to"`
	EnergyJoules Exact             `json:"energyJoules"`

	// Location-based: by the grid's intensity; null where none of it is known.
	LocationGrams           Exact  `json:"locationGrams"`
	LocationEnergyJoules    Exact  `json:"locationEnergyJoules"`    // the energy that locationGrams is of
	LocationEstimatedJoules Exact  `json:"locationEstimatedJoules"` // of it, by a yearly mean or an estimate
	LocationQuality         string `json:"locationQuality"`         // of the intensities: measured, estimated or mixed; "" where none is known

	// Market-based: by contract; null where none covers it.
	MarketGrams        Exact `json:"marketGrams"`
	MarketEnergyJoules Exact `json:"marketEnergyJoules"` // the energy that marketGrams is of

	// EmbodiedGrams is a share of the hardware's making; null where it is described
	// of no hardware.
	EmbodiedGrams Exact `json:"embodiedGrams"`
	// AvoidedGrams is what useful heat avoided; of boxes alone, of sources that are
	// no household's.
	AvoidedGrams *Exact `json:"avoidedGrams,omitempty"`

	Quality     string `json:"quality"` // of the energy: measured, estimated or mixed
	Provisional bool   `json:"provisional"`
}

// CarbonOf is a row's CO2e; embodied says that some hardware's making is
// described.
func CarbonOf(r Row, ofBoxes, embodied bool) CarbonRow {
	s := r.Sums
	c := CarbonRow{Key: r.Key, From: r.From, To: r.To, EnergyJoules: r.EnergyJoules, LocationGrams: Unknown, LocationEnergyJoules: Joules(s[CarbonLocationEnergy]),
		LocationEstimatedJoules: Joules(s[CarbonEstimatedEnergy]), MarketGrams: Unknown, MarketEnergyJoules: Joules(s[CarbonMarketEnergy]),
		EmbodiedGrams: Unknown, Quality: r.Quality, Provisional: r.Provisional}
	if s[CarbonLocationEnergy] != 0 {
		c.LocationGrams = Grams(s[CarbonLocation])
		c.LocationQuality = QualityOf(s[CarbonLocationEnergy]-s[CarbonEstimatedEnergy], 0, s[CarbonLocationEnergy])
	}
	if s[CarbonMarketEnergy] != 0 {
		c.MarketGrams = Grams(s[CarbonMarket])
	}
	if embodied {
		c.EmbodiedGrams = Grams(s[CarbonEmbodied])
	}
	if ofBoxes {
		avoided := Grams(s[CarbonAvoided])
		c.AvoidedGrams = &avoided
	}
	if !r.EnergyJoules.Known() {
		c.LocationEnergyJoules, c.LocationEstimatedJoules, c.MarketEnergyJoules = Unknown, Unknown, Unknown
	}
	return c
}
