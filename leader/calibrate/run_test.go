package calibrate

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/registry"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// bench is a node of 8 cores that draws 60 W and 20 W for each busy core, on a
// clock of its own; others is how busy the node beside it is.
type bench struct {
	now  time.Time
	busy []struct {
		from time.Time
		m    int64
	}
	others float64
	asked  int
}

func (b *bench) Now() time.Time { return b.now }
func (b *bench) Sleep(ctx context.Context, d time.Duration) error {
	b.now = b.now.Add(d)
	return ctx.Err()
}

func (b *bench) Hold(_ context.Context, m int64) error {
	b.busy = append(b.busy, struct {
		from time.Time
		m    int64
	}{b.now, m})
	return nil
}

func (b *bench) Measure(_ context.Context, node string, w schema.Window) (models.Measured, error) {
	m := models.Measured{Node: node, From: w.From, To: w.To, Others: []models.Other{{Node: "beside", Utilisation: b.others, Idle: b.others < 0.05}}}
	if b.asked++; b.asked%2 == 1 { // the rows are on their way
		m.Why = "the minutes have not come yet"
		return m, nil
	}
	var held int64
	for _, load := range b.busy {
		if load.from.After(w.From) && load.from.Before(w.To) {
			held = -1 << 40 // a load began within a window that counts
		}
		if !load.from.After(w.From) {
			held = load.m
		}
	}
	m.Ready, m.Utilisation = true, 0.01+float64(held)/8000
	m.Watts = 60 + float64(held)*0.02 + float64(b.asked%3)
	return m, nil
}

func TestRun(t *testing.T) {
	b := &bench{now: time.Date(2026, 11, 23, 10, 0, 17, 0, time.UTC)}
	plan := DefaultPlan()
	begun := b.now
	points, err := Run(t.Context(), "a.n1", 8, plan, b, b, b, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != 4 || points[0].Load != 0 || points[3].Load != 100 {
		t.Fatalf("points %+v, want one for each load", points)
	}
	for _, p := range points {
		want := 60 + p.Load/100*160
		if p.Watts < want || p.Watts > want+2 || p.Repeats != 3 || p.SpreadWatts < 0 || p.SpreadWatts > 2 {
			t.Errorf("at %v %%: %+v, want %v W and up to 2 more", p.Load, p, want)
		}
		if off := p.Utilisation - 0.01 - p.Load/100; off < -1e-9 || off > 1e-9 {
			t.Errorf("at %v %%: utilisation %v, want the metered one", p.Load, p.Utilisation)
		}
	}
	if took := b.now.Sub(begun); took < plan.Length() || took > plan.Length()+30*time.Minute {
		t.Errorf("it took %s, want about %s", took, plan.Length())
	}
	if last := b.busy[len(b.busy)-1]; last.m != 0 {
		t.Errorf("a load of %d millicores stands at the end", last.m)
	}
}

func TestRunRefuses(t *testing.T) {
	b := &bench{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), others: 0.3}
	_, err := Run(t.Context(), "a.n1", 8, DefaultPlan(), b, b, b, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "beside") {
		t.Errorf("with a busy node behind the same meter: %v, want an error that names it", err)
	}
	if _, err := Run(t.Context(), "a.n1", 8, Plan{Idle: time.Minute, Hold: time.Minute, Repeats: 0}, b, b, b, func(string) {}); err == nil {
		t.Error("a plan without repeats was run")
	}
}

// A Job stands on the node with a limit of just the load, and ends with it.
func TestJobs(t *testing.T) {
	api := fake.NewClientset()
	jobs := &Jobs{API: api, Node: "worker-1", Image: "stress:1", PullPolicy: corev1.PullNever, Wait: time.Minute, Clock: clock.System()}
	if err := jobs.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: Namespace, Labels: map[string]string{"job-name": "load-1"}}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	if _, err := api.CoreV1().Pods(Namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := jobs.Hold(t.Context(), 800); err != nil {
		t.Fatal(err)
	}
	list, err := api.BatchV1().Jobs(Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d jobs, %v", len(list.Items), err)
	}
	spec := list.Items[0].Spec.Template.Spec
	if limit := spec.Containers[0].Resources.Limits.Cpu().MilliValue(); spec.NodeName != "worker-1" || limit != 800 {
		t.Errorf("on node %s with a limit of %dm, want worker-1 and 800m", spec.NodeName, limit)
	}
	if err := jobs.Hold(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if list, _ := api.BatchV1().Jobs(Namespace).List(t.Context(), metav1.ListOptions{}); len(list.Items) != 0 {
		t.Errorf("%d jobs after the load has ended", len(list.Items))
	}
	if err := jobs.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLoadsThatDoNotTell: where a load made the node no busier than the one before,
// the error says by how much, and not only that a point cannot be taken.
func TestLoadsThatDoNotTell(t *testing.T) {
	points := []registry.CalibrationPoint{{Load: 0, Utilisation: .02, Watts: 40}, {Load: 10, Utilisation: .11, Watts: 60}, {Load: 50, Utilisation: .43, Watts: 98}, {Load: 100, Utilisation: .44, Watts: 99}}
	if err := apart(points[:3]); err != nil {
		t.Error(err)
	}
	if err := apart(points); err == nil || !strings.Contains(err.Error(), "with a load of 50 % the node's cores were 43.0 % busy (98.0 W), with 100 % 44.0 %") {
		t.Errorf("%v", err)
	}
}
