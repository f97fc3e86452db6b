package simulator

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	kubelets "github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/clock"
)

// follow starts the follower's own watch and kubelet source on a cluster.
func follow(t *testing.T, s *Server, cluster string, clk clock.Clock) (*watch.Watch, *kubelets.Source) {
	t.Helper()
	ca, token, err := s.WriteFiles(cluster, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client, err := watch.NewClient(watch.ClientConfig{URL: s.Access(cluster).URL, CAFile: ca, TokenFile: token}, clk)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w, err := watch.New(watch.Config{Labels: []string{"*"}}, client, clk, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	source, err := kubelets.New(kubelets.Config{CAFile: ca, TokenFile: token, DisableKeepAlives: true}, w, clk, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return w, source
}

// waitFor lets the watch catch up.
func waitFor(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for range 1000 {
		if ready() {
			return
		}
		if err := clock.System().Sleep(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

func sorted(bodies []reading.Body) []reading.Body {
	for _, b := range bodies {
		slices.SortFunc(b.Readings, func(x, y reading.Reading) int {
			if c := x.Time.Compare(y.Time); c != 0 {
				return c
			}
			return slices.Compare([]string{string(x.Kind), x.PodUID, x.Container}, []string{string(y.Kind), y.PodUID, y.Container})
		})
	}
	return bodies
}

// withoutStorage takes out what the kubelets' summaries told, which Readings does
// not have, and counts it.
func withoutStorage(bodies []reading.Body) (count int) {
	for i := range bodies {
		count += len(bodies[i].Volumes)
		bodies[i].Volumes = nil
		for r := range bodies[i].Readings {
			if _, ok := bodies[i].Readings[r].Values.Get(reading.Ephemeral); ok {
				count++
			}
			bodies[i].Readings[r].Values.Drop(reading.Ephemeral)
		}
	}
	return count
}

// TestWhatIsScrapedIsWhatIsReadDirectly: three hours through HTTPS kubelets,
// with restarts, a boot and jobs, give the readings of Readings, bit by bit.
func TestWhatIsScrapedIsWhatIsReadDirectly(t *testing.T) {
	clk := clock.NewManual(start.Add(30 * time.Second))
	s := startServer(t, Varying(start), clk)
	w, source := follow(t, s, "varying", clk)
	waitFor(t, "two nodes", func() bool { return len(w.Targets()) == 2 })
	compared, stored := 0, 0
	for at := clk.Now(); at.Before(start.Add(3 * time.Hour)); at = at.Add(37 * time.Second) {
		clk.Set(at)
		if boot := start.Add(2 * time.Hour); !at.Before(boot) && at.Sub(boot) < 37*time.Second {
			waitFor(t, "the boot", func() bool { return w.Targets()[1].BootID == s.bootID("varying", s.node("varying", "n2"), at) })
		}
		got, err := source.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := s.Readings("varying", at)
		stored += withoutStorage(got)
		if diff := cmp.Diff(sorted(want), sorted(got), cmp.AllowUnexported(reading.Values{})); diff != "" {
			t.Fatalf("%s: direct (-) and scraped (+) differ:\n%s", at, diff)
		}
		for _, b := range got {
			compared += len(b.Readings)
		}
	}
	if compared < 5000 || stored < 300 {
		t.Errorf("compared %d readings, %d told of storage", compared, stored)
	}
}

// TestTheWatchSeesTheFleet compares the follower's log with the truth.
func TestTheWatchSeesTheFleet(t *testing.T) {
	clk := clock.NewManual(start.Add(88 * time.Minute))
	s := startServer(t, Varying(start), clk)
	w, _ := follow(t, s, "varying", clk)
	from := clk.Now()
	waitFor(t, "the first list", func() bool { return w.Status().Synced })
	for clk.Now().Before(start.Add(125 * time.Minute)) {
		clk.Advance(time.Minute)
	}
	want := s.PodInfos("varying", from, clk.Now())
	waitFor(t, "all pods", func() bool { return len(pods(w)) >= len(want) })
	running := func(known []reading.PodInfo) (n int) {
		for _, p := range known {
			if p.End.IsZero() {
				n++
			}
		}
		return n
	}
	waitFor(t, "ends and owners", func() bool {
		return running(pods(w)) == running(want) && !slices.ContainsFunc(pods(w), func(p reading.PodInfo) bool { return !p.OwnerKnown })
	})
	byUID := make(map[string]reading.PodInfo)
	for _, p := range pods(w) {
		p.Labels = nil // the watch keeps some
		byUID[p.UID] = p
	}
	for _, p := range want {
		p.Labels = nil
		if diff := cmp.Diff(p, byUID[p.UID]); diff != "" {
			t.Errorf("pod %s: fleet (-) and watch (+) differ:\n%s", p.Name, diff)
		}
	}
	nodes := w.Nodes()
	for _, node := range nodes {
		for i := range node.Past { // the watch sees a boot when the API server tells it
			node.Past[i].Until = start.Add(2 * time.Hour)
		}
	}
	if diff := cmp.Diff(s.NodeInfos("varying", clk.Now()), nodes); diff != "" {
		t.Errorf("nodes: fleet (-) and watch (+) differ:\n%s", diff)
	}
}

func pods(w *watch.Watch) []reading.PodInfo { return w.Pods() }

// TestEventsFeedALog: the changes without HTTP make the log that the watch makes.
func TestEventsFeedALog(t *testing.T) {
	s := newSimulator(t, Varying(start))
	to := start.Add(125 * time.Minute)
	clk := clock.NewManual(start)
	log, err := watch.NewLog(watch.Config{Labels: []string{"*"}}, clk, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	events := s.Events("varying", time.Time{}, to)
	for _, e := range events {
		clk.Set(e.At)
		switch o := e.Object.(type) {
		case *corev1.Node:
			log.SetNode(o)
		case *appsv1.ReplicaSet:
			log.SetReplicaSet(o)
		case *batchv1.Job:
			log.SetJob(o)
		case *corev1.Pod:
			if e.Deleted {
				log.DeletePod(o)
			} else {
				log.SetPod(o)
			}
		}
	}
	byUID := make(map[string]reading.PodInfo)
	for _, p := range log.Pods() {
		p.Labels = nil
		byUID[p.UID] = p
	}
	want := s.PodInfos("varying", start, to)
	for _, p := range want {
		p.Labels = nil
		if diff := cmp.Diff(p, byUID[p.UID]); diff != "" {
			t.Errorf("pod %s: fleet (-) and log (+) differ:\n%s", p.Name, diff)
		}
	}
	if len(want) != 36 || len(byUID) != len(want) {
		t.Errorf("%d pods of %d events, want %d (36)", len(byUID), len(events), len(want))
	}
}
