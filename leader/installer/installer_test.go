package installer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fault"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestInstall: from a name to a follower that is ready, with all that it needs;
// further visits change nothing.
func TestInstall(t *testing.T) {
	r := newRig(t)
	r.want("a")
	r.expect("a", registry.InstallPending)
	r.turns(1)
	one := r.expect("a", registry.InstallReady)
	if one.Installed != "1.0.0" || one.Revision != 1 || one.Done != one.Generation || !one.MadeNamespace || one.Message != "" {
		t.Errorf("installed %+v", one)
	}
	kube := r.cluster("a").kube
	made, err := kube.CoreV1().Namespaces().Get(t.Context(), space, metav1.GetOptions{})
	if err != nil || made.Labels[helm.LeaderLabel] != me || made.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace %v, %v", made.Labels, err)
	}
	if _, err := kube.CoreV1().ConfigMaps(space).Get(t.Context(), SeedMap, metav1.GetOptions{}); err != nil {
		t.Errorf("seed: %v", err)
	}
	lease, err := kube.CoordinationV1().Leases(space).Get(t.Context(), LeaseName, metav1.GetOptions{})
	if err != nil || text(lease.Spec.HolderIdentity) != "" {
		t.Errorf("Lease %+v, %v", lease.Spec, err)
	}
	r.turns(30) // a quarter of an hour has its comparison
	if again := r.expect("a", registry.InstallReady); again.Revision != 1 || r.cluster("a").ensured != 1 || !again.Verified.After(one.Verified) || !again.Since.Equal(one.Since) {
		t.Errorf("after half an hour: %+v", again)
	}
	if err := kube.Tracker().Delete(appsv1.SchemeGroupVersion.WithResource("deployments"), space, Release); err != nil {
		t.Fatal(err)
	}
	r.turns(1)
	r.expect("a", registry.InstallDegraded)
	r.cluster("a").release = nil // Helm would put it back
	r.turns(2)
	r.expect("a", registry.InstallReady)
}

func grouped(name string) schema.GroupResource { return schema.GroupResource{Resource: name} }

// TestProblems: each has a state, a class and says what to do; it is tried again,
// and when the reason is gone the follower becomes ready.
func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		set   func(r *rig, c *cluster)
		clear func(r *rig, c *cluster)
		class fault.Class
		step  string
		hint  string
	}{
		"unreachable": {func(_ *rig, c *cluster) { c.probe = &net.OpError{Op: "dial", Err: errors.New("connection refused")} },
			func(_ *rig, c *cluster) { c.probe = nil }, fault.Unreachable, stepAccess, "reach it"},
		"wrong CA": {func(_ *rig, c *cluster) { c.probe = x509.UnknownAuthorityError{} },
			func(_ *rig, c *cluster) { c.probe = nil }, fault.WrongCA, stepAccess, "cluster add a --context"},
		"expired token": {func(_ *rig, c *cluster) { c.probe = apierrors.NewUnauthorized("") },
			func(_ *rig, c *cluster) { c.probe = nil }, fault.Unauthorized, stepAccess, "expired"},
		"no credentials": {func(r *rig, _ *cluster) { r.keyless = true },
			func(r *rig, _ *cluster) { r.keyless = false }, classCredentials, stepCredentials, "cluster add a"},
		"may not make the namespace": {func(_ *rig, c *cluster) {
			c.broken["create namespaces"] = apierrors.NewForbidden(grouped("namespaces"), space,
				errors.New(`User "u" cannot create resource "namespaces" in API group "" at the cluster scope`))
		}, func(_ *rig, c *cluster) { clear(c.broken) }, fault.Forbidden, stepNamespace, "Missing right: create namespaces"},
		"may not make the Lease": {func(_ *rig, c *cluster) {
			c.broken["create leases"] = apierrors.NewForbidden(grouped("leases"), LeaseName,
				errors.New(`User "u" cannot create resource "leases" in API group "coordination.k8s.io" in the namespace "accumulus"`))
		}, func(_ *rig, c *cluster) { clear(c.broken) }, fault.Forbidden, stepLease, "create leases.coordination.k8s.io in namespace accumulus"},
		"quota": {func(_ *rig, c *cluster) {
			c.broken["create secrets"] = apierrors.NewForbidden(grouped("secrets"), TokensSecret, errors.New("exceeded quota: small, requested: secrets=1"))
		}, func(_ *rig, c *cluster) { clear(c.broken) }, fault.Quota, stepTokens, "ResourceQuota"},
		"another leader's": {func(_ *rig, c *cluster) { c.release = &helm.Release{Leader: "leader-2"} },
			func(_ *rig, c *cluster) { c.release = nil }, classForeign, stepOwner, "--adopt"},
		"stray objects": {func(_ *rig, c *cluster) { c.ensure = &helm.ExistsError{Objects: []string{"Service x"}} },
			func(_ *rig, c *cluster) { c.ensure = nil }, classExists, stepRelease, "--adopt"},
		"wrong values": {func(_ *rig, c *cluster) { c.ensure = helm.ErrValues },
			func(_ *rig, c *cluster) { c.ensure = nil }, classValues, stepRelease, "cluster upgrade a --values FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.want("a")
			test.set(r, r.cluster("a"))
			r.turns(1)
			one := r.expect("a", registry.InstallFailed)
			if one.Class != string(test.class) || one.Step != test.step || one.Message == "" || !strings.Contains(one.Hint, test.hint) {
				t.Errorf("%s at %s: %s\nhint: %s", one.Class, one.Step, one.Message, one.Hint)
			}
			if passes(test.class) == (one.Attempts >= lasting) {
				t.Errorf("counts as %d attempts", one.Attempts)
			}
			if class := r.cluster("a"); class.ensured != 0 {
				t.Error("Helm was asked")
			}
			r.clk.Advance(10 * time.Minute)
			r.turns(2)
			if again := r.expect("a", registry.InstallFailed); !again.Since.Equal(one.Since) || again.Step != test.step || again.Attempts <= one.Attempts {
				t.Errorf("when it is tried again: %+v", again)
			}
			test.clear(r, r.cluster("a"))
			r.turns(10)
			if one = r.expect("a", registry.InstallReady); one.Class != "" || one.Hint != "" || one.Attempts != 0 {
				t.Errorf("when it is well: %+v", one)
			}
		})
	}
}

