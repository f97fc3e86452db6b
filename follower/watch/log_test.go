package watch

import (
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func stamp(after time.Duration) metav1.Time { return metav1.NewTime(noon.Add(after)) }

func newTestLog(t *testing.T, labels ...string) (*Log, *clock.Manual) {
	t.Helper()
	clk := clock.NewManual(noon)
	l, err := NewLog(Config{Labels: labels}, clk, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l, clk
}

func realPods(t *testing.T) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	load(t, "testdata/pods.yaml", &list)
	return list.Items
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func owned(kind, version, name string, uid types.UID) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: name, UID: uid, Controller: &yes}}
}

func webSet() *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web-f46d7d6cf", Namespace: "team-a",
		UID: "41a6f0d6-d3a5-4b5e-8a64-000000000001", OwnerReferences: owned("Deployment", "apps/v1", "web", "d1")}}
}

// newPod is a running pod of a ReplicaSet.
func newPod(uid types.UID, owners []metav1.OwnerReference) *corev1.Pod {
	start := stamp(-time.Minute)
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p-" + string(uid), Namespace: "ns", UID: uid, CreationTimestamp: stamp(-2 * time.Minute),
		OwnerReferences: owners, Labels: map[string]string{"pod-template-hash": "5d9c", "app": "x", "secret": "y"}},
		Spec:   corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &start, ContainerStatuses: []corev1.ContainerStatus{{Name: "c"}}}}
}

func finish(pod *corev1.Pod, phase corev1.PodPhase, at metav1.Time, code int32, reason string) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{FinishedAt: at, ExitCode: code, Reason: reason}}}}
	return pod
}

func only(t *testing.T, l *Log) reading.PodInfo {
	t.Helper()
	pods := l.Pods()
	if len(pods) != 1 {
		t.Fatalf("%d pods, want one", len(pods))
	}
	return pods[0]
}

func reasons(l *Log) []string {
	var all []string
	for _, c := range l.Pending() {
		all = append(all, c.Kind+" "+c.Reason)
	}
	return all
}

func TestRealObjects(t *testing.T) {
	l, _ := newTestLog(t)
	var node corev1.Node
	load(t, "testdata/node.yaml", &node)
	l.SetNode(&node)
	for _, pod := range realPods(t) {
		l.SetPod(&pod)
	}
	nodes := []reading.NodeInfo{{Name: "node1", UID: "beac3f3c-76a0-465f-9c8f-bb189c06265f", BootID: "9eb9b12c-e999-42a6-bbfc-c69599db6e8f",
		CapacityMillicores: 2000, AllocatableMilli: 2000, AllocatableMemoryKiB: 24581684, Joined: time.Date(2026, 11, 23, 2, 50, 1, 0, time.UTC)}}
	if diff := cmp.Diff(nodes, l.Nodes()); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	targets := []kubelet.Target{{Node: "node1", Address: "10.99.1.1", Port: 10250, BootID: "9eb9b12c-e999-42a6-bbfc-c69599db6e8f"}}
	if diff := cmp.Diff(targets, l.Targets()); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	pods := l.Pods()
	if len(pods) != 6 || pods[0].Name != "host" || pods[2].Name != "once-pz499" {
		t.Fatalf("pods %v", pods)
	}
	once := reading.PodInfo{UID: "34bf10cb-d2ef-42c9-8869-dbf98651c7d0", Namespace: "team-a", Name: "once-pz499", Node: "node1",
		Labels: map[string]string{"app": "once"}, Created: time.Date(2026, 11, 23, 2, 50, 15, 0, time.UTC),
		Start: time.Date(2026, 11, 23, 2, 50, 17, 0, time.UTC), End: pods[2].End, EndReason: "Completed",
		Containers: []reading.ContainerInfo{{Name: "once", RequestMillicores: 100, RequestMemoryBytes: 16 << 20, LimitMemoryBytes: 32 << 20}}}
	if diff := cmp.Diff(once, pods[2]); diff != "" {
		t.Errorf("finished pod, its Job unseen (-want +got):\n%s", diff)
	}
	if pods[2].End.Before(once.Start) || pods[2].End.Sub(once.Start) > time.Minute {
		t.Errorf("it ended at %s", pods[2].End)
	}
	if known, ok := l.Pod("35b8381c-5e0d-4d94-83cd-208a9654eb16"); !ok || !known.HostNetwork || known.Name != "host" {
		t.Errorf("host pod %+v, %v", known, ok)
	}
	l.SetJob(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "once", Namespace: "team-a", UID: "52e7739f-13a3-4de6-9c07-ec6b13659379"}})
	if got := l.Pods()[2]; got.WorkloadKind != "Job" || got.Workload != "once" || !got.OwnerKnown {
		t.Errorf("after its Job came: %+v", got)
	}
}

