package meter

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

var crashCases = flag.Int("crash-cases", 20_000, "random cases of the crash model")

// run feeds a simulation to a meter, killing and restarting it as the disk
// says. down is for how many bodies the follower stays away after a kill.
func run(s *simulation, d *disk, seed uint64, down int) (from, mark time.Time, err error) {
	clk := clock.NewManual(s.start)
	w := s.world()
	ctx := context.Background()
	m, err := open(testConfig, d, w, clk)
	if err != nil {
		m = nil
	}
	away := 0
	end := s.seconds + 60
	for second := 3; second < end; second += 15 {
		clk.Set(s.at(second))
		w.pods = s.podsAt(second)
		var bodies []reading.Body
		for i, n := range s.nodes {
			// The same body whether or not there was a kill before.
			rng := rand.New(rand.NewPCG(seed, uint64(second*10+i)))
			if second >= s.seconds {
				continue
			}
			if b, ok := s.body(rng, n, second); ok {
				bodies = append(bodies, b)
			}
		}
		if away > 0 {
			away--
			continue
		}
		if m == nil {
			if m, err = open(testConfig, d, w, clk); err != nil {
				m = nil
				continue
			}
		}
		err := m.Add(ctx, bodies)
		if err == nil || errors.Is(err, errFault) {
			_, err = m.Settle(ctx)
		}
		if errors.Is(err, errCrash) {
			m, away = nil, down
		}
	}
	for calm := 0; calm < 2; { // whatever the kill left comes right
		if m == nil {
			if m, err = open(testConfig, d, w, clk); err != nil {
				m = nil
				continue
			}
		}
		clk.Advance(testConfig.SettleDeadline + time.Minute)
		if _, err = m.Settle(ctx); errors.Is(err, errCrash) {
			m = nil
		}
		if calm++; err != nil {
			calm = 0
		}
	}
	if d.due {
		d.land()
	}
	st := m.Status()
	if st.Revisions > 0 {
		return from, mark, fmt.Errorf("%d revisions left", st.Revisions)
	}
	return st.From, st.Mark, nil
}

// growth is the oracle: what the readings that the disk holds say, by themselves,
// that a series used before edge.
func growth(rows []influxsync.Point, zeroFirst func(first sample) bool, edge int64) int64 {
	var sum int64
	var last sample
	for i, p := range rows {
		x := sampleOf(p)
		v, _ := x.values.Get(reading.CPU)
		from, g := last.time, int64(0)
		switch before, _ := last.values.Get(reading.CPU); {
		case i == 0 && zeroFirst(x):
			from, g = x.began(), v
		case i == 0:
		case newLife(last, x):
			from, g = max(last.time, x.began()), v
		case v < before:
			g = v
		default:
			g = v - before
		}
		switch {
		case x.time <= edge:
			sum += g
		case from < edge:
			sum += g * ((edge - from) / 1e6) / ((x.time - from) / 1e6)
		}
		last = x
	}
	return sum
}

// zeroFirst says whether a first sample counts from zero, by the node's rows.
func zeroFirst(node []influxsync.Point) func(sample) bool {
	return func(x sample) bool {
		i := sort.Search(len(node), func(i int) bool { return node[i].Time.UnixNano() > max(x.began(), x.time-lookback) })
		return i > 0 && node[i-1].Time.UnixNano() <= x.began() && x.began() < x.time
	}
}

// ofNodes are the nodes' own rows, by node.
func ofNodes(rows []influxsync.Point) map[string][]influxsync.Point {
	nodes := map[string][]influxsync.Point{}
	for _, p := range rows {
		if p.Tag(schema.Kind) == string(reading.Node) {
			nodes[p.Tag(schema.Node)] = append(nodes[p.Tag(schema.Node)], p)
		}
	}
	return nodes
}

