package registry

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// minutesOf are windows of a table from one minute after noon to another.
func minutesOf(table string, from, to int, nodes ...string) []influxsync.Confirmed {
	var windows []influxsync.Confirmed
	for i := from; i < to; i++ {
		minute := schema.WindowAt(noon.Add(time.Duration(i)*time.Minute), schema.Minute)
		windows = append(windows, influxsync.Confirmed{Values: nodes, Entry: influxsync.Entry{Cluster: "alpha", Table: table, Window: minute,
			Revision: 1, Rows: int64(len(nodes)), Coverage: 1000, Reason: "settled", Time: minute.To}})
	}
	return windows
}

// gapsOf are the reasons of a table's gaps, as "from-to node reason".
func gapsOf(t *testing.T, r *Registry, table string, w schema.Window) (gaps []string) {
	t.Helper()
	all, err := r.Completeness(t.Context(), "alpha", w)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		for _, g := range c.Missing {
			if c.Table == table {
				gaps = append(gaps, strings.Join(strings.Fields(g.From.Format("15:04-")+g.To.Format("15:04 ")+g.Node+" "+string(g.Reason)), " "))
			}
		}
	}
	return gaps
}

// TestReasons: each code, by what leads to it.
func TestReasons(t *testing.T) {
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	window := schema.Window{From: noon, To: at(60)}
	for name, test := range map[string]struct {
		happen func(r *Registry)
		want   []string
	}{
		"nothing yet": {func(*Registry) {}, []string{"12:00-12:15 not-yet", "12:15-12:30 not-yet", "12:30-12:45 not-yet", "12:45-13:00 not-yet"}},
		"nothing, and the token is wrong": {func(r *Registry) { state(t, r, GapUnauthorized, at(1)) },
			[]string{"12:00-12:15 unauthorized", "12:15-12:30 unauthorized", "12:30-12:45 unauthorized", "12:45-13:00 unauthorized"}},
		"before the first, the newest not yet": {func(r *Registry) { take(t, r, "node", "s", minutesOf("node", 10, 50, "n1")) },
			[]string{"12:00-12:10 before-first", "12:50-13:00 not-yet"}},
		"the link is down now": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 50, "n1"))
			state(t, r, GapLinkDown, at(51))
		}, []string{"12:50-13:00 link-down"}},
		"the disk is full": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 50, "n1"))
			state(t, r, GapDiskBudget, at(51))
		}, []string{"12:50-13:00 disk-budget"}},
		"the follower was down": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 20, "n1"))
			take(t, r, "node", "s", minutesOf("node", 25, 60, "n1"))
			state(t, r, GapFollowerDown, at(21))
			state(t, r, StateOK, at(26))
		}, []string{"12:20-12:25 follower-down"}},
		"the leader was down": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 20, "n1"))
			take(t, r, "node", "s", minutesOf("node", 25, 60, "n1"))
			state(t, r, StateUnknown, at(21))
			state(t, r, StateOK, at(26))
		}, []string{"12:20-12:25 not-journalled"}},
		"a history that is being filled": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 20, "n1"))
			take(t, r, "node", "s", minutesOf("node", 40, 50, "n1"))
			r.SetFilling("alpha", schema.Window{From: at(20), To: at(40)})
			state(t, r, GapLinkDown, at(51)) // the newest lack for another reason
		}, []string{"12:20-12:30 filling", "12:30-12:40 filling", "12:50-13:00 link-down"}},
		"a history of which nothing is here yet": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 40, 60, "n1"))
			r.SetFilling("alpha", schema.Window{From: at(10), To: at(40)})
			r.SetFilling("beta", schema.Window{From: at(40), To: at(60)})
		}, []string{"12:00-12:15 filling", "12:15-12:30 filling", "12:30-12:40 filling"}},
		"a history that was filled, but for a hole": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 20, "n1"))
			take(t, r, "node", "s", minutesOf("node", 25, 60, "n1"))
			r.SetFilling("alpha", schema.Window{From: at(20), To: at(40)})
			r.SetFilling("alpha", schema.Window{From: at(40), To: at(40)})
		}, []string{"12:20-12:25 not-journalled"}},
		"another store": {func(r *Registry) {
			take(t, r, "node", "s1", minutesOf("node", 0, 20, "n1"))
			take(t, r, "node", "s2", minutesOf("node", 25, 60, "n1"))
			state(t, r, GapFollowerDown, at(21))
			state(t, r, StateOK, at(26))
		}, []string{"12:20-12:25 era"}},
		"the same store, restored": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 20, "n1"))
			r.clock.(interface{ Set(time.Time) }).Set(at(64))
			receipt := Receipt{Mark: influxsync.Mark{Store: "s", Time: noon, Hash: "h"}, NewEra: true, Windows: minutesOf("node", 25, 60, "n1")}
			if err := r.Received(t.Context(), "alpha", "node", receipt, nil); err != nil {
				t.Fatal(err)
			}
		}, []string{"12:20-12:25 era"}},
		"a silent node, and one that had no room": {func(r *Registry) {
			take(t, r, "node", "s", minutesOf("node", 0, 30, "n1", "n2"))
			take(t, r, "node", "s", minutesOf("node", 30, 35, "n2"))
			full := minutesOf("node", 35, 40, "n1")
			for i := range full {
				full[i].Reason = "disk budget"
			}
			take(t, r, "node", "s", full)
			take(t, r, "node", "s", minutesOf("node", 40, 60, "n1", "n2"))
		}, []string{"12:30-12:35 n1 node-silent", "12:35-12:40 n2 disk-budget"}},
		"refused rows": {func(r *Registry) {
			windows := minutesOf("node", 0, 60, "n1")
			windows[7].Refused, windows[8].Refused = 2, 1
			take(t, r, "node", "s", windows)
		}, []string{"12:07-12:09 quarantined"}},
	} {
		r, clk := open(t)
		describe(t, r)
		clk.Set(at(63))
		test.happen(r)
		if diff := cmp.Diff(test.want, gapsOf(t, r, "node", window)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	codes := make(map[GapCode]bool)
	for _, c := range GapCodes {
		if codes[c.Code] || c.Meaning == "" {
			t.Errorf("code %s twice, or without a meaning", c.Code)
		}
		codes[c.Code] = true
	}
}

func state[T ~string](t *testing.T, r *Registry, word T, since time.Time) {
	t.Helper()
	if err := r.SetClusterState(t.Context(), "alpha", string(word), since, ""); err != nil {
		t.Fatal(err)
	}
}

// TestBeat: after a silence of the leader the states are unknown from its last
// beat on, and no follower is blamed.
func TestBeat(t *testing.T) {
	r, clk := open(t)
	note := func(f func(context.Context, time.Time) error) {
		t.Helper()
		if err := f(t.Context(), clk.Now()); err != nil {
			t.Fatal(err)
		}
	}
	note(r.Woke)
	state(t, r, GapFollowerDown, clk.Now())
	for range 3 {
		clk.Advance(BeatEvery)
		note(r.Beat)
	}
	clk.Advance(silentAfter)
	note(r.Woke) // a short restart
	clk.Advance(time.Hour)
	note(r.Woke)
	state(t, r, StateOK, clk.Now())
	states, err := r.ClusterStates(t.Context(), "alpha")
	if err != nil {
		t.Fatal(err)
	}
	want := []ClusterState{{State: string(GapFollowerDown), Since: noon}, {State: StateUnknown, Since: noon.Add(6 * time.Minute), Message: "the leader did not run"},
		{State: StateOK, Since: noon.Add(66 * time.Minute)}}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
}

// TestEras: a change of the store, and a journal that lost its end.
func TestEras(t *testing.T) {
	r, clk := open(t)
	for i, receipt := range []Receipt{{Mark: influxsync.Mark{Store: "a"}}, {Mark: influxsync.Mark{Store: "a"}}, {Mark: influxsync.Mark{Store: "b"}, NewEra: true},
		{Mark: influxsync.Mark{Store: "b"}, NewEra: true}, {Mark: influxsync.Mark{Store: "c"}}} {
		clk.Set(noon.Add(time.Duration(i) * time.Minute))
		if err := r.Received(t.Context(), "alpha", "pod", receipt, nil); err != nil {
			t.Fatal(err)
		}
	}
	eras, err := r.Eras(t.Context(), "alpha")
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) time.Time { return noon.Add(time.Duration(i) * time.Minute) }
	if diff := cmp.Diff([]Era{{"pod", at(2), "a", "b"}, {"pod", at(3), "b", "b"}, {"pod", at(4), "b", "c"}}, eras); diff != "" {
		t.Error(diff)
	}
}

