package watch

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// Kinds of objects in a Change.
const (
	KindPod  = "Pod"
	KindNode = "Node"
	KindJob  = "Job"
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
)

// Change is one entry of the watch log: from ValidFrom on, the object was as
// Spec says. ValidFrom grows strictly for one UID, so it can be a row's time.
type Change struct {
	Kind, UID, Name, Namespace string
	ValidFrom                  time.Time
	Reason                     string
	Spec                       json.RawMessage // PodSpec, NodeSpec or JobSpec
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
	Created      time.Time         `json:"created"`
	Start        *time.Time        `json:"start,omitempty"`
	End          *time.Time        `json:"end,omitempty"`
	ExitCode     int32             `json:"exitCode,omitempty"`
	EndReason    string            `json:"endReason,omitempty"`
	Containers   []ContainerSpec   `json:"containers,omitempty"`
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
}

// JobSpec is what the log holds of a Job.
type JobSpec struct {
	Owner     *Owner            `json:"owner,omitempty"` // its controller: a CronJob, mostly
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
		WorkloadKind: s.WorkloadKind, Workload: s.Workload, OwnerKnown: s.OwnerKnown, Labels: s.Labels,
		Start: instant(s.Start), End: instant(s.End), ExitCode: s.ExitCode, EndReason: s.EndReason}
	if info.Start.IsZero() {
		info.Start = s.Created
	}
	for _, c := range s.Containers {
		info.Containers = append(info.Containers, reading.ContainerInfo(c))
	}
	return info
}

func (s NodeSpec) info(uid, name string) reading.NodeInfo {
	return reading.NodeInfo{Name: name, UID: uid, BootID: s.BootID, CapacityMillicores: s.CapacityMillicores,
		AllocatableMilli: s.AllocatableMilli, AllocatableMemoryKiB: s.AllocatableMemoryKiB, Joined: s.Joined, Left: instant(s.Left)}
}

func (s JobSpec) info(uid, namespace, name string) JobInfo {
	info := JobInfo{UID: uid, Namespace: namespace, Name: name, WorkloadKind: KindJob, Workload: name, Labels: s.Labels,
		Start: instant(s.Start), End: instant(s.End), Succeeded: s.Succeeded, EndReason: s.EndReason}
	if s.Owner != nil {
		info.WorkloadKind, info.Workload = s.Owner.Kind, s.Owner.Name
	}
	return info
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