// checkSums: per series Σ windows = growth of the counter, from the readings
// on the disk.
func (d *disk) checkSums(from, mark time.Time) error {
	bySeries := map[reading.Series][]influxsync.Point{}
	for _, p := range d.raw.sorted(schema.Raw.Name) {
		id := sampleOf(p).id
		bySeries[id] = append(bySeries[id], p)
	}
	sums := map[reading.Series]int64{}
	for _, p := range d.minute.rows["node"] {
		sums[reading.Series{Kind: reading.Node, Node: p.Tag(schema.Node)}] += p.Int(schema.CPU)
	}
	for _, p := range d.minute.rows["pod"] {
		if p.Tag(schema.Namespace) == schema.SystemNamespace {
			sums[reading.Series{Kind: reading.Kubepods, Node: p.Tag(schema.Node)}] -= p.Int(schema.CPU)
			continue
		}
		sums[reading.Series{Kind: reading.Pod, Node: p.Tag(schema.Node), Namespace: p.Tag(schema.Namespace),
			Pod: p.Tag(schema.Pod), PodUID: p.Tag(schema.PodUID)}] += p.Int(schema.CPU)
	}
	for _, p := range d.minute.rows["container"] {
		sums[reading.Series{Kind: reading.Container, Node: p.Tag(schema.Node), Namespace: p.Tag(schema.Namespace),
			Pod: p.Tag(schema.Pod), PodUID: p.Tag(schema.PodUID), Container: p.Tag(schema.Container)}] += p.Int(schema.CPU)
	}
	unseen := map[string]int64{}
	for _, p := range d.raw.rows[unseenTable] {
		unseen[p.Tag(schema.PodUID)] += p.Int(schema.CPU)
	}
	for id, rows := range bySeries {
		grew := growthIn(bySeries)
		want := grew(id, from.UnixNano(), mark.UnixNano())
		unread := partsUnread(bySeries, id, from.UnixNano(), mark.UnixNano())
		want += unread
		got := sums[id]
		switch id.Kind {
		case reading.Kubepods: // node − system
			got += sums[reading.Series{Kind: reading.Node, Node: id.Node}]
		case reading.Pod:
			got -= unseen[id.PodUID]
		}
		// The oracle cuts to ms, the meter to core-µs, once per edge.
		if diff := got - want; diff < -20_000 || diff > 20_000 || (diff != 0 && unread == 0 && rows[len(rows)-1].Time.Before(mark) && rows[0].Time.After(from)) {
			return fmt.Errorf("%v: Σ windows %d, growth %d, off by %d", id, got, want, diff)
		}
	}
	return nil
}

// growthIn is the oracle between two moments.
func growthIn(bySeries map[reading.Series][]influxsync.Point) func(id reading.Series, from, to int64) int64 {
	return func(id reading.Series, from, to int64) int64 {
		if from >= to {
			return 0
		}
		zero := zeroFirst(bySeries[reading.Series{Kind: reading.Node, Node: id.Node}])
		return growth(bySeries[id], zero, to) - growth(bySeries[id], zero, from)
	}
}

// partsUnread is what the parts of a node or of its pods' parent grew by before
// its first reading (or its beginning, where it counts from zero) and after its
// last one.
func partsUnread(bySeries map[reading.Series][]influxsync.Point, id reading.Series, from, to int64) int64 {
	if id.Kind != reading.Node && id.Kind != reading.Kubepods {
		return 0
	}
	grew, rows := growthIn(bySeries), bySeries[id]
	begins := rows[0].Time.UnixNano()
	if x := sampleOf(rows[0]); zeroFirst(bySeries[reading.Series{Kind: reading.Node, Node: id.Node}])(x) {
		begins = x.began()
	}
	first, last := min(to, begins), max(from, rows[len(rows)-1].Time.UnixNano())
	var sum int64
	for part := range bySeries {
		own := part
		own.Kind, own.Container = reading.Pod, ""
		_, read := bySeries[own] // else its containers stand in for it
		ofKube := id.Kind == reading.Kubepods && (part.Kind == reading.Pod || part.Kind == reading.Container && !read)
		ofNode := id.Kind == reading.Node && part.Kind == reading.Kubepods
		if part.Node != id.Node || !ofKube && !ofNode {
			continue
		}
		sum += grew(part, from, first) + grew(part, last, to)
		if ofNode {
			sum += partsUnread(bySeries, part, from, first) + partsUnread(bySeries, part, last, to)
		}
	}
	return sum
}

