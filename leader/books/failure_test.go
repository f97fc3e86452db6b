package books

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/google/go-cmp/cmp"
)

// sees tells the registry of an object of edge-a as the watch does.
func (w *world) sees(kind, namespace, name string, from, gone time.Time, spec map[string]any) {
	w.t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	ended := int64(0)
	if !gone.IsZero() {
		ended = gone.UnixNano()
	}
	point := influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Cluster: "edge-a", schema.Kind: kind, schema.Namespace: namespace, "name": name, "uid": "uid-" + name},
		map[string]influxsync.Value{"spec": influxsync.Str(string(text)), "reason": influxsync.Str("test"), "valid_from": influxsync.Int(from.UnixNano()), "valid_to": influxsync.Int(ended)}, from)
	if err := w.reg.PutObjects(w.t.Context(), []influxsync.Point{point}); err != nil {
		w.t.Fatal(err)
	}
}

// pod tells of a pod of node n1; a zero end is not known.
func (w *world) pod(namespace, name string, start, end time.Time, reason string) {
	spec := map[string]any{"node": "n1", "workloadKind": "Deployment", "workload": namespace, "start": start}
	if !end.IsZero() {
		spec["end"], spec["endReason"] = end, reason
	}
	w.sees("Pod", namespace, name, start, end, spec)
	w.lives[namespace+"/"+name] = schema.Window{From: start, To: end}
}

// down tells that the node n1 was not ready for a while.
func (w *world) down(at time.Time, length time.Duration) {
	w.sees("Node", "", "n1", at.Add(-30*24*time.Hour), time.Time{}, map[string]any{"ready": true})
	w.sees("Node", "", "n1", at, time.Time{}, map[string]any{"ready": false, "readyReason": "NodeStatusUnknown"})
	w.sees("Node", "", "n1", at.Add(length), time.Time{}, map[string]any{"ready": true})
}

// arrived says that the minutes of edge-a are there until a moment.
func (w *world) arrived(until time.Time) {
	w.t.Helper()
	window := schema.WindowAt(until.Add(-time.Minute), schema.Minute)
	entry := influxsync.Entry{Cluster: "edge-a", Table: schema.PodMinute.Name, Revision: 1, Rows: 1, Coverage: 1000, Window: window, Time: until, Hash: "x"}
	receipt := registry.Receipt{Mark: influxsync.Mark{Store: "s", Time: until, Hash: "x"}, Windows: []influxsync.Confirmed{{Entry: entry}}}
	if err := w.reg.Received(w.t.Context(), "edge-a", schema.PodMinute.Name, receipt, nil); err != nil {
		w.t.Fatal(err)
	}
}

var died = time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)

// failedWorld is a cluster whose node n1 failed on 20 November: shop-1 died with it,
// shop-0 ran on, and blog-1 had done its work.
func failedWorld(t *testing.T, start time.Time) *world {
	w := newWorld(t, december, small("UTC")...)
	w.lives, w.silent = make(map[string]schema.Window), died
	w.down(died, 20*time.Minute)
	w.pod("shop", "shop-1", start, died.Add(time.Hour), "Deleted") // its end was told when the node was back
	w.sees("Pod", "shop", "shop-0", start, time.Time{}, map[string]any{"node": "n1", "start": start})
	w.sees("Pod", "blog", "blog-1", start, died.Add(time.Minute), map[string]any{"node": "n1", "start": start, "end": died.Add(time.Minute), "endReason": "Completed"})
	w.arrived(december)
	return w
}

// refunds are the refund lines of a draft, and their sum.
func refunds(t *testing.T, lines []Line) ([]Line, string) {
	t.Helper()
	var found []Line
	sum := "0"
	for _, l := range lines {
		if l.Kind != KindRefund {
			continue
		}
		found = append(found, l)
		var err error
		if sum, err = plus(sum, l.Cost); err != nil {
			t.Fatal(err)
		}
		if what := sharesDiffer(l); what != "" || len(l.Shares) == 0 {
			t.Errorf("%s: shares %v %s", l.Rate, l.Shares, what)
		}
	}
	return found, sum
}

// lostCPU is what shop-1 used of cpu_used in a window, by the formula.
func (w *world) lostCPU(window schema.Window) int64 {
	sum := int64(0)
	for at := window.From; at.Before(window.To); at = at.Add(schema.Quarter) {
		quarter := int64(0)
		for minute := at.Unix() / 60; minute < at.Add(schema.Quarter).Unix()/60; minute++ {
			quarter += w.used("edge-a", "shop", minute)[processors.CPUUsed]
		}
		sum += quarter - quarter/3
	}
	return sum
}

