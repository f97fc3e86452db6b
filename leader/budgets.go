package leader

import (
	"context"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/prometheus/client_golang/prometheus"
)

// budgetsSchedule is when cost is held against budgets, and webhooks are told what
// they have not answered.
const budgetsSchedule = "12,27,42,57 * * * *"

func (l *Leader) buildAhead(metrics prometheus.Registerer) error {
	l.ahead = ahead.NewDesk(l.query, l.registry, l.store.Database(schema.FactsDB), l.clock)
	var err error
	l.budgets, err = ahead.NewBudgeter(l.ahead, l.registry, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}, l.clock, l.log, metrics)
	return err
}

// runBudgets holds cost against budgets until ctx ends.
func (l *Leader) runBudgets(ctx context.Context) error {
	return l.onSchedule(ctx, budgetsSchedule, func(time.Time) {
		if err := l.budgets.Tick(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("cost not held against budgets", "err", err)
		}
	})
}