func TestOwnerChains(t *testing.T) {
	set := webSet()
	cron := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "nightly-29", Namespace: "ns", UID: "j1", OwnerReferences: owned("CronJob", "batch/v1", "nightly", "cj")}}
	for _, test := range []struct {
		name           string
		owners         []metav1.OwnerReference
		prepare        func(*Log)
		kind, workload string
		known          bool
	}{
		{"bare", nil, nil, "Pod", "p-u", true},
		{"deployment", owned("ReplicaSet", "apps/v1", set.Name, set.UID), func(l *Log) { l.SetReplicaSet(set) }, "Deployment", "web", true},
		{"set that was deleted", owned("ReplicaSet", "apps/v1", set.Name, set.UID), func(l *Log) { l.DeleteReplicaSet(set) }, "Deployment", "web", true},
		{"set unseen", owned("ReplicaSet", "apps/v1", set.Name, set.UID), nil, "", "", false},
		{"set without owner", owned("ReplicaSet", "apps/v1", "lone", "s2"), func(l *Log) {
			l.SetReplicaSet(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "lone", UID: "s2"}})
		}, "ReplicaSet", "lone", true},
		{"cron", owned("Job", "batch/v1", "nightly-29", "j1"), func(l *Log) { l.SetJob(cron) }, "CronJob", "nightly", true},
		{"stateful", owned("StatefulSet", "apps/v1", "db", "s"), nil, "StatefulSet", "db", true},
		{"daemon", owned("DaemonSet", "apps/v1", "agent", "s"), nil, "DaemonSet", "agent", true},
		{"custom", owned("SparkApplication", "sparkoperator.k8s.io/v1beta2", "etl", "s"), nil, "SparkApplication", "etl", true},
		{"a Job of someone else's", owned("Job", "batch.volcano.sh/v1alpha1", "train", "s"), nil, "Job", "train", true},
		{"static", owned("Node", "v1", "n1", "s"), nil, "Pod", "p-u", true},
	} {
		l, _ := newTestLog(t)
		if test.prepare != nil {
			test.prepare(l)
		}
		l.SetPod(newPod("u", test.owners))
		got := only(t, l)
		if got.WorkloadKind != test.kind || got.Workload != test.workload || got.OwnerKnown != test.known {
			t.Errorf("%s: %s/%s known %v, want %s/%s known %v", test.name, got.WorkloadKind, got.Workload, got.OwnerKnown, test.kind, test.workload, test.known)
		}
	}
}

func TestOwnerThatIsAbsent(t *testing.T) {
	for hash, want := range map[string]string{"5d9c": "Deployment/web", "other": "ReplicaSet/web-5d9c", "": "ReplicaSet/web-5d9c"} {
		l, _ := newTestLog(t)
		pod := newPod("u", owned("ReplicaSet", "apps/v1", "web-5d9c", "gone"))
		pod.Labels["pod-template-hash"] = hash
		l.SetPod(pod)
		if got := l.unresolved(); len(got) != 1 || got[0] != (lookup{"ReplicaSet", "ns", "web-5d9c", "gone"}) {
			t.Fatalf("unresolved %v", got)
		}
		l.absent("gone")
		if got := only(t, l); got.WorkloadKind+"/"+got.Workload != want || !got.OwnerKnown {
			t.Errorf("hash %q: %s/%s, want %s", hash, got.WorkloadKind, got.Workload, want)
		}
		if len(l.unresolved()) != 0 {
			t.Error("it is still looked for")
		}
	}
}

