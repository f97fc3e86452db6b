package processors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// The laws of the split, each over this many boxes made up at random. Each law is
// held against results with a bug put back, too: they must not obey it.
const lawCases = 10_000

const lawMinutes = 4

var policies = []IdlePolicy{IdleEqual, IdleRequests, IdleUsage, IdleNone}

// smallBox is a box of a few nodes in up to three clusters, some minutes long, with
// one to three meters that close an interval over just these minutes.
func smallBox(rng *rand.Rand, policy IdlePolicy) (in PowerInput, meter int64) {
	in = PowerInput{Window: schema.Window{From: epoch0, To: epoch0.Add(lawMinutes * time.Minute)},
		Box: Box{Name: "box", IdlePolicy: policy, Shared: policy != IdleUsage && policy != IdleEqual && rng.IntN(2) == 0, OverheadMilliwatts: rng.Int64N(3) * rng.Int64N(20_000)}}
	for n := range 1 + rng.IntN(3) {
		node := Node{Cluster: string(rune('a' + n)), Name: "n", Hardware: Hardware{Uncertainty: rng.Int64N(200_000)}}
		watts := rng.Int64N(100_000_000)
		for u := Utilisation(0); u <= Full; u += Full / 4 {
			node.Hardware.Curve = append(node.Hardware.Curve, CurvePoint{u, watts})
			watts += rng.Int64N(60_000_000)
		}
		if rng.IntN(2) == 0 { // its processors count, in most of its minutes
			node.Hardware.Processor = &ProcessorModel{BaseMicrowatts: rng.Int64N(90_000_000), Slope: rng.Int64N(2_000_000), Uncertainty: rng.Int64N(200_000)}
		}
		pods := 1 + rng.IntN(5)
		for m := range lawMinutes {
			row := NodeMinute{Time: epoch0.Add(time.Duration(m) * time.Minute), Capacity: 480_000_000, AllocatableCPU: 400_000_000, AllocatableMemory: 6_000_000, Uptime: 60_000}
			for p := range pods {
				row.Pods = append(row.Pods, smallPod(rng, fmt.Sprintf("pod-%d", p)))
			}
			row.CPU = cpuOf(row.Pods)
			if node.Hardware.Processor != nil && rng.IntN(4) > 0 {
				row.Processor, row.HasProcessor = rng.Int64N(9_000_000), true
			}
			node.Minutes = append(node.Minutes, row)
		}
		in.Nodes = append(in.Nodes, node)
	}
	for m := range 1 + rng.IntN(3) {
		growth := rng.Int64N(60_000_000)
		if rng.IntN(10) == 0 {
			growth = 20 + rng.Int64N(100) // far below the idle of what is on
		}
		meter += growth + 20
		in.Meters = append(in.Meters, Meter{Name: fmt.Sprint("m", m), FromFirst: true, Readings: []Reading{
			{Time: in.Window.From, StepMillijoules: 1}, {Time: in.Window.To, StepMillijoules: 1, CounterMillijoules: growth + 20},
			{Time: in.Window.To.Add(time.Minute), StepMillijoules: 1, CounterMillijoules: growth + 1_000_020}}})
	}
	return in, meter
}

func smallPod(rng *rand.Rand, name string) Pod {
	pod := Pod{Namespace: "ns", Pod: name, UID: name, Uptime: 60_000, CPU: rng.Int64N(90_000_000), CPURequest: rng.Int64N(90_000_000), MemoryRequest: rng.Int64N(1_200_000)}
	switch rng.IntN(6) {
	case 0:
		pod.CPU, pod.CPURequest, pod.MemoryRequest = 0, 0, 0
	case 1:
		pod.CPURequest = 0
	case 2:
		pod.Uptime = rng.Int64N(60_000)
	}
	return pod
}

func cpuOf(pods []Pod) (sum int64) {
	for _, pod := range pods {
		sum += pod.CPU
	}
	return sum
}

// law looks at one random box; broken is the same with a bug put back.
type law struct {
	name   string
	check  func(rng *rand.Rand, split func(PowerInput) PowerResult) error
	broken func(in PowerInput, r PowerResult) PowerResult
}

