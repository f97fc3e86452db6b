package meters

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// counterAt is a reading of n seconds after noon.
func counterAt(seconds int, millijoules int64) Reading {
	t := noon.Add(time.Duration(seconds) * time.Second)
	return Reading{Box: "b", Meter: "m", Time: t, Received: t, CounterMillijoules: millijoules, HasCounter: true, StepMillijoules: 3600}
}

func TestJudge(t *testing.T) {
	const limit = 1_000_000 // 1 kW in mW
	stale := counterAt(-10, 90)
	stale.Received = noon.Add(20 * time.Second)
	hot := counterAt(20, 100)
	hot.HasPower, hot.PowerMilliwatts = true, 2_000_000
	tests := map[string]struct {
		readings []Reading
		want     []string // "time counter epoch reason" of the last judgement's rows
	}{
		"first is a baseline":    {[]Reading{counterAt(0, 500)}, []string{"0 500 0 "}},
		"growth":                 {[]Reading{counterAt(0, 500), counterAt(10, 900)}, []string{"10 900 0 "}},
		"same time again":        {[]Reading{counterAt(0, 500), counterAt(0, 500)}, nil},
		"negative":               {[]Reading{counterAt(0, 500), counterAt(10, -1)}, []string{"10 -1 - negative"}},
		"went back":              {[]Reading{counterAt(0, 500), counterAt(10, 400)}, []string{"10 400 - back by 100 mJ"}},
		"a slip back":            {[]Reading{counterAt(0, 500), counterAt(10, 400), counterAt(20, 700)}, []string{"20 700 0 "}},
		"reset confirmed":        {[]Reading{counterAt(0, 500), counterAt(10, 4), counterAt(20, 9)}, []string{"10 4 10 ", "20 9 10 "}},
		"jump":                   {[]Reading{counterAt(0, 500), counterAt(10, 9e9)}, []string{"10 9000000000 - grew by"}},
		"jump confirmed":         {[]Reading{counterAt(0, 500), counterAt(10, 9e9), counterAt(20, 9e9+5)}, []string{"10 9000000000 10 ", "20 9000000005 10 "}},
		"stuck at zero":          {[]Reading{counterAt(0, 500), counterAt(10, 0), counterAt(20, 0)}, []string{"20 0 - back by 500 mJ"}},
		"reset with a slip in":   {[]Reading{counterAt(0, 500), counterAt(10, 4), counterAt(20, 9e9), counterAt(30, 9)}, []string{"10 4 10 ", "30 9 10 "}},
		"older":                  {[]Reading{counterAt(0, 500), stale}, []string{"20 90 - before the reading"}},
		"too much power":         {[]Reading{counterAt(0, 500), hot}, []string{"20 100 - cannot draw"}},
		"refused twice, not new": {[]Reading{counterAt(0, 500), counterAt(10, 4), counterAt(10, 4)}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var l life
			var rows []Reading
			for _, r := range test.readings {
				l, rows = l.judge(r, rules{maxPower: limit})
			}
			if len(rows) != len(test.want) {
				t.Fatalf("rows %v, want %v", rows, test.want)
			}
			for i, r := range rows {
				epoch := "-"
				if !r.Epoch.IsZero() {
					epoch = strconv.Itoa(int(r.Epoch.Sub(noon).Seconds()))
				}
				got := []string{strconv.Itoa(int(r.Time.Sub(noon).Seconds())), strconv.FormatInt(r.CounterMillijoules, 10), epoch}
				want := strings.SplitN(test.want[i], " ", 4)
				if strings.Join(got, " ") != strings.Join(want[:3], " ") || !strings.Contains(r.Refused, want[3]) || (want[3] == "") != (r.Refused == "") {
					t.Errorf("row %v %q, want %q", got, r.Refused, test.want[i])
				}
			}
		})
	}
}

// device is a meter with a truth: its counter grows by at most limit, begins
// anew now and then, and some answers are slips.
type device struct {
	rng     *rand.Rand
	now     time.Time
	counter int64
	// truth is what readings can know: the growth from the first to the last
	// good reading of each life.
	truth int64
}

const deviceLimit = 500_000 // mW

// run is a random day of readings and the truth of it.
func (d *device) run() (readings []Reading) {
	for range 1 + d.rng.IntN(4) { // lives
		d.counter = 1e12 + d.rng.Int64N(1e15)
		first := d.counter
		for good := range 2 + d.rng.IntN(12) {
			d.pass()
			if good == 0 {
				first = d.counter
			}
			readings = append(readings, d.reading(d.counter))
			d.truth += d.counter - first
			first = d.counter
			for d.rng.IntN(4) == 0 {
				d.pass()
				slips := []int64{-1, 0, d.rng.Int64N(d.counter / 2), d.counter + 1e13 + d.rng.Int64N(1e17)}
				readings = append(readings, d.reading(slips[d.rng.IntN(len(slips))]))
			}
		}
	}
	return readings
}

