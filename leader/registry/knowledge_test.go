package registry

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	gocmp "github.com/google/go-cmp/cmp"
)

// spelled is a version of rows that tells all of them apart.
func spelled(rows []NodeFacts) string { return fmt.Sprint(rows) }

func knowledge(t testing.TB, r *Registry, cluster string) Knowledge {
	t.Helper()
	k, err := r.Knowledge(t.Context(), cluster, spelled)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// plainly is what the query selects, computed by hand: each node is asked for
// at each moment at which anything changes.
func plainly(t *testing.T, r *Registry, cluster string) []NodeFacts {
	t.Helper()
	objects, err := r.Objects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	moments := []time.Time{{}}
	for _, o := range objects {
		moments = append(moments, o.ValidFrom, o.ValidTo)
	}
	slices.SortFunc(moments, time.Time.Compare)
	moments = slices.Compact(moments)
	rows := make(map[string][]NodeFacts)
	for i, from := range moments {
		at := from
		if at.IsZero() {
			at = time.Unix(0, 0) // before all else
		}
		snapshot, err := r.Fleet(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		var to time.Time
		if i+1 < len(moments) {
			to = moments[i+1]
		}
		for _, o := range objects {
			n, ok := o.Spec.(fleet.Node)
			if !ok || n.Cluster != cluster || !o.ValidAt(at) {
				continue
			}
			facts := NodeFacts{Node: n.Node, From: from, To: to}
			if hw, ok := snapshot.Hardware(n.Hardware); ok {
				facts.CPUType, facts.RAMType, facts.DiskType = hw.CPUType, hw.RAMType, hw.DiskType
			}
			if n.Box != "" {
				if facts.Box, err = r.BoxID(t.Context(), cluster, n.Box); err != nil {
					t.Fatal(err)
				}
			}
			list := rows[n.Node]
			if last := len(list) - 1; last >= 0 && list[last].To.Equal(from) {
				same := facts
				same.From, same.To = list[last].From, list[last].To
				if same == list[last] {
					list[last].To = to
					continue
				}
			}
			rows[n.Node] = append(list, facts)
		}
	}
	var all []NodeFacts
	for _, list := range rows {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b NodeFacts) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), a.From.Compare(b.From))
	})
	return all
}

// TestKnowledgeIsWhatHolds: random histories of nodes and hardware, in two
// clusters that share names and boxes.
func TestKnowledgeIsWhatHolds(t *testing.T) {
	for seed := range uint64(25) {
		r, _ := open(t)
		random := rand.New(rand.NewPCG(seed, 8))
		since := func() time.Time { return noon.Add(-time.Duration(random.IntN(20)) * time.Hour) }
		objects := []fleet.Object{fleet.NewObject("alpha", fleet.Cluster{URL: "http://127.0.0.1:1"}), fleet.NewObject("beta", fleet.Cluster{URL: "http://127.0.0.1:2"}),
			fleet.NewObject("b0", fleet.Box{}), fleet.NewObject("b1", fleet.Box{}), fleet.NewObject("h0", fleet.Hardware{}), fleet.NewObject("h1", fleet.Hardware{})}
		apply(t, r, objects...)
		for range 30 {
			name := fmt.Sprintf("n%d", random.IntN(4))
			cluster := []string{"alpha", "beta"}[random.IntN(2)]
			node := fleet.NewObject(cluster+"."+name, fleet.Node{Cluster: cluster, Node: name, Box: []string{"", "b0", "b1"}[random.IntN(3)],
				Hardware: []string{"", "h0", "h1"}[random.IntN(3)]}).Since(since())
			if random.IntN(3) == 0 {
				node = node.Until(node.ValidFrom.Add(time.Duration(1+random.IntN(9)) * time.Hour))
			}
			hardware := fleet.NewObject([]string{"h0", "h1"}[random.IntN(2)], fleet.Hardware{CPUType: fmt.Sprint("c", random.IntN(2)),
				RAMType: "ddr", IdleWatts: float64(random.IntN(3))}).Since(since())
			apply(t, r, node, hardware)
		}
		for _, cluster := range []string{"alpha", "beta"} {
			if diff := gocmp.Diff(plainly(t, r, cluster), knowledge(t, r, cluster).Nodes); diff != "" {
				t.Fatalf("seed %d, %s (-by hand +by the query):\n%s", seed, cluster, diff)
			}
		}
	}
}

