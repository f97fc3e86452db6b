package books

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// The states of a period.
const (
	StateOpen     = "open"
	StateDraft    = "draft"
	StateReview   = "review"
	StateApproved = "approved"
	StateClosed   = "closed"
)

// Done says who did something, and when.
type Done struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
	// Claimed says that the name is what the caller said of himself: the token that he
	// showed is one that several may have.
	Claimed bool `json:"claimed,omitempty"`
	// OnePerson is of an approval that four eyes did not give: the leader is set to let
	// one person do it.
	OnePerson bool `json:"onePerson,omitempty"`
}

// done is who did something now.
func (b *Books) done(ctx context.Context, by string) *Done {
	return &Done{By: by, At: b.now(), Claimed: identity.Of(ctx).Shared()}
}

// Estimate is why a period was closed of which something is missing.
type Estimate struct {
	By     string   `json:"by"`
	Reason string   `json:"reason"`
	Method string   `json:"method"` // MethodMeasured
	Gaps   []string `json:"gaps"`
}

// MethodMeasured closes with what was measured: what is missing is taken as not
// used, and what comes later becomes a correction.
const MethodMeasured = "measured"

// progress is what has been done with a period.
type progress struct {
	Drafted   *Done     `json:"drafted,omitempty"`
	Reviewed  *Done     `json:"reviewed,omitempty"`
	Approved  *Done     `json:"approved,omitempty"`
	Closed    *Done     `json:"closed,omitempty"`
	Estimate  *Estimate `json:"estimate,omitempty"`
	Statement int64     `json:"statement,omitempty"`
	Total     string    `json:"total,omitempty"`
	Currency  string    `json:"currency,omitempty"`
	Complete  bool      `json:"complete"`
}

