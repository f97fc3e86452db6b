package books

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// givesBack asks for a refund and approves it.
func (w *world) givesBack(statement int64, amount string) error {
	asked, err := w.RequestRefund(w.t.Context(), "acme", RefundRequest{Statement: statement, Amount: amount, Reason: "goodwill", By: "dora"})
	if err != nil {
		return err
	}
	_, err = w.ApproveRefund(w.t.Context(), "acme", asked.ID, "anna")
	return err
}

// accounts are, by the chain and the corrections alone, what each statement came to
// less all that was given back or taken off; and the same of each line.
func (w *world) accounts() (statements map[int64]string, lines map[string]string) {
	w.t.Helper()
	statements, lines = make(map[int64]string), make(map[string]string)
	periods := make(map[string]int64)
	add := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	issued, err := w.Issued(w.t.Context(), "acme")
	add(err)
	for _, s := range issued {
		if s.Kind == StatementKind {
			statements[s.Number], periods[s.Period] = s.Total, s.Number
		}
	}
	for _, s := range issued {
		for _, l := range s.Lines {
			if l.Kind == KindRefund && l.Statement != 0 && l.Statement != s.Number {
				statements[l.Statement], err = plus(statements[l.Statement], l.Cost)
				add(err)
			}
			if len(l.Shares) > 0 && l.Kind != KindCorrection {
				id := l.ChargePeriod + " " + l.identity()
				lines[id], err = plus(lines[id], l.Cost)
				add(err)
			}
		}
	}
	corrections, err := w.reg.BookCorrections(w.t.Context(), "acme", "")
	add(err)
	for _, one := range corrections {
		var applied Correction
		add(json.Unmarshal([]byte(one.Text), &applied))
		for _, l := range applied.Lines {
			lines[one.Period+" "+l.identity()], err = plus(lines[one.Period+" "+l.identity()], l.Cost)
			add(err)
		}
		if n := periods[one.Period]; below(applied.Total) {
			statements[n], err = plus(statements[n], applied.Total)
			add(err)
		}
	}
	return statements, lines
}

// closedOctober is a world in which a node failed in October, whose month is closed.
func closedOctober(t *testing.T) (*world, Statement) {
	t.Helper()
	w := failedWorld(t, time.Date(2026, 10, 2, 0, 0, 0, 0, time.UTC))
	w.podsSince = december.Add(-podRows)
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	return w, w.close("acme", "2026-10")
}

// TestNoMoreIsGivenBackThanWasPaid: by hand, for failed nodes and by corrections
// together, of no statement and of no line more is taken off than it was of; and who
// asks for more is told what is left, which he gets.
func TestNoMoreIsGivenBackThanWasPaid(t *testing.T) {
	capped, wouldExceed := 0, 0
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 28))
			w, first := closedOctober(t)
			if seed%2 == 1 { // most of the month's CPU turns out not to have been used
				w.forget("2026-10")
				if _, err := w.Apply(t.Context(), "acme", "2026-10", "dora", "a meter that was wrong"); err != nil {
					t.Fatal(err)
				}
			}
			if seed%3 > 0 {
				left, err := w.remains(t.Context(), first)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.givesBack(1, shareOfAmount(left.left, 60+r.Int64N(40))); err != nil {
					t.Fatal(err)
				}
			}
			w.clock.Set(december)
			d, err := w.Draft(t.Context(), "acme", "2026-11", "dora")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range d.Failures {
				for _, note := range f.Notes {
					if strings.Contains(note, " left (statement acme-0001 is of "+first.Total) {
						capped++
					}
				}
			}
			w.close("acme", "2026-11")
			for range 8 {
				statement := 1 + r.Int64N(2)*w.second()
				amount := shareOfAmount(first.Total, 1+r.Int64N(90))
				err := w.givesBack(statement, amount)
				if err == nil {
					continue
				}
				if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "can still be given back") {
					t.Fatal(err)
				}
				_, told, _ := strings.Cut(err.Error(), ": ")
				left, _, _ := strings.Cut(told, " ")
				if !isZero(left) {
					if err := w.givesBack(statement, left); err != nil {
						t.Errorf("what was said to be left: %v", err)
					}
				}
				if err := w.givesBack(statement, "0.01"); err == nil {
					t.Errorf("more than all of statement %d was given back", statement)
				}
			}
			statements, lines := w.accounts()
			for number, rest := range statements {
				if below(rest) {
					t.Errorf("statement %d: %s too much was given back", number, rest)
				}
			}
			for id, rest := range lines {
				if below(rest) {
					t.Errorf("line %q: %s too much was given back", id, rest)
				}
			}
			// Control: by credit notes alone, as it once was, there would be more left.
			once, err := w.byNotesAlone(first)
			if err != nil {
				t.Fatal(err)
			}
			if less(statements[1], once) {
				wouldExceed++
			}
			w.chain("acme")
		})
	}
	if capped == 0 || wouldExceed == 0 {
		t.Errorf("%d refunds were capped, %d statements would have had more left by credit notes alone: the test sees nothing", capped, wouldExceed)
	}
}

