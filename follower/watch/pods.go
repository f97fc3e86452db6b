package watch

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// mirrorAnnotation is on the API server's image of a static pod. Its value is
// the UID under which the kubelet runs it and names its cgroups; the image's
// own UID is another one.
const mirrorAnnotation = "kubernetes.io/config.mirror"

// EndReason of what was deleted before its end was seen.
const deletedReason = "Deleted"

func podUID(pod *corev1.Pod) string {
	if uid := pod.Annotations[mirrorAnnotation]; uid != "" {
		return uid
	}
	return string(pod.UID)
}

// SetPod takes a pod as the API server has it. A pod without a node is not yet
// of interest.
func (l *Log) SetPod(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o, isNew := l.pod(pod)
	l.update(o, pod, isNew)
}

// pod is the object of a pod. A static pod that was deleted and is there again
// under its UID goes on.
func (l *Log) pod(pod *corev1.Pod) (*object, bool) {
	uid := podUID(pod)
	before := l.objects[key{KindPod, uid}]
	gone := before != nil && !before.present
	o, isNew := l.get(KindPod, uid, l.namespace(pod.Namespace), l.name(KindPod, pod.Namespace, pod.Name))
	if _, ended := termination(pod); gone && !ended && o.pod.End != nil {
		o.pod.End, o.pod.EndReason, o.pod.ExitCode, o.forgotten = nil, "", 0, false
		l.record(o, ReasonReturned, l.clock.Now())
	}
	return o, isNew
}

// update moves the object to what the pod shows and records one change.
func (l *Log) update(o *object, pod *corev1.Pod, isNew bool) {
	now := l.clock.Now()
	reason, from := ReasonChanged, now
	l.describe(o, pod)
	if l.resolve(o) {
		reason = ReasonOwner
	}
	if o.pod.End == nil && l.resize(o, l.containers(pod), now) {
		reason = ReasonResized
	}
	created := o.pod.Created
	if pod.Annotations[mirrorAnnotation] != "" {
		created = time.Time{} // a static pod runs before the API server has it
	}
	off := clockOff(firstStart(pod), created, now)
	if start := firstStart(pod); !start.IsZero() && (o.pod.Start == nil || start.Add(off).Before(*o.pod.Start)) {
		start = start.Add(off)
		o.pod.Start = pointer(start)
		reason, from = ReasonStarted, start
	}
	if end, ended := termination(pod); ended && o.pod.End == nil {
		if end.at.IsZero() {
			end.at, end.server = now, true
		}
		if !end.server {
			end.at = end.at.Add(off)
		}
		end.at = possible(end.at, o.pod.Start, now)
		o.pod.End, o.pod.ExitCode, o.pod.EndReason = pointer(end.at), end.code, end.reason
		reason, from = ReasonEnded, end.at
	}
	if isNew {
		reason, from = ReasonAdded, o.pod.Created
	}
	l.record(o, reason, from)
}

// clockSlack is how far the clocks of nodes, API server and follower may be from
// each other.
const clockSlack = 30 * time.Second

// clockOff is what brings a node's times to ours, as far as a pod shows it: a
// kubelet tells times by the node's clock, and no pod starts before the API server
// has it, nor after now. What was told is believed up to the slack.
func clockOff(start, created, now time.Time) time.Duration {
	switch {
	case start.IsZero():
		return 0
	case !created.IsZero() && start.Before(created.Add(-clockSlack)):
		return created.Sub(start)
	case start.After(now.Add(clockSlack)):
		return now.Sub(start)
	}
	return 0
}

// possible is an end that lies neither before the start nor after now, again up
// to the slack: a clock may have been set while the pod ran.
func possible(end time.Time, start *time.Time, now time.Time) time.Time {
	if end.After(now.Add(clockSlack)) {
		end = now.UTC()
	}
	if start != nil && end.Before(start.Add(-clockSlack)) {
		end = *start
	}
	return end
}

// describe takes over what needs no history.
func (l *Log) describe(o *object, pod *corev1.Pod) {
	o.names = realNames{namespace: pod.Namespace, hash: pod.Labels["pod-template-hash"]}
	if first := controller(pod.OwnerReferences); first != nil {
		o.names.owner = first[0].Name
	}
	if o.pod.Owners == nil {
		o.pod.Owners = l.aliases(pod.Namespace, controller(pod.OwnerReferences))
	}
	if l.alias == nil {
		o.pod.TemplateHash = o.names.hash
	}
	o.pod.Node = pod.Spec.NodeName
	o.pod.HostNetwork = pod.Spec.HostNetwork
	o.pod.Metering = l.metering != "" && pod.Namespace == l.metering
	o.pod.Labels = l.pick(l.labelled(pod))
	o.pod.Created = pod.CreationTimestamp.UTC()
	o.pod.Claims = nil
	for _, claim := range claims(pod) {
		o.pod.Claims = append(o.pod.Claims, l.name(KindClaim, pod.Namespace, claim))
	}
	l.group(o, pod)
}

// containers are the pod's, as they are called here.
func (l *Log) containers(pod *corev1.Pod) []ContainerSpec {
	all := requests(pod)
	for i, c := range all {
		if c.Name != schema.PodRest {
			all[i].Name = l.name(kindContainer, "", c.Name)
		}
	}
	return all
}

// maxPast bounds how many of a pod's resizes, or of a node's sizes, are kept.
const maxPast = 100

