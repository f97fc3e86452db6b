package meter

import (
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/google/go-cmp/cmp"
)

const second = int64(time.Second)

func cpuAt(t, epoch, v int64) sample {
	x := sample{id: reading.Series{Kind: reading.Pod, Node: "n", Pod: "p"}, time: t * second, epoch: epoch * second}
	x.values.Set(reading.CPU, v)
	return x
}

// feed gives samples to a pod's series of a node that was itself read at the
// given seconds.
func feed(read []int64, samples ...sample) *series {
	n := newNode("n")
	n.own = &series{}
	for _, t := range read {
		n.own.steps = append(n.own.steps, step{from: t * second, to: t * second})
	}
	s := n.series(samples[0].id)
	for _, x := range samples {
		st, _, _ := n.advance(s, x)
		s.take(x, st, s.last.time == 0 || st.prev == 0)
	}
	return s
}

func TestCounterWindows(t *testing.T) {
	base := int64(10_000 * 60) // a whole minute, in seconds
	for _, c := range []struct {
		name    string
		read    []int64
		samples []sample
		want    []int64 // growth in three minutes from base
		gap     []int64 // interpolated, whole seconds
	}{
		{"one line over an edge, floored before it", []int64{base},
			[]sample{cpuAt(base+50, 1, 0), cpuAt(base+65, 1, 100)}, []int64{66, 34, 0}, []int64{0, 0, 0}},
		{"a gap is spread, and said", []int64{base},
			[]sample{cpuAt(base+30, 1, 0), cpuAt(base+150, 1, 1201)}, []int64{300, 600, 301}, []int64{30, 60, 30}},
		{"a first reading of an old counter is a baseline", []int64{base},
			[]sample{cpuAt(base+30, base-500, 1e6), cpuAt(base+40, base-500, 1e6+5)}, []int64{5, 0, 0}, []int64{0, 0, 0}},
		{"a counter that began while the node was read counts from zero", []int64{base, base + 15, base + 30},
			[]sample{cpuAt(base+30, base+20, 1000)}, []int64{1000, 0, 0}, []int64{0, 0, 0}},
		{"and after a silence of the node", []int64{base - 9000, base + 100},
			[]sample{cpuAt(base+100, base, 1000)}, []int64{600, 400, 0}, []int64{60, 40, 0}},
		{"a fall is a reset: from zero at the last reading", []int64{base},
			[]sample{cpuAt(base+10, 1, 500), cpuAt(base+20, 1, 30)}, []int64{30, 0, 0}, []int64{0, 0, 0}},
		{"a new epoch: from zero at its start", []int64{base},
			[]sample{cpuAt(base+10, 1, 500), cpuAt(base+70, base+50, 600)}, []int64{300, 300, 0}, []int64{0, 0, 0}},
		{"an epoch told by another clock is the same life", []int64{base},
			[]sample{cpuAt(base+10, base-900, 500), cpuAt(base+20, base-90, 600)}, []int64{100, 0, 0}, []int64{0, 0, 0}},
	} {
		s := feed(c.read, c.samples...)
		var got, gap []int64
		for i := range int64(3) {
			a := s.amount(span{(base + i*60) * second, (base + i*60 + 60) * second}, 15*second)
			got, gap = append(got, a.q[reading.CPU]), append(gap, ceilSeconds(a.interpolated))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: windows (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.gap, gap); diff != "" {
			t.Errorf("%s: interpolated (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestGaugeWindows(t *testing.T) {
	const base = 10_000 * minute
	memory := func(t, v int64) sample {
		x := sample{id: reading.Series{Kind: reading.Pod, Pod: "p"}, time: base + t*second}
		x.values.Set(reading.Memory, v)
		return x
	}
	const mib = 1 << 20
	for _, c := range []struct {
		name           string
		samples        []sample
		want, coverage []int64
	}{
		{"constant", []sample{memory(0, mib), memory(30, mib), memory(60, mib)}, []int64{60 * 1024, 0}, []int64{60, 0}},
		{"a line over the edge", []sample{memory(45, 0), memory(75, 3*mib)}, []int64{15 * 1024 * 3 / 4, 15 * 1024 * 9 / 4}, []int64{15, 15}},
		{"a gap is not integrated", []sample{memory(0, mib), memory(31, mib), memory(60, mib)}, []int64{29 * 1024, 0}, []int64{29, 0}},
	} {
		s := feed(nil, c.samples...)
		var got, coverage []int64
		for i := range int64(2) {
			a := s.amount(span{base + i*minute, base + (i+1)*minute}, 15*second)
			got, coverage = append(got, a.q[reading.Memory]), append(coverage, a.covered/second)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: KiB·s (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.coverage, coverage); diff != "" {
			t.Errorf("%s: coverage (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestMulDiv(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b := rng.Int64N(1<<62), rng.Int64N(1<<62)
		c := b + rng.Int64N(1<<62) + 1
		want := new(big.Int).Mul(big.NewInt(a), big.NewInt(b))
		want.Quo(want, big.NewInt(c))
		if got := mulDiv(a, b, c); got != want.Int64() {
			t.Fatalf("mulDiv(%d, %d, %d) = %d, want %v", a, b, c, got, want)
		}
	}
}

func TestShift(t *testing.T) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	n := newNode("n")
	month := 30 * 24 * time.Hour
	for _, c := range []struct {
		name  string
		after time.Duration // received
		ahead time.Duration // newest sample less received
		want  time.Duration
		date  time.Duration // the node's clock less received; 0: it is not told
	}{
		{"fresh", 0, -7 * time.Second, 0, 0},
		{"as old as a body can be", 15 * time.Second, -29 * time.Second, 0, 0},
		{"a month ahead", 30 * time.Second, month, -month, 0},
		{"held", 45 * time.Second, month - 12*time.Second, -month, 0},
		{"set right", 60 * time.Second, -3 * time.Second, 0, 0},
		{"a little ahead", 75 * time.Second, 2 * time.Second, -2 * time.Second, 0},
		{"held too", 90 * time.Second, -9 * time.Second, -2 * time.Second, 0},
		{"an hour back", 105 * time.Second, -time.Hour, time.Hour, 0},
		{"right, and it counted a minute ago", 2 * time.Hour, -time.Minute, 0, -time.Second},
		{"right, and it counted an hour ago", 4 * time.Hour, -time.Hour, 0, -time.Second},
		{"its Date is cut to a second", 5 * time.Hour, 2 * time.Second, -2 * time.Second, time.Second},
		{"an hour back, and it counted two ago", 9 * time.Hour, -2 * time.Hour, time.Hour, -time.Hour},
	} {
		received := now.Add(c.after)
		body := reading.Body{Received: received, NewestSample: received.Add(c.ahead)}
		if c.date != 0 {
			body.NodeTime = received.Add(c.date)
		}
		n.shift = n.shiftOf(body, 15*time.Second)
		n.newest = body.NewestSample.UnixNano()
		if got := time.Duration(n.shift); got != c.want {
			t.Errorf("%s: shift %v, want %v", c.name, got, c.want)
		}
		body.Received = received.Add(9 * time.Second)
		if again := n.shiftOf(body, 15*time.Second); again != n.shift {
			t.Errorf("%s: read again, shift %v, want %v", c.name, time.Duration(again), time.Duration(n.shift))
		}
	}
}

func TestDivide(t *testing.T) {
	for _, c := range []struct {
		name           string
		d              int64
		weight, limit  []int64
		want           []int64
		leftUnassigned int64
	}{
		{"by weight", 90, []int64{1, 2}, []int64{maxInt64, maxInt64}, []int64{30, 60}, 0},
		{"capped, the rest to the others", 90, []int64{2, 1}, []int64{10, maxInt64}, []int64{10, 80}, 0},
		{"all capped", 90, []int64{2, 1}, []int64{10, 20}, []int64{10, 20}, 60},
		{"nothing grew", 0, []int64{1}, []int64{10}, []int64{0}, 0},
	} {
		parts := make([]part, len(c.weight))
		for i := range parts {
			parts[i] = part{weight: float64(c.weight[i]), limit: c.limit[i]}
		}
		divide(parts, c.d)
		left := c.d
		for i, part := range parts {
			left -= part.got
			if part.got != c.want[i] {
				t.Errorf("%s: share %d is %d, want %d", c.name, i, part.got, c.want[i])
			}
		}
		if left != c.leftUnassigned {
			t.Errorf("%s: %d is left, want %d", c.name, left, c.leftUnassigned)
		}
	}
}

// TestEphemeralWhereItWasRead: a window from before a pod's use of the node's disk
// was first told has none, also when it is made again and the series has some: a
// settled row does not change.
func TestEphemeralWhereItWasRead(t *testing.T) {
	const second = int64(time.Second)
	told := uint16(1<<reading.Memory | 1<<reading.Ephemeral)
	s := &series{counts: told, steps: []step{
		{from: 60 * second, to: 90 * second, prev: 60 * second, has: 1 << reading.Memory},
		{from: 90 * second, to: 180 * second, prev: 150 * second, has: told},
	}}
	for at, want := range map[int64]bool{60: false, 120: true} {
		a := s.amount(span{at * second, (at + 60) * second}, 60*second)
		if got := a.has(int(reading.Ephemeral)); got != want || !a.has(int(reading.Memory)) {
			t.Errorf("window from %d s: has it %v, want %v; memory %v", at, got, want, a.has(int(reading.Memory)))
		}
	}
}
