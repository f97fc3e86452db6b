package validate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/stress"
)

// world is a container whose loads begin at once, with a clock of its own, and
// a meter that is wrong by given factors.
type world struct {
	clock clock.Clock
	shift time.Duration // of the container's clock against ours

	cores, ram, disk int
	cpu, receive     int64
	last             time.Time
	history          []stress.Reading // on our clock

	wrongCPU, wrongMemory float64
	wrongDisk             float64 // bytes more for each MB of load
	lost                  bool    // the meter does not know the container
	behind                time.Duration
	coarse                bool // the meter reads as a follower does: see seen
}

const base = 5_000_000 // the container's own memory and files, bytes

// advance brings the counters to now, at each second.
func (w *world) advance() {
	now := w.clock.Now()
	for t := w.last.Add(time.Second); !t.After(now); t = t.Add(time.Second) {
		w.cpu += int64(w.cores) * 1_000_000
		w.history = append(w.history, stress.Reading{Time: t, CPUMicroseconds: w.cpu, ReceiveBytes: w.receive,
			MemoryBytes: base + int64(w.ram)*1_000_000, DiskBytes: int64(w.disk) * 1_000_000})
		w.last = t
	}
}

func (w *world) Load(_ context.Context, kind string, size int) error {
	w.advance()
	switch kind {
	case "cpu":
		w.cores = size
	case "ram":
		w.ram = size
	case "disk":
		w.disk = size
	}
	return nil
}

func (w *world) Fetch(_ context.Context, n int) error {
	w.advance()
	w.receive += int64(n) * 66_000
	return nil
}

func (w *world) Readings(_ context.Context, from time.Time) ([]stress.Reading, error) {
	w.advance()
	var readings []stress.Reading
	for _, r := range w.history {
		if r.Time = r.Time.Add(w.shift); !r.Time.Before(from) {
			readings = append(readings, r)
		}
	}
	return readings, nil
}

func (w *world) Settled(context.Context) (time.Time, error) {
	return w.clock.Now().Add(-w.behind).Truncate(schema.Minute), nil
}

// seen is what a follower reads every 15 s: a counter and memory at that moment,
// disk space as it was measured 15 s before a whole minute.
func (w *world) seen() []stress.Reading {
	var all []stress.Reading
	for _, r := range w.history {
		if r.Time.Second()%15 != 7 {
			continue
		}
		measured, err := at(w.history, r.Time.Truncate(time.Minute).Add(-15*time.Second))
		if err != nil {
			continue
		}
		r.DiskBytes = measured.DiskBytes
		all = append(all, r)
	}
	return all
}

func (w *world) Usage(_ context.Context, window schema.Window) (Metered, error) {
	w.advance()
	if w.lost {
		return Metered{}, nil
	}
	history := w.history
	if w.coarse {
		history = w.seen()
	}
	t, err := truthOf(history, window)
	if err != nil {
		return Metered{}, err
	}
	seconds := window.Length().Seconds()
	return Metered{CPUCoreSeconds: t.cpu * (1 + w.wrongCPU), MemoryByteSeconds: t.memory * seconds * (1 + w.wrongMemory),
		FilesystemByteSeconds: (base + t.disk + w.wrongDisk*t.disk/1e6) * seconds, ReceiveBytes: t.receive, Coverage: 1}, nil
}

func run(t *testing.T, change func(*world)) ([]Result, error) {
	t.Helper()
	return runPlan(t, DefaultPlan(), change)
}

func runPlan(t *testing.T, plan Plan, change func(*world)) ([]Result, error) {
	t.Helper()
	var results []Result
	var err error
	synctest.Test(t, func(t *testing.T) {
		clk := clock.System()
		w := &world{clock: clk, last: clk.Now().Add(-5 * time.Minute), behind: 3 * time.Minute}
		change(w)
		results, err = Run(t.Context(), plan, w, w, clk, nil)
	})
	return results, err
}

