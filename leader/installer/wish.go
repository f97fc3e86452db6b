package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Errors of what is asked.
var (
	ErrNotManaged = errors.New("the leader does not install there")
	ErrVersion    = errors.New("this leader has no such version of the chart")
	ErrRunning    = errors.New("an upgrade runs already")
)

// Wanted is what is wanted of a cluster's installation.
type Wanted struct {
	GitOps bool           // somebody else installs and upgrades it: the leader only looks
	Adopt  bool           // take over what somebody else installed there
	Values map[string]any // over those that every cluster gets; nil keeps what was said before
}

// Want makes a cluster's installation wanted; it is visited at once, also if it
// was wanted before (its access may be new). A new one gets the leader's version
// of the chart; one that is there keeps its version until it is upgraded. Errors:
// helm.ErrValues.
func (i *Installer) Want(ctx context.Context, cluster string, wanted Wanted) (registry.Installation, error) {
	if !wanted.GitOps {
		if err := i.checkValues(ctx, cluster, wanted.Values); err != nil {
			return registry.Installation{}, err
		}
	}
	return i.change(ctx, cluster, func(one *registry.Installation) error {
		wish := registry.WishInstall
		if wanted.GitOps {
			wish = registry.WishGitOps
		}
		if one.State == registry.InstallRemoved || one.State == "" {
			*one = registry.Installation{Generation: one.Generation, Values: one.Values, State: registry.InstallPending, Since: i.clock.Now()}
		}
		one.Wish, one.Adopt, one.Force, one.GitOps, one.Pulled = wish, wanted.Adopt, false, wanted.GitOps, time.Time{}
		one.Version = cmp.Or(one.Version, i.chart.Version)
		if wanted.Values != nil {
			one.Values = wanted.Values
		}
		return nil
	})
}

// checkValues is helm.ErrValues for values that the chart does not take; nil
// takes them as they were.
func (i *Installer) checkValues(ctx context.Context, cluster string, given map[string]any) error {
	if given == nil {
		return nil
	}
	values, err := i.values(ctx, registry.Installation{Cluster: cluster, Values: given})
	if err == nil {
		_, err = helm.Render(i.chart, Release, Release, values)
	}
	return err
}

// Again makes the next visit be at once and whole: something that it needs, such
// as the credentials, has changed. Errors: registry.ErrNotFound.
func (i *Installer) Again(ctx context.Context, cluster string) error {
	_, err := i.change(ctx, cluster, func(one *registry.Installation) error {
		if one.Wish == "" {
			return registry.ErrNotFound
		}
		return nil
	})
	return err
}

// follow wants what is new in the fleet, and takes over who manages a cluster.
func (i *Installer) follow(ctx context.Context) error {
	if i.parts.Clusters == nil {
		return nil
	}
	targets, err := i.parts.Clusters(ctx)
	if err != nil || len(targets) == 0 {
		return err
	}
	all, err := i.parts.Store.Installations(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]registry.Installation, len(all))
	for _, one := range all {
		known[one.Cluster] = one
	}
	for _, target := range targets {
		one := known[target.Cluster]
		wish := registry.WishInstall
		if target.GitOps {
			wish = registry.WishGitOps
		}
		removing := one.Wish == registry.WishRemove && one.State != registry.InstallRemoved
		if removing || one.Wish == wish && one.State != registry.InstallRemoved {
			continue
		}
		if _, err := i.Want(ctx, target.Cluster, Wanted{GitOps: target.GitOps}); err != nil {
			return err
		}
	}
	return nil
}

// change changes what is wanted of a cluster: the next visit is at once.
func (i *Installer) change(ctx context.Context, cluster string, change func(*registry.Installation) error) (registry.Installation, error) {
	changed, err := i.parts.Store.ChangeInstallation(ctx, cluster, func(one *registry.Installation) error {
		if err := change(one); err != nil {
			return err
		}
		one.Generation++
		one.Attempts, one.Next = 0, i.clock.Now()
		if one.State == registry.InstallFailed { // that was before
			one.State, one.Since, one.Class, one.Message, one.Hint = registry.InstallPending, one.Next, "", "", ""
		}
		return nil
	})
	if err == nil {
		i.Wake()
	}
	return changed, err
}