func (d *device) pass() {
	seconds := 1 + d.rng.IntN(10)
	if d.rng.IntN(8) == 0 {
		seconds *= 1 + d.rng.IntN(300) // readings were missed
	}
	d.now = d.now.Add(time.Duration(seconds) * time.Second)
	d.counter += d.rng.Int64N(int64(seconds)*deviceLimit + 1)
}

func (d *device) reading(counter int64) Reading {
	return Reading{Box: "b", Meter: "m", Time: d.now, Received: d.now, CounterMillijoules: counter, HasCounter: true, StepMillijoules: 3600}
}

// growth is what a reader of the rows adds up: the growth within each epoch.
func growth(rows map[time.Time]Reading) int64 {
	first, last := make(map[time.Time]Reading), make(map[time.Time]Reading)
	for _, r := range rows {
		if r.Refused != "" {
			continue
		}
		if f, ok := first[r.Epoch]; !ok || r.Time.Before(f.Time) {
			first[r.Epoch] = r
		}
		if l, ok := last[r.Epoch]; !ok || r.Time.After(l.Time) {
			last[r.Epoch] = r
		}
	}
	var sum int64
	for epoch := range first {
		sum += last[epoch].CounterMillijoules - first[epoch].CounterMillijoules
	}
	return sum
}

// judged is what the rows hold after a run; each restart forgets what was in
// memory and recalls it from the rows.
func judged(rng *rand.Rand, readings []Reading, judge func(life, Reading) (life, []Reading)) map[time.Time]Reading {
	rows := make(map[time.Time]Reading)
	var l life
	for _, r := range readings {
		if rng.IntN(6) == 0 && l.known {
			var refused []Reading
			for _, row := range rows {
				if row.Refused != "" {
					refused = append(refused, row)
				}
			}
			l = recall(l.last, refused)
		}
		var write []Reading
		l, write = judge(l, r)
		for _, row := range write {
			rows[row.Time] = row
		}
	}
	return rows
}

// cases is how many random runs a law test makes; ACCUMULUS_CASES sets more.
func cases(t *testing.T, n int) int {
	t.Helper()
	if more, err := strconv.Atoi(os.Getenv("ACCUMULUS_CASES")); err == nil {
		return more
	}
	return n
}

// TestNoEnergyIsLostOrInvented: whatever slips, resets, missed readings and
// restarts there are, the sum of the growth within epochs is the truth.
func TestNoEnergyIsLostOrInvented(t *testing.T) {
	wrong, control, forgetful := 0, 0, 0
	n := cases(t, 5_000)
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		d := device{rng: rng, now: noon}
		readings := d.run()
		rows := judged(rng, readings, func(l life, r Reading) (life, []Reading) { return l.judge(r, rules{maxPower: 2 * deviceLimit}) })
		if got := growth(rows); got != d.truth {
			wrong++
			if wrong < 3 {
				t.Errorf("seed %d: growth %d, truth %d", seed, got, d.truth)
			}
		}
		if growth(judged(rng, readings, trusting)) != d.truth {
			control++
		}
		half := func(l life, r Reading) (life, []Reading) { // the bug: the first reading of a new epoch stays refused
			l, rows := l.judge(r, rules{maxPower: 2 * deviceLimit})
			return l, rows[max(0, len(rows)-1):]
		}
		if growth(judged(rng, readings, half)) != d.truth {
			forgetful++
		}
	}
	if wrong > 0 {
		t.Errorf("wrong in %d of %d", wrong, n)
	}
	if control < n/4 {
		t.Errorf("control: a judge that trusts each answer is wrong in only %d of %d", control, n)
	}
	if forgetful < n/4 {
		t.Errorf("control: a judge that forgets the first reading of an epoch is wrong in only %d of %d", forgetful, n)
	}
	t.Logf("%d cases, wrong %d, the controls %d and %d", n, wrong, control, forgetful)
}

// trusting is the bug put back: a counter that went back begins a new epoch at
// once, and any growth counts.
func trusting(l life, r Reading) (life, []Reading) {
	switch {
	case r.CounterMillijoules < 0:
		return l, nil
	case !l.known || r.CounterMillijoules < l.last.CounterMillijoules:
		r.Epoch = r.Time
	default:
		r.Epoch = l.last.Epoch
	}
	return life{known: true, last: r}, []Reading{r}
}
