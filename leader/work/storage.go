package work

import (
	"context"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// slotUsage is what was used in a slot, by namespace, workload kind and workload.
type slotUsage map[[3]string]processors.Quantities

func (u slotUsage) add(key [3]string, quantities processors.Quantities) error {
	sum := u[key]
	err := usage.AddNamed(&sum, quantities)
	u[key] = sum
	return err
}

// addVolumes adds the volumes of a window by namespace and class: a claim belongs
// to no workload.
func (w *Worker) addVolumes(ctx context.Context, cluster string, window schema.Window, to slotUsage) error {
	rows, err := w.sum(ctx, schema.VolumeMinute, cluster, window, []string{schema.Namespace, schema.StorageClass})
	if err != nil {
		return err
	}
	for _, row := range rows {
		class := row.Tag(schema.StorageClass)
		err := to.add([3]string{row.Tag(schema.Namespace)}, processors.Quantities{
			processors.VolumeClaimed.Of(class): row.Int(schema.Claimed), processors.VolumeUsed.Of(class): row.Int(schema.Used)})
		if err != nil {
			return err
		}
	}
	return nil
}

// addExtended adds what pods requested of extended resources, up to where the
// cluster's minutes reach.
func (w *Worker) addExtended(ctx context.Context, cluster string, window schema.Window, to func(node string) slotUsage) error {
	extent, ok, err := w.registry.Extent(ctx, cluster, schema.PodMinute.Name)
	if err != nil || !ok {
		return err
	}
	until := func(t time.Time) time.Time {
		if t.After(extent.To) {
			return extent.To
		}
		return t
	}
	if window.To = until(window.To); !window.From.Before(window.To) {
		return nil
	}
	return w.registry.ExtendedRequests(ctx, cluster, window, func(of registry.ExtendedRequest) error {
		quantities, err := usage.Requested(of.Requests, of.Held, window)
		if err != nil {
			return err
		}
		return to(of.Node).add([3]string{of.Namespace, of.WorkloadKind, of.Workload}, quantities)
	})
}
