package helm

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/fault"
	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// real is an API server, and clients of a namespace of its own.
type real struct {
	t      *testing.T
	config *rest.Config
	kube   kubernetes.Interface
}

// TestReal is everything on one API server: a start of it takes seconds.
func TestReal(t *testing.T) {
	plane := kubetest.ControlPlane(t)
	r := &real{t, plane.Config, kubernetes.NewForConfigOrDie(plane.Config)}
	t.Run("life", r.life)
	t.Run("adopt", r.adopt)
	t.Run("other release", r.otherRelease)
	t.Run("killed", r.killed)
	t.Run("cancelled", r.cancelled)
	t.Run("storage forbidden", r.storageForbidden)
	t.Run("terminating", r.terminating)
	t.Run("grafana", r.grafana)
}

// client is of a release in a new namespace; cluster-scoped names carry the
// release's, so each test has its own.
func (r *real) client(t *testing.T, name string, wrap func(http.RoundTripper) http.RoundTripper) *Client {
	t.Helper()
	_, err := r.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	config := rest.CopyConfig(r.config)
	config.Timeout = 30 * time.Second
	if wrap != nil {
		config.Wrap(wrap)
	}
	return New(Config{REST: config, Namespace: name, Release: "accumulus-" + name, Leader: me}, clock.System(), slog.New(slog.DiscardHandler))
}

func (r *real) deployment(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	d, err := r.kube.AppsV1().Deployments(name).Get(t.Context(), "accumulus-"+name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// records are the release's in the cluster.
func (r *real) records(t *testing.T, name string) []string {
	t.Helper()
	secrets, err := r.kube.CoreV1().Secrets(name).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, s := range secrets.Items {
		states = append(states, s.Labels["status"])
	}
	slices.Sort(states)
	return states
}

func (r *real) life(t *testing.T) {
	c := r.client(t, "life", nil)
	for i, step := range []struct {
		version, level, change string
		revision               int
	}{{"1.0.0", "info", Installed, 1}, {"1.0.0", "info", Unchanged, 1}, {"1.1.0", "info", Upgraded, 2}, {"1.1.0", "debug", Upgraded, 3}} {
		result, err := c.Ensure(t.Context(), chartOf(t, step.version), Values{"cluster": "a", "level": step.level}, Options{})
		if err != nil || result.Change != step.change || result.Revision != step.revision {
			t.Fatalf("step %d: %+v, %v", i, result, err)
		}
	}
	if args := r.deployment(t, "life").Spec.Template.Spec.Containers[0].Args; args[1] != "--log-level=debug" {
		t.Errorf("args %v", args)
	}
	// An object that somebody deletes is put back, and nothing else is touched.
	if err := r.kube.CoreV1().Services("life").Delete(t.Context(), "accumulus-life", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	result, err := c.Ensure(t.Context(), chartOf(t, "1.1.0"), Values{"cluster": "a", "level": "debug"}, Options{})
	if err != nil || result.Change != Upgraded {
		t.Errorf("a missing object: %+v, %v", result, err)
	}
	if _, err := r.kube.CoreV1().Services("life").Get(t.Context(), "accumulus-life", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if err := c.Remove(t.Context(), Options{}); err != nil {
		t.Fatal(err)
	}
	r.gone(t, "life")
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("status after removal: %v", err)
	}
	if err := c.Remove(t.Context(), Options{}); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

// gone says what a removal left.
func (r *real) gone(t *testing.T, name string) {
	t.Helper()
	full := "accumulus-" + name
	for what, get := range map[string]func() error{
		"Deployment": func() error {
			_, err := r.kube.AppsV1().Deployments(name).Get(t.Context(), full, metav1.GetOptions{})
			return err
		},
		"Service": func() error {
			_, err := r.kube.CoreV1().Services(name).Get(t.Context(), full, metav1.GetOptions{})
			return err
		},
		"ServiceAccount": func() error {
			_, err := r.kube.CoreV1().ServiceAccounts(name).Get(t.Context(), full, metav1.GetOptions{})
			return err
		},
		"ClusterRole": func() error {
			_, err := r.kube.RbacV1().ClusterRoles().Get(t.Context(), full, metav1.GetOptions{})
			return err
		},
		"ClusterRoleBinding": func() error {
			_, err := r.kube.RbacV1().ClusterRoleBindings().Get(t.Context(), full, metav1.GetOptions{})
			return err
		},
	} {
		if err := get(); !apierrors.IsNotFound(err) {
			t.Errorf("%s is left: %v", what, err)
		}
	}
	if left := r.records(t, name); left != nil {
		t.Errorf("records are left: %v", left)
	}
}

// adopt: objects made by hand are refused, and named; with Adopt the Deployment
// has exactly the chart's containers, and the Service selects its pods.
func (r *real) adopt(t *testing.T) {
	c := r.client(t, "adopt", nil)
	labels := map[string]string{"app": "by-hand"}
	hand := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "accumulus-adopt"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "old", Image: "i"}}}}}}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "accumulus-adopt"}, Spec: corev1.ServiceSpec{Selector: labels,
		Ports: []corev1.ServicePort{{Name: "web", Port: 80}}}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "accumulus-adopt", Annotations: map[string]string{"kept": "yes"}}}
	_, err1 := r.kube.AppsV1().Deployments("adopt").Create(t.Context(), hand, metav1.CreateOptions{})
	_, err2 := r.kube.CoreV1().Services("adopt").Create(t.Context(), service, metav1.CreateOptions{})
	_, err3 := r.kube.CoreV1().ServiceAccounts("adopt").Create(t.Context(), account, metav1.CreateOptions{})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	_, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{})
	if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "Deployment adopt/accumulus-adopt") || !strings.Contains(err.Error(), "ServiceAccount") {
		t.Errorf("without Adopt: %v", err)
	}
	if left := r.records(t, "adopt"); left != nil {
		t.Errorf("a refusal left records %v", left)
	}
	result, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{Adopt: true})
	if err != nil || result.Change != Installed {
		t.Fatalf("with Adopt: %+v, %v", result, err)
	}
	containers := r.deployment(t, "adopt").Spec.Template.Spec.Containers
	if len(containers) != 1 || containers[0].Name != "follower" {
		t.Errorf("containers %+v", containers)
	}
	got, err := r.kube.CoreV1().Services("adopt").Get(t.Context(), "accumulus-adopt", metav1.GetOptions{})
	if err != nil || got.Spec.Selector["app"] != "" || len(got.Spec.Ports) != 1 {
		t.Errorf("Service %+v, %v", got.Spec, err)
	}
	kept, err := r.kube.CoreV1().ServiceAccounts("adopt").Get(t.Context(), "accumulus-adopt", metav1.GetOptions{})
	if err != nil || kept.Annotations["kept"] != "yes" || kept.Labels[managedBy] != "Helm" {
		t.Errorf("ServiceAccount %+v, %v", kept.ObjectMeta, err)
	}
	// Another leader finds ours, and takes it over only when told.
	other := New(Config{REST: r.config, Namespace: "adopt", Release: "accumulus-adopt", Leader: "leader-2"}, clock.System(), slog.New(slog.DiscardHandler))
	if _, err := other.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{}); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), me) {
		t.Errorf("another leader: %v", err)
	}
	if err := other.Remove(t.Context(), Options{}); !errors.Is(err, ErrForeign) {
		t.Errorf("another leader removes: %v", err)
	}
	if result, err := other.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{Adopt: true}); err != nil || result.Leader != "leader-2" || result.Revision != 2 {
		t.Errorf("taken over: %+v, %v", result, err)
	}
	if err := other.Remove(t.Context(), Options{}); err != nil {
		t.Error(err)
	}
	r.gone(t, "adopt")
}

