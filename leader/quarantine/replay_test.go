package quarantine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func minute(n int) schema.Window {
	return schema.WindowAt(start.Add(time.Duration(n)*time.Minute), schema.Minute)
}

// gate counts how often a cluster was kept from being pulled.
type gate struct{ held map[string]int }

func (g *gate) Alone(ctx context.Context, cluster string, do func(context.Context) error) error {
	g.held[cluster]++
	return do(ctx)
}

// link may change or fail writes.
type link struct {
	http.RoundTripper
	write func(*http.Request) (*http.Response, error) // nil lets everything through
}

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/write" && l.write != nil {
		return l.write(r)
	}
	return l.RoundTripper.RoundTrip(r)
}

type bench struct {
	*Replayer
	t     *testing.T
	books *registry.Registry
	link  *link
	db    *influxsync.Database
	gate  *gate
}

// newBench is a centre in which somebody else wrote floats into the table pod
// before the rows of clusters a and b came.
func newBench(t *testing.T) *bench {
	t.Helper()
	clk := clock.NewManual(start.Add(time.Hour))
	b := &bench{t: t, gate: &gate{held: make(map[string]int)}, link: &link{RoundTripper: influxtest.Open(t, t.TempDir()).Transport()}}
	server, err := influxsync.New(influxsync.Config{URL: "http://centre", Transport: b.link})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Create(t.Context(), schema.MinuteDB, schema.FactsDB); err != nil {
		t.Fatal(err)
	}
	if b.books, err = registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.books.Close() })
	if _, err := b.books.Apply(t.Context(), []fleet.Object{fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"})}, "test"); err != nil {
		t.Fatal(err)
	}
	b.db = server.Database(schema.MinuteDB)
	other := influxsync.NewPoint(schema.PodMinute.Name, map[string]string{"by": "somebody"}, map[string]influxsync.Value{schema.CPU: influxsync.Float(0.5)}, start)
	if err := b.db.Write(t.Context(), []influxsync.Point{other}); err != nil {
		t.Fatal(err)
	}
	b.Replayer = New(b.books, server, pull.New(b.books, server), b.gate)
	return b
}

func pod(cluster, name string, w schema.Window, cpu int64) influxsync.Point {
	return followertest.Row(schema.PodMinute, w.From, map[string]string{schema.Cluster: cluster, schema.Pod: name}, map[string]int64{schema.CPU: cpu})
}

// receive does what a sync does with a revision of a minute: it writes the rows,
// and keeps those that the store refuses.
func (b *bench) receive(cluster string, n int, revision int64, rows ...influxsync.Point) {
	b.t.Helper()
	w := influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: schema.PodMinute.Name, Window: minute(n), Revision: revision,
		Rows: int64(len(rows)), Coverage: 1000, Time: start.Add(time.Duration(revision) * time.Hour)}}
	var lines []string
	for _, row := range rows {
		w.Digest.Add(row)
		line, err := influxsync.LineOf(row)
		if err != nil {
			b.t.Fatal(err)
		}
		lines = append(lines, line)
	}
	refusals, err := b.db.WriteLines(b.t.Context(), lines)
	if err != nil {
		b.t.Fatal(err)
	}
	receipt := registry.Receipt{Mark: influxsync.Mark{Store: "s", Time: w.Time, Hash: "h"}}
	for _, r := range refusals {
		w.Refused++
		receipt.Refused = append(receipt.Refused, influxsync.Refused{Window: w.Window, Line: r.Line, Hash: rows[r.Index].Hash(), Class: r.Class, Reason: r.Reason})
	}
	receipt.Windows = []influxsync.Confirmed{w}
	if err := b.books.Received(b.t.Context(), cluster, schema.PodMinute.Name, receipt, nil); err != nil {
		b.t.Fatal(err)
	}
}

// mend removes the table: a field keeps its type in a shard as long as the shard
// holds a series of the table, and the refused rows have left theirs, empty.
func (b *bench) mend() {
	b.t.Helper()
	if err := b.db.Clear(b.t.Context(), schema.PodMinute.Name, nil); err != nil {
		b.t.Fatal(err)
	}
}

