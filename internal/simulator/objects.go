package simulator

import (
	"fmt"
	"maps"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Linger is how long a finished Job and its pod stay in the API server.
const Linger = 3 * time.Minute

// resource is one collection of the API.
type resource struct {
	group  string // group and version, as in apiVersion
	plural string
	kind   string
	// lives are the objects that are there at some moment of [from, to].
	lives func(a *apiServer, from, to time.Time) []life
}

var resources = []resource{
	{"v1", "pods", "Pod", (*apiServer).podLives},
	{"v1", "nodes", "Node", (*apiServer).nodeLives},
	{"apps/v1", "replicasets", "ReplicaSet", (*apiServer).replicaSetLives},
	{"batch/v1", "jobs", "Job", (*apiServer).jobLives},
	{"v1", "namespaces", "Namespace", (*apiServer).namespaceLives},
	{"v1", "persistentvolumes", "PersistentVolume", (*apiServer).volumeLives},
	{"v1", "persistentvolumeclaims", "PersistentVolumeClaim", (*apiServer).claimLives},
	{"storage.k8s.io/v1", "storageclasses", "StorageClass", (*apiServer).classLives},
}

// object is one as it is served, with what selectors ask for.
type object struct {
	body        runtime.Object
	meta        metav1.ObjectMeta
	node, phase string
}

func (a *apiServer) meta(kind, namespace, name string, made, at time.Time) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: namespace, UID: a.uid(kind, namespace, name),
		CreationTimestamp: metav1.NewTime(made), ResourceVersion: version(at)}
}

// uid is an owner's; a pod has its own.
func (a *apiServer) uid(kind, namespace, name string) types.UID {
	return types.UID(uid(a.sim.fleet.Seed, kind, a.cluster, namespace, name))
}

func (a *apiServer) owner(version, kind, namespace, name string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: name, UID: a.uid(kind, namespace, name), Controller: &yes, BlockOwnerDeletion: &yes}}
}

// lingering are the cluster's instances whose objects are there in [from, to].
func (a *apiServer) lingering(from, to time.Time) []Instance {
	return a.sim.Instances(a.cluster, from.Add(-Linger), to)
}

// gone is when the instance's pod object is deleted.
func (i Instance) gone() time.Time {
	if !i.End.IsZero() && i.job() != "" {
		return i.End.Add(Linger)
	}
	return i.End
}

func (a *apiServer) podLives(from, to time.Time) []life {
	var all []life
	for _, i := range a.lingering(from, to) {
		moments := append([]time.Time{i.End}, a.sim.node(a.cluster, i.Node).Boots...)
		for _, c := range i.pod.Containers {
			for _, restart := range c.Restarts {
				moments = append(moments, i.Start.Add(restart))
			}
		}
		all = append(all, newLife(i.Start, i.gone(), moments, func(at time.Time) object { return a.pod(i, at) }))
	}
	return all
}

// pod is the instance's object as it changed at at.
func (a *apiServer) pod(i Instance, at time.Time) object {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: a.meta("Pod", i.Namespace, i.Name, i.Start, at)}
	p.UID = types.UID(i.UID)
	p.Labels = a.labels(i)
	switch i.pod.Kind {
	case "Deployment":
		p.OwnerReferences = a.owner("apps/v1", "ReplicaSet", i.Namespace, replicaSet(i))
	case "StatefulSet", "DaemonSet":
		p.OwnerReferences = a.owner("apps/v1", i.pod.Kind, i.Namespace, i.Workload)
	case "CronJob", "Job":
		p.OwnerReferences = a.owner("batch/v1", "Job", i.Namespace, i.job())
	}
	p.Spec.NodeName = i.Node
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	if i.job() != "" {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
	for _, c := range i.pod.Claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "v-" + c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name}}})
	}
	start := metav1.NewTime(i.Start)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &start, HostIP: "127.0.0.1", QOSClass: qosClass(i.pod)}
	ended := !i.End.IsZero() && !at.Before(i.End)
	if ended {
		p.Status.Phase = corev1.PodSucceeded
		if i.pod.ExitCode != 0 {
			p.Status.Phase = corev1.PodFailed
		}
		if i.job() == "" {
			end := metav1.NewTime(i.End)
			p.DeletionTimestamp = &end
		}
	}
	for c := range i.pod.Containers {
		container := &i.pod.Containers[c]
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: container.Name, Image: image(i, container), Resources: container.resources()})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, a.containerStatus(i, container, at, ended))
	}
	ready := corev1.ConditionTrue
	if ended {
		ready = corev1.ConditionFalse
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: start},
		{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(at)}}
	return object{body: p, meta: p.ObjectMeta, node: i.Node, phase: string(p.Status.Phase)}
}

