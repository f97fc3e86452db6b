package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// gap is a time in which a run has fewer readings of a series.
type gap struct{ from, to time.Time }

// readings are rows of raw by key, with what was read: not when it was received.
func readings(rows []influxsync.Point) map[string]uint64 {
	all := make(map[string]uint64, len(rows))
	for _, p := range rows {
		p.Fields = slices.DeleteFunc(slices.Clone(p.Fields), func(f influxsync.FieldValue) bool { return f.Name == schema.ReadingReceived })
		all[key(p)] = p.Hash()
	}
	return all
}

// gaps are where readings of the undisturbed run are missing in the other, or
// say something else (a pod's network is read with it, at a moment of its own),
// by node: from the reading before them to the one after.
func gaps(t testing.TB, undisturbed, killed []influxsync.Point) map[string][]gap {
	t.Helper()
	want, kept := readings(undisturbed), readings(killed)
	series := make(map[string][]influxsync.Point)
	for _, p := range undisturbed {
		id := strings.Join([]string{p.Tag(schema.Kind), p.Tag(schema.Node), p.Tag(schema.PodUID), p.Tag(schema.Container)}, " ")
		series[id] = append(series[id], p)
	}
	all := make(map[string][]gap)
	for _, rows := range series {
		slices.SortFunc(rows, func(a, b influxsync.Point) int { return a.Time.Compare(b.Time) })
		last := rows[0].Time.Add(-2 * time.Minute)
		lost := false
		for _, p := range rows {
			if kept[key(p)] != want[key(p)] {
				lost = true
				continue
			}
			if lost {
				all[p.Tag(schema.Node)] = append(all[p.Tag(schema.Node)], gap{last, p.Time})
			}
			last, lost = p.Time, false
		}
		if lost {
			p := rows[len(rows)-1]
			all[p.Tag(schema.Node)] = append(all[p.Tag(schema.Node)], gap{last, p.Time.Add(2 * time.Minute)})
		}
	}
	for k := range kept {
		if _, ok := want[k]; !ok {
			t.Errorf("a reading that the undisturbed run does not have: %s", k)
		}
	}
	return all
}

// slotMargin: a share is of whole slots between readings of kubepods, and others'
// readings around a slot's edges count in it: two of their intervals on either
// side of the unseen time.
const slotMargin = 40 * time.Second

// windows are the minutes of each node that a gap touches, with the longest
// gap. Where an ended pod's unseen time meets a gap, what the pod is given can
// differ in all of that time.
func windows(gaps map[string][]gap, unseen []influxsync.Point) map[string]map[time.Time]time.Duration {
	all := make(map[string]map[time.Time]time.Duration)
	touch := func(node string, from, to time.Time, length time.Duration) {
		if all[node] == nil {
			all[node] = make(map[time.Time]time.Duration)
		}
		for at := from.Truncate(schema.Minute); at.Before(to); at = at.Add(schema.Minute) {
			all[node][at] = max(all[node][at], length)
		}
	}
	for node, list := range gaps {
		for _, g := range list {
			touch(node, g.from, g.to, g.to.Sub(g.from))
		}
		for _, p := range unseen {
			from, to := time.Unix(0, p.Int("from")).UTC(), p.Time
			for _, g := range list {
				if p.Tag(schema.Node) == node && g.from.Before(to.Add(slotMargin)) && from.Add(-slotMargin).Before(g.to) {
					touch(node, from, to, 0)
				}
			}
		}
	}
	return all
}

