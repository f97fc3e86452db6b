package books

import (
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// approved brings a period to where it can be closed.
func (w *world) approved(customer, period string) {
	w.t.Helper()
	ctx := w.t.Context()
	_, err := w.Draft(ctx, customer, period, "dora")
	if err == nil {
		_, err = w.Review(ctx, customer, period, "dora")
	}
	if err == nil {
		_, err = w.Approve(ctx, customer, period, "anna")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestCloseArchivesWhatItRestsOn: a close that cannot archive a day closes nothing and
// says so in the log; asked again, it goes on there; the statement names each day.
func TestCloseArchivesWhatItRestsOn(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	ctx := t.Context()
	w.approved("acme", "2026-11")
	full := errors.New("no space left on device")
	w.archive.Refuse = func(_, day string) error {
		if day == "2026-11-20" {
			return full
		}
		return nil
	}
	_, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl"})
	if told, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrState) || !strings.Contains(err.Error(), full.Error()) || !strings.Contains(told.Hint, "close the period again") {
		t.Fatalf("close: %v", err)
	}
	periods, err := w.List(ctx, "acme", "2026-11")
	if err != nil || len(periods) != 1 || periods[0].State != StateApproved {
		t.Fatalf("after it: %+v %v", periods, err)
	}
	if c, err := w.Chain(ctx, "acme"); err != nil || len(c.Lines)+len(c.Statements) > 0 {
		t.Fatalf("%d lines, %d statements: %v", len(c.Lines), len(c.Statements), err)
	}
	w.archive.Refuse = nil
	s, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl"})
	if err != nil {
		t.Fatal(err)
	}
	// Amsterdam's November is of 31 days of UTC.
	if s.Archive == nil || s.Archive.Days != 31 || s.Archive.Unsettled != 0 || s.Form != statementForm || s.Previous != "" {
		t.Errorf("statement: %+v", s)
	}
	seal, err := w.SealOf(ctx, "acme", 1)
	if err != nil || seal.Wrong != "" || len(seal.Days) != 31 || seal.Days[0].Day != "2026-10-31" || VerifySeal(s, seal) != nil {
		t.Errorf("seal: %+v %v", seal, err)
	}
	w.chain("acme")
	log, err := w.Actions(ctx, "acme")
	var told []string
	for _, one := range log {
		told = append(told, one.Action+" "+one.Detail)
	}
	if got := strings.Join(told, "\n"); err != nil || !strings.Contains(got, "archive 20 days of clusters, for the close\narchive 11 days of clusters, for the close\nclose statement 1") {
		t.Errorf("log: %v\n%s", err, got)
	}
	none, err := New(Config{}, w.reg, w, w.signer, w.clock, w.log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	w.approved("globex", "2026-11")
	if _, err := none.Close(ctx, "globex", "2026-11", CloseRequest{By: "carl"}); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "no archive") {
		t.Errorf("close without an archive: %v", err)
	}
}

// TestDayThatIsLost: a period that rests on it is closed with an estimate only, which
// names it, also where the ledger has all; where no day is lost there is nothing to
// estimate.
func TestDayThatIsLost(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	ctx := t.Context()
	w.approved("acme", "2026-11")
	why := "cannot be archived: its rows are not the journal's"
	w.archive.Lacks = func(_, day string) string {
		if day == "2026-11-20" {
			return why
		}
		return ""
	}
	if _, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl"}); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "edge-a on 2026-11-20 "+why) {
		t.Fatalf("close: %v", err)
	}
	s, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl", Reason: "the disk of the centre broke"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Estimate == nil || len(s.Estimate.Gaps) != 1 || s.Estimate.Gaps[0] != "edge-a on 2026-11-20 "+why || s.Archive.Days != 31 || s.Archive.Unsettled != 1 {
		t.Errorf("statement: %+v %+v", s.Estimate, s.Archive)
	}
	seal, err := w.SealOf(ctx, "acme", 1)
	if err != nil || seal.Wrong != "" || VerifySeal(s, seal) != nil {
		t.Errorf("seal: %+v %v", seal, err)
	}
	w.chain("acme")
	w.archive.Lacks = nil
	w.approved("globex", "2026-11")
	if _, err := w.Close(ctx, "globex", "2026-11", CloseRequest{By: "carl", Reason: "just so"}); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "nothing to estimate") {
		t.Errorf("an estimate of nothing: %v", err)
	}
}

// TestFactsThatChangeWhileDaysAreArchived: then the period is not closed.
func TestFactsThatChangeWhileDaysAreArchived(t *testing.T) {
	w := newWorld(t, december, small("Europe/Amsterdam")...)
	w.approved("acme", "2026-11")
	w.archive.Refuse = func(_, day string) error {
		if day == "2026-11-20" {
			w.later("edge-a", "shop", december.AddDate(0, 0, -20), 77_000_000)
		}
		return nil
	}
	if _, err := w.Close(t.Context(), "acme", "2026-11", CloseRequest{By: "carl"}); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "changed since it was drafted") {
		t.Errorf("close: %v", err)
	}
}

