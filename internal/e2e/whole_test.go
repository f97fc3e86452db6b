package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// What TestWhole's clock shows, from the fleet's start on.
const (
	begins    = 45 * time.Minute
	corrects  = 75 * time.Minute
	corrected = 60 * time.Minute // since when the corrections hold
	ends      = 90*time.Minute + 30*time.Second
)

// inner is a window in which everything was read, cut at no quarter.
var inner = schema.Window{From: at(begins + 2*time.Minute), To: at(ends.Truncate(time.Minute) - 2*time.Minute)}

// TestWhole runs a fleet of four clusters for 45 minutes, in which pods start
// and end, containers restart, a node boots, and a fact and an owner turn out
// to have been wrong; then it asks everything that can be asked of the whole.
func TestWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, whole(), at(begins), 15*time.Second)
	w.up()
	w.run(at(corrects))
	before := w.beforeCorrection(t)
	w.apply(w.corrections()...)
	w.run(at(ends))
	t.Run("a second tick changes nothing", func(t *testing.T) { checkRepeated(t, w) })
	w.drain()
	t.Run("a second tick changes nothing after the end", func(t *testing.T) { checkRepeated(t, w) })
	t.Run("corrections", func(t *testing.T) { checkCorrections(t, w, before) })
	t.Run("energy", func(t *testing.T) {
		checkMeters(t, w.centre.leader.Store(), w.centre.leader.Registry(), w.sim.Fleet().Boxes)
		checkBoxes(t, w, inner)
		checkPodEnergy(t, w, "steady", inner)
	})
	t.Run("usage and cost", func(t *testing.T) { checkUsage(t, w, inner) })
	t.Run("export", func(t *testing.T) { checkExport(t, w, inner) })
	t.Run("page", func(t *testing.T) { checkPage(t, w) })
	t.Run("boards", func(t *testing.T) { checkBoards(t, w, inner) })
	for _, s := range w.sites {
		t.Run("need to know of "+s.cluster, func(t *testing.T) { checkPushed(t, w, s) })
	}
	for _, s := range w.sites {
		t.Run("sums of "+s.cluster, func(t *testing.T) { checkSums(t, s) })
	}
	t.Run("truth", func(t *testing.T) { checkTruth(t, w) })
}

// checkSums stops a follower and holds its store against every law of sums.
func checkSums(t *testing.T, s *site) {
	t.Helper()
	s.down()
	store := s.opened(t)
	m := readMinutes(t, store.Database(schema.MinuteDB), "")
	checkCopied(t, store, s.centre.leader.Store(), s.cluster)
	checkJournals(t, store, s.cluster, schema.Pulled)
	checkGrowth(t, store, m, s.cluster)
	if wrong := m.parts(); wrong != "" {
		t.Errorf("%s: %s", s.cluster, wrong)
	}
	// The control: a row that is lost is seen.
	lost := slices.IndexFunc(m.pods, func(p influxsync.Point) bool { return p.Int(schema.CPU) > 0 })
	m.pods = slices.Delete(m.pods, lost, lost+1)
	if m.parts() == "" {
		t.Errorf("%s: a lost row is not seen", s.cluster)
	}
}

func checkTruth(t *testing.T, w *world) {
	for _, s := range w.sites {
		m := readMinutes(t, w.centre.database(schema.MinuteDB), s.cluster)
		checkPods(t, w, s.cluster, m.pods, inner)
		checkNodes(t, w, s.cluster, m.nodes, inner)
		switch s.cluster {
		case "steady":
			checkBalance(t, w, s.cluster, "n1", m, inner, true)
			checkBalance(t, w, s.cluster, "n2", m, inner, true)
		case "red": // no pod ends
			checkBalance(t, w, s.cluster, "red-1", m, inner, false)
			checkBalance(t, w, s.cluster, "red-2", m, inner, false)
		}
	}
}

// checkRepeated runs one more tick of the leader at the same moment, and
// starts the followers anew: nothing that is stored anywhere differs, and
// nothing more is due.
func checkRepeated(t *testing.T, w *world) {
	t.Helper()
	w.centre.again() // what was due at this moment is done
	due, err := w.centre.leader.Registry().DueCount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := w.dumpAll()
	for _, s := range w.sites {
		s.down()
		s.up()
	}
	w.centre.again()
	w.centre.again()
	if wrong := differ(before, w.dumpAll()); wrong != "" {
		t.Errorf("a second tick changes: %s", wrong)
	}
	later, err := w.centre.leader.Registry().DueCount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for processor, n := range later {
		if n > due[processor] {
			t.Errorf("%d due for %s, %d before", n, processor, due[processor])
		}
	}
	if len(before) < 1000 {
		t.Errorf("only %d rows compared", len(before))
	}
}

