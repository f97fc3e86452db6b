package demo

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run starts a demonstration and returns the leader's address and how to stop it.
func run(t *testing.T, config Config) (address string, stop func() error) {
	t.Helper()
	listening := make(chan string, 1)
	config.Listen = "127.0.0.1:0"
	config.Progress = func(e Event) {
		if e.Kind == "listening" {
			listening <- e.Address
		}
	}
	d, err := New(config, clock.System(), discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = func() error { cancel(); return <-done }
	select {
	case address = <-listening:
	case err := <-done:
		cancel()
		t.Fatalf("the demonstration ended: %v", err)
	}
	return address, stop
}

// A viewer on this machine needs no token, and may change nothing. A restart on
// the same directory meets the same fleet; a second process is told why not.
func TestStartAgain(t *testing.T) {
	config := Config{Dir: t.TempDir(), Interval: time.Second}
	var first string
	for range 2 {
		address, stop := run(t, config)
		for path, want := range map[string]int{"/healthz": http.StatusOK, "/api/v1/clusters": http.StatusOK,
			"/accumulus/stop": http.StatusMethodNotAllowed} {
			response, err := http.Get("http://" + address + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("GET %s: %s, want %d", path, response.Status, want)
			}
		}
		second, err := New(config, clock.System(), discard())
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("a second process on one directory: %v", err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		kept, err := loadState(config.Dir, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = kept.Start.String()
		}
		if kept.Start.String() != first {
			t.Errorf("the fleet began at %s, after a restart at %s", first, kept.Start)
		}
	}
}

// What the demonstration tells the leader is a fleet without a fault.
func TestDescribedFleet(t *testing.T) {
	start := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	served, err := simulator.Start(context.Background(), simulator.Config{Fleet: simulator.DemoSince(start), Clock: clock.NewManual(start)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := served.Close(); err != nil {
			t.Error(err)
		}
	}()
	endpoints := make(map[string]endpoint)
	for _, cluster := range []string{"edge-ams", "edge-par", hostCluster} {
		endpoints[cluster] = endpoint{url: "http://127.0.0.1:8081", tokenFile: "leader.token"}
	}
	objects := append(described(served.Simulator), hostNode("machine"))
	if err := fleet.Validate(append(objects, places(served, endpoints)...), nil); err != nil {
		t.Error(err)
	}
}

// The history of an electricity meter joins its present counter.
func TestMeterHistory(t *testing.T) {
	live := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	simulated, err := simulator.New(simulator.DemoSince(live.Add(-fleetAge)))
	if err != nil {
		t.Fatal(err)
	}
	dead := 0
	for _, box := range simulated.Fleet().Boxes {
		for _, meter := range box.Meters {
			readings := meterHistory(simulated, box, meter, live)
			want := int(historyLength / time.Minute)
			if len(meter.Dead) > 0 {
				want -= 60
				dead++
			}
			if len(readings) != want {
				t.Fatalf("%s: %d readings, want %d", meter.Name, len(readings), want)
			}
			for i, r := range readings {
				if i > 0 && r.CounterMillijoules <= readings[i-1].CounterMillijoules && r.StepMillijoules < 1_000_000 {
					t.Fatalf("%s: the counter stands still at %s", meter.Name, r.Time)
				}
			}
			if last, now := readings[len(readings)-1], simulated.MeterMillijoules(box.Name, meter.Name, live); last.CounterMillijoules > now {
				t.Errorf("%s: the history ends at %d mJ, the meter shows %d", meter.Name, last.CounterMillijoules, now)
			}
		}
	}
	if dead != 1 {
		t.Errorf("%d meters were dead for an hour, want one", dead)
	}
}
