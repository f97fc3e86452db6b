package simulator

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Fleet is everything that exists. All times are whole seconds, UTC.
type Fleet struct {
	Seed         uint64 // of names, UIDs and housekeeping moments
	Housekeeping Housekeeping
	Clusters     []Cluster
	Boxes        []Box
}

// Housekeeping says when a node's kubelet samples a cgroup: each at a period
// and phase of its own, late by a part of Jitter. The zero value is Exact:
// each sample is made at the moment of the scrape.
type Housekeeping struct {
	Min, Max time.Duration // of the period, in whole ms
	Jitter   time.Duration // less than Min
}

// Usual is what a kubelet does by default: samples are up to 23 s old.
var Usual = Housekeeping{Min: 10 * time.Second, Max: 20 * time.Second, Jitter: 3 * time.Second}

// Exact samples each cgroup when it is scraped.
var Exact = Housekeeping{}

// MaxAge is how old a sample can be when it is scraped, and how long two
// samples of one cgroup can be apart.
func (h Housekeeping) MaxAge() time.Duration { return h.Max + h.Jitter }

// MaxGap is how long two different samples of one cgroup, both seen by a
// scrape every interval, can be apart: it is longer than the housekeeping's
// own, since a scrape can miss a sample by a moment.
func (h Housekeeping) MaxGap(interval time.Duration) time.Duration { return h.MaxAge() + interval }

// Cluster is one Kubernetes cluster.
type Cluster struct {
	Name  string
	Nodes []Node
	Pods  []Pod
}

// Node is one machine of a cluster.
type Node struct {
	Name string // unique in its cluster
	Box  string

	CPUType, RAMType, DiskType string
	Cores                      int
	MemoryBytes                int64
	AllocatableMillicores      int64 // 0: all of Cores
	AllocatableMemoryBytes     int64 // 0: all of MemoryBytes

	MemoryOff bool // its kernel counts no memory: the memory control group is off

	Joined, Left time.Time   // Left zero: it stays
	Boots        []time.Time // further boots: every counter on the node starts again

	System            Wave // cores, outside the pods
	SystemMemory      Wave // B
	Receive, Transmit Wave // B/s of the node's interface, beside its pods'
	Filesystem        Wave // B used

	IdleWatts           float64
	WattsPerCore        float64
	WattsPerSquaredCore float64 // the node's curve: idle + k·cores + q·cores²
	// Curve is, in their place, the watts at even loads from none (IdleWatts) to
	// all cores.
	Curve []float64
}

// Pod is a template: one pod from Start to End, or, with Every, a CronJob's
// runs of Duration each. A pod of a Deployment is one replica.
type Pod struct {
	Name      string // the pod's name, exact; for a CronJob the CronJob's name
	Namespace string
	Node      string
	Kind      string // Deployment, StatefulSet, DaemonSet, CronJob, Job, Pod
	Workload  string // name of the Deployment, …; of a CronJob: Name
	Labels    map[string]string

	Start, End time.Time // End zero: it stays; of a CronJob the first start and the end of the last
	Every      time.Duration
	Duration   time.Duration // of a run; less than Every
	ExitCode   int32

	CPU               Wave // cores
	Memory            Wave // B
	Receive, Transmit Wave // B/s
	Containers        []Container
	Claims            []Claim
	Ephemeral         Wave // B of the node's disk; the zero value is not shown
}

// Container is a fixed part of its pod. The shares of a pod's containers sum
// up to less than one: the rest is the sandbox and what no container has.
type Container struct {
	Name               string
	Share              float64
	RequestMillicores  int64 // 0: none
	LimitMillicores    int64
	RequestMemoryBytes int64
	LimitMemoryBytes   int64
	Restarts           []time.Duration // since the pod's start: a new epoch, a new id
	Filesystem         Wave            // B used; the zero value is not shown
}

// Box is a physical unit with its meters. Which nodes stand in it, the nodes say.
type Box struct {
	Name          string
	OverheadWatts float64
	Since         time.Time // its meters' counters are zero here
	Meters        []Meter
}

// Meter is one electricity meter.
type Meter struct {
	Name            string
	Kind            string  // "": a Shelly of the Generation; Tasmota, HomeWizard, SDM120
	Generation      int     // of the Shelly: 1 or 2
	Channel         int     // id of the switch
	Share           float64 // of the box's power that flows through it; 0 means 1
	Gain            float64 // it shows so many times what flows; 0 means 1
	StepMillijoules int64   // of its counter; 0: that of its kind
	Resets          []time.Time
	Cluster, Node   string   // it counts this node of the box alone
	Beside          []string // other boxes that it counts together with its own
	Dead            []Span   // when it does not answer; it goes on counting
}

// Kinds of meters beside Shelly's.
const (
	Tasmota    = "tasmota"    // /cm?cmnd=Status 8, kWh with three decimals
	HomeWizard = "homewizard" // /api/v1/data, kWh with three decimals
	SDM120     = "sdm120"     // Modbus TCP, kWh in 32 bits
)

