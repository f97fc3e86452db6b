package carbon

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// The table says source and year, and is of plausible figures.
func TestYearly(t *testing.T) {
	for zone, want := range map[string]string{"NL": "Ember yearly mean of NL, 2024", "SE-SE3": "Ember yearly mean of SE, 2024", "EU": "Ember yearly mean of EU, 2024"} {
		if got, ok := Yearly(zone); !ok || got.String() != want {
			t.Errorf("%s: %s %v", zone, got, ok)
		}
	}
	if got, _ := Yearly("NL"); got.Milligram != 252_700 {
		t.Errorf("NL: %d mg/kWh", got.Milligram)
	}
	if got, ok := Yearly("XX"); ok {
		t.Errorf("XX: %v", got)
	}
	for _, m := range means() {
		if m.Milligram <= 0 || m.Milligram > 1_200_000 || m.Year < 2020 || len(m.Zone) != 2 || m.Country == "" {
			t.Errorf("%+v", m)
		}
	}
	if len(means()) < 40 || !strings.Contains(emberCSV, "CC BY-SA 4.0") {
		t.Errorf("%d countries, or no licence", len(means()))
	}
}

func TestParseCSV(t *testing.T) {
	got, err := ParseCSV([]byte("\ufeffzone,from,to,grams_per_kwh,estimated,source\n# a comment\nNL,2026-11-23T10:00:00Z,,231.4567,,TSO\nNL,2026-11-23T12:00:00+01:00,,0,true,\nDE,2026-11-23T10:00:00Z,2026-11-23T10:15:00Z,300,no,\n"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute-120) * time.Minute) }
	want := map[string][]registry.Intensity{
		"NL": {{At: at(0), Until: at(60), Milligram: 231_457, Origin: "TSO"}, {At: at(60), Until: at(120), Estimated: true}},
		"DE": {{At: at(0), Until: at(15), Milligram: 300_000}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"":                                "no header",
		"zone,from\n":                     "no column grams_per_kwh",
		"zone,from,grams_per_kwh,price\n": `column "price" is none of`,
		"zone,from,grams_per_kwh\nNL,2026-11-23 10:00,5\n":                             "line 2: from: \"2026-11-23 10:00\" is no RFC 3339 time with its offset",
		"zone,from,grams_per_kwh\nNL,2026-11-23T10:00:30Z,5\n":                         "no whole minute",
		"zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z,-5\n":                        "-5 g/kWh is not between",
		"zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z,NaN\n":                       "is no number of grams",
		"zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z,6000\n":                      "6000 g/kWh is not between 0 and 5000",
		"zone,from,grams_per_kwh\n,2026-11-23T10:00:00Z,6\n":                           "no zone",
		"zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z\n":                           "wrong number of fields",
		"zone,from,grams_per_kwh,estimated\nNL,2026-11-23T10:00:00Z,6,perhaps\n":       "neither true nor false",
		"zone,from,grams_per_kwh,to\nNL,2026-11-23T10:00:00Z,6,2026-11-23T10:00:00Z\n": "is not after from",
		"zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z,6\n":                         "needs a to",
	} {
		if _, err := ParseCSV([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseCSV(f *testing.F) {
	f.Add([]byte("zone,from,grams_per_kwh\nNL,2026-11-23T10:00:00Z,231.4\nNL,2026-11-23T11:00:00Z,1e2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		found, err := ParseCSV(text)
		for _, list := range found {
			for _, one := range list {
				if err == nil && (!one.At.Before(one.Until) || one.Milligram < 0 || one.Milligram > maxMilligrams) {
					t.Errorf("%q: %+v", text, one)
				}
			}
		}
	})
}

func grid() fleet.Grid {
	return fleet.Grid{Name: "nl", Zone: "NL", Source: fleet.GridElectricityMaps}
}

// Answers of the API's shape.
func TestDecodeMaps(t *testing.T) {
	hour := func(h int, mg int64, estimated bool) registry.Intensity {
		at := time.Date(2026, 11, 23, h, 0, 0, 0, time.UTC)
		return registry.Intensity{At: at, Until: at.Add(time.Hour), Milligram: mg, Estimated: estimated, Origin: "Electricity Maps NL, lifecycle"}
	}
	latest := `{"zone":"NL","carbonIntensity":75.5,"datetime":"2026-11-23T10:00:00.000Z","updatedAt":"2026-11-23T10:09:00.000Z","createdAt":"2026-11-22T00:00:00Z","emissionFactorType":"lifecycle","isEstimated":true,"estimationMethod":"TIME_SLICER_AVERAGE"}`
	got, err := decodeMaps([]byte(latest), grid())
	if diff := cmp.Diff([]registry.Intensity{hour(10, 75_500, true)}, got); diff != "" || err != nil {
		t.Errorf("latest: %v\n%s", err, diff)
	}
	history := `{"zone":"NL","history":[{"zone":"NL","carbonIntensity":300,"datetime":"2026-11-23T09:00:00.000Z","isEstimated":false},{"carbonIntensity":null,"datetime":"2026-11-23T08:00:00.000Z"},{"carbonIntensity":299,"datetime":"2026-11-23T07:00:00.000Z"}],"temporalGranularity":"hourly"}`
	got, err = decodeMaps([]byte(history), grid())
	if diff := cmp.Diff([]registry.Intensity{hour(7, 299_000, false), hour(9, 300_000, false)}, got); diff != "" || err != nil {
		t.Errorf("history: %v\n%s", err, diff)
	}
	quarter, err := decodeMaps([]byte(`{"zone":"NL","carbonIntensity":1,"datetime":"2026-11-23T10:15:00.000Z","temporalGranularity":"15_minutes"}`), grid())
	if err != nil || quarter[0].Until.Sub(quarter[0].At) != 15*time.Minute {
		t.Errorf("of 15 minutes: %+v %v", quarter, err)
	}
	for text, want := range map[string]string{
		`{"zone":"DE","carbonIntensity":1,"datetime":"2026-11-23T10:00:00Z"}`:                                     `of zone "DE"`,
		`{"zone":"NL","carbonIntensity":1,"datetime":"2026-11-23T10:00:00Z","emissionFactorType":"direct"}`:       `factors are "direct"`,
		`{"zone":"NL","carbonIntensity":1,"datetime":"yesterday"}`:                                                "no RFC 3339",
		`{"zone":"NL","carbonIntensity":-1,"datetime":"2026-11-23T10:00:00Z"}`:                                    "not between",
		`{"zone":"NL","carbonIntensity":1,"datetime":"2026-11-23T10:00:00Z","temporalGranularity":"fortnightly"}`: "not known",
		`[]`: "cannot unmarshal",
		``:   "unexpected end",
	} {
		if _, err := decodeMaps([]byte(text), grid()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzDecodeMaps(f *testing.F) {
	f.Add([]byte(`{"zone":"NL","history":[{"carbonIntensity":300,"datetime":"2026-11-23T09:00:00.000Z"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := decodeMaps(text, grid())
		for _, one := range list {
			if err == nil && (!one.At.Before(one.Until) || one.Milligram < 0) {
				t.Errorf("%q: %+v", text, one)
			}
		}
	})
}

// maps is an API with hourly values that knows one token.
type mapsAPI struct {
	clk    *clock.Manual
	values func(at time.Time) (grams float64, estimated bool)
	asked  map[string]int
	down   bool
}

func (m *mapsAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	question := strings.TrimPrefix(r.URL.Path, "/prefix/v3/carbon-intensity/")
	m.asked[question]++
	if m.down || r.Header.Get("auth-token") != "secret-token" || r.URL.Query().Get("zone") != "NL" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	one := func(at time.Time) string {
		grams, estimated := m.values(at)
		return fmt.Sprintf(`{"zone":"NL","carbonIntensity":%v,"datetime":%q,"isEstimated":%v}`, grams, at.Format(time.RFC3339), estimated)
	}
	newest := m.clk.Now().Truncate(time.Hour)
	switch question {
	case "latest":
		_, _ = fmt.Fprint(w, one(newest))
	case "history":
		var list []string
		for h := 24; h > 0; h-- {
			list = append(list, one(newest.Add(time.Duration(-h)*time.Hour)))
		}
		_, _ = fmt.Fprintf(w, `{"zone":"NL","history":[%s]}`, strings.Join(list, ","))
	case "past":
		at, err := time.Parse(time.RFC3339, r.URL.Query().Get("datetime"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprint(w, one(at))
	}
}

func newLoop(t *testing.T) (*Loop, *mapsAPI, *registry.Registry, *clock.Manual) {
	t.Helper()
	clk := clock.NewManual(noon)
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	api := &mapsAPI{clk: clk, asked: make(map[string]int), values: func(at time.Time) (float64, bool) { return float64(at.Hour()), at.After(noon.Add(-3 * time.Hour)) }}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := books.Apply(t.Context(), []fleet.Object{fleet.NewObject("nl", fleet.Grid{Zone: "NL", Source: fleet.GridElectricityMaps, URL: server.URL + "/prefix/", TokenFile: token})}, "test"); err != nil {
		t.Fatal(err)
	}
	loop, err := New(Config{}, books, server.Client(), clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return loop, api, books, clk
}

func tick(t *testing.T, loop *Loop, clk *clock.Manual, now time.Time) []Status {
	t.Helper()
	clk.Set(now)
	if err := loop.Tick(context.WithoutCancel(t.Context()), now); err != nil {
		t.Fatal(err)
	}
	return loop.Status()
}

// The loop takes a day, then what is new, what is revised, and after an outage
// the hours that it missed.
func TestLoop(t *testing.T) {
	loop, api, books, clk := newLoop(t)
	known := func(from, to time.Time) (count, estimated int) {
		list, err := books.Intensities(t.Context(), fleet.GridElectricityMaps, "NL", schema.Window{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range list {
			count++
			if one.Estimated {
				estimated++
			}
		}
		return count, estimated
	}
	status := tick(t, loop, clk, noon)
	if count, estimated := known(noon.Add(-48*time.Hour), noon.Add(time.Hour)); count != 25 || estimated != 3 || status[0].Error != "" || !status[0].Newest.Equal(noon.Add(time.Hour)) {
		t.Errorf("%d hours, %d estimated, %+v", count, estimated, status)
	}
	tick(t, loop, clk, noon.Add(time.Minute))
	if api.asked["latest"] != 1 {
		t.Errorf("asked again after a minute: %v", api.asked)
	}
	api.values = func(at time.Time) (float64, bool) { return float64(at.Hour()) + 0.5, false }
	tick(t, loop, clk, noon.Add(15*time.Minute))
	if _, estimated := known(noon.Add(-24*time.Hour), noon.Add(time.Hour)); estimated != 0 || api.asked["past"] != 0 {
		t.Errorf("%d are estimated after a revision; %v", estimated, api.asked)
	}
	api.down = true
	status = tick(t, loop, clk, noon.Add(30*time.Minute))
	if len(status) != 1 || !strings.Contains(status[0].Error, "does not open zone NL") || strings.Contains(status[0].Error, "secret") || !status[0].ErrorTime.Equal(noon.Add(30*time.Minute)) {
		t.Errorf("%+v", status)
	}
	api.down = false
	later := noon.Add(60 * time.Hour)
	for i := range 4 {
		status = tick(t, loop, clk, later.Add(time.Duration(i)*15*time.Minute))
	}
	if count, _ := known(noon.Add(-24*time.Hour), later.Add(time.Hour)); count != 85 || status[0].Error != "" {
		t.Errorf("%d of 85 hours after an outage; %+v %v", count, status, api.asked)
	}
}

// A question that is answered by a redirect carries no token further.
func TestTokenStays(t *testing.T) {
	loop, _, books, clk := newLoop(t)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked elsewhere with %q", r.Header.Get("auth-token"))
	}))
	defer other.Close()
	redirects := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer redirects.Close()
	if _, err := books.Apply(t.Context(), []fleet.Object{fleet.NewObject("nl", fleet.Grid{Zone: "NL", Source: fleet.GridElectricityMaps, URL: redirects.URL})}, "test"); err != nil {
		t.Fatal(err)
	}
	if status := tick(t, loop, clk, noon); !strings.Contains(status[0].Error, "302") {
		t.Errorf("%+v", status)
	}
}