func TestLabelsAllowed(t *testing.T) {
	labels := map[string]string{"app": "a", "team": "b", "app.kubernetes.io/name": "c", "app.kubernetes.io/part-of": "d", "example.org/app": "e", "pii": "f"}
	for _, test := range []struct {
		globs []string
		want  map[string]string
	}{
		{nil, map[string]string{"app": "a", "team": "b", "app.kubernetes.io/name": "c", "app.kubernetes.io/part-of": "d"}},
		{[]string{"example.org/*", "te?m"}, map[string]string{"example.org/app": "e", "team": "b"}},
		{[]string{"*"}, labels},
		{[]string{}, nil},
	} {
		a, err := newAllowList(test.globs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, a.pick(labels)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.globs, diff)
		}
	}
	if _, err := newAllowList([]string{"["}); err == nil {
		t.Error("a malformed glob was taken")
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		then   func(l *Log, clk *clock.Manual, pod *corev1.Pod)
		end    time.Duration
		code   int32
		reason string
	}{
		{"succeeded", func(l *Log, _ *clock.Manual, pod *corev1.Pod) {
			l.SetPod(finish(pod, corev1.PodSucceeded, stamp(30*time.Second), 0, "Completed"))
		}, 30 * time.Second, 0, "Completed"},
		{"killed", func(l *Log, _ *clock.Manual, pod *corev1.Pod) {
			l.SetPod(finish(pod, corev1.PodFailed, stamp(40*time.Second), 137, "OOMKilled"))
		}, 40 * time.Second, 137, "OOMKilled"},
		{"evicted before its containers told", func(l *Log, _ *clock.Manual, pod *corev1.Pod) {
			pod = pod.DeepCopy()
			pod.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}
			l.SetPod(pod)
		}, time.Minute, 0, "Evicted"},
		{"its node was lost: nobody saw its container stop, nor says Kubernetes when", func(l *Log, _ *clock.Manual, pod *corev1.Pod) {
			pod = finish(pod, corev1.PodFailed, stamp(5*time.Second), 0, "Completed")
			pod.Status.InitContainerStatuses = pod.Status.ContainerStatuses
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stamp(6 * time.Second)}}}}
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC"}}
			l.SetPod(pod)
		}, time.Minute, 0, "DeletionByPodGC"},
		{"its node was lost: nobody saw its container stop", func(l *Log, _ *clock.Manual, pod *corev1.Pod) {
			pod = finish(pod, corev1.PodFailed, stamp(5*time.Second), 0, "Completed")
			pod.Status.InitContainerStatuses = pod.Status.ContainerStatuses
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stamp(6 * time.Second)}}}}
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: stamp(45 * time.Second), Reason: "DeletionByPodGC"}}
			l.SetPod(pod)
		}, 45 * time.Second, 0, "DeletionByPodGC"},
		{"deleted with a last state", func(l *Log, _ *clock.Manual, pod *corev1.Pod) {
			last := finish(pod, corev1.PodRunning, stamp(50*time.Second), 143, "Error")
			now := stamp(20 * time.Second)
			last.DeletionTimestamp = &now
			l.DeletePod(last)
		}, 50 * time.Second, 143, "Error"},
		{"deleted without", func(l *Log, _ *clock.Manual, pod *corev1.Pod) { l.DeletePod(pod) }, time.Minute, 0, "Deleted"},
		{"ended, then deleted", func(l *Log, clk *clock.Manual, pod *corev1.Pod) {
			done := finish(pod, corev1.PodSucceeded, stamp(30*time.Second), 0, "Completed")
			l.SetPod(done)
			clk.Advance(time.Hour)
			l.DeletePod(done)
		}, 30 * time.Second, 0, "Completed"},
	} {
		l, clk := newTestLog(t)
		pod := newPod("u", nil)
		l.SetPod(pod)
		clk.Set(noon.Add(time.Minute))
		test.then(l, clk, pod)
		got := only(t, l)
		if !got.End.Equal(noon.Add(test.end)) || got.ExitCode != test.code || got.EndReason != test.reason {
			t.Errorf("%s: end %s code %d reason %s, want %s %d %s", test.name, got.End, got.ExitCode, got.EndReason, noon.Add(test.end), test.code, test.reason)
		}
		if l.Forget(got.End); len(l.Pods()) != 1 {
			t.Errorf("%s: forgotten before its time", test.name)
		}
		if l.Forget(got.End.Add(1)); len(l.Pods()) != 0 {
			t.Errorf("%s: not forgotten", test.name)
		}
		l.SetPod(finish(pod, corev1.PodSucceeded, stamp(0), 0, ""))
		if l.DeletePod(pod); len(l.Pods()) > 1 {
			t.Errorf("%s: came back", test.name)
		}
	}
}

