package meter

import "time"

// Status is what the meter can tell of itself at a moment.
type Status struct {
	Lane         string
	From, To     time.Time // windows of this lane; To zero: open
	Mark         time.Time // every window of the lane before it has settled
	Next         time.Time // start of the window to settle next
	Waiting      string    // why Next has not settled: which node, series or clock
	WaitingRows  int       // rows of settled windows that wait for facts
	UnknownNodes []string  // nodes that the seed does not know
	Nodes        []NodeStatus
}

// NodeStatus is the meter's view of one node.
type NodeStatus struct {
	Name        string
	LastReading time.Time // newest sample, on the follower's clock; zero: never read
	LastBody    time.Time // when it was received
	Shift       time.Duration
	// Balance is the running sum of __unattributed__ since the start, core-µs.
	Balance    int64
	KnownFacts bool
}
