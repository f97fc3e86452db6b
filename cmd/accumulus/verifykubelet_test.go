package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// jumping is a clock that is where it is asked to be.
type jumping struct{ *clock.Manual }

func (j jumping) Sleep(_ context.Context, d time.Duration) error {
	j.Advance(d)
	return nil
}

func (j jumping) SleepUntil(_ context.Context, t time.Time) error {
	j.Set(t)
	return nil
}

// kubelets are an API server with one node, whose pods use what is said per second,
// as it was seven seconds ago.
func kubelets(t *testing.T, now clock.Clock, cores map[string]float64) string {
	began := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := now.Now().Add(-7 * time.Second)
		w.Header().Set("Date", now.Now().Format(http.TimeFormat))
		shown := at
		if strings.Contains(r.URL.Path, "/ahead/") {
			w.Header().Set("Date", now.Now().AddDate(0, 1, 0).Format(http.TimeFormat))
			shown = at.AddDate(0, 1, 0)
		}
		switch r.URL.Path {
		case "/api/v1/nodes":
			_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":"n1"}}]}`)
		case "/api/v1/nodes/n1/proxy/stats/summary", "/api/v1/nodes/ahead/proxy/stats/summary":
			var pods []string
			for name, rate := range cores {
				nanos := int64(at.Sub(began).Seconds() * rate * 1e9)
				pods = append(pods, fmt.Sprintf(`{"podRef":{"name":%q,"namespace":"shop"},"cpu":{"time":%q,"usageCoreNanoSeconds":%d},"network":{"time":%q,"interfaces":[{"name":"eth0","rxBytes":%d,"txBytes":0},{"name":"net1","rxBytes":0}]}}`,
					name, shown.Format(time.RFC3339), nanos, shown.Format(time.RFC3339), nanos/1e6))
			}
			if now.Now().Before(began.Add(65 * time.Minute)) {
				pods = append(pods, fmt.Sprintf(`{"podRef":{"name":"short","namespace":"shop"},"cpu":{"time":%q,"usageCoreNanoSeconds":5}}`, shown.Format(time.RFC3339)))
			}
			pods = append(pods, `{"podRef":{"name":"x","namespace":"other"},"cpu":{"time":"2026-11-23T09:59:00Z","usageCoreNanoSeconds":5}}`)
			_, _ = fmt.Fprintf(w, `{"node":{},"pods":[%s]}`, strings.Join(pods, ","))
		default:
			http.Error(w, "forbidden", http.StatusForbidden)
		}
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u, user: {}}]\ncontexts: [{name: edge, context: {cluster: c, user: u}}]\n", server.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// meteredJSON is what the leader metered of web-0 and web-1 in ten minutes.
const meteredJSON = `{"from":"2026-11-23T10:01:00Z","to":"2026-11-23T10:11:00Z","settled":"%s","aggregate":["pod"],"total":2,"next":"","provisional":[],"clusters":[],"rows":[
{"key":{"pod":"web-0"},"from":"2026-11-23T10:01:00Z","to":"2026-11-23T10:11:00Z","cpuCoreSeconds":%s,"memoryByteSeconds":1000,"networkReceiveBytes":300000,"networkTransmitBytes":0,"cost":null,"quality":"measured"},
{"key":{"pod":"web-1"},"from":"2026-11-23T10:01:00Z","to":"2026-11-23T10:11:00Z","cpuCoreSeconds":6.1,"memoryByteSeconds":1000,"networkReceiveBytes":6000,"networkTransmitBytes":0,"cost":null,"quality":"measured"}]}`