func TestStaticPodKeepsItsUID(t *testing.T) {
	l, clk := newTestLog(t)
	image := newPod("api-1", owned("Node", "v1", "n1", "s"))
	image.Annotations = map[string]string{mirrorAnnotation: "hash1"}
	l.SetPod(image)
	if got := only(t, l); got.UID != "hash1" {
		t.Fatalf("UID %s, want the kubelet's", got.UID)
	}
	clk.Advance(time.Minute)
	l.DeletePod(image)
	if only(t, l).End.IsZero() {
		t.Error("deleted and not ended")
	}
	image.UID = "api-2"
	l.SetPod(image)
	if got := only(t, l); !got.End.IsZero() || got.UID != "hash1" {
		t.Errorf("returned, and %+v", got)
	}
	if diff := cmp.Diff([]string{"Pod added", "Pod deleted", "Pod returned"}, reasons(l)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestRequests(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	container := func(name, cpu, memory string) corev1.Container {
		return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: list(cpu, memory)}}
	}
	always := corev1.ContainerRestartPolicyAlways
	sidecar := container("proxy", "100m", "50Mi")
	sidecar.RestartPolicy = &always
	pod := newPod("u", nil)
	pod.Spec.Containers = []corev1.Container{container("a", "200m", "100Mi"), container("b", "1", "100Mi")}
	pod.Spec.InitContainers = []corev1.Container{sidecar, container("migrate", "1500m", "64Mi")}
	pod.Spec.Overhead = list("10m", "1Mi")
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", AllocatedResources: list("250m", "80Mi")}}
	want := []ContainerSpec{
		{Name: "a", RequestMillicores: 250, RequestMemoryBytes: 100 << 20},
		{Name: "b", RequestMillicores: 1000, RequestMemoryBytes: 100 << 20},
		{Name: "proxy", RequestMillicores: 100, RequestMemoryBytes: 50 << 20, Sidecar: true},
		{Name: "migrate", RequestMillicores: 1500, RequestMemoryBytes: 64 << 20, Init: true},
		{Name: "__pod__", RequestMillicores: 1600 - 1350 + 10, RequestMemoryBytes: 1 << 20},
	}
	if diff := cmp.Diff(want, requests(pod)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	pod.Spec.Resources = &corev1.ResourceRequirements{Requests: list("4", "1Gi"), Limits: list("8", "1Gi")}
	got := requests(pod)
	rest := ContainerSpec{Name: "__pod__", RequestMillicores: 4010 - 1350, RequestMemoryBytes: 1025<<20 - 250<<20, LimitMillicores: 8010, LimitMemoryBytes: 1025 << 20}
	if diff := cmp.Diff(rest, got[len(got)-1]); diff != "" {
		t.Errorf("rest of a pod with requests of its own (-want +got):\n%s", diff)
	}
}

// TestNoLimitInForce: on cgroup v1 a kubelet tells 2^63 less a page where there is
// no limit; beside a container with one, that one alone counts.
func TestNoLimitInForce(t *testing.T) {
	pod := newPod("u", nil)
	limit := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "e"}, corev1.Container{Name: "d", Resources: corev1.ResourceRequirements{Limits: limit}})
	none := &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: *resource.NewQuantity(9223372036854771712, resource.BinarySI)}}
	want := requests(pod)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Resources: none}, {Name: "e", Resources: none}, {Name: "d", Resources: &corev1.ResourceRequirements{Limits: limit}}}
	if diff := cmp.Diff(want, requests(pod)); diff != "" || want[2].LimitMemoryBytes != 64<<20 {
		t.Errorf("with what the kubelet tells (-before +after):\n%s", diff)
	}
}

