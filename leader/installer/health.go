package installer

import (
	"context"
	"fmt"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/fault"
	"github.com/accumulus-metering/accumulus/leader/registry"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// health looks whether the follower is ready. A problem while it has still time
// to become ready leaves the state at installing.
func (v *visit) health(ctx context.Context, cluster access) error {
	if err := v.step(ctx, stepHealth); err != nil {
		return err
	}
	deployment, err := cluster.kube.AppsV1().Deployments(v.namespace).Get(ctx, Release, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		v.one.Verified = v.one.Verified.Add(-v.config.Verify) // the next visit puts it back
		return &problem{class: classNotReady, err: fmt.Errorf("Deployment %s/%s is not there: somebody deleted it", v.namespace, Release),
			hint: "The leader puts it back by itself."}
	}
	if err != nil {
		return fmt.Errorf("get Deployment %s: %w", Release, err)
	}
	if err := v.rolledOut(ctx, cluster, deployment); err != nil {
		return v.patient(err)
	}
	if v.parts.Ready == nil {
		return nil
	}
	if err := v.parts.Ready(ctx, v.one.Cluster); err != nil {
		return v.patient(&problem{class: classNotReady, err: fmt.Errorf("the pod is ready, but the follower is not reached: %w", err),
			hint: "Can the API server reach pods (its proxy needs port 8443 of the follower)? Is the follower's token the leader's? `accumulus cluster status NAME` says more."})
	}
	return nil
}

// patient makes of a follower that is not ready a matter of time, while it has
// some left; what no time mends is said at once.
func (v *visit) patient(err error) error {
	now := v.clock.Now()
	if class, _ := classify(err); class == classNotReady && now.Before(v.one.Applied.Add(v.config.ReadyAfter)) {
		v.enter(registry.InstallInstalling)
		return err
	}
	if v.one.State == registry.InstallInstalling {
		v.enter(registry.InstallDegraded) // else it would be polled as if it had time
	}
	return err
}

// rolledOut says whether the Deployment's pods are all new and available, and
// why they are not.
func (v *visit) rolledOut(ctx context.Context, cluster access, d *appsv1.Deployment) error {
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	s := d.Status
	if s.ObservedGeneration >= d.Generation && s.UpdatedReplicas >= wanted && s.AvailableReplicas >= wanted && s.Replicas <= wanted {
		return nil
	}
	for _, condition := range s.Conditions {
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			class := fault.OfText(condition.Message)
			if class == fault.Other {
				class = classNotReady
			}
			return &problem{class: class, err: fmt.Errorf("no pod can be made: %s", condition.Message)}
		}
	}
	if class, reason, hint := v.podTrouble(ctx, cluster, d); reason != "" {
		return &problem{class: class, err: fmt.Errorf("the pod is not ready: %s", reason), hint: hint}
	}
	return &problem{class: classNotReady, err: fmt.Errorf("%d of %d pods are ready", s.AvailableReplicas, wanted)}
}

// podTrouble is why a pod does not start, where it says so; best effort, for the
// Deployment is what counts.
func (v *visit) podTrouble(ctx context.Context, cluster access, d *appsv1.Deployment) (class fault.Class, reason, hint string) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return "", "", ""
	}
	pods, err := cluster.kube.CoreV1().Pods(v.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return "", "", ""
	}
	for _, pod := range pods.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				return classNotReady, "it cannot be scheduled: " + condition.Message,
					"No node takes the follower's pod: look at its requests, its node selector, and whether its volume can be made there."
			}
		}
		for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if hint := waiting(status); hint != "" {
				message := strings.TrimSpace(status.State.Waiting.Reason + " " + status.State.Waiting.Message)
				return classNotReady, message, hint
			}
		}
		if message := v.stuck(ctx, cluster, pod); message != "" {
			return classNotReady, message, "The pod waits for something outside of it, such as a Secret, a volume or the network of its node: the message names it."
		}
	}
	return "", "", ""
}

// stuck is the newest event that keeps a pod from being made on its node: its
// status says only that the container is being created.
func (v *visit) stuck(ctx context.Context, cluster access, pod corev1.Pod) string {
	if pod.Status.Phase != corev1.PodPending {
		return ""
	}
	events, err := cluster.kube.CoreV1().Events(v.namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		return ""
	}
	var newest corev1.Event
	for _, event := range events.Items {
		switch event.Reason {
		case "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox":
			if newest.Reason == "" || newest.LastTimestamp.Before(&event.LastTimestamp) {
				newest = event
			}
		}
	}
	return strings.TrimSpace(newest.Reason + " " + newest.Message)
}

// waiting is what to do about a container that does not start; "" of one that
// is only starting.
func waiting(status corev1.ContainerStatus) string {
	if status.State.Waiting == nil {
		return ""
	}
	switch status.State.Waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
		return "The follower's image " + status.Image + " cannot be pulled there: give image.registry, image.tag or image.pullSecrets: `accumulus cluster upgrade NAME --values FILE`."
	case "CrashLoopBackOff", "RunContainerError", "CreateContainerError":
		return "The follower ends by itself: `kubectl -n NAMESPACE logs deployment/accumulus-follower --previous` in that cluster says why."
	case "CreateContainerConfigError":
		return "The pod needs something that is not there, such as a Secret: the message names it."
	}
	return ""
}
