package books

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// RefundedFailure is a node that failed, as a draft gives back what its pods used in
// one period.
type RefundedFailure struct {
	ID       int64     `json:"id"`
	Cluster  string    `json:"cluster"`
	Node     string    `json:"node"`
	At       time.Time `json:"at"`
	Source   string    `json:"source"`
	Evidence string    `json:"evidence"`
	By       string    `json:"by,omitempty"` // who recorded it; not there of the watch
	// Reinstated is who took a dismissal of it back last; not there of one that nobody
	// dismissed.
	Reinstated string    `json:"reinstatedBy,omitempty"`
	Period     string    `json:"period"` // in which it was used
	Pods       []DeadPod `json:"pods"`
	Notes      []string  `json:"notes,omitempty"` // what is not given back, and why
	// Estimated says that a part of it is a pod's share of its workload's use.
	Estimated bool `json:"estimated,omitempty"`
}

// DeadPod is a pod that died with its node.
type DeadPod struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid"`
}

// refunded is what a close of the draft notes as given back.
func (d Draft) refunded() []registry.BookRefunded {
	var all []registry.BookRefunded
	for _, f := range d.Failures {
		for _, pod := range f.Pods {
			all = append(all, registry.BookRefunded{Customer: d.Customer, Cluster: f.Cluster, UID: pod.UID, Period: f.Period, Failure: f.ID})
		}
	}
	return all
}

// lostBy is what a customer's pods of one failure used in a period.
type lostBy struct {
	RefundedFailure
	parts     []usedPart
	statement int64 // that gave it back; 0 is none yet
}

// addRefunds adds lines that give back what pods used that died with their nodes: in
// the draft's own period, and in closed ones, as far as no statement has given it
// back. Failures of the period in those clusters whose pods are not known yet are
// named.
func (b *Books) addRefunds(ctx context.Context, c Calendar, clusters []string, d *Draft) error {
	stored, err := b.registry.BookFailures(ctx, "")
	if err != nil {
		return err
	}
	for _, f := range stored {
		if f.Fingerprint != "" || !f.Dismissed.IsZero() || f.At.Before(c.From) || !f.At.Before(c.To) || !slices.Contains(clusters, f.Cluster) {
			continue
		}
		unknown := refundedFailure(f, c.Period)
		unknown.Notes = []string{"which pods died with it is not known yet: the cluster's data do not reach far enough beyond it"}
		d.Failures = append(d.Failures, unknown)
		d.Fingerprint += fmt.Sprintf("-%d?", f.ID)
	}
	byPeriod, err := lostIn(c.Customer, stored)
	if err != nil {
		return err
	}
	accounts := make(map[string]*account) // by currency: what one period gives back, another one has not left
	for _, period := range sortedKeys(byPeriod) {
		losses := byPeriod[period]
		if period > c.Period || !slices.ContainsFunc(losses, func(l lostBy) bool { return l.statement == 0 }) {
			continue
		}
		of, rated := c, d.Rated
		var left *remaining // of the period's own draft as much as was used
		if period != c.Period {
			if of, err = b.calendar(ctx, c.Customer, period); err != nil {
				return err
			}
			_, one, err := b.stored(ctx, of)
			if err != nil {
				return err
			}
			if one.State != StateClosed {
				continue // its own draft gives it back
			}
			if left, err = b.remainsOf(ctx, c.Customer, one.Statement); err != nil {
				return err
			}
			if shared := accounts[left.of.Currency]; shared != nil {
				left.account = shared
			}
			accounts[left.of.Currency] = left.account
			if rated, err = b.rate(ctx, of, true); err != nil {
				return err
			}
		}
		if err := b.refundPeriod(ctx, c, of, left, rated.tally, losses, d); err != nil {
			return fmt.Errorf("refund of failed nodes in period %s: %w", period, err)
		}
	}
	return nil
}

