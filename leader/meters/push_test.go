package meters

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

func sentAt(t time.Time, joules int64) Sent {
	return Sent{Time: t, Counter: json.Number(fmt.Sprint(joules)), Unit: "J"}
}

// results are the verdicts in short.
func results(verdicts []Verdict) string {
	text := ""
	for _, v := range verdicts {
		text += v.Result[:1]
	}
	return text
}

func (p *plant) push(l *Loop, meter string, sent ...Sent) []Verdict {
	p.t.Helper()
	verdicts, err := l.Push(p.t.Context(), meter, sent)
	if err != nil {
		p.t.Fatal(err)
	}
	return verdicts
}

// dueQuarters are the quarters in which a box's power is due.
func (p *plant) dueQuarters(box string) []string {
	p.t.Helper()
	due, err := p.registry.Due(p.t.Context(), registry.ProcessorPower, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	var quarters []string
	for _, d := range due {
		if d.Scope == box {
			quarters = append(quarters, d.Quarter.Format("02 15:04"))
		}
	}
	return quarters
}

func TestPush(t *testing.T) {
	p := newPlant(t)
	p.apply(fleet.NewObject("sent", fleet.Meter{Box: "b1", Driver: fleet.DriverPush}))
	loop := p.loop(Config{})
	p.tick(loop, 0) // nothing is asked
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	if got := results(p.push(loop, "sent", sentAt(at(-30), 9_000), sentAt(at(-40), 3_000), sentAt(at(-30), 9_000))); got != "ccd" {
		t.Errorf("first: %s", got)
	}
	if diff := cmp.Diff([]string{"23 11:15", "23 11:30"}, p.dueQuarters("b1")); diff != "" {
		t.Error(diff)
	}
	verdicts := p.push(loop, "sent",
		sentAt(at(-35), 6_000),                       // between the two
		sentAt(at(-36), 9_500),                       // more than the later one shows
		sentAt(at(-34), 2_000),                       // less than the former
		sentAt(at(-60), 1_000),                       // before all, and goes on to them
		sentAt(at(-70), 800_000),                     // before all, of an earlier life
		sentAt(at(-35), 6_001),                       // another one at that time
		Sent{Time: at(-20), Counter: "-1"},           // negative
		sentAt(at(10), 9_100),                        // in the future
		sentAt(at(-60*24*20), 1),                     // too old
		Sent{Time: at(-10)},                          // nothing
		Sent{Time: at(-10), Counter: "1", Unit: "V"}, // no energy
		Sent{Time: at(-10), Counter: "NaN"})
	if got := results(verdicts); got != "crrccrrrrrrr" {
		t.Errorf("%s", got)
		for _, v := range verdicts {
			t.Logf("%s %s %s", v.Time.Format("15:04"), v.Result, v.Reason)
		}
	}
	for i, v := range verdicts {
		if v.Result == ResultRefused && v.Reason == "" {
			t.Errorf("reading %d is refused without a reason", i)
		}
	}
	var counted []string
	for _, r := range p.load("b1", at(-90), at(0)) {
		counted = append(counted, fmt.Sprintf("%s %d %d", r.Time.Format("15:04"), r.CounterMillijoules/1000, int(r.Epoch.Sub(noon).Minutes())))
	}
	want := []string{"10:50 800000 -70", "11:00 1000 -40", "11:20 3000 -40", "11:25 6000 -40", "11:30 9000 -40"}
	if diff := cmp.Diff(want, counted); diff != "" {
		t.Error(diff)
	}
	if _, err := loop.Push(t.Context(), "none", []Sent{sentAt(noon, 1)}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("an unknown meter: %v", err)
	}
	// Sent again, after a restart, all of it is here.
	loop = p.loop(Config{})
	if got := results(p.push(loop, "sent", sentAt(at(-60), 1_000), sentAt(at(-70), 800_000), sentAt(at(-30), 9_000))); got != "ddd" {
		t.Errorf("again: %s", got)
	}
}

// Refused readings are kept with the reason, also those that cannot stand at their
// own time; none of them begins a life of the counter, and none takes another's place.
func TestRefusedReadingsAreKept(t *testing.T) {
	p := newPlant(t)
	p.apply(fleet.NewObject("sent", fleet.Meter{Box: "b1", Driver: fleet.DriverPush}))
	loop := p.loop(Config{})
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	p.push(loop, "sent", sentAt(at(-30), 9_000), sentAt(at(0), 12_000))
	sent := []Sent{sentAt(at(10), 9_100), sentAt(at(-60*24*20), 1), sentAt(at(-30), 9_001), {Time: at(-10)}, sentAt(at(-20), 12_500)}
	if got := results(p.push(loop, "sent", sent...)); got != "rrrrr" {
		t.Fatalf("%s", got)
	}
	kept, err := NewStore(p.server).Refused(t.Context(), "b1", schema.Window{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range kept {
		lines = append(lines, fmt.Sprintf("%s %d %s", r.Time.Sub(noon), r.CounterMillijoules/1000, r.Refused))
	}
	want := []string{"-20m0s 12500 it is more than the reading of 2026-11-23T12:00:00Z shows",
		"1ns 9100 its time is 10m0s ahead of the leader's clock; its time is 2026-11-23T12:10:00Z",
		"2ns 1 it is older than 336h0m0s: the minutes that it would be shared over are no longer kept; its time is 2026-11-03T12:00:00Z",
		"3ns 9001 another reading stands at that time; its time is 2026-11-23T11:30:00Z"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	counted := p.load("b1", at(-60), at(60))
	if len(counted) != 2 || counted[1].CounterMillijoules != 12_000_000 {
		t.Errorf("they count: %+v", counted)
	}
	// After a restart a counter that begins anew begins with what comes, not with
	// a kept one of another time.
	p.clock.Advance(time.Hour)
	loop = p.loop(Config{})
	if got := results(p.push(loop, "sent", sentAt(at(30), 50), sentAt(at(40), 60))); got != "rc" {
		t.Errorf("a new life: %s", got)
	}
	for _, r := range p.load("b1", at(10), at(60)) {
		if r.Time.After(at(1)) && !r.Epoch.Equal(at(30)) {
			t.Errorf("the new life began at %s", r.Epoch)
		}
	}
}

// TestPushInAnyOrder: a day of readings in random batches and order, some of them
// twice, is the same day: every reading counts once, in one life.
func TestPushInAnyOrder(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := newPlant(t)
		p.apply(fleet.NewObject("sent", fleet.Meter{Box: "b1", Driver: fleet.DriverPush}))
		loop := p.loop(Config{})
		var all []Sent
		for i, joules := 0, int64(0); i < 120; i++ {
			joules += rng.Int64N(30_000)
			all = append(all, sentAt(noon.Add(time.Duration(i-200)*time.Minute), joules))
		}
		order := append(rng.Perm(120), rng.Perm(20)...)
		for len(order) > 0 {
			n := min(1+rng.IntN(40), len(order))
			var some []Sent
			for _, i := range order[:n] {
				some = append(some, all[i])
			}
			for _, v := range p.push(loop, "sent", some...) {
				if v.Result == ResultRefused {
					t.Fatalf("seed %d: %+v", seed, v)
				}
			}
			order = order[n:]
			if rng.IntN(3) == 0 {
				loop = p.loop(Config{})
			}
		}
		rows := p.load("b1", noon.Add(-time.Hour*5), noon)
		var grown int64
		for i := 1; i < len(rows); i++ {
			if rows[i].Epoch.Equal(rows[i-1].Epoch) {
				grown += rows[i].CounterMillijoules - rows[i-1].CounterMillijoules
			}
		}
		first, _ := all[0].Counter.Int64()
		last, _ := all[119].Counter.Int64()
		// A batch before all others that does not know what comes after it may begin a
		// life of its own: none here, since each goes on to the next.
		if len(rows) != 120 || grown != (last-first)*1000 {
			t.Errorf("seed %d: %d rows grew by %d mJ, want 120 by %d", seed, len(rows), grown, (last-first)*1000)
		}
	}
}

// Watts that are sent are integrated, in their order.
func TestPushOfWatts(t *testing.T) {
	p := newPlant(t)
	p.apply(fleet.NewObject("sent", fleet.Meter{Box: "b1", Driver: fleet.DriverPush, Interval: fleet.Duration(time.Minute)}))
	loop := p.loop(Config{})
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	watts := func(minutes int, w string) Sent { return Sent{Time: at(minutes), Watts: json.Number(w)} }
	if got := results(p.push(loop, "sent", watts(-20, "100"), watts(-19, "200"), watts(-18, "0"), watts(-10, "50"))); got != "cccc" {
		t.Errorf("watts: %s", got)
	}
	verdicts := p.push(loop, "sent", watts(-9, "50"), watts(-19, "200"), Sent{Time: at(-19).Add(time.Second), Watts: "70"})
	if got := results(verdicts); got != "cdr" {
		t.Errorf("again: %s %v", got, verdicts)
	}
	var counted []string
	for _, r := range p.load("b1", at(-30), at(0)) {
		counted = append(counted, fmt.Sprintf("%s %d %d %s", r.Time.Format("15:04"), r.CounterMillijoules/1000, int(r.Epoch.Sub(noon).Minutes()), r.Origin))
	}
	// 100 to 200 W over a minute are 9,000 J, 200 to 0 W 6,000 J; eight minutes are a gap.
	want := []string{"11:40 0 -20 integrated", "11:41 9000 -20 integrated", "11:42 15000 -20 integrated", "11:50 15000 -10 integrated", "11:51 18000 -10 integrated"}
	if diff := cmp.Diff(want, counted); diff != "" {
		t.Error(diff)
	}
}

// A meter that counts two boxes makes both due.
func TestPushOfASharedMeter(t *testing.T) {
	p := newPlant(t)
	p.apply(fleet.NewObject("both", fleet.Meter{Boxes: []string{"b2", "b1"}, Driver: fleet.DriverPush}))
	loop := p.loop(Config{})
	p.push(loop, "both", sentAt(noon.Add(-time.Minute), 5))
	for _, box := range []string{"b1", "b2"} {
		if diff := cmp.Diff([]string{"23 11:45"}, p.dueQuarters(box)); diff != "" {
			t.Errorf("%s: %s", box, diff)
		}
	}
}

// A meter whose object says from a time on that it is another device begins another
// counter then, also where the new one would go on from the old.
func TestReplacedMeter(t *testing.T) {
	p := newPlant(t)
	old, next := fleet.NewObject("m", fleet.Meter{Box: "b1", Driver: fleet.DriverPush}), fleet.NewObject("m", fleet.Meter{Box: "b1", Driver: fleet.DriverPush, Channel: 1})
	old.ValidFrom, next.ValidFrom = noon.Add(-24*time.Hour), noon.Add(-30*time.Minute)
	p.apply(old, next)
	loop := p.loop(Config{})
	p.push(loop, "m", sentAt(noon.Add(-50*time.Minute), 1000), sentAt(noon.Add(-40*time.Minute), 1500), sentAt(noon.Add(-20*time.Minute), 1700), sentAt(noon.Add(-10*time.Minute), 1900))
	p.push(loop, "m", sentAt(noon.Add(-25*time.Minute), 1600), sentAt(noon.Add(-35*time.Minute), 1550))
	var counted []string
	for _, r := range p.load("b1", noon.Add(-time.Hour), noon) {
		counted = append(counted, fmt.Sprintf("%d %d", r.CounterMillijoules/1000, int(r.Epoch.Sub(noon).Minutes())))
	}
	if diff := cmp.Diff([]string{"1000 -50", "1500 -50", "1550 -50", "1600 -20", "1700 -20", "1900 -20"}, counted); diff != "" {
		t.Error(diff)
	}
}
