package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/accumulus-metering/accumulus/leader/carbon"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/heat"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/gorilla/mux"
)

// HeatReceiver takes readings of heat sources: *heat.Receiver.
type HeatReceiver interface {
	Receive(ctx context.Context, source, mediaType string, body []byte) (heat.Receipt, error)
	// Allowed says whether the token is that source's own.
	Allowed(ctx context.Context, source, token string) bool
}

// Intensities keep what is imported of grids: *registry.Registry.
type Intensities interface {
	PutIntensities(ctx context.Context, source, zone string, list []registry.Intensity) (int, error)
}

// Imported is what an import of intensities did.
type Imported struct {
	Zones []ImportedZone `json:"zones"`
}

// ImportedZone is one zone of an import.
type ImportedZone struct {
	Zone    string `json:"zone"`
	Values  int    `json:"values"`
	Changed int    `json:"changed"` // new, or another than before: carbon of that time is computed again
	// Unused: no Grid takes imported values of this zone.
	Unused bool `json:"unused,omitempty"`
}

// heatReadings is where a device pushes readings, with a token that opens nothing
// else.
const heatReadings = "/api/v1/heat/{source}/readings"

// ownsSource lets in who pushes readings of a heat source with its own token.
func (s *Server) ownsSource(route Route, r *http.Request) bool {
	if route.Path != heatReadings || r.Method != http.MethodPost {
		return false
	}
	token := bearer(r)
	return token != "" && s.deps.Heat.Allowed(r.Context(), mux.Vars(r)["source"], token)
}

func (s *Server) pushHeat(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read readings: %w", err)
	}
	receipt, err := s.deps.Heat.Receive(r.Context(), mux.Vars(r)["source"], r.Header.Get("Content-Type"), body)
	switch {
	case errors.Is(err, heat.ErrNoSource):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrNotFound, err), Hint: "`accumulus get heatsource` lists them; docs/heat.md shows how one is described."}
	case errors.Is(err, heat.ErrReadings):
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Hint: "Nothing was taken. docs/heat.md shows the forms in JSON and CSV."}
	case err != nil:
		return err
	}
	return writeJSON(w, http.StatusOK, receipt)
}

func (s *Server) importIntensities(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read intensities: %w", err)
	}
	found, err := carbon.ParseCSV(body)
	if err == nil && len(found) == 0 {
		err = errors.New("there is no value in it")
	}
	if err != nil {
		return &Hinted{Err: fmt.Errorf("read intensities: %w: %w", ErrInvalid, err),
			Hint: "Nothing was imported. The columns are zone, from, grams_per_kwh, and to, estimated, source where they are known; docs/carbon.md has an example."}
	}
	objects, err := s.deps.Objects.Objects(r.Context())
	if err != nil {
		return err
	}
	used := make(map[string]bool)
	for _, o := range objects {
		if grid, ok := o.Spec.(fleet.Grid); ok && grid.Source == fleet.GridImported {
			used[grid.Zone] = true
		}
	}
	answer := Imported{}
	for _, zone := range slices.Sorted(maps.Keys(found)) {
		changed, err := s.deps.Intensities.PutIntensities(r.Context(), fleet.GridImported, zone, found[zone])
		if err != nil {
			return err
		}
		answer.Zones = append(answer.Zones, ImportedZone{Zone: zone, Values: len(found[zone]), Changed: changed, Unused: !used[zone]})
	}
	return writeJSON(w, http.StatusOK, answer)
}
