package allocation

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// documented are the fields of an allocation in OpenCost's documentation, with
// their JSON types.
var documented = map[string]string{"name": "string", "properties": "object", "window": "object", "start": "string", "end": "string", "minutes": "number",
	"cpuCores": "number", "cpuCoreRequestAverage": "number", "cpuCoreUsageAverage": "number", "cpuCoreHours": "number", "cpuCost": "number", "cpuCostAdjustment": "number", "cpuEfficiency": "number",
	"gpuCount": "number", "gpuHours": "number", "gpuCost": "number", "gpuCostAdjustment": "number", "networkTransferBytes": "number", "networkReceiveBytes": "number", "networkCost": "number",
	"networkCrossZoneCost": "number", "networkCrossRegionCost": "number", "networkInternetCost": "number", "networkCostAdjustment": "number", "loadBalancerCost": "number", "loadBalancerCostAdjustment": "number",
	"pvBytes": "number", "pvByteHours": "number", "pvCost": "number", "pvs": "object or null", "pvCostAdjustment": "number", "ramBytes": "number", "ramByteRequestAverage": "number", "ramByteUsageAverage": "number",
	"ramByteHours": "number", "ramCost": "number", "ramCostAdjustment": "number", "ramEfficiency": "number", "externalCost": "number", "sharedCost": "number", "totalCost": "number", "totalEfficiency": "number"}

// added are the fields that OpenCost has not.
var added = map[string]string{"cpuCostIdle": "number", "ramCostIdle": "number", "energyKwh": "number", "energyActiveKwh": "number", "energyIdleKwh": "number", "sharedEnergyKwh": "number", "energyCost": "number",
	"otherCost": "number", "co2eKg": "number or null", "heatKwh": "number or null", "coverage": "number", "quality": "string", "currency": "string", "provisional": "boolean"}

// TestAllocation asks one real engine over fixture data.
func TestAllocation(t *testing.T) {
	real := engine(t, objects())
	for name, test := range map[string]func(*testing.T, *query.Engine){"documented examples": documentedExamples, "idle adds up": idleAddsUp, "sharing": sharing,
		"pages": pages, "metrics": metrics, "currencies": currenciesApart, "annotations": annotations} {
		t.Run(name, func(t *testing.T) { test(t, real) })
	}
}

// The calls of OpenCost's page "API Examples" and the windows of its page "API".
var examples = []struct {
	call string
	sets int
}{
	{"window=7d&aggregate=namespace&resolution=1m", 1},
	{"window=60m&step=10m&resolution=1m&aggregate=namespace", 6},
	{"window=9d&step=3d&resolution=10m&aggregate=namespace", 3},
	{"window=1d&shareIdle=true", 1},
	{"window=1d&shareIdle=true&idleByNode=true", 1},
	{"window=7d&aggregate=namespace&accumulate=false&resolution=1m", 1},
	{"window=today&aggregate=controller&includeIdle=true", 1},
	{"window=yesterday&step=1h&aggregate=cluster,namespace", 24},
	{"window=week&aggregate=node&includeIdle=true&idleByNode=true", 1},
	{"window=12h&aggregate=deployment&accumulate=true", 1},
	{"window=2026-11-22T06:00:00Z,2026-11-22T18:00:00Z&aggregate=pod", 1},
	{"window=1795176000,1795219200&aggregate=controllerKind", 1},
}

func ask(t *testing.T, e *Engine, call string) (Answer, map[string]any) {
	t.Helper()
	r, err := e.Parse(t.Context(), call)
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	answer, err := e.Compute(t.Context(), r)
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	body, err := answer.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var decoded map[string]any
	if err := json.Unmarshal(body, &decoded); err != nil {
		t.Fatalf("%s: %v\n%s", call, err, body)
	}
	return answer, decoded
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case float64:
		return "number"
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	}
	return "object"
}

