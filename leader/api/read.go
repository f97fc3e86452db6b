package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// RouteInfo is a route as the index lists it.
type RouteInfo struct {
	Method  string `json:"method"`
	Path    string `json:"path"`
	Role    string `json:"role"`
	Summary string `json:"summary"`
}

// Index is the list of routes.
type Index struct {
	Version string      `json:"version"`
	Routes  []RouteInfo `json:"routes"`
}

// ClusterList are the clusters at a moment.
type ClusterList struct {
	Now      time.Time        `json:"now"`
	Clusters []status.Cluster `json:"clusters"`
}

func (s *Server) index(w http.ResponseWriter, r *http.Request) error {
	list := make([]RouteInfo, 0, len(s.routes))
	role := identity.Of(r.Context()).Role
	for _, route := range s.routes {
		if role == Tenant && !route.Role.Admits(role) {
			continue
		}
		list = append(list, RouteInfo{route.Method, route.Path, route.Role.String(), route.Summary})
	}
	return writeJSON(w, http.StatusOK, Index{s.config.Version, list})
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	return writeText(w, "ok\n")
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) error {
	if err := s.deps.Health.Live(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return writeText(w, "ok\n")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	if err := s.deps.Health.Ready(); err != nil {
		return &Hinted{Err: fmt.Errorf("%w: %w", ErrNotReady, err), Hint: "`accumulus status` says what is missing."}
	}
	return writeText(w, "ok\n")
}

func writeText(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(text)) // the caller is gone: nobody is left to tell
	return nil
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	promhttp.HandlerFor(s.deps.Metrics, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	return nil
}

func (s *Server) overview(w http.ResponseWriter, r *http.Request) error {
	overview, err := s.deps.Overview.Overview(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, overview)
}

func (s *Server) clusters(w http.ResponseWriter, r *http.Request) error {
	overview, err := s.deps.Overview.Overview(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ClusterList{overview.Now, overview.Clusters})
}

func (s *Server) cluster(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	overview, err := s.deps.Overview.Overview(r.Context())
	if err != nil {
		return err
	}
	for _, cluster := range overview.Clusters {
		if cluster.Name == name {
			return writeJSON(w, http.StatusOK, cluster)
		}
	}
	return NoCluster(name)
}

// NoCluster is the error of a cluster that the leader does not know, ErrNotFound.
func NoCluster(name string) error {
	return &Hinted{Err: fmt.Errorf("cluster %q: %w", name, ErrNotFound), Hint: "GET /api/v1/clusters lists the clusters.",
		Command: "`accumulus cluster list` shows the clusters."}
}

func (s *Server) completeness(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["name"]
	values, err := parameters(r, "window")
	if err != nil {
		return err
	}
	if known, err := s.knows(r, name); err != nil || !known {
		if err == nil {
			err = NoCluster(name)
		}
		return err
	}
	answer, err := s.deps.Answers.Completeness(r.Context(), name, values.Get("window"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// knows says whether a cluster of that name is or was in the fleet.
func (s *Server) knows(r *http.Request, cluster string) (bool, error) {
	objects, err := s.deps.Objects.Objects(r.Context())
	return slices.ContainsFunc(objects, func(o fleet.Object) bool {
		return o.Kind == fleet.KindCluster && o.Name() == cluster
	}), err
}

// parameters are the query's values; see usage.ParseParameters.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	return usage.ParseParameters(r.URL.RawQuery, known...)
}

func (s *Server) usage(w http.ResponseWriter, r *http.Request) error {
	request, err := usage.ParseRequest(r.URL.RawQuery)
	if err != nil {
		return err
	}
	answer, err := s.deps.Answers.Usage(r.Context(), request)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) boxes(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "window")
	if err != nil {
		return err
	}
	answer, err := s.deps.Answers.Boxes(r.Context(), values.Get("window"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "period", "format", "requireComplete", "focusVersion", "compression", "customer", "step", "labels")
	if err != nil {
		return err
	}
	format := values.Get("format")
	if format == FormatFocus || format == FormatOpenCost {
		return s.exportFiles(w, r, values)
	}
	if format != "" && format != "csv" && format != "json" {
		return &query.InputError{Parameter: "format", Value: format, Hint: "use csv, json, focus or opencost-csv"}
	}
	for _, name := range []string{"focusVersion", "compression", "customer", "step", "labels"} {
		if values.Has(name) {
			return &query.InputError{Parameter: name, Value: values.Get(name), Hint: "it goes with format=focus or format=opencost-csv"}
		}
	}
	require, err := usage.ParseFlag(values, "requireComplete")
	if err != nil {
		return err
	}
	export, err := s.deps.Answers.Export(r.Context(), query.ExportRequest{Period: values.Get("period"), RequireComplete: require})
	if err != nil {
		return err
	}
	if format != "csv" {
		return writeJSON(w, http.StatusOK, export)
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="accumulus-`+fileSafe(export.Period)+`.csv"`)
	return export.WriteCSV(w)
}

// fileSafe keeps what is harmless in a file's name.
func fileSafe(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' {
			return r
		}
		return '-'
	}, text)
}

// atOf reads the parameter at, "" for the present.
func (s *Server) atOf(values url.Values) (time.Time, error) {
	text := values.Get("at")
	if text == "" {
		return s.deps.Clock.Now(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &query.InputError{Parameter: "at", Value: text, Hint: "use RFC 3339, for example 2026-11-01T00:00:00Z"}
	}
	return at, nil
}
