package watch

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// Kinds of objects in a Change.
const (
	KindPod       = "Pod"
	KindNode      = "Node"
	KindJob       = "Job"
	KindClaim     = "PersistentVolumeClaim"
	KindNamespace = "Namespace"
)

// Reasons of a Change.
const (
	ReasonAdded    = "added"    // seen for the first time
	ReasonChanged  = "changed"  // its labels, requests or capacity are others
	ReasonOwner    = "owner"    // its owner chain became known
	ReasonStarted  = "started"  // it has a start time
	ReasonEnded    = "ended"    // its last container stopped, the Job finished
	ReasonDeleted  = "deleted"  // it was deleted while it ran, the node left
	ReasonUnseen   = "unseen"   // it was gone when the watch came back
	ReasonReturned = "returned" // a static pod of the same UID runs again
	ReasonResized  = "resized"  // a running pod has other requests or limits, a claim another size
	ReasonReady    = "ready"    // a node became ready
	ReasonUnready  = "unready"  // a node ceased to be ready
)

// Change is one entry of the watch log: from ValidFrom on, the object was as
// Spec says. ValidFrom grows strictly for one UID, so it can be a row's time.
type Change struct {
	Kind, UID, Name, Namespace string
	ValidFrom                  time.Time
	Reason                     string
	Spec                       json.RawMessage // PodSpec, NodeSpec, JobSpec, ClaimSpec or NamespaceSpec
}

