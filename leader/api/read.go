package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
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

func (s *Server) index(w http.ResponseWriter, _ *http.Request) error {
	list := make([]RouteInfo, 0, len(s.routes))
	for _, route := range s.routes {
		list = append(list, RouteInfo{route.Method, route.Path, route.Role.String(), route.Summary})
	}
	return writeJSON(w, http.StatusOK, map[string]any{"version": s.config.Version, "routes": list})
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
	return writeJSON(w, http.StatusOK, map[string]any{"now": overview.Now, "clusters": overview.Clusters})
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
	return noCluster(name)
}

func noCluster(name string) error {
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
			err = noCluster(name)
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

// parameters are the query's values; an unknown name is an error, for a typing
// mistake in a filter would silently give more than was asked for.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &query.InputError{Parameter: "query", Value: r.URL.RawQuery, Hint: "it is not URL-encoded"}
	}
	for name := range values {
		if !slices.Contains(known, name) {
			return nil, &query.InputError{Parameter: "parameter", Value: name, Hint: "this endpoint knows " + strings.Join(known, ", ")}
		}
	}
	return values, once(values, known...)
}

// once refuses a parameter that is given twice: which of the two was meant
// nobody knows.
func once(values url.Values, names ...string) error {
	for _, name := range names {
		if len(values[name]) > 1 {
			return &query.InputError{Parameter: name, Value: strings.Join(values[name], " "), Hint: "give it once"}
		}
	}
	return nil
}

// flag reads true or false, "" for false; anything else is an error, for a
// dryRun=yes that is not understood must not change anything.
func flag(values url.Values, name string) (bool, error) {
	switch text := values.Get(name); text {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, &query.InputError{Parameter: name, Value: text, Hint: "use true or false"}
	}
}

func (s *Server) usage(w http.ResponseWriter, r *http.Request) error {
	request, err := usageRequest(r)
	if err != nil {
		return err
	}
	answer, err := s.deps.Answers.Usage(r.Context(), request)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// usageRequest reads the question. A filter is filter=key=value, as often as
// wanted, or the key itself as a parameter: namespace=shop.
func usageRequest(r *http.Request) (query.Request, error) {
	known := []string{"window", "aggregate", "filter", "step", "sort", "limit", "page", "completeness"}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query.Request{}, &query.InputError{Parameter: "query", Value: r.URL.RawQuery, Hint: "it is not URL-encoded"}
	}
	if err := once(values, "window", "step", "sort", "limit", "page", "completeness"); err != nil {
		return query.Request{}, err
	}
	request := query.Request{Window: values.Get("window"), Sort: values.Get("sort"), Page: values.Get("page")}
	if request.Aggregate, err = query.ParseKeys(strings.Join(values["aggregate"], ",")); err != nil {
		return query.Request{}, err
	}
	if request.Step, err = query.ParseStep(values.Get("step")); err != nil {
		return query.Request{}, err
	}
	if request.Completeness, err = flag(values, "completeness"); err != nil {
		return query.Request{}, err
	}
	if text := values.Get("limit"); text != "" {
		if request.Limit, err = strconv.Atoi(text); err != nil || request.Limit < 1 || request.Limit > 100_000 {
			return query.Request{}, &query.InputError{Parameter: "limit", Value: text, Hint: "use a number from 1 to 100000"}
		}
	}
	for _, text := range values["filter"] {
		condition, err := query.ParseCondition(text)
		if err != nil {
			return query.Request{}, err
		}
		request.Filter = append(request.Filter, condition)
	}
	for _, name := range sortedNames(values) {
		if slices.Contains(known, name) {
			continue
		}
		key, err := query.ParseKey(name)
		if err != nil {
			return query.Request{}, &query.InputError{Parameter: "parameter", Value: name, Hint: "this endpoint knows " + strings.Join(known, ", ") + ", and each key as a filter (namespace=shop)"}
		}
		request.Filter = append(request.Filter, query.Condition{Key: key, Values: strings.Split(strings.Join(values[name], ","), ",")})
	}
	return request, nil
}

func sortedNames(values url.Values) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
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
	values, err := parameters(r, "period", "format", "requireComplete")
	if err != nil {
		return err
	}
	format := values.Get("format")
	if format != "" && format != "csv" && format != "json" {
		return &query.InputError{Parameter: "format", Value: format, Hint: "use csv or json"}
	}
	require, err := flag(values, "requireComplete")
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
