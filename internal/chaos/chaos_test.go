package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	firstSeed = flag.Uint64("chaos.seed", 1, "the first schedule")
	schedules = flag.Int("chaos.n", 500, "how many schedules")
	tell      = flag.Bool("chaos.tell", false, "print each schedule's plan and the faults that struck")
)

// workers run schedules side by side.
const workers = 2

// tally is what many schedules came to.
type tally struct {
	mu     sync.Mutex
	ran    int
	struck map[string]int
	wrong  map[uint64]error
}

// runAll runs schedules; with stop, until one goes wrong as it should.
func runAll(t *testing.T, first uint64, n int, stop bool, v variant) *tally {
	t.Helper()
	sums := &tally{struck: make(map[string]int), wrong: make(map[uint64]error)}
	dir := tempDir(t)
	seeds := make(chan uint64)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for seed := range seeds {
				sums.add(t, seed, filepath.Join(dir, fmt.Sprint(seed)), stop, v)
			}
		})
	}
	for i := range n {
		sums.mu.Lock()
		enough := stop && len(sums.wrong) > 0
		sums.mu.Unlock()
		if enough {
			break
		}
		seeds <- first + uint64(i)
	}
	close(seeds)
	group.Wait()
	return sums
}

func (s *tally) add(t *testing.T, seed uint64, dir string, expected bool, v variant) {
	p := newPlan(seed)
	p.parallel = v.parallel
	if *tell {
		t.Log(p)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Error(err)
		return
	}
	result, err := run(context.Background(), p, dir, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran++
	for fault, n := range result.struck {
		s.struck[fault] += n
	}
	if *tell {
		slices.Sort(result.trace)
		for _, line := range result.trace {
			t.Log(line)
		}
	}
	if err != nil {
		s.wrong[seed] = err
	}
	if err != nil && !expected {
		t.Errorf("schedule %d: %v\n\tagain: make chaos SEED=%d N=1", seed, err, seed)
	}
}

// report logs the faults by their kind.
func (s *tally) report(t *testing.T) {
	t.Helper()
	total := 0
	for _, fault := range slices.Sorted(maps.Keys(s.struck)) {
		t.Logf("%6d × %s", s.struck[fault], fault)
		total += s.struck[fault]
	}
	t.Logf("%d schedules, %d faults and losses, %s of CPU in this process", s.ran, total, cpu().Round(time.Second))
}

// cpu is what this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // for the log
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// TestSchedules: whatever befalls links, processes and volumes, the centre holds
// what was settled, has lost nothing, and its ledger is right.
func TestSchedules(t *testing.T) {
	t.Parallel()
	if *schedules < 1 {
		t.Fatalf("-chaos.n is %d: run one schedule at least", *schedules)
	}
	sums := runAll(t, *firstSeed, *schedules, false, variant{})
	sums.report(t)
}

// sideBySide is how many schedules copy parts of a table side by side.
const sideBySide = 40

// TestSideBySide: the same where parts of a table are copied side by side.
func TestSideBySide(t *testing.T) {
	runAll(t, *firstSeed, sideBySide, false, variant{parallel: 3})
}

// TestSeedDecides: a seed is a schedule, with the same faults at each run.
func TestSeedDecides(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+4; seed++ {
		if a, b := newPlan(seed).String(), newPlan(seed).String(); a != b {
			t.Errorf("two plans of seed %d:\n%s\n%s", seed, a, b)
		}
		var traces [2][]string
		for i := range traces {
			dir := filepath.Join(tempDir(t), "schedule")
			if err := os.Mkdir(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			result, err := run(t.Context(), newPlan(seed), dir, variant{})
			if err != nil {
				t.Error(err)
			}
			slices.Sort(result.trace)
			traces[i] = result.trace
		}
		if diff := cmp.Diff(traces[0], traces[1]); diff != "" || len(traces[0]) == 0 {
			t.Errorf("two runs of seed %d, %d faults:\n%s", seed, len(traces[0]), diff)
		}
	}
}