// TestTheForeignIsNotWrittenOver: nothing of another leader's is touched before
// it is known to be his.
func TestTheForeignIsNotWrittenOver(t *testing.T) {
	r := newRig(t)
	c := r.cluster("a")
	c.release = &helm.Release{Leader: "leader-2", ChartVersion: "0.9.0", Revision: 3}
	r.want("a")
	r.turns(5)
	if _, err := c.kube.CoreV1().ConfigMaps(space).Get(t.Context(), SeedMap, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the seed was written: %v", err)
	}
	if _, err := r.Upgrade(t.Context(), "a", Change{Adopt: true}); err != nil {
		t.Fatal(err)
	}
	r.turns(1)
	if one := r.expect("a", registry.InstallReady); one.Adopt || one.Revision != 4 {
		t.Errorf("adopted: %+v", one)
	}
}

// TestHealth: why a pod does not come up, told at once where time does not help.
func TestHealth(t *testing.T) {
	pod := func(status corev1.PodStatus) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: space, Labels: map[string]string{"app": "follower"}}, Status: status}
	}
	for name, test := range map[string]struct {
		pod    *corev1.Pod
		events []string // reason and message
		quota  string
		ready  error
		after  time.Duration
		state  string
		class  fault.Class
		says   string
	}{
		"starting":      {after: time.Minute, state: registry.InstallInstalling, class: classNotReady, says: "0 of 1"},
		"never starts":  {after: time.Hour, state: registry.InstallDegraded, class: classNotReady, says: "0 of 1"},
		"quota of pods": {quota: `pods "x" is forbidden: exceeded quota: small`, state: registry.InstallDegraded, class: fault.Quota, says: "exceeded quota"},
		"no image": {pod: pod(corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Image: "i", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}}), after: time.Hour, state: registry.InstallDegraded, class: classNotReady, says: "ImagePullBackOff"},
		"no node": {pod: pod(corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes"}}}),
			after: time.Hour, state: registry.InstallDegraded, class: classNotReady, says: "0/3 nodes"},
		"no Secret": {pod: pod(corev1.PodStatus{Phase: corev1.PodPending}), after: time.Minute, state: registry.InstallInstalling, class: classNotReady, says: "FailedMount secret x not found",
			events: []string{"Pulling old", "FailedMount secret x not found"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.cluster("a")
			c.unhealthy = true
			if test.pod != nil {
				if err := c.kube.Tracker().Add(test.pod); err != nil {
					t.Fatal(err)
				}
			}
			for n, text := range test.events {
				reason, message, _ := strings.Cut(text, " ")
				if err := c.kube.Tracker().Add(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("e", n), Namespace: space}, Reason: reason, Message: message}); err != nil {
					t.Fatal(err)
				}
			}
			r.want("a")
			r.turn(t.Context())
			if test.quota != "" {
				deployments := c.kube.AppsV1().Deployments(space)
				d, err := deployments.Get(t.Context(), Release, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: test.quota}}
				if _, err := deployments.UpdateStatus(t.Context(), d, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			r.clk.Advance(max(test.after, time.Minute))
			r.turn(t.Context())
			one := r.expect("a", test.state)
			if one.Class != string(test.class) || !strings.Contains(one.Message, test.says) || one.Hint == "" {
				t.Errorf("%s: %s\nhint: %s", one.Class, one.Message, one.Hint)
			}
			if c.ensured != 1 {
				t.Errorf("Helm was asked %d times", c.ensured)
			}
		})
	}
	r := newRig(t)
	r.ready["a"] = errors.New("503")
	r.want("a")
	r.turn(t.Context())
	if one := r.expect("a", registry.InstallInstalling); !strings.Contains(one.Message, "is not reached: 503") {
		t.Error(one.Message)
	}
	r.clk.Advance(10 * time.Minute)
	r.turn(t.Context())
	r.expect("a", registry.InstallDegraded)
	delete(r.ready, "a")
	r.turns(2)
	r.expect("a", registry.InstallReady)
}

