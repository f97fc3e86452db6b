package books

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// lookBack is how many months before the present one Run keeps the days of up to
// date, closed or not: what comes later than that, a re-rating by hand finds.
const lookBack = 2

// Run sums days as they settle, and again when their inputs change, until ctx ends.
func (b *Books) Run(ctx context.Context) error {
	for b.clock.Sleep(ctx, b.config.Every) == nil { // the end of ctx is the way to stop
		if _, err := b.Tick(ctx); err != nil && ctx.Err() == nil {
			b.failed.Inc()
			b.log.Warn("days of the books cannot be summed", "err", err)
		}
	}
	return nil
}

// Tick sums a batch of days that have settled or changed, the newest month last. It
// returns how many days of clusters it summed. What fails for some customers is
// told after the others are done.
func (b *Books) Tick(ctx context.Context) (int, error) {
	now := b.now()
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	left := b.config.Batch
	var errs []error
	for months := -lookBack; months <= 0 && left > 0; months++ {
		period := start.AddDate(0, months, 0).Format(monthForm)
		together, err := b.together(ctx, period)
		if err != nil {
			return b.config.Batch - left, err
		}
		for _, of := range together {
			done, err := b.keep(ctx, of, left)
			if err != nil {
				errs = append(errs, err)
			}
			if left -= done; left <= 0 || ctx.Err() != nil {
				break
			}
		}
	}
	if err := b.tickFailures(ctx); err != nil {
		errs = append(errs, err)
	}
	return b.config.Batch - left, errors.Join(errs...)
}

// tickFailures looks for nodes that failed while the rows of their pods are there.
func (b *Books) tickFailures(ctx context.Context) error {
	snapshot, err := b.registry.Fleet(ctx, b.now())
	if err != nil {
		return fmt.Errorf("read fleet: %w", err)
	}
	var clusters []string
	for _, c := range snapshot.Clusters() {
		clusters = append(clusters, c.Name)
	}
	return b.lookForFailures(ctx, clusters, schema.Window{From: b.now().Add(-podRows), To: b.now()})
}

// shared is a calendar that several customers have.
type shared struct {
	Calendar
	customers []string
}

// together are the calendars of a period, each with the customers that have it.
func (b *Books) together(ctx context.Context, period string) ([]shared, error) {
	start, err := time.Parse(monthForm, period)
	if err != nil {
		return nil, err
	}
	snapshot, err := b.registry.Fleet(ctx, schema.Earlier(start.AddDate(0, 1, 0), b.now()))
	if err != nil {
		return nil, fmt.Errorf("read fleet: %w", err)
	}
	var all []shared
	for _, customer := range snapshot.Customers() {
		c, err := b.calendar(ctx, customer.Name, period)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(s shared) bool {
			return s.From.Equal(c.From) && s.To.Equal(c.To) && s.Zone.String() == c.Zone.String()
		})
		if i < 0 {
			i = len(all)
			all = append(all, shared{Calendar: c})
		}
		all[i].customers = append(all[i].customers, customer.Name)
	}
	return all, nil
}

// keep brings the days of a calendar up to date, of at most limit clusters and days.
func (b *Books) keep(ctx context.Context, of shared, limit int) (int, error) {
	days := slices.DeleteFunc(of.days(), func(day schema.Window) bool { return b.now().Before(day.To.Add(settleTime)) })
	if len(days) == 0 {
		return 0, nil
	}
	byCluster := make(map[string][]string)
	for _, customer := range of.customers {
		clusters, err := b.clusters(ctx, customer, schema.Window{From: of.From, To: days[len(days)-1].To})
		if err != nil {
			return 0, err
		}
		for _, cluster := range clusters {
			byCluster[cluster] = append(byCluster[cluster], customer)
		}
	}
	summed := 0
	for _, cluster := range sortedKeys(byCluster) {
		fresh, err := b.freshen(ctx, byCluster[cluster], []string{cluster}, days, limit-summed)
		if summed += fresh.summed; err != nil {
			return summed, err
		}
		if summed >= limit {
			break
		}
	}
	return summed, nil
}
