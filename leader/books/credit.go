package books

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// RefundRequest is money back that somebody asks for; another one approves it.
type RefundRequest struct {
	Statement int64  `json:"statement"` // that it refers to
	Amount    string `json:"amount"`    // above 0, of the statement's currency
	Reason    string `json:"reason"`    // the customer reads it
	By        string `json:"by,omitempty"`
	// Approver is refused: who approves a refund does that under his own name.
	Approver string `json:"approver,omitempty"`
}

// The states of a refund.
const (
	RefundRequested = "requested"
	RefundApproved  = registry.RefundApproved
	RefundDeclined  = registry.RefundDeclined
)

// Refund is one that was asked for.
type Refund struct {
	ID         int64  `json:"id"`
	Customer   string `json:"customer"`
	Statement  int64  `json:"statement"`
	Amount     string `json:"amount"`
	Currency   string `json:"currency"`
	Reason     string `json:"reason"`
	State      string `json:"state"`
	Requested  Done   `json:"requested"`
	Decided    *Done  `json:"decided,omitempty"`
	Note       string `json:"note,omitempty"`       // why it was declined
	CreditNote int64  `json:"creditNote,omitempty"` // its number
}

func refundOf(stored registry.BookRefund) Refund {
	r := Refund{ID: stored.ID, Customer: stored.Customer, Statement: stored.Statement, Amount: stored.Amount, Currency: stored.Currency, Reason: stored.Reason,
		State: cmp.Or(stored.Decision, RefundRequested), Requested: Done{By: stored.By, At: stored.At}, Note: stored.Note, CreditNote: stored.CreditNote}
	if stored.Decision != "" {
		r.Decided = &Done{By: stored.DecidedBy, At: stored.Decided}
	}
	return r
}

// Refunds are those that were asked for of a customer, the oldest first. Error:
// registry.ErrNotFound of nobody.
func (b *Books) Refunds(ctx context.Context, customer string) ([]Refund, error) {
	stored, err := b.registry.BookRefunds(ctx, customer)
	all := make([]Refund, 0, len(stored))
	for _, one := range stored {
		all = append(all, refundOf(one))
	}
	if err == nil && len(all) == 0 {
		err = b.there(ctx, customer)
	}
	return all, err
}

// RequestRefund asks for money back, in the name of a caller who is known. Nothing is
// given back before another one approves it. Errors: ErrInput, registry.ErrNotFound.
func (b *Books) RequestRefund(ctx context.Context, customer string, request RefundRequest) (Refund, error) {
	by, err := named(request.By)
	if err != nil {
		return Refund{}, err
	}
	if err := plain("reason", request.Reason, mostReason); err != nil {
		return Refund{}, err
	}
	of, err := b.refundable(ctx, customer, request.Statement)
	if err != nil {
		return Refund{}, err
	}
	credit, err := creditOf(of, request.Amount, request.Reason, by, "another person")
	if err != nil {
		return Refund{}, err
	}
	if err := b.notTooMuch(ctx, of, credit.Lines[0].ContractedCost.Text('f')); err != nil {
		return Refund{}, err
	}
	asked := registry.BookRefund{Customer: customer, Statement: request.Statement, Amount: request.Amount, Currency: of.Currency, Reason: strings.TrimSpace(request.Reason), By: by, At: b.now()}
	asked.ID, err = b.registry.AddBookRefund(ctx, asked, registry.BookAction{By: by, Action: "ask-refund", Customer: customer, Period: of.Period,
		Detail: fmt.Sprintf("%s %s of statement %d: %s", request.Amount, of.Currency, of.Number, asked.Reason)})
	return refundOf(asked), err
}

// ApproveRefund issues the credit note of a refund that somebody else asked for: its
// lines go to the end of the chain, and it has the customer's next number. Errors:
// ErrFourEyes, ErrState, registry.ErrNotFound.
func (b *Books) ApproveRefund(ctx context.Context, customer string, id int64, by string) (Statement, error) {
	by, asked, err := b.undecided(ctx, customer, id, by)
	if err != nil {
		return Statement{}, err
	}
	if strings.EqualFold(asked.By, by) {
		return Statement{}, &Error{Kind: ErrFourEyes, Text: fmt.Sprintf("%s asked for refund %d of %s and cannot approve it", by, id, customer), Hint: "Ask another person to approve it."}
	}
	of, err := b.refundable(ctx, customer, asked.Statement)
	if err != nil {
		return Statement{}, err
	}
	credit, err := creditOf(of, asked.Amount, asked.Reason, asked.By, by)
	if err != nil {
		return Statement{}, err
	}
	return b.credit(ctx, of, credit, id)
}

// DeclineRefund decides that a refund is not given, by whom and why; who asked for it
// may take it back so. Errors: ErrInput, ErrState, registry.ErrNotFound.
func (b *Books) DeclineRefund(ctx context.Context, customer string, id int64, by, reason string) (Refund, error) {
	by, asked, err := b.undecided(ctx, customer, id, by)
	if err != nil {
		return Refund{}, err
	}
	if reason = strings.TrimSpace(reason); reason == "" {
		return Refund{}, &Error{Kind: ErrInput, Text: "nothing says why the refund is declined", Hint: "Say why (--reason TEXT)."}
	}
	if err := plain("reason", reason, mostReason); err != nil {
		return Refund{}, err
	}
	if err := b.registry.DeclineBookRefund(ctx, id, reason, registry.BookAction{By: by, Action: "decline-refund", Customer: customer, Detail: fmt.Sprintf("refund %d: %s", id, reason)}); err != nil {
		return Refund{}, err
	}
	asked.Decision, asked.DecidedBy, asked.Decided, asked.Note = RefundDeclined, by, b.now(), reason
	return refundOf(asked), nil
}