// cpu is what the centre holds of the pods of a cluster, by pod and minute.
func (b *bench) cpu(cluster string) map[string]int64 {
	b.t.Helper()
	got := make(map[string]int64)
	err := b.db.TimeQuery(b.t.Context(), schema.PodMinute.Name, schema.Window{}, []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}, func(p influxsync.Point) error {
		got[fmt.Sprint(p.Tag(schema.Pod), " ", int(p.Time.Sub(start)/time.Minute))] = p.Int(schema.CPU)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

func (b *bench) replay(filter registry.QuarantineFilter) Outcome {
	b.t.Helper()
	outcome, err := b.Replay(b.t.Context(), filter)
	if err != nil {
		b.t.Fatal(err)
	}
	return outcome
}

// left is how many rows are kept, and how many the ledger says were refused.
func (b *bench) left(cluster string) (kept, ledger int64) {
	b.t.Helper()
	counts, err := b.books.QuarantineCounts(b.t.Context(), registry.QuarantineFilter{Cluster: cluster})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range counts {
		kept += c.Rows
	}
	entries, err := b.books.Ledger(b.t.Context(), cluster, schema.PodMinute.Name, schema.Window{From: start, To: start.Add(time.Hour)})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		ledger += e.Refused
	}
	return kept, ledger
}

// TestReplayAfterARealConflict: what the store refused for its type is there
// after the conflict was removed, and its quarter is computed again.
func TestReplayAfterARealConflict(t *testing.T) {
	b := newBench(t)
	b.receive("a", 0, 1, pod("a", "p", minute(0), 5), pod("a", "q", minute(0), 6))
	b.receive("a", 20, 1, pod("a", "p", minute(20), 7))
	b.receive("b", 0, 1, pod("b", "p", minute(0), 8))
	if kept, ledger := b.left("a"); kept != 3 || ledger != 3 || len(b.cpu("a")) != 0 {
		t.Fatalf("%d rows kept, %d in the ledger, %v in the centre; want all three refused", kept, ledger, b.cpu("a"))
	}
	again := b.replay(registry.QuarantineFilter{Cluster: "a"})
	if diff := cmp.Diff(Outcome{Refused: map[influxsync.Class]int64{influxsync.TypeConflict: 3}}, again); diff != "" {
		t.Errorf("while the conflict stands (-want +got):\n%s", diff)
	}
	if kept, ledger := b.left("a"); kept != 3 || ledger != 3 {
		t.Errorf("%d rows kept, %d in the ledger after a replay that was refused", kept, ledger)
	}
	b.mend()
	if outcome := b.replay(registry.QuarantineFilter{Cluster: "a"}); outcome.Accepted != 3 || len(outcome.Refused) != 0 {
		t.Errorf("replayed %+v, want three", outcome)
	}
	if diff := cmp.Diff(map[string]int64{"p 0": 5, "q 0": 6, "p 20": 7}, b.cpu("a")); diff != "" {
		t.Errorf("centre (-want +got):\n%s", diff)
	}
	if kept, ledger := b.left("a"); kept != 0 || ledger != 0 {
		t.Errorf("%d rows kept, %d in the ledger after the replay", kept, ledger)
	}
	due, err := b.books.Due(t.Context(), registry.ProcessorUsage, 0)
	if err != nil || len(due) != 2 || due[0].Scope != "a" || !due[1].Quarter.Equal(start.Add(15*time.Minute)) {
		t.Errorf("due %+v, %v; want two quarters of a", due, err)
	}
	if kept, _ := b.left("b"); kept != 1 || b.gate.held["b"] != 0 || b.gate.held["a"] == 0 {
		t.Errorf("of another cluster %d rows are left, held %v", kept, b.gate.held)
	}
}

// TestReplayBringsNoOldValueBack: a newer revision's value stays.
func TestReplayBringsNoOldValueBack(t *testing.T) {
	b := newBench(t)
	b.receive("a", 0, 1, pod("a", "p", minute(0), 5))
	old, err := b.books.Quarantined(t.Context(), registry.QuarantineFilter{}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	b.mend()
	b.receive("a", 0, 2, pod("a", "p", minute(0), 50))
	if outcome := b.replay(registry.QuarantineFilter{All: true}); outcome.Accepted != 0 {
		t.Errorf("replayed %+v", outcome)
	}
	if got := b.cpu("a"); got["p 0"] != 50 {
		t.Errorf("centre %v, want the newer value", got)
	}
	// Control: the old line, had it been kept, would have overwritten it.
	if _, err := b.db.WriteLines(t.Context(), []string{old[0].Line}); err != nil {
		t.Fatal(err)
	}
	if got := b.cpu("a"); got["p 0"] != 5 {
		t.Errorf("control: centre %v, want the old value back", got)
	}
}

// TestReplayGivesUpNothing: whatever the store does meanwhile, a row is in the
// quarantine until the store has returned it.
func TestReplayGivesUpNothing(t *testing.T) {
	b := newBench(t)
	b.receive("a", 0, 1, pod("a", "p", minute(0), 5), pod("a", "q", minute(0), 6))
	b.mend()
	answer := func(status int, text string) func(*http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{"X-Influxdb-Error": {text}}, Body: http.NoBody, Request: r}, nil
		}
	}
	for name, c := range map[string]struct {
		write func(*http.Request) (*http.Response, error)
		want  func(error) bool
	}{
		"disk full":          {answer(500, "engine: no space left on device"), func(err error) bool { return influxsync.ClassOf(err) == influxsync.DiskFull }},
		"busy":               {answer(429, "slow down"), func(err error) bool { return influxsync.ClassOf(err) == influxsync.Busy }},
		"gone":               {func(*http.Request) (*http.Response, error) { return nil, errors.New("cut off") }, func(err error) bool { return influxsync.ClassOf(err) == influxsync.NoAnswer }},
		"refuses everything": {answer(400, "no"), func(err error) bool { return influxsync.ClassOf(err) == influxsync.Rejected }},
		"lies":               {answer(204, ""), func(err error) bool { return errors.Is(err, influxsync.ErrMismatch) }},
	} {
		b.link.write = c.write
		outcome, err := b.Replay(t.Context(), registry.QuarantineFilter{All: true})
		if !c.want(err) || outcome.Accepted != 0 || len(outcome.Refused) != 0 {
			t.Errorf("%s: %+v, %v", name, outcome, err)
		}
		if kept, ledger := b.left("a"); kept != 2 || ledger != 2 {
			t.Errorf("%s: %d rows kept, %d in the ledger", name, kept, ledger)
		}
	}
	b.link.write = nil
	if outcome := b.replay(registry.QuarantineFilter{All: true}); outcome.Accepted != 2 {
		t.Errorf("when the store works again: %+v", outcome)
	}
}

