package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// PutBookPeriod stores a period whose state was formerly that one ("" where it was
// not there), and who did what. Errors: ErrStale where it has another state now,
// and what the triggers say of a closed one.
func (r *Registry) PutBookPeriod(ctx context.Context, p BookPeriod, formerly string, did BookAction) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		if err := putBookPeriod(ctx, tx, p, formerly); err != nil {
			return err
		}
		return r.bookAction(ctx, tx, did)
	})
	if err != nil {
		return fmt.Errorf("store period %s of %s: %w", p.Period, p.Customer, err)
	}
	return nil
}

func putBookPeriod(ctx context.Context, tx *sql.Tx, p BookPeriod, formerly string) error {
	var state string
	err := tx.QueryRowContext(ctx, "SELECT state FROM book_period WHERE customer = ? AND period = ?", p.Customer, p.Period).Scan(&state)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if state != formerly {
		return fmt.Errorf("it is %q, not %q: %w", state, formerly, ErrStale)
	}
	if p.Draft == nil {
		p.Draft = []byte{}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO book_period (customer, period, from_at, to_at, zone, state, body, draft) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET from_at = excluded.from_at, to_at = excluded.to_at, zone = excluded.zone, state = excluded.state, body = excluded.body, draft = excluded.draft`,
		p.Customer, p.Period, nanos(p.Window.From), nanos(p.Window.To), p.Zone, p.State, p.Body, p.Draft)
	return err
}

func (r *Registry) bookAction(ctx context.Context, tx *sql.Tx, did BookAction) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO book_action (at, by, action, customer, period, detail, failure) VALUES (?, ?, ?, ?, ?, ?, ?)",
		nanos(r.clock.Now()), did.By, did.Action, did.Customer, did.Period, did.Detail, did.Failure)
	return err
}

// BookActions is the log of a customer's books, the oldest first.
func (r *Registry) BookActions(ctx context.Context, customer string) ([]BookAction, error) {
	all := []BookAction{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		a := BookAction{Customer: customer}
		var at int64
		err := scan(&at, &a.By, &a.Action, &a.Period, &a.Detail)
		a.At = moment(at)
		all = append(all, a)
		return err
	}, "SELECT at, by, action, period, detail FROM book_action WHERE customer = ? ORDER BY id", customer)
	if err != nil {
		return nil, fmt.Errorf("read the log of the books: %w", err)
	}
	return all, nil
}

// Issue is what becomes final in one transaction: lines at the end of the chain
// and their statement; of a period that is closed also its last state, the seals of
// its days and the corrections that it bills.
type Issue struct {
	Lines       []BookLine
	Statement   BookStatement
	Period      *BookPeriod    // nil of a credit note
	Formerly    string         // the period's state
	Corrections []int64        // that are billed by it
	Days        []BookDay      // that it rests on: customer, cluster, start and revision
	Refunded    []BookRefunded // what it gives back of nodes that failed; Statement is filled
	Sealed      []SealedDay    // archived days that the period rests on
	Approved    int64          // the refund that was asked for, of a credit note; 0 is none
	Applied     int            // corrections that the customer had when it was computed
	Did         BookAction
}

// BookSeen is what somebody has seen of a customer's books: the last line of the chain, and
// how many corrections were applied.
type BookSeen struct {
	Line        int64
	Corrections int
}

// stands is ErrStale where somebody has added to a customer's books since.
func (seen BookSeen) stands(ctx context.Context, tx *sql.Tx, customer string) error {
	var there BookSeen
	err := tx.QueryRowContext(ctx, `SELECT (SELECT coalesce(max(seq), 0) FROM book_line WHERE customer = ?1), (SELECT count(*) FROM book_correction WHERE customer = ?1)`, customer).
		Scan(&there.Line, &there.Corrections)
	if err == nil && there != seen {
		err = fmt.Errorf("there are %d lines and %d corrections, not %d and %d: %w", there.Line, there.Corrections, seen.Line, seen.Corrections, ErrStale)
	}
	return err
}

// follows is ErrStale where an issue is not the next one of a customer's books.
func (issue Issue) follows(ctx context.Context, tx *sql.Tx) error {
	s := issue.Statement
	seen := BookSeen{Corrections: issue.Applied}
	if len(issue.Lines) > 0 {
		seen.Line = issue.Lines[0].Seq - 1
	} else if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM book_line WHERE customer = ?", s.Customer).Scan(&seen.Line); err != nil {
		return err
	}
	if err := seen.stands(ctx, tx, s.Customer); err != nil {
		return err
	}
	var last int64
	err := tx.QueryRowContext(ctx, "SELECT coalesce(max(number), 0) FROM book_statement WHERE customer = ?", s.Customer).Scan(&last)
	if err == nil && last != s.Number-1 {
		err = fmt.Errorf("there are %d statements: %w", last, ErrStale)
	}
	return err
}

// IssueBook writes an issue. Errors: ErrStale where somebody has added to the customer's
// books since it was computed, and what the triggers say.
func (r *Registry) IssueBook(ctx context.Context, issue Issue) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		if err := issue.follows(ctx, tx); err != nil {
			return err
		}
		if issue.Period != nil {
			if err := putBookPeriod(ctx, tx, *issue.Period, issue.Formerly); err != nil {
				return err
			}
		}
		for _, l := range issue.Lines {
			if _, err := tx.ExecContext(ctx, "INSERT INTO book_line (customer, seq, period, statement, text, previous, hash, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
				l.Customer, l.Seq, l.Period, l.Statement, l.Text, l.Previous, l.Hash, l.Signature); err != nil {
				return err
			}
		}
		s := issue.Statement
		if _, err := tx.ExecContext(ctx, "INSERT INTO book_statement (customer, number, kind, period, refers, text, signature, issued_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			s.Customer, s.Number, s.Kind, s.Period, s.Refers, s.Text, s.Signature, nanos(s.Issued)); err != nil {
			return err
		}
		for _, id := range issue.Corrections {
			if _, err := tx.ExecContext(ctx, "INSERT INTO book_billed (correction, statement) VALUES (?, ?)", id, s.Number); err != nil {
				return err
			}
		}
		if err := sealDays(ctx, tx, issue.Days); err != nil {
			return err
		}
		if err := refund(ctx, tx, s.Number, issue.Refunded); err != nil {
			return err
		}
		if err := putSeal(ctx, tx, s.Customer, s.Number, issue.Sealed); err != nil {
			return err
		}
		if issue.Approved != 0 {
			if err := r.decideRefund(ctx, tx, BookRefund{ID: issue.Approved, Decision: RefundApproved, DecidedBy: issue.Did.By, CreditNote: s.Number}); err != nil {
				return err
			}
		}
		return r.bookAction(ctx, tx, issue.Did)
	})
	if err != nil {
		return fmt.Errorf("issue statement %d of %s: %w", issue.Statement.Number, issue.Statement.Customer, err)
	}
	return nil
}

// sealDays seals days in the revision that the issue rests on.
func sealDays(ctx context.Context, tx *sql.Tx, days []BookDay) error {
	for _, d := range days {
		result, err := tx.ExecContext(ctx, "UPDATE book_day SET sealed = 1 WHERE customer = ? AND cluster = ? AND from_at = ? AND revision = ? AND sealed = 0",
			d.Customer, d.Cluster, nanos(d.Window.From), d.Revision)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(fmt.Errorf("day %s of %s: %w", d.Window.From.Format("2006-01-02T15:04Z"), d.Cluster, ErrStale), err)
		}
	}
	return nil
}

// BookHead is the end of a customer's chain: its last sequence number and hash, 0
// and "" before the first line; and the last statement's number.
func (r *Registry) BookHead(ctx context.Context, customer string) (seq int64, hash string, statement int64, err error) {
	err = r.reader.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0), coalesce((SELECT hash FROM book_line WHERE customer = ?1 ORDER BY seq DESC LIMIT 1), ''),
		(SELECT coalesce(max(number), 0) FROM book_statement WHERE customer = ?1) FROM book_line WHERE customer = ?1`, customer).Scan(&seq, &hash, &statement)
	if err != nil {
		return 0, "", 0, fmt.Errorf("end of the chain of %s: %w", customer, err)
	}
	return seq, hash, statement, nil
}

