package simulator

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// Event is one change of a cluster's objects, as a watch tells it.
type Event struct {
	At      time.Time
	Deleted bool
	Object  runtime.Object // *corev1.Node, *appsv1.ReplicaSet, *batchv1.Job, *corev1.Pod
}

// Events are the changes in (from, to] without HTTP, oldest first; at one
// moment owners come before what they own. A history begins with what was
// there before it: from at the zero time gives that too. The Node objects have
// no kubelet port.
func (s *Simulator) Events(cluster string, from, to time.Time) []Event {
	a := &apiServer{sim: s, cluster: cluster}
	var all []Event
	for _, kind := range []string{"nodes", "replicasets", "jobs", "pods"} {
		for _, resource := range resources {
			if resource.plural != kind {
				continue
			}
			for _, c := range a.changes(request{resource: resource}, from, to) {
				all = append(all, Event{At: c.at, Deleted: c.event == "DELETED", Object: c.body})
			}
		}
	}
	slices.SortStableFunc(all, func(x, y Event) int { return x.At.Compare(y.At) })
	return all
}
