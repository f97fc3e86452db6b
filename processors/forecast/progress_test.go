package forecast

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// course is a made-up job: pods at a time, each ten minutes long by some law, a
// tenth of which fail; it is looked at when a share of its parts is done.
func course(seed uint64, parts, slots int, share float64, length func(*rand.Rand) float64) (p Progress, truth float64) {
	r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a repeatable example
	type pod struct {
		from, to float64
		ok       bool
	}
	var running, all []pod
	now, missing, looked := 0.0, parts, -1.0
	for missing > 0 {
		for len(running) < min(slots, missing) {
			one := pod{now, now + 600*length(r), r.Float64() > 0.1}
			running, all = append(running, one), append(all, one)
		}
		slices.SortFunc(running, func(a, b pod) int { return int(1000 * (a.to - b.to)) })
		now = running[0].to
		if running[0].ok {
			missing--
		}
		running = running[1:]
		if looked < 0 && float64(parts-missing) >= share*float64(parts) {
			looked = now
			p.Missing, p.Slots = missing, slots
			for _, one := range all {
				if one.to <= now {
					p.Attempts = append(p.Attempts, Attempt{Seconds: one.to - one.from, OK: one.ok})
				} else {
					p.Attempts = append(p.Attempts, Attempt{Seconds: now - one.from, Open: true})
					p.Running = append(p.Running, now-one.from)
				}
			}
		}
	}
	return p, now - looked
}

// TestJobsEndWhenTold holds the told ends of made-up jobs against the truth. The
// control leaves out the pods that still run: with many at a time the first to end are
// the short ones.
func TestJobsEndWhenTold(t *testing.T) {
	normal := func(r *rand.Rand) float64 { return math.Exp(0.6 * r.NormFloat64()) }
	two := func(r *rand.Rand) float64 { return 0.2 + 2*float64(r.IntN(2)) + 0.1*r.Float64() }
	for _, x := range []struct {
		name         string
		parts, slots int
		share        float64
		length       func(*rand.Rand) float64
	}{{"a quarter done", 60, 5, 0.25, normal}, {"half done", 60, 5, 0.5, normal}, {"nearly done", 60, 5, 0.9, normal}, {"many at a time", 100, 80, 0.15, normal},
		{"exponential", 60, 5, 0.5, (*rand.Rand).ExpFloat64}, {"of two kinds", 200, 5, 0.4, two}} {
		held, of, wrong, biased, all := 0, 0, 0.0, 0.0, 0.0
		for seed := range uint64(60) {
			p, truth := course(seed, x.parts, x.slots, x.share, x.length)
			f, ok := p.Finish()
			if !ok || !f.Interval {
				continue
			}
			of++
			all, wrong = all+truth, wrong+f.Seconds.P50-truth
			if truth >= f.Seconds.P10 && truth <= f.Seconds.P90 {
				held++
			}
			p.Attempts = slices.DeleteFunc(p.Attempts, func(a Attempt) bool { return a.Open })
			control, _ := p.Finish()
			biased += control.Seconds.P50 - truth
		}
		share := float64(held) / float64(of)
		t.Logf("%s: P10 to P90 held %.0f %% of %d; bias %.1f %%, of the control %.1f %%", x.name, 100*share, of, 100*wrong/all, 100*biased/all)
		if share < 0.65 || share > 0.95 || math.Abs(wrong) > 0.25*all {
			t.Errorf("%s: held %.2f, bias %.3f", x.name, share, wrong/all)
		}
		if x.slots > 50 && biased > -0.2*all {
			t.Errorf("%s: the control is not biased: %.3f", x.name, biased/all)
		}
	}
}

func TestProgressWithoutKnowledge(t *testing.T) {
	for _, p := range []Progress{{Missing: 3, Slots: 1}, {Missing: 3, Running: []float64{5}, Attempts: []Attempt{{Seconds: 5, Open: true}}}, {Missing: 1, Attempts: []Attempt{{Seconds: 9}}}} {
		if f, ok := p.Finish(); ok {
			t.Errorf("%+v: %+v", p, f)
		}
	}
	one := Progress{Missing: 4, Slots: 2, Attempts: []Attempt{{Seconds: 60, OK: true}}}
	f, ok := one.Finish()
	if !ok || f.Interval || math.Abs(f.Seconds.P50-120) > 1 || math.Abs(f.PodSeconds.P50-240) > 1 {
		t.Errorf("four parts of a minute, two at a time: %+v", f)
	}
	again, _ := one.Finish()
	if f != again {
		t.Errorf("%+v and %+v of one question", f, again)
	}
}

// TestTimeBetweenPods: a slot is empty for a while after each pod, and a pod that runs
// has had that behind it.
func TestTimeBetweenPods(t *testing.T) {
	var attempts []Attempt
	for range 12 {
		attempts = append(attempts, Attempt{Seconds: 20, OK: true})
	}
	p := Progress{Attempts: attempts, Running: []float64{10}, Missing: 5, Slots: 1, Gap: 5}
	f, ok := p.Finish()
	if want := 10.0 + 4*25; !ok || f.Seconds.P50 < want-1 || f.Seconds.P50 > want+1 {
		t.Errorf("done in %f s, want %f", f.Seconds.P50, want)
	}
	if want := 10.0 + 4*20; f.PodSeconds.P50 < want-1 || f.PodSeconds.P50 > want+1 {
		t.Errorf("its pods run for %f s, want %f", f.PodSeconds.P50, want)
	}
}