// corrections say that a node has had other hardware, and a cluster another
// owner, for a quarter of an hour already.
func (w *world) corrections() []fleet.Object {
	node := w.sim.Fleet().Clusters[0].Nodes[0]
	s := w.site("varying")
	return []fleet.Object{
		fleet.NewObject("hw-corrected", fleet.Hardware{CPUType: "N305", RAMType: node.RAMType, DiskType: node.DiskType,
			Cores: int64(node.Cores), MemoryBytes: node.MemoryBytes, IdleWatts: node.IdleWatts, MaxWatts: 30}),
		fleet.NewObject("steady."+node.Name, fleet.Node{Cluster: "steady", Node: node.Name, Box: node.Box, Hardware: "hw-corrected"}).
			Since(at(corrected)),
		fleet.NewObject("varying", clusterOf(s, "azure")).Since(at(corrected)),
	}
}

// beforeCorrection are the settled rows as they stand.
func (w *world) beforeCorrection(t *testing.T) map[string]uint64 {
	t.Helper()
	all := make(map[string]uint64)
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		for _, p := range read(t, w.centre.database(schema.MinuteDB), table.Name, "") {
			if p.Time.Before(at(corrects - 5*time.Minute)) {
				all[key(p)] = p.Hash()
			}
		}
	}
	return all
}

// checkCorrections: settled rows keep their tags and numbers, rows from the
// correction on carry the new fact, no window counts twice, and usage is
// accounted to the right hardware and the right customer since it holds.
func checkCorrections(t *testing.T, w *world, before map[string]uint64) {
	t.Helper()
	minute := w.centre.database(schema.MinuteDB)
	after := w.beforeCorrection(t)
	if wrong := differ(before, after); wrong != "" {
		t.Errorf("settled rows after a correction: %s", wrong)
	}
	nodes := read(t, minute, schema.NodeMinute.Name, "steady")
	types := make(map[string]int)
	for _, p := range nodes {
		if p.Tag(schema.Node) == "n1" && p.Int(schema.Uptime) > 0 {
			types[p.Tag(schema.CPUType)]++
		}
	}
	if types["N100"] == 0 || types["N305"] == 0 {
		t.Errorf("windows of n1 by CPU type: %v", types)
	}
	windows := make(map[string]int)
	for _, p := range nodes {
		if windows[p.Tag(schema.Node)+p.Time.String()]++; windows[p.Tag(schema.Node)+p.Time.String()] > 1 {
			t.Errorf("node %s twice at %s", p.Tag(schema.Node), p.Time)
		}
	}
	since := func(from time.Duration, cluster, node string) int64 {
		var sum int64
		for _, p := range read(t, minute, schema.PodMinute.Name, cluster) {
			if inner.Contains(p.Time) && !p.Time.Before(at(from)) && (node == "" || p.Tag(schema.Node) == node) {
				sum += p.Int(schema.CPU)
			}
		}
		return sum
	}
	wanted := map[string]int64{"hw-corrected": since(corrected, "steady", "n1"), "hw-steady-n1": since(0, "steady", "n1") - since(corrected, "steady", "n1")}
	for _, r := range w.usage(t, inner, "hardware") {
		if want, ok := wanted[r.Key["hardware"]]; ok && r.CPUCoreSeconds.String() != exact(want, 6) {
			t.Errorf("usage of %s: %s, want %s", r.Key["hardware"], r.CPUCoreSeconds, exact(want, 6))
		}
		delete(wanted, r.Key["hardware"])
	}
	if len(wanted) > 0 {
		t.Errorf("no usage of %v", wanted)
	}
	moved := since(corrected, "varying", "")
	owners := map[string]int64{"acme": since(0, "steady", "") + since(0, "varying", "") - moved, "azure": since(0, "blue", "") + moved, "rubin": since(0, "red", "")}
	for _, r := range w.usage(t, inner, "customer") {
		if want := owners[r.Key["customer"]]; r.CPUCoreSeconds.String() != exact(want, 6) && r.Key["customer"] != schema.Unassigned {
			t.Errorf("usage of customer %s: %s, want %s", r.Key["customer"], r.CPUCoreSeconds, exact(want, 6))
		}
		delete(owners, r.Key["customer"])
	}
	if len(owners) > 0 {
		t.Errorf("no usage of customers %v", owners)
	}
}
