package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/allocation"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Allocations answers OpenCost's questions: *allocation.Engine.
type Allocations interface {
	Parse(ctx context.Context, query string) (allocation.Request, error)
	Compute(ctx context.Context, request allocation.Request) (allocation.Answer, error)
	Metrics(ctx context.Context, cluster string) (prometheus.Gatherer, error)
}

// allocation answers as OpenCost's GET /allocation does. What is closed has an
// entity tag, and may be kept by who asked and asked for again with it: a correction
// of a price changes it.
func (s *Server) allocation(w http.ResponseWriter, r *http.Request) error {
	request, err := s.deps.Allocations.Parse(r.Context(), r.URL.RawQuery)
	if err != nil {
		return err
	}
	answer, err := s.deps.Allocations.Compute(r.Context(), request)
	if err != nil {
		return err
	}
	body, kind := []byte(nil), "application/json"
	if request.CSV || strings.HasPrefix(r.Header.Get("Accept"), "text/csv") {
		kind = "text/csv; charset=utf-8"
		body, err = answer.CSV()
	} else {
		body, err = answer.JSON()
	}
	if err != nil {
		return err
	}
	w.Header().Set("Vary", "Accept, Authorization")
	if answer.Closed {
		tag := allocation.ETag(body)
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "private, no-cache")
		if hasTag(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	w.Header().Set("Content-Type", kind)
	if strings.HasPrefix(kind, "text/csv") {
		csvHead(w, "allocation")
	}
	_, _ = w.Write(body) // the caller is gone: nobody is left to tell
	return nil
}

// hasTag says whether one of If-None-Match's tags is the answer's.
func hasTag(header, tag string) bool {
	for _, one := range strings.Split(header, ",") {
		if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
			return true
		}
	}
	return false
}

// allocationMetrics are prices and allocations by the names that OpenCost's boards
// know, apart from the leader's own metrics.
func (s *Server) allocationMetrics(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r, "cluster")
	if err != nil {
		return err
	}
	gatherer, err := s.deps.Allocations.Metrics(r.Context(), values.Get("cluster"))
	if err != nil {
		return err
	}
	promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	return nil
}
