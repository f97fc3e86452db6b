package api

import (
	"net/http"
	"strings"
	"testing"
)

// A device's token opens its own source for readings and nothing else.
func TestHeatToken(t *testing.T) {
	s, l := newServer(t, false)
	const body = `{"time":"2026-11-23T10:00:00Z"}`
	for _, c := range []struct {
		method, path, token string
		want                int
	}{
		{"POST", "/api/v1/heat/tank/readings", tankToken, http.StatusOK},
		{"POST", "/api/v1/heat/tank/readings", operatorToken, http.StatusOK},
		{"POST", "/api/v1/heat/tank/readings", viewerToken, http.StatusForbidden},
		{"POST", "/api/v1/heat/tank/readings", "", http.StatusUnauthorized},
		{"POST", "/api/v1/heat/other/readings", tankToken, http.StatusUnauthorized},
		{"POST", "/api/v1/heat/other/readings", operatorToken, http.StatusNotFound},
		{"GET", "/api/v1/heat/tank/readings", tankToken, http.StatusUnauthorized},
		{"GET", "/api/v1/heat/tank/readings", viewerToken, http.StatusMethodNotAllowed},
		{"POST", "/api/v1/fleet", tankToken, http.StatusUnauthorized},
		{"GET", "/api/v1/status", tankToken, http.StatusUnauthorized},
		{"POST", "/api/v1/carbon/intensities", tankToken, http.StatusUnauthorized},
	} {
		if answer := call(s, c.method, c.path, c.token, body); answer.StatusCode != c.want {
			t.Errorf("%s %s with %q: %d, want %d", c.method, c.path, c.token, answer.StatusCode, c.want)
		}
	}
	if changes := l.changed(); len(changes) != 2 {
		t.Errorf("changed: %v", changes)
	}
	answer := call(s, "POST", "/api/v1/heat/tank/readings", tankToken, "bad")
	if said := text(t, answer); answer.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(said, "line 2: no flow") || !strings.Contains(said, "Nothing was taken") {
		t.Errorf("bad readings: %d %s", answer.StatusCode, said)
	}
}

func TestImportIntensities(t *testing.T) {
	s, l := newServer(t, false)
	answer := call(s, "POST", "/api/v1/carbon/intensities", operatorToken, "zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z,231.4\nNL,2026-11-23T11:00:00+01:00,232\nDE,2026-11-23T10:00:00Z,1\n")
	if said := text(t, answer); answer.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(said, "two values from") || !strings.Contains(said, "needs a to") || len(l.changed()) != 0 {
		t.Errorf("%d %s", answer.StatusCode, said)
	}
	answer = call(s, "POST", "/api/v1/carbon/intensities", operatorToken, "zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z,231.4\nNL,2026-11-23T11:00:00Z,232\n")
	if said := text(t, answer); answer.StatusCode != http.StatusOK || !strings.Contains(said, `"values": 2`) || !strings.Contains(said, `"unused": true`) {
		t.Errorf("%d %s", answer.StatusCode, said)
	}
}
