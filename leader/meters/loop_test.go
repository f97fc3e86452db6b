package meters

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// plant is a leader's surroundings: a store, a registry and devices.
type plant struct {
	t        *testing.T
	clock    *clock.Manual
	server   *influxsync.Server
	store    *Store
	registry *registry.Registry
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	p := &plant{t: t, clock: clock.NewManual(noon), server: influxtest.New(t)}
	if err := p.server.Create(t.Context(), schema.MetersDB); err != nil {
		t.Fatal(err)
	}
	p.store = NewStore(p.server)
	var err error
	if p.registry, err = registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), p.clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.registry.Close() })
	p.apply(fleet.NewObject("b1", fleet.Box{}), fleet.NewObject("b2", fleet.Box{}))
	return p
}

func (p *plant) apply(objects ...fleet.Object) {
	p.t.Helper()
	if _, err := p.registry.Apply(p.t.Context(), objects, "test"); err != nil {
		p.t.Fatal(err)
	}
}

// device serves what wh holds, in mWh, as a second-generation Shelly.
func (p *plant) device(name, box string, milliwattHours *atomic.Int64) {
	p.t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/rpc/Switch.GetStatus?id=0" {
			http.NotFound(w, r)
			return
		}
		n := milliwattHours.Load()
		_, _ = fmt.Fprintf(w, `{"apower":100.5,"aenergy":{"total":%d.%03d}}`, n/1000, n%1000)
	}))
	p.t.Cleanup(s.Close)
	p.apply(fleet.NewObject(name, fleet.Meter{Box: box, Driver: fleet.DriverShellyGen2, URL: s.URL}))
}

