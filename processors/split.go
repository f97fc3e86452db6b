package processors

import (
	"cmp"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// part is what one row gets of a minute's energy, mJ.
type part struct{ active, idle, overhead int64 }

func (p part) total() int64 { return p.active + p.idle + p.overhead }

// minuteSplit distributes one minute of a box. The rows are those of the nodes
// in turn, each node's pods (with __system__ and __unattributed__) and then its
// __idle__; the box's __overhead__ is the last.
type minuteSplit struct {
	rows     []EnergyRow
	nodes    []nodeSplit
	overhead int64         // µJ, modelled
	fixed    map[int]int64 // mJ of nodes that have meters of their own, by place
}

// nodeSplit is a node in it. weights stand for the rows from first on.
type nodeSplit struct {
	idleEnergy  int64 // µJ, modelled
	dynamic     int64 // µJ, modelled, above idle
	uptime, cpu int64
	uncertainty int64 // of the model, 1e-6
	first       int
	active      []int64 // who carries the dynamic part
	idle        []int64 // who carries idle and overhead; the last is what nobody carries
}

// requestUnit is a pod's share of a node's allocatable, 1e-9.
const requestUnit = 1_000_000_000

// present is a node's row in the minute.
type present struct {
	node Node
	row  NodeMinute
}

func newMinuteSplit(box Box, minute time.Time, nodes []present, m Model) *minuteSplit {
	s := &minuteSplit{overhead: overheadMicrojoules(box), nodes: make([]nodeSplit, 0, len(nodes))}
	count := 1
	for _, p := range nodes {
		count += len(p.row.Pods) + 3 // __system__, __unattributed__, __idle__
	}
	s.rows = make([]EnergyRow, 0, count)
	for _, p := range nodes {
		s.addNode(box, minute, p, m)
	}
	s.rows = append(s.rows, EnergyRow{Time: minute, Cluster: schema.BoxCluster, Node: schema.BoxCluster,
		Namespace: schema.OverheadNamespace, Pod: schema.OverheadNamespace, UID: schema.OverheadNamespace, Box: box.Name})
	return s
}

func (s *minuteSplit) addNode(box Box, minute time.Time, p present, m Model) {
	pods := withRests(p.row.Pods)
	e := modelled(m, p.node.Hardware, p.row)
	n := nodeSplit{idleEnergy: e.idle, dynamic: e.dynamic, uptime: max(p.row.Uptime, 0), cpu: max(p.row.CPU, 0),
		uncertainty: p.row.uncertainty(m, p.node.Hardware),
		first:       len(s.rows), active: make([]int64, len(pods)+1)}
	var unattributed int
	for i, pod := range pods {
		n.active[i] = max(pod.CPU, 0)
		if pod.Namespace == schema.UnattributedNamespace {
			unattributed = i
		}
		s.rows = append(s.rows, EnergyRow{Time: minute, Cluster: p.node.Cluster, Node: p.node.Name, Namespace: pod.Namespace,
			Pod: pod.Pod, UID: pod.UID, Box: box.Name, WorkloadKind: pod.WorkloadKind, Workload: pod.Workload})
	}
	if slices.Max(n.active) == 0 {
		n.active[unattributed] = 1
	}
	n.idle = idleWeights(box, p.row, pods)
	s.rows = append(s.rows, EnergyRow{Time: minute, Cluster: p.node.Cluster, Node: p.node.Name, Namespace: schema.IdleNamespace,
		Pod: schema.IdleNamespace, UID: schema.IdleNamespace, Box: box.Name})
	s.nodes = append(s.nodes, n)
}

// withRests is the pods in the order of their keys, one of each, with
// __system__ and __unattributed__ among them. A pod whose facts came late
// stands in two rows of which one is zero: they are added up.
func withRests(pods []Pod) []Pod {
	given := pods
	pods = make([]Pod, 0, len(given)+2)
	for _, rest := range []string{schema.SystemNamespace, schema.UnattributedNamespace} {
		if !slices.ContainsFunc(given, func(p Pod) bool { return p.Namespace == rest }) {
			pods = append(pods, Pod{Namespace: rest, Pod: rest, UID: rest})
		}
	}
	pods = append(pods, given...)
	if !slices.IsSortedFunc(pods, comparePods) {
		slices.SortFunc(pods, comparePods)
	}
	last := 0
	for _, pod := range pods[1:] {
		if samePod(pods[last], pod) {
			pods[last].add(pod)
			continue
		}
		last++
		pods[last] = pod
	}
	return pods[:last+1]
}

// comparePods orders by key; rows of one key, the fullest first.
func comparePods(a, b Pod) int {
	switch { // most differ here
	case a.Namespace != b.Namespace:
		return cmp.Compare(a.Namespace, b.Namespace)
	case a.Pod != b.Pod:
		return cmp.Compare(a.Pod, b.Pod)
	}
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.UID, b.UID),
		cmp.Compare(b.Uptime, a.Uptime), cmp.Compare(b.CPU, a.CPU), cmp.Compare(b.CPURequest, a.CPURequest),
		cmp.Compare(b.MemoryRequest, a.MemoryRequest), cmp.Compare(a.WorkloadKind, b.WorkloadKind), cmp.Compare(a.Workload, b.Workload))
}

func samePod(a, b Pod) bool {
	return a.Namespace == b.Namespace && a.Pod == b.Pod && a.UID == b.UID
}

