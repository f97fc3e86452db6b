package schema

import (
	"slices"
	"time"
)

// Databases. One per grain, not a retention policy each: DELETE and SHOW know
// no retention policy.
const (
	RawDB     = "raw"     // follower: readings
	MinuteDB  = "minute"  // both: settled quantities per minute; journal
	FactsDB   = "facts"   // both: object, run
	ResultsDB = "results" // follower: what the leader pushed
	QuarterDB = "quarter" // centre: sums per quarter, cost, usage
	MetersDB  = "meters"  // centre: meter readings
)

// AnnotationPrefix begins the name of a pod's annotation among its labels: no name of
// a label has a colon.
const AnnotationPrefix = "annotation:"

// Type is the type of a field. Quantities are Integer: integer sums do not
// depend on the order of the rows.
type Type uint8

// The four types of InfluxDB 1.x.
const (
	Integer Type = iota
	Float
	String
	Boolean
)

// Field is one column of a table.
type Field struct {
	Name string
	Type Type
	// Optional: absent where the source does not count it (disk I/O on a kernel
	// without it). Every other field is written in each row, zeros included.
	Optional bool
}

// Table is one measurement.
type Table struct {
	Name   string
	DB     string
	Grain  time.Duration // length of its windows; 0 for rows at their own times
	Tags   []string      // the identity, then facts valid at the window's time
	Fields []Field
}

// Integers are the names of the table's required and optional integer fields,
// in order.
func (t Table) Integers() []string {
	var names []string
	for _, f := range t.Fields {
		if f.Type == Integer {
			names = append(names, f.Name)
		}
	}
	return names
}

// Names of tags.
const (
	Cluster      = "cluster" // immutable id of the cluster
	Node         = "node"
	Namespace    = "namespace"
	Pod          = "pod"
	PodUID       = "pod_uid"
	Container    = "container"
	Box          = "box" // in a follower a random id
	CPUType      = "cpu_type"
	RAMType      = "ram_type"
	DiskType     = "disk_type"
	WorkloadKind = "workload_kind"
	Workload     = "workload"
	NetworkClass = "network_class"
	Kind         = "kind"
	Meter        = "meter"
	Resource     = "resource"
	Currency     = "currency"
	PriceKind    = "price_kind"
	Claim        = "claim" // of a persistent volume
	ClaimUID     = "claim_uid"
	StorageClass = "storage_class"
	Storage      = "storage" // local | central | unknown
)

// Names of fields, with their units.
const (
	CPU             = "cpu_core_microseconds"   // core-µs used
	Memory          = "memory_kibibyte_seconds" // working set, KiB·s
	NetworkReceive  = "network_receive_bytes"   // B
	NetworkTransmit = "network_transmit_bytes"  // B
	// What a node's interfaces counted. It is no sum of its pods' network: what one
	// pod sends to another on the node passes none of them, and what hostNetwork
	// pods and the node itself send passes no pod's.
	InterfaceReceive  = "interface_receive_bytes"           // B
	InterfaceTransmit = "interface_transmit_bytes"          // B
	Filesystem        = "filesystem_kibibyte_seconds"       // used, KiB·s
	DiskRead          = "disk_read_bytes"                   // B, where the kernel counts it
	DiskWrite         = "disk_write_bytes"                  // B, where the kernel counts it
	CPURequest        = "cpu_request_core_microseconds"     // request · time alive
	CPULimit          = "cpu_limit_core_microseconds"       // limit · time alive; 0 = none
	MemoryRequest     = "memory_request_kibibyte_seconds"   // request · time alive
	MemoryLimit       = "memory_limit_kibibyte_seconds"     // limit · time alive; 0 = none
	CPUMax            = "cpu_max_core_microseconds"         // Σ over pod-minutes of max(used, requested)
	MemoryMax         = "memory_max_kibibyte_seconds"       // Σ over pod-minutes of max(used, requested)
	Uptime            = "uptime_milliseconds"               // time alive in the window
	AllocatableCPU    = "allocatable_core_microseconds"     // allocatable · time alive
	AllocatableMem    = "allocatable_kibibyte_seconds"      // allocatable · time alive
	CapacityCPU       = "capacity_core_microseconds"        // capacity · time alive
	Coverage          = "coverage_seconds"                  // of the window, with readings close enough for a gauge
	Interpolated      = "interpolated_seconds"              // of the window, over which growth was spread in a reading gap
	EnergyActive      = "energy_active_millijoules"         // by use
	EnergyIdle        = "energy_idle_millijoules"           // share of idle
	EnergyOverhead    = "energy_overhead_millijoules"       // share of the box's overhead
	EnergyModelled    = "energy_modelled_millijoules"       // what the model alone says
	EnergyMeasured    = "energy_measured_millijoules"       // the part of active+idle+overhead that a closed meter interval covers
	Integrated        = "energy_integrated_millijoules"     // the part of energy_measured that rests on watts, which we integrate
	MeasuredModel     = "energy_measured_model_millijoules" // what the model says of the time that EnergyMeasured covers
	Provisional       = "energy_provisional_millijoules"    // the model's, until the open meter interval closes
	EstimatedEnergy   = "energy_estimated_millijoules"      // the model's, where no meter ran
	Uncertainty       = "energy_uncertainty_millijoules"    // standard error of active+idle+overhead; of several rows at most their sum
	CostNanos         = "cost_nanos"                        // 1e-9 of the currency
	PriceVersion      = "price_version"
	Quality           = "quality"                      // measured | estimated | mixed
	ReadingEpoch      = "epoch"                        // Unix ns at which the counter's life began
	ReadingReceived   = "received"                     // Unix ns on the follower's clock
	ReadingShift      = "shift_nanoseconds"            // added to the sample's own time
	ProcessorEnergy   = "processor_energy_millijoules" // what a node's processors and their memory counted of themselves (RAPL), mJ
	MemoryWorkingSet  = "memory_working_set_bytes"
	FilesystemUsed    = "filesystem_used_bytes"
	EphemeralUsed     = "ephemeral_used_bytes"
	Ephemeral         = "ephemeral_kibibyte_seconds" // used of the node's disk: writable layers, logs, emptyDirs; where the kubelet says it
	Claimed           = "claimed_kibibyte_seconds"   // size of a volume · time bound
	Used              = "used_kibibyte_seconds"      // used of a volume; 0 where coverage is 0
	Mounted           = "mounted_milliseconds"       // Σ pods that mount it · time
	VolumeUsed        = "used_bytes"
	VolumeCapacity    = "capacity_bytes"
)

