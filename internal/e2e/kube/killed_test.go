package kube

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// leaderKilled: the leader is killed again and again while it installs, each time
// at a later write, and while it upgrades. The last one to be started brings the
// follower up, with one release and nothing twice.
func leaderKilled(t *testing.T, c *centre, cluster *kubetest.Standing) {
	kube := kubernetes.NewForConfigOrDie(cluster.Config())
	g := newGate(t, kube)
	kill := func(write string, begin func()) {
		held, drop := g.shut(write)
		defer drop()
		begin()
		waiting, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		select {
		case <-held:
		case <-waiting.Done():
			t.Fatalf("the leader does not come to %s\n%s", write, c.output)
		}
		if err := c.stop(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	kill("CREATE Secret", func() {
		c.run("cluster", "add", "beta", "--no-wait", "--context", "eks_acme_beta", "--kubeconfig", c.cloud("eks_acme_beta", cluster))
	})
	for _, write := range []string{"CREATE ServiceAccount", "CREATE Deployment", "UPDATE deployed"} {
		kill(write, c.start)
	}
	if state := releaseStates(t, kube); !strings.Contains(state, "pending-") {
		t.Errorf("the leader was killed in no operation: %s", state)
	}
	began := clock.System().Now()
	c.start()
	c.until("beta", "after kills in the install", settledReady)
	t.Logf("ready %s after the last start; releases %s", clock.System().Now().Sub(began).Round(time.Second), releaseStates(t, kube))
	first := oneOfEach(t, kube)

	kill("UPDATE Deployment", func() { c.change("beta", map[string]any{"logLevel": "debug"}) })
	kill("UPDATE deployed", c.start)
	c.start()
	c.until("beta", "after kills in the upgrade", settledReady)
	second := oneOfEach(t, kube)
	if args := followerPod(t, kube).Spec.Containers[0].Args; !strings.Contains(strings.Join(args, " "), "--log-level=debug") {
		t.Errorf("the pod has %v", args)
	}
	if first != second {
		t.Error("the tokens are others after the upgrade")
	}
}

// releaseStates are those of Helm's records, in order.
func releaseStates(t testing.TB, kube *kubernetes.Clientset) string {
	t.Helper()
	records, err := kube.CoreV1().Secrets(standsIn).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, record := range records.Items {
		states = append(states, record.Labels["version"]+" "+record.Labels["status"])
	}
	return strings.Join(states, ", ")
}

// oneOfEach fails the test unless there is one follower, whole, in one release
// that nothing is at; it gives the follower's token.
func oneOfEach(t *testing.T, kube *kubernetes.Clientset) string {
	t.Helper()
	want := []string{"ConfigMap accumulus-follower-seed", "Deployment accumulus-follower", "Lease accumulus-pusher", "NetworkPolicy accumulus-follower",
		"Pod accumulus-follower", "ReplicaSet accumulus-follower", "Role accumulus-leader-install", "Role accumulus-leader-link",
		"RoleBinding accumulus-leader-install", "RoleBinding accumulus-leader-link", "Secret accumulus-follower-tokens", "Secret accumulus-leader-token",
		"Service accumulus-follower", "ServiceAccount accumulus-follower", "ServiceAccount accumulus-leader", "ServiceAccount default"}
	eventually(t, "one of each", func(ctx context.Context) error {
		all, err := inNamespace(ctx, kube, standsIn)
		if err != nil {
			return err
		}
		sets, err := kube.AppsV1().ReplicaSets(standsIn).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		idle := make(map[string]bool) // kept by the Deployment for a rollback
		for _, set := range sets.Items {
			idle["ReplicaSet "+set.Name] = set.Status.Replicas == 0
		}
		var have []string
		for _, one := range all {
			kind, name, _ := strings.Cut(one, " ")
			switch {
			case strings.HasPrefix(name, "sh.helm.release.v1.accumulus-follower."), idle[one]:
			case kind == "Pod" || kind == "ReplicaSet":
				have = append(have, kind+" "+followerName)
			default:
				have = append(have, one)
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			return fmt.Errorf("(-want +have)\n%s", diff)
		}
		return nil
	})
	states := releaseStates(t, kube)
	if strings.Count(states, "deployed") != 1 || strings.Contains(states, "pending") {
		t.Errorf("releases %s", states)
	}
	secret, err := kube.CoreV1().Secrets(standsIn).Get(t.Context(), "accumulus-follower-tokens", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(secret.Data["leader"])
}
