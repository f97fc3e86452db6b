package watch

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// resources are amounts by name: CPU in millicores, everything else in its own
// unit (bytes, pieces).
type resources map[corev1.ResourceName]int64

// noLimit is an amount that no machine has. Where a container has no limit of
// memory, a kubelet on version 1 of the kernel's control groups tells what the
// kernel shows then, 2^63 less a page, as the limit in force.
const noLimit = 1 << 60

func resourcesOf(list corev1.ResourceList) resources {
	r := make(resources, len(list))
	for name, quantity := range list {
		amount := quantity.Value()
		if name == corev1.ResourceCPU {
			amount = quantity.MilliValue()
		}
		if amount < noLimit {
			r[name] = amount
		}
	}
	return r
}

func (r resources) add(b resources) {
	for name, amount := range b {
		r[name] += amount
	}
}

func (r resources) raise(b resources) {
	for name, amount := range b {
		r[name] = max(r[name], amount)
	}
}

// view is one way to see what a pod's containers have: as the spec wants it, as
// the kubelet allocated it, as it is in force.
type view func(c *corev1.Container, status *corev1.ContainerStatus) corev1.ResourceList

// tally are a view's amounts: of each container by its place (init containers
// first), and of the whole pod.
type tally struct {
	each  []resources
	whole resources
}

