package query

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// maxCompleteness bounds the parts of an answer about completeness.
const maxCompleteness = 400 * 24 * time.Hour

// Completeness is what arrived of a cluster, against what must exist. Errors:
// *InputError and what the registry says.
func (e *Engine) Completeness(ctx context.Context, cluster, window string) (Completeness, error) {
	settled, err := e.settledMinute(ctx, cluster)
	if err != nil {
		return Completeness{}, err
	}
	end := settled
	if end.IsZero() {
		end = e.clock.Now()
	}
	if window == "" {
		window = "24h"
	}
	w, err := ParseWindow(window, end)
	if err != nil {
		return Completeness{}, err
	}
	if now := e.clock.Now().UTC().Truncate(schema.Minute); w.To.After(now) && w.From.Before(now) {
		w.To = now // what lies ahead is not missing
	}
	if w.Length() > maxCompleteness {
		return Completeness{}, inputError("window", window, "ask for 400 days at most: the answer has a part for each table and quarter")
	}
	quarters, err := e.registry.Completeness(ctx, cluster, w)
	if err != nil {
		return Completeness{}, fmt.Errorf("completeness of %s: %w", cluster, err)
	}
	answer := Completeness{Cluster: cluster, From: w.From, To: w.To, Quarters: quarters}
	if answer.Quarters == nil {
		answer.Quarters = []registry.Completeness{}
	}
	for _, quarter := range quarters {
		answer.Expected += quarter.Expected
		if quarter.Expected > 0 {
			answer.Received += quarter.Received
		}
	}
	if !settled.IsZero() {
		answer.Settled = &settled
	}
	return answer, nil
}
