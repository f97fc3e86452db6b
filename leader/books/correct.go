package books

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Correction is the difference between what a closed period comes to and what was
// billed for it.
type Correction struct {
	Customer  string    `json:"customer"`
	Period    string    `json:"period"`    // the closed one
	Statement int64     `json:"statement"` // of it
	By        string    `json:"by,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	At        time.Time `json:"at,omitzero"`
	Before    string    `json:"before"` // billed, with what was corrected already
	After     string    `json:"after"`
	Total     string    `json:"total"` // the difference, without what is withheld
	Currency  string    `json:"currency"`
	Lines     []Line    `json:"lines"`
	// Withheld is what of the difference is not given back: of what was billed nothing is
	// left that was not given back before, by hand or for failed nodes.
	Withheld []Withheld `json:"withheld,omitempty"`
	// Changed are the days of which something else is known than when the period was
	// closed.
	Changed []string `json:"changedDays,omitempty"` // CLUSTER DATE
	Waiting []string `json:"waiting,omitempty"`     // local days of which something is still being computed
	Applied bool     `json:"applied"`
}

// Rerate rates a closed period again, of its days as they are now, and says what
// that differs from what was billed. It changes nothing. Errors: ErrState.
func (b *Books) Rerate(ctx context.Context, customer, period string) (Correction, error) {
	made, _, err := b.rerate(ctx, customer, period)
	return made, err
}

// Apply makes the difference a correction that the next statement bills, by whom and
// why. Where there is none, and nothing is withheld that was not before, it changes
// nothing. Errors: ErrState, ErrInput, registry.ErrStale.
func (b *Books) Apply(ctx context.Context, customer, period, by, reason string) (Correction, error) {
	by, err := named(by)
	if err != nil {
		return Correction{}, err
	}
	reason = strings.TrimSpace(reason)
	if reason == "" {
		return Correction{}, &Error{Kind: ErrInput, Text: "the correction has no reason", Hint: "Say why: the customer reads it (--reason TEXT)."}
	}
	if err := plain("reason", reason, mostReason); err != nil {
		return Correction{}, err
	}
	made, of, err := b.rerate(ctx, customer, period)
	if err != nil || len(made.Lines) == 0 && sameWithheld(made.Withheld, of.withheld) {
		return made, err
	}
	if len(made.Waiting) > 0 {
		return made, &Error{Kind: ErrState, Text: "days of the period are still being computed: " + strings.Join(made.Waiting, ", "), Hint: "Try again in a few minutes."}
	}
	made.By, made.Reason, made.At, made.Applied = by, reason, b.now(), true
	for i := range made.Lines {
		made.Lines[i].Reason, made.Lines[i].By = reason, by
	}
	text, err := canonical(made)
	if err != nil {
		return made, err
	}
	packed, err := of.pack()
	if err != nil {
		return made, err
	}
	detail := fmt.Sprintf("%s %s: %s", made.Total, made.Currency, reason)
	if len(made.Withheld) > 0 {
		detail = fmt.Sprintf("%s %s, %s withheld as it was given back before: %s", made.Total, made.Currency, sumWithheld(made.Withheld), reason)
	}
	return made, b.registry.AddBookCorrection(ctx, registry.BookCorrection{Customer: customer, Period: period, Text: text, Basis: packed}, of.seen,
		registry.BookAction{By: by, Action: "correct", Customer: customer, Period: period, Detail: detail})
}

// rerate is the correction, and what it comes of.
func (b *Books) rerate(ctx context.Context, customer, period string) (Correction, basis, error) {
	c, err := b.calendar(ctx, customer, period)
	if err != nil {
		return Correction{}, basis{}, err
	}
	_, one, err := b.stored(ctx, c)
	if err != nil {
		return Correction{}, basis{}, err
	}
	if one.State != StateClosed {
		return Correction{}, basis{}, &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s is %s: only a closed one has corrections", period, customer, one.State),
			Hint: fmt.Sprintf("Draft it again instead: accumulus books draft --customer %s --period %s", customer, period)}
	}
	now, _, err := b.used(ctx, c) // who asks what has changed refunds nothing
	if err != nil {
		return Correction{}, basis{}, fmt.Errorf("rate period %s of %s again: %w", period, customer, err)
	}
	rated := now.Lines
	of := basis{days: now.cells}
	// Before what was billed is read: who adds to it meanwhile is seen when it is stored.
	if of.seen.Line, _, _, err = b.registry.BookHead(ctx, customer); err != nil {
		return Correction{}, of, err
	}
	billed, err := b.billed(ctx, customer, period, &of)
	if err != nil {
		return Correction{}, of, err
	}
	of.Billed = billed
	if of.Currency, of.Exchanges, err = b.exchange(ctx, c); err != nil {
		return Correction{}, of, err
	}
	made := Correction{Customer: customer, Period: period, Statement: one.Statement, Currency: one.Currency, Waiting: now.Waiting}
	if made.Lines, err = differences(rated, billed, one); err != nil {
		return made, of, err
	}
	if made.Before, err = total(billed); err == nil {
		made.After, err = total(rated)
	}
	if err == nil {
		made.Total, err = minus(made.After, made.Before)
	}
	if err == nil {
		err = b.withhold(ctx, &made, rated)
	}
	if err != nil {
		return made, of, err
	}
	made.Changed, err = b.changed(ctx, c)
	return made, of, err
}

// billed are the lines of a closed period, with the corrections that were applied; of is
// told how many these are, and what the last one withheld.
func (b *Books) billed(ctx context.Context, customer, period string, of *basis) ([]Line, error) {
	lines, err := b.closedLines(ctx, customer, period)
	if err != nil {
		return nil, err
	}
	lines = slices.DeleteFunc(lines, func(l Line) bool { return l.ChargePeriod != period || l.Kind == KindRefund })
	corrections, err := b.registry.BookCorrections(ctx, customer, "")
	if err != nil {
		return nil, err
	}
	of.seen.Corrections = len(corrections)
	for _, one := range corrections {
		if one.Period != period {
			continue
		}
		var applied Correction
		if err := json.Unmarshal([]byte(one.Text), &applied); err != nil {
			return nil, fmt.Errorf("correction %d of %s: %w", one.ID, customer, err)
		}
		lines, of.withheld = append(lines, applied.Lines...), applied.Withheld
	}
	return lines, nil
}

// changed are the days of which the newest revision is not the sealed one.
func (b *Books) changed(ctx context.Context, c Calendar) ([]string, error) {
	var days []string
	err := b.registry.BookDays(ctx, c.Customer, c.Window, false, func(d registry.BookDay) error {
		if !d.Sealed {
			days = append(days, d.Cluster+" "+c.date(d.Window))
		}
		return nil
	})
	return days, err
}

// sides are what is rated now and what was billed of one identity.
type sides struct {
	line   Line // newest of it
	delta  Line // quantity and costs
	shares map[string]*Share
	ids    []string
}

// differences are the lines of what is rated less what was billed, in the order of
// what is rated. Lines that do not differ are none.
func differences(rated, billed []Line, closed Period) ([]Line, error) {
	var order []string
	byID := make(map[string]*sides)
	count := func(l Line, combine func(a, b string) (string, error), sign int64) error {
		id := l.identity()
		s := byID[id]
		if s == nil {
			s = &sides{line: l, delta: Line{ListCost: "0", Cost: "0", PriceListCost: "0", PriceCost: "0"}, shares: make(map[string]*Share)}
			byID[id] = s
			order = append(order, id)
		}
		if sign < 0 && l.ID != "" {
			s.ids = append(s.ids, l.ID)
		}
		if l.Currency != closed.Currency {
			return fmt.Errorf("period %s was closed in %s and is rated in %s: %w", closed.Period, closed.Currency, l.Currency,
				&Error{Kind: ErrInput, Text: "the currency has changed", Hint: "Give the customer the currency of that time again."})
		}
		var err error
		if s.delta.ListCost, err = combine(s.delta.ListCost, l.ListCost); err != nil {
			return err
		}
		if s.delta.Cost, err = combine(s.delta.Cost, l.Cost); err != nil {
			return err
		}
		if s.delta.PriceListCost, err = combine(s.delta.PriceListCost, l.PriceListCost); err != nil {
			return err
		}
		if s.delta.PriceCost, err = combine(s.delta.PriceCost, l.PriceCost); err != nil {
			return err
		}
		s.delta.Quantity += sign * l.Quantity
		return s.countShares(l.Shares, combine, sign)
	}
	for _, l := range rated {
		if err := count(l, plus, 1); err != nil {
			return nil, err
		}
	}
	for _, l := range billed {
		if err := count(l, minus, -1); err != nil {
			return nil, err
		}
	}
	lines := []Line{}
	for _, id := range order {
		if line, differs := byID[id].correction(closed); differs {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func (s *sides) countShares(shares []Share, combine func(a, b string) (string, error), sign int64) error {
	for _, share := range shares {
		own := s.shares[share.key()]
		if own == nil {
			own = &Share{Cluster: share.Cluster, Namespace: share.Namespace, Project: share.Project, User: share.User, ListCost: "0", Cost: "0"}
			s.shares[share.key()] = own
		}
		var err error
		if own.ListCost, err = combine(own.ListCost, share.ListCost); err != nil {
			return err
		}
		if own.Cost, err = combine(own.Cost, share.Cost); err != nil {
			return err
		}
		own.Quantity += sign * share.Quantity
	}
	return nil
}

// correction is the line of a difference, and whether there is one.
func (s *sides) correction(closed Period) (Line, bool) {
	line := s.line
	line.ID, line.Kind, line.Period, line.Parts, line.Estimate, line.OnePerson = "", KindCorrection, "", nil, false, false
	line.Quantity, line.ListCost, line.Cost = s.delta.Quantity, s.delta.ListCost, s.delta.Cost
	if line.PriceCurrency != "" {
		line.PriceListCost, line.PriceCost = s.delta.PriceListCost, s.delta.PriceCost
	}
	line.PricingQuantity = ""
	if line.Base > 0 {
		line.PricingQuantity = trimmed(big.NewRat(line.Quantity, line.Base).FloatString(12))
	}
	line.Statement, line.Corrects = closed.Statement, s.ids
	line.Shares = nil
	for _, key := range sortedKeys(s.shares) {
		if share := s.shares[key]; share.Quantity != 0 || !isZero(share.Cost) || !isZero(share.ListCost) {
			line.Shares = append(line.Shares, *share)
		}
	}
	return line, line.Quantity != 0 || !isZero(line.Cost) || !isZero(line.ListCost) || len(line.Shares) > 0
}

// trimmed is a decimal without zeros at its end.
func trimmed(s string) string {
	if !strings.Contains(s, ".") {
		return s
	}
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
