package tagger

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

const schemaSQL = `-- the tables
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE node(cluster TEXT, node TEXT, box TEXT, cpu_type TEXT, ram_type TEXT, disk_type TEXT, valid_from, valid_to);
CREATE INDEX node_node ON node(node);
INSERT INTO meta VALUES('cluster', 'edge'), ('version', '%s');`

// write fills a plain directory of seed files.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func seed(version, rows string) map[string]string {
	return map[string]string{"00-schema.sql": fmt.Sprintf(schemaSQL, version), "10-nodes.sql": rows, "README": "ATTACH"}
}

func row(node, cpu string) string {
	return fmt.Sprintf("INSERT INTO node VALUES('edge', '%s', 'b1', '%s', 'ddr4', 'nvme', NULL, NULL);", node, cpu)
}

func newTagger(t *testing.T, dir, path string) (*Tagger, *clock.Manual) {
	t.Helper()
	clk := clock.NewManual(epoch)
	tagger := New(Config{Dir: dir, Path: path, Cluster: "edge", Interval: time.Second}, clk,
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := tagger.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tagger, clk
}

func TestFacts(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "with space", "facts.db")
	write(t, dir, seed("1", `
		INSERT INTO node VALUES('edge', 'n1', 'b1', 'i5', 'ddr4', 'nvme', NULL, '2026-11-01T00:00:00Z');
		INSERT INTO node VALUES('edge', 'n1', 'b1', 'i7', 'ddr4', 'nvme', '2026-11-01T00:00:00Z', 1793494800000000000);
		INSERT INTO node VALUES('edge', 'n''2', 'b2', 'arm', '', NULL, 0, '');`))
	tagger, clk := newTagger(t, dir, path)
	until := time.Unix(0, 1793494800000000000).UTC()
	for _, tc := range []struct {
		node string
		at   time.Time
		want reading.Facts
		ok   bool
	}{
		{"n1", epoch.Add(-time.Nanosecond), reading.Facts{Box: "b1", CPUType: "i5", RAMType: "ddr4", DiskType: "nvme"}, true},
		{"n1", epoch, reading.Facts{Box: "b1", CPUType: "i7", RAMType: "ddr4", DiskType: "nvme"}, true},
		{"n1", until, reading.Facts{}, false},
		{"n'2", epoch, reading.Facts{Box: "b2", CPUType: "arm"}, true},
		{"' OR 1=1 --", epoch, reading.Facts{}, false},
	} {
		clk.Set(tc.at)
		got, ok := tagger.Facts(tc.node)
		if diff := cmp.Diff(tc.want, got); diff != "" || ok != tc.ok {
			t.Errorf("facts of %s at %s: ok %t (-want +got):\n%s", tc.node, tc.at, ok, diff)
		}
	}
	if s := tagger.Status(); !s.Loaded || s.Version != "1" || s.Error != "" || s.Hash == "" {
		t.Errorf("status %+v", s)
	}
}

func TestChangedSeedPurgesCache(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "facts.db")
	write(t, dir, seed("1", row("n1", "i5")))
	tagger, clk := newTagger(t, dir, path)
	if got, _ := tagger.Facts("n1"); got.CPUType != "i5" {
		t.Fatalf("facts %+v", got)
	}
	if _, ok := tagger.Facts("n2"); ok {
		t.Fatal("facts of a node that the seed does not have")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = tagger.Run(ctx) }()
	write(t, dir, seed("2", row("n1", "i7")+row("n2", "i9")))
	for tagger.Status().Version != "2" {
		clk.Advance(time.Second)
	}
	cancel()
	<-done
	got := []string{}
	for _, node := range []string{"n1", "n2"} {
		facts, _ := tagger.Facts(node)
		got = append(got, facts.CPUType)
	}
	if diff := cmp.Diff([]string{"i7", "i9"}, got); diff != "" {
		t.Error(diff)
	}
}

