package follower

import (
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
)

// What keeps a process that is a follower alone small. Memory is what a follower
// costs its cluster most, CPU what it costs least (docs/benchmarks.md).
const (
	// GCPercent is the collector's target: half of Go's default takes a fifth
	// off the memory for about a tenth more CPU.
	GCPercent = 50
	// MemoryTarget is what the process may hold before the collector gives up
	// CPU for memory and gives back what is free: 180 MiB.
	MemoryTarget = 180 << 20
	// headroom is what it may hold above what lives, where that is more than the
	// target: a twelfth. With less it would do little else than collect.
	headroom = 12
)

// Frugal sets the collector up for a process that is a follower alone, and
// returns the memory target for its Config. GOGC and GOMEMLIMIT, where they are
// set, count instead.
func Frugal() (target int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(GCPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	return MemoryTarget
}

// limitMemory sets the runtime's limit anew: what lives changes with the cluster.
func limitMemory(target int64) {
	if target <= 0 {
		return
	}
	live := runtimeMetric("/gc/heap/live:bytes")
	other := runtimeMetric("/memory/classes/total:bytes") - runtimeMetric("/memory/classes/heap/objects:bytes") - runtimeMetric("/memory/classes/heap/unused:bytes") -
		runtimeMetric("/memory/classes/heap/free:bytes") - runtimeMetric("/memory/classes/heap/released:bytes")
	debug.SetMemoryLimit(memoryLimit(target, live, other))
}

// memoryLimit is the limit for a heap of which so much lives, beside other memory
// of the runtime; all in bytes.
func memoryLimit(target, live, other int64) int64 {
	return max(target, live+live/headroom+other)
}

func runtimeMetric(metric string) int64 {
	sample := []runtimemetrics.Sample{{Name: metric}}
	runtimemetrics.Read(sample)
	if sample[0].Value.Kind() != runtimemetrics.KindUint64 {
		return 0 // a runtime that does not tell this
	}
	return int64(sample[0].Value.Uint64())
}
