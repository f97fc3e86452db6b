package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/stress"
)

// What the experiment does; each can be set by a variable of that name.
var (
	overheadJobs    = setting("ACCUMULUS_OVERHEAD_JOBS", 100)
	overheadWork    = setting("ACCUMULUS_OVERHEAD_WORK", 1000) // units of about a millisecond
	overheadRepeats = setting("ACCUMULUS_OVERHEAD_REPEATS", 5)
)

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// TestOverhead is the experiment of `make experiments`: the same CPU-bound Jobs
// alone, beside a follower, and beside a follower that a leader pulls from, in
// turn. It tells how much longer the work takes, with the 95 % confidence
// interval of the repeats, and demands nothing: machines are noisy.
func TestOverhead(t *testing.T) {
	if os.Getenv("ACCUMULUS_EXPERIMENTS") == "" {
		t.Skip("make experiments runs this")
	}
	lab := kubetest.Inside(t)
	alpha := lab.Cluster(t, "alpha")
	took := make(map[string][]float64)
	for repeat := range overheadRepeats {
		for _, how := range []string{"bare", "metered", "metered and synced"} {
			t.Run(fmt.Sprintf("%s/%d", how, repeat+1), func(t *testing.T) {
				s := newSpace(t, alpha)
				if how != "bare" {
					m := startMeter(t, s, alpha, 18300+repeat)
					if how != "metered" {
						c := newCentre(t)
						c.run("cluster", "add", alpha.Name, "--url", m.url, "--follower-token-file", filepath.Join(filepath.Dir(m.viewer), "leader.token"))
					}
					m.until(clock.System().Now().Add(-time.Minute)) // it settles, minute by minute
				}
				took[how] = append(took[how], s.work(t, alpha.Nodes[0].Name))
			})
		}
	}
	bare, _ := interval(took["bare"])
	for _, how := range []string{"bare", "metered", "metered and synced"} {
		mean, half := interval(took[how])
		t.Logf("%-18s %d × %d Jobs: %.3f s of time each ± %.3f (95 %%): %+.2f %% ± %.2f", how, overheadRepeats, overheadJobs,
			mean, half, 100*(mean/bare-1), 100*half/bare)
	}
}

// work runs the Jobs, two at a time, and returns their mean time in seconds.
func (s space) work(t *testing.T, node string) float64 {
	t.Helper()
	count, aside, never := int32(overheadJobs), int32(2), int32(0)
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"job": "work"}}, Spec: corev1.PodSpec{
		NodeName: node, RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "stress", Image: kubetest.StressImage, ImagePullPolicy: corev1.PullNever,
			Args:      []string{"--work", strconv.Itoa(overheadWork)},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}}}}}}
	if _, err := s.BatchV1().Jobs(s.name).Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "work"},
		Spec: batchv1.JobSpec{Template: template, BackoffLimit: &never, Completions: &count, Parallelism: &aside}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var sum float64
	clk := clock.System()
	for end := clk.Now().Add(time.Hour); ; {
		list, err := s.CoreV1().Pods(s.name).List(t.Context(), metav1.ListOptions{LabelSelector: "job=work", FieldSelector: "status.phase=Succeeded"})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == overheadJobs {
			for _, pod := range list.Items {
				var told stress.Reading
				message := pod.Status.ContainerStatuses[0].State.Terminated.Message
				if err := json.Unmarshal([]byte(message), &told); err != nil {
					t.Fatalf("last words of %s, %q: %v", pod.Name, message, err)
				}
				sum += told.Seconds
			}
			return sum / float64(overheadJobs)
		}
		if clk.Now().After(end) {
			t.Fatalf("%d of %d Jobs have ended", len(list.Items), overheadJobs)
		}
		if err := clk.Sleep(context.WithoutCancel(t.Context()), time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// studentT are quantiles of Student's t distribution for a two-sided interval of
// 95 %, by degrees of freedom from 1 on.
var studentT = []float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228}

// interval is the mean and half of its 95 % confidence interval.
func interval(values []float64) (mean, half float64) {
	n := float64(len(values))
	if n < 2 {
		return values[0], math.NaN()
	}
	for _, v := range values {
		mean += v / n
	}
	var squares float64
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	t := studentT[min(len(values)-2, len(studentT)-1)]
	return mean, t * math.Sqrt(squares/(n-1)/n)
}
