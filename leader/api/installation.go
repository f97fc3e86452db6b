package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/installer"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/gorilla/mux"
)

// Installations are the followers' in their clusters: *installer.Installer.
type Installations interface {
	Installation(ctx context.Context, cluster string) (registry.Installation, error)
	Upgrade(ctx context.Context, cluster string, asked installer.Change) (registry.Installation, error)
}

// Upgrades are those of many clusters: *installer.Installer.
type Upgrades interface {
	Upgrades(ctx context.Context) ([]registry.Upgrade, error)
	StartUpgrade(ctx context.Context, plan registry.UpgradePlan, by string) (registry.Upgrade, error)
	StopUpgrade(ctx context.Context, id int64, by string) (registry.Upgrade, error)
	ResumeUpgrade(ctx context.Context, id int64) (registry.Upgrade, error)
}

// UpgradeRequest is what an upgrade of one cluster may be told.
type UpgradeRequest struct {
	Version string         `json:"version,omitempty"` // of the chart; "" is the leader's own
	Adopt   bool           `json:"adopt,omitempty"`   // take over what somebody else installed
	Values  map[string]any `json:"values,omitzero"`   // over those that every cluster gets; none keeps what was given before, {} drops it
}

// UpgradeList are upgrades, the newest first.
type UpgradeList struct {
	Upgrades []registry.Upgrade `json:"upgrades"`
}

// installProblem gives the installer's errors the API's own.
func installProblem(err error, cluster string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, installer.ErrNotManaged):
		return &Hinted{Err: fmt.Errorf("cluster %s: %w: %w", cluster, err, ErrConflict),
			Hint: "The leader installs into clusters with via: service-proxy and without manage: gitops."}
	case errors.Is(err, installer.ErrVersion):
		return &Hinted{Err: fmt.Errorf("%w: %w", err, ErrInvalid), Hint: "Leave the version out: a leader has the chart of its own version. For another one, run that leader."}
	case errors.Is(err, installer.ErrRunning):
		return &Hinted{Err: fmt.Errorf("%w: %w", err, ErrConflict), Hint: "GET /api/v1/upgrades shows it; POST /api/v1/upgrades/ID/stop stops it."}
	case errors.Is(err, installer.ErrPlan):
		return &Hinted{Err: fmt.Errorf("%w: %w", err, ErrInvalid), Hint: `Such as {"canaries": 2, "waveSize": 10, "soak": "1h", "maxFailures": 1}.`}
	case errors.Is(err, helm.ErrValues):
		return &Hinted{Err: fmt.Errorf("%w: %w", err, ErrInvalid), Hint: "The values are those of the follower's chart, deploy/charts/follower/values.yaml."}
	case errors.Is(err, registry.ErrNotFound) && cluster != "":
		return &Hinted{Err: fmt.Errorf("the leader has no installation in cluster %s: %w", cluster, ErrNotFound),
			Hint: "It is reached by its url, and installed by somebody else; or it was just added, and is looked at in a moment."}
	}
	return err
}

// notInstalled is installProblem, which tells a cluster that the leader does not
// know from one that it installs nothing in.
func (s *Server) notInstalled(r *http.Request, err error, cluster string) error {
	if errors.Is(err, registry.ErrNotFound) {
		if known, failed := s.knows(r, cluster); failed == nil && !known {
			return NoCluster(cluster)
		}
	}
	return installProblem(err, cluster)
}

func (s *Server) installation(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	one, err := s.deps.Installations.Installation(r.Context(), name)
	if err != nil {
		return s.notInstalled(r, err, name)
	}
	return writeJSON(w, http.StatusOK, one)
}

func (s *Server) upgradeCluster(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "version", "adopt")
	if err != nil {
		return err
	}
	asked := UpgradeRequest{Version: values.Get("version")}
	if asked.Adopt, err = usage.ParseFlag(values, "adopt"); err != nil {
		return err
	}
	switch err := readJSON(r, &asked); {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case err == nil && len(values) > 0:
		return &query.InputError{Parameter: "parameters", Value: r.URL.RawQuery, Hint: "say it in the body or in the parameters, not in both"}
	}
	name := mux.Vars(r)["name"]
	one, err := s.deps.Installations.Upgrade(r.Context(), name, installer.Change{Version: asked.Version, Adopt: asked.Adopt, Values: asked.Values})
	if err != nil {
		return s.notInstalled(r, err, name)
	}
	return writeJSON(w, http.StatusAccepted, one)
}

func (s *Server) upgrades(w http.ResponseWriter, r *http.Request) error {
	all, err := s.deps.Upgrades.Upgrades(r.Context())
	if err != nil {
		return err
	}
	if all == nil {
		all = []registry.Upgrade{}
	}
	return writeJSON(w, http.StatusOK, UpgradeList{all})
}

func (s *Server) startUpgrade(w http.ResponseWriter, r *http.Request) error {
	var plan registry.UpgradePlan
	if err := readJSON(r, &plan); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	u, err := s.deps.Upgrades.StartUpgrade(r.Context(), plan, caller(r))
	if err != nil {
		return installProblem(err, "")
	}
	return writeJSON(w, http.StatusAccepted, u)
}

func (s *Server) stopUpgrade(w http.ResponseWriter, r *http.Request) error {
	return s.changeUpgrade(w, r, func(ctx context.Context, id int64) (registry.Upgrade, error) {
		return s.deps.Upgrades.StopUpgrade(ctx, id, caller(r))
	})
}

func (s *Server) resumeUpgrade(w http.ResponseWriter, r *http.Request) error {
	return s.changeUpgrade(w, r, s.deps.Upgrades.ResumeUpgrade)
}

func (s *Server) changeUpgrade(w http.ResponseWriter, r *http.Request, change func(context.Context, int64) (registry.Upgrade, error)) error {
	text := mux.Vars(r)["id"]
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return &query.InputError{Parameter: "id", Value: text, Hint: "use the id that GET /api/v1/upgrades shows"}
	}
	u, err := change(r.Context(), id)
	if err != nil {
		return installProblem(err, "")
	}
	return writeJSON(w, http.StatusAccepted, u)
}