// count adds a view up as KEP-753 does: the greater of the containers' sum,
// sidecars included, and of any init container with the sidecars before it.
func count(pod *corev1.Pod, v view) tally {
	t := tally{whole: resources{}}
	sidecars, peak := resources{}, resources{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		own := resourcesOf(v(c, statusOf(pod.Status.InitContainerStatuses, c.Name)))
		t.each = append(t.each, own)
		if isSidecar(c) {
			t.whole.add(own)
			sidecars.add(own)
			peak.raise(sidecars)
			continue
		}
		during := maps.Clone(sidecars)
		during.add(own)
		peak.raise(during)
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		own := resourcesOf(v(c, statusOf(pod.Status.ContainerStatuses, c.Name)))
		t.each = append(t.each, own)
		t.whole.add(own)
	}
	t.whole.raise(peak)
	return t
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func statusOf(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

// greatest takes each resource from the view in which the whole pod has most of
// it, so that the parts still sum to a whole that some view shows.
func greatest(tallies ...tally) tally {
	best := tally{whole: resources{}, each: make([]resources, len(tallies[0].each))}
	for i := range best.each {
		best.each[i] = resources{}
	}
	names := make(map[corev1.ResourceName]bool)
	for _, t := range tallies {
		for name := range t.whole {
			names[name] = true
		}
	}
	for name := range names {
		from := slices.MaxFunc(tallies, func(a, b tally) int { return int(min(1, max(-1, a.whole[name]-b.whole[name]))) })
		best.whole[name] = from.whole[name]
		for i := range best.each {
			if amount, ok := from.each[i][name]; ok {
				best.each[i][name] = amount
			}
		}
	}
	return best
}

// requests are a pod's containers with their requests and limits, so that those
// of the containers that are not Init sum to what the scheduler counts (package
// resource of k8s.io/component-helpers, with the status in use): the greatest of
// what is wanted, allocated and in force, without what is wanted when the
// resize was refused; what the pod itself asks for, where it does; and its
// runtime's overhead. What that is above the containers' own sum stands at the
// container schema.PodRest. A limit of 0 is none.
func requests(pod *corev1.Pod) []ContainerSpec {
	infeasible := resizeInfeasible(pod)
	asked := []tally{count(pod, allocatedRequests(infeasible)), count(pod, actualRequests(infeasible))}
	limits := []tally{count(pod, actualLimits(infeasible))}
	if pod.Status.AllocatedResources != nil && pod.Status.Resources != nil && pod.Status.Resources.Requests != nil {
		asked[0].whole, asked[1].whole = resourcesOf(pod.Status.AllocatedResources), resourcesOf(pod.Status.Resources.Requests)
	}
	if pod.Status.Resources != nil && pod.Status.Resources.Limits != nil {
		limits[0].whole = resourcesOf(pod.Status.Resources.Limits)
	}
	if !infeasible {
		asked = append(asked, count(pod, func(c *corev1.Container, _ *corev1.ContainerStatus) corev1.ResourceList { return c.Resources.Requests }))
		limits = append(limits, count(pod, func(c *corev1.Container, _ *corev1.ContainerStatus) corev1.ResourceList { return c.Resources.Limits }))
	}
	request, limit := greatest(asked...), greatest(limits...)
	podLevel(pod, infeasible, request.whole, limit.whole)
	overhead := resourcesOf(pod.Spec.Overhead)
	request.whole.add(overhead)
	for name, amount := range overhead {
		if limit.whole[name] > 0 {
			limit.whole[name] += amount
		}
	}
	return parts(pod, request, limit)
}

// parts are the containers in the spec's order, then the init containers, then
// what the pod has above them.
func parts(pod *corev1.Pod, request, limit tally) []ContainerSpec {
	var all, inits []ContainerSpec
	ownRequest, ownLimit := resources{}, resources{}
	count := len(pod.Spec.InitContainers)
	for i := range request.each {
		if i < count {
			c := &pod.Spec.InitContainers[i]
			spec := containerSpec(c.Name, request.each[i], limit.each[i])
			spec.Sidecar = isSidecar(c)
			spec.Init = !spec.Sidecar
			inits = append(inits, spec)
			if spec.Init {
				continue
			}
		} else {
			all = append(all, containerSpec(pod.Spec.Containers[i-count].Name, request.each[i], limit.each[i]))
		}
		ownRequest.add(request.each[i])
		ownLimit.add(limit.each[i])
	}
	all = append(all, inits...)
	if rest := containerSpec(schema.PodRest, above(request.whole, ownRequest), above(limit.whole, ownLimit)); !rest.empty() {
		all = append(all, rest)
	}
	return all
}

// above is what the whole has beyond its parts, never negative.
func above(whole, parts resources) resources {
	rest := resources{}
	for name, amount := range whole {
		if amount > parts[name] {
			rest[name] = amount - parts[name]
		}
	}
	return rest
}

func containerSpec(name string, request, limit resources) ContainerSpec {
	spec := ContainerSpec{Name: name, RequestMillicores: request[corev1.ResourceCPU], LimitMillicores: limit[corev1.ResourceCPU],
		RequestMemoryBytes: request[corev1.ResourceMemory], LimitMemoryBytes: limit[corev1.ResourceMemory]}
	spec.Extended = extended(request)
	return spec
}

// extended are the resources beside CPU and memory that there are any of, by
// name; nil when there are none.
func extended(r resources) map[string]int64 {
	var others map[string]int64
	for resource, amount := range r {
		if resource != corev1.ResourceCPU && resource != corev1.ResourceMemory && amount != 0 {
			if others == nil {
				others = make(map[string]int64)
			}
			others[string(resource)] = amount
		}
	}
	return others
}

func (c ContainerSpec) empty() bool {
	return c.RequestMillicores|c.LimitMillicores|c.RequestMemoryBytes|c.LimitMemoryBytes == 0 && len(c.Extended) == 0
}

// allocatedRequests are those that the kubelet promised.
func allocatedRequests(infeasible bool) view {
	return func(c *corev1.Container, status *corev1.ContainerStatus) corev1.ResourceList {
		if status != nil && status.AllocatedResources != nil {
			return status.AllocatedResources
		}
		if infeasible {
			return nil
		}
		return c.Resources.Requests
	}
}

// actualRequests are those in force.
func actualRequests(infeasible bool) view {
	allocated := allocatedRequests(infeasible)
	return func(c *corev1.Container, status *corev1.ContainerStatus) corev1.ResourceList {
		if status != nil && status.Resources != nil && status.Resources.Requests != nil {
			return status.Resources.Requests
		}
		return allocated(c, status)
	}
}

func actualLimits(infeasible bool) view {
	return func(c *corev1.Container, status *corev1.ContainerStatus) corev1.ResourceList {
		if status != nil && status.Resources != nil && status.Resources.Limits != nil {
			return status.Resources.Limits
		}
		if infeasible {
			return nil
		}
		return c.Resources.Limits
	}
}

// podLevel replaces what the containers sum to by what the pod itself asks for:
// CPU, memory and huge pages.
func podLevel(pod *corev1.Pod, infeasible bool, request, limit resources) {
	if pod.Spec.Resources == nil {
		return
	}
	wanted, wantedLimit := resourcesOf(pod.Spec.Resources.Requests), resourcesOf(pod.Spec.Resources.Limits)
	requested, limited := supports(wanted), supports(wanted) || supports(wantedLimit)
	if status := pod.Status.Resources; status != nil {
		if infeasible {
			wanted, wantedLimit = resources{}, resources{}
		}
		wanted.raise(resourcesOf(status.Requests))
		wanted.raise(resourcesOf(pod.Status.AllocatedResources))
		wantedLimit.raise(resourcesOf(status.Limits))
	}
	replace := func(in, by resources) {
		for name, amount := range by {
			if podLevelResource(name) {
				in[name] = amount
			}
		}
	}
	if requested {
		replace(request, wanted)
	}
	if limited {
		replace(limit, wantedLimit)
	}
}

func podLevelResource(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func supports(r resources) bool {
	for name := range r {
		if podLevelResource(name) {
			return true
		}
	}
	return false
}

// resizeInfeasible says whether the node can never give what the pod now wants.
func resizeInfeasible(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodResizePending {
			return condition.Reason == corev1.PodReasonInfeasible
		}
	}
	return false
}
