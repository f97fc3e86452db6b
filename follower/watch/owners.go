package watch

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	kindReplicaSet = "ReplicaSet"
	kindDeployment = "Deployment"
)

// controller is the owner that controls an object, as a chain of one or none.
func controller(references []metav1.OwnerReference) []Owner {
	for _, ref := range references {
		if ref.Controller != nil && *ref.Controller {
			return []Owner{{APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, UID: string(ref.UID)}}
		}
	}
	return nil
}

// between says whether the owner is one that another one stands above: a
// ReplicaSet or Job of Kubernetes itself, not one of the same name of someone
// else's.
func (o Owner) between() bool {
	return (o.Kind == kindReplicaSet && strings.HasPrefix(o.APIVersion, "apps/")) ||
		(o.Kind == KindJob && strings.HasPrefix(o.APIVersion, "batch/"))
}

// resolve follows the pod's owner chain to its top if that is not known yet,
// and says whether it became known. A pod that waits is found again when its
// owner comes.
func (l *Log) resolve(o *object) bool {
	if o.pod.OwnerKnown {
		return false
	}
	set := func(kind, name string) bool {
		o.pod.WorkloadKind, o.pod.Workload, o.pod.OwnerKnown = kind, name, true
		return true
	}
	if len(o.pod.Owners) == 0 || o.pod.Owners[0].Kind == KindNode { // a static pod belongs to its node
		return set(KindPod, o.name)
	}
	first := o.pod.Owners[0]
	if !first.between() {
		return set(first.Kind, first.Name)
	}
	own, ok := l.owners[first.UID]
	switch {
	case ok && own.controller != nil:
		o.pod.Owners = append(o.pod.Owners[:1:1], *own.controller)
		return set(own.controller.Kind, own.controller.Name)
	case ok:
		return set(own.kind, own.name)
	case !o.asked:
		if !slices.Contains(l.waiting[first.UID], o) {
			l.waiting[first.UID] = append(l.waiting[first.UID], o)
		}
		return false
	}
	if name, cut := o.deployment(); cut {
		return set(kindDeployment, l.name(kindDeployment, o.names.namespace, name))
	}
	return set(first.Kind, first.Name)
}

// deployment is what stands above the pod's ReplicaSet by its name, which ends
// in the hash of the pod's template.
func (o *object) deployment() (string, bool) {
	if o.names.owner != "" && o.names.hash != "" {
		return strings.CutSuffix(o.names.owner, "-"+o.names.hash)
	}
	if o.pod.TemplateHash == "" {
		return "", false
	}
	return strings.CutSuffix(o.pod.Owners[0].Name, "-"+o.pod.TemplateHash)
}

// own takes an owner and resolves the pods that waited for it.
func (l *Log) own(uid string, own owner) {
	l.owners[uid] = own
	l.release(uid)
}

func (l *Log) release(uid string) {
	waiting := l.waiting[uid]
	delete(l.waiting, uid)
	for _, o := range waiting {
		if l.resolve(o) {
			l.record(o, ReasonOwner, l.clock.Now())
		}
	}
}

// SetReplicaSet takes a ReplicaSet as the API server has it.
func (l *Log) SetReplicaSet(set *appsv1.ReplicaSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own(string(set.UID), l.ownerOf(kindReplicaSet, set.ObjectMeta))
}

// DeleteReplicaSet keeps it as an owner until Forget: its pods may come later.
func (l *Log) DeleteReplicaSet(set *appsv1.ReplicaSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.ownerOf(kindReplicaSet, set.ObjectMeta)
	own.deleted = l.clock.Now()
	l.own(string(set.UID), own)
}

func (l *Log) ownerOf(kind string, meta metav1.ObjectMeta) owner {
	own := owner{kind: kind, name: l.name(kind, meta.Namespace, meta.Name)}
	if chain := l.aliases(meta.Namespace, controller(meta.OwnerReferences)); chain != nil {
		own.controller = &chain[0]
	}
	return own
}

// SetJob takes a Job as the API server has it.
func (l *Log) SetJob(job *batchv1.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own(string(job.UID), l.ownerOf(KindJob, job.ObjectMeta))
	l.updateJob(job)
}

// DeleteJob takes a Job's last state.
func (l *Log) DeleteJob(job *batchv1.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.ownerOf(KindJob, job.ObjectMeta)
	own.deleted = l.clock.Now()
	l.own(string(job.UID), own)
	l.gone(l.updateJob(job), ReasonDeleted)
}

func (l *Log) updateJob(job *batchv1.Job) *object {
	o, isNew := l.get(KindJob, string(job.UID), l.namespace(job.Namespace), l.name(KindJob, job.Namespace, job.Name))
	if o.job.End != nil {
		return o
	}
	reason, from := ReasonChanged, l.clock.Now()
	if chain := l.aliases(job.Namespace, controller(job.OwnerReferences)); chain != nil {
		o.job.Owner = &chain[0]
	}
	if kind, name := l.jobGroup(job.Labels); name != "" {
		o.job.Group = &Owner{Kind: kind, Name: l.name(kind, job.Namespace, name)}
	}
	o.job.Labels = l.pick(job.Labels)
	o.job.Created = job.CreationTimestamp.UTC()
	if job.Status.StartTime != nil {
		if o.job.Start == nil {
			reason, from = ReasonStarted, job.Status.StartTime.UTC()
		}
		o.job.Start = pointer(job.Status.StartTime.Time)
	}
	for _, condition := range job.Status.Conditions {
		if condition.Status != corev1.ConditionTrue || (condition.Type != batchv1.JobComplete && condition.Type != batchv1.JobFailed) {
			continue
		}
		end := condition.LastTransitionTime.UTC()
		if job.Status.CompletionTime != nil {
			end = job.Status.CompletionTime.UTC()
		}
		o.job.End, o.job.Succeeded, o.job.EndReason = pointer(end), condition.Type == batchv1.JobComplete, condition.Reason
		reason, from = ReasonEnded, end
	}
	if isNew {
		reason, from = ReasonAdded, o.job.Created
	}
	l.record(o, reason, from)
	return o
}

// lookup is an owner that pods wait for.
type lookup struct{ kind, namespace, name, uid string }

// unresolved are the owners that pods wait for.
func (l *Log) unresolved() []lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []lookup
	for uid, waiting := range l.waiting {
		for _, o := range waiting[:min(1, len(waiting))] {
			if o.names.owner != "" { // it was shown since the start
				all = append(all, lookup{kind: o.pod.Owners[0].Kind, namespace: o.names.namespace, name: o.names.owner, uid: uid})
			}
		}
	}
	return all
}

// absent says that the API server has no owner of that UID. Its pods then take
// the name that the owner's name shows: of a ReplicaSet, less the hash of the
// pod's template, the Deployment's.
func (l *Log) absent(uid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.waiting[uid] {
		o.asked = true
	}
	l.release(uid)
}
