package watch

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A kubelet tells a pod's times by its node's clock. One that is a month off
// moves no pod out of the time in which it ran; one that is a little off is
// believed.
func TestNodeClockOff(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for name, c := range map[string]struct {
		off        time.Duration // of the node's clock
		static     bool
		start, end time.Duration // after noon
	}{
		"right":            {0, false, 2 * time.Second, 602 * time.Second},
		"20 s ahead":       {20 * time.Second, false, 22 * time.Second, 622 * time.Second},
		"20 s behind":      {-20 * time.Second, false, -18 * time.Second, 582 * time.Second},
		"a month ahead":    {month, false, 3 * time.Second, 603 * time.Second}, // as it is told
		"a month behind":   {-month, false, 0, 600 * time.Second},              // as it was made
		"a static pod's":   {-month, true, 2*time.Second - month, 602*time.Second - month},
		"a year behind us": {-12 * month, false, 0, 600 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l, clk := newTestLog(t)
			pod := newPod("u1", nil)
			pod.CreationTimestamp = metav1.NewTime(noon)
			if c.static {
				pod.Annotations = map[string]string{mirrorAnnotation: "u1"}
			}
			at := func(after time.Duration) metav1.Time { return metav1.NewTime(noon.Add(after + c.off)) }
			running := corev1.ContainerStateRunning{StartedAt: at(2 * time.Second)}
			pod.Status.ContainerStatuses[0].State.Running = &running
			clk.Set(noon.Add(3 * time.Second))
			l.SetPod(pod)
			clk.Set(noon.Add(100 * time.Second))
			l.SetPod(pod) // again, for another reason
			ended := finish(pod, corev1.PodSucceeded, at(602*time.Second), 0, "Completed")
			ended.Status.ContainerStatuses[0].State.Terminated.StartedAt = running.StartedAt
			clk.Set(noon.Add(603 * time.Second))
			l.SetPod(ended)
			got := only(t, l)
			if start, end := got.Start.Sub(noon), got.End.Sub(noon); start != c.start || end != c.end {
				t.Errorf("from %s to %s, want from %s to %s", start, end, c.start, c.end)
			}
		})
	}
}
