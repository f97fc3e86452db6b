package books

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// uses lets all namespaces of edge-a have used so many percent of a month's CPU.
func (w *world) uses(period string, percent int64) {
	w.t.Helper()
	c, err := w.calendar(w.t.Context(), "acme", period)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, namespace := range w.namespaces["edge-a"] {
		for minute := c.From.Unix() / 60; minute < c.To.Unix()/60; minute++ {
			id := fmt.Sprintf("edge-a/%s/%d", namespace, minute)
			delete(w.late, id)
			cpu := w.used("edge-a", namespace, minute)[processors.CPUUsed]
			w.late[id] = cpu*percent/100 - cpu
		}
	}
	for _, day := range c.days() {
		w.revise("edge-a", day.From, fmt.Sprint(percent))
	}
}

// ledger is, by the chain and the corrections alone, what was billed, by statement and
// month, and what was given back: by hand of a statement, otherwise of a month.
type ledger struct {
	billed map[[2]string]*big.Rat
	byHand map[string]*big.Rat
	taken  map[string]*big.Rat
	sum    *big.Rat // of all
}

func (w *world) ledger() ledger {
	w.t.Helper()
	l := ledger{make(map[[2]string]*big.Rat), make(map[string]*big.Rat), make(map[string]*big.Rat), new(big.Rat)}
	count := func(statement int64, line Line) {
		cost := rational(w.t, line.Cost)
		l.sum.Add(l.sum, cost)
		back := new(big.Rat).Neg(cost)
		switch {
		case line.Kind == KindRefund && len(line.Shares) == 0:
			add(l.byHand, fmt.Sprint(line.Statement), back)
		case cost.Sign() < 0:
			add(l.taken, line.ChargePeriod, back)
		default:
			add(l.billed, [2]string{fmt.Sprint(statement), line.ChargePeriod}, cost)
		}
	}
	issued, err := w.Issued(w.t.Context(), "acme")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range issued {
		for _, line := range s.Lines {
			count(s.Number, line)
		}
	}
	corrections, err := w.reg.BookCorrections(w.t.Context(), "acme", "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, one := range corrections {
		if one.Statement != 0 {
			continue
		}
		var applied Correction
		if err := json.Unmarshal([]byte(one.Text), &applied); err != nil {
			w.t.Fatal(err)
		}
		for _, line := range applied.Lines {
			count(0, line)
		}
	}
	return l
}

// wrong says which statements and months together gave back more than they billed: by
// Hall's theorem none do where each amount that is given back is one that was billed.
func (l ledger) wrong() string {
	if l.sum.Sign() < 0 {
		return "all statements, credit notes and corrections come to " + l.sum.FloatString(2)
	}
	statements, months := sortedKeys(l.byHand), sortedKeys(l.taken)
	for set := range 1 << (len(statements) + len(months)) {
		in := make(map[string]bool)
		rest := new(big.Rat)
		for i, name := range append(append([]string{}, statements...), months...) {
			if set&(1<<i) == 0 {
				continue
			}
			in[name] = true
			if i < len(statements) {
				rest.Sub(rest, l.byHand[name])
			} else {
				rest.Sub(rest, l.taken[name])
			}
		}
		for of, amount := range l.billed {
			if in[of[0]] || in[of[1]] {
				rest.Add(rest, amount)
			}
		}
		if rest.Sign() < 0 {
			return fmt.Sprintf("of %v %s too much was given back", sortedKeys(in), rest.FloatString(2))
		}
	}
	return ""
}

// TestCreditsNeverExceedWhatWasBilled: whatever the order of refunds by hand and for failed
// nodes, of corrections up and down, and of closes, each amount that is given back is one
// that was billed and not given back before; the sum of all is never below 0. Control: with
// what the corrections withheld it would be.
func TestCreditsNeverExceedWhatWasBilled(t *testing.T) {
	withheld, exceeded := 0, 0
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 46))
			w, first := closedOctober(t)
			statements, periods := []int64{first.Number}, []string{"2026-10"}
			for step := range 10 {
				switch {
				case step == 4:
					w.clock.Set(december)
					statements, periods = append(statements, w.close("acme", "2026-11").Number), append(periods, "2026-11")
				case r.IntN(2) == 0:
					w.refundsSome(r, statements[r.IntN(len(statements))], first.Total)
				default:
					made := w.corrects(r, periods[r.IntN(len(periods))])
					if len(made.Withheld) == 0 {
						break
					}
					withheld++
					l := w.ledger()
					add(l.taken, made.Period, rational(t, sumWithheld(made.Withheld)))
					if l.sum.Sub(l.sum, rational(t, sumWithheld(made.Withheld))); step < 4 && l.wrong() == "" { // later each resource has a bound of its own, for failed nodes
						t.Errorf("%v was withheld, and could be given back", made.Withheld)
					}
					if l.sum.Sign() < 0 {
						exceeded++
					}
				}
				if wrong := w.ledger().wrong(); wrong != "" {
					t.Fatalf("after step %d: %s", step, wrong)
				}
			}
			w.chain("acme")
		})
	}
	if withheld == 0 || exceeded == 0 {
		t.Errorf("%d corrections withheld something, without that %d sums would be below 0: the test sees nothing", withheld, exceeded)
	}
}