// otherRelease: a cluster-scoped object of another release is never taken, not
// even with Adopt: its owner would go on changing it.
func (r *real) otherRelease(t *testing.T) {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "accumulus-clash", Labels: map[string]string{managedBy: "Helm"},
		Annotations: map[string]string{releaseName: "accumulus-clash", releaseNamespace: "elsewhere"}}}
	if _, err := r.kube.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c := r.client(t, "clash", nil)
	for _, adopt := range []bool{false, true} {
		_, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{Adopt: adopt})
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "ClusterRole accumulus-clash") || !strings.Contains(err.Error(), "elsewhere/accumulus-clash") {
			t.Errorf("adopt %t: %v", adopt, err)
		}
	}
	if left := r.records(t, "clash"); left != nil {
		t.Errorf("records %v", left)
	}
}

// dying fails every request from the n-th write on, before or after the server
// has had it, as a process that is killed there.
type dying struct {
	next  http.RoundTripper
	left  *atomic.Int64
	after bool // the server has it, the answer is lost
}

func (d dying) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet && d.left.Load() > 0 {
		return d.next.RoundTrip(request)
	}
	if left := d.left.Add(-1); left < 0 || left == 0 && !d.after {
		return nil, errors.New("killed")
	}
	response, err := d.next.RoundTrip(request)
	if err == nil && d.left.Load() == 0 {
		_ = response.Body.Close()
		return nil, errors.New("killed")
	}
	return response, err
}

