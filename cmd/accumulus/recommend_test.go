package main

import "testing"

const recommendJSON = `{"from":"2026-11-22T11:00:00Z","to":"2026-11-23T11:00:00Z","rows":[{"cluster":"edge-a","namespace":"shop","workload":"Deployment/web","podMinutes":4320,"cpuCores":{"requested":2,"p95":0.1,"p99":0.12,"max":0.9,"recommend":0.138},"memoryBytes":{"requested":1073741824,"p95":100000000,"p99":110000000,"max":400000000,"recommend":460324864},"savingPerMonth":[{"cost":"68.80","currency":"EUR"}]}],"moves":[{"kind":"hour","cluster":"edge-a","namespace":"batch","workload":"CronJob/nightly","from":"12:00","to":"03:00","savingPerMonth":[{"cost":"1.10","currency":"EUR"}],"savedEnergyJoulesPerMonth":0,"savedCo2eGramsPerMonth":null,"evidence":"10 runs that ended well in 14 days","assumes":["it may begin then, and takes as long"]}],"notes":["figures are means of minutes: shorter peaks are not in them"]}`

func TestRecommendCommand(t *testing.T) {
	l := &leader{}
	out, code := l.run(t, "", "recommend", "-f", "namespace=shop")
	if code != 0 {
		t.Fatal(out)
	}
	golden(t, "recommend", out)
}
