package api

import (
	"context"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Events are what a webhook was told of usage: *registry.Registry.
type Events interface {
	EventCounts(ctx context.Context) (map[string]int64, error)
	Events(ctx context.Context, state string, limit int) ([]registry.Event, error)
	RetryEvents(ctx context.Context, ended time.Time) (int64, error)
	RunEvents(ctx context.Context, since time.Time) ([]registry.RunEvent, error)
	DismissedRunEvents(ctx context.Context, limit int) ([]registry.RunEvent, error)
}

// EventsAnswer says how the events of the webhooks are.
type EventsAnswer struct {
	Counts  map[string]int64    `json:"counts"`  // of usage, by state: sent, pending, refused
	Refused []registry.Event    `json:"refused"` // the oldest, with the answer
	Pending []registry.Event    `json:"pending"` // the oldest
	Runs    []registry.RunEvent `json:"runs"`    // of runs that ended in the last day, or were not made or taken; the newest
	// Dismissed are the newest of those that were given up, with why.
	Dismissed []registry.RunEvent `json:"dismissedRuns"`
}

// eventsShown bounds each list.
const eventsShown = 100

func (s *Server) usageEvents(w http.ResponseWriter, r *http.Request) error {
	var answer EventsAnswer
	var err error
	if answer.Counts, err = s.deps.Events.EventCounts(r.Context()); err != nil {
		return err
	}
	if answer.Refused, err = s.deps.Events.Events(r.Context(), registry.EventRefused, eventsShown); err != nil {
		return err
	}
	if answer.Pending, err = s.deps.Events.Events(r.Context(), registry.EventPending, eventsShown); err != nil {
		return err
	}
	if answer.Runs, err = s.deps.Events.RunEvents(r.Context(), s.deps.Clock.Now().Add(-24*time.Hour)); err != nil {
		return err
	}
	if answer.Dismissed, err = s.deps.Events.DismissedRunEvents(r.Context(), eventsShown); err != nil {
		return err
	}
	answer.Runs = answer.Runs[max(0, len(answer.Runs)-eventsShown):]
	return writeJSON(w, http.StatusOK, answer)
}

// Retried is how many events are sent again.
type Retried struct {
	Pending int64 `json:"pending"`
}

func (s *Server) retryEvents(w http.ResponseWriter, r *http.Request) error {
	count, err := s.deps.Events.RetryEvents(r.Context(), s.deps.Clock.Now().Add(-s.deps.RunsReach))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Retried{count})
}
