package processors

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/cockroachdb/apd/v3"
)

// leaf is one value somewhere in an input.
type leaf struct {
	path  string
	value reflect.Value
}

// leaves lists all values in v that can be changed, with their paths.
func leaves(path string, v reflect.Value) []leaf {
	switch v.Interface().(type) {
	case time.Time, apd.Decimal:
		return []leaf{{path, v}}
	}
	var all []leaf
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			all = append(all, leaves(path+"."+v.Type().Field(i).Name, v.Field(i))...)
		}
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, leaves(fmt.Sprintf("%s[%d]", path, i), v.Index(i))...)
		}
	case reflect.Pointer: // one that is set
		all = append(all, leaves(path, v.Elem())...)
	case reflect.Map:
		return []leaf{{path, v}}
	default:
		return []leaf{{path, v}}
	}
	return all
}

// change gives the leaf another value.
func (l leaf) change(t *testing.T) {
	switch x := l.value.Interface().(type) {
	case time.Time:
		if x.IsZero() {
			x = epoch0.Add(3 * time.Minute)
		}
		l.value.Set(reflect.ValueOf(x.Add(time.Minute)))
		return
	case apd.Decimal:
		l.value.Set(reflect.ValueOf(*apd.New(x.Coeff.Int64()+1, x.Exponent)))
		return
	case Quantities:
		changed := maps.Clone(x)
		changed[CPUUsed]++
		l.value.Set(reflect.ValueOf(changed))
		return
	}
	switch l.value.Kind() {
	case reflect.Int64:
		l.value.SetInt(l.value.Int() + 1)
	case reflect.String:
		l.value.SetString(l.value.String() + "x")
	case reflect.Bool:
		l.value.SetBool(!l.value.Bool())
	default:
		t.Fatalf("%s: no rule to change a %s", l.path, l.value.Kind())
	}
}

// changesFingerprint changes each value of the input that build makes, one at a
// time. unread says of which the result need not depend on.
func changesFingerprint[In any](t *testing.T, build func() In, fingerprint func(In) string, unread *regexp.Regexp) {
	t.Helper()
	in := build()
	want := fingerprint(in)
	if again := fingerprint(build()); again != want {
		t.Fatalf("one input, two fingerprints: %s, %s", want, again)
	}
	count := 0
	for i := range leaves("", reflect.ValueOf(&in).Elem()) {
		changed := build()
		l := leaves("", reflect.ValueOf(&changed).Elem())[i]
		l.change(t)
		got := fingerprint(changed)
		if got == want && !unread.MatchString(l.path) {
			t.Errorf("%s changed, and the fingerprint did not", l.path)
		}
		count++
	}
	t.Logf("%d values changed one by one", count)
}

