package meters

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// TestReadingsAreTheDevicesCounters: over both generations of a device, each
// with a reset and hours without a reading, the growth that is stored is the
// growth that the devices showed; the devices' own formula is the truth.
func TestReadingsAreTheDevicesCounters(t *testing.T) {
	p := newPlant(t)
	start := noon.Add(-time.Hour)
	sim := simulator.Steady(start)
	sim.Boxes[0].Meters = []simulator.Meter{{Name: "one", Generation: 1, Share: 0.4},
		{Name: "two", Generation: 2, Channel: 1, Share: 0.6, Resets: []time.Time{noon.Add(2 * time.Hour)}}}
	server, err := simulator.Start(t.Context(), simulator.Config{Fleet: sim, Clock: p.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	p.apply(fleet.NewObject("box-a", fleet.Box{OverheadWatts: 4}),
		fleet.NewObject("one", fleet.Meter{Box: "box-a", Driver: fleet.DriverShellyGen1, URL: server.MeterURL("box-a", "one")}),
		fleet.NewObject("two", fleet.Meter{Box: "box-a", Driver: fleet.DriverShellyGen2, Channel: 1, URL: server.MeterURL("box-a", "two")}))
	loop := p.loop(Config{})
	first, last := make(map[string]int64), make(map[string]int64)
	var reset int64 // what meter two showed before and after its reset
	truth := func(i int) {
		for _, name := range []string{"one", "two"} {
			now := server.MeterMillijoules("box-a", name, p.clock.Now())
			if i == 0 {
				first[name] = now
			}
			if now < last[name] {
				reset += last[name] - now
			}
			last[name] = now
		}
	}
	for i := range 60 {
		p.tick(loop, 10*time.Second)
		truth(i)
	}
	loop = p.loop(Config{}) // the leader was away for two hours
	p.clock.Advance(2 * time.Hour)
	for i := range 6 {
		p.tick(loop, 10*time.Second)
		truth(1 + i)
	}
	for _, s := range loop.Status() {
		if s.Error != "" {
			t.Errorf("%s: %s", s.Meter, s.Error)
		}
	}
	readings := p.load("box-a", start, p.clock.Now().Add(time.Hour))
	perMeter := map[string]map[time.Time]Reading{"one": {}, "two": {}}
	for _, r := range readings {
		perMeter[r.Meter][r.Time] = r
	}
	want := map[string]int64{"one": last["one"] - first["one"], "two": last["two"] - first["two"] + reset}
	for name, rows := range perMeter {
		if got := growth(rows); got != want[name] || got == 0 || len(rows) != 66 {
			t.Errorf("meter %s: %d readings grew by %d mJ, the device by %d", name, len(rows), got, want[name])
		}
	}
	if reset == 0 {
		t.Error("control: there was no reset in the test")
	}
}
