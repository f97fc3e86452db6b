package facts

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 30, 0, time.UTC)

type fixture struct {
	t      *testing.T
	stores Stores
	clock  *clock.Manual
	minute *influxsync.Journal
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.FactsDB, schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, clock: clock.NewManual(epoch),
		stores: Stores{Facts: server.Database(schema.FactsDB), Minute: server.Database(schema.MinuteDB)}}
	var err error
	if f.minute, err = influxsync.OpenJournal(t.Context(), f.stores.Minute, "edge", schema.PodMinute, f.clock); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) writer() *Writer {
	f.t.Helper()
	w, err := New(Config{Cluster: "edge"}, f.stores, f.clock, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		f.t.Fatal(err)
	}
	if err := w.Restore(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return w
}

func (f *fixture) observe(w *Writer, nodes []reading.NodeInfo, pods ...reading.PodInfo) {
	f.t.Helper()
	changes, err := w.changesTo(nodes, pods)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := w.Observe(f.t.Context(), changes); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) rows(table string) []influxsync.Point {
	f.t.Helper()
	var rows []influxsync.Point
	err := f.stores.Facts.TimeQuery(f.t.Context(), table, schema.Window{}, nil, func(p influxsync.Point) error {
		p.Table = table
		rows = append(rows, p)
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return rows
}

// check is the law of the journal: each window of rows has a newest entry with
// their count and digest, and the chain verifies.
func (f *fixture) check(table string) error {
	entries, err := influxsync.ReadJournal(f.t.Context(), f.stores.Facts, "edge", table, time.Time{}, 0)
	if err != nil {
		return err
	}
	if err := influxsync.VerifyChain(entries, ""); err != nil {
		return err
	}
	newest := map[string]sum{}
	for _, e := range entries {
		newest[e.Window.String()] = sum{e.Rows, e.Digest}
	}
	stored := map[string]sum{}
	for _, row := range f.rows(table) {
		key := schema.WindowAt(row.Time, schema.Minute).String()
		s := stored[key]
		s.rows++
		s.digest.Add(row)
		stored[key] = s
	}
	if diff := cmp.Diff(stored, newest, cmp.AllowUnexported(sum{})); diff != "" {
		return fmt.Errorf("journal of %s differs from its rows (-stored +journal):\n%s", table, diff)
	}
	return nil
}

func (f *fixture) checkAll() {
	f.t.Helper()
	for _, table := range []string{schema.Object.Name, schema.Run.Name} {
		if err := f.check(table); err != nil {
			f.t.Error(err)
		}
	}
}

// minutes writes a pod's minute rows and their journal entries.
func (f *fixture) minutes(p reading.PodInfo, from time.Time, n int, cpu, coverage int64) {
	f.t.Helper()
	for i := range n {
		w := schema.WindowAt(from.Add(time.Duration(i)*schema.Minute), schema.Minute)
		fields := map[string]influxsync.Value{}
		for _, name := range schema.PodMinute.Integers() {
			fields[name] = influxsync.Int(0)
		}
		fields[schema.CPU], fields[schema.Uptime], fields[schema.Coverage] = influxsync.Int(cpu), influxsync.Int(60_000), influxsync.Int(coverage)
		row := influxsync.NewPoint(schema.PodMinute.Name, map[string]string{schema.Cluster: "edge", schema.Node: p.Node,
			schema.Namespace: p.Namespace, schema.Pod: p.Name, schema.PodUID: p.UID}, fields, w.From)
		if err := f.stores.Minute.Write(f.t.Context(), []influxsync.Point{row}); err != nil {
			f.t.Fatal(err)
		}
		if _, err := f.minute.Append(f.t.Context(), influxsync.Entry{Window: w, Rows: 1}); err != nil {
			f.t.Fatal(err)
		}
	}
}

func pod(name string) reading.PodInfo {
	return reading.PodInfo{UID: "uid-" + name, Namespace: "shop", Name: name, Node: "n1", WorkloadKind: "Deployment",
		Workload: "web", OwnerKnown: true, Labels: map[string]string{"app": "web"}, Start: epoch.Add(-time.Hour),
		Containers: []reading.ContainerInfo{{Name: "c", RequestMillicores: 100, LimitMemoryBytes: 1 << 30, Sidecar: true}}}
}

var node = reading.NodeInfo{Name: "n1", UID: "node-uid", BootID: "b", CapacityMillicores: 4000, AllocatableMilli: 3800,
	AllocatableMemoryKiB: 1 << 20, Joined: epoch.Add(-24 * time.Hour)}

func TestObjectRowPerChange(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	p := pod("a")
	f.observe(w, []reading.NodeInfo{node}, p, pod("b"))
	f.observe(w, []reading.NodeInfo{node}, p, pod("b")) // nothing changed
	f.clock.Advance(10 * time.Second)
	p.Labels = map[string]string{"app": "web", "team": "x"}
	f.observe(w, nil, p)
	f.clock.Advance(10 * time.Minute)
	p.End, p.ExitCode, p.EndReason = f.clock.Now(), 137, "OOMKilled"
	f.observe(w, nil, p)
	var got []string
	for _, row := range f.rows(schema.Object.Name) {
		if row.Tag("uid") != p.UID {
			continue
		}
		reason, _ := row.Field("reason")
		got = append(got, fmt.Sprintf("%s %s from %d to %d", row.Time.Sub(epoch).Truncate(time.Second), reason.Str(),
			(row.Int("valid_from")-epoch.UnixNano())/1e9, row.Int("valid_to")/1e9))
	}
	want := []string{"0s added from -3600 to 0", "10s changed from 10 to 0", fmt.Sprintf("10m10s ended from 610 to %d", p.End.Unix())}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows of the pod (-want +got):\n%s", diff)
	}
	if got := len(f.rows(schema.Object.Name)); got != 5 {
		t.Errorf("%d rows, want 5: two of pods, one of a node, two changes", got)
	}
	f.checkAll()
}

// log is a watch log rebuilt from what the writer loads.
func (f *fixture) log(w *Writer) *watch.Log {
	f.t.Helper()
	log, err := watch.NewLog(watch.Config{}, f.clock, slog.New(slog.DiscardHandler))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := log.Restore(w.Load()); err != nil {
		f.t.Fatal(err)
	}
	return log
}

func TestLoadGivesBackWhatWasSeen(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	a, b := pod("a"), pod("b")
	f.observe(w, []reading.NodeInfo{node}, a, b)
	f.clock.Advance(time.Second)
	b.End, b.EndReason = f.clock.Now(), "Completed"
	f.observe(w, []reading.NodeInfo{node}, a, b)
	log := f.log(f.writer())
	if diff := cmp.Diff([]reading.NodeInfo{node}, log.Nodes()); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]reading.PodInfo{a, b}, log.Pods()); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	f.clock.Advance(8 * 24 * time.Hour)
	if diff := cmp.Diff([]reading.PodInfo{a}, f.log(f.writer()).Pods()); diff != "" {
		t.Errorf("pods after Keep (-want +got):\n%s", diff)
	}
}

