package query

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// canaries is a fleet of two customers with a cluster each, in one box, and a
// cluster that they share by rules. Everything of the second is named canary.
func canaries() []fleet.Object {
	return []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("canary", fleet.Customer{Currency: "USD"}),
		fleet.NewObject("own", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Region: "eu"}),
		fleet.NewObject("canary-own", fleet.Cluster{Customer: "canary", URL: "http://127.0.0.1:2", Region: "canary-region"}),
		fleet.NewObject("common", fleet.Cluster{URL: "http://127.0.0.1:3", Region: "eu"}),
		fleet.NewObject("canary-box", fleet.Box{Site: "canary-site"}),
		fleet.NewObject("own.n1", fleet.Node{Cluster: "own", Node: "n1", Box: "canary-box"}),
		fleet.NewObject("canary-own.n1", fleet.Node{Cluster: "canary-own", Node: "canary-node", Box: "canary-box"}),
		fleet.NewObject("common.n1", fleet.Node{Cluster: "common", Node: "n2", Box: "canary-box"}),
		fleet.NewObject("a", fleet.Assignment{Namespace: "acme-*", Customer: "acme", Project: "shop"}), // of no cluster: in all of them
		fleet.NewObject("b", fleet.Assignment{Cluster: "common", Namespace: "canary-*", Customer: "canary", Project: "canary-project"}),
		fleet.NewObject("all", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.031"}, {Resource: "energy", Price: "0.28"}}}),
		fleet.NewObject("canary-prices", fleet.PriceList{Currency: "USD", Customers: []string{"canary"}, Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.7770777"},
			{Resource: "energy", Dynamic: &fleet.DynamicPrice{Series: "canary-spot", Fallback: "0.7"}}}}),
	}
}

var canaryPods = []podID{
	{"own", "n1", "base", "db-0", "db", "canary-box"},
	{"common", "n2", "acme-shop", "web-1", "web", "canary-box"},
	{"common", "n2", "canary-shop", "canary-pod-with-a-long-name", "canary-web", "canary-box"},
	{"canary-own", "canary-node", "base", "canary-pod-with-a-longer-name", "canary-db", "canary-box"},
	{schema.BoxCluster, "", schema.IdleNamespace, schema.IdleNamespace, "", "canary-box"},
}

// number is a figure that is long enough to be nobody else's by chance.
var number = regexp.MustCompile(`\d{5,}(\.\d+)?`)

