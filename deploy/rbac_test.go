package deploy_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// right is one verb that somebody has.
type right struct {
	group, resource, name, verb string // name: of the only object; "" is all
	everywhere                  bool   // in all namespaces
}

// rights lists what Roles and ClusterRoles give.
func rights(all []runtime.Object) map[right]bool {
	found := make(map[right]bool)
	add := func(rules []rbacv1.PolicyRule, everywhere bool) {
		for _, rule := range rules {
			names := rule.ResourceNames
			if len(names) == 0 {
				names = []string{""}
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, name := range names {
						for _, verb := range rule.Verbs {
							found[right{group, resource, name, verb, everywhere}] = true
						}
					}
				}
			}
			for _, url := range rule.NonResourceURLs {
				found[right{resource: url}] = true
			}
		}
	}
	for _, role := range each[*rbacv1.Role](all) {
		add(role.Rules, false)
	}
	for _, role := range each[*rbacv1.ClusterRole](all) {
		add(role.Rules, true)
	}
	return found
}

// accessObjects are those of one file of access/.
func accessObjects(t *testing.T, name string) []runtime.Object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("access", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []runtime.Object
	for _, document := range documents(string(text)) {
		object, _, err := strict.Decode([]byte(document), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, object)
	}
	return all
}

// holders are who has rights in a cluster, with the name that the table of
// docs/security.md gives them.
func holders(t *testing.T) map[string]map[right]bool {
	t.Helper()
	follower, _ := objects(t, release{name: "follower", chart: "follower", values: "cluster: a"})
	local, _ := objects(t, release{name: "local", chart: "leader", values: "follower: {local: true}"})
	reviews, _ := objects(t, release{name: "reviews", chart: "leader", values: "access: {kubernetes: {roles: [{user: u, role: viewer}]}}"})
	return map[string]map[right]bool{
		"reviews":  rights(reviews),
		"follower": rights(follower), "local": rights(local),
		"link": rights(accessObjects(t, "link.yaml")), "install": rights(accessObjects(t, "install.yaml")),
		"renew": rights(accessObjects(t, "renew.yaml")),
	}
}

// told reads the table of docs/security.md: | who | group | resource | where | verbs | why |
func told(t *testing.T) map[string]map[right]bool {
	t.Helper()
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string]map[right]bool)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 8 {
			continue
		}
		cell := func(i int) []string {
			var all []string
			for part := range strings.SplitSeq(cells[i], ",") {
				all = append(all, strings.Trim(strings.TrimSpace(part), "`"))
			}
			return all
		}
		group, where := strings.TrimPrefix(cell(2)[0], "core"), cell(4)[0]
		if strings.TrimSpace(cells[6]) == "" {
			t.Errorf("no reason is given: %s", line)
		}
		for _, who := range cell(1) {
			if table[who] == nil {
				table[who] = make(map[right]bool)
			}
			for _, resource := range cell(3) {
				resource, name, _ := strings.Cut(resource, " ")
				for _, verb := range cell(5) {
					table[who][right{group, resource, strings.Trim(name, "` "), verb, where == "cluster"}] = true
				}
			}
		}
	}
	return table
}

// TestEveryVerbIsExplained: docs/security.md says of each verb what it is for,
// and tells of none that nobody has.
func TestEveryVerbIsExplained(t *testing.T) {
	table := told(t)
	for who, have := range holders(t) {
		if len(have) < 5 && who != "renew" && who != "reviews" {
			t.Errorf("%s has %d rights: are its objects there?", who, len(have))
		}
		for r := range have {
			if !table[who][r] {
				t.Errorf("%s may %s %s/%s %q (everywhere: %t), and docs/security.md does not say why", who, r.verb, r.group, r.resource, r.name, r.everywhere)
			}
		}
		for r := range table[who] {
			if !have[r] {
				t.Errorf("docs/security.md: %s may %s %s/%s %q (everywhere: %t); nothing gives that", who, r.verb, r.group, r.resource, r.name, r.everywhere)
			}
		}
	}
}

// TestNobodyHoldsWhatIsRoot: what would make its holder more than it is.
func TestNobodyHoldsWhatIsRoot(t *testing.T) {
	for who, have := range holders(t) {
		for r := range have {
			if dangerous(r) {
				t.Errorf("%s may %s %s/%s %q (everywhere: %t)", who, r.verb, r.group, r.resource, r.name, r.everywhere)
			}
		}
	}
	for _, r := range []right{{"", "nodes/proxy", "", "get", true}, {"", "secrets", "", "list", true}, {"", "*", "", "get", false},
		{"", "pods/exec", "", "create", false}, {"", "serviceaccounts", "", "impersonate", false}, {"", "services/proxy", "", "get", false},
		{"", "serviceaccounts/token", "", "create", false}, {"", "serviceaccounts/token", "accumulus-follower", "create", false}} {
		if !dangerous(r) {
			t.Errorf("%+v is not seen", r)
		}
	}
}

func dangerous(r right) bool {
	changes := slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.verb)
	review := r.resource == "tokenreviews" || r.resource == "subjectaccessreviews"
	roles := r.group == "rbac.authorization.k8s.io" && (r.name == "accumulus-follower" || r.verb == "create")
	switch {
	case slices.Contains([]string{"*", "bind", "escalate", "impersonate"}, r.verb), r.group == "*", strings.Contains(r.resource, "*"):
		return true
	case slices.Contains([]string{"nodes/proxy", "pods/proxy", "pods/exec", "pods/attach", "pods/portforward", "pods/ephemeralcontainers"}, r.resource):
		return true
	case r.resource == "serviceaccounts/token":
		return r.name != "accumulus-leader" || r.everywhere
	case r.resource == "services/proxy":
		return r.name == ""
	case r.everywhere && (r.resource == "secrets" || r.resource == "configmaps"):
		return true
	}
	return r.everywhere && changes && !review && !roles
}

// TestLeaderHoldsWhatItGrants: the API refuses to grant what the grantor does not
// hold.
func TestLeaderHoldsWhatItGrants(t *testing.T) {
	all := holders(t)
	for _, who := range []string{"install", "local"} {
		for r := range all["follower"] {
			if !all[who][r] {
				t.Errorf("%s does not hold %s %s/%s, which the follower's ClusterRole grants", who, r.verb, r.group, r.resource)
			}
		}
	}
}

// TestLocalLeaderMayWhatOthersMay: a leader that installs into its own cluster has
// the rights of one that was let into another, which stand in a file of their own,
// and besides those to the follower's port alone.
func TestLocalLeaderMayWhatOthersMay(t *testing.T) {
	all := holders(t)
	want := maps.Clone(all["install"])
	for r := range all["link"] {
		if r.resource == "services/proxy" {
			want[r] = true
		}
	}
	if diff := cmp.Diff(want, all["local"], cmp.AllowUnexported(right{})); diff != "" {
		t.Errorf("deploy/access/install.yaml and the leader's chart differ (-access +chart):\n%s", diff)
	}
}
