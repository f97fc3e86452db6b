package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// used is what a pod used from its start to its end.
type used struct {
	Parts     []usedPart `json:"parts"`
	Estimated bool       `json:"estimated,omitempty"`
	Note      string     `json:"note,omitempty"`
}

// usedPart is what of it counts for a customer in a period.
type usedPart struct {
	Customer string `json:"c"`
	Period   string `json:"m"`
	place
	Quantities processors.Quantities `json:"q"`
}

func (u used) pack() ([]byte, error) { return packJSON("what was lost", u) }

func unpackUsed(packed []byte) (used, error) { return unpackJSON[used]("what was lost", packed) }

// sumLosses sums what the pods of a cluster's failed nodes used, where that is not
// known yet, and again while rows per pod are there and have changed.
func (b *Books) sumLosses(ctx context.Context, cluster string) error {
	failures, err := b.registry.BookFailures(ctx, cluster)
	if err != nil {
		return err
	}
	extent, there, err := b.registry.Extent(ctx, cluster, schema.PodMinute.Name)
	if err != nil {
		return fmt.Errorf("look up the last settled minute of %s: %w", cluster, err)
	}
	for _, f := range failures {
		frozen := f.Fingerprint != "" && b.now().Sub(f.At) > podRows
		if !f.Dismissed.IsZero() || frozen || !there {
			continue
		}
		if err := b.sumLoss(ctx, f, extent.To); err != nil {
			return fmt.Errorf("failure %d, node %s: %w", f.ID, f.Node, err)
		}
	}
	return nil
}

// lookAfter is how long after rating.DiedWithin a pod whose end was told late, or
// not at all, is looked for: one that has readings in it ran on.
const lookAfter = 10 * time.Minute

// sumLoss sums what the pods of one failure used until settled, if it is known which
// died, and what that comes from has changed.
func (b *Books) sumLoss(ctx context.Context, f registry.BookFailure, settled time.Time) error {
	runs, known, err := b.diedWith(ctx, f, settled)
	if err != nil || !known {
		return err
	}
	life := schema.Window{From: f.At, To: f.At}
	for i := range runs {
		end := runs[i].End
		if end.IsZero() {
			end = settled
		}
		life = schema.Window{From: schema.Earlier(life.From, runs[i].Start), To: schema.Later(life.To, end)}
	}
	life = schema.Window{From: life.From.UTC().Truncate(schema.Quarter), To: schema.Earlier(life.To, settled).UTC().Add(schema.Minute - 1).Truncate(schema.Minute)}
	fingerprint, err := b.lossFingerprint(ctx, f, runs, life)
	if err != nil || fingerprint == f.Fingerprint {
		return err
	}
	var lost []registry.BookLost
	if len(runs) > 0 {
		if lost, err = b.losses(ctx, f, runs, life); err != nil {
			return err
		}
	}
	return b.registry.PutBookLost(ctx, f.ID, fingerprint, lost)
}

// lossFingerprint is that of all that the losses come from.
func (b *Books) lossFingerprint(ctx context.Context, f registry.BookFailure, runs []rating.Run, life schema.Window) (string, error) {
	if len(runs) == 0 {
		return "no pods", nil
	}
	text, _, err := b.fingerprint(ctx, f.Cluster, life)
	for _, run := range runs {
		text += fmt.Sprintf(" %s %d %d", run.UID, run.Start.UnixNano(), run.End.UnixNano())
	}
	return text, err
}