func TestPowerFingerprint(t *testing.T) {
	build := func() PowerInput {
		w := newWorld(rand.New(rand.NewPCG(8, 8)), worldConfig{nodes: 2, pods: 2, quarters: 1, meters: 1, step: 3_600_000, curve: linearCurve})
		in := w.quarter(0)
		in.Settled = in.Window.To.Add(-time.Minute)
		in.Box.Shared = true
		in.Nodes[0].Hardware.Curve = []CurvePoint{{0, 90_000_000}, {Full / 2, 180_000_000}, {Full, 200_000_000}}
		for n := range in.Nodes {
			in.Nodes[n].From = epoch0.Add(-time.Hour)
			in.Nodes[n].To = epoch0.Add(time.Hour)
			rows := slices.DeleteFunc(in.Nodes[n].Minutes, func(r NodeMinute) bool { return !in.Window.Contains(r.Time) })
			in.Nodes[n].Minutes = rows[:3]
			in.Nodes[n].Hardware.Processor = &ProcessorModel{BaseMicrowatts: 50_000_000, Slope: 1_144_000, Uncertainty: 30_000}
			for m := range in.Nodes[n].Minutes {
				in.Nodes[n].Minutes[m].Processor, in.Nodes[n].Minutes[m].HasProcessor = int64(1_000_000+m), true
			}
		}
		// Two intervals: into the window, and one in it.
		in.Meters[0].Readings = []Reading{
			{Time: epoch0.Add(-time.Minute), CounterMillijoules: 0, StepMillijoules: 1000},
			{Time: epoch0.Add(time.Minute), CounterMillijoules: 40_000, StepMillijoules: 1000},
			{Time: epoch0.Add(3 * time.Minute), CounterMillijoules: 94_000, StepMillijoules: 1000},
		}
		in.Meters[0].From, in.Meters[0].To = epoch0.Add(-time.Minute), epoch0.Add(10*time.Minute)
		return in
	}
	// Not read: a policy that a shared box overrules; a step and FromFirst so long
	// as the intervals stay the same; a validity beyond the span. These are tried
	// where they matter below.
	unread := regexp.MustCompile(`^\.Box\.IdlePolicy$|\.Readings\[\d\]\.StepMillijoules$|\.FromFirst$|^\.Nodes\[\d\]\.(From|To)$`)
	changesFingerprint(t, build, Power{}.Fingerprint, unread)

	want := Power{}.Fingerprint(build())
	for name, change := range map[string]func(*PowerInput){
		"a reading's counter": func(in *PowerInput) { in.Meters[0].Readings[1].CounterMillijoules += 1000 },
		"a reading's epoch":   func(in *PowerInput) { in.Meters[0].Readings[1].Epoch++ },
		"a reading's step":    func(in *PowerInput) { in.Meters[0].Readings[1].StepMillijoules = 5000 },
		"a reading lost":      func(in *PowerInput) { in.Meters[0].Readings = in.Meters[0].Readings[:2] },
		"a meter lost":        func(in *PowerInput) { in.Meters = nil },
		"a meter added":       func(in *PowerInput) { in.Meters = append(in.Meters, Meter{Name: "new"}) },
		"a node lost":         func(in *PowerInput) { in.Nodes = in.Nodes[1:] },
		"a minute lost":       func(in *PowerInput) { in.Nodes[0].Minutes = in.Nodes[0].Minutes[1:] },
		"a pod lost":          func(in *PowerInput) { p := &in.Nodes[0].Minutes[1].Pods; *p = (*p)[1:] },
		"a pod moved": func(in *PowerInput) {
			a, b := &in.Nodes[0].Minutes[1], &in.Nodes[1].Minutes[1]
			b.Pods = append(b.Pods, a.Pods[0])
			a.Pods = a.Pods[1:]
		},
		"a node came later":    func(in *PowerInput) { in.Nodes[0].From = epoch0.Add(time.Minute) },
		"a node left":          func(in *PowerInput) { in.Nodes[0].To = epoch0.Add(2 * time.Minute) },
		"a policy that counts": func(in *PowerInput) { in.Box.IdlePolicy = IdleNone },
		"a row before, in span": func(in *PowerInput) {
			in.Nodes[0].Minutes = append(in.Nodes[0].Minutes, NodeMinute{Time: epoch0.Add(-time.Minute), CPU: 1})
		},
	} {
		in := build()
		change(&in)
		if got := (Power{}).Fingerprint(in); got == want {
			t.Errorf("%s does not show", name)
		}
	}
	if got := (Power{Model: quadratic{}}).Fingerprint(build()); got == want {
		t.Error("another model does not show")
	}
	for name, change := range map[string]func(*PowerInput){
		"a row outside the span": func(in *PowerInput) {
			in.Nodes[0].Minutes = append(in.Nodes[0].Minutes, NodeMinute{Time: epoch0.Add(-time.Hour), CPU: 1})
		},
		"pods of a minute outside the window": func(in *PowerInput) {
			in.Nodes[0].Minutes = append(in.Nodes[0].Minutes, NodeMinute{Time: epoch0.Add(time.Hour), Pods: []Pod{{CPU: 1}}})
		},
		"a later reading that closes nothing": func(in *PowerInput) {
			m := &in.Meters[0]
			m.Readings = append(m.Readings, Reading{Time: epoch0.Add(4 * time.Minute), CounterMillijoules: 95_000, StepMillijoules: 1000})
		},
		"an earlier reading that bounds no one": func(in *PowerInput) {
			m := &in.Meters[0]
			m.Readings = slices.Insert(m.Readings, 0, Reading{Time: epoch0.Add(-time.Hour), StepMillijoules: 1000})
		},
	} {
		in := build()
		change(&in)
		if got := (Power{}).Fingerprint(in); got != want {
			t.Errorf("%s shows, though the result does not depend on it", name)
		}
	}
}

