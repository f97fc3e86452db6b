package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// canaries stand in the registry beside what is of red: rows that share its
// box, its nodes' names, its prices' resources.
func canaries() []fleet.Object {
	return []fleet.Object{
		fleet.NewObject("canary-customer", fleet.Customer{DisplayName: "canary name", Currency: "CHF"}),
		fleet.NewObject("canary-cluster", fleet.Cluster{Customer: "canary-customer", URL: "http://127.0.0.1:1", Region: "canary-region"}),
		fleet.NewObject("box-shared", fleet.Box{Site: "canary street", OverheadWatts: 5}),
		fleet.NewObject("canary-box", fleet.Box{Site: "canary road", OverheadWatts: 17.251}),
		fleet.NewObject("canary-hardware", fleet.Hardware{CPUType: "canary-cpu", RAMType: "canary-ram", IdleWatts: 31.251, Source: "canary sheet"}),
		fleet.NewObject("canary.red-1", fleet.Node{Cluster: "canary-cluster", Node: "red-1", Box: "box-shared", Hardware: "canary-hardware"}),
		fleet.NewObject("canary.n", fleet.Node{Cluster: "canary-cluster", Node: "canary-node", Box: "box-shared"}),
		fleet.NewObject("canary-prices", fleet.PriceList{Currency: "CHF", Clusters: []string{"canary-cluster"}, Rates: []fleet.Rate{{Resource: "energy", Price: "0.314159"}}}),
		fleet.NewObject("canary-rule", fleet.Assignment{Cluster: "canary-cluster", Project: "canary-project", User: "canary-user"}),
	}
}

// seeds gives each follower its signed seed, as the command line does.
func (w *world) seeds() {
	w.Helper()
	for _, s := range w.sites {
		signed, err := w.centre.client.Seed(w.Context(), s.cluster, false)
		w.check(err)
		w.check(signed.Write(s.config.SeedDir))
	}
}

// holding are the words that files below a directory hold.
func holding(t *testing.T, dir string, words []string) (found []string, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files++
		for _, word := range words {
			if bytes.Contains(content, []byte(word)) {
				found = append(found, word+" in "+path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, files
}

// TestNeedToKnow: a follower that takes only what its leader signed meters a
// cluster whose box others share, takes a changed fact without a start, and in
// the end nothing of others is in its databases nor in any of its files.
func TestNeedToKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simulator.Shared(start), at(begins), 15*time.Second)
	w.apply(canaries()...)
	for _, s := range w.sites {
		s.config.SeedPublicKey = w.centre.leader.SeedKey()
		w.check(os.RemoveAll(s.config.SeedDir))
	}
	w.seeds()
	w.up()
	w.run(at(begins + 20*time.Minute))
	red := w.site("red")
	before := red.follower.Status().Seed
	if !before.Signed || before.Nodes != 2 || before.Error != "" {
		t.Fatalf("seed of red: %+v", before)
	}
	w.apply(fleet.NewObject("hw-red-red-1", fleet.Hardware{CPUType: "N305", RAMType: "DDR5", DiskType: "NVMe", Cores: 4, IdleWatts: 7, MaxWatts: 27}))
	if after := red.follower.Status().Seed; after.Version != before.Version {
		t.Errorf("a plain file was taken: %+v", after)
	}
	w.seeds()
	w.run(at(begins + 35*time.Minute))
	if after := red.follower.Status().Seed; !after.Signed || after.Generation <= before.Generation || after.Error != "" {
		t.Errorf("seed of red is %+v, was %+v", after, before)
	}
	w.drain()

	red.down()
	store := red.opened(t)
	known := texts(t, store.Database(schema.MinuteDB), store.Database(schema.FactsDB), store.Database(schema.RawDB), store.Database(schema.ResultsDB))
	if len(read(t, store.Database(schema.ResultsDB), schema.CostQuarter.Name, "")) == 0 {
		t.Error("no costs were pushed")
	}
	words := []string{"canary", "0.314159", "17.251", "31.251", "box-shared", "meter-shared", "azure", "blue-1"}
	for _, name := range w.foreign("red") {
		if name != "blue\n" {
			words = append(words, name)
		}
	}
	if names := found(known, words); len(names) > 0 {
		t.Errorf("red's databases hold %q", names)
	}
	hits, files := holding(t, red.config.Dir, words)
	if len(hits) > 0 || files < 10 {
		t.Errorf("of %d files of red hold %q", files, hits)
	}
	// The control: they are found in the leader's files, and red's own in red's.
	hits, _ = holding(t, w.centre.dir, words[:8])
	for _, word := range words[:8] {
		if !slices.ContainsFunc(hits, func(hit string) bool { return hit[:len(word)] == word }) {
			t.Errorf("%s is not found in the leader's files", word)
		}
	}
	if hits, _ := holding(t, red.config.Dir, []string{"red-1", "N305"}); len(hits) < 4 {
		t.Errorf("red's own words are found in %q alone", hits)
	}
}