// undecided is a refund that waits for a decision, and who decides.
func (b *Books) undecided(ctx context.Context, customer string, id int64, by string) (string, registry.BookRefund, error) {
	by, err := named(by)
	if err != nil {
		return by, registry.BookRefund{}, err
	}
	all, err := b.registry.BookRefunds(ctx, customer)
	if err != nil {
		return by, registry.BookRefund{}, err
	}
	i := slices.IndexFunc(all, func(r registry.BookRefund) bool { return r.ID == id })
	switch {
	case i < 0:
		return by, registry.BookRefund{}, fmt.Errorf("refund %d of %s: %w", id, customer, registry.ErrNotFound)
	case all[i].Decision != "":
		return by, all[i], &Error{Kind: ErrState, Text: fmt.Sprintf("refund %d of %s was %s by %s", id, customer, all[i].Decision, all[i].DecidedBy), Hint: "Ask for another one."}
	}
	return by, all[i], nil
}

// refundable is a statement that a refund may refer to.
func (b *Books) refundable(ctx context.Context, customer string, number int64) (Statement, error) {
	if number != 0 {
		of, err := b.Statement(ctx, customer, "", number)
		if err != nil {
			return of, err
		}
		if of.Kind == StatementKind {
			return of, worth(of)
		}
	}
	return Statement{}, &Error{Kind: ErrInput, Text: "a refund refers to a statement, not to a credit note", Hint: "Name the statement's number (--statement N)."}
}

// worth is an error of a statement of which nothing can be given back.
func worth(of Statement) error {
	if less("0", of.Total) {
		return nil
	}
	return &Error{Kind: ErrInput, Text: fmt.Sprintf("statement %s of period %s has %s and comes to %s: nothing of it can be given back", of.ID, of.Period, plural.Of(of.LineCount, "line", "lines"), strings.TrimSpace(of.Total+" "+of.Currency)),
		Hint: fmt.Sprintf("Name a statement that something was paid for (--statement N): `accumulus books list --customer %s` shows what each comes to.", of.Customer)}
}

func creditOf(of Statement, money, reason, by, approver string) (rating.Credit, error) {
	value, err := amount(money)
	if err != nil {
		return rating.Credit{}, wrong("refund: %v", err)
	}
	credit, err := rating.RefundByHand(value, of.Currency, reason, by, approver)
	if err != nil {
		return rating.Credit{}, &Error{Kind: ErrInput, Text: err.Error(), Hint: "A refund needs an amount, a reason, who asks and who approves."}
	}
	return credit, nil
}

// credit issues the credit note of a refund of a statement.
func (b *Books) credit(ctx context.Context, of Statement, given rating.Credit, refund int64) (Statement, error) {
	zone, err := b.calendar(ctx, of.Customer, of.Period)
	if err != nil {
		return Statement{}, err
	}
	d := Draft{Rated: Rated{Currency: of.Currency}}
	corrections, err := b.registry.BookCorrections(ctx, of.Customer, "")
	if err != nil {
		return Statement{}, err
	}
	for _, one := range given.Lines {
		line := lineOf(zone, one)
		line.Kind, line.Period, line.Statement = KindRefund, b.now().In(zone.Zone).Format(monthForm), of.Number
		line.Reason, line.By, line.Approver = given.Reason, given.By, given.Approver
		d.Lines = append(d.Lines, line)
	}
	if d.Total, err = total(d.Lines); err != nil {
		return Statement{}, err
	}
	// The end of the chain, and the corrections, as they were before it is looked what is
	// left: who adds to them meanwhile is seen when the note is written.
	seq, hash, last, err := b.registry.BookHead(ctx, of.Customer)
	if err != nil {
		return Statement{}, err
	}
	if err := b.notTooMuch(ctx, of, d.Total); err != nil {
		return Statement{}, err
	}
	links, err := b.link(d.Lines, seq, hash, last+1)
	if err != nil {
		return Statement{}, err
	}
	note := b.statement(zone, of.Name, d, seq+1, last+1)
	note.Kind, note.Refers, note.Head = CreditNoteKind, of.Number, links[len(links)-1].Hash
	if note.Previous, err = b.previousHash(ctx, of.Customer); err != nil {
		return Statement{}, err
	}
	issued, err := b.sign(note)
	if err != nil {
		return Statement{}, err
	}
	note.Lines = d.Lines
	return note, b.registry.IssueBook(ctx, registry.Issue{Lines: links, Statement: issued, Approved: refund, Applied: len(corrections),
		Did: registry.BookAction{By: given.Approver, Action: "refund", Customer: of.Customer, Period: of.Period, Detail: fmt.Sprintf("credit note %d of statement %d, %s %s: %s", note.Number, of.Number, d.Total, d.Currency, given.Reason)}})
}
