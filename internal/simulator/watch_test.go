package simulator

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

func client(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// event is what an informer told of a pod.
type event struct {
	kind string
	pod  *corev1.Pod
}

// informer watches the pods of a server and passes on what happens.
func informer(t *testing.T, s *Server, cluster string) (cache.SharedIndexInformer, <-chan event) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(client(t, s.RESTConfig(cluster)), 0)
	pods := factory.Core().V1().Pods().Informer()
	events := make(chan event, 1000)
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { events <- event{"added", o.(*corev1.Pod)} },
		UpdateFunc: func(_, o any) { events <- event{"updated", o.(*corev1.Pod)} },
		DeleteFunc: func(o any) {
			if pod, ok := o.(*corev1.Pod); ok {
				events <- event{"deleted", pod}
			}
		},
	}); err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	if !cache.WaitForCacheSync(t.Context().Done(), pods.HasSynced) {
		t.Fatal("not synced")
	}
	return pods, events
}

func TestAnInformerFollowsTheFleet(t *testing.T) {
	clk := clock.NewManual(start.Add(2 * time.Minute))
	s := startServer(t, Varying(start), clk)
	pods, events := informer(t, s, "varying")
	if got := len(pods.GetStore().List()); got != 5 {
		t.Fatalf("%d pods at first, want 5", got)
	}
	for range 5 {
		if e := <-events; e.kind != "added" {
			t.Fatalf("%s %s", e.kind, e.pod.Name)
		}
	}
	next := func(kind string, phase corev1.PodPhase) *corev1.Pod {
		t.Helper()
		e := <-events
		if e.kind != kind || e.pod.Status.Phase != phase {
			t.Fatalf("%s %s %s, want %s %s", e.kind, e.pod.Name, e.pod.Status.Phase, kind, phase)
		}
		return e.pod
	}
	clk.Advance(2 * time.Minute) // the first run of the CronJob
	run := next("added", corev1.PodRunning)
	if owner := run.OwnerReferences[0]; owner.Kind != "Job" || run.Spec.NodeName != "n1" || !run.Status.StartTime.Equal(&metav1.Time{Time: start.Add(4 * time.Minute)}) {
		t.Errorf("run %+v", run)
	}
	clk.Advance(75 * time.Second)
	ended := next("updated", corev1.PodSucceeded)
	if state := ended.Status.ContainerStatuses[0].State.Terminated; state == nil || !state.FinishedAt.Time.Equal(start.Add(4*time.Minute+75*time.Second)) {
		t.Errorf("state %+v", ended.Status.ContainerStatuses[0].State)
	}
	clk.Set(start.Add(4*time.Minute + 75*time.Second + Linger))
	if second := next("added", corev1.PodRunning); second.Name == run.Name {
		t.Error("two runs of one name")
	}
	if gone := next("deleted", corev1.PodSucceeded); gone.UID != run.UID {
		t.Errorf("deleted %s", gone.Name)
	}
	clk.Set(start.Add(91 * time.Minute)) // a leap: everything between comes, in order
	deleted := false
	for !deleted {
		e := <-events
		deleted = e.kind == "deleted" && e.pod.OwnerReferences[0].Kind == "ReplicaSet"
	}
	want := make(map[string]bool)
	for _, i := range s.Instances("varying", clk.Now().Add(-Linger), clk.Now()) {
		if gone := i.gone(); gone.IsZero() || gone.After(clk.Now()) {
			want[i.UID] = true
		}
	}
	for len(pods.GetStore().List()) != len(want) {
		<-events
	}
	for _, o := range pods.GetStore().List() {
		if !want[string(o.(*corev1.Pod).UID)] {
			t.Errorf("pod %s in the store", o.(*corev1.Pod).Name)
		}
	}
}

func TestABrokenWatchIsTakenUpWhereItEnded(t *testing.T) {
	clk := clock.NewManual(start.Add(2 * time.Minute))
	s := startServer(t, Varying(start), clk)
	_, events := informer(t, s, "varying")
	for range 5 {
		<-events
	}
	s.SetAPIFault("varying", Fault{Down: true})
	clk.Advance(3 * time.Minute) // a pod began meanwhile
	s.SetAPIFault("varying", Fault{Expired: true})
	for e := range events {
		if e.kind == "added" && e.pod.OwnerReferences[0].Kind == "Job" {
			return
		}
		if e.kind != "updated" { // by the list that follows a version that is too old
			t.Errorf("%s %s", e.kind, e.pod.Name)
		}
	}
}

func TestListsAndGets(t *testing.T) {
	clk := clock.NewManual(start.Add(132*time.Minute + 10*time.Second))
	s := startServer(t, Varying(start), clk)
	c, ctx := client(t, s.RESTConfig("varying")), t.Context()
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 2 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	n2 := nodes.Items[1]
	port := s.kubelet("varying", "n2").url
	if n2.Status.NodeInfo.BootID != s.bootID("varying", s.node("varying", "n2"), clk.Now()) || n2.Status.NodeInfo.BootID == s.bootID("varying", s.node("varying", "n2"), start) ||
		n2.Status.Addresses[0].Address != "127.0.0.1" || port[len("https://127.0.0.1:"):] == "0" || n2.Status.Allocatable.Cpu().MilliValue() != 3800 {
		t.Errorf("node %+v, kubelet at %s", n2.Status, port)
	}
	web, err := c.CoreV1().Pods("team-a").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n2,status.phase=Running"})
	if err != nil || len(web.Items) != 2 {
		t.Fatalf("%d pods, %v", len(web.Items), err)
	}
	for _, pod := range web.Items {
		set, err := c.AppsV1().ReplicaSets("team-a").Get(ctx, pod.OwnerReferences[0].Name, metav1.GetOptions{})
		if err != nil || set.UID != pod.OwnerReferences[0].UID || set.OwnerReferences[0].Kind != "Deployment" || set.OwnerReferences[0].Name != "web" {
			t.Errorf("owner of %s: %+v %v", pod.Name, set, err)
		}
	}
	restarted := slices.IndexFunc(web.Items, func(p corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount == 3 })
	if restarted < 0 { // two of its own and the node's boot
		t.Error("no container restarted three times")
	}
	jobs, err := c.BatchV1().Jobs("").List(ctx, metav1.ListOptions{})
	if err != nil || len(jobs.Items) != 2 || jobs.Items[0].OwnerReferences[0].Kind != "CronJob" || jobs.Items[0].Status.Succeeded != 1 {
		t.Errorf("jobs %+v, %v", jobs.Items, err)
	}
	if _, err := c.CoreV1().Pods("team-a").Get(ctx, "nobody", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a pod that is not there: %v", err)
	}
	if _, err := c.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a resource that is not served: %v", err)
	}
}

func TestAPIServerAsksForAToken(t *testing.T) {
	s := startServer(t, Shared(start), clock.NewManual(start.Add(time.Hour)))
	access := s.Access("red")
	for token, want := range map[string]int{"": http.StatusUnauthorized, s.Access("blue").Token: http.StatusUnauthorized,
		access.Denied: http.StatusForbidden, access.Token: http.StatusOK} {
		if status, _, _, err := get(t, s, access.URL+"/api/v1/pods", token); status != want || err != nil {
			t.Errorf("pods with token %.4q: %d %v, want %d", token, status, err, want)
		}
	}
	status, body, header, err := get(t, s, access.URL+"/healthz", "")
	if status != http.StatusOK || body != "ok" || header.Get("Date") != "Mon, 02 Nov 2026 10:00:00 GMT" || err != nil {
		t.Errorf("healthz: %d %q %v %v", status, body, header, err)
	}
}
