package books

import (
	"database/sql"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

var december = time.Date(2026, 12, 2, 9, 0, 0, 0, time.UTC)

func TestLifeOfAPeriod(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	ctx := t.Context()
	d, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Lines) != 4 || isZero(d.Total) || d.Currency != "EUR" || !d.Rated.Complete() || len(d.Waiting) != 0 {
		t.Fatalf("draft %+v", d)
	}
	sum, err := total(d.Lines)
	if err != nil || sum != d.Total {
		t.Errorf("lines come to %s, total %s: %v", sum, d.Total, err)
	}
	again, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil || cmp.Diff(d.Lines, again.Lines) != "" {
		t.Errorf("drafted again: %v %s", err, cmp.Diff(d.Lines, again.Lines))
	}
	for name, step := range map[string]func() error{
		"approve before review": func() error { _, err := w.Approve(ctx, "acme", "2026-11", "anna"); return err },
		"close a draft":         func() error { _, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl"}); return err },
		"re-rate an open one":   func() error { _, err := w.Rerate(ctx, "acme", "2026-11"); return err },
	} {
		if err := step(); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Review(ctx, "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(ctx, "acme", "2026-11", "Dora"); !errors.Is(err, ErrFourEyes) {
		t.Errorf("who drafted it approves it: %v", err)
	}
	if _, err := w.Approve(ctx, "acme", "2026-11", "anna"); err != nil {
		t.Fatal(err)
	}
	s, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Number != 1 || s.ID != "acme-0001" || s.Total != d.Total || s.LineCount != 4 {
		t.Errorf("statement %+v", s)
	}
	w.chain("acme")
	if _, err := w.Draft(ctx, "acme", "2026-11", "dora"); !errors.Is(err, ErrState) {
		t.Errorf("draft of a closed one: %v", err)
	}
	back, err := w.Statement(ctx, "acme", "2026-11", 0)
	if err != nil || len(back.Lines) != 4 || back.Head != s.Head {
		t.Errorf("statement back: %v %+v", err, back)
	}
	page, err := back.HTML()
	if err != nil || !strings.Contains(string(page), "acme-0001") || !strings.Contains(string(page), s.Total) || strings.Contains(string(page), "http") {
		t.Errorf("page: %v\n%s", err, page)
	}
}

// TestBeforeItsEnd: a draft of a month that goes on is not called complete; it can be
// looked at, as a preview, and who moves it to review is told what to do when.
func TestBeforeItsEnd(t *testing.T) {
	w := newWorld(t, time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC), small("Europe/Amsterdam")...)
	ctx := t.Context()
	if _, err := w.Explain(ctx, "acme", 1); err == nil || !strings.Contains(err.Error(), "acme has no closed line") {
		t.Errorf("explain before anything is closed: %v", err)
	}
	d, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil || !d.Rated.Complete() || len(d.Waiting) == 0 || d.Period.Complete {
		t.Fatalf("draft complete %v, waiting %v: %v", d.Period.Complete, d.Waiting, err)
	}
	if r, err := w.Look(ctx, "acme", "2026-11"); err != nil || r.Preview != "the period runs until 2026-11-30T23:00:00Z; not for approval" || d.Preview != r.Preview {
		t.Errorf("looked at before its end: %q, drafted %q: %v", r.Preview, d.Preview, err)
	}
	_, err = w.Review(ctx, "acme", "2026-11", "dora")
	if told, ok := errors.AsType[*Error](err); !ok || told.Kind != ErrState || !strings.HasPrefix(told.Hint, "Draft it again when it has ended: accumulus books draft --customer acme --period 2026-11") {
		t.Errorf("reviewed before its end: %v", err)
	}
	w.clock.Set(december)
	if r, err := w.Look(ctx, "acme", "2026-11"); err != nil || r.Preview != "" || !r.Outdated {
		t.Errorf("looked at after its end: %q, outdated %v: %v", r.Preview, r.Outdated, err)
	}
}

func TestStatementWithoutLines(t *testing.T) {
	page, err := Statement{ID: "acme-0001", Customer: "acme", Kind: StatementKind, Zone: "UTC", Total: "0"}.HTML()
	if err != nil || strings.Contains(string(page), "the last has the hash") || strings.Contains(string(page), `<th class="n"></th>`) {
		t.Errorf("page: %v\n%s", err, page)
	}
}

// TestClosedLinesDoNotChange tries all that is stored of a closed period by SQL.
// TestBooksRefuseWhatTheyCouldNotShow: what is written there is signed and stays.
func TestBooksRefuseWhatTheyCouldNotShow(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	for _, by := range []string{"", "  ", "do\nra", "do\x1b[31mra", "do\x00ra", "d\xff", "\ufffd", strings.Repeat("x", 201)} {
		if _, err := w.Draft(t.Context(), "acme", "2026-11", by); !errors.Is(err, ErrInput) {
			t.Errorf("draft by %q: %v", by, err)
		}
	}
	for _, period := range []string{"0001-01", "1969-12", "2026-13", "9999999-01", "-1"} {
		if _, err := w.Draft(t.Context(), "acme", period, "dora"); !errors.Is(err, ErrInput) {
			t.Errorf("draft of %q: %v", period, err)
		}
		if _, err := w.List(t.Context(), "acme", period); !errors.Is(err, ErrInput) {
			t.Errorf("list of %q: %v", period, err)
		}
	}
	if stored, err := w.List(t.Context(), "", ""); err != nil || len(stored) != 0 {
		t.Errorf("stored: %v, %v", stored, err)
	}
	if log, err := w.Actions(t.Context(), "acme"); err != nil || len(log) != 0 {
		t.Errorf("log: %v, %v", log, err)
	}
	w.close("acme", "2026-11")
	for _, reason := range []string{"", "a\x1bb", "\xff", strings.Repeat("x", mostReason+1)} {
		if _, err := w.Apply(t.Context(), "acme", "2026-11", "dora", reason); !errors.Is(err, ErrInput) {
			t.Errorf("correction because %.20q: %v", reason, err)
		}
	}
	if _, err := w.Apply(t.Context(), "acme", "2026-11", "Zoë O’Brien", "two\nlines, über"); err != nil {
		t.Error(err)
	}
	if _, err := w.Chain(t.Context(), "nobody"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("chain of nobody: %v", err)
	}
}

func TestClosedLinesDoNotChange(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	w.close("acme", "2026-11")
	before := w.chain("acme")
	db, err := sql.Open("sqlite3", w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range []string{
		"UPDATE book_line SET text = replace(text, 'EUR', 'USD')", "UPDATE book_line SET hash = 'x' WHERE seq = 2", "DELETE FROM book_line WHERE seq = 4", "DELETE FROM book_line",
		"INSERT INTO book_line SELECT customer, 7, period, statement, text, hash, hash, signature FROM book_line WHERE seq = 4",
		"INSERT OR REPLACE INTO book_line SELECT customer, seq, period, statement, 'x', previous, hash, signature FROM book_line WHERE seq = 4",
		"UPDATE book_period SET state = 'draft'", "DELETE FROM book_period", "UPDATE book_statement SET text = 'x'", "DELETE FROM book_statement",
		"UPDATE book_day SET cells = x'01'", "UPDATE book_day SET sealed = 0", "DELETE FROM book_day", "UPDATE book_list SET spec = '{}'", "DELETE FROM book_list", "DELETE FROM book_action",
		"INSERT INTO book_statement SELECT customer, 3, kind, period, refers, text, signature, issued_at FROM book_statement"} {
		if _, err := db.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("%s: was let through", statement)
		}
	}
	if diff := cmp.Diff(before, w.chain("acme")); diff != "" {
		t.Errorf("the chain has changed: %s", diff)
	}
	// Control: who takes the triggers away is found, at the first line that is wrong.
	if _, err := db.ExecContext(t.Context(), "DROP TRIGGER book_line_update; UPDATE book_line SET text = replace(text, '\"cost\":\"', '\"cost\":\"9') WHERE seq = 2"); err != nil {
		t.Fatal(err)
	}
	c, err := w.Chain(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var broken *BrokenError
	if _, err := Verify(c); !errors.As(err, &broken) || broken.Line != "acme/2" {
		t.Errorf("a changed line: %v", err)
	}
}

func TestVerifyFindsTheFirstWrongLine(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	w.close("acme", "2026-11")
	for name, test := range map[string]struct {
		change func(c *Chain)
		line   string
	}{
		"hash and text": {func(c *Chain) {
			c.Lines[1].Text = strings.Replace(c.Lines[1].Text, "EUR", "USD", 1)
			c.Lines[1].Hash = hashOf(c.Lines[1].Previous, c.Lines[1].Text)
		}, "acme/2"},
		"a line less":          {func(c *Chain) { c.Lines = append(c.Lines[:1:1], c.Lines[2:]...) }, "acme/2"},
		"the last lines":       {func(c *Chain) { c.Lines = c.Lines[:2] }, "acme, statement 1"},
		"previous":             {func(c *Chain) { c.Lines[2].Previous = "" }, "acme/3"},
		"signature":            {func(c *Chain) { c.Lines[0].Signature = c.Lines[1].Signature }, "acme/1"},
		"a statement's text":   {func(c *Chain) { c.Statements[0].Text = strings.Replace(c.Statements[0].Text, "EUR", "USD", 1) }, "acme, statement 1"},
		"no statement":         {func(c *Chain) { c.Statements = nil }, "acme/1"},
		"another leader's key": {func(c *Chain) { c.PublicKey = make([]byte, 32) }, "acme/1"},
		"no key":               {func(c *Chain) { c.PublicKey = nil }, "acme/1"},
		"another customer's":   {func(c *Chain) { c.Customer = "globex" }, "globex/1"},
	} {
		c := w.chain("acme")
		test.change(&c)
		var broken *BrokenError
		if _, err := Verify(c); !errors.As(err, &broken) || broken.Line != test.line {
			t.Errorf("%s: %v, want %s", name, err, test.line)
		}
	}
}

func TestIncompleteLedgerNeedsAnEstimate(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	ctx := t.Context()
	gap := time.Date(2026, 11, 7, 0, 0, 0, 0, time.UTC)
	w.missing["edge-a/"+gap.Format(time.RFC3339)] = true
	if _, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Review(ctx, "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(ctx, "acme", "2026-11", "anna"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl"}); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "2026-11-07 00:00Z") {
		t.Errorf("closed without an estimate: %v", err)
	}
	s, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl", Reason: "the link was down and its disk is lost"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Estimate == nil || s.Estimate.By != "carl" || len(s.Estimate.Gaps) != 2 || s.Measured[0].Completeness != "0.9986" {
		t.Errorf("estimate %+v, measured %+v", s.Estimate, s.Measured)
	}
	w.chain("acme")
}

