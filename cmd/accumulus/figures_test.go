package main

import (
	"strings"
	"testing"
)

const (
	figuresHead = `{"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","settled":"2026-11-23T11:00:00Z","total":2,"next":"","provisional":[],"clusters":[],`
	figuresSpan = `"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z",`

	energyJSON = figuresHead + `"aggregate":["box"],"notes":[],"rows":[
{"key":{"box":"box-1"},` + figuresSpan + `"energyJoules":180000.5,"energyActiveJoules":120000.5,"energyIdleJoules":50000,"energyOverheadJoules":10000,"energyMeasuredJoules":178800.5,"energyModelledJoules":175000,"energyUncertaintyJoules":3600,"residualJoules":0,"heatJoules":180000.5,"coverage":0.987,"quality":"mixed","provisional":true},
{"key":{"box":"box-2"},` + figuresSpan + `"energyJoules":3600,"energyActiveJoules":3600,"energyIdleJoules":0,"energyOverheadJoules":0,"energyMeasuredJoules":0,"energyModelledJoules":3600,"energyUncertaintyJoules":0,"heatJoules":null,"coverage":1,"quality":"estimated","provisional":false}]}`

	heatJSON = figuresHead + `"aggregate":["box"],"notes":["Useful heat of households is told by day."],"rows":[
{"key":{"box":"box-1"},` + figuresSpan + `"energyJoules":180000.5,"producedJoules":180000.5,"usefulJoules":90000.25,"quality":"mixed","provisional":false},
{"key":{"box":"box-2"},` + figuresSpan + `"energyJoules":3600,"producedJoules":null,"usefulJoules":0,"quality":"estimated","provisional":false}],
"days":[{"day":"2026-11-19","source":"tank","household":"h-0412","box":"box-1","usefulJoules":7200000,"avoidedGrams":404,"reference":"gas_boiler, 0.202 kg/kWh, efficiency 1.0","coveredSeconds":79200,"fullSeconds":3600,"faultySeconds":0,"reversedSeconds":0,"gapSeconds":3600,"implausibleQuarters":1,"quality":"measured"}]}`

	carbonJSON = figuresHead + `"aggregate":["box"],"notes":["Four figures."],"sources":["Ember yearly mean of NL, 2024"],"references":["gas_boiler, 0.202 kg/kWh, efficiency 1.0"],"rows":[
{"key":{"box":"box-1"},` + figuresSpan + `"energyJoules":3600000,"locationGrams":231.4,"locationEnergyJoules":3600000,"locationEstimatedJoules":1800000,"locationQuality":"mixed","marketGrams":0,"marketEnergyJoules":1800000,"embodiedGrams":12.345678,"avoidedGrams":101,"quality":"measured","provisional":false},
{"key":{"box":"box-2"},` + figuresSpan + `"energyJoules":3600,"locationGrams":null,"locationEnergyJoules":0,"locationEstimatedJoules":0,"locationQuality":"","marketGrams":null,"marketEnergyJoules":0,"embodiedGrams":0.000001,"avoidedGrams":0,"quality":"estimated","provisional":true}]}`
)

func TestFiguresGolden(t *testing.T) {
	for name, args := range map[string]string{
		"energy":       "energy --aggregate box",
		"energy-base":  "energy --aggregate box --units base",
		"energy-csv":   "energy --aggregate box -o csv",
		"heat":         "heat",
		"heat-csv":     "heat -o csv",
		"heat-days":    "heat --days",
		"heat-dayscsv": "heat --days -o csv",
		"carbon":       "carbon --aggregate box",
		"carbon-base":  "carbon --aggregate box --units base",
		"carbon-csv":   "carbon --aggregate box -o csv",
		"carbon-json":  "carbon --aggregate box -o json",
	} {
		t.Run(name, func(t *testing.T) {
			got, code := (&leader{}).run(t, "", strings.Fields(args)...)
			if code != 0 {
				t.Fatal(got)
			}
			golden(t, name, got)
		})
	}
}

func TestFiguresAskWhatWasWanted(t *testing.T) {
	for command, want := range map[string]string{
		"energy --cluster a --step 15m --sort -energy -a pod -f namespace=shop*": "GET /api/v1/energy?aggregate=pod&completeness=true&filter=namespace%3Dshop%2A&filter=cluster%3Da&sort=-energy&step=15m&window=1h ",
		"heat --days -w lastmonth": "GET /api/v1/heat?aggregate=box&completeness=true&days=true&window=lastmonth ",
		"carbon -o csv --limit 3":  "GET /api/v1/carbon?aggregate=cluster%2Cnamespace&limit=3&window=1h ",
	} {
		l := &leader{}
		if out, code := l.run(t, "", strings.Fields(command)...); code != 0 || len(l.asked) != 1 || l.asked[0] != want {
			t.Errorf("%s: %d, asked %q\n%s", command, code, l.asked, out)
		}
	}
	if out, code := (&leader{}).run(t, "", "carbon", "imprt"); code == 0 {
		t.Errorf("a command that is not there: %s", out)
	}
}
