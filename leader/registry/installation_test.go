package registry

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

// TestMigrationsByName: a step that lands later with a lower number is taken, a
// registry from before names were noted takes none twice.
func TestMigrationsByName(t *testing.T) {
	db, err := sql.Open("sqlite3", dsn(filepath.Join(t.TempDir(), "r.db"), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	one, two := step{"0001_one", 1, "CREATE TABLE one (x);"}, step{"0002_two", 2, "CREATE TABLE two (x);"}
	other, four := step{"0002_other", 2, "CREATE TABLE other (x);"}, step{"0004_four", 4, "CREATE TABLE four (x);"}
	if _, err := db.Exec(one.text + two.text + "PRAGMA user_version = 2;"); err != nil { // as it was done before
		t.Fatal(err)
	}
	for _, steps := range [][]step{{one, two}, {one, two, four}, {one, other, two, four}, {one, other, two, four}} {
		if err := migrateTo(t.Context(), db, steps); err != nil {
			if len(steps) == 4 && errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			t.Fatalf("%d steps: %v", len(steps), err)
		}
	}
	for _, table := range []string{"one", "two", "other", "four"} {
		if _, err := db.Exec("SELECT x FROM " + table); err != nil {
			t.Error(err)
		}
	}
	if err := migrateTo(t.Context(), db, []step{one, two, four}); !errors.Is(err, ErrNewer) {
		t.Errorf("a step that nobody knows: %v, want ErrNewer", err)
	}
}

func TestInstallations(t *testing.T) {
	r, _ := open(t)
	if _, err := r.Installation(t.Context(), "alpha"); !errors.Is(err, ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	want := Installation{Cluster: "alpha", Wish: WishInstall, State: InstallFailed, Since: noon, Version: "1.0.0",
		Values: map[string]any{"logLevel": "debug"}, Class: "forbidden", Message: "why", Hint: "what", Attempts: 3, Generation: 2}
	got, err := r.ChangeInstallation(t.Context(), "alpha", func(i *Installation) error {
		if i.Cluster != "" {
			t.Errorf("a new one is %+v", i)
		}
		*i = want
		return nil
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	wrong := errors.New("no")
	if _, err := r.ChangeInstallation(t.Context(), "alpha", func(i *Installation) error { i.Attempts = 9; return wrong }); !errors.Is(err, wrong) {
		t.Errorf("%v, want what change returned", err)
	}
	all, err := r.Installations(t.Context())
	if diff := cmp.Diff([]Installation{want}, all); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestUpgrades(t *testing.T) {
	r, _ := open(t)
	plan := UpgradePlan{Version: "1.1.0", Canaries: 1, Soak: fleet.Duration(time.Hour), MaxFailures: 2}
	first, err := r.AddUpgrade(t.Context(), Upgrade{UpgradePlan: plan, State: UpgradeRunning, Created: noon, Changed: noon})
	if err != nil || first.ID == 0 {
		t.Fatal(first, err)
	}
	second, err := r.AddUpgrade(t.Context(), Upgrade{UpgradePlan: plan, State: UpgradeRunning, Created: noon, Changed: noon})
	if err != nil {
		t.Fatal(err)
	}
	first.State, first.Clusters = UpgradeDone, []UpgradeCluster{{Cluster: "alpha", State: UpgradeDone, Started: noon}}
	if err := r.PutUpgrade(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	all, err := r.Upgrades(t.Context())
	if diff := cmp.Diff([]Upgrade{second, first}, all); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
