package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/prices"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/gorilla/mux"
)

// Prices answer what is asked about prices: *prices.Desk.
type Prices interface {
	Push(ctx context.Context, series, mediaType string, body []byte) (prices.Pushed, error)
	Ahead(ctx context.Context, hours int, customer string) (prices.Ahead, error)
	Simulate(ctx context.Context, period string, objects []fleet.Object) (prices.Simulation, error)
	History(ctx context.Context, list string) ([]registry.AuditEntry, error)
}

// PriceHistory is the changes of a price list, the newest first.
type PriceHistory struct {
	Items []registry.AuditEntry `json:"items"`
}

// maxAhead bounds how far ahead prices are told, in hours.
const maxAhead = 14 * 24

func (s *Server) pushPrices(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read price slots: %w", err)
	}
	pushed, err := s.deps.Prices.Push(r.Context(), mux.Vars(r)["name"], r.Header.Get("Content-Type"), body)
	switch {
	case errors.Is(err, prices.ErrSlots):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Hint: `Nothing was taken. Send {"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"0.21"}]}, or text/csv with the columns from,to,price; slots are whole quarters of an hour.`}
	case errors.Is(err, prices.ErrSeries):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Hint: "The name is that of dynamic.series in the price list's rates, such as spot-nl."}
	case err != nil:
		return err
	}
	return writeJSON(w, http.StatusOK, pushed)
}

func (s *Server) pricesAhead(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "hours", "customer")
	if err != nil {
		return err
	}
	hours := 24
	if text := values.Get("hours"); text != "" {
		if hours, err = strconv.Atoi(text); err != nil || hours < 1 || hours > maxAhead {
			return &query.InputError{Parameter: "hours", Value: text, Hint: fmt.Sprintf("use a whole number from 1 to %d", maxAhead)}
		}
	}
	ahead, err := s.deps.Prices.Ahead(r.Context(), hours, values.Get("customer"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ahead)
}

func (s *Server) simulatePrices(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "period")
	if err != nil {
		return err
	}
	period := values.Get("period")
	if period == "" {
		return &query.InputError{Parameter: "period", Value: "", Hint: "name a month such as 2026-10, or a window such as lastmonth"}
	}
	objects, err := readObjects(r)
	if err != nil {
		return err
	}
	simulation, err := s.deps.Prices.Simulate(r.Context(), period, objects)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, simulation)
}

func (s *Server) priceHistory(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	entries, err := s.deps.Prices.History(r.Context(), mux.Vars(r)["name"])
	if errors.Is(err, registry.ErrNotFound) {
		return &Hinted{Err: err, Hint: "GET /api/v1/fleet/pricelist lists the price lists.", Command: "`accumulus prices list` lists them."}
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, PriceHistory{Items: entries})
}

// readObjects reads the request's body as objects.
func readObjects(r *http.Request) ([]fleet.Object, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	objects, err := fleet.Decode(text)
	if err != nil {
		return nil, &Hinted{Err: fmt.Errorf("read objects: %w: %w", ErrInvalid, err),
			Hint: "Each document needs apiVersion " + fleet.APIVersion + ", kind, metadata.name and spec; `accumulus get all -o yaml` shows examples."}
	}
	return objects, nil
}
