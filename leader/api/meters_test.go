package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestPushReadings: the three forms of a reading, and what the answer says of each.
func TestPushReadings(t *testing.T) {
	s, l := newServer(t, false)
	as := func(mediaType string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Content-Type", mediaType) }
	}
	for name, test := range map[string]struct {
		meter, mediaType, body string
		status                 int
		want                   string // in the answer
		did                    string
	}{
		"JSON":                {"plug", "application/json; charset=utf-8", `{"readings":[{"time":"2026-11-23T11:00:00Z","counter":1234.5,"unit":"kWh"},{"time":"2026-11-23T11:01:00Z","watts":410},{"time":"2026-11-23T11:02:00Z","watts":410}]}`, 200, `"counted":1,"refused":1,"duplicate":1`, "push plug 3 1234.5"},
		"CSV":                 {"plug", "text/csv", "time,energy_kwh,watts\n2026-11-23T11:00:00+01:00,1234.5,\n", 200, `"counted":1`, "push plug 1 1234.5"},
		"line protocol":       {"plug", "text/plain", "power,box=cb1,phase=1 watts=412.5,energy_wh=1234567i 1763895600000000000\n# a comment\n", 200, `"counted":1`, "push plug 1 1234567"},
		"unknown meter":       {"none", "application/json", `{"readings":[{"time":"2026-11-23T11:00:00Z","counter":1}]}`, 404, "not found", ""},
		"no reading":          {"plug", "application/json", `{"readings":[]}`, 422, "no reading", ""},
		"an unknown field":    {"plug", "application/json", `{"readings":[{"time":"2026-11-23T11:00:00Z","kwh":1}]}`, 422, "unknown field", ""},
		"a time without zone": {"plug", "text/csv", "time,energy_kwh\n2026-11-23T11:00:00,1234.5\n", 422, "with its zone", ""},
		"an unknown column":   {"plug", "text/csv", "time,energy\n2026-11-23T11:00:00Z,1234.5\n", 422, "line 2: column", ""},
		"an unknown form":     {"plug", "application/xml", "<a/>", 422, "text/csv", ""},
		"no known field":      {"plug", "text/plain", "power volts=230 1763895600000000000", 422, "line 1: no field", ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := call(s, http.MethodPost, "/api/v1/meters/"+test.meter+"/readings", operatorToken, test.body, as(test.mediaType))
			var value any
			body := text(t, answer)
			if err := json.Unmarshal([]byte(body), &value); err != nil {
				t.Fatal(err)
			}
			flat, _ := json.Marshal(value)
			all := strings.NewReplacer(" ", "", "\n", "").Replace(body)
			if answer.StatusCode != test.status || !strings.Contains(all, strings.ReplaceAll(test.want, " ", "")) {
				t.Errorf("%d %s, want %d %s", answer.StatusCode, flat, test.status, test.want)
			}
			if did := strings.Join(l.changed(), ";"); did != test.did {
				t.Errorf("did %q, want %q", did, test.did)
			}
		})
	}
	if got := text(t, call(s, http.MethodGet, "/api/v1/meters", viewerToken, "")); !strings.Contains(got, `"lagSeconds": 6`) {
		t.Errorf("meters: %s", got)
	}
}

// The token of the meters is for those whose readings are sent: it neither sees nor
// feeds the others.
func TestTheTokenOfTheMeters(t *testing.T) {
	s, l := newServer(t, false)
	const body = `{"readings":[{"time":"2026-11-23T11:00:00Z","counter":1}]}`
	if got := text(t, call(s, http.MethodGet, "/api/v1/meters", metersToken, "")); strings.Contains(got, "plug") || !strings.Contains(got, `"meter": "1"`) {
		t.Errorf("it sees %s", got)
	}
	if answer := call(s, http.MethodPost, "/api/v1/meters/1/readings", metersToken, body); answer.StatusCode != http.StatusOK {
		t.Errorf("its own meter: %d %s", answer.StatusCode, text(t, answer))
	}
	for _, meter := range []string{"plug", "none"} { // one that is read, and none: both are not there for it
		answer := call(s, http.MethodPost, "/api/v1/meters/"+meter+"/readings", metersToken, body)
		if got := text(t, answer); answer.StatusCode != http.StatusNotFound || !strings.Contains(got, "driver: push") {
			t.Errorf("%s: %d %s", meter, answer.StatusCode, got)
		}
	}
	if did := strings.Join(l.changed(), ";"); did != "push 1 1 1" {
		t.Errorf("did %q", did)
	}
}
