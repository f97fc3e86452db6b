package installer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	kubetesting "k8s.io/client-go/testing"
)

const (
	me    = "leader-1"
	space = "accumulus"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// errKilled is what a process that is killed sees last.
var errKilled = errors.New("killed")

// fuse lets so many writes through, and none from then on, as if the process had
// been killed there. A negative number never ends.
type fuse struct {
	mu   sync.Mutex
	left int
	kill context.CancelFunc
}

func (f *fuse) burn() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		if f.kill != nil {
			f.kill()
		}
		return errKilled
	}
	f.left--
	return nil
}

func (f *fuse) set(left int, kill context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.kill = left, kill
}

// burning is a registry behind a fuse.
type burning struct {
	*registry.Registry
	fuse *fuse
}

func (b burning) ChangeInstallation(ctx context.Context, cluster string, change func(*registry.Installation) error) (registry.Installation, error) {
	if err := b.fuse.burn(); err != nil {
		return registry.Installation{}, err
	}
	return b.Registry.ChangeInstallation(ctx, cluster, change)
}

func (b burning) PutUpgrade(ctx context.Context, u registry.Upgrade) error {
	if err := b.fuse.burn(); err != nil {
		return err
	}
	return b.Registry.PutUpgrade(ctx, u)
}

// cluster is one of the fleet: an API server and a release in memory.
type cluster struct {
	kube *fake.Clientset
	fuse *fuse

	mu        sync.Mutex
	release   *helm.Release
	ensured   int
	probe     error                                     // of the access
	ensure    error                                     // of Helm
	hang      bool                                      // the API server says nothing
	unhealthy bool                                      // pods never become available
	broken    map[string]error                          // of writes, by "verb resource"
	during    func(ctx context.Context)                 // while Helm works
	pods      func(deployment *appsv1.DeploymentStatus) // how they are, if unhealthy
}

func newCluster(f *fuse) *cluster {
	c := &cluster{kube: fake.NewClientset(), fuse: f, broken: make(map[string]error)}
	c.kube.PrependReactor("*", "*", func(action kubetesting.Action) (bool, runtime.Object, error) {
		verb := action.GetVerb()
		c.mu.Lock()
		err := c.broken[verb+" "+action.GetResource().Resource]
		c.mu.Unlock()
		if err == nil && verb != "get" && verb != "list" {
			err = f.burn()
		}
		return err != nil, nil, err
	})
	return c
}

func (c *cluster) Status(context.Context) (helm.Release, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.release == nil {
		return helm.Release{}, helm.ErrNotInstalled
	}
	return *c.release, nil
}

func (c *cluster) Ensure(ctx context.Context, chart helm.Chart, values helm.Values, options helm.Options) (helm.Result, error) {
	c.mu.Lock()
	err, during, healthy := c.ensure, c.during, !c.unhealthy
	c.mu.Unlock()
	if during != nil {
		during(ctx)
	}
	if err := errors.Join(err, ctx.Err()); err != nil {
		return helm.Result{}, err
	}
	if !options.Locked {
		return helm.Result{}, errors.New("not locked")
	}
	digest, err := values.Digest()
	if err != nil {
		return helm.Result{}, err
	}
	c.mu.Lock()
	before := c.release
	c.mu.Unlock()
	now := helm.Release{Revision: 1, Status: "deployed", ChartVersion: chart.Version, ChartDigest: chart.Digest, ValuesDigest: digest, Leader: me}
	if before != nil {
		now.Revision = before.Revision
		if *before == now {
			return helm.Result{Release: now, Change: helm.Unchanged}, nil
		}
		now.Revision++
	}
	if err := c.fuse.burn(); err != nil {
		return helm.Result{}, err
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: Release, Namespace: space},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "follower"}}}}
	if healthy {
		deployment.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
	}
	if err := c.kube.Tracker().Create(appsv1.SchemeGroupVersion.WithResource("deployments"), deployment, space); err != nil {
		if err := c.kube.Tracker().Update(appsv1.SchemeGroupVersion.WithResource("deployments"), deployment, space); err != nil {
			return helm.Result{}, err
		}
	}
	c.mu.Lock()
	c.release = &now
	c.ensured++
	c.mu.Unlock()
	return helm.Result{Release: now, Change: helm.Installed}, nil
}

func (c *cluster) Remove(context.Context, helm.Options) error {
	c.mu.Lock()
	release := c.release
	c.mu.Unlock()
	if release == nil {
		return nil
	}
	if release.Leader != me {
		return &helm.ForeignError{Object: "release " + Release, Leader: release.Leader}
	}
	if err := c.fuse.burn(); err != nil {
		return err
	}
	c.mu.Lock()
	c.release = nil
	c.mu.Unlock()
	return c.kube.Tracker().Delete(appsv1.SchemeGroupVersion.WithResource("deployments"), space, Release)
}

