package kubelet

import (
	"strings"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

// place in the tree of a node's cgroups.
type cgroupPath struct {
	kind   reading.Kind // "" = none that is metered
	podUID string
}

// parseCgroup says what a cgroup id of the kubelet's cAdvisor is. It knows both
// drivers and both versions of the kernel's interface:
//
//	cgroupfs  /kubepods/burstable/pod<uid>/<container>
//	systemd   /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, - as _>.slice/cri-containerd-<container>.scope
//
// with anything before kubepods (the kubelet's --cgroup-root). A container's
// own nested cgroups and the QoS classes' are parts of what is metered already,
// so they have no kind.
func parseCgroup(id string) cgroupPath {
	if id == "/" {
		return cgroupPath{kind: reading.Node}
	}
	rest, ok := strings.CutPrefix(id, "/")
	if !ok {
		return cgroupPath{}
	}
	parts := strings.Split(rest, "/")
	at := 0
	for at < len(parts) && !isKubepods(parts[at]) {
		at++
	}
	parts = parts[min(at+1, len(parts)):]
	switch {
	case at == strings.Count(rest, "/")+1:
		return cgroupPath{}
	case len(parts) == 0:
		return cgroupPath{kind: reading.Kubepods}
	}
	if isQoS(parts[0]) {
		parts = parts[1:]
	}
	if len(parts) == 0 {
		return cgroupPath{}
	}
	uid := podUID(parts[0])
	switch {
	case uid == "":
		return cgroupPath{}
	case len(parts) == 1:
		return cgroupPath{kind: reading.Pod, podUID: uid}
	case len(parts) == 2 && parts[1] != "":
		return cgroupPath{kind: reading.Container, podUID: uid}
	}
	return cgroupPath{}
}

func isKubepods(part string) bool {
	return part == "kubepods" || part == "kubepods.slice" || strings.HasSuffix(part, "-kubepods.slice")
}

func isQoS(part string) bool {
	return part == "burstable" || part == "besteffort" ||
		strings.HasSuffix(part, "-burstable.slice") || strings.HasSuffix(part, "-besteffort.slice")
}

// podUID is the UID in a pod's cgroup name, or "".
func podUID(part string) string {
	if slice, ok := strings.CutSuffix(part, ".slice"); ok {
		at := strings.LastIndex(slice, "-pod")
		if at < 0 {
			return ""
		}
		return strings.ReplaceAll(slice[at+len("-pod"):], "_", "-")
	}
	uid, ok := strings.CutPrefix(part, "pod")
	if !ok {
		return ""
	}
	return uid
}