// refundsSome gives back a part of a statement, or as much as is left where that is less.
func (w *world) refundsSome(r *rand.Rand, statement int64, about string) {
	w.t.Helper()
	err := w.givesBack(statement, shareOfAmount(about, 1+r.Int64N(120)))
	if err == nil {
		return
	}
	told, ok := errors.AsType[*Error](err)
	if !ok || told.Kind != ErrInput {
		w.t.Fatal(err)
	}
	if left, found := strings.CutPrefix(told.Hint, "Give back "); found {
		left, _, _ = strings.Cut(left, " ")
		if err := w.givesBack(statement, left); err != nil {
			w.t.Fatalf("what was said to be left: %v", err)
		}
	}
}

// corrects lets a month have been another one, and corrects it. To apply it again changes
// nothing, as the next one would.
func (w *world) corrects(r *rand.Rand, period string) Correction {
	w.t.Helper()
	w.uses(period, []int64{0, 10, 50, 100, 150, 300}[r.IntN(6)])
	made, err := w.Apply(w.t.Context(), "acme", period, "dora", "a meter that was wrong")
	if err != nil {
		w.t.Fatal(err)
	}
	if sum, err := total(made.Lines); err != nil || !isZero(mustMinus(sum, made.Total)) {
		w.t.Errorf("lines come to %s, %v, the correction to %s", sum, err, made.Total)
	}
	after, err := plus(made.Before, made.Total)
	if err == nil {
		after, err = minus(after, sumWithheld(made.Withheld))
	}
	if err != nil || !isZero(mustMinus(after, made.After)) {
		w.t.Errorf("%s and %s, less %v, is not %s", made.Before, made.Total, made.Withheld, made.After)
	}
	again, err := w.Apply(w.t.Context(), "acme", period, "dora", "again")
	if err != nil || len(again.Lines) != 0 || again.Applied || !sameWithheld(again.Withheld, made.Withheld) {
		w.t.Errorf("again: %+v, %v; withheld before %+v", again, err, made.Withheld)
	}
	return made
}

// TestCorrectionAfterARefund: what was given back in whole is not taken off again. The
// correction says so, and the next draft and its review; what comes back later is billed
// from there on, and the statement does not fall below 0.
func TestCorrectionAfterARefund(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, december, small("UTC")...)
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	first := w.close("acme", "2026-10")
	if err := w.givesBack(1, first.Total); err != nil {
		t.Fatal(err)
	}
	w.uses("2026-10", 0)
	shown, err := w.Rerate(ctx, "acme", "2026-10")
	if err != nil || len(shown.Lines) != 0 || len(shown.Withheld) != 1 || !isZero(shown.Total) || !less(shown.After, shown.Before) {
		t.Fatalf("%+v %v", shown, err)
	}
	one := shown.Withheld[0]
	if one.Rate != "cpu_used" || one.Statement != 1 || !isZero(mustMinus(one.Cost, mustMinus(shown.Before, shown.After))) ||
		!strings.Contains(one.String(), "statement acme-0001 is of "+first.Total+" EUR, "+first.Total+" given back by hand") {
		t.Errorf("withheld %s", one)
	}
	if _, err := w.Apply(ctx, "acme", "2026-10", "dora", "a meter that was wrong"); err != nil {
		t.Fatal(err)
	}
	w.clock.Set(december)
	d, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil || len(d.Withheld) != 1 || len(d.Billed) != 1 {
		t.Fatalf("draft %+v %v", d.Withheld, err)
	}
	if r, err := w.Review(ctx, "acme", "2026-11", "dora"); err != nil || len(r.Withheld) != 1 {
		t.Errorf("review %+v %v", r.Withheld, err)
	}
	if second := w.close("acme", "2026-11"); !isZero(second.Corrections) || less(second.Total, second.Usage) {
		t.Errorf("the next statement: %+v", second)
	}
	w.uses("2026-10", 100)
	if made, err := w.Rerate(ctx, "acme", "2026-10"); err != nil || len(made.Lines) != 0 || len(made.Withheld) != 0 {
		t.Errorf("as it was billed: %+v %v", made, err)
	}
	w.uses("2026-10", 200)
	if made, err := w.Rerate(ctx, "acme", "2026-10"); err != nil || !less("0", made.Total) || len(made.Withheld) != 0 {
		t.Errorf("twice as much: %+v %v", made, err)
	}
}