// PodSpec is what the log holds of a pod. Times are RFC 3339.
type PodSpec struct {
	Node         string            `json:"node"`
	WorkloadKind string            `json:"workloadKind,omitempty"`
	Workload     string            `json:"workload,omitempty"`
	OwnerKnown   bool              `json:"ownerKnown"`
	Owners       []Owner           `json:"owners,omitempty"` // from the pod upwards, as far as it is known
	TemplateHash string            `json:"templateHash,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	HostNetwork  bool              `json:"hostNetwork,omitempty"`
	Metering     bool              `json:"metering,omitempty"` // it is in the namespace of the metering itself
	Revision     string            `json:"revision,omitempty"` // of a Knative service
	Created      time.Time         `json:"created"`
	// Start is when its first container started, an init container included. It
	// is billed from there to End: a pod that waits for a node or for an image has
	// none.
	Start      *time.Time      `json:"start,omitempty"`
	End        *time.Time      `json:"end,omitempty"`
	ExitCode   int32           `json:"exitCode,omitempty"`
	EndReason  string          `json:"endReason,omitempty"`
	Containers []ContainerSpec `json:"containers,omitempty"`
	Past       []PastRequests  `json:"past,omitempty"`   // what it had before it was resized, oldest first
	Claims     []string        `json:"claims,omitempty"` // names of the volume claims it mounts
}

// PastRequests are a pod's containers as they were until a resize.
type PastRequests struct {
	Until      time.Time       `json:"until"`
	Containers []ContainerSpec `json:"containers,omitempty"`
}

// Owner is one step of an owner chain.
type Owner struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// ContainerSpec is a container's part of the requests.
type ContainerSpec struct {
	Name               string `json:"name"`
	RequestMillicores  int64  `json:"requestMillicores,omitempty"`
	LimitMillicores    int64  `json:"limitMillicores,omitempty"`
	RequestMemoryBytes int64  `json:"requestMemoryBytes,omitempty"`
	LimitMemoryBytes   int64  `json:"limitMemoryBytes,omitempty"`
	Init               bool   `json:"init,omitempty"`
	Sidecar            bool   `json:"sidecar,omitempty"`
	// Extended are the requests of all other resources by their names: devices in
	// pieces, ephemeral-storage and hugepages-* in bytes.
	Extended map[string]int64 `json:"extended,omitempty"`
}

// NodeSpec is what the log holds of a node.
type NodeSpec struct {
	BootID               string     `json:"bootID,omitempty"`
	Address              string     `json:"address,omitempty"`
	KubeletPort          int        `json:"kubeletPort,omitempty"`
	CapacityMillicores   int64      `json:"capacityMillicores"`
	AllocatableMilli     int64      `json:"allocatableMillicores"`
	AllocatableMemoryKiB int64      `json:"allocatableMemoryKiB"`
	Joined               time.Time  `json:"joined"`
	Left                 *time.Time `json:"left,omitempty"`
	// Ready says whether the kubelet can run pods, and ReadyReason why not.
	Ready         bool             `json:"ready"`
	ReadyReason   string           `json:"readyReason,omitempty"`
	Unschedulable bool             `json:"unschedulable,omitempty"`
	Extended      map[string]int64 `json:"extended,omitempty"` // allocatable, of all other resources
	Past          []PastNode       `json:"past,omitempty"`     // what it had before, oldest first
}

// PastNode is what a node had until a change of its size, or until a boot.
type PastNode struct {
	Until                time.Time `json:"until"`
	BootID               string    `json:"bootID,omitempty"`
	CapacityMillicores   int64     `json:"capacityMillicores"`
	AllocatableMilli     int64     `json:"allocatableMillicores"`
	AllocatableMemoryKiB int64     `json:"allocatableMemoryKiB"`
}

// JobSpec is what the log holds of a Job.
type JobSpec struct {
	Owner     *Owner            `json:"owner,omitempty"` // its controller: a CronJob, mostly
	Group     *Owner            `json:"group,omitempty"` // the group that a label names: it stands for the workload
	Labels    map[string]string `json:"labels,omitempty"`
	Created   time.Time         `json:"created"`
	Start     *time.Time        `json:"start,omitempty"`
	End       *time.Time        `json:"end,omitempty"`
	Succeeded bool              `json:"succeeded,omitempty"`
	EndReason string            `json:"endReason,omitempty"`
}

// JobInfo is a Job, finished ones until they are forgotten.
type JobInfo struct {
	UID, Namespace, Name   string
	WorkloadKind, Workload string // its CronJob or other controller, else itself
	Labels                 map[string]string
	Start, End             time.Time // zero = not yet
	Succeeded              bool
	EndReason              string
}

func (s PodSpec) info(uid, namespace, name string) reading.PodInfo {
	info := reading.PodInfo{UID: uid, Namespace: namespace, Name: name, Node: s.Node,
		WorkloadKind: s.WorkloadKind, Workload: s.Workload, OwnerKnown: s.OwnerKnown, Labels: s.Labels, Created: s.Created,
		Start: instant(s.Start), End: instant(s.End), ExitCode: s.ExitCode, EndReason: s.EndReason, Containers: infos(s.Containers), Claims: s.Claims}
	for _, past := range s.Past {
		info.Past = append(info.Past, reading.PastRequests{Until: past.Until, Containers: infos(past.Containers)})
	}
	return info
}

func infos(specs []ContainerSpec) []reading.ContainerInfo {
	var all []reading.ContainerInfo
	for _, c := range specs {
		all = append(all, reading.ContainerInfo{Name: c.Name, RequestMillicores: c.RequestMillicores, LimitMillicores: c.LimitMillicores,
			RequestMemoryBytes: c.RequestMemoryBytes, LimitMemoryBytes: c.LimitMemoryBytes, Init: c.Init, Sidecar: c.Sidecar})
	}
	return all
}

func (s NodeSpec) info(uid, name string) reading.NodeInfo {
	info := reading.NodeInfo{Name: name, UID: uid, BootID: s.BootID, CapacityMillicores: s.CapacityMillicores,
		AllocatableMilli: s.AllocatableMilli, AllocatableMemoryKiB: s.AllocatableMemoryKiB, Joined: s.Joined, Left: instant(s.Left)}
	for _, past := range s.Past {
		info.Past = append(info.Past, reading.PastNode(past))
	}
	return info
}

func (s JobSpec) info(uid, namespace, name string) JobInfo {
	info := JobInfo{UID: uid, Namespace: namespace, Name: name, WorkloadKind: KindJob, Workload: name, Labels: s.Labels,
		Start: instant(s.Start), End: instant(s.End), Succeeded: s.Succeeded, EndReason: s.EndReason}
	if top := s.Top(); top != nil {
		info.WorkloadKind, info.Workload = top.Kind, top.Name
	}
	return info
}

// Top is the workload that the Job belongs to; nil: it is one itself.
func (s JobSpec) Top() *Owner {
	if s.Group != nil {
		return s.Group
	}
	return s.Owner
}

func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// pointer is t in UTC, nil for zero.
func pointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// marshal is the spec as JSON: the same bytes for the same spec, since map keys
// are sorted.
func marshal(spec any) (json.RawMessage, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", spec, err)
	}
	return text, nil
}