// lostIn is what a customer's pods used that died with their nodes, by period; in
// each the refunded losses first, in the order in which they were refunded.
func lostIn(customer string, failures []registry.BookFailure) (map[string][]lostBy, error) {
	type key struct {
		failure, statement int64
		period             string
	}
	found := make(map[key]*lostBy)
	var order []key
	for _, f := range failures {
		if !f.Dismissed.IsZero() {
			continue
		}
		for _, pod := range f.Lost {
			lost, err := unpackUsed(pod.Used)
			if err != nil {
				return nil, fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Pod, err)
			}
			for _, part := range lost.Parts {
				if part.Customer != customer {
					continue
				}
				id := key{failure: f.ID, period: part.Period}
				for _, given := range f.Refunded {
					if given.Customer == customer && given.UID == pod.UID && given.Period == part.Period {
						id.statement = given.Statement
					}
				}
				of := found[id]
				if of == nil {
					of = &lostBy{RefundedFailure: refundedFailure(f, part.Period), statement: id.statement}
					found[id] = of
					order = append(order, id)
				}
				of.parts = append(of.parts, part)
				dead := DeadPod{pod.Namespace, pod.Pod, pod.UID}
				if slices.Contains(of.Pods, dead) {
					continue
				}
				of.Pods = append(of.Pods, dead)
				of.Estimated = of.Estimated || lost.Estimated
				if lost.Note != "" {
					of.Notes = append(of.Notes, fmt.Sprintf("pod %s/%s: %s", pod.Namespace, pod.Pod, lost.Note))
				}
			}
		}
	}
	byPeriod := make(map[string][]lostBy)
	for _, id := range order {
		byPeriod[id.period] = append(byPeriod[id.period], *found[id])
	}
	for _, losses := range byPeriod {
		slices.SortStableFunc(losses, func(x, y lostBy) int {
			if (x.statement == 0) != (y.statement == 0) {
				return cmp.Compare(y.statement, x.statement)
			}
			return cmp.Or(cmp.Compare(x.statement, y.statement), cmp.Compare(x.ID, y.ID))
		})
	}
	return byPeriod, nil
}

func refundedFailure(f registry.BookFailure, period string) RefundedFailure {
	of := RefundedFailure{ID: f.ID, Cluster: f.Cluster, Node: f.Node, At: f.At, Source: f.Source, Evidence: f.Evidence, By: f.By, Period: period, Pods: []DeadPod{}}
	for _, did := range f.Log {
		if did.Action == failureReinstated {
			of.Reinstated = did.By
		}
	}
	return of
}

// refundPeriod adds the lines of one period's losses that no statement has given
// back, by each version of the price list that they were used under; of a closed period no
// more than is left of its statement.
func (b *Books) refundPeriod(ctx context.Context, c, of Calendar, left *remaining, t *tally, losses []lostBy, d *Draft) error {
	byVersion := byVersions(t, losses)
	currency, tables, err := b.exchange(ctx, of)
	if err != nil {
		return err
	}
	for _, version := range sortedKeys(byVersion) {
		plan, err := b.planOf(ctx, version, c.Customer)
		if err != nil {
			return err
		}
		credits, err := plan.RefundFailures(t.versions[version].input(of), byVersion[version])
		if err != nil {
			return err
		}
		for i, credit := range credits {
			if losses[i].statement != 0 {
				continue
			}
			lines, err := convert(of, credit.Lines, currency, tables)
			if err != nil {
				return err
			}
			for _, line := range lines {
				made := lineOf(of, line)
				made.Kind, made.Period = KindRefund, c.Period
				if left != nil {
					made.Statement = left.of.Number
				}
				made.Reason, made.By = losses[i].reason(), cmp.Or(losses[i].By, credit.By)
				if err := d.giveBack(c, made, &losses[i], left); err != nil {
					return err
				}
			}
		}
	}
	for i := range losses {
		if losses[i].statement == 0 {
			d.Failures = append(d.Failures, losses[i].RefundedFailure)
			d.Fingerprint += losses[i].mark(d.Lines)
		}
	}
	d.Total, err = total(d.Lines)
	return err
}

// notWhole is told of what cannot be given back as it was used.
const notWhole = "a part of what the pods used is not in the usage of the draft: its day has not settled, or was corrected"

// byVersions are the losses as rating takes them, by the versions of the price list that
// they were used under.
func byVersions(t *tally, losses []lostBy) map[string][]rating.Loss {
	rest := restOf(t)
	all := make(map[string][]rating.Loss)
	for _, version := range sortedKeys(t.versions) {
		all[version] = make([]rating.Loss, len(losses))
		for i, loss := range losses {
			all[version][i].Failure = rating.Failure{Cluster: loss.Cluster, Node: loss.Node, At: loss.At}
		}
	}
	for i := range losses {
		for _, part := range losses[i].parts {
			version, usage, whole := rest.take(losses[i].Cluster, part)
			if !whole {
				losses[i].note(notWhole)
			}
			if version != "" {
				all[version][i].Usage = append(all[version][i].Usage, usage)
			}
		}
	}
	return all
}

