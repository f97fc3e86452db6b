package simulator

import (
	"encoding/json"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Claim is a persistent volume's, mounted by its pod and bound since that started;
// it stays when the pod goes.
type Claim struct {
	Name  string
	Local bool // on the node's own disk, else on a store in the network
	Bytes int64
	Used  Wave // B
}

// Names of the two storage classes that every cluster has.
const (
	LocalClass   = "local-path"
	CentralClass = "network"
)

func (c Claim) class() string {
	if c.Local {
		return LocalClass
	}
	return CentralClass
}

// summaryEvery is how often a kubelet measures volumes.
const summaryEvery = time.Minute

func (p Pod) validateClaims() error {
	for _, c := range p.Claims {
		if p.Every != 0 || c.Name == "" || c.Bytes <= 0 {
			return errors.New("a claim has a name and a size, and a pod that stays")
		}
		if err := c.Used.check(); err != nil {
			return err
		}
	}
	return p.Ephemeral.check()
}

// ClaimUsed is how much of a pod's claim is used at t, B, as its kubelet measures
// it.
func (s *Simulator) ClaimUsed(cluster, namespace, claim string, t time.Time) int64 {
	c := s.cluster(cluster)
	for p := range c.Pods {
		for _, one := range c.Pods[p].Claims {
			if one.Name == claim && c.Pods[p].Namespace == namespace {
				return level(one.Used, s.instance(cluster, &c.Pods[p], 0).age(t))
			}
		}
	}
	return 0
}

// summary is the part of /stats/summary that tells of volumes and ephemeral
// storage; the rest of a kubelet's is left out.
func (s *Simulator) summary(cluster string, n *Node, t time.Time, offset time.Duration) ([]byte, error) {
	stamp := func(at time.Time) string { return at.Add(offset).UTC().Format(time.RFC3339) }
	measured := stamp(t.Truncate(summaryEvery))
	pods := []any{}
	for _, p := range s.pods[[2]string{cluster, n.Name}] {
		for _, i := range s.overlapping(cluster, p, t, t) {
			if !i.alive(t) {
				continue
			}
			i = i.identify(s.fleet.Seed)
			volumes := []any{map[string]any{"name": "kube-api-access", "time": measured, "usedBytes": 12288, "capacityBytes": n.MemoryBytes}}
			age := i.age(t.Truncate(summaryEvery))
			for _, c := range p.Claims {
				volumes = append(volumes, map[string]any{"name": "v-" + c.Name, "time": measured, "pvcRef": map[string]string{"name": c.Name, "namespace": p.Namespace},
					"usedBytes": level(c.Used, age), "capacityBytes": c.Bytes, "availableBytes": c.Bytes - level(c.Used, age)})
			}
			pod := map[string]any{"podRef": map[string]string{"name": i.Name, "namespace": i.Namespace, "uid": i.UID}, "startTime": stamp(i.Start), "volume": volumes}
			if p.Ephemeral != (Wave{}) {
				pod["ephemeral-storage"] = map[string]any{"time": measured, "usedBytes": level(p.Ephemeral, age)}
			}
			pods = append(pods, pod)
		}
	}
	return json.Marshal(map[string]any{"node": map[string]any{"nodeName": n.Name, "cpu": map[string]any{"time": stamp(t)}}, "pods": pods})
}

// forever is the life of an object that is made once and stays.
func (a *apiServer) forever(made time.Time, build func(meta metav1.ObjectMeta) runtime.Object, kind, namespace, name string) life {
	return newLife(made, time.Time{}, nil, func(at time.Time) object {
		meta := a.meta(kind, namespace, name, made, at)
		return object{body: build(meta), meta: meta}
	})
}

// eachClaim calls f with the claims of the cluster's pods.
func (a *apiServer) eachClaim(f func(p *Pod, c Claim)) {
	cluster := a.sim.cluster(a.cluster)
	for p := range cluster.Pods {
		for _, c := range cluster.Pods[p].Claims {
			f(&cluster.Pods[p], c)
		}
	}
}

func (a *apiServer) namespaceLives(_, _ time.Time) []life {
	made := make(map[string]time.Time)
	var names []string
	cluster := a.sim.cluster(a.cluster)
	for p := range cluster.Pods {
		pod := &cluster.Pods[p]
		first, known := made[pod.Namespace]
		if !known {
			names = append(names, pod.Namespace)
		}
		if !known || pod.Start.Before(first) {
			made[pod.Namespace] = pod.Start
		}
	}
	var all []life
	for _, name := range names {
		all = append(all, a.forever(made[name], func(meta metav1.ObjectMeta) runtime.Object {
			meta.Labels = map[string]string{"kubernetes.io/metadata.name": name}
			return &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: meta}
		}, "Namespace", "", name))
	}
	return all
}

func (a *apiServer) classLives(_, _ time.Time) []life {
	var all []life
	for name, provisioner := range map[string]string{LocalClass: "rancher.io/local-path", CentralClass: "nfs.csi.k8s.io"} {
		all = append(all, a.forever(a.sim.cluster(a.cluster).Nodes[0].Joined, func(meta metav1.ObjectMeta) runtime.Object {
			return &storagev1.StorageClass{TypeMeta: metav1.TypeMeta{Kind: "StorageClass", APIVersion: "storage.k8s.io/v1"}, ObjectMeta: meta, Provisioner: provisioner}
		}, "StorageClass", "", name))
	}
	return all
}

func (a *apiServer) claimLives(_, _ time.Time) []life {
	var all []life
	a.eachClaim(func(p *Pod, c Claim) {
		all = append(all, a.forever(p.Start, func(meta metav1.ObjectMeta) runtime.Object {
			meta.Labels = p.Labels
			class, size := c.class(), corev1.ResourceList{corev1.ResourceStorage: *apiresource.NewQuantity(c.Bytes, apiresource.BinarySI)}
			return &corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{Kind: "PersistentVolumeClaim", APIVersion: "v1"}, ObjectMeta: meta,
				Spec:   corev1.PersistentVolumeClaimSpec{StorageClassName: &class, VolumeName: "pvc-" + string(meta.UID), Resources: corev1.VolumeResourceRequirements{Requests: size}},
				Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: size}}
		}, "PersistentVolumeClaim", p.Namespace, c.Name))
	})
	return all
}

func (a *apiServer) volumeLives(_, _ time.Time) []life {
	var all []life
	a.eachClaim(func(p *Pod, c Claim) {
		name := "pvc-" + string(a.uid("PersistentVolumeClaim", p.Namespace, c.Name))
		all = append(all, a.forever(p.Start, func(meta metav1.ObjectMeta) runtime.Object {
			pv := &corev1.PersistentVolume{TypeMeta: metav1.TypeMeta{Kind: "PersistentVolume", APIVersion: "v1"}, ObjectMeta: meta}
			pv.Spec.StorageClassName = c.class()
			pv.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: p.Namespace, Name: c.Name}
			if !c.Local {
				pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "nfs.csi.k8s.io", VolumeHandle: name}
				return pv
			}
			pv.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/opt/local-path/" + name}
			pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{p.Node}}}}}}}
			return pv
		}, "PersistentVolume", "", name))
	})
	return all
}
