package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const estimateJSON = `{"workload":"CronJob/nightly","namespace":"batch","basis":"runs","runs":12,"seconds":{"p10":3500,"p50":3600,"p90":4100},"hardware":[
{"hardware":"small","basis":"runs","relativeTime":1,"cheapestStart":{"at":"2026-11-24T02:00:00Z","cost":0.08,"co2eGrams":30},"greenestStart":null,"runs":9,"seconds":{"p10":3500,"p50":3600,"p90":4100},"energyJoules":{"p10":100000,"p50":120000,"p90":140000},"co2eGrams":{"p10":null,"p50":null,"p90":null},"cost":{"p10":0.1,"p50":0.12,"p90":0.15},"currency":"EUR"}],
"starts":[],"cheapest":"2026-11-24T02:00:00Z","greenest":"2026-11-23T13:00:00Z","notes":["the CO2e of a starting hour assumes the grid's intensity of that hour of the last day"]}`

const reportJSON = `{"name":"nightly","from":"2026-11-22T03:00:00Z","to":"2026-11-22T05:00:00Z","seconds":7200,"failures":1,"turnaroundSeconds":{"p10":3600,"p50":3600,"p90":3600},"notes":[],
"runs":[{"cluster":"edge-a","namespace":"batch","pod":"nightly-1-abcde","workload":"CronJob/nightly","node":"n1","start":"2026-11-22T03:00:00Z","end":"2026-11-22T04:00:00Z","exitCode":1,"seconds":3600,"quality":"measured","cpuCoreSeconds":3600,"memoryByteSeconds":3865470566400,"cpuRequestCoreSeconds":7200,"memoryRequestByteSeconds":0,"cpuEfficiency":0.5,"memoryEfficiency":null,"energyJoules":36000,"co2eGrams":null,"cost":[{"cost":"0.10","currency":"EUR"}]}],
"total":{"cpuCoreSeconds":7200,"memoryByteSeconds":3865470566400,"cpuRequestCoreSeconds":14400,"memoryRequestByteSeconds":0,"cpuEfficiency":0.5,"memoryEfficiency":null,"energyJoules":72000,"co2eGrams":null,"cost":[{"cost":"0.20","currency":"EUR"}]},
"failed":{"cost":[{"cost":"0.10","currency":"EUR"}]}}`

func TestEstimateAndReport(t *testing.T) {
	for name, args := range map[string]string{"estimate": "estimate -f -", "report-run": "report run nightly", "report-run-html": "report run --group batch=nightly -o html", "report-run-json": "report run nightly --json"} {
		l := &leader{}
		out, code := l.run(t, "kind: Job", strings.Fields(args)...)
		if code != 0 {
			t.Fatal(out)
		}
		golden(t, name, out)
	}
	l := &leader{}
	if out, code := l.run(t, "", "report", "run"); code == 0 || !strings.Contains(out, "--group") {
		t.Errorf("without a name: %d %s", code, out)
	}
}

func TestEvaluateForecast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.csv")
	if err := os.WriteFile(file, []byte("time,value\n2026-11-01T00:00:00Z,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &leader{}
	if out, code := l.run(t, "", "evaluate", "forecast", "--csv", file); code == 0 || !strings.Contains(out, "too short") {
		t.Errorf("of one hour: %d %s", code, out)
	}
	var text strings.Builder
	text.WriteString("time,value\n")
	for hour := range 24 * 12 {
		text.WriteString("2026-11-" + twoDigits(1+hour/24) + "T" + twoDigits(hour%24) + ":00:00Z,2.5\n")
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := l.run(t, "", "evaluate", "forecast", "--csv", file)
	if code != 0 {
		t.Fatal(out)
	}
	golden(t, "evaluate-forecast", out)
}

func twoDigits(n int) string { return string([]byte{byte('0' + n/10), byte('0' + n%10)}) }
