package work

import (
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	chosen "github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/models"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func (w *world) keeper() *chosen.Keeper {
	w.t.Helper()
	k, err := chosen.New(w.books, w.server.Database(schema.MinuteDB), w.readings, w.clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) states() []registry.ModelState {
	w.t.Helper()
	states, err := w.books.ModelStates(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return states
}

func (w *world) pass(k *chosen.Keeper) {
	w.t.Helper()
	if err := k.Pass(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// modelled are the box's modelled milliwatts, by minute.
func (w *world) modelled(window schema.Window) []int64 {
	w.t.Helper()
	var all []int64
	for _, row := range w.rows(schema.BoxMinute, schema.BoxCluster, window) {
		all = append(all, row.Int(schema.EnergyModelled)/60)
	}
	return all
}

// TestModelBegins: a model that is chosen counts from the next minute on, what was
// before stays as it was; the same knowledge records nothing and writes nothing.
func TestModelBegins(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	k := w.keeper()
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.clk.Set(at(20))
	w.tick()
	w.pass(k)
	states := w.states()
	if len(states) != 1 || !states[0].From.Equal(at(21)) {
		t.Fatalf("states %+v, want one from the next minute on", states)
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("a model that begins in the future makes %v due", due)
	}
	w.settle("a", "n1", minutes(15, 45), twoPods...)
	w.clk.Set(at(45))
	w.tick()
	got := w.modelled(minutes(0, 45))
	if len(got) != 45 || slices.Min(got[:21]) != 60_000 || slices.Max(got[:21]) != 60_000 {
		t.Fatalf("before the model: %v mW, want 45 minutes, the line's 60,000 in the first 21", got)
	}
	var choice chosen.Choice
	if err := json.Unmarshal(states[0].Body, &choice); err != nil {
		t.Fatal(err)
	}
	hw, err := choice.Hardware()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(hw.Curve, func(p processors.CurvePoint) bool { return p.Utilisation == 500_000 })
	if want := hw.Curve[i].Microwatts / 1000; got[21] != want || got[44] != want || want == 60_000 {
		t.Errorf("with the model: %d and %d mW, want the curve's %d, which is not the line's", got[21], got[44], want)
	}
	before := w.written()
	w.pass(k)
	w.tick()
	if diff := cmp.Diff(before, w.written()); diff != "" || len(w.states()) != 1 {
		t.Errorf("the same knowledge again: %d states, wrote\n%s", len(w.states()), diff)
	}
}

// TestCalibrationSince: a calibration counts from the next minute on, or backwards
// where that is asked for; then the quarters since are computed again.
func TestCalibrationSince(t *testing.T) {
	for _, test := range []struct {
		name  string
		since time.Time
		want  []int64 // mW at the minutes 5, 20, 40
	}{
		{"from now on", time.Time{}, []int64{60_000, 60_000, 200_000}},
		{"since minute 15", at(15), []int64{60_000, 200_000, 200_000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, Config{}, rackedFleet()...)
			k := w.keeper()
			w.settle("a", "n1", minutes(0, 30), twoPods...)
			w.clk.Set(at(30))
			w.tick()
			changed, err := k.Calibrate(t.Context(), registry.Calibration{Cluster: "a", Node: "n1", By: "test", Points: []registry.CalibrationPoint{
				{Load: 0, Utilisation: 0, Watts: 100}, {Load: 10, Utilisation: .1, Watts: 130}, {Load: 50, Utilisation: .5, Watts: 200}, {Load: 100, Utilisation: 1, Watts: 300}}}, test.since)
			if err != nil {
				t.Fatal(err)
			}
			if changed.Calibration.Hardware != "server" || len(changed.Models) != 1 {
				t.Errorf("changed %+v, want a model of the node's hardware", changed)
			}
			begun := !test.since.IsZero()
			if m := inUse(t, k); (m.Next == nil) != begun || (len(m.Measured) == 4) != begun {
				t.Errorf("at once: next %v on %d points, want a model that has begun: %v", m.Next, len(m.Measured), begun)
			}
			w.settle("a", "n1", minutes(30, 45), twoPods...)
			w.clk.Set(at(45))
			w.tick()
			if m := inUse(t, k); m.Next != nil || len(m.Measured) != 4 {
				t.Errorf("later: next %v on %d points, want the calibration's model", m.Next, len(m.Measured))
			}
			got := w.modelled(minutes(0, 45))
			if diff := cmp.Diff(test.want, []int64{got[5], got[20], got[40]}); diff != "" {
				t.Error(diff)
			}
			if got := total(w.rows(schema.UsageQuarter, "a", minutes(30, 45)), energyFields...); got < 14*12_000_000 {
				t.Errorf("usage has %d mJ of the last quarter, want the curve's", got)
			}
		})
	}
}

// inUse is the general model of the first hardware type as it is told now.
func inUse(t *testing.T, k *chosen.Keeper) chosen.InUse {
	t.Helper()
	answer, err := k.Answer(t.Context())
	if err != nil || len(answer.Models) == 0 {
		t.Fatalf("%d models, %v", len(answer.Models), err)
	}
	return answer.Models[0]
}

// TestCorrectedHardware: the type's owner corrects its watts in the past. The model
// follows from there on, never to before the first model.
func TestCorrectedHardware(t *testing.T) {
	w := newWorld(t, Config{}, rackedFleet()...)
	k := w.keeper()
	w.clk.Set(at(0))
	w.pass(k) // from minute 1 on
	w.settle("a", "n1", minutes(0, 30), twoPods...)
	w.clk.Set(at(31))
	w.tick()
	former := w.modelled(minutes(0, 30))
	w.apply(fleet.NewObject("server", fleet.Hardware{Cores: 10, Curve: []fleet.LoadWatts{{Load: 0, Watts: 20}, {Load: 10, Watts: 40}, {Load: 50, Watts: 90}, {Load: 100, Watts: 150}}}).Since(at(10)))
	w.pass(k)
	w.tick()
	got := w.modelled(minutes(0, 30))
	if !slices.Equal(got[:10], former[:10]) || slices.Min(got[10:]) != 90_000 || slices.Max(got[10:]) != 90_000 {
		t.Errorf("modelled %v mW, want the former ones until minute 10 and then the curve's 90,000", got)
	}
}

// loads of a node of 10 cores by quarter: what varies, and is the same each time.
func loadAt(quarter int) int64 { return int64(60 + (quarter*7919)%480) } // core-s of 600

// teach lets a box run for some quarters: its meter shows a true curve.
func (w *world) teach(from, to int, watts func(u float64) float64) {
	w.t.Helper()
	counter := int64(1_000_000)
	for q := range to {
		load := loadAt(q)
		window := minutes(15*q, 15*q+15)
		if q >= from {
			w.settle("a", "n1", window, pod{"web", "p1", load, 60})
		}
		for _, m := range window.Split(schema.Minute) {
			if q >= from {
				err := w.readings.Write(w.t.Context(), []meters.Reading{{Box: "rack", Meter: "plug", Time: m.From, Received: m.From, Epoch: start,
					CounterMillijoules: counter, HasCounter: true, StepMillijoules: 1000}})
				if err != nil {
					w.t.Fatal(err)
				}
			}
			counter += int64(math.Round(watts(float64(load)/600) * 60_000))
		}
	}
	w.clk.Set(at(15 * to))
	w.tick()
}

// TestLearnedFromTheMeter: the box's meter shows another curve than its owner gave:
// it is learned, and used from then on. With the curve that its owner gave it is
// not, and what is learned once is not learned again.
func TestLearnedFromTheMeter(t *testing.T) {
	truth := func(u float64) float64 { return 90 + 120*math.Sqrt(u) }
	line := func(u float64) float64 { return 50 + 100*u }
	for name, test := range map[string]struct {
		watts func(float64) float64
		curve []fleet.LoadWatts
		want  bool
	}{
		"another curve":   {truth, []fleet.LoadWatts{{Load: 0, Watts: 50}, {Load: 100, Watts: 150}}, true},
		"the owner's own": {line, []fleet.LoadWatts{{Load: 0, Watts: 50}, {Load: 10, Watts: 60}, {Load: 50, Watts: 100}, {Load: 100, Watts: 150}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{}, append(rackedFleet(), meterObject())...)
			w.apply(fleet.NewObject("server", fleet.Hardware{Cores: 10, Curve: test.curve}))
			k := w.keeper()
			w.pass(k)
			const quarters = 44
			w.teach(0, quarters, test.watts)
			w.pass(k)
			learnings, err := w.books.Learnings(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var outcome chosen.Outcome
			if err := json.Unmarshal(learnings["rack"].Outcome, &outcome); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d lessons; %s", outcome.Lessons, outcome.Why)
			if outcome.Used != test.want || outcome.Lessons < models.MinWindows {
				t.Errorf("used %v after %d lessons, want %v after %d at least: %s", outcome.Used, outcome.Lessons, test.want, models.MinWindows, outcome.Why)
			}
			states := w.states()
			inBox := slices.DeleteFunc(slices.Clone(states), func(s registry.ModelState) bool { return s.Box != "rack" })
			if (len(inBox) == 1) != test.want {
				t.Fatalf("%d states of the box", len(inBox))
			}
			w.pass(k)
			if len(w.states()) != len(states) {
				t.Errorf("what was learned was learned again: %d states, then %d", len(states), len(w.states()))
			}
			w.teach(quarters, quarters+2, test.watts)
			for i, got := range w.modelled(minutes(15*quarters+5, 15*quarters+10)) {
				want := test.watts(float64(loadAt(quarters))/600) * 1000
				if off := math.Abs(float64(got)-want) / want; off > 0.02 {
					t.Errorf("minute %d: modelled %d mW, want %.0f within 2 %%", i, got, want)
				}
			}
		})
	}
}

// TestMeasure: a node's power is what its meter counted, less what the other node
// behind it draws by its model; a window whose rows are missing says so.
func TestMeasure(t *testing.T) {
	w := newWorld(t, Config{}, sharedFleet()...)
	k := w.keeper()
	w.settle("a", "n1", minutes(0, 15), twoPods...)
	w.settle("b", "n2", minutes(0, 10), pod{"web", "p3", 6, 60})
	w.meter("rack", "plug", minutes(0, 15), 7_200_000, 1000)
	w.clk.Set(at(16))
	w.tick()
	got, err := k.Measure(t.Context(), "a.n1", minutes(2, 8))
	if err != nil || !got.Ready {
		t.Fatalf("%+v, %v", got, err)
	}
	// The other node: 10 W idle and 1 % of 100 W by the line that its owner gave.
	if math.Abs(got.MeterWatts-120) > 0.1 || math.Abs(got.OtherWatts-11) > 0.1 || math.Abs(got.Watts-109) > 0.1 || math.Abs(got.Utilisation-0.5) > 1e-6 || !got.Others[0].Idle || got.Capacity != 10 {
		t.Errorf("measured %+v, want 120 W of which 11 W are the other node's, at half of 10 cores", got)
	}
	if busy, err := k.Measure(t.Context(), "b/n2", minutes(2, 8)); err != nil || busy.Others[0].Idle {
		t.Errorf("the other way round %+v, %v: want a busy node behind the meter", busy, err)
	}
	if early, err := k.Measure(t.Context(), "a.n1", minutes(5, 14)); err != nil || early.Ready || early.Why == "" {
		t.Errorf("before the other node's rows have come: %+v, %v", early, err)
	}
}
