package e2e

import (
	"context"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// minutes are the settled tables of a store.
type minutes struct{ nodes, pods, containers []influxsync.Point }

func readMinutes(t testing.TB, db *influxsync.Database, cluster string) minutes {
	t.Helper()
	return minutes{read(t, db, schema.NodeMinute.Name, cluster), read(t, db, schema.PodMinute.Name, cluster),
		read(t, db, schema.ContainerMinute.Name, cluster)}
}

// parts says where, in some window, the parts of a node or a pod are not the
// whole, or "".
func (m minutes) parts() string {
	for _, field := range []string{schema.CPU, schema.Memory, schema.NetworkReceive, schema.NetworkTransmit} {
		if wrong := unequal(sums(m.nodes, field, nil, schema.Node, "time"), sums(m.pods, field, nil, schema.Node, "time"), 0); wrong != "" {
			return "node and Σ pods, " + field + ": " + wrong
		}
	}
	for _, field := range []string{schema.CPU, schema.Memory} {
		pods := sums(m.pods, field, isPod, schema.Node, schema.PodUID, "time")
		if wrong := unequal(pods, sums(m.containers, field, nil, schema.Node, schema.PodUID, "time"), 0); wrong != "" {
			return "pod and Σ containers, " + field + ": " + wrong
		}
	}
	return ""
}

// checkCopied compares what a follower settled with what the centre holds of
// it, row by row.
func checkCopied(t testing.TB, follower *influxsync.Server, centre *influxsync.Server, cluster string) {
	t.Helper()
	for _, table := range schema.Pulled {
		sent := read(t, follower.Database(table.DB), table.Name, "")
		if wrong := differ(byKey(sent), byKey(read(t, centre.Database(table.DB), table.Name, cluster))); wrong != "" {
			t.Errorf("%s: %s at the follower and in the centre: %s", cluster, table.Name, wrong)
		}
		sparse := table.Name == schema.Run.Name || table.Name == schema.VolumeMinute.Name
		if len(sent) == 0 && !sparse {
			t.Errorf("%s: no rows of %s", cluster, table.Name)
		}
	}
}

// checkJournals reads the journals of a store and compares them with its rows:
// the chain verifies, no window stands twice at one revision or skips one, the
// newest entry of each window tells the rows that are there, and between the
// first and the last window of a table of minutes there is no hole.
func checkJournals(t testing.TB, server *influxsync.Server, cluster string, tables []schema.Table) {
	t.Helper()
	for _, table := range tables {
		db := server.Database(table.DB)
		entries, err := influxsync.ReadJournal(context.Background(), db, cluster, table.Name, time.Time{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := influxsync.VerifyChain(entries, ""); err != nil {
			t.Errorf("%s: %v", cluster, err)
		}
		newest := make(map[time.Time]influxsync.Entry)
		for _, e := range entries {
			if e.Revision != newest[e.Window.From].Revision+1 {
				t.Errorf("%s: %s %s has revision %d after %d", cluster, table.Name, e.Window, e.Revision, newest[e.Window.From].Revision)
			}
			newest[e.Window.From] = e
		}
		checkEntries(t, read(t, db, table.Name, cluster), newest, cluster+" "+table.Name, table.Grain)
		if table.EachMinute() {
			checkHoles(t, newest, cluster+" "+table.Name)
		}
	}
}

func checkEntries(t testing.TB, rows []influxsync.Point, newest map[time.Time]influxsync.Entry, of string, grain time.Duration) {
	t.Helper()
	type tally struct {
		rows   int64
		digest influxsync.Digest
	}
	stored := make(map[time.Time]tally)
	for _, p := range rows {
		from := schema.WindowAt(p.Time, grain).From
		c := stored[from]
		c.rows++
		c.digest.Add(p)
		stored[from] = c
	}
	for from, e := range newest {
		if stored[from] != (tally{e.Rows, e.Digest}) {
			t.Errorf("%s %s: journal tells %d rows with digest %d, stored %+v", of, e.Window, e.Rows, e.Digest, stored[from])
		}
		delete(stored, from)
	}
	for from, c := range stored {
		t.Errorf("%s at %s: %d rows without a journal entry", of, from, c.rows)
	}
}

func checkHoles(t testing.TB, newest map[time.Time]influxsync.Entry, of string) {
	t.Helper()
	var windows []time.Time
	for from := range newest {
		windows = append(windows, from)
	}
	slices.SortFunc(windows, time.Time.Compare)
	for i := 1; i < len(windows); i++ {
		if !windows[i].Equal(windows[i-1].Add(schema.Minute)) {
			t.Errorf("%s: hole between %s and %s", of, windows[i-1], windows[i])
		}
	}
	if len(windows) == 0 {
		t.Errorf("%s: no window", of)
	}
}

// growth is what each counter grew by, in core-µs, from its first reading to
// its last: by node, by node as kubepods, by pod and by container. A counter
// whose life began after the node was read first counts from zero, and so does
// each new life.
type growth struct{ nodes, kubepods, pods, containers map[string]int64 }

func growthOf(raw []influxsync.Point) growth {
	g := growth{make(map[string]int64), make(map[string]int64), make(map[string]int64), make(map[string]int64)}
	series := make(map[string][]influxsync.Point)
	first := make(map[string]time.Time)
	for _, p := range raw {
		id := strings.Join([]string{p.Tag(schema.Kind), p.Tag(schema.Node), p.Tag(schema.PodUID), p.Tag(schema.Container)}, " ")
		series[id] = append(series[id], p)
		if node := p.Tag(schema.Node); p.Tag(schema.Kind) == string(reading.Node) && (first[node].IsZero() || p.Time.Before(first[node])) {
			first[node] = p.Time
		}
	}
	for _, rows := range series {
		slices.SortFunc(rows, func(a, b influxsync.Point) int { return a.Time.Compare(b.Time) })
		node, pod := rows[0].Tag(schema.Node), rows[0].Tag(schema.PodUID)
		grown := grown(rows, first[node].UnixNano())
		switch reading.Kind(rows[0].Tag(schema.Kind)) {
		case reading.Node:
			g.nodes[node] = grown
		case reading.Kubepods:
			g.kubepods[node] = grown
		case reading.Pod:
			g.pods[pod] = grown
		case reading.Container:
			g.containers[pod+" "+rows[0].Tag(schema.Container)] = grown
		}
	}
	g.addUnread(series)
	return g
}

// addUnread adds to nodes and kubepods what their parts grew by before their first
// and after their last reading: there they are the sum of their parts.
func (g growth) addUnread(series map[string][]influxsync.Point) {
	of := func(kind reading.Kind, node string) [][]influxsync.Point {
		var all [][]influxsync.Point
		for _, rows := range series {
			if reading.Kind(rows[0].Tag(schema.Kind)) == kind && rows[0].Tag(schema.Node) == node {
				all = append(all, rows)
			}
		}
		return all
	}
	pods := func(node string, from, to time.Time) (sum int64) {
		for _, rows := range of(reading.Pod, node) {
			sum += grownIn(rows, from, to)
		}
		return sum
	}
	kubepods := func(node string, from, to time.Time) (sum int64) {
		for _, rows := range of(reading.Kubepods, node) {
			first, last := rows[0].Time, rows[len(rows)-1].Time
			sum += grownIn(rows, from, to) + pods(node, from, earliest(first, to)) + pods(node, latest(last, from), to)
		}
		return sum
	}
	begin, end := time.Unix(0, 0), time.Unix(1<<33, 0)
	for node := range g.nodes {
		for _, rows := range of(reading.Node, node) {
			g.nodes[node] += kubepods(node, begin, rows[0].Time) + kubepods(node, rows[len(rows)-1].Time, end)
		}
	}
	for node := range g.kubepods {
		g.kubepods[node] += kubepods(node, begin, end)
		for _, rows := range of(reading.Kubepods, node) {
			g.kubepods[node] -= grownIn(rows, begin, end)
		}
	}
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// grownIn is the part of a counter's growth in [from, to): that between two of its
// readings is spread evenly.
func grownIn(rows []influxsync.Point, from, to time.Time) (sum int64) {
	if !from.Before(to) {
		return 0
	}
	for i := 1; i < len(rows); i++ {
		a, b := rows[i-1], rows[i]
		if a.Int(schema.ReadingEpoch) != b.Int(schema.ReadingEpoch) {
			continue
		}
		until := func(t time.Time) int64 {
			part := max(0, min(t.UnixNano(), b.Time.UnixNano())-a.Time.UnixNano())
			grown := new(big.Int).Mul(big.NewInt(b.Int(schema.CPU)-a.Int(schema.CPU)), big.NewInt(part))
			return grown.Quo(grown, big.NewInt(b.Time.UnixNano()-a.Time.UnixNano())).Int64()
		}
		sum += until(to) - until(from)
	}
	return sum
}

func grown(rows []influxsync.Point, first int64) int64 {
	var sum int64
	for i, p := range rows {
		epoch, value := p.Int(schema.ReadingEpoch), p.Int(schema.CPU)
		switch {
		case i > 0 && rows[i-1].Int(schema.ReadingEpoch) == epoch:
			sum += value - rows[i-1].Int(schema.CPU)
		case i > 0 || epoch > first:
			sum += value
		}
	}
	return sum
}

// ofPods is what each pod is to be given: the growth of its own counter, or of
// its containers' where its own was never read, and beside it what an ended
// pod was given of the time in which nobody read it.
func (g growth) ofPods(unseen map[string]int64) map[string]int64 {
	all := maps.Clone(unseen)
	for uid, cpu := range g.pods {
		all[uid] += cpu
	}
	for id, cpu := range g.containers {
		uid, _, _ := strings.Cut(id, " ")
		if _, read := g.pods[uid]; !read {
			all[uid] += cpu
		}
	}
	return all
}

// checkGrowth compares, series by series, Σ windows with what the counters
// grew by. It holds once the last readings lie in settled windows.
func checkGrowth(t testing.TB, server *influxsync.Server, m minutes, cluster string) {
	t.Helper()
	raw := server.Database(schema.RawDB)
	want := growthOf(read(t, raw, schema.Raw.Name, ""))
	unseen := sums(read(t, raw, "unseen", ""), schema.CPU, nil, schema.PodUID)
	notSystem := func(p influxsync.Point) bool { return p.Tag(schema.Namespace) != schema.SystemNamespace }
	notPodRest := func(p influxsync.Point) bool { return p.Tag(schema.Container) != schema.PodRest }
	for _, part := range []struct {
		of        string
		want, got map[string]int64
	}{
		{"nodes", want.nodes, sums(m.nodes, schema.CPU, nil, schema.Node)},
		{"kubepods", want.kubepods, sums(m.pods, schema.CPU, notSystem, schema.Node)},
		{"pods", want.ofPods(unseen), sums(m.pods, schema.CPU, isPod, schema.PodUID)},
		{"containers", want.containers, sums(m.containers, schema.CPU, notPodRest, schema.PodUID, schema.Container)},
	} {
		if wrong := unequal(part.want, part.got, 0); wrong != "" {
			t.Errorf("%s: counter growth and Σ windows of %s: %s", cluster, part.of, wrong)
		}
	}
	if len(want.pods) == 0 || len(want.nodes) == 0 {
		t.Errorf("%s: no readings", cluster)
	}
}
