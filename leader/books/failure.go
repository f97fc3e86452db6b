package books

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// Who says that a node failed.
const (
	FromWatch    = "watch"    // the watch of its cluster
	FromOperator = "operator" // a person
)

// podRows is how long rows per pod are kept in the centre: what pods of failed
// nodes used is summed from them within that time, and again when they change.
const podRows = 14 * 24 * time.Hour

// FailureRequest is a node that failed, by somebody's word.
type FailureRequest struct {
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"` // as Kubernetes names it
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	By      string    `json:"by"`
}

// Failure is a node that failed, with the pods that died with it.
type Failure struct {
	ID       int64     `json:"id"`
	Cluster  string    `json:"cluster"`
	Node     string    `json:"node"`
	At       time.Time `json:"at"`
	Source   string    `json:"source"`   // FromWatch or FromOperator
	Evidence string    `json:"evidence"` // what the watch saw, or why somebody recorded it
	By       string    `json:"by,omitempty"`
	Recorded time.Time `json:"recorded"`
	// Counts says that it is refunded: it was not dismissed.
	Counts    bool       `json:"counts"`
	Dismissed *Dismissal `json:"dismissed,omitempty"`
	// Log is what persons did about it: recorded it, dismissed it, took that back.
	Log []registry.BookAction `json:"log,omitempty"`
	// Summed says that its pods are known: before, the cluster's data do not reach far
	// enough.
	Summed bool      `json:"summed"`
	Pods   []LostPod `json:"pods"`
}

// Dismissal is why a failure does not count.
type Dismissal struct {
	Done
	Reason string `json:"reason"`
}

// LostPod is a pod that died with its node.
type LostPod struct {
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	UID       string     `json:"uid"`
	Start     time.Time  `json:"start"`
	End       time.Time  `json:"end,omitzero"` // not there: no end was seen
	Customers []string   `json:"customers"`
	Estimated bool       `json:"estimated,omitempty"` // a part of what it used is its share of its workload's
	Note      string     `json:"note,omitempty"`      // what of its use is not known
	Refunds   []Refunded `json:"refunds,omitempty"`
}

// Refunded is what a statement gave back of a pod.
type Refunded struct {
	Customer  string `json:"customer"`
	Period    string `json:"period"` // in which it was used
	Statement int64  `json:"statement"`
}

