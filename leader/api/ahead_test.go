package api

import (
	"context"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/ahead"
)

type fakeAhead struct{}

func (fakeAhead) Rates(_ context.Context, q ahead.Question) (ahead.Rates, error) {
	if len(q.Filter) > 0 {
		return ahead.Rates{}, ahead.ErrNothing
	}
	return ahead.Rates{Settled: now, Rows: []ahead.RateRow{{Key: map[string]string{"customer": "acme"}}}}, nil
}

func (fakeAhead) Forecast(_ context.Context, q ahead.Question) (ahead.Forecasts, error) {
	return ahead.Forecasts{Until: q.Until, Rows: []ahead.ForecastRow{}}, nil
}

func TestRatesAndForecasts(t *testing.T) {
	s, _ := newServer(t, false)
	for _, at := range []struct {
		path   string
		status int
		want   string
	}{
		{"/api/v1/rates?aggregate=customer", 200, `"costPerHour"`},
		{"/api/v1/rates?window=1h", 400, "rates and forecasts know"},
		{"/api/v1/rates?namespace=shop", 503, "accumulus status"},
		{"/api/v1/forecast?until=7d&aggregate=customer", 200, `"until": "7d"`},
		{"/api/v1/forecast?until=7d&until=8d", 400, "give it once"},
		{"/api/v1/forecast?aggregate=colour", 400, "use one or more of"},
	} {
		answer := call(s, "GET", at.path, viewerToken, "")
		if body := text(t, answer); answer.StatusCode != at.status || !strings.Contains(body, at.want) {
			t.Errorf("%s: %d %s, want %d with %s", at.path, answer.StatusCode, body, at.status, at.want)
		}
	}
}
