package usage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Scope is what a tenant may see: what satisfies every part of it that is given.
// A scope of which nothing is given holds nothing.
type Scope struct {
	Customers  []string          `json:"customers,omitempty"`  // who is billed, one of them
	Clusters   []string          `json:"clusters,omitempty"`   // one of them; * is any run of characters
	Namespaces []string          `json:"namespaces,omitempty"` // one of them; * likewise
	Labels     map[string]string `json:"labels,omitempty"`     // of the pod, all of them
}

// Empty says whether nothing is given.
func (s Scope) Empty() bool {
	return len(s.Customers) == 0 && len(s.Clusters) == 0 && len(s.Namespaces) == 0 && len(s.Labels) == 0
}

// Keeps says whether something of a customer's, in a cluster's namespace, with a
// pod's labels, is in the scope.
func (s Scope) Keeps(customer, cluster, namespace string, labels map[string]string) bool {
	if s.Empty() || len(s.Customers) > 0 && !slices.Contains(s.Customers, customer) {
		return false
	}
	if len(s.Namespaces) > 0 && !(Condition{Values: s.Namespaces}).Keeps(namespace) {
		return false
	}
	for name, want := range s.Labels {
		if got, ok := labels[name]; !ok || got != want {
			return false
		}
	}
	return s.KeepsCluster(cluster)
}

// KeepsCluster says whether a cluster's name does not stand against its being in
// the scope.
func (s Scope) KeepsCluster(cluster string) bool {
	return !s.Empty() && (len(s.Clusters) == 0 || (Condition{Values: s.Clusters}).Keeps(cluster))
}

// Covers says whether all that is a customer's in a cluster's namespace is in the
// scope; "" is any of them, and a * in a name any run of characters.
func (s Scope) Covers(customer, cluster, namespace string) bool {
	covers := func(patterns []string, name string) bool {
		if name == "" {
			name = "*"
		}
		return len(patterns) == 0 || (Condition{Values: patterns}).Keeps(name)
	}
	return !s.Empty() && len(s.Labels) == 0 && (len(s.Customers) == 0 || slices.Contains(s.Customers, customer)) &&
		covers(s.Clusters, cluster) && covers(s.Namespaces, namespace)
}

// Names says whether the scope names the cluster, without a *.
func (s Scope) Names(cluster string) bool { return slices.Contains(s.Clusters, cluster) }

// Validate says what is wrong with a scope. Whoever has a cluster chooses the
// names of namespaces and labels in it, so these alone bind nobody.
func (s Scope) Validate() error {
	if s.Empty() {
		return Wrong("scope", "", "say what the tenant may see: customers, clusters, namespaces or labels")
	}
	if len(s.Customers) == 0 && len(s.Clusters) == 0 {
		return Wrong("scope", s.String(), `name customers or clusters too, for every cluster has namespaces and labels of its own; clusters: ["*"] is all of them`)
	}
	for what, values := range map[string][]string{"customer": s.Customers, "cluster": s.Clusters, "namespace": s.Namespaces,
		"label": append(slices.Collect(maps.Keys(s.Labels)), slices.Collect(maps.Values(s.Labels))...)} {
		for _, value := range values {
			switch {
			case value == "" && what != "label", !IsText(value), len(value) > 512:
				return Wrong(what, value, "give a name, in UTF-8 without control characters")
			case strings.Contains(value, "*") && (what == "customer" || what == "label"):
				return Wrong(what, value, "write the name out: * goes with clusters and namespaces")
			}
		}
	}
	return nil
}

// String is the scope in a line.
func (s Scope) String() string {
	var parts []string
	add := func(what string, values []string) {
		if len(values) > 0 {
			parts = append(parts, what+" "+strings.Join(values, ","))
		}
	}
	add("customer", s.Customers)
	add("cluster", s.Clusters)
	add("namespace", s.Namespaces)
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		parts = append(parts, fmt.Sprintf("label %s=%s", name, s.Labels[name]))
	}
	return strings.Join(parts, "; ")
}
