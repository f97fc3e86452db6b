package installer

import (
	"context"
	"errors"
	"fmt"

	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// install brings a cluster to what is wanted, as far as it is not, and looks
// how it is.
func (v *visit) install(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, v.config.Timeout)
	defer cancel()
	cluster, err := v.reach(ctx)
	if err != nil {
		return err
	}
	if v.needed() {
		if err := v.apply(ctx, cluster); err != nil {
			return err
		}
	}
	if err := v.health(ctx, cluster); err != nil {
		return err
	}
	v.enter(registry.InstallReady)
	v.outdated()
	return nil
}

// needed says whether the release must be looked at: what is wanted has changed,
// it was not carried out, or it was not compared for long.
func (v *visit) needed() bool {
	return v.one.Done != v.one.Generation || v.one.Installed == "" || !v.clock.Now().Before(v.one.Verified.Add(v.config.Verify))
}

// outdated notes a version that is wanted and is not in this leader: a leader
// that was replaced upgrades no cluster by itself.
func (v *visit) outdated() {
	if v.one.Version != v.chart.Version && v.version == "" {
		v.note = fmt.Sprintf("version %s stands there, this leader has %s", v.one.Installed, v.chart.Version)
		v.hint = "`accumulus cluster upgrade " + v.one.Cluster + "` brings the leader's version."
	}
}

// apply makes the objects in the cluster what is wanted, under its Lease.
func (v *visit) apply(ctx context.Context, cluster access) error {
	if v.one.Done != v.one.Generation || v.one.Installed == "" {
		v.enter(registry.InstallInstalling)
	}
	if err := v.step(ctx, stepNamespace); err != nil {
		return err
	}
	if err := v.makeNamespace(ctx, cluster); err != nil {
		return err
	}
	if err := v.step(ctx, stepLease); err != nil {
		return err
	}
	release, err := v.lock(ctx, cluster)
	if err != nil {
		return err
	}
	defer release()
	if err := v.step(ctx, stepOwner); err != nil {
		return err
	}
	if err := v.owner(ctx, cluster); err != nil {
		return err
	}
	if err := v.step(ctx, stepTokens); err != nil {
		return err
	}
	if err := v.tokens(ctx); err != nil {
		return err
	}
	if err := v.step(ctx, stepSeed); err != nil {
		return err
	}
	v.seed(ctx)
	if err := v.step(ctx, stepRelease); err != nil {
		return err
	}
	return v.release(ctx, cluster)
}

// managedBy is the label of what the leader makes itself.
const managedBy = "app.kubernetes.io/managed-by"

// labels are on everything that the leader makes beside the release.
func (v *visit) labels() map[string]string {
	return map[string]string{managedBy: FieldManager, helm.LeaderLabel: v.config.Leader}
}

// makeNamespace makes it where it is not. Who may not read it finds out at the next
// step whether it is there.
func (v *visit) makeNamespace(ctx context.Context, cluster access) error {
	name := v.namespace
	found, err := cluster.kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		v.one.MadeNamespace = found.Labels[helm.LeaderLabel] == v.config.Leader
		return nil
	case apierrors.IsForbidden(err):
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("get namespace %s: %w", name, err)
	}
	labels := v.labels()
	labels["pod-security.kubernetes.io/enforce"] = "restricted"
	_, err = cluster.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}},
		metav1.CreateOptions{FieldManager: FieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make namespace %s: %w", name, err)
	}
	v.one.MadeNamespace = err == nil
	return nil
}

// owner refuses a release of somebody else before anything of his is written
// over.
func (v *visit) owner(ctx context.Context, cluster access) error {
	found, err := cluster.releases.Status(ctx)
	if errors.Is(err, helm.ErrNotInstalled) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Leader != v.config.Leader && !v.one.Adopt {
		return &helm.ForeignError{Object: "release " + Release, Leader: found.Leader}
	}
	return nil
}

// tokens makes the Secret that the follower's pod mounts.
func (v *visit) tokens(ctx context.Context) error {
	if v.parts.Tokens == nil {
		return nil
	}
	if err := v.parts.Tokens(ctx, v.one.Cluster); err != nil {
		return fmt.Errorf("make tokens: %w", err)
	}
	return nil
}

// seed brings what the follower may know.
func (v *visit) seed(ctx context.Context) {
	if v.parts.Seed == nil {
		return
	}
	if err := v.parts.Seed(ctx, v.one.Cluster); err != nil && ctx.Err() == nil {
		v.log.Warn("follower is installed before its seed", "cluster", v.one.Cluster, "err", err)
	}
}

// release is Helm's part. A version that this leader does not have is left as it
// is.
func (v *visit) release(ctx context.Context, cluster access) error {
	if v.one.Version != v.chart.Version && v.one.Installed != "" {
		v.one.Done, v.one.Verified = v.one.Generation, v.clock.Now()
		return nil
	}
	if v.one.Version != v.chart.Version {
		v.version = v.chart.Version // it was never installed
	}
	values, err := v.values(ctx, v.one)
	if err != nil {
		return err
	}
	// What is pending was left by a process that is gone: the Lease is ours.
	result, err := cluster.releases.Ensure(ctx, v.chart, values, helm.Options{Adopt: v.one.Adopt, Locked: true})
	if err != nil {
		return err
	}
	now := v.clock.Now()
	if result.Change != helm.Unchanged || v.one.Applied.IsZero() {
		v.one.Applied = now
		v.enter(registry.InstallInstalling)
	}
	if v.one.State == registry.InstallFailed {
		v.enter(registry.InstallInstalling)
	}
	v.one.Installed, v.one.Revision = result.ChartVersion, result.Revision
	v.one.ChartDigest, v.one.ValuesDigest = result.ChartDigest, result.ValuesDigest
	v.one.Done, v.one.Verified = v.one.Generation, now
	return v.reached(ctx)
}
