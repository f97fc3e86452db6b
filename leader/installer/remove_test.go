package installer

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestRemove: nothing is removed before the last pull; what others made stays.
func TestRemove(t *testing.T) {
	r := newRig(t)
	r.want("a")
	r.turns(1)
	r.pull = errors.New("link is down")
	if _, err := r.Remove(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	r.turns(3)
	if one := r.expect("a", registry.InstallRemoving); one.Class != string(classPull) || r.cluster("a").release == nil || !strings.Contains(one.Hint, "--force") {
		t.Errorf("without its last pull: %+v", one)
	}
	r.pull = nil
	r.turns(10)
	if one := r.expect("a", registry.InstallRemoved); one.Message != "" {
		t.Error(one.Message)
	}
	kube := r.cluster("a").kube
	if _, err := kube.CoreV1().Namespaces().Get(t.Context(), space, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("namespace: %v", err)
	}
	if got := strings.Join(r.ended, " "); got != "a" {
		t.Errorf("ended %s", got)
	}
	pulls := r.pulls
	r.turns(5)
	if r.pulls != pulls {
		t.Error("a cluster that was removed is visited")
	}

	// A namespace and a Secret of somebody else.
	b := r.cluster("b").kube
	if err := errors.Join(b.Tracker().Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space}}),
		b.Tracker().Add(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: TokensSecret, Namespace: space}})); err != nil {
		t.Fatal(err)
	}
	r.want("b")
	r.turns(1)
	if _, err := r.Remove(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	r.turns(1)
	if one := r.expect("b", registry.InstallRemoved); !strings.Contains(one.Message, "Secret accumulus/"+TokensSecret) {
		t.Error(one.Message)
	}
	if _, err := b.CoreV1().Namespaces().Get(t.Context(), space, metav1.GetOptions{}); err != nil {
		t.Errorf("somebody else's namespace: %v", err)
	}

	// A cluster that is gone for good.
	r.want("c")
	r.turns(1)
	r.pull, r.cluster("c").probe = errors.New("gone"), &net.OpError{Op: "dial", Err: errors.New("no route")}
	if _, err := r.Remove(t.Context(), "c", true); err != nil {
		t.Fatal(err)
	}
	r.turns(1)
	if one := r.expect("c", registry.InstallRemoved); !strings.Contains(one.Message, "by force") {
		t.Error(one.Message)
	}
	r.want("c") // and is added again later
	r.pull, r.cluster("c").probe = nil, nil
	r.turns(2)
	r.expect("c", registry.InstallReady)
	if _, err := r.Remove(t.Context(), "unknown", false); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

// TestGitOps: what somebody else installs is asked how it is; it is neither
// installed nor upgraded nor taken away.
func TestGitOps(t *testing.T) {
	r := newRig(t)
	c := r.cluster("a")
	c.release = &helm.Release{Leader: ""}
	if _, err := r.Want(t.Context(), "a", Wanted{GitOps: true}); err != nil {
		t.Fatal(err)
	}
	r.turns(2)
	r.expect("a", registry.InstallGitOps)
	if _, err := r.Upgrade(t.Context(), "a", Change{}); !errors.Is(err, ErrNotManaged) {
		t.Errorf("upgrade: %v", err)
	}
	r.ready["a"] = errors.New("503")
	r.turns(2)
	if one := r.expect("a", registry.InstallGitOps); !strings.Contains(one.Message, "503") || one.Hint == "" {
		t.Errorf("%+v", one)
	}
	if _, err := r.Remove(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	r.turns(2)
	if one := r.expect("a", registry.InstallRemoved); c.release == nil || c.ensured != 0 || r.pulls == 0 {
		t.Errorf("removed: %+v", one)
	}
}
