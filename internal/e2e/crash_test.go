package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/push"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

const (
	crashInterval = 15 * time.Second
	crashBegins   = 30 * time.Minute
	crashEnds     = 66 * time.Minute
	leaderTick    = 30 * time.Second
)

// crashFleet is one cluster whose pods vary, restart and come and go.
func crashFleet() simulator.Fleet {
	all := simulator.Varying(start)
	c := &all.Clusters[0]
	c.Nodes[1].Boots = nil // what is lost between a last reading and a boot depends on that reading
	c.Pods[0].End = time.Time{}
	c.Pods[1].Containers[0].Restarts = []time.Duration{40 * time.Minute}
	return all
}

// stage is a follower and a leader as processes of their own, in simulated time.
type stage struct {
	testing.TB
	clock            *clock.Manual
	sim              *simulator.Server
	dir              string
	follower, leader *process
	kills            map[string]int
}

func newStage(t testing.TB, journalFirst bool) *stage {
	t.Helper()
	s := &stage{TB: t, clock: clock.NewManual(at(crashBegins)), dir: t.TempDir(), kills: make(map[string]int)}
	sim, err := simulator.Start(context.Background(), simulator.Config{Fleet: crashFleet(), Clock: s.clock})
	s.check(err)
	s.sim = sim
	t.Cleanup(func() { s.check(sim.Close()) })
	cluster := crashFleet().Clusters[0]
	for _, dir := range []string{s.followerDir(), s.leaderDir(), s.seedDir()} {
		s.check(os.MkdirAll(dir, 0o700))
	}
	ca, token, err := sim.WriteFiles(cluster.Name, s.dir)
	s.check(err)
	s.check(os.WriteFile(filepath.Join(s.seedDir(), "seed.sql"), []byte(seedText(cluster)), 0o600))
	listen := freePort(t)
	meters := make(map[string]string)
	for _, b := range crashFleet().Boxes {
		meters[b.Name] = sim.MeterURL(b.Name, b.Meters[0].Name)
	}
	s.follower = spawn(t, child{Role: "follower", Dir: s.followerDir(), ClockURL: sim.ClockURL(), Listen: listen, JournalFirst: journalFirst,
		Cluster: cluster.Name, APIURL: sim.Access(cluster.Name).URL, CAFile: ca, TokenFile: token, SeedDir: s.seedDir()}, s.clock, 1)
	s.leader = spawn(t, child{Role: "leader", Dir: s.leaderDir(), ClockURL: sim.ClockURL(), Listen: "127.0.0.1:0",
		FollowerURL: "http://" + listen, FollowerToken: filepath.Join(s.followerDir(), "leader.token"), Meters: meters}, s.clock, leaderLoops)
	s.settle()
	return s
}

func (s *stage) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) followerDir() string { return filepath.Join(s.dir, "follower") }
func (s *stage) leaderDir() string   { return filepath.Join(s.dir, "leader") }
func (s *stage) seedDir() string     { return filepath.Join(s.dir, "seed") }

// seedText is the facts of a cluster's nodes, the same in each run.
func seedText(c simulator.Cluster) string {
	text := `CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE node (cluster TEXT, node TEXT, box TEXT, cpu_type TEXT, ram_type TEXT, disk_type TEXT, valid_from INTEGER, valid_to INTEGER);
INSERT INTO meta VALUES ('cluster', '` + c.Name + `'), ('schema', '1'), ('version', '1');
`
	for _, n := range c.Nodes {
		text += fmt.Sprintf("INSERT INTO node VALUES ('%s', '%s', 'box-1', '%s', '%s', '%s', NULL, NULL);\n", c.Name, n.Name, n.CPUType, n.RAMType, n.DiskType)
	}
	return text
}

// settle lets both processes come to rest.
func (s *stage) settle() {
	s.Helper()
	for _, p := range []*process{s.follower, s.leader} {
		p.aim(nil)
		p.rest()
	}
}

// step moves the clock by a slot; who is to be killed is, and starts again when
// as many slots have passed as down says. The answer is whether it was.
func (s *stage) step(of **process, v *victim, down int) bool {
	s.Helper()
	if of == nil {
		s.clock.Advance(crashInterval)
		s.settle()
		return false
	}
	p := *of
	p.aim(v)
	s.clock.Advance(crashInterval)
	killed, where := p.rest()
	if killed {
		s.kills[p.child.Role+" "+where]++
		if p.child.Role == "follower" {
			if wrong := s.promised(); wrong != "" {
				s.Errorf("killed %s: %s", where, wrong)
			}
		}
		s.clock.Advance(time.Duration(down) * crashInterval)
		*of = spawn(s.TB, p.child, s.clock, p.loops)
	}
	s.settle()
	return killed
}