// BookLines calls fn with a customer's chain in order; of one period where that is
// not "".
func (r *Registry) BookLines(ctx context.Context, customer, period string, fn func(BookLine) error) error {
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		l := BookLine{Customer: customer}
		if err := scan(&l.Seq, &l.Period, &l.Statement, &l.Text, &l.Previous, &l.Hash, &l.Signature); err != nil {
			return err
		}
		return fn(l)
	}, "SELECT seq, period, statement, text, previous, hash, signature FROM book_line WHERE customer = ?1 AND (?2 = '' OR period = ?2) ORDER BY seq", customer, period)
	if err != nil {
		return fmt.Errorf("lines of %s: %w", customer, err)
	}
	return nil
}

// BookStatements are a customer's statements and credit notes, by number.
func (r *Registry) BookStatements(ctx context.Context, customer string) ([]BookStatement, error) {
	all := []BookStatement{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		s := BookStatement{Customer: customer}
		var issued int64
		err := scan(&s.Number, &s.Kind, &s.Period, &s.Refers, &s.Text, &s.Signature, &issued)
		s.Issued = moment(issued)
		all = append(all, s)
		return err
	}, "SELECT number, kind, period, refers, text, signature, issued_at FROM book_statement WHERE customer = ? ORDER BY number", customer)
	if err != nil {
		return nil, fmt.Errorf("statements of %s: %w", customer, err)
	}
	return all, nil
}

