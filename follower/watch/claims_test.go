package watch

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

func newClaim(name, class, volume, size string) *corev1.PersistentVolumeClaim {
	quantity := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: "uid-x", CreationTimestamp: stamp(-time.Hour)},
		Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: &class, VolumeName: volume, Resources: corev1.VolumeResourceRequirements{Requests: quantity}},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: quantity},
	}
}

func pinned(key, node string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}
}

// TestWhereAVolumeIs: in whatever order claim, volume and class are shown.
func TestWhereAVolumeIs(t *testing.T) {
	network := corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s"}}
	disk := corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/d"}}
	csi := corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d"}}
	for name, c := range map[string]struct {
		source        corev1.PersistentVolumeSource
		affinity      *corev1.VolumeNodeAffinity
		provisioner   string
		storage, node string
	}{
		"network":        {network, nil, "nfs.csi.k8s.io", StorageCentral, ""},
		"zone":           {csi, pinned("topology.kubernetes.io/zone", "z1"), "ebs.csi.aws.com", StorageCentral, ""},
		"local":          {disk, pinned("kubernetes.io/hostname", "n1"), "kubernetes.io/no-provisioner", StorageLocal, "n1"},
		"csi of a node":  {csi, pinned("topology.hostpath.csi/hostname", "n2"), "hostpath.csi.k8s.io", StorageLocal, "n2"},
		"class says so":  {csi, nil, "rancher.io/local-path", StorageLocal, ""},
		"path of a host": {corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/d"}}, nil, "x", StorageLocal, ""},
	} {
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: c.source, NodeAffinity: c.affinity}}
		class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: c.provisioner}
		steps := map[string]func(*Log){
			"v": func(l *Log) { l.SetVolume(pv) }, "c": func(l *Log) { l.SetClaim(newClaim("data", "fast", "pv", "1Gi")) }, "s": func(l *Log) { l.SetClass(class) }}
		for _, order := range []string{"vcs", "cvs", "svc", "scv", "csv", "vsc"} {
			l, _ := newTestLog(t)
			for _, step := range order {
				steps[string(step)](l)
			}
			if got := l.Claims(); len(got) != 1 || got[0].Storage != c.storage || got[0].Node != c.node {
				t.Errorf("%s, shown in the order %s: %+v, want %s on %q", name, order, got, c.storage, c.node)
			}
		}
	}
}

func TestClaimHistory(t *testing.T) {
	l, clk := newTestLog(t)
	claim := newClaim("data", "fast", "", "1Gi")
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	l.SetClaim(claim)
	clk.Advance(time.Minute)
	l.SetClaim(newClaim("data", "fast", "pv", "1Gi"))
	clk.Advance(time.Minute)
	l.SetClaim(newClaim("data", "fast", "pv", "3Gi"))
	clk.Advance(time.Minute)
	l.DeleteClaim(newClaim("data", "fast", "pv", "3Gi"))
	if diff := cmp.Diff([]string{"PersistentVolumeClaim added", "PersistentVolumeClaim started", "PersistentVolumeClaim resized", "PersistentVolumeClaim deleted"}, reasons(l)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	got := l.Claims()[0]
	bound, end := noon.Add(time.Minute), noon.Add(3*time.Minute)
	want := ClaimInfo{UID: got.UID, Namespace: "shop", Name: "data", ClaimSpec: ClaimSpec{Class: "fast", Storage: StorageCentral,
		Created: stamp(-time.Hour).UTC(), Bound: &bound, End: &end, ClaimedBytes: 3 << 30, Past: []PastClaim{{noon.Add(2 * time.Minute), 1 << 30}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("claim (-want +got):\n%s", diff)
	}
	again, err := NewLog(Config{}, clk, l.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(l.Pending()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.Claims(), again.Claims()); diff != "" {
		t.Errorf("restored (-was +is):\n%s", diff)
	}
}

func TestNamespaces(t *testing.T) {
	l, err := NewLog(Config{Namespace: "accumulus"}, clock.NewManual(noon), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"accumulus", "shop"} {
		l.SetNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{"team": "a", "secret": "b"}}})
		changes := l.Pending()
		var spec NamespaceSpec
		if err := json.Unmarshal(changes[len(changes)-1].Spec, &spec); err != nil {
			t.Fatal(err)
		}
		if spec.Metering != (name == "accumulus") || len(spec.Labels) != 1 {
			t.Errorf("%s: %+v", name, spec)
		}
	}
}

// TestTrimLosesNothing: what the informers keep tells the log the same, and is a
// fraction of what the API server sent.
func TestTrimLosesNothing(t *testing.T) {
	whole, _ := newTestLog(t)
	cut, _ := newTestLog(t)
	before, after := 0, 0
	size := func(object any) int {
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		return len(text)
	}
	for _, pod := range realPods(t) {
		whole.SetPod(&pod)
		before += size(pod)
		object, err := cut.trim(&pod)
		if err != nil {
			t.Fatal(err)
		}
		after += size(object)
		cut.SetPod(object.(*corev1.Pod))
	}
	var node corev1.Node
	load(t, "testdata/node.yaml", &node)
	whole.SetNode(&node)
	before += size(node)
	if _, err := cut.trim(&node); err != nil {
		t.Fatal(err)
	}
	after += size(node)
	cut.SetNode(&node)
	if diff := cmp.Diff(whole.Pending(), cut.Pending()); diff != "" {
		t.Errorf("changes of whole and of trimmed objects (-whole +trimmed):\n%s", diff)
	}
	if after*3 > before*2 {
		t.Errorf("trimmed objects are %d of %d bytes, want two thirds at most", after, before)
	}
	t.Logf("%d of %d bytes are kept", after, before)
}