// Failures are the nodes that failed, of a cluster or of all for "", the oldest
// first.
func (b *Books) Failures(ctx context.Context, cluster string) ([]Failure, error) {
	stored, err := b.registry.BookFailures(ctx, cluster)
	if err != nil {
		return nil, err
	}
	all := make([]Failure, 0, len(stored))
	for _, f := range stored {
		one, err := failureOf(f)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func failureOf(f registry.BookFailure) (Failure, error) {
	one := Failure{ID: f.ID, Cluster: f.Cluster, Node: f.Node, At: f.At, Source: f.Source, Evidence: f.Evidence, By: f.By, Recorded: f.Recorded,
		Counts: f.Dismissed.IsZero(), Log: f.Log, Summed: f.Fingerprint != "", Pods: []LostPod{}}
	if !one.Counts {
		one.Dismissed = &Dismissal{Done{By: f.DismissedBy, At: f.Dismissed}, f.DismissedReason}
	}
	for _, lost := range f.Lost {
		used, err := unpackUsed(lost.Used)
		if err != nil {
			return one, fmt.Errorf("pod %s/%s: %w", lost.Namespace, lost.Pod, err)
		}
		pod := LostPod{Namespace: lost.Namespace, Pod: lost.Pod, UID: lost.UID, Start: lost.Start, End: lost.End, Customers: []string{}, Estimated: used.Estimated, Note: used.Note}
		for _, u := range used.Parts {
			pod.Customers = append(pod.Customers, u.Customer)
		}
		slices.Sort(pod.Customers)
		pod.Customers = slices.Compact(pod.Customers)
		for _, given := range f.Refunded {
			if given.UID == lost.UID {
				pod.Refunds = append(pod.Refunds, Refunded{given.Customer, given.Period, given.Statement})
			}
		}
		one.Pods = append(one.Pods, pod)
	}
	return one, nil
}

// RecordFailure records that a node failed, by whom and why: the usage, since their
// start, of the pods that died with it is refunded in the drafts of the periods that
// are open. Recorded again, it is the same failure; so is one that the watch saw
// within rating.DiedWithin of it. Errors: ErrInput, ErrFourEyes for a token that several
// may have, registry.ErrNotFound.
func (b *Books) RecordFailure(ctx context.Context, request FailureRequest) (Failure, error) {
	by, err := named(request.By)
	if err != nil {
		return Failure{}, err
	}
	reason, at := strings.TrimSpace(request.Reason), request.At.UTC()
	switch {
	case request.Cluster == "" || request.Node == "":
		return Failure{}, &Error{Kind: ErrInput, Text: "no node is named", Hint: "Name the cluster and the node, as Kubernetes names it (--cluster NAME --node NAME)."}
	case request.At.IsZero() || at.After(b.now()):
		return Failure{}, &Error{Kind: ErrInput, Text: "the failure has no moment in the past", Hint: "Say when the node failed (--at 2026-11-20T14:03:00Z)."}
	case reason == "":
		return Failure{}, &Error{Kind: ErrInput, Text: "the failure has no reason", Hint: "Say how it is known that the node failed: who approves the period reads it (--reason TEXT)."}
	}
	if err := plain("reason", reason, mostReason); err != nil {
		return Failure{}, err
	}
	life, err := b.nodeStates(ctx, request.Cluster, schema.Window{From: at.Add(-rating.DiedWithin), To: at.Add(rating.DiedWithin)})
	if err != nil {
		return Failure{}, err
	}
	if !slices.ContainsFunc(life, func(s nodeState) bool { return s.node == request.Node }) {
		return Failure{}, &Error{Kind: registry.ErrNotFound, Text: fmt.Sprintf("cluster %s had no node %s at %s", request.Cluster, request.Node, at.Format(time.RFC3339)),
			Hint: "Name it as Kubernetes does: accumulus usage --aggregate node --filter cluster=" + request.Cluster}
	}
	if err := b.inPerson(ctx, fmt.Sprintf("that node %s of %s failed", request.Node, request.Cluster)); err != nil {
		return Failure{}, err
	}
	id, _, err := b.registry.AddBookFailure(ctx, registry.BookFailure{Cluster: request.Cluster, Node: request.Node, At: at, Source: FromOperator, Evidence: reason, By: by},
		rating.DiedWithin, &registry.BookAction{By: by, Action: "failure", Detail: fmt.Sprintf("node %s of %s failed at %s: %s", request.Node, request.Cluster, at.Format(time.RFC3339), reason)})
	if err != nil {
		return Failure{}, err
	}
	if err := b.sumLosses(ctx, request.Cluster); err != nil {
		return Failure{}, err
	}
	return b.failure(ctx, request.Cluster, id)
}

// inPerson is an error of who vouches for a failure with a token that several may have:
// he could approve its refund under another name.
func (b *Books) inPerson(ctx context.Context, what string) error {
	if b.config.OnePerson || !identity.Of(ctx).Shared() {
		return nil
	}
	return &Error{Kind: ErrFourEyes, Text: what + " takes the word of a person who is known by name and does not approve the refund; the token that was shown is one that several may have; nothing was changed",
		Hint:    `Give the person a token of his own (POST /api/v1/tokens with {"name":"olga","role":"billing"}), or an issuer: docs/access.md.`,
		Command: "Use a token of your own: `accumulus token create olga --role billing > olga.token`, then --token-file olga.token (docs/access.md). Who is alone sets the leader's --one-person-books."}
}

// because is who does something about a failure and why. Error: ErrInput.
func because(by, reason, none, hint string) (who, why string, err error) {
	if who, err = named(by); err != nil {
		return "", "", err
	}
	if why = strings.TrimSpace(reason); why == "" {
		return "", "", &Error{Kind: ErrInput, Text: none, Hint: hint}
	}
	return who, why, plain("reason", why, mostReason)
}

// What persons do about a failure, as its log has it.
const (
	failureDismissed  = "dismiss"
	failureReinstated = "reinstate"
)

// DismissFailure says that a failure does not count, by whom and why; it stays
// recorded. Errors: ErrInput, ErrState where a statement has refunded it,
// registry.ErrNotFound.
func (b *Books) DismissFailure(ctx context.Context, id int64, by, reason string) (Failure, error) {
	by, reason, err := because(by, reason, "the dismissal has no reason", "Say why the failure does not count (--reason TEXT).")
	if err != nil {
		return Failure{}, err
	}
	err = b.registry.DismissBookFailure(ctx, id, reason, registry.BookAction{By: by, Action: failureDismissed, Detail: fmt.Sprintf("failure %d: %s", id, reason)})
	if errors.Is(err, registry.ErrRefunded) {
		return Failure{}, &Error{Kind: ErrState, Text: fmt.Sprintf("failure %d: %v", id, registry.ErrRefunded), Hint: "What a statement has given back stays given back."}
	}
	if err != nil {
		return Failure{}, err
	}
	return b.failure(ctx, "", id)
}

// ReinstateFailure takes the dismissal of a failure back, by whom and why: it is
// refunded again, and who did so does not approve that. What its pods had used when it
// was dismissed is what they used. Errors: ErrInput, ErrFourEyes for a token that several
// may have, ErrState where it was not dismissed, registry.ErrNotFound.
func (b *Books) ReinstateFailure(ctx context.Context, id int64, by, reason string) (Failure, error) {
	by, reason, err := because(by, reason, "taking the dismissal back has no reason", "Say why the failure counts after all: who approves the period reads it (--reason TEXT).")
	if err != nil {
		return Failure{}, err
	}
	if err := b.inPerson(ctx, fmt.Sprintf("that failure %d counts again", id)); err != nil {
		return Failure{}, err
	}
	err = b.registry.ReinstateBookFailure(ctx, id, registry.BookAction{By: by, Action: failureReinstated, Detail: fmt.Sprintf("failure %d: %s", id, reason)})
	if errors.Is(err, registry.ErrCounts) {
		return Failure{}, &Error{Kind: ErrState, Text: fmt.Sprintf("failure %d counts: %v", id, registry.ErrCounts), Hint: "There is nothing to take back: accumulus books failures"}
	}
	if err != nil {
		return Failure{}, err
	}
	made, err := b.failure(ctx, "", id)
	if err != nil {
		return Failure{}, err
	}
	if err := b.sumLosses(ctx, made.Cluster); err != nil {
		return Failure{}, err
	}
	return b.failure(ctx, made.Cluster, id)
}

func (b *Books) failure(ctx context.Context, cluster string, id int64) (Failure, error) {
	all, err := b.Failures(ctx, cluster)
	if err != nil {
		return Failure{}, err
	}
	i := slices.IndexFunc(all, func(f Failure) bool { return f.ID == id })
	if i < 0 {
		return Failure{}, fmt.Errorf("failure %d: %w", id, registry.ErrNotFound)
	}
	return all[i], nil
}

// nodeState is a node as the watch saw it for a while.
type nodeState struct {
	node, uid string
	schema.Window
	ended  bool // the node left the cluster at its end
	ready  bool
	reason string // why it is not ready
}

// nodeStates are the states of a cluster's nodes in a window, by node and time. To
// is now of what goes on.
func (b *Books) nodeStates(ctx context.Context, cluster string, w schema.Window) ([]nodeState, error) {
	var all []nodeState
	now := b.now()
	err := b.registry.KubeObjects(ctx, cluster, "Node", w, func(o registry.KubeObject) error {
		var spec struct {
			Ready       bool   `json:"ready"`
			ReadyReason string `json:"readyReason"`
		}
		if json.Unmarshal(o.Spec, &spec) != nil {
			return nil // a foreign text says nothing of the node
		}
		s := nodeState{node: o.Name, uid: o.UID, Window: schema.Window{From: o.ValidFrom, To: now}, ready: spec.Ready, reason: spec.ReadyReason}
		if last := len(all) - 1; last >= 0 && all[last].uid == o.UID && !all[last].ended {
			all[last].To = o.ValidFrom
		}
		if !o.ValidTo.IsZero() { // this row says that it left
			s.To, s.ended = o.ValidTo, true
			if last := len(all) - 1; last >= 0 && all[last].uid == o.UID {
				all[last].To, all[last].ended = o.ValidTo, true
				return nil
			}
		}
		all = append(all, s)
		return nil
	})
	all = slices.DeleteFunc(all, func(s nodeState) bool { return !s.To.After(w.From) && s.To.Before(w.From) })
	return all, err
}

// findFailures records the nodes of a cluster that failed in a window by the word of
// the watch: those that were ready and then not, or not reached, for longer than
// Config.FailedAfter, or until they left the cluster.
func (b *Books) findFailures(ctx context.Context, cluster string, w schema.Window) error {
	states, err := b.nodeStates(ctx, cluster, w)
	if err != nil {
		return err
	}
	for i := 0; i < len(states); {
		first := states[i]
		last := i
		for last+1 < len(states) && states[last+1].uid == first.uid && states[last+1].ready == first.ready {
			last++
		}
		next := last + 1
		wasReady := i > 0 && states[i-1].uid == first.uid && states[i-1].ready
		down := schema.Window{From: first.From, To: states[last].To}
		i = next
		if first.ready || !wasReady || down.From.Before(w.From) || down.Length() < b.config.FailedAfter && !states[last].ended {
			continue
		}
		evidence := fmt.Sprintf("not ready for %s (%s)", down.Length().Round(time.Second), cmp.Or(first.reason, "no reason told"))
		switch {
		case states[last].ended:
			evidence = fmt.Sprintf("not ready (%s) until it left the cluster at %s", cmp.Or(first.reason, "no reason told"), down.To.Format(time.RFC3339))
		case next == len(states) || states[next].uid != first.uid:
			evidence = fmt.Sprintf("not ready for more than %s (%s)", b.config.FailedAfter, cmp.Or(first.reason, "no reason told"))
		}
		if _, _, err := b.registry.AddBookFailure(ctx, registry.BookFailure{Cluster: cluster, Node: first.node, At: down.From, Source: FromWatch, Evidence: evidence},
			rating.DiedWithin, nil); err != nil {
			return err
		}
	}
	return nil
}

// lookForFailures finds the failures of clusters in a window, and sums what their
// pods used.
func (b *Books) lookForFailures(ctx context.Context, clusters []string, w schema.Window) error {
	for _, cluster := range clusters {
		if err := b.findFailures(ctx, cluster, w); err != nil {
			return fmt.Errorf("nodes of %s that failed: %w", cluster, err)
		}
		if err := b.sumLosses(ctx, cluster); err != nil {
			return fmt.Errorf("nodes of %s that failed: %w", cluster, err)
		}
	}
	return nil
}
