package api

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/gorilla/mux"
)

// Meters are the electricity meters: *meters.Loop.
type Meters interface {
	Status() []meters.Status
	Push(ctx context.Context, meter string, sent []meters.Sent) ([]meters.Verdict, error)
}

// MeterList is how each meter is read.
type MeterList struct {
	Meters []meters.Status `json:"meters"`
}

// Pushed says what became of readings that were sent, in their order.
type Pushed struct {
	Counted   int              `json:"counted"`
	Refused   int              `json:"refused"`
	Duplicate int              `json:"duplicate"`
	Readings  []meters.Verdict `json:"readings"`
}

func (s *Server) meters(w http.ResponseWriter, r *http.Request) error {
	list := []meters.Status{}
	for _, status := range s.deps.Meters.Status() {
		own, err := s.sendable(r, status.Meter)
		if err != nil {
			return err
		}
		if own {
			list = append(list, status)
		}
	}
	return writeJSON(w, http.StatusOK, MeterList{list})
}

// sendable says whether the caller may have to do with a meter: the role Feeder
// only with those whose readings are sent.
func (s *Server) sendable(r *http.Request, meter string) (bool, error) {
	if identity.Of(r.Context()).Role != Feeder {
		return true, nil
	}
	objects, err := s.deps.Objects.Objects(r.Context())
	return slices.ContainsFunc(objects, func(o fleet.Object) bool {
		m, ok := o.Spec.(fleet.Meter)
		return ok && o.Name() == meter && m.Driver == fleet.DriverPush
	}), err
}

// push takes readings. What was refused is no error of the request: the answer
// says it for each.
func (s *Server) push(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["id"]
	if own, err := s.sendable(r, name); err != nil {
		return err
	} else if !own {
		return &Hinted{Err: fmt.Errorf("meter %q, with the driver %s: %w", name, fleet.DriverPush, ErrNotFound),
			Hint: "The token of the meters is for those whose readings are sent; apply a Meter of that name with driver: push."}
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return fmt.Errorf("content type: %w: %w", ErrInvalid, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	sent, err := meters.ParseReadings(mediaType, body, s.deps.Clock.Now())
	if err != nil {
		return &Hinted{Err: fmt.Errorf("readings of meter %s: %w: %w", name, ErrInvalid, err),
			Hint: "Nothing was taken. docs/meters.md shows the three forms; a large history goes in several requests of up to 4 MiB."}
	}
	verdicts, err := s.deps.Meters.Push(r.Context(), name, sent)
	if err != nil {
		return err
	}
	answer := Pushed{Readings: verdicts}
	for _, v := range verdicts {
		switch v.Result {
		case meters.ResultCounted:
			answer.Counted++
		case meters.ResultDuplicate:
			answer.Duplicate++
		default:
			answer.Refused++
		}
	}
	return writeJSON(w, http.StatusOK, answer)
}