// mount lays a directory out as the kubelet does for a ConfigMap, and returns
// what swaps it to another version.
func mount(t *testing.T, dir string) func(version string, files map[string]string) {
	return func(version string, files map[string]string) {
		t.Helper()
		target := "..2026_" + version
		if err := os.Mkdir(filepath.Join(dir, target), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, target), files)
		if err := os.Symlink(target, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		for name := range files {
			_ = os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name))
		}
	}
}

func TestConfigMapSwap(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "facts.db")
	swap := mount(t, dir)
	swap("1", seed("1", row("n1", "i5")))
	tagger, _ := newTagger(t, dir, path)
	swap("2", seed("2", row("n1", "i7")))
	if !tagger.Refresh(context.Background()) {
		t.Fatalf("not taken: %+v", tagger.Status())
	}
	if got, _ := tagger.Facts("n1"); got.CPUType != "i7" {
		t.Errorf("facts %+v", got)
	}
	if tagger.Refresh(context.Background()) {
		t.Error("the same seed was taken twice")
	}
}

func TestBadSeedKeepsOld(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"attach":       {seed("2", "ATTACH 'x.db' AS x;"), "only CREATE TABLE"},
		"pragma":       {seed("2", "PRAGMA journal_mode=off;"), "only CREATE TABLE"},
		"trigger":      {seed("2", "CREATE TRIGGER x AFTER INSERT ON node BEGIN DELETE FROM node; END;"), "only CREATE TABLE"},
		"syntax":       {seed("2", "INSERT INTO node VALUES("), "statement 1"},
		"open literal": {seed("2", "INSERT INTO node VALUES('"), "no end"},
		"growth": {seed("2", "CREATE TABLE x(y); INSERT INTO x VALUES('"+strings.Repeat("z", 1<<20)+"');"+
			"INSERT INTO x SELECT a.y FROM x a, meta b, meta c, meta d, meta e, meta f, meta g;"), "full"},
		"function":      {seed("2", "CREATE TABLE x(y); INSERT INTO x VALUES(randomblob(10));"), "not authorized"},
		"recursion":     {seed("2", "CREATE TABLE x(y); INSERT INTO x WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) SELECT n FROM r;"), "authorized"},
		"catalogue":     {seed("2", "INSERT INTO sqlite_master VALUES('table','x','x',1,'');"), "sqlite_master"},
		"other cluster": {seed("2", strings.Replace(row("n1", "i7"), "edge", "other", 1)), `another cluster, "other"`},
		"two facts":     {seed("2", row("n1", "i7")+row("n1", "i9")), "two sets of facts"},
		"bad time":      {seed("2", "INSERT INTO node VALUES('edge', 'n1', '', '', '', '', 'yesterday', NULL);"), "valid_from"},
		"own table":     {seed("2", "CREATE TABLE origin(hash, key);"), "origin already exists"},
		"generation":    {seed("2", "INSERT INTO meta VALUES('generation', 'high');"), "meta generation"},
		"no column":     {map[string]string{"00-schema.sql": "CREATE TABLE meta(key, value); CREATE TABLE node(cluster)", "10-nodes.sql": ""}, "has no column"},
		"no table":      {map[string]string{"00-schema.sql": "CREATE TABLE node(cluster);", "10-nodes.sql": ""}, "has no column"},
		"wrong cluster": {map[string]string{"00-schema.sql": strings.Replace(fmt.Sprintf(schemaSQL, "2"), "edge", "far", 1), "10-nodes.sql": ""}, `of cluster "far"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := t.TempDir(), filepath.Join(t.TempDir(), "facts.db")
			write(t, dir, seed("1", row("n1", "i5")))
			tagger, _ := newTagger(t, dir, path)
			write(t, dir, tc.files)
			if tagger.Refresh(context.Background()) {
				t.Fatal("a bad seed was taken")
			}
			s := tagger.Status()
			if !s.Loaded || s.Version != "1" || !strings.Contains(s.Error, tc.want) {
				t.Errorf("status %+v, want version 1 and an error with %q", s, tc.want)
			}
			if got, ok := tagger.Facts("n1"); !ok || got.CPUType != "i5" {
				t.Errorf("facts %+v, %t", got, ok)
			}
			again, _ := newTagger(t, dir, path)
			if got, ok := again.Facts("n1"); !ok || got.CPUType != "i5" {
				t.Errorf("facts after a restart %+v, %t; status %+v", got, ok, again.Status())
			}
			write(t, dir, seed("1", row("n1", "i5")))
			tagger.Refresh(context.Background())
			if s := tagger.Status(); s.Error != "" {
				t.Errorf("the good text is back, but status %+v", s)
			}
		})
	}
}

func TestNoSeed(t *testing.T) {
	tagger, _ := newTagger(t, filepath.Join(t.TempDir(), "absent"), filepath.Join(t.TempDir(), "facts.db"))
	if s := tagger.Status(); s.Loaded || s.Error == "" {
		t.Errorf("status %+v", s)
	}
	if _, ok := tagger.Facts("n1"); ok {
		t.Error("facts without a seed")
	}
}

func TestNoSeedIsEverToCome(t *testing.T) {
	tagger, _ := newTagger(t, "", filepath.Join(t.TempDir(), "facts.db"))
	if got, ok := tagger.Facts("n1"); !ok || got.CPUType != "unknown" || got.Box != "unknown" {
		t.Errorf("facts %+v, %t; want unknown ones that nobody waits for", got, ok)
	}
	if s := tagger.Status(); s.Loaded || s.Error != "" {
		t.Errorf("status %+v", s)
	}
}

func TestConcurrentUse(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "facts.db")
	write(t, dir, seed("0", row("n1", "v0")))
	tagger, _ := newTagger(t, dir, path)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 200 {
				if got, ok := tagger.Facts("n1"); !ok || !strings.HasPrefix(got.CPUType, "v") {
					t.Errorf("facts %+v, %t", got, ok)
					return
				}
			}
		})
	}
	for i := 1; i <= 5; i++ {
		version := fmt.Sprint(i)
		write(t, dir, seed(version, row("n1", "v"+version)))
		tagger.Refresh(context.Background())
	}
	group.Wait()
	if got, _ := tagger.Facts("n1"); got.CPUType != "v5" {
		t.Errorf("facts %+v after the last seed", got)
	}
}

// FuzzSeed: whatever the text, the seed is refused or has what is required,
// and nothing appears beside the database.
func FuzzSeed(f *testing.F) {
	f.Add(row("n1", "i5"))
	f.Add("ATTACH 'evil.db' AS e; CREATE TABLE e.x(y);")
	f.Add("CREATE TABLE main.x(y CHECK(load_extension('x')));")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		path := filepath.Join(dir, "facts.db")
		files := []file{{"00.sql", fmt.Sprintf(schemaSQL, "1")}, {"10.sql", text}}
		if made, err := build(context.Background(), path, "edge", files, origin{}); err == nil && made.version == "" {
			t.Error("accepted without a version")
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 1 {
			t.Errorf("beside the database: %v, %v", entries, err)
		}
	})
}

// TestNobodyIsDescribed: a seed without nodes, as that of a cluster that was just
// added, keeps no row waiting; one that names other nodes does.
func TestNobodyIsDescribed(t *testing.T) {
	dir := t.TempDir()
	tagger, _ := newTagger(t, dir, filepath.Join(t.TempDir(), "facts.db"))
	if _, known := tagger.Facts("n1"); known {
		t.Error("known before the first seed")
	}
	for _, step := range []struct {
		rows  string
		facts reading.Facts
		known bool
	}{{"", unknown, true}, {row("n2", "i7"), reading.Facts{}, false}, {row("n1", "i5"), reading.Facts{Box: "b1", CPUType: "i5", RAMType: "ddr4", DiskType: "nvme"}, true}} {
		write(t, dir, seed("1", step.rows))
		tagger.Refresh(t.Context())
		if facts, known := tagger.Facts("n1"); facts != step.facts || known != step.known {
			t.Errorf("seed %q: %v %v", step.rows, facts, known)
		}
	}
}
