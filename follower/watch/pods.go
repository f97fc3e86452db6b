package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
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
	o, isNew := l.get(KindPod, uid, pod.Namespace, pod.Name)
	if _, ended := termination(pod); gone && !ended && o.pod.End != nil {
		o.pod.End, o.pod.EndReason, o.pod.ExitCode, o.forgotten = nil, "", 0, false
		l.record(o, ReasonReturned, l.clock.Now())
	}
	return o, isNew
}

// update moves the object to what the pod shows and records one change.
func (l *Log) update(o *object, pod *corev1.Pod, isNew bool) {
	reason, from := ReasonChanged, l.clock.Now()
	if o.pod.Owners == nil {
		o.pod.Owners = controller(pod.OwnerReferences)
	}
	o.pod.Node = pod.Spec.NodeName
	o.pod.HostNetwork = pod.Spec.HostNetwork
	o.pod.TemplateHash = pod.Labels["pod-template-hash"]
	o.pod.Labels = l.labels.pick(pod.Labels)
	o.pod.Created = pod.CreationTimestamp.UTC()
	o.pod.Containers = requests(pod)
	if l.resolve(o) {
		reason = ReasonOwner
	}
	if pod.Status.StartTime != nil && o.pod.Start == nil {
		reason, from = ReasonStarted, pod.Status.StartTime.UTC()
	}
	if pod.Status.StartTime != nil {
		o.pod.Start = pointer(pod.Status.StartTime.Time)
	}
	if end, ended := termination(pod); ended && o.pod.End == nil {
		if end.at.IsZero() {
			end.at = l.clock.Now()
		}
		o.pod.End, o.pod.ExitCode, o.pod.EndReason = pointer(end.at), end.code, end.reason
		reason, from = ReasonEnded, end.at
	}
	if isNew {
		reason, from = ReasonAdded, o.pod.Created
	}
	l.record(o, reason, from)
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
	o, isNew := l.get(KindPod, podUID(pod), pod.Namespace, pod.Name)
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
		}
		l.record(o, reason, now)
	}
	if o.forgotten {
		delete(l.objects, key{o.kind, o.uid})
	}
}

type ending struct {
	at     time.Time // zero = no container says
	code   int32
	reason string
}

// termination says whether the pod has ended, and how: when its last container
// finished, with the exit code and reason of the first container in the spec's
// order that failed, or the pod's own reason (Evicted) if it has one.
func termination(pod *corev1.Pod) (ending, bool) {
	all := append(append(append([]corev1.ContainerStatus(nil), pod.Status.ContainerStatuses...),
		pod.Status.InitContainerStatuses...), pod.Status.EphemeralContainerStatuses...)
	var end ending
	running := len(pod.Status.ContainerStatuses) < len(pod.Spec.Containers)
	for _, status := range all {
		stopped := status.State.Terminated
		if stopped == nil {
			running = true
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
	if pod.Status.Reason != "" {
		end.reason = pod.Status.Reason
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return end, true
	}
	return end, pod.DeletionTimestamp != nil && !running
}
