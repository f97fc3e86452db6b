package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// ExtendedRequest is what a pod requested, over a time in which it lived and that
// did not change, of resources that Kubernetes knows by name alone.
type ExtendedRequest struct {
	Namespace, Pod, UID, Node, WorkloadKind, Workload string
	Held                                              schema.Window
	Requests                                          map[string]int64 // pieces, or bytes of ephemeral-storage and hugepages-*
}

// extendedSpec is the part of a pod's spec in the table object that it takes.
type extendedSpec struct {
	Node         string              `json:"node"`
	WorkloadKind string              `json:"workloadKind"`
	Workload     string              `json:"workload"`
	Start        time.Time           `json:"start"`
	End          time.Time           `json:"end"`
	Containers   []extendedContainer `json:"containers"`
	Past         []struct {
		Until      time.Time           `json:"until"`
		Containers []extendedContainer `json:"containers"`
	} `json:"past"`
}

type extendedContainer struct {
	Init     bool             `json:"init"`
	Sidecar  bool             `json:"sidecar"`
	Extended map[string]int64 `json:"extended"`
}

// ExtendedRequests calls fn with what the cluster's pods requested in the window,
// by the newest row of each pod: it tells the whole life, resizes included. What
// no container has started of requests nothing.
func (r *Registry) ExtendedRequests(ctx context.Context, cluster string, w schema.Window, fn func(ExtendedRequest) error) error {
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var of ExtendedRequest
		var text string
		if err := scan(&of.Namespace, &of.Pod, &of.UID, &text); err != nil {
			return err
		}
		var spec extendedSpec
		if json.Unmarshal([]byte(text), &spec) != nil || spec.Start.IsZero() {
			return nil // a foreign text that is no pod
		}
		of.Node, of.WorkloadKind, of.Workload = spec.Node, spec.WorkloadKind, spec.Workload
		return spec.each(of, w, fn)
	}, `SELECT namespace, name, uid, spec FROM kube_object AS o
		WHERE cluster = ?1 AND kind = 'Pod' AND (valid_to = 0 OR valid_to > ?2) AND instr(spec, '"extended":') > 0
			AND time = (SELECT max(time) FROM kube_object AS n WHERE n.cluster = o.cluster AND n.kind = o.kind
				AND n.namespace = o.namespace AND n.name = o.name AND n.uid = o.uid)
		ORDER BY namespace, name, uid`, cluster, nanos(w.From))
	if err != nil {
		return fmt.Errorf("extended resources of %s: %w", cluster, err)
	}
	return nil
}

// each calls fn for each time of the pod's life in which its requests stood.
func (s extendedSpec) each(of ExtendedRequest, w schema.Window, fn func(ExtendedRequest) error) error {
	end := s.End
	if end.IsZero() || end.After(w.To) {
		end = w.To
	}
	from := s.Start
	call := func(until time.Time, containers []extendedContainer) error {
		if until.After(end) {
			until = end
		}
		if !until.After(from) {
			return nil
		}
		of.Held, of.Requests = schema.Window{From: from, To: until}, sumExtended(containers)
		from = until
		if len(of.Requests) == 0 || w.Overlap(of.Held.From, of.Held.To) == 0 {
			return nil
		}
		return fn(of)
	}
	for _, past := range s.Past {
		if err := call(past.Until, past.Containers); err != nil {
			return err
		}
	}
	return call(end, s.Containers)
}

// sumExtended adds the containers' requests; those of init containers lie within
// those of the others, or stand at the container __pod__.
func sumExtended(containers []extendedContainer) map[string]int64 {
	sum := make(map[string]int64)
	for _, c := range containers {
		if c.Init && !c.Sidecar {
			continue
		}
		for name, count := range c.Extended {
			sum[name] += count
		}
	}
	return sum
}

// MeteringNamespaces are the cluster's namespaces in which the metering itself
// runs or ran, by its own word.
func (r *Registry) MeteringNamespaces(ctx context.Context, cluster string) ([]string, error) {
	all, err := names(ctx, r.reader, `SELECT DISTINCT name FROM kube_object WHERE cluster = ?1 AND kind = 'Namespace'
		AND json_valid(spec) AND json_extract(spec, '$.metering') = 1 ORDER BY name`, cluster)
	if err != nil {
		return nil, fmt.Errorf("namespaces of the metering in %s: %w", cluster, err)
	}
	return all, nil
}
