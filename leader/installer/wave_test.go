package installer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// fleetOf are clusters that have version 1.0.0, and a leader with 1.1.0.
func fleetOf(t *testing.T, n int) *rig {
	r := newRig(t)
	r.want(names(n)...)
	r.turns(n/8 + 2)
	for _, name := range names(n) {
		r.expect(name, registry.InstallReady)
	}
	r.start("1.1.0")
	return r
}

func (r *rig) upgrade(id int64) registry.Upgrade {
	r.t.Helper()
	all, err := r.Upgrades(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, u := range all {
		if u.ID == id {
			return u
		}
	}
	r.t.Fatalf("no upgrade %d", id)
	return registry.Upgrade{}
}

// versions are how many clusters have the new version.
func (r *rig) upgraded() int {
	n := 0
	for _, c := range r.clusters {
		if c.release != nil && c.release.ChartVersion == "1.1.0" {
			n++
		}
	}
	return n
}

// TestWaves: the canaries first, the others when those were watched for long
// enough, wave by wave; each start of the leader goes on where the last one was.
func TestWaves(t *testing.T) {
	r := fleetOf(t, 7)
	plan := registry.UpgradePlan{Canary: []string{"c03"}, WaveSize: 4, Soak: fleet.Duration(30 * time.Minute)}
	u, err := r.StartUpgrade(t.Context(), plan, "operator")
	if err != nil || u.Version != "1.1.0" || len(u.Clusters) != 7 || u.MaxFailures != 1 {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := r.StartUpgrade(t.Context(), plan, "operator"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	at := make(map[int]time.Duration) // when so many had it
	for range 100 {
		r.turn(t.Context())
		if n := r.upgraded(); at[n] == 0 {
			at[n] = r.clk.Now().Sub(u.Created) + 1
		}
		r.clk.Advance(time.Minute)
		r.start("1.1.0") // all that it decides on is in the registry
	}
	if r.cluster("c03").release.ChartVersion != "1.1.0" || r.upgraded() != 7 {
		t.Fatalf("%d clusters were upgraded", r.upgraded())
	}
	if at[1] == 0 || at[5]-at[1] < 30*time.Minute || at[7]-at[5] < 30*time.Minute || at[7] > 80*time.Minute {
		t.Errorf("waves at %v", at)
	}
	if u = r.upgrade(u.ID); u.State != registry.UpgradeDone || u.Wave != 2 {
		t.Errorf("%+v", u)
	}
	for _, c := range u.Clusters {
		if c.State != registry.UpgradeDone || c.Ended.IsZero() {
			t.Errorf("%+v", c)
		}
	}
	if again, err := r.StartUpgrade(t.Context(), registry.UpgradePlan{}, "operator"); err != nil || again.State != registry.UpgradeDone || again.Message == "" {
		t.Errorf("nothing to do: %+v, %v", again, err)
	}
}

// TestWavesStop: after so many failures no other cluster is begun; when it is
// mended and resumed, all get there.
func TestWavesStop(t *testing.T) {
	r := fleetOf(t, 10)
	r.cluster("c01").ensure = helm.ErrValues
	r.cluster("c04").ensure = helm.ErrValues
	u, err := r.StartUpgrade(t.Context(), registry.UpgradePlan{Canaries: 2, WaveSize: 3, MaxFailures: 2}, "operator")
	if err != nil {
		t.Fatal(err)
	}
	r.turns(60)
	u = r.upgrade(u.ID)
	if u.State != registry.UpgradeStopped || !strings.Contains(u.Message, "2 of 10") || u.Wave != 1 || r.upgraded() != 3 {
		t.Errorf("%s: %s, wave %d, %d upgraded", u.State, u.Message, u.Wave, r.upgraded())
	}
	if _, err := r.StopUpgrade(t.Context(), u.ID, "operator"); !errors.Is(err, ErrPlan) {
		t.Errorf("stop of one that is stopped: %v", err)
	}
	r.cluster("c01").ensure, r.cluster("c04").ensure = nil, nil
	if _, err := r.ResumeUpgrade(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	r.turns(2)
	if _, err := r.StopUpgrade(t.Context(), u.ID, "operator"); err != nil {
		t.Fatal(err)
	}
	stopped := r.upgraded()
	r.turns(10)
	if r.upgraded() != stopped {
		t.Error("a stopped upgrade begins clusters")
	}
	if _, err := r.ResumeUpgrade(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	r.turns(30)
	if u = r.upgrade(u.ID); u.State != registry.UpgradeDone || r.upgraded() != 10 {
		t.Errorf("%s: %s, %d upgraded", u.State, u.Message, r.upgraded())
	}
}

// TestWaveIsWatched: a canary that breaks while it is watched stops the upgrade.
func TestWaveIsWatched(t *testing.T) {
	r := fleetOf(t, 5)
	u, err := r.StartUpgrade(t.Context(), registry.UpgradePlan{Canaries: 1, Soak: fleet.Duration(time.Hour)}, "operator")
	if err != nil {
		t.Fatal(err)
	}
	r.turns(20)
	if r.upgraded() != 1 {
		t.Fatalf("%d upgraded", r.upgraded())
	}
	r.ready["c00"] = errors.New("503")
	r.turns(20)
	if u = r.upgrade(u.ID); u.State != registry.UpgradeStopped || r.upgraded() != 1 {
		t.Errorf("%s: %s, %d upgraded", u.State, u.Message, r.upgraded())
	}
}

// TestPlansThatCannotBe are refused before anything begins.
func TestPlansThatCannotBe(t *testing.T) {
	r := fleetOf(t, 2)
	for want, plan := range map[string]registry.UpgradePlan{
		"no such":  {Version: "9.0.0"},
		"nowhere":  {Canary: []string{"c00", "nowhere"}},
		"negative": {Canaries: -1},
		"not both": {Canaries: 1, Canary: []string{"c00"}},
	} {
		if _, err := r.StartUpgrade(t.Context(), plan, "operator"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", plan, err)
		}
	}
	if _, err := r.ResumeUpgrade(t.Context(), 7); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("resume of none: %v", err)
	}
	if all, err := r.Upgrades(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%d upgrades, %v", len(all), err)
	}
}

// TestOldNewsAreNoFailure: what was wrong with a cluster before its turn does not
// count against the upgrade.
func TestOldNewsAreNoFailure(t *testing.T) {
	r := newRig(t)
	u := registry.Upgrade{Clusters: []registry.UpgradeCluster{{Cluster: "a", State: registry.UpgradeRunning, Started: noon}}}
	one := registry.Installation{Cluster: "a", Wish: registry.WishInstall, State: registry.InstallDegraded, Class: "quota", Generation: 3, Done: 2, Tried: noon.Add(time.Second)}
	for _, test := range []struct {
		done  int64
		tried time.Time
		want  string
	}{{2, noon.Add(time.Second), registry.UpgradeRunning}, {3, noon.Add(-time.Second), registry.UpgradeRunning}, {3, noon.Add(time.Second), registry.UpgradeFailed}} {
		one.Done, one.Tried = test.done, test.tried
		r.judge(&u, map[string]registry.Installation{"a": one})
		if got := u.Clusters[0].State; got != test.want {
			t.Errorf("done %d, tried %s: %s, want %s", test.done, test.tried, got, test.want)
		}
	}
}

// TestRun: the loop carries clusters on by itself, one that hangs delays none,
// and its end waits for the visits.
func TestRun(t *testing.T) {
	r := newRig(t)
	r.cluster("hangs").hang = true
	r.want("hangs", "a", "b")
	synctest.Test(t, func(t *testing.T) {
		r.Installer.clock = clock.System()
		r.parts.Store = &inMemory{all: map[string]registry.Installation{}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for _, name := range []string{"hangs", "a", "b"} {
			if _, err := r.Want(ctx, name, Wanted{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for _, name := range []string{"a", "b"} {
			if one, err := r.Installation(ctx, name); err != nil || one.State != registry.InstallReady {
				t.Errorf("%s at once: %+v, %v", name, one, err)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if one, err := r.Installation(ctx, "hangs"); err != nil || one.State != registry.InstallFailed || one.Attempts < 10 || one.Attempts > 20 {
			t.Errorf("hangs: %+v, %v", one, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// inMemory is a Store without a file, for a bubble's clock.
type inMemory struct {
	Store
	fuse
	all map[string]registry.Installation
}

func (m *inMemory) Installation(_ context.Context, cluster string) (registry.Installation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one, ok := m.all[cluster]
	if !ok {
		return one, registry.ErrNotFound
	}
	return one, nil
}

func (m *inMemory) Installations(context.Context) ([]registry.Installation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []registry.Installation
	for _, one := range m.all {
		list = append(list, one)
	}
	return list, nil
}

func (m *inMemory) ChangeInstallation(_ context.Context, cluster string, change func(*registry.Installation) error) (registry.Installation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one := m.all[cluster]
	if err := change(&one); err != nil {
		return one, err
	}
	one.Cluster = cluster
	m.all[cluster] = one
	return one, nil
}

func (m *inMemory) Upgrades(context.Context) ([]registry.Upgrade, error) { return nil, nil }
