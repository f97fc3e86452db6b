package processors

import (
	"cmp"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// nodeEnergy is a node's modelled energy in one minute, µJ.
type nodeEnergy struct {
	idle, dynamic int64
}

// modelled is the model's energy of a node's minute: what it says of no load ·
// time alive, and above it by utilisation, or by what the processors counted.
func modelled(m Model, h Hardware, row NodeMinute) nodeEnergy {
	uptime := min(max(row.Uptime, 0), schema.Minute.Milliseconds())
	idle := MulDiv(max(m.PowerAt(h, 0), 0), uptime, 1000) // µW · ms = nJ, cut to µJ
	all := MulDiv(max(m.PowerAt(h, utilisation(row.CPU, row.Capacity)), 0), uptime, 1000)
	if counted, ok := row.counted(m, h); ok {
		all = counted
	}
	return nodeEnergy{idle: idle, dynamic: max(all-idle, 0)}
}

// processorFactor is how far above the model's full load what the processors
// counted may lead: turbo goes beyond it, more is a counter gone wrong.
const processorFactor = 2

// counted is the energy of a node's minute by what its processors counted, µJ; not
// ok where it goes by utilisation. The choice is each minute's own, so that two
// quarters that share a meter interval see one model of each minute.
func (row NodeMinute) counted(m Model, h Hardware) (microjoules int64, ok bool) {
	if h.Processor == nil || !row.HasProcessor || row.Processor < 0 || row.Uptime < schema.Minute.Milliseconds() {
		return 0, false
	}
	most := MulDiv(max(m.PowerAt(h, Full), 0), processorFactor*schema.Minute.Milliseconds(), 1000)
	base := MulDiv(max(h.Processor.BaseMicrowatts, 0), schema.Minute.Milliseconds(), 1000)
	rise := MulDiv(row.Processor, max(h.Processor.Slope, 0), 1000) // mJ · 1e-6 = nJ, cut to µJ
	if base > most || rise > most-base {
		return 0, false
	}
	return base + rise, true
}

// uncertainty of the model of a node's minute, millionths.
func (row NodeMinute) uncertainty(m Model, h Hardware) int64 {
	own := h.Uncertainty
	if _, counted := row.counted(m, h); counted {
		own = h.Processor.Uncertainty
	}
	return cmp.Or(min(max(own, 0), million), unknownError)
}

// timeline is a box's modelled energy, cumulative, linear within a minute.
type timeline struct {
	from   time.Time
	minute []int64 // µJ of each minute
	sum    []int64 // µJ before it
}

func newTimeline(span schema.Window, in PowerInput, m Model) (*timeline, error) {
	n := int(span.Length() / schema.Minute)
	t := &timeline{from: span.From, minute: make([]int64, n), sum: make([]int64, n+1)}
	for i := range t.minute {
		t.minute[i] = overheadMicrojoules(in.Box)
	}
	for _, node := range in.Nodes {
		for _, row := range node.Minutes {
			i := int(row.Time.Sub(span.From) / schema.Minute)
			if row.Time.Before(span.From) || i >= n || !node.validAt(row.Time) {
				continue
			}
			e := modelled(m, node.Hardware, row)
			t.minute[i] += e.idle + e.dynamic
		}
	}
	for i, e := range t.minute {
		sum, err := Sum(t.sum[i], e)
		if err != nil {
			return nil, fmt.Errorf("model energy of box %s: %w", in.Box.Name, err)
		}
		t.sum[i+1] = sum
	}
	return t, nil
}

func overheadMicrojoules(b Box) int64 {
	return max(b.OverheadMilliwatts, 0) * schema.Minute.Milliseconds()
}

// at is the energy from the timeline's start to t, µJ.
func (l *timeline) at(t time.Time) int64 {
	into := t.Sub(l.from)
	if into <= 0 {
		return 0
	}
	i := int(into / schema.Minute)
	if i >= len(l.minute) {
		return l.sum[len(l.minute)]
	}
	return l.sum[i] + MulDiv(l.minute[i], int64(into%schema.Minute), int64(schema.Minute))
}

func (l *timeline) between(from, to time.Time) int64 { return l.at(to) - l.at(from) }

// validAt says whether the node was in the box in the minute at t.
func (n Node) validAt(t time.Time) bool {
	return (n.From.IsZero() || !t.Before(n.From)) && (n.To.IsZero() || t.Before(n.To))
}
