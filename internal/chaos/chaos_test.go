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

// runAll runs schedules; with stop, until one goes wrong.
func runAll(t *testing.T, first uint64, n int, stop bool, b bug) *tally {
	t.Helper()
	sums := &tally{struck: make(map[string]int), wrong: make(map[uint64]error)}
	dir := t.TempDir()
	seeds := make(chan uint64)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for seed := range seeds {
				sums.add(t, seed, filepath.Join(dir, fmt.Sprint(seed)), b)
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

func (s *tally) add(t *testing.T, seed uint64, dir string, b bug) {
	p := newPlan(seed)
	if *tell {
		t.Log(p)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Error(err)
		return
	}
	result, err := run(context.Background(), p, dir, b)
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
	sums := runAll(t, *firstSeed, *schedules, false, bug{})
	for _, seed := range slices.Sorted(maps.Keys(sums.wrong)) {
		t.Errorf("schedule %d: %v\n\tagain: make chaos SEED=%d N=1", seed, sums.wrong[seed], seed)
	}
	sums.report(t)
}
