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

// ForecastJob is when a Job that runs will be done.
func (c *Client) ForecastJob(ctx context.Context, values url.Values) (ahead.JobForecast, error) {
	return read[ahead.JobForecast](ctx, c, http.MethodGet, "/api/v1/forecast/job", values, nil)
}

// Estimate is what a run of the manifest's job is expected to take and cost.
func (c *Client) Estimate(ctx context.Context, manifest []byte, values url.Values) (ahead.Estimate, error) {
	return read[ahead.Estimate](ctx, c, http.MethodPost, "/api/v1/estimate", values, manifest)
}

// RunReport is what finished runs used and cost.
func (c *Client) RunReport(ctx context.Context, values url.Values) (ahead.Report, error) {
	return read[ahead.Report](ctx, c, http.MethodGet, "/api/v1/reports/run", values, nil)
}

// Budgets are how all budgets stand.
func (c *Client) Budgets(ctx context.Context) (ahead.BudgetStates, error) {
	return read[ahead.BudgetStates](ctx, c, http.MethodGet, "/api/v1/budgets", nil, nil)
}

// Recommendations are requests that fit what workloads used.
func (c *Client) Recommendations(ctx context.Context, values url.Values) (ahead.Recommendations, error) {
	return read[ahead.Recommendations](ctx, c, http.MethodGet, "/api/v1/recommendations", values, nil)
}
