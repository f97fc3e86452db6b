package seed

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// shared is a fleet in which one box holds nodes of two customers' clusters.
// What only beta or the centre may know contains "secret" or stands in leaks.
func shared() []fleet.Object {
	return []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{DisplayName: "ACME"}),
		fleet.NewObject("secret-customer", fleet.Customer{DisplayName: "secret customer"}),
		fleet.NewObject("alpha", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1"}),
		fleet.NewObject("secret-beta", fleet.Cluster{Customer: "secret-customer", URL: "http://secret.example:2"}),
		fleet.NewObject("shared-box", fleet.Box{Site: "secret street", OverheadWatts: 17.25}),
		fleet.NewObject("secret-box", fleet.Box{}),
		fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon-d", RAMType: "ddr4", DiskType: "ssd", IdleWatts: 31.5, MaxWatts: 82.5}),
		fleet.NewObject("secret-hw", fleet.Hardware{CPUType: "secret-cpu"}),
		fleet.NewObject("alpha.n1", fleet.Node{Cluster: "alpha", Node: "n1", Box: "shared-box", Hardware: "xeon"}),
		fleet.NewObject("alpha.n2", fleet.Node{Cluster: "alpha", Node: "n2"}),
		fleet.NewObject("secret-beta.n1", fleet.Node{Cluster: "secret-beta", Node: "secret-n1", Box: "shared-box", Hardware: "xeon"}),
		fleet.NewObject("secret-beta.n2", fleet.Node{Cluster: "secret-beta", Node: "secret-n2", Box: "secret-box", Hardware: "secret-hw"}),
		fleet.NewObject("secret-meter", fleet.Meter{Box: "shared-box", Driver: fleet.DriverShellyGen2, URL: "http://secret.example:3"}),
		fleet.NewObject("secret-prices", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "energy", Price: "0.314159"}}}),
	}
}

func open(t testing.TB) (*registry.Registry, *clock.Manual) {
	t.Helper()
	clk := clock.NewManual(noon)
	r, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := r.Apply(t.Context(), shared(), "test"); err != nil {
		t.Fatal(err)
	}
	return r, clk
}

