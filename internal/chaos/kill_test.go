package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"golang.org/x/sync/errgroup"
)

// killsEnv sets how many schedules of processes run.
const killsEnv = "ACCUMULUS_TEST_CHAOS_KILLS"

const (
	defaultKills = 50 // schedules
	killsOfEach  = 4  // of each process in a schedule
	killControls = 6  // within how many schedules the control must be found
	patience     = 2 * time.Minute
)

// stage is a schedule with a follower's store and a leader as processes of their
// own, which are killed.
type stage struct {
	*testing.T
	plan             *plan
	steps            []step
	random           *rand.Rand
	dir              string
	address          string
	markFirst        bool
	follower, leader *process
	heard            chan line
	faults, kills    int
}

func (s *stage) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("schedule %d: %v", s.plan.seed, err)
	}
}

func newStage(t *testing.T, seed uint64, markFirst bool) *stage {
	t.Helper()
	s := &stage{T: t, plan: newPlan(seed), random: rand.New(rand.NewPCG(seed, 0xDEAD)), dir: filepath.Join(tempDir(t), fmt.Sprint("kills", seed)), markFirst: markFirst, heard: make(chan line, 64)}
	s.steps = s.plan.settling()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.check(err)
	s.address = listener.Addr().String()
	s.check(listener.Close())
	s.start("follower", 0)
	s.start("leader", 0)
	return s
}

// leave ends what runs and removes what is left.
func (s *stage) leave() {
	s.leader.kill()
	s.follower.kill()
	s.check(os.RemoveAll(s.dir))
}

func (s *stage) start(role string, life int) {
	s.Helper()
	c := child{Role: role, Dir: filepath.Join(s.dir, role), Seed: s.plan.seed, Address: s.address, Life: life, MarkFirst: s.markFirst}
	s.check(os.MkdirAll(c.Dir, 0o750))
	p, err := spawn(c, s.heard)
	s.check(err)
	if role == "leader" {
		s.leader = p
	} else {
		s.follower = p
	}
}

// run lets the follower settle its steps while the leader pulls, kills both again
// and again, and returns when the leader has nothing more to pull. What is wrong
// at a kill or at the end is the answer.
func (s *stage) run() error {
	var followerDies, leaderDies []int // at a step; at a request of a life
	for range killsOfEach {
		followerDies = append(followerDies, 1+s.random.IntN(len(s.steps)))
		leaderDies = append(leaderDies, 1+s.random.IntN(80))
	}
	slices.Sort(followerDies)
	idle, settled := 0, false
	late := time.NewTimer(patience)
	defer late.Stop()
	for idle < 2 {
		var l line
		select {
		case l = <-s.heard:
		case <-late.C:
			return errors.New("it does not come to an end")
		}
		switch {
		case l.from != s.leader && l.from != s.follower: // one that was killed
		case l.word == "gone":
			return fmt.Errorf("the %s ended by itself", l.from.child.Role)
		case l.word == "step" && len(followerDies) > 0 && len(s.steps)-l.numbers[0] >= followerDies[0]:
			followerDies = followerDies[1:]
			s.strike(s.follower)
		case l.word == "request" && len(leaderDies) > 0 && l.numbers[0] >= leaderDies[0]:
			leaderDies = leaderDies[1:]
			if err := s.strike(s.leader); err != nil {
				return fmt.Errorf("after a kill: %w", err)
			}
		case l.word == "settled":
			settled = true
		case l.word == "begin" && !settled:
			s.follower.allow(1 + s.random.IntN(12))
		case l.word == "pulled":
			s.faults += l.numbers[2] - l.from.faults
			l.from.faults = l.numbers[2]
			if idle++; !settled || l.numbers[0] > 0 || l.numbers[1] == 0 || len(leaderDies) > 0 {
				idle = 0
			}
		}
	}
	return s.finish()
}

// strike kills a process, looks at what a leader has left, and starts another.
func (s *stage) strike(p *process) (err error) {
	p.kill()
	s.kills++
	if p == s.leader {
		err = s.promised()
	}
	s.start(p.child.Role, p.child.Life+1)
	return err
}

// promised says what is wrong with the centre's rows by its marks, and by what the
// follower's journals tell of.
func (s *stage) promised() error {
	all, _, err := s.told(func(db string) (*influxsync.Database, error) {
		server, err := influxsync.New(influxsync.Config{URL: "http://" + s.address})
		if err != nil {
			return nil, err
		}
		for end := clock.System().Now().Add(patience); server.Ping(s.Context()) != nil && clock.System().Now().Before(end); {
			if err := clock.System().Sleep(s.Context(), 2*time.Millisecond); err != nil { // it is starting
				return nil, err
			}
		}
		return server.Database(db), nil
	})
	if err != nil {
		return err
	}
	w := s.world()
	w.source = &volume{plan: s.plan, books: all.books, stores: all.stores}
	err = w.attach(filepath.Join(s.dir, "leader"))
	if err == nil {
		err = w.check(make([]before, len(s.plan.tables)))
	}
	return errors.Join(err, w.centre.close())
}

