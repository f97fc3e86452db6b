package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// BookRefund is a refund that somebody asked for.
type BookRefund struct {
	ID               int64
	Customer         string
	Statement        int64 // that it refers to
	Amount, Currency string
	Reason, By       string
	At               time.Time
	Decision         string // "" until it is decided; RefundApproved or RefundDeclined
	DecidedBy        string
	Decided          time.Time
	Note             string // why it was declined
	CreditNote       int64
}

// The decisions about refunds.
const (
	RefundApproved = "approved"
	RefundDeclined = "declined"
)

// AddBookRefund keeps a refund that is asked for, and returns its number.
func (r *Registry) AddBookRefund(ctx context.Context, asked BookRefund, did BookAction) (int64, error) {
	var id int64
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "INSERT INTO book_refund (customer, statement, amount, currency, reason, requested_by, requested_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			asked.Customer, asked.Statement, asked.Amount, asked.Currency, asked.Reason, asked.By, nanos(r.clock.Now()))
		if err != nil {
			return err
		}
		if id, err = result.LastInsertId(); err != nil {
			return err
		}
		return r.bookAction(ctx, tx, did)
	})
	if err != nil {
		return 0, fmt.Errorf("keep refund of statement %d of %s: %w", asked.Statement, asked.Customer, err)
	}
	return id, nil
}

// DeclineBookRefund decides that a refund is not given. Error: ErrStale where it is
// decided.
func (r *Registry) DeclineBookRefund(ctx context.Context, id int64, note string, did BookAction) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		if err := r.decideRefund(ctx, tx, BookRefund{ID: id, Decision: RefundDeclined, DecidedBy: did.By, Note: note}); err != nil {
			return err
		}
		return r.bookAction(ctx, tx, did)
	})
	if err != nil {
		return fmt.Errorf("decline refund %d: %w", id, err)
	}
	return nil
}

// decideRefund writes a decision.
func (r *Registry) decideRefund(ctx context.Context, tx *sql.Tx, decided BookRefund) error {
	result, err := tx.ExecContext(ctx, "UPDATE book_refund SET decision = ?, decided_by = ?, decided_at = ?, note = ?, credit_note = ? WHERE id = ? AND decision = ''",
		decided.Decision, decided.DecidedBy, nanos(r.clock.Now()), decided.Note, decided.CreditNote, decided.ID)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(fmt.Errorf("refund %d: %w", decided.ID, ErrStale), err)
	}
	return nil
}

// BookRefunds are the refunds that were asked for of a customer, the oldest first.
func (r *Registry) BookRefunds(ctx context.Context, customer string) ([]BookRefund, error) {
	all := []BookRefund{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		asked := BookRefund{Customer: customer}
		var at, decided int64
		err := scan(&asked.ID, &asked.Statement, &asked.Amount, &asked.Currency, &asked.Reason, &asked.By, &at, &asked.Decision, &asked.DecidedBy, &decided, &asked.Note, &asked.CreditNote)
		if asked.At = moment(at); decided != 0 {
			asked.Decided = moment(decided)
		}
		all = append(all, asked)
		return err
	}, `SELECT id, statement, amount, currency, reason, requested_by, requested_at, decision, decided_by, decided_at, note, credit_note
		FROM book_refund WHERE customer = ? ORDER BY id`, customer)
	if err != nil {
		return nil, fmt.Errorf("refunds of %s: %w", customer, err)
	}
	return all, nil
}
