package follower

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/review"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// people are a cluster's rules: who has which token and may see what.
type people struct {
	may  map[string][]string // token → namespaces; "*" = all
	down bool
}

func newPeople() *people {
	return &people{may: map[string][]string{"token-of-ann": {"shop"}, "token-of-bea": {"shop", "blog"}, "token-of-root": {"*"}, "token-of-nobody": {}}}
}

func (p *people) Who(_ context.Context, token string) (review.Caller, error) {
	if p.down {
		return review.Caller{}, fmt.Errorf("%w: connection refused", review.ErrUnavailable)
	}
	if _, ok := p.may[token]; !ok {
		return review.Caller{}, review.ErrUnknown
	}
	return review.Caller{Name: token}, nil
}

func (p *people) MaySee(_ context.Context, caller review.Caller, namespace string) (bool, error) {
	may := p.may[caller.Name]
	return slices.Contains(may, "*") || namespace != "" && slices.Contains(may, namespace), nil
}

func (p *people) Visible(ctx context.Context, caller review.Caller, namespaces []string) ([]string, error) {
	var visible []string
	for _, name := range namespaces {
		if may, _ := p.MaySee(ctx, caller, name); may {
			visible = append(visible, name)
		}
	}
	return visible, nil
}

// ownRig is a follower with an hour of its own rows and the rows of others
// beside them, whose names are canaries.
type ownRig struct {
	*rig
	people *people
}

func startOwn(t *testing.T) *ownRig {
	t.Helper()
	o := &ownRig{people: newPeople()}
	o.rig = start(t, t.TempDir(), clock.NewManual(epoch.Add(time.Hour)), func(_ *Config, in *Input) { in.Reviewer = o.people })
	o.tickTo(epoch.Add(time.Hour + 20*time.Minute))
	return o
}

// own are values of the namespaces in which the test puts rows, as multiples:
// the canary's can be told from the others' by their size.
var own = map[string]int64{"blog": 3, "canary-space": 1_000_003}

// usefulCanary stands where no leader writes: whoever may see the whole cluster
// is told of no useful heat and of nothing that it avoided.
const usefulCanary = 7_654_321_987_000

// put writes rows of a minute for blog and the canary.
func (o *ownRig) put(at time.Time) {
	o.Helper()
	var minute, facts []influxsync.Point
	for namespace, n := range own {
		name := strings.TrimSuffix(namespace, "-space")
		tags := map[string]string{schema.Cluster: "edge", schema.Node: name + "-node", schema.Namespace: namespace, schema.Pod: name + "-pod",
			schema.PodUID: name + "-uid", schema.WorkloadKind: "Deployment", schema.Workload: name + "-work", schema.Box: name + "-box"}
		row := func(table string, more map[string]string, fields map[string]influxsync.Value) influxsync.Point {
			all := make(map[string]string)
			for key, value := range tags {
				all[key] = value
			}
			for key, value := range more {
				all[key] = value
			}
			return influxsync.NewPoint(table, all, fields, at)
		}
		used := map[string]influxsync.Value{schema.CPU: influxsync.Int(n), schema.Uptime: influxsync.Int(60_000), schema.Coverage: influxsync.Int(60)}
		minute = append(minute, row("pod", nil, used), row("container", map[string]string{schema.Container: name + "-container"}, used))
		run := map[string]influxsync.Value{"start": influxsync.Int(at.UnixNano()), "end": influxsync.Int(at.UnixNano()), "exit_code": influxsync.Int(0),
			schema.CPU: influxsync.Int(n), "reason": influxsync.Str(name + "-reason"), schema.Quality: influxsync.Str("measured")}
		facts = append(facts, influxsync.NewPoint("run", map[string]string{schema.Cluster: "edge", schema.Kind: "Pod", schema.Namespace: namespace,
			"name": name + "-pod", "uid": name + "-uid", schema.Node: name + "-node"}, run, at),
			influxsync.NewPoint("object", map[string]string{schema.Cluster: "edge", schema.Kind: "Pod", schema.Namespace: namespace, "name": name + "-pod", "uid": name + "-uid"},
				map[string]influxsync.Value{"spec": influxsync.Str(`{"labels":{"team":"` + name + `-team"}}`), "reason": influxsync.Str(""),
					"valid_from": influxsync.Int(at.UnixNano()), "valid_to": influxsync.Int(0)}, at))
	}
	o.write(schema.MinuteDB, minute)
	o.write(schema.FactsDB, facts)
}

