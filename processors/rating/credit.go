package rating

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// Failure is a node that failed.
type Failure struct {
	Cluster, Node string
	At            time.Time
}

// Run is a pod's life on a node, by its object or its run row.
type Run struct {
	Cluster, Node, Namespace, Pod, UID string
	Start                              time.Time
	End                                time.Time // zero: no end is known
	Succeeded                          bool      // it had done its work when it ended
}

// DiedWithin is how long after its node a pod's end may be told: Kubernetes evicts
// the pods of a node that does not answer after 5 minutes
// (default-not-ready-toleration-seconds), and notices it within one.
const DiedWithin = 10 * time.Minute

// DiedWith are the runs that ended with the failure: on its node, begun before it,
// and ended at it, by its eviction, or never seen again. What ended before, what
// succeeded and what ran on is not.
func DiedWith(f Failure, runs []Run) []Run {
	var died []Run
	for _, run := range runs {
		if run.Cluster != f.Cluster || run.Node != f.Node || run.Succeeded || !run.Start.Before(f.At) {
			continue
		}
		if run.End.IsZero() || !run.End.Before(f.At) && run.End.Before(f.At.Add(DiedWithin)) {
			died = append(died, run)
		}
	}
	slices.SortFunc(died, func(a, b Run) int { return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.UID, b.UID)) })
	return died
}

// Credit is money back: the lines have costs below 0.
type Credit struct {
	Reason   string
	By       string // who, or the rule
	Approver string // "" of a rule
	Lines    []Line
}

// RuleFailedNode is Credit.By of RefundFailure.
const RuleFailedNode = "rule failed-node"

// Loss is what a failure took: a part of a period's usage.
type Loss struct {
	Failure
	Usage []Usage
}

// RefundFailure is RefundFailures of one failure.
func (p *Plan) RefundFailure(f Failure, in Input, lost []Usage) (Credit, error) {
	credits, err := p.RefundFailures(in, []Loss{{f, lost}})
	if err != nil {
		return Credit{}, err
	}
	return credits[0], nil
}

// RefundFailures gives back what the period's usage of the pods that died with nodes
// cost, failure by failure in their order: each loss is that usage since the pods'
// start (a part of in.Usage), at the prices that the period charges. Of graduated
// tiers the uppermost part is given back first, and of volume tiers the price of all
// of the period's usage counts; fees and the minimum charge are not given back. What
// is given back for all losses is what their usage together cost. Errors: as of
// Charges; ErrInput where the losses are not parts of the usage.
func (p *Plan) RefundFailures(in Input, losses []Loss) ([]Credit, error) {
	before, err := p.usageLines(in.Usage, nil)
	if err != nil {
		return nil, err
	}
	reached := make(map[string]int)
	for _, line := range before {
		reached[string(line.Resource)+"\x00"+line.Rate] = line.Tier
	}
	rest := slices.Clone(in.Usage)
	credits := make([]Credit, len(losses))
	for i, loss := range losses {
		if rest, err = less(rest, loss.Usage); err != nil {
			return nil, err
		}
		remaining, err := p.usageLines(rest, reached)
		if err != nil {
			return nil, err
		}
		for _, line := range remaining {
			if line.Quantity != 0 && !slices.ContainsFunc(before, func(l Line) bool { return l.id() == line.id() }) {
				return nil, bad("refund of %s: it was not used in the period", line.Rate)
			}
		}
		credits[i] = Credit{By: RuleFailedNode, Reason: loss.Failure.String()}
		if credits[i].Lines, err = differences(before, remaining); err != nil {
			return nil, err
		}
		before = remaining
	}
	return credits, nil
}

// String is the failure for people, as a reason.
func (f Failure) String() string {
	return fmt.Sprintf("node %s of cluster %s failed at %s: usage of the pods that died with it, since their start", f.Node, f.Cluster, f.At.UTC().Format(time.RFC3339))
}

// less is usage with the lost usage taken off.
func less(usage, lost []Usage) ([]Usage, error) {
	for _, u := range lost {
		minus := Usage{Key: u.Key, Facts: u.Facts, Slot: u.Slot, Quantities: make(processors.Quantities, len(u.Quantities))}
		for r, quantity := range u.Quantities {
			if quantity < 0 {
				return nil, bad("refund of %s: the quantity %d is below 0", r, quantity)
			}
			minus.Quantities[r] = -quantity
		}
		usage = append(usage, minus)
	}
	return usage, nil
}

// usageLines are the lines of usage alone. reached names the tier of volume rates
// whose price counts though less is used.
func (p *Plan) usageLines(usage []Usage, reached map[string]int) ([]Line, error) {
	c := newCharging(p)
	c.reached = reached
	for i := range usage {
		if err := c.add(&usage[i]); err != nil {
			return nil, fmt.Errorf("price list %s: %w", p.list.Name, err)
		}
	}
	lines, err := c.lines()
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", p.list.Name, err)
	}
	return lines, nil
}

