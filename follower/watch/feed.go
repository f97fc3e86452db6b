package watch

import (
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// PutPod takes a pod from a source that has no API server. Its owner chain is
// as the spec says.
func (l *Log) PutPod(uid, namespace, name string, spec PodSpec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, isNew := l.get(KindPod, uid, namespace, name)
	spec.OwnerKnown = true
	spec.Labels = maps.Clone(spec.Labels)
	spec.Containers = slices.Clone(spec.Containers)
	o.pod = spec
	l.put(o, isNew, spec.Created)
}

// PutEnded takes those of the pods that have ended, from one who knows what ran
// before the log began; of those that live the API server tells.
func (l *Log) PutEnded(pods []reading.PodInfo) {
	for _, pod := range pods {
		if pod.End.IsZero() {
			continue
		}
		spec := PodSpec{Node: pod.Node, WorkloadKind: pod.WorkloadKind, Workload: pod.Workload, Labels: pod.Labels,
			Created: pod.Start, Start: &pod.Start, End: &pod.End, ExitCode: pod.ExitCode, EndReason: pod.EndReason}
		for _, c := range pod.Containers {
			spec.Containers = append(spec.Containers, ContainerSpec{Name: c.Name, RequestMillicores: c.RequestMillicores,
				LimitMillicores: c.LimitMillicores, RequestMemoryBytes: c.RequestMemoryBytes, LimitMemoryBytes: c.LimitMemoryBytes})
		}
		l.PutPod(pod.UID, pod.Namespace, pod.Name, spec)
	}
}

// PutNode takes a node from a source that has no API server. Joined is set at
// its first sight.
func (l *Log) PutNode(uid, name string, spec NodeSpec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, isNew := l.get(KindNode, uid, "", name)
	spec.Joined = o.node.Joined
	if isNew {
		spec.Joined = l.clock.Now()
	}
	o.node = spec
	l.put(o, isNew, spec.Joined)
}

func (l *Log) put(o *object, isNew bool, first time.Time) {
	if isNew {
		l.record(o, ReasonAdded, first)
		return
	}
	l.record(o, ReasonChanged, l.clock.Now())
}

// EndMissing ends now every pod whose UID is not in present, and says which.
func (l *Log) EndMissing(present map[string]bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ended []string
	for _, o := range l.objects {
		if o.kind == KindPod && o.pod.End == nil && !present[o.uid] {
			l.gone(o, ReasonDeleted)
			ended = append(ended, o.uid)
		}
	}
	return ended
}