// documentedExamples: each of OpenCost's documented calls gives the documented
// shape: the fields of each object and their types. The golden file has the names
// and the figures.
func documentedExamples(t *testing.T, real *query.Engine) {
	e := New(real, real)
	var golden strings.Builder
	for _, example := range examples {
		answer, decoded := ask(t, e, example.call)
		data, _ := decoded["data"].([]any)
		if decoded["code"] != 200.0 || len(data) != example.sets {
			t.Errorf("%s: code %v, %d sets, want %d", example.call, decoded["code"], len(data), example.sets)
		}
		fmt.Fprintf(&golden, "%s\n", example.call)
		for i, set := range data {
			named := set.(map[string]any)
			if len(named) == 0 {
				t.Errorf("%s: set %d is empty", example.call, i)
			}
			for _, name := range slices.Sorted(maps.Keys(named)) {
				checkShape(t, example.call, name, named[name].(map[string]any))
			}
			for _, a := range answer.Sets[i].Allocations {
				fmt.Fprintf(&golden, "  %s %s  cpu %sh %s  ram %s  pv %s  energy %skWh  total %s %s\n", a.Start, a.Name, a.CPUCoreHours, a.CPUCost, a.RAMCost, a.PVCost, a.EnergyKwh, a.TotalCost, a.Currency)
			}
		}
		for _, warning := range answer.Warnings {
			fmt.Fprintf(&golden, "  ! %s\n", warning)
		}
	}
	file := filepath.Join("testdata", "examples.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(golden.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), golden.String()); diff != "" {
		t.Errorf("golden file (-) and answers (+), -update writes it:\n%s", diff)
	}
}

func checkShape(t *testing.T, call, name string, object map[string]any) {
	t.Helper()
	for _, fields := range []map[string]string{documented, added} {
		for field, want := range fields {
			got, there := object[field]
			if !there || !slices.Contains(strings.Split(want, " or "), jsonType(got)) {
				t.Errorf("%s: %s: field %s is %s (there: %t), want %s", call, name, field, jsonType(got), there, want)
			}
		}
	}
	for field := range object {
		if documented[field] == "" && added[field] == "" {
			t.Errorf("%s: %s: field %s is neither OpenCost's nor documented as ours", call, name, field)
		}
	}
	if object["name"] != name {
		t.Errorf("%s: key %q has the name %v", call, name, object["name"])
	}
}

// idleAddsUp: with prices for the larger of requested and used, allocations and
// idle cost what the nodes cost at full use, by cluster and by node, shown or shared;
// and the energy is all there. Idle that is not asked for is missing: the control.
func idleAddsUp(t *testing.T, real *query.Engine) {
	e := New(real, real)
	window := "window=2026-11-20T00:00:00Z,2026-11-22T00:00:00Z&aggregate=cluster,namespace"
	sum := func(call string) (cpuRAM, energy *big.Rat) {
		cpuRAM, energy = new(big.Rat), new(big.Rat)
		answer, _ := ask(t, e, call)
		for _, set := range answer.Sets {
			for _, a := range set.Allocations {
				cpuRAM.Add(cpuRAM, a.CPUCost.Rat).Add(cpuRAM, a.RAMCost.Rat)
				energy.Add(energy, a.EnergyKwh.Rat)
			}
		}
		return cpuRAM, energy
	}
	assets, err := real.Assets(t.Context(), query.ChargeRequest{Window: must(e.Parse(t.Context(), window)).Window})
	if err != nil {
		t.Fatal(err)
	}
	want := new(big.Rat)
	for _, a := range assets {
		for _, line := range a.Lines {
			if line.List != nil {
				want.Add(want, line.Cost())
			}
		}
	}
	// Three nodes of 4 cores and 8 GiB for 48 hours.
	if byHand := big.NewRat(3*48*(4*30+8*4), 1000); want.Cmp(byHand) != 0 {
		t.Fatalf("assets cost %s, want %s", want.FloatString(6), byHand.FloatString(6))
	}
	_, allEnergy := sum(window + "&includeIdle=true")
	for _, how := range []string{"&includeIdle=true", "&includeIdle=true&idleByNode=true", "&shareIdle=true", "&shareIdle=even&idleByNode=true", "&shareIdle=weighted&step=1h"} {
		if cost, energy := sum(window + how); cost.Cmp(want) != 0 || energy.Cmp(allEnergy) != 0 {
			t.Errorf("%s: costs %s and energy %s, want %s and %s", how, cost.FloatString(9), energy.FloatString(9), want.FloatString(9), allEnergy.FloatString(9))
		}
	}
	// By container, of the minutes that are there: as much as by namespace.
	const half = "window=2026-11-23T00:00:00Z,2026-11-23T12:00:00Z&includeIdle=true"
	cost, energy := sum(half)
	if byNamespace, also := sum(half + "&aggregate=cluster,namespace"); cost.Cmp(big.NewRat(3*12*(4*30+8*4), 1000)) != 0 || cost.Cmp(byNamespace) != 0 || energy.Cmp(also) != 0 {
		t.Errorf("by container %s and %s, by namespace %s and %s", cost.FloatString(9), energy.FloatString(9), byNamespace.FloatString(9), also.FloatString(9))
	}
	if cost, energy := sum(window); cost.Cmp(want) >= 0 || energy.Cmp(allEnergy) >= 0 {
		t.Errorf("without idle as much as with it: %s, %s", cost.FloatString(6), energy.FloatString(6))
	}
}

