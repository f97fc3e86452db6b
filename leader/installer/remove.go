package installer

import (
	"context"
	"fmt"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// remove pulls for the last time and takes away what the leader made there.
func (v *visit) remove(ctx context.Context) error {
	v.enter(registry.InstallRemoving)
	if v.before.Step == stepEnd { // all but the last word was done, and the credentials may be gone
		return v.end(ctx)
	}
	if err := v.pullLast(ctx); err != nil {
		return err
	}
	if v.one.GitOps {
		v.note = "what stands in the cluster was installed by somebody else and stays there"
	} else if err := v.takeAway(ctx); err != nil {
		if !v.one.Force || ctx.Err() != nil {
			return err
		}
		v.note = oneLine("removed by force, and what stands in the cluster stays there: " + err.Error())
	}
	return v.end(ctx)
}

// end forgets the installation, and has the cluster ended.
func (v *visit) end(ctx context.Context) error {
	v.one.Step = stepEnd
	if err := v.reached(ctx); err != nil {
		return err
	}
	if v.parts.Removed != nil && v.unwanted(ctx) {
		if err := v.parts.Removed(ctx, v.one.Cluster); err != nil {
			return fmt.Errorf("end cluster: %w", err)
		}
	}
	v.enter(registry.InstallRemoved)
	v.one = registry.Installation{Cluster: v.one.Cluster, Generation: v.one.Generation, Done: v.one.Generation,
		State: v.one.State, Since: v.one.Since}
	return nil
}

// unwanted says whether nobody has wanted the cluster again meanwhile.
func (v *visit) unwanted(ctx context.Context) bool {
	stored, err := v.parts.Store.Installation(ctx, v.one.Cluster)
	return err == nil && stored.Wish == registry.WishRemove
}

// pullLast brings home what is settled. A follower that was never seen installed
// has at most seconds; one that was pulled since its removal was asked for may be
// gone already: then a pull that fails is no obstacle.
func (v *visit) pullLast(ctx context.Context) error {
	if v.parts.LastPull == nil || v.one.Installed == "" && !v.one.GitOps && v.before.Step != stepRelease {
		return nil
	}
	if err := v.step(ctx, stepLastPull); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, v.config.LastPull)
	defer cancel()
	err := v.parts.LastPull(timed, v.one.Cluster)
	switch {
	case err == nil:
		v.one.Pulled = v.clock.Now()
		return v.reached(ctx)
	case ctx.Err() != nil:
		return ctx.Err()
	case v.one.Force || !v.one.Pulled.IsZero() || v.one.Installed == "" && !v.one.GitOps:
		v.log.Warn("cluster is removed without another pull", "cluster", v.one.Cluster, "pulled", v.one.Pulled, "err", err)
		return nil
	}
	return &problem{class: classPull, err: fmt.Errorf("last pull: %w", err)}
}

// takeAway removes release, Secret, ConfigMap and Lease, and the namespace if
// this leader made it. What others made stays, and is noted.
func (v *visit) takeAway(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, v.config.Timeout)
	defer cancel()
	cluster, err := v.reach(ctx)
	if err != nil {
		return err
	}
	if err := v.step(ctx, stepLease); err != nil {
		return err
	}
	unlock, err := v.lock(ctx, cluster)
	if apierrors.IsNotFound(err) {
		return nil // the namespace is gone, and all with it
	}
	if err != nil {
		return err
	}
	defer unlock()
	if err := v.step(ctx, stepRelease); err != nil {
		return err
	}
	if err := cluster.releases.Remove(ctx, helm.Options{Locked: true}); err != nil {
		return err
	}
	if err := v.step(ctx, stepLeftovers); err != nil {
		return err
	}
	return v.leftovers(ctx, cluster)
}

func (v *visit) leftovers(ctx context.Context, cluster access) error {
	var left []string
	core, namespace := cluster.kube.CoreV1(), v.namespace
	ours := func(kind, name string, labels map[string]string) bool {
		if labels[managedBy] == FieldManager {
			return true
		}
		left = append(left, kind+" "+name)
		return false
	}
	gone := func(err error) bool { return err == nil || apierrors.IsNotFound(err) }
	secret, err := core.Secrets(namespace).Get(ctx, TokensSecret, metav1.GetOptions{})
	if err == nil && ours("Secret", namespace+"/"+TokensSecret, secret.Labels) {
		err = core.Secrets(namespace).Delete(ctx, TokensSecret, metav1.DeleteOptions{})
	}
	if !gone(err) {
		return fmt.Errorf("delete Secret %s: %w", TokensSecret, err)
	}
	seed, err := core.ConfigMaps(namespace).Get(ctx, SeedMap, metav1.GetOptions{})
	if err == nil && ours("ConfigMap", namespace+"/"+SeedMap, seed.Labels) {
		err = core.ConfigMaps(namespace).Delete(ctx, SeedMap, metav1.DeleteOptions{})
	}
	if !gone(err) {
		return fmt.Errorf("delete ConfigMap %s: %w", SeedMap, err)
	}
	if err := cluster.kube.CoordinationV1().Leases(namespace).Delete(ctx, LeaseName, metav1.DeleteOptions{}); !gone(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("delete Lease %s: %w", LeaseName, err)
	}
	if len(left) > 0 {
		v.note = fmt.Sprintf("left in the cluster, for somebody else made it: %s", strings.Join(left, ", "))
	}
	if !v.one.MadeNamespace {
		return nil
	}
	if err := core.Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); !gone(err) {
		return fmt.Errorf("delete namespace %s: %w", namespace, err)
	}
	return nil
}