// killed at each write to the API server, what is left is completed by the next
// one; Helm alone stays stuck where the record is pending.
func (r *real) killed(t *testing.T) {
	for name, act := range map[string]struct {
		before string // version that stands
		do     func(ctx context.Context, c *Client) error
		after  string
	}{
		"install": {"", func(ctx context.Context, c *Client) error {
			_, err := c.Ensure(ctx, chartOf(t, "1.0.0"), values("a"), Options{Locked: true})
			return err
		}, "1.0.0"},
		"upgrade": {"1.0.0", func(ctx context.Context, c *Client) error {
			_, err := c.Ensure(ctx, chartOf(t, "1.1.0"), Values{"cluster": "a", "level": "debug"}, Options{Locked: true})
			return err
		}, "1.1.0"},
		"remove": {"1.0.0", func(ctx context.Context, c *Client) error { return c.Remove(ctx, Options{Locked: true}) }, ""},
	} {
		killed, pending := 0, 0
		for step := int64(2); step < 80; step++ {
			n, after := step/2, step%2 == 1
			var left atomic.Int64
			left.Store(1 << 40)
			mortal := r.client(t, "killed", func(next http.RoundTripper) http.RoundTripper { return dying{next, &left, after} })
			healthy := r.client(t, "killed", nil)
			if act.before != "" {
				if _, err := healthy.Ensure(t.Context(), chartOf(t, act.before), values("a"), Options{Locked: true}); err != nil {
					t.Fatal(err)
				}
			}
			left.Store(n)
			err := act.do(t.Context(), mortal)
			alive := left.Load() > 0
			if err != nil && !strings.Contains(err.Error(), "killed") {
				t.Errorf("%s %d: %v", name, n, err)
			}
			for _, state := range r.records(t, "killed") {
				if release.Status(state).IsPending() {
					pending++
					r.staysStuck(t, healthy)
				}
			}
			if err := act.do(t.Context(), healthy); err != nil {
				t.Errorf("%s after a kill at write %d: %v", name, n, err)
			}
			if act.after == "" {
				r.gone(t, "killed")
			} else if status, err := healthy.Status(t.Context()); err != nil || status.Status != "deployed" || status.ChartVersion != act.after {
				t.Errorf("%s after a kill at write %d: %+v, %v", name, n, status, err)
			} else if d := r.deployment(t, "killed"); len(d.Spec.Template.Spec.Containers) != 1 {
				t.Errorf("containers %+v", d.Spec.Template.Spec.Containers)
			}
			if err := healthy.Remove(t.Context(), Options{Locked: true}); err != nil {
				t.Fatal(err)
			}
			r.gone(t, "killed")
			if alive {
				break
			}
			killed++
		}
		t.Logf("%s: killed %d times, before and after each write; %d times pending was left", name, killed, pending)
		if killed < 8 || name != "remove" && pending == 0 {
			t.Errorf("%s was killed %d times, and %d times pending was left", name, killed, pending)
		}
	}
}

// staysStuck is the control: what is pending is refused by Helm, and by an
// Ensure that does not know that nobody is at it.
func (r *real) staysStuck(t *testing.T, c *Client) {
	t.Helper()
	s, err := c.session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.last()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.upgrade(wish{chart: chartOf(t, "1.0.0"), values: values("a")}, last); err == nil || !strings.Contains(err.Error(), "in progress") {
		t.Errorf("Helm went on over %s: %v", last.Info.Status, err)
	}
	if _, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{}); !errors.Is(err, ErrBusy) {
		t.Errorf("Ensure without the lock: %v", err)
	}
}

// cancelled: the end of the context ends the operation, and not later.
func (r *real) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var writes atomic.Int64
	c := r.client(t, "cancelled", func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			if request.Method != http.MethodGet && writes.Add(1) == 3 {
				cancel()
				<-request.Context().Done() // as a server that says nothing
				return nil, request.Context().Err()
			}
			return next.RoundTrip(request)
		})
	})
	if _, err := c.Ensure(ctx, chartOf(t, "1.0.0"), values("a"), Options{}); fault.Of(err) != fault.Canceled {
		t.Errorf("cancelled: %s, %v", fault.Of(err), err)
	}
	if _, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{Locked: true}); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if err := c.Remove(t.Context(), Options{}); err != nil {
		t.Error(err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// storageForbidden: a release that cannot be read is not taken for one that is
// gone.
func (r *real) storageForbidden(t *testing.T) {
	c := r.client(t, "denied", nil)
	if _, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{}); err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(r.config)
	config.Impersonate.UserName = "nobody"
	denied := New(Config{REST: config, Namespace: "denied", Release: "accumulus-denied", Leader: me}, clock.System(), slog.New(slog.DiscardHandler))
	for what, err := range map[string]error{"remove": denied.Remove(t.Context(), Options{}),
		"ensure": func() error {
			_, err := denied.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{})
			return err
		}()} {
		if fault.Of(err) != fault.Forbidden || fault.Denied(err) != "list secrets in namespace denied" {
			t.Errorf("%s: %s, %q: %v", what, fault.Of(err), fault.Denied(err), err)
		}
	}
	if status, err := c.Status(t.Context()); err != nil || status.Status != "deployed" {
		t.Errorf("%+v, %v", status, err)
	}
}

// terminating: an object that is still being deleted is waited for, not adopted
// and lost a moment later.
func (r *real) terminating(t *testing.T) {
	c := r.client(t, "ending", nil)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "accumulus-ending", Finalizers: []string{"example.com/slow"}}}
	accounts := r.kube.CoreV1().ServiceAccounts("ending")
	made, err := accounts.Create(t.Context(), account, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.Delete(t.Context(), made.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{Adopt: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("while it is being deleted: %v", err)
	}
	made, err = accounts.Get(t.Context(), made.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Finalizers = nil
	if _, err := accounts.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ensure(t.Context(), chartOf(t, "1.0.0"), values("a"), Options{}); err != nil {
		t.Errorf("when it is gone: %v", err)
	}
}
