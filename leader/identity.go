package leader

import (
	"context"

	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

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
