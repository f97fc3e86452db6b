package leader

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/books/sealtest"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// lastHour is the last hour of a month, of which there are rows.
var lastHour = time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)

// tenantPod is a pod of one of two tenants.
type tenantPod struct{ cluster, node, namespace, pod, workload string }

// tenantPods are of acme and of canary, of whom everything is named so. Each has twelve
// pods of a workload beside its others, which recommendations want.
var tenantPods = append([]tenantPod{
	{"own", "n1", "base", "db-0", "db"},
	{"common", "n2", "acme-shop", "web-1", "web"},
	{"common", "n2", "canary-shop", "canary-pod-with-a-long-name", "canary-web"},
	{"canary-own", "canary-node", "base", "canary-pod-with-a-longer-name", "canary-db"},
}, manyPods()...)

func manyPods() (pods []tenantPod) {
	for i := range 12 {
		pods = append(pods, tenantPod{"own", "n1", "many", fmt.Sprintf("many-%02d", i), "many"},
			tenantPod{"canary-own", "canary-node", "many", fmt.Sprintf("canary-many-%02d", i), "canary-many"})
	}
	return pods
}

// tenantFleet are two customers with a cluster each, in one box, and a cluster that
// they share by rules.
func tenantFleet() []fleet.Object {
	spot := func(series string) fleet.Rate {
		return fleet.Rate{Resource: "energy", Dynamic: &fleet.DynamicPrice{Series: series, Factor: "1.5", Fallback: "0.28"}}
	}
	budget := func(customer string) fleet.Budget {
		return fleet.Budget{Customer: customer, Amount: "77077.70", Currency: "EUR", Thresholds: []fleet.Threshold{{Percent: 1}}}
	}
	all := []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{Currency: "EUR"}),
		fleet.NewObject("canary", fleet.Customer{Currency: "EUR", DisplayName: "The canary", TimeZone: "Pacific/Auckland"}),
		fleet.NewObject("own", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Region: "eu"}),
		fleet.NewObject("canary-own", fleet.Cluster{Customer: "canary", URL: "http://127.0.0.1:2", Region: "canary-region"}),
		fleet.NewObject("common", fleet.Cluster{URL: "http://127.0.0.1:3", Region: "eu"}),
		fleet.NewObject("canary-box", fleet.Box{Site: "canary-site"}),
		fleet.NewObject("canary-grid", fleet.Grid{Zone: "NL"}),
		fleet.NewObject("own.n1", fleet.Node{Cluster: "own", Node: "n1", Box: "canary-box"}),
		fleet.NewObject("canary-own.n1", fleet.Node{Cluster: "canary-own", Node: "canary-node", Box: "canary-box"}),
		fleet.NewObject("common.n1", fleet.Node{Cluster: "common", Node: "n2", Box: "canary-box"}),
		fleet.NewObject("a", fleet.Assignment{Cluster: "common", Namespace: "acme-*", Customer: "acme", Project: "shop"}),
		fleet.NewObject("b", fleet.Assignment{Cluster: "common", Namespace: "canary-*", Customer: "canary", Project: "canary-project"}),
		fleet.NewObject("all", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_max", Price: "0.031"}, spot("spot")}}),
		fleet.NewObject("canary-prices", fleet.PriceList{Currency: "EUR", Customers: []string{"canary"}, Rates: []fleet.Rate{{Resource: "cpu_max", Price: "0.7770777"}, spot("canary-spot")}}),
		fleet.NewObject("budget", budget("acme")), fleet.NewObject("canary-budget", budget("canary")),
	}
	for i := range all {
		all[i] = all[i].Since(lastHour.AddDate(0, -2, 0))
	}
	return all
}

