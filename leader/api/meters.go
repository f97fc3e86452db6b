package api

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"

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

func (s *Server) meters(w http.ResponseWriter, _ *http.Request) error {
	list := s.deps.Meters.Status()
	if list == nil {
		list = []meters.Status{}
	}
	return writeJSON(w, http.StatusOK, MeterList{list})
}

// push takes readings. What was refused is no error of the request: the answer
// says it for each.
func (s *Server) push(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["id"]
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
