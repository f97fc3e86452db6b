package calibrate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Namespace is where the load runs; it is removed with it.
const Namespace = "accumulus-calibrate"

// longest is a bound on a load that nobody ends.
const longest = 6 * time.Hour

// Jobs is a load by Jobs of the stress image on one node. A part of a core is made
// by the container's CPU limit.
type Jobs struct {
	API        kubernetes.Interface
	Node       string // as Kubernetes names it
	Image      string
	PullPolicy corev1.PullPolicy
	Wait       time.Duration // for a Job to begin
	Clock      clock.Clock

	made    bool
	running string
	count   int
}

// Start makes the namespace. Stop removes it, and all that is in it.
func (j *Jobs) Start(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/managed-by": "accumulus"}}}
	if _, err := j.API.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("namespace %s is there already: another calibration runs, or delete it", Namespace)
		}
		return fmt.Errorf("make namespace %s: %w", Namespace, err)
	}
	j.made = true
	return nil
}

// Stop removes what Start made.
func (j *Jobs) Stop(ctx context.Context) error {
	if !j.made {
		return nil
	}
	if err := j.API.CoreV1().Namespaces().Delete(ctx, Namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove namespace %s: %w", Namespace, err)
	}
	return nil
}

// Hold implements Load.
func (j *Jobs) Hold(ctx context.Context, millicores int64) error {
	if j.running != "" {
		now := metav1.DeletePropagationForeground
		err := j.API.BatchV1().Jobs(Namespace).Delete(ctx, j.running, metav1.DeleteOptions{PropagationPolicy: &now})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("end job %s: %w", j.running, err)
		}
		j.running = ""
	}
	if millicores <= 0 {
		return nil
	}
	j.count++
	name := "load-" + strconv.Itoa(j.count)
	if _, err := j.API.BatchV1().Jobs(Namespace).Create(ctx, j.job(name, millicores), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make job %s: %w", name, err)
	}
	j.running = name
	for end := j.Clock.Now().Add(j.Wait); ; {
		pods, err := j.API.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "job-name=" + name})
		if err != nil {
			return fmt.Errorf("look at job %s: %w", name, err)
		}
		state := "it has no pod"
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning {
				return nil
			}
			state = "its pod is " + string(pod.Status.Phase)
		}
		if j.Clock.Now().After(end) {
			return errors.Join(fmt.Errorf("job %s does not run on node %s after %s: %s", name, j.Node, j.Wait, state))
		}
		if err := j.Clock.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

func (j *Jobs) job(name string, millicores int64) *batchv1.Job {
	yes, no, user, never, grace, bound := true, false, int64(65532), int32(0), int64(1), int64(longest.Seconds())
	cores := (millicores + 999) / 1000
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: map[string]string{"app.kubernetes.io/name": Namespace}},
		Spec: batchv1.JobSpec{BackoffLimit: &never, ActiveDeadlineSeconds: &bound, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/name": Namespace, "job-name": name}},
			Spec: corev1.PodSpec{
				NodeName: j.Node, RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
				TerminationGracePeriodSeconds: &grace,
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user,
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers: []corev1.Container{{
					Name: "stress", Image: j.Image, ImagePullPolicy: j.PullPolicy,
					Args: []string{"--for", longest.String(), "--cores", strconv.FormatInt(cores, 10)},
					Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")},
						Limits:   corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(millicores, resource.DecimalSI)}},
					SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no,
						Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
				}},
			}}},
	}
}
