// Package status is the shape in which a leader tells how it is: its loops,
// its clusters, and each reason why data are missing together with what to do
// about it. It is written by the leader, carried by the API and read by the
// command line and the status page. It does no I/O.
package status

import (
	"sort"
	"time"
)

// State is a cluster's condition in one word.
type State string

// The states, the worst last.
const (
	OK          State = "ok"          // its newest minute is as old as it must be
	Waiting     State = "waiting"     // added; no settled window yet
	Lagging     State = "lagging"     // reached, but behind
	Unreachable State = "unreachable" // the last contact failed
	Stopped     State = "stopped"     // the leader's loops are stopped
	Removed     State = "removed"     // not pulled any more; its history is kept
)

// Leader is the leader's own condition.
type Leader struct {
	ID           string     `json:"id,omitempty"` // what it is called in clusters
	Version      string     `json:"version"`
	Demo         bool       `json:"demo,omitempty"`
	Running      bool       `json:"running"` // the loops: pull, process, push, meters
	Started      time.Time  `json:"started"`
	TickSeconds  float64    `json:"tickSeconds"`  // length of a slot
	LastTick     *time.Time `json:"lastTick"`     // start of the newest finished slot
	MissedTicks  int64      `json:"missedTicks"`  // slots that began while an earlier one ran
	DueWork      int64      `json:"dueWork"`      // processor units waiting
	Quarantined  int64      `json:"quarantined"`  // rows refused because they name another cluster
	Problems     []Problem  `json:"problems"`     // of the leader; a cluster's stand with the cluster
	ClusterCount int        `json:"clusterCount"` // without the removed ones
	Grids        []Grid     `json:"grids,omitempty"`
}

// Grid is how the intensity of one grid is asked for.
type Grid struct {
	Name   string     `json:"name"`
	Zone   string     `json:"zone"`
	Asked  *time.Time `json:"asked"`  // the last attempt
	Newest *time.Time `json:"newest"` // until when an intensity is known
	Error  string     `json:"error,omitempty"`
}

// Cluster is one cluster's condition.
type Cluster struct {
	Name        string     `json:"name"`
	Customer    string     `json:"customer,omitempty"`
	Provider    string     `json:"provider,omitempty"`
	Region      string     `json:"region,omitempty"`
	URL         string     `json:"url,omitempty"` // of its follower
	Via         string     `json:"via,omitempty"` // service-proxy: through its API server
	Manage      string     `json:"manage,omitempty"`
	State       State      `json:"state"`
	Nodes       int        `json:"nodes"`
	LastContact *time.Time `json:"lastContact"` // the last one that succeeded
	Settled     *time.Time `json:"settled"`     // end of its newest window that is here
	LagSeconds  *float64   `json:"lagSeconds"`  // now - settled
	NextWindow  *time.Time `json:"nextWindow"`  // when the next window is expected to be here
	LastError   *Failure   `json:"lastError"`   // of the last contact, null when it succeeded
	NextAttempt *time.Time `json:"nextAttempt"` // when a contact that failed is tried again, null when it succeeded
	History     *Progress  `json:"history,omitempty"`
	Problems    []Problem  `json:"problems"`
}

// Failure is an error and when it happened.
type Failure struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
}

// Progress is how far the filling of [From, To) has come, from From on.
type Progress struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Done time.Time `json:"done"`
}

// Fraction is the filled part, 0 to 1.
func (p Progress) Fraction() float64 {
	if length := p.To.Sub(p.From); length > 0 {
		return min(1, max(0, float64(p.Done.Sub(p.From))/float64(length)))
	}
	return 1
}

// Overview is everything at once: what GET /api/v1/status answers.
type Overview struct {
	Now      time.Time `json:"now"`
	Leader   Leader    `json:"leader"`
	Clusters []Cluster `json:"clusters"`
}

// Code names a reason why data are missing or not yet right.
type Code string

// The reasons.
const (
	LoopsStopped         Code = "loops-stopped"
	FollowerUnreachable  Code = "follower-unreachable"
	FollowerUnauthorized Code = "follower-unauthorized"
	AccessRefused        Code = "access-refused"
	TokenNotRenewed      Code = "token-not-renewed"
	NotInstalled         Code = "not-installed"
	LinkFiles            Code = "link-files"
	SyncLag              Code = "sync-lag"
	KubeletForbidden     Code = "kubelet-forbidden"
	KubeletUnreachable   Code = "kubelet-unreachable"
	SourceFailing        Code = "source-failing"
	ClockOff             Code = "clock-off"
	SeedMissing          Code = "seed-missing"
	SeedRefused          Code = "seed-refused"
	SeedNotGiven         Code = "seed-not-given"
	UnknownNode          Code = "unknown-node"
	RowsWaiting          Code = "rows-waiting"
	NoWindowYet          Code = "no-window-yet"
	SyncMismatch         Code = "sync-mismatch"
	Fenced               Code = "fenced"
	RowsQuarantined      Code = "rows-quarantined"
	RowsRefused          Code = "rows-refused"
	QuarantineFull       Code = "quarantine-full"
	NoCluster            Code = "no-cluster"
	NoPriceList          Code = "no-price-list"
	NoMeter              Code = "no-meter"
	MeterFailing         Code = "meter-failing"
	GridFailing          Code = "grid-failing"
	PricesFailing        Code = "prices-failing"
	ProcessorFailing     Code = "processor-failing"
	ArchiveNotCopied     Code = "archive-not-copied"
)

// Problem is one reason, and what to do.
type Problem struct {
	Code    Code       `json:"code"`
	Message string     `json:"message"`
	Hint    string     `json:"hint"`
	Since   *time.Time `json:"since,omitempty"`
}

