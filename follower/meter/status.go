package meter

import (
	"sort"
	"time"
)

// Status is what the meter can tell of itself at a moment.
type Status struct {
	Lane         string
	From, To     time.Time // windows of this lane; zero From: no reading yet, zero To: open
	Mark         time.Time // every window of the lane before it has settled
	Next         time.Time // start of the window to settle next
	Waiting      string    // why Next had not settled when Settle was last called
	WaitingRows  int       // rows of settled windows that wait for facts
	Revisions    int       // settled windows that are to be written again
	UnknownNodes []string  // nodes whose facts the seed does not hold now
	// SharedHosts are nodes that are containers on one host, as their boot ids say:
	// each host's capacity is counted once, in equal parts.
	SharedHosts [][]string
	Nodes       []NodeStatus
}

// NodeStatus is the meter's view of one node.
type NodeStatus struct {
	Name        string
	LastReading time.Time // newest own sample, on the follower's clock; zero: never read
	LastBody    time.Time // when its last body was received
	Shift       time.Duration
	// Balance is the running sum of __unattributed__ since Restore, core-µs.
	Balance    int64
	KnownFacts bool
	// Unmetered says that the node counts no memory of its pods: they have what
	// they requested.
	Unmetered bool
}

// Status is the meter's view of itself now.
func (m *Meter) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Lane: m.laneName(), From: moment(m.from), To: moment(m.to), Mark: moment(m.mark), Next: moment(m.mark),
		Waiting: m.why, WaitingRows: m.waitingRows(), Revisions: len(m.dirty)}
	if !m.restored {
		s.Waiting = ErrNotRestored.Error()
		return s
	}
	if m.from == 0 {
		s.Waiting = "no reading yet"
	}
	s.SharedHosts = m.sharedHosts()
	now := m.deps.Clock.Now()
	for _, n := range m.sortedNodes() {
		status := NodeStatus{Name: n.name, LastBody: moment(n.received), Shift: time.Duration(n.shift), Balance: n.balance, Unmetered: n.unmetered()}
		if n.own != nil {
			status.LastReading = moment(n.own.last.time)
		}
		if _, status.KnownFacts = m.deps.Tagger.FactsAt(n.name, now); !status.KnownFacts {
			s.UnknownNodes = append(s.UnknownNodes, n.name)
		}
		s.Nodes = append(s.Nodes, status)
	}
	return s
}

func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return at(ns)
}

func (m *Meter) waitingRows() int {
	rows := 0
	for _, nodes := range m.waiting {
		for _, lacks := range nodes {
			rows += lacks.rows
		}
	}
	return rows
}

func (m *Meter) sortedNodes() []*node {
	nodes := make([]*node, 0, len(m.nodes))
	for _, n := range m.nodes {
		nodes = append(nodes, n)
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].name < nodes[j].name })
	return nodes
}

// measure sets the gauges after a tick.
func (m *Meter) measure(now int64) {
	if m.mark != 0 {
		m.met.lag.Set(float64(now-m.mark) / 1e9)
	}
	m.met.waiting.Set(float64(m.waitingRows()))
	count := 0
	for _, n := range m.nodes {
		n.each(func(*series, *pod) { count++ })
	}
	m.met.series.Set(float64(count))
}
