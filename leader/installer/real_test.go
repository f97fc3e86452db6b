package installer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	grants "github.com/accumulus-metering/accumulus/leader/access"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/fault"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestRealInstaller: one control plane for all; each part has a cluster's name of
// its own, and the namespace is the product's where the product's chart is.
func TestRealInstaller(t *testing.T) {
	s := newStand(t)
	t.Run("narrow account", s.narrowAccount)
	t.Run("adopted", s.adopted)
	t.Run("killed", s.killed)
	t.Run("problems", s.problems)
	t.Run("fifty", s.fifty)
}

// narrowAccount: the account that `accumulus cluster add` makes is enough to
// install, upgrade, adopt and remove the product's own chart.
func (s *stand) narrowAccount(t *testing.T) {
	grant, err := grants.Make(t.Context(), s.plane.Config, clock.System(), grants.Options{Leader: me, Install: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keys.Put(t.Context(), "narrow", credentials.Record{Kubeconfig: grant.Kubeconfig, ClusterID: grant.ClusterID}); err != nil {
		t.Fatal(err)
	}
	var pulls atomic.Int32
	var ended atomic.Bool
	i := s.installer(func(_ *Config, parts *Parts) {
		parts.LastPull = func(context.Context, string) error { pulls.Add(1); return nil }
		parts.Clusters = func(context.Context) ([]Target, error) {
			if ended.Load() {
				return nil, nil
			}
			return []Target{{Cluster: "narrow"}}, nil
		}
		parts.Removed = func(context.Context, string) error { ended.Store(true); return nil }
	})
	stop := s.run(t, i)
	defer func() { stop() }()
	one := s.until(t, "narrow", "ready", inState(registry.InstallReady))
	if one.Revision != 1 || one.Installed == "" || one.MadeNamespace {
		t.Errorf("installed: %+v", one)
	}
	d, err := s.kube.AppsV1().Deployments("accumulus").Get(t.Context(), Release, metav1.GetOptions{})
	if err != nil || !strings.Contains(fmt.Sprint(d.Spec.Template.Spec.Containers[0].Args), "--cluster=narrow") {
		t.Errorf("Deployment: %v", err)
	}
	if err := i.Again(t.Context(), "narrow"); err != nil {
		t.Fatal(err)
	}
	if one := s.until(t, "narrow", "ready", inState(registry.InstallReady)); one.Revision != 1 {
		t.Errorf("nothing new: %+v", one)
	}
	if _, err := i.Upgrade(t.Context(), "narrow", Change{Values: map[string]any{"scrapeInterval": "30s"}}); err != nil {
		t.Fatal(err)
	}
	if one := s.until(t, "narrow", "ready", inState(registry.InstallReady)); one.Revision != 2 {
		t.Errorf("another value: %+v", one)
	}
	if _, err := i.Remove(t.Context(), "narrow", false); err != nil {
		t.Fatal(err)
	}
	s.until(t, "narrow", "removed", inState(registry.InstallRemoved))
	stop()
	stop = func() {}
	if pulls.Load() == 0 {
		t.Error("removed without a last pull")
	}
	s.nothingLeft(t, "accumulus")
	if _, err := s.kube.CoreV1().Namespaces().Get(t.Context(), "accumulus", metav1.GetOptions{}); err != nil {
		t.Errorf("the namespace was somebody else's: %v", err)
	}
}

// adopted: tokens that the chart made for a person with Helm outlive that the
// leader takes the release over, whose own revisions have no Secret; the removal
// takes them.
func (s *stand) adopted(t *testing.T) {
	const namespace = "adopted"
	s.namespace(t, namespace)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := kubetest.WriteKubeconfig(path, namespace, s.plane.Config); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keys.Put(t.Context(), namespace, credentials.Record{Kubeconfig: text, Namespace: namespace}); err != nil {
		t.Fatal(err)
	}
	chart, err := helm.Load(follower(t))
	if err != nil {
		t.Fatal(err)
	}
	person := helm.New(helm.Config{REST: s.plane.Config, Namespace: namespace, Release: Release, Leader: "a-person"}, clock.System(), slog.New(slog.DiscardHandler))
	values := helm.Values{"cluster": "x", "rbac": map[string]any{"create": false}}
	if _, err := person.Ensure(t.Context(), chart, values.With(helm.Values{"tokens": map[string]any{"generate": true}, "pseudonyms": map[string]any{"enabled": true}}), helm.Options{}); err != nil {
		t.Fatal(err)
	}
	secrets := s.kube.CoreV1().Secrets(namespace)
	before, err := secrets.Get(t.Context(), TokensSecret, metav1.GetOptions{})
	if err != nil || len(before.Data["pseudonym-key"]) == 0 {
		t.Fatal(err)
	}
	i := s.installer(nil)
	defer s.run(t, i)()
	if _, err := i.Want(t.Context(), namespace, Wanted{Adopt: true, Values: map[string]any{"rbac": map[string]any{"create": false}}}); err != nil {
		t.Fatal(err)
	}
	if one := s.until(t, namespace, "ready", inState(registry.InstallReady)); one.Revision != 2 {
		t.Errorf("%+v", one)
	}
	after, err := secrets.Get(t.Context(), TokensSecret, metav1.GetOptions{})
	if err != nil || !cmp.Equal(before.Data, after.Data) {
		t.Errorf("the tokens are gone, or are others: %v", err)
	}
	if _, err := i.Remove(t.Context(), namespace, false); err != nil {
		t.Fatal(err)
	}
	s.until(t, namespace, "removed", inState(registry.InstallRemoved))
	s.nothingLeft(t, namespace)
}

func (s *stand) nothingLeft(t *testing.T, namespace string) {
	t.Helper()
	secrets, err := s.kube.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets.Items {
		if secret.Name == TokensSecret || secret.Type == "helm.sh/release.v1" {
			t.Errorf("Secret %s is left", secret.Name)
		}
	}
	if _, err := s.kube.AppsV1().Deployments(namespace).Get(t.Context(), Release, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("Deployment: %v", err)
	}
	if _, err := s.kube.RbacV1().ClusterRoles().Get(t.Context(), Release, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("ClusterRole: %v", err)
	}
	if _, err := s.kube.CoordinationV1().Leases(namespace).Get(t.Context(), LeaseName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("Lease: %v", err)
	}
}

// direct are credentials for tests: a configuration and a namespace per cluster.
type direct map[string]*rest.Config

func (d direct) RESTConfig(_ context.Context, cluster string) (*rest.Config, error) {
	if d[cluster] == nil {
		return d[""], nil
	}
	return d[cluster], nil
}

func (d direct) Namespace(_ context.Context, cluster string) (string, error) { return cluster, nil }

// tokens makes the Secret with the admin's rights.
func (s *stand) tokens(d direct) func(ctx context.Context, cluster string) error {
	return func(ctx context.Context, cluster string) error {
		config, err := d.RESTConfig(ctx, cluster)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		if _, err := client.CoreV1().Secrets(cluster).Get(ctx, TokensSecret, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return err
		}
		_, err = client.CoreV1().Secrets(cluster).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: TokensSecret,
			Labels: map[string]string{managedBy: FieldManager}}}, metav1.CreateOptions{})
		return err
	}
}

