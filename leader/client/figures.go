package client

import (
	"context"
	"net/url"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Energy asks for all pages of an answer about energy.
func (c *Client) Energy(ctx context.Context, values url.Values) (query.EnergyAnswer, error) {
	return allPages(ctx, c, "/api/v1/energy", values, func(a *query.EnergyAnswer) *usage.Figures[usage.EnergyRow] { return &a.Figures })
}

// Heat asks for all pages of an answer about heat.
func (c *Client) Heat(ctx context.Context, values url.Values) (query.HeatAnswer, error) {
	return allPages(ctx, c, "/api/v1/heat", values, func(a *query.HeatAnswer) *usage.Figures[usage.HeatRow] { return &a.Figures.Figures })
}

// Carbon asks for all pages of an answer about CO2e.
func (c *Client) Carbon(ctx context.Context, values url.Values) (query.CarbonAnswer, error) {
	return allPages(ctx, c, "/api/v1/carbon", values, func(a *query.CarbonAnswer) *usage.Figures[usage.CarbonRow] { return &a.Figures.Figures })
}

// allPages asks for the pages after the first, of the very same window.
func allPages[A, R any](ctx context.Context, c *Client, path string, values url.Values, of func(*A) *usage.Figures[R]) (A, error) {
	var all, none A
	if err := c.get(ctx, path, values, &all); err != nil {
		return none, err
	}
	rows := of(&all)
	if values.Get("limit") != "" {
		return all, nil
	}
	values = cloneValues(values)
	values.Set("window", rows.From.Format(time.RFC3339)+","+rows.To.Format(time.RFC3339))
	for rows.Next != "" {
		values.Set("page", rows.Next)
		var page A
		if err := c.get(ctx, path, values, &page); err != nil {
			return none, err
		}
		more := of(&page)
		rows.Rows, rows.Next = append(rows.Rows, more.Rows...), more.Next
	}
	return all, nil
}