func TestPodsOfAFailedNodeAreRefunded(t *testing.T) {
	start := died.Add(-4 * time.Hour)
	w := failedWorld(t, start)
	ctx := t.Context()
	d, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := refunds(t, d.Lines)
	if len(lines) != 3 || len(d.Failures) != 1 || d.Failures[0].Source != FromWatch || !strings.Contains(d.Failures[0].Evidence, "not ready for 20m0s (NodeStatusUnknown)") {
		t.Fatalf("%d lines, failures %+v", len(lines), d.Failures)
	}
	if diff := cmp.Diff([]DeadPod{{"shop", "shop-1", "uid-shop-1"}}, d.Failures[0].Pods); diff != "" {
		t.Error(diff)
	}
	cpu := lines[0]
	want := w.lostCPU(schema.Window{From: start, To: died.Add(time.Hour)})
	if cpu.Rate != "cpu_used" || cpu.Quantity != want || !below(cpu.Cost) || cpu.Period != "2026-11" || cpu.ChargePeriod != "2026-11" {
		t.Errorf("line %+v, want %d", cpu, want)
	}
	for _, part := range []string{"node n1 of cluster edge-a failed at 2026-11-20T14:00:00Z", "shop/shop-1"} {
		if !strings.Contains(cpu.Reason, part) {
			t.Errorf("reason %q", cpu.Reason)
		}
	}
	// What is given back is what the usage cost with it less what it costs without.
	cost, _ := new(big.Rat).SetString(cpu.Cost)
	exact := new(big.Rat).Mul(big.NewRat(-want, 3_600_000_000), big.NewRat(3, 100))
	if off := new(big.Rat).Sub(cost, exact); off.Abs(off).Cmp(big.NewRat(1, 100)) > 0 {
		t.Errorf("cost %s, want about %s", cpu.Cost, exact.FloatString(4))
	}
	s := w.close("acme", "2026-11")
	if s.Corrections == "0" || !below(s.Corrections) {
		t.Errorf("statement %+v", s)
	}
	w.chain("acme")
	closed, err := w.Statement(ctx, "acme", "2026-11", 0)
	if err != nil {
		t.Fatal(err)
	}
	given, _ := refunds(t, closed.Lines)
	if len(given) != 3 || given[0].Approver != "anna" || given[0].By != "rule failed-node" {
		t.Errorf("closed lines %+v", given)
	}
	if made, err := w.Rerate(ctx, "acme", "2026-11"); err != nil || len(made.Lines) != 0 {
		t.Errorf("re-rated: %+v %v", made, err)
	}
	w.clock.Set(time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC))
	if d, err := w.Draft(ctx, "acme", "2026-12", "dora"); err != nil || len(d.Failures) != 0 {
		t.Errorf("given back again: %+v %v", d.Failures, err)
	}
}

// TestReratingRefundsNothing: who asks what a closed month comes to now is told, and no
// failure is recorded that the next statement would refund.
func TestReratingRefundsNothing(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	w.lives = make(map[string]schema.Window)
	w.close("acme", "2026-11")
	w.clock.Set(time.Date(2027, 3, 3, 0, 0, 0, 0, time.UTC))
	w.down(died, 20*time.Minute)
	w.pod("shop", "shop-1", died.Add(-4*time.Hour), died.Add(time.Hour), "Deleted")
	w.arrived(december)
	if made, err := w.Rerate(t.Context(), "acme", "2026-11"); err != nil || len(made.Lines) != 0 {
		t.Errorf("re-rated: %+v %v", made, err)
	}
	if failures, err := w.Failures(t.Context(), ""); err != nil || len(failures) != 0 {
		t.Errorf("a question has recorded %+v %v", failures, err)
	}
	if d, err := w.Draft(t.Context(), "acme", "2026-11", "dora"); err == nil {
		t.Errorf("a closed month was drafted: %+v", d)
	}
}

