package processors

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// hasher writes values so that no two sequences of them read the same.
type hasher struct {
	sum hash.Hash
	buf [8]byte
}

// newHasher begins a fingerprint; algorithm names the processor and its
// version, so that a changed rule makes all of its results due.
func newHasher(algorithm string) *hasher {
	h := &hasher{sum: sha256.New()}
	h.text(algorithm)
	return h
}

func (h *hasher) ints(values ...int64) {
	for _, v := range values {
		binary.LittleEndian.PutUint64(h.buf[:], uint64(v))
		h.sum.Write(h.buf[:])
	}
}

func (h *hasher) text(values ...string) {
	for _, s := range values {
		h.ints(int64(len(s)))
		h.sum.Write([]byte(s))
	}
}

func (h *hasher) times(values ...time.Time) {
	for _, t := range values {
		if t.IsZero() {
			h.ints(0, 0)
			continue
		}
		h.ints(1, t.UnixNano())
	}
}

func (h *hasher) flag(b bool) {
	if b {
		h.ints(1)
	} else {
		h.ints(0)
	}
}

func (h *hasher) String() string { return hex.EncodeToString(h.sum.Sum(nil)) }

// Fingerprint covers what the result depends on: the box, the model, the
// closed intervals that overlap the window, the nodes' rows over their span and
// the pods' rows in the window. A reading that closes no interval here, or a
// row outside, does not change it.
func (p Power) Fingerprint(in PowerInput) string {
	in = in.canonical()
	h := newHasher("power/2")
	h.text(p.model().Name(), in.Box.Name, string(in.Box.Policy()))
	h.ints(in.Box.OverheadMilliwatts, gainOf(in.Meters))
	h.times(in.Window.From, in.Window.To)
	span, _ := Span(in.Window, in.Meters)
	settled := in.settled(span)
	h.times(schema.Earlier(settled, in.Window.To))
	h.ints(int64(len(in.Meters)))
	for _, m := range in.Meters {
		w := in.Window
		if m.part() || m.Cluster != "" {
			h.text("part of", m.Cluster, m.Node)
			w = span
		}
		h.meter(newCoverage(m, settled, nil), w)
		h.others(m, span, settled)
	}
	for _, node := range in.Nodes {
		h.node(node, in.Window, span)
	}
	return h.String()
}

func (h *hasher) meter(c coverage, w schema.Window) {
	h.text(c.meter.Name)
	h.times(clampTime(c.meter.From, w), clampTime(c.meter.To, w))
	overlapping := c.within(w)
	h.ints(int64(len(overlapping)))
	for _, i := range overlapping {
		h.times(i.From, i.To)
		h.ints(i.Start, i.End)
		if i.Integrated {
			h.text("integrated")
		}
	}
	from, open := c.openFrom(w)
	h.flag(open)
	if open {
		h.times(from)
	}
}

// clampTime is an edge of a validity as far as the window sees it.
func clampTime(t time.Time, w schema.Window) time.Time {
	switch {
	case t.IsZero():
		return t
	case t.Before(w.From):
		return w.From
	case t.After(w.To):
		return w.To
	}
	return t
}

func (h *hasher) hardware(hw Hardware) {
	h.ints(hw.IdleMilliwatts, hw.MaxMilliwatts, hw.Uncertainty, int64(len(hw.Curve)))
	for _, p := range hw.Curve {
		h.ints(int64(p.Utilisation), p.Microwatts)
	}
	if p := hw.Processor; p != nil {
		h.text("processor")
		h.ints(p.BaseMicrowatts, p.Slope, p.Uncertainty)
	}
}

func (h *hasher) node(n Node, w, span schema.Window) {
	h.text(n.Cluster, n.Name)
	h.hardware(n.Hardware)
	h.times(clampTime(n.From, span), clampTime(n.To, span))
	for _, row := range n.Minutes {
		if !span.Contains(row.Time) || !n.validAt(row.Time) {
			continue
		}
		h.times(row.Time)
		h.ints(row.CPU, row.Capacity, row.Uptime)
		if row.HasProcessor {
			h.text("processor")
			h.ints(row.Processor)
		}
		if !w.Contains(row.Time) {
			continue
		}
		h.ints(row.AllocatableCPU, row.AllocatableMemory, int64(len(row.Pods)))
		h.flag(row.Estimated)
		pods := slices.Clone(row.Pods)
		slices.SortFunc(pods, comparePods)
		for _, pod := range pods {
			h.text(pod.Namespace, pod.Pod, pod.UID, pod.WorkloadKind, pod.Workload)
			h.ints(pod.CPU, pod.CPURequest, pod.MemoryRequest, pod.Uptime)
		}
	}
}
