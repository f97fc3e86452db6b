package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/accumulus-metering/accumulus/leader/ahead"
)

// Ahead answers what is asked about rates and forecasts: *ahead.Desk.
type Ahead interface {
	Rates(ctx context.Context, q ahead.Question) (ahead.Rates, error)
	Forecast(ctx context.Context, q ahead.Question) (ahead.Forecasts, error)
}

// early turns a leader without data into a problem that says what to do.
func early(err error) error {
	if errors.Is(err, ahead.ErrNothing) {
		return &Hinted{Err: errors.Join(ErrNotReady, err), Hint: "`accumulus status` says how far the clusters are."}
	}
	return err
}

func (s *Server) rates(w http.ResponseWriter, r *http.Request) error {
	q, err := ahead.ParseQuestion(r.URL.RawQuery, false)
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
	q, err := ahead.ParseQuestion(r.URL.RawQuery, true)
	if err != nil {
		return err
	}
	forecasts, err := s.deps.Ahead.Forecast(r.Context(), q)
	if err != nil {
		return early(err)
	}
	return writeJSON(w, http.StatusOK, forecasts)
}
