package e2e

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/push"
	"github.com/accumulus-metering/accumulus/leader/status"
)

// centreRows are all rows of the centre that come from followers or go to them,
// by database and table.
func centreRows(c *centre, cluster string) map[string][]influxsync.Point {
	c.Helper()
	rows := make(map[string][]influxsync.Point)
	for _, name := range []string{schema.MinuteDB, schema.FactsDB, schema.QuarterDB} {
		db := c.database(name)
		tables, err := db.GetTables(context.Background())
		c.check(err)
		for _, table := range tables {
			rows[name+"."+table] = read(c.TB, db, table, cluster)
		}
	}
	return rows
}

// results are a follower's, by table.
func (s *site) results() map[string][]influxsync.Point {
	rows := make(map[string][]influxsync.Point)
	for _, table := range push.Tables {
		rows[table.Name] = read(s.TB, s.database(schema.ResultsDB), table.Name, "")
	}
	return rows
}

func sameRows(t *testing.T, what string, before, after map[string][]influxsync.Point) {
	t.Helper()
	if len(before) != len(after) {
		t.Errorf("%s: %d tables became %d", what, len(before), len(after))
	}
	for table, rows := range before {
		if wrong := differ(byKey(rows), byKey(after[table])); wrong != "" {
			t.Errorf("%s: %s: %s", what, table, wrong)
		}
	}
}

// fenced says whether a leader tells that another one has replaced it.
func (c *centre) fenced(cluster string) bool {
	c.Helper()
	overview, err := c.leader.Overview(context.Background())
	c.check(err)
	for _, described := range overview.Clusters {
		for _, problem := range described.Problems {
			if described.Name == cluster && problem.Code == status.Fenced {
				return problem.Hint != "" && problem.Since != nil
			}
		}
	}
	return false
}

// TestTwoLeaders: what a leader pushed comes back by no pull; and a leader that
// was replaced by one that started later pushes no more, also after the follower
// was started again, and says why, while it goes on to pull.
func TestTwoLeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simulator.Steady(start), at(45*time.Minute), 15*time.Second)
	w.up()
	site := w.sites[0]
	w.run(at(63 * time.Minute))
	w.centre.again() // what has settled since the last slot
	w.centre.again() // and what was computed of it
	before, pushed := centreRows(w.centre, site.cluster), site.results()
	if len(pushed[schema.EnergyMinute.Name]) == 0 {
		t.Fatal("nothing was pushed")
	}
	w.centre.again()
	sameRows(t, "the centre after another pull", before, centreRows(w.centre, site.cluster))

	// The newer leader has a registry and a store of its own, and the same fleet.
	newer := &centre{world: w, dir: filepath.Join(w.dir, "leader-2")}
	newer.start()
	registry := newer.leader.Registry()
	_, err := registry.Apply(t.Context(), objects(w), "test")
	w.check(err)
	fence := site.follower.Status().Fence
	newer.again()
	newer.again() // what the first tick computed is pushed
	if got := site.follower.Status().Fence; got <= fence {
		t.Fatalf("fence %d after the newer leader pushed, %d before", got, fence)
	}
	w.check(newer.leader.StopLoops(t.Context()))
	if w.centre.fenced(site.cluster) {
		t.Error("the older leader is fenced before it pushes")
	}
	replaced := site.results()
	w.run(w.clock.Now().Add(3 * time.Minute))
	checkReplaced := func(when string) {
		t.Helper()
		sameRows(t, "results "+when, replaced, site.results())
		if !w.centre.fenced(site.cluster) {
			t.Errorf("%s the older leader does not say that it was replaced", when)
		}
		if newer.fenced(site.cluster) {
			t.Errorf("%s the newer leader says that it was replaced", when)
		}
	}
	checkReplaced("while the older leader runs")
	site.down()
	site.up()
	w.run(w.clock.Now().Add(8 * time.Minute)) // longer than the longest time between attempts
	checkReplaced("after the follower was started again")
	if got, most := len(read(t, w.centre.database(schema.MinuteDB), schema.NodeMinute.Name, site.cluster)), len(before["minute.node"]); got <= most {
		t.Errorf("the older leader has %d rows of nodes, as before: it does not pull", got)
	}
	// Started again, it is the newer one.
	w.check(w.centre.stop())
	w.centre.start()
	w.run(w.clock.Now().Add(2 * time.Minute))
	if w.centre.fenced(site.cluster) {
		t.Error("it is fenced after a start")
	}
	for table, rows := range site.results() {
		if len(rows) <= len(replaced[table]) && table == schema.EnergyMinute.Name {
			t.Errorf("%s: %d rows, as before: nothing was pushed", table, len(rows))
		}
	}
}