// add adds another row of the same pod and minute.
func (p *Pod) add(o Pod) {
	p.CPU += o.CPU
	p.CPURequest += o.CPURequest
	p.MemoryRequest += o.MemoryRequest
	p.Uptime += o.Uptime
}

func (p Pod) real() bool {
	return p.Namespace != schema.SystemNamespace && p.Namespace != schema.UnattributedNamespace
}

// Policy is the box's idle policy as it counts: in a box of several customers by
// requests, unless nobody carries it.
func (b Box) Policy() IdlePolicy {
	switch {
	case b.IdlePolicy == IdleNone:
		return IdleNone
	case b.Shared:
		return IdleRequests
	case b.IdlePolicy == "":
		return IdleEqual
	}
	return b.IdlePolicy
}

// idleWeights is each pod's weight in the node's idle energy, and last that of
// what nobody carries.
func idleWeights(box Box, row NodeMinute, pods []Pod) []int64 {
	weights := make([]int64, len(pods)+1)
	rest := &weights[len(pods)]
	var sum int64
	for i, pod := range pods {
		if !pod.real() {
			continue
		}
		switch box.Policy() {
		case IdleEqual:
			weights[i] = max(pod.Uptime, 0)
		case IdleUsage:
			weights[i] = max(pod.CPU, 0)
		case IdleRequests:
			weights[i] = requestShare(pod, row)
		}
		sum += weights[i]
	}
	switch {
	case box.Policy() == IdleRequests:
		*rest = max(requestUnit-sum, 0)
	case sum == 0:
		*rest = 1
	}
	return weights
}

// requestShare is the larger of the pod's shares of the node's allocatable CPU
// and memory, in requestUnits, at most all of it.
func requestShare(pod Pod, row NodeMinute) int64 {
	share := func(request, allocatable int64) int64 {
		if request <= 0 || allocatable <= 0 {
			return 0
		}
		return min(MulDiv(request, requestUnit, allocatable), requestUnit)
	}
	return max(share(pod.CPURequest, cmp.Or(row.AllocatableCPU, row.Capacity)), share(pod.MemoryRequest, row.AllocatableMemory))
}

// idleAbove says whether the idle of what is on is more than the energy (mJ).
func (s *minuteSplit) idleAbove(energy int64) bool {
	base := s.overhead
	for _, n := range s.nodes {
		base += n.idleEnergy
	}
	return energy < base/1000
}

// share distributes the energy (mJ, >= 0) over the rows; the parts add up to
// it.
func (s *minuteSplit) share(energy int64) []part {
	parts := make([]part, len(s.rows))
	own := &parts[len(parts)-1]
	shares := s.boxShares(energy)
	if shares == nil { // no node is on
		own.overhead = energy
		return parts
	}
	overhead := s.overheadShares(shares[0])
	if overhead == nil {
		own.overhead = shares[0]
	}
	for i, n := range s.nodes {
		rows := parts[n.first : n.first+len(n.active)]
		for j, mJ := range LargestRemainder(shares[1+len(s.nodes)+i], n.active) {
			rows[j].active = mJ
		}
		for j, mJ := range LargestRemainder(shares[1+i], n.idle) {
			rows[j].idle = mJ
		}
		if overhead == nil {
			continue
		}
		for j, mJ := range LargestRemainder(overhead[i], n.idle) {
			if j == len(rows)-1 {
				own.overhead += mJ
			} else {
				rows[j].overhead = mJ
			}
		}
	}
	return parts
}

// boxWeights is the exact shares (µJ, up to a common factor) of the energy:
// the box's overhead, each node's idle part, each node's dynamic part.
//
// With at least the idle of what is on: idle as it is, the rest by the model's
// dynamic part, and if nothing is busy by idle. With less, idle has drifted:
// all in proportion to the model. With a model that knows no watts: by CPU
// time, else by time alive.
func (s *minuteSplit) boxWeights(energy int64) []int64 {
	n := len(s.nodes)
	weights := make([]int64, 1+2*n)
	weights[0] = s.overhead
	base, dynamic := s.overhead, int64(0)
	for i, node := range s.nodes {
		weights[1+i], weights[1+n+i] = node.idleEnergy, node.dynamic
		base, dynamic = base+node.idleEnergy, dynamic+node.dynamic
	}
	switch {
	case base+dynamic == 0:
		s.blindWeights(weights)
	case dynamic > 0 && energy >= base/1000:
		rest := max(energy*1000-base, 0)
		for i, node := range s.nodes {
			weights[1+n+i] = MulDiv(rest, node.dynamic, dynamic)
		}
	}
	return weights
}

func (s *minuteSplit) blindWeights(weights []int64) {
	n := len(s.nodes)
	var cpu int64
	for i, node := range s.nodes {
		if node.uptime > 0 {
			weights[1+n+i] = node.cpu
			cpu += node.cpu
		}
	}
	if cpu > 0 {
		return
	}
	for i, node := range s.nodes {
		weights[1+i] = node.uptime
	}
}

// overheadShares is each node's share of the overhead: by idle energy, else by
// time alive; nil where no node is on.
func (s *minuteSplit) overheadShares(overhead int64) []int64 {
	weights := make([]int64, len(s.nodes))
	for i, node := range s.nodes {
		weights[i] = node.idleEnergy
	}
	if shares := LargestRemainder(overhead, weights); shares != nil {
		return shares
	}
	for i, node := range s.nodes {
		weights[i] = node.uptime
	}
	return LargestRemainder(overhead, weights)
}
