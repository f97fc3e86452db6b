package books

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// remaining is what of a statement may still be given back. By hand and for failed
// nodes together no more is given back than the statement, less what corrections have
// taken off its period since; and for failed nodes of a line no more than the line. What
// a statement takes off for other months, with corrections and refunds of theirs, is
// counted with those: for failed nodes it is what its own month came to. What finds nothing
// in the customer's account that was billed and not given back yet is not given back
// either: a statement's correction of another month may have been taken off since.
type remaining struct {
	of        Statement
	byHand    string            // given back with credit notes; not above 0
	automatic string            // given back in other statements for failed nodes; not above 0
	corrected string            // what the period's corrections come to, where that is below 0
	own       string            // what the lines of the statement's own period come to
	left      string            // of the statement by hand, not below 0
	failed    string            // of the statement for failed nodes, not below 0
	lines     map[string]string // by identity of lines of the statement's period, not below 0
	account   *account          // the customer's, in the statement's currency
	elsewhere bool              // left is what the account has left, which is less
}

// remains is what may still be given back of a statement. The chain and the corrections
// are read once, for the statement and for the customer's account.
func (b *Books) remains(ctx context.Context, of Statement) (remaining, error) {
	r := remaining{of: of, byHand: "0", automatic: "0", corrected: "0", own: "0", lines: make(map[string]string), account: newAccount(of.Currency)}
	err := b.registry.BookLines(ctx, of.Customer, "", func(link registry.BookLine) error {
		var line Line
		if err := json.Unmarshal([]byte(link.Text), &line); err != nil {
			return fmt.Errorf("line %s: %w", lineID(of.Customer, link.Seq), err)
		}
		if err := r.account.count(link.Statement, line); err != nil {
			return err
		}
		return r.count(link.Statement, line)
	})
	if err != nil {
		return r, err
	}
	corrections, err := b.registry.BookCorrections(ctx, of.Customer, "")
	if err != nil {
		return r, err
	}
	for _, one := range corrections {
		if err := r.applied(one); err != nil {
			return r, err
		}
	}
	if !below(r.corrected) { // what was billed beside it is of the statement that billed it
		r.corrected = "0"
	}
	if r.left, err = r.lessGiven(of.Total); err != nil {
		return r, err
	}
	r.failed = r.left
	if less(of.Total, r.own) {
		if r.failed, err = r.lessGiven(r.own); err != nil {
			return r, err
		}
	}
	if room := r.account.room(side{statement: of.Number}); less(room, r.left) {
		r.left, r.elsewhere = room, true
	}
	return r, nil
}

// applied takes a correction into account.
func (r *remaining) applied(one registry.BookCorrection) error {
	ofPeriod, billed := one.Period == r.of.Period, one.Statement != 0 // then the chain has its lines
	if !ofPeriod && billed {
		return nil
	}
	var applied Correction
	if err := json.Unmarshal([]byte(one.Text), &applied); err != nil {
		return fmt.Errorf("correction %d of %s: %w", one.ID, r.of.Customer, err)
	}
	if ofPeriod {
		var err error
		if r.corrected, err = plus(r.corrected, applied.Total); err != nil {
			return err
		}
	}
	for _, line := range applied.Lines {
		if ofPeriod {
			if err := r.ofLine(line); err != nil {
				return err
			}
		}
		if billed {
			continue
		}
		if err := r.account.count(0, line); err != nil {
			return err
		}
	}
	return nil
}

// lessGiven is an amount less what was given back and taken off, not below 0.
func (r *remaining) lessGiven(amount string) (left string, err error) {
	left = amount
	for _, part := range []string{r.byHand, r.automatic, r.corrected} {
		if left, err = plus(left, part); err != nil {
			return "", err
		}
	}
	if below(left) {
		left = "0"
	}
	return left, nil
}

// remainsOf is what may still be given back of a statement by its number.
func (b *Books) remainsOf(ctx context.Context, customer string, number int64) (*remaining, error) {
	of, err := b.Statement(ctx, customer, "", number)
	if err != nil {
		return nil, err
	}
	left, err := b.remains(ctx, of)
	return &left, err
}