var hints = map[Code]string{
	LoopsStopped:         "They were stopped through the leader's API: start them there (POST /accumulus/start), or restart the leader.",
	FollowerUnreachable:  "Is the follower running, and does the cluster's url in `accumulus get cluster NAME -o yaml` lead to it? Usage is metered meanwhile and arrives when the link is back.",
	FollowerUnauthorized: "The follower refuses the leader's token: give the cluster's tokenFile the follower's leader token.",
	AccessRefused:        "The leader has no valid credentials of the cluster's API server: `accumulus cluster add NAME --context CONTEXT` gives it new ones. Usage is metered meanwhile.",
	TokenNotRenewed:      "The leader's token of the cluster's API server ends and is not renewed; it is tried again by itself. If the cluster refuses: `accumulus cluster add NAME --context CONTEXT --token-duration DURATION` gives the leader the right and a new token.",
	NotInstalled:         "The leader could not install the follower, or what it installed is not ready: `accumulus cluster status NAME` says what to do. It is tried again by itself.",
	LinkFiles:            "The leader reads this file on its own machine, at each request: put it there, or name another in the Cluster object (`accumulus get cluster NAME -o yaml`, then `accumulus apply`). No restart is needed.",
	SyncLag:              "A minute settles two minutes after its end at the latest and is here a tick later. If the follower waits, its nodes' kubelets or its clock keep it; if the copy is behind, it catches up by itself after an outage, else the link or the leader's machine is too slow.",
	KubeletForbidden:     "The follower's service account may not read node metrics: bind it to a ClusterRole with get on `nodes/metrics`, and never on `nodes/proxy`.",
	KubeletUnreachable:   "The follower cannot reach a kubelet (port 10250): look at the node, its firewall and its certificate.",
	SourceFailing:        "The follower cannot read its source: its log has the whole error.",
	ClockOff:             "The follower's clock is more than 30 s off: start time synchronisation on its machine. Readings are kept, windows settle when the clock is right.",
	SeedMissing:          "The follower has no facts about its nodes yet: the leader sends them once `accumulus apply` has named the cluster's nodes.",
	SeedRefused:          "The follower goes on with the facts that it has, and takes no others until this is mended. If its ConfigMap was changed by hand, the leader puts it right within ten minutes; if the leader's key is another now, give the follower what `accumulus seed key` prints.",
	SeedNotGiven:         "The leader cannot put the facts about the cluster's nodes into its ConfigMap; it tries again each minute. The follower goes on with those that it has.",
	UnknownNode:          "Describe the node (kind Node with cluster, node, box and hardware) and run `accumulus apply`. Until then its rows wait for ten minutes, for other nodes of the cluster are described, and settle as unknown.",
	RowsWaiting:          "Windows wait for facts; they settle without them at the facts deadline and are corrected later.",
	NoWindowYet:          "The first window comes when its minute has passed and every pod of it was read once more.",
	SyncMismatch:         "What arrived is not what the follower settled; the leader tries again at each tick. If it stays, the follower's store is damaged.",
	Fenced:               "Another leader, which started later, gives this follower its results: stop this leader, or the other one and restart this one, whose number is then the higher. Usage is pulled meanwhile.",
	RowsQuarantined:      "The follower sends rows that name another cluster; they are kept apart and billed to nobody. Check the cluster's name in the follower's configuration.",
	RowsRefused:          "The central store does not take these rows; they are kept. `accumulus sync quarantine` says why and what to do; then `accumulus sync replay`.",
	QuarantineFull:       "Too many rows of the table were refused, so it is not pulled: its rows are safe at the follower. Mend what `accumulus sync quarantine` names, then `accumulus sync replay`, or `accumulus sync discard`.",
	NoCluster:            "Add one: `accumulus cluster add NAME --url http://…:8081`.",
	NoPriceList:          "Usage is metered, but nothing has a price: apply a PriceList (`accumulus apply -f prices.yaml`).",
	NoMeter:              "Energy is estimated from a model: apply a Meter for the box to have it measured.",
	MeterFailing:         "An electricity meter does not answer: look at its address in `accumulus get meter -o yaml`. Energy is estimated meanwhile and corrected when it answers.",
	GridFailing:          "The source of a grid's intensity does not answer: look at its url and tokenFile in `accumulus get grid -o yaml`. Its country's yearly mean counts meanwhile, as an estimate, unless noYearly is set; carbon is computed again when it answers.",
	PricesFailing:        "The source of a dynamic price does not answer: look at its url and tokenFile in `accumulus get priceseries -o yaml`. Quarters without a price have the rate's fallback, or no price until it answers or they are pushed (`accumulus prices push`).",
	ArchiveNotCopied:     "The archive cannot be copied into its bucket; it is tried again every ten minutes. Nothing else waits for it but the deletion of old minute rows, so watch the disk: look at the bucket's URL, credentials and quota. `accumulus archive list` shows what waits.",
	ProcessorFailing:     "A processor fails for some quarters; they stay due and are tried again. The leader's log has the whole error.",
}

// Hint is what to do about a reason, or "" for an unknown one.
func Hint(code Code) string { return hints[code] }

// Codes are all reasons, sorted.
func Codes() []Code {
	codes := make([]Code, 0, len(hints))
	for code := range hints {
		codes = append(codes, code)
	}
	sort.Slice(codes, func(i, j int) bool { return codes[i] < codes[j] })
	return codes
}

// NewProblem is a problem with the hint of its code.
func NewProblem(code Code, message string) Problem {
	return Problem{Code: code, Message: message, Hint: Hint(code)}
}
