package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// history is what a follower saw: real objects, a chain that came late, ends.
func history(t *testing.T, l *Log, advance func(time.Duration)) (pods []corev1.Pod, node corev1.Node, job *batchv1.Job) {
	t.Helper()
	load(t, "testdata/node.yaml", &node)
	pods = realPods(t)
	start, end := stamp(-time.Hour), stamp(-time.Minute)
	job = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "once", Namespace: "team-a", UID: "52e7739f-13a3-4de6-9c07-ec6b13659379",
		Labels: map[string]string{"team": "a"}}, Status: batchv1.JobStatus{StartTime: &start}}
	l.SetNode(&node)
	for i := range pods {
		l.SetPod(&pods[i])
	}
	advance(time.Second)
	l.SetJob(job)
	job = job.DeepCopy()
	job.Status.CompletionTime = &end
	job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, Reason: "CompletionsReached", LastTransitionTime: end}}
	l.SetJob(job)
	set := webSet()
	for _, pod := range pods {
		if len(pod.OwnerReferences) > 0 && pod.OwnerReferences[0].Kind == kindReplicaSet {
			set.UID = pod.OwnerReferences[0].UID
		}
	}
	l.SetReplicaSet(set)
	advance(time.Second)
	l.DeletePod(&pods[1])
	pods = append(pods[:1:1], pods[2:]...)
	return pods, node, job
}

func TestLogIsTheSumOfItsChanges(t *testing.T) {
	l, clk := newTestLog(t)
	pods, node, job := history(t, l, clk.Advance)
	stored := l.Pending()
	last := make(map[string]time.Time)
	for _, c := range stored {
		if !c.ValidFrom.After(last[c.UID]) {
			t.Errorf("%s %s: %s is not after %s", c.Kind, c.Name, c.ValidFrom, last[c.UID])
		}
		last[c.UID] = c.ValidFrom
	}
	clk.Advance(time.Hour)
	again, err := NewLog(Config{}, clk, l.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(stored); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]any{
		"nodes": {l.Nodes(), again.Nodes()}, "pods": {l.Pods(), again.Pods()},
		"jobs": {l.Jobs(), again.Jobs()}, "targets": {l.Targets(), again.Targets()},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("%s after Restore (-before +after):\n%s", name, diff)
		}
	}
	again.SetNode(&node)
	for _, pod := range pods {
		again.SetPod(&pod)
	}
	again.SetJob(job)
	for _, kind := range []string{KindNode, KindPod, KindJob} {
		again.synced(kind)
	}
	if got := again.Pending(); len(got) != 0 {
		t.Errorf("the same objects again made changes: %+v", got)
	}
}