// TestPartOfACorrectionIsWithheld: what is left of a statement is taken off, its line says
// what is not, and an explanation of it holds. Control: with another amount withheld it
// does not.
func TestPartOfACorrectionIsWithheld(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, december, small("UTC")...)
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	first := w.close("acme", "2026-10")
	if err := w.givesBack(1, mustMinus(first.Total, "1.25")); err != nil {
		t.Fatal(err)
	}
	w.uses("2026-10", 0)
	made, err := w.Apply(ctx, "acme", "2026-10", "dora", "a meter that was wrong")
	if err != nil || len(made.Lines) != 1 || made.Total != "-1.25" || made.Lines[0].Cost != "-1.25" || made.Lines[0].Withheld != made.Withheld[0].Cost || sharesDiffer(made.Lines[0]) != "" {
		t.Fatalf("%+v %v", made, err)
	}
	w.clock.Set(december)
	second, err := w.Statement(ctx, "acme", "", w.close("acme", "2026-11").Number)
	if err != nil {
		t.Fatal(err)
	}
	page, err := second.HTML()
	if err != nil || !strings.Contains(string(page), "("+made.Lines[0].Withheld+" of it was given back before)") {
		t.Errorf("the statement's page does not say what is withheld: %v", err)
	}
	for i, line := range second.Lines {
		if line.Kind != KindCorrection {
			continue
		}
		text, err := w.Explain(ctx, "acme", second.FirstLine+int64(i))
		if err != nil {
			t.Fatal(err)
		}
		e, findings, err := VerifyExplanation(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings {
			if !f.Holds {
				t.Errorf("%+v", f)
			}
		}
		e.Line.Withheld = mustMinus(e.Line.Withheld, "0.01")
		if f := e.verifyCorrection(); f.Holds {
			t.Errorf("with another amount withheld: %+v", f)
		}
	}
}

// TestBooksThatHaveMovedOn: a correction and a credit note that were computed before
// somebody added to the customer's books are refused, and change nothing.
func TestBooksThatHaveMovedOn(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, december, small("UTC")...)
	first := w.close("acme", "2026-11")
	seq, _, last, err := w.reg.BookHead(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.givesBack(1, "1.00"); err != nil {
		t.Fatal(err)
	}
	did := registry.BookAction{By: "dora", Action: "correct", Customer: "acme", Period: "2026-11"}
	if err := w.reg.AddBookCorrection(ctx, registry.BookCorrection{Customer: "acme", Period: "2026-11", Text: "{}"}, registry.BookSeen{Line: seq}, did); !errors.Is(err, registry.ErrStale) {
		t.Errorf("a correction: %v", err)
	}
	links, err := w.link([]Line{{Customer: "acme", Kind: KindRefund, Cost: "-1.00"}}, seq, first.Head, last+1)
	if err != nil {
		t.Fatal(err)
	}
	issue := registry.Issue{Lines: links, Statement: registry.BookStatement{Customer: "acme", Number: last + 1, Kind: CreditNoteKind, Text: "{}"}, Did: did}
	if err := w.reg.IssueBook(ctx, issue); !errors.Is(err, registry.ErrStale) {
		t.Errorf("a credit note: %v", err)
	}
	w.uses("2026-11", 200)
	if _, err := w.Apply(ctx, "acme", "2026-11", "dora", "more"); err != nil {
		t.Fatal(err)
	}
	seq, hash, last, err := w.reg.BookHead(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if issue.Lines, err = w.link([]Line{{Customer: "acme", Kind: KindRefund, Cost: "-1.00"}}, seq, hash, last+1); err != nil {
		t.Fatal(err)
	}
	if issue.Statement.Number = last + 1; !errors.Is(w.reg.IssueBook(ctx, issue), registry.ErrStale) {
		t.Error("a credit note from before a correction was written")
	}
	w.chain("acme")
}