// questions are all that an engine tells, as text; what it refuses is its error.
func questions(f *fixture, ctx context.Context) map[string]string {
	all := make(map[string]string)
	put := func(name string, answer any, err error) {
		text, _ := json.Marshal(answer) // of types that can be
		all[name] = string(text)
		if err != nil {
			all[name] = err.Error()
			var incomplete *IncompleteError
			if errors.As(err, &incomplete) {
				text, _ := json.Marshal(incomplete)
				all[name] += string(text)
			}
		}
	}
	for _, aggregate := range [][]Key{nil, {Cluster}, {Customer}, {Node}, {Namespace}, {Pod, Container}, {Workload, Project, User}, {Box}, {Region, Provider, Hardware},
		{usage.Label("team")}, {Cluster, Customer, Namespace}} {
		for _, filter := range [][]Condition{nil, {{Key: Cluster, Values: []string{"*"}}}, {{Key: Customer, Values: []string{"c*"}}}, {{Key: Namespace, Values: []string{"base", "can*"}}}} {
			name := usage.KeyList(aggregate)
			if filter != nil {
				name += " where " + string(filter[0].Key)
			}
			request := Request{Window: window(0, 60), Aggregate: aggregate, Filter: filter, Completeness: true, Limit: 1}
			answer, err := f.Usage(ctx, request)
			put("usage by "+name, answer, err)
			request.Limit = 0
			answer, err = f.Usage(ctx, request)
			put("all usage by "+name, answer, err)
			energy, err := f.Energy(ctx, request)
			put("energy by "+name, energy, err)
			heat, err := f.Heat(ctx, request, false)
			put("heat by "+name, heat, err)
			carbon, err := f.Carbon(ctx, request, false)
			put("carbon by "+name, carbon, err)
			charges, err := f.Charges(ctx, ChargeRequest{Window: schema.Window{From: at(0), To: at(60)}, Aggregate: aggregate, Filter: filter, Figures: true})
			put("charges by "+name, charges, err)
		}
	}
	_, err := f.Carbon(ctx, Request{Window: window(0, 60)}, true)
	put("days", nil, err)
	for name, filter := range map[string][]Condition{"all": nil, "the other's": {{Key: Namespace, Values: []string{"canary-shop"}}}} {
		request := ChargeRequest{Window: schema.Window{From: at(0), To: at(60)}, Aggregate: []Key{Cluster, Node, Namespace, Pod}, Filter: filter}
		ahead, assumed, err := f.ChargesAhead(ctx, request, schema.Window{From: at(60), To: at(120)})
		put("charges ahead of "+name, []any{ahead, assumed}, err)
		starts, assumed, err := f.ChargesStarts(ctx, request, []schema.Window{{From: at(60), To: at(120)}, {From: at(120), To: at(180)}})
		put("charges of starts of "+name, []any{starts, assumed}, err)
		assets, err := f.Assets(ctx, request)
		put("nodes of "+name, assets, err)
		whole, err := f.Whole(ctx, request.Window, filter)
		put("whole of "+name, whole, err)
	}
	metered, err := f.Metered(ctx, schema.Window{From: at(0), To: at(60)}, schema.Quarter)
	put("metered", metered, err)
	for _, cluster := range []string{"own", "common", "canary-own"} {
		cells, err := f.Cells(ctx, cluster, schema.Window{From: at(0), To: at(60)}, 0)
		put("cells of cluster "+cluster[:3], cells, err)
		pods, err := f.PodCells(ctx, cluster, nil, schema.Window{From: at(0), To: at(60)}, 0)
		put("pods of "+cluster[:3], pods, err)
		pods, err = f.NodePods(ctx, cluster, "n1", schema.Window{From: at(0), To: at(60)}, 0)
		put("pods of a node of "+cluster[:3], pods, err)
		pods, err = f.NodeWorkloads(ctx, cluster, "*", schema.Window{From: at(0), To: at(60)}, 0)
		put("workloads of nodes of "+cluster[:3], pods, err)
	}
	sectors, err := f.Sectors(ctx, schema.Window{From: at(0), To: at(60)}, schema.Quarter)
	put("sectors", sectors, err)
	boxes, err := f.Boxes(ctx, window(0, 60))
	put("boxes", boxes, err)
	completeness, err := f.Completeness(ctx, "canary-own", window(0, 60))
	put("completeness", completeness, err)
	export, err := f.Export(ctx, ExportRequest{Period: window(0, 60)})
	put("export", export, err)
	_, err = f.Export(ctx, ExportRequest{Period: window(0, 60), RequireComplete: true})
	put("complete export", nil, err)
	return all
}

func canaryFixture(t *testing.T) *fixture {
	f := newFixture(t, canaries()...)
	f.fill(canaryPods, 0, 60)
	for _, cluster := range []string{"own", "common", "canary-own"} {
		f.receive(cluster, 60)
	}
	return f
}

// TestTenantsHearNothingOfOthers: whatever is asked, and however, a tenant's
// answers hold no name and no number of another.
func TestTenantsHearNothingOfOthers(t *testing.T) {
	f := canaryFixture(t)
	scope := usage.Scope{Customers: []string{"acme"}}
	ctx := Within(t.Context(), scope)
	own := make(map[string]bool) // numbers of the tenant, and of nobody
	foreign := make(map[string]bool)
	add := func(to map[string]bool, keep func(podID) bool) {
		answer := f.usage(Request{Window: window(0, 60), Aggregate: []Key{Cluster, Node, Namespace, Pod}})
		for _, row := range answer.Rows {
			if !keep(podID{cluster: row.Key["cluster"], namespace: row.Key["namespace"]}) {
				continue
			}
			text, err := json.Marshal(row)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range number.FindAllString(string(text), -1) {
				to[n] = true
			}
		}
	}
	mine := func(p podID) bool { return p.cluster == "own" || p.namespace == "acme-shop" }
	add(own, mine)
	add(foreign, func(p podID) bool { return !mine(p) })
	if len(foreign) < 10 {
		t.Fatalf("only %d numbers of others", len(foreign))
	}
	leaks := func(text string) []string {
		var found []string
		if strings.Contains(text, "canary") {
			found = append(found, "canary")
		}
		for _, n := range number.FindAllString(text, -1) {
			if foreign[n] && !own[n] {
				found = append(found, n)
			}
		}
		return found
	}
	answered := 0
	for name, text := range questions(f, ctx) {
		if found := leaks(text); found != nil {
			t.Errorf("%s tells %v: %s", name, found, text)
		}
		if strings.Contains(text, `"acme-shop"`) {
			answered++
		}
	}
	if answered < 5 {
		t.Errorf("own usage was told %d times", answered)
	}
	told := 0 // the control: without a scope the same questions tell it
	for _, text := range questions(f, t.Context()) {
		if leaks(text) != nil {
			told++
		}
	}
	if told < 20 {
		t.Errorf("without a scope the canary is told %d times: the test sees nothing", told)
	}
}