// touchedWindows are the windows, by node, that a reading or share that only
// one of two runs holds has touched.
func touchedWindows(plain, killed *disk, mark time.Time) map[string]map[int64]bool {
	touched := map[string]map[int64]bool{}
	touch := func(node string, from, to int64) {
		if touched[node] == nil {
			touched[node] = map[int64]bool{}
		}
		for w := floorMinute(from); w < to; w += minute {
			touched[node][w] = true
		}
	}
	for _, pair := range [][2]*disk{{plain, killed}, {killed, plain}} {
		last := map[reading.Series]int64{}
		open := map[reading.Series]int64{}
		rows := pair[0].raw.sorted(schema.Raw.Name)
		nodes, others := ofNodes(rows), ofNodes(pair[1].raw.sorted(schema.Raw.Name))
		for _, p := range rows {
			x := sampleOf(p)
			// A lost reading of the node decides whether a counter counts from zero.
			if last[x.id] == 0 && zeroFirst(nodes[x.id.Node])(x) != zeroFirst(others[x.id.Node])(x) {
				touch(x.id.Node, x.began(), x.time)
			}
			_, same := pair[1].raw.rows[schema.Raw.Name][rowID{rowKey(p), x.time}]
			since, gap := open[x.id]
			switch {
			case !same && !gap:
				since = last[x.id]
				if since == 0 {
					since = x.time - 2*lookback
				}
				open[x.id] = since
				touch(x.id.Node, since, x.time+1)
			case !same:
				touch(x.id.Node, since, x.time+1)
			case gap:
				touch(x.id.Node, since, x.time)
				delete(open, x.id)
			}
			last[x.id] = x.time
		}
		for id, since := range open {
			touch(id.Node, since, mark.UnixNano())
		}
	}
	// A share that differs touches the pod's unseen time.
	for _, pair := range [][2]*disk{{plain, killed}, {killed, plain}} {
		for id, p := range pair[0].raw.rows[unseenTable] {
			other, ok := pair[1].raw.rows[unseenTable][id]
			if !ok || other.Hash() != p.Hash() {
				touch(p.Tag(schema.Node), p.Int("from"), id.at)
			}
		}
	}
	return touched
}

// checkUntouched: rows of windows that no lost reading touched are those of
// the run without a kill.
func checkUntouched(plain, killed *disk, mark time.Time) (int, error) {
	touched := touchedWindows(plain, killed, mark)
	compared := 0
	for _, t := range tables {
		for id, p := range plain.minute.rows[t.Name] {
			if touched[p.Tag(schema.Node)][id.at] || id.at >= mark.UnixNano() {
				continue
			}
			compared++
			if q, ok := killed.minute.rows[t.Name][id]; !ok || q.Hash() != p.Hash() {
				return compared, fmt.Errorf("row outside touched gaps differs: %s", cmp.Diff(fmt.Sprintf("%+v", p), fmt.Sprintf("%+v", q)))
			}
		}
	}
	return compared, nil
}

type verdict struct {
	calls    int
	failedIn string
	compared int
	err      error
}

// killsPerFleet is how many cases share a fleet and its run without a kill.
const killsPerFleet = 20

// fleet is a random simulation and what came of it without a kill.
type fleet struct {
	seed       uint64
	options    simOptions
	plain      *disk
	from, mark time.Time
}

func newFleet(seed uint64) (*fleet, error) {
	rng := rand.New(rand.NewPCG(seed, 7))
	f := &fleet{seed: seed, plain: newDisk(seed), options: simOptions{nodes: 2, pods: 2, containers: 2,
		seconds: 150 + rng.IntN(150), resets: rng.IntN(2) == 0, clocks: rng.IntN(3) == 0,
		ends: rng.IntN(2) == 0, silence: rng.IntN(3) == 0}}
	var err error
	f.from, f.mark, err = run(newSimulation(seed, f.options), f.plain, seed, 0)
	if err == nil {
		err = f.plain.check(f.from, f.mark)
	}
	if err != nil {
		return nil, fmt.Errorf("fleet %d without a kill: %w", seed, err)
	}
	return f, nil
}

