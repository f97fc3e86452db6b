package kubelet

import (
	"testing"

	"github.com/accumulus-metering/accumulus/follower/reading"
)

func TestParseCgroup(t *testing.T) {
	const uid = "35b8381c-5e0d-4d94-83cd-208a9654eb16"
	for id, want := range map[string]cgroupPath{
		"/":                     {kind: reading.Node},
		"/kubepods":             {kind: reading.Kubepods},
		"/kubepods.slice":       {kind: reading.Kubepods},
		"/k8s/kubepods":         {kind: reading.Kubepods},
		"/kubepods/burstable":   {},
		"/kubepods/pod" + uid:   {kind: reading.Pod, podUID: uid},
		"/kubepods/podbe0c":     {kind: reading.Pod, podUID: "be0c"},
		"/system.slice":         {},
		"/system.slice/x.scope": {},
		"/user.slice":           {},
		"kubepods":              {},
		"":                      {},
		"/kubepods/":            {},
		"/kubepods/pod":         {},
		"/docker/4f/kubepods/besteffort/pod" + uid:                                                                                     {kind: reading.Pod, podUID: uid},
		"/kubepods/besteffort/pod" + uid:                                                                                               {kind: reading.Pod, podUID: uid},
		"/kubepods/besteffort/pod" + uid + "/29a8":                                                                                     {kind: reading.Container, podUID: uid},
		"/kubepods/besteffort/pod" + uid + "/29a8/nested":                                                                              {},
		"/kubepods/besteffort/pod" + uid + "/":                                                                                         {},
		"/kubepods.slice/kubepods-besteffort.slice":                                                                                    {},
		"/kubepods.slice/kubepods-pod35b8381c_5e0d_4d94.slice":                                                                         {kind: reading.Pod, podUID: "35b8381c-5e0d-4d94"},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod35b8381c_5e0d.slice":                                           {kind: reading.Pod, podUID: "35b8381c-5e0d"},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod35b8381c_5e0d.slice/cri-containerd-29a8.scope":                 {kind: reading.Container, podUID: "35b8381c-5e0d"},
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podab_c.slice/crio-1.scope": {kind: reading.Container, podUID: "ab-c"},
		"/kubepods.slice/kubepods-burstable.slice/other.slice":                                                                         {},
	} {
		if got := parseCgroup(id); got != want {
			t.Errorf("parseCgroup(%q) = %+v, want %+v", id, got, want)
		}
	}
}
