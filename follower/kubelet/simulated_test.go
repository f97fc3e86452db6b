package kubelet_test

import (
	"cmp"
	"log/slog"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/simulator"
)

func sorted(bodies []reading.Body) []reading.Body {
	slices.SortFunc(bodies, func(a, b reading.Body) int { return cmp.Compare(a.Node, b.Node) })
	for i := range bodies {
		slices.SortFunc(bodies[i].Readings, func(a, b reading.Reading) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.PodUID, b.PodUID), cmp.Compare(a.Container, b.Container))
		})
	}
	return bodies
}

// Over HTTPS, with nodes and pods from the watch, every reading is what the
// simulator says by its formula, to the microsecond and the byte.
func TestReadingsOfASimulatedCluster(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	fleet := simulator.Demo(noon)
	cluster := fleet.Clusters[0].Name
	clk := clock.NewManual(noon)
	server, err := simulator.Start(t.Context(), simulator.Config{Fleet: fleet, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ca, token, err := server.WriteFiles(cluster, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client, err := watch.NewClient(watch.ClientConfig{URL: server.Access(cluster).URL, CAFile: ca, TokenFile: token}, clk)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w, err := watch.New(watch.Config{}, client, clk, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	source, err := kubelet.New(kubelet.Config{CAFile: ca, TokenFile: token}, w.Log, clk, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { <-done })
	for deadline := time.After(20 * time.Second); !w.Status().Synced; {
		select {
		case <-w.Wake():
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("no list came: %+v", w.Status())
		}
	}
	volumes, ephemeral := 0, 0
	for range 4 {
		bodies, err := source.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range bodies { // the summary's part, which Readings does not have
			for _, v := range bodies[i].Volumes {
				if used := server.ClaimUsed(cluster, v.Namespace, v.Claim, v.Time); used != v.UsedBytes {
					t.Errorf("claim %s uses %d B, the simulator says %d", v.Claim, v.UsedBytes, used)
				}
			}
			volumes += len(bodies[i].Volumes)
			bodies[i].Volumes = nil
			for r := range bodies[i].Readings {
				if _, ok := bodies[i].Readings[r].Values.Get(reading.Ephemeral); ok {
					ephemeral++
				}
				bodies[i].Readings[r].Values.Drop(reading.Ephemeral)
			}
		}
		want := server.Readings(cluster, clk.Now())
		if len(want) == 0 || len(want[0].Readings) < 5 {
			t.Fatal("the simulator has nothing to read")
		}
		if diff := gocmp.Diff(sorted(want), sorted(bodies), gocmp.AllowUnexported(reading.Values{})); diff != "" {
			t.Fatalf("at %s (-simulator +read):\n%.3000s", clk.Now(), diff)
		}
		clk.Advance(15 * time.Second)
	}
	if volumes != 2 || ephemeral != 3 { // one summary of a pod with two claims, which then stands in
		t.Errorf("%d samples of volumes, %d of ephemeral storage", volumes, ephemeral)
	}
	for _, pod := range w.Pods() {
		if !pod.OwnerKnown || pod.Workload == "" {
			t.Errorf("pod %s/%s has no workload", pod.Namespace, pod.Name)
		}
	}
}
