package processors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// quadratic is the model I + a·u + b·u², between idle and max: b is half of
// the way.
type quadratic struct{}

func (quadratic) Name() string { return "quadratic" }

func (quadratic) PowerAt(h Hardware, u Utilisation) int64 {
	x := float64(u) / float64(Full)
	return h.IdleMilliwatts*1000 + int64(float64(h.MaxMilliwatts-h.IdleMilliwatts)*500*(x+x*x))
}

// oneMinute is a box of one node whose pods used these core-µs.
func oneMinute(policy IdlePolicy, cpu ...int64) PowerInput {
	row := NodeMinute{Time: epoch0, Capacity: 480_000_000, AllocatableCPU: 400_000_000, AllocatableMemory: 6_000_000, Uptime: 60_000}
	for i, c := range cpu {
		row.CPU += c
		row.Pods = append(row.Pods, Pod{Namespace: "ns", Pod: fmt.Sprintf("pod-%02d", i), UID: fmt.Sprint(i), CPU: c,
			CPURequest: 2 * c, MemoryRequest: c / 1000, Uptime: 60_000})
	}
	return PowerInput{Window: schema.WindowAt(epoch0, schema.Minute), Box: Box{Name: "box", IdlePolicy: policy},
		Nodes: []Node{{Cluster: "a", Name: "n", Hardware: Hardware{IdleMilliwatts: 100_000, MaxMilliwatts: 300_000}, Minutes: []NodeMinute{row}}}}
}

// metered gives the box a meter that grew by mJ in the window's minute.
func metered(in PowerInput, mJ int64) PowerInput {
	in.Meters = []Meter{{Name: "m", FromFirst: true, Readings: []Reading{
		{Time: in.Window.From, StepMillijoules: 1, CounterMillijoules: 0},
		{Time: in.Window.To, StepMillijoules: 1, CounterMillijoules: mJ, Epoch: 0},
		{Time: in.Window.To.Add(schema.Minute), StepMillijoules: 1, CounterMillijoules: 2 * mJ},
	}}}
	return in
}

func rowsOf(t *testing.T, in PowerInput) map[string]EnergyRow {
	t.Helper()
	rows := map[string]EnergyRow{}
	for _, row := range process(t, in).Rows {
		rows[row.Pod] = row
	}
	return rows
}

// Equal idle and the rest by CPU time is the Shapley value of a node that draws
// I as soon as some pod is there, and a quadratic function of its load above.
func TestEqualPolicyIsShapley(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 9))
	worst := 0.0
	for range cases(t, lawCases) {
		cpu := make([]int64, 1+rng.IntN(7))
		for i := range cpu {
			cpu[i] = rng.Int64N(480_000_000 / int64(len(cpu)))
		}
		in := oneMinute(IdleEqual, cpu...)
		result, err := Power{Model: quadratic{}}.Process(in)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, row := range result.Rows {
			got[row.Pod] = row.Total()
		}
		value := func(set int) float64 { // mJ of the minute with only these pods
			if set == 0 {
				return 0
			}
			u := 0.0
			for i, c := range cpu {
				if set&(1<<i) != 0 {
					u += float64(c) / 480_000_000
				}
			}
			return 60 * (100_000 + 200_000*(u+u*u)/2)
		}
		for i, want := range shapley(len(cpu), value) {
			off := math.Abs(float64(got[fmt.Sprintf("pod-%02d", i)]) - want)
			worst = max(worst, off)
			if off > 20 { // of 6e6 … 1.8e7 mJ: utilisation counts in 1e-6
				t.Fatalf("pod %d of %v is %.1f mJ off its Shapley value %.1f", i, cpu, off, want)
			}
		}
	}
	t.Logf("worst difference to the Shapley value: %.2f mJ", worst)
}

// shapley is each player's Shapley value, by all orders' marginal values.
func shapley(players int, value func(set int) float64) []float64 {
	factorial := func(n int) float64 { return math.Gamma(float64(n + 1)) }
	phi := make([]float64, players)
	for set := range 1 << players {
		size := 0
		for i := range players {
			size += set >> i & 1
		}
		for i := range players {
			if set&(1<<i) == 0 {
				phi[i] += factorial(size) * factorial(players-size-1) / factorial(players) * (value(set|1<<i) - value(set))
			}
		}
	}
	return phi
}

