package processors

import "math"

// SensorKind says what a temperature sensor's number is.
type SensorKind string

// The kinds.
const (
	SensorCelsius SensorKind = "celsius" // °C
	SensorOhm     SensorKind = "ohm"     // resistance of a thermistor (NTC), Ω
	SensorADC     SensorKind = "adc"     // a divider's reading, 0 to full scale
)

// Sensor is how a temperature sensor is read.
type Sensor struct {
	Kind SensorKind
	// Of a thermistor, by the B formula 1/T = 1/T0 + ln(R/R0)/B with T0 = 25 °C.
	BetaMillikelvin int64 // B, usual 3435 K
	Milliohm        int64 // R0, usual 10 kΩ
	// Of a divider: its other resistor and the reading at full scale. The
	// thermistor lies between the reading's point and ground, or to the supply.
	SeriesMilliohm int64
	FullScaleMicro int64
	ToSupply       bool
}

// What a sensor can show. Outside, it is broken or was read wrongly.
const (
	coldestMillicelsius = -40_000
	hottestMillicelsius = 150_000
	// A divider beyond these parts of full scale, in 1e-6, is shorted or open.
	shortMicro = 20_000
	openMicro  = 980_000
)

// kelvin0 is 0 °C, and kelvin25 25 °C, in K.
const (
	kelvin0  = 273.15
	kelvin25 = 298.15
)

// Millicelsius is the temperature of a reading in 1e-6 of the sensor's unit, in
// 1e-3 °C. ok is false where the sensor is open, shorted or beyond what it can
// show: that is a fault and never a temperature.
func (s Sensor) Millicelsius(micro int64) (int64, bool) {
	switch s.Kind {
	case SensorCelsius:
		milli := micro / 1000
		return milli, milli >= coldestMillicelsius && milli <= hottestMillicelsius
	case SensorOhm:
		return s.ofRatio(float64(micro) / float64(s.Milliohm) / 1000)
	case SensorADC:
		if s.FullScaleMicro <= 0 || micro < MulDiv(s.FullScaleMicro, shortMicro, 1_000_000) || micro > MulDiv(s.FullScaleMicro, openMicro, 1_000_000) {
			return 0, false
		}
		below, above := float64(micro), float64(s.FullScaleMicro-micro)
		if s.ToSupply {
			below, above = above, below
		}
		series := float64(s.SeriesMilliohm) / float64(s.Milliohm)
		return s.ofRatio(float64(below/above) * series)
	}
	return 0, false
}

// ofRatio is the temperature at R/R0.
func (s Sensor) ofRatio(ratio float64) (int64, bool) {
	if !(ratio > 0) || s.BetaMillikelvin <= 0 || math.IsInf(ratio, 1) {
		return 0, false
	}
	inverse := float64(1/kelvin25) + float64(logarithm(ratio)*1000/float64(s.BetaMillikelvin))
	if !(inverse > 0) {
		return 0, false
	}
	celsius := float64(1/inverse) - kelvin0
	milli := int64(math.Round(float64(min(max(celsius, -1000), 1000) * 1000)))
	return milli, milli >= coldestMillicelsius && milli <= hottestMillicelsius
}

// logarithm is ln x of a positive x, the same on every machine: math.Log is
// assembly on some, and products and sums are fused on others. Every product is
// rounded here by its conversion (the language's rule), and the series has fewer
// than 1e-17 left at its end.
func logarithm(x float64) float64 {
	fraction, exponent := math.Frexp(x) // exact
	if fraction < math.Sqrt2/2 {
		fraction, exponent = fraction*2, exponent-1
	}
	s := (fraction - 1) / (fraction + 1)
	square := float64(s * s)
	sum := 0.0
	for n := 25; n >= 1; n -= 2 {
		sum = float64(sum*square) + 1/float64(n)
	}
	return float64(float64(2*s)*sum) + float64(float64(exponent)*math.Ln2)
}