// diedWith are the pods that died with a node, by what has settled, and whether that
// is known of each that was on it: it has ended, or has run on, or enough has settled.
// Kubernetes tells the end of a pod whose node is silent only when the node is back or
// gone, so a late end counts as none where the pod has no readings after the failure.
// Who has readings of a whole minute after its node was ready again has not died with
// it, whenever it ended: what was evicted meanwhile is gone before.
func (b *Books) diedWith(ctx context.Context, f registry.BookFailure, settled time.Time) (died []rating.Run, known bool, err error) {
	runs, err := b.runsOn(ctx, f)
	if err != nil {
		return nil, false, err
	}
	after := schema.Window{From: f.At.Add(rating.DiedWithin).UTC().Truncate(schema.Minute)}
	after.To = after.From.Add(lookAfter)
	back, err := b.readyAgain(ctx, f)
	if err != nil {
		return nil, false, err
	}
	cells, err := b.engine.NodePods(ctx, f.Cluster, f.Node, schema.Window{From: schema.Earlier(back, after.From), To: after.To}, schema.Minute)
	if err != nil {
		return nil, false, err
	}
	enough := !settled.Before(f.At.Add(rating.DiedWithin + lookAfter))
	known = true
	judged := make([]rating.Run, len(runs))
	for i, run := range runs {
		judged[i] = run
		late := run.End.IsZero() || !run.End.Before(f.At.Add(rating.DiedWithin))
		switch {
		case ranOn(run, cells, schema.Window{From: back, To: after.To}, 0) || late && ranOn(run, cells, after, schema.Minute):
			judged[i].End = after.To
		case late:
			judged[i].End = time.Time{}
			known = known && enough
		default:
			known = known && !settled.Before(run.End)
		}
	}
	for _, run := range rating.DiedWith(rating.Failure{Cluster: f.Cluster, Node: f.Node, At: f.At}, judged) {
		run.End = runs[slices.IndexFunc(runs, func(r rating.Run) bool { return r.UID == run.UID })].End
		died = append(died, run)
	}
	return died, known, nil
}

// runsOn are the pods that a failure may have ended: they began on the node before it,
// had not ended, and have not done their work.
func (b *Books) runsOn(ctx context.Context, f registry.BookFailure) ([]rating.Run, error) {
	var runs []rating.Run
	err := b.registry.PodsOfNode(ctx, f.Cluster, f.Node, f.At, func(o registry.KubeObject) error {
		var spec struct {
			Node     string     `json:"node"`
			Start    *time.Time `json:"start"`
			End      *time.Time `json:"end"`
			Reason   string     `json:"endReason"`
			ExitCode int        `json:"exitCode"`
		}
		if json.Unmarshal(o.Spec, &spec) != nil || spec.Node != f.Node || spec.Start == nil || !spec.Start.Before(f.At) {
			return nil // a pod without a start was never billed
		}
		run := rating.Run{Cluster: f.Cluster, Node: f.Node, Namespace: o.Namespace, Pod: o.Name, UID: o.UID, Start: *spec.Start}
		if spec.End != nil {
			run.End, run.Succeeded = *spec.End, spec.ExitCode == 0 && spec.Reason == completed
			if run.Succeeded || run.End.Before(f.At) {
				return nil
			}
		}
		runs = append(runs, run)
		return nil
	})
	return runs, err
}

// ranOn says whether a run has readings of a minute in a window, which ends before the
// run or at most so much later: another pod of its name is not it.
func ranOn(run rating.Run, cells []query.PodCell, w schema.Window, later time.Duration) bool {
	return slices.ContainsFunc(cells, func(c query.PodCell) bool {
		return c.Namespace == run.Namespace && c.Pod == run.Pod && c.Covered > 0 && !c.From.Before(w.From) && !c.To.After(w.To) &&
			(run.End.IsZero() || !c.To.After(run.End.Add(later)))
	})
}

// never is after all that is looked at.
var never = time.Unix(1<<40, 0).UTC()

// readyAgain is the first whole minute after the node of a failure was ready again, by
// the word of the watch; never, where it was not.
func (b *Books) readyAgain(ctx context.Context, f registry.BookFailure) (time.Time, error) {
	states, err := b.nodeStates(ctx, f.Cluster, schema.Window{From: f.At.Add(-rating.DiedWithin), To: b.now()})
	if err != nil {
		return never, err
	}
	for i, s := range states {
		if s.node == f.Node && s.ready && s.From.After(f.At) && i > 0 && states[i-1].node == f.Node && (!states[i-1].ready || states[i-1].uid != s.uid) {
			return s.From.UTC().Add(schema.Minute - 1).Truncate(schema.Minute), nil
		}
	}
	return never, nil
}