func TestIdlePolicies(t *testing.T) {
	// A node of 100 W idle and 300 W max, 8 cores; one minute. Pods 0 and 1 used
	// 0.5 and 1.5 cores, requested twice that of 6⅔ allocatable cores.
	cpu := []int64{30_000_000, 90_000_000}
	for _, test := range []struct {
		name   string
		policy IdlePolicy
		shared bool
		want   [3]int64 // idle of pod 0, pod 1, __idle__
	}{
		{"equal", IdleEqual, false, [3]int64{3_000_000, 3_000_000, 0}},
		{"equal is the default", "", false, [3]int64{3_000_000, 3_000_000, 0}},
		{"requests", IdleRequests, false, [3]int64{900_000, 2_700_000, 2_400_000}},
		{"usage", IdleUsage, false, [3]int64{1_500_000, 4_500_000, 0}},
		{"none", IdleNone, false, [3]int64{0, 0, 6_000_000}},
		{"a shared box: by requests", IdleEqual, true, [3]int64{900_000, 2_700_000, 2_400_000}},
		{"a shared box: usage counts as requests", IdleUsage, true, [3]int64{900_000, 2_700_000, 2_400_000}},
		{"a shared box that gives idle to nobody", IdleNone, true, [3]int64{0, 0, 6_000_000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := oneMinute(test.policy, cpu...)
			in.Box.Shared = test.shared
			rows := rowsOf(t, in)
			got := [3]int64{rows["pod-00"].Idle, rows["pod-01"].Idle, rows[schema.IdleNamespace].Idle}
			if got != test.want {
				t.Errorf("idle = %v, want %v", got, test.want)
			}
			// 2 of 8 cores: a quarter of 200 W, by CPU time.
			if got, want := [2]int64{rows["pod-00"].Active, rows["pod-01"].Active}, [2]int64{750_000, 2_250_000}; got != want {
				t.Errorf("active = %v, want %v", got, want)
			}
		})
	}
}

// A memory request counts where it is the larger share; requests beyond the
// node leave nothing unrequested.
func TestRequestsShare(t *testing.T) {
	in := oneMinute(IdleRequests, 0, 0)
	pods := in.Nodes[0].Minutes[0].Pods
	pods[0].MemoryRequest = 3_000_000 // half of the memory, no CPU
	pods[1].CPURequest = 100_000_000  // a quarter of the CPU
	rows := rowsOf(t, in)
	if got, want := [3]int64{rows["pod-00"].Idle, rows["pod-01"].Idle, rows[schema.IdleNamespace].Idle}, [3]int64{3_000_000, 1_500_000, 1_500_000}; got != want {
		t.Errorf("idle = %v, want %v", got, want)
	}
	pods[1].CPURequest = 600_000_000 // more than there is: counts as all
	rows = rowsOf(t, in)
	if got, want := [3]int64{rows["pod-00"].Idle, rows["pod-01"].Idle, rows[schema.IdleNamespace].Idle}, [3]int64{2_000_000, 4_000_000, 0}; got != want {
		t.Errorf("overcommitted: idle = %v, want %v", got, want)
	}
}

// Splitting a pod in two changes nothing under requests, and is what equal is
// known to reward the merging of.
func TestSplitProof(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range cases(t, 500) {
		a, b, c := rng.Int64N(100_000_000), rng.Int64N(100_000_000), rng.Int64N(100_000_000)
		whole, split := rowsOf(t, oneMinute(IdleRequests, a, b+c)), rowsOf(t, oneMinute(IdleRequests, a, b, c))
		got, want := split["pod-01"].Total()+split["pod-02"].Total(), whole["pod-01"].Total()
		if d := got - want; d < -3 || d > 3 {
			t.Fatalf("pods of %d and %d: %d mJ together, %d as one", b, c, got, want)
		}
	}
}

func TestSymmetryAndNullPod(t *testing.T) {
	for _, policy := range []IdlePolicy{IdleEqual, IdleRequests, IdleUsage, IdleNone} {
		rows := rowsOf(t, metered(oneMinute(policy, 70_000_000, 70_000_000, 0), 12_345_678))
		if d := rows["pod-00"].Total() - rows["pod-01"].Total(); d < -2 || d > 2 {
			t.Errorf("%s: equal pods differ by %d mJ", policy, d)
		}
		if rows["pod-02"].Active != 0 {
			t.Errorf("%s: a pod without CPU time has %d mJ active", policy, rows["pod-02"].Active)
		}
	}
}

