// Package reading is what a source hands to the meter: counters and gauges as
// they were read, each with the sample's own time and the life of its counter.
// It computes nothing.
package reading

import "time"

// Kind says which part of a node was read.
type Kind string

// The kinds, from the whole to its parts: node ⊇ kubepods ⊇ pod ⊇ container.
const (
	Node      Kind = "node"
	Kubepods  Kind = "kubepods" // the parent cgroup of all pods
	Pod       Kind = "pod"
	Container Kind = "container" // the sandbox is no container
)

// Series is the identity of what was read. Fields that do not apply are "".
type Series struct {
	Kind      Kind
	Node      string
	Namespace string
	Pod       string
	PodUID    string
	Container string
}

// Quantity indexes Values.
type Quantity uint8

// Counters come first, then gauges.
const (
	CPU             Quantity = iota // core-µs, floored as a counter
	NetworkReceive                  // B
	NetworkTransmit                 // B
	DiskRead                        // B
	DiskWrite                       // B
	Processor                       // energy that a node's processors counted of themselves (RAPL), mJ; it begins at any value
	Memory                          // working set, B (gauge)
	Filesystem                      // used, B (gauge)
	Ephemeral                       // a pod's use of its node's disk, B (gauge)
	Quantities                      // how many there are
)

// Counters is the number of leading quantities that only grow.
const Counters = Memory

// Values are those quantities of a reading that its source counted.
type Values struct {
	v   [Quantities]int64
	has uint16
}

// Set records a quantity.
func (v *Values) Set(q Quantity, value int64) { v.v[q], v.has = value, v.has|1<<q }

// Drop takes a quantity back.
func (v *Values) Drop(q Quantity) { v.v[q], v.has = 0, v.has&^(1<<q) }

// Get is a quantity, and whether the source counted it.
func (v Values) Get(q Quantity) (int64, bool) { return v.v[q], v.has&(1<<q) != 0 }

// Reading is one sample of one series.
type Reading struct {
	Series
	Time   time.Time // the sample's own time on the source's clock, ms precision
	Epoch  time.Time // when this counter's life began: container start, pod start, node boot
	Values Values
}

// Body is what one request to one node answered. Its samples have moments of
// their own: they span up to 23 s.
type Body struct {
	Node     string
	Received time.Time // on the follower's clock
	Readings []Reading
	// NewestSample is the newest sample time in the body, and NodeTime what the
	// node's clock showed when it answered, cut to a second; zero where the source
	// does not tell it. Received less the later of both is the shift that brings
	// the node's clock to ours: without NodeTime, a node that counted late is like
	// one whose clock is behind.
	NewestSample, NodeTime time.Time
	// Volumes are those of the claims that the node's pods mount; they come only
	// with some of the bodies.
	Volumes []Volume
}

// Volume is one sample of a mounted claim's volume.
type Volume struct {
	Namespace, Claim    string
	Time                time.Time // on the follower's clock
	UsedBytes, Capacity int64
}

// NodeInfo is what the watch knows of a node.
type NodeInfo struct {
	Name                 string
	UID                  string
	BootID               string
	CapacityMillicores   int64
	AllocatableMilli     int64 // millicores
	AllocatableMemoryKiB int64
	Joined               time.Time
	Left                 time.Time  // zero while it is there
	Past                 []PastNode // what it had before, oldest first
}

// PastNode is what a node had until a change of its size, or until a boot.
type PastNode struct {
	Until                time.Time
	BootID               string
	CapacityMillicores   int64
	AllocatableMilli     int64
	AllocatableMemoryKiB int64
}

// PodInfo is what the watch knows of a pod.
type PodInfo struct {
	UID          string
	Namespace    string
	Name         string
	Node         string
	WorkloadKind string // Deployment, StatefulSet, DaemonSet, Job, CronJob, Pod, or the unknown owner's kind
	Workload     string
	OwnerKnown   bool // the owner chain has been followed to its top
	Labels       map[string]string
	Created      time.Time // of the pod's object; zero of the host source
	Start        time.Time // when its first container started; zero: none has, and it is not billed
	End          time.Time // zero while it runs; then when its last container stopped or it was deleted
	ExitCode     int32
	EndReason    string
	Containers   []ContainerInfo
	Past         []PastRequests // what its containers asked for before it was resized, oldest first
	Claims       []string       // names of the volume claims that it mounts
}

// PastRequests are a pod's containers as they were until a resize.
type PastRequests struct {
	Until      time.Time
	Containers []ContainerInfo
}

// ContainerInfo is a container's part of a pod's requests and limits. Zero
// means none.
type ContainerInfo struct {
	Name               string
	RequestMillicores  int64
	LimitMillicores    int64
	RequestMemoryBytes int64
	LimitMemoryBytes   int64
	Init, Sidecar      bool
}

// Facts are a node's tags, from the seed.
type Facts struct {
	Box, CPUType, RAMType, DiskType string
}
