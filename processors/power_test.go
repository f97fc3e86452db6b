package processors

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// cases is how many random worlds a law is tried on; ACCUMULUS_CASES sets more.
func cases(t testing.TB, usual int) int {
	if s := os.Getenv("ACCUMULUS_CASES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usual
}

// counterSteps are the resolutions of meters: 1 mJ, 1 mWh, 1 W·min, 1 Wh, 20 Wh.
var counterSteps = []int64{1, 3_600, 60_000, 3_600_000, 72_000_000}

func randomWorld(seed uint64, quarters int) *world {
	rng := rand.New(rand.NewPCG(seed, 7))
	return newWorld(rng, worldConfig{nodes: 1 + rng.IntN(4), pods: rng.IntN(6), quarters: quarters, meters: rng.IntN(3),
		step: counterSteps[rng.IntN(len(counterSteps))], trouble: true, curve: linearCurve})
}

// addsUp is the law of one result: the rows of each minute are the box's
// energy of that minute, and nothing is in two rows.
func addsUp(in PowerInput, r PowerResult) error {
	type sums struct{ total, measured, modelled int64 }
	byMinute := map[time.Time]sums{}
	seen := map[string]bool{}
	for _, row := range r.Rows {
		key := fmt.Sprint(row.Time, row.Cluster, row.Node, row.Namespace, row.Pod, row.UID)
		if seen[key] {
			return fmt.Errorf("two rows of %s", key)
		}
		seen[key] = true
		if min(row.Active, row.Idle, row.Overhead, row.Modelled, row.Measured, row.Total()-row.Measured) < 0 {
			return fmt.Errorf("negative part in %+v", row)
		}
		s := byMinute[row.Time]
		byMinute[row.Time] = sums{s.total + row.Total(), s.measured + row.Measured, s.modelled + row.Modelled}
	}
	var box BoxEnergy
	for _, m := range r.Minutes {
		want := sums{m.Measured + m.Provisional + m.Estimated, m.Measured, m.Modelled}
		if got := byMinute[m.Time]; got != want {
			return fmt.Errorf("%s: Σ rows = %+v, want %+v", m.Time, got, want)
		}
		if m.Residual != 0 || m.Attributed != m.Measured {
			return fmt.Errorf("%s: residual %d", m.Time, m.Residual)
		}
		if m.MeasuredModel+m.Provisional+m.Estimated != m.Modelled {
			return fmt.Errorf("%s: the model's parts do not add up: %+v", m.Time, m.BoxEnergy)
		}
		if err := box.add(m.BoxEnergy); err != nil {
			return err
		}
	}
	if box != r.Box {
		return fmt.Errorf("Σ minutes = %+v, want %+v", box, r.Box)
	}
	if len(in.Meters) == 0 && (r.Box.Measured != 0 || r.Metered || r.Provisional) {
		return fmt.Errorf("a box without a meter measured %d mJ", r.Box.Measured)
	}
	return nil
}

// meterAddsUp is the law over quarters: of each interval that lies in them, the
// pieces that the quarters took add up to the growth of the counter between the
// two readings.
func meterAddsUp(m Meter, all schema.Window, results []PowerResult) (intervals int, err error) {
	readings := map[time.Time]Reading{}
	for _, r := range m.Readings {
		readings[r.Time] = r
	}
	type interval struct{ from, to time.Time }
	pieces := map[interval]int64{}
	for _, result := range results {
		for _, s := range result.Intervals {
			if s.Closed && s.Meter == m.Name && !s.From.Before(all.From) && !s.To.After(all.To) {
				pieces[interval{s.From, s.To}] += s.Measured
			}
		}
	}
	for i, got := range pieces {
		a, b := readings[i.from], readings[i.to]
		want := b.CounterMillijoules - a.CounterMillijoules
		if got != want {
			return 0, fmt.Errorf("%s–%s: Σ quarters = %d, want %d", i.from, i.to, got, want)
		}
		if a.Epoch != b.Epoch || want < MinSteps*a.StepMillijoules {
			return 0, fmt.Errorf("%s–%s is no meter interval: %+v, %+v", i.from, i.to, a, b)
		}
	}
	// No stretch of the meter is in two intervals.
	var sorted []interval
	for i := range pieces {
		sorted = append(sorted, i)
	}
	slices.SortFunc(sorted, func(a, b interval) int { return a.from.Compare(b.from) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].from.Before(sorted[i-1].to) {
			return 0, fmt.Errorf("intervals overlap at %s", sorted[i].from)
		}
	}
	return len(pieces), nil
}

func process(t testing.TB, in PowerInput) PowerResult {
	t.Helper()
	result, err := Power{}.Process(in)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestPowerAddsUp(t *testing.T) {
	const quarters = 4
	total, mixed := 0, 0
	for seed := range cases(t, 90) {
		w := randomWorld(uint64(seed), quarters)
		var results []PowerResult
		for q := range quarters {
			in := w.quarter(q)
			result := process(t, in)
			if err := addsUp(in, result); err != nil {
				t.Fatalf("seed %d, quarter %d: %v", seed, q, err)
			}
			for _, m := range result.Minutes {
				if m.Quality == schema.Mixed {
					mixed++
				}
			}
			results = append(results, result)
		}
		all := schema.Window{From: epoch0, To: epoch0.Add(quarters * schema.Quarter)}
		for _, m := range w.in.Meters {
			n, err := meterAddsUp(m, all, results)
			if err != nil {
				t.Fatalf("seed %d, %s, step %d: %v", seed, m.Name, m.Readings[0].StepMillijoules, err)
			}
			total += n
		}
	}
	t.Logf("%d intervals in %d worlds, %d mixed minutes", total, cases(t, 90), mixed)
	if total == 0 || mixed == 0 {
		t.Error("the worlds hold no interval or no mixed minute: the law was not tried")
	}
}

// The laws must fail where a bug is put back.
func TestPowerLawsHaveControls(t *testing.T) {
	const quarters = 4
	all := schema.Window{From: epoch0, To: epoch0.Add(quarters * schema.Quarter)}
	caught := map[string]int{}
	try := func(bug string, err error) {
		if err != nil {
			caught[bug]++
		}
	}
	for seed := range 40 {
		w := randomWorld(uint64(seed), quarters)
		if len(w.in.Meters) == 0 {
			continue
		}
		var results, forgetful []PowerResult
		for q := range quarters {
			in := w.quarter(q)
			result := process(t, in)
			results = append(results, result)
			try("each share rounded up", addsUp(in, mutateRows(result, func(r *EnergyRow) { r.Active++ })))
			try("a row lost", addsUp(in, loseRow(result)))
			try("idle in two rows", addsUp(in, mutateRows(result, func(r *EnergyRow) {
				if r.Namespace == schema.IdleNamespace {
					r.Idle *= 2
				} else if r.Idle > 0 {
					r.Idle++
				}
			})))
			// A quarter whose meter begins afresh with it.
			for m := range in.Meters {
				in.Meters = slices.Clone(in.Meters)
				in.Meters[m].Readings = slices.DeleteFunc(slices.Clone(in.Meters[m].Readings), func(r Reading) bool { return r.Time.Before(in.Window.From) })
			}
			forgetful = append(forgetful, process(t, in))
		}
		for _, m := range w.in.Meters {
			_, err := meterAddsUp(m, all, forgetful)
			try("intervals that depend on where the quarter begins", err)
			_, err = meterAddsUp(m, all, results[1:])
			try("a quarter lost", err)
		}
	}
	for _, bug := range []string{"each share rounded up", "a row lost", "idle in two rows", "intervals that depend on where the quarter begins", "a quarter lost"} {
		if caught[bug] == 0 {
			t.Errorf("%s: no law noticed it", bug)
		}
		t.Logf("%s: noticed %d times", bug, caught[bug])
	}
}

func mutateRows(r PowerResult, change func(*EnergyRow)) PowerResult {
	r.Rows = slices.Clone(r.Rows)
	for i := range r.Rows {
		change(&r.Rows[i])
	}
	return r
}

func loseRow(r PowerResult) PowerResult {
	i := slices.IndexFunc(r.Rows, func(row EnergyRow) bool { return row.Total() > 0 })
	if i >= 0 {
		r.Rows = slices.Delete(slices.Clone(r.Rows), i, i+1)
	}
	return r
}

func TestPowerRepeats(t *testing.T) {
	for seed := range cases(t, 30) {
		w := randomWorld(uint64(seed), 1)
		in := w.quarter(0)
		first := process(t, in)
		other := w.shuffled(in)
		if diff := cmp.Diff(first, process(t, other)); diff != "" {
			t.Fatalf("seed %d: the order of the input shows: %s", seed, diff)
		}
		if a, b := (Power{}).Fingerprint(in), (Power{}).Fingerprint(other); a != b {
			t.Fatalf("seed %d: fingerprints %s and %s of one input", seed, a, b)
		}
	}
}

// A provisional quarter becomes final when its minutes have settled and its
// interval has closed; what was closed before stays as it was.
func TestPowerSettles(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	w := newWorld(rng, worldConfig{nodes: 3, pods: 5, quarters: 1, meters: 1, step: 3_600_000, curve: linearCurve})
	all := w.quarter(0)
	final := process(t, all)
	if final.Provisional || final.Box.Provisional != 0 || final.Box.Estimated != 0 {
		t.Fatalf("a whole quarter is provisional: %+v", final.Box)
	}
	var closedBefore int64
	for minute := range 16 {
		in := all
		in.Settled = epoch0.Add(time.Duration(minute) * time.Minute)
		in.Meters = []Meter{all.Meters[0]}
		in.Meters[0].Readings = slices.DeleteFunc(slices.Clone(all.Meters[0].Readings), func(r Reading) bool { return r.Time.After(in.Settled.Add(30 * time.Second)) })
		got := process(t, in)
		if err := addsUp(in, got); err != nil {
			t.Fatal(err)
		}
		if len(got.Minutes) != minute || !got.Provisional {
			t.Fatalf("minute %d: %d minutes, provisional %t", minute, len(got.Minutes), got.Provisional)
		}
		if got.Box.Measured < closedBefore {
			t.Errorf("minute %d: measured went back from %d to %d", minute, closedBefore, got.Box.Measured)
		}
		closedBefore = got.Box.Measured
		for i, m := range got.Minutes {
			if m.Quality == schema.Measured && m != final.Minutes[i] {
				t.Errorf("minute %d changed after its interval had closed: %+v, then %+v", i, m, final.Minutes[i])
			}
		}
	}
}

func TestPowerRefusesContradictions(t *testing.T) {
	valid := func() PowerInput {
		w := newWorld(rand.New(rand.NewPCG(5, 5)), worldConfig{nodes: 2, pods: 2, quarters: 1, meters: 2, step: 1000, curve: linearCurve})
		return w.quarter(0)
	}
	for name, spoil := range map[string]func(*PowerInput){
		"window":         func(in *PowerInput) { in.Window.To = in.Window.From },
		"part minute":    func(in *PowerInput) { in.Window.From = in.Window.From.Add(time.Second) },
		"node twice":     func(in *PowerInput) { in.Nodes[1].Name, in.Nodes[1].Cluster = in.Nodes[0].Name, in.Nodes[0].Cluster },
		"minute twice":   func(in *PowerInput) { in.Nodes[0].Minutes[95].Time = in.Nodes[0].Minutes[96].Time },
		"no minute":      func(in *PowerInput) { in.Nodes[0].Minutes[95].Time = in.Nodes[0].Minutes[95].Time.Add(1) },
		"meter twice":    func(in *PowerInput) { in.Meters[1].Name = in.Meters[0].Name },
		"readings order": func(in *PowerInput) { in.Meters[1].Readings[5].Time = in.Meters[1].Readings[4].Time },
	} {
		t.Run(name, func(t *testing.T) {
			in := valid()
			process(t, in)
			spoil(&in)
			if _, err := (Power{}).Process(in); !errors.Is(err, ErrInput) {
				t.Errorf("got %v, want %v", err, ErrInput)
			}
		})
	}
}