func TestCostFingerprint(t *testing.T) {
	changesFingerprint(t, costInput, Cost{}.Fingerprint, regexp.MustCompile(`^$`))
	want := Cost{}.Fingerprint(costInput())
	shuffled := costInput()
	slices.Reverse(shuffled.Slots)
	for i := range shuffled.Slots {
		slices.Reverse(shuffled.Slots[i].Usage)
		slices.Reverse(shuffled.Slots[i].Prices)
	}
	if got := (Cost{}).Fingerprint(shuffled); got != want {
		t.Error("the order of the input shows")
	}
	uncounted := costInput()
	delete(uncounted.Slots[0].Usage[0].Quantities, NetworkReceive)
	if got := (Cost{}).Fingerprint(uncounted); got == want {
		t.Error("0 and not counted read the same")
	}
}

// Text is length-prefixed: "ab","c" is not "a","bc".
func TestHasherSeparates(t *testing.T) {
	seen := map[string]string{}
	for _, parts := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}} {
		h := newHasher("test")
		h.text(parts...)
		if other, twice := seen[h.String()]; twice {
			t.Errorf("%q and %q read the same", other, parts)
		}
		seen[h.String()] = strings.Join(parts, "|")
	}
}

// costInput is a quarter in which the prices change after five minutes.
func costInput() CostInput {
	price := decimal
	quarter := schema.WindowAt(epoch0, schema.Quarter)
	cut := quarter.From.Add(5 * time.Minute)
	usage := func(n int64) []Usage {
		return []Usage{
			{Namespace: "shop", WorkloadKind: "Deployment", Workload: "web", Quantities: Quantities{CPUUsed: 1_234_567_891 * n, MemoryUsed: 98_765_432 * n,
				CPURequested: 1_800_000_000, MemoryRequested: 1 << 30, NetworkReceive: 0, NetworkTransmit: 7_654_321, Energy: 12_345_678 * n}},
			{Namespace: "shop", WorkloadKind: "Job", Workload: "report", Quantities: Quantities{CPUUsed: 7 * n, Energy: 1}},
			{Namespace: schema.UnattributedNamespace, Quantities: Quantities{CPUUsed: -1_234_567, Energy: 0}},
			{Namespace: schema.SystemNamespace, Quantities: Quantities{CPUUsed: 44_444_444, Energy: 333_333, NodeHours: 900_000}},
		}
	}
	sale := func(version, cpu string) PriceList {
		return PriceList{Version: version, Kind: Sale, Currency: "EUR", Prices: []Price{
			{CPUUsed, price(cpu)}, {MemoryUsed, price("0.004")}, {Energy, price("0.31")}, {NetworkTransmit, price("0.05")}, {NodeHours, price("0.1")}}}
	}
	cost := PriceList{Version: "grid-1", Kind: CostPrice, Currency: "EUR", Prices: []Price{{Energy, price("0.12345678901234")}}}
	return CostInput{Window: quarter, Cluster: "ams-1", Slots: []CostSlot{
		{Window: schema.Window{From: quarter.From, To: cut}, Prices: []PriceList{sale("2026-a", "0.03"), cost}, Usage: usage(1)},
		{Window: schema.Window{From: cut, To: quarter.To}, Prices: []PriceList{sale("2026-b", "0.035"), cost}, Usage: usage(2)},
	}}
}
