package processors

import (
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// IdlePolicy says who carries the idle energy of a node (and its share of the
// box's overhead).
type IdlePolicy string

// The policies. In a box that several customers share, IdleEqual and IdleUsage
// count as IdleRequests: for the bill and for what a cluster is shown alike.
const (
	// IdleEqual: real pods by the time that they were alive (the default).
	// With a line as power curve and idle caused by "some pod is here" it is
	// the Shapley value.
	IdleEqual IdlePolicy = "equal"
	// IdleRequests: real pods by the larger of their CPU and memory request over
	// the node's allocatable; what is not requested stays in __idle__. Splitting
	// a pod in two changes nothing.
	IdleRequests IdlePolicy = "requests"
	// IdleUsage: real pods by CPU time.
	IdleUsage IdlePolicy = "usage"
	// IdleNone: all idle stays in __idle__, all overhead in __overhead__.
	IdleNone IdlePolicy = "none"
)

// Box is a physical unit with its meters and nodes.
type Box struct {
	Name               string
	Shared             bool       // it holds nodes of several customers
	IdlePolicy         IdlePolicy // "" is IdleEqual
	OverheadMilliwatts int64      // fans, switch, power supplies: what is drawn beside the nodes
}

// Node is one node of the box while it was in it with one kind of hardware. A
// node that moved, or whose hardware was corrected within the quarter, stands
// twice with disjoint validity.
type Node struct {
	Cluster  string
	Name     string
	Hardware Hardware
	From, To time.Time // validity, half-open; zero is open. Minutes outside are ignored.
	// Minutes are the settled rows: with pods over the quarter, and without
	// them (they are not read) over the rest of Span. Validities, too, are those
	// of the whole span: two quarters that share an interval must see one model.
	// A minute of the validity that is missing counts as 0 and makes the box's
	// minute estimated.
	Minutes []NodeMinute
}

// NodeMinute is a node's row of one minute.
type NodeMinute struct {
	Time              time.Time // the minute's start
	CPU               int64     // core-µs
	Capacity          int64     // core-µs: capacity · time alive
	AllocatableCPU    int64     // core-µs: allocatable · time alive; 0 = Capacity
	AllocatableMemory int64     // KiB·s; 0 = unknown, then only CPU requests count
	Uptime            int64     // ms
	Processor         int64     // mJ that its processors counted in the whole minute, if HasProcessor
	HasProcessor      bool
	Estimated         bool  // settled at a deadline without readings
	Pods              []Pod // the pods' rows, __system__ and __unattributed__ included; rows of one pod add up
}

// Pod is a pod's row of one minute.
type Pod struct {
	Namespace    string
	Pod          string
	UID          string
	WorkloadKind string
	Workload     string

	CPU           int64 // core-µs; that of __unattributed__ is signed
	CPURequest    int64 // core-µs: request · time alive
	MemoryRequest int64 // KiB·s: request · time alive
	Uptime        int64 // ms
}

// PowerInput is a box and a quarter.
type PowerInput struct {
	Window schema.Window // the quarter, or any whole minutes
	// Settled: every minute before it is settled in all clusters of the box, or
	// given up. Only those are processed, and only meter intervals that end by
	// then are closed. Zero: all that is given is settled.
	Settled time.Time
	Box     Box
	Nodes   []Node
	Meters  []Meter // several add up (phases, power supplies), those of nodes are parts of them; none: model only
}

// EnergyRow is one row of the table energy. Its keys depend only on the nodes
// and pods given, so that a recomputed minute overwrites itself.
type EnergyRow struct {
	Time         time.Time // the minute's start
	Cluster      string    // schema.BoxCluster, like Node, for the box's own row
	Node         string
	Namespace    string // __idle__, __overhead__, __system__, __unattributed__ for what no pod carries
	Pod          string
	UID          string
	Box          string
	WorkloadKind string
	Workload     string

	Active     int64 // mJ, by CPU time
	Idle       int64 // mJ, share of the node's idle energy
	Overhead   int64 // mJ, share of the box's overhead
	Modelled   int64 // mJ, what Active + Idle + Overhead were by the model alone
	Measured   int64 // mJ, the part of Active + Idle + Overhead that closed meter intervals cover
	Integrated int64 // mJ, the part of Measured that rests on a meter's watts
	// Uncertainty is the standard error of Active + Idle + Overhead, mJ, by the
	// errors of the models and of the meters' gain. Of several rows, at most the sum.
	Uncertainty int64
	Quality     string
}

// Total is active + idle + overhead, mJ.
func (r EnergyRow) Total() int64 { return r.Active + r.Idle + r.Overhead }

// BoxEnergy is a box's energy in one minute or in a sum of them, mJ:
// Measured + Provisional + Estimated = Attributed of all rows together.
type BoxEnergy struct {
	Measured       int64 // the meters' growth where all of them have closed intervals
	MeasuredModel  int64 // the model's energy of that same time
	Attributed     int64 // Σ of the rows' measured part
	Residual       int64 // Measured - Attributed
	Integrated     int64 // the part of Measured that rests on watts
	Provisional    int64 // the open end: the model's energy until the interval closes
	Estimated      int64 // the model's energy where no meter ran: no meter, reset, gap
	Modelled       int64 // the model's energy of all of it
	IdleAboveMeter int64 // minutes in which the meter showed less than the nodes' idle: idle has drifted
}

// BoxMinute is a box's energy in one minute.
type BoxMinute struct {
	Time time.Time
	BoxEnergy
	Quality string
}

// IntervalSummary is what became of one meter interval inside the window.
type IntervalSummary struct {
	Meter      string
	From, To   time.Time // of the whole interval, also outside the window; an open one ends with the window
	Measured   int64     // mJ, the counter's growth inside the window
	Modelled   int64     // mJ, the model's energy of the box inside the window
	Attributed int64     // mJ of Measured that went into rows
	Residual   int64     // Measured - Attributed: of times in which another meter of the box did not run
	Closed     bool
}

// PowerResult is a box's energy in the quarter.
type PowerResult struct {
	Rows      []EnergyRow // by minute, cluster, node, namespace, pod, UID
	Minutes   []BoxMinute
	Intervals []IntervalSummary
	Box       BoxEnergy // the sum of Minutes
	Metered   bool      // the box has a meter; without one nothing was or will be measured
	// Provisional: not all minutes of the window are settled, or an interval is
	// still open. The quarter stays due.
	Provisional bool
}

// Power distributes a box's energy over nodes and pods.
type Power struct {
	Model Model // nil is Curve: each hardware's fitted curve, else the line
}

// Name is "power".
func (Power) Name() string { return "power" }

func (p Power) model() Model {
	if p.Model == nil {
		return Curve{}
	}
	return p.Model
}