// TestAuditedAndRated: an audit counts until a revision comes, a quarter while
// nothing is due that its cost is made of.
func TestAuditedAndRated(t *testing.T) {
	r, clk := open(t)
	apply(t, r, small()...)
	windows := minutesOf("node", 0, 30, "n1")
	take(t, r, "node", "s", windows)
	clk.Advance(2 * time.Hour)
	count := func() (audited, rated [2]int) {
		t.Helper()
		all, err := r.Completeness(t.Context(), "alpha", schema.Window{From: noon, To: noon.Add(30 * time.Minute)})
		if err != nil || len(all) < 2 {
			t.Fatal(all, err)
		}
		return [2]int{all[0].Audited, all[1].Audited}, [2]int{all[0].Rated, all[1].Rated}
	}
	spans := func(list []influxsync.Confirmed) (w []schema.Window) {
		for _, c := range list {
			w = append(w, c.Window)
		}
		return append(w, schema.Window{From: noon.Add(-time.Minute), To: noon}) // nobody has it
	}
	if err := r.MarkAudited(t.Context(), "alpha", "node", spans(windows[:20]), clk.Now()); err != nil {
		t.Fatal(err)
	}
	if audited, _ := count(); audited != [2]int{15, 5} {
		t.Errorf("audited %v, want 15 and 5", audited)
	}
	clk.Advance(time.Minute)
	windows[3].Revision = 2
	take(t, r, "node", "s", windows[3:4])
	if audited, _ := count(); audited != [2]int{14, 5} {
		t.Errorf("after a revision: audited %v, want 14 and 5", audited)
	}
	if err := r.MarkAudited(t.Context(), "alpha", "node", spans(windows[3:4]), clk.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if audited, _ := count(); audited != [2]int{14, 5} {
		t.Errorf("an audit that began before the revision came counts: %v", audited)
	}
	second := noon.Add(15 * time.Minute)
	for _, quarter := range []time.Time{noon, second} {
		done(t, r, Due{Processor: ProcessorCost, Scope: "alpha", Quarter: quarter}, "f")
	}
	for i, due := range []Due{{Processor: ProcessorPower, Scope: "box-1"}, {Processor: ProcessorPower, Scope: LooseScope("alpha", "n9")},
		{Processor: ProcessorUsage, Scope: "alpha"}, {Processor: ProcessorCost, Scope: "alpha"}} {
		if _, rated := count(); rated != [2]int{15, 15} {
			t.Errorf("%d: rated %v, want 15 and 15", i, rated)
		}
		due.Quarter = second
		add(t, r, due, Due{Processor: due.Processor, Scope: "another", Quarter: noon})
		if _, rated := count(); rated != [2]int{15, 0} {
			t.Errorf("%s of %s is due: rated %v, want 15 and 0", due.Processor, due.Scope, rated)
		}
		list, err := r.Due(t.Context(), due.Processor, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			done(t, r, d, "f")
		}
	}
}

// TestANewStoreTellsOfItsNodesAnew: a node that left while the follower's store
// was lost is not missing for ever.
func TestANewStoreTellsOfItsNodesAnew(t *testing.T) {
	r, clk := open(t)
	describe(t, r)
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	tell := func(store string, when time.Time, nodes ...string) {
		t.Helper()
		var points []influxsync.Point
		for _, n := range nodes {
			points = append(points, influxsync.NewPoint("object", map[string]string{"cluster": "alpha", "kind": "Node", "name": n, "uid": n},
				map[string]influxsync.Value{"spec": influxsync.Str("{}"), "reason": influxsync.Str("added"),
					"valid_from": influxsync.Int(noon.UnixNano()), "valid_to": influxsync.Int(0)}, when))
		}
		if err := r.PutObjects(t.Context(), points); err != nil {
			t.Fatal(err)
		}
		w := influxsync.Confirmed{Entry: influxsync.Entry{Cluster: "alpha", Table: "object", Window: schema.WindowAt(when, schema.Minute), Revision: 1, Time: when}}
		take(t, r, "object", store, []influxsync.Confirmed{w})
	}
	tell("s1", noon.Add(time.Second), "n1", "n2")
	take(t, r, "node", "s1", minutesOf("node", 0, 20, "n1", "n2"))
	clk.Set(at(31))
	tell("s2", at(30).Add(time.Second), "n1")
	take(t, r, "node", "s2", minutesOf("node", 30, 60, "n1"))
	window := schema.Window{From: noon, To: at(60)}
	clk.Set(at(63))
	want := []string{"12:20-12:30 era"}
	if diff := cmp.Diff(want, gapsOf(t, r, "node", window)); diff != "" {
		t.Error(diff)
	}
	for _, table := range []string{"node", "object"} { // the same when the days are folded
		if err := r.write(t.Context(), ordered, func(tx *sql.Tx) error {
			_, _, err := fold(t.Context(), tx, "alpha", table, dayOf(nanos(noon)))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, gapsOf(t, r, "node", window)); diff != "" {
		t.Error(diff)
	}
	clk.Set(at(65))
	tell("s2", at(64), "n2") // it was there all the time, and is told of late
	want = []string{"12:20-12:30 era", "12:30-13:00 n2 node-silent"}
	if diff := cmp.Diff(want, gapsOf(t, r, "node", window)); diff != "" {
		t.Error(diff)
	}
}