func TestVerifyUsageByKubelets(t *testing.T) {
	for _, test := range []struct {
		name, settled, cpu, context string
		args                        []string
		code                        int
		said                        []string
	}{
		{"agree", "2026-11-23T10:12:00Z", "303.5", "edge", nil, 0, []string{"web-0", "cpuCoreSeconds", "300.000", "303.500", "1.167", "all", "Not compared: pod short: it ended meanwhile", "Bound: what a pod used around"}},
		{"a node whose clock is a month off", "2026-11-23T10:12:00Z", "303.5", "edge", []string{"--json", "--node", "ahead"}, 0, []string{`"own": "300.000"`, `"bound": "24.000"`}},
		{"differ", "2026-11-23T10:12:00Z", "150", "edge", nil, 1, []string{"NO", "differs by more"}},
		{"json", "2026-11-23T10:12:00Z", "303.5", "edge", []string{"--json"}, 0, []string{`"bound": "24.000"`}},
		{"a follower that reads often", "2026-11-23T10:12:00Z", "303.5", "edge", []string{"--json", "--scrape-interval", "5s"}, 0, []string{`"bound": "14.000"`}},
		{"a follower that never reads", "2026-11-23T10:12:00Z", "303.5", "edge", []string{"--scrape-interval", "0s"}, 1, []string{"more than 0s"}},
		{"never metered", "2026-11-23T10:10:00Z", "303.5", "edge", nil, 1, []string{"it has all until"}},
		{"another node", "2026-11-23T10:12:00Z", "303.5", "edge", []string{"--node", "n9"}, 1, []string{"nodes/proxy"}},
		{"too short", "2026-11-23T10:12:00Z", "303.5", "edge", []string{"--for", "90s"}, 1, []string{"whole minutes"}},
		{"no context", "2026-11-23T10:12:00Z", "303.5", "nowhere", nil, 1, []string{"it has: edge"}},
	} {
		now := jumping{clock.NewManual(time.Date(2026, 11, 23, 10, 0, 20, 0, time.UTC))}
		kubeconfig := kubelets(t, now, map[string]float64{"web-0": 0.5, "web-1": 0.01})
		l := &leader{usage: fmt.Sprintf(meteredJSON, test.settled, test.cpu)}
		server := httptest.NewServer(l)
		defer server.Close()
		var out bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, errOut: &out, clock: now, getenv: func(name string) string {
			return map[string]string{"ACCUMULUS_SERVER": server.URL}[name]
		}}
		args := append([]string{"verify", "usage", "--source", "kubelet", "--context", test.context, "--kubeconfig", kubeconfig, "--cluster", "edge-a", "--namespace", "shop"}, test.args...)
		code := run(t.Context(), a, args)
		if code != test.code {
			t.Errorf("%s: code %d\n%s", test.name, code, out.String())
		}
		for _, said := range test.said {
			if !strings.Contains(out.String(), said) {
				t.Errorf("%s: does not say %q\n%s", test.name, said, out.String())
			}
		}
		if test.name == "agree" && !strings.Contains(l.asked[0], "window=2026-11-23T10%3A01%3A00Z%2C2026-11-23T10%3A11%3A00Z") {
			t.Errorf("asked %s", l.asked)
		}
	}
}

