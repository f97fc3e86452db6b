package installer

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fault"
	coordination "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// holder is another leader's hold of a cluster's Lease as it was first seen.
type holder struct {
	version string // of the object: it changes when the holder does something
	seen    time.Time
}

// lock takes the cluster's Lease for this visit and returns what lets it go. It
// keeps two leaders from installing into one cluster at the same time: Helm
// itself does not. One that this leader holds was left by a process of its own
// that is gone, for a registry is open in one process. Another's is taken when it
// stood unchanged for the Lease's time, measured by our clock: clocks of two
// clusters are not compared.
func (v *visit) lock(ctx context.Context, cluster access) (release func(), err error) {
	leases := cluster.kube.CoordinationV1().Leases(v.namespace)
	found, err := leases.Get(ctx, LeaseName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("get Lease %s: %w", LeaseName, err)
	}
	seconds := int32(v.config.Lease.Seconds())
	now := metav1.NewMicroTime(v.clock.Now())
	var held *coordination.Lease
	if err != nil {
		held, err = leases.Create(ctx, &coordination.Lease{ObjectMeta: metav1.ObjectMeta{Name: LeaseName, Labels: v.labels()},
			Spec: coordination.LeaseSpec{HolderIdentity: &v.config.Leader, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now}},
			metav1.CreateOptions{FieldManager: FieldManager})
	} else {
		if err := v.free(found); err != nil {
			return nil, err
		}
		wanted := found.DeepCopy()
		transitions := int32(0)
		if found.Spec.LeaseTransitions != nil {
			transitions = *found.Spec.LeaseTransitions
		}
		if text(found.Spec.HolderIdentity) != v.config.Leader {
			transitions++
		}
		wanted.Spec = coordination.LeaseSpec{HolderIdentity: &v.config.Leader, LeaseDurationSeconds: &seconds,
			AcquireTime: &now, RenewTime: &now, LeaseTransitions: &transitions}
		held, err = leases.Update(ctx, wanted, metav1.UpdateOptions{FieldManager: FieldManager})
	}
	if err != nil {
		return nil, fmt.Errorf("take Lease %s: %w", LeaseName, err)
	}
	return func() {
		// The visit may have used up its time; a Lease that is not let go is taken
		// by us at the next visit.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.config.Connect)
		defer cancel()
		held.Spec.HolderIdentity = nil
		if _, err := leases.Update(ending, held, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil && !apierrors.IsNotFound(err) {
			v.log.Debug("Lease not let go", "cluster", v.one.Cluster, "err", err)
		}
	}, nil
}

// free says whether a Lease can be taken.
func (v *visit) free(lease *coordination.Lease) error {
	who := text(lease.Spec.HolderIdentity)
	v.mu.Lock()
	defer v.mu.Unlock()
	if who == "" || who == v.config.Leader {
		delete(v.holders, v.one.Cluster)
		return nil
	}
	now := v.clock.Now()
	first, known := v.holders[v.one.Cluster]
	if !known || first.version != lease.ResourceVersion {
		first = holder{lease.ResourceVersion, now}
		v.holders[v.one.Cluster] = first
	}
	duration := v.config.Lease
	if lease.Spec.LeaseDurationSeconds != nil {
		duration = max(duration, time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second)
	}
	if !now.Before(first.seen.Add(duration)) {
		delete(v.holders, v.one.Cluster)
		return nil
	}
	return &problem{class: fault.Conflict, err: fmt.Errorf("the leader %s is installing there (Lease %s/%s)", who, v.namespace, LeaseName),
		hint: "Two leaders install into this cluster: remove it from one of them. It is tried again by itself."}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
