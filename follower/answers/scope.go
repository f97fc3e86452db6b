package answers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Sight is what a caller may see.
type Sight interface {
	// All says whether he may see the whole cluster.
	All(ctx context.Context) (bool, error)
	// Visible are those of the namespaces that he may see.
	Visible(ctx context.Context, namespaces []string) ([]string, error)
}

// Everything is the sight of whoever may see the whole cluster.
type Everything struct{}

// All is true.
func (Everything) All(context.Context) (bool, error) { return true, nil }

// Visible are all of them.
func (Everything) Visible(_ context.Context, namespaces []string) ([]string, error) {
	return namespaces, nil
}

// ForbiddenError is a question about what the caller may not see. It names
// nothing that the caller has not named himself.
type ForbiddenError struct {
	Detail, Hint string
}

func (e *ForbiddenError) Error() string { return e.Detail }

// scope is what an answer covers.
type scope struct {
	all        bool
	namespaces []string        // else these, by the names that people know
	raw        map[string]bool // the same as they are stored
}

// sees says whether the scope has the stored namespace.
func (s scope) sees(stored string) bool { return s.all || s.raw[stored] }

// scope is what of the question's namespaces the caller may see. Namespaces
// that he names are all visible, or it is an error; without names, those of the
// store are looked at, one by one.
func (e *Engine) scope(ctx context.Context, sight Sight, request usage.Request, tables []schema.Table) (scope, error) {
	all, err := sight.All(ctx)
	if err != nil || all {
		return scope{all: true}, err
	}
	if request.Uses(usage.Box) {
		return scope{}, &ForbiddenError{"rows by box are for who may get the pods of all namespaces",
			"Ask by namespace, workload, pod or label; or have somebody allow you to get pods in all namespaces."}
	}
	stored, err := e.stored(ctx, tables)
	if err != nil {
		return scope{}, err
	}
	wanted, named := namedNamespaces(request.Filter)
	if !named {
		wanted = slices.Sorted(maps.Keys(stored))
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool {
		return strings.HasPrefix(name, "__") || !usage.KeepsAll(request.Filter, usage.Namespace, name)
	})
	if len(wanted) > e.config.Namespaces {
		return scope{}, usage.Wrong("namespace", strings.Join(wanted[:3], ",")+",…",
			fmt.Sprintf("more than %d namespaces would have to be looked at: name those that you want with namespace=", e.config.Namespaces))
	}
	visible, err := sight.Visible(ctx, wanted)
	switch {
	case err != nil:
		return scope{}, err
	case named && len(visible) < len(wanted):
		hidden := slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return slices.Contains(visible, name) })
		return scope{}, &ForbiddenError{"you may not get pods in " + strings.Join(hidden, ", "),
			"Leave out those namespaces, or have somebody allow you to get pods in them."}
	case len(visible) == 0:
		return scope{}, &ForbiddenError{"none of the namespaces that are metered here is one whose pods you may get",
			"A role that allows get on pods in a namespace shows that namespace; in all namespaces, the cluster."}
	}
	s := scope{namespaces: visible, raw: make(map[string]bool)}
	for _, name := range visible {
		for _, value := range stored[name] {
			s.raw[value] = true
		}
	}
	return s, nil
}

// namedNamespaces are the namespaces that a filter names one by one, and
// whether it does.
func namedNamespaces(filter []usage.Condition) ([]string, bool) {
	var names []string
	named := false
	for _, c := range filter {
		if c.Key != usage.Namespace || slices.ContainsFunc(c.Values, func(v string) bool { return strings.Contains(v, "*") }) {
			continue
		}
		named = true
		names = append(names, c.Values...)
	}
	slices.Sort(names)
	return slices.Compact(names), named
}

// covers is what the answer says of its scope.
func (s scope) covers() Covers {
	if s.all {
		return Covers{Cluster: true, Namespaces: []string{}}
	}
	return Covers{Namespaces: s.namespaces}
}
