package watch

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Kinds of workloads that a label names and no owner does.
const (
	KindKnative  = "KnativeService" // all revisions of one service of Knative Serving
	KindWorkflow = "Workflow"       // all pods of one workflow of Argo
	KindJobGroup = "JobGroup"       // all Jobs, and their pods, with the same value of a label
)

const (
	knativeService  = "serving.knative.dev/service"
	knativeRevision = "serving.knative.dev/revision"
	argoWorkflow    = "workflows.argoproj.io/workflow"
)

// DefaultJobGroups are the labels that group Jobs unless configured otherwise.
var DefaultJobGroups = []string{argoWorkflow}

// validateGroups says which of the labels is none.
func validateGroups(labels []string) error {
	for _, label := range labels {
		if label == "" || strings.ContainsAny(label, "*? ,=") {
			return fmt.Errorf("job group label %q: name one label, such as example.com/batch", label)
		}
	}
	return nil
}

// group gives a pod the workload that its labels name: a Knative service, or the
// group of a Job. Such a workload needs no owner to be known. It is fixed with
// the first sight of the pod, as an owner is.
func (l *Log) group(o *object, pod *corev1.Pod) {
	if revision := pod.Labels[knativeRevision]; revision != "" {
		o.pod.Revision = l.name("Revision", pod.Namespace, revision)
	}
	if o.pod.OwnerKnown {
		return
	}
	kind, name := "", ""
	if kind, name = KindKnative, pod.Labels[knativeService]; name == "" {
		first := controller(pod.OwnerReferences)
		if first != nil && !first[0].job() {
			return
		}
		if kind, name = l.jobGroup(pod.Labels); name == "" || first == nil && kind != KindWorkflow {
			return
		}
	}
	o.pod.WorkloadKind, o.pod.Workload, o.pod.OwnerKnown = kind, l.name(kind, pod.Namespace, name), true
}

// jobGroup is the group that the labels of a Job, or of its pod, name.
func (l *Log) jobGroup(labels map[string]string) (kind, name string) {
	for _, label := range l.groups {
		if value := labels[label]; value != "" {
			if label == argoWorkflow {
				return KindWorkflow, value
			}
			return KindJobGroup, value
		}
	}
	return "", ""
}

// job says whether the owner is a Job of Kubernetes or a workflow of Argo: what
// can be grouped.
func (o Owner) job() bool {
	return o.Kind == KindJob && strings.HasPrefix(o.APIVersion, "batch/") ||
		o.Kind == KindWorkflow && strings.HasPrefix(o.APIVersion, "argoproj.io/")
}