// TestTotalsOfAScope: what a tenant is told is the sum of what is his.
func TestTotalsOfAScope(t *testing.T) {
	f := canaryFixture(t)
	ask := func(ctx context.Context, filter ...Condition) Exact {
		t.Helper()
		answer, err := f.Usage(ctx, Request{Window: window(0, 60), Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		total := Exact{}
		for _, row := range answer.Rows {
			total = row.CPUCoreSeconds
		}
		return total
	}
	of := func(key Key, value string) Condition { return Condition{Key: key, Values: []string{value}} }
	for name, test := range map[string]struct {
		scope usage.Scope
		want  []Condition
	}{
		"cluster":              {usage.Scope{Clusters: []string{"own"}}, []Condition{of(Cluster, "own")}},
		"clusters by a star":   {usage.Scope{Clusters: []string{"c*n"}}, []Condition{of(Cluster, "c*n")}},
		"namespace":            {usage.Scope{Clusters: []string{"*"}, Namespaces: []string{"base"}}, []Condition{of(Namespace, "base"), of(Cluster, "*own")}},
		"customer and cluster": {usage.Scope{Customers: []string{"acme"}, Clusters: []string{"common"}}, []Condition{of(Cluster, "common"), of(Namespace, "acme-*")}},
	} {
		if got, want := ask(Within(t.Context(), test.scope)), ask(t.Context(), test.want...); got.Cmp(want) != 0 || got.Cmp(Exact{}) == 0 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	nothing := Within(Within(t.Context(), usage.Scope{Clusters: []string{"own"}}), usage.Scope{Clusters: []string{"common"}})
	for name, ctx := range map[string]context.Context{"empty": Within(t.Context(), usage.Scope{}), "two that share nothing": nothing,
		"a label that no pod has": Within(t.Context(), usage.Scope{Clusters: []string{"*"}, Labels: map[string]string{"team": "x"}})} {
		if got := ask(ctx); got.Cmp(Exact{}) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// bounded says of each question that an engine answers whether its answer is
// bounded (true) or refused to tenants (false). A new one is argued here.
var bounded = map[string]bool{"Usage": true, "Energy": true, "Heat": true, "Carbon": true, "Charges": true, "EachCharge": true, "Export": true, "Sectors": true, "Settled": true,
	"Cells": true, "PodCells": true, "Boxes": false, "Completeness": false, "Bills": false, "Arrived": false, "SettledOf": false, "Assets": true, "ChargesAhead": true, "ChargesStarts": true,
	"Whole": true, "Metered": true, "Mounts": false, "NodePods": true, "NodeWorkloads": true, "HeatCells": false,
	"Remember": true} // it reads nothing: what the questions under it tell is bounded as ever

func TestEveryQuestionKnowsScopes(t *testing.T) {
	f := canaryFixture(t)
	for i := range reflect.TypeFor[*Engine]().NumMethod() {
		name := reflect.TypeFor[*Engine]().Method(i).Name
		if _, argued := bounded[name]; !argued {
			t.Errorf("Engine.%s: say whether it is bounded by scopes, and ask it in TestTenantsHearNothingOfOthers", name)
		}
	}
	ctx, w := Within(t.Context(), usage.Scope{Customers: []string{"acme"}}), schema.Window{From: at(0), To: at(60)}
	_, boxes := f.Boxes(ctx, window(0, 60))
	_, completeness := f.Completeness(ctx, "own", window(0, 60))
	_, bills := f.Bills(ctx, w, nil)
	_, _, arrived := f.Arrived(ctx, "own", w)
	_, settled := f.SettledOf(ctx, "own")
	_, mounts := f.Mounts(ctx, w, func(string) bool { return true })
	_, heat := f.HeatCells(ctx, "own", w, 0)
	_, days := f.Heat(ctx, Request{Window: window(0, 60)}, true)
	for name, err := range map[string]error{"boxes": boxes, "completeness": completeness, "bills": bills, "arrived": arrived, "settled": settled, "days": days, "mounts": mounts, "heat of boxes": heat} {
		if !errors.Is(err, ErrScope) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
