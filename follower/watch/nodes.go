package watch

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// kubeletPort is the kubelet's where the node does not say another.
const kubeletPort = 10250

// SetNode takes a node as the API server has it.
func (l *Log) SetNode(node *corev1.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, isNew := l.get(KindNode, string(node.UID), "", node.Name)
	before := o.node
	o.node = NodeSpec{
		BootID:               node.Status.NodeInfo.BootID,
		Address:              address(node),
		KubeletPort:          cmp.Or(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port), kubeletPort),
		CapacityMillicores:   node.Status.Capacity.Cpu().MilliValue(),
		AllocatableMilli:     node.Status.Allocatable.Cpu().MilliValue(),
		AllocatableMemoryKiB: node.Status.Allocatable.Memory().Value() >> 10,
		Joined:               node.CreationTimestamp.UTC(),
		Left:                 before.Left,
		Unschedulable:        node.Spec.Unschedulable,
		Extended:             others(node.Status.Allocatable),
		Past:                 before.Past,
	}
	now := l.clock.Now()
	reason, from := ReasonChanged, now
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if o.node.Ready = condition.Status == corev1.ConditionTrue; !o.node.Ready {
			o.node.ReadyReason = condition.Reason
		}
		if o.node.Ready != before.Ready {
			if reason = ReasonUnready; o.node.Ready {
				reason = ReasonReady
			}
			if at := condition.LastTransitionTime.Time; !at.IsZero() && at.Before(now) {
				from = at
			}
		}
	}
	if isNew {
		l.record(o, ReasonAdded, o.node.Joined)
		return
	}
	if past := before.past(now.UTC()); past != o.node.past(now.UTC()) {
		o.node.Past = append(slices.Clip(o.node.Past), past)
		o.node.Past = o.node.Past[max(0, len(o.node.Past)-maxPast):]
	}
	l.record(o, reason, from)
}

func (s NodeSpec) past(until time.Time) PastNode {
	return PastNode{Until: until, BootID: s.BootID, CapacityMillicores: s.CapacityMillicores,
		AllocatableMilli: s.AllocatableMilli, AllocatableMemoryKiB: s.AllocatableMemoryKiB}
}

// others are the extended resources that a node gives; nil when it has none.
// Its storage and its number of pods are none.
func others(list corev1.ResourceList) map[string]int64 {
	all := extended(resourcesOf(list))
	for _, usual := range []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceEphemeralStorage} {
		delete(all, string(usual))
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// DeleteNode takes a node's last state: it left now.
func (l *Log) DeleteNode(node *corev1.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.objects[key{KindNode, string(node.UID)}]; o != nil {
		l.gone(o, ReasonDeleted)
	}
}

// address is where the node's kubelet is asked: from inside the cluster if it
// can be.
func address(node *corev1.Node) string {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeInternalDNS, corev1.NodeExternalIP, corev1.NodeHostName} {
		for _, a := range node.Status.Addresses {
			if a.Type == kind && a.Address != "" {
				return a.Address
			}
		}
	}
	return ""
}

// synced says that everything of the kind was shown: what was restored and is
// not there ended while nobody watched. Owners must have been shown before.
func (l *Log) synced(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.objects {
		if o.kind != kind || o.present {
			continue
		}
		if kind == KindPod {
			o.asked = true
			if l.resolve(o) {
				l.record(o, ReasonOwner, l.clock.Now())
			}
		}
		l.gone(o, ReasonUnseen)
	}
}