// TestOncePerPod: a failure that is recorded again, by another moment, by the watch
// and by hand, or twice for one pod, gives back what the pod used once.
func TestOncePerPod(t *testing.T) {
	w := failedWorld(t, died.Add(-4*time.Hour))
	ctx := t.Context()
	d, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil {
		t.Fatal(err)
	}
	_, once := refunds(t, d.Lines)
	request := FailureRequest{Cluster: "edge-a", Node: "n1", At: died.Add(3 * time.Minute), Reason: "its power supply burnt", By: "olga"}
	again, err := w.RecordFailure(ctx, request)
	if err != nil || again.ID != d.Failures[0].ID {
		t.Fatalf("recorded %+v %v, the watch saw %+v", again, err, d.Failures[0])
	}
	request.At = died.Add(-2 * time.Hour) // another failure, which the same pod cannot have died of too
	other, err := w.RecordFailure(ctx, request)
	if err != nil || other.ID == again.ID {
		t.Fatalf("recorded %+v %v", other, err)
	}
	d, err = w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil {
		t.Fatal(err)
	}
	if _, twice := refunds(t, d.Lines); twice != once {
		t.Errorf("once %s, twice %s", once, twice)
	}
	// Control: a pod that two failures have is given back twice.
	stored, err := w.reg.BookFailures(ctx, "edge-a")
	if err != nil {
		t.Fatal(err)
	}
	for i := range stored {
		if len(stored[i].Lost) > 0 {
			doubled := stored[i]
			doubled.ID = 99
			stored = append(stored, doubled)
			break
		}
	}
	byPeriod, err := lostIn("acme", stored)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.calendar(ctx, "acme", "2026-11")
	if err != nil {
		t.Fatal(err)
	}
	rated, err := w.rate(ctx, c, false)
	if err != nil {
		t.Fatal(err)
	}
	bad := Draft{Rated: rated}
	if err := w.refundPeriod(ctx, c, c, nil, rated.tally, byPeriod["2026-11"], &bad); err != nil {
		t.Fatal(err)
	}
	if _, twice := refunds(t, bad.Lines); twice == once {
		t.Error("the control gives back once too: the test sees nothing")
	}
}

// TestRefundReachesIntoClosedMonths: a pod that started in a month that is closed is
// given back by that month's prices, in the statement that is open.
func TestRefundReachesIntoClosedMonths(t *testing.T) {
	start := time.Date(2026, 10, 28, 0, 0, 0, 0, time.UTC)
	w := failedWorld(t, start)
	w.podsSince = december.Add(-podRows) // before, its share is that of its workload
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	w.close("acme", "2026-10")
	w.clock.Set(december)
	s := w.close("acme", "2026-11")
	statement, err := w.Statement(t.Context(), "acme", "", s.Number)
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := refunds(t, statement.Lines)
	byMonth := map[string]int{}
	for _, l := range lines {
		byMonth[fmt.Sprint(l.ChargePeriod, " ", l.Statement)]++
		if !strings.Contains(l.Reason, "a pod's share of its workload's use") {
			t.Errorf("reason %q", l.Reason)
		}
	}
	if diff := cmp.Diff(map[string]int{"2026-10 1": 3, "2026-11 0": 3}, byMonth); diff != "" {
		t.Error(diff)
	}
	failures, err := w.Failures(t.Context(), "edge-a")
	if err != nil || len(failures) != 1 || !failures[0].Pods[0].Estimated || len(failures[0].Pods[0].Refunds) != 2 {
		t.Errorf("failures %+v %v", failures, err)
	}
	w.chain("acme")
	if _, err := w.DismissFailure(t.Context(), failures[0].ID, "olga", "it was not"); !errors.Is(err, ErrState) {
		t.Errorf("dismissed after its statement: %v", err)
	}
}

