package books

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// Calendar is a billing period as moments, with the zone that cuts its days.
type Calendar struct {
	Customer string
	Period   string // 2026-11
	schema.Window
	Zone *time.Location
}

// monthForm is how a period is named.
const monthForm = "2006-01"

// maxOffset is more than any zone differs from UTC.
const maxOffset = 15 * time.Hour

// month is when a period begins, were its zone UTC. Before 1970 nothing was metered, and
// zones were not what they are.
func month(period string) (time.Time, error) {
	start, err := time.Parse(monthForm, period)
	if err != nil || start.Year() < 1970 {
		return start, &Error{Kind: ErrInput, Text: fmt.Sprintf("period %q is no month since 1970", period), Hint: "Write it as 2026-11."}
	}
	return start, nil
}

// calendar is a customer's period: as it was stored, else the calendar month in the
// zone that the customer has when the month begins. It begins where the period
// before it ends, also where the zone has changed between them.
func (b *Books) calendar(ctx context.Context, customer, period string) (Calendar, error) {
	start, err := month(period)
	if err != nil {
		return Calendar{}, err
	}
	stored, err := b.registry.BookPeriod(ctx, customer, period)
	if err == nil {
		zone, err := time.LoadLocation(stored.Zone)
		if err != nil {
			return Calendar{}, fmt.Errorf("time zone %s of period %s of %s: %w", stored.Zone, period, customer, err)
		}
		return Calendar{customer, period, stored.Window, zone}, nil
	}
	if !errors.Is(err, registry.ErrNotFound) {
		return Calendar{}, err
	}
	month := schema.Window{From: start.Add(-maxOffset), To: start.AddDate(0, 1, 0).Add(maxOffset)}
	zone, err := b.zone(ctx, customer, month)
	if err != nil {
		return Calendar{}, err
	}
	c := Calendar{Customer: customer, Period: period, Zone: zone}
	c.From = rating.StartOfDay(start.Year(), start.Month(), 1, zone)
	c.To = rating.StartOfDay(start.Year(), start.Month()+1, 1, zone)
	before, err := b.registry.BookPeriod(ctx, customer, start.AddDate(0, -1, 0).Format(monthForm))
	switch {
	case err == nil:
		c.From = before.Window.To
	case !errors.Is(err, registry.ErrNotFound):
		return Calendar{}, err
	}
	after, err := b.registry.BookPeriod(ctx, customer, start.AddDate(0, 1, 0).Format(monthForm))
	switch {
	case err == nil:
		c.To = after.Window.From
	case !errors.Is(err, registry.ErrNotFound):
		return Calendar{}, err
	}
	return c, nil
}

// zone is that of the first version of a customer that holds in the window.
func (b *Books) zone(ctx context.Context, customer string, w schema.Window) (*time.Location, error) {
	versions, err := b.registry.History(ctx, fleet.KindCustomer, w)
	if err != nil {
		return nil, fmt.Errorf("look up customer %s: %w", customer, err)
	}
	i := slices.IndexFunc(versions, func(o fleet.Object) bool { return o.Name() == customer })
	if i < 0 {
		return nil, &Error{Kind: registry.ErrNotFound, Text: fmt.Sprintf("no customer %q was there in that time", customer), Hint: "`accumulus get customers` lists them."}
	}
	name := versions[i].Spec.(fleet.Customer).TimeZone
	if name == "" {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone of customer %s: %w", customer, err)
	}
	return zone, nil
}

// days are the local days of the period, in UTC; they have 23, 24 or 25 hours, or
// whatever the clock of the zone gives them.
func (c Calendar) days() []schema.Window {
	var all []schema.Window
	for at := c.From; at.Before(c.To); {
		year, month, day := at.In(c.Zone).Date()
		end := rating.StartOfDay(year, month, day+1, c.Zone)
		if !end.After(at) { // a zone that skipped a whole day
			end = rating.StartOfDay(year, month, day+2, c.Zone)
		}
		end = schema.Earlier(end, c.To)
		all = append(all, schema.Window{From: at, To: end})
		at = end
	}
	return all
}

// date is a day's local date.
func (c Calendar) date(day schema.Window) string { return day.From.In(c.Zone).Format(time.DateOnly) }

// next and before name the neighbouring periods.
func neighbour(period string, months int) string {
	start, err := time.Parse(monthForm, period)
	if err != nil {
		return ""
	}
	return start.AddDate(0, months, 0).Format(monthForm)
}