// Period is a billing period as people see it.
type Period struct {
	Customer string    `json:"customer"`
	Period   string    `json:"period"`
	State    string    `json:"state"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Zone     string    `json:"timeZone"`
	progress
}

func periodOf(p registry.BookPeriod) (Period, error) {
	out := Period{Customer: p.Customer, Period: p.Period, State: p.State, From: p.Window.From, To: p.Window.To, Zone: p.Zone}
	if err := json.Unmarshal([]byte(p.Body), &out.progress); err != nil {
		return out, fmt.Errorf("period %s of %s: %w", p.Period, p.Customer, err)
	}
	return out, nil
}

// Draft is a period as it would be closed.
type Draft struct {
	Period
	Rated
	// Billed are the corrections in Lines that a close would bill.
	Billed []int64 `json:"corrections,omitempty"`
	// Withheld is what these corrections do not give back, as it was given back before.
	Withheld []Withheld `json:"withheld,omitempty"`
	// Failures are the nodes whose pods the lines of kind refund give back.
	Failures []RefundedFailure `json:"failures,omitempty"`
	// Waiting are local days that have not settled: they have not ended, or something
	// of them is still being computed.
	Waiting []string `json:"waiting,omitempty"`
	// Outdated says that facts have changed since it was made.
	Outdated bool `json:"outdated,omitempty"`
	// Preview says of a period that goes on until when it does; "" of one that has ended.
	Preview string `json:"preview,omitempty"`

	applied int // corrections that the customer had when it was computed
}

// List are the periods that are not open; of a customer or a month where these are
// not "".
func (b *Books) List(ctx context.Context, customer, period string) ([]Period, error) {
	if period != "" {
		if _, err := month(period); err != nil {
			return nil, err
		}
	}
	stored, err := b.registry.BookPeriods(ctx, customer, period)
	if err != nil {
		return nil, err
	}
	all := []Period{}
	for _, p := range stored {
		one, err := periodOf(p)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// named checks who does something.
func named(by string) (string, error) {
	if by = strings.TrimSpace(by); by == "" {
		return "", &Error{Kind: ErrInput, Text: "nobody is named", Hint: "Say who you are: the books record it (--as NAME; \"by\" in the body)."}
	}
	return by, plain("name", by, 200)
}

// mostReason bounds why something is done, in bytes: lines and statements hold it.
const mostReason = 4000

// plain refuses a text that a signed statement could not show as it was written: the
// books keep it for good.
func plain(what, text string, most int) error {
	strange := func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || r == unicode.ReplacementChar
	}
	if what == "name" {
		strange = func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }
	}
	if len(text) <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, strange) {
		return nil
	}
	return &Error{Kind: ErrInput, Text: fmt.Sprintf("the %s is longer than %d bytes, or has control characters", what, most),
		Hint: "Nothing was changed. The books keep it for good: write plain text in UTF-8."}
}

// compute makes a draft's content of what the days are now.
func (b *Books) compute(ctx context.Context, c Calendar) (Draft, error) {
	d, clusters, err := b.used(ctx, c)
	if err != nil {
		return Draft{}, err
	}
	if err := b.lookForFailures(ctx, clusters, schema.Window{From: c.From, To: b.now()}); err != nil {
		return Draft{}, err
	}
	corrections, err := b.registry.BookCorrections(ctx, c.Customer, "")
	if err != nil {
		return Draft{}, err
	}
	if err := b.addRefunds(ctx, c, clusters, &d); err != nil {
		return Draft{}, err
	}
	return d, b.addCorrections(c, corrections, &d)
}

// used is what the days come to now, without refunds and corrections, with the
// clusters that they are of.
func (b *Books) used(ctx context.Context, c Calendar) (Draft, []string, error) {
	clusters, err := b.clusters(ctx, c.Customer, c.Window)
	if err != nil {
		return Draft{}, nil, err
	}
	// And those of which there are days already: a namespace may have gone to another
	// customer since.
	summed, err := b.registry.BookClusters(ctx, c.Customer, c.Window)
	if err != nil {
		return Draft{}, nil, err
	}
	clusters = append(clusters, summed...)
	slices.Sort(clusters)
	clusters = slices.Compact(clusters)
	fresh, err := b.freshen(ctx, []string{c.Customer}, clusters, c.days(), 0)
	if err != nil {
		return Draft{}, nil, err
	}
	rated, err := b.rate(ctx, c, false)
	if err != nil {
		return Draft{}, nil, err
	}
	d := Draft{Rated: rated}
	for _, day := range fresh.waiting {
		d.Waiting = append(d.Waiting, c.date(day))
	}
	slices.Sort(d.Waiting)
	return d, clusters, nil
}

// Waiting are a period's days that have not ended, or of which something is still being
// computed. It changes no period.
func (b *Books) Waiting(ctx context.Context, customer, period string) ([]string, error) {
	c, err := b.calendar(ctx, customer, period)
	if err != nil {
		return nil, err
	}
	d, _, err := b.used(ctx, c)
	return d.Waiting, err
}

// addCorrections adds what was applied to closed periods and no statement has yet.
func (b *Books) addCorrections(c Calendar, corrections []registry.BookCorrection, d *Draft) error {
	d.applied = len(corrections)
	for _, one := range corrections {
		if one.Statement != 0 || one.Period == c.Period {
			continue
		}
		var applied Correction
		if err := json.Unmarshal([]byte(one.Text), &applied); err != nil {
			return fmt.Errorf("correction %d of %s: %w", one.ID, c.Customer, err)
		}
		for _, line := range applied.Lines {
			line.Period = c.Period
			d.Lines = append(d.Lines, line)
		}
		d.Billed, d.Withheld = append(d.Billed, one.ID), append(d.Withheld, applied.Withheld...)
		d.Fingerprint += fmt.Sprintf("+%d", one.ID)
	}
	for _, line := range d.Lines {
		if d.Currency == "" {
			d.Currency = line.Currency
		}
		if line.Currency != d.Currency {
			return &Error{Kind: ErrInput, Text: fmt.Sprintf("corrections of %s are in %s, its period %s is in %s", c.Customer, line.Currency, c.Period, d.Currency),
				Hint: "Give the customer the currency of its closed periods again, and the month its ExchangeRates."}
		}
	}
	var err error
	d.Total, err = total(d.Lines)
	return err
}

// stored is a period with what was done to it; an open one is not stored.
func (b *Books) stored(ctx context.Context, c Calendar) (registry.BookPeriod, Period, error) {
	p, err := b.registry.BookPeriod(ctx, c.Customer, c.Period)
	if errors.Is(err, registry.ErrNotFound) {
		p = registry.BookPeriod{Customer: c.Customer, Period: c.Period, Window: c.Window, Zone: c.Zone.String(), Body: "{}"}
		one, err := periodOf(p)
		one.State = StateOpen
		return p, one, err
	}
	if err != nil {
		return p, Period{}, err
	}
	one, err := periodOf(p)
	return p, one, err
}

// put stores a period's next state.
func (b *Books) put(ctx context.Context, p registry.BookPeriod, one Period, did registry.BookAction) error {
	formerly := p.State
	p.State = one.State
	body, err := json.Marshal(one.progress)
	if err != nil {
		return err
	}
	p.Body = string(body)
	did.Customer, did.Period = p.Customer, p.Period
	return b.registry.PutBookPeriod(ctx, p, formerly, did)
}

// Draft rates a period of the days as they are now and keeps that as its draft,
// whatever was drafted, reviewed or approved before. A period that goes on has a
// draft of its settled days. Errors: ErrState of a closed one.
func (b *Books) Draft(ctx context.Context, customer, period, by string) (Draft, error) {
	by, err := named(by)
	if err != nil {
		return Draft{}, err
	}
	c, err := b.calendar(ctx, customer, period)
	if err != nil {
		return Draft{}, err
	}
	p, one, err := b.stored(ctx, c)
	if err != nil {
		return Draft{}, err
	}
	if one.State == StateClosed {
		return Draft{}, closedError(one)
	}
	if b.now().Before(c.From) {
		return Draft{}, &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s begins at %s", period, customer, c.From.Format(time.RFC3339)), Hint: "Draft it when it has begun."}
	}
	d, err := b.compute(ctx, c)
	if err != nil {
		return Draft{}, fmt.Errorf("draft %s of %s: %w", period, customer, err)
	}
	one.State = StateDraft
	one.progress = progress{Drafted: b.done(ctx, by), Total: d.Total, Currency: d.Currency, Complete: d.Rated.Complete() && len(d.Waiting) == 0}
	d.Period = one
	if p.Draft, err = packDraft(d); err != nil {
		return Draft{}, err
	}
	d.Preview = b.preview(c) // not kept: it ends with the period
	return d, b.put(ctx, p, one, registry.BookAction{By: by, Action: "draft", Detail: d.Total + " " + d.Currency})
}

func packDraft(d Draft) ([]byte, error) { return packJSON("draft", d) }

func unpackDraft(p registry.BookPeriod, one Period) (Draft, error) {
	d, err := unpackJSON[Draft]("draft", p.Draft)
	if err != nil {
		return Draft{}, fmt.Errorf("period %s of %s: %w", p.Period, p.Customer, err)
	}
	d.Period = one
	return d, nil
}

func closedError(p Period) error {
	return &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s is closed (statement %d)", p.Period, p.Customer, p.Statement),
		Hint: fmt.Sprintf("What is wrong with it becomes a correction in the open period: accumulus books rerate --customer %s --period %s", p.Customer, p.Period)}
}

// in is a period that has a draft and one of the states.
func (b *Books) in(ctx context.Context, customer, period string, states ...string) (Calendar, registry.BookPeriod, Draft, error) {
	c, err := b.calendar(ctx, customer, period)
	if err != nil {
		return c, registry.BookPeriod{}, Draft{}, err
	}
	p, one, err := b.stored(ctx, c)
	switch {
	case err != nil:
		return c, p, Draft{}, err
	case one.State == StateClosed && !slices.Contains(states, StateClosed):
		return c, p, Draft{}, closedError(one)
	case !slices.Contains(states, one.State):
		return c, p, Draft{}, &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s is %s, not %s", period, customer, one.State, strings.Join(states, " or ")),
			Hint: nextStep(customer, period, one.State)}
	}
	d, err := unpackDraft(p, one)
	return c, p, d, err
}

func nextStep(customer, period, state string) string {
	verb, ok := map[string]string{StateOpen: "draft", StateDraft: "review", StateReview: "approve", StateApproved: "close"}[state]
	if !ok {
		return ""
	}
	return fmt.Sprintf("Next comes: accumulus books %s --customer %s --period %s", verb, customer, period)
}

// Approve is the second pair of eyes: another person than who drafted it says that
// the draft is right, after a review. Both are known by name, unless the leader is set to
// let one person do it. Errors: ErrFourEyes, ErrState.
func (b *Books) Approve(ctx context.Context, customer, period, by string) (Period, error) {
	eyes := knownByName(ctx, customer, period)
	if eyes != nil && !b.config.OnePerson {
		return Period{}, eyes
	}
	by, err := named(by)
	if err != nil {
		return Period{}, err
	}
	c, p, d, err := b.in(ctx, customer, period, StateReview)
	if err != nil {
		return Period{}, err
	}
	eyes = cmp.Or(eyes, fourEyes(d, by))
	if eyes != nil && !b.config.OnePerson {
		return Period{}, eyes
	}
	now, err := b.current(ctx, c, d)
	if err != nil {
		return Period{}, err
	}
	// The draft may be older than what was done about its failures.
	if eyes = cmp.Or(eyes, now.vouchedBy(by)); eyes != nil && !b.config.OnePerson {
		return Period{}, eyes
	}
	one := d.Period
	one.State, one.Approved = StateApproved, b.done(ctx, by)
	detail := d.Total + " " + d.Currency
	if one.Approved.OnePerson = eyes != nil; one.Approved.OnePerson {
		detail += ", by one person"
	}
	return one, b.put(ctx, p, one, registry.BookAction{By: by, Action: "approve", Detail: detail})
}

// knownByName is an error of who approves with a token that several may have.
func knownByName(ctx context.Context, customer, period string) error {
	if identity.Of(ctx).Shared() {
		return &Error{Kind: ErrFourEyes, Text: fmt.Sprintf("the approval of period %s of %s needs two callers who are known by name, and the token that was shown is one that several may have; nothing was changed", period, customer),
			Hint:    `Give each person a token of his own (POST /api/v1/tokens with {"name":"anna","role":"billing"}), or an issuer: docs/access.md. One drafts the period, the other one approves it.`,
			Command: "Give each person a token of his own, or an issuer (docs/access.md): `accumulus token create anna --role billing > anna.token`. One drafts with his, the other one approves with --token-file anna.token. Who is alone sets the leader's --one-person-books, which statements show."}
	}
	return nil
}

// fourEyes says why an approval of a draft would not be that of another person.
func fourEyes(d Draft, by string) error {
	period, customer := d.Period.Period, d.Customer
	if d.Drafted == nil || strings.EqualFold(d.Drafted.By, by) {
		return &Error{Kind: ErrFourEyes, Text: fmt.Sprintf("%s drafted period %s of %s and cannot approve it", by, period, customer),
			Hint: "Ask another person to approve it: four eyes see more than two."}
	}
	if d.Drafted.Claimed {
		return &Error{Kind: ErrFourEyes, Text: fmt.Sprintf("period %s of %s was drafted with a token that several may have: that %s did it is what the caller said", period, customer, d.Drafted.By),
			Hint: fmt.Sprintf("Let somebody else draft it again with a token of his own (`accumulus token create NAME --role billing`): accumulus books draft --customer %s --period %s --token-file NAME.token", customer, period)}
	}
	return d.vouchedBy(by)
}

// hasEnded is an error of a period that goes on.
func (b *Books) hasEnded(c Calendar) error {
	if !b.now().Before(c.To) {
		return nil
	}
	return &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s goes on until %s", c.Period, c.Customer, c.To.Format(time.RFC3339)),
		Hint: fmt.Sprintf("Draft it again when it has ended: %s. Until then `accumulus books review --customer %s --period %s` without --as is a preview.", draftCommand(c), c.Customer, c.Period)}
}

func draftCommand(c Calendar) string {
	return fmt.Sprintf("accumulus books draft --customer %s --period %s", c.Customer, c.Period)
}

// vouchedBy is ErrFourEyes where a draft refunds a failure by somebody's word.
func (d Draft) vouchedBy(who string) error {
	for _, f := range d.Failures {
		did := ""
		switch {
		case strings.EqualFold(f.By, who):
			did = "recorded the failure"
		case strings.EqualFold(f.Reinstated, who):
			did = "reinstated the failure"
		default:
			continue
		}
		return &Error{Kind: ErrFourEyes, Text: fmt.Sprintf("%s %s of node %s of %s, which the draft refunds, and cannot approve it", who, did, f.Node, f.Cluster),
			Hint: "Ask another person to approve the period."}
	}
	return nil
}

// current is what the facts come to now, which must be what a draft says; an error
// too where the period has not ended or not settled.
func (b *Books) current(ctx context.Context, c Calendar, d Draft) (Draft, error) {
	if err := b.hasEnded(c); err != nil {
		return Draft{}, err
	}
	now, err := b.compute(ctx, c)
	switch {
	case err != nil:
		return Draft{}, err
	case len(now.Waiting) > 0:
		return Draft{}, &Error{Kind: ErrState, Text: fmt.Sprintf("%s of period %s of %s have not settled: %s", plural.Of(len(now.Waiting), "day", "days"), c.Period, c.Customer, strings.Join(now.Waiting, ", ")),
			Hint: "The leader is still computing them: try again in a few minutes; `accumulus status` shows what is due."}
	case now.Fingerprint != d.Fingerprint:
		return Draft{}, &Error{Kind: ErrState, Text: fmt.Sprintf("facts of period %s of %s have changed since it was drafted", c.Period, c.Customer), Hint: "Draft it again: " + draftCommand(c)}
	}
	return now, nil
}
