package credentials

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// How often the tokens are looked at, how long one cluster may take to give the
// next, and how many are asked at once. The shortest token has 200 s left when it
// is due.
const (
	renewEvery = 20 * time.Second
	renewTime  = 15 * time.Second
	renewWidth = 8
)

// Unrenewed is a token that is due and could not be renewed.
type Unrenewed struct {
	Until time.Time // its end
	Since time.Time // of the first attempt that failed
	Err   error     // of the last
}

// Renewer renews the tokens that end, with themselves, before they do.
type Renewer struct {
	store    *Store
	clusters func(context.Context) ([]string, error)
	clock    clock.Clock
	log      *slog.Logger
	renewals *prometheus.CounterVec

	mu     sync.Mutex
	failed map[string]Unrenewed
}

// NewRenewer makes a renewer of the credentials of clusters; it does nothing yet.
func NewRenewer(store *Store, clusters func(context.Context) ([]string, error), clk clock.Clock, log *slog.Logger, metrics prometheus.Registerer) (*Renewer, error) {
	r := &Renewer{store: store, clusters: clusters, clock: clk, log: log, failed: make(map[string]Unrenewed),
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_credentials_renewals_total",
			Help: "Attempts to renew the leader's token of a cluster, by outcome."}, []string{"outcome"})}
	if err := metrics.Register(r.renewals); err != nil {
		return nil, fmt.Errorf("register metrics of credentials: %w", err)
	}
	for _, outcome := range []string{"renewed", "failed"} {
		r.renewals.WithLabelValues(outcome)
	}
	return r, nil
}

// Run looks at the tokens until ctx ends.
func (r *Renewer) Run(ctx context.Context) error {
	for {
		if err := r.Look(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("tokens cannot be looked at", "err", err)
		}
		if r.clock.Sleep(ctx, renewEvery) != nil { // the end of ctx is the way to stop
			return nil
		}
	}
}

// Look renews what is due. That a cluster's token could not be renewed is State's,
// and no error.
func (r *Renewer) Look(ctx context.Context) error {
	names, err := r.clusters(ctx)
	if err != nil {
		return fmt.Errorf("renew tokens: %w", err)
	}
	r.keep(names)
	var group errgroup.Group
	group.SetLimit(renewWidth)
	for _, name := range names {
		life, ends, err := r.store.Life(ctx, name)
		if err != nil || !ends || r.clock.Now().Before(life.Due()) { // credentials that are missing are told of by who uses them
			r.forget(name)
			continue
		}
		group.Go(func() error {
			r.renew(ctx, name, life)
			return nil
		})
	}
	return group.Wait()
}

func (r *Renewer) renew(ctx context.Context, name string, life Life) {
	limited, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	err := r.store.Renew(limited, name)
	switch {
	case err == nil:
		r.renewals.WithLabelValues("renewed").Inc()
		r.forget(name)
		next, _, _ := r.store.Life(ctx, name)
		r.log.Info("token renewed", "cluster", name, "until", next.Until)
		return
	case ctx.Err() != nil:
		return
	}
	r.renewals.WithLabelValues("failed").Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	now, again := r.failed[name]
	if !again {
		now.Since = r.clock.Now()
		r.log.Warn("token cannot be renewed", "cluster", name, "until", life.Until, "err", err)
	}
	now.Until, now.Err = life.Until, err
	r.failed[name] = now
}

// State is what is wrong with the renewal of a cluster's token, if anything is.
func (r *Renewer) State(cluster string) (Unrenewed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state, failed := r.failed[cluster]
	return state, failed
}

func (r *Renewer) forget(cluster string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failed, cluster)
}

// keep forgets the clusters that are gone.
func (r *Renewer) keep(names []string) {
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.failed {
		if !there[name] {
			delete(r.failed, name)
		}
	}
}