func (a *apiServer) containerStatus(i Instance, c *Container, at time.Time, ended bool) corev1.ContainerStatus {
	moment := at
	if ended {
		moment = i.End.Add(-1)
	}
	started, restarts := a.sim.containerEpoch(i, c, moment)
	id := "containerd://" + a.sim.containerHash(i, c, started)
	s := corev1.ContainerStatus{Name: c.Name, Image: image(i, c), ContainerID: id, RestartCount: int32(restarts), Ready: !ended}
	if ended {
		s.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: i.pod.ExitCode, Reason: i.reason(), ContainerID: id,
			StartedAt: metav1.NewTime(started), FinishedAt: metav1.NewTime(i.End)}
		return s
	}
	s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(started)}
	return s
}

// labels are the template's and those that its controller adds.
func (a *apiServer) labels(i Instance) map[string]string {
	labels := maps.Clone(i.pod.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	switch i.pod.Kind {
	case "Deployment":
		labels["pod-template-hash"] = strings.TrimPrefix(replicaSet(i), i.Workload+"-")
	case "StatefulSet":
		labels["statefulset.kubernetes.io/pod-name"] = i.Name
	case "CronJob", "Job":
		labels["batch.kubernetes.io/job-name"] = i.job()
	}
	return labels
}

// replicaSet is the owner of a Deployment's pod: its name without the suffix.
func replicaSet(i Instance) string {
	if at := strings.LastIndex(i.pod.Name, "-"); at > len(i.Workload) {
		return i.pod.Name[:at]
	}
	return i.Workload + "-0"
}

func qosClass(p *Pod) corev1.PodQOSClass {
	switch p.qos() {
	case "besteffort":
		return corev1.PodQOSBestEffort
	case "burstable":
		return corev1.PodQOSBurstable
	}
	return corev1.PodQOSGuaranteed
}

func (c Container) resources() corev1.ResourceRequirements {
	list := func(millicores, bytes int64) corev1.ResourceList {
		all := corev1.ResourceList{}
		if millicores > 0 {
			all[corev1.ResourceCPU] = *apiresource.NewMilliQuantity(millicores, apiresource.DecimalSI)
		}
		if bytes > 0 {
			all[corev1.ResourceMemory] = *apiresource.NewQuantity(bytes, apiresource.BinarySI)
		}
		return all
	}
	return corev1.ResourceRequirements{Requests: list(c.RequestMillicores, c.RequestMemoryBytes), Limits: list(c.LimitMillicores, c.LimitMemoryBytes)}
}

func (a *apiServer) nodeLives(_, _ time.Time) []life {
	var all []life
	c := a.sim.cluster(a.cluster)
	for n := range c.Nodes {
		node := &c.Nodes[n]
		all = append(all, newLife(node.Joined, node.Left, node.Boots, func(at time.Time) object { return a.node(node, at) }))
	}
	return all
}

func (a *apiServer) node(n *Node, at time.Time) object {
	o := &corev1.Node{TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}, ObjectMeta: a.meta("Node", "", n.Name, n.Joined, at)}
	o.Labels = map[string]string{"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
	list := func(millicores, bytes int64) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: *apiresource.NewMilliQuantity(millicores, apiresource.DecimalSI),
			corev1.ResourceMemory: *apiresource.NewQuantity(bytes, apiresource.BinarySI),
			corev1.ResourcePods:   *apiresource.NewQuantity(110, apiresource.DecimalSI)}
	}
	millicores, bytes := n.allocatable()
	o.Status.Capacity, o.Status.Allocatable = list(int64(n.Cores)*1000, n.MemoryBytes), list(millicores, bytes)
	o.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeHostName, Address: n.Name}}
	o.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(a.ports[n.Name])
	o.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.NewTime(at), LastTransitionTime: metav1.NewTime(at)}}
	o.Status.NodeInfo = corev1.NodeSystemInfo{BootID: a.sim.bootID(a.cluster, n, at), MachineID: strings.ReplaceAll(string(o.UID), "-", ""),
		SystemUUID: string(o.UID), KubeletVersion: "v1.37.2", OperatingSystem: "linux", Architecture: "amd64",
		OSImage: "Debian GNU/Linux 12 (bookworm)", KernelVersion: "6.1.0", ContainerRuntimeVersion: "containerd://2.0.0"}
	return object{body: o, meta: o.ObjectMeta}
}

