package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/push"
	"github.com/accumulus-metering/accumulus/leader/seed"
)

// texts are all words that databases hold: tags and texts of the rows.
func texts(t testing.TB, dbs ...*influxsync.Database) string {
	t.Helper()
	seen := make(map[string]bool)
	for _, db := range dbs {
		tables, err := db.GetTables(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			for _, p := range read(t, db, table, "") {
				for _, tag := range p.Tags {
					seen[tag.Value] = true
				}
				for _, f := range p.Fields {
					seen[f.Value.Str()] = true
				}
			}
		}
	}
	var all strings.Builder
	for word := range seen {
		all.WriteString(word)
		all.WriteByte('\n')
	}
	return all.String()
}

// foreign are names that a cluster may not know: of other clusters, their
// nodes and pods, of customers, boxes and meters.
func (w *world) foreign(cluster string) []string {
	var names []string
	own := make(map[string]bool)
	for _, c := range w.sim.Fleet().Clusters {
		for _, n := range c.Nodes {
			own[n.Name] = own[n.Name] || c.Name == cluster
		}
	}
	for _, c := range w.sim.Fleet().Clusters {
		if c.Name == cluster {
			continue
		}
		names = append(names, c.Name+"\n") // a whole word: names of pods hold colours too
		for _, n := range c.Nodes {
			if !own[n.Name] {
				names = append(names, n.Name)
			}
		}
		for _, i := range w.sim.Instances(c.Name, start, w.clock.Now()) {
			names = append(names, i.UID)
		}
		if customer := customers[c.Name]; customer != customers[cluster] {
			names = append(names, customer)
		}
	}
	for _, b := range w.sim.Fleet().Boxes {
		names = append(names, b.Name)
		for _, m := range b.Meters {
			names = append(names, m.Name)
		}
	}
	return names
}

// found are the names that a text holds.
func found(text string, names []string) []string {
	var all []string
	for _, name := range names {
		if strings.HasPrefix(text, name) || strings.Contains(text, "\n"+name) || !strings.HasSuffix(name, "\n") && strings.Contains(text, name) {
			all = append(all, name)
		}
	}
	return all
}

// checkPushed: a cluster has its own results, row by row, and knows no name of
// another's.
func checkPushed(t *testing.T, w *world, s *site) {
	t.Helper()
	results := s.database(schema.ResultsDB)
	for _, table := range push.Tables {
		sent := read(t, w.centre.database(table.DB), table.Name, s.cluster)
		if wrong := differ(byKey(sent), byKey(read(t, results, table.Name, ""))); wrong != "" {
			t.Errorf("%s: %s in the centre and pushed: %s", s.cluster, table.Name, wrong)
		}
		if len(sent) == 0 {
			t.Errorf("%s: no rows of %s", s.cluster, table.Name)
		}
	}
	facts, err := os.ReadFile(filepath.Join(s.config.SeedDir, seed.File))
	if err != nil {
		t.Fatal(err)
	}
	known := texts(t, s.database(schema.MinuteDB), s.database(schema.FactsDB), results) + strings.ReplaceAll(string(facts), "'", "\n")
	if names := found(known, w.foreign(s.cluster)); len(names) > 0 {
		t.Errorf("%s knows %q", s.cluster, names)
	}
	// The control: the names are found where they may be known.
	centre := texts(t, w.centre.database(schema.MinuteDB), w.centre.database(schema.MetersDB))
	if names := found(centre, w.foreign(s.cluster)); len(names) < 10 {
		t.Errorf("in the centre only %q are found", names)
	}
	if !strings.Contains(known, s.cluster+"\n") {
		t.Errorf("%s does not know its own name", s.cluster)
	}
}
