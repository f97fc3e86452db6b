package books

import (
	"context"
	"fmt"
	"math/big"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// RefundRequest is money back that somebody asks for and another one approves.
type RefundRequest struct {
	Statement int64  `json:"statement"` // that it refers to
	Amount    string `json:"amount"`    // above 0, of the statement's currency
	Reason    string `json:"reason"`
	By        string `json:"by"`       // who asks
	Approver  string `json:"approver"` // who approves; another one
}

// Refund issues a credit note: its lines go to the end of the chain, and it has the
// customer's next number. Errors: ErrInput, ErrFourEyes, registry.ErrNotFound.
func (b *Books) Refund(ctx context.Context, customer string, request RefundRequest) (Statement, error) {
	of, err := b.Statement(ctx, customer, "", request.Statement)
	if err != nil {
		return Statement{}, err
	}
	switch {
	case request.Statement == 0 || of.Kind != StatementKind:
		return Statement{}, &Error{Kind: ErrInput, Text: "a refund refers to a statement, not to a credit note", Hint: "Name the statement's number (--statement N)."}
	case strings.EqualFold(strings.TrimSpace(request.By), strings.TrimSpace(request.Approver)) && request.By != "":
		return Statement{}, &Error{Kind: ErrFourEyes, Text: fmt.Sprintf("%s asked for the refund and cannot approve it", request.By), Hint: "Ask another person to approve it."}
	}
	money, err := amount(request.Amount)
	if err != nil {
		return Statement{}, wrong("refund: %v", err)
	}
	credit, err := rating.RefundByHand(money, of.Currency, request.Reason, request.By, request.Approver)
	if err != nil {
		return Statement{}, &Error{Kind: ErrInput, Text: err.Error(), Hint: "A refund needs an amount, a reason, who asks and who approves."}
	}
	return b.credit(ctx, of, credit, strings.TrimSpace(request.Approver))
}

// credit issues a credit note of a statement.
func (b *Books) credit(ctx context.Context, of Statement, given rating.Credit, by string) (Statement, error) {
	zone, err := b.calendar(ctx, of.Customer, of.Period)
	if err != nil {
		return Statement{}, err
	}
	d := Draft{Rated: Rated{Currency: of.Currency}}
	for _, one := range given.Lines {
		line := lineOf(zone, one, one.Currency)
		line.Kind, line.Period, line.Statement = KindRefund, b.now().In(zone.Zone).Format(monthForm), of.Number
		line.Reason, line.By, line.Approver = given.Reason, given.By, given.Approver
		d.Lines = append(d.Lines, line)
	}
	if d.Total, err = total(d.Lines); err != nil {
		return Statement{}, err
	}
	if err := b.notTooMuch(ctx, of, d.Total); err != nil {
		return Statement{}, err
	}
	seq, hash, last, err := b.registry.BookHead(ctx, of.Customer)
	if err != nil {
		return Statement{}, err
	}
	links, err := b.link(d.Lines, seq, hash, last+1)
	if err != nil {
		return Statement{}, err
	}
	note := b.statement(zone, of.Name, d, seq+1, last+1)
	note.Kind, note.Refers, note.Head = CreditNoteKind, of.Number, links[len(links)-1].Hash
	issued, err := b.sign(note)
	if err != nil {
		return Statement{}, err
	}
	note.Lines = d.Lines
	return note, b.registry.IssueBook(ctx, registry.Issue{Lines: links, Statement: issued,
		Did: registry.BookAction{By: by, Action: "refund", Customer: of.Customer, Period: of.Period, Detail: fmt.Sprintf("credit note %d of statement %d, %s %s: %s", note.Number, of.Number, d.Total, d.Currency, given.Reason)}})
}

// notTooMuch is an error where a statement's credit notes would come to more than
// the statement.
func (b *Books) notTooMuch(ctx context.Context, of Statement, refund string) error {
	all, err := b.registry.BookStatements(ctx, of.Customer)
	if err != nil {
		return err
	}
	left := of.Total
	for _, s := range all {
		if s.Refers != of.Number {
			continue
		}
		note, err := b.Statement(ctx, of.Customer, "", s.Number)
		if err != nil {
			return err
		}
		if left, err = plus(left, note.Total); err != nil {
			return err
		}
	}
	rest, err := plus(left, refund)
	if err != nil {
		return err
	}
	if below(rest) {
		shown, _ := new(big.Rat).SetString(left)
		if shown == nil || shown.Sign() < 0 {
			left = "0"
		}
		return &Error{Kind: ErrInput, Text: fmt.Sprintf("statement %s is of %s %s, and %s of it can still be given back", of.ID, of.Total, of.Currency, left), Hint: "Give back less."}
	}
	return nil
}