// compare: rows whose reading gap no kill touched are the same to the bit;
// where one did, what is spread over the gap is what the counters grew by, so
// that the sums over the whole are the same, and a row that differs says that
// it is interpolated where its gap is long enough for that. What an ended pod is
// given of its unseen time says so by its coverage instead.
func compare(t testing.TB, undisturbed, killed *influxsync.Server) {
	t.Helper()
	raw := func(s *influxsync.Server, table string) []influxsync.Point {
		return read(t, s.Database(schema.RawDB), table, "")
	}
	unseen := append(raw(undisturbed, "unseen"), raw(killed, "unseen")...)
	touched := windows(gaps(t, raw(undisturbed, schema.Raw.Name), raw(killed, schema.Raw.Name)), unseen)
	checkSpread(t, touched, readMinutes(t, undisturbed.Database(schema.MinuteDB), ""), readMinutes(t, killed.Database(schema.MinuteDB), ""),
		sums(raw(undisturbed, "unseen"), schema.CPU, nil, schema.PodUID))
	same, different := 0, 0
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		before, after := make(map[string]influxsync.Point), make(map[string]influxsync.Point)
		for _, p := range read(t, undisturbed.Database(schema.MinuteDB), table.Name, "") {
			before[key(p)] = p
		}
		for _, p := range read(t, killed.Database(schema.MinuteDB), table.Name, "") {
			after[key(p)] = p
		}
		for k, p := range before {
			length, isTouched := touched[p.Tag(schema.Node)][p.Time]
			q, ok := after[k]
			if ok && p.Hash() == q.Hash() {
				same++
				continue
			}
			different++
			switch {
			case !isTouched:
				t.Errorf("a row that no kill touched differs: %s\n%v\n%v", k, p.Fields, q.Fields)
			case ok && p.Int(schema.CPU) != q.Int(schema.CPU) && length > crashInterval*3/2 && p.Tag(schema.Container) == "" && !isRest(p) && !shared(p, unseen) &&
				nodeInterpolated(after, p) == 0:
				t.Errorf("a row differs and says nothing of a gap of %s: %s\n%v\n%v", length, k, p.Fields, q.Fields)
			}
		}
		for k := range after {
			if _, ok := before[k]; !ok {
				t.Errorf("a row that the undisturbed run does not have: %s", k)
			}
		}
		t.Logf("%s: %d rows without, %d with kills", table.Name, len(before), len(after))
	}
	t.Logf("%d rows are the same, %d differ; windows touched: n1 %d, n2 %d", same, different, len(touched["n1"]), len(touched["n2"]))
	if different == 0 || same < different {
		t.Errorf("%d rows are the same, %d differ", same, different)
	}
}

// checkSpread: over each run of windows that gaps touch, nodes and pods that
// live on have used the same; only how it is spread differs.
func checkSpread(t testing.TB, touched map[string]map[time.Time]time.Duration, undisturbed, killed minutes, ended map[string]int64) {
	t.Helper()
	run := func(p influxsync.Point) string {
		windows, from := touched[p.Tag(schema.Node)], p.Time
		if _, ok := windows[from]; !ok {
			return ""
		}
		for before := from.Add(-schema.Minute); ; before = before.Add(-schema.Minute) {
			if _, ok := windows[before]; !ok {
				return from.Format(time.RFC3339)
			}
			from = before
		}
	}
	total := func(rows []influxsync.Point) map[string]int64 {
		all := make(map[string]int64)
		for _, p := range rows {
			_, gone := ended[p.Tag(schema.PodUID)]
			if from := run(p); from != "" && !gone && p.Tag(schema.Namespace) != schema.UnattributedNamespace && p.Tag(schema.Namespace) != schema.SystemNamespace {
				all[p.Table+" "+p.Tag(schema.Node)+" "+p.Tag(schema.PodUID)+" "+from] += p.Int(schema.CPU)
			}
		}
		return all
	}
	for _, rows := range [][2][]influxsync.Point{{undisturbed.nodes, killed.nodes}, {undisturbed.pods, killed.pods}} {
		want := total(rows[0])
		if wrong := unequal(want, total(rows[1]), 0); wrong != "" {
			t.Errorf("what was used over the gaps: %s", wrong)
		}
		if len(want) == 0 {
			t.Error("no gap")
		}
	}
}

// shared says whether an ended pod was given a share of its node in a row's window.
func shared(p influxsync.Point, unseen []influxsync.Point) bool {
	return slices.ContainsFunc(unseen, func(u influxsync.Point) bool {
		return u.Tag(schema.PodUID) == p.Tag(schema.PodUID) && time.Unix(0, u.Int("from")).Before(p.Time.Add(schema.Minute)) && p.Time.Before(u.Time)
	})
}

// nodeInterpolated is what rows of the same table, node and window say of
// interpolation, together: the gap may be of another series that this one is
// the rest of.
func nodeInterpolated(rows map[string]influxsync.Point, p influxsync.Point) int64 {
	var sum int64
	for _, q := range rows {
		if q.Time.Equal(p.Time) && q.Tag(schema.Node) == p.Tag(schema.Node) {
			sum += q.Int(schema.Interpolated)
		}
	}
	return sum
}