// rig is an installer over clusters in memory, on a clock of the test's.
type rig struct {
	*Installer
	t        *testing.T
	clk      *clock.Manual
	books    *registry.Registry
	fuse     *fuse
	metrics  *prometheus.Registry
	mu       sync.Mutex
	clusters map[string]*cluster
	ready    map[string]error
	pull     error
	ended    []string
	pulls    int
	keyless  bool
}

func (r *rig) RESTConfig(_ context.Context, name string) (*rest.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keyless {
		return nil, errors.New("the leader has no credentials of this cluster")
	}
	return &rest.Config{Host: name}, nil
}

func (r *rig) Namespace(context.Context, string) (string, error) { return space, nil }

func newRig(t *testing.T) *rig {
	t.Helper()
	clk := clock.NewManual(noon)
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := books.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t: t, clk: clk, books: books, fuse: &fuse{left: -1}, clusters: make(map[string]*cluster), ready: make(map[string]error)}
	r.start("")
	return r
}

// start makes a new installer on the same registry and the same clusters, as the
// start of a process does. version is the chart's; "" is 1.0.0.
func (r *rig) start(version string) {
	r.t.Helper()
	r.metrics = prometheus.NewRegistry()
	made, err := New(Config{Leader: me}, Parts{Store: burning{r.books, r.fuse}, Credentials: r, Chart: os.DirFS("../helm/testdata/follower"),
		Tokens: r.makeTokens,
		Seed:   r.bringSeed,
		Ready: func(_ context.Context, name string) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.ready[name]
		},
		LastPull: func(context.Context, string) error { r.pulls++; return r.pull },
		Removed:  func(_ context.Context, name string) error { r.ended = append(r.ended, name); return nil },
	}, r.clk, slog.New(slog.DiscardHandler), r.metrics)
	if err != nil {
		r.t.Fatal(err)
	}
	if version != "" {
		made.chart.Version = version
	}
	made.random = func() float64 { return 0 }
	made.open = func(config *rest.Config, _ string) (access, error) {
		c := r.cluster(config.Host)
		return access{kube: c.kube, releases: c, probe: func(ctx context.Context) error {
			c.mu.Lock()
			hang, err := c.hang, c.probe
			c.mu.Unlock()
			if hang {
				<-ctx.Done()
				return ctx.Err()
			}
			return err
		}}, nil
	}
	r.Installer = made
}

func (r *rig) makeTokens(ctx context.Context, name string) error {
	secrets := r.cluster(name).kube.CoreV1().Secrets(space)
	if _, err := secrets.Get(ctx, TokensSecret, metav1.GetOptions{}); err == nil {
		return nil
	}
	_, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: TokensSecret,
		Labels: map[string]string{managedBy: FieldManager}}}, metav1.CreateOptions{})
	return err
}

func (r *rig) bringSeed(ctx context.Context, name string) error {
	maps := r.cluster(name).kube.CoreV1().ConfigMaps(space)
	if _, err := maps.Get(ctx, SeedMap, metav1.GetOptions{}); err == nil {
		return nil
	}
	_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: SeedMap, Labels: map[string]string{managedBy: FieldManager}}}, metav1.CreateOptions{})
	return err
}

func (r *rig) cluster(name string) *cluster {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clusters[name] == nil {
		r.clusters[name] = newCluster(r.fuse)
	}
	return r.clusters[name]
}

func (r *rig) want(names ...string) {
	r.t.Helper()
	for _, name := range names {
		if _, err := r.Want(r.t.Context(), name, Wanted{}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// turn is one pass with all its visits.
func (r *rig) turn(ctx context.Context) {
	if err := r.pass(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errKilled) {
		r.t.Errorf("pass: %v", err)
	}
	r.visits.Wait()
}

// turns are so many passes, each when the next visit is due.
func (r *rig) turns(n int) {
	r.t.Helper()
	for range n {
		r.turn(r.t.Context())
		r.clk.Advance(time.Minute)
	}
}

func (r *rig) get(name string) registry.Installation {
	r.t.Helper()
	one, err := r.Installation(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return one
}

// expect says what is wrong about a cluster's state.
func (r *rig) expect(name, state string) registry.Installation {
	r.t.Helper()
	one := r.get(name)
	if one.State != state {
		r.t.Errorf("%s is %s at %s (%s: %s), want %s", name, one.State, one.Step, one.Class, one.Message, state)
	}
	return one
}

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("c%02d", i)
	}
	return list
}
