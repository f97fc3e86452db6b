package query

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// ErrScope is a question that has no answer inside a scope: it is of whole boxes
// or of whole clusters, which others have a part in.
var ErrScope = errors.New("this is not told to tenants")

// Covers says whether the context may be told all that is a customer's in a cluster's
// namespace; "" is any of them.
func Covers(ctx context.Context, customer, cluster, namespace string) bool {
	return !slices.ContainsFunc(scopesOf(ctx), func(s usage.Scope) bool { return !s.Covers(customer, cluster, namespace) })
}

// MayHold says whether the context's scopes do not by their clusters and namespaces
// alone stand against being told of a namespace.
func MayHold(ctx context.Context, cluster, namespace string) bool {
	return !slices.ContainsFunc(scopesOf(ctx), func(s usage.Scope) bool {
		return !s.KeepsCluster(cluster) || len(s.Namespaces) > 0 && !(Condition{Values: s.Namespaces}).Keeps(namespace)
	})
}

type scopeKey struct{}

// Within bounds everything that an engine is asked with this context. Nothing in
// a request can widen it, and a scope inside a scope holds what both hold.
func Within(ctx context.Context, scope usage.Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, append(slices.Clone(scopesOf(ctx)), scope))
}

// Scoped says whether the context is bounded.
func Scoped(ctx context.Context) bool { return len(scopesOf(ctx)) > 0 }

// bounds are scopes that all must hold; none is everything.
type bounds []usage.Scope

func scopesOf(ctx context.Context) bounds {
	all, _ := ctx.Value(scopeKey{}).(bounds)
	return all
}

// allows refuses what a tenant cannot be told, and the key that names boxes: two
// customers in one box cannot tell.
func (b bounds) allows(request Request) error {
	if len(b) > 0 && request.Uses(Box) {
		return usage.Wrong("key", string(Box), "boxes are not told to tenants: aggregate by cluster, node or namespace")
	}
	return nil
}

// keeps says whether a group is in all scopes. Its customer is who is billed.
func (b bounds) keeps(who *identity) bool {
	for _, s := range b {
		if !s.Keeps(who.billed, who.cluster, who.namespace, who.labels) {
			return false
		}
	}
	return true
}

// reads says whether a cluster may have something in all scopes, by the facts of
// any of the fleets: others are not read.
func (b bounds) reads(cluster string, fleets ...*fleet.Fleet) bool {
	for _, s := range b {
		if !s.KeepsCluster(cluster) || len(s.Customers) > 0 && !slices.ContainsFunc(fleets, func(f *fleet.Fleet) bool { return has(f, cluster, s.Customers) }) {
			return false
		}
	}
	return true
}

// has says whether a cluster is one of the customers', or a rule may give one of
// them a part of it.
func has(f *fleet.Fleet, cluster string, customers []string) bool {
	if c, ok := f.Cluster(cluster); ok && slices.Contains(customers, c.Customer) {
		return true
	}
	return slices.ContainsFunc(f.Assignments(), func(a fleet.Assignment) bool {
		return slices.Contains(customers, a.Customer) && (a.Cluster == "" || a.Cluster == cluster)
	})
}

// owns says whether the tenant knows of the cluster anyway: his scope names it, or
// it is his by one of the fleets.
func (b bounds) owns(cluster string, fleets ...*fleet.Fleet) bool {
	for _, s := range b {
		own := s.Names(cluster) && len(s.Customers) == 0
		for _, f := range fleets {
			c, ok := f.Cluster(cluster)
			own = own || ok && slices.Contains(s.Customers, c.Customer)
		}
		if !own || !s.KeepsCluster(cluster) {
			return false
		}
	}
	return true
}

// whole says whether what is told of a whole cluster may be told: it is owned, and
// no part of a scope is finer than a cluster.
func (b bounds) whole(cluster string, fleets ...*fleet.Fleet) bool {
	return b.owns(cluster, fleets...) && !slices.ContainsFunc(b, func(s usage.Scope) bool { return len(s.Namespaces) > 0 || len(s.Labels) > 0 })
}

// alone says whether all that runs in a cluster is in the scopes, by each of the
// fleets that has it: what of its nodes is idle then says nothing of others.
func (b bounds) alone(cluster string, fleets ...*fleet.Fleet) bool {
	known := false
	for _, f := range fleets {
		owner, ok := f.Cluster(cluster)
		if !ok {
			continue // nothing of that time is anybody's
		}
		known = true
		others := append(f.Assignments(), fleet.Assignment{Customer: owner.Customer, Namespace: "*"})
		for _, rule := range others {
			if rule.Cluster != "" && rule.Cluster != cluster {
				continue
			}
			if slices.ContainsFunc(b, func(s usage.Scope) bool { return !s.Covers(cmp.Or(rule.Customer, owner.Customer), cluster, "") }) {
				return false
			}
		}
	}
	return known
}

// labels and customers say what must be known of a group to judge it.
func (b bounds) labels() bool {
	return slices.ContainsFunc(b, func(s usage.Scope) bool { return len(s.Labels) > 0 })
}

func (b bounds) customers() bool {
	return slices.ContainsFunc(b, func(s usage.Scope) bool { return len(s.Customers) > 0 })
}

func (b bounds) namespaces() bool {
	return slices.ContainsFunc(b, func(s usage.Scope) bool { return len(s.Namespaces) > 0 })
}

// fleetsOf are the facts of a window's parts.
func fleetsOf(parts []slice) []*fleet.Fleet {
	fleets := make([]*fleet.Fleet, len(parts))
	for i, part := range parts {
		fleets[i] = part.fleet
	}
	return fleets
}
