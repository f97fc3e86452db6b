package follower

import (
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/facts"
	"github.com/accumulus-metering/accumulus/follower/meter"
	"github.com/accumulus-metering/accumulus/follower/tagger"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Status is what a follower tells of itself: the answer of GET
// /api/v1/status.
type Status struct {
	Cluster string    `json:"cluster"`
	Store   string    `json:"store"` // id of the store; "" until it is open
	Now     time.Time `json:"now"`
	Started time.Time `json:"started"`
	Open    bool      `json:"open"` // store and meter can be used

	// Mark is the end of the last window of the live lane that settled; null
	// before the first.
	Mark *time.Time `json:"mark"`
	// NextWindow is when the next window to settle ends; it settles once every
	// living series was read after that.
	NextWindow time.Time `json:"nextWindow"`
	Waiting    string    `json:"waiting,omitempty"` // why the next window has not settled

	WaitingRows  int      `json:"waitingRows"` // rows of settled windows that wait for facts
	UnknownNodes []string `json:"unknownNodes"`

	Sources []SourceStatus `json:"sources"`
	Seed    tagger.Status  `json:"seed"`
	Clock   ClockStatus    `json:"clock"`
	Facts   facts.Status   `json:"facts"`
	Watch   *WatchStatus   `json:"watch,omitempty"`
	History *HistoryStatus `json:"history,omitempty"`
	Nodes   []NodeStatus   `json:"nodes"`

	// Namespace is the metering's own; "" if it was not told.
	Namespace string `json:"namespace,omitempty"`
	// Pseudonyms says that names are replaced in all that is stored here.
	Pseudonyms bool `json:"pseudonyms,omitempty"`
	// SharedHosts are nodes that are containers on one host: its capacity is
	// counted once, in equal parts.
	SharedHosts [][]string `json:"sharedHosts,omitempty"`

	// Fence is the highest number that a leader has written with; 0 before the
	// first. It is text: it has more digits than some readers of JSON keep.
	Fence int64 `json:"fence,string"`

	StoreError   string     `json:"storeError,omitempty"` // of the last attempt to store or settle
	StoreErrorAt *time.Time `json:"storeErrorAt,omitempty"`
}

// SourceStatus is how one node, or the host, was read.
type SourceStatus struct {
	Name        string     `json:"name"`
	LastSuccess *time.Time `json:"lastSuccess"` // null: never
	LastAttempt *time.Time `json:"lastAttempt,omitempty"`
	Error       string     `json:"error,omitempty"`
	ErrorSince  *time.Time `json:"errorSince,omitempty"`
	// Problems are what of the node is not metered although it was read.
	Problems []string `json:"problems,omitempty"`
}

// ClockStatus says whether windows may settle by the follower's clock.
type ClockStatus struct {
	Trusted       bool     `json:"trusted"`
	Reason        string   `json:"reason,omitempty"`        // why not
	OffsetSeconds *float64 `json:"offsetSeconds,omitempty"` // the other clock less ours
	By            string   `json:"by,omitempty"`            // whose clock: API server, leader
}

// WatchStatus is how the watch of the API server goes.
type WatchStatus struct {
	Synced      bool       `json:"synced"`
	Unlisted    []string   `json:"unlisted,omitempty"` // kinds of objects that could not be listed yet
	LastError   string     `json:"lastError,omitempty"`
	LastErrorAt *time.Time `json:"lastErrorAt,omitempty"`
}

// NodeStatus is the meter's view of one node.
type NodeStatus struct {
	Name        string     `json:"name"`
	LastReading *time.Time `json:"lastReading"`
	// BalanceCoreMicroseconds is the running sum of what no pod was given.
	BalanceCoreMicroseconds int64   `json:"balanceCoreMicroseconds"`
	ClockShiftSeconds       float64 `json:"clockShiftSeconds"`
	KnownFacts              bool    `json:"knownFacts"`
}

// HistoryStatus is how far the filling of [From, To) has come, from From on.
type HistoryStatus struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Done time.Time `json:"done"`
}

// Status is safe to call from any goroutine, at any time.
func (f *Follower) Status() Status {
	f.mu.Lock()
	state := f.state
	f.mu.Unlock()
	now := f.clock.Now()
	s := Status{Cluster: f.config.Cluster, Now: now, Started: state.started, Open: state.open,
		NextWindow: schema.WindowAt(now, schema.Minute).To, UnknownNodes: []string{}, Nodes: []NodeStatus{},
		Seed: f.tagger.Status(), History: state.history, Namespace: f.config.Namespace, Pseudonyms: f.input.Names != nil,
		Clock:      ClockStatus{Trusted: state.distrust == "", Reason: state.distrust},
		StoreError: state.storeErr.text, StoreErrorAt: moment(state.storeErr.since)}
	if offset, by, known := f.trust.state(); known {
		seconds := offset.Seconds()
		s.Clock.OffsetSeconds, s.Clock.By = &seconds, by
	}
	if f.input.Watch != nil {
		w := f.input.Watch()
		s.Watch = &WatchStatus{Synced: w.Synced, Unlisted: w.Unlisted, LastError: w.LastError, LastErrorAt: moment(w.LastErrorAt)}
	}
	s.Sources = f.sources(state)
	if state.open {
		s.Store, s.Facts, s.Fence = f.storeID, f.facts.Status(), f.fence.highest.Load()
		s.meter(f.meter.Status())
	}
	return s
}

func (s *Status) meter(m meter.Status) {
	s.Waiting, s.WaitingRows = m.Waiting, m.WaitingRows
	s.UnknownNodes = append(s.UnknownNodes, m.UnknownNodes...)
	slices.Sort(s.UnknownNodes)
	if m.Mark.After(m.From) {
		s.Mark = moment(m.Mark)
	}
	if !m.Next.IsZero() {
		s.NextWindow = m.Next.Add(schema.Minute)
	}
	s.SharedHosts = m.SharedHosts
	for _, n := range m.Nodes {
		s.Nodes = append(s.Nodes, NodeStatus{Name: n.Name, LastReading: moment(n.LastReading), BalanceCoreMicroseconds: n.Balance,
			ClockShiftSeconds: n.Shift.Seconds(), KnownFacts: n.KnownFacts})
	}
}

// sources are the nodes that the source tells of, or else the source as one.
func (f *Follower) sources(state state) []SourceStatus {
	list := []SourceStatus{}
	if f.input.Status != nil {
		for _, n := range f.input.Status() {
			s := SourceStatus{Name: n.Node, LastSuccess: moment(n.LastSuccess), LastAttempt: moment(n.LastAttempt)}
			if n.Err != nil {
				s.Error = n.Err.Error()
			}
			if n.MemoryOff {
				s.Problems = append(s.Problems, "the node counts no memory of its pods, they are billed what they request: boot it with its memory control group on (no cgroup_disable=memory)")
			}
			if n.SummaryErr != nil {
				s.Problems = append(s.Problems, "volumes and ephemeral storage: "+n.SummaryErr.Error())
			}
			list = append(list, s)
		}
	}
	if len(list) == 0 || f.input.Status == nil {
		name := f.config.Source
		if name == "" {
			name = "source"
		}
		list = append(list, SourceStatus{Name: name, LastSuccess: moment(state.lastRead),
			Error: state.readError.text, ErrorSince: moment(state.readError.since)})
	}
	return list
}

// moment is t, or nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
