package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// States of a usage event.
const (
	EventSent    = "sent"    // accepted
	EventPending = "pending" // to be sent, or sent without an answer
	EventRefused = "refused" // for good, until somebody says to try again
)

// EventKey is what a usage event is of.
type EventKey struct {
	Customer  string    `json:"customer"`
	Cluster   string    `json:"cluster"`
	Namespace string    `json:"namespace"`
	Resource  string    `json:"resource"`
	Currency  string    `json:"currency"` // "" without a price
	Bucket    time.Time `json:"bucket"`   // start of the hour
}

// EventValue is what is known now of a key.
type EventValue struct {
	EventKey
	Quantity int64  // in stored units
	Cost     string // a decimal with 12 places at most
}

// Event is one revision: what changed since the revisions that were accepted.
type Event struct {
	EventKey
	Revision int64     `json:"revision"`
	Quantity int64     `json:"quantity"` // in stored units; it may be negative
	Cost     string    `json:"cost"`
	State    string    `json:"state"`
	Error    string    `json:"error,omitempty"` // why it was refused, or not answered
	At       time.Time `json:"at"`              // of the last change
}

const eventPlaces = 12

// PlanEvents compares what is known of the hours with what was told of them, and
// notes what has to be told. A key of those hours that is not among the values has
// become nothing. What is on its way stays as it is until it is answered; what was
// refused is only told of again when its value is another.
func (r *Registry) PlanEvents(ctx context.Context, hours []schema.Window, values []EventValue) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		known := make(map[EventKey]plannedEvent)
		for _, hour := range hours {
			if err := readPlanned(ctx, tx, hour.From, known); err != nil {
				return err
			}
		}
		now := nanos(r.clock.Now())
		for _, value := range values {
			value.Bucket = value.Bucket.UTC()
			planned, told := known[value.EventKey]
			delete(known, value.EventKey)
			if err := plan(ctx, tx, value, planned, told, now); err != nil {
				return err
			}
		}
		for key, planned := range known {
			if err := plan(ctx, tx, EventValue{EventKey: key, Cost: "0"}, planned, true, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("plan usage events: %w", err)
	}
	return nil
}

// plannedEvent is a key's row.
type plannedEvent struct {
	revision, quantity, nextQuantity int64
	state, cost, nextCost            string
}

func readPlanned(ctx context.Context, tx *sql.Tx, bucket time.Time, into map[EventKey]plannedEvent) error {
	rows, err := tx.QueryContext(ctx, `SELECT customer, cluster, namespace, resource, currency, revision, state, quantity, cost, next_quantity, next_cost
		FROM usage_event WHERE bucket = ?`, nanos(bucket))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err tells
	for rows.Next() {
		key, p := EventKey{Bucket: bucket.UTC()}, plannedEvent{}
		if err := rows.Scan(&key.Customer, &key.Cluster, &key.Namespace, &key.Resource, &key.Currency, &p.revision, &p.state, &p.quantity, &p.cost, &p.nextQuantity, &p.nextCost); err != nil {
			return err
		}
		into[key] = p
	}
	return rows.Err()
}

