package kube

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// What a real API server and kubelet tell of a pod's life reaches its minutes: a
// resize by its time, a claim by its size and use; a pod whose image never comes
// asks for nothing.
func TestLivesOnRealNode(t *testing.T) {
	t.Parallel() // a minute of a claim settles three minutes after its end
	cluster := kubetest.Inside(t).Cluster(t, "alpha")
	s := newSpace(t, cluster)
	uid := s.mounts(t, cluster.Nodes[0].Name)
	waiting := s.run(t, "waits", func(spec *corev1.PodSpec) { spec.Containers[0].Image = "kubetest.local/none:1" })
	resized := s.run(t, "grows", func(spec *corev1.PodSpec) {
		spec.InitContainers = []corev1.Container{*spec.Containers[0].DeepCopy()}
		spec.InitContainers[0].Name, spec.InitContainers[0].Args = "first", []string{"-for", "100ms"}
	})
	m := startMeter(t, s, cluster, 18462, "--settle-deadline", "20s", "--facts-deadline", "20s", "--namespace", s.name)
	requests := func(want int) func(context.Context) error {
		return func(ctx context.Context) error {
			rows, err := m.rows(ctx, schema.PodMinute.Name)
			for _, row := range rows {
				if row[schema.PodUID] == resized && row[schema.CPURequest] == strconv.Itoa(want) && row[schema.MemoryRequest] == strconv.Itoa(32<<10*60) {
					return err
				}
			}
			return fmt.Errorf("none of %d rows has a request of %d: %v, %v", len(rows), want, rows, err)
		}
	}
	eventually(t, "a minute with what the pod first asks for", requests(50e3*60))
	patch := []byte(`{"spec":{"containers":[{"name":"work","resources":{"requests":{"cpu":"150m"}}}]}}`)
	if _, err := s.CoreV1().Pods(s.name).Patch(t.Context(), "grows", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "resize"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a minute after the resize", requests(150e3*60))
	eventually(t, "a minute of the claim", func(ctx context.Context) error {
		rows, err := m.rows(ctx, schema.VolumeMinute.Name)
		for _, row := range rows {
			if row[schema.ClaimUID] != uid || row[schema.Coverage] == "0" {
				continue
			}
			if row[schema.Storage] != "local" || row[schema.Claim] != "data" || row[schema.Used] == "0" || row[schema.Mounted] == "0" || !claims(row, 64<<10) {
				t.Errorf("row of the claim %v", row)
			}
			return err
		}
		return fmt.Errorf("none of %d rows has a reading: %v, %v", len(rows), rows, err)
	})
	rows, err := m.rows(t.Context(), schema.PodMinute.Name)
	if err != nil {
		t.Fatal(err)
	}
	stored := 0
	for _, row := range rows {
		if row[schema.PodUID] == waiting && (row[schema.CPURequest] != "0" || row[schema.Uptime] != "0") {
			t.Errorf("a pod without its image: %v", row)
		}
		if row[schema.PodUID] == resized && row[schema.Ephemeral] != "" && row[schema.Ephemeral] != "0" {
			stored++
		}
	}
	if stored == 0 {
		t.Error("no minute has ephemeral storage")
	}
}

// claims says whether a row of a claim counts its size for as long as there was
// the claim, which may be a part of the minute: Uptime is in ms.
func claims(row map[string]string, kibibytes int64) bool {
	claimed, err := strconv.ParseInt(row[schema.Claimed], 10, 64)
	alive, bad := strconv.ParseInt(row[schema.Uptime], 10, 64)
	return errors.Join(err, bad) == nil && alive > 0 && claimed == kibibytes*alive/1000
}

// run makes a pod of the workload, as changed, and gives its UID.
func (s space) run(t testing.TB, name string, change func(*corev1.PodSpec)) string {
	t.Helper()
	template := podOf(name)
	change(&template.Spec)
	pod, err := s.CoreV1().Pods(s.name).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: template.Spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(pod.UID)
}

// mounts makes a volume on the node's disk, a claim of it and a pod that mounts
// that, and gives the claim's UID.
func (s space) mounts(t testing.TB, node string) string {
	t.Helper()
	class, size := "", corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("64Mi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: t.TempDir()}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}}}
	if _, err := s.CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.CoreV1().PersistentVolumes().Delete(context.Background(), s.name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete volume: %v", err)
		}
	})
	claim, err := s.CoreV1().PersistentVolumeClaims(s.name).Create(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: modes, StorageClassName: &class, VolumeName: s.name,
			Resources: corev1.VolumeResourceRequirements{Requests: size}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, "mounts", func(spec *corev1.PodSpec) {
		spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	})
	return string(claim.UID)
}
