package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/ahead"
)

type fakeAhead struct{ *leader }

func (fakeAhead) Rates(_ context.Context, q ahead.Question) (ahead.Rates, error) {
	if len(q.Filter) > 0 {
		return ahead.Rates{}, ahead.ErrNothing
	}
	return ahead.Rates{Settled: now, Rows: []ahead.RateRow{{Key: map[string]string{"customer": "acme"}}}}, nil
}

func (fakeAhead) Forecast(_ context.Context, q ahead.Question) (ahead.Forecasts, error) {
	return ahead.Forecasts{Until: q.Until, Rows: []ahead.ForecastRow{}}, nil
}

func (fakeAhead) ForecastJob(_ context.Context, q ahead.JobQuestion) (ahead.JobForecast, error) {
	switch {
	case q.Name == "none":
		return ahead.JobForecast{}, ahead.ErrNotRunning
	case q.Name == "new":
		return ahead.JobForecast{}, ahead.ErrCompletions
	}
	return ahead.JobForecast{Name: q.Name, Completions: q.Completions}, nil
}

func (f fakeAhead) Estimate(_ context.Context, manifest []byte, cluster string, duration time.Duration) (ahead.Estimate, error) {
	if !strings.Contains(string(manifest), "Job") {
		return ahead.Estimate{}, fmt.Errorf("%w: empty", ahead.ErrManifest)
	}
	return ahead.Estimate{Workload: "Job/x", Basis: ahead.ByRuns, Notes: []string{cluster + duration.String()}}, f.did("estimate")
}

func (fakeAhead) Report(_ context.Context, q ahead.ReportQuestion) (ahead.Report, error) {
	if q.Name == "none" {
		return ahead.Report{}, ahead.ErrNoRun
	}
	return ahead.Report{Name: q.Name + q.Group}, nil
}

func TestEstimatesAndReports(t *testing.T) {
	s, _ := newServer(t, false)
	for _, at := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/api/v1/estimate?cluster=a&duration=2h", "kind: Job", 200, "a2h0m0s"},
		{"POST", "/api/v1/estimate?duration=-2h", "kind: Job", 400, "up to a year"},
		{"POST", "/api/v1/estimate", "nothing", 422, "CronJob or Pod"},
		{"GET", "/api/v1/reports/run?name=nightly", "", 200, `"name": "nightly"`},
		{"GET", "/api/v1/reports/run?name=nightly&format=html", "", 200, "<h1>Report of nightly"},
		{"GET", "/api/v1/reports/run?group=a%3Db&format=text", "", 200, "Report of"},
		{"GET", "/api/v1/reports/run?name=x&format=pdf", "", 400, "json, text or html"},
		{"GET", "/api/v1/reports/run?name=none", "", 404, "longer window"},
	} {
		answer := call(s, at.method, at.path, operatorToken, at.body)
		if body := text(t, answer); answer.StatusCode != at.status || !strings.Contains(body, at.want) {
			t.Errorf("%s %s: %d %s, want %d with %s", at.method, at.path, answer.StatusCode, body, at.status, at.want)
		}
	}
	// It is a question, though it has a body: whoever may look may ask it.
	for token, want := range map[string]int{viewerToken: http.StatusOK, tenantToken: http.StatusForbidden, "": http.StatusUnauthorized} {
		if answer := call(s, "POST", "/api/v1/estimate", token, "kind: Job"); answer.StatusCode != want {
			t.Errorf("an estimate: %d, want %d", answer.StatusCode, want)
		}
	}
}

func TestRatesAndForecasts(t *testing.T) {
	s, _ := newServer(t, false)
	for _, at := range []struct {
		path   string
		status int
		want   string
	}{
		{"/api/v1/rates?aggregate=customer", 200, `"costPerHour"`},
		{"/api/v1/rates?window=1h", 400, "this endpoint knows aggregate, filter,"},
		{"/api/v1/rates?namespace=shop", 503, "accumulus status"},
		{"/api/v1/forecast?until=7d&aggregate=customer", 200, `"until": "7d"`},
		{"/api/v1/forecast?until=7d&until=8d", 400, "give it once"},
		{"/api/v1/forecast?amount=500", 400, "such as 500 EUR"},
		{"/api/v1/forecast/job?name=x&completions=8", 200, `"completions": 8`},
		{"/api/v1/forecast/job?name=x&completions=0", 400, "1 to 1000000"},
		{"/api/v1/forecast/job?name=new", 422, "spec.completions"},
		{"/api/v1/forecast/job?name=x&namespace=a%00b", 400, "UTF-8 without control"},
		{"/api/v1/forecast/job?name=x&cluster=%ff", 400, "UTF-8 without control"},
		{"/api/v1/forecast/job?name=none", 404, "accumulus report run"},
		{"/api/v1/recommendations?namespace=shop", 200, `"rows"`},
		{"/api/v1/recommendations?aggregate=pod", 400, "this endpoint knows filter,"},
		{"/api/v1/forecast?aggregate=colour", 400, "use one or more of"},
	} {
		answer := call(s, "GET", at.path, viewerToken, "")
		if body := text(t, answer); answer.StatusCode != at.status || !strings.Contains(body, at.want) {
			t.Errorf("%s: %d %s, want %d with %s", at.path, answer.StatusCode, body, at.status, at.want)
		}
	}
}

func (fakeAhead) States(context.Context) (ahead.BudgetStates, error) {
	return ahead.BudgetStates{Items: []ahead.BudgetState{}}, nil
}

func (fakeAhead) Recommend(context.Context, ahead.Question) (ahead.Recommendations, error) {
	return ahead.Recommendations{Rows: []ahead.Recommendation{}}, nil
}