// allocatable is what pods may request, in millicores and B.
func (n *Node) allocatable() (millicores, bytes int64) {
	millicores, bytes = n.AllocatableMillicores, n.AllocatableMemoryBytes
	if millicores == 0 {
		millicores = int64(n.Cores) * 1000
	}
	if bytes == 0 {
		bytes = n.MemoryBytes
	}
	return millicores, bytes
}

// replicaSetLives has one for each name of the templates: it was there with
// its first pod, and stays when its pods went.
func (a *apiServer) replicaSetLives(_, _ time.Time) []life {
	first := make(map[[2]string]Instance)
	var names [][2]string
	c := a.sim.cluster(a.cluster)
	for p := range c.Pods {
		if c.Pods[p].Kind != "Deployment" {
			continue
		}
		i := a.sim.instance(a.cluster, &c.Pods[p], 0)
		name := [2]string{i.Namespace, replicaSet(i)}
		known, seen := first[name]
		if !seen {
			names = append(names, name)
		}
		if !seen || i.Start.Before(known.Start) {
			first[name] = i
		}
	}
	var all []life
	for _, name := range names {
		i := first[name]
		all = append(all, newLife(i.Start, time.Time{}, nil, func(at time.Time) object { return a.replicaSet(i, at) }))
	}
	return all
}

// replicaSet is the owner of the Deployment's instance.
func (a *apiServer) replicaSet(i Instance, at time.Time) object {
	set := &appsv1.ReplicaSet{TypeMeta: metav1.TypeMeta{Kind: "ReplicaSet", APIVersion: "apps/v1"},
		ObjectMeta: a.meta("ReplicaSet", i.Namespace, replicaSet(i), i.Start, at)}
	set.Labels = a.labels(i)
	set.OwnerReferences = a.owner("apps/v1", "Deployment", i.Namespace, i.Workload)
	return object{body: set, meta: set.ObjectMeta}
}

func (a *apiServer) jobLives(from, to time.Time) []life {
	var all []life
	for _, i := range a.lingering(from, to) {
		if i.job() == "" {
			continue
		}
		all = append(all, newLife(i.Start, i.gone(), []time.Time{i.End}, func(at time.Time) object { return a.job(i, at) }))
	}
	return all
}

func (a *apiServer) job(i Instance, at time.Time) object {
	job := &batchv1.Job{TypeMeta: metav1.TypeMeta{Kind: "Job", APIVersion: "batch/v1"}, ObjectMeta: a.meta("Job", i.Namespace, i.job(), i.Start, at)}
	job.Labels = maps.Clone(i.pod.Labels)
	if i.pod.Kind == "CronJob" {
		job.OwnerReferences = a.owner("batch/v1", "CronJob", i.Namespace, i.pod.Name)
		job.Annotations = map[string]string{"batch.kubernetes.io/cronjob-scheduled-timestamp": i.Start.UTC().Format(time.RFC3339)}
	}
	start := metav1.NewTime(i.Start)
	job.Status.StartTime, job.Status.Active = &start, 1
	if !i.End.IsZero() && !at.Before(i.End) {
		job.Status.Active = 0
		condition := batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(i.End)}
		if i.pod.ExitCode == 0 {
			end := metav1.NewTime(i.End)
			job.Status.Succeeded, job.Status.CompletionTime = 1, &end
		} else {
			job.Status.Failed, condition.Type = 1, batchv1.JobFailed
			condition.Message = fmt.Sprintf("exit code %d", i.pod.ExitCode)
		}
		job.Status.Conditions = []batchv1.JobCondition{condition}
	}
	return object{body: job, meta: job.ObjectMeta}
}
