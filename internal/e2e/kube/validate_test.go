package kube

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/validate"
)

// The meter against a container's own counters, as an operator validates it:
// loads of the thesis' table 7.2, on two nodes at once.
func TestValidate(t *testing.T) { // with nothing beside it: a gauge is as good as its readings are on time
	const interval = 2 * time.Second
	for cluster, steps := range map[string][]validate.Step{
		"alpha": {{}, {Cores: 1, RAM: 10, Disk: 20, Fetches: 100}, {Cores: 2, RAM: 20, Disk: 40, Fetches: 200}},
		"beta":  {{}, {RAM: 50, Disk: 80, Fetches: 400}, {RAM: 100, Disk: 120}},
	} {
		t.Run(cluster, func(t *testing.T) {
			t.Parallel()
			standing := kubetest.Inside(t).Cluster(t, cluster)
			s := newSpace(t, standing)
			m := startMeter(t, s, standing, map[string]int{"alpha": 18473, "beta": 18474}[cluster], "--scrape-interval", interval.String(), "--facts-deadline", "5s")
			plan := validate.Plan{Minutes: 1, Interval: interval, Steps: steps}
			results, err := validated(t, s.Clientset, plan, ownMeter{m})
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[validate.Quantity]int)
			for _, r := range results {
				seen[r.Quantity]++
				text := fmt.Sprintf("%-7s %-13s %s container %.3f metered %.3f difference %.3f (%+.3f %%) of %.3f allowed", r.Quantity, r.Load, r.Window.From.Format(time.TimeOnly),
					r.Container, r.Metered, r.Difference(), 100*r.Difference()/r.Container, r.Allowed)
				if !r.OK() {
					t.Error(text)
					continue
				}
				t.Log(text)
			}
			if seen[validate.Memory] != 2 || seen[validate.Disk] != 2 || seen[validate.Network] != 1 || seen[validate.CPU] < 1 {
				t.Errorf("compared %v", seen)
			}
		})
	}
}

// validated runs a plan on a cluster.
func validated(t *testing.T, client kubernetes.Interface, plan validate.Plan, meter validate.Meter) ([]validate.Result, error) {
	t.Helper()
	clk := clock.System()
	pods, err := validate.Start(t.Context(), client, validate.Options{Image: kubetest.StressImage, PullPolicy: corev1.PullNever, Wait: patience}, clk)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := pods.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return validate.Run(t.Context(), plan, pods, meter, clk, func(text string) { t.Log(text) })
}

// ownMeter is what a follower's own store says of the container under load.
type ownMeter struct{ *meter }

// Settled implements validate.Meter.
func (m ownMeter) Settled(ctx context.Context) (time.Time, error) {
	if err := m.factual(ctx); err != nil {
		return time.Time{}, nil // rows are still to come
	}
	at, _, err := m.settled(ctx)
	return at, err
}

// Usage implements validate.Meter.
func (m ownMeter) Usage(ctx context.Context, w schema.Window) (validate.Metered, error) {
	var got validate.Metered
	var covered float64
	sum := func(table string, wanted map[string]string, take func(of func(field string) float64)) error {
		rows, err := m.rows(ctx, table)
		if err != nil {
			return err
		}
		for _, row := range rows {
			at, err := time.Parse(time.RFC3339, row["time"])
			if err != nil {
				return err
			}
			if !w.Contains(at) || !has(row, wanted) {
				continue
			}
			take(func(field string) float64 {
				value, wrong := strconv.ParseInt(row[field], 10, 64)
				if wrong != nil {
					err = fmt.Errorf("field %s of %s: %w", field, table, wrong)
				}
				return float64(value)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	pod := map[string]string{schema.Namespace: validate.Namespace, schema.Pod: validate.LoadPod}
	container := map[string]string{schema.Namespace: validate.Namespace, schema.Pod: validate.LoadPod, schema.Container: validate.ContainerName}
	if err := sum(schema.ContainerMinute.Name, container, func(of func(string) float64) {
		got.CPUCoreSeconds += of(schema.CPU) / 1e6
		got.MemoryByteSeconds += of(schema.Memory) * 1024
		got.FilesystemByteSeconds += of(schema.Filesystem) * 1024
		covered += of(schema.Coverage)
	}); err != nil {
		return got, err
	}
	got.Coverage = covered / w.Length().Seconds()
	return got, sum(schema.PodMinute.Name, pod, func(of func(string) float64) { got.ReceiveBytes += of(schema.NetworkReceive) })
}

func has(row, wanted map[string]string) bool {
	for key, value := range wanted {
		if row[key] != value {
			return false
		}
	}
	return true
}
