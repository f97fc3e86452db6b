package registry

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// RunEvent is what a webhook is told of a run, or a group of runs, that ended.
type RunEvent struct {
	ID       string    `json:"id"`
	Subject  string    `json:"subject"` // ams-03/batch/Job/nightly-101
	Ended    time.Time `json:"ended"`
	State    string    `json:"state"` // pending, sent or refused
	Body     string    `json:"-"`     // "" when it was taken
	At       time.Time `json:"at"`    // when it was noted
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"-"`
	Error    string    `json:"error,omitempty"` // the last answer that was no success
}

// runEventsKept is how long an event that was taken is remembered after its run's end:
// longer than the longest look-back, so that no run is told of twice.
const runEventsKept = 40 * 24 * time.Hour

// NoteRunEvent notes that an event is to be sent, unless its id is known, and forgets
// those of runs that ended long ago. It says whether it is new.
func (r *Registry) NoteRunEvent(ctx context.Context, e RunEvent) (bool, error) {
	fresh := false
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM run_event WHERE ended < ? AND state = 'sent'`, nanos(r.clock.Now().Add(-runEventsKept))); err != nil {
			return err
		}
		var err error
		fresh, err = inserted(ctx, tx, `INSERT OR IGNORE INTO run_event (id, subject, ended, state, body, at, attempts, next_at, error) VALUES (?, ?, ?, 'pending', ?, ?, 0, ?, '')`,
			e.ID, e.Subject, nanos(e.Ended), e.Body, nanos(e.At), nanos(e.At))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("note event of %s: %w", e.Subject, err)
	}
	return fresh, nil
}

// AnswerRunEvent notes what came of sending an event: its State, Attempts, Next and
// Error. The body of one that was taken is forgotten.
func (r *Registry) AnswerRunEvent(ctx context.Context, e RunEvent) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE run_event SET state = ?, attempts = ?, next_at = ?, error = ?, body = iif(? = 'sent', '', body) WHERE id = ?`,
			e.State, e.Attempts, nanos(e.Next), e.Error, e.State, e.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("note answer of the event of %s: %w", e.Subject, err)
	}
	return nil
}

// RunEvents are the events of runs that ended since a moment and those that were not
// taken, the oldest first.
func (r *Registry) RunEvents(ctx context.Context, since time.Time) ([]RunEvent, error) {
	list := []RunEvent{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var e RunEvent
		var ended, at, next int64
		err := scan(&e.ID, &e.Subject, &ended, &e.State, &e.Body, &at, &e.Attempts, &next, &e.Error)
		e.Ended, e.At, e.Next = moment(ended), moment(at), moment(next)
		list = append(list, e)
		return err
	}, `SELECT id, subject, ended, state, body, at, attempts, next_at, error FROM run_event WHERE ended >= ? OR state <> 'sent' ORDER BY ended, id`, nanos(since))
	if err != nil {
		return nil, fmt.Errorf("read events of runs: %w", err)
	}
	return list, nil
}
