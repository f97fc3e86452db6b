package leader

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/leader/events"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"
)

// eventsSchedule is when usage events are sent where nobody says: seven minutes
// past each hour, as the hour has settled by then.
const eventsSchedule = "7 * * * *"

// validateEvents lists what is wrong with the webhook.
func (c Config) validateEvents() error {
	if c.Events.Schedule != "" {
		if _, err := cron.ParseStandard(c.Events.Schedule); err != nil {
			return fmt.Errorf("events schedule %q: %w", c.Events.Schedule, err)
		}
	}
	return c.Events.Validate()
}

func (l *Leader) buildEvents(metrics prometheus.Registerer) error {
	if l.config.Events.URL == "" {
		return nil
	}
	if l.config.Events.Schedule == "" {
		l.config.Events.Schedule = eventsSchedule
	}
	var err error
	l.events, err = events.New(l.config.Events, l.query, l.registry, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}, l.clock, l.log, metrics)
	return err
}

// runEvents tells the webhook of usage on its schedule, until ctx ends.
func (l *Leader) runEvents(ctx context.Context) error {
	if l.events == nil {
		return nil
	}
	return l.onSchedule(ctx, l.config.Events.Schedule, func(time.Time) {
		if err := l.events.Tick(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("usage events not sent", "err", err)
		}
	})
}
