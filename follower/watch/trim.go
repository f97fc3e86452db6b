package watch

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
)

// trim drops from an object what the log does not need, before it is kept in
// memory: the informers hold every object of the cluster.
func (l *Log) trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetFinalizers(nil)
		annotations := accessor.GetAnnotations()
		kept := l.annotations.pick(annotations)
		if mirror := annotations[mirrorAnnotation]; mirror != "" {
			if kept == nil {
				kept = make(map[string]string)
			}
			kept[mirrorAnnotation] = mirror
		}
		accessor.SetAnnotations(kept)
		accessor.SetLabels(l.needed(accessor.GetLabels()))
	}
	switch o := object.(type) {
	case *corev1.Node:
		o.Spec = corev1.NodeSpec{Unschedulable: o.Spec.Unschedulable}
		o.Status = corev1.NodeStatus{Capacity: o.Status.Capacity, Allocatable: o.Status.Allocatable, Addresses: o.Status.Addresses,
			DaemonEndpoints: o.Status.DaemonEndpoints, NodeInfo: corev1.NodeSystemInfo{BootID: o.Status.NodeInfo.BootID},
			Conditions: slices.DeleteFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type != corev1.NodeReady })}
	case *corev1.Namespace:
		o.Spec, o.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	case *appsv1.ReplicaSet:
		o.Spec, o.Status = appsv1.ReplicaSetSpec{}, appsv1.ReplicaSetStatus{}
	case *batchv1.Job:
		o.Spec = batchv1.JobSpec{}
	case *corev1.PersistentVolume:
		spec := corev1.PersistentVolumeSpec{NodeAffinity: o.Spec.NodeAffinity}
		spec.Local, spec.HostPath = o.Spec.Local, o.Spec.HostPath
		o.Spec, o.Status = spec, corev1.PersistentVolumeStatus{}
	case *corev1.PersistentVolumeClaim:
		o.Spec = corev1.PersistentVolumeClaimSpec{StorageClassName: o.Spec.StorageClassName, VolumeName: o.Spec.VolumeName, Resources: o.Spec.Resources}
		o.Status = corev1.PersistentVolumeClaimStatus{Phase: o.Status.Phase, Capacity: o.Status.Capacity}
	case *storagev1.StorageClass:
		*o = storagev1.StorageClass{TypeMeta: o.TypeMeta, ObjectMeta: o.ObjectMeta, Provisioner: o.Provisioner}
	case *corev1.Pod:
		trimPod(o)
	}
	return object, nil
}

// needed are the labels that the log reads; of the pods' own, a few say who the
// workload is.
func (l *Log) needed(labels map[string]string) map[string]string {
	needed := make(map[string]string)
	for label, value := range labels {
		if l.labels.allows(label) || label == "pod-template-hash" || label == knativeService || label == knativeRevision ||
			slices.Contains(l.groups, label) {
			needed[label] = value
		}
	}
	if len(needed) == 0 {
		return nil
	}
	return needed
}

func trimPod(o *corev1.Pod) {
	spec := corev1.PodSpec{NodeName: o.Spec.NodeName, HostNetwork: o.Spec.HostNetwork, Overhead: o.Spec.Overhead, Resources: o.Spec.Resources,
		Containers: trimContainers(o.Spec.Containers), InitContainers: trimContainers(o.Spec.InitContainers)}
	for _, volume := range o.Spec.Volumes {
		kept := corev1.Volume{Name: volume.Name}
		switch {
		case volume.PersistentVolumeClaim != nil:
			kept.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: volume.PersistentVolumeClaim.ClaimName}
		case volume.Ephemeral != nil:
			kept.Ephemeral = &corev1.EphemeralVolumeSource{}
		default:
			continue
		}
		spec.Volumes = append(spec.Volumes, kept)
	}
	o.Spec = spec
	status := corev1.PodStatus{Phase: o.Status.Phase, Reason: o.Status.Reason, StartTime: o.Status.StartTime,
		Resources: o.Status.Resources, AllocatedResources: o.Status.AllocatedResources,
		ContainerStatuses:          trimStatuses(o.Status.ContainerStatuses),
		InitContainerStatuses:      trimStatuses(o.Status.InitContainerStatuses),
		EphemeralContainerStatuses: trimStatuses(o.Status.EphemeralContainerStatuses)}
	for _, condition := range o.Status.Conditions {
		if condition.Type == corev1.PodResizePending {
			status.Conditions = append(status.Conditions, corev1.PodCondition{Type: condition.Type, Reason: condition.Reason})
		}
	}
	o.Status = status
}

// trimContainers keeps of each container what requests reads.
func trimContainers(containers []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for _, c := range containers {
		kept = append(kept, corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy,
			Resources: corev1.ResourceRequirements{Requests: c.Resources.Requests, Limits: c.Resources.Limits}})
	}
	return kept
}

// trimStatuses keeps of each status what requests, firstStart and termination
// read.
func trimStatuses(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for _, s := range statuses {
		for _, state := range []*corev1.ContainerState{&s.State, &s.LastTerminationState} {
			state.Waiting = nil
			if t := state.Terminated; t != nil {
				state.Terminated = &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, Reason: t.Reason, StartedAt: t.StartedAt, FinishedAt: t.FinishedAt}
			}
		}
		kept = append(kept, corev1.ContainerStatus{Name: s.Name, State: s.State, LastTerminationState: s.LastTerminationState,
			RestartCount: s.RestartCount, AllocatedResources: s.AllocatedResources, Resources: s.Resources})
	}
	return kept
}
