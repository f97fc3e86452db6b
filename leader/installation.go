package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/accumulus-metering/accumulus/deploy"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/installer"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/leader/status"
)

// InstallerConfig says what is installed into clusters.
type InstallerConfig struct {
	Chart  fs.FS       // of the follower; nil is the one in the program
	Values helm.Values // for the followers of all clusters; a cluster's own go over them
	Rhythm installer.Config
}

// followerChart is where the follower's chart is in the program.
const followerChart = "charts/follower"

// buildInstaller builds what installs followers; its clusters are those of the
// fleet that are reached through their API server.
func (l *Leader) buildInstaller(metrics Gathering) (err error) {
	config := l.config.Installer
	if config.Chart == nil {
		if config.Chart, err = fs.Sub(deploy.Charts, followerChart); err != nil {
			return err
		}
	}
	chart, err := helm.Load(config.Chart)
	if err != nil {
		return err
	}
	common, err := l.followerValues(context.Background(), "")
	if err != nil {
		return err
	}
	if _, err := helm.Render(chart, installer.Release, installer.Release, common.With(helm.Values{"cluster": "any"})); err != nil {
		return fmt.Errorf("values of all followers: %w", err)
	}
	rhythm := config.Rhythm
	rhythm.Leader = l.id
	l.installer, err = installer.New(rhythm, installer.Parts{
		Store: l.registry, Credentials: l.keys, Chart: config.Chart, Clusters: l.installed,
		Values:   l.followerValues,
		Tokens:   l.keys.EnsureTokens,
		Seed:     l.bringSeed,
		Ready:    l.answers,
		LastPull: l.pullLast,
		Removed:  l.endCluster,
	}, l.clock, l.log, metrics)
	return err
}

// followerValues are those of every follower: what the configuration says, and
// the key by which it knows this leader's seeds.
func (l *Leader) followerValues(context.Context, string) (helm.Values, error) {
	values := helm.Values{"seed": map[string]any{"publicKey": l.SeedKey()}}
	return values.With(l.config.Installer.Values), nil
}

// bringSeed writes a cluster's seed now; the seeder keeps it from then on.
func (l *Leader) bringSeed(ctx context.Context, name string) error {
	signed, err := l.Seed(ctx, name)
	if err != nil {
		return err
	}
	client, namespace, err := seed.Remote{Access: l.keys}.Client(ctx, name)
	if err != nil {
		return err
	}
	_, err = signed.Apply(ctx, client, namespace)
	return err
}

// installed are the clusters whose followers the installer looks after.
func (l *Leader) installed(ctx context.Context) ([]installer.Target, error) {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return nil, err
	}
	var targets []installer.Target
	for _, cluster := range snapshot.Clusters() {
		if cluster.Via == fleet.ViaServiceProxy {
			targets = append(targets, installer.Target{Cluster: cluster.Name, GitOps: cluster.Manage == fleet.ManageGitOps})
		}
	}
	return targets, nil
}

// answers says whether a cluster's follower answers over the link, with the
// leader's token. Whether it is ready in itself its pod's probe says.
func (l *Leader) answers(ctx context.Context, name string) error {
	cluster, err := l.clusterNow(ctx, name)
	if err != nil {
		return err
	}
	follower, err := l.pool.Get(cluster)
	if err != nil {
		return err
	}
	var status struct {
		Cluster string `json:"cluster"`
	}
	if err := follower.Status(ctx, &status); err != nil {
		return err
	}
	if status.Cluster != name {
		return fmt.Errorf("it meters the cluster %q", status.Cluster)
	}
	return nil
}

func (l *Leader) clusterNow(ctx context.Context, name string) (fleet.Cluster, error) {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return fleet.Cluster{}, err
	}
	cluster, exists := snapshot.Cluster(name)
	if !exists {
		return fleet.Cluster{}, api.NoCluster(name)
	}
	return cluster, nil
}

// pullLast brings home what a cluster's follower has settled, and works it up.
func (l *Leader) pullLast(ctx context.Context, name string) error {
	cluster, err := l.clusterNow(ctx, name)
	if err != nil {
		return err
	}
	if _, err := l.manager.Pull(ctx, cluster); err != nil {
		return err
	}
	if err := l.worker.Run(ctx); err != nil {
		l.log.Warn("work failed before a cluster was removed", "cluster", name, "err", err)
	}
	return nil
}

// endCluster ends a cluster in the fleet, with the leader's credentials of it.
// Its history is kept. It may be called again.
func (l *Leader) endCluster(ctx context.Context, name string) error {
	_, err := l.registry.Remove(ctx, fleet.KindCluster, name, changedBy(ctx))
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	return l.keys.Remove(ctx, name)
}

// installProblem adds what is wrong with the follower's installation.
func (l *Leader) installProblem(ctx context.Context, of *status.Cluster) error {
	one, err := l.installer.Installation(ctx, of.Name)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	switch one.State {
	case registry.InstallFailed, registry.InstallDegraded, registry.InstallRemoving:
		if one.Message == "" {
			return nil
		}
		problem := status.NewProblem(status.NotInstalled, fmt.Sprintf("%s at %s: %s", one.State, one.Step, one.Message))
		problem.Hint, problem.Since = cmp.Or(one.Hint, problem.Hint), moment(one.Since)
		of.Problems = append(of.Problems, problem)
	}
	return nil
}

// How long a removal is waited for, and how often it is looked at.
const (
	removal     = 100 * time.Second
	removalLook = 200 * time.Millisecond
)

// uninstall has the installer remove a cluster and waits for the outcome. What
// does not succeed at once is tried again after this has returned with the
// reason.
func (l *Leader) uninstall(ctx context.Context, name string, force bool) error {
	one, err := l.installer.Remove(ctx, name, force)
	if err != nil {
		return err
	}
	asked := one.Generation
	until := l.clock.Now().Add(removal)
	for one.State != registry.InstallRemoved {
		if one.Class != "" && one.Generation == asked && !one.Tried.Before(one.Since) && one.Attempts > 0 {
			return &api.Hinted{Err: fmt.Errorf("cluster %s is not removed yet: %s: %s: %w", name, one.Step, one.Message, api.ErrConflict), Hint: one.Hint}
		}
		if l.clock.Now().After(until) {
			return &api.Hinted{Err: fmt.Errorf("cluster %s is being removed: %s: %w", name, one.Step, api.ErrNotReady),
				Hint: "It goes on by itself; GET /api/v1/clusters/" + name + "/installation tells how far it is."}
		}
		if err := l.clock.Sleep(ctx, removalLook); err != nil {
			return err
		}
		if one, err = l.installer.Installation(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
