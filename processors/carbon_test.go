package processors

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

func processCarbon(t *testing.T, in CarbonInput) CarbonResult {
	t.Helper()
	result, err := Carbon{}.Process(in)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// 1 kWh at 252.7 g/kWh is 252.7 g; what the pod used of it is the pod's.
func TestCarbonOfAKilowattHour(t *testing.T) {
	result := processCarbon(t, CarbonInput{Window: heatQuarter, Rows: energyRows(heatQuarter, 240_000_000),
		Location: []Intensity{{Milligram: 252_700, Estimated: true, Source: "yearly mean of NL, 2024"}}})
	want := CarbonSums{Location: 252_700_000, LocationEnergy: 3_600_000_000, EstimatedEnergy: 3_600_000_000}
	if result.Box != want {
		t.Errorf("box %+v, want %+v", result.Box, want)
	}
	var pod CarbonSums
	for _, row := range result.Rows {
		if row.Key.Namespace == "web" {
			_ = pod.add(row.CarbonSums)
		}
	}
	if want := int64(252_700_000 * 2 / 3); max(pod.Location-want, want-pod.Location) > 15 { // 1 µg a minute
		t.Errorf("pod %+v", pod)
	}
	if !slices.Equal(result.Sources, []string{"yearly mean of NL, 2024"}) {
		t.Errorf("sources %q", result.Sources)
	}
}

// A minute counts with the intensity of its own time. The control: the mean of
// the intensities would give something else.
func TestCarbonFollowsTime(t *testing.T) {
	rows := append(energyRows(minutesOf(0, 5), 60_000_000), energyRows(minutesOf(5, 15), 6_000_000)...)
	cut := heatQuarter.From.Add(5 * time.Minute)
	result := processCarbon(t, CarbonInput{Window: heatQuarter, Rows: rows, Location: []Intensity{
		{To: cut, Milligram: 100_000}, {From: cut, To: heatQuarter.To, Milligram: 400_000, Estimated: true}}})
	want := CarbonSums{Location: 300e6*100_000/3_600_000 + 60e6*400_000/3_600_000, LocationEnergy: 360e6, EstimatedEnergy: 60e6}
	if got := result.Box; max(got.Location-want.Location, want.Location-got.Location) > 1 || got.LocationEnergy != want.LocationEnergy || got.EstimatedEnergy != want.EstimatedEnergy {
		t.Errorf("%+v, want %+v", got, want)
	}
	if mean := int64(360e6) * 300_000 / 3_600_000; result.Box.Location == mean {
		t.Error("it is the mean's")
	}
}

// Without an intensity the grams are not known: no energy is covered. A contract
// says nothing of the location, and the grid nothing of the market.
func TestMarketIsApart(t *testing.T) {
	grid, contract := []Intensity{{Milligram: 400_000, Source: "grid"}}, []Intensity{{Milligram: 20_000, Source: "contract"}}
	for name, c := range map[string]struct {
		location, market []Intensity
		want             CarbonSums
	}{
		"neither":  {nil, nil, CarbonSums{}},
		"grid":     {grid, nil, CarbonSums{Location: 100_000_000, LocationEnergy: 900_000_000}},
		"contract": {nil, contract, CarbonSums{Market: 5_000_000, MarketEnergy: 900_000_000}},
		"both":     {grid, contract, CarbonSums{Location: 100_000_000, LocationEnergy: 900_000_000, Market: 5_000_000, MarketEnergy: 900_000_000}},
		"for 0 g":  {grid, []Intensity{{}}, CarbonSums{Location: 100_000_000, LocationEnergy: 900_000_000, MarketEnergy: 900_000_000}},
	} {
		if got := processCarbon(t, CarbonInput{Window: heatQuarter, Rows: energyRows(heatQuarter, 60_000_000), Location: c.location, Market: c.market}).Box; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// Heat that was used avoids what a gas boiler would have emitted: 0.202 kg per
// kWh. It changes none of the box's grams.
func TestAvoidedIsNeverNetted(t *testing.T) {
	in := CarbonInput{Window: heatQuarter, Rows: energyRows(heatQuarter, 60_000_000), Location: []Intensity{{Milligram: 400_000}}, Market: []Intensity{{Milligram: 20_000}}}
	without := processCarbon(t, in)
	gas := Reference{Name: "gas_boiler", MilligramPerKWh: 202_000, EfficiencyMicro: whole}
	pump := Reference{Name: "heat_pump", MilligramPerKWh: 252_700, EfficiencyMicro: 3_500_000}
	in.Heat = []HeatCredit{{Source: "tank", Reference: gas}, {Source: "yard", Reference: pump}}
	for _, minute := range heatQuarter.Split(schema.Minute) {
		for i := range in.Heat {
			in.Heat[i].Minutes = append(in.Heat[i].Minutes, HeatMinute{minute.From, 240_000_000})
		}
	}
	with := processCarbon(t, in)
	if with.Avoided[0].Total != 202_000_000 || with.Avoided[1].Total != 72_200_000 {
		t.Errorf("avoided %d and %d µg, want 202 g and 72.2 g", with.Avoided[0].Total, with.Avoided[1].Total)
	}
	if !cmp.Equal(with.Rows, without.Rows) || with.Box != without.Box || !cmp.Equal(with.Minutes, without.Minutes) {
		t.Error("what was avoided was taken off")
	}
}

// 1577.88 kg over five years is 10 mg a second: by requests, the rest idle.
func TestEmbodied(t *testing.T) {
	years := 5 * 31_557_600 * time.Second
	in := CarbonInput{Window: heatQuarter, Rows: energyRows(heatQuarter, 60_000_000),
		Making: []Making{{Cluster: "a", Node: "n1", Micrograms: 1_577_880_000_000, Lifetime: years}}}
	if got := processCarbon(t, in); got.Box.Embodied != 9_000_000 || got.Rows[0].Embodied != 600_000 {
		t.Errorf("without requests: box %d, idle %d µg", got.Box.Embodied, got.Rows[0].Embodied)
	}
	node := Node{Cluster: "a", Name: "n1"}
	for _, m := range heatQuarter.Split(schema.Minute) {
		node.Minutes = append(node.Minutes, NodeMinute{Time: m.From, Capacity: 1000, AllocatableMemory: 1000, Uptime: 60_000,
			Pods: []Pod{{Namespace: "web", Pod: "p", UID: "u", CPURequest: 250, MemoryRequest: 100}}})
	}
	in.Nodes = []Node{node}
	got := processCarbon(t, in)
	if got.Box.Embodied != 9_000_000 || got.Rows[0].Embodied != 450_000 || got.Rows[1].Embodied != 150_000 {
		t.Errorf("with a quarter requested: box %d, idle %d, pod %d µg", got.Box.Embodied, got.Rows[0].Embodied, got.Rows[1].Embodied)
	}
	// Splitting the pod in two changes nothing.
	for i := range node.Minutes {
		node.Minutes[i].Pods = []Pod{{Namespace: "web", Pod: "p", UID: "u", CPURequest: 150}, {Namespace: "web", Pod: "q", UID: "v", CPURequest: 100}}
		in.Rows = append(in.Rows, EnergyRow{Time: node.Minutes[i].Time, Cluster: "a", Node: "n1", Namespace: "web", Pod: "q", UID: "v"})
	}
	split := processCarbon(t, in)
	if split.Rows[0].Embodied != 450_000 || split.Rows[1].Embodied+split.Rows[2].Embodied != 150_000 {
		t.Errorf("two pods carry %d + %d µg", split.Rows[1].Embodied, split.Rows[2].Embodied)
	}
}

// randomCarbon is a box with nodes, rows and intensities of any kind.
func randomCarbon(rng *rand.Rand) CarbonInput {
	in := CarbonInput{Window: minutesOf(0, 1+rng.IntN(4)), Box: "b"}
	nodes, pods := 1+rng.IntN(3), rng.IntN(6)
	for n := range nodes {
		name := fmt.Sprintf("n%d", n)
		node := Node{Cluster: "a", Name: name}
		for _, m := range in.Window.Split(schema.Minute) {
			row := EnergyRow{Time: m.From, Cluster: "a", Node: name, Namespace: schema.IdleNamespace, Pod: schema.IdleNamespace, UID: schema.IdleNamespace, Idle: rng.Int64N(1e7)}
			in.Rows = append(in.Rows, row)
			minute := NodeMinute{Time: m.From, Capacity: 1 << 30, AllocatableMemory: 1 << 30}
			for p := range pods {
				pod := Pod{Namespace: "ns", Pod: fmt.Sprint(p), UID: fmt.Sprint(n, p), CPURequest: rng.Int64N(1 << 29), MemoryRequest: rng.Int64N(1 << 28)}
				minute.Pods = append(minute.Pods, pod)
				row := EnergyRow{Time: m.From, Cluster: "a", Node: name, Namespace: pod.Namespace, Pod: pod.Pod, UID: pod.UID, Active: rng.Int64N(1e8), Overhead: rng.Int64N(1e5)}
				if rng.IntN(4) == 0 {
					row.Active, row.Overhead = 0, 0
				}
				in.Rows = append(in.Rows, row)
			}
			node.Minutes = append(node.Minutes, minute)
		}
		in.Nodes = append(in.Nodes, node)
		if rng.IntN(2) == 0 {
			in.Making = append(in.Making, Making{Cluster: "a", Node: name, Micrograms: rng.Int64N(3e12), Lifetime: time.Duration(1+rng.Int64N(8)) * 31_557_600 * time.Second})
		}
	}
	for at := in.Window.From; at.Before(in.Window.To); {
		next := at.Add(time.Duration(1+rng.IntN(9)) * time.Minute)
		one := Intensity{From: at, To: next, Milligram: rng.Int64N(1_200_000), Estimated: rng.IntN(2) == 0, Source: fmt.Sprint(rng.IntN(3))}
		if rng.IntN(6) > 0 {
			in.Location = append(in.Location, one)
		}
		one.Milligram /= 7
		if rng.IntN(2) > 0 {
			in.Market = append(in.Market, one)
		}
		at = next
	}
	return in
}

// TestCarbonAddsUp: 10,000 boxes. The rows add up to the box, the box to the
// exact product rounded down once, no energy gives no grams, what no intensity
// covers gives none, and another order gives the same.
func TestCarbonAddsUp(t *testing.T) {
	cases := 10_000
	if testing.Short() {
		cases = 300
	}
	rounded := 0
	for seed := range cases {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		in := randomCarbon(rng)
		result := processCarbon(t, in)
		exact, market, each := new(big.Int), new(big.Int), int64(0)
		energy := make(map[RowKey]int64)
		for _, row := range in.Rows {
			energy[row.Key()] = row.Total()
			one, known := intensityAt(in.Location, row.Time)
			if known {
				product := new(big.Int).Mul(big.NewInt(row.Total()), big.NewInt(one.Milligram))
				exact.Add(exact, product)
				each += product.Div(product, big.NewInt(gramScale)).Int64()
			}
			if one, known := intensityAt(in.Market, row.Time); known {
				market.Add(market, new(big.Int).Mul(big.NewInt(row.Total()), big.NewInt(one.Milligram)))
			}
		}
		if each != result.Box.Location { // the control: to round row by row is to lose
			rounded++
		}
		var rows, minutes CarbonSums
		for _, row := range result.Rows {
			if energy[row.Key] == 0 && (row.Location != 0 || row.Market != 0 || row.LocationEnergy != 0) {
				t.Fatalf("seed %d: no energy stands for %+v", seed, row)
			}
			_ = rows.add(row.CarbonSums)
		}
		for _, m := range result.Minutes {
			_ = minutes.add(m.CarbonSums)
		}
		want := exact.Div(exact, big.NewInt(gramScale)).Int64()
		if rows != result.Box || minutes != result.Box || result.Box.Location != want || result.Box.Market != market.Div(market, big.NewInt(gramScale)).Int64() {
			t.Fatalf("seed %d: rows %+v, minutes %+v, box %+v, exact %d", seed, rows, minutes, result.Box, want)
		}
		mixed := in
		mixed.Rows, mixed.Nodes, mixed.Location = slices.Clone(in.Rows), slices.Clone(in.Nodes), slices.Clone(in.Location)
		rng.Shuffle(len(mixed.Rows), func(i, j int) { mixed.Rows[i], mixed.Rows[j] = mixed.Rows[j], mixed.Rows[i] })
		rng.Shuffle(len(mixed.Nodes), func(i, j int) { mixed.Nodes[i], mixed.Nodes[j] = mixed.Nodes[j], mixed.Nodes[i] })
		rng.Shuffle(len(mixed.Location), func(i, j int) { mixed.Location[i], mixed.Location[j] = mixed.Location[j], mixed.Location[i] })
		if seed%20 == 0 {
			if again := processCarbon(t, mixed); !cmp.Equal(result, again) || (Carbon{}).Fingerprint(in) != (Carbon{}).Fingerprint(mixed) {
				t.Fatalf("seed %d: another order gives another result", seed)
			}
		}
	}
	if rounded < cases/2 {
		t.Errorf("the control: rounding row by row differs in %d of %d only", rounded, cases)
	}
}

// Any part of a node's lifetime costs what its minutes do.
func TestMakingAddsUp(t *testing.T) {
	run := carbonRun{in: CarbonInput{Making: []Making{{Cluster: "a", Node: "n", Micrograms: 1_234_567_890_123, Lifetime: 4 * 31_557_600 * time.Second}}}}
	var sum int64
	const minutes = 100_000
	for i := range minutes {
		sum += run.making("a", "n", epoch0.Add(time.Duration(i)*time.Minute))
	}
	want := MulDiv(1_234_567_890_123, minutes*60, 4*31_557_600)
	if max(sum-want, want-sum) > 1 {
		t.Errorf("%d minutes: %d µg, want %d", minutes, sum, want)
	}
}

// What does not bear on the result leaves the fingerprint, and all else does not.
func TestCarbonFingerprint(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	in := randomCarbon(rng)
	in.Making = []Making{{Cluster: "a", Node: "n0", Micrograms: 1, Lifetime: time.Hour}}
	in.Location = []Intensity{{Milligram: 5, Source: "x"}}
	in.Heat = []HeatCredit{{Source: "s", Reference: Reference{"r", 1, 1}, Minutes: []HeatMinute{{epoch0, 1}}}}
	was := Carbon{}.Fingerprint(in)
	for name, change := range map[string]func(*CarbonInput){
		"energy":    func(in *CarbonInput) { in.Rows[0].Idle++ },
		"intensity": func(in *CarbonInput) { in.Location[0].Milligram++ },
		"estimated": func(in *CarbonInput) { in.Location[0].Estimated = true },
		"contract":  func(in *CarbonInput) { in.Market = append(in.Market, Intensity{From: heatQuarter.To, Milligram: 1}) },
		"source":    func(in *CarbonInput) { in.Location[0].Source = "y" },
		"making":    func(in *CarbonInput) { in.Making[0].Micrograms++ },
		"request":   func(in *CarbonInput) { in.Nodes[0].Minutes[0].AllocatableMemory++ },
		"heat":      func(in *CarbonInput) { in.Heat[0].Minutes[0].Millijoule++ },
		"reference": func(in *CarbonInput) { in.Heat[0].Reference.MilligramPerKWh++ },
	} {
		rng := rand.New(rand.NewPCG(3, 3))
		other := randomCarbon(rng)
		other.Making, other.Heat = slices.Clone(in.Making), []HeatCredit{{Source: "s", Reference: Reference{"r", 1, 1}, Minutes: []HeatMinute{{epoch0, 1}}}}
		other.Location = slices.Clone(in.Location)
		change(&other)
		if (Carbon{}).Fingerprint(other) == was {
			t.Errorf("%s changes nothing", name)
		}
	}
	in.Location[0].From = heatQuarter.From.Add(-time.Hour)
	before := Carbon{}.Fingerprint(in)
	in.Location[0].From = heatQuarter.From.Add(-2 * time.Hour)
	if (Carbon{}).Fingerprint(in) != before {
		t.Error("the part of a validity that lies before the window changes it")
	}
}

func TestCarbonRefuses(t *testing.T) {
	for name, in := range map[string]CarbonInput{
		"no minutes":         {},
		"negative intensity": {Window: heatQuarter, Location: []Intensity{{Milligram: -1}}},
		"two at once":        {Window: heatQuarter, Market: []Intensity{{}, {From: epoch0}}},
		"no lifetime":        {Window: heatQuarter, Making: []Making{{Micrograms: 1}}},
		"made twice":         {Window: heatQuarter, Making: []Making{{Lifetime: time.Hour}, {Lifetime: time.Hour}}},
		"no efficiency":      {Window: heatQuarter, Heat: []HeatCredit{{}}},
		"heat below 0":       {Window: heatQuarter, Heat: []HeatCredit{{Reference: Reference{EfficiencyMicro: 1}, Minutes: []HeatMinute{{epoch0, -1}}}}},
		"energy below 0":     {Window: heatQuarter, Rows: []EnergyRow{{Time: epoch0, Idle: -1}}},
	} {
		if _, err := (Carbon{}).Process(in); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	huge := []EnergyRow{{Time: epoch0, Active: 1 << 62, Idle: 1 << 62}}
	if _, err := (Carbon{}).Process(CarbonInput{Window: heatQuarter, Rows: huge}); !errors.Is(err, ErrOverflow) {
		t.Errorf("2^63 mJ: %v", err)
	}
}

// BenchmarkCarbon is a box of six nodes with thirty pods each, a quarter long.
func BenchmarkCarbon(b *testing.B) {
	in := CarbonInput{Window: heatQuarter, Box: "b", Location: []Intensity{{Milligram: 252_700}}, Market: []Intensity{{Milligram: 9}}}
	for n := range 6 {
		name := fmt.Sprintf("n%d", n)
		node := Node{Cluster: "a", Name: name}
		in.Making = append(in.Making, Making{Cluster: "a", Node: name, Micrograms: 1e12, Lifetime: 31_557_600 * 5 * time.Second})
		for _, m := range heatQuarter.Split(schema.Minute) {
			minute := NodeMinute{Time: m.From, Capacity: 1 << 30, AllocatableMemory: 1 << 30}
			for p := range 30 {
				pod := Pod{Namespace: "ns", Pod: fmt.Sprint("pod-", p), UID: fmt.Sprint("uid-", n, p), CPURequest: 1 << 20}
				minute.Pods = append(minute.Pods, pod)
				in.Rows = append(in.Rows, EnergyRow{Time: m.From, Cluster: "a", Node: name, Namespace: pod.Namespace, Pod: pod.Pod, UID: pod.UID, Active: int64(1000 * p)})
			}
			in.Rows = append(in.Rows, EnergyRow{Time: m.From, Cluster: "a", Node: name, Namespace: schema.IdleNamespace, Pod: schema.IdleNamespace, UID: schema.IdleNamespace, Idle: 5_000_000})
			node.Minutes = append(node.Minutes, minute)
		}
		in.Nodes = append(in.Nodes, node)
	}
	for b.Loop() {
		if _, err := (Carbon{}).Process(in); err != nil {
			b.Fatal(err)
		}
		if _, err := (Heat{}).Process(HeatInput{Window: in.Window, ProducedMicro: whole, Rows: in.Rows}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(in.Rows))/b.Elapsed().Seconds(), "rows/s")
}
