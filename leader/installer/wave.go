package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// ErrPlan is a plan that cannot be carried out.
var ErrPlan = errors.New("the plan cannot be carried out")

// StartUpgrade plans an upgrade of all clusters that the leader installs and that
// have another version, and begins it: the canaries first, then the others by
// name. Errors: ErrPlan, ErrVersion, ErrRunning.
func (i *Installer) StartUpgrade(ctx context.Context, plan registry.UpgradePlan, by string) (registry.Upgrade, error) {
	plan.Version, plan.MaxFailures = cmp.Or(plan.Version, i.chart.Version), cmp.Or(plan.MaxFailures, 1)
	switch {
	case plan.Version != i.chart.Version:
		return registry.Upgrade{}, fmt.Errorf("version %s, it has %s: %w", plan.Version, i.chart.Version, ErrVersion)
	case plan.Canaries < 0 || plan.WaveSize < 0 || plan.MaxFailures < 0 || plan.Soak < 0:
		return registry.Upgrade{}, fmt.Errorf("a number is negative: %w", ErrPlan)
	case len(plan.Canary) > 0 && plan.Canaries > 0:
		return registry.Upgrade{}, fmt.Errorf("name the canaries or say how many, not both: %w", ErrPlan)
	}
	i.upgrades.Lock()
	defer i.upgrades.Unlock()
	if running, err := i.runningUpgrade(ctx); err != nil || running != nil {
		if err == nil {
			err = fmt.Errorf("upgrade %d to %s: %w", running.ID, running.Version, ErrRunning)
		}
		return registry.Upgrade{}, err
	}
	clusters, err := i.waves(ctx, plan)
	if err != nil {
		return registry.Upgrade{}, err
	}
	now := i.clock.Now()
	u := registry.Upgrade{UpgradePlan: plan, State: registry.UpgradeRunning, By: by, Created: now, Changed: now, Clusters: clusters}
	if len(clusters) == 0 {
		u.State, u.Message = registry.UpgradeDone, "every cluster has this version already"
	}
	if u, err = i.parts.Store.AddUpgrade(ctx, u); err == nil {
		i.log.Info("upgrade begins", "upgrade", u.ID, "version", u.Version, "clusters", len(u.Clusters), "by", by)
		i.Wake()
	}
	return u, err
}

