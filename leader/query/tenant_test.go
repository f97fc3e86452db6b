package query

import (
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

// TestIdleIsToldOfWhoIsAlone: nodes at full use are told of a cluster in which nobody
// else has anything, and not of one of which a rule gives a part away: the difference
// to what is one's own would be the other's.
func TestIdleIsToldOfWhoIsAlone(t *testing.T) {
	f := canaryFixture(t)
	var nodes []influxsync.Point
	for _, p := range canaryPods[:4] {
		for i := range 60 {
			nodes = append(nodes, point(schema.NodeMinute, at(i), map[string]string{schema.Cluster: p.cluster, schema.Node: p.node},
				map[string]int64{schema.Uptime: 60_000, schema.Coverage: 60, schema.AllocatableCPU: 240_000_000, schema.AllocatableMem: 60 << 18}))
		}
	}
	f.write(f.minute, nodes)
	told := func(scope usage.Scope) (clusters []string) {
		t.Helper()
		assets, err := f.Assets(Within(t.Context(), scope), ChargeRequest{Window: schema.Window{From: at(0), To: at(60)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range assets {
			clusters = append(clusters, a.Row.Key[string(Cluster)])
		}
		return clusters
	}
	acme := usage.Scope{Customers: []string{"acme"}}
	for name, test := range map[string]struct {
		scope usage.Scope
		want  []string
	}{
		"a customer":      {acme, []string{"own"}},
		"all clusters":    {usage.Scope{Clusters: []string{"*"}}, []string{"canary-own", "common", "own"}},
		"a namespace":     {usage.Scope{Clusters: []string{"own"}, Namespaces: []string{"base"}}, nil},
		"a label":         {usage.Scope{Clusters: []string{"own"}, Labels: map[string]string{"a": "b"}}, nil},
		"in a shared one": {usage.Scope{Customers: []string{"acme"}, Clusters: []string{"common"}}, nil},
	} {
		if diff := cmp.Diff(test.want, told(test.scope)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	f.apply(fleet.NewObject("taken", fleet.Assignment{Cluster: "own", Namespace: "canary-*", Customer: "canary"})) // the control: now he is not alone
	if got := told(acme); got != nil {
		t.Errorf("with another's namespace: %v", got)
	}
}

func TestWhole(t *testing.T) {
	f := canaryFixture(t)
	ctx, w := Within(t.Context(), usage.Scope{Customers: []string{"acme"}}), schema.Window{From: at(0), To: at(60)}
	of := func(key Key, value string) []Condition { return []Condition{{Key: key, Values: []string{value}}} }
	for name, test := range map[string]struct {
		filter []Condition
		want   bool
	}{"his pod": {of(Pod, "web-1"), true}, "another's": {of(Pod, "canary-pod-with-a-long-name"), false}, "both": {of(Cluster, "common"), false}, "nothing": {of(Pod, "gone"), false}} {
		if got, err := f.Whole(ctx, w, test.filter); err != nil || got != test.want {
			t.Errorf("%s: %t %v", name, got, err)
		}
	}
	if got, err := f.Whole(t.Context(), w, of(Cluster, "common")); err != nil || !got {
		t.Errorf("without a scope: %t %v", got, err)
	}
}

func TestMetered(t *testing.T) {
	f := canaryFixture(t)
	for name, scope := range map[string]usage.Scope{"used nothing": {Customers: []string{"acme"}, Clusters: []string{"common"}}, "has no cluster": {Customers: []string{"nobody"}}} {
		starts, err := f.Metered(Within(t.Context(), scope), schema.Window{From: at(-30), To: at(90)}, schema.Quarter)
		want := 4
		if name == "has no cluster" {
			want = 0
		}
		if err != nil || len(starts) != want || want > 0 && !starts[0].Equal(at(0)) {
			t.Errorf("%s: %v %v", name, starts, err)
		}
	}
}

func TestPayers(t *testing.T) {
	f, err := canaryFixture(t).books.Fleet(t.Context(), at(60))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"common": true}
	for name, test := range map[string]struct {
		scope usage.Scope
		want  []Payer
	}{
		"a customer":                        {usage.Scope{Customers: []string{"acme"}}, []Payer{{"common", "acme"}, {"own", "acme"}}},
		"a cluster":                         {usage.Scope{Clusters: []string{"common"}}, []Payer{{"common", ""}, {"common", "acme"}, {"common", "canary"}}},
		"namespaces by a rule":              {usage.Scope{Clusters: []string{"common"}, Namespaces: []string{"acme-*"}}, []Payer{{"common", "acme"}}},
		"a namespace that a rule may have":  {usage.Scope{Clusters: []string{"common"}, Namespaces: []string{"acme-shop"}}, nil},
		"a namespace of who is alone there": {usage.Scope{Clusters: []string{"own"}, Namespaces: []string{"base"}}, []Payer{{"own", "acme"}}},
		"nothing":                           {usage.Scope{}, nil},
	} {
		if diff := cmp.Diff(test.want, Payers(Within(t.Context(), test.scope), f, used)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if all := Payers(t.Context(), f, nil); len(all) != 6 { // acme and canary by rules, and their own
		t.Errorf("without a scope: %v", all)
	}
}

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		scope                        usage.Scope
		customer, cluster, namespace string
		want                         bool
	}{
		{usage.Scope{Customers: []string{"acme"}}, "acme", "", "", true},
		{usage.Scope{Customers: []string{"acme"}}, "acme", "common", "shop", true},
		{usage.Scope{Customers: []string{"acme"}}, "canary", "", "", false},
		{usage.Scope{Customers: []string{"acme"}}, "", "common", "", false},
		{usage.Scope{Customers: []string{"acme"}, Namespaces: []string{"shop"}}, "acme", "", "", false},
		{usage.Scope{Customers: []string{"acme"}, Labels: map[string]string{"a": "b"}}, "acme", "", "", false},
		{usage.Scope{Clusters: []string{"own"}}, "", "own", "", true},
		{usage.Scope{Clusters: []string{"own"}}, "acme", "", "", false},
		{usage.Scope{Clusters: []string{"*"}, Namespaces: []string{"shop-*"}}, "", "", "shop-1", true},
		{usage.Scope{Clusters: []string{"*"}, Namespaces: []string{"shop-*"}}, "", "", "shop*", false},
		{usage.Scope{}, "acme", "", "", false},
	} {
		if got := Covers(Within(t.Context(), test.scope), test.customer, test.cluster, test.namespace); got != test.want {
			t.Errorf("%v covers %q %q %q: %t", test.scope, test.customer, test.cluster, test.namespace, got)
		}
	}
	if !Covers(t.Context(), "", "", "") {
		t.Error("without a scope")
	}
}
