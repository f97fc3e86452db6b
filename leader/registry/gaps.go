package registry

import "time"

// GapCode is why windows are missing, or not as they should be.
type GapCode string

// The codes.
const (
	GapNotYet       GapCode = "not-yet"
	GapFollowerDown GapCode = "follower-down"
	GapLinkDown     GapCode = "link-down"
	GapUnauthorized GapCode = "unauthorized"
	GapSyncFailing  GapCode = "sync-failing"
	GapDiskBudget   GapCode = "disk-budget"
	GapEra          GapCode = "era"
	GapNodeSilent   GapCode = "node-silent"
	GapQuarantined  GapCode = "quarantined"
	GapUnexplained  GapCode = "unexplained-rows"
	GapBeforeFirst  GapCode = "before-first"
	GapFilling      GapCode = "filling"
	GapNotJournaled GapCode = "not-journalled"
)

// GapCodes are all codes with what each means to a reader, in the order in which
// they are told.
var GapCodes = []struct {
	Code    GapCode
	Meaning string
}{
	{GapNotYet, "the link works and the follower has not settled it yet; it comes by itself"},
	{GapFollowerDown, "the follower did not run or had not opened its store; what it did not read is lost, the rest comes when it runs"},
	{GapLinkDown, "the leader could not reach the follower; usage is metered meanwhile and comes when the link is back"},
	{GapUnauthorized, "the follower refused the leader's token; usage is metered meanwhile and comes with the right token"},
	{GapSyncFailing, "the follower answers and what it sent could not be taken; each tick tries again, the leader's log has the error"},
	{GapDiskBudget, "the follower's store took no rows: its disk is full or its budget used up"},
	{GapEra, "the follower's store was replaced or restored; what the old one had not handed over is lost"},
	{GapNodeSilent, "the follower did not reach this node in the window; if it reaches it again, what the node used meanwhile comes as a revision, spread over the gap"},
	{GapQuarantined, "the centre's store refused rows; they are kept and can be replayed"},
	{GapUnexplained, "the centre holds rows that the follower does not, and no change of its store explains them: they may count twice"},
	{GapBeforeFirst, "before the first window that the follower settled: it was not there yet"},
	{GapFilling, "the follower is filling its history and has not come so far; it comes by itself"},
	{GapNotJournaled, "the follower settled later windows and never this one"},
}

// Gap is a stretch of a table's windows that were not received, of all nodes or
// of one, or whose rows were refused, and why.
type Gap struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Node    string    `json:"node,omitempty"` // "" = all nodes
	Windows int       `json:"windows"`        // node-windows; of refused rows, windows
	Reason  GapCode   `json:"reason"`
	Message string    `json:"message,omitempty"`
}

// run is a stretch of windows that lack the same thing.
type run struct {
	span
	node    int  // its number; -1 = all nodes
	refused bool // it came, and rows of it were refused
	disk    bool // the journal entry says that the follower had no room
	// unexplained: it came, and the centre has rows beyond it.
	unexplained bool
	rows        int64
}

// runs are joined while they are found, in the order of time for each node.
type runs struct {
	list []run
	open map[run]int // by what is lacking, without the stretch: where it stands in list
}

func (r *runs) add(from, to int64, lacks run) {
	rows := lacks.rows
	lacks.span, lacks.rows = span{}, 0
	if at, ok := r.open[lacks]; ok && r.list[at].to == from {
		r.list[at].to = to
		r.list[at].rows += rows
		return
	}
	if r.open == nil {
		r.open = make(map[run]int)
	}
	r.open[lacks] = len(r.list)
	lacks.span, lacks.rows = span{from: from, to: to}, rows
	r.list = append(r.list, lacks)
}

// A ClusterState's word is that of the gaps that it explains, but for these.
const (
	StateOK      = "ok"      // the link works
	StateUnknown = "unknown" // the leader did not run
)

// formerUnreachable is the word of states before there were several.
const formerUnreachable = "unreachable"

// code is what a state of the link explains; "" for nothing.
func (s ClusterState) code() GapCode {
	switch s.State {
	case StateOK, StateUnknown:
		return ""
	case formerUnreachable:
		return GapLinkDown
	}
	return GapCode(s.State)
}

// link tells what the states of a cluster's link explain.
type link []ClusterState

// now is the newest state, if it explains anything.
func (l link) now() (ClusterState, bool) {
	if len(l) == 0 || l[len(l)-1].code() == "" {
		return ClusterState{}, false
	}
	return l[len(l)-1], true
}

// during is the state that explains most of the stretch, and when it ended; the
// zero time if it lasts.
func (l link) during(s span) (worst ClusterState, until time.Time, found bool) {
	var most int64
	for i, state := range l {
		from, to := nanos(state.Since), int64(forever)
		if i+1 < len(l) {
			to = nanos(l[i+1].Since)
		}
		if length := min(to, s.to) - max(from, s.from); state.code() != "" && length > most {
			most, worst, found = length, state, true
			until = time.Time{}
			if i+1 < len(l) {
				until = l[i+1].Since
			}
		}
	}
	return worst, until, found
}

// said is a state as a message.
func said(s ClusterState, until time.Time) string {
	text := "since " + s.Since.Format(time.RFC3339)
	if !until.IsZero() {
		text += " until " + until.Format(time.RFC3339)
	}
	if s.Message != "" {
		text += ": " + s.Message
	}
	return text
}