func wrong(results []Result) map[Quantity]int {
	counts := make(map[Quantity]int)
	for _, r := range results {
		if !r.OK() {
			counts[r.Quantity]++
		}
	}
	return counts
}

func TestExactMeterPasses(t *testing.T) {
	for name, shift := range map[string]time.Duration{"same clock": 0, "a month off": -30 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			results, err := run(t, func(w *world) { w.shift = shift })
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[Quantity]int)
			for _, r := range results {
				seen[r.Quantity]++
				if !r.OK() {
					t.Errorf("%+v", r)
				}
			}
			if seen[CPU] != 3 || seen[Memory] != 4 || seen[Disk] != 4 || seen[Network] != 1 {
				t.Errorf("compared %v", seen)
			}
		})
	}
}

// TestWrongMeterFails is the control: each error is found in its quantity alone.
func TestWrongMeterFails(t *testing.T) {
	for quantity, change := range map[Quantity]func(*world){
		CPU:    func(w *world) { w.wrongCPU = 0.025 },
		Memory: func(w *world) { w.wrongMemory = -0.025 },
		Disk:   func(w *world) { w.wrongDisk = 300 },
	} {
		results, err := run(t, change)
		if err != nil {
			t.Fatal(err)
		}
		if found := wrong(results); found[quantity] < 2 || len(found) != 1 {
			t.Errorf("an error in %s alone is found as %v", quantity, found)
		}
	}
}

// TestLoadsOutlastTheReadings: a meter that reads every 15 s what was measured
// up to a minute before is right. The control: loads that follow each other as
// if it read each second.
func TestLoadsOutlastTheReadings(t *testing.T) {
	coarse := func(w *world) { w.coarse = true }
	results, err := run(t, coarse)
	if err != nil {
		t.Fatal(err)
	}
	if found := wrong(results); len(found) != 0 {
		t.Errorf("found wrong: %v of %+v", found, results)
	}
	plan := DefaultPlan()
	plan.Interval = time.Second
	if results, err = runPlan(t, plan, coarse); err != nil {
		t.Fatal(err)
	}
	if found := wrong(results); found[Disk] == 0 {
		t.Errorf("the control found wrong: %v", found)
	}
}

func TestMeterThatIsSilent(t *testing.T) {
	if _, err := run(t, func(w *world) { w.lost = true }); err == nil || !strings.Contains(err.Error(), "knows nothing") {
		t.Errorf("a container that the meter does not know: %v", err)
	}
	if _, err := run(t, func(w *world) { w.behind = time.Hour }); err == nil || !strings.Contains(err.Error(), "settled only until") {
		t.Errorf("a meter that does not settle: %v", err)
	}
}

func TestPlanIsChecked(t *testing.T) {
	for _, plan := range []Plan{{}, {Minutes: 1, Interval: time.Second}, {Minutes: 0, Interval: time.Second, Steps: []Step{{}}}, {Minutes: 1, Interval: time.Second, Steps: []Step{{RAM: -1}}},
		{Minutes: 1, Steps: []Step{{}}}, {Minutes: 1, Interval: time.Hour, Steps: []Step{{}}}} {
		if err := plan.Validate(); err == nil {
			t.Errorf("%+v is taken", plan)
		}
	}
	if err := DefaultPlan().Validate(); err != nil {
		t.Error(err)
	}
}

var errGone = errors.New("gone")

type deaf struct{ world }

func (*deaf) Readings(context.Context, time.Time) ([]stress.Reading, error) { return nil, errGone }

func TestPodThatDoesNotAnswer(t *testing.T) {
	clk := clock.NewManual(time.Unix(0, 0))
	pod := &deaf{world{clock: clk}}
	if _, err := Run(t.Context(), DefaultPlan(), pod, pod, clk, nil); !errors.Is(err, errGone) {
		t.Errorf("got %v", err)
	}
}
