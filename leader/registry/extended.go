package registry

import (
	"context"
	"fmt"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// ExtendedRequest is what a pod requested, over a time in which it lived and that
// did not change, of resources that Kubernetes knows by name alone.
type ExtendedRequest struct {
	Namespace, Pod, UID, Node, WorkloadKind, Workload string
	Held                                              schema.Window
	Requests                                          map[string]int64 // pieces, or bytes of ephemeral-storage and hugepages-*
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
		pod, ok := usage.ReadExtendedPod(text)
		if !ok {
			return nil
		}
		of.Node, of.WorkloadKind, of.Workload = pod.Node, pod.WorkloadKind, pod.Workload
		return pod.Each(w, func(held schema.Window, requests map[string]int64) error {
			of.Held, of.Requests = held, requests
			return fn(of)
		})
	}, `SELECT namespace, name, uid, spec FROM kube_object AS o
		WHERE cluster = ?1 AND kind = 'Pod' AND (valid_to = 0 OR valid_to > ?2) AND instr(spec, ?3) > 0
			AND time = (SELECT max(time) FROM kube_object AS n WHERE n.cluster = o.cluster AND n.kind = o.kind
				AND n.namespace = o.namespace AND n.name = o.name AND n.uid = o.uid)
		ORDER BY namespace, name, uid`, cluster, nanos(w.From), usage.ExtendedMark)
	if err != nil {
		return fmt.Errorf("extended resources of %s: %w", cluster, err)
	}
	return nil
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