// crash runs the fleet with one failure.
func (f *fleet) crash(seed uint64, control func(*disk)) verdict {
	rng := rand.New(rand.NewPCG(seed, 11))
	killed := newDisk(seed)
	killed.at, killed.how = 1+rng.IntN(f.plain.calls), errCrash
	killed.subset = rng.IntN(2) == 0
	if rng.IntN(4) == 0 {
		killed.how = errFault
	}
	if control != nil {
		killed.how = errCrash
		control(killed)
	}
	down := 0
	if rng.IntN(2) == 0 {
		down = rng.IntN(10)
	}
	v := verdict{calls: killed.at}
	var from, mark time.Time
	from, mark, v.err = run(newSimulation(f.seed, f.options), killed, f.seed, down)
	if v.err == nil {
		v.err = killed.check(from, mark)
	}
	v.failedIn = killed.failedIn
	if v.err == nil && !from.IsZero() && f.from.Equal(from) {
		if f.mark.Before(mark) {
			mark = f.mark
		}
		v.compared, v.err = checkUntouched(f.plain, killed, mark)
	}
	return v
}

func (d *disk) check(from, mark time.Time) error {
	if from.IsZero() {
		return nil
	}
	if mark.Sub(from) < time.Minute {
		return fmt.Errorf("mark %v is not after %v", mark, from)
	}
	for _, check := range []func() error{
		func() error { return d.checkJournal(testConfig.Cluster, from, mark) },
		d.checkAddsUp,
		func() error { return d.checkSums(from, mark) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// crashes runs many cases on all cores and hands out their verdicts.
func crashes(cases int, control func(*disk), each func(seed uint64, v verdict)) {
	seeds := make(chan uint64)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range seeds {
				f, err := newFleet(seed)
				for i := range uint64(killsPerFleet) {
					v := verdict{err: err}
					if err == nil {
						v = f.crash(seed*killsPerFleet+i, control)
					}
					mu.Lock()
					each(seed*killsPerFleet+i, v)
					mu.Unlock()
				}
			}
		})
	}
	for seed := range uint64(cases / killsPerFleet) {
		seeds <- seed
	}
	close(seeds)
	wg.Wait()
}

func TestCrashModel(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // many small stores, all short-lived
	failed, compared := 0, 0
	where := map[string]int{}
	crashes(*crashCases, nil, func(seed uint64, v verdict) {
		where[v.failedIn]++
		compared += v.compared
		if v.err != nil {
			if failed++; failed <= 5 {
				t.Errorf("case %d (%s, call %d): %v", seed, v.failedIn, v.calls, v.err)
			}
		}
	})
	t.Logf("%d cases, %d wrong; failures by store call: %v; %d rows equal to the run without", *crashCases, failed, where, compared)
	for _, call := range []string{"raw", "minute", "journal", "read"} {
		if where[call] == 0 && *crashCases >= 1000 {
			t.Errorf("no case failed in a call to %s", call)
		}
	}
}

// The controls put the bugs back: the model must see them. A restart builds the
// last windows again from the readings, which heals both; so these meters
// trust what was written.
func TestCrashModelControls(t *testing.T) {
	for _, c := range []struct {
		name    string
		control func(*disk)
	}{
		{"mark before the write", func(d *disk) { d.early, d.trusting = true, true }},
		{"lost subset of confirmed rows", func(d *disk) { d.forgets, d.trusting = true, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cases, failed := max(*crashCases/40, 50), 0
			crashes(cases, c.control, func(_ uint64, v verdict) {
				if v.err != nil {
					failed++
				}
			})
			t.Logf("%d of %d cases failed", failed, cases)
			if failed == 0 {
				t.Error("the control did not fail")
			}
		})
	}
}
