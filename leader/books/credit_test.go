package books

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// TestRefundTakesFourEyes: one asks, another one approves, once; the store holds that
// too.
func TestRefundTakesFourEyes(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	ctx := t.Context()
	s := w.close("acme", "2026-11")
	for name, bad := range map[string]RefundRequest{
		"nobody": {1, "5.00", "r", " ", ""}, "no reason": {1, "5.00", " ", "dora", ""}, "no amount": {1, "0", "r", "dora", ""}, "too fine": {1, "0.001", "r", "dora", ""},
		"more than the statement": {1, "999999", "r", "dora", ""}, "no statement": {0, "5.00", "r", "dora", ""}, "a word": {1, "five", "r", "dora", ""},
	} {
		if asked, err := w.RequestRefund(ctx, "acme", bad); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %+v %v", name, asked, err)
		}
	}
	asked, err := w.RequestRefund(ctx, "acme", RefundRequest{Statement: s.Number, Amount: "5.00", Reason: "goodwill", By: "dora"})
	if err != nil || asked.State != RefundRequested {
		t.Fatalf("asked %+v %v", asked, err)
	}
	before := w.chain("acme")
	if _, err := w.ApproveRefund(ctx, "acme", asked.ID, "Dora"); !errors.Is(err, ErrFourEyes) {
		t.Errorf("who asked approves: %v", err)
	}
	if _, err := w.ApproveRefund(ctx, "globex", asked.ID, "anna"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("of another customer: %v", err)
	}
	if after := w.chain("acme"); len(after.Lines) != len(before.Lines) {
		t.Errorf("something was issued without an approval")
	}
	note, err := w.ApproveRefund(ctx, "acme", asked.ID, "anna")
	if err != nil || note.Total != "-5.00" || note.Lines[0].By != "dora" || note.Lines[0].Approver != "anna" {
		t.Fatalf("note %+v %v", note, err)
	}
	w.chain("acme")
	for name, again := range map[string]func() error{
		"approve": func() error { _, err := w.ApproveRefund(ctx, "acme", asked.ID, "carl"); return err },
		"decline": func() error { _, err := w.DeclineRefund(ctx, "acme", asked.ID, "carl", "late"); return err },
	} {
		if err := again(); !errors.Is(err, ErrState) {
			t.Errorf("%s again: %v", name, err)
		}
	}
	second, err := w.RequestRefund(ctx, "acme", RefundRequest{Statement: s.Number, Amount: "1.00", Reason: "more", By: "dora"})
	if err != nil {
		t.Fatal(err)
	}
	// Control: by SQL, without the books, who asked still does not approve.
	db, err := sql.Open("sqlite3", w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, "UPDATE book_refund SET decision = 'approved', decided_by = 'DORA' WHERE id = ?", second.ID); err == nil || !strings.Contains(err.Error(), "does not approve") {
		t.Errorf("the store lets it through: %v", err)
	}
	if declined, err := w.DeclineRefund(ctx, "acme", second.ID, "dora", "asked by mistake"); err != nil || declined.State != RefundDeclined {
		t.Errorf("declined %+v %v", declined, err)
	}
	all, err := w.Refunds(ctx, "acme")
	if err != nil || len(all) != 2 || all[0].CreditNote != note.Number || all[1].Note != "asked by mistake" {
		t.Errorf("refunds %+v %v", all, err)
	}
}