// newTenants is a leader of that fleet with an hour of rows, finished runs, and
// November closed of both customers; its clock is in December.
func newTenants(t *testing.T) *centre {
	c := newCentre(t, Config{})
	c.clk.Set(lastHour.Add(70 * time.Minute))
	c.apply(tenantFleet()...)
	c.fillTenants()
	slot := registry.PriceSlot{From: lastHour.Add(70 * time.Minute).Truncate(schema.Quarter), To: lastHour.Add(24 * time.Hour)}
	for series, price := range map[string]string{"spot": "0.4004004", "canary-spot": "0.9009009"} {
		body := fmt.Sprintf(`{"slots":[{"from":%q,"to":%q,"price":%q}]}`, slot.From.Format(time.RFC3339), slot.To.Truncate(schema.Quarter).Format(time.RFC3339), price)
		if code, said := c.callAs("POST", "/api/v1/prices/series/"+series, string(c.config.API.Tokens.Operator), body); code != http.StatusOK {
			t.Fatalf("%d %s", code, said)
		}
	}
	// The rows came by no journal, so that no archive takes them.
	desk, err := books.New(books.Config{Archive: new(sealtest.Archive)}, c.registry, c.query, c.seedKey, c.clk, c.log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for _, customer := range []string{"acme", "canary"} {
		c.closeBooks(desk, customer, "2026-11")
	}
	if err := c.budgets.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *centre) closeBooks(desk *books.Books, customer, period string) {
	c.t.Helper()
	ctx := c.t.Context()
	if _, err := desk.Draft(ctx, customer, period, "dora"); err != nil {
		c.t.Fatal(err)
	}
	if _, err := desk.Review(ctx, customer, period, "dora"); err != nil {
		c.t.Fatal(err)
	}
	if _, err := desk.Approve(ctx, customer, period, "anna"); err != nil {
		c.t.Fatal(err)
	}
	if _, err := desk.Close(ctx, customer, period, books.CloseRequest{By: "carl", Reason: "the test has one hour", Method: books.MethodMeasured}); err != nil {
		c.t.Fatal(err)
	}
}

// fillTenants writes the minutes and the quarters of an hour, and what finished in it.
func (c *centre) fillTenants() {
	c.t.Helper()
	var minutes, quarters, facts []influxsync.Point
	for q := range 4 {
		sums := make(map[tenantPod]map[string]int64)
		for i := q * 15; i < q*15+15; i++ {
			when := lastHour.Add(time.Duration(i) * time.Minute)
			for _, p := range tenantPods {
				values := p.used(i)
				if sums[p] == nil {
					sums[p] = make(map[string]int64)
				}
				for name, v := range values {
					sums[p][name] += v
				}
				minutes = append(minutes, followertest.Row(schema.PodMinute, when, p.tags(true), values), followertest.Row(schema.EnergyMinute, when, p.tags(true), values),
					followertest.Row(schema.NodeMinute, when, map[string]string{schema.Cluster: p.cluster, schema.Node: p.node}, nodeValues(60_000)))
			}
		}
		when := lastHour.Add(time.Duration(q) * schema.Quarter)
		for p, values := range sums {
			quarters = append(quarters, followertest.Row(schema.UsageQuarter, when, p.tags(false), values), followertest.Row(schema.EnergyQuarter, when, p.tags(false), values),
				followertest.Row(schema.NodeQuarter, when, map[string]string{schema.Cluster: p.cluster, schema.Node: p.node}, nodeValues(900_000)))
		}
	}
	for _, p := range tenantPods {
		tags := map[string]string{schema.Cluster: p.cluster, schema.Kind: "Pod", schema.Namespace: p.namespace, "name": p.pod, "uid": "uid-" + p.pod, schema.Node: p.node, schema.WorkloadKind: "Job", schema.Workload: "nightly"}
		facts = append(facts, followertest.Row(schema.Run, lastHour.Add(50*time.Minute), tags, map[string]int64{"start": lastHour.Add(5 * time.Minute).UnixNano(), "end": lastHour.Add(50 * time.Minute).UnixNano(), schema.CPU: 7_100_000 * int64(len(p.pod))}))
	}
	for db, points := range map[string][]influxsync.Point{schema.MinuteDB: minutes, schema.QuarterDB: quarters, schema.FactsDB: facts} {
		if err := c.store.Database(db).Write(c.t.Context(), points); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, cluster := range []string{"own", "common", "canary-own"} {
		end := lastHour.Add(time.Hour)
		last := influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: schema.PodMinute.Name, Revision: 1, Rows: 1, Coverage: 1000, Window: schema.WindowAt(end.Add(-time.Minute), schema.Minute), Time: end, Hash: "x"}}
		receipt := registry.Receipt{Mark: influxsync.Mark{Store: "store-" + cluster, Time: last.Time, Hash: last.Hash}, Windows: []influxsync.Confirmed{last}}
		if err := c.registry.Received(c.t.Context(), cluster, schema.PodMinute.Name, receipt, nil); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (p tenantPod) tags(ofPod bool) map[string]string {
	tags := map[string]string{schema.Cluster: p.cluster, schema.Node: p.node, schema.Namespace: p.namespace, schema.Box: "canary-box", schema.WorkloadKind: "Job", schema.Workload: p.workload}
	if ofPod {
		tags[schema.Pod], tags[schema.PodUID] = p.pod, "uid-"+p.pod
	}
	return tags
}

// used are the quantities of a pod in a minute, of no other one.
func (p tenantPod) used(i int) map[string]int64 {
	n := int64(len(p.pod)*7+i*13%29) + 1
	return map[string]int64{schema.CPU: 1_000_003 * n, schema.CPURequest: 15_000_000, schema.CPUMax: max(1_000_003*n, 15_000_000), schema.Memory: 524_287 * n, schema.MemoryMax: 524_287 * n,
		schema.NetworkReceive: 1001 * n, schema.Uptime: 60_000, schema.Coverage: 60, schema.EnergyActive: 100_103 * n, schema.EnergyIdle: 50_311 * n, schema.EnergyModelled: 150_414 * n,
		schema.CarbonLocation: 7_013 * n, schema.CarbonLocationEnergy: 150_414 * n}
}

func nodeValues(uptime int64) map[string]int64 {
	return map[string]int64{schema.Uptime: uptime, schema.Coverage: uptime / 1000, schema.AllocatableCPU: 4_000 * uptime, schema.AllocatableMem: 8 << 20 * uptime / 1000}
}

// tenantPaths are questions to every route that is open to tenants, by its path.
func tenantPaths() map[string][]string {
	window := "window=2026-11-30T23:00:00Z,2026-12-01T00:00:00Z"
	var shares []string
	more := []string{"", "&includeIdle=true", "&shareIdle=true", "&shareIdle=even&idleByNode=true", "&shareNamespaces=canary-shop,base&includeIdle=true", "&format=csv&includeIdle=true", "&step=15m&accumulate=hour"}
	for i, aggregate := range []string{"cluster,namespace", "", "cluster", "namespace", "customer,project", "cluster,node", "controller", "pod,container", "label:app", "region,hardware"} {
		for j := range more {
			if i == 0 || (i+j)%4 == 0 {
				shares = append(shares, "?"+window+"&currency=EUR&aggregate="+aggregate+more[j])
			}
		}
	}
	figures := []string{"?" + window, "?" + window + "&aggregate=cluster,node,namespace,pod&completeness=true", "?" + window + "&aggregate=customer,project,region"}
	rates := []string{"", "?aggregate=cluster,node,namespace,workload,pod", "?aggregate=customer,project", "?customer=canary", "?cluster=can*"}
	return map[string][]string{
		"/api/v1": {""}, "/api/v1/me": {""}, "/api/v1/usage": figures, "/api/v1/energy": figures, "/api/v1/carbon": figures,
		"/api/v1/export": {"?period=2026-11", "?period=2026-11&format=csv", "?period=2026-11&format=focus&compression=none", "?period=2026-11&format=opencost-csv&compression=none", "?period=2026-12&format=focus&compression=none"},
		"/allocation":    shares, "/allocation/compute": shares[:3], "/api/v1/allocation": shares[:3], "/api/v1/allocation/compute": shares[:3],
		"/api/v1/rates": rates, "/api/v1/forecast": append([]string{"?until=7d", "?until=month&aggregate=customer"}, rates...), "/api/v1/budgets": {""},
		"/api/v1/recommendations": {"", "?customer=canary", "?cluster=common"},
		"/api/v1/reports/run":     {"?name=nightly", "?name=nightly&format=html", "?name=nightly&format=text", "?name=canary-pod-with-a-long-name", "?name=nightly&cluster=canary-own"},
		"/api/v1/prices/ahead":    {"?hours=4", "?hours=2&customer=canary"},
		"/api/v1/books":           {"", "?customer=canary", "?period=2026-11"},
	}
}

// bookPaths are of the customers' own books.
func bookPaths() []string {
	var all []string
	for _, customer := range []string{"acme", "canary"} {
		for _, path := range []string{"/chain", "/statements/1", "/statements/1?format=html", "/statements/1/archive", "/2026-11/statement", "/2026-11/statement?format=html"} {
			all = append(all, "/api/v1/books/"+customer+path)
		}
	}
	return all
}

// digits is a figure that is long enough to be nobody else's by chance.
var digits = regexp.MustCompile(`\d{5,}(\.\d+)?`)

// tenantFigures are the figures of pods that are kept, as usage and charges tell them.
func (c *centre) tenantFigures(keep func(tenantPod) bool) map[string]bool {
	c.t.Helper()
	found := make(map[string]bool)
	for _, aggregate := range []string{"cluster,namespace", "cluster,node,namespace,pod"} {
		_, body := c.callAs("GET", "/api/v1/usage?window=2026-11-30T23:00:00Z,2026-12-01T00:00:00Z&aggregate="+aggregate, string(c.config.API.Tokens.Viewer), "")
		var answer struct {
			Rows []json.RawMessage `json:"rows"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			c.t.Fatal(err)
		}
		for _, row := range answer.Rows {
			var of struct{ Key map[string]string }
			if err := json.Unmarshal(row, &of); err != nil {
				c.t.Fatal(err)
			}
			if !keep(tenantPod{cluster: of.Key["cluster"], namespace: of.Key["namespace"]}) {
				continue
			}
			for _, n := range digits.FindAllString(string(row), -1) {
				found[n] = true
			}
		}
	}
	return found
}

func TestTenants(t *testing.T) {
	c := newTenants(t)
	t.Run("only their own", c.testOnlyTheirOwn)
	t.Run("their own", c.testTheirOwn)
}

// testOnlyTheirOwn asks every route that is open to tenants, as one of two in
// a fleet: no answer holds a name or a figure of the other. The control is the viewer,
// whose scope is all: the same questions tell the other's on every route.
func (c *centre) testOnlyTheirOwn(t *testing.T) {
	token := c.tenantToken("acme", `{"customers":["acme"]}`)
	mine := func(p tenantPod) bool { return p.cluster == "own" || p.namespace == "acme-shop" }
	own, foreign := c.tenantFigures(mine), c.tenantFigures(func(p tenantPod) bool { return !mine(p) })
	if len(foreign) < 10 {
		t.Fatalf("only %d figures of the other", len(foreign))
	}
	leaks := func(path, body string) (found []string) {
		path, query, _ := strings.Cut(path, "?")
		body = strings.ReplaceAll(body, path, "") // a problem names what was asked for
		if at := strings.Index(body, "canary"); at >= 0 && !strings.Contains(query, body[at:min(len(body), at+40)]) {
			found = append(found, body[max(0, at-60):min(len(body), at+60)])
		}
		for _, n := range digits.FindAllString(body, -1) {
			if foreign[n] && !own[n] {
				found = append(found, n)
			}
		}
		return found
	}
	questions := tenantPaths()
	questions["/api/v1/books/{customer}"] = bookPaths()
	asked := make(map[string]bool)
	for route, paths := range questions {
		told, answered := false, false
		for _, more := range paths {
			path := route + more
			if strings.Contains(route, "{") {
				path = more
			}
			code, body := c.callAs("GET", path, token, "")
			if found := leaks(path, body); found != nil || code >= 500 {
				t.Errorf("%s: %d tells %q", path, code, found)
			}
			answered = answered || code == http.StatusOK
			_, all := c.callAs("GET", path, string(c.config.API.Tokens.Viewer), "")
			told = told || leaks(path, all) != nil
		}
		if alone := route == "/api/v1" || route == "/api/v1/me"; !answered || !told && !alone {
			t.Errorf("%s: answered a tenant %t; the viewer is told the other's %t", route, answered, told)
		}
		asked[route] = true
	}
	for _, route := range c.api.Routes() {
		if route.Role&api.Tenant != 0 && !asked[route.Path] && !strings.HasPrefix(route.Path, "/api/v1/books/{customer}/") {
			t.Errorf("%s is open to tenants and is not asked here", route.Path)
		}
	}
}

// tenantToken makes a tenant's token.
func (c *centre) tenantToken(name, scope string) string {
	c.t.Helper()
	code, body := c.callAs("POST", "/api/v1/tokens", string(c.config.API.Tokens.Operator), fmt.Sprintf(`{"name":%q,"role":"tenant","scope":%s}`, name, scope))
	_, rest, _ := strings.Cut(body, `"secret": "`)
	token, _, _ := strings.Cut(rest, `"`)
	if code != http.StatusCreated {
		c.t.Fatalf("%d %s", code, body)
	}
	return token
}

// testTheirOwn: a tenant's answers have what is his.
func (c *centre) testTheirOwn(t *testing.T) {
	customer, part := c.tenantToken("all-of-acme", `{"customers":["acme"]}`), c.tenantToken("part", `{"customers":["acme"],"namespaces":["acme-shop"]}`)
	cluster := c.tenantToken("cluster", `{"clusters":["own"]}`)
	for _, test := range []struct {
		token, path string
		code        int
		has, not    string
	}{
		{customer, "/allocation?window=1h&aggregate=cluster,namespace&includeIdle=true", 200, `"own/__idle__"`, "common/__idle__"},
		{customer, "/allocation?window=1h&aggregate=cluster,namespace&includeIdle=true", 200, `"common/acme-shop"`, `"common/base"`},
		{part, "/allocation?window=1h&aggregate=cluster,namespace&includeIdle=true", 200, `"common/acme-shop"`, "__idle__"},
		{cluster, "/allocation?window=1h&aggregate=cluster,namespace&shareIdle=true", 200, `"own/base"`, "common"},
		{customer, "/api/v1/rates?aggregate=cluster", 200, `"common"`, "canary"},
		{customer, "/api/v1/forecast?until=7d", 200, `"resource": "cpuCoreSeconds"`, "canary"},
		{customer, "/api/v1/budgets", 200, `"budget": "budget"`, "canary"},
		{part, "/api/v1/budgets", 200, `"items": []`, "budget\": \"budget"},
		{customer, "/api/v1/reports/run?name=nightly", 200, `"pod": "web-1"`, "canary"},
		{part, "/api/v1/reports/run?name=nightly", 200, `"pod": "web-1"`, "db-0"},
		{part, "/api/v1/reports/run?name=db-0", 404, "no run", ""},
		{customer, "/api/v1/prices/ahead?hours=2", 200, `"price": "0.6006006`, "0.4004004"},                                  // 1.5 times what the operator pays
		{customer, "/api/v1/export?period=2026-11&format=focus&compression=none", 200, "2026-11-30T00:00:00Z", "2026-10-31"}, // closed lines by day
		{customer, "/api/v1/books", 200, `"state": "closed"`, "canary"},
		{part, "/api/v1/books", 200, `"items": []`, "acme"},
		{customer, "/api/v1/books/acme/2026-11/statement", 200, `"id": "acme-0001"`, "canary"},
		{part, "/api/v1/books/acme/2026-11/statement", 403, "not bound", ""},
		{cluster, "/api/v1/books/acme/2026-11/statement", 403, "not bound", ""},
		{customer, "/api/v1/books/canary/2026-11/statement", 403, "not bound", ""},
		{customer, "/api/v1/books/nobody/2026-11/statement", 403, "not bound", ""},
		{customer, "/api/v1/books/acme/lines/1/explanation", 403, "role", ""},
		{customer, "/api/v1/books/acme/2026-11/review", 403, "role", ""},
	} {
		code, body := c.callAs("GET", test.path, test.token, "")
		if code != test.code || !strings.Contains(body, test.has) || test.not != "" && strings.Contains(body, test.not) {
			t.Errorf("%s: %d, want %d with %q and without %q: %s", test.path, code, test.code, test.has, test.not, body)
		}
	}
}
