package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/stress"
)

// stressJob starts a Job that keeps one core busy for a time on a node.
func (s space) stressJob(t testing.TB, name, node string, length time.Duration) {
	t.Helper()
	never := int32(0)
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"job": "stress"}}, Spec: corev1.PodSpec{
		NodeName: node, RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "stress", Image: kubetest.StressImage, ImagePullPolicy: corev1.PullNever, Args: []string{"--for", length.String()},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}}}}}}
	if _, err := s.BatchV1().Jobs(s.name).Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{Template: template, BackoffLimit: &never}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// server starts the stress program on a node, and returns when it can be asked.
// It is idle until ask gives it a load.
func (s space) server(t testing.TB, name, node string) (uid string) {
	t.Helper()
	made, err := s.CoreV1().Pods(s.name).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{
		NodeName: node, Containers: []corev1.Container{{Name: "stress", Image: kubetest.StressImage, ImagePullPolicy: corev1.PullNever,
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}}}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.ask(t, name, "healthz")
	return string(made.UID)
}

// ask asks a server until it answers.
func (s space) ask(t testing.TB, name, path string) {
	t.Helper()
	eventually(t, path+" of "+name, func(ctx context.Context) error {
		return s.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces", s.name, "pods", name+":8080", "proxy", path).Do(ctx).Error()
	})
}

// ended is a Job that told what its container's counter showed at its end.
type ended struct {
	job, uid string    // uid is its pod's
	own      int64     // core-µs
	from, to time.Time // as the kubelet tells it
}

// stressed waits until so many Jobs of stressJob have succeeded.
func (s space) stressed(t testing.TB, want int) []ended {
	t.Helper()
	var all []ended
	eventually(t, "ends of Jobs", func(ctx context.Context) error {
		all = nil
		list, err := s.CoreV1().Pods(s.name).List(ctx, metav1.ListOptions{LabelSelector: "job=stress"})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			if pod.Status.Phase == corev1.PodFailed {
				t.Fatalf("%s failed: %+v", pod.Name, pod.Status)
			}
			if pod.Status.Phase != corev1.PodSucceeded {
				continue
			}
			end := pod.Status.ContainerStatuses[0].State.Terminated
			var told stress.Reading
			if err := json.Unmarshal([]byte(end.Message), &told); err != nil {
				t.Fatalf("last words of %s, %q: %v", pod.Name, end.Message, err)
			}
			all = append(all, ended{pod.Labels[batchv1.JobNameLabel], string(pod.UID), told.CPUMicroseconds, end.StartedAt.Time, end.FinishedAt.Time})
		}
		if len(all) < want {
			return fmt.Errorf("%d of %d have", len(all), want)
		}
		return nil
	})
	return all
}