func TestCorrectionsAreIdempotent(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	ctx := t.Context()
	w.close("acme", "2026-11")
	before := w.chain("acme")
	if made, err := w.Rerate(ctx, "acme", "2026-11"); err != nil || len(made.Lines) != 0 || !isZero(made.Total) {
		t.Fatalf("nothing has changed: %+v %v", made, err)
	}
	w.later("edge-a", "shop", time.Date(2026, 11, 20, 10, 7, 0, 0, time.UTC), 7_200_000_000) // two core-hours
	made, err := w.Rerate(ctx, "acme", "2026-11")
	if err != nil || len(made.Lines) != 1 || made.Total != "0.06" || made.Lines[0].Quantity != 7_200_000_000 || len(made.Changed) != 1 || made.Lines[0].Corrects[0] != "acme/1" {
		t.Fatalf("correction %+v, %v", made, err)
	}
	if _, err := w.Apply(ctx, "acme", "2026-11", "dora", " "); !errors.Is(err, ErrInput) {
		t.Errorf("without a reason: %v", err)
	}
	for range 3 {
		if _, err := w.Apply(ctx, "acme", "2026-11", "dora", "rows that came late"); err != nil {
			t.Fatal(err)
		}
	}
	if corrections, err := w.reg.BookCorrections(ctx, "acme", "2026-11"); err != nil || len(corrections) != 1 {
		t.Errorf("%d corrections, %v", len(corrections), err)
	}
	if diff := cmp.Diff(before, w.chain("acme")); diff != "" {
		t.Errorf("the closed lines have changed: %s", diff)
	}
	w.clock.Set(time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC))
	s := w.close("acme", "2026-12")
	if s.Number != 2 || s.Corrections != "0.06" {
		t.Errorf("the next statement: number %d, corrections %s", s.Number, s.Corrections)
	}
	w.chain("acme")
	if made, err := w.Rerate(ctx, "acme", "2026-11"); err != nil || len(made.Lines) != 0 {
		t.Errorf("after it was billed: %+v %v", made, err)
	}
	if d, err := w.Draft(ctx, "acme", "2027-01", "dora"); err != nil || len(d.Billed) != 0 {
		t.Errorf("billed again: %v %v", d.Billed, err)
	}
}

