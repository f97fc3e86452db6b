package leader

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// gathered are the values of the metrics of boxes and grids, by name and labels.
func (c *centre) gathered(metrics *prometheus.Registry) map[string]float64 {
	c.t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	found := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			id := family.GetName()
			for _, label := range m.GetLabel() {
				id += " " + label.GetValue()
			}
			found[id] = m.GetGauge().GetValue()
		}
	}
	return found
}

// The metrics are those of the newest settled quarter, by box and by grid.
func TestBoxMetrics(t *testing.T) {
	c := newCentre(t, Config{})
	c.describe()
	c.apply(fleet.NewObject("empty", fleet.Box{}), fleet.NewObject("nl", fleet.Grid{Zone: "NL"}),
		fleet.NewObject("nowhere", fleet.Grid{Zone: "ZZ", Binding: fleet.Binding{Boxes: []string{"empty"}}}),
		fleet.NewObject("tank", fleet.HeatSource{Box: "rack", Method: fleet.HeatCapture, CaptureFactor: 0.5}),
		fleet.NewObject("home", fleet.HeatSource{Box: "rack", Household: "h-1", Method: fleet.HeatCapture, CaptureFactor: 0.25}))
	c.tick()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(newBoxMetrics(c.query, c.registry, c.clk, slog.New(slog.DiscardHandler)))
	got := c.gathered(metrics)
	if got["accumulus_carbon_intensity_grams_per_kwh nl yearly NL"] <= 0 {
		t.Errorf("intensity: %v", got)
	}
	delete(got, "accumulus_carbon_intensity_grams_per_kwh nl yearly NL")
	want := map[string]float64{
		"accumulus_box_window_end_timestamp_seconds":   float64(at(15).Unix()),
		"accumulus_box_energy_joules rack measured":    108_000,
		"accumulus_box_energy_joules rack modelled":    54_000,
		"accumulus_box_energy_joules rack estimated":   0,
		"accumulus_box_energy_joules rack provisional": 0,
		"accumulus_box_residual_joules rack":           0,
		"accumulus_box_heat_joules rack":               108_000,
		"accumulus_box_useful_heat_joules rack":        54_000, // and nothing of the household's quarter of it
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A grid whose API fails is a reason with what to do, until it answers.
func TestGridThatFails(t *testing.T) {
	c := newCentre(t, Config{})
	failing := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failing {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/history") {
			_, _ = io.WriteString(w, `{"zone":"NL","history":[]}`)
			return
		}
		_, _ = io.WriteString(w, `{"zone":"NL","carbonIntensity":231,"datetime":"2026-11-23T10:00:00.000Z","isEstimated":true}`)
	}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.apply(fleet.NewObject("nl", fleet.Grid{Zone: "NL", Source: fleet.GridElectricityMaps, URL: server.URL, TokenFile: token}))
	reason := func(minute int) (found []status.Problem, grids []status.Grid) {
		t.Helper()
		if err := c.carbon.Tick(t.Context(), at(minute)); err != nil {
			t.Fatal(err)
		}
		overview, err := c.Overview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range overview.Leader.Problems {
			if p.Code == status.GridFailing {
				found = append(found, p)
			}
		}
		return found, overview.Leader.Grids
	}
	found, grids := reason(16)
	if len(found) != 1 || !strings.Contains(found[0].Message, "grid nl (NL)") || found[0].Hint == "" || found[0].Since == nil || !found[0].Since.Equal(at(16)) {
		t.Errorf("reasons: %+v", found)
	}
	if len(grids) != 1 || grids[0].Error == "" || strings.Contains(grids[0].Error, "secret-token") {
		t.Errorf("grids: %+v", grids)
	}
	failing = false
	if found, grids = reason(16 + int(15*time.Minute/time.Minute)); len(found) != 0 || len(grids) != 1 || grids[0].Error != "" || grids[0].Newest == nil {
		t.Errorf("afterwards: %+v %+v", found, grids)
	}
}
