package helm

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

const (
	follower  = "accumulus-follower"
	namespace = "accumulus"
	me        = "leader-1"
)

// chartOf is the chart of the tests, with another version.
func chartOf(t testing.TB, version string) Chart {
	t.Helper()
	files := fstest.MapFS{}
	source := os.DirFS("testdata/follower")
	err := fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(source, name)
		if name == "Chart.yaml" {
			data = []byte(strings.ReplaceAll(string(data), "1.0.0", version))
		}
		files[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kept is a client whose cluster is a storage in memory that can break.
type kept struct {
	*Client
	t       *testing.T
	clk     *clock.Manual
	store   *breaking
	kube    *kubefake.FailingKubeClient
	release *storage.Storage
}

// breaking is a storage that fails at the writes from the n-th on, as a process
// that is killed there sees it.
type breaking struct {
	driver.Driver
	left int // writes until it breaks; negative: never
}

var errBroken = errors.New("storage broke")

func (b *breaking) broken() bool {
	if b.left == 0 {
		return true
	}
	b.left--
	return false
}

func (b *breaking) Create(key string, r *release.Release) error {
	if b.broken() {
		return errBroken
	}
	return b.Driver.Create(key, r)
}

func (b *breaking) Update(key string, r *release.Release) error {
	if b.broken() {
		return errBroken
	}
	return b.Driver.Update(key, r)
}

func (b *breaking) Delete(key string) (*release.Release, error) {
	if b.broken() {
		return nil, errBroken
	}
	return b.Driver.Delete(key)
}

func newKept(t *testing.T) *kept {
	mem := driver.NewMemory()
	mem.SetNamespace(namespace)
	m := &kept{t: t, clk: clock.NewManual(time.Now().Add(time.Second)), store: &breaking{Driver: mem, left: -1},
		kube: &kubefake.FailingKubeClient{PrintingKubeClient: kubefake.PrintingKubeClient{Out: io.Discard, LogOutput: io.Discard}}}
	m.Client = New(Config{Namespace: namespace, Release: follower, Leader: me}, m.clk, slog.New(slog.DiscardHandler))
	m.open = func(_ context.Context, log action.DebugLog) (*action.Configuration, error) {
		m.release = storage.Init(m.store)
		return &action.Configuration{Releases: m.release, KubeClient: m.kube, Capabilities: chartutil.DefaultCapabilities, Log: log}, nil
	}
	return m
}

// left puts a record into the storage, as somebody left it.
func (m *kept) left(revision int, status release.Status, leader string) {
	m.t.Helper()
	c := chartOf(m.t, "1.0.0")
	loaded, err := c.load()
	if err != nil {
		m.t.Fatal(err)
	}
	digest, _ := values("a").Digest()
	labels := map[string]string{chartLabel: c.Digest, valuesLabel: digest}
	if leader != "" {
		labels[LeaderLabel] = leader
	}
	r := &release.Release{Name: follower, Namespace: namespace, Version: revision, Chart: loaded, Labels: labels,
		Info: &release.Info{Status: status, LastDeployed: action.Timestamper()}}
	if err := storage.Init(m.store.Driver).Create(r); err != nil {
		m.t.Fatal(err)
	}
}

func (m *kept) history() []string {
	m.t.Helper()
	records, err := storage.Init(m.store.Driver).History(follower)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		m.t.Fatal(err)
	}
	var states []string
	for _, r := range records {
		states = append(states, r.Info.Status.String())
	}
	return states
}

func values(cluster string) Values { return Values{"cluster": cluster} }

// TestStateMachine: from each state that a release can be in, with the same
// chart and values as stand there.
func TestStateMachine(t *testing.T) {
	for name, test := range map[string]struct {
		states  []release.Status
		leader  string
		options Options
		age     time.Duration
		want    string
		err     error
		history string
	}{
		"none":                  {want: Installed, history: "deployed"},
		"deployed":              {states: []release.Status{"deployed"}, want: Unchanged, history: "deployed"},
		"failed":                {states: []release.Status{"failed"}, want: Upgraded, history: "superseded deployed"},
		"failed upgrade":        {states: []release.Status{"deployed", "failed"}, want: Upgraded, history: "superseded failed deployed"},
		"superseded only":       {states: []release.Status{"superseded"}, want: Upgraded, history: "superseded deployed"},
		"pending, held":         {states: []release.Status{"pending-install"}, err: ErrBusy, history: "pending-install"},
		"pending, locked":       {states: []release.Status{"pending-install"}, options: Options{Locked: true}, want: Upgraded, history: "superseded deployed"},
		"pending, old":          {states: []release.Status{"pending-install"}, age: time.Hour, want: Upgraded, history: "superseded deployed"},
		"pending upgrade":       {states: []release.Status{"deployed", "pending-upgrade"}, options: Options{Locked: true}, want: Upgraded, history: "superseded failed deployed"},
		"pending rollback":      {states: []release.Status{"deployed", "failed", "pending-rollback"}, options: Options{Locked: true}, want: Upgraded, history: "superseded failed failed deployed"},
		"uninstalling":          {states: []release.Status{"uninstalling"}, want: Installed, history: "deployed"},
		"uninstalled":           {states: []release.Status{"uninstalled"}, want: Installed, history: "superseded deployed"},
		"foreign":               {states: []release.Status{"deployed"}, leader: "leader-2", err: ErrForeign, history: "deployed"},
		"foreign, pending":      {states: []release.Status{"pending-install"}, leader: "leader-2", options: Options{Locked: true}, err: ErrForeign, history: "pending-install"},
		"by hand":               {states: []release.Status{"deployed"}, leader: "-", err: ErrForeign, history: "deployed"},
		"foreign, adopted":      {states: []release.Status{"deployed"}, leader: "leader-2", options: Options{Adopt: true}, want: Upgraded, history: "superseded deployed"},
		"foreign, uninstalling": {states: []release.Status{"uninstalling"}, leader: "leader-2", err: ErrForeign, history: "uninstalling"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newKept(t)
			leader := me
			if test.leader != "" {
				leader = strings.TrimPrefix(test.leader, "-")
			}
			for i, status := range test.states {
				m.left(i+1, status, leader)
			}
			m.clk.Advance(test.age)
			result, err := m.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), test.options)
			if !errors.Is(err, test.err) || result.Change != test.want {
				t.Errorf("%q, %v; want %q, %v", result.Change, err, test.want, test.err)
			}
			if got := strings.Join(m.history(), " "); got != test.history {
				t.Errorf("history %s, want %s", got, test.history)
			}
			if test.err != nil {
				return
			}
			status, err := m.Status(t.Context())
			if err != nil || status.Leader != me || status.ChartVersion != "1.0.0" || status.Status != "deployed" {
				t.Errorf("status %+v, %v", status, err)
			}
			again, err := m.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{})
			if err != nil || again.Change != Unchanged || again.Revision != status.Revision {
				t.Errorf("again: %s, revision %d, %v", again.Change, again.Revision, err)
			}
		})
	}
}

