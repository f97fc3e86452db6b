package heat

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newReceiver(t *testing.T, clk clock.Clock) (*Receiver, *registry.Registry) {
	t.Helper()
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	token := filepath.Join(t.TempDir(), "tank.token")
	if err := os.WriteFile(token, []byte("tank-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	limit := 80.0
	if _, err := books.Apply(t.Context(), []fleet.Object{
		fleet.NewObject("rack", fleet.Box{}),
		fleet.NewObject("tank", fleet.HeatSource{Box: "rack", Method: fleet.HeatTemperatures, TokenFile: token}),
		fleet.NewObject("full", fleet.HeatSource{Box: "rack", Method: fleet.HeatCapture, CaptureFactor: 0.8, MaxStoreCelsius: &limit}),
		fleet.NewObject("blind", fleet.HeatSource{Box: "rack", Method: fleet.HeatCapture, CaptureFactor: 0.8}),
		fleet.NewObject("lost", fleet.HeatSource{Box: "rack", Method: fleet.HeatTemperatures, TokenFile: token + ".gone"}),
	}, "test"); err != nil {
		t.Fatal(err)
	}
	return New(books, clk, slog.New(slog.DiscardHandler)), books
}

func value(micro int64) processors.Value { return processors.Value{Micro: micro, Known: true} }

// Both forms, the times and what was not told.
func TestReceive(t *testing.T) {
	r, books := newReceiver(t, clock.NewManual(noon))
	for _, c := range []struct{ mediaType, body string }{
		{"application/json", `{"readings":[{"time":"2026-11-23T12:30:00+01:00","supply":45.25,"return":"40.1234567","flow":1e0},{"time":1795433460,"supply":null,"return":40,"flow":0.5}]}`},
		{"", `[{"time":1795433460000,"supply":"unavailable","return":40.0,"flow":0.5},{"time":"1795433400","supply":45.25,"return":40.1234567,"flow":1.0}]`},
		{"text/csv; charset=utf-8", "\ufefftime,flow,supply,return\n2026-11-23T11:30:00Z,1,45.25,40.1234567\n# a comment\n1795433460.0,0.5,NaN,40\n"},
	} {
		receipt, err := r.Receive(t.Context(), "tank", c.mediaType, []byte(c.body))
		if err != nil || receipt.Readings != 2 || !receipt.From.Equal(noon.Add(-30*time.Minute)) || !receipt.To.Equal(noon.Add(-29*time.Minute)) {
			t.Fatalf("%s: %+v %v", c.body, receipt, err)
		}
		got, err := books.HeatReadings(t.Context(), "tank", schema.Window{From: noon.Add(-time.Hour), To: noon})
		want := []processors.HeatReading{
			{Time: noon.Add(-30 * time.Minute), Supply: value(45_250_000), Return: value(40_123_457), Flow: value(1_000_000)},
			{Time: noon.Add(-29 * time.Minute), Return: value(40_000_000), Flow: value(500_000)},
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.body, err, diff)
		}
	}
	due, err := books.Due(t.Context(), registry.ProcessorHeat, 0)
	if err != nil || len(due) != 2 || due[0].Scope != "rack" || !due[1].Quarter.Equal(noon.Add(-30*time.Minute)) {
		t.Errorf("due: %+v %v", due, err)
	}
}

// What is wrong is named, and nothing of the push is taken.
func TestRefuses(t *testing.T) {
	r, books := newReceiver(t, clock.NewManual(noon))
	const good = `{"time":"2026-11-23T11:30:00Z","supply":45,"return":40,"flow":1},`
	for _, c := range []struct{ source, mediaType, body, want string }{
		{"tank", "", `[` + good + `{"time":"2026-11-20T13:59:59Z","supply":45,"return":40,"flow":1}]`, "reading 2: 2026-11-20T13:59:59Z is more than 70h0m0s ago"},
		{"tank", "", `[` + good + `{"time":"2026-11-23T12:06:00Z","supply":45,"return":40,"flow":1}]`, "is in the future; the leader's clock shows 2026-11-23T12:00:00Z"},
		{"tank", "", `[` + good + `{"time":"2026-11-23T11:30:00Z","supply":45,"flow":1}]`, "reading 2: no return; send it empty"},
		{"tank", "", `[` + good + `{"time":"2026-11-23T11:30:00Z","supply":45,"return":40,"flow":-1}]`, "a flow that is not between 0 and 10000 l/min"},
		{"tank", "", `[` + good + `{"time":"2026-11-23T11:30:00Z","supply":"hot","return":40,"flow":1}]`, `reading 2: supply: "hot" is no number`},
		{"tank", "", `[` + good + `{"time":"2026-11-23T11:30:00Z","supply":1e300,"return":40,"flow":1}]`, "is too large"},
		{"tank", "", `[` + good + `{"time":"2026-11-23 11:30","supply":45,"return":40,"flow":1}]`, "is neither RFC 3339"},
		{"tank", "", `[` + good + `{"supply":45,"return":40,"flow":1}]`, "reading 2: no time"},
		{"tank", "", `[` + good + `{"time":"2026-11-23T11:30:00Z","temperature":45}]`, `field "temperature" is none of time, supply`},
		{"tank", "", `{"readings":3}`, "readings is no list"}, {"tank", "", `{"readings":[],"x":1}`, "there is something else"},
		{"tank", "", `[]`, "there is none"}, {"tank", "", `5`, "no JSON of readings"}, {"tank", "", `{} {}`, "more than one"},
		{"tank", "text/csv", "supply\n1\n", "no column time"}, {"tank", "text/csv", "time,heat\n", `column "heat" is none of`},
		{"tank", "text/csv", "time,supply,return,flow\n2026-11-23T11:30:00Z,1\n", "wrong number of fields"}, {"tank", "text/csv", "", "no header"},
		{"tank", "application/xml", "<a/>", "is neither application/json nor text/csv"},
		{"full", "", `[{"time":"2026-11-23T11:30:00Z","supply":45}]`, "no store"},
		{"blind", "", `[{"time":"2026-11-23T11:30:00Z","store":45}]`, "it needs no readings"},
	} {
		_, err := r.Receive(t.Context(), c.source, c.mediaType, []byte(c.body))
		if !errors.Is(err, ErrReadings) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.body, err, c.want)
		}
	}
	if _, err := r.Receive(t.Context(), "nowhere", "", []byte(good)); !errors.Is(err, ErrNoSource) {
		t.Errorf("a source that is not there: %v", err)
	}
	if list, err := books.HeatReadings(t.Context(), "tank", schema.Window{From: noon.AddDate(-1, 0, 0), To: noon.AddDate(1, 0, 0)}); err != nil || len(list) != 0 {
		t.Errorf("taken: %v %v", list, err)
	}
}

