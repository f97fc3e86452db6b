package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// archived is a leader with one archived day.
func archived(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(map[string]string{
		"/api/v1/archive":                   `{"items":[{"cluster":"edge-a","day":"2026-11-27T00:00:00Z","revision":1,"manifest":"0123456789abcdef","rows":7,"bytes":9}]}`,
		"/api/v1/archive/edge-a/2026-11-27": `{"manifest":{"cluster":"edge-a","day":"2026-11-27","revision":1},"hash":"0123456789abcdef","publicKey":"a2V5"}`,
		"/api/v1/archive/verify":            `{"clusters":1,"manifests":1,"files":5,"rows":7,"bytes":9,"holds":true}`,
	}[r.URL.Path]))
}

// TestAnswersOfTheArchive: the commands take -o as those of the books do, and --json.
func TestAnswersOfTheArchive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(archived))
	t.Cleanup(server.Close)
	said := func(args string) (string, int) {
		var out bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, errOut: &out, clock: clock.System(), getenv: func(name string) string {
			return map[string]string{"ACCUMULUS_SERVER": server.URL}[name]
		}}
		code := run(t.Context(), a, strings.Fields(args))
		return out.String(), code
	}
	for command, want := range map[string][3]string{ // in a table, JSON and YAML
		"archive list": {"0123456789ab", `"items": [`, "- archived: "},
		"archive show --cluster edge-a --day 2026-11-27": {"edge-a on 2026-11-27: revision 1", `"hash": "0123456789abcdef"`, "hash: 0123456789abcdef"},
		"archive verify": {"1 cluster, 1 manifest, 5 files with 7 rows", `"holds": true`, "holds: true"},
	} {
		for i, flags := range []string{"", " -o json", " -o yaml", " -o table", " --json"} {
			text := want[min(i, 2)]
			switch i {
			case 3:
				text = want[0]
			case 4:
				text = want[1]
			}
			if got, code := said(command + flags); code != 0 || !strings.Contains(got, text) {
				t.Errorf("%s%s: code %d: %s", command, flags, code, got)
			}
		}
		if got, code := said(command + " -o xml"); code != 1 || !strings.Contains(got, "use table, json, yaml") {
			t.Errorf("%s -o xml: code %d: %s", command, code, got)
		}
	}
}

// steps is a clock that sleeps so many times, and then until it is stopped.
type steps struct {
	clock.Clock
	left int
	over chan struct{}
}

func (s *steps) Sleep(ctx context.Context, d time.Duration) error {
	if s.left--; s.left >= 0 {
		return ctx.Err()
	}
	close(s.over)
	<-ctx.Done()
	return ctx.Err()
}

// TestLongWaitsAreTold: what takes long says what it does on standard error, and what does
// not says nothing.
func TestLongWaitsAreTold(t *testing.T) {
	for _, slept := range []int{0, 2} {
		var out, errOut bytes.Buffer
		clk := &steps{clock.System(), slept, make(chan struct{})}
		a := &app{out: &out, errOut: &errOut, clock: clk}
		stop := a.sayWhile(t.Context(), func() string { return "reading" })
		<-clk.over
		stop()
		want := []string{"", "reading (5s)\nreading (10s)\n"}[slept/2]
		if errOut.String() != want || out.Len() > 0 {
			t.Errorf("after %d waits: %q, %q", slept, errOut.String(), out.String())
		}
	}
}
