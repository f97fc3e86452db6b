package books

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// CloseRequest says who closes a period, and why if something of it is missing.
type CloseRequest struct {
	By string `json:"by"`
	// Reason and Method are of an estimate: needed where the ledger is incomplete or a
	// day's rows are lost, refused where neither is so. Method is MethodMeasured.
	Reason string `json:"estimateReason,omitempty"`
	Method string `json:"estimateMethod,omitempty"`
}

// Close makes an approved period final: the days that it rests on are archived, its
// lines become links of the chain, its days are sealed, and it gets the customer's next
// statement. Where it ends before that, the period is approved still, and what was
// archived stays so: it goes on there. Errors: ErrState, ErrInput of an incomplete
// ledger without an estimate, and of an estimate of nothing.
func (b *Books) Close(ctx context.Context, customer, period string, request CloseRequest) (Statement, error) {
	by, err := named(request.By)
	if err != nil {
		return Statement{}, err
	}
	c, p, d, err := b.in(ctx, customer, period, StateApproved)
	if err != nil {
		return Statement{}, err
	}
	now, err := b.current(ctx, c, d)
	if err != nil {
		return Statement{}, err
	}
	if err := b.inOrder(ctx, c); err != nil {
		return Statement{}, err
	}
	one := d.Period
	if one.Estimate, err = estimate(d, by, request); err != nil {
		return Statement{}, err
	}
	sealed, written, err := b.seal(ctx, c, p, d, now.days, by, one.Estimate != nil)
	if err == nil {
		err = one.Estimate.lack(sealed)
	}
	if err != nil {
		return Statement{}, err
	}
	if written > 0 { // what was archived is what was drafted
		if now, err = b.current(ctx, c, d); err != nil {
			return Statement{}, err
		}
	}
	return b.conclude(ctx, c, p, d, one, registry.Issue{Days: now.days, Sealed: sealed, Applied: now.applied}, by)
}

// conclude writes the lines and the statement of a period whose days are archived.
func (b *Books) conclude(ctx context.Context, c Calendar, p registry.BookPeriod, d Draft, one Period, issue registry.Issue, by string) (Statement, error) {
	seq, hash, last, err := b.registry.BookHead(ctx, c.Customer)
	if err != nil {
		return Statement{}, err
	}
	for i := range d.Lines {
		d.Lines[i].Estimate = one.Estimate != nil && d.Lines[i].ChargePeriod == c.Period
		d.Lines[i].OnePerson = one.Approved.OnePerson
		if d.Lines[i].Kind == KindRefund {
			d.Lines[i].Approver = one.Approved.By
		}
	}
	links, err := b.link(d.Lines, seq, hash, last+1)
	if err != nil {
		return Statement{}, err
	}
	one.State, one.Closed, one.Statement, one.Complete = StateClosed, b.done(ctx, by), last+1, d.Rated.Complete()
	d.Period = one
	name, err := b.nameOf(ctx, c)
	if err != nil {
		return Statement{}, err
	}
	statement := b.statement(c, name, d, seq+1, last+1)
	if statement.Head = hash; len(links) > 0 {
		statement.Head = links[len(links)-1].Hash
	}
	if statement.Previous, err = b.previousHash(ctx, c.Customer); err != nil {
		return Statement{}, err
	}
	statement.Archive = rests(issue.Sealed)
	if issue.Statement, err = b.sign(statement); err != nil {
		return Statement{}, err
	}
	issue.Lines = links
	return statement, b.issue(ctx, p, d, issue, by)
}

// issue writes all that a close makes final.
func (b *Books) issue(ctx context.Context, p registry.BookPeriod, d Draft, issue registry.Issue, by string) error {
	issue.Days = slices.DeleteFunc(slices.Clone(issue.Days), func(day registry.BookDay) bool { return day.Sealed })
	issue.Formerly = p.State
	body, err := canonical(d.Period.progress)
	if err != nil {
		return err
	}
	p.State, p.Body = StateClosed, body
	if p.Draft, err = packDraft(d); err != nil {
		return err
	}
	issue.Period, issue.Corrections, issue.Refunded = &p, d.Billed, d.refunded()
	issue.Did = registry.BookAction{By: by, Action: "close", Customer: p.Customer, Period: p.Period,
		Detail: fmt.Sprintf("statement %d, %s %s", issue.Statement.Number, d.Total, d.Currency)}
	return b.registry.IssueBook(ctx, issue)
}