// TestKilledAtEachWrite: a leader that is killed before any write of an install,
// an upgrade or a removal, in the registry or in the cluster, completes it at its
// next start, with one release.
func TestKilledAtEachWrite(t *testing.T) {
	for name, act := range map[string]func(r *rig){
		"install": func(*rig) {},
		"upgrade": func(r *rig) {
			r.turns(2)
			r.start("1.1.0")
			if _, err := r.Upgrade(r.t.Context(), "a", Change{}); err != nil {
				r.t.Fatal(err)
			}
		},
		"remove": func(r *rig) {
			r.turns(2)
			if _, err := r.Remove(r.t.Context(), "a", false); err != nil {
				r.t.Fatal(err)
			}
		},
	} {
		killed := 0
		for n := range 60 {
			r := newRig(t)
			r.want("a")
			act(r)
			version := r.chart.Version
			ctx, kill := context.WithCancel(t.Context())
			r.fuse.set(n, kill)
			r.turn(ctx)
			alive := ctx.Err() == nil
			kill()
			r.fuse.set(-1, nil)
			r.start(version)
			r.clk.Advance(time.Second)
			r.turns(8)
			c := r.cluster("a")
			if name == "remove" {
				r.expect("a", registry.InstallRemoved)
				if c.release != nil || len(r.ended) == 0 {
					t.Errorf("killed before write %d: release %v, ended %v", n, c.release, r.ended)
				}
				secrets, err := c.kube.CoreV1().Secrets(space).List(t.Context(), metav1.ListOptions{})
				if err != nil || len(secrets.Items) != 0 {
					t.Errorf("%d Secrets are left, %v", len(secrets.Items), err)
				}
			} else if one := r.expect("a", registry.InstallReady); one.Installed != version || c.release.Revision > 2 {
				t.Errorf("%s killed before write %d: %+v", name, n, one)
			}
			if alive {
				break
			}
			killed++
		}
		if killed < 8 || killed > 50 {
			t.Errorf("%s was killed at %d writes", name, killed)
		}
	}
}