// completed is the reason with which a container ends that has done its work.
const completed = "Completed"

// losses sums what the pods used in their lives.
func (b *Books) losses(ctx context.Context, f registry.BookFailure, runs []rating.Run, life schema.Window) ([]registry.BookLost, error) {
	s := &lossSum{b: b, failure: f, runs: runs, used: make(map[string]*used), calendars: make(map[[2]string]Calendar)}
	var err error
	if s.parts, err = b.parts(ctx, life); err != nil {
		return nil, err
	}
	if s.tariffs, err = b.tariffs(ctx, life); err != nil {
		return nil, err
	}
	if s.metering, err = b.registry.MeteringNamespaces(ctx, f.Cluster); err != nil {
		return nil, err
	}
	for _, run := range runs {
		s.used[run.UID] = new(used)
	}
	for _, p := range s.parts {
		for _, piece := range p.Split(24 * time.Hour) {
			if err := s.read(ctx, part{piece, p.fleet}); err != nil {
				return nil, err
			}
		}
	}
	var lost []registry.BookLost
	for _, run := range runs {
		packed, err := s.used[run.UID].pack()
		if err != nil {
			return nil, err
		}
		lost = append(lost, registry.BookLost{Cluster: f.Cluster, UID: run.UID, Namespace: run.Namespace, Pod: run.Pod, Start: run.Start, End: run.End, Used: packed})
	}
	return lost, nil
}

// lossSum is the sum of what pods of one node used.
type lossSum struct {
	b         *Books
	failure   registry.BookFailure
	runs      []rating.Run
	parts     []part
	tariffs   *tariffs
	metering  []string
	used      map[string]*used // by UID
	calendars map[[2]string]Calendar
}

// read counts a part of at most a day: by the rows per pod where they come to what
// the workloads used, else each pod's share of its workload by its time alive.
func (s *lossSum) read(ctx context.Context, p part) error {
	alive := slices.ContainsFunc(s.runs, func(run rating.Run) bool { return lifeOf(run, p.To).Overlap(p.From, p.To) > 0 })
	if !alive {
		return nil
	}
	whole, err := s.b.engine.NodeWorkloads(ctx, s.failure.Cluster, s.failure.Node, p.Window, schema.Quarter)
	expired := errors.Is(err, query.ErrExpired)
	if err != nil && !expired {
		return err
	}
	pods, err := s.b.engine.NodePods(ctx, s.failure.Cluster, s.failure.Node, p.Window, schema.Quarter)
	if err != nil {
		return err
	}
	type of struct {
		from                time.Time
		namespace, workload string
	}
	missing := make(map[of]int64) // ms of workloads' time alive that no row per pod has
	for _, cell := range whole {
		missing[of{cell.From, cell.Namespace, cell.Workload}] += cell.Uptime
	}
	for _, cell := range pods {
		missing[of{cell.From, cell.Namespace, cell.Workload}] -= cell.Uptime
	}
	for _, run := range s.runs {
		life, workload := lifeOf(run, p.To), ""
		for _, cell := range pods {
			if cell.Namespace != run.Namespace || cell.Pod != run.Pod || life.Overlap(cell.From, cell.To) <= 0 {
				continue
			}
			workload = cell.Workload
			if expired || missing[of{cell.From, cell.Namespace, cell.Workload}] <= 0 {
				if err := s.count(ctx, p, run, cell.Cell, 1, 1); err != nil {
					return err
				}
			}
		}
		if workload == "" {
			if workload, err = s.workloadOf(ctx, run); err != nil {
				return err
			}
		}
		for _, cell := range whole {
			overlap := life.Overlap(cell.From, cell.To).Milliseconds()
			if cell.Namespace != run.Namespace || cell.Workload != workload || overlap <= 0 || missing[of{cell.From, cell.Namespace, cell.Workload}] <= 0 {
				continue
			}
			if err := s.count(ctx, p, run, cell.Cell, min(overlap, cell.Uptime), cell.Uptime); err != nil {
				return err
			}
			s.used[run.UID].Estimated = s.used[run.UID].Estimated || overlap < cell.Uptime
		}
		if expired && life.Overlap(p.From, p.To) > 0 && s.b.now().Sub(p.From) > podRows {
			s.used[run.UID].Note = fmt.Sprintf("what it used before %s is not known: the rows per pod of that time have been deleted, and rules by label need them", p.To.Format(time.RFC3339))
		}
	}
	return nil
}