func TestBoxToNodes(t *testing.T) {
	// Two nodes of 100 W idle; the second has twice the dynamic part of the first.
	two := func() PowerInput {
		in := oneMinute(IdleEqual, 48_000_000)
		second := oneMinute(IdleEqual, 96_000_000).Nodes[0]
		second.Cluster = "b" // of another cluster
		in.Nodes = append(in.Nodes, second)
		return in
	}
	type parts struct{ ActiveA, ActiveB, IdleA, IdleB, Overhead, Own int64 }
	for _, test := range []struct {
		name    string
		in      func() PowerInput
		mJ      int64
		want    parts
		flagged bool
	}{
		{"as the model says", two, 15_600_000, parts{1_200_000, 2_400_000, 6_000_000, 6_000_000, 0, 0}, false},
		{"more: the dynamic part is scaled", two, 18_000_000, parts{2_000_000, 4_000_000, 6_000_000, 6_000_000, 0, 0}, false},
		{"exactly idle", two, 12_000_000, parts{0, 0, 6_000_000, 6_000_000, 0, 0}, false},
		{"less than idle: in proportion to the model", two, 7_800_000, parts{600_000, 1_200_000, 3_000_000, 3_000_000, 0, 0}, true},
		{"nothing busy: by idle", func() PowerInput {
			in := two()
			for n := range in.Nodes {
				in.Nodes[n].Minutes[0].CPU, in.Nodes[n].Minutes[0].Pods[0].CPU = 0, 0
			}
			return in
		}, 18_000_000, parts{0, 0, 9_000_000, 9_000_000, 0, 0}, false},
		{"half a minute up: idle for half", func() PowerInput {
			in := two()
			row := &in.Nodes[0].Minutes[0]
			row.Uptime, row.Capacity, row.CPU, row.Pods[0].CPU = 30_000, row.Capacity/2, 24_000_000, 24_000_000
			return in
		}, 12_000_000, parts{600_000, 2_400_000, 3_000_000, 6_000_000, 0, 0}, false},
		{"overhead goes over the nodes like idle", func() PowerInput {
			in := two()
			in.Box.OverheadMilliwatts = 10_000
			return in
		}, 16_200_000, parts{1_200_000, 2_400_000, 6_000_000, 6_000_000, 600_000, 0}, false},
		{"no node is up: overhead", func() PowerInput {
			in := two()
			in.Nodes[0].Minutes, in.Nodes[1].Minutes = nil, nil
			return in
		}, 5_000_000, parts{0, 0, 0, 0, 0, 5_000_000}, false},
		{"unknown hardware: by CPU time", func() PowerInput {
			in := two()
			in.Nodes[0].Hardware, in.Nodes[1].Hardware = Hardware{}, Hardware{}
			return in
		}, 9_000_000, parts{3_000_000, 6_000_000, 0, 0, 0, 0}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := process(t, metered(test.in(), test.mJ))
			var got parts
			for _, row := range result.Rows {
				switch row.Cluster {
				case "a":
					got.ActiveA, got.IdleA = got.ActiveA+row.Active, got.IdleA+row.Idle
				case "b":
					got.ActiveB, got.IdleB = got.ActiveB+row.Active, got.IdleB+row.Idle
				default:
					got.Own += row.Total()
				}
				if row.Cluster != schema.BoxCluster {
					got.Overhead += row.Overhead
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if flagged := result.Box.IdleAboveMeter > 0; flagged != test.flagged {
				t.Errorf("idle above meter = %t, want %t", flagged, test.flagged)
			}
			if result.Box.Measured != test.mJ || result.Box.Residual != 0 {
				t.Errorf("measured %d, residual %d, want %d, 0", result.Box.Measured, result.Box.Residual, test.mJ)
			}
		})
	}
}

// What the kernel counted and no pod did is a row of its own; a negative rest
// takes nothing from anybody.
func TestRests(t *testing.T) {
	in := oneMinute(IdleEqual, 60_000_000)
	row := &in.Nodes[0].Minutes[0]
	rest := func(namespace string, cpu int64) Pod {
		return Pod{Namespace: namespace, Pod: namespace, UID: namespace, CPU: cpu, WorkloadKind: "", Uptime: 60_000}
	}
	row.Pods = append(row.Pods, rest(schema.SystemNamespace, 30_000_000), rest(schema.UnattributedNamespace, 30_000_000))
	row.CPU = 120_000_000
	rows := rowsOf(t, in)
	got := []int64{rows["pod-00"].Active, rows[schema.SystemNamespace].Active, rows[schema.UnattributedNamespace].Active,
		rows["pod-00"].Idle, rows[schema.SystemNamespace].Idle, rows[schema.UnattributedNamespace].Idle, rows[schema.IdleNamespace].Idle}
	if want := []int64{1_500_000, 750_000, 750_000, 6_000_000, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("rests = %v, want %v", got, want)
	}
	row.Pods[2].CPU, row.CPU = -30_000_000, 60_000_000
	rows = rowsOf(t, in)
	got = []int64{rows["pod-00"].Active, rows[schema.SystemNamespace].Active, rows[schema.UnattributedNamespace].Active}
	if want := []int64{1_000_000, 500_000, 0}; !slices.Equal(got, want) {
		t.Errorf("with a negative rest = %v, want %v", got, want)
	}
	// No pod at all: what is active is unattributed, idle is nobody's.
	row.Pods, row.CPU = nil, 60_000_000
	rows = rowsOf(t, in)
	got = []int64{rows[schema.UnattributedNamespace].Active, rows[schema.IdleNamespace].Idle}
	if want := []int64{1_500_000, 6_000_000}; !slices.Equal(got, want) {
		t.Errorf("without pods = %v, want %v", got, want)
	}
}

// A pod in two rows of one minute is one pod.
func TestRowsOfOnePodAddUp(t *testing.T) {
	whole, twice := oneMinute(IdleRequests, 60_000_000, 30_000_000), oneMinute(IdleRequests, 60_000_000, 30_000_000)
	pods := &twice.Nodes[0].Minutes[0].Pods
	zero := (*pods)[0]
	zero.Workload, zero.CPU, zero.CPURequest, zero.MemoryRequest, zero.Uptime = "unknown", 0, 0, 0, 0
	*pods = append([]Pod{zero}, *pods...)
	if diff := cmp.Diff(process(t, whole).Rows, process(t, twice).Rows); diff != "" {
		t.Error(diff)
	}
}

func TestQuality(t *testing.T) {
	whole := metered(oneMinute(IdleEqual, 60_000_000), 9_000_000)
	late := whole
	late.Meters = []Meter{{Name: "m", FromFirst: true, Readings: slices.Clone(whole.Meters[0].Readings)}}
	late.Meters[0].Readings[0].Time = epoch0.Add(20 * 1e9)
	unread := whole
	unread.Nodes = slices.Clone(whole.Nodes)
	unread.Nodes[0].Minutes = []NodeMinute{whole.Nodes[0].Minutes[0]}
	unread.Nodes[0].Minutes[0].Estimated = true
	absent := whole
	absent.Nodes = append(slices.Clone(whole.Nodes), Node{Cluster: "b", Name: "n"})
	moved := whole
	moved.Nodes = append(slices.Clone(whole.Nodes), Node{Cluster: "b", Name: "n", From: epoch0.Add(schema.Quarter)})
	for _, test := range []struct {
		name          string
		in            PowerInput
		want          string
		measured, est int64
	}{
		{"measured", whole, schema.Measured, 9_000_000, 0},
		{"no meter", oneMinute(IdleEqual, 60_000_000), schema.Estimated, 0, 7_500_000},
		{"a part of the minute", late, schema.Mixed, 9_000_000, 2_500_000},
		{"a node without readings", unread, schema.Estimated, 9_000_000, 0},
		{"a node without a row", absent, schema.Estimated, 9_000_000, 0},
		{"a node that is not here yet", moved, schema.Measured, 9_000_000, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := process(t, test.in)
			if got := result.Rows[0].Quality; got != test.want {
				t.Errorf("quality = %s, want %s", got, test.want)
			}
			if result.Box.Measured != test.measured || result.Box.Estimated != test.est {
				t.Errorf("measured, estimated = %d, %d, want %d, %d", result.Box.Measured, result.Box.Estimated, test.measured, test.est)
			}
		})
	}
}
