package query

import (
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Answer is a page of usage.
type Answer struct {
	usage.Answer
	// Incomplete are the clusters of which something is missing or was refused
	// in the window; absent where it was not asked for.
	Incomplete []ClusterCompleteness `json:"incomplete,omitempty"`
}

// BoxRow is the energy of one box, in joules; exact sums of integer mJ.
type BoxRow struct {
	Box      string   `json:"box"`
	Site     string   `json:"site,omitempty"`
	Clusters []string `json:"clusters"`
	Nodes    []string `json:"nodes"`
	Meters   []string `json:"meters"`
	// MeasuredJoules is what the meters counted in the part of the window whose
	// meter intervals have closed; null without a meter.
	MeasuredJoules *Exact `json:"measuredJoules"`
	// AttributedJoules has a key "cluster/namespace" for each namespace and
	// idle, overhead and unattributed, always present, for what no pod carries.
	AttributedJoules map[string]Exact `json:"attributedJoules"`
	// ProvisionalJoules is the model's energy of the open end.
	ProvisionalJoules Exact `json:"provisionalJoules"`
	// EstimatedJoules is the model's energy of the times in which no meter ran.
	EstimatedJoules Exact `json:"estimatedJoules"`
	// ModelledJoules is what the model alone says for the part that
	// AttributedJoules covers.
	ModelledJoules Exact `json:"modelledJoules"`
	// ActiveJoules, IdleJoules and OverheadJoules are the parts of all of the box's
	// energy in the window, what is provisional or estimated included. Idle and
	// overhead are carried by IdlePolicy; what it leaves to nobody is in
	// AttributedJoules' idle and overhead.
	ActiveJoules   Exact  `json:"activeJoules"`
	IdleJoules     Exact  `json:"idleJoules"`
	OverheadJoules Exact  `json:"overheadJoules"`
	IdlePolicy     string `json:"idlePolicy"` // as it counts at the window's end: in a box of several customers by requests
	// ResidualJoules is measured - Σ attributed; null without a meter.
	ResidualJoules *Exact     `json:"residualJoules"`
	MeasuredUntil  *time.Time `json:"measuredUntil"` // end of the newest minute that closed meter intervals cover
	MeasuredWatts  *float64   `json:"measuredWatts"` // mean over the measured part
	ModelledWatts  *float64   `json:"modelledWatts"` // mean over the time of which there are rows
	Quality        string     `json:"quality"`
}

// BoxAnswer is the energy of all boxes.
type BoxAnswer struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Boxes []BoxRow  `json:"boxes"`
}

// provisional are the parts of the window that may still change, by cluster.
func (t *tally) provisional() []ClusterWindow {
	all := []ClusterWindow{}
	for cluster, windows := range t.open {
		for _, w := range windows {
			if t.tells(cluster) && w.Overlap(t.window.From, t.window.To) > 0 {
				all = append(all, ClusterWindow{Cluster: cluster, From: schema.Later(w.From, t.window.From), To: schema.Earlier(w.To, t.window.To)})
			}
		}
	}
	slices.SortFunc(all, func(a, b ClusterWindow) int {
		if a.Cluster != b.Cluster {
			return strings.Compare(a.Cluster, b.Cluster)
		}
		return a.From.Compare(b.From)
	})
	return merge(all)
}

// merge joins neighbours of one cluster.
func merge(windows []ClusterWindow) []ClusterWindow {
	merged := windows[:0]
	for _, w := range windows {
		if last := len(merged) - 1; last >= 0 && merged[last].Cluster == w.Cluster && !w.From.After(merged[last].To) {
			merged[last].To = schema.Later(merged[last].To, w.To)
			continue
		}
		merged = append(merged, w)
	}
	return merged
}
