// Package bench measures what a benchmark costs beside its time: CPU of this
// process and memory. Its tests are the benchmarks that no single package can
// hold: a whole follower in a process of its own, and the leader's way from a
// follower's rows to an answer.
//
// CPU seconds count what every thread did, garbage collection and the engine's
// background work included, and suffer less from busy neighbours than time does.
package bench

import (
	"runtime"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"
)

// CPU is what this process has used in user and system mode since it began.
func CPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // only for arguments that are wrong
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// LiveBytes are the bytes of the heap that are in use after a collection.
func LiveBytes() uint64 {
	runtime.GC()
	return LastLiveBytes()
}

// LastLiveBytes are the bytes of the heap that the last collection left. It
// causes none.
func LastLiveBytes() uint64 { return read("/gc/heap/live:bytes") }

func read(metric string) uint64 {
	sample := []metrics.Sample{{Name: metric}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Watch is the CPU that the timed part of a benchmark used.
type Watch struct {
	b       *testing.B
	since   time.Duration
	sum     time.Duration
	running bool
}

// Start begins to count CPU.
func Start(b *testing.B) *Watch {
	w := &Watch{b: b}
	w.Go()
	return w
}

// Stop stops the benchmark's timer and the counting.
func (w *Watch) Stop() {
	w.b.StopTimer()
	if w.running {
		w.sum += CPU() - w.since
		w.running = false
	}
}

// Go starts the benchmark's timer and the counting again.
func (w *Watch) Go() {
	w.since, w.running = CPU(), true
	w.b.StartTimer()
}

// Per reports the CPU for each of n things that were done, in µs as
// cpu-us/unit, and how many were done in a CPU second as unit/cpu-s.
func (w *Watch) Per(n int, unit string) {
	w.Stop()
	w.b.ReportMetric(w.sum.Seconds()*1e6/float64(n), "cpu-us/"+unit)
	w.b.ReportMetric(float64(n)/w.sum.Seconds(), unit+"/cpu-s")
}