// TestWaitingIsNotBilled: a pod that has a node and no container yet has no
// start; an init container's start is its pod's.
func TestWaitingIsNotBilled(t *testing.T) {
	l, clk := newTestLog(t)
	pod := newPod("u", nil)
	pod.Status.Phase = corev1.PodPending
	pod.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	backoff := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: backoff}}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", State: backoff}}
	l.SetPod(pod)
	if got := only(t, l); !got.Start.IsZero() || !got.End.IsZero() {
		t.Errorf("waiting for its image: start %s, end %s", got.Start, got.End)
	}
	clk.Advance(time.Hour)
	started := stamp(30 * time.Minute)
	pod = pod.DeepCopy()
	pod.Status.InitContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}}
	l.SetPod(pod)
	if got := only(t, l); !got.Start.Equal(started.Time) {
		t.Errorf("started %s, want %s", got.Start, started)
	}
	// Restarts and a lost status do not move it.
	pod = pod.DeepCopy()
	pod.Status.InitContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "ContainerStatusUnknown"}}
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stamp(2 * time.Hour)}}
	pod.Status.Phase = corev1.PodRunning
	l.SetPod(pod)
	if got := only(t, l); !got.Start.Equal(started.Time) {
		t.Errorf("after a restart it started %s, want %s", got.Start, started)
	}
	refused := newPod("v", nil)
	refused.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", StartTime: &started}
	l.SetPod(refused)
	for _, got := range l.Pods() {
		if got.UID == "v" && (!got.Start.IsZero() || got.End.IsZero() || got.EndReason != "OutOfcpu") {
			t.Errorf("a pod that the kubelet refused: %+v", got)
		}
	}
}

func TestResizeKeepsWhatWas(t *testing.T) {
	l, clk := newTestLog(t)
	pod := newPod("u", nil)
	request := func(pod *corev1.Pod, cpu string) *corev1.Pod {
		pod = pod.DeepCopy()
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), "nvidia.com/gpu": resource.MustParse("2")}
		return pod
	}
	l.SetPod(request(pod, "100m"))
	clk.Advance(10 * time.Minute)
	l.SetPod(request(pod, "300m"))
	clk.Advance(time.Minute)
	l.SetPod(request(pod, "300m"))
	infeasible := request(pod, "9000m")
	infeasible.Status.ContainerStatuses[0].AllocatedResources = infeasible.Spec.Containers[0].Resources.Requests.DeepCopy()
	infeasible.Status.ContainerStatuses[0].AllocatedResources[corev1.ResourceCPU] = resource.MustParse("300m")
	infeasible.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible}}
	l.SetPod(infeasible)
	got := only(t, l)
	want := []reading.PastRequests{{Until: noon.Add(10 * time.Minute), Containers: []reading.ContainerInfo{{Name: "c", RequestMillicores: 100}}}}
	if diff := cmp.Diff(want, got.Past); diff != "" || got.Containers[0].RequestMillicores != 300 {
		t.Errorf("past (-want +got):\n%s\nnow %+v", diff, got.Containers)
	}
	if diff := cmp.Diff([]string{"Pod added", "Pod resized"}, reasons(l)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	var spec PodSpec
	if err := json.Unmarshal(l.Pending()[1].Spec, &spec); err != nil || spec.Containers[0].Extended["nvidia.com/gpu"] != 2 {
		t.Errorf("spec %+v, %v: want two pieces of nvidia.com/gpu", spec.Containers, err)
	}
}