var laws = []law{
	{"Σ is the meter", lawMeter, func(_ PowerInput, r PowerResult) PowerResult {
		return mutateRows(r, func(row *EnergyRow) { // each share rounded by itself
			if row.Measured%2 == 1 {
				row.Measured++
			}
		})
	}},
	{"symmetry", lawSymmetry, func(_ PowerInput, r PowerResult) PowerResult {
		return mutateRows(r, func(row *EnergyRow) { // the first of a node takes what is left
			if row.Pod == "pod-0" {
				row.Active += row.Active/50 + 50
			}
		})
	}},
	{"who used and requested nothing pays nothing", lawNobody, func(_ PowerInput, r PowerResult) PowerResult {
		return mutateRows(r, func(row *EnergyRow) { // a least share for each pod
			if row.Namespace == "ns" {
				row.Idle++
			}
		})
	}},
	{"windows add up", lawWindows, func(in PowerInput, r PowerResult) PowerResult {
		return mutateRows(r, func(row *EnergyRow) { // a minute that depends on where its window begins
			if row.Time.Equal(in.Window.From) && row.Namespace == schema.IdleNamespace {
				row.Idle++
			}
		})
	}},
	{"a pod split in two", lawSplit, func(in PowerInput, r PowerResult) PowerResult {
		return mutateRows(r, func(row *EnergyRow) { // a fee for each pod
			if row.Namespace == "ns" {
				row.Idle += 20
			}
		})
	}},
	{"a cluster that is late", lawLate, func(in PowerInput, r PowerResult) PowerResult {
		if len(in.Nodes) < 3 {
			return r
		}
		return mutateRows(r, func(row *EnergyRow) { // what was estimated once stays
			if row.Cluster == "c" {
				row.Active, row.Measured = 0, row.Measured-row.Active
			}
		})
	}},
}

func TestLaws(t *testing.T) {
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, uint64(len(l.name))))
			for i := range cases(t, lawCases) {
				if err := l.check(rng, func(in PowerInput) PowerResult { return process(t, in) }); err != nil {
					t.Fatalf("case %d: %v", i, err)
				}
			}
			rng = rand.New(rand.NewPCG(5, uint64(len(l.name))))
			caught := 0
			for range 200 {
				if l.check(rng, func(in PowerInput) PowerResult { return l.broken(in, process(t, in)) }) != nil {
					caught++
				}
			}
			if caught == 0 {
				t.Error("with a bug put back nothing is noticed")
			}
			t.Logf("with a bug put back: noticed in %d of 200", caught)
		})
	}
}

func anyPolicy(rng *rand.Rand) IdlePolicy { return policies[rng.IntN(len(policies))] }

func lawMeter(rng *rand.Rand, split func(PowerInput) PowerResult) error {
	in, meter := smallBox(rng, anyPolicy(rng))
	var total, measured int64
	result := split(in)
	for _, row := range result.Rows {
		total += row.Total()
		measured += row.Measured
	}
	if total != meter || measured != meter || result.Box.Measured != meter {
		return fmt.Errorf("Σ rows = %d, measured %d, of the box %d; the meters grew by %d", total, measured, result.Box.Measured, meter)
	}
	return nil
}

// lawSymmetry: two pods of one node that did the same get the same, but for the
// rounding of each minute's parts, whatever they are called.
func lawSymmetry(rng *rand.Rand, split func(PowerInput) PowerResult) error {
	in, _ := smallBox(rng, anyPolicy(rng))
	node := &in.Nodes[rng.IntN(len(in.Nodes))]
	twin := fmt.Sprint("pod-", rng.IntN(2)*9) // before or after it
	for m := range node.Minutes {
		row := &node.Minutes[m]
		same := row.Pods[0]
		row.Pods[0].Pod, row.Pods[0].UID = "pod-0x", "pod-0x"
		same.Pod, same.UID = twin, twin
		row.Pods = append(row.Pods, same)
		row.CPU = cpuOf(row.Pods)
	}
	sums := totals(split(in), node.Cluster)
	if d := sums["pod-0x"] - sums[twin]; d < -3*lawMinutes || d > 3*lawMinutes {
		return fmt.Errorf("%s: equal pods differ by %d mJ", in.Box.IdlePolicy, d)
	}
	return nil
}

func totals(r PowerResult, cluster string) map[string]int64 {
	sums := map[string]int64{}
	for _, row := range r.Rows {
		if row.Cluster == cluster {
			sums[row.Pod] += row.Total()
		}
	}
	return sums
}