// count takes a closed line of some statement into account.
func (r *remaining) count(statement int64, line Line) error {
	own := statement == r.of.Number
	if own && (line.ChargePeriod != r.of.Period || line.Kind == KindCorrection) || !own && (line.Kind != KindRefund || line.Statement != r.of.Number) {
		return nil // of another one, or a correction, which is counted where it was applied
	}
	into := &r.automatic
	switch {
	case own:
		into = &r.own
	case byHand(line):
		into = &r.byHand
	}
	var err error
	if *into, err = plus(*into, line.Cost); err != nil {
		return err
	}
	return r.ofLine(line)
}

// byHand says whether a refund is of a credit note.
func byHand(l Line) bool { return l.Kind == KindRefund && l.Version == "" && len(l.Shares) == 0 }

func (r *remaining) ofLine(line Line) (err error) {
	if byHand(line) {
		return nil
	}
	id := line.identity()
	r.lines[id], err = plus(r.lines[id], line.Cost)
	return err
}

// take takes what a line gives back off what remains. A line that gives back more than
// that gives back what remains; note says so, and given is false where that is nothing.
func (r *remaining) take(line Line) (out Line, note string, given bool, err error) {
	if !below(line.Cost) {
		return line, "", true, nil
	}
	wanted, err := minus("0", line.Cost)
	if err != nil {
		return line, "", false, err
	}
	id, most, of := line.identity(), r.failed, fmt.Sprintf("statement %s", r.of.ID)
	if room := r.account.room(side{month: r.of.Period}); less(room, most) {
		most, of = room, "period "+r.of.Period
	}
	if ofLine := r.lines[id]; less(ofLine, most) {
		most, of = ofLine, "the line of "+line.Rate+" in it"
	}
	if below(most) {
		most = "0"
	}
	if less(most, wanted) {
		note = fmt.Sprintf("%s of %s %s of %s: %s has %s %s left (%s)", mustMinus(wanted, most), wanted, line.Currency, line.Rate, of, most, line.Currency, r)
		if isZero(most) {
			return line, note, false, nil
		}
		if line, err = line.scaled(most); err != nil {
			return line, note, false, err
		}
	}
	if r.failed, err = plus(r.failed, line.Cost); err == nil {
		r.lines[id], err = plus(r.lines[id], line.Cost)
	}
	if err == nil {
		err = r.account.count(r.of.Number, line)
	}
	return line, note, true, err
}

// String says what a statement is of, and what of it was given back, for people.
func (r remaining) String() string {
	text := fmt.Sprintf("statement %s is of %s", r.of.ID, strings.TrimSpace(r.of.Total+" "+r.of.Currency))
	for _, part := range []struct{ amount, what string }{{r.byHand, "given back by hand"}, {r.automatic, "given back for failed nodes"}, {r.corrected, "taken off by corrections"}} {
		if amount, err := minus("0", part.amount); err == nil && !isZero(amount) {
			text += fmt.Sprintf(", %s %s", amount, part.what)
		}
	}
	if r.elsewhere {
		text += ", and what it billed of other months was taken off these, or what its own month was raised by was given back"
	}
	return text
}

// less says whether an amount is below another one.
func less(a, b string) bool {
	rest, err := minus(a, b)
	return err == nil && below(rest)
}

func mustMinus(a, b string) string {
	rest, err := minus(a, b)
	if err != nil {
		return a // both were decimals before
	}
	return rest
}

