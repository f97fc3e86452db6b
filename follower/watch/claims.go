package watch

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// Values of ClaimSpec.Storage.
const (
	StorageLocal   = "local"   // on one node's own disks: it dies with the node
	StorageCentral = "central" // on a store that outlives the node
)

// ClaimSpec is what the log holds of a claim of a persistent volume.
type ClaimSpec struct {
	Class   string            `json:"class"`             // its StorageClass; "" = none
	Storage string            `json:"storage,omitempty"` // local or central; "" until it is bound
	Node    string            `json:"node,omitempty"`    // of a local volume, the node it is on
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`
	// Bound is when it was first seen bound: before it takes no space, and is not
	// billed.
	Bound        *time.Time  `json:"bound,omitempty"`
	End          *time.Time  `json:"end,omitempty"`
	ClaimedBytes int64       `json:"claimedBytes"` // the volume's size; until it is bound, what was asked for
	Metering     bool        `json:"metering,omitempty"`
	Past         []PastClaim `json:"past,omitempty"` // sizes before, oldest first
}

// PastClaim is a claim's size until it was expanded.
type PastClaim struct {
	Until        time.Time `json:"until"`
	ClaimedBytes int64     `json:"claimedBytes"`
}

// ClaimInfo is a claim, ended ones until they are forgotten.
type ClaimInfo struct {
	UID, Namespace, Name string
	ClaimSpec
}

// NamespaceSpec is what the log holds of a namespace.
type NamespaceSpec struct {
	Labels   map[string]string `json:"labels,omitempty"`
	Created  time.Time         `json:"created"`
	End      *time.Time        `json:"end,omitempty"`
	Metering bool              `json:"metering,omitempty"` // the metering itself runs here: a bill can leave it out
}

// volume is what a PersistentVolume says of where its data are.
type volume struct {
	local bool
	node  string
}

// hostnames are the labels by which a volume names the one node it is on.
func isHostname(label string) bool {
	return label == corev1.LabelHostname || strings.HasSuffix(label, "/hostname") || label == "topology.topolvm.io/node" ||
		strings.HasSuffix(label, "topology.openebs.io/nodename") || label == "openebs.io/nodename"
}

// SetVolume takes a PersistentVolume as the API server has it.
func (l *Log) SetVolume(pv *corev1.PersistentVolume) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := volume{local: pv.Spec.Local != nil || pv.Spec.HostPath != nil}
	if affinity := pv.Spec.NodeAffinity; affinity != nil && affinity.Required != nil {
		for _, term := range affinity.Required.NodeSelectorTerms {
			for _, must := range append(slices.Clone(term.MatchExpressions), term.MatchFields...) {
				if must.Operator == corev1.NodeSelectorOpIn && (isHostname(must.Key) || must.Key == "metadata.name") {
					v.local = true
					if len(must.Values) == 1 {
						v.node = must.Values[0]
					}
				}
			}
		}
	}
	before, known := l.volumes[pv.Name]
	l.volumes[pv.Name] = v
	if known && before == v {
		return
	}
	if o := l.bound[pv.Name]; o != nil && o.claim.End == nil {
		l.locate(o)
		l.record(o, ReasonChanged, l.clock.Now())
	}
}

// DeleteVolume forgets it; its claim keeps what it told.
func (l *Log) DeleteVolume(pv *corev1.PersistentVolume) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.volumes, pv.Name)
	delete(l.bound, pv.Name)
}

// localProvisioners make volumes on a node's own disks, some without saying so
// in the volume.
var localProvisioners = []string{"kubernetes.io/no-provisioner", "rancher.io/local-path", "openebs.io/local", "local.csi.openebs.io", "topolvm.io"}

// SetClass takes a StorageClass as the API server has it.
func (l *Log) SetClass(class *storagev1.StorageClass) {
	l.mu.Lock()
	defer l.mu.Unlock()
	local := slices.Contains(localProvisioners, class.Provisioner)
	if l.classes[class.Name] == local {
		return
	}
	l.classes[class.Name] = local
	for _, o := range l.objects {
		if o.kind == KindClaim && o.claim.Class == class.Name && o.claim.End == nil && o.present {
			l.locate(o)
			l.record(o, ReasonChanged, l.clock.Now())
		}
	}
}

// DeleteClass keeps what was known: claims of it live on.
func (l *Log) DeleteClass(*storagev1.StorageClass) {}

// locate says where a bound claim's data are, by its volume, else by its class.
func (l *Log) locate(o *object) {
	if o.claim.Bound == nil {
		return
	}
	v, known := l.volumes[o.volume]
	switch {
	case known && (v.local || l.classes[o.claim.Class]), !known && l.classes[o.claim.Class]:
		o.claim.Storage, o.claim.Node = StorageLocal, cmp.Or(v.node, o.claim.Node)
	case known || o.claim.Storage == "":
		o.claim.Storage, o.claim.Node = StorageCentral, ""
	}
}

// SetClaim takes a PersistentVolumeClaim as the API server has it.
func (l *Log) SetClaim(pvc *corev1.PersistentVolumeClaim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.updateClaim(pvc)
}

func (l *Log) updateClaim(pvc *corev1.PersistentVolumeClaim) *object {
	o, isNew := l.get(KindClaim, string(pvc.UID), l.namespace(pvc.Namespace), l.name(KindClaim, pvc.Namespace, pvc.Name))
	now := l.clock.Now().UTC()
	reason, from := ReasonChanged, now
	if class := pvc.Spec.StorageClassName; class != nil {
		o.claim.Class = *class
	}
	if o.volume = pvc.Spec.VolumeName; o.volume != "" {
		l.bound[o.volume] = o
	}
	o.claim.Created = pvc.CreationTimestamp.UTC()
	o.claim.Labels = l.pick(pvc.Labels)
	o.claim.Metering = l.metering != "" && pvc.Namespace == l.metering
	if pvc.Status.Phase == corev1.ClaimBound && o.claim.Bound == nil {
		reason, o.claim.Bound = ReasonStarted, &now
		if isNew { // it was bound before we looked: since it was made, as far as we know
			o.claim.Bound = pointer(o.claim.Created)
		}
	}
	size := pvc.Spec.Resources.Requests.Storage().Value()
	if actual := pvc.Status.Capacity.Storage().Value(); actual > 0 {
		size = actual
	}
	if before := o.claim.ClaimedBytes; before != size {
		if o.claim.ClaimedBytes = size; !isNew && o.claim.Bound != nil && reason != ReasonStarted {
			reason = ReasonResized
			o.claim.Past = append(slices.Clip(o.claim.Past), PastClaim{Until: now, ClaimedBytes: before})
			o.claim.Past = o.claim.Past[max(0, len(o.claim.Past)-maxPast):]
		}
	}
	l.locate(o)
	if isNew {
		reason, from = ReasonAdded, o.claim.Created
	}
	l.record(o, reason, from)
	return o
}

// DeleteClaim takes a claim's last state: it ends now.
func (l *Log) DeleteClaim(pvc *corev1.PersistentVolumeClaim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone(l.updateClaim(pvc), ReasonDeleted)
}

// SetNamespace takes a namespace as the API server has it.
func (l *Log) SetNamespace(namespace *corev1.Namespace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.updateNamespace(namespace)
}

func (l *Log) updateNamespace(namespace *corev1.Namespace) *object {
	o, isNew := l.get(KindNamespace, string(namespace.UID), "", l.namespace(namespace.Name))
	o.space.Labels = l.pick(namespace.Labels)
	o.space.Created = namespace.CreationTimestamp.UTC()
	o.space.Metering = l.metering != "" && namespace.Name == l.metering
	if isNew {
		l.record(o, ReasonAdded, o.space.Created)
	} else {
		l.record(o, ReasonChanged, l.clock.Now())
	}
	return o
}

// DeleteNamespace takes a namespace's last state.
func (l *Log) DeleteNamespace(namespace *corev1.Namespace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone(l.updateNamespace(namespace), ReasonDeleted)
}

// Claims are all claims not yet forgotten, by namespace, name and UID. They must
// not be changed.
func (l *Log) Claims() []ClaimInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []ClaimInfo
	for _, o := range l.objects {
		if o.kind == KindClaim && !o.forgotten {
			all = append(all, ClaimInfo{UID: o.uid, Namespace: o.namespace, Name: o.name, ClaimSpec: o.claim})
		}
	}
	slices.SortFunc(all, func(a, b ClaimInfo) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return all
}