// resize takes the containers over. What a running pod had before stays as its
// past, so that a window is always computed with what held in it.
func (l *Log) resize(o *object, containers []ContainerSpec, now time.Time) bool {
	before := o.pod.Containers
	same := reflect.DeepEqual(before, containers)
	o.pod.Containers = containers
	if same || len(before) == 0 || o.pod.Start == nil {
		return false
	}
	o.pod.Past = append(slices.Clip(o.pod.Past), PastRequests{Until: now.UTC(), Containers: before})
	o.pod.Past = o.pod.Past[max(0, len(o.pod.Past)-maxPast):]
	return true
}

// firstStart is when the first of the pod's containers started, as far as its
// statuses still tell; zero when none has.
func firstStart(pod *corev1.Pod) time.Time {
	var first time.Time
	ran := pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodSucceeded
	earlier := func(at metav1.Time) {
		if !at.IsZero() && at.Unix() > 0 && (first.IsZero() || at.Time.Before(first)) {
			first = at.UTC()
		}
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range statuses {
			ran = ran || status.RestartCount > 0
			for _, state := range []corev1.ContainerState{status.State, status.LastTerminationState} {
				if state.Running != nil {
					earlier(state.Running.StartedAt)
				}
				if state.Terminated != nil {
					earlier(state.Terminated.StartedAt)
				}
			}
		}
	}
	if first.IsZero() && ran && pod.Status.StartTime != nil { // the runtime lost the times
		return pod.Status.StartTime.UTC()
	}
	return first
}

// claims are the names of the volume claims that the pod mounts, those of its
// ephemeral volumes included.
func claims(pod *corev1.Pod) []string {
	var all []string
	for _, volume := range pod.Spec.Volumes {
		switch {
		case volume.PersistentVolumeClaim != nil:
			all = append(all, volume.PersistentVolumeClaim.ClaimName)
		case volume.Ephemeral != nil:
			all = append(all, pod.Name+"-"+volume.Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// DeletePod takes a pod's last state. A pod whose containers were not seen to
// stop ends now.
func (l *Log) DeletePod(pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.objects[key{KindPod, podUID(pod)}] == nil {
		if pod.Spec.NodeName == "" {
			return
		}
	}
	o, isNew := l.get(KindPod, podUID(pod), l.namespace(pod.Namespace), l.name(KindPod, pod.Namespace, pod.Name))
	if o.pod.End == nil {
		l.update(o, pod, isNew)
	}
	l.gone(o, ReasonDeleted)
}

// gone ends what is no longer there.
func (l *Log) gone(o *object, reason string) {
	o.present = false
	now := l.clock.Now()
	if o.end() == nil {
		switch o.kind {
		case KindPod:
			o.pod.End, o.pod.EndReason = pointer(now), deletedReason
		case KindNode:
			o.node.Left = pointer(now)
		case KindJob:
			o.job.End, o.job.EndReason = pointer(now), deletedReason
		case KindClaim:
			o.claim.End = pointer(now)
		case KindNamespace:
			o.space.End = pointer(now)
		}
		l.record(o, reason, now)
	}
	if o.forgotten {
		delete(l.objects, key{o.kind, o.uid})
	}
}

type ending struct {
	at     time.Time // zero = nobody says
	server bool      // at is by the API server's clock or ours, else by the node's
	code   int32
	reason string
}

// termination says whether the pod has ended, and how: when its last container
// finished, with the exit code and reason of the first container in the spec's
// order that failed, or the pod's own reason (Evicted) if it has one. One that has
// failed by no container's word, as when its node was lost, ends when Kubernetes gave it
// up, or else when that is seen, and has the reason for it (DeletionByPodGC): never the
// end of an init container that had done its work.
func termination(pod *corev1.Pod) (ending, bool) {
	all := append(append(append([]corev1.ContainerStatus(nil), pod.Status.ContainerStatuses...),
		pod.Status.InitContainerStatuses...), pod.Status.EphemeralContainerStatuses...)
	var end ending
	running, lost := len(pod.Status.ContainerStatuses) < len(pod.Spec.Containers), false
	for _, status := range all {
		stopped := status.State.Terminated
		if stopped == nil {
			running, lost = true, lost || status.State.Running != nil
			continue
		}
		if stopped.FinishedAt.After(end.at) {
			end.at = stopped.FinishedAt.UTC()
		}
		if end.reason == "" {
			end.reason = stopped.Reason
		}
		if end.code == 0 && stopped.ExitCode != 0 {
			end.code, end.reason = stopped.ExitCode, stopped.Reason
		}
	}
	if pod.Status.Phase == corev1.PodFailed && (end.code == 0 || lost) {
		reason, at := disruption(pod)
		if end.code == 0 {
			end.reason = cmp.Or(reason, string(corev1.PodFailed))
		}
		if lost {
			end.at, end.server = at, true
		}
	}
	if pod.Status.Reason != "" {
		end.reason = pod.Status.Reason
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return end, true
	}
	return end, pod.DeletionTimestamp != nil && !running
}

// disruption is why and when Kubernetes ended a pod that did not end by itself; zero
// where it says nothing.
func disruption(pod *corev1.Pod) (reason string, at time.Time) {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.DisruptionTarget && condition.Status == corev1.ConditionTrue {
			return condition.Reason, condition.LastTransitionTime.Time
		}
	}
	return "", time.Time{}
}