// finish kills both, and compares what they leave.
func (s *stage) finish() error {
	s.leader.kill()
	s.follower.kill()
	w := s.world()
	source, err := newVolume(s.Context(), s.plan, w.clock, filepath.Join(s.dir, "follower"), nil)
	if err != nil {
		return err
	}
	w.source = source
	all, left, err := s.told(func(db string) (*influxsync.Database, error) { return source.server.Database(db), nil })
	if err == nil && left > 0 {
		err = fmt.Errorf("the follower has not made %d settlements", left)
	}
	source.books = all.books
	if err == nil {
		err = w.attach(filepath.Join(s.dir, "leader"))
	}
	if err == nil {
		w.connect()
		err = w.check(make([]before, len(s.plan.tables)))
	}
	if err == nil {
		err = w.complete()
	}
	return errors.Join(err, w.end())
}

func (s *stage) world() *world {
	return &world{ctx: s.Context(), plan: s.plan, dir: s.dir, clock: clock.NewManual(s.plan.start.Add(2 * day)), turn: newTurn(weather{}), losses: make(map[string]int)}
}

// told are the follower's books as its journals tell, and how many settlements they
// do not tell of. What is written into a window that nobody settles leaves no trace
// in them.
func (s *stage) told(open func(db string) (*influxsync.Database, error)) (all volume, left int, err error) {
	all = volume{stores: make(map[string]string)}
	for i, t := range s.plan.tables {
		db, err := open(t.DB)
		if err != nil {
			return all, 0, err
		}
		entries, err := influxsync.ReadJournal(s.Context(), db, cluster, t.Name, time.Time{}, 0)
		if err != nil {
			return all, 0, err
		}
		if all.stores[t.DB], err = influxsync.StoreID(s.Context(), db); err != nil {
			return all, 0, err
		}
		b, rest, err := s.plan.told(i, s.steps, entries, true)
		if err != nil {
			return all, 0, err
		}
		all.books = append(all.books, b)
		for _, step := range rest {
			if step.kind == settle {
				left++
			}
		}
	}
	return all, left, nil
}

// kills is how many schedules of processes run.
func kills(t *testing.T) int {
	text := os.Getenv(killsEnv)
	if text == "" {
		return defaultKills
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", killsEnv, err)
	}
	return n
}

// perform runs schedules of processes, two at once; with stop, until one goes
// wrong.
func perform(t *testing.T, first uint64, n int, markFirst, stop bool) map[uint64]error {
	var mu sync.Mutex
	wrong := make(map[uint64]error)
	faults, killed := 0, 0
	var group errgroup.Group
	group.SetLimit(workers)
	for i := range n {
		group.Go(func() error {
			mu.Lock()
			enough := stop && len(wrong) > 0
			mu.Unlock()
			if enough {
				return nil
			}
			s := newStage(t, first+uint64(i), markFirst)
			err := s.run()
			s.leave()
			mu.Lock()
			defer mu.Unlock()
			faults, killed = faults+s.faults, killed+s.kills
			if err == nil && s.kills+s.faults < leastFaults {
				err = fmt.Errorf("only %d kills and %d faults", s.kills, s.faults)
			}
			if err != nil {
				wrong[s.plan.seed] = err
			}
			return nil
		})
	}
	_ = group.Wait() // what is wrong is in wrong
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &usage) // for the log
	t.Logf("%d kills and %d faults of links; children %s, this process %s of CPU", killed, faults,
		time.Duration(usage.Utime.Nano()+usage.Stime.Nano()).Round(time.Second), cpu().Round(time.Second))
	return wrong
}

// TestKills: a follower's store and a leader are killed at any moment. What was
// settled arrives, what was confirmed stays, and no mark is ahead of the rows.
func TestKills(t *testing.T) {
	for seed, err := range perform(t, *firstSeed, kills(t), false, false) {
		t.Errorf("schedule %d: %v\n\tagain: %s=1 go test ./internal/chaos -run TestKills -args -chaos.seed=%d", seed, err, killsEnv, seed)
	}
}

// TestKillsFindMarkBeforeWrite is the control.
func TestKillsFindMarkBeforeWrite(t *testing.T) {
	wrong := perform(t, *firstSeed, killControls, true, true)
	if len(wrong) == 0 {
		t.Errorf("not found in %d schedules", killControls)
	}
	for seed, err := range wrong {
		t.Logf("found in %d: %.200v", seed, err)
	}
}