// guillotine fails every request from the n-th write on, and tells.
type guillotine struct {
	next http.RoundTripper
	left *atomic.Int64
	kill context.CancelFunc
}

func (g guillotine) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && g.left.Add(-1) < 0 || g.left.Load() < 0 {
		g.kill()
		return nil, errKilled
	}
	return g.next.RoundTrip(r)
}

// killed: a leader that is killed at any write to the API server, in the middle
// of an install and of an upgrade, reaches ready at its next start, with one
// release and one pod template.
func (s *stand) killed(t *testing.T) {
	for n := int64(0); n < 40; n++ {
		name := fmt.Sprintf("killed-%d", n)
		mortal := direct{"": rest.CopyConfig(s.plane.Config)}
		healthy := direct{"": s.plane.Config}
		var left atomic.Int64
		ctx, kill := context.WithCancel(t.Context())
		mortal[""].Wrap(func(next http.RoundTripper) http.RoundTripper { return guillotine{next, &left, kill} })
		parts := func(d direct) func(*Config, *Parts) {
			return func(_ *Config, p *Parts) { p.Credentials, p.Tokens = d, s.tokens(d) }
		}
		// Install, killed at the n-th write.
		left.Store(n)
		first := s.installer(parts(mortal))
		small := map[string]any{"rbac": map[string]any{"create": false}}
		if _, err := first.Want(ctx, name, Wanted{Values: small}); err != nil {
			t.Fatal(err)
		}
		if err := first.pass(ctx); err != nil {
			t.Fatal(err)
		}
		first.visits.Wait()
		alive := ctx.Err() == nil
		kill()
		stop := s.run(t, s.installer(parts(healthy)))
		one := s.until(t, name, "ready", inState(registry.InstallReady))
		stop()
		s.oneRelease(t, name, one)
		// Upgrade, killed likewise.
		ctx, kill = context.WithCancel(t.Context())
		left.Store(n)
		second := s.installer(parts(mortal))
		small["logLevel"] = "debug"
		if _, err := second.Upgrade(ctx, name, Change{Values: small}); err != nil {
			t.Fatal(err)
		}
		if err := second.pass(ctx); err != nil {
			t.Fatal(err)
		}
		second.visits.Wait()
		kill()
		stop = s.run(t, s.installer(parts(healthy)))
		one = s.until(t, name, "ready", inState(registry.InstallReady))
		stop()
		s.oneRelease(t, name, one)
		if _, err := s.books.ChangeInstallation(t.Context(), name, func(one *registry.Installation) error { one.State = registry.InstallRemoved; return nil }); err != nil {
			t.Fatal(err)
		}
		if alive {
			t.Logf("an install makes %d writes", n)
			if n < 10 {
				t.Errorf("killed at %d writes only", n)
			}
			return
		}
	}
	t.Error("an install never came through")
}