// lifeOf is a run's life in whole minutes; one without an end goes on until then.
func lifeOf(run rating.Run, until time.Time) schema.Window {
	w := schema.Window{From: run.Start.UTC().Truncate(schema.Minute), To: until}
	if !run.End.IsZero() {
		w.To = schema.Earlier(until, run.End.UTC().Add(schema.Minute-1).Truncate(schema.Minute))
	}
	return w
}

// workloadOf is a pod's workload by its object, KIND/NAME.
func (s *lossSum) workloadOf(ctx context.Context, run rating.Run) (string, error) {
	workload := ""
	err := s.b.registry.PodsOfNode(ctx, run.Cluster, run.Node, run.Start, func(o registry.KubeObject) error {
		var spec struct{ WorkloadKind, Workload string }
		if o.UID == run.UID && json.Unmarshal(o.Spec, &spec) == nil && spec.Workload != "" {
			workload = spec.WorkloadKind + "/" + spec.Workload
		}
		return nil
	})
	return workload, err
}

// count adds num/den of a cell, rounded down, to a pod's use.
func (s *lossSum) count(ctx context.Context, p part, run rating.Run, cell query.Cell, num, den int64) error {
	customer := p.fleet.Billed(s.failure.Cluster, cell.Customer)
	if customer == "" || den <= 0 {
		return nil
	}
	list, version, ok, err := s.tariffs.find(ctx, p, s.failure.Cluster, customer)
	if err != nil || !ok || list.Excludes(cell.Namespace, s.metering) {
		return err
	}
	plan, err := s.tariffs.plan(list, version, customer)
	if err != nil {
		return err
	}
	period, err := s.period(ctx, customer, cell.From)
	if err != nil {
		return err
	}
	at := place{Namespace: cell.Namespace, Project: cell.Project, User: cell.User, List: version, Slot: plan.SlotAt(cell.From),
		Facts: rating.Facts{Hardware: cell.Hardware, Provider: cell.Provider, Region: cell.Region}}
	of := s.used[run.UID]
	i := slices.IndexFunc(of.Parts, func(u usedPart) bool { return u.Customer == customer && u.Period == period && u.place == at })
	if i < 0 {
		i = len(of.Parts)
		of.Parts = append(of.Parts, usedPart{customer, period, at, make(processors.Quantities)})
	}
	for resource, quantity := range cell.Quantities {
		share := new(big.Int).Mul(big.NewInt(quantity), big.NewInt(num))
		sum, err := usage.Add(of.Parts[i].Quantities[resource], share.Quo(share, big.NewInt(den)).Int64())
		if err != nil {
			return fmt.Errorf("sum of %s: %w", resource, err)
		}
		of.Parts[i].Quantities[resource] = sum
	}
	return nil
}

// period is the customer's period that holds a moment.
func (s *lossSum) period(ctx context.Context, customer string, at time.Time) (string, error) {
	month := at.UTC().Format(monthForm)
	for _, name := range []string{month, neighbour(month, -1), neighbour(month, 1)} {
		key := [2]string{customer, name}
		c, known := s.calendars[key]
		if !known {
			var err error
			if c, err = s.b.calendar(ctx, customer, name); err != nil && !errors.Is(err, registry.ErrNotFound) {
				return "", err
			}
			s.calendars[key] = c
		}
		if !at.Before(c.From) && at.Before(c.To) {
			return name, nil
		}
	}
	return month, nil
}