// scaled is a line that gives back an amount: its other amounts and its quantity in
// proportion, and its shares so that they add up to it.
func (l Line) scaled(back string) (Line, error) {
	whole, ok := new(big.Rat).SetString(l.Cost)
	part, also := new(big.Rat).SetString("-" + back)
	if !ok || !also || whole.Sign() == 0 {
		return l, fmt.Errorf("amount %q of %q is no part", back, l.Cost)
	}
	ratio := part.Quo(part, whole)
	places := func(currency string) int32 {
		n, _ := processors.CurrencyExponent(currency)
		return n
	}
	l.Shares = slices.Clone(l.Shares)
	shares := func(of func(s *Share) *string) []*string {
		var all []*string
		for i := range l.Shares {
			all = append(all, of(&l.Shares[i]))
		}
		return all
	}
	scaleAmounts(ratio, places(l.Currency), &l.Cost, shares(func(s *Share) *string { return &s.Cost }))
	scaleAmounts(ratio, places(l.Currency), &l.ListCost, shares(func(s *Share) *string { return &s.ListCost }))
	if l.PriceCurrency != "" {
		scaleAmounts(ratio, places(l.PriceCurrency), &l.PriceCost, nil)
		scaleAmounts(ratio, places(l.PriceCurrency), &l.PriceListCost, nil)
	}
	quantities := []*big.Int{}
	for i := range l.Shares {
		quantities = append(quantities, big.NewInt(l.Shares[i].Quantity))
	}
	total, parts := apportioned(ratio, big.NewInt(l.Quantity), quantities)
	l.Quantity = total.Int64()
	for i := range parts {
		l.Shares[i].Quantity = parts[i].Int64()
	}
	if l.Base > 0 {
		l.PricingQuantity = trimmed(big.NewRat(l.Quantity, l.Base).FloatString(12))
	}
	return l, nil
}

// scaleAmounts scales an amount and its parts, which add up to it, to decimals of so
// many places.
func scaleAmounts(ratio *big.Rat, places int32, whole *string, parts []*string) {
	unit := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil))
	units := func(amount string) *big.Int {
		r, ok := new(big.Rat).SetString(amount)
		if !ok {
			return new(big.Int)
		}
		r.Mul(r, unit)
		return new(big.Int).Quo(r.Num(), r.Denom())
	}
	shown := func(n *big.Int) string {
		return new(big.Rat).Quo(new(big.Rat).SetInt(n), unit).FloatString(int(places))
	}
	values := make([]*big.Int, len(parts))
	for i, part := range parts {
		values[i] = units(*part)
	}
	total, scaled := apportioned(ratio, units(*whole), values)
	*whole = shown(total)
	for i := range scaled {
		*parts[i] = shown(scaled[i])
	}
}

// apportioned scales a whole, rounded half away from 0, and its parts, so that these add
// up to it: each is rounded down, and what is missing goes to the largest remainders, of
// equal ones to the earlier.
func apportioned(ratio *big.Rat, whole *big.Int, parts []*big.Int) (*big.Int, []*big.Int) {
	exact := new(big.Rat).Mul(ratio, new(big.Rat).SetInt(whole))
	text := exact.FloatString(0) // rounds half away from 0
	total, _ := new(big.Int).SetString(text, 10)
	if len(parts) == 0 {
		return total, nil
	}
	all, order := make([]*big.Int, len(parts)), make([]int, len(parts))
	rests := make([]*big.Rat, len(parts))
	missing := new(big.Int).Set(total)
	for i, part := range parts {
		exact := new(big.Rat).Mul(ratio, new(big.Rat).SetInt(part))
		all[i] = new(big.Int).Div(exact.Num(), exact.Denom()) // Euclidean: down, for a denominator above 0
		rests[i], order[i] = exact.Sub(exact, new(big.Rat).SetInt(all[i])), i
		missing.Sub(missing, all[i])
	}
	slices.SortStableFunc(order, func(x, y int) int { return rests[y].Cmp(rests[x]) })
	for i := 0; missing.Sign() != 0; i++ {
		step := big.NewInt(int64(missing.Sign()))
		at := all[order[i%len(order)]]
		at.Add(at, step)
		missing.Sub(missing, step)
	}
	return total, all
}

// notTooMuch is an error where more would be given back of a statement by hand than is
// left of it. refund is below 0.
func (b *Books) notTooMuch(ctx context.Context, of Statement, refund string) error {
	r, err := b.remains(ctx, of)
	if err != nil {
		return err
	}
	rest, err := plus(r.left, refund)
	if err != nil {
		return err
	}
	if !below(rest) {
		return nil
	}
	hint := "Give back " + r.left + " " + of.Currency + " or less."
	if isZero(r.left) {
		hint = "All of it was given back, or taken off: name another statement (--statement N)."
	}
	return &Error{Kind: ErrInput, Text: fmt.Sprintf("%s: %s %s of it can still be given back", r, r.left, of.Currency), Hint: hint}
}
