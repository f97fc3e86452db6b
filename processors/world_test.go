package processors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// epoch0 is the start of the first quarter of a world.
var epoch0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// world is a box over some quarters, made up at random: its nodes' rows, its
// meters' readings and, by a formula of its own, what each pod truly drew.
type world struct {
	rng      *rand.Rand
	quarters int
	in       PowerInput // the window is the first quarter
	truth    map[podMinute]float64
	power    []float64 // true mJ of the box, cumulative, per second
	levels   []float64 // per node: its load over that of a busy one
	lead     int       // minutes before epoch0 that rows and readings reach back
}

type podMinute struct {
	time                     time.Time
	node, namespace, podName string
}

// worldConfig bounds what a world may contain.
type worldConfig struct {
	nodes, pods, quarters int
	meters                int
	step                  int64 // mJ
	trouble               bool  // resets, gaps, absent nodes, negative rests, odd policies
	uneven                bool  // each node has a level of load that stays
	curve                 func(u float64) float64
}

func linearCurve(u float64) float64 { return u }

// newWorld builds a world of the configuration's size.
func newWorld(rng *rand.Rand, c worldConfig) *world {
	w := &world{rng: rng, quarters: c.quarters, truth: map[podMinute]float64{}, lead: 90}
	w.in.Window = schema.WindowAt(epoch0, schema.Quarter)
	w.in.Box = Box{Name: "box-1", IdlePolicy: IdleEqual, OverheadMilliwatts: rng.Int64N(20_000)}
	if c.trouble {
		w.in.Box.IdlePolicy = []IdlePolicy{IdleEqual, IdleRequests, IdleUsage, IdleNone, ""}[rng.IntN(5)]
		w.in.Box.Shared = rng.IntN(3) == 0
	}
	minutes := w.lead + 15*c.quarters + w.lead
	w.power = make([]float64, 1, minutes*60+1)
	rows := make([][]NodeMinute, c.nodes)
	for n := range c.nodes {
		idle := 20_000 + rng.Int64N(80_000)
		level := 1.0
		if c.uneven {
			level = []float64{0.1, 0.3, 0.6, 1}[n%4]
		}
		w.levels = append(w.levels, level)
		w.in.Nodes = append(w.in.Nodes, Node{Cluster: fmt.Sprintf("cluster-%d", n%2), Name: fmt.Sprintf("node-%d", n),
			Hardware: Hardware{IdleMilliwatts: idle, MaxMilliwatts: idle + rng.Int64N(200_000)}})
	}
	for m := range minutes {
		var watts float64 // mJ/s
		watts += float64(w.in.Box.OverheadMilliwatts)
		for n := range c.nodes {
			row, mw := w.nodeMinute(c, n, epoch0.Add(time.Duration(m-w.lead)*time.Minute))
			watts += mw
			if !c.trouble || rng.IntN(40) > 0 {
				rows[n] = append(rows[n], row)
			}
		}
		for range 60 {
			w.power = append(w.power, w.power[len(w.power)-1]+watts)
		}
	}
	for n := range rows {
		w.in.Nodes[n].Minutes = rows[n]
	}
	if c.trouble && rng.IntN(2) == 0 { // a node whose hardware was corrected, from a minute on
		other := w.in.Nodes[0]
		other.From = epoch0.Add(time.Duration(rng.IntN(60)) * time.Minute)
		w.in.Nodes[0].To = other.From
		other.Hardware.MaxMilliwatts *= 2
		w.in.Nodes = append(w.in.Nodes, other)
	}
	for m := range c.meters {
		w.in.Meters = append(w.in.Meters, w.meter(c, m, minutes))
	}
	return w
}

