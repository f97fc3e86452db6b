package processors

import (
	"math"
	"testing"
)

var ntc = Sensor{Kind: SensorOhm, BetaMillikelvin: 3_435_000, Milliohm: 10_000_000, SeriesMilliohm: 10_000_000, FullScaleMicro: 4095e6}

// The check values of a 10 kΩ thermistor of B = 3435 K.
func TestThermistor(t *testing.T) {
	for _, c := range []struct {
		ohm  int64
		want int64 // 1e-2 °C
	}{{10_000, 2500}, {5_000, 4409}, {20_000, 808}, {3_000, 5979}} {
		got, ok := ntc.Millicelsius(c.ohm * 1_000_000)
		if !ok || (got+5)/10 != c.want {
			t.Errorf("%d Ω: %d m°C (%v), want %d.%02d °C", c.ohm, got, ok, c.want/100, c.want%100)
		}
		adc := ntc
		adc.Kind = SensorADC
		reading := int64(math.Round(4095e6 * float64(c.ohm) / float64(c.ohm+10_000)))
		if byDivider, ok := adc.Millicelsius(reading); !ok || max(byDivider-got, got-byDivider) > 1 {
			t.Errorf("%d Ω by the divider: %d m°C (%v), want %d", c.ohm, byDivider, ok, got)
		}
		adc.ToSupply = true
		if byDivider, ok := adc.Millicelsius(int64(4095e6) - reading); !ok || max(byDivider-got, got-byDivider) > 1 {
			t.Errorf("%d Ω to the supply: %d m°C (%v), want %d", c.ohm, byDivider, ok, got)
		}
	}
}

// An open or a shorted sensor is a fault and never a temperature.
func TestSensorFaults(t *testing.T) {
	adc := ntc
	adc.Kind = SensorADC
	celsius := Sensor{Kind: SensorCelsius}
	for name, c := range map[string]struct {
		sensor Sensor
		micro  int64
	}{
		"divider at 0": {adc, 0}, "divider shorted": {adc, 4095e6 * 19 / 1000}, "divider open": {adc, 4095e6 * 981 / 1000},
		"divider full": {adc, 4095e6}, "divider beyond": {adc, 5000e6}, "0 Ω": {ntc, 0}, "below 0 Ω": {ntc, -1e6}, "100 Ω": {ntc, 100e6}, "1 MΩ": {ntc, 1e12},
		"DS18B20 that is gone": {celsius, -127e6}, "-40.1 °C": {celsius, -40_100_000}, "200 °C": {celsius, 200e6}, "no kind": {Sensor{}, 20e6},
		"no full scale": {Sensor{Kind: SensorADC, BetaMillikelvin: 1, Milliohm: 1}, 1},
	} {
		if got, ok := c.sensor.Millicelsius(c.micro); ok {
			t.Errorf("%s shows %d m°C", name, got)
		}
	}
	if got, ok := celsius.Millicelsius(-39_900_000); !ok || got != -39_900 {
		t.Errorf("-39.9 °C: %d, %v", got, ok)
	}
}

func TestLogarithm(t *testing.T) {
	for x := 1e-6; x < 1e6; x *= 1.0173 {
		if got, want := logarithm(x), math.Log(x); math.Abs(got-want) > 4e-15*max(1, math.Abs(want)) {
			t.Fatalf("ln %g = %.17g, want %.17g", x, got, want)
		}
	}
}