// TestClosedWithoutItsSeal: each way in which a closed period may lack what it rests on
// is seen, also where the leader's own key has signed it.
func TestClosedWithoutItsSeal(t *testing.T) {
	w := newWorld(t, december.AddDate(0, 1, 0), small("Europe/Amsterdam")...)
	w.close("acme", "2026-11")
	second := w.close("acme", "2026-12")
	whole := w.chain("acme")
	if second.Previous != textHash(whole.Statements[0].Text) {
		t.Errorf("the second statement follows %q", second.Previous)
	}
	signed := func(at int, change func(*Statement)) Chain {
		c := whole
		c.Statements = append([]IssuedStatement{}, whole.Statements...)
		var s Statement
		if err := json.Unmarshal([]byte(c.Statements[at].Text), &s); err != nil {
			t.Fatal(err)
		}
		change(&s)
		issued, err := w.sign(s)
		if err != nil {
			t.Fatal(err)
		}
		c.Statements[at] = IssuedStatement{issued.Number, issued.Text, issued.Signature}
		return c
	}
	formerly := func(s *Statement) { s.Form, s.Archive, s.Previous = 0, nil, "" }
	for name, test := range map[string]struct {
		chain Chain
		want  string
	}{
		"no seal":                {signed(1, func(s *Statement) { s.Archive = nil }), "closed without its archived days"},
		"as if it were old":      {signed(1, formerly), "it has the form 0"},
		"the first was replaced": {signed(0, func(s *Statement) { s.Name = "another" }), "does not follow the statement before"},
		"a form to come":         {signed(1, func(s *Statement) { s.Form = 9 }), "its form 9 is not known"},
	} {
		if _, err := Verify(test.chain); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := signed(0, formerly)
	var s Statement
	if err := json.Unmarshal([]byte(whole.Statements[1].Text), &s); err != nil {
		t.Fatal(err)
	}
	s.Previous = textHash(old.Statements[0].Text)
	issued, err := w.sign(s)
	if err != nil {
		t.Fatal(err)
	}
	old.Statements[1] = IssuedStatement{issued.Number, issued.Text, issued.Signature}
	if found, err := Verify(old); err != nil || len(found.Sealed) != 1 {
		t.Errorf("after statements of before there were seals: %v", err)
	}
	w.archive.Lose("edge-a", "2026-11-03")
	if seal, err := w.SealOf(t.Context(), "acme", 1); err != nil || !strings.Contains(seal.Wrong, "edge-a on 2026-11-03") {
		t.Errorf("a day that is gone: %q %v", seal.Wrong, err)
	}
	tenant := query.Within(t.Context(), usage.Scope{Customers: []string{"acme"}})
	if seal, err := w.SealOf(tenant, "acme", 1); err != nil || seal.Wrong != "the archive does not have edge-a on 2026-11-03 as the closed period names it" {
		t.Errorf("a tenant hears %q %v", seal.Wrong, err)
	}
	w.loseSeal("acme", "2026-11-04")
	seal, err := w.SealOf(t.Context(), "acme", 1)
	if err != nil {
		t.Fatal(err)
	}
	var broken *BrokenError
	if err := VerifySeal(second, seal); !errors.As(err, &broken) {
		t.Errorf("a list that lacks a day: %v", err)
	}
}

// loseSeal takes a day out of a closed period's list, and the trigger that holds it.
func (w *world) loseSeal(customer, day string) {
	w.t.Helper()
	db, err := sql.Open("sqlite3", w.path)
	if err == nil {
		_, err = db.ExecContext(w.t.Context(), "DELETE FROM book_seal WHERE customer = ?", customer)
		if err == nil || !strings.Contains(err.Error(), "is not deleted") {
			w.t.Errorf("the list of a closed period can be deleted: %v", err)
		}
		_, err = db.ExecContext(w.t.Context(), "DROP TRIGGER book_seal_delete; DELETE FROM book_seal WHERE customer = '"+customer+"' AND day = '"+day+"'")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestSealDigest does not depend on the order in which days are named.
func TestSealDigest(t *testing.T) {
	a, b := registry.SealedDay{Cluster: "a", Day: "2026-11-01", Revision: 1, Manifest: "x"}, registry.SealedDay{Cluster: "a", Day: "2026-11-02", Revision: 1, Manifest: "y"}
	if one, other := registry.SealDigest([]registry.SealedDay{a, b}), registry.SealDigest([]registry.SealedDay{b, a}); one != other {
		t.Errorf("%s and %s", one, other)
	}
	c := b
	c.Unsettled = "it had not ended"
	if registry.SealDigest([]registry.SealedDay{a, b}) == registry.SealDigest([]registry.SealedDay{a, c}) {
		t.Error("why a day had not settled is not in the digest")
	}
}