func TestReplayOfWhatCannotBe(t *testing.T) {
	b := newBench(t)
	b.receive("a", 0, 1, pod("a", "p", minute(0), 5), pod("a", "q", minute(0), 6))
	if err := b.books.Quarantine(t.Context(), "a", "pod", []influxsync.Point{pod("z", "p", minute(0), 1)}, "another cluster"); err != nil {
		t.Fatal(err)
	}
	rows, err := b.books.Quarantined(t.Context(), registry.QuarantineFilter{}, 0, 10) // newest first
	if err != nil || len(rows) != 3 {
		t.Fatal(rows, err)
	}
	if _, err := b.books.Discard(t.Context(), registry.QuarantineFilter{IDs: []int64{rows[1].ID}}, "test", "t"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		filter registry.QuarantineFilter
		want   error
		text   string
	}{
		{registry.QuarantineFilter{}, registry.ErrNoFilter, "say which"},
		{registry.QuarantineFilter{Kind: registry.Foreign}, ErrForeign, "discard"},
		{registry.QuarantineFilter{IDs: []int64{rows[0].ID}}, ErrForeign, "follower's configuration"},
		{registry.QuarantineFilter{IDs: []int64{rows[1].ID}}, ErrGone, "was discarded"},
		{registry.QuarantineFilter{IDs: []int64{rows[2].ID, 99, 98}}, ErrGone, "no rows [98 99]"},
		{registry.QuarantineFilter{Cluster: "a", IDs: []int64{}}, registry.ErrNoIDs, "empty"},
		{registry.QuarantineFilter{Cluster: "b", IDs: []int64{rows[2].ID}}, ErrGone, "rest of the filter"},
	} {
		if _, err := b.Replay(t.Context(), c.filter); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v, want %v with %q", c.filter, err, c.want, c.text)
		}
	}
	b.mend()
	if outcome := b.replay(registry.QuarantineFilter{IDs: []int64{rows[2].ID}}); outcome.Accepted != 1 {
		t.Errorf("one row by its id: %+v", outcome)
	}
	if got := b.cpu("a"); len(got) != 1 {
		t.Errorf("centre %v, want the one that was named", got)
	}
}

// TestReplayInBatches: more rows than are written at once, in two tables.
func TestReplayInBatches(t *testing.T) {
	b := newBench(t)
	var rows []influxsync.Point
	for i := range 2*atOnce + 10 {
		rows = append(rows, pod("a", fmt.Sprint("p", i), minute(0), int64(i)))
	}
	b.receive("a", 0, 1, rows...)
	if kept, _ := b.left("a"); kept != int64(len(rows)) {
		t.Fatalf("%d rows kept", kept)
	}
	b.mend()
	if outcome := b.replay(registry.QuarantineFilter{Class: influxsync.TypeConflict}); outcome.Accepted != int64(len(rows)) || len(b.cpu("a")) != len(rows) {
		t.Errorf("replayed %+v, %d in the centre", outcome, len(b.cpu("a")))
	}
}
