package main

import (
	"strings"
	"testing"
)

const ratesJSON = `{"settled":"2026-11-23T11:00:00Z","aggregate":["customer"],"rows":[
{"key":{"customer":"acme"},"hour":{"cpuCores":2.5,"cpuRequestCores":4,"memoryBytes":8589934592,"memoryRequestBytes":0,"watts":41.5,"co2eGramsPerHour":11.2,"costPerHour":[{"cost":"0.20","currency":"EUR"}]},"day":{"costPerHour":[{"cost":"0.18","currency":"EUR"}]}},
{"key":{"customer":"__unassigned__"},"hour":{"cpuCores":0.1,"watts":2,"co2eGramsPerHour":null,"costPerHour":[]},"day":{"costPerHour":[]}}]}`

const forecastJSON = `{"settled":"2026-11-23T11:00:00Z","until":"month","aggregate":["customer"],"statedCoverage":0.8,"assumptions":["price lists go on as they hold now"],"rows":[
{"key":{"customer":"acme"},"from":"2026-11-01T00:00:00Z","to":"2026-12-01T00:00:00Z","zone":"UTC",
"resources":[{"resource":"cpuCoreSeconds","soFar":7200000,"p10":9000000,"p50":9360000,"p90":9720000,"model":"week-naive","measuredCoverage":0.81,"checkedOrigins":62,"wape":0.05,"mase":0.3,"testedHours":180,"hours":840},
{"resource":"memoryByteSeconds","soFar":3865470566400,"p10":null,"p50":7730941132800,"p90":null,"model":"run-rate","measuredCoverage":null,"checkedOrigins":0,"wape":null,"mase":null,"testedHours":1,"hours":3}],
"costs":[{"currency":"EUR","spentBy":{"p10":"2026-11-28T04:00:00Z","p50":"2026-11-29T07:00:00Z","p90":null},"soFar":"120.00","p10":"150.00","p50":"155.123456","p90":"160.00","model":"week-naive","measuredCoverage":0.79,"checkedOrigins":62,"wape":0.05,"mase":0.3,"testedHours":180,"hours":840}]}]}`

const forecastJobJSON = `{"cluster":"edge-a","namespace":"lab","name":"simulate","workload":"Job/simulate","settled":"2026-11-23T11:00:00Z","start":"2026-11-23T08:00:00Z","completions":500,"completionsBasis":"given","succeeded":120,"failed":3,"running":8,
"turnaroundSeconds":{"p10":300,"p50":600,"p90":1200},"pods":120,"statedCoverage":0.8,"end":{"p10":"2026-11-23T19:00:00Z","p50":"2026-11-23T20:00:00Z","p90":"2026-11-23T21:30:00Z"},
"costs":[{"currency":"EUR","soFar":"1.20","p10":null,"p50":"5.00","p90":null}],"assumptions":["8 pods go on running at a time"]}`

func TestRatesAndForecast(t *testing.T) {
	for name, args := range map[string]string{"rates": "rates", "rates-json": "rates --json", "forecast": "forecast", "forecast-json": "forecast -a customer --json", "forecast-help": "forecast --help", "forecast-job": "forecast job simulate -n lab --completions 500"} {
		l := &leader{}
		out, code := l.run(t, "", strings.Fields(args)...)
		if code != 0 {
			t.Fatal(out)
		}
		golden(t, name, out)
	}
	l := &leader{}
	if out, code := l.run(t, "", "forecast", "--until", "7d", "--zone", "Europe/Berlin", "-a", "namespace", "--cluster", "a"); code != 0 {
		t.Fatal(out)
	}
	if want := "/api/v1/forecast?aggregate=namespace&filter=cluster%3Da&until=7d&zone=Europe%2FBerlin"; !strings.Contains(l.asked[0], want) {
		t.Errorf("asked %s, want %s", l.asked[0], want)
	}
}
