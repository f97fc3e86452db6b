package main

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

const allocationJSON = `{"code":200,"data":[{
"edge-a/shop":{"name":"edge-a/shop","properties":{"cluster":"edge-a","namespace":"shop"},"cpuCost":1.25,"ramCost":0.5,"pvCost":0,"energyCost":0.125,"totalCost":1.875,"energyKwh":0.44,"totalEfficiency":0.61,"currency":"EUR"},
"edge-a/base":{"name":"edge-a/base","properties":{"cluster":"edge-a","namespace":"base"},"cpuCost":0.003,"ramCost":0,"pvCost":12.5,"energyCost":0,"totalCost":12.503,"energyKwh":0,"totalEfficiency":0,"currency":"EUR"},
"edge-a/__idle__":{"name":"edge-a/__idle__","properties":{"cluster":"edge-a"},"cpuCost":3,"ramCost":1,"totalCost":4,"energyKwh":1.5,"totalEfficiency":0,"currency":"EUR"}}],
"accumulus":{"window":{"start":"2026-11-17T00:00:00Z","end":"2026-11-23T12:00:00Z"},"currency":"EUR","total":3,"nextOffset":null,"closed":false,"warnings":["something does not add up"]}}`

func (l *leader) runPlugin(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	server := httptest.NewServer(l)
	defer server.Close()
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, errOut: &out, clock: clock.System(), getenv: func(name string) string {
		return map[string]string{"ACCUMULUS_SERVER": server.URL}[name]
	}}
	code = runAs(t.Context(), a, "/usr/local/bin/kubectl-accumulus", args)
	return strings.ReplaceAll(out.String(), server.URL, "SERVER"), code
}

func TestPluginGolden(t *testing.T) {
	for name, args := range map[string]string{
		"kubectl-namespace":     "namespace --window 7d",
		"kubectl-namespace-all": "namespace --window 7d --show-all-resources --historical --idle",
		"kubectl-label":         "label -l app --show-cpu --show-efficiency=false",
		"kubectl-csv":           "namespace -o csv -A",
		"kubectl-help":          "--help",
	} {
		got, code := (&leader{}).runPlugin(t, strings.Fields(args)...)
		if code != 0 {
			t.Fatalf("%s: exit code %d: %s", name, code, got)
		}
		golden(t, name, got)
	}
}

func TestPluginAsks(t *testing.T) {
	for args, want := range map[string]string{
		"deployment --window 7d --historical -n shop": "GET /allocation?accumulate=true&aggregate=cluster%2Cnamespace%2Cdeployment&filter=namespace%3A%22shop%22&window=7d ",
		"controller --share-idle even --currency EUR": "GET /allocation?accumulate=true&aggregate=cluster%2Cnamespace%2Ccontroller&costMetric=monthly&currency=EUR&shareIdle=even&window=1d ",
		"node --idle --cluster a":                     "GET /allocation?accumulate=true&aggregate=cluster%2Cnode&costMetric=monthly&filter=cluster%3A%22a%22&includeIdle=true&window=1d ",
		"pod":                                         "GET /allocation?accumulate=true&aggregate=cluster%2Cnamespace%2Cpod&costMetric=monthly&window=1d ",
	} {
		l := &leader{}
		if out, code := l.runPlugin(t, strings.Fields(args)...); code != 0 || len(l.asked) != 1 || l.asked[0] != want {
			t.Errorf("%s: %d %v\n%s", args, code, l.asked, out)
		}
	}
	if out, code := (&leader{}).runPlugin(t, "label"); code == 0 || !strings.Contains(out, "--label app") {
		t.Errorf("label without a name: %d %s", code, out)
	}
	if out, code := (&leader{}).runPlugin(t, "namespaces"); code == 0 || !strings.Contains(out, "namespace") {
		t.Errorf("a wrong command: %d %s", code, out)
	}
}