func of(t testing.TB, r *registry.Registry, cluster string) Seed {
	t.Helper()
	s, err := Of(t.Context(), r, cluster)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// leaks are the pieces of text that alpha's seed must not hold.
func leaks(text string) []string {
	var found []string
	for _, piece := range []string{"secret", "shared-box", "acme", "ACME", "17.25", "31.5", "82.5", "0.314159", "EUR"} {
		if strings.Contains(text, piece) {
			found = append(found, piece)
		}
	}
	return found
}

func TestSeedLeaksNothing(t *testing.T) {
	r, _ := open(t)
	alpha, beta := of(t, r, "alpha"), of(t, r, "secret-beta")
	if found := leaks(alpha.Text); len(found) > 0 {
		t.Errorf("alpha's seed holds %q:\n%s", found, alpha.Text)
	}
	if found := leaks(beta.Text); len(found) == 0 {
		t.Error("control: the other cluster's seed leaks nothing; the search finds nothing")
	}
	here, err := r.BoxID(t.Context(), "alpha", "shared-box")
	if err != nil {
		t.Fatal(err)
	}
	there, err := r.BoxID(t.Context(), "secret-beta", "shared-box")
	if err != nil {
		t.Fatal(err)
	}
	if here == there {
		t.Errorf("the shared box is %s in both clusters", here)
	}
	if !strings.Contains(alpha.Text, here) || strings.Contains(alpha.Text, there) {
		t.Errorf("alpha's seed must name the box %s and not %s:\n%s", here, there, alpha.Text)
	}
	if box, ok, err := r.BoxOf(t.Context(), "alpha", here); box != "shared-box" || !ok || err != nil {
		t.Errorf("box of %s is %q %v %v", here, box, ok, err)
	}
	if _, ok, _ := r.BoxOf(t.Context(), "alpha", there); ok {
		t.Error("alpha may ask for the other cluster's name of the box")
	}
}

// TestSeedLeakControl puts the bug back: rows that are not filtered by cluster.
func TestSeedLeakControl(t *testing.T) {
	r, _ := open(t)
	rows := []registry.NodeFacts{{Node: "n1", Box: "x"}, {Node: "secret-n1", Box: "y"}}
	if found := leaks(New("alpha", registry.Knowledge{Nodes: rows}).Text); len(found) == 0 {
		t.Error("a seed with another cluster's node passes the test")
	}
	if found := leaks(of(t, r, "alpha").Text); len(found) > 0 {
		t.Errorf("leaks %q", found)
	}
}

func TestSeedIsDeterministic(t *testing.T) {
	r, clk := open(t)
	first := of(t, r, "alpha")
	clk.Advance(time.Hour)
	if diff := cmp.Diff(first, of(t, r, "alpha")); diff != "" {
		t.Error(diff)
	}
	if _, err := r.Apply(t.Context(), []fleet.Object{fleet.NewObject("shared-box", fleet.Box{OverheadWatts: 99})}, "test"); err != nil {
		t.Fatal(err)
	}
	if second := of(t, r, "alpha"); second.Version != first.Version {
		t.Error("a change that the cluster may not know changed its seed")
	}
	hw := fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon-e", RAMType: "ddr4", DiskType: "ssd"}).Since(noon.Add(-time.Hour))
	if _, err := r.Apply(t.Context(), []fleet.Object{hw}, "test"); err != nil {
		t.Fatal(err)
	}
	if second := of(t, r, "alpha"); second.Version == first.Version {
		t.Error("a corrected CPU type did not change the seed")
	}
}

// query runs the seed in a new database and reads its nodes.
func query(t *testing.T, text string) [][]any {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(t.TempDir(), "seed.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(text); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	rows, err := db.Query("SELECT cluster, node, box, cpu_type, valid_from, valid_to FROM node ORDER BY node, valid_from")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var got [][]any
	for rows.Next() {
		line := make([]any, 6)
		if err := rows.Scan(&line[0], &line[1], &line[2], &line[3], &line[4], &line[5]); err != nil {
			t.Fatal(err)
		}
		got = append(got, line)
	}
	return got
}

func TestSeedFollowsCorrections(t *testing.T) {
	r, _ := open(t)
	changed := noon.Add(-3 * time.Hour)
	hw := fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon-e"}).Since(changed)
	if _, err := r.Apply(t.Context(), []fleet.Object{hw}, "test"); err != nil {
		t.Fatal(err)
	}
	id, err := r.BoxID(t.Context(), "alpha", "shared-box")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]any{
		{"alpha", "n1", id, "xeon-d", nil, changed.UnixNano()},
		{"alpha", "n1", id, "xeon-e", changed.UnixNano(), nil},
		{"alpha", "n2", "", "", nil, nil},
	}
	if diff := cmp.Diff(want, query(t, of(t, r, "alpha").Text)); diff != "" {
		t.Error(diff)
	}
}

func TestSeedEscapes(t *testing.T) {
	nasty := "x'); DROP TABLE node; --\x00\xff\n"
	got := query(t, New("alpha", registry.Knowledge{Nodes: []registry.NodeFacts{{Node: nasty, Box: "b'"}}}).Text)
	want := [][]any{{"alpha", "x'); DROP TABLE node; --\uFFFD\n", "b'", "", nil, nil}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWriteIsWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seed")
	for _, text := range []string{"one", "two", "two"} {
		if err := (Seed{Cluster: "alpha", Text: text}).Write(dir); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, File))
		if err != nil || string(got) != text {
			t.Errorf("read %q, %v; want %q", got, err, text)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("directory holds %v, %v", entries, err)
	}
}