// TestClockSetBack: rows never overwrite each other, and Restore finds those
// without an entry.
func TestClockSetBack(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	p := pod("a")
	for i := range 3 {
		p.Workload = fmt.Sprint(i)
		f.observe(w, nil, p)
		f.clock.Advance(-time.Hour)
	}
	if got := len(f.rows(schema.Object.Name)); got != 3 {
		t.Errorf("%d rows, want 3", got)
	}
	f.checkAll()
}

func TestCrashBetweenRowsAndJournal(t *testing.T) {
	f := newFixture(t)
	f.observe(f.writer(), nil, pod("a"))
	f.clock.Advance(20 * time.Second) // into the next window
	ended := pod("c")
	ended.End = epoch.Add(-time.Minute)
	at := f.clock.Now()
	// What a writer leaves behind that dies between rows and entry.
	changes, err := f.writer().changesTo(nil, []reading.PodInfo{pod("b")})
	if err != nil {
		t.Fatal(err)
	}
	o, err := parse(changes[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := f.stores.Facts.Write(t.Context(), []influxsync.Point{o.row("edge", at)}); err != nil {
		t.Fatal(err)
	}
	run := influxsync.NewPoint(schema.Run.Name, map[string]string{schema.Cluster: "edge", schema.Kind: watch.KindPod, "uid": "x"},
		map[string]influxsync.Value{"end": influxsync.Int(1)}, epoch.Add(-5*time.Hour))
	if err := f.stores.Facts.Write(t.Context(), []influxsync.Point{run}); err != nil {
		t.Fatal(err)
	}
	if f.check(schema.Object.Name) == nil || f.check(schema.Run.Name) == nil {
		t.Fatal("control: the journal lacks an entry, and the check does not see it")
	}
	w := f.writer()
	f.checkAll()
	f.observe(w, nil, pod("a"), pod("b"), ended)
	if got := len(f.rows(schema.Object.Name)); got != 3 {
		t.Errorf("%d object rows, want 3: the row without an entry is not written twice", got)
	}
	f.checkAll()
}

// failing is a context that has ended: every request fails.
func failing() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestStoreDownThenUp(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	changes, err := w.changesTo(nil, []reading.PodInfo{pod("a")})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Observe(failing(), changes); err == nil {
		t.Fatal("no error of a store that is down")
	}
	for range 2 { // the second time as if the answer to the first had been lost
		if err := w.Observe(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(f.rows(schema.Object.Name)); got != 1 {
		t.Errorf("%d rows, want 1", got)
	}
	f.checkAll()
}

func TestRunWaitsForItsLastWindow(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	p := pod("a")
	p.Start = epoch
	f.observe(w, nil, p)
	f.minutes(p, epoch, 2, 1000, 60)
	p.End, p.ExitCode, p.EndReason = epoch.Add(2*time.Minute), 3, "Error"
	f.clock.Set(p.End.Add(time.Minute))
	f.observe(w, nil, p)
	if got := f.rows(schema.Run.Name); len(got) != 0 || w.Status().RunsWaiting != 1 {
		t.Fatalf("run before its last window settled: %v, status %+v", got, w.Status())
	}
	f.minutes(p, p.End, 1, 500, 59)
	f.observe(w, nil, p)
	rows := f.rows(schema.Run.Name)
	if len(rows) != 1 || w.Status().RunsWaiting != 0 {
		t.Fatalf("rows %v, status %+v", rows, w.Status())
	}
	quality, _ := rows[0].Field(schema.Quality)
	got := []any{rows[0].Int(schema.CPU), rows[0].Int(schema.Uptime), rows[0].Int("exit_code"), rows[0].Time, quality.Str(), rows[0].Tag(schema.Workload)}
	if diff := cmp.Diff([]any{int64(2500), int64(180_000), int64(3), p.End, schema.Measured, "web"}, got); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
	for _, name := range schema.Run.Integers() {
		if _, ok := rows[0].Field(name); !ok {
			t.Errorf("run has no field %s", name)
		}
	}
	f.checkAll()

	// A late row: the same key, other sums, a revision of the window.
	f.clock.Advance(time.Minute)
	w = f.writer()
	p.Workload = "corrected" // must not re-tag
	f.minutes(p, epoch, 1, 4000, 30)
	f.observe(w, nil, p)
	rows = f.rows(schema.Run.Name)
	if quality, _ = rows[0].Field(schema.Quality); len(rows) != 1 || rows[0].Int(schema.CPU) != 5500 || quality.Str() != schema.Estimated {
		t.Errorf("run after a late row: %v", rows)
	}
	f.checkAll()
	before, _ := w.runs.ledger.journal.Head()
	f.observe(f.writer(), nil, p)
	if after, _ := w.runs.ledger.journal.Head(); before != after {
		t.Error("a run that did not change was written again")
	}
}

func TestCorrectedEndMovesTheRun(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	p := pod("a")
	p.Start, p.End = epoch, epoch.Add(2*time.Minute)
	f.minutes(p, epoch, 3, 1000, 60)
	f.observe(w, nil, p)
	p.End = epoch.Add(time.Minute)
	f.clock.Advance(time.Hour)
	f.observe(w, nil, p)
	got := map[time.Duration]int64{}
	for _, row := range f.rows(schema.Run.Name) {
		got[row.Time.Sub(epoch)] = row.Int(schema.CPU)
	}
	if diff := cmp.Diff(map[time.Duration]int64{2 * time.Minute: 0, time.Minute: 2000}, got); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	f.checkAll()
	f.observe(f.writer(), nil, p)
	f.checkAll()
}

func TestPodThatWasNeverRead(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	p := pod("a")
	p.End = epoch
	if _, err := f.minute.Append(t.Context(), influxsync.Entry{Window: schema.WindowAt(epoch, schema.Minute)}); err != nil {
		t.Fatal(err)
	}
	f.observe(w, nil, p)
	rows := f.rows(schema.Run.Name)
	if len(rows) != 1 {
		t.Fatalf("rows %v", rows)
	}
	if quality, _ := rows[0].Field(schema.Quality); quality.Str() != schema.Estimated || rows[0].Int(schema.CPU) != 0 {
		t.Errorf("run %v", rows[0])
	}
}

func TestJobRunIsTheSumOfItsPods(t *testing.T) {
	f := newFixture(t)
	w := f.writer()
	end := epoch.Add(2 * time.Minute)
	encode := func(spec any) json.RawMessage {
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	member := func(name string, to *time.Time) watch.Change {
		return watch.Change{Kind: watch.KindPod, UID: "uid-" + name, Namespace: "shop", Name: name, ValidFrom: f.clock.Now(),
			Spec: encode(watch.PodSpec{Node: "n1", Created: epoch, Start: &epoch, End: to, WorkloadKind: "CronJob", Workload: "nightly",
				Owners: []watch.Owner{{Kind: watch.KindJob, Name: "nightly-1", UID: "job"}}})}
	}
	job := func(to *time.Time) watch.Change {
		return watch.Change{Kind: watch.KindJob, UID: "job", Namespace: "shop", Name: "nightly-1", ValidFrom: f.clock.Now(),
			Spec: encode(watch.JobSpec{Created: epoch, Owner: &watch.Owner{Kind: "CronJob", Name: "nightly"}, End: to, Succeeded: true})}
	}
	give := func(changes ...watch.Change) {
		t.Helper()
		if err := w.Observe(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	give(job(nil), member("a", &end), member("b", nil))
	for i, name := range []string{"a", "b"} {
		f.minutes(reading.PodInfo{UID: "uid-" + name, Namespace: "shop", Name: name, Node: "n1"}, epoch, 3, int64(1000*(i+1)), 60)
	}
	f.clock.Set(end.Add(time.Minute))
	give(job(&end))
	w = f.writer()
	if got := len(f.rows(schema.Run.Name)); got != 1 {
		t.Fatalf("%d runs, want that of the ended pod alone: the Job waits for its other pod", got)
	}
	give(member("b", &end))
	got := map[string]int64{}
	for _, row := range f.rows(schema.Run.Name) {
		got[row.Tag(schema.Kind)+" "+row.Tag("name")+" "+row.Tag(schema.Workload)] = row.Int(schema.CPU)
	}
	want := map[string]int64{"Pod a nightly": 3000, "Pod b nightly": 6000, "Job nightly-1 nightly": 9000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	f.checkAll()
}

// changesTo are the changes that bring the newest rows to the given lists.
func (w *Writer) changesTo(nodes []reading.NodeInfo, pods []reading.PodInfo) ([]watch.Change, error) {
	var changes []watch.Change
	now := w.clock.Now()
	consider := func(c watch.Change, spec any, begin, end time.Time) error {
		text, err := json.Marshal(spec)
		if err != nil {
			return fmt.Errorf("encode %s %s/%s: %w", c.Kind, c.Namespace, c.Name, err)
		}
		old, had := w.known[identity{c.Kind, c.Namespace, c.Name, c.UID}]
		c.Spec, c.ValidFrom, c.Reason = text, now, watch.ReasonChanged
		switch {
		case had && old.spec == string(text), !had && w.forgotten(end):
			return nil
		case !had:
			c.ValidFrom, c.Reason = begin, watch.ReasonAdded
		case !end.IsZero():
			c.ValidFrom, c.Reason = end, watch.ReasonEnded
		}
		if had && !c.ValidFrom.After(old.from) {
			c.ValidFrom = old.from.Add(1)
		}
		changes = append(changes, c)
		return nil
	}
	for _, n := range nodes {
		spec := watch.NodeSpec{BootID: n.BootID, CapacityMillicores: n.CapacityMillicores, AllocatableMilli: n.AllocatableMilli,
			AllocatableMemoryKiB: n.AllocatableMemoryKiB, Joined: n.Joined.UTC(), Left: pointer(n.Left)}
		if err := consider(watch.Change{Kind: watch.KindNode, UID: n.UID, Name: n.Name}, spec, n.Joined, n.Left); err != nil {
			return nil, err
		}
	}
	for _, p := range pods {
		spec := watch.PodSpec{Node: p.Node, WorkloadKind: p.WorkloadKind, Workload: p.Workload, OwnerKnown: p.OwnerKnown,
			Labels: p.Labels, Created: p.Created.UTC(), Start: pointer(p.Start), End: pointer(p.End), ExitCode: p.ExitCode, EndReason: p.EndReason}
		for _, c := range p.Containers {
			spec.Containers = append(spec.Containers, watch.ContainerSpec{Name: c.Name, RequestMillicores: c.RequestMillicores, LimitMillicores: c.LimitMillicores,
				RequestMemoryBytes: c.RequestMemoryBytes, LimitMemoryBytes: c.LimitMemoryBytes, Init: c.Init, Sidecar: c.Sidecar})
		}
		c := watch.Change{Kind: watch.KindPod, UID: p.UID, Name: p.Name, Namespace: p.Namespace}
		if err := consider(c, spec, p.Start, p.End); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

func pointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
