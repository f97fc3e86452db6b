package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/ahead"
)

// Ahead answers what is asked about rates and forecasts: *ahead.Desk.
type Ahead interface {
	Rates(ctx context.Context, q ahead.Question) (ahead.Rates, error)
	Forecast(ctx context.Context, q ahead.Question) (ahead.Forecasts, error)
	ForecastJob(ctx context.Context, q ahead.JobQuestion) (ahead.JobForecast, error)
	Estimate(ctx context.Context, manifest []byte, cluster string, duration time.Duration) (ahead.Estimate, error)
	Report(ctx context.Context, q ahead.ReportQuestion) (ahead.Report, error)
	Recommend(ctx context.Context, q ahead.Question) (ahead.Recommendations, error)
}

// Budgets say how budgets stand: *ahead.Budgeter.
type Budgets interface {
	States(ctx context.Context) (ahead.BudgetStates, error)
}

// early turns a leader without data into a problem that says what to do.
func early(err error) error {
	if errors.Is(err, ahead.ErrNothing) {
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrNotReady, err), Hint: "`accumulus status` says how far the clusters are."}
	}
	switch {
	case errors.Is(err, ahead.ErrNoRun):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrNotFound, err), Hint: "Name a pod, Job or CronJob, or ask for a longer window; `accumulus usage -a namespace,workload,pod` lists what ran."}
	case errors.Is(err, ahead.ErrNotRunning):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrNotFound, err), Hint: "Name a Job that runs, as `kubectl get jobs` does; one that has ended has a report: `accumulus report run NAME`."}
	case errors.Is(err, ahead.ErrCompletions):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Hint: "Say it as completions, spec.completions of the Job (1 where it has none)."}
	case errors.Is(err, ahead.ErrManifest):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Hint: "Send the YAML or JSON of one Job, CronJob or Pod with metadata.name, as kubectl apply takes it."}
	}
	return err
}

func (s *Server) rates(w http.ResponseWriter, r *http.Request) error {
	q, err := ahead.ParseQuestion(r.URL.RawQuery, ahead.RatesParameters)
	if err != nil {
		return err
	}
	rates, err := s.deps.Ahead.Rates(r.Context(), q)
	if err != nil {
		return early(err)
	}
	return writeJSON(w, http.StatusOK, rates)
}

func (s *Server) forecast(w http.ResponseWriter, r *http.Request) error {
	q, err := ahead.ParseQuestion(r.URL.RawQuery, ahead.ForecastParameters)
	if err != nil {
		return err
	}
	forecasts, err := s.deps.Ahead.Forecast(r.Context(), q)
	if err != nil {
		return early(err)
	}
	return writeJSON(w, http.StatusOK, forecasts)
}

// mostCompletions bounds how many pods of a Job are drawn.
const mostCompletions = 1_000_000

func (s *Server) forecastJob(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "name", "namespace", "cluster", "completions")
	if err != nil {
		return err
	}
	for _, name := range []string{"name", "namespace", "cluster"} {
		if text := values.Get(name); !usage.IsText(text) {
			return usage.Wrong(name, text, "it has bytes that no name has: send UTF-8 without control characters")
		}
	}
	q := ahead.JobQuestion{Name: values.Get("name"), Namespace: values.Get("namespace"), Cluster: values.Get("cluster")}
	if text := values.Get("completions"); text != "" {
		if q.Completions, err = strconv.Atoi(text); err != nil || q.Completions < 1 || q.Completions > mostCompletions {
			return usage.Wrong("completions", text, "how many pods must succeed: 1 to 1000000")
		}
	}
	f, err := s.deps.Ahead.ForecastJob(r.Context(), q)
	if err != nil {
		return early(err)
	}
	return writeJSON(w, http.StatusOK, f)
}

// maxDuration bounds how long a job may be said to take.
const maxDuration = 366 * 24 * time.Hour

func (s *Server) estimate(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "cluster", "duration")
	if err != nil {
		return err
	}
	duration := time.Duration(0)
	if text := values.Get("duration"); text != "" {
		if duration, err = time.ParseDuration(text); err != nil || duration <= 0 || duration > maxDuration {
			return usage.Wrong("duration", text, "use a length such as 90m or 2h, up to a year")
		}
	}
	manifest, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	estimate, err := s.deps.Ahead.Estimate(r.Context(), manifest, values.Get("cluster"), duration)
	if err != nil {
		return early(err)
	}
	return writeJSON(w, http.StatusOK, estimate)
}

func (s *Server) runReport(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "name", "group", "namespace", "cluster", "window", "format")
	if err != nil {
		return err
	}
	format := values.Get("format")
	if format != "" && format != "json" && format != "text" && format != "html" {
		return usage.Wrong("format", format, "use json, text or html")
	}
	report, err := s.deps.Ahead.Report(r.Context(), ahead.ReportQuestion{Name: values.Get("name"), Group: values.Get("group"),
		Namespace: values.Get("namespace"), Cluster: values.Get("cluster"), Window: values.Get("window")})
	if err != nil {
		return early(err)
	}
	switch format {
	case "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		return report.WriteText(w)
	case "html":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		return report.WriteHTML(w)
	}
	return writeJSON(w, http.StatusOK, report)
}

func (s *Server) budgetStates(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	states, err := s.deps.Budgets.States(r.Context())
	if err != nil {
		return early(err)
	}
	return writeJSON(w, http.StatusOK, states)
}

func (s *Server) recommendations(w http.ResponseWriter, r *http.Request) error {
	q, err := ahead.ParseQuestion(r.URL.RawQuery, ahead.RecommendParameters)
	if err != nil {
		return err
	}
	answer, err := s.deps.Ahead.Recommend(r.Context(), q)
	if err != nil {
		return early(err)
	}
	return writeJSON(w, http.StatusOK, answer)
}