func FuzzDecodeSummary(f *testing.F) {
	f.Add([]byte(`{"pods":[{"podRef":{"name":"a","namespace":"shop"},"cpu":{"time":"2026-11-23T09:59:00Z","usageCoreNanoSeconds":5}}]}`))
	f.Add([]byte(`{"pods":[{"podRef":{"namespace":"shop"},"network":{"time":"2026-11-23T09:59:00Z","interfaces":[{"rxBytes":1},{}]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		found, err := decodeSummary(text, "shop")
		for pod, counters := range found {
			for name, c := range counters {
				if err != nil || c.value == nil || c.value.Sign() < 0 || c.at.IsZero() {
					t.Errorf("%s of %q: %v", name, pod, c)
				}
			}
		}
	})
}

// TestKubeletThatAnswersLate: what a reading shows was counted when its counters say so,
// 22 s after the edge here: that is no use of before it. Taken as counted when it was
// asked for, which is the control, the stretch would have 22 s less.
func TestKubeletThatAnswersLate(t *testing.T) {
	edge := time.Date(2026, 11, 23, 10, 1, 0, 0, time.UTC)
	shows := func(counted int) kubeletReading { // half a core, counted so many seconds after the edge
		return kubeletReading{"web": {"cpuCoreSeconds": {edge.Add(time.Duration(counted) * time.Second), big.NewRat(int64(counted)+1000, 2)}}}
	}
	after := func(seconds int) time.Time { return edge.Add(time.Duration(seconds) * time.Second) }
	late := []timed{{shows(-32), after(-30), after(-30)}, {shows(-18), after(-17), after(-16)}, {shows(20), after(0), after(21)}, {shows(22), after(3), after(23)}, {shows(38), after(38), after(39)}}
	e := edgeOf(edge, 10*time.Second, late)
	if at := e.at["web"]["cpuCoreSeconds"].value; at.Cmp(big.NewRat(500, 1)) != 0 || at.Cmp(late[2].kubeletReading["web"]["cpuCoreSeconds"].value) == 0 {
		t.Errorf("%s at the edge, want 500", at.FloatString(3))
	}
	if grown := e.grown("web", "cpuCoreSeconds"); grown == nil || grown.Cmp(big.NewRat(19, 1)) != 0 {
		t.Errorf("its bound is %v, want that of 38 s", grown)
	}
	for name, readings := range map[string][]timed{"nothing came a span before the edge": late[1:], "nothing was counted after it": late[:2], "nothing was asked for a span after it": late[:4]} {
		if e := edgeOf(edge, 10*time.Second, readings); e.grown("web", "cpuCoreSeconds") != nil {
			t.Errorf("%s: it has a bound", name)
		}
	}
}

// TestBoundOfWhatHappensAtAnEdge: what a pod sends once, at an edge, may be metered on
// its other side; so much and no more. A mean rate would not know of it.
func TestBoundOfWhatHappensAtAnEdge(t *testing.T) {
	from := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	w := schema.Window{From: from, To: from.Add(10 * time.Minute)}
	sent := func(at time.Time, bytes int64) kubeletReading {
		return kubeletReading{"idle": {"networkTransmitBytes": {at, big.NewRat(bytes, 1)}}}
	}
	begin := edgeReadings{before: sent(from.Add(-15*time.Second), 100_000), at: sent(from, 118_400), after: sent(from.Add(20*time.Second), 118_400)}
	end := edgeReadings{before: sent(w.To.Add(-15*time.Second), 144_600), at: sent(w.To, 144_600), after: sent(w.To.Add(20*time.Second), 144_600)}
	for metered, within := range map[int64]bool{26_200: true, 44_600: true, 7_700: false, 63_100: false} {
		made := compareCounters(w, begin, end, map[string]map[string]*big.Rat{"idle": {"networkTransmitBytes": big.NewRat(metered, 1)}}, ownInterval)
		if len(made.Quantities) != 2 || made.Quantities[0].Within != within || made.Quantities[0].Bound != "18400.000" {
			t.Errorf("of 26,200 bytes %d are metered: %+v", metered, made.Quantities)
		}
	}
	begin.before = begin.at // at rest: a packet at each edge, as a reading may be late
	for metered, within := range map[int64]bool{29_200: true, 23_200: true, 29_201: false} {
		made := compareCounters(w, begin, end, map[string]map[string]*big.Rat{"idle": {"networkTransmitBytes": big.NewRat(metered, 1)}}, ownInterval)
		if len(made.Quantities) != 2 || made.Quantities[0].Within != within {
			t.Errorf("of 26,200 bytes %d are metered of a pod at rest: %+v", metered, made.Quantities)
		}
	}
	end.after = nil
	if made := compareCounters(w, begin, end, nil, ownInterval); len(made.Quantities) != 0 || len(made.Skipped) != 1 {
		t.Errorf("a pod that ended at the edge: %+v", made)
	}
}
