package meter

import (
	"testing"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// TestProcessorWindows: what a node's processors counted stands in its row where it is
// known over the whole minute, and nowhere else: not where the source's counter began
// anew (a restart of the follower, which shows nothing at first), fell, or was not
// there.
func TestProcessorWindows(t *testing.T) {
	base := int64(10_000 * 60)
	const none = -1
	for _, c := range []struct {
		name   string
		values [20]int64 // each 15 s from base on; -1: the counter was not there
		want   [4]int64  // of four minutes; -1: no field
	}{
		{"whole", [20]int64{7, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190}, [4]int64{33, 40, 40, 40}},
		{"a restart in the second minute", [20]int64{7, 10, 20, 30, 40, none, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}, [4]int64{33, none, 4, 4}},
		{"a fall", [20]int64{7, 10, 20, 30, 40, 41, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, [4]int64{33, none, 4, 4}},
		{"from the third minute on", [20]int64{none, none, none, none, none, none, none, none, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, [4]int64{none, none, 4, 4}},
		{"none", [20]int64{none, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none}, [4]int64{none, none, none, none}},
	} {
		n := newNode("n")
		for i, v := range c.values {
			x := sample{id: reading.Series{Kind: reading.Node, Node: "n"}, time: (base + 15*int64(i)) * second, epoch: (base - 60) * second}
			x.values.Set(reading.CPU, int64(i))
			if v != none {
				x.values.Set(reading.Processor, v)
			}
			s := n.series(x.id)
			st, reset, _ := n.advance(s, x)
			if reset {
				t.Errorf("%s: step %d is told as a reset of the node", c.name, i)
			}
			s.take(x, st, s.last.time == 0 || st.prev == 0)
			if back := sampleOf(x.row()); back.values != x.values {
				t.Errorf("%s: step %d is read back as %v", c.name, i, back.values)
			}
		}
		var got [4]int64
		for i := range got {
			a := n.own.amount(span{(base + 60*int64(i)) * second, (base + 60*int64(i) + 60) * second}, 15*second)
			p := rowTags{node: "n"}.nodePoint(size{}, usage{amount: a}, a)
			got[i] = none
			if v, ok := p.Field(schema.ProcessorEnergy); ok {
				got[i] = v.Int()
			}
			if p.Sort(); !cmp.Equal(names(p), names(rowTags{node: "n"}.nodePoint(size{}, usage{amount: a}, a))) {
				t.Errorf("%s: fields are not in order", c.name)
			}
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func names(p influxsync.Point) []string {
	var all []string
	for _, f := range p.Fields {
		all = append(all, f.Name)
	}
	return all
}