// Names of the fields of heat and carbon. Location-based, market-based, embodied
// and avoided are four figures: none is part of another, and none is subtracted
// from another.
const (
	Heat                  = "heat_millijoules"             // what the energy became
	UsefulHeat            = "useful_heat_millijoules"      // what was made use of; of sources that are no household's
	CarbonLocation        = "carbon_location_micrograms"   // CO2e by the grid's intensity
	CarbonLocationEnergy  = "carbon_location_millijoules"  // the energy whose intensity is known
	CarbonEstimatedEnergy = "carbon_estimated_millijoules" // the part of it whose intensity is a yearly mean or an estimate
	CarbonMarket          = "carbon_market_micrograms"     // CO2e by contract
	CarbonMarketEnergy    = "carbon_market_millijoules"    // the energy that a contract covers
	CarbonEmbodied        = "carbon_embodied_micrograms"   // CO2e of making the hardware, its share
	CarbonAvoided         = "carbon_avoided_micrograms"    // CO2e that useful heat avoided against a stated reference
	CarbonSource          = "carbon_source"                // the intensities that were used, "; " between them
)

// Namespaces of what no pod carries. No Kubernetes namespace can have such a
// name.
const (
	SystemNamespace       = "__system__"       // node less its pods' parent cgroup; signed in one window; without network
	UnattributedNamespace = "__unattributed__" // the parent cgroup less the pods; signed in one window
	IdleNamespace         = "__idle__"         // energy only: idle that no pod carries
	OverheadNamespace     = "__overhead__"     // energy only: the box's own
	BoxCluster            = "__box__"          // cluster and node of a box's own energy rows
	Unknown               = "unknown"          // a fact that did not come before its deadline
	Unassigned            = "__unassigned__"   // customer, project, user that no rule names
	Unclassified          = "unclassified"     // network class until classes exist
)

// Values of the field quality.
const (
	Measured  = "measured"
	Estimated = "estimated"
	Mixed     = "mixed"
)

func integers(names ...string) []Field {
	fields := make([]Field, len(names))
	for i, name := range names {
		fields[i] = Field{Name: name}
	}
	return fields
}

func optional(names ...string) []Field {
	fields := integers(names...)
	for i := range fields {
		fields[i].Optional = true
	}
	return fields
}

func fields(groups ...[]Field) []Field {
	var all []Field
	for _, group := range groups {
		all = append(all, group...)
	}
	return all
}

var hardware = []string{Box, CPUType, RAMType, DiskType}

func tags(groups ...[]string) []string {
	var all []string
	for _, group := range groups {
		all = append(all, group...)
	}
	return all
}

