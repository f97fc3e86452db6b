package manager

import (
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// FollowerStatus is what a follower tells of itself at GET /api/v1/status, as
// far as the leader makes use of it.
type FollowerStatus struct {
	Cluster      string           `json:"cluster"`
	Open         bool             `json:"open"`
	Mark         *time.Time       `json:"mark"`       // end of the last settled window; null before the first
	NextWindow   time.Time        `json:"nextWindow"` // when the next window to settle ends
	Waiting      string           `json:"waiting"`    // why it has not settled
	WaitingRows  int              `json:"waitingRows"`
	UnknownNodes []string         `json:"unknownNodes"`
	Sources      []FollowerSource `json:"sources"`
	Seed         FollowerSeed     `json:"seed"`
	Clock        FollowerClock    `json:"clock"`
	History      *FollowerHistory `json:"history"`
	StoreError   string           `json:"storeError"`
}

// rest is what of its history the follower has yet to fill; empty for nothing.
func (s FollowerStatus) rest() schema.Window {
	if s.History == nil {
		return schema.Window{}
	}
	from := s.History.Done
	if from.Before(s.History.From) {
		from = s.History.From
	}
	return schema.Window{From: from.UTC(), To: s.History.To.UTC()}
}

// FollowerSource is how one node, or the host, was read.
type FollowerSource struct {
	Name        string     `json:"name"`
	LastSuccess *time.Time `json:"lastSuccess"`
	Error       string     `json:"error"`
	ErrorSince  *time.Time `json:"errorSince"`
}

// FollowerSeed is the state of the facts about nodes.
type FollowerSeed struct {
	Loaded bool   `json:"loaded"`
	Error  string `json:"error"`
}

// FollowerClock says whether windows may settle by the follower's clock.
type FollowerClock struct {
	Trusted bool   `json:"trusted"`
	Reason  string `json:"reason"`
}

// FollowerHistory is how far the filling of [From, To) has come.
type FollowerHistory struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Done time.Time `json:"done"`
}
