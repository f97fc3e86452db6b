package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/gorilla/mux"
)

// Done is the answer to a change.
type Done struct {
	Done string `json:"done"`
}

// ClearRequest says what to delete, and says it twice.
type ClearRequest struct {
	Cluster string `json:"cluster,omitempty"` // "" is all
	Confirm string `json:"confirm"`           // the cluster's name again, or "all"
}

func (s *Server) start(w http.ResponseWriter, r *http.Request) error {
	if err := s.deps.Loops.StartLoops(r.Context()); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{"loops run"})
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) error {
	if err := s.deps.Loops.StopLoops(r.Context()); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{"loops are stopped; followers go on metering"})
}

// addCluster takes the spec as the body, or only the URL as the parameter url.
func (s *Server) addCluster(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "url")
	if err != nil {
		return err
	}
	var spec fleet.Cluster
	if err := readJSON(r, &spec); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if url := values.Get("url"); url != "" {
		spec.URL = url
	}
	return s.add(w, r, spec)
}

func (s *Server) add(w http.ResponseWriter, r *http.Request, spec fleet.Cluster) error {
	if spec.URL == "" && spec.Via == "" {
		return &Hinted{Err: fmt.Errorf("add cluster: no url: %w", ErrInvalid),
			Hint:    `Say where its follower is: {"url": "https://…:8081"} as the body, or url=… as a parameter; or {"via": "service-proxy"} for one that is reached through its API server. The context of a kubeconfig is taken where the leader has one (--kubeconfig).`,
			Command: "Say where its follower is with --url, or reach its API server with --context."}
	}
	name := mux.Vars(r)["name"]
	if err := s.deps.Clusters.AddCluster(r.Context(), name, spec); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, Done{"cluster " + name + " was added"})
}

func (s *Server) removeCluster(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	values, err := parameters(r, "force")
	if err != nil {
		return err
	}
	force, err := usage.ParseFlag(values, "force")
	if err != nil {
		return err
	}
	if err := s.deps.Clusters.RemoveCluster(r.Context(), name, force); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{"cluster " + name + " was removed; its history is kept"})
}

func (s *Server) clear(w http.ResponseWriter, r *http.Request) error {
	var request ClearRequest
	if err := readJSON(r, &request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	wanted := request.Cluster
	if wanted == "" {
		wanted = "all"
	}
	if request.Confirm != wanted {
		return &Hinted{Err: fmt.Errorf("clear %s: not confirmed, nothing was deleted: %w", wanted, ErrInvalid),
			Hint: `This deletes what was metered. Send {"cluster": "NAME", "confirm": "NAME"}, or {"confirm": "all"} for every cluster.`}
	}
	if err := s.deps.Eraser.Clear(r.Context(), request.Cluster); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{wanted + " was cleared"})
}

// readJSON reads one JSON value and refuses unknown fields. An empty body is
// io.EOF.
func readJSON(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		return err
	}
	if _, more := decoder.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("something follows the object")
	}
	if err == nil {
		return nil
	}
	return &Hinted{Err: fmt.Errorf("read body: %w: %w", ErrInvalid, err), Hint: "Send one JSON object."}
}

// noBody refuses a body where all is said in the parameters.
func noBody(r *http.Request) error {
	switch n, err := io.ReadFull(r.Body, make([]byte, 1)); {
	case n > 0:
		return &query.InputError{Parameter: "body", Value: "…", Hint: "say it in parameters, such as ?window=24h&table=pod&repair=true: this endpoint reads no body"}
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("read body: %w", err)
	}
	return nil
}
