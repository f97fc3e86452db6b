package books

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
)

// TestSharedCostInBills: idle nodes and a namespace that serves all others are on
// lines of those that carry them, and the total is what all of it costs.
func TestSharedCostInBills(t *testing.T) {
	objects := small("UTC")
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	list := prices(fleet.Rate{Resource: "cpu_used", Price: "0.03"}, fleet.Rate{Resource: "cpu_idle", Price: "0.01"}, fleet.Rate{Resource: "memory_idle", Price: "0.002"},
		fleet.Rate{Resource: "heat_credit", Price: "0.09"})
	objects[3] = fleet.NewObject("standard", list).Since(since)
	objects = append(objects, fleet.NewObject("blog", fleet.Assignment{Namespace: "blog", Customer: "globex"}).Since(since))
	totals := make(map[string]int64)
	sums := func(w *world, customer string) map[string]int64 {
		w.heat = 1
		d, err := w.Draft(t.Context(), customer, "2026-11", "dora")
		if err != nil {
			t.Fatal(err)
		}
		by := make(map[string]int64)
		for _, l := range d.Lines {
			if what := sharesDiffer(l); what != "" {
				t.Errorf("%s: %s", l.Rate, what)
			}
			for _, share := range l.Shares {
				by[l.Resource+" "+share.Namespace] += share.Quantity
				totals[l.Resource] += share.Quantity
			}
			if l.Resource == "heat_credit" && !below(l.Cost) {
				t.Errorf("heat costs %s", l.Cost)
			}
		}
		return by
	}
	plain := newWorld(t, december, objects...)
	acme := sums(plain, "acme")
	sums(plain, "globex")
	before := totals
	totals = make(map[string]int64)
	list.Share = []fleet.Sharing{{Of: fleet.ShareIdle, Policy: fleet.IdleEqual}, {Of: fleet.ShareNamespaces, Namespaces: []string{"ingress"}, Policy: fleet.IdleUsage}}
	objects[3] = fleet.NewObject("standard", list).Since(since)
	shared := newWorld(t, december, objects...)
	shared.namespaces["edge-a"] = []string{"shop", "blog", "ingress"}
	now, theirs := sums(shared, "acme"), sums(shared, "globex")
	if _, stays := now["cpu_used ingress"]; stays || now["cpu_used shop"] <= acme["cpu_used shop"] || theirs["cpu_idle blog"] == 0 || now["cpu_idle shop"] == 0 {
		t.Errorf("acme %v, globex %v", now, theirs)
	}
	idle := int64(30*24*3600) * 8_000_000
	if totals["cpu_idle"] != idle { // nothing requests anything here
		t.Errorf("idle %d, want %d", totals["cpu_idle"], idle)
	}
	for _, resource := range []string{"cpu_used", "heat_credit"} {
		want := before[resource] + ingressOf(shared, resource)
		if totals[resource] != want {
			t.Errorf("%s: %d, want %d", resource, totals[resource], want)
		}
	}
}

// ingressOf is what the namespace ingress used in November.
func ingressOf(w *world, resource string) int64 {
	sum := int64(0)
	for day := range 30 {
		from := time.Date(2026, 11, 1+day, 0, 0, 0, 0, time.UTC)
		one := int64(0)
		for minute := from.Unix() / 60; minute < from.Add(24*time.Hour).Unix()/60; minute++ {
			q := w.used("edge-a", "ingress", minute)
			if resource == "heat_credit" {
				one += q[processors.Energy]
			} else {
				sum += q[processors.Resource(resource)]
			}
		}
		sum += one / 2
	}
	return sum
}

func TestSharingSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		`{of: idle, policy: equal}`:                                   "idle has no price",
		`{of: dust, policy: equal}`:                                   `"dust" is none of idle`,
		`{of: metering, policy: most}`:                                `"most" is none of equal`,
		`{of: namespaces, policy: equal}`:                             "name the namespaces",
		`{of: metering, namespaces: [x], policy: equal}`:              "leave it out",
		`{of: namespaces, namespaces: ["[x"], policy: equal}`:         "no pattern",
		`{of: metering, policy: none}, {of: metering, policy: equal}`: "shared twice",
	} {
		objects, err := fleet.Decode(fmt.Appendf(nil, "apiVersion: accumulus.dev/v1\nkind: PriceList\nmetadata: {name: x}\nspec:\n  currency: EUR\n  rates: [{resource: cpu_used, price: \"1\"}]\n  share: [%s]\n", text))
		if err == nil {
			err = fleet.Validate(objects, nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