type lineID struct {
	resource processors.Resource
	rate     string
	slot     string
	tier     int
}

func (l Line) id() lineID { return lineID{l.Resource, l.Rate, l.Slot, l.Tier} }

// differences are the lines of what less is charged, below 0.
func differences(all, remaining []Line) ([]Line, error) {
	left := make(map[lineID]Line, len(remaining))
	for _, line := range remaining {
		left[line.id()] = line
	}
	var credits []Line
	for _, line := range all {
		rest, some := left[line.id()]
		switch {
		case some && rest.Quantity < 0 || line.Resource == processors.UsefulHeat && rest.Quantity != line.Quantity:
			return nil, bad("refund of %s: more than was used", line.Rate)
		case some && rest.Quantity == line.Quantity:
			continue
		}
		credit := line
		credit.Quantity -= rest.Quantity
		credit.PricingQuantity = shown(big.NewRat(credit.Quantity, line.Base))
		credit.Shares, credit.Parts = nil, nil
		for _, amount := range []struct{ to, less *apd.Decimal }{{&credit.ListCost, &rest.ListCost}, {&credit.ContractedCost, &rest.ContractedCost}} {
			var negative apd.Decimal
			back, err := add(amount.less, negative.Neg(amount.to))
			if err != nil {
				return nil, err
			}
			amount.to.Set(&back)
		}
		credit.CostPrice, credit.OperatorCost = nil, nil // the operator paid it nevertheless
		var err error
		if credit.Shares, err = shareDifferences(line, rest); err != nil {
			return nil, err
		}
		credits = append(credits, credit)
	}
	return credits, nil
}

func shareDifferences(line, rest Line) ([]Share, error) {
	left := make(map[string]Share, len(rest.Shares))
	for _, share := range rest.Shares {
		left[share.Key] = share
	}
	var shares []Share
	for _, share := range line.Shares {
		less := left[share.Key]
		delete(left, share.Key)
		if less.Quantity < 0 && share.Quantity >= 0 {
			return nil, bad("refund of %s: more than %s used", line.Rate, share.Key)
		}
		credit := Share{Key: share.Key, Quantity: share.Quantity - less.Quantity}
		for _, amount := range []struct{ to, from, less *apd.Decimal }{
			{&credit.ListCost, &share.ListCost, &less.ListCost}, {&credit.ContractedCost, &share.ContractedCost, &less.ContractedCost}} {
			var negative apd.Decimal
			back, err := add(amount.less, negative.Neg(amount.from))
			if err != nil {
				return nil, err
			}
			amount.to.Set(&back)
		}
		if credit.Quantity != 0 || !credit.ContractedCost.IsZero() || !credit.ListCost.IsZero() {
			shares = append(shares, credit)
		}
	}
	for key := range left {
		return nil, bad("refund of %s: %s used none of it", line.Rate, key)
	}
	return shares, nil
}

// RefundByHand is money back that somebody decided and another one approved. Errors:
// ErrInput that says what is missing.
func RefundByHand(amount apd.Decimal, currency, reason, by, approver string) (Credit, error) {
	places, ok := processors.CurrencyExponent(currency)
	if !ok {
		return Credit{}, bad("refund: currency %q is not three capital letters (ISO 4217)", currency)
	}
	if err := checkAmount(&amount); err != nil {
		return Credit{}, about("refund: amount", err)
	}
	var plain apd.Decimal
	plain.Reduce(&amount)
	switch {
	case plain.IsZero():
		return Credit{}, bad("refund: the amount is 0: say how much is given back")
	case -plain.Exponent > places:
		return Credit{}, bad("refund: %s %s has more than %d decimals", plain.Text('f'), currency, places)
	case strings.TrimSpace(reason) == "":
		return Credit{}, bad("refund: has no reason: say why, the customer reads it")
	case strings.TrimSpace(by) == "" || strings.TrimSpace(approver) == "":
		return Credit{}, bad("refund: needs who asks and who approves")
	case by == approver:
		return Credit{}, bad("refund: %s cannot approve his own: ask another person", by)
	}
	cost := decimal(rounded(ratOf(&plain), places), places)
	cost.Negative = true
	line := Line{Resource: Refund, Rate: string(Refund), Currency: currency}
	line.ListCost.Set(&cost)
	line.ContractedCost.Set(&cost)
	return Credit{Reason: reason, By: by, Approver: approver, Lines: []Line{line}}, nil
}

// Refund is the resource of the line of a refund by hand.
const Refund processors.Resource = "refund"
