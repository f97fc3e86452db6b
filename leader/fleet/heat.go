package fleet

import (
	"math"
	"time"
)

// How the useful heat of a HeatSource is known.
const (
	HeatThermistors  = "thermistors"  // two NTC thermistors and a flow
	HeatTemperatures = "temperatures" // supply and return in °C and a flow
	HeatCapture      = "capture"      // a fixed part of what the box produces
)

// Fluids, with the heat of one litre and one kelvin in J: of water 1.163 Wh, of
// a mixture with 30% glycol about 0.93 of it.
var Fluids = map[string]float64{"water": 4186.8, "glycol-30": 3893.7}

// HeatSource is one loop or store that takes heat out of a box. Readings of its
// sensors are pushed.
type HeatSource struct {
	Name string `json:"-"`
	Box  string `json:"box"`
	// Household is whose heat it is: a name that means nothing to others. Of a
	// household's heat only daily totals are kept and told. "" is nobody's: a
	// swimming pool's, an office's.
	Household string `json:"household,omitempty"`
	Method    string `json:"method"`
	// Of thermistors.
	Thermistor Thermistor `json:"thermistor,omitzero"`
	// PairOffsetKelvin is supply less return as the pair shows it where both have
	// one temperature; it is taken off.
	PairOffsetKelvin float64 `json:"pairOffsetKelvin,omitempty"`
	// ReversedKelvin is how far the return may seem warmer than the supply and
	// still count as no difference; nil is 0.5.
	ReversedKelvin *float64 `json:"reversedKelvin,omitempty"`
	Fluid          string   `json:"fluid,omitempty"` // one of Fluids; "" = water
	// JoulesPerLitreKelvin is used in place of the fluid's.
	JoulesPerLitreKelvin float64  `json:"joulesPerLitreKelvin,omitempty"`
	Period               Duration `json:"period,omitzero"` // between two readings; 0 = 1m. More than two of them are a gap
	// MaxStoreCelsius is the store's highest temperature, at which no heat is
	// useful; nil = it has none, or it is not measured.
	MaxStoreCelsius *float64 `json:"maxStoreCelsius,omitempty"`
	CaptureFactor   float64  `json:"captureFactor,omitempty"` // of capture: 0.85 = 85%
	// Reference is what would have heated otherwise.
	Reference HeatReference `json:"reference,omitzero"`
	TokenFile string        `json:"tokenFile,omitempty"` // with this token somebody may push readings of this source, and do nothing else
}

// Thermistor is an NTC thermistor by its B formula, and how it is read.
type Thermistor struct {
	Reading   string  `json:"reading"`             // ohm, or adc
	Beta      float64 `json:"beta,omitempty"`      // K; 0 = 3435
	Ohm       float64 `json:"ohm,omitempty"`       // at 25 °C; 0 = 10000
	SeriesOhm float64 `json:"seriesOhm,omitempty"` // of adc: the divider's other resistor; 0 = 10000
	FullScale float64 `json:"fullScale,omitempty"` // of adc: the reading at the reference voltage, such as 4095
	ToSupply  bool    `json:"toSupply,omitempty"`  // of adc: the thermistor lies at the reference voltage, not at ground
}

// Readings of a thermistor.
const (
	ReadingOhm = "ohm"
	ReadingADC = "adc"
)

// HeatReference is what would have heated otherwise, and what it emits.
type HeatReference struct {
	Name string `json:"name,omitempty"` // "" = gas_boiler
	// KgPerKWh is CO2e per kWh of its fuel; "" = 0.202: natural gas, net calorific
	// value, combustion alone (IPCC 2006, 56.1 kg/GJ).
	KgPerKWh Decimal `json:"kgPerKWh,omitempty"`
	// Efficiency is heat per fuel by the same calorific value; "" = 1.0. Of a heat
	// pump its seasonal performance factor.
	Efficiency Decimal `json:"efficiency,omitempty"`
}

// The reference where a source names none.
const (
	DefaultReference           = "gas_boiler"
	DefaultReferenceKgPerKWh   = Decimal("0.202")
	DefaultReferenceEfficiency = Decimal("1.0")
)

// Resolved is the reference with its defaults.
func (r HeatReference) Resolved() HeatReference {
	if r.Name == "" {
		r.Name = DefaultReference
	}
	if r.KgPerKWh == "" {
		r.KgPerKWh = DefaultReferenceKgPerKWh
	}
	if r.Efficiency == "" {
		r.Efficiency = DefaultReferenceEfficiency
	}
	return r
}

// String names the reference with its figures.
func (r HeatReference) String() string {
	r = r.Resolved()
	return r.Name + ", " + string(r.KgPerKWh) + " kg/kWh, efficiency " + string(r.Efficiency)
}