// AddBookCorrection keeps a correction that was applied, if the customer's books are what
// its caller has seen. Error: ErrStale.
func (r *Registry) AddBookCorrection(ctx context.Context, c BookCorrection, seen BookSeen, did BookAction) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		if err := seen.stands(ctx, tx, c.Customer); err != nil {
			return err
		}
		added, err := tx.ExecContext(ctx, "INSERT INTO book_correction (customer, period, text, at) VALUES (?, ?, ?, ?)",
			c.Customer, c.Period, c.Text, nanos(r.clock.Now()))
		if err != nil {
			return err
		}
		id, err := added.LastInsertId()
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO book_basis (correction, body) VALUES (?, ?)", id, c.Basis); err != nil {
			return err
		}
		return r.bookAction(ctx, tx, did)
	})
	if err != nil {
		return fmt.Errorf("correct period %s of %s: %w", c.Period, c.Customer, err)
	}
	return nil
}

// BookBasis is what a correction was computed from. Error: ErrNotFound.
func (r *Registry) BookBasis(ctx context.Context, correction int64) ([]byte, error) {
	var body []byte
	err := r.reader.QueryRowContext(ctx, "SELECT body FROM book_basis WHERE correction = ?", correction).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("what correction %d was computed from: %w", correction, err)
	}
	return body, nil
}

// BookCorrections are a customer's corrections in the order in which they were
// applied; of one closed period where that is not "".
func (r *Registry) BookCorrections(ctx context.Context, customer, period string) ([]BookCorrection, error) {
	var all []BookCorrection
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		c := BookCorrection{Customer: customer}
		var at int64
		err := scan(&c.ID, &c.Period, &c.Text, &at, &c.Statement)
		c.At = moment(at)
		all = append(all, c)
		return err
	}, `SELECT id, period, text, at, coalesce((SELECT statement FROM book_billed WHERE correction = id), 0)
		FROM book_correction WHERE customer = ?1 AND (?2 = '' OR period = ?2) ORDER BY id`, customer, period)
	if err != nil {
		return nil, fmt.Errorf("corrections of %s: %w", customer, err)
	}
	return all, nil
}
