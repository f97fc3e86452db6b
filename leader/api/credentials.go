package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/gorilla/mux"
)

// Kubeconfig is how a leader reaches a cluster. It goes in and never comes out.
type Kubeconfig struct {
	// Kubeconfig is YAML or JSON with one context: server, CA, and the token of an
	// account of the leader's own.
	Kubeconfig Secret `json:"kubeconfig"`
	// ClusterID is the UID of the cluster's namespace kube-system, so that later
	// credentials cannot lead to another cluster by mistake.
	ClusterID string `json:"clusterID,omitempty"`
}

// ContextRequest is a context of the kubeconfig that is mounted into the leader.
type ContextRequest struct {
	Context string
	Spec    fleet.Cluster
	Adopt   bool // take over from another leader
}

// Credentials are what the leader needs to reach clusters. Errors: ErrNotFound,
// ErrConflict, ErrInvalid.
type Credentials interface {
	SetCredentials(ctx context.Context, cluster string, given Kubeconfig) error
	DropCredentials(ctx context.Context, cluster string) error
	// RotateToken replaces the token that the follower wants from the leader.
	RotateToken(ctx context.Context, cluster string) error
}

// Contexts are those of the leader's own kubeconfig. AddContext adds a cluster of
// one; ErrNotFound for an unknown one, ErrConflict for a cluster of another leader.
type Contexts interface {
	AddContext(ctx context.Context, cluster string, request ContextRequest) error
}

// setCredentials refuses what came in the clear, so that nobody goes on sending it
// so. Behind an ingress that ends TLS the leader must have been told that plain
// HTTP is all right.
func (s *Server) setCredentials(w http.ResponseWriter, r *http.Request) error {
	if r.TLS == nil && !fromLoopback(r) && (!s.config.Insecure || r.Header.Get("X-Forwarded-Proto") != "https") {
		return &Hinted{Err: fmt.Errorf("credentials came over plain HTTP and were not kept; others may have read them: %w", ErrInvalid),
			Hint: "Revoke them (delete the Secret accumulus-leader-token in the cluster), and use https, or kubectl port-forward."}
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	var given Kubeconfig
	if err := readJSON(r, &given); err != nil {
		return notRead(err)
	}
	name := mux.Vars(r)["name"]
	if err := s.deps.Credentials.SetCredentials(r.Context(), name, given); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{"the leader has credentials of cluster " + name})
}

// notRead is a body that could not be read, without its text: it may be a secret.
func notRead(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return &Hinted{Err: fmt.Errorf("read credentials: the body is no such object: %w", ErrInvalid),
		Hint: `Send {"kubeconfig": "…"}; ` + "`accumulus cluster add NAME --context CONTEXT` does."}
}

func (s *Server) dropCredentials(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	if err := s.deps.Credentials.DropCredentials(r.Context(), name); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{"the leader has no credentials of cluster " + name + " any more"})
}

func (s *Server) rotateToken(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	if err := s.deps.Credentials.RotateToken(r.Context(), name); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Done{"the follower of " + name + " takes a new token; the old one ends within two minutes"})
}

// addByName is the route that has its place in the address only: of a cluster by
// URL as addCluster, else of the context of that name.
func (s *Server) addByName(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "url", "context", "adopt")
	if err != nil {
		return err
	}
	var request ContextRequest
	if err := readJSON(r, &request.Spec); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if url := values.Get("url"); url != "" {
		request.Spec.URL = url
	}
	if request.Spec.URL != "" || s.deps.Contexts == nil {
		return s.add(w, r, request.Spec)
	}
	if request.Adopt, err = usage.ParseFlag(values, "adopt"); err != nil {
		return err
	}
	name := mux.Vars(r)["name"]
	if request.Context = values.Get("context"); request.Context == "" {
		request.Context = name
	}
	if err := s.deps.Contexts.AddContext(r.Context(), name, request); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, Done{"cluster " + name + " was added; GET /api/v1/clusters/" + name + "/installation tells how its follower comes up"})
}