func must(r Request, err error) Request {
	if err != nil {
		panic(err)
	}
	return r
}

// sharing: what is shared is on the others, nothing is lost, and a filter after
// it takes away and adds nothing.
func sharing(t *testing.T, real *query.Engine) {
	e := New(real, real)
	const window = "window=2026-11-20T00:00:00Z,2026-11-21T00:00:00Z&aggregate=cluster,namespace"
	total := func(call string) (*big.Rat, map[string]Allocation) {
		sum, byName := new(big.Rat), make(map[string]Allocation)
		answer, _ := ask(t, e, call)
		for _, a := range answer.Sets[0].Allocations {
			sum.Add(sum, a.TotalCost.Rat)
			byName[a.Name] = a
		}
		return sum, byName
	}
	want, _ := total(window)
	for _, split := range []string{"weighted", "even"} {
		got, byName := total(window + "&shareNamespaces=base&shareSplit=" + split)
		if _, there := byName["edge-a/base"]; there || got.Cmp(want) != 0 || len(byName) != 2 {
			t.Errorf("%s: %s with %v, want %s", split, got.FloatString(9), slices.Sorted(maps.Keys(byName)), want.FloatString(9))
		}
		_, filtered := total(window + "&shareNamespaces=base&shareSplit=" + split + `&filter=cluster:"edge-b"`)
		if len(filtered) != 1 || filtered["edge-b/shop"].TotalCost.Cmp(byName["edge-b/shop"].TotalCost.Rat) != 0 {
			t.Errorf("%s: the filter changed what edge-b/shop costs: %v", split, filtered)
		}
	}
	got, _ := total(window + "&shareCost=730")
	if more := new(big.Rat).Sub(got, want); more.Cmp(big.NewRat(24, 1)) != 0 {
		t.Errorf("a day of a shared cost of 730 a month is %s", more.FloatString(6))
	}
	both, byName := total("window=2026-11-20T00:00:00Z,2026-11-21T00:00:00Z&aggregate=namespace")
	if diff := cmp.Diff([]string{"edge-a", "edge-b"}, byName["shop"].Properties.Clusters); diff != "" || both.Cmp(want) != 0 || byName["shop"].Properties.Cluster != "" {
		t.Errorf("a namespace of two clusters: %s", diff)
	}
}

// TestOvercommitted: what is requested beyond what is allocatable is told and never
// made 0 silently.
func TestOvercommitted(t *testing.T) {
	charges := query.Charges{Row: usage.Row{Key: map[string]string{"cluster": "c", "node": "n", "namespace": "a", "claim": ""}}}
	charges.Row.Sums[usage.CPURequest] = 6 * microsecondsPerHour
	asset := query.Charges{Row: usage.Row{Key: map[string]string{"cluster": "c", "node": "n"}}}
	asset.Row.Sums[usage.AllocatableCPU] = 4 * microsecondsPerHour
	_, idle, books := findIdle([]*atom{newAtom(&charges, "", new(values))}, []query.Charges{asset}, "", false)
	if got := books[scope{cluster: "c"}]; got == nil || got.overCPU.Cmp(big.NewRat(2, 1)) != 0 || idle[0].values.get(cpuMax).Sign() != 0 {
		t.Errorf("overcommitted by %v, idle %v", got, idle[0].values.get(cpuMax))
	}
}