// Span is a half-open time.
type Span struct{ From, To time.Time }

func (s Span) contains(t time.Time) bool { return !t.Before(s.From) && t.Before(s.To) }

// DeadAt says whether the meter does not answer at t.
func (m Meter) DeadAt(t time.Time) bool {
	return slices.ContainsFunc(m.Dead, func(s Span) bool { return s.contains(t) })
}

// Shares that the sandbox's pause process and the containers may have.
const (
	sandboxShare    = 0.0005
	containersShare = 0.998
)

// Validate says everything that is wrong.
func (f Fleet) Validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if h := f.Housekeeping; h != Exact && (h.Min <= 0 || h.Max < h.Min || h.Jitter < 0 || h.Jitter >= h.Min) {
		complain("housekeeping %v to %v, jitter %v", h.Min, h.Max, h.Jitter)
	}
	boxes := make(map[string]bool)
	for _, box := range f.Boxes {
		if boxes[box.Name] {
			complain("box %s twice", box.Name)
		}
		boxes[box.Name] = true
		if !whole(box.Since) {
			complain("box %s: since is not a whole second", box.Name)
		}
	}
	clusters := make(map[string]bool)
	for _, cluster := range f.Clusters {
		if clusters[cluster.Name] {
			complain("cluster %s twice", cluster.Name)
		}
		clusters[cluster.Name] = true
		errs = append(errs, cluster.validate(boxes)...)
	}
	return errors.Join(errs...)
}

func (c Cluster) validate(boxes map[string]bool) []error {
	var errs []error
	nodes := make(map[string]Node)
	for _, node := range c.Nodes {
		if _, twice := nodes[node.Name]; twice {
			errs = append(errs, fmt.Errorf("cluster %s: node %s twice", c.Name, node.Name))
		}
		nodes[node.Name] = node
		if err := node.validate(boxes); err != nil {
			errs = append(errs, fmt.Errorf("cluster %s: node %s: %w", c.Name, node.Name, err))
		}
	}
	names := make(map[string]bool)
	for _, pod := range c.Pods {
		key := pod.Namespace + "/" + pod.Name
		if names[key] {
			errs = append(errs, fmt.Errorf("cluster %s: pod %s twice", c.Name, key))
		}
		names[key] = true
		node, known := nodes[pod.Node]
		if !known {
			errs = append(errs, fmt.Errorf("cluster %s: pod %s: no node %q", c.Name, key, pod.Node))
			continue
		}
		if err := pod.validate(node); err != nil {
			errs = append(errs, fmt.Errorf("cluster %s: pod %s: %w", c.Name, key, err))
		}
	}
	return errs
}

func (n Node) validate(boxes map[string]bool) error {
	if n.Box != "" && !boxes[n.Box] {
		return fmt.Errorf("no box %q", n.Box)
	}
	if n.Joined.IsZero() || !whole(n.Joined) || !whole(n.Left) {
		return errors.New("joined and left are whole seconds, joined is set")
	}
	last := n.Joined
	for _, boot := range n.Boots {
		if !whole(boot) || !boot.After(last) {
			return errors.New("boots are whole seconds after it joined, in order")
		}
		last = boot
	}
	if err := n.checkCurve(); err != nil {
		return err
	}
	for _, wave := range []Wave{n.System, n.SystemMemory, n.Receive, n.Transmit, n.Filesystem} {
		if err := wave.check(); err != nil {
			return err
		}
	}
	return nil
}

func (p Pod) validate(node Node) error {
	if p.Start.Before(node.Joined) || !whole(p.Start) || !whole(p.End) {
		return errors.New("start and end are whole seconds, start is after the node joined")
	}
	if p.Every != 0 && (p.Duration <= 0 || p.Duration >= p.Every || p.Every%time.Second != 0 || p.Duration%time.Second != 0) {
		return fmt.Errorf("runs of %s every %s", p.Duration, p.Every)
	}
	if p.Every != 0 && p.Kind != "CronJob" {
		return fmt.Errorf("kind %s has no runs", p.Kind)
	}
	for _, wave := range []Wave{p.CPU, p.Memory, p.Receive, p.Transmit} {
		if err := wave.check(); err != nil {
			return err
		}
	}
	if err := p.validateClaims(); err != nil {
		return err
	}
	sum := 0.0
	for _, container := range p.Containers {
		sum += container.Share
		for i, restart := range container.Restarts {
			if restart%time.Second != 0 || restart <= 0 || (i > 0 && restart <= container.Restarts[i-1]) {
				return fmt.Errorf("container %s: restarts are whole seconds, in order", container.Name)
			}
		}
	}
	if len(p.Containers) == 0 || sum > containersShare {
		return fmt.Errorf("%d containers with %g of the pod, at most %g", len(p.Containers), sum, containersShare)
	}
	return nil
}

func whole(t time.Time) bool { return t.Nanosecond() == 0 }
