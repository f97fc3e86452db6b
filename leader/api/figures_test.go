package api

import (
	"net/http"
	"strings"
	"testing"
)

// Energy, heat and carbon take the parameters of usage, and say what is wrong as
// it does.
func TestFigures(t *testing.T) {
	s, l := newServer(t, false)
	for _, path := range []string{"/api/v1/energy", "/api/v1/heat", "/api/v1/carbon"} {
		answer := call(s, http.MethodGet, path+"?window=24h&aggregate=box&namespace=shop&step=1h&sort=-energy&format=json", viewerToken, "")
		if body := text(t, answer); answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, answer.StatusCode, body)
		}
		asked := l.asked[len(l.asked)-1]
		if asked.Window != "24h" || len(asked.Aggregate) != 1 || len(asked.Filter) != 1 || asked.Step.Hours() != 1 || asked.Sort != "-energy" {
			t.Errorf("%s asks %+v", path, asked)
		}
		answer = call(s, http.MethodGet, path+"?format=csv&aggregate=box", viewerToken, "")
		if body := text(t, answer); answer.StatusCode != http.StatusOK || !strings.HasPrefix(body, "box,from,to,energyJoules,") ||
			!strings.HasPrefix(answer.Header.Get("Content-Type"), "text/csv") {
			t.Errorf("%s: %d %s", path, answer.StatusCode, body)
		}
		for query, hint := range map[string]string{"format=xml": "use csv or json", "format=csv&format=json": "give it once", "colour=red": "this endpoint knows",
			"step=x": "", "window=overflow": "", "days=perhaps": ""} {
			answer := call(s, http.MethodGet, path+"?"+query, viewerToken, "")
			if body := text(t, answer); answer.StatusCode < 400 || answer.StatusCode >= 500 || !strings.Contains(body, hint) {
				t.Errorf("%s?%s: %d %s", path, query, answer.StatusCode, body)
			}
		}
	}
	if body := text(t, call(s, http.MethodGet, "/api/v1/heat?days=true", viewerToken, "")); !strings.Contains(body, `"source": "tank"`) {
		t.Errorf("days: %s", body)
	}
	for path, hint := range map[string]string{"/api/v1/energy?days=true": "this endpoint knows", "/api/v1/heat?days=true&format=csv": "JSON"} {
		if answer := call(s, http.MethodGet, path, viewerToken, ""); answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400 that says %s", path, answer.StatusCode, hint)
		}
	}
}
