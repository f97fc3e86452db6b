package query

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Mount is a claim that a pod mounts.
type Mount struct{ Cluster, Namespace, Pod, Claim string }

// Mounts are the claims that the pods of a window mounted, by what was last known of
// each pod in it, in clusters that keep keeps, ordered. Errors: ErrScope, and what the
// registry says.
func (e *Engine) Mounts(ctx context.Context, w schema.Window, keep func(cluster string) bool) ([]Mount, error) {
	if Scoped(ctx) {
		return nil, fmt.Errorf("mounts: %w", ErrScope)
	}
	clusters, err := e.clusters(ctx, w)
	if err != nil {
		return nil, err
	}
	var all []Mount
	for _, cluster := range clusters {
		if !keep(cluster) {
			continue
		}
		byPod := make(map[string][]Mount)
		err := e.registry.KubeObjects(ctx, cluster, "Pod", w, func(o registry.KubeObject) error {
			byPod[o.UID] = mountsOf(o, w)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, mounts := range byPod {
			all = append(all, mounts...)
		}
	}
	slices.SortFunc(all, func(a, b Mount) int {
		return strings.Compare(strings.Join([]string{a.Cluster, a.Namespace, a.Pod, a.Claim}, "\x00"), strings.Join([]string{b.Cluster, b.Namespace, b.Pod, b.Claim}, "\x00"))
	})
	return all, nil
}

// mountsOf are the claims of a version of a pod that had not ended before the window.
func mountsOf(o registry.KubeObject, w schema.Window) (mounts []Mount) {
	var spec struct {
		Claims []string   `json:"claims"`
		Start  *time.Time `json:"start"`
		End    *time.Time `json:"end"`
	}
	if json.Unmarshal(o.Spec, &spec) != nil || spec.Start == nil || spec.End != nil && !spec.End.After(w.From) {
		return nil // a foreign text that is no JSON has no claims
	}
	for _, claim := range spec.Claims {
		mounts = append(mounts, Mount{o.Cluster, o.Namespace, o.Name, claim})
	}
	return slices.Compact(mounts)
}