// TestAnotherCurrency: a customer who pays in another currency than his price list's
// has each line in both, the rate by name, and a total that is the sum of what was
// converted.
func TestAnotherCurrency(t *testing.T) {
	objects := small("UTC")
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	objects[0] = fleet.NewObject("acme", fleet.Customer{Currency: "USD"}).Since(since)
	w := newWorld(t, december, objects...)
	ctx := t.Context()
	if _, err := w.Draft(ctx, "acme", "2026-11", "dora"); err == nil || !strings.Contains(err.Error(), "from EUR to USD for 2026-11") {
		t.Errorf("without a rate: %v", err)
	}
	w.apply(fleet.NewObject("ecb-2026-11", fleet.ExchangeRates{Month: "2026-11", Base: "EUR", Rates: map[string]fleet.Decimal{"USD": "1.0812"}, Source: "European Central Bank"}).Since(since),
		fleet.NewObject("ecb-2026-10", fleet.ExchangeRates{Month: "2026-10", Base: "EUR", Rates: map[string]fleet.Decimal{"USD": "2"}}).Since(since))
	s := w.close("acme", "2026-11")
	closed, err := w.Statement(ctx, "acme", "", s.Number)
	if err != nil {
		t.Fatal(err)
	}
	inEUR, inUSD := "0", "0"
	for _, l := range closed.Lines {
		if l.Currency != "USD" || l.PriceCurrency != "EUR" || l.ExchangeRate != "1.0812" || l.ExchangeSource != "European Central Bank" || l.ExchangeMonth != "2026-11" {
			t.Errorf("line %+v", l)
		}
		price, _ := new(big.Rat).SetString(l.PriceCost)
		if want := price.Mul(price, big.NewRat(10812, 10000)).FloatString(2); want != l.Cost {
			t.Errorf("%s: %s EUR are %s USD, want %s", l.Rate, l.PriceCost, l.Cost, want)
		}
		inEUR, _ = plus(inEUR, l.PriceCost)
		inUSD, _ = plus(inUSD, l.Cost)
	}
	want := []ExchangeUsed{{"EUR", "USD", "2026-11", "1.0812", "European Central Bank", inEUR, inUSD}}
	if diff := cmp.Diff(want, s.Exchanges); diff != "" || s.Total != inUSD || s.Currency != "USD" {
		t.Errorf("total %s %s\n%s", s.Total, s.Currency, diff)
	}
	page, err := closed.HTML()
	if err != nil || !strings.Contains(string(page), "1 EUR = 1.0812 USD, the rate of 2026-11 by European Central Bank") {
		t.Errorf("page: %v\n%s", err, page)
	}
	w.later("edge-a", "shop", time.Date(2026, 11, 20, 10, 7, 0, 0, time.UTC), 7_200_000_000)
	made, err := w.Rerate(ctx, "acme", "2026-11")
	if err != nil || len(made.Lines) != 1 || made.Lines[0].PriceCost != "0.06" || made.Lines[0].ExchangeRate != "1.0812" {
		t.Errorf("correction %+v %v", made.Lines, err)
	}
	w.chain("acme")
}
