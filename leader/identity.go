package leader

import (
	"context"
	"fmt"

	"github.com/accumulus-metering/accumulus/internal/review"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/identity/issuer"
	accounts "github.com/accumulus-metering/accumulus/leader/identity/kubernetes"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// callers are who is known beside the token files, as the access file is: the named
// tokens, then its issuers and its cluster.
func (l *Leader) callers(tokens *identity.Tokens, metrics prometheus.Registerer) (*identity.File, error) {
	known := func(config identity.Config, metrics prometheus.Registerer) (identity.Directory, error) {
		all := identity.Directory{tokens}
		for _, one := range config.OIDC {
			source, err := issuer.New(one, l.clock)
			if err != nil {
				return nil, err
			}
			all = append(all, source)
		}
		if config.Kubernetes != nil {
			reviewer, err := l.newReviewer(*config.Kubernetes, metrics)
			if err != nil {
				return nil, err
			}
			all = append(all, accounts.New(*config.Kubernetes, reviewer))
		}
		return all, nil
	}
	return identity.OpenFile(l.config.AccessFile, known, l.log, metrics)
}

// newReviewer asks the API server of the cluster that the leader runs in.
func (l *Leader) newReviewer(config identity.Kubernetes, metrics prometheus.Registerer) (*review.Reviewer, error) {
	cluster, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("access file: kubernetes is of the cluster that the leader runs in as a pod: %w", err)
	}
	client, err := kubernetes.NewForConfig(cluster)
	if err != nil {
		return nil, fmt.Errorf("reach the leader's own cluster: %w", err)
	}
	return review.New(review.Config{Audiences: config.Audiences}, client.AuthenticationV1().TokenReviews(), nil, l.clock, metrics)
}

// namedTokens are made by identity and listed and ended by the registry.
type namedTokens struct {
	maker    *identity.Tokens
	registry *registry.Registry
}

// Create makes a token. Errors: those of identity.Tokens.
func (n namedTokens) Create(ctx context.Context, wish identity.Wish, by string) (string, registry.Token, error) {
	return n.maker.Create(ctx, wish, by)
}

// Tokens are all that hold, with revoked also those that were revoked.
func (n namedTokens) Tokens(ctx context.Context, revoked bool) ([]registry.Token, error) {
	return n.registry.Tokens(ctx, revoked)
}

// RevokeToken ends a token. Errors: registry.ErrNotFound.
func (n namedTokens) RevokeToken(ctx context.Context, name, by string) error {
	return n.registry.RevokeToken(ctx, name, by)
}
