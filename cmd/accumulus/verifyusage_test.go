package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One row of usage: an hour of 3600 core-seconds.
const verifiedJSON = `{"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","settled":"2026-11-23T11:00:00Z","aggregate":[],"total":1,"next":"","provisional":[],"clusters":[],"rows":[
{"key":{},"from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","cpuCoreSeconds":3600.5,"memoryByteSeconds":1000,"networkReceiveBytes":5,"networkTransmitBytes":0,"cost":null,"quality":"measured"}]}`

func TestVerifyUsage(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	asked := ""
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query().Get("query") + " " + r.URL.Query().Get("time")
		switch {
		case strings.Contains(asked, "empty"):
			_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
		case strings.Contains(asked, "wrong"):
			_, _ = io.WriteString(w, `{"status":"error","error":"parse error"}`)
		default:
			_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795431600,"3590.25"]}]}}`)
		}
	}))
	defer prometheus.Close()
	for _, test := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"--source", file("good.csv", "quantity,value\ncpuCoreSeconds,3601\nmemoryByteSeconds,1001.5\nnetworkTransmitBytes,0\n")}, 0, "Tolerance 2.500 %: at both edges of 1h0m0s"},
		{[]string{"--source", file("far.csv", "quantity,value\ncpuCoreSeconds,1800\n")}, 1, "NO"},
		{[]string{"--source", file("odd.csv", "quantity,value\nwatts,1\n")}, 1, "line 2: quantity \"watts\""},
		{[]string{"--source", file("bad.csv", "quantity,value\ncpuCoreSeconds,x\n")}, 1, "is no number"},
		{[]string{"--source", file("header.csv", "cpuCoreSeconds,1\n")}, 1, "want a header"},
		{[]string{"--source", filepath.Join(dir, "nowhere")}, 1, "no such file"},
		{[]string{"--source", "prometheus", "--prometheus", prometheus.URL}, 0, "0.285"},
		{[]string{"--source", "prometheus", "--prometheus", prometheus.URL, "--selector", `job="empty"`}, 1, "look at --selector"},
		{[]string{"--source", "prometheus", "--prometheus", prometheus.URL, "--selector", `job="wrong"`}, 1, "parse error"},
	} {
		l := &leader{usage: verifiedJSON}
		out, code := l.run(t, "", append([]string{"verify", "usage", "--cluster", "edge-a", "--namespace", "shop", "--window", "1h"}, test.args...)...)
		if code != test.code || !strings.Contains(out, test.said) {
			t.Errorf("%v: code %d\n%s", test.args, code, out)
		}
	}
	l := &leader{usage: verifiedJSON}
	if out, code := l.run(t, "", "verify", "usage", "--cluster", "edge-a", "--namespace", "shop", "--source", "prometheus", "--prometheus", prometheus.URL, "--json"); code != 0 || !strings.Contains(out, `"withinTolerance": true`) {
		t.Errorf("code %d\n%s", code, out)
	}
	if out, code := l.run(t, "", "verify", "usage", "--cluster", "edge-a", "--namespace", "shop", "--source", "prometheus", "--prometheus", prometheus.URL, "-o", "yaml"); code != 0 || !strings.Contains(out, "withinTolerance: true") {
		t.Errorf("code %d\n%s", code, out)
	}
	if !strings.Contains(l.asked[0], "filter=cluster%3Dedge-a&filter=namespace%3Dshop") {
		t.Errorf("asked the leader %s", l.asked)
	}
	if want := `sum(increase(container_cpu_usage_seconds_total{namespace="shop",container!="",container!="POD"}[3600s])) 2026-11-23T11:00:00Z`; asked != want {
		t.Errorf("asked %s", asked)
	}
}
