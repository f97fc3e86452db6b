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

// announceSchedule is when runs that ended are looked for, and the webhook is told.
const announceSchedule = "*/2 * * * *"

func (l *Leader) buildAhead(metrics prometheus.Registerer) error {
	l.ahead = ahead.NewDesk(l.query, l.registry, l.store.Database(schema.FactsDB), l.clock)
	var err error
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if l.budgets, err = ahead.NewBudgeter(l.ahead, l.registry, client, l.clock, l.log, metrics); err != nil || l.config.Announce.URL == "" {
		return err
	}
	l.announcer, err = ahead.NewAnnouncer(l.config.Announce, l.ahead, l.registry, client, l.clock, l.log, metrics)
	return err
}

// runAnnouncer tells a webhook of runs that ended, until ctx ends.
func (l *Leader) runAnnouncer(ctx context.Context) error {
	if l.announcer == nil {
		return nil
	}
	return l.onSchedule(ctx, announceSchedule, func(time.Time) {
		if err := l.announcer.Tick(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("webhook not told of runs that ended", "err", err)
		}
	})
}

// runBudgets holds cost against budgets until ctx ends.
func (l *Leader) runBudgets(ctx context.Context) error {
	return l.onSchedule(ctx, budgetsSchedule, func(time.Time) {
		if err := l.budgets.Tick(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("cost not held against budgets", "err", err)
		}
	})
}