// TestChanges: another version, another value, and nothing else, make a revision.
func TestChanges(t *testing.T) {
	m := newKept(t)
	for i, step := range []struct {
		version string
		values  Values
		want    string
	}{
		{"1.0.0", Values{"cluster": "a"}, Installed},
		{"1.0.0", Values{"cluster": "a"}, Unchanged},
		{"1.1.0", Values{"cluster": "a"}, Upgraded},
		{"1.1.0", Values{"cluster": "a", "level": "debug"}, Upgraded},
		{"1.1.0", Values{"level": "debug", "cluster": "a"}, Unchanged},
		{"1.0.0", Values{"cluster": "a"}, Upgraded},
	} {
		result, err := m.Ensure(t.Context(), chartOf(t, step.version), step.values, Options{})
		if err != nil || result.Change != step.want || result.ChartVersion != step.version {
			t.Errorf("step %d: %s %s, %v; want %s", i, result.Change, result.ChartVersion, err, step.want)
		}
	}
	for i := range 10 {
		if _, err := m.Ensure(t.Context(), chartOf(t, "1.0.0"), Values{"cluster": "a", "level": strings.Repeat("x", i+1)}, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(m.history()); got != keptRevisions {
		t.Errorf("%d revisions are kept, want %d", got, keptRevisions)
	}
}

// TestWrongValuesChangeNothing: what the chart's schema refuses is not sent.
func TestWrongValuesChangeNothing(t *testing.T) {
	m := newKept(t)
	for _, wrong := range []Values{nil, {"cluster": ""}, {"cluster": "a", "level": 3}, {"cluster": func() {}}} {
		if _, err := m.Ensure(t.Context(), chartOf(t, "1.0.0"), wrong, Options{}); !errors.Is(err, ErrValues) {
			t.Errorf("%v: %v, want ErrValues", wrong, err)
		}
	}
	if got := m.history(); got != nil {
		t.Errorf("history %v", got)
	}
}

// TestRemove: all records go, whatever state they are in; a storage that cannot
// be read is an error and not a release that is gone.
func TestRemove(t *testing.T) {
	for _, states := range [][]release.Status{nil, {"deployed"}, {"superseded", "deployed"}, {"failed"}, {"pending-install"}, {"uninstalling"}, {"uninstalled"}, {"superseded"}} {
		m := newKept(t)
		for i, status := range states {
			m.left(i+1, status, me)
		}
		if err := m.Remove(t.Context(), Options{Locked: true}); err != nil || m.history() != nil {
			t.Errorf("%v: %v, %v", states, err, m.history())
		}
	}
	m := newKept(t)
	m.left(1, release.StatusDeployed, "leader-2")
	if err := m.Remove(t.Context(), Options{}); !errors.Is(err, ErrForeign) {
		t.Errorf("another leader's: %v", err)
	}
	if err := m.Remove(t.Context(), Options{Adopt: true}); err != nil {
		t.Error(err)
	}
	m.left(1, release.StatusPendingUpgrade, me)
	if err := m.Remove(t.Context(), Options{}); !errors.Is(err, ErrBusy) {
		t.Errorf("pending of somebody: %v", err)
	}
	if _, err := newKept(t).Status(t.Context()); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("status of none: %v", err)
	}
}

// TestRemoveSaysWhy: Helm only logs why an object could not be deleted.
func TestRemoveSaysWhy(t *testing.T) {
	m := newKept(t)
	m.left(1, release.StatusDeployed, me)
	why := errors.New("no")
	m.kube.BuildError = why
	if err := m.Remove(t.Context(), Options{}); !errors.Is(err, why) || !strings.Contains(err.Error(), ": no") {
		t.Errorf("%v does not say why", err)
	}
}

// TestKilledAtEachWrite: a process that dies before any of the writes of an
// install, an upgrade or a removal leaves what the next one completes.
func TestKilledAtEachWrite(t *testing.T) {
	wishes := []struct {
		name    string
		before  func(m *kept)
		act     func(m *kept) error
		history string
	}{
		{"install", func(*kept) {}, func(m *kept) error {
			_, err := m.Ensure(m.t.Context(), chartOf(m.t, "1.0.0"), values("a"), Options{Locked: true})
			return err
		}, "deployed"},
		{"upgrade", func(m *kept) { m.left(1, release.StatusDeployed, me) }, func(m *kept) error {
			_, err := m.Ensure(m.t.Context(), chartOf(m.t, "1.1.0"), values("a"), Options{Locked: true})
			return err
		}, "deployed"},
		{"remove", func(m *kept) { m.left(1, release.StatusSuperseded, me); m.left(2, release.StatusDeployed, me) },
			func(m *kept) error { return m.Remove(m.t.Context(), Options{Locked: true}) }, ""},
	}
	for _, wish := range wishes {
		killed := 0
		for n := range 20 {
			m := newKept(t)
			wish.before(m)
			m.store.left = n
			// Helm only logs that it could not store a status, so its own word is
			// not asked.
			_ = wish.act(m)
			ran := m.store.left > 0
			m.store.left = -1
			if err := wish.act(m); err != nil {
				t.Errorf("%s, killed before write %d: %v", wish.name, n+1, err)
			}
			history := m.history()
			if wish.history == "" && history != nil || wish.history != "" && history[len(history)-1] != wish.history {
				t.Errorf("%s, killed before write %d: history %v", wish.name, n+1, history)
			}
			if ran {
				break
			}
			killed++
		}
		if killed < 2 || killed > 10 {
			t.Errorf("%s was killed at %d writes", wish.name, killed)
		}
	}
}

// TestWithoutUnlockItStaysStuck is the control of recovery: Helm itself refuses
// to go on after a process that died.
func TestWithoutUnlockItStaysStuck(t *testing.T) {
	m := newKept(t)
	m.left(1, release.StatusPendingInstall, me)
	s, err := m.session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.last()
	if err != nil {
		t.Fatal(err)
	}
	w := wish{chart: chartOf(t, "1.0.0"), values: values("a")}
	if _, err := s.upgrade(w, last); err == nil || !strings.Contains(err.Error(), "in progress") {
		t.Errorf("upgrade over pending: %v", err)
	}
	if _, err := s.install(w, true); err == nil || !strings.Contains(err.Error(), "still in use") {
		t.Errorf("install over pending: %v", err)
	}
}

func TestRender(t *testing.T) {
	text, err := Render(chartOf(t, "1.0.0"), follower, namespace, values("ams"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"kind: Deployment", "--cluster=ams", "app.kubernetes.io/instance: accumulus-follower"} {
		if !strings.Contains(text, part) {
			t.Errorf("the manifest has no %q", part)
		}
	}
	if strings.Contains(text, "Cluster ams.") {
		t.Error("the manifest has the notes")
	}
	if _, err := Load(fstest.MapFS{"Chart.yaml": {Data: []byte("name: x")}}); err == nil {
		t.Error("a chart without version was loaded")
	}
	if _, err := Load(fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: x\nversion: 1.0.0")}, "crds/a.yaml": {Data: []byte("kind: CustomResourceDefinition")}}); err == nil {
		t.Error("a chart with CRDs was loaded")
	}
}