func TestWhatEndedUnseen(t *testing.T) {
	l, clk := newTestLog(t)
	pods, node, job := history(t, l, clk.Advance)
	stored := l.Pending()
	clk.Advance(time.Hour)
	again, err := NewLog(Config{}, clk, l.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(stored); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods[1:] {
		again.SetPod(&pod)
	}
	for _, kind := range []string{KindNode, KindPod, KindJob} {
		again.synced(kind)
	}
	if diff := cmp.Diff([]string{"Node unseen", "Pod unseen"}, reasons(again)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := again.Nodes()[0]; !got.Left.Equal(clk.Now()) || got.Name != node.Name || len(again.Targets()) != 0 {
		t.Errorf("node %+v, want it to have left now", got)
	}
	for _, pod := range again.Pods() {
		if pod.UID == string(pods[0].UID) && (!pod.End.Equal(clk.Now()) || pod.EndReason != deletedReason) {
			t.Errorf("pod %+v, want it to have ended now", pod)
		}
	}
	if jobs := again.Jobs(); len(jobs) != 1 || !jobs[0].Succeeded || !jobs[0].End.Equal(noon.Add(-time.Minute)) || job.Name != jobs[0].Name {
		t.Errorf("jobs %+v", jobs)
	}
}

// An ended pod whose owner never came takes what the owner's name tells, and
// the log says so.
func TestOwnerOfAPodThatIsGone(t *testing.T) {
	l, clk := newTestLog(t)
	pod := newPod("u", owned("ReplicaSet", "apps/v1", "web-5d9c", "gone"))
	l.SetPod(pod)
	l.SetPod(finish(pod, corev1.PodSucceeded, stamp(0), 0, "Completed"))
	again, err := NewLog(Config{}, clk, l.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(l.Pending()); err != nil {
		t.Fatal(err)
	}
	again.synced(KindPod)
	if got := only(t, again); got.Workload != "web" || got.WorkloadKind != kindDeployment || !got.OwnerKnown {
		t.Errorf("pod %+v", got)
	}
	if diff := cmp.Diff([]string{"Pod owner"}, reasons(again)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// A node that is made anew under its name is another node.
func TestNodeOfTheSameName(t *testing.T) {
	l, clk := newTestLog(t)
	var first corev1.Node
	load(t, "testdata/node.yaml", &first)
	l.SetNode(&first)
	clk.Advance(time.Minute)
	second := first.DeepCopy()
	second.UID, second.CreationTimestamp = "other", metav1.NewTime(clk.Now())
	second.Status.Addresses[0].Address = "10.99.1.2"
	l.SetNode(second)
	if got := l.Targets(); len(got) != 1 || got[0].Address != "10.99.1.2" {
		t.Errorf("targets %+v, want the newest", got)
	}
	l.DeleteNode(&first)
	if got := l.Nodes(); len(got) != 2 || !got[0].Left.Equal(clk.Now()) || !got[1].Left.IsZero() {
		t.Errorf("nodes %+v", got)
	}
	l.Forget(clk.Now().Add(1))
	if got := l.Nodes(); len(got) != 1 || got[0].UID != "other" {
		t.Errorf("nodes %+v, want the second alone", got)
	}
}

func TestPendingAndStored(t *testing.T) {
	l, _ := newTestLog(t)
	l.SetPod(newPod("a", nil))
	l.SetPod(newPod("b", nil))
	<-l.Wake()
	if n := len(l.Pending()); n != 2 {
		t.Fatalf("%d pending, want 2", n)
	}
	l.Stored(1)
	if got := l.Pending(); len(got) != 1 || got[0].UID != "b" {
		t.Errorf("pending %+v, want b's", got)
	}
	l.Stored(5)
	l.SetPod(newPod("b", nil))
	if got := l.Pending(); len(got) != 0 {
		t.Errorf("an object that is as it was made %+v", got)
	}
}

func TestRestoreRefuses(t *testing.T) {
	l, _ := newTestLog(t)
	for _, c := range []Change{{Kind: "Pod", Spec: []byte("{")}, {Kind: "Volume", Spec: []byte("{}")}} {
		if err := l.Restore([]Change{c}); err == nil {
			t.Errorf("%+v was restored", c)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add("Pod", []byte(`{"node":"n1","ownerKnown":false,"created":"2026-11-23T12:00:00Z","owners":[{"kind":"ReplicaSet","name":"a-b","apiVersion":"apps/v1"}]}`))
	f.Add("Pod", []byte(`{"owners":[],"ownerKnown":false}`))
	f.Add("Node", []byte(`{"joined":"2026-11-23T12:00:00Z"}`))
	f.Add("Job", []byte(`{"owner":{"kind":"CronJob","name":"x"}}`))
	f.Fuzz(func(t *testing.T, kind string, spec []byte) {
		l, _ := newTestLog(t)
		if l.Restore([]Change{{Kind: kind, UID: "u", Name: "n", Spec: spec}}) != nil {
			return
		}
		for _, kind := range []string{KindNode, KindPod, KindJob} {
			l.synced(kind)
		}
		for _, pod := range l.Pods() {
			if pod.End.IsZero() || !pod.OwnerKnown {
				t.Errorf("a pod that is not there: %+v", pod)
			}
		}
	})
}