// second is the number of November's statement, less 1.
func (w *world) second() int64 {
	s, err := w.Statement(w.t.Context(), "acme", "2026-11", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Number - 1
}

// byNotesAlone is what of a statement its credit notes leave.
func (w *world) byNotesAlone(of Statement) (string, error) {
	left := of.Total
	issued, err := w.Issued(w.t.Context(), of.Customer)
	for _, s := range issued {
		if s.Refers == of.Number && err == nil {
			left, err = plus(left, s.Total)
		}
	}
	return left, err
}

// shareOfAmount is so many percent of an amount, in cents, and at least one.
func shareOfAmount(amount string, percent int64) string {
	whole, _ := new(big.Rat).SetString(amount)
	whole.Mul(whole, big.NewRat(percent, 1))
	cents := new(big.Int).Quo(whole.Num(), whole.Denom()) // hundredths
	return new(big.Rat).SetFrac(max64(cents, 1), big.NewInt(100)).FloatString(2)
}

func max64(n *big.Int, least int64) *big.Int {
	if n.Cmp(big.NewInt(least)) < 0 {
		return big.NewInt(least)
	}
	return n
}

// forget lets all namespaces of edge-a have used nearly no CPU in a month.
func (w *world) forget(period string) {
	w.t.Helper()
	c, err := w.calendar(w.t.Context(), "acme", period)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, namespace := range w.namespaces["edge-a"] {
		for minute := c.From.Unix() / 60; minute < c.To.Unix()/60; minute++ {
			w.late[fmt.Sprintf("edge-a/%s/%d", namespace, minute)] = 1000 - w.used("edge-a", namespace, minute)[processors.CPUUsed]
		}
	}
	for _, day := range c.days() {
		w.revise("edge-a", day.From, "forgotten")
	}
}

// TestRefundOfAnotherCurrency: what a closed month gives back is in its currency; where
// the customer pays in another one since, the error says what to do, and that works.
func TestRefundOfAnotherCurrency(t *testing.T) {
	start := time.Date(2026, 10, 28, 0, 0, 0, 0, time.UTC)
	w := failedWorld(t, start)
	ctx := t.Context()
	w.podsSince = december.Add(-podRows)
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	w.close("acme", "2026-10")
	w.apply(fleet.NewObject("acme", fleet.Customer{TimeZone: "UTC", Currency: "USD"}).Since(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)))
	w.clock.Set(december)
	_, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if told, ok := errors.AsType[*Error](err); !ok || told.Kind != ErrInput || !strings.Contains(told.Hint, "ExchangeRates") {
		t.Errorf("without a rate: %v", err)
	}
	w.apply(fleet.NewObject("ecb-2026-11", fleet.ExchangeRates{Month: "2026-11", Base: "EUR", Rates: map[string]fleet.Decimal{"USD": "1.0812"}}))
	_, err = w.Draft(ctx, "acme", "2026-11", "dora")
	told, ok := errors.AsType[*Error](err)
	if !ok || told.Kind != ErrInput || !strings.Contains(told.Text, "2026-10 is given back in EUR: period 2026-11 of acme is in USD") ||
		!strings.Contains(told.Hint, "accumulus books failures dismiss 1 --reason TEXT; accumulus books refund --customer acme --statement 1") {
		t.Fatalf("in another currency: %v", err)
	}
	if _, err := w.DismissFailure(ctx, 1, "olga", "given back by hand"); err != nil {
		t.Fatal(err)
	}
	if d, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil || d.Currency != "USD" {
		t.Errorf("after the failure was dismissed: %v", err)
	}
	if err := w.givesBack(1, "1.00"); err != nil {
		t.Error(err)
	}
}