func (s *stand) oneRelease(t *testing.T, namespace string, one registry.Installation) {
	t.Helper()
	secrets, err := s.kube.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm,status=deployed"})
	if err != nil || len(secrets.Items) != 1 || secrets.Items[0].Labels["version"] != fmt.Sprint(one.Revision) {
		t.Errorf("%s: %d releases are deployed, %v; want revision %d", namespace, len(secrets.Items), err, one.Revision)
	}
	d, err := s.kube.AppsV1().Deployments(namespace).Get(t.Context(), Release, metav1.GetOptions{})
	if err != nil || len(d.Spec.Template.Spec.Containers) != 1 {
		t.Errorf("%s: %v", namespace, err)
	}
}

// problems of a real API server: each a clear state and what to do, and none
// holds up a cluster that is well.
func (s *stand) problems(t *testing.T) {
	narrow := func(edit func(*rest.Config)) *rest.Config {
		config := &rest.Config{Host: s.plane.Config.Host, TLSClientConfig: rest.TLSClientConfig{CAData: s.plane.Config.CAData}}
		edit(config)
		return config
	}
	other, err := kubetest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	nobody := s.account(t)
	clusters := direct{"": s.plane.Config,
		"wrong-ca":    narrow(func(c *rest.Config) { c.CAData, c.BearerToken = other.PEM, nobody }),
		"wrong-token": narrow(func(c *rest.Config) { c.BearerToken = "made-up" }),
		"expired":     narrow(func(c *rest.Config) { c.BearerToken = s.expired(t) }),
		"no-rights":   narrow(func(c *rest.Config) { c.BearerToken = nobody }),
		"nobody-home": narrow(func(c *rest.Config) { c.Host, c.BearerToken = "https://"+closed.Addr().String(), nobody }),
		"silent":      narrow(func(c *rest.Config) { c.Host, c.BearerToken = "https://"+silent.Addr().String(), nobody }),
	}
	s.quota(t, "quota-secrets", corev1.ResourceList{"count/secrets": resource.MustParse("1")})
	s.quota(t, "quota-pods", corev1.ResourceList{"pods": resource.MustParse("0")})
	i := s.installer(func(_ *Config, p *Parts) { p.Credentials, p.Tokens = clusters, s.tokens(clusters) })
	stop := s.run(t, i)
	defer stop()
	values := map[string]any{"rbac": map[string]any{"create": false}}
	want := func(name string, values map[string]any) {
		if _, err := i.Want(t.Context(), name, Wanted{Values: values}); err != nil {
			t.Fatal(err)
		}
	}
	expected := map[string]struct {
		class fault.Class
		step  string
		says  string
		state string
	}{
		"wrong-ca":      {fault.WrongCA, stepAccess, "certificate", registry.InstallFailed},
		"wrong-token":   {fault.Unauthorized, stepAccess, "", registry.InstallFailed},
		"expired":       {fault.Unauthorized, stepAccess, "", registry.InstallFailed},
		"no-rights":     {fault.Forbidden, stepLease, "leases", registry.InstallFailed},
		"nobody-home":   {fault.Unreachable, stepAccess, "refused", registry.InstallFailed},
		"silent":        {fault.Timeout, stepAccess, "", registry.InstallFailed},
		"quota-secrets": {fault.Quota, stepRelease, "exceeded quota", registry.InstallFailed},
		"quota-pods":    {fault.Quota, stepHealth, "exceeded quota", registry.InstallDegraded},
	}
	for name := range expected {
		want(name, values)
	}
	want("well", values)
	s.until(t, "well", "ready", inState(registry.InstallReady))
	for name, test := range expected {
		one := s.until(t, name, test.state, func(one registry.Installation) bool {
			return one.State == test.state && one.Class == string(test.class)
		})
		if one.Step != test.step || !strings.Contains(one.Message, test.says) || one.Hint == "" {
			t.Errorf("%s: %s at %s: %s\nhint: %s", name, one.State, one.Step, one.Message, one.Hint)
		}
		t.Logf("%-14s %s %s at %s: %.140s", name, one.State, one.Class, one.Step, one.Message)
	}
	// A quota that is raised is enough: nobody has to tell the leader.
	for _, name := range []string{"quota-secrets", "quota-pods"} {
		if err := s.kube.CoreV1().ResourceQuotas(name).Delete(t.Context(), "small", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		s.until(t, name, "ready", inState(registry.InstallReady))
	}
}

// fifty clusters at once: at most eight are acted on at a time, all become
// ready, and what it cost is logged.
func (s *stand) fifty(t *testing.T) {
	const clusters = 50
	var busy, most atomic.Int32
	d := direct{"": s.plane.Config}
	inner := s.tokens(d)
	i := s.installer(func(_ *Config, p *Parts) {
		p.Credentials = d
		p.Tokens = func(ctx context.Context, cluster string) error {
			now := busy.Add(1)
			defer busy.Add(-1)
			for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
			}
			return inner(ctx, cluster)
		}
		p.Values = func(context.Context, string) (helm.Values, error) {
			return helm.Values{"rbac": map[string]any{"create": false}}, nil
		}
	})
	for n := range clusters {
		if _, err := i.Want(t.Context(), fmt.Sprintf("fleet-%02d", n), Wanted{}); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	var heap atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for clock.System().Sleep(ctx, 50*time.Millisecond) == nil {
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			heap.Store(max(heap.Load(), memory.HeapAlloc))
		}
	})
	stop := s.run(t, i)
	for n := range clusters {
		s.until(t, fmt.Sprintf("fleet-%02d", n), "ready", inState(registry.InstallReady))
	}
	took := time.Since(began)
	stop()
	cancel()
	watching.Wait()
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d installs in %s, at most %d at once, heap at most %d MiB, %d MiB afterwards", clusters, took.Round(100*time.Millisecond), most.Load(), heap.Load()>>20, after.HeapAlloc>>20)
	if most.Load() > 8 {
		t.Errorf("%d at once", most.Load())
	}
	all, err := s.books.Installations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if strings.HasPrefix(one.Cluster, "fleet-") && one.Revision != 1 {
			t.Errorf("%s has revision %d", one.Cluster, one.Revision)
		}
	}
}