func lawNobody(rng *rand.Rand, split func(PowerInput) PowerResult) error {
	in, _ := smallBox(rng, []IdlePolicy{IdleUsage, IdleRequests}[rng.IntN(2)])
	node := &in.Nodes[rng.IntN(len(in.Nodes))]
	for m := range node.Minutes {
		row := &node.Minutes[m]
		row.Pods = append(row.Pods, Pod{Namespace: "ns", Pod: "nobody", UID: "nobody", Uptime: 60_000})
	}
	if got := totals(split(in), node.Cluster)["nobody"]; got != 0 {
		return fmt.Errorf("%s: a pod that used and requested nothing pays %d mJ", in.Box.IdlePolicy, got)
	}
	return nil
}

// lawWindows: the same minutes as two windows are the same rows.
func lawWindows(rng *rand.Rand, split func(PowerInput) PowerResult) error {
	in, _ := smallBox(rng, anyPolicy(rng))
	whole := split(in).Rows
	cut := epoch0.Add(time.Duration(1+rng.IntN(lawMinutes-1)) * time.Minute)
	first, second := in, in
	first.Window.To, second.Window.From = cut, cut
	parts := slices.Concat(split(first).Rows, split(second).Rows)
	if !slices.Equal(whole, parts) {
		return fmt.Errorf("cut at %s:\n%s", cut, cmp.Diff(whole, parts))
	}
	return nil
}

// lawSplit: a pod of which each half used and requested its part gets as much as
// one under requests. (Halves of which one takes the CPU and the other the memory
// request more together than the larger of the two.)
func lawSplit(rng *rand.Rand, split func(PowerInput) PowerResult) error {
	in, _ := smallBox(rng, IdleRequests)
	node := &in.Nodes[rng.IntN(len(in.Nodes))]
	whole := totals(split(in), node.Cluster)["pod-0"]
	parts := int64(2 + rng.IntN(9))
	in.Nodes = slices.Clone(in.Nodes)
	node.Minutes = slices.Clone(node.Minutes)
	for m := range node.Minutes {
		row := &node.Minutes[m]
		row.Pods = slices.Clone(row.Pods)
		pod := row.Pods[0]
		part := pod
		part.CPU, part.CPURequest, part.MemoryRequest = pod.CPU/parts, pod.CPURequest/parts, pod.MemoryRequest/parts
		rest := pod
		rest.Pod, rest.UID = "half", "half"
		rest.CPU, rest.CPURequest, rest.MemoryRequest = pod.CPU-part.CPU, pod.CPURequest-part.CPURequest, pod.MemoryRequest-part.MemoryRequest
		row.Pods[0] = part
		row.Pods = append(row.Pods, rest)
	}
	for n := range in.Nodes {
		if in.Nodes[n].Cluster == node.Cluster {
			in.Nodes[n] = *node
		}
	}
	sums := totals(split(in), node.Cluster)
	// Shares of requests are whole 1e-9 of a node, and memory whole KiB·s: up to
	// one of six million in each minute, of at most 60 MJ.
	slack := int64(6*lawMinutes) + whole/1_000_000
	if got := sums["pod-0"] + sums["half"]; got-whole > slack || whole-got > slack {
		return fmt.Errorf("%d mJ as two, %d as one", got, whole)
	}
	return nil
}

// lawLate: a cluster of the box that has not delivered, and five days later has.
// Without it all is estimated and Σ is the meter; with it, Σ is the meter, and each
// row is as if it had come at once.
func lawLate(rng *rand.Rand, split func(PowerInput) PowerResult) error {
	in, meter := smallBox(rng, anyPolicy(rng))
	for len(in.Nodes) < 3 {
		in, meter = smallBox(rng, anyPolicy(rng))
	}
	atOnce := Power{}.Fingerprint(in)
	absent := in
	absent.Nodes = slices.Clone(in.Nodes)
	late := absent.Nodes[2].Minutes
	absent.Nodes[2].Minutes = nil
	if (Power{}).Fingerprint(absent) == atOnce {
		return fmt.Errorf("the fingerprint does not see the rows that came")
	}
	var sum int64
	for _, row := range split(absent).Rows {
		sum += row.Total()
		if row.Quality != schema.Estimated {
			return fmt.Errorf("without cluster c a row is %s", row.Quality)
		}
	}
	absent.Nodes[2].Minutes = late
	came := split(absent)
	var after int64
	for _, row := range came.Rows {
		after += row.Total()
		if row.Quality != schema.Measured {
			return fmt.Errorf("with cluster c a row is %s", row.Quality)
		}
	}
	if sum != meter || after != meter {
		return fmt.Errorf("Σ rows = %d without cluster c, %d with it; the meters grew by %d", sum, after, meter)
	}
	return nil
}