// push writes what a leader would push for the minute at: energy of every
// namespace and of the idle rest, and cost of the quarter.
func (o *ownRig) push(at time.Time) {
	o.Helper()
	var rows []influxsync.Point
	for namespace, n := range map[string]int64{"shop": 2, "blog": own["blog"], "canary-space": own["canary-space"], schema.IdleNamespace: 50} {
		name := strings.TrimSuffix(namespace, "-space")
		rows = append(rows, influxsync.NewPoint("energy", map[string]string{schema.Cluster: "edge", schema.Node: name + "-node", schema.Namespace: namespace,
			schema.Pod: name + "-pod", schema.PodUID: name + "-uid", schema.WorkloadKind: "Deployment", schema.Workload: name + "-work"},
			map[string]influxsync.Value{schema.EnergyActive: influxsync.Int(n), schema.EnergyIdle: influxsync.Int(0), schema.EnergyOverhead: influxsync.Int(0),
				schema.EnergyModelled: influxsync.Int(n), schema.EnergyMeasured: influxsync.Int(n), schema.Quality: influxsync.Str("measured"),
				schema.Heat: influxsync.Int(n), schema.CarbonLocation: influxsync.Int(n), schema.CarbonLocationEnergy: influxsync.Int(n), schema.CarbonEstimatedEnergy: influxsync.Int(0),
				schema.CarbonMarket: influxsync.Int(n), schema.CarbonMarketEnergy: influxsync.Int(n), schema.CarbonEmbodied: influxsync.Int(n),
				schema.UsefulHeat: influxsync.Int(usefulCanary), schema.CarbonAvoided: influxsync.Int(usefulCanary),
				schema.CarbonSource: influxsync.Str("yearly mean of NL, 2024")}, at),
			influxsync.NewPoint("cost", map[string]string{schema.Cluster: "edge", schema.Namespace: namespace, schema.WorkloadKind: "Deployment", schema.Workload: name + "-work",
				schema.Resource: "cpu_used", schema.Currency: "EUR", schema.PriceKind: "sale"},
				map[string]influxsync.Value{schema.CostNanos: influxsync.Int(n), schema.PriceVersion: influxsync.Str(name + "-prices")}, at.Truncate(schema.Quarter)))
	}
	o.write(schema.ResultsDB, rows)
}

func (o *ownRig) write(db string, rows []influxsync.Point) {
	o.Helper()
	if err := o.store.Database(db).Write(o.Context(), rows); err != nil {
		o.Fatal(err)
	}
}

