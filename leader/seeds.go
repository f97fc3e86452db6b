package leader

import (
	"context"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/prometheus/client_golang/prometheus"
)

// openSeeds opens the key that signs seeds, and builds what brings them to the
// clusters that are reached through their API server.
func (l *Leader) openSeeds(metrics prometheus.Registerer) (err error) {
	if path := l.config.SeedKeyFile; path != "" {
		l.seedKey, err = seed.ReadKey(path)
	} else {
		l.seedKey, err = seed.EnsureKey(l.config.Dir)
	}
	if err != nil {
		return err
	}
	l.seeder, err = seed.NewSeeder(seed.Config{}, l.registry, l.seedKey, seed.Remote{Access: l.keys, List: l.seeded}, l.clock, l.log, metrics)
	return err
}

// seeded are the clusters to whose API server the leader has access, but for
// those from which the follower is being removed.
func (l *Leader) seeded(ctx context.Context) ([]string, error) {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return nil, err
	}
	installations, err := l.registry.Installations(ctx)
	if err != nil {
		return nil, err
	}
	leaving := make(map[string]bool)
	for _, i := range installations {
		leaving[i.Cluster] = i.Wish == registry.WishRemove
	}
	var names []string
	for _, cluster := range snapshot.Clusters() {
		if cluster.Via == fleet.ViaServiceProxy && !leaving[cluster.Name] {
			names = append(names, cluster.Name)
		}
	}
	return names, nil
}

// SeedKey is the public key by which followers know the leader's seeds.
func (l *Leader) SeedKey() string { return l.seedKey.Public() }

// Seed is what a cluster's follower may know, packed and signed.
func (l *Leader) Seed(ctx context.Context, cluster string) (seed.Signed, error) {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return seed.Signed{}, err
	}
	if _, exists := snapshot.Cluster(cluster); !exists {
		return seed.Signed{}, api.NoCluster(cluster)
	}
	of, err := seed.Of(ctx, l.registry, cluster)
	if err != nil {
		return seed.Signed{}, err
	}
	return l.seedKey.Sign(of)
}

// RenewSeed is Seed with a higher generation; a ConfigMap gets it soon.
func (l *Leader) RenewSeed(ctx context.Context, cluster string) (seed.Signed, error) {
	if _, err := l.Seed(ctx, cluster); err != nil {
		return seed.Signed{}, err
	}
	if err := l.registry.RaiseSeed(ctx, cluster, 0); err != nil {
		return seed.Signed{}, err
	}
	l.seeder.Again(cluster)
	return l.Seed(ctx, cluster)
}

// seedProblems are why a cluster's ConfigMap is not what its seed is.
func (l *Leader) seedProblems(cluster string) []status.Problem {
	state, ok := l.seeder.State(cluster)
	if !ok || state.Err == nil || accessRefused(state.Err) { // the last is told of by itself
		return nil
	}
	problem := status.NewProblem(status.SeedNotGiven, state.Err.Error())
	problem.Since = moment(state.Since)
	return []status.Problem{problem}
}