func (p *plant) loop(config Config) *Loop {
	return New(config, p.registry, p.store, &http.Client{}, p.clock, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

func (p *plant) tick(l *Loop, advance time.Duration) {
	p.t.Helper()
	p.clock.Advance(advance)
	if err := l.Tick(p.t.Context(), p.clock.Now()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plant) load(box string, from, to time.Time) []Reading {
	p.t.Helper()
	readings, err := p.store.Load(p.t.Context(), box, from, to)
	if err != nil {
		p.t.Fatal(err)
	}
	return readings
}

func TestLoopKeepsReadingsAcrossRestart(t *testing.T) {
	p := newPlant(t)
	var counter atomic.Int64
	counter.Store(5_000)
	p.device("m1", "b1", &counter)
	loop := p.loop(Config{})
	for range 3 {
		p.tick(loop, 10*time.Second)
		counter.Add(3)
	}
	loop = p.loop(Config{}) // a restart
	p.tick(loop, 20*time.Minute)
	start := noon.Add(10 * time.Second)
	row := func(seconds int, mwh int64) Reading {
		at := noon.Add(time.Duration(seconds) * time.Second)
		return Reading{Box: "b1", Meter: "m1", Time: at, Received: at, Epoch: start, CounterMillijoules: mwh * 3600,
			PowerMilliwatts: 100_500, StepMillijoules: 3600, HasCounter: true, HasPower: true}
	}
	all := []Reading{row(10, 5000), row(20, 5003), row(30, 5006), row(1230, 5009)}
	if diff := cmp.Diff(all, p.load("b1", noon, noon.Add(time.Hour))); diff != "" {
		t.Error(diff)
	}
	around := p.load("b1", noon.Add(15*time.Second), noon.Add(25*time.Second))
	if diff := cmp.Diff(all[:3], around); diff != "" {
		t.Errorf("with the one before and the one after: %s", diff)
	}
	if diff := cmp.Diff(all[2:], p.load("b1", noon.Add(20*time.Minute), noon.Add(40*time.Minute))); diff != "" {
		t.Errorf("with the one before: %s", diff)
	}
	due, err := p.registry.Due(t.Context(), registry.ProcessorPower, 0)
	if err != nil {
		t.Fatal(err)
	}
	var quarters []string
	for _, d := range due {
		quarters = append(quarters, d.Scope+" "+d.Quarter.Format("15:04"))
	}
	if diff := cmp.Diff([]string{"b1 12:00", "b1 12:15"}, quarters); diff != "" {
		t.Errorf("due: %s", diff)
	}
}

func TestLoopRefusesAndRecovers(t *testing.T) {
	p := newPlant(t)
	var counter atomic.Int64
	p.device("m1", "b1", &counter)
	loop := p.loop(Config{})
	for _, mwh := range []int64{1000, 1001, 7, 1002, 3, 4, 5} { // 7 is a slip; 3 begins a new life
		counter.Store(mwh)
		p.tick(loop, 10*time.Second)
		if mwh == 7 {
			if s := loop.Status()[0]; !strings.Contains(s.Error, "went back") || s.Refused != 1 {
				t.Errorf("status after a slip: %+v", s)
			}
		}
	}
	var got []string
	for _, r := range p.load("b1", noon, noon.Add(time.Hour)) {
		got = append(got, fmt.Sprintf("%d@%d", r.CounterMillijoules/3600, int(r.Epoch.Sub(noon).Seconds())))
	}
	if diff := cmp.Diff([]string{"1000@10", "1001@10", "1002@10", "3@50", "4@50", "5@50"}, got); diff != "" {
		t.Error(diff)
	}
	refused, err := p.store.Refused(t.Context(), "b1", schema.Window{})
	if err != nil || len(refused) != 1 || !strings.Contains(refused[0].Refused, "went back") {
		t.Errorf("refused %+v, %v", refused, err)
	}
	if s := loop.Status()[0]; s.Error != "" || s.Last.CounterMillijoules != 5*3600 {
		t.Errorf("status %+v", s)
	}
}

// TestHangingMeterDelaysNobody: while one device does not answer, the rows of
// the others are in the store.
func TestHangingMeterDelaysNobody(t *testing.T) {
	p := newPlant(t)
	var counter atomic.Int64
	counter.Store(1)
	release := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hang.Close()
	p.apply(fleet.NewObject("a-hangs", fleet.Meter{Box: "b1", Driver: fleet.DriverShellyGen2, URL: hang.URL}),
		fleet.NewObject("a-refuses", fleet.Meter{Box: "b1", Driver: fleet.DriverShellyGen2, URL: "http://127.0.0.1:1"}))
	p.device("m1", "b1", &counter)
	p.device("m2", "b2", &counter)
	loop := p.loop(Config{Timeout: time.Minute})
	done := make(chan error)
	go func() { done <- loop.Tick(t.Context(), p.clock.Now()) }()
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(p.load("b1", noon, noon.Add(time.Minute))) == 0 || len(p.load("b2", noon, noon.Add(time.Minute))) == 0 {
		if deadline.Err() != nil {
			t.Fatal("the rows of the other meters are not stored while one hangs")
		}
	}
	select {
	case err := <-done:
		t.Fatalf("tick ended before the hanging meter answered: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	var bad []string
	for _, s := range loop.Status() {
		if s.Error != "" {
			bad = append(bad, s.Meter)
		}
	}
	if diff := cmp.Diff([]string{"a-hangs", "a-refuses"}, bad); diff != "" {
		t.Error(diff)
	}
}

// TestUnwrittenReadingIsNotForgotten: while the store is away nothing moves on,
// and the next reading holds the growth; control: the growth is not zero.
func TestUnwrittenReadingIsNotForgotten(t *testing.T) {
	p := newPlant(t)
	var counter atomic.Int64
	counter.Store(1000)
	p.device("m1", "b1", &counter)
	loop := p.loop(Config{})
	p.tick(loop, 10*time.Second)
	good := loop.store
	loop.store = &Store{db: p.server.Database("absent")}
	counter.Store(1001)
	p.clock.Advance(10 * time.Second)
	if err := loop.Tick(t.Context(), p.clock.Now()); err == nil {
		t.Error("no error of a write to a database that is not there")
	}
	if s := loop.Status()[0]; s.Error == "" || s.Last.CounterMillijoules != 1000*3600 {
		t.Errorf("status %+v", s)
	}
	loop.store = good
	counter.Store(1002)
	p.tick(loop, 10*time.Second)
	readings := p.load("b1", noon, noon.Add(time.Hour))
	if n := len(readings); n != 2 || readings[1].CounterMillijoules-readings[0].CounterMillijoules != 2*3600 || readings[0].Epoch != readings[1].Epoch {
		t.Errorf("readings %+v", readings)
	}
}

func TestMeterIntervalAndRemoval(t *testing.T) {
	p := newPlant(t)
	var counter atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"e":"%d"}`, counter.Add(1))
	}))
	defer s.Close()
	p.apply(fleet.NewObject("slow", fleet.Meter{Box: "b1", Driver: fleet.DriverHTTPJSON, URL: s.URL, Interval: fleet.Duration(30 * time.Second),
		Fields: fleet.MeterFields{Counter: fleet.FieldRef{Path: "e", Unit: "J"}}}))
	loop := p.loop(Config{})
	for range 6 {
		p.tick(loop, 10*time.Second)
	}
	if got := counter.Load(); got != 2 {
		t.Errorf("read %d times in a minute, want 2", got)
	}
	if _, err := p.registry.Remove(t.Context(), fleet.KindMeter, "slow", "test"); err != nil {
		t.Fatal(err)
	}
	p.tick(loop, time.Minute)
	if got := counter.Load(); got != 2 || len(loop.Status()) != 0 {
		t.Errorf("a removed meter was read: %d times, status %v", got, loop.Status())
	}
	if got := p.load("b1", noon, noon.Add(time.Hour)); len(got) != 2 || got[0].HasPower || got[1].CounterMillijoules != 2000 {
		t.Errorf("readings %+v", got)
	}
}
