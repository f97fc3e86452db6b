package meters

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// load is a load that varies: the power in W at a second, from a seed.
func load(seed uint64, seconds int) []float64 {
	rng := rand.New(rand.NewPCG(seed, 3))
	watts := make([]float64, seconds)
	level, left := 100.0, 0
	for i := range watts {
		if left--; left < 0 {
			level, left = 80+rng.Float64()*200, 20+rng.IntN(900)
		}
		watts[i] = level
	}
	return watts
}

// cumulated is the energy of a load at every step-th second, in mJ; behind says by
// how much its times are too late.
func cumulated(watts []float64, step int, behind time.Duration, noise float64, rng *rand.Rand) []Energy {
	var all []Energy
	total := 0.0
	for i, w := range watts {
		if i%step == 0 {
			all = append(all, Energy{noon.Add(time.Duration(i)*time.Second + behind), int64(total)})
		}
		total += 1000 * (w + noise*rng.NormFloat64())
	}
	return all
}

// TestEstimateLag: a lag is found to a second where usage is known by three seconds,
// and to a few where it is known by the minute; none is found where there is none, or
// where the load says nothing.
func TestEstimateLag(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	tests := []struct {
		name      string
		hours     int
		meter     int // seconds between its readings
		usage     int
		lag       time.Duration
		tolerance time.Duration
	}{
		{"two samples of three seconds", 2, 3, 3, 6 * time.Second, time.Second},
		{"ahead", 2, 3, 3, -17 * time.Second, time.Second},
		{"none", 2, 3, 3, 0, 0},
		{"an hour of local time", 26, 60, 60, time.Hour, 5 * time.Second},
		{"two hours behind", 26, 60, 60, 2 * time.Hour, 5 * time.Second},
		{"an hour and some ahead", 26, 300, 60, -time.Hour - 73*time.Second, 10 * time.Second},
		{"a minute by ten seconds", 12, 10, 60, 65 * time.Second, 10 * time.Second},
	}
	for i, test := range tests {
		watts := load(uint64(i), test.hours*3600)
		meter, usage := cumulated(watts, test.meter, test.lag, 5, rng), cumulated(watts, test.usage, 0, 2, rng)
		got, ok := EstimateLag(meter, usage)
		if !ok || (got.Lag-test.lag).Abs() > test.tolerance || got.Correlation < 0.9 {
			t.Errorf("%s: %+v, %v, want %s", test.name, got, ok, test.lag)
		}
	}
	flat := make([]float64, 12*3600)
	for i := range flat {
		flat[i] = 100
	}
	if got, ok := EstimateLag(cumulated(flat, 60, time.Hour, 0, rng), cumulated(flat, 60, 0, 0, rng)); ok {
		t.Errorf("a load without change: %+v", got)
	}
	if got, ok := EstimateLag(cumulated(load(50, 12*3600), 60, 0, 0, rng), cumulated(load(51, 12*3600), 60, 0, 0, rng)); ok {
		t.Errorf("two loads that have nothing to do with each other: %+v", got)
	}
	if _, ok := EstimateLag(nil, nil); ok {
		t.Error("nothing says something")
	}
}

// TestShift: readings stand at the time of their usage, a later lag counts from its
// time on, and no reading goes back.
func TestShift(t *testing.T) {
	m := fleet.Meter{Name: "m", Box: "b"}
	lags := Lags{{"b", "m"}: {{Since: noon, Lag: time.Minute}, {Since: noon.Add(10 * time.Minute), Lag: 3 * time.Minute}}}
	var readings []Reading
	for i := -2; i < 14; i++ {
		readings = append(readings, Reading{Meter: "m", Time: noon.Add(time.Duration(i) * time.Minute)})
	}
	var got []int
	for _, r := range lags.Shift(m, readings) {
		got = append(got, int(r.Time.Sub(noon).Minutes()))
	}
	if want := "[-2 -1 0 1 2 3 4 5 6 7 8 9 10]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if lags.Longest(m) != 3*time.Minute {
		t.Errorf("longest is %s", lags.Longest(m))
	}
	m.Lag = fleet.Duration(-time.Hour)
	if shifted := lags.Shift(m, readings[:1]); !shifted[0].Time.Equal(readings[0].Time.Add(time.Hour)) {
		t.Error("a lag that is given does not count")
	}
}

// TestLagOfAMeterIsKept: a meter whose clock is an hour behind UTC's is found in two
// looks, its quarters are due, and the status shows it.
func TestLagOfAMeterIsKept(t *testing.T) {
	p := newPlant(t)
	if err := p.server.Create(t.Context(), schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	p.apply(fleet.NewObject("sent", fleet.Meter{Box: "b1", Driver: fleet.DriverPush}))
	watts := load(7, 26*3600)
	start := noon.Add(-26 * time.Hour)
	var rows []influxsync.Point
	for i := 0; i < len(watts); i += 60 {
		var energy float64
		for _, w := range watts[i : i+60] {
			energy += 1000 * w
		}
		rows = append(rows, influxsync.NewPoint(schema.BoxMinute.Name, map[string]string{schema.Cluster: schema.BoxCluster, schema.Box: "b1"},
			map[string]influxsync.Value{schema.EnergyModelled: influxsync.Int(int64(energy * 0.8))}, start.Add(time.Duration(i)*time.Second)))
	}
	if err := p.server.Database(schema.MinuteDB).Write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	const lag = -time.Hour // its times are an hour before usage
	loop := p.loop(Config{})
	var sent []Sent
	total := 0.0
	for i, w := range watts {
		if i%60 == 0 {
			sent = append(sent, sentAt(start.Add(time.Duration(i)*time.Second+lag), int64(math.Round(total))))
		}
		total += w
	}
	p.push(loop, "sent", sent...)
	p.clock.Advance(0)
	found := make(map[meterKey]time.Duration)
	for look := range 2 {
		if kept, err := p.registry.MeterLags(t.Context()); err != nil || len(kept) != 0 {
			t.Fatalf("kept before look %d: %v, %v", look, kept, err)
		}
		if err := loop.EstimateLags(t.Context(), noon, found); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := p.registry.MeterLags(t.Context())
	if err != nil || len(kept) != 1 || (kept[0].Lag-lag).Abs() > 10*time.Second || kept[0].Correlation < 0.9 {
		t.Fatalf("kept %+v, %v", kept, err)
	}
	if quarters := p.dueQuarters("b1"); quarters[len(quarters)-1] != "23 13:00" {
		t.Errorf("due: %v", quarters)
	}
	p.push(loop, "sent", sentAt(noon, int64(total)+1))
	if s := loop.Status(); len(s) != 1 || math.Abs(s[0].LagSeconds-lag.Seconds()) > 10 {
		t.Errorf("status %+v", s)
	}
	if err := p.registry.PutMeterLag(t.Context(), registry.MeterLag{Place: "b1", Meter: "sent", Since: noon, Lag: 0}, nil); err != nil {
		t.Fatal(err)
	}
}