// promised says which windows the follower's journal tells of without their
// rows being there, or "". Rows that are there and not told of are no fault:
// the writer was killed between the two.
func (s *stage) promised() string {
	s.Helper()
	engine := influxtest.Open(s.TB, filepath.Join(s.followerDir(), "influxdb"))
	defer func() { s.check(engine.Close()) }()
	server, err := engine.Client()
	s.check(err)
	names, err := server.Databases(s.Context())
	s.check(err)
	if !slices.Contains(names, schema.MinuteDB) {
		return ""
	}
	db := server.Database(schema.MinuteDB)
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		entries, err := influxsync.ReadJournal(s.Context(), db, s.follower.child.Cluster, table.Name, time.Time{}, 0)
		s.check(err)
		stored := make(map[time.Time]int64)
		for _, p := range read(s.TB, db, table.Name, "") {
			stored[p.Time]++
		}
		for _, e := range entries {
			if stored[e.Window.From] < e.Rows {
				return fmt.Sprintf("%s %s: the journal tells of %d rows, %d are there", table.Name, e.Window, e.Rows, stored[e.Window.From])
			}
		}
	}
	return ""
}

// points are where a process is killed for certain; elsewhere it is by chance.
var points = map[string][]string{
	"follower": {"before raw", "after raw", "before minute", "after minute", "before journal of minute", "after journal of minute", "after notes", "after facts"},
	"leader":   {"before minute", "after minute", "after journal of minute", "after quarter", "before journal of quarter", "after journal of quarter", "after meters"},
}

// chances is how often each process is killed at a moment by chance.
const chances = 12

// killings runs the stage to its end, and kills somebody whenever the slots
// between two kills have passed.
func (s *stage) killings(rng *rand.Rand) {
	s.Helper()
	type mark struct {
		of **process
		victim
	}
	var plan []mark
	for _, of := range []**process{&s.follower, &s.leader} {
		for _, point := range points[(*of).child.Role] {
			plan = append(plan, mark{of, victim{point: point}})
		}
		for range chances {
			plan = append(plan, mark{of, victim{after: time.Duration(rng.IntN(40)) * time.Millisecond}})
		}
	}
	rng.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	for range 4 { // the first readings are what all growth counts from
		s.step(nil, nil, 0)
	}
	for s.clock.Now().Before(at(crashEnds)) {
		down := 0
		if rng.IntN(6) == 0 {
			down = 1 + rng.IntN(4)
		}
		switch {
		case len(plan) == 0 || rng.IntN(5) == 0:
			s.step(nil, nil, 0)
		case s.step(plan[0].of, &plan[0].victim, down):
			plan = plan[1:]
		}
	}
	for _, m := range plan {
		s.Logf("%s was not killed %+v", (*m.of).child.Role, m.victim)
	}
}

// finish ends the readings, lets everything settle and ends both processes.
func (s *stage) finish() (follower, centre *influxsync.Server) {
	s.Helper()
	cluster := crashFleet().Clusters[0]
	for _, n := range cluster.Nodes {
		s.sim.SetKubeletFault(cluster.Name, n.Name, simulator.Fault{Down: true})
	}
	for range 15 {
		s.clock.Advance(time.Minute)
		s.settle()
	}
	for range 3 { // in which the leader ticks and no minute ends; what the first ones tell is copied by the last
		s.clock.Advance(leaderTick)
		s.settle()
	}
	s.follower.kill()
	s.leader.kill()
	open := func(dir string) *influxsync.Server {
		server, err := influxtest.Open(s.TB, dir).Client()
		s.check(err)
		return server
	}
	return open(filepath.Join(s.followerDir(), "influxdb")), open(filepath.Join(s.leaderDir(), "store"))
}