// waves are the clusters of a plan, by wave.
func (i *Installer) waves(ctx context.Context, plan registry.UpgradePlan) ([]registry.UpgradeCluster, error) {
	all, err := i.parts.Store.Installations(ctx)
	if err != nil {
		return nil, err
	}
	var names, wrong []string
	for _, one := range all {
		if one.Wish == registry.WishInstall && (one.Installed != plan.Version || one.Version != plan.Version) {
			names = append(names, one.Cluster)
		}
	}
	canaries := plan.Canary
	for _, name := range canaries {
		if !slices.Contains(names, name) {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("no cluster to upgrade to %s is %s: %w", plan.Version, strings.Join(wrong, ", "), ErrPlan)
	}
	if len(canaries) == 0 {
		canaries = names[:min(plan.Canaries, len(names))]
	}
	var clusters []registry.UpgradeCluster
	wave := 0
	for _, name := range canaries {
		clusters = append(clusters, registry.UpgradeCluster{Cluster: name, State: registry.UpgradeWaiting})
		wave = 1
	}
	rest := 0
	for _, name := range names {
		if slices.Contains(canaries, name) {
			continue
		}
		clusters = append(clusters, registry.UpgradeCluster{Cluster: name, Wave: wave, State: registry.UpgradeWaiting})
		if rest++; plan.WaveSize > 0 && rest%plan.WaveSize == 0 {
			wave++
		}
	}
	return clusters, nil
}

// Upgrades are all upgrades, the newest first.
func (i *Installer) Upgrades(ctx context.Context) ([]registry.Upgrade, error) {
	return i.parts.Store.Upgrades(ctx)
}

// StopUpgrade stops an upgrade that runs: clusters that were begun go on, no
// other begins. ResumeUpgrade goes on with one that was stopped; its failed
// clusters are tried again. Errors: registry.ErrNotFound, ErrPlan, ErrRunning.
func (i *Installer) StopUpgrade(ctx context.Context, id int64, by string) (registry.Upgrade, error) {
	return i.editUpgrade(ctx, id, func(u *registry.Upgrade) error {
		if u.State != registry.UpgradeRunning {
			return fmt.Errorf("upgrade %d is %s: %w", id, u.State, ErrPlan)
		}
		u.State, u.Message = registry.UpgradeStopped, "by "+by
		return nil
	})
}

// ResumeUpgrade is described at StopUpgrade.
func (i *Installer) ResumeUpgrade(ctx context.Context, id int64) (registry.Upgrade, error) {
	return i.editUpgrade(ctx, id, func(u *registry.Upgrade) error {
		if u.State != registry.UpgradeStopped {
			return fmt.Errorf("upgrade %d is %s: %w", id, u.State, ErrPlan)
		}
		if running, err := i.runningUpgrade(ctx); err != nil || running != nil {
			return errors.Join(err, ErrRunning)
		}
		for n := range u.Clusters {
			if c := &u.Clusters[n]; c.State == registry.UpgradeFailed {
				*c = registry.UpgradeCluster{Cluster: c.Cluster, Wave: c.Wave, State: registry.UpgradeWaiting}
				u.Wave = min(u.Wave, c.Wave)
			}
		}
		u.State, u.Message, u.Soaked = registry.UpgradeRunning, "", time.Time{}
		return nil
	})
}

func (i *Installer) editUpgrade(ctx context.Context, id int64, edit func(*registry.Upgrade) error) (registry.Upgrade, error) {
	i.upgrades.Lock()
	defer i.upgrades.Unlock()
	all, err := i.parts.Store.Upgrades(ctx)
	if err != nil {
		return registry.Upgrade{}, err
	}
	at := slices.IndexFunc(all, func(u registry.Upgrade) bool { return u.ID == id })
	if at < 0 {
		return registry.Upgrade{}, fmt.Errorf("upgrade %d: %w", id, registry.ErrNotFound)
	}
	u := all[at]
	if err := edit(&u); err != nil {
		return registry.Upgrade{}, err
	}
	u.Changed = i.clock.Now()
	if err := i.parts.Store.PutUpgrade(ctx, u); err != nil {
		return registry.Upgrade{}, err
	}
	i.Wake()
	return u, nil
}

// runningUpgrade is the one that runs; nil if none does.
func (i *Installer) runningUpgrade(ctx context.Context) (*registry.Upgrade, error) {
	all, err := i.parts.Store.Upgrades(ctx)
	if err != nil {
		return nil, err
	}
	for n := range all {
		if all[n].State == registry.UpgradeRunning {
			return &all[n], nil
		}
	}
	return nil, nil
}

// advance carries the upgrade that runs on: it looks how its clusters are, stops
// it after too many failures, and begins the next wave when this one was watched
// for long enough. All that it decides on is in the registry.
func (i *Installer) advance(ctx context.Context) error {
	i.upgrades.Lock()
	defer i.upgrades.Unlock()
	u, err := i.runningUpgrade(ctx)
	if err != nil || u == nil {
		return err
	}
	all, err := i.parts.Store.Installations(ctx)
	if err != nil {
		return err
	}
	byName := make(map[string]registry.Installation, len(all))
	for _, one := range all {
		byName[one.Cluster] = one
	}
	before := fmt.Sprintf("%+v", *u)
	i.judge(u, byName)
	for _, cluster := range i.next(u) {
		if err := i.begin(ctx, u, cluster); err != nil {
			return err
		}
	}
	if fmt.Sprintf("%+v", *u) == before {
		return nil
	}
	u.Changed = i.clock.Now()
	if u.State != registry.UpgradeRunning {
		i.log.Info("upgrade ends", "upgrade", u.ID, "version", u.Version, "state", u.State, "message", u.Message)
	}
	return i.parts.Store.PutUpgrade(ctx, *u)
}

// judge says of each cluster that was begun whether it is done or has failed:
// also of those that were done, for a wave is watched until the upgrade's end.
func (i *Installer) judge(u *registry.Upgrade, byName map[string]registry.Installation) {
	now := i.clock.Now()
	for n := range u.Clusters {
		c := &u.Clusters[n]
		one, known := byName[c.Cluster]
		switch {
		case c.State == registry.UpgradeFailed || c.State == registry.UpgradeWaiting:
		case !known || one.Wish != registry.WishInstall:
			c.State, c.Message = registry.UpgradeDone, "is not wanted any more"
		case one.Tried.Before(c.Started), one.State == registry.InstallDegraded && one.Done != one.Generation:
			// what is known of it is from before
		case one.State == registry.InstallReady && one.Installed == u.Version && one.Done == one.Generation:
			if c.State != registry.UpgradeDone {
				c.State, c.Message, c.Ended = registry.UpgradeDone, "", now
			}
		case one.State == registry.InstallDegraded, one.State == registry.InstallFailed:
			// What may pass by itself gets as long as a pod may take to start.
			if c.Message = one.Message; now.Before(c.Started.Add(i.config.ReadyAfter)) && passing(one) {
				continue
			}
			c.State, c.Ended = registry.UpgradeFailed, now
		case now.After(c.Started.Add(2 * i.config.ReadyAfter)):
			c.State, c.Ended, c.Message = registry.UpgradeFailed, now, "it took too long: "+one.Message
		}
	}
}

// next are the clusters to begin now: those of the wave that runs, if nothing
// stands against it.
func (i *Installer) next(u *registry.Upgrade) []string {
	now := i.clock.Now()
	failed, open, last := 0, 0, 0
	for _, c := range u.Clusters {
		last = max(last, c.Wave)
		if c.State == registry.UpgradeFailed {
			failed++
		}
		if c.Wave <= u.Wave && (c.State == registry.UpgradeWaiting || c.State == registry.UpgradeRunning) {
			open++
		}
	}
	switch {
	case failed >= u.MaxFailures:
		u.State, u.Message = registry.UpgradeStopped, fmt.Sprintf("%d of %d clusters failed, and it stops after %d", failed, len(u.Clusters), u.MaxFailures)
		return nil
	case u.Version != i.chart.Version:
		u.State, u.Message = registry.UpgradeStopped, fmt.Sprintf("this leader has version %s", i.chart.Version)
		return nil
	case open == 0 && u.Soaked.IsZero():
		u.Soaked = now.Add(time.Duration(u.Soak))
	}
	if open == 0 && !now.Before(u.Soaked) {
		if u.Wave == last {
			u.State, u.Message = registry.UpgradeDone, ""
			if failed > 0 {
				u.Message = fmt.Sprintf("%d of %d clusters failed", failed, len(u.Clusters))
			}
			return nil
		}
		u.Wave, u.Soaked = u.Wave+1, time.Time{}
	}
	var begin []string
	for _, c := range u.Clusters {
		if c.Wave <= u.Wave && c.State == registry.UpgradeWaiting {
			begin = append(begin, c.Cluster)
		}
	}
	return begin
}

// begin wants the version of a cluster. Who dies between this and the note that
// it was begun does it again.
func (i *Installer) begin(ctx context.Context, u *registry.Upgrade, cluster string) error {
	at := slices.IndexFunc(u.Clusters, func(c registry.UpgradeCluster) bool { return c.Cluster == cluster })
	c := &u.Clusters[at]
	_, err := i.change(ctx, cluster, func(one *registry.Installation) error {
		if err := managed(*one); err != nil {
			return err
		}
		one.Version = u.Version
		return nil
	})
	if errors.Is(err, ErrNotManaged) || errors.Is(err, registry.ErrNotFound) {
		c.State, c.Message = registry.UpgradeDone, "is not wanted any more"
		return nil
	}
	c.State, c.Started = registry.UpgradeRunning, i.clock.Now()
	return err
}