func TestWorkloadsByLabel(t *testing.T) {
	l, err := NewLog(Config{JobGroups: []string{argoWorkflow, "example.com/batch"}, Namespace: "ns"}, clock.NewManual(noon), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for uid, c := range map[types.UID]struct {
		owners     []metav1.OwnerReference
		labels     map[string]string
		kind, name string
	}{
		"knative":  {owned("ReplicaSet", "apps/v1", "hello-00002-deployment-7d", "r"), map[string]string{knativeService: "hello", knativeRevision: "hello-00002"}, KindKnative, "hello"},
		"workflow": {owned("Workflow", "argoproj.io/v1alpha1", "build-x7", "w"), map[string]string{argoWorkflow: "build-x7"}, KindWorkflow, "build-x7"},
		"job":      {owned("Job", "batch/v1", "part-17", "j"), map[string]string{"example.com/batch": "render"}, KindJobGroup, "render"},
		"other":    {owned("StatefulSet", "apps/v1", "db", "s"), map[string]string{"example.com/batch": "render"}, "StatefulSet", "db"},
		"bare":     {nil, map[string]string{"example.com/batch": "render"}, KindPod, "p-bare"},
		"custom":   {owned("RayCluster", "ray.io/v1", "learn", "c"), nil, "RayCluster", "learn"},
	} {
		pod := newPod(uid, c.owners)
		pod.Labels = c.labels
		l.SetPod(pod)
		for _, got := range l.Pods() {
			if got.UID == string(uid) && (got.WorkloadKind != c.kind || got.Workload != c.name || !got.OwnerKnown) {
				t.Errorf("%s is of %s %s (known %v), want %s %s", uid, got.WorkloadKind, got.Workload, got.OwnerKnown, c.kind, c.name)
			}
		}
	}
	for _, change := range l.Pending() {
		var spec PodSpec
		if err := json.Unmarshal(change.Spec, &spec); err != nil || !spec.Metering {
			t.Errorf("%s in the metering's own namespace: %s, %v", change.Name, change.Spec, err)
		}
		if change.UID == "knative" && spec.Revision != "hello-00002" {
			t.Errorf("revision %q", spec.Revision)
		}
	}
	if _, err := NewLog(Config{JobGroups: []string{"a*"}}, clock.NewManual(noon), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a glob as a label that groups Jobs was taken")
	}
}

func TestNodeHistory(t *testing.T) {
	l, clk := newTestLog(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "a", CreationTimestamp: stamp(-time.Hour)}}
	node.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), "nvidia.com/gpu": resource.MustParse("1")}
	node.Status.Allocatable = node.Status.Capacity
	set := func(ready corev1.ConditionStatus, at metav1.Time, cpu string) {
		node = node.DeepCopy()
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "KubeletNotReady", LastTransitionTime: at}}
		node.Status.Capacity[corev1.ResourceCPU] = resource.MustParse(cpu)
		l.SetNode(node)
		clk.Advance(time.Minute)
	}
	set(corev1.ConditionTrue, stamp(-time.Hour), "4")
	set(corev1.ConditionTrue, stamp(-time.Hour), "4")
	set(corev1.ConditionUnknown, stamp(90*time.Second), "4")
	set(corev1.ConditionTrue, stamp(170*time.Second), "8")
	l.DeleteNode(node)
	if diff := cmp.Diff([]string{"Node added", "Node unready", "Node ready", "Node deleted"}, reasons(l)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := l.Pending()[1].ValidFrom; !got.Equal(noon.Add(90 * time.Second)) {
		t.Errorf("unready from %s", got)
	}
	past := []reading.PastNode{{Until: noon.Add(3 * time.Minute), CapacityMillicores: 4000, AllocatableMilli: 4000}}
	if got := l.Nodes()[0]; got.CapacityMillicores != 8000 || !cmp.Equal(past, got.Past) {
		t.Errorf("node %+v, want the past %+v", got, past)
	}
	var spec NodeSpec
	if err := json.Unmarshal(l.Pending()[2].Spec, &spec); err != nil || spec.Extended["nvidia.com/gpu"] != 1 || len(spec.Extended) != 1 {
		t.Errorf("extended resources %v, %v", spec.Extended, err)
	}
}

// TestAnnotationsByAllowList: none is kept unless it is named; one that is stands among
// the labels under a name that no label has, also where the pod came trimmed.
func TestAnnotationsByAllowList(t *testing.T) {
	pod := newPod("u", nil)
	pod.Annotations = map[string]string{"example.com/cost-centre": "4711", "example.com/big": strings.Repeat("x", 300), "kubectl.kubernetes.io/last-applied-configuration": "secret"}
	for _, test := range []struct {
		globs []string
		want  map[string]string
	}{
		{nil, map[string]string{"app": "x"}},
		{[]string{"example.com/*"}, map[string]string{"app": "x", "annotation:example.com/cost-centre": "4711"}},
		{[]string{"*"}, map[string]string{"app": "x", "annotation:example.com/cost-centre": "4711", "annotation:kubectl.kubernetes.io/last-applied-configuration": "secret"}},
	} {
		l, err := NewLog(Config{Labels: []string{"app"}, Annotations: test.globs}, clock.NewManual(noon), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		trimmed, err := l.trim(pod.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		l.SetPod(trimmed.(*corev1.Pod))
		if diff := cmp.Diff(test.want, only(t, l).Labels); diff != "" {
			t.Errorf("%v: %s", test.globs, diff)
		}
	}
	if _, err := NewLog(Config{Annotations: []string{"["}}, clock.NewManual(noon), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "annotations") {
		t.Errorf("a glob that is none: %v", err)
	}
}