// giveBack adds a line of a loss to a draft: of a closed period no more than is left of
// its statement.
func (d *Draft) giveBack(c Calendar, line Line, loss *lostBy, left *remaining) error {
	if left != nil {
		if err := sameCurrency(c, line, left.of, *d, *loss); err != nil {
			return err
		}
		var note string
		var given bool
		var err error
		if line, note, given, err = left.take(line); err != nil {
			return err
		}
		if note != "" {
			loss.note(note)
		}
		if !given {
			return nil
		}
	}
	d.Lines = append(d.Lines, line)
	d.Currency = cmp.Or(d.Currency, line.Currency)
	return nil
}

// sameCurrency is an error where what a closed period gives back cannot stand beside the
// lines of a draft, or in the account of its own statement.
func sameCurrency(c Calendar, line Line, billed Statement, d Draft, loss lostBy) error {
	other, what := d.Currency, "period "+c.Period
	if billed.Currency != line.Currency {
		other, what = billed.Currency, "statement "+billed.ID
	}
	if other == "" || other == line.Currency {
		return nil
	}
	return &Error{Kind: ErrInput, Text: fmt.Sprintf("node %s of %s failed, and what its pods used in the closed period %s is given back in %s: %s of %s is in %s", loss.Node, loss.Cluster, line.ChargePeriod, line.Currency, what, c.Customer, other),
		Hint: fmt.Sprintf("Give the customer the currency %s until that is billed (`accumulus apply`); or dismiss the failure, which is for all whose pods died with the node, and give it back with a credit note in the currency of statement %d: accumulus books failures dismiss %d --reason TEXT; accumulus books refund --customer %s --statement %d --amount AMOUNT --reason TEXT",
			line.Currency, billed.Number, loss.ID, c.Customer, billed.Number)}
}

// mark is what a draft's fingerprint says of a refund.
func (l lostBy) mark(lines []Line) string {
	text := fmt.Sprintf("-%d.%s", l.ID, l.Period)
	for _, line := range lines {
		if line.Kind == KindRefund && line.ChargePeriod == l.Period {
			text += ":" + line.Cost
		}
	}
	return text
}

func (l *lostBy) note(text string) {
	if !slices.Contains(l.Notes, text) {
		l.Notes = append(l.Notes, text)
	}
}

// maxNamed bounds the pods that a reason names.
const maxNamed = 10

// reason is that of a refund's lines: the node, when it failed, and which pods died.
func (l lostBy) reason() string {
	var names []string
	for i, pod := range l.Pods {
		if i == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(l.Pods)-maxNamed))
			break
		}
		names = append(names, pod.Namespace+"/"+pod.Pod)
	}
	text := rating.Failure{Cluster: l.Cluster, Node: l.Node, At: l.At}.String() + ": " + strings.Join(names, ", ")
	if l.Estimated {
		text += " (a part is a pod's share of its workload's use)"
	}
	return text
}

// rest is what of a period's usage no loss has taken yet.
type rest map[string]map[cellKey]processors.Quantities

func restOf(t *tally) rest {
	left := make(rest, len(t.versions))
	for version, of := range t.versions {
		left[version] = make(map[cellKey]processors.Quantities, len(of.usage))
		for id, quantities := range of.usage {
			copied := make(processors.Quantities, len(quantities))
			for resource, quantity := range quantities {
				copied[resource] = quantity
			}
			left[version][id] = copied
		}
	}
	return left
}

// take takes a part of the usage, as far as it is there. A version of a price list
// that was corrected since stands for the one that it corrects. version is "" where
// there is none of it; all says that nothing of it lacks.
func (r rest) take(cluster string, part usedPart) (version string, usage rating.Usage, all bool) {
	version = part.List
	if r[version] == nil {
		name, _, _ := strings.Cut(part.List, "#")
		version = ""
		for _, other := range sortedKeys(r) {
			if since, _, _ := strings.Cut(other, "#"); since == name {
				version = other
			}
		}
	}
	id := cellKey{keyOf(cluster, part.place), part.Facts, part.Slot}
	left := r[version][id]
	if left == nil {
		return "", rating.Usage{}, len(part.Quantities) == 0
	}
	usage, all = rating.Usage{Key: id.key, Facts: id.facts, Slot: id.slot, Quantities: make(processors.Quantities)}, true
	for resource, quantity := range part.Quantities {
		if resource == processors.UsefulHeat {
			continue // a credit is not given back
		}
		taken := max(0, min(quantity, left[resource]))
		left[resource] -= taken
		usage.Quantities[resource] = taken
		all = all && taken == quantity
	}
	return version, usage, all
}