func pages(t *testing.T, real *query.Engine) {
	e := New(real, real)
	const call = "window=2026-11-23T00:00:00Z,2026-11-23T12:00:00Z&step=6h&aggregate=pod"
	whole, _ := ask(t, e, call)
	var names []string
	for offset := 0; ; {
		_, page := ask(t, e, fmt.Sprintf("%s&limit=2&offset=%d", call, offset))
		for name := range page["data"].([]any)[0].(map[string]any) {
			names = append(names, name)
		}
		next := page["accumulus"].(map[string]any)["nextOffset"]
		if next == nil {
			break
		}
		offset = int(next.(float64))
	}
	var want []string
	for _, a := range whole.Sets[0].Allocations {
		want = append(want, a.Name)
	}
	slices.Sort(names)
	slices.Sort(want)
	if diff := cmp.Diff(want, names); diff != "" || whole.Total != len(want) {
		t.Errorf("pages (+) and the whole (-):\n%s", diff)
	}
}

// currenciesApart: costs of another currency are left out and told.
func currenciesApart(t *testing.T, real *query.Engine) {
	answer, _ := ask(t, New(real, real), "window=12h&aggregate=cluster&currency=USD")
	for _, a := range answer.Sets[0].Allocations {
		if a.TotalCost.Sign() != 0 || a.Currency != "USD" {
			t.Errorf("%s costs %s %s", a.Name, a.TotalCost, a.Currency)
		}
	}
	if len(answer.Warnings) != 1 || !strings.Contains(answer.Warnings[0], "EUR") {
		t.Errorf("warnings: %v", answer.Warnings)
	}
}

// annotations are keys, by the names that followers keep.
func annotations(t *testing.T, real *query.Engine) {
	answer, _ := ask(t, New(real, real), "window=12h&aggregate=annotation:example.com/cost-centre&filter="+url.QueryEscape(`namespace:"base"`))
	got := make(map[string]string)
	for _, a := range answer.Sets[0].Allocations {
		got[a.Name] = a.Properties.Annotations["example.com/cost-centre"]
	}
	if diff := cmp.Diff(map[string]string{"4711": "4711", Unallocated: ""}, got); diff != "" {
		t.Errorf("by annotation: %s", diff)
	}
	answer, _ = ask(t, New(real, real), "window=12h&aggregate=pod&filter="+url.QueryEscape(`annotation[example.com/cost-centre]:"4711"`))
	if len(answer.Sets[0].Allocations) != 1 || answer.Sets[0].Allocations[0].Name != "db-0" {
		t.Errorf("filtered by it: %v", answer.Sets[0].Allocations)
	}
	pods := make(map[string]string) // pods have all their labels, as JSON in the CSV
	for _, a := range answer.Sets[0].Allocations {
		pods[a.Name] = a.Properties.Labels["app"] + a.Properties.Annotations["example.com/cost-centre"]
	}
	if diff := cmp.Diff(map[string]string{"db-0": "db4711"}, pods); diff != "" {
		t.Errorf("labels of pods: %s", diff)
	}
	text, err := answer.CSV()
	if err != nil || !strings.Contains(string(text), ",Provisional,Labels\n") || !strings.HasSuffix(string(text), `,"{""app"":""db""}"`+"\n") {
		t.Errorf("%v, CSV:\n%s", err, text)
	}
	both, _ := ask(t, New(real, real), "window=12h&aggregate=namespace&filter="+url.QueryEscape(`pod:"db-0","web-1"`)) // by what they have in common
	for _, a := range both.Sets[0].Allocations {
		if want := map[string]string{"base": "db"}[a.Name]; a.Properties.Labels["app"] != want {
			t.Errorf("labels of %s: %v", a.Name, a.Properties.Labels)
		}
	}
}