// TestRefundOfAnEmptyStatement: the error says what the statement holds.
func TestRefundOfAnEmptyStatement(t *testing.T) {
	w := newWorld(t, december, fleet.NewObject("acme", fleet.Customer{}))
	w.close("acme", "2026-11")
	_, err := w.RequestRefund(t.Context(), "acme", RefundRequest{Statement: 1, Amount: "5.00", Reason: "goodwill", By: "dora"})
	if told, ok := errors.AsType[*Error](err); !ok || told.Text != "statement acme-0001 of period 2026-11 has 0 lines and comes to 0: nothing of it can be given back" || !strings.Contains(told.Hint, "accumulus books list") {
		t.Errorf("%v", err)
	}
	if _, err := w.RequestRefund(t.Context(), "acme", RefundRequest{Statement: 9, Amount: "5.00", Reason: "goodwill", By: "dora"}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("of a statement that is not there: %v", err)
	}
}

// TestScaledLinesAddUp: a line that gives back a part of itself, with all its shares.
func TestScaledLinesAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		l := Line{Kind: KindRefund, Currency: []string{"EUR", "JPY", "KWD"}[r.IntN(3)], Cost: "0", ListCost: "0", Base: 3_600_000_000}
		places := map[string]int{"EUR": 2, "JPY": 0, "KWD": 3}[l.Currency]
		money := func(n int64) string {
			return new(big.Rat).SetFrac(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil)).FloatString(places)
		}
		whole := int64(0)
		for range 1 + r.IntN(5) {
			n := r.Int64N(10_000)
			s := Share{Namespace: fmt.Sprint(n), Quantity: -n * 7919, Cost: money(-n), ListCost: money(-2 * n)}
			whole += n
			l.Quantity += s.Quantity
			l.Shares = append(l.Shares, s)
		}
		if whole == 0 {
			continue
		}
		l.Cost, l.ListCost = money(-whole), money(-2*whole)
		back := money(r.Int64N(whole + 1))
		half, err := l.scaled(back)
		if err != nil || !isZero(mustMinus(half.Cost, mustMinus("0", back))) {
			t.Fatalf("%s of %s: %s %v", back, l.Cost, half.Cost, err)
		}
		if what := sharesDiffer(half); what != "" || half.Quantity < l.Quantity || half.Quantity > 0 || less(half.ListCost, l.ListCost) {
			t.Fatalf("%s of %+v: %s, %+v", back, l, what, half)
		}
	}
}

// TestFailedNodesOfAMonthThatCreditsAnother: a statement that takes something off for an
// earlier month gives back for failed nodes what its own month came to, by hand what it
// is of. Control: by what the statement is of, less would be given back.
func TestFailedNodesOfAMonthThatCreditsAnother(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	w.close("acme", "2026-10")
	w.forget("2026-10")
	if _, err := w.Apply(t.Context(), "acme", "2026-10", "dora", "a meter that was wrong"); err != nil {
		t.Fatal(err)
	}
	w.clock.Set(december)
	second, err := w.Statement(t.Context(), "acme", "", w.close("acme", "2026-11").Number)
	if err != nil {
		t.Fatal(err)
	}
	own, largest := "0", Line{Cost: "0"}
	for _, l := range second.Lines {
		if l.ChargePeriod != "2026-11" || l.Kind == KindCorrection {
			continue
		}
		if own, err = plus(own, l.Cost); err != nil {
			t.Fatal(err)
		}
		if less(largest.Cost, l.Cost) {
			largest = l
		}
	}
	r, err := w.remains(t.Context(), second)
	if err != nil || !less(second.Total, own) || !isZero(mustMinus(r.failed, own)) || less(second.Total, r.left) {
		t.Fatalf("%+v, %v: the statement is of %s, its month came to %s", r, err, second.Total, own)
	}
	back := largest
	back.Kind, back.Cost = KindRefund, mustMinus("0", largest.Cost)
	control := r
	control.failed, control.lines = r.left, maps.Clone(r.lines)
	if out, note, given, err := r.take(back); err != nil || !given || note != "" || out.Cost != back.Cost {
		t.Errorf("%s of %s, %q, %v", out.Cost, back.Cost, note, err)
	}
	if _, note, _, err := control.take(back); err != nil || note == "" {
		t.Errorf("by what the statement is of as much is given back, %v: the test sees nothing", err)
	}
}