// nodeMinute is a node's row, and the node's true power in mW.
func (w *world) nodeMinute(c worldConfig, n int, t time.Time) (NodeMinute, float64) {
	const cores, minute = 8, 60_000_000
	hardware := w.in.Nodes[n].Hardware
	row := NodeMinute{Time: t, Capacity: cores * minute, AllocatableCPU: cores * minute * 9 / 10,
		AllocatableMemory: 32 << 20 * 60, Uptime: 60_000}
	pods := w.rng.IntN(c.pods + 1)
	if !c.trouble {
		pods = c.pods
	}
	for p := range pods {
		pod := Pod{Namespace: fmt.Sprintf("ns-%d", p%3), Pod: fmt.Sprintf("pod-%d", p), UID: fmt.Sprintf("uid-%d-%d", n, p),
			WorkloadKind: "Deployment", Workload: fmt.Sprintf("app-%d", p%4),
			CPU:        w.rng.Int64N(cores * minute / int64(c.pods+2)),
			CPURequest: w.rng.Int64N(cores * minute / int64(c.pods+2)), MemoryRequest: w.rng.Int64N(row.AllocatableMemory / int64(c.pods+1)),
			Uptime: 60_000}
		pod.CPU = int64(float64(pod.CPU) * w.levels[n] * 1.9)
		if c.trouble && w.rng.IntN(8) == 0 {
			pod.CPU, pod.Uptime = 0, w.rng.Int64N(60_000)
		}
		row.Pods = append(row.Pods, pod)
	}
	row.Pods = append(row.Pods, Pod{Namespace: schema.SystemNamespace, Pod: schema.SystemNamespace, UID: schema.SystemNamespace, CPU: w.rng.Int64N(minute / 2)})
	rest := Pod{Namespace: schema.UnattributedNamespace, Pod: schema.UnattributedNamespace, UID: schema.UnattributedNamespace}
	if c.trouble {
		rest.CPU = w.rng.Int64N(minute) - minute/2
	}
	row.Pods = append(row.Pods, rest)
	for _, pod := range row.Pods {
		row.CPU += pod.CPU
	}
	row.CPU = max(row.CPU, 0)
	if c.trouble && w.rng.IntN(20) == 0 {
		row.Uptime = w.rng.Int64N(60_000)
		row.Capacity = row.Capacity * row.Uptime / 60_000
	}
	alive := float64(row.Uptime) / 60_000
	dynamic := 0.0
	if row.Capacity > 0 {
		dynamic = float64(hardware.MaxMilliwatts-hardware.IdleMilliwatts) * c.curve(min(float64(row.CPU)/float64(row.Capacity), 1)) * alive
	}
	idle := float64(hardware.IdleMilliwatts) * alive
	for _, pod := range row.Pods {
		var truth float64
		if row.CPU > 0 {
			truth = dynamic * 60 * float64(max(pod.CPU, 0)) / float64(row.CPU)
		}
		w.truth[podMinute{t, w.in.Nodes[n].Name, pod.Namespace, pod.Pod}] = truth
	}
	return row, idle + dynamic
}

// meter reads the box every 10 s, in whole steps; several meters share its
// energy evenly.
func (w *world) meter(c worldConfig, m, minutes int) Meter {
	meter := Meter{Name: fmt.Sprintf("meter-%d", m), FromFirst: true}
	offset, epoch, base := w.rng.Int64N(1<<40), int64(1), 0.0
	for s := w.rng.IntN(10); s < minutes*60; s += 10 {
		if c.trouble && w.rng.IntN(400) == 0 { // a gap
			s += 10 * w.rng.IntN(90)
		}
		if s >= minutes*60 {
			break
		}
		if c.trouble && w.rng.IntN(600) == 0 { // a reset, seen or not by its epoch
			offset, base = 0, w.power[s]
			epoch += int64(w.rng.IntN(2))
		}
		exact := offset + int64((w.power[s]-base)/float64(c.meters))
		meter.Readings = append(meter.Readings, Reading{Time: epoch0.Add(time.Duration(s-60*w.lead) * time.Second).Add(time.Duration(m) * time.Second / 7),
			CounterMillijoules: exact / c.step * c.step, StepMillijoules: c.step, Epoch: epoch})
	}
	return meter
}

// quarter is the input of the i-th quarter.
func (w *world) quarter(i int) PowerInput {
	in := w.in
	from := epoch0.Add(time.Duration(i) * schema.Quarter)
	in.Window = schema.WindowAt(from, schema.Quarter)
	return in
}

// shuffled is the same input in another order.
func (w *world) shuffled(in PowerInput) PowerInput {
	in.Nodes, in.Meters = slices.Clone(in.Nodes), slices.Clone(in.Meters)
	w.rng.Shuffle(len(in.Nodes), func(i, j int) { in.Nodes[i], in.Nodes[j] = in.Nodes[j], in.Nodes[i] })
	w.rng.Shuffle(len(in.Meters), func(i, j int) { in.Meters[i], in.Meters[j] = in.Meters[j], in.Meters[i] })
	for n := range in.Nodes {
		rows := slices.Clone(in.Nodes[n].Minutes)
		w.rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		for r := range rows {
			pods := slices.Clone(rows[r].Pods)
			w.rng.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
			rows[r].Pods = pods
		}
		in.Nodes[n].Minutes = rows
	}
	return in
}
