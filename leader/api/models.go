package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Models are the power models of hardware types: *models.Keeper.
type Models interface {
	Answer(ctx context.Context) (models.Answer, error)
	Measure(ctx context.Context, node string, w schema.Window) (models.Measured, error)
	Calibrate(ctx context.Context, c registry.Calibration, since time.Time) (models.Changed, error)
}

// CalibrationRequest is a calibration that was measured.
type CalibrationRequest struct {
	registry.Calibration
	// Since lets the model hold from a moment in the past; the quarters since are
	// computed again. Without it, it holds from the next minute on.
	Since time.Time `json:"since,omitzero"`
}

func (s *Server) models(w http.ResponseWriter, r *http.Request) error {
	answer, err := s.deps.Models.Answer(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// measure is a node's power by the meters over a window of the past.
func (s *Server) measure(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "node", "from", "to")
	if err != nil {
		return err
	}
	var window schema.Window
	for name, into := range map[string]*time.Time{"from": &window.From, "to": &window.To} {
		if *into, err = time.Parse(time.RFC3339, values.Get(name)); err != nil {
			return &Hinted{Err: fmt.Errorf("%s %q: %w", name, values.Get(name), ErrInvalid), Hint: "A time such as 2026-11-23T10:00:00Z."}
		}
	}
	if length := window.Length(); length <= 0 || length > 24*time.Hour {
		return fmt.Errorf("from and to are %s apart, not up to a day: %w", length, ErrInvalid)
	}
	answer, err := s.deps.Models.Measure(r.Context(), values.Get("node"), window)
	switch {
	case errors.Is(err, models.ErrNode):
		return &Hinted{Err: fmt.Errorf("%w: %w", err, ErrNotFound), Hint: "GET /api/v1/fleet/Node lists the nodes; CLUSTER/NODE is a name too."}
	case errors.Is(err, models.ErrNoPart):
		return fmt.Errorf("%w: %w", err, ErrConflict)
	case err != nil:
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) calibrate(w http.ResponseWriter, r *http.Request) error {
	var request CalibrationRequest
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return &Hinted{Err: fmt.Errorf("read calibration: %w: %w", ErrInvalid, err),
			Hint: `Such as {"cluster":"ams-03","node":"n1","points":[{"load":0,"utilisation":0,"watts":62.5},{"load":100,"utilisation":1,"watts":231}]}.`}
	}
	request.By = caller(r)
	changed, err := s.deps.Models.Calibrate(r.Context(), request.Calibration, request.Since)
	if errors.Is(err, models.ErrCalibration) {
		return fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, changed)
}