// inOrder is an error where the period before is not closed though it has begun to
// be: statements follow one another.
func (b *Books) inOrder(ctx context.Context, c Calendar) error {
	before := neighbour(c.Period, -1)
	all, err := b.registry.BookPeriods(ctx, c.Customer, before)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.State != StateClosed {
			return &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s is %s: periods are closed in their order", before, c.Customer, p.State), Hint: nextStep(c.Customer, before, p.State)}
		}
	}
	return nil
}

// errNoEstimate refuses an estimate of nothing.
func errNoEstimate() error {
	return &Error{Kind: ErrInput, Text: "nothing of the period is missing: there is nothing to estimate", Hint: "Close it without an estimate."}
}

// lack adds to an estimate the days that could not be archived. One that has no gap
// then is ErrInput.
func (e *Estimate) lack(sealed []registry.SealedDay) error {
	if e == nil {
		return nil
	}
	if e.Gaps = append(e.Gaps, lostDays(sealed)...); len(e.Gaps) == 0 {
		return errNoEstimate()
	}
	return nil
}

// estimate is that of an incomplete draft, or of one of which a day may be lost.
func estimate(d Draft, by string, request CloseRequest) (*Estimate, error) {
	if d.Rated.Complete() && strings.TrimSpace(request.Reason) == "" {
		if request.Method != "" {
			return nil, errNoEstimate()
		}
		return nil, nil
	}
	var gaps []string
	for _, c := range d.Clusters {
		if c.Complete {
			continue
		}
		gaps = append(gaps, fmt.Sprintf("%s: %d of %d node-windows are here", c.Cluster, c.Received, c.Expected))
		for _, gap := range c.Gaps {
			gaps = append(gaps, c.Cluster+": "+gap)
		}
	}
	switch {
	case strings.TrimSpace(request.Reason) == "":
		return nil, &Error{Kind: ErrInput, Text: fmt.Sprintf("the ledger of period %s is incomplete:\n  %s", d.Period.Period, strings.Join(gaps, "\n  ")),
			Hint: "Mend it (`accumulus cluster status NAME` says what each reason means), or close with an estimate, which is recorded: --estimate-reason TEXT."}
	case request.Method != "" && request.Method != MethodMeasured:
		return nil, &Error{Kind: ErrInput, Text: fmt.Sprintf("estimate method %q is not known", request.Method),
			Hint: "Use " + MethodMeasured + ": what is missing is taken as not used, and what comes later becomes a correction."}
	}
	if err := plain("reason", request.Reason, mostReason); err != nil {
		return nil, err
	}
	return &Estimate{By: by, Reason: strings.TrimSpace(request.Reason), Method: MethodMeasured, Gaps: gaps}, nil
}

// Chain is all that is final of a customer.
func (b *Books) Chain(ctx context.Context, customer string) (Chain, error) {
	c := Chain{Customer: customer, PublicKey: b.signer.BookKey(), Lines: []registry.BookLine{}, Statements: []IssuedStatement{}}
	err := b.registry.BookLines(ctx, customer, "", func(l registry.BookLine) error {
		c.Lines = append(c.Lines, l)
		return nil
	})
	if err != nil {
		return c, err
	}
	statements, err := b.registry.BookStatements(ctx, customer)
	for _, s := range statements {
		c.Statements = append(c.Statements, IssuedStatement{s.Number, s.Text, s.Signature})
	}
	if err == nil && len(c.Lines)+len(c.Statements) == 0 {
		err = b.there(ctx, customer) // a chain of nobody does not hold
	}
	return c, err
}

// sign makes a statement the one that is kept.
func (b *Books) sign(s Statement) (registry.BookStatement, error) {
	text, err := canonical(s)
	if err != nil {
		return registry.BookStatement{}, fmt.Errorf("write statement %d of %s: %w", s.Number, s.Customer, err)
	}
	return registry.BookStatement{Customer: s.Customer, Number: s.Number, Kind: s.Kind, Period: s.Period, Refers: s.Refers, Text: text,
		Signature: b.signer.SignBook(statementMessage(s.Customer, s.Number, text)), Issued: s.Issued}, nil
}

// Actions is the log of a customer's books, the oldest first. Error: registry.ErrNotFound
// of nobody.
func (b *Books) Actions(ctx context.Context, customer string) ([]registry.BookAction, error) {
	all, err := b.registry.BookActions(ctx, customer)
	if err == nil && len(all) == 0 {
		err = b.there(ctx, customer)
	}
	return all, err
}

// there is registry.ErrNotFound of a customer who never was.
func (b *Books) there(ctx context.Context, customer string) error {
	_, err := b.zone(ctx, customer, schema.Window{From: time.Unix(0, 0), To: b.now()})
	return err
}
