package fleet

import (
	"errors"
	"strings"
	"testing"
)

// climate is a sample with heat, grids and contracts.
func climate() []Object {
	limit := 85.0
	return append(sample(),
		NewObject("tank", HeatSource{Box: "box-1", Household: "h1", Method: HeatThermistors, MaxStoreCelsius: &limit, Thermistor: Thermistor{Reading: ReadingADC, FullScale: 4095}}),
		NewObject("nl", Grid{Zone: "NL"}),
		NewObject("east", Grid{Zone: "DE", Binding: Binding{Regions: []string{"east"}}}),
		NewObject("se", Grid{Zone: "SE-SE3", Source: GridElectricityMaps, URL: "https://api.example.net", Binding: Binding{Clusters: []string{"alpha"}}}),
		NewObject("roof", Grid{Zone: "FR", Source: GridImported, Binding: Binding{Boxes: []string{"box-2"}}}),
		NewObject("wind", EnergyContract{GramsPerKWh: "12.5", Instrument: "ppa", Binding: Binding{Clusters: []string{"beta"}}}))
}

// A box's grid is the one that names it, then its clusters', then their regions',
// then the one for all others; where its clusters disagree there is none.
func TestGridOfABox(t *testing.T) {
	if err := Validate(climate(), nil); err != nil {
		t.Fatal(err)
	}
	f := New(day, climate())
	for name, c := range map[string]struct {
		box, cluster, want string
	}{
		"named":               {"box-2", "", "FR"}, // its cluster's would be SE-SE3
		"clusters disagree":   {"box-1", "", ""},   // alpha in SE-SE3, beta in NL
		"by cluster":          {"", "alpha", "SE-SE3"},
		"for all others":      {"", "beta", "NL"},
		"a cluster not known": {"", "stray", "NL"},
	} {
		var clusters []string
		if c.cluster != "" {
			clusters = []string{c.cluster}
		}
		if got, ok := f.GridOf(c.box, clusters...); got.Zone != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q %v, want %q", name, got.Zone, ok, c.want)
		}
	}
	moved := append(climate(), NewObject("gamma", Cluster{URL: "https://127.0.0.1:1", Region: "east"}))
	if got, _ := New(day, moved).GridOf("", "gamma"); got.Zone != "DE" {
		t.Errorf("by region: %q", got.Zone)
	}
	if got, ok := f.ContractOf("", "beta"); !ok || got.GramsPerKWh.Thousandths() != 12_500 {
		t.Errorf("contract: %+v", got)
	}
	if _, ok := f.ContractOf("", "alpha"); ok {
		t.Error("a contract of another cluster")
	}
}

func TestDefaultsOfHeat(t *testing.T) {
	f := New(day, climate())
	tank, _ := f.HeatSource("tank")
	if r := tank.Thermistor.Resolved(); r.Beta != 3435 || r.Ohm != 10_000 || r.SeriesOhm != 10_000 {
		t.Errorf("thermistor %+v", r)
	}
	if tank.FluidMillijoules() != 4_186_800 || tank.ReversedMillikelvin() != 500 || tank.Reference.MilligramPerKWh() != 202_000 || tank.Reference.EfficiencyMicro() != 1_000_000 {
		t.Errorf("%d mJ/(l·K), %d mK, %d mg/kWh, %d", tank.FluidMillijoules(), tank.ReversedMillikelvin(), tank.Reference.MilligramPerKWh(), tank.Reference.EfficiencyMicro())
	}
}

