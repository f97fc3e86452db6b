package processors

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// The fleet of the benchmarks: 5,000 nodes of 20 containers in boxes of ten.
const (
	benchNodes = 5_000
	benchPods  = 20
	benchBox   = 10
)

// benchInput is a box and a quarter with a meter read each ten seconds.
func benchInput(box int) PowerInput {
	in := PowerInput{Window: schema.WindowAt(epoch0, schema.Quarter), Box: Box{Name: fmt.Sprint("box-", box), OverheadMilliwatts: 20_000}}
	for n := range benchBox {
		node := Node{Cluster: fmt.Sprint("cluster-", n%3), Name: fmt.Sprintf("node-%d-%d", box, n), Hardware: Hardware{Uncertainty: 25_000}}
		for i := range 101 {
			node.Hardware.Curve = append(node.Hardware.Curve, CurvePoint{Utilisation(i * 10_000), int64(60+i) * 1_000_000})
		}
		for m := range 15 {
			row := NodeMinute{Time: epoch0.Add(time.Duration(m) * time.Minute), Capacity: 3_840_000_000, AllocatableCPU: 3_800_000_000,
				AllocatableMemory: 256 << 20 * 60, Uptime: 60_000}
			for p := range benchPods {
				row.Pods = append(row.Pods, Pod{Namespace: fmt.Sprint("ns-", p%7), Pod: fmt.Sprintf("pod-%d-%d", n, p), UID: fmt.Sprintf("uid-%d-%d-%d", box, n, p),
					WorkloadKind: "Deployment", Workload: fmt.Sprint("app-", p%5), CPU: int64(10_000_000 + (p*m*n)%50*1_000_000),
					CPURequest: 60_000_000, MemoryRequest: 1 << 20 * 60, Uptime: 60_000})
			}
			row.CPU = cpuOf(row.Pods)
			node.Minutes = append(node.Minutes, row)
		}
		in.Nodes = append(in.Nodes, node)
	}
	meter := Meter{Name: "meter", FromFirst: true}
	for s := 0; s <= 16*60; s += 10 {
		meter.Readings = append(meter.Readings, Reading{Time: epoch0.Add(time.Duration(s) * time.Second), CounterMillijoules: int64(s) * 900_000, StepMillijoules: 3_600})
	}
	in.Meters = []Meter{meter}
	return in
}

// cpuTime is what the process has used of all cores, its garbage collector too:
// what counts on a machine that others keep busy.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSplit is one quarter of the whole fleet, box by box, on one core: rows/s
// are rows of energy (a container's minute, and the rests of each node), rows/core-s
// of one core's time.
func BenchmarkSplit(b *testing.B) {
	inputs := make([]PowerInput, benchNodes/benchBox) // ten boxes, fifty times: one is in memory in a leader
	for i := range inputs {
		if inputs[i] = inputs[i%10]; i < 10 {
			inputs[i] = benchInput(i)
		}
	}
	b.ReportAllocs()
	rows, began := 0, cpuTime(b)
	for b.Loop() {
		for _, in := range inputs {
			result, err := Power{}.Process(in)
			if err != nil {
				b.Fatal(err)
			}
			rows += len(result.Rows)
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(rows)/(cpuTime(b)-began).Seconds(), "rows/core-s")
}

// BenchmarkSplitMemory is how much one box and quarter holds: what it allocates
// and what of it is left, the result.
func BenchmarkSplitMemory(b *testing.B) {
	in := benchInput(0)
	var before, after runtime.MemStats
	var result PowerResult
	b.ReportAllocs()
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		var err error
		if result, err = (Power{}).Process(in); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
	}
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/1024, "KiB-held")
	b.ReportMetric(float64(len(result.Rows)), "rows")
}

// BenchmarkRate is one quarter's cost of the whole fleet, cluster by cluster, on
// one core: rows/s are quantities of a workload that got a price.
func BenchmarkRate(b *testing.B) {
	inputs := benchCosts(b)
	b.ReportAllocs()
	rows, began := 0, cpuTime(b)
	for b.Loop() {
		for _, in := range inputs {
			result, err := Cost{}.Process(in)
			if err != nil {
				b.Fatal(err)
			}
			rows += len(result.Rows)
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(rows)/(cpuTime(b)-began).Seconds(), "rows/core-s")
}

// benchCosts is the fleet in 100 clusters, each container a workload of its own
// that used CPU, memory and energy.
func benchCosts(b *testing.B) []CostInput {
	const clusters = 100
	list := prices(b, "EUR", map[Resource]string{CPUUsed: "0.031", MemoryUsed: "0.0042", Energy: "0.29"})
	inputs := make([]CostInput, clusters) // ten, ten times
	for c := range inputs {
		if inputs[c] = inputs[c%10]; c >= 10 {
			continue
		}
		slot := CostSlot{Window: schema.WindowAt(epoch0, schema.Quarter), Prices: []PriceList{list}}
		for i := range benchNodes * benchPods / clusters {
			slot.Usage = append(slot.Usage, Usage{Namespace: fmt.Sprint("ns-", i%37), WorkloadKind: "Deployment", Workload: fmt.Sprint("app-", i),
				Quantities: Quantities{CPUUsed: int64(i) * 1_234_567, MemoryUsed: int64(i) * 98_765, Energy: int64(i) * 4_321}})
		}
		inputs[c] = CostInput{Window: slot.Window, Cluster: fmt.Sprint("cluster-", c), Slots: []CostSlot{slot}}
	}
	return inputs
}
