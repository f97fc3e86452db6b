package usage

import "time"

// Answer is a page of usage.
type Answer struct {
	From        time.Time        `json:"from"`
	To          time.Time        `json:"to"`
	Settled     time.Time        `json:"settled"` // where relative windows end
	StepSeconds int64            `json:"stepSeconds,omitempty"`
	Aggregate   []Key            `json:"aggregate"`
	Rows        []Row            `json:"rows"`
	Total       int              `json:"total"` // rows on all pages
	Provisional []ClusterWindow  `json:"provisional"`
	Clusters    []ClusterSettled `json:"clusters"`
	Next        string           `json:"next"` // "" on the last page
	// NotApplied are the rules of the price lists that the cost does not apply, such
	// as tiers and minimum charges, which are a billing period's; and prices that are
	// missing.
	NotApplied []string `json:"notApplied,omitempty"`
}

// ClusterWindow is a part of a cluster's time.
type ClusterWindow struct {
	Cluster string    `json:"cluster"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
}

// ClusterSettled is how far a cluster's data reach.
type ClusterSettled struct {
	Cluster string     `json:"cluster"`
	Settled *time.Time `json:"settled"` // null before its first window
}