// TestKills kills follower and leader again and again, at known points and by
// chance. Nothing is lost and nothing counts twice, and what no kill touched is
// what it is without kills.
func TestKills(t *testing.T) {
	t.Parallel()
	seed := crashSeed(t)
	whole := newStage(t, false)
	for whole.clock.Now().Before(at(crashEnds)) {
		whole.step(nil, nil, 0)
	}
	undisturbed, _ := whole.finish()
	s := newStage(t, false)
	s.killings(rand.New(rand.NewPCG(seed, seed)))
	follower, centre := s.finish()
	cluster := crashFleet().Clusters[0].Name
	m := readMinutes(t, follower.Database(schema.MinuteDB), "")
	checkGrowth(t, follower, m, cluster)
	checkJournals(t, follower, cluster, schema.Pulled)
	s.checkCentre(centre, follower)
	checkCopied(t, follower, centre, cluster)
	if wrong := m.parts(); wrong != "" {
		t.Error(wrong)
	}
	compare(t, undisturbed, follower)
	s.count()
}

// checkCentre: what the leader computed is told by its journals, adds up to the
// meters, and has reached the follower.
func (s *stage) checkCentre(centre, follower *influxsync.Server) {
	s.Helper()
	cluster := crashFleet().Clusters[0].Name
	checkJournals(s.TB, centre, cluster, []schema.Table{schema.EnergyMinute, schema.UsageQuarter, schema.NodeQuarter, schema.VolumeQuarter, schema.EnergyQuarter, schema.CostQuarter})
	checkJournals(s.TB, centre, schema.BoxCluster, []schema.Table{schema.BoxMinute, schema.BoxQuarter})
	books, err := registry.Open(s.Context(), filepath.Join(s.leaderDir(), "registry.db"), s.clock)
	s.check(err)
	defer func() { s.check(books.Close()) }()
	checkMeters(s.TB, centre, books, crashFleet().Boxes)
	for _, table := range push.Tables {
		sent := read(s.TB, centre.Database(table.DB), table.Name, cluster)
		if wrong := differ(byKey(sent), byKey(read(s.TB, follower.Database(schema.ResultsDB), table.Name, ""))); wrong != "" || len(sent) == 0 {
			s.Errorf("%d rows of %s, pushed: %s", len(sent), table.Name, wrong)
		}
	}
	within := func(p influxsync.Point) bool { return p.Tag(schema.Cluster) == cluster }
	quarters := read(s.TB, centre.Database(schema.QuarterDB), schema.UsageQuarter.Name, cluster)
	pods := read(s.TB, centre.Database(schema.MinuteDB), schema.PodMinute.Name, cluster)
	if wrong := unequal(sums(pods, schema.CPU, within, schema.Node, schema.Namespace), sums(quarters, schema.CPU, within, schema.Node, schema.Namespace), 0); wrong != "" {
		s.Errorf("minutes and quarters: %s", wrong)
	}
}

// crashSeed is of the kills; ACCUMULUS_TEST_SEED sets another.
func crashSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("ACCUMULUS_TEST_SEED")
	if text == "" {
		return 11
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// count: enough kills, and at least one between each two writes.
func (s *stage) count() {
	s.Helper()
	total := map[string]int{}
	for where, n := range s.kills {
		role, _, _ := strings.Cut(where, " ")
		total[role] += n
	}
	for _, where := range slices.Sorted(maps.Keys(s.kills)) {
		s.Logf("%d × %s", s.kills[where], where)
	}
	s.Logf("kills: %v", total)
	if total["follower"] < 16 || total["leader"] < 14 {
		s.Errorf("only %v kills", total)
	}
	for between, names := range map[string][]string{
		"raw and minute write":     {"follower after raw", "follower before minute"},
		"minute and journal write": {"follower after minute", "follower before journal of minute"},
		"journal and raw write":    {"follower after journal of minute", "follower before raw"},
	} {
		n := 0
		for _, name := range names {
			n += s.kills[name]
		}
		if n == 0 {
			s.Errorf("no kill between %s", between)
		}
	}
}

// TestJournalBeforeRows is the control: a writer that tells of rows before
// they are durable is caught.
func TestJournalBeforeRows(t *testing.T) {
	s := newStage(t, true)
	for range 12 {
		s.follower.aim(&victim{point: "after journal of minute"})
		s.clock.Advance(crashInterval)
		if killed, _ := s.follower.rest(); killed {
			break
		}
	}
	if wrong := s.promised(); wrong == "" {
		t.Error("a journal that tells of rows that are not there was not seen")
	} else {
		t.Log("caught: ", wrong)
	}
}