// MilligramPerKWh and EfficiencyMicro are the reference's numbers as integers.
func (r HeatReference) MilligramPerKWh() int64 { return r.Resolved().KgPerKWh.scaled(6) }

// EfficiencyMicro is the efficiency in 1e-6.
func (r HeatReference) EfficiencyMicro() int64 { return r.Resolved().Efficiency.scaled(6) }

// Resolved is the thermistor with its defaults.
func (t Thermistor) Resolved() Thermistor {
	if t.Beta == 0 {
		t.Beta = 3435
	}
	if t.Ohm == 0 {
		t.Ohm = 10_000
	}
	if t.SeriesOhm == 0 {
		t.SeriesOhm = 10_000
	}
	return t
}

// PeriodOrDefault is the time between two readings.
func (h HeatSource) PeriodOrDefault() time.Duration {
	if h.Period == 0 {
		return time.Minute
	}
	return time.Duration(h.Period)
}

// FluidMillijoules is the heat of one litre and one kelvin, mJ.
func (h HeatSource) FluidMillijoules() int64 {
	if h.JoulesPerLitreKelvin != 0 {
		return milli(h.JoulesPerLitreKelvin)
	}
	if h.Fluid == "" {
		return milli(Fluids["water"])
	}
	return milli(Fluids[h.Fluid])
}

// ReversedMillikelvin is ReversedKelvin with its default, mK.
func (h HeatSource) ReversedMillikelvin() int64 {
	if h.ReversedKelvin == nil {
		return 500
	}
	return milli(*h.ReversedKelvin)
}

// Kind is KindHeatSource.
func (HeatSource) Kind() Kind { return KindHeatSource }

func (h HeatSource) named(name string) Spec { h.Name = name; return h }

func (h HeatSource) references() []reference { return []reference{{"box", KindBox, h.Box}} }

func (h HeatSource) check(report reporter) {
	checkSet(report, "box", h.Box)
	checkOneOf(report, "method", h.Method, HeatThermistors, HeatTemperatures, HeatCapture)
	between := func(field string, value, low, high float64) {
		if !(value >= low && value <= high) {
			report(field, "%v is not between %v and %v", value, low, high)
		}
	}
	if h.Method == HeatThermistors {
		h.Thermistor.check(report, between)
	} else if h.Thermistor != (Thermistor{}) {
		report("thermistor", "is for the method %s only", HeatThermistors)
	}
	if h.Method == HeatCapture {
		between("captureFactor", h.CaptureFactor, 1e-6, 1)
	} else if h.CaptureFactor != 0 {
		report("captureFactor", "is for the method %s only: with sensors, heat is what they show", HeatCapture)
	}
	between("pairOffsetKelvin", h.PairOffsetKelvin, -20, 20)
	if h.ReversedKelvin != nil {
		between("reversedKelvin", *h.ReversedKelvin, 0, 20)
	}
	if _, known := Fluids[h.Fluid]; !known && h.Fluid != "" {
		report("fluid", "%q is none of water, glycol-30; joulesPerLitreKelvin says it of another", h.Fluid)
	}
	if h.JoulesPerLitreKelvin != 0 {
		between("joulesPerLitreKelvin", h.JoulesPerLitreKelvin, 1000, 5000)
	}
	if period := time.Duration(h.Period); period < 0 || period > 0 && period < time.Second || period > MaxHeatPeriod {
		report("period", "%s is not between 1s and %s", period, MaxHeatPeriod)
	}
	if h.MaxStoreCelsius != nil {
		between("maxStoreCelsius", *h.MaxStoreCelsius, 0, 150)
	}
	h.Reference.check(report)
}

// MaxHeatPeriod is the longest time between two readings of a heat source: with
// more, a trapezoid says little.
const MaxHeatPeriod = 15 * time.Minute

func (t Thermistor) check(report reporter, between func(string, float64, float64, float64)) {
	checkOneOf(report, "thermistor.reading", t.Reading, ReadingOhm, ReadingADC)
	full := t.Resolved()
	between("thermistor.beta", full.Beta, 1000, 10_000)
	between("thermistor.ohm", full.Ohm, 100, 1e6)
	between("thermistor.seriesOhm", full.SeriesOhm, 10, 1e7)
	if t.Reading == ReadingADC {
		between("thermistor.fullScale", t.FullScale, 1, math.MaxUint32)
	} else if t.FullScale != 0 || t.SeriesOhm != 0 || t.ToSupply {
		report("thermistor", "fullScale, seriesOhm and toSupply are for the reading %s only", ReadingADC)
	}
}

func (r HeatReference) check(report reporter) {
	full := r.Resolved()
	checkDecimal(report, "reference.kgPerKWh", full.KgPerKWh, 6, 0, 100)
	checkDecimal(report, "reference.efficiency", full.Efficiency, 6, 1e-2, 100)
}