// Change is what Upgrade is asked for.
type Change struct {
	Version string // of the chart; "" is the leader's own
	Adopt   bool   // take over what somebody else installed there
	// Values go over those that every cluster gets; nil keeps what was said before.
	Values map[string]any
}

// Upgrade brings a cluster to a version of the chart, at once. Errors:
// registry.ErrNotFound, ErrNotManaged, ErrVersion, helm.ErrValues.
func (i *Installer) Upgrade(ctx context.Context, cluster string, asked Change) (registry.Installation, error) {
	version := cmp.Or(asked.Version, i.chart.Version)
	if version != i.chart.Version {
		return registry.Installation{}, fmt.Errorf("version %s, it has %s: %w", version, i.chart.Version, ErrVersion)
	}
	if err := i.checkValues(ctx, cluster, asked.Values); err != nil {
		return registry.Installation{}, err
	}
	return i.change(ctx, cluster, func(one *registry.Installation) error {
		if err := managed(*one); err != nil {
			return err
		}
		one.Version, one.Adopt = version, asked.Adopt
		if asked.Values != nil {
			one.Values = asked.Values
		}
		return nil
	})
}

func managed(one registry.Installation) error {
	switch {
	case one.Wish == "":
		return registry.ErrNotFound
	case one.Wish == registry.WishGitOps:
		return fmt.Errorf("somebody else installs and upgrades it: %w", ErrNotManaged)
	case one.Wish == registry.WishRemove:
		return fmt.Errorf("it is %s: %w", one.State, ErrNotManaged)
	}
	return nil
}

// Remove makes a cluster's installation unwanted: after a last pull everything
// that the leader made there is removed. With force, a pull that fails and a
// cluster that cannot be reached are no obstacle. Errors: registry.ErrNotFound.
func (i *Installer) Remove(ctx context.Context, cluster string, force bool) (registry.Installation, error) {
	return i.change(ctx, cluster, func(one *registry.Installation) error {
		if one.Wish == "" {
			return registry.ErrNotFound
		}
		if one.State == registry.InstallRemoved {
			return nil
		}
		one.GitOps = one.GitOps || one.Wish == registry.WishGitOps // his who installed it to remove
		one.Wish, one.Force, one.Adopt = registry.WishRemove, force, false
		if one.State != registry.InstallRemoving {
			one.State, one.Since = registry.InstallRemoving, i.clock.Now()
		}
		return nil
	})
}

// Installation is how a cluster's installation is. Errors: registry.ErrNotFound.
func (i *Installer) Installation(ctx context.Context, cluster string) (registry.Installation, error) {
	return i.parts.Store.Installation(ctx, cluster)
}

// due are the installations whose time has come, those that waited longest
// first.
func (i *Installer) due(ctx context.Context) ([]registry.Installation, error) {
	all, err := i.parts.Store.Installations(ctx)
	if err != nil {
		return nil, err
	}
	now := i.clock.Now()
	due := slices.DeleteFunc(all, func(one registry.Installation) bool {
		return one.State == registry.InstallRemoved || one.Next.After(now)
	})
	slices.SortStableFunc(due, func(a, b registry.Installation) int { return a.Next.Compare(b.Next) })
	return due, nil
}

// values are all that a cluster's release gets.
func (i *Installer) values(ctx context.Context, one registry.Installation) (helm.Values, error) {
	var values helm.Values
	if i.parts.Values != nil {
		common, err := i.parts.Values(ctx, one.Cluster)
		if err != nil {
			return nil, fmt.Errorf("values of %s: %w", one.Cluster, err)
		}
		values = common
	}
	// The name is last: nobody's values make a follower meter for another cluster.
	return values.With(one.Values).With(helm.Values{"cluster": one.Cluster}), nil
}

// later is when the next attempt is after so many that failed one after another:
// each time twice as far away, up to Backoff, less a random part of a quarter, so
// that clusters that failed together do not come back together.
func (i *Installer) later(attempts int) time.Time {
	distance := i.config.Interval
	for n := 1; n < attempts && distance < i.config.Backoff; n++ {
		distance *= 2
	}
	distance = min(distance, max(i.config.Backoff, i.config.Interval))
	return i.clock.Now().Add(distance - time.Duration(i.random()*float64(distance)/4))
}