// TestKnowledgeNeedsTheCondition: without the one condition the query gives
// another cluster's nodes, so the tests of leaks can find them.
func TestKnowledgeNeedsTheCondition(t *testing.T) {
	r, _ := open(t)
	apply(t, r, append(small(), fleet.NewObject("beta.other", fleet.Node{Cluster: "beta", Node: "other"}))...)
	names := func(query string) []string {
		rows, _, err := nodeFacts(t.Context(), r.reader, query, "alpha")
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, n := range rows {
			all = append(all, n.Node)
		}
		return all
	}
	if diff := gocmp.Diff([]string{"n1"}, names(knowledgeQuery)); diff != "" {
		t.Error(diff)
	}
	if strings.Count(knowledgeQuery, ofCluster) != 1 {
		t.Fatalf("the condition stands %d times in the query", strings.Count(knowledgeQuery, ofCluster))
	}
	if got := names(strings.Replace(knowledgeQuery, ofCluster, "?1 <> ''", 1)); !slices.Contains(got, "other") {
		t.Errorf("the control gives %q", got)
	}
}

// TestGeneration: it stands still while the cluster is told the same, and
// rises with every other change, whatever the clock shows.
func TestGeneration(t *testing.T) {
	r, clk := open(t)
	apply(t, r, small()...)
	first := knowledge(t, r, "alpha").Generation
	clk.Advance(time.Hour)
	apply(t, r, fleet.NewObject("box-1", fleet.Box{OverheadWatts: 11}), fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon", IdleWatts: 31}),
		fleet.NewObject("beta.n2", fleet.Node{Cluster: "beta", Node: "n2", Box: "box-1"}))
	if got := knowledge(t, r, "alpha").Generation; got != first {
		t.Errorf("generation %d after a change that alpha may not know, was %d", got, first)
	}
	clk.Set(noon.Add(-time.Hour))
	last := first
	for range 3 { // back and forth
		for _, cpu := range []string{"arm", "xeon"} {
			apply(t, r, fleet.NewObject("xeon", fleet.Hardware{CPUType: cpu}).Since(noon.Add(-10*time.Hour)))
			got := knowledge(t, r, "alpha").Generation
			if got <= last {
				t.Errorf("generation %d after %d", got, last)
			}
			last = got
		}
	}
	if err := r.RaiseSeed(context.Background(), "alpha", last+1000); err != nil {
		t.Fatal(err)
	}
	if got := knowledge(t, r, "alpha").Generation; got <= last+1000 {
		t.Errorf("generation %d, raised above %d", got, last+1000)
	}
}

// TestTouched: whoever is told something else was touched.
func TestTouched(t *testing.T) {
	r, _ := open(t)
	apply(t, r, append(small(), fleet.NewObject("gamma", fleet.Cluster{URL: "http://127.0.0.1:3"}), fleet.NewObject("arm", fleet.Hardware{}))...)
	for _, test := range []struct {
		object fleet.Object
		want   []string
	}{
		{fleet.NewObject("box-1", fleet.Box{OverheadWatts: 12}), nil},
		{fleet.NewObject("default", fleet.PriceList{Currency: "EUR"}), nil},
		{fleet.NewObject("arm", fleet.Hardware{CPUType: "arm"}), nil},
		{fleet.NewObject("xeon", fleet.Hardware{CPUType: "new"}).Since(noon.Add(-time.Hour)), []string{"alpha", "beta"}},
		{fleet.NewObject("gamma.n1", fleet.Node{Cluster: "gamma", Node: "n1"}), []string{"gamma"}},
		{fleet.NewObject("gamma.n1", fleet.Node{Cluster: "alpha", Node: "n2"}).Since(noon.Add(-time.Hour)), []string{"alpha", "gamma"}},
		{fleet.NewObject("gamma.n1", fleet.Node{Cluster: "alpha", Node: "n2", Hardware: "arm"}).Since(noon.Add(-time.Hour)), []string{"alpha", "gamma"}},
		{fleet.NewObject("arm", fleet.Hardware{CPUType: "arm8"}).Since(noon.Add(-time.Hour)), []string{"alpha"}},
	} {
		since, err := r.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		apply(t, r, test.object)
		got, err := r.Touched(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.object, diff)
		}
	}
}
