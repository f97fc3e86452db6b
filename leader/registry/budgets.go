package registry

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// AlertNoted is the state of an alert that no webhook is told of; the others are those
// of usage events.
const AlertNoted = "noted"

// BudgetAlert is a threshold that a budget passed in a period.
type BudgetAlert struct {
	Budget   string    `json:"budget"`
	Period   time.Time `json:"period"` // its start
	Percent  int       `json:"percent"`
	On       string    `json:"of"`    // actual or forecast
	State    string    `json:"state"` // noted, pending, sent or refused
	Body     string    `json:"-"`
	At       time.Time `json:"at"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"-"`
	Error    string    `json:"error,omitempty"` // the last answer that was no success
}

// NoteAlert notes that a threshold was passed, unless that is known of the period, and
// says whether it is new.
func (r *Registry) NoteAlert(ctx context.Context, a BudgetAlert) (bool, error) {
	fresh := false
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		var err error
		fresh, err = inserted(ctx, tx, `INSERT OR IGNORE INTO budget_alert (budget, period, percent, basis, state, body, at, attempts, next_at, error) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, '')`,
			a.Budget, nanos(a.Period), a.Percent, a.On, a.State, a.Body, nanos(a.At), nanos(a.At))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("note alert of budget %s: %w", a.Budget, err)
	}
	return fresh, nil
}

// AnswerAlert notes what came of telling an alert: its State, Attempts, Next and Error.
func (r *Registry) AnswerAlert(ctx context.Context, a BudgetAlert) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE budget_alert SET state = ?, attempts = ?, next_at = ?, error = ? WHERE budget = ? AND period = ? AND percent = ? AND basis = ?`,
			a.State, a.Attempts, nanos(a.Next), a.Error, a.Budget, nanos(a.Period), a.Percent, a.On)
		return err
	})
	if err != nil {
		return fmt.Errorf("note answer of budget %s: %w", a.Budget, err)
	}
	return nil
}

// BudgetAlerts are the alerts since a moment and those that are pending, the oldest
// first.
func (r *Registry) BudgetAlerts(ctx context.Context, since time.Time) ([]BudgetAlert, error) {
	list := []BudgetAlert{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var a BudgetAlert
		var period, at, next int64
		err := scan(&a.Budget, &period, &a.Percent, &a.On, &a.State, &a.Body, &at, &a.Attempts, &next, &a.Error)
		a.Period, a.At, a.Next = moment(period), moment(at), moment(next)
		list = append(list, a)
		return err
	}, `SELECT budget, period, percent, basis, state, body, at, attempts, next_at, error FROM budget_alert WHERE period >= ? OR state = 'pending' ORDER BY at, budget, percent, basis`, nanos(since))
	if err != nil {
		return nil, fmt.Errorf("read alerts of budgets: %w", err)
	}
	return list, nil
}