func TestHeatAndCarbonAreChecked(t *testing.T) {
	zero := -1.0
	for want, spec := range map[string]Spec{
		`spec.box: Box "nowhere" does not exist`:                 HeatSource{Box: "nowhere", Method: HeatTemperatures},
		`spec.method: "guess" is none of`:                        HeatSource{Box: "box-1", Method: "guess"},
		`spec.captureFactor: 0 is not between`:                   HeatSource{Box: "box-1", Method: HeatCapture},
		`spec.captureFactor: 1.2 is not between`:                 HeatSource{Box: "box-1", Method: HeatCapture, CaptureFactor: 1.2},
		`spec.captureFactor: is for the method capture only`:     HeatSource{Box: "box-1", Method: HeatTemperatures, CaptureFactor: 0.5},
		`spec.thermistor: is for the method thermistors only`:    HeatSource{Box: "box-1", Method: HeatTemperatures, Thermistor: Thermistor{Reading: ReadingOhm}},
		`spec.thermistor.reading: "" is none of`:                 HeatSource{Box: "box-1", Method: HeatThermistors},
		`spec.thermistor.fullScale: 0 is not between`:            HeatSource{Box: "box-1", Method: HeatThermistors, Thermistor: Thermistor{Reading: ReadingADC}},
		`spec.thermistor: fullScale, seriesOhm and toSupply are`: HeatSource{Box: "box-1", Method: HeatThermistors, Thermistor: Thermistor{Reading: ReadingOhm, FullScale: 4095}},
		`spec.fluid: "beer" is none of`:                          HeatSource{Box: "box-1", Method: HeatTemperatures, Fluid: "beer"},
		`spec.period: 1h0m0s is not between`:                     HeatSource{Box: "box-1", Method: HeatTemperatures, Period: Duration(3600e9)},
		`spec.maxStoreCelsius: -1 is not between`:                HeatSource{Box: "box-1", Method: HeatTemperatures, MaxStoreCelsius: &zero},
		`spec.reference.efficiency: 0 is not between`:            HeatSource{Box: "box-1", Method: HeatTemperatures, Reference: HeatReference{Efficiency: "0"}},
		`spec.reference.kgPerKWh: "much" is no decimal`:          HeatSource{Box: "box-1", Method: HeatTemperatures, Reference: HeatReference{KgPerKWh: "much"}},
		`spec.zone: "nl" is no zone`:                             Grid{Zone: "nl", Binding: Binding{Boxes: []string{"box-1"}}},
		`spec.url: is for the source electricitymaps only`:       Grid{Zone: "NL", URL: "http://x", Binding: Binding{Boxes: []string{"box-1"}}},
		`spec.url: "" has the scheme`:                            Grid{Zone: "NL", Source: GridElectricityMaps, Binding: Binding{Boxes: []string{"box-1"}}},
		`ends with /v3: leave that out`:                          Grid{Zone: "NL", Source: GridElectricityMaps, URL: "https://x/v3/", Binding: Binding{Boxes: []string{"box-1"}}},
		`spec.noYearly: leaves the source yearly nothing`:        Grid{Zone: "NL", NoYearly: true, Binding: Binding{Boxes: []string{"box-1"}}},
		`spec.boxes: Grid/nl is for all others already`:          Grid{Zone: "BE"},
		`spec.boxes: "box-2" is bound to Grid/roof already`:      Grid{Zone: "BE", Binding: Binding{Boxes: []string{"box-2"}}},
		`"east" is bound to Grid/east already`:                   Grid{Zone: "BE", Binding: Binding{Regions: []string{"east"}}},
		`spec.gramsPerKWh: "" is no decimal`:                     EnergyContract{Instrument: "ppa"},
		`spec.gramsPerKWh: 0.0001 has more than 3 decimals`:      EnergyContract{GramsPerKWh: "0.0001", Instrument: "ppa"},
		`spec.instrument: is empty`:                              EnergyContract{GramsPerKWh: "1"},
		`"beta" is bound to EnergyContract/wind already`:         EnergyContract{GramsPerKWh: "1", Instrument: "ppa", Binding: Binding{Clusters: []string{"beta"}}},
		`embodiedKg and lifetimeYears need each other`:           Hardware{EmbodiedKg: 100},
		`spec.heatFraction: 1.5 is not between 0 and 1`:          Box{HeatFraction: 1.5},
	} {
		err := Validate([]Object{NewObject("x", spec)}, climate())
		var problems Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
