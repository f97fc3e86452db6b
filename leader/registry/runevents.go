package registry

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// States of the event of a run, beside those of a usage event.
const (
	EventUnmade    = "unmade"    // its report could not be made, and is tried again
	EventDismissed = "dismissed" // given up: not made, or not taken, for too long
)

// RunEvent is what a webhook is told of a run, or a group of runs, that ended.
type RunEvent struct {
	ID       string    `json:"id"`
	Subject  string    `json:"subject"` // ams-03/batch/Job/nightly-101
	Ended    time.Time `json:"ended"`
	State    string    `json:"state"`    // unmade, pending, sent, refused or dismissed
	Body     string    `json:"-"`        // "" when it was taken, was not made, or was dismissed
	At       time.Time `json:"at"`       // when it was noted
	Attempts int       `json:"attempts"` // to send it; of one that is unmade, to make it
	Next     time.Time `json:"-"`
	Error    string    `json:"error,omitempty"` // the last answer that was no success, or why it was not made or dismissed
	// Replaces are the ids of unmade events of which this one tells too; not stored.
	Replaces []string `json:"-"`
}

const (
	// runEventsKept is how long an event that was taken is remembered after its run's
	// end: longer than the longest look-back, so that no run is told of twice. One that
	// nobody takes for that long is dismissed.
	runEventsKept = 40 * 24 * time.Hour
	// dismissedKept is how long it is shown that one was dismissed.
	dismissedKept = 400 * 24 * time.Hour
)

// NoteRunEvent notes that an event is to be sent, unless its id is known and its report
// made, and forgets those of runs that ended long ago. It says whether it is new.
func (r *Registry) NoteRunEvent(ctx context.Context, e RunEvent) (bool, error) {
	fresh := false
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		now := r.clock.Now()
		if _, err := tx.ExecContext(ctx, `DELETE FROM run_event WHERE ended < ? AND state = 'sent' OR ended < ? AND state = 'dismissed'`,
			nanos(now.Add(-runEventsKept)), nanos(now.Add(-dismissedKept))); err != nil {
			return err
		}
		for _, id := range e.Replaces {
			if _, err := tx.ExecContext(ctx, `DELETE FROM run_event WHERE id = ? AND state = 'unmade'`, id); err != nil {
				return err
			}
		}
		var err error
		fresh, err = inserted(ctx, tx, `INSERT INTO run_event (id, subject, ended, state, body, at, attempts, next_at, error) VALUES (?, ?, ?, 'pending', ?, ?, 0, ?, '')
			ON CONFLICT DO UPDATE SET state = 'pending', body = excluded.body, at = excluded.at, attempts = 0, next_at = excluded.next_at, error = '' WHERE state = 'unmade'`,
			e.ID, e.Subject, nanos(e.Ended), e.Body, nanos(e.At), nanos(e.At))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("note event of %s: %w", e.Subject, err)
	}
	return fresh, nil
}

// RunEventUnmade notes an event whose report could not be made, why, and when it is
// tried again: its State, unmade or dismissed, Attempts, Next and Error. One whose
// report was made meanwhile stays as it is.
func (r *Registry) RunEventUnmade(ctx context.Context, e RunEvent) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		for _, id := range e.Replaces {
			if _, err := tx.ExecContext(ctx, `DELETE FROM run_event WHERE id = ? AND state = 'unmade'`, id); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO run_event (id, subject, ended, state, body, at, attempts, next_at, error) VALUES (?, ?, ?, ?, '', ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET state = excluded.state, attempts = excluded.attempts, next_at = excluded.next_at, error = excluded.error WHERE state = 'unmade'`,
			e.ID, e.Subject, nanos(e.Ended), e.State, nanos(e.At), e.Attempts, nanos(e.Next), e.Error)
		return err
	})
	if err != nil {
		return fmt.Errorf("note that there is no report of %s: %w", e.Subject, err)
	}
	return nil
}

// DismissRunEvents gives up what was not made of runs that ended before a moment, and
// what has not been taken for 40 days since it was noted. It returns them; they stay
// listed, without their bodies.
func (r *Registry) DismissRunEvents(ctx context.Context, unmade time.Time) ([]RunEvent, error) {
	var given []RunEvent
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		return each(ctx, tx, func(scan func(...any) error) error {
			e, err := scanRunEvent(scan)
			given = append(given, e)
			return err
		}, `UPDATE run_event SET state = 'dismissed', body = '', error = iif(state = 'unmade', 'its report could not be made before the look-back ended', 'it was not taken in 40 days') || iif(error = '', '', ': ' || error)
			WHERE state = 'unmade' AND ended < ? OR state IN ('pending', 'refused') AND at < ? RETURNING `+runEventColumns, nanos(unmade), nanos(r.clock.Now().Add(-runEventsKept)))
	})
	if err != nil {
		return nil, fmt.Errorf("dismiss events of runs: %w", err)
	}
	return given, nil
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

const runEventColumns = "id, subject, ended, state, body, at, attempts, next_at, error"

func scanRunEvent(scan func(...any) error) (e RunEvent, err error) {
	var ended, at, next int64
	err = scan(&e.ID, &e.Subject, &ended, &e.State, &e.Body, &at, &e.Attempts, &next, &e.Error)
	e.Ended, e.At, e.Next = moment(ended), moment(at), moment(next)
	return e, err
}

// RunEvents are the events of runs that ended since a moment and those that are still
// to be made, sent or taken, the oldest first.
func (r *Registry) RunEvents(ctx context.Context, since time.Time) ([]RunEvent, error) {
	return r.runEvents(ctx, "ended >= ? OR state IN ('unmade', 'pending', 'refused') ORDER BY ended, id", nanos(since))
}

// DismissedRunEvents are the newest that were dismissed, the newest first, at most
// limit of them.
func (r *Registry) DismissedRunEvents(ctx context.Context, limit int) ([]RunEvent, error) {
	return r.runEvents(ctx, "state = 'dismissed' ORDER BY ended DESC, id LIMIT ?", limit)
}

func (r *Registry) runEvents(ctx context.Context, where string, args ...any) ([]RunEvent, error) {
	list := []RunEvent{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		e, err := scanRunEvent(scan)
		list = append(list, e)
		return err
	}, "SELECT "+runEventColumns+" FROM run_event WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read events of runs: %w", err)
	}
	return list, nil
}