// TestADismissalIsTakenBack: the failure counts again, with what its pods had used when
// it was dismissed, also when their minutes are gone; all that was done stands in its
// log, and who took it back does not approve the refund.
func TestADismissalIsTakenBack(t *testing.T) {
	w := failedWorld(t, time.Date(2026, 11, 10, 9, 7, 0, 0, time.UTC))
	ctx := t.Context()
	d, err := w.Draft(ctx, "acme", "2026-11", "dora")
	if err != nil {
		t.Fatal(err)
	}
	_, want := refunds(t, d.Lines)
	id := d.Failures[0].ID
	if _, err := w.ReinstateFailure(ctx, id, "olga", "it does count"); !errors.Is(err, ErrState) {
		t.Errorf("what was not dismissed is taken back: %v", err)
	}
	if _, err := w.DismissFailure(ctx, id, "olga", "it was drained"); err != nil {
		t.Fatal(err)
	}
	if d, err = w.Draft(ctx, "acme", "2026-11", "dora"); err != nil || len(d.Failures) != 0 {
		t.Fatalf("%+v, %v", d.Failures, err)
	}
	w.clock.Set(december.Add(5 * 24 * time.Hour))
	w.podsSince = w.clock.Now() // the minutes of its pods are gone
	for _, bad := range [][2]string{{"", "x"}, {"olga", " "}, {"olga", "a\x1bb"}} {
		if _, err := w.ReinstateFailure(ctx, id, bad[0], bad[1]); !errors.Is(err, ErrInput) {
			t.Errorf("by %q because %q: %v", bad[0], bad[1], err)
		}
	}
	back, err := w.ReinstateFailure(ctx, id, "Olga", "another node was drained")
	if err != nil || !back.Counts || back.Dismissed != nil || len(back.Pods) != 1 || back.Pods[0].Estimated || len(back.Log) != 2 ||
		back.Log[0].Action != "dismiss" || back.Log[1].Action != "reinstate" || back.Log[1].By != "Olga" || !strings.Contains(back.Log[1].Detail, "another node was drained") || back.Log[1].At.IsZero() {
		t.Fatalf("%+v, %v", back, err)
	}
	if d, err = w.Draft(ctx, "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, got := refunds(t, d.Lines); got != want || len(d.Failures) != 1 || d.Failures[0].Reinstated != "Olga" {
		t.Errorf("given back %s, before %s: %+v", got, want, d.Failures)
	}
	if _, err := w.Review(ctx, "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(ctx, "acme", "2026-11", "olga"); !errors.Is(err, ErrFourEyes) {
		t.Errorf("who took it back approves: %v", err)
	}
	// It may be dismissed again, and that taken back.
	if gone, err := w.DismissFailure(ctx, id, "carl", "after all"); err != nil || gone.Counts || len(gone.Log) != 3 {
		t.Errorf("%+v, %v", gone, err)
	}
	// The control: without what was laid aside the pods' share is all that is known.
	db, err := sql.Open("sqlite3", w.path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(ctx, "DELETE FROM book_dismissed_lost")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if back, err = w.ReinstateFailure(ctx, id, "olga", "it does count"); err != nil || len(back.Log) != 4 ||
		!slices.ContainsFunc(back.Pods, func(p LostPod) bool { return p.Pod == "shop-1" && p.Estimated }) {
		t.Errorf("the control: %+v, %v", back, err)
	}
	if _, err := w.ReinstateFailure(ctx, 99, "olga", "x"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no failure: %v", err)
	}
}

func TestFailuresNeedEvidenceAndAnApprover(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	w.lives, w.silent = make(map[string]schema.Window), died
	ctx := t.Context()
	w.down(died, 4*time.Minute) // too short
	w.pod("shop", "shop-1", died.Add(-time.Hour), died.Add(5*time.Minute), "Deleted")
	w.arrived(december)
	if d, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil || len(d.Failures) != 0 {
		t.Fatalf("4 minutes are a failure: %+v %v", d.Failures, err)
	}
	good := FailureRequest{Cluster: "edge-a", Node: "n1", At: died, Reason: "burnt", By: "anna"}
	for name, change := range map[string]func(r *FailureRequest){
		"nobody": func(r *FailureRequest) { r.By = " " }, "no reason": func(r *FailureRequest) { r.Reason = "" }, "no node": func(r *FailureRequest) { r.Node = "" },
		"another node": func(r *FailureRequest) { r.Node = "n9" }, "ahead": func(r *FailureRequest) { r.At = december.Add(time.Hour) },
	} {
		bad := good
		change(&bad)
		if f, err := w.RecordFailure(ctx, bad); err == nil {
			t.Errorf("%s: recorded %+v", name, f)
		}
	}
	made, err := w.RecordFailure(ctx, good)
	if err != nil || len(made.Pods) != 1 || made.By != "anna" || !made.Counts {
		t.Fatalf("recorded %+v %v", made, err)
	}
	if _, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Review(ctx, "acme", "2026-11", "dora"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(ctx, "acme", "2026-11", "Anna"); !errors.Is(err, ErrFourEyes) {
		t.Errorf("who recorded the failure approves its refund: %v", err)
	}
	if _, err := w.DismissFailure(ctx, made.ID, "olga", ""); !errors.Is(err, ErrInput) {
		t.Errorf("dismissed without a reason: %v", err)
	}
	gone, err := w.DismissFailure(ctx, made.ID, "olga", "the node was drained")
	if err != nil || gone.Counts || gone.Dismissed.Reason != "the node was drained" || len(gone.Pods) != 0 {
		t.Errorf("dismissed: %+v %v", gone, err)
	}
	if _, err := w.Approve(ctx, "acme", "2026-11", "carl"); !errors.Is(err, ErrState) {
		t.Errorf("the draft still refunds it: %v", err)
	}
	if d, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil || len(d.Failures) != 0 {
		t.Errorf("dismissed and refunded: %+v %v", d.Failures, err)
	}
	if _, err := w.DismissFailure(ctx, 99, "olga", "x"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no failure: %v", err)
	}
}

// TestFailureThatIsNotSummed: a draft names a failure whose pods are not known yet, and
// is another one when they are.
func TestFailureThatIsNotSummed(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	w.lives, w.silent = make(map[string]schema.Window), died
	w.down(died, 20*time.Minute)
	w.pod("shop", "shop-1", died.Add(-time.Hour), time.Time{}, "")
	w.arrived(died.Add(5 * time.Minute))
	d, err := w.Draft(t.Context(), "acme", "2026-11", "dora")
	if err != nil || len(d.Failures) != 1 || len(d.Failures[0].Notes) != 1 || len(d.Failures[0].Pods) != 0 {
		t.Fatalf("failures %+v %v", d.Failures, err)
	}
	w.arrived(december)
	now, err := w.Look(t.Context(), "acme", "2026-11")
	if err != nil || !now.Outdated {
		t.Errorf("outdated %t %v", now.Outdated, err)
	}
}

// TestKnownAsSoonAsEachPodIs: a failure is summed when each pod of the node has ended or
// has readings after it, long before all that would be told late has been.
func TestKnownAsSoonAsEachPodIs(t *testing.T) {
	for _, test := range []struct {
		name    string
		silent  bool // shop-0, of which no end is told, has no readings after the failure
		arrived time.Duration
		known   bool
	}{
		{"all are known", false, 9 * time.Minute, true},
		{"an end has not settled", false, time.Minute, false},
		{"nothing tells of one", true, 9 * time.Minute, false},
		{"nothing tells of one for long", true, 21 * time.Minute, true},
	} {
		w := newWorld(t, december, small("UTC")...)
		w.lives, w.silent = make(map[string]schema.Window), died
		w.down(died, 6*time.Minute)
		w.pod("shop", "shop-1", died.Add(-time.Hour), died.Add(2*time.Minute), "Deleted")
		w.sees("Pod", "shop", "shop-0", died.Add(-time.Hour), time.Time{}, map[string]any{"node": "n1", "start": died.Add(-time.Hour)})
		want := 1
		if test.silent {
			w.lives["shop/shop-0"], want = schema.Window{From: died.Add(-time.Hour), To: december}, 2
		}
		w.arrived(died.Add(test.arrived))
		if _, err := w.Draft(t.Context(), "acme", "2026-11", "dora"); err != nil {
			t.Fatal(err)
		}
		all, err := w.Failures(t.Context(), "edge-a")
		if err != nil || len(all) != 1 || all[0].Summed != test.known {
			t.Fatalf("%s: %+v %v", test.name, all, err)
		}
		if test.known && len(all[0].Pods) != want {
			t.Errorf("%s: died %+v", test.name, all[0].Pods)
		}
	}
}

// TestWhoOutlivedTheFailure: a pod that has readings when its node is back was not taken
// by it, also where somebody deletes it soon after; one of which nothing is read after
// that was. A node that was away for less than a failure takes nobody.
func TestWhoOutlivedTheFailure(t *testing.T) {
	for _, test := range []struct {
		name   string
		end    time.Duration // of the pod, after the failure
		silent time.Time
		died   int
	}{
		{"deleted after the node was back", 9 * time.Minute, time.Time{}, 0},
		{"evicted, and ended with the node's return", 6*time.Minute + 30*time.Second, time.Time{}, 1},
		{"gone with the node", 9 * time.Minute, died, 1},
	} {
		w := newWorld(t, december, small("UTC")...)
		w.lives, w.silent = make(map[string]schema.Window), test.silent
		w.down(died, 6*time.Minute)
		w.pod("shop", "shop-1", died.Add(-time.Hour), died.Add(test.end), "Deleted")
		w.arrived(december)
		d, err := w.Draft(t.Context(), "acme", "2026-11", "dora")
		if err != nil {
			t.Fatal(err)
		}
		all, err := w.Failures(t.Context(), "edge-a")
		if err != nil || len(all) != 1 || !all[0].Summed || len(all[0].Pods) != test.died {
			t.Errorf("%s: %+v %v", test.name, all, err)
		}
		if lines, _ := refunds(t, d.Lines); (len(lines) > 0) != (test.died > 0) {
			t.Errorf("%s: refunded %+v", test.name, lines)
		}
	}
}