func TestAllowed(t *testing.T) {
	r, _ := newReceiver(t, clock.NewManual(noon))
	for _, c := range []struct {
		source, token string
		want          bool
	}{{"tank", "tank-token", true}, {"tank", "tank-tokens", false}, {"tank", "", false}, {"full", "", false}, {"full", "tank-token", false}, {"lost", "", false}, {"nowhere", "tank-token", false}} {
		if got := r.Allowed(t.Context(), c.source, c.token); got != c.want {
			t.Errorf("%s with %q: %v", c.source, c.token, got)
		}
	}
}

// purged counts the calls of PurgeHeat.
type purged struct {
	Books
	times []time.Time
	clock clock.Clock
}

func (p *purged) PurgeHeat(context.Context) (int64, error) {
	p.times = append(p.times, p.clock.Now())
	if len(p.times) == 2 {
		return 0, errors.New("disk full")
	}
	return 1, nil
}

// The loop deletes at once and each quarter of an hour, also after an error.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk := clock.System()
		books := &purged{clock: clk}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		began := clk.Now()
		go func() { done <- New(books, clk, slog.New(slog.DiscardHandler)).Run(ctx) }()
		if err := clk.Sleep(t.Context(), 40*time.Minute); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []time.Time{began, began.Add(15 * time.Minute), began.Add(30 * time.Minute)}
		if diff := cmp.Diff(want, books.times, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
	})
}

// Whatever is sent, it is taken or refused.
func FuzzParse(f *testing.F) {
	f.Add("text/csv", []byte("time,supply,return,flow\n1795433460,45,40,1\n"))
	f.Add("", []byte(`[{"time":"2026-11-23T11:30:00Z","supply":45,"return":40,"flow":1e-3}]`))
	f.Fuzz(func(t *testing.T, mediaType string, body []byte) {
		readings, err := parse(mediaType, body)
		for _, one := range readings {
			if err == nil && one.Time.IsZero() {
				t.Errorf("%q: a reading without a time", body)
			}
		}
	})
}
