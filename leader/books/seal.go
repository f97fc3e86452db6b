package books

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Archive keeps the minute rows, facts, prices and readings of days for good:
// *archive.Keeper.
type Archive interface {
	// Seal archives the UTC days of a cluster that a window touches and that are not
	// archived as they are, and names them all, also one that cannot be archived since
	// its rows are lost; written is how many it archived. Called again after an error it
	// goes on where it stopped.
	Seal(ctx context.Context, cluster string, w schema.Window) (days []registry.SealedDay, written int, err error)
	// Sealed is an error where the archive does not have what Seal named.
	Sealed(day registry.SealedDay) error
}

// statementForm is that of statements that name the statement before and, of a period,
// what it rests on in the archive. Those of form 0 were issued before and name neither.
const statementForm = 2

// Rests is what a closed period rests on in the archive. The list is kept beside the
// statement: `accumulus books verify` holds it against the digest, and against the
// archive.
type Rests struct {
	Days      int    `json:"days"`                // UTC days of clusters
	Unsettled int    `json:"unsettled,omitempty"` // of which so many had not settled when they were archived
	Digest    string `json:"digest"`              // registry.SealDigest of the list
}

// seal archives the days that a draft rests on, and names them. What it archived is in
// the log of the books before the period is closed, so that a close that ends there is
// seen, and goes on there when it is asked for again. A day that is lost is an error
// where nobody has given a reason to estimate.
func (b *Books) seal(ctx context.Context, c Calendar, p registry.BookPeriod, d Draft, rest []registry.BookDay, by string, estimated bool) (sealed []registry.SealedDay, written int, err error) {
	if b.config.Archive == nil {
		return nil, 0, &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s cannot be closed: there is no archive for what it rests on", c.Period, c.Customer), Hint: "Run the leader with its archive."}
	}
	spans := make(map[string]schema.Window)
	for _, day := range rest {
		if day.Expected == 0 && day.Received == 0 {
			continue // the cluster was not there
		}
		span, known := spans[day.Cluster]
		if !known {
			span = day.Window
		}
		spans[day.Cluster] = schema.Window{From: schema.Earlier(span.From, day.Window.From), To: schema.Later(span.To, day.Window.To)}
	}
	for _, cluster := range sortedKeys(spans) {
		days, wrote, failure := b.config.Archive.Seal(ctx, cluster, spans[cluster])
		sealed, written = append(sealed, days...), written+wrote
		if err = failure; err != nil {
			break
		}
	}
	if lost := lostDays(sealed); err == nil && len(lost) > 0 && !estimated {
		err = errors.New(lost[0])
	}
	if written > 0 {
		did := registry.BookAction{By: by, Action: "archive", Detail: plural.Of(written, "day of a cluster", "days of clusters") + ", for the close"}
		if err := b.put(context.WithoutCancel(ctx), p, d.Period, did); err != nil { // also where the caller is gone: it was done
			return nil, written, err
		}
	}
	if err != nil && ctx.Err() == nil {
		err = &Error{Kind: ErrState, Text: fmt.Sprintf("period %s of %s stays approved, for what it rests on cannot be archived: %v", c.Period, c.Customer, err),
			Hint: "What was archived stays. Mend that and close the period again: it goes on where it stopped (docs/archive.md). Where rows are lost for good, close with an estimate, which is recorded: --estimate-reason TEXT."}
	}
	return sealed, written, err
}

// lostDays are those that could not be archived, and why.
func lostDays(days []registry.SealedDay) (lost []string) {
	for _, d := range days {
		if d.Lost() {
			lost = append(lost, fmt.Sprintf("%s on %s %s", d.Cluster, d.Day, d.Unsettled))
		}
	}
	return lost
}

// rests is what a statement says of the archived days of its period.
func rests(days []registry.SealedDay) *Rests {
	of := &Rests{Days: len(days), Digest: registry.SealDigest(days)}
	for _, d := range days {
		if d.Unsettled != "" {
			of.Unsettled++
		}
	}
	return of
}

// previousHash is the hash of a customer's last statement, which the next one names; ""
// before the first.
func (b *Books) previousHash(ctx context.Context, customer string) (string, error) {
	all, err := b.registry.BookStatements(ctx, customer)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return textHash(all[len(all)-1].Text), nil
}

func textHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Seal is the list of archived days that a statement's period rests on.
type Seal struct {
	Customer  string               `json:"customer"`
	Statement int64                `json:"statement"`
	Days      []registry.SealedDay `json:"days"`
	// Wrong is the first thing that the leader's archive does not have as it is named.
	Wrong string `json:"wrong,omitempty"`
}

// SealOf is what a statement rests on in the archive, compared with the archive. Error:
// registry.ErrNotFound, also of a statement from before there were seals.
func (b *Books) SealOf(ctx context.Context, customer string, number int64) (Seal, error) {
	seal := Seal{Customer: customer, Statement: number}
	var err error
	if seal.Days, err = b.registry.BookSeal(ctx, customer, number); err != nil {
		return seal, err
	}
	if len(seal.Days) == 0 {
		return seal, &Error{Kind: registry.ErrNotFound, Text: fmt.Sprintf("statement %d of %s names no archived days", number, customer),
			Hint: "Statements of periods that were closed by a version that archives them name them."}
	}
	for _, d := range seal.Days {
		if err := ctx.Err(); err != nil {
			return seal, err
		}
		if b.config.Archive == nil {
			seal.Wrong = "there is no archive"
		} else if err := b.config.Archive.Sealed(d); err != nil {
			seal.Wrong = b.wrongDay(ctx, d, err)
		}
		if seal.Wrong != "" {
			break
		}
	}
	return seal, nil
}

// wrongDay says what the archive lacks. A tenant hears of the day alone: errors of the
// operating system name paths of the leader.
func (b *Books) wrongDay(ctx context.Context, d registry.SealedDay, why error) string {
	if !query.Scoped(ctx) {
		return why.Error()
	}
	b.log.Warn("a closed period rests on what the archive does not have", "cluster", d.Cluster, "day", d.Day, "err", why)
	return fmt.Sprintf("the archive does not have %s on %s as the closed period names it", d.Cluster, d.Day)
}

// VerifySeal holds a list of archived days against the statement that was signed over
// its digest. Error: *BrokenError.
func VerifySeal(s Statement, seal Seal) error {
	if s.Archive == nil {
		return nil
	}
	if got := rests(slices.Clone(seal.Days)); *got != *s.Archive {
		return &BrokenError{Line: fmt.Sprintf("%s, statement %d", s.Customer, s.Number),
			What: fmt.Sprintf("it rests on %d archived days with the digest %.12s…, and the list has %d with %.12s…", s.Archive.Days, s.Archive.Digest, got.Days, got.Digest)}
	}
	return nil
}

// verifyForm says what a statement lacks that one of its form has.
func verifyForm(s Statement, before *Statement, beforeText string) string {
	switch {
	case before != nil && s.Form < before.Form:
		return fmt.Sprintf("it has the form %d, and the statement before it the form %d", s.Form, before.Form)
	case s.Form == 0:
		return ""
	case s.Form != statementForm:
		return fmt.Sprintf("its form %d is not known: this program reads %d", s.Form, statementForm)
	case before == nil && s.Previous != "", before != nil && s.Previous != textHash(beforeText):
		return "it does not follow the statement before it: that one was changed or removed"
	case s.Kind == StatementKind && s.Archive == nil:
		return "its period was closed without its archived days"
	}
	return ""
}
