package validate

import (
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/stress"
)

// Metered is what the meter says of the container in one window.
type Metered struct {
	CPUCoreSeconds        float64
	MemoryByteSeconds     float64
	FilesystemByteSeconds float64
	ReceiveBytes          float64 // of the pod
	Coverage              float64 // 0..1
}

// Result is one comparison.
type Result struct {
	Quantity  Quantity      `json:"quantity"`
	Load      string        `json:"load"`
	Window    schema.Window `json:"window"`
	Container float64       `json:"container"` // what its own counters say
	Metered   float64       `json:"metered"`
	Allowed   float64       `json:"allowed"` // of difference, in the quantity's unit
}

// Difference is metered less container.
func (r Result) Difference() float64 { return r.Metered - r.Container }

// OK says whether the difference is within what is allowed.
func (r Result) OK() bool { return math.Abs(r.Difference()) <= r.Allowed }

// plateau is the whole minutes in which a step's loads stood.
type plateau struct {
	step   Step
	window schema.Window
}

// at is the container's reading at a moment, its counters in proportion between
// the readings around it.
func at(readings []stress.Reading, t time.Time) (stress.Reading, error) {
	i := sort.Search(len(readings), func(i int) bool { return !readings[i].Time.Before(t) })
	if i == len(readings) || i == 0 && !readings[0].Time.Equal(t) {
		return stress.Reading{}, fmt.Errorf("the container has no readings around %s", t.Format(time.RFC3339))
	}
	if readings[i].Time.Equal(t) {
		return readings[i], nil
	}
	before, after := readings[i-1], readings[i]
	share := float64(t.Sub(before.Time)) / float64(after.Time.Sub(before.Time))
	between := func(a, b int64) int64 { return a + int64(math.Round(share*float64(b-a))) }
	return stress.Reading{Time: t,
		CPUMicroseconds: between(before.CPUMicroseconds, after.CPUMicroseconds),
		MemoryBytes:     between(before.MemoryBytes, after.MemoryBytes),
		ReceiveBytes:    between(before.ReceiveBytes, after.ReceiveBytes),
		TransmitBytes:   between(before.TransmitBytes, after.TransmitBytes),
		DiskBytes:       between(before.DiskBytes, after.DiskBytes)}, nil
}

// truth is what the container's readings say of a window: growth of counters,
// mean of gauges.
type truth struct {
	cpu, receive float64 // core-s, B
	memory, disk float64 // B, means over the window
}

func truthOf(readings []stress.Reading, w schema.Window) (truth, error) {
	first, err := at(readings, w.From)
	if err != nil {
		return truth{}, err
	}
	last, err := at(readings, w.To)
	if err != nil {
		return truth{}, err
	}
	points := []stress.Reading{first}
	for _, r := range readings {
		if r.Time.After(w.From) && r.Time.Before(w.To) {
			points = append(points, r)
		}
	}
	points = append(points, last)
	t := truth{cpu: float64(last.CPUMicroseconds-first.CPUMicroseconds) / 1e6, receive: float64(last.ReceiveBytes - first.ReceiveBytes)}
	for i := 1; i < len(points); i++ {
		seconds := points[i].Time.Sub(points[i-1].Time).Seconds()
		t.memory += seconds * float64(points[i].MemoryBytes+points[i-1].MemoryBytes) / 2
		t.disk += seconds * float64(points[i].DiskBytes+points[i-1].DiskBytes) / 2
	}
	t.memory /= w.Length().Seconds()
	t.disk /= w.Length().Seconds()
	return t, nil
}

// compare holds the plateaus and the whole run against the meter. The disk is
// compared by its growth from the plateau before, since the container's other
// files are the meter's too.
func compare(readings []stress.Reading, plateaus []plateau, whole schema.Window, metered func(schema.Window) (Metered, error)) ([]Result, error) {
	var results []Result
	var before struct {
		container, metered float64
		known              bool
	}
	for _, p := range plateaus {
		true_, err := truthOf(readings, p.window)
		if err != nil {
			return nil, err
		}
		m, err := metered(p.window)
		if err != nil {
			return nil, err
		}
		seconds := p.window.Length().Seconds()
		if p.step.Cores > 0 {
			results = append(results, Result{CPU, fmt.Sprintf("%d cores", p.step.Cores), p.window, true_.cpu, m.CPUCoreSeconds, Within * true_.cpu})
		}
		if p.step.RAM > 0 {
			results = append(results, Result{Memory, fmt.Sprintf("%d MB", p.step.RAM), p.window, true_.memory, m.MemoryByteSeconds / seconds, Within * true_.memory})
		}
		disk := m.FilesystemByteSeconds / seconds
		if before.known && p.step.Disk > 0 {
			results = append(results, Result{Disk, fmt.Sprintf("%d MB", p.step.Disk), p.window, true_.disk - before.container, disk - before.metered, Block + 2*floored/seconds})
		}
		before.container, before.metered, before.known = true_.disk, disk, true
	}
	true_, err := truthOf(readings, whole)
	if err != nil {
		return nil, err
	}
	m, err := metered(whole)
	if err != nil {
		return nil, err
	}
	fetches := 0
	for _, p := range plateaus {
		fetches += p.step.Fetches
	}
	results = append(results, Result{CPU, "the whole run", whole, true_.cpu, m.CPUCoreSeconds, Within * true_.cpu})
	if fetches > 0 {
		results = append(results, Result{Network, fmt.Sprintf("%d pages", fetches), whole, true_.receive, m.ReceiveBytes, max(Within*true_.receive, edgeBytes)})
	}
	return results, nil
}