var (
	quality  = integers(Coverage, Interpolated)
	requests = integers(CPURequest, CPULimit, MemoryRequest, MemoryLimit)
	disk     = optional(DiskRead, DiskWrite)
	storage  = optional(Ephemeral)
	// Optional: rows from before it was computed have none.
	larger  = optional(CPUMax, MemoryMax)
	network = integers(NetworkReceive, NetworkTransmit)
	// Optional: rows from before it was computed have no uncertainty.
	energy = fields(integers(EnergyActive, EnergyIdle, EnergyOverhead, EnergyModelled, EnergyMeasured), optional(Uncertainty, Integrated))

	// Optional: rows from before there were heat and carbon have none. What is
	// written now has all of them, zeros included.
	carbon = optional(Heat, CarbonLocation, CarbonLocationEnergy, CarbonEstimatedEnergy, CarbonMarket, CarbonMarketEnergy, CarbonEmbodied)
)

// The tables. A row of a grain stands at its window's start.
var (
	// Raw has one row per reading, at the sample's own time.
	Raw = Table{Name: "raw", DB: RawDB,
		Tags: []string{Kind, Node, Namespace, Pod, PodUID, Container},
		Fields: fields(integers(ReadingEpoch, ReadingReceived, ReadingShift),
			optional(CPU, MemoryWorkingSet, NetworkReceive, NetworkTransmit, FilesystemUsed, DiskRead, DiskWrite, EphemeralUsed, ProcessorEnergy))}

	// VolumeReading has one row per reading of a mounted claim's volume, at the
	// sample's own time.
	VolumeReading = Table{Name: "volume_reading", DB: RawDB, Tags: []string{Node, Namespace, Claim},
		Fields: integers(VolumeUsed, VolumeCapacity, ReadingReceived)}

	// NodeMinute: Σ pods of the node, __system__ and __unattributed__ included, = node.
	// Its network is its pods'; what its own interfaces counted has fields of its own.
	// ProcessorEnergy is there where the counter is known over the whole minute.
	NodeMinute = Table{Name: "node", DB: MinuteDB, Grain: Minute,
		Tags: tags([]string{Cluster, Node}, hardware),
		Fields: fields(integers(CPU, Memory), network, integers(Filesystem, Uptime, AllocatableCPU, AllocatableMem, CapacityCPU),
			disk, optional(InterfaceReceive, InterfaceTransmit, ProcessorEnergy), quality)}

	// PodMinute: the pod's cgroup is the authority; Σ containers = pod.
	PodMinute = Table{Name: "pod", DB: MinuteDB, Grain: Minute,
		Tags:   tags([]string{Cluster, Node, Namespace, Pod, PodUID}, hardware, []string{WorkloadKind, Workload, NetworkClass}),
		Fields: fields(integers(CPU, Memory), network, requests, larger, integers(Uptime), disk, storage, quality)}

	// ContainerMinute: container "" does not exist in the tag set; the rest of
	// a pod is container "__pod__".
	ContainerMinute = Table{Name: "container", DB: MinuteDB, Grain: Minute,
		Tags:   tags([]string{Cluster, Node, Namespace, Pod, PodUID, Container}, hardware, []string{WorkloadKind, Workload}),
		Fields: fields(integers(CPU, Memory, Filesystem), requests, integers(Uptime), disk, quality)}

	// VolumeMinute has one row per bound claim. It is told of the cluster, not of a
	// node: a minute without a claim has no window.
	VolumeMinute = Table{Name: "volume", DB: MinuteDB, Grain: Minute,
		Tags:   []string{Cluster, Namespace, Claim, ClaimUID, StorageClass, Storage},
		Fields: integers(Claimed, Used, Mounted, Uptime, Coverage)}

	// Object has one row per change of a pod, node, Job, claim or namespace, at the
	// time of the change.
	Object = Table{Name: "object", DB: FactsDB, Grain: Minute,
		Tags: []string{Cluster, Kind, Namespace, "name", "uid"},
		Fields: []Field{{Name: "spec", Type: String}, // JSON: labels (allow-list), owner chain, node, requests, times
			{Name: "reason", Type: String}, {Name: "valid_from"}, {Name: "valid_to"}}} // Unix ns; valid_to 0 = open

	// Run has one row per finished pod or Job, at its end.
	Run = Table{Name: "run", DB: FactsDB, Grain: Minute,
		Tags: []string{Cluster, Kind, Namespace, "name", "uid", Node, WorkloadKind, Workload},
		Fields: fields(integers("start", "end", "exit_code", CPU, Memory), network, requests, integers(Uptime),
			[]Field{{Name: Quality, Type: String}, {Name: "reason", Type: String}})}

	// EnergyMinute: per pod and window; the rests stand in the __namespaces__. Rows of
	// __idle__, one of each node, carry carbon_source: what the grid's intensity is from
	// (no contract's name), for the cluster's follower has no table of boxes.
	EnergyMinute = Table{Name: "energy", DB: MinuteDB, Grain: Minute,
		Tags:   []string{Cluster, Node, Namespace, Pod, PodUID, Box, WorkloadKind, Workload},
		Fields: fields(energy, carbon, []Field{{Name: CarbonSource, Type: String, Optional: true}, {Name: Quality, Type: String}})}

	// EnergyQuarter: per workload and window.
	EnergyQuarter = Table{Name: "energy", DB: QuarterDB, Grain: Quarter,
		Tags:   []string{Cluster, Node, Namespace, Box, WorkloadKind, Workload},
		Fields: fields(energy, carbon, []Field{{Name: Quality, Type: String}})}

	// BoxMinute is a box's energy: measured is the growth of its meters where all
	// of them have closed intervals. Its cluster is BoxCluster.
	BoxMinute = Table{Name: "box", DB: MinuteDB, Grain: Minute,
		Tags: []string{Cluster, Box},
		Fields: fields(integers(EnergyMeasured, MeasuredModel, Provisional, EstimatedEnergy, EnergyModelled),
			carbon, optional(Integrated, UsefulHeat, CarbonAvoided),
			[]Field{{Name: CarbonSource, Type: String, Optional: true}, {Name: Quality, Type: String}})}

	// BoxQuarter is the sum of BoxMinute.
	BoxQuarter = Table{Name: "box", DB: QuarterDB, Grain: Quarter, Tags: BoxMinute.Tags, Fields: BoxMinute.Fields}

	// NodeQuarter is the sum of NodeMinute.
	NodeQuarter = Table{Name: "node", DB: QuarterDB, Grain: Quarter, Tags: NodeMinute.Tags, Fields: NodeMinute.Fields}

	// VolumeQuarter is the sum of VolumeMinute.
	VolumeQuarter = Table{Name: "volume", DB: QuarterDB, Grain: Quarter, Tags: VolumeMinute.Tags, Fields: VolumeMinute.Fields}

	// UsageQuarter: the sums of a workload on a node; no pod names. Kept.
	UsageQuarter = Table{Name: "usage", DB: QuarterDB, Grain: Quarter,
		Tags: tags([]string{Cluster, Node, Namespace}, hardware, []string{WorkloadKind, Workload}),
		Fields: fields(integers(CPU, Memory), network, requests, larger, integers(Uptime), disk, storage, energy, carbon, quality,
			[]Field{{Name: Quality, Type: String}})}

	// UsageDay is the sum of UsageQuarter over a UTC day that has settled, NodeDay and
	// VolumeDay those of NodeQuarter and VolumeQuarter: a long window takes whole days
	// from here. Kept.
	UsageDay = Table{Name: "usage_day", DB: QuarterDB, Grain: Day, Tags: []string{Cluster, Namespace}, Fields: UsageQuarter.Fields}
	NodeDay  = Table{Name: "node_day", DB: QuarterDB, Grain: Day, Tags: []string{Cluster, Node}, Fields: NodeQuarter.Fields}
	// VolumeDay has no UID: claims of one name in one day are one.
	VolumeDay = Table{Name: "volume_day", DB: QuarterDB, Grain: Day, Tags: []string{Cluster, Namespace, Claim, StorageClass, Storage}, Fields: VolumeQuarter.Fields}

	// CostQuarter is showback: no bill is made from it.
	CostQuarter = Table{Name: "cost", DB: QuarterDB, Grain: Quarter,
		Tags:   []string{Cluster, Namespace, WorkloadKind, Workload, Resource, Currency, PriceKind},
		Fields: []Field{{Name: CostNanos}, {Name: PriceVersion, Type: String}}}

	// MeterReading is one reading of an electricity meter, refused ones with the reason.
	MeterReading = Table{Name: "meter", DB: MetersDB,
		Tags: []string{Box, Meter},
		Fields: []Field{{Name: "counter_millijoules", Optional: true}, {Name: "watts_milli", Optional: true},
			{Name: "step_millijoules", Optional: true}, {Name: ReadingEpoch}, {Name: ReadingReceived}, {Name: "refused", Type: String},
			{Name: "origin", Type: String, Optional: true}, {Name: "note", Type: String, Optional: true}}}
)

// PulledTable is where a leader tells its follower how far it has copied its journals:
// in the results, one row for each table (tag table) at time 0, with the mark's time (at,
// Unix ns) and the store that it is of.
const PulledTable = "pulled"

// PodRest is the container of what a pod's cgroup counted and no container of
// it did: the sandbox, the runtime's start, and skew. It is signed.
const PodRest = "__pod__"

// Pulled are the tables that a leader takes from a follower, by their journal.
var Pulled = []Table{NodeMinute, PodMinute, ContainerMinute, VolumeMinute, Object, Run}

// EachMinute says whether every minute of the table must have a window, with rows
// of every node; the others have one only where there is something to tell.
func (t Table) EachMinute() bool { return t.DB == MinuteDB && slices.Contains(t.Tags, Node) }
