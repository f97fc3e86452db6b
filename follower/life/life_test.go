package life

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

func TestObserve(t *testing.T) {
	var l Life
	if l.Known() {
		t.Error("a life that was not seen is known")
	}
	for i, test := range []struct {
		start time.Time
		cpu   int64
		at    int
		want  time.Time
	}{
		{time.Time{}, 10, 0, time.Time{}}, // no start told yet
		{at(-60), 20, 15, at(-60)},
		{at(10), 30, 30, at(-60)}, // moved, and the counter did not fall
		{at(10), 5, 20, at(-60)},  // an older sample says nothing
		{at(40), 5, 45, at(40)},   // it fell
		{at(40), 4, 60, at(45)},   // it fell again, the start untold
	} {
		if got := l.Observe(test.start, test.cpu, at(test.at)); !got.Equal(test.want) {
			t.Errorf("sample %d: epoch %s, want %s", i, got, test.want)
		}
	}
}

func TestResume(t *testing.T) {
	last := reading.Reading{Time: at(0), Epoch: at(-60)}
	last.Values.Set(reading.CPU, 100)
	for _, test := range []struct {
		name  string
		start time.Time
		cpu   int64
		want  time.Time
	}{
		{"goes on", at(-60), 110, at(-60)},
		{"start moved", at(-5), 110, at(-60)},
		{"start untold", time.Time{}, 110, at(-60)},
		{"fell", at(-5), 50, at(-5)},
		{"fell, the old start told", at(-60), 50, at(0)},
		{"began later", at(5), 110, at(5)},
	} {
		var l Life
		l.Resume(last, test.start, test.cpu)
		if got := l.Observe(test.start, test.cpu, at(15)); !got.Equal(test.want) {
			t.Errorf("%s: epoch %s, want %s", test.name, got, test.want)
		}
	}
}

// total is what a meter counts that takes a counter from zero at each new epoch.
func total(epochs []time.Time, counters []int64) int64 {
	sum := int64(0)
	for i := 1; i < len(counters); i++ {
		if epochs[i].Equal(epochs[i-1]) {
			sum += counters[i] - counters[i-1]
		} else {
			sum += counters[i]
		}
	}
	return sum
}

// Nothing is counted twice, however often the kernel tells another start; the
// control believes each start and counts counters again.
func TestNothingTwice(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	wrong := 0
	for range 500 {
		var l Life
		var steady, told []time.Time
		var counters []int64
		start, counter, truth := at(-100), int64(random.IntN(1000)), int64(0)
		for i := range 40 {
			growth := int64(random.IntN(100))
			if i > 0 && random.IntN(15) == 0 { // a new counter
				start, counter = at(15*i-7), 0
				growth = min(growth, max(0, counters[i-1]-1)) // it is seen below where the old one was
			} else if random.IntN(5) == 0 { // the start moves, the counter goes on
				start = at(15*i - random.IntN(10))
			}
			counter += growth
			if i > 0 {
				truth += growth
			}
			counters = append(counters, counter)
			told = append(told, start)
			steady = append(steady, l.Observe(start, counter, at(15*i)))
		}
		if got := total(steady, counters); got != truth {
			t.Fatalf("counted %d, the truth is %d", got, truth)
		}
		if total(told, counters) != truth {
			wrong++
		}
	}
	if wrong == 0 {
		t.Error("the control, which believes each start, was never wrong: the test shows nothing")
	}
}