// TestFollowsTheFleet: a cluster that is new in the fleet is installed, one that
// changes hands is not installed any more.
func TestFollowsTheFleet(t *testing.T) {
	r := newRig(t)
	fleet := []Target{{Cluster: "a"}, {Cluster: "b", GitOps: true}}
	r.parts.Clusters = func(context.Context) ([]Target, error) { return fleet, nil }
	r.turns(2)
	r.expect("a", registry.InstallReady)
	r.expect("b", registry.InstallGitOps)
	generation := r.get("a").Generation
	fleet[0].GitOps = true
	r.turns(2)
	if one := r.expect("a", registry.InstallGitOps); one.Generation != generation+1 {
		t.Errorf("generation %d", one.Generation)
	}
	if _, err := r.Remove(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	fleet = fleet[1:]
	r.turns(2)
	r.expect("a", registry.InstallRemoved)
}

// TestAnotherLeaderInstalls: its Lease is waited for, and taken when nothing
// moved for the Lease's time; one of our own is taken at once.
func TestAnotherLeaderInstalls(t *testing.T) {
	r := newRig(t)
	r.want("a")
	ctx, kill := context.WithCancel(t.Context())
	r.cluster("a").during = func(context.Context) { kill(); r.fuse.set(0, nil) } // killed while it holds the Lease
	r.turn(ctx)
	r.fuse.set(-1, nil)
	r.cluster("a").during = nil
	leases := r.cluster("a").kube.CoordinationV1().Leases(space)
	lease, err := leases.Get(t.Context(), LeaseName, metav1.GetOptions{})
	if err != nil || text(lease.Spec.HolderIdentity) != me {
		t.Fatalf("the Lease of one that was killed: %v, %v", lease, err)
	}
	r.start("")
	r.turns(1)
	r.expect("a", registry.InstallReady)

	other := "leader-2"
	lease, err = leases.Get(t.Context(), LeaseName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lease.Spec.HolderIdentity, lease.ResourceVersion = &other, "5"
	if _, err := leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Again(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.turn(t.Context())
	if one := r.get("a"); one.Step != stepLease || one.Class != string(fault.Conflict) || !strings.Contains(one.Message, other) {
		t.Errorf("held by another: %+v", one)
	}
	r.clk.Advance(time.Minute)
	r.turn(t.Context())
	if one := r.get("a"); one.Class != string(fault.Conflict) {
		t.Errorf("after a minute: %+v", one)
	}
	r.clk.Advance(r.config.Lease)
	r.turn(t.Context())
	r.expect("a", registry.InstallReady)
	lease, err = leases.Get(t.Context(), LeaseName, metav1.GetOptions{})
	if err != nil || lease.Spec.LeaseTransitions == nil || *lease.Spec.LeaseTransitions != 1 {
		t.Errorf("Lease %+v, %v", lease.Spec, err)
	}
}

// TestBounded: of fifty clusters at once no more than eight are acted on, and
// those that hang take at most half of the places.
func TestBounded(t *testing.T) {
	r := newRig(t)
	r.config.Connect = time.Millisecond // of those that hang
	var busy, most atomic.Int32
	for i, name := range names(50) {
		c := r.cluster(name)
		if i < 20 {
			c.hang = true
			continue
		}
		c.during = func(context.Context) {
			most.Store(max(most.Load(), busy.Add(1)))
			defer busy.Add(-1)
			<-time.After(time.Millisecond)
		}
	}
	r.want(names(50)...)
	for range 40 {
		r.turn(t.Context())
		r.clk.Advance(5 * time.Second)
	}
	for i, name := range names(50) {
		if i < 20 {
			r.expect(name, registry.InstallFailed)
		} else {
			r.expect(name, registry.InstallReady)
		}
	}
	if most.Load() > 8 {
		t.Errorf("%d at once", most.Load())
	}
	for i := range 20 {
		if r.enter(names(50)[i], true) != (i < 4) {
			t.Errorf("place %d of one that failed", i)
		}
	}
	if !r.enter("another", false) {
		t.Error("those that fail take all places")
	}
}

// TestVersions: a leader of another version leaves a cluster as it is, says so,
// and upgrades it when it is told to.
func TestVersions(t *testing.T) {
	r := newRig(t)
	r.want("a")
	r.turns(1)
	r.start("1.1.0")
	r.turns(20)
	one := r.expect("a", registry.InstallReady)
	if one.Installed != "1.0.0" || !strings.Contains(one.Message, "1.1.0") || !strings.Contains(one.Hint, "cluster upgrade a") {
		t.Errorf("%+v", one)
	}
	if _, err := r.Upgrade(t.Context(), "a", Change{Version: "9.0.0"}); !errors.Is(err, ErrVersion) {
		t.Errorf("a version that is not there: %v", err)
	}
	if _, err := r.Upgrade(t.Context(), "a", Change{}); err != nil {
		t.Fatal(err)
	}
	r.turns(1)
	if one := r.expect("a", registry.InstallReady); one.Installed != "1.1.0" || one.Revision != 2 || one.Message != "" {
		t.Errorf("%+v", one)
	}
	if _, err := r.Want(t.Context(), "a", Wanted{Values: map[string]any{"level": 7}}); !errors.Is(err, helm.ErrValues) {
		t.Errorf("values that the chart does not take: %v", err)
	}
	if _, err := r.Want(t.Context(), "a", Wanted{Values: map[string]any{"level": "debug"}}); err != nil {
		t.Fatal(err)
	}
	r.turns(1)
	if one := r.expect("a", registry.InstallReady); one.Revision != 3 {
		t.Errorf("%+v", one)
	}
	if err := testutil.GatherAndCompare(r.metrics, strings.NewReader(`# HELP accumulus_installation_state 1 for the state that the follower's installation in a cluster is in.
# TYPE accumulus_installation_state gauge
accumulus_installation_state{cluster="a",state="degraded"} 0
accumulus_installation_state{cluster="a",state="failed"} 0
accumulus_installation_state{cluster="a",state="gitops"} 0
accumulus_installation_state{cluster="a",state="installing"} 0
accumulus_installation_state{cluster="a",state="pending"} 0
accumulus_installation_state{cluster="a",state="ready"} 1
accumulus_installation_state{cluster="a",state="removed"} 0
accumulus_installation_state{cluster="a",state="removing"} 0
`), "accumulus_installation_state"); err != nil {
		t.Error(err)
	}
}
