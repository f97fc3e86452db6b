package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/accumulus-metering/accumulus/leader/ahead"
)

// Rates are what is used and spent by the hour now.
func (c *Client) Rates(ctx context.Context, values url.Values) (ahead.Rates, error) {
	return read[ahead.Rates](ctx, c, http.MethodGet, "/api/v1/rates", values, nil)
}

// Forecast is what will have been used and spent by a moment ahead.
func (c *Client) Forecast(ctx context.Context, values url.Values) (ahead.Forecasts, error) {
	return read[ahead.Forecasts](ctx, c, http.MethodGet, "/api/v1/forecast", values, nil)
}
