// Package kubernetes knows callers by tokens of the leader's own cluster, such as
// those of service accounts: its API server says whose a token is (internal/review).
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/review"
	"github.com/accumulus-metering/accumulus/leader/identity"
)

// Reviewer says whose a token is: *review.Reviewer.
type Reviewer interface {
	Who(ctx context.Context, token string) (review.Caller, error)
}

// Accounts are the users and groups of the cluster that have a role here.
type Accounts struct {
	config   identity.Kubernetes
	reviewer Reviewer
}

// New makes accounts; it asks nothing yet.
func New(config identity.Kubernetes, reviewer Reviewer) *Accounts {
	return &Accounts{config: config, reviewer: reviewer}
}

// Knows says whether a token has the form of those that clusters give out.
func (a *Accounts) Knows(token string) bool { return strings.Count(token, ".") == 2 }

// Who is the caller. Errors: identity.ErrUnknown, ErrNoRole, ErrUnavailable.
func (a *Accounts) Who(ctx context.Context, token string) (identity.Principal, error) {
	caller, err := a.reviewer.Who(ctx, token)
	switch {
	case errors.Is(err, review.ErrUnavailable):
		return identity.Anonymous, fmt.Errorf("%w: %w", identity.ErrUnavailable, err)
	case err != nil:
		return identity.Anonymous, identity.ErrUnknown
	}
	for _, rule := range a.config.Roles {
		if rule.User != caller.Name && (rule.Group == "" || !slices.Contains(caller.Groups(), rule.Group)) {
			continue
		}
		role, err := identity.ParseRole(rule.Role)
		if err != nil {
			return identity.Anonymous, fmt.Errorf("%w: %w", identity.ErrNoRole, err)
		}
		return identity.Principal{Name: caller.Name, Role: role, Via: identity.ViaKubernetes, Scope: rule.Scope, Expires: caller.Until()}, nil
	}
	return identity.Anonymous, identity.ErrNoRole
}