// plan notes one key.
func plan(ctx context.Context, tx *sql.Tx, value EventValue, p plannedEvent, told bool, now int64) error {
	same := func(quantity int64, cost string) bool {
		return value.Quantity == quantity && sameDecimal(value.Cost, cost)
	}
	switch {
	case !told && same(0, "0"):
		return nil
	case !told:
		p = plannedEvent{revision: -1, cost: "0"}
	case p.state == EventPending, p.state == EventSent && same(p.quantity, p.cost), p.state == EventRefused && same(p.nextQuantity, p.nextCost):
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO usage_event (bucket, customer, cluster, namespace, resource, currency, revision, state, quantity, cost, next_quantity, next_cost, error, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?)
		ON CONFLICT DO UPDATE SET revision = excluded.revision, state = excluded.state, next_quantity = excluded.next_quantity, next_cost = excluded.next_cost, error = '', at = excluded.at`,
		nanos(value.Bucket), value.Customer, value.Cluster, value.Namespace, value.Resource, value.Currency, p.revision+1, EventPending, p.quantity, p.cost, value.Quantity, value.Cost, now)
	return err
}

// Events are the events of a state, the oldest hour first.
func (r *Registry) Events(ctx context.Context, state string, limit int) ([]Event, error) {
	rows, err := r.reader.QueryContext(ctx, `SELECT bucket, customer, cluster, namespace, resource, currency, revision, state, quantity, cost, next_quantity, next_cost, error, at
		FROM usage_event WHERE state = ? ORDER BY bucket, customer, cluster, namespace, resource, currency LIMIT ?`, state, limit)
	if err != nil {
		return nil, fmt.Errorf("read usage events: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err tells
	list := []Event{}
	for rows.Next() {
		var e Event
		var bucket, at, quantity, next int64
		var cost, nextCost string
		if err := rows.Scan(&bucket, &e.Customer, &e.Cluster, &e.Namespace, &e.Resource, &e.Currency, &e.Revision, &e.State, &quantity, &cost, &next, &nextCost, &e.Error, &at); err != nil {
			return nil, fmt.Errorf("read usage events: %w", err)
		}
		e.Bucket, e.At, e.Quantity = moment(bucket), moment(at), next-quantity
		if e.Cost, err = minus(nextCost, cost); err != nil {
			return nil, fmt.Errorf("read usage events: %w", err)
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// EventsSent notes that revisions were accepted: their sums are now what was told.
func (r *Registry) EventsSent(ctx context.Context, events []Event) error {
	return r.answered(ctx, events, `UPDATE usage_event SET state = 'sent', quantity = next_quantity, cost = next_cost, error = ?, at = ?`, "")
}

// EventsRefused notes that revisions were refused for good, and why.
func (r *Registry) EventsRefused(ctx context.Context, events []Event, why string) error {
	return r.answered(ctx, events, `UPDATE usage_event SET state = 'refused', error = ?, at = ?`, why)
}

func (r *Registry) answered(ctx context.Context, events []Event, set, why string) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		for _, e := range events {
			if _, err := tx.ExecContext(ctx, set+` WHERE bucket = ? AND customer = ? AND cluster = ? AND namespace = ? AND resource = ? AND currency = ? AND revision = ?`,
				why, nanos(r.clock.Now()), nanos(e.Bucket), e.Customer, e.Cluster, e.Namespace, e.Resource, e.Currency, e.Revision); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note answer of usage events: %w", err)
	}
	return nil
}

// RetryEvents makes refused events pending again, of usage and of runs, with their ids,
// and has reports tried again that were given up of runs that ended since a moment: before
// it none is made. It returns how many.
func (r *Registry) RetryEvents(ctx context.Context, ended time.Time) (int64, error) {
	var count int64
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE usage_event SET state = 'pending', at = ? WHERE state = 'refused'`, nanos(r.clock.Now()))
		if err != nil {
			return err
		}
		if count, err = result.RowsAffected(); err != nil {
			return err
		}
		if result, err = tx.ExecContext(ctx, `UPDATE run_event SET state = iif(state = 'refused', 'pending', 'unmade'), attempts = 0, next_at = 0
			WHERE state = 'refused' OR state = 'dismissed' AND ended >= ?`, nanos(ended)); err != nil {
			return err
		}
		runs, err := result.RowsAffected()
		count += runs
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("try events again: %w", err)
	}
	return count, nil
}

// EventCounts are how many events there are by state.
func (r *Registry) EventCounts(ctx context.Context) (map[string]int64, error) {
	rows, err := r.reader.QueryContext(ctx, `SELECT state, count(*) FROM usage_event GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("count usage events: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err tells
	counts := map[string]int64{EventSent: 0, EventPending: 0, EventRefused: 0}
	for rows.Next() {
		var state string
		var n int64
		if err := rows.Scan(&state, &n); err != nil {
			return nil, fmt.Errorf("count usage events: %w", err)
		}
		counts[state] = n
	}
	return counts, rows.Err()
}

var errDecimal = errors.New("it is no decimal")

func sameDecimal(a, b string) bool {
	difference, err := minus(a, b)
	return err == nil && difference == "0"
}

// minus is a - b without zeros at its end.
func minus(a, b string) (string, error) {
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	if !okX || !okY {
		return "", fmt.Errorf("%q less %q: %w", a, b, errDecimal)
	}
	text := x.Sub(x, y).FloatString(eventPlaces)
	for text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	if text[len(text)-1] == '.' {
		text = text[:len(text)-1]
	}
	return text, nil
}