// ask sends a GET and returns status and body.
func (o *ownRig) ask(token, path string) (int, string) {
	o.Helper()
	request, err := http.NewRequestWithContext(o.Context(), http.MethodGet, o.server.URL+path, nil)
	if err != nil {
		o.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return o.do(http.DefaultClient, request)
}

func (o *ownRig) do(client *http.Client, request *http.Request) (int, string) {
	o.Helper()
	response, err := client.Do(request)
	if err != nil {
		o.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		o.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// ownAnswer is what the tests look at in any answer of the API.
type ownAnswer struct {
	Sources []string
	Rows    []struct {
		Key            map[string]string `json:"key"`
		Namespace      string            `json:"namespace"` // of a run
		CPUCoreSeconds json.Number       `json:"cpuCoreSeconds"`
		EnergyJoules   *json.Number      `json:"energyJoules"`
		HeatJoules     *json.Number      `json:"heatJoules"`
		LocationGrams  *json.Number      `json:"locationGrams"`
		MarketGrams    *json.Number      `json:"marketGrams"`
		EmbodiedGrams  *json.Number      `json:"embodiedGrams"`
		NodeSeconds    json.Number       `json:"nodeSeconds"`
		Cost           *string           `json:"cost"`
		Currency       string            `json:"currency"`
		Quality        string            `json:"quality"`
		Provisional    bool              `json:"provisional"`
	} `json:"rows"`
	AsOf struct {
		Settled, Energy, Cost *time.Time
	} `json:"asOf"`
	Covers struct {
		Cluster    bool     `json:"cluster"`
		Namespaces []string `json:"namespaces"`
	} `json:"covers"`
	Notes []string `json:"notes"`
	Total int      `json:"total"`
}

func (o *ownRig) must(token, path string) ownAnswer {
	o.Helper()
	status, body := o.ask(token, path)
	var a ownAnswer
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != http.StatusOK {
		o.Fatalf("%s: %d, %v\n%s", path, status, err, body)
	}
	return a
}

// paths are questions that reach every table by every key.
func paths() []string {
	var all []string
	for _, aggregate := range []string{"", "cluster", "namespace", "workload", "namespace,workload", "pod", "container", "node", "label:team", "namespace,pod,node"} {
		for _, more := range []string{"", "&step=15m", "&namespace=*", "&filter=pod=*", "&sort=-cpu&limit=1", "&format=csv"} {
			all = append(all, "/api/v1/usage?window=1h&aggregate="+aggregate+more)
		}
		if aggregate != "container" {
			for _, more := range []string{"", "&step=15m", "&format=csv", "&sort=-energy"} {
				all = append(all, "/api/v1/energy?window=1h&aggregate="+aggregate+more, "/api/v1/carbon?window=1h&aggregate="+aggregate+more)
			}
		}
	}
	for _, aggregate := range []string{"", "namespace", "namespace,workload"} {
		all = append(all, "/api/v1/cost?window=1h&aggregate="+aggregate)
	}
	return append(all, "/api/v1/runs?window=1h", "/api/v1/runs?window=1h&kind=Pod", "/api/v1/runs?window=1h&namespace=*", "/api/v1", "/",
		"/?by=pod", "/?by=namespace&window=24h", "/?window=x", "/api/v1/usage?aggregate=box", "/api/v1/energy?aggregate=box", "/api/v1/carbon?window=1h&aggregate=box", "/api/v1/heat?window=1h", "/api/v1/carbon?days=true", "/api/v1/usage?window=1h&filter=pod=canary*",
		"/api/v1/usage?window=1h&namespace=*-space", "/api/v1/usage?window=1h&node=*node")
}

// TestOnesOwnNamespacesAlone: nothing of a namespace that a caller may not see
// is in any answer, not even its share of a sum. The controls: who sees all is
// shown it by the same questions, and the sums differ.
func TestOnesOwnNamespacesAlone(t *testing.T) {
	o := startOwn(t)
	at := epoch.Add(time.Hour + 5*time.Minute)
	o.put(at)
	o.push(at)
	shown := make(map[string]bool)
	for _, path := range paths() {
		_, all := o.ask("token-of-root", path)
		for route := range strings.SplitSeq("usage energy carbon cost runs", " ") {
			shown[route] = shown[route] || strings.Contains(path, "/api/v1/"+route) && strings.Contains(all, "canary")
		}
		for _, bad := range []string{"7654321987", "seful", "voided", "emperature", "ousehold", "esidual"} {
			if strings.Contains(all, bad) {
				t.Errorf("%s: %q is in the answer to who sees all:\n%s", path, bad, all)
			}
		}
		shown["page"] = shown["page"] || strings.HasPrefix(path, "/?") && strings.Contains(all, "canary")
		for _, token := range []string{"token-of-ann", "token-of-bea", "token-of-nobody"} {
			_, body := o.ask(token, path)
			for _, bad := range []string{"canary", "1000003", "1.000003", "__idle__", "__system__", "__unattributed__", "1000.003"} {
				if asked, _ := url.QueryUnescape(path); strings.Contains(body, bad) && !strings.Contains(asked, bad) {
					t.Errorf("%s, %s: %q is in the answer:\n%s", token, path, bad, body)
				}
			}
		}
	}
	if want := map[string]bool{"usage": true, "energy": true, "carbon": true, "cost": true, "runs": true, "page": true}; !cmp.Equal(shown, want) {
		t.Errorf("control: who sees all is shown the canary in %v, want all", shown)
	}
	// The whole of bea's answer is shop and blog, to the core-microsecond.
	shop := o.must("token-of-ann", "/api/v1/usage?window=1h").Rows[0].CPUCoreSeconds
	both := o.must("token-of-bea", "/api/v1/usage?window=1h")
	if got, want := micros(t, both.Rows[0].CPUCoreSeconds), micros(t, shop)+own["blog"]; got != want {
		t.Errorf("bea's sum is %d, want %d", got, want)
	}
	if want := []string{"blog", "shop"}; both.Covers.Cluster || !cmp.Equal(both.Covers.Namespaces, want) {
		t.Errorf("covers %+v, want %v", both.Covers, want)
	}
	if all := o.must("token-of-root", "/api/v1/usage?window=1h"); !all.Covers.Cluster || all.Rows[0].NodeSeconds == "0" {
		t.Errorf("control: who sees all gets %+v", all)
	}
	if energy := o.must("token-of-bea", "/api/v1/energy?window=1h").Rows; len(energy) != 1 || string(*energy[0].EnergyJoules) != "0.005" {
		t.Errorf("bea's energy: %+v", energy)
	}
	if carbon := o.must("token-of-bea", "/api/v1/carbon?window=1h").Rows; len(carbon) != 1 || string(*carbon[0].EnergyJoules) != "0.005" ||
		string(*carbon[0].LocationGrams) != "0.000005" || string(*carbon[0].MarketGrams) != "0.000005" || string(*carbon[0].EmbodiedGrams) != "0.000005" {
		t.Errorf("bea's carbon: %+v", carbon)
	}
	if sources := o.must("token-of-bea", "/api/v1/carbon?window=1h").Sources; !cmp.Equal(sources, []string{"yearly mean of NL, 2024"}) {
		t.Errorf("what bea's intensity is from: %q", sources)
	}
	if heat := o.must("token-of-bea", "/api/v1/energy?window=1h").Rows[0].HeatJoules; heat == nil || string(*heat) != "0.005" {
		t.Errorf("bea's heat: %v", heat)
	}
	if cost := o.must("token-of-bea", "/api/v1/cost?window=1h").Rows; len(cost) != 1 || *cost[0].Cost != "0.000000005" || cost[0].Currency != "EUR" {
		t.Errorf("bea's cost: %+v", cost)
	}
}

func micros(t *testing.T, coreSeconds json.Number) int64 {
	t.Helper()
	whole, part, _ := strings.Cut(string(coreSeconds), ".")
	n, err := json.Number(whole + (part + "000000")[:6]).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestForbiddenTellsNothing: a namespace that is there and one that is not are
// refused alike.
func TestForbiddenTellsNothing(t *testing.T) {
	o := startOwn(t)
	o.put(epoch.Add(time.Hour + 5*time.Minute))
	for _, path := range []string{"/api/v1/usage?namespace=NAME", "/api/v1/usage?namespace=NAME*", "/api/v1/energy?namespace=NAME", "/api/v1/cost?namespace=NAME",
		"/api/v1/runs?namespace=NAME", "/api/v1/usage?namespace=shop,NAME"} {
		there, body := o.ask("token-of-ann", strings.ReplaceAll(path, "NAME", "canary-space"))
		absent, other := o.ask("token-of-ann", strings.ReplaceAll(path, "NAME", "nowhere"))
		if there != http.StatusForbidden || absent != there || strings.ReplaceAll(body, "canary-space", "nowhere") != other {
			t.Errorf("%s: %d and %d\n%s\n%s", path, there, absent, body, other)
		}
	}
}

func TestWhoIsLetIn(t *testing.T) {
	o := startOwn(t)
	o.put(epoch.Add(time.Hour + 5*time.Minute))
	const path = "/api/v1/usage?window=1h&aggregate=namespace"
	for token, want := range map[string]int{"": 401, "garbage": 401, "token-of-ann": 200, "token-of-root": 200, "token-of-nobody": 403,
		o.token("viewer"): 200, o.token("leader"): 200} {
		if got, body := o.ask(token, path); got != want || strings.Contains(body, "garbage") || strings.Contains(body, "token-of") {
			t.Errorf("%q: %d, want %d\n%s", token, got, want, body)
		}
	}
	// A token of the cluster's people opens nothing else.
	for _, path := range []string{"/query?db=minute&q=SHOW+MEASUREMENTS", "/api/v1/status", "/ping"} {
		if got, _ := o.ask("token-of-root", path); got != http.StatusUnauthorized {
			t.Errorf("%s: %d, want 401", path, got)
		}
	}
	o.people.down = true
	status, body := o.ask("token-of-ann", path)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "API server does not answer") {
		t.Errorf("without the API server: %d\n%s", status, body)
	}
	if status, _ := o.ask(o.token("viewer"), path); status != http.StatusOK {
		t.Errorf("the viewer's token needs the API server: %d", status)
	}
}

// TestUsageOfTheMachine: the API's figures are those of the machine's counters.
func TestUsageOfTheMachine(t *testing.T) {
	o := startOwn(t)
	window := epoch.Add(time.Hour+5*time.Minute).Format(time.RFC3339) + "," + epoch.Add(time.Hour+15*time.Minute).Format(time.RFC3339)
	a := o.must(o.token("viewer"), "/api/v1/usage?aggregate=namespace,pod&window="+url.QueryEscape(window))
	got := make(map[string]int64)
	var nodes int64
	for _, row := range a.Rows {
		got[row.Key["namespace"]] += micros(t, row.CPUCoreSeconds)
		nodes += micros(t, row.NodeSeconds)
	}
	want := map[string]int64{"shop": podRate * 600, schema.UnattributedNamespace: (kubepodsRate - podRate) * 600, schema.SystemNamespace: (nodeRate - kubepodsRate) * 600}
	if diff := cmp.Diff(want, got); diff != "" || nodes != 600_000_000 {
		t.Errorf("node time %d, core-µs (-want +got):\n%s", nodes, diff)
	}
	steps := o.must(o.token("viewer"), "/api/v1/usage?step=1m&window="+url.QueryEscape(window))
	if len(steps.Rows) != 10 || micros(t, steps.Rows[3].CPUCoreSeconds) != nodeRate*60 {
		t.Errorf("steps: %+v", steps.Rows)
	}
	for path, hint := range map[string]string{"/api/v1/usage?aggregate=customer": "the cluster itself does not know it", "/api/v1/usage?aggregate=colour": "use one or more of",
		"/api/v1/usage?window=x": "use 1h", "/api/v1/usage?colour=red": "this endpoint knows", "/api/v1/usage?completeness=true": "asOf", "/api/v1/cost?aggregate=pod": "cost is stored by",
		"/api/v1/cost?step=1m": "whole quarters", "/api/v1/runs?aggregate=pod": "one by one", "/api/v1/runs?kind=Node": "use Pod or Job", "/api/v1/usage?format=xml": "use csv or json",
		"/api/v1/energy?aggregate=container": "aggregate by pod", "/api/v1/usage?window=1h&window=2h": "give it once", "/api/v1/runs?label:team=x": "filtered by"} {
		if status, body := o.ask(o.token("viewer"), path); status != http.StatusBadRequest || !strings.Contains(body, hint) {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
}

// TestNothingWasPushed: what nobody has told is unknown, never zero.
func TestNothingWasPushed(t *testing.T) {
	o := startOwn(t)
	a := o.must("token-of-ann", "/api/v1/usage?window=10m&aggregate=namespace")
	if len(a.Rows) != 1 || a.Rows[0].Cost != nil || a.Rows[0].EnergyJoules != nil || a.Rows[0].Quality != "" || a.Rows[0].CPUCoreSeconds == "0" {
		t.Errorf("got %+v", a.Rows)
	}
	if a.AsOf.Settled == nil || a.AsOf.Energy != nil || a.AsOf.Cost != nil {
		t.Errorf("as of %+v", a.AsOf)
	}
	if text := strings.Join(a.Notes, " "); !strings.Contains(text, "No energy was pushed") || !strings.Contains(text, "No prices were pushed") {
		t.Errorf("notes: %q", text)
	}
	if a := o.must("token-of-root", "/api/v1/energy"); len(a.Rows) != 1 || a.Rows[0].EnergyJoules != nil || a.Rows[0].HeatJoules != nil || len(a.Notes) == 0 {
		t.Errorf("energy: %+v", a)
	}
	for _, path := range []string{"/api/v1/carbon", "/api/v1/cost"} {
		if a := o.must("token-of-root", path); len(a.Rows) != 0 || len(a.Notes) == 0 {
			t.Errorf("%s: %+v", path, a)
		}
	}
	_, page := o.ask("token-of-ann", "/")
	for _, want := range []string{"no prices were pushed yet", "none was pushed yet"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	_, csv := o.ask("token-of-ann", "/api/v1/usage?window=10m&aggregate=namespace&format=csv")
	if lines := strings.Split(strings.TrimSpace(csv), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[0], "namespace,from,to,cpuCoreSeconds") || !strings.Contains(lines[1], ",,,,,,") {
		t.Errorf("csv:\n%s", csv)
	}
}

// TestTheLeaderIsGone: what it pushed stays and says as of when it is; what
// was used since has no energy, which the answer says; also after a restart.
func TestTheLeaderIsGone(t *testing.T) {
	o := startOwn(t)
	pushed := epoch.Add(time.Hour + 15*time.Minute)
	o.push(pushed)
	fresh := o.must("token-of-ann", "/api/v1/usage?window=10m&aggregate=namespace")
	if row := fresh.Rows[0]; len(fresh.Notes) > 1 || row.EnergyJoules == nil || string(*row.EnergyJoules) != "0.002" || *row.Cost != "0.000000002" || !row.Provisional {
		t.Errorf("while it is there: %+v", fresh)
	}
	o.tickTo(epoch.Add(4 * time.Hour))
	check := func(when string, ask func(path string) ownAnswer) {
		t.Helper()
		a := ask("/api/v1/usage?window=1h&aggregate=namespace")
		if !a.AsOf.Energy.Equal(pushed.Add(schema.Minute)) || !a.AsOf.Cost.Equal(pushed.Add(schema.Quarter)) || a.AsOf.Settled.Sub(*a.AsOf.Energy) < 2*time.Hour {
			t.Errorf("%s: as of %+v", when, a.AsOf)
		}
		row := a.Rows[0]
		if row.EnergyJoules != nil || row.Cost != nil || !row.Provisional || micros(t, row.CPUCoreSeconds) != podRate*3600 {
			t.Errorf("%s: %+v", when, row)
		}
		if text := strings.Join(a.Notes, " "); !strings.Contains(text, "newest energy that the leader pushed ends at 2026-11-01T13:16:00Z") {
			t.Errorf("%s: notes %q", when, text)
		}
		long := ask("/api/v1/usage?window=today&aggregate=namespace")
		if text := strings.Join(long.Notes, " "); long.Rows[0].EnergyJoules == nil || !strings.Contains(text, "pushed energy up to 2026-11-01T13:16:00Z") {
			t.Errorf("%s: the day: %+v", when, long)
		}
	}
	check("later", func(path string) ownAnswer { return o.must("token-of-ann", path) })
	o.stop()
	again := &ownRig{people: o.people}
	again.rig = start(t, o.dir, o.clock, func(_ *Config, in *Input) { in.Reviewer = o.people })
	check("after a restart", func(path string) ownAnswer { return again.must("token-of-ann", path) })
}

// checkOwnNames: the cluster's own people are shown the names behind the
// pseudonyms, and ask by them; who asks the store is not.
func (r *rig) checkOwnNames() {
	r.Helper()
	o := &ownRig{rig: r}
	viewer := r.token("viewer")
	for _, path := range []string{"/api/v1/usage?window=1h&aggregate=namespace,workload,pod,container", "/api/v1/runs?window=1h", "/?by=pod&window=1h",
		"/api/v1/usage?window=1h&aggregate=pod&namespace=" + canary + "-*", "/api/v1/usage?window=1h&aggregate=label:app"} {
		status, body := o.ask(viewer, path)
		if status != http.StatusOK || !strings.Contains(body, canary) || strings.Contains(body, "anon-") {
			r.Errorf("%s: %d: names are not resolved:\n%.2000s", path, status, body)
		}
	}
	if _, body := o.ask(viewer, "/query?db=minute&q="+url.QueryEscape("SHOW TAG VALUES WITH KEY = pod")); !strings.Contains(body, "anon-") || strings.Contains(body, canary) {
		r.Errorf("the store's own answer:\n%.1000s", body)
	}
}
