package watch

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// amounts are requests and limits as integers: millicores and bytes.
type amounts struct{ cpuRequest, cpuLimit, memoryRequest, memoryLimit int64 }

func amountsOf(requests, limits corev1.ResourceList) amounts {
	return amounts{requests.Cpu().MilliValue(), limits.Cpu().MilliValue(), requests.Memory().Value(), limits.Memory().Value()}
}

func (a amounts) plus(b amounts) amounts {
	return amounts{a.cpuRequest + b.cpuRequest, a.cpuLimit + b.cpuLimit, a.memoryRequest + b.memoryRequest, a.memoryLimit + b.memoryLimit}
}

func (a amounts) atLeast(b amounts) amounts {
	return amounts{max(a.cpuRequest, b.cpuRequest), max(a.cpuLimit, b.cpuLimit), max(a.memoryRequest, b.memoryRequest), max(a.memoryLimit, b.memoryLimit)}
}

func (a amounts) minus(b amounts) amounts {
	return amounts{a.cpuRequest - b.cpuRequest, a.cpuLimit - b.cpuLimit, a.memoryRequest - b.memoryRequest, a.memoryLimit - b.memoryLimit}
}

func (a amounts) spec(name string) ContainerSpec {
	return ContainerSpec{Name: name, RequestMillicores: a.cpuRequest, LimitMillicores: a.cpuLimit,
		RequestMemoryBytes: a.memoryRequest, LimitMemoryBytes: a.memoryLimit}
}

// requests are a pod's containers with their requests and limits, so that the
// requests of those that are not Init sum to what the scheduler reserves: the
// greater of the containers' sum (sidecars included) and of any init container
// with the sidecars before it; or what the pod itself asks for, where it does;
// plus its runtime's overhead. What that is above the containers' own sum
// stands at the container schema.PodRest. Of a container that is being resized
// the greater of wanted and allocated counts.
func requests(pod *corev1.Pod) []ContainerSpec {
	var all []ContainerSpec
	var sum, sidecars, peak amounts
	for _, c := range pod.Spec.Containers {
		own := containerAmounts(c, pod.Status.ContainerStatuses)
		sum = sum.plus(own)
		all = append(all, own.spec(c.Name))
	}
	for _, c := range pod.Spec.InitContainers {
		own := containerAmounts(c, pod.Status.InitContainerStatuses)
		spec := own.spec(c.Name)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			spec.Sidecar = true
			sidecars = sidecars.plus(own)
		} else {
			spec.Init = true
			peak = peak.atLeast(own.plus(sidecars))
		}
		all = append(all, spec)
	}
	sum = sum.plus(sidecars)
	whole := sum
	whole.cpuRequest, whole.memoryRequest = max(sum.cpuRequest, peak.cpuRequest), max(sum.memoryRequest, peak.memoryRequest)
	if pod.Spec.Resources != nil {
		whole = overridden(whole, *pod.Spec.Resources)
	}
	overhead := amountsOf(pod.Spec.Overhead, nil)
	if rest := whole.plus(overhead).minus(sum).atLeast(amounts{}); rest != (amounts{}) {
		all = append(all, rest.spec(schema.PodRest))
	}
	return all
}

func containerAmounts(c corev1.Container, statuses []corev1.ContainerStatus) amounts {
	own := amountsOf(c.Resources.Requests, c.Resources.Limits)
	for _, status := range statuses {
		if status.Name == c.Name && status.AllocatedResources != nil {
			allocated := amountsOf(status.AllocatedResources, nil)
			own.cpuRequest, own.memoryRequest = max(own.cpuRequest, allocated.cpuRequest), max(own.memoryRequest, allocated.memoryRequest)
		}
	}
	return own
}

// overridden is sum with the resources that the pod asks for as a whole.
func overridden(sum amounts, pod corev1.ResourceRequirements) amounts {
	if q, ok := pod.Requests[corev1.ResourceCPU]; ok {
		sum.cpuRequest = q.MilliValue()
	}
	if q, ok := pod.Requests[corev1.ResourceMemory]; ok {
		sum.memoryRequest = q.Value()
	}
	if q, ok := pod.Limits[corev1.ResourceCPU]; ok {
		sum.cpuLimit = q.MilliValue()
	}
	if q, ok := pod.Limits[corev1.ResourceMemory]; ok {
		sum.memoryLimit = q.Value()
	}
	return sum
}
