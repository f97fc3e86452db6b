package facts

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Kinds of objects and runs, the tag schema.Kind.
const (
	KindNode = "node"
	KindPod  = "pod"
)

// Reasons of an object row.
const (
	Added   = "added"
	Changed = "changed"
	Ended   = "ended"
)

// PodSpec is the field spec of a pod's object row, in JSON. Labels are those
// of the allow-list.
type PodSpec struct {
	Node         string            `json:"node"`
	WorkloadKind string            `json:"workloadKind,omitempty"`
	Workload     string            `json:"workload,omitempty"`
	OwnerKnown   bool              `json:"ownerKnown"`
	Labels       map[string]string `json:"labels,omitempty"`
	Start        time.Time         `json:"start,omitzero"`
	End          time.Time         `json:"end,omitzero"`
	ExitCode     int32             `json:"exitCode,omitempty"`
	EndReason    string            `json:"endReason,omitempty"`
	Containers   []ContainerSpec   `json:"containers,omitempty"`
}

// ContainerSpec is a container's requests and limits; zero is none.
type ContainerSpec struct {
	Name               string `json:"name"`
	RequestMillicores  int64  `json:"requestMillicores,omitempty"`
	LimitMillicores    int64  `json:"limitMillicores,omitempty"`
	RequestMemoryBytes int64  `json:"requestMemoryBytes,omitempty"`
	LimitMemoryBytes   int64  `json:"limitMemoryBytes,omitempty"`
	Init               bool   `json:"init,omitempty"`
	Sidecar            bool   `json:"sidecar,omitempty"`
}

// NodeSpec is the field spec of a node's object row, in JSON.
type NodeSpec struct {
	BootID                     string    `json:"bootId,omitempty"`
	CapacityMillicores         int64     `json:"capacityMillicores"`
	AllocatableMillicores      int64     `json:"allocatableMillicores"`
	AllocatableMemoryKibibytes int64     `json:"allocatableMemoryKibibytes"`
	Joined                     time.Time `json:"joined,omitzero"`
	Left                       time.Time `json:"left,omitzero"`
}

// identity is the key of an object: its uid, or its name where the source
// knows no uid.
type identity struct{ kind, namespace, name, uid string }

// object is one version of a pod or node, as a row holds it.
type object struct {
	identity
	spec  string // JSON
	begin time.Time
	end   time.Time // zero while it is there
	pod   reading.PodInfo
	node  reading.NodeInfo
}

func podObject(p reading.PodInfo) (object, error) {
	spec := PodSpec{Node: p.Node, WorkloadKind: p.WorkloadKind, Workload: p.Workload, OwnerKnown: p.OwnerKnown,
		Labels: p.Labels, Start: p.Start.UTC(), End: p.End.UTC(), ExitCode: p.ExitCode, EndReason: p.EndReason}
	for _, c := range p.Containers {
		spec.Containers = append(spec.Containers, ContainerSpec(c))
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return object{}, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return object{identity: identity{KindPod, p.Namespace, p.Name, p.UID}, spec: string(text),
		begin: p.Start, end: p.End, pod: p}, nil
}

func nodeObject(n reading.NodeInfo) (object, error) {
	text, err := json.Marshal(NodeSpec{BootID: n.BootID, CapacityMillicores: n.CapacityMillicores,
		AllocatableMillicores: n.AllocatableMilli, AllocatableMemoryKibibytes: n.AllocatableMemoryKiB,
		Joined: n.Joined.UTC(), Left: n.Left.UTC()})
	if err != nil {
		return object{}, fmt.Errorf("node %s: %w", n.Name, err)
	}
	return object{identity: identity{KindNode, "", n.Name, n.UID}, spec: string(text),
		begin: n.Joined, end: n.Left, node: n}, nil
}

// row is the object's row at a time.
func (o object) row(cluster, reason string, at time.Time) influxsync.Point {
	from := at
	if reason == Added && !o.begin.IsZero() && o.begin.Before(at) {
		from = o.begin
	}
	return influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Cluster: cluster, schema.Kind: o.kind,
		schema.Namespace: o.namespace, "name": o.name, "uid": o.uid}, map[string]influxsync.Value{
		"spec": influxsync.Str(o.spec), "reason": influxsync.Str(reason),
		"valid_from": influxsync.Int(from.UnixNano()), "valid_to": influxsync.Int(nanos(o.end))}, at)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// parseObject is the way back from a row.
func parseObject(p influxsync.Point) (object, error) {
	spec, _ := p.Field("spec")
	o := object{identity: identity{p.Tag(schema.Kind), p.Tag(schema.Namespace), p.Tag("name"), p.Tag("uid")}, spec: spec.Str()}
	switch o.kind {
	case KindPod:
		var s PodSpec
		if err := json.Unmarshal([]byte(o.spec), &s); err != nil {
			return object{}, fmt.Errorf("object row of pod %s/%s: %w", o.namespace, o.name, err)
		}
		o.begin, o.end = s.Start, s.End
		o.pod = reading.PodInfo{UID: o.uid, Namespace: o.namespace, Name: o.name, Node: s.Node, WorkloadKind: s.WorkloadKind,
			Workload: s.Workload, OwnerKnown: s.OwnerKnown, Labels: s.Labels, Start: s.Start, End: s.End,
			ExitCode: s.ExitCode, EndReason: s.EndReason}
		for _, c := range s.Containers {
			o.pod.Containers = append(o.pod.Containers, reading.ContainerInfo(c))
		}
	case KindNode:
		var s NodeSpec
		if err := json.Unmarshal([]byte(o.spec), &s); err != nil {
			return object{}, fmt.Errorf("object row of node %s: %w", o.name, err)
		}
		o.begin, o.end = s.Joined, s.Left
		o.node = reading.NodeInfo{Name: o.name, UID: o.uid, BootID: s.BootID, CapacityMillicores: s.CapacityMillicores,
			AllocatableMilli: s.AllocatableMillicores, AllocatableMemoryKiB: s.AllocatableMemoryKibibytes, Joined: s.Joined, Left: s.Left}
	default:
		return object{}, fmt.Errorf("object row of kind %q", o.kind)
	}
	return o, nil
}
