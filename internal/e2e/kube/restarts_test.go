package kube

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Containers that are restarted, a pod of the same name again, a kubelet and a
// follower that are killed while Jobs come and go, a node without power: the sum
// of the minutes is what the pods' control group counted.
func TestRestarts(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Inside(t).NewCluster(t, "restarts", 2)
	s := newStand(t, cluster, 0, 18472)
	lost := s.other(cluster.Nodes[1])
	s.begin()

	lost.space.server(t, "lost", lost.node.Name)
	lost.space.ask(t, "lost", "stress/cpu/1")
	crashes := s.restarting("crashes", 4*time.Second)
	first := s.space.server(t, "again", s.node.Name)
	s.space.ask(t, "again", "stress/cpu/1")
	s.sleep(10 * time.Second)
	s.remove("again")
	second := s.space.server(t, "again", s.node.Name)
	s.space.ask(t, "again", "stress/cpu/1")
	lost.space.ask(t, "lost", "stress/cpu/0")

	if err := cluster.KillService(0, kubetest.Kubelet); err != nil {
		t.Fatal(err)
	}
	s.sleep(quiet)
	s.remove("crashes")
	s.sleep(readEach)
	noPower := s.clock.Now()
	cluster.KillNode(1)

	s.meter.kill()
	s.space.stressJob(t, "unwatched", s.node.Name, 3*time.Second)
	jobs := s.space.stressed(t, 1)
	s.sleep(readEach)
	s.meter.start()
	s.sleep(quiet)
	s.space.ask(t, "again", "stress/cpu/0")

	u := s.sums()
	s.adds(u)
	s.notNegative()
	for what, uid := range map[string]string{"the first pod of its name": first, "the second": second, "the pod that crashes": crashes,
		"the Job of which the follower saw nothing": jobs[0].uid} {
		truth, got := s.pods.of(uid), u.pods[uid]
		text := fmt.Sprintf("%s: its pod %s core-s, metered %s: %+.2f %%", what, seconds(truth), seconds(got), off(got, truth))
		// A pod that ends beside others may have what a change of their rates hides:
		// half a second of a core.
		if d, most := got-truth, truth/10+500_000; truth == 0 || d < -most || d > most {
			t.Error(text)
			continue
		}
		t.Log(text)
	}
	of := sums{Window: u.Window}
	var err error
	if of.pods, of.whole, err = s.meter.cpuOf(t.Context(), lost.node.Name, u.Window); err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, cpu := range of.pods {
		sum += cpu
	}
	if sum != of.whole {
		t.Errorf("Σ pods, unattributed and system of the lost node is %d core-µs, its rows say %d", sum, of.whole)
	}
	lost.between("kubepods of the lost node", lost.kube, sum-of.pods[schema.SystemNamespace], u.From, noPower.Add(-quiet), noPower.Add(time.Second))
}

// restarting starts a pod whose container keeps a core busy for a time and is
// then started again.
func (s *stand) restarting(name string, length time.Duration) (uid string) {
	s.t.Helper()
	template := podOf(name, "-cpu", "900", "-for", length.String())
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: template.Spec}
	pod.Spec.NodeName = s.node.Name
	made, err := s.space.CoreV1().Pods(s.space.name).Create(s.t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return string(made.UID)
}

// remove deletes a pod and returns when it is gone.
func (s *stand) remove(name string) {
	s.t.Helper()
	pods := s.space.CoreV1().Pods(s.space.name)
	grace := int64(1)
	if err := pods.Delete(s.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "end of pod "+name, func(ctx context.Context) error {
		_, err := pods.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = errors.New("it is there")
		}
		return err
	})
}
