package influxsync_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/tinylib/msgp/msgp"
)

// liar answers queries of the table pod itself, with text that has the head of
// an answer before it.
type liar struct {
	next   http.RoundTripper
	answer []byte
}

func (l liar) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/query" && strings.Contains(r.URL.Query().Get("q"), `FROM "pod"`) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-msgpack"}},
			Body: io.NopCloser(bytes.NewReader(l.answer)), Request: r}, nil
	}
	return l.next.RoundTrip(r)
}

// answering is an answer of one series of pod a of the cluster edge.
func answering(columns []string, rows ...[]int64) []byte {
	b := msgp.AppendString(msgp.AppendMapHeader(nil, 1), "results")
	b = msgp.AppendString(msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 1), "series")
	b = msgp.AppendMapHeader(msgp.AppendArrayHeader(b, 1), 4)
	for _, text := range []string{"name", "pod", "tags"} {
		b = msgp.AppendString(b, text)
	}
	b = msgp.AppendMapHeader(b, 2)
	for _, text := range []string{schema.Cluster, "edge", schema.Pod, "a", "columns"} {
		b = msgp.AppendString(b, text)
	}
	if len(rows) == 0 { // the rest is the caller's
		return b
	}
	b = msgp.AppendArrayHeader(b, uint32(len(columns)))
	for _, name := range columns {
		b = msgp.AppendString(b, name)
	}
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "values"), uint32(len(rows)))
	for _, row := range rows {
		b = msgp.AppendArrayHeader(b, uint32(len(row)))
		for _, v := range row {
			b = msgp.AppendInt64(b, v)
		}
	}
	return b
}

// TestSourceThatLies: what a source gives beyond what its journal names is not
// written, whatever it is, and the mark stays.
func TestSourceThatLies(t *testing.T) {
	at := minute(0).From.UnixNano()
	row := func(v int64) influxsync.Point {
		return influxsync.NewPoint("pod", map[string]string{schema.Cluster: "edge", schema.Pod: "a"}, map[string]influxsync.Value{schema.CPU: influxsync.Int(v)}, minute(0).From)
	}
	names := []string{"time", schema.CPU}
	endless := msgp.AppendArrayHeader(answering(nil), 1<<31)
	for range 20_000 {
		endless = msgp.AppendString(endless, "some name")
	}
	for name, test := range map[string]struct {
		window schema.Window
		rows   []influxsync.Point // that its journal counts
		answer []byte
		says   string
	}{
		"a row of half a year ago":  {minute(0), []influxsync.Point{row(1)}, answering(names, []int64{at, 1}, []int64{minute(0).From.AddDate(0, -6, 0).UnixNano(), 99}), "not asked for"},
		"a row of the end of time":  {schema.WindowAt(time.Unix(-60, 0), schema.Minute), nil, answering(names, []int64{1<<63 - 1, 1}), "not asked for"},
		"another value":             {minute(0), []influxsync.Point{row(1)}, answering(names, []int64{at, 2}), "digest"},
		"a column twice":            {minute(0), []influxsync.Point{row(1)}, answering([]string{"time", schema.CPU, schema.CPU}, []int64{at, 1, 2}), "twice"},
		"a row without its columns": {minute(0), []influxsync.Point{row(1)}, answering(names, []int64{at}), "columns"},
		"columns without an end":    {minute(0), []influxsync.Point{row(1)}, endless, "2147483648 columns"},
		"a window that is none":     {schema.Window{From: minute(1).From, To: minute(0).From}, nil, answering(names, []int64{at, 1}), "which is none"},
	} {
		t.Run(name, func(t *testing.T) {
			store := influxtest.Open(t, t.TempDir())
			clean, lying := client(t, "http://store", store.Transport()), client(t, "http://store", liar{store.Transport(), test.answer})
			w, sink := newWriter(t, create(t, clean, "source"), podTable, "edge"), create(t, clean, "sink")
			w.rows[test.window] = make(map[string]influxsync.Point)
			for i, row := range test.rows {
				w.rows[test.window][fmt.Sprint(i)] = row
			}
			w.settle(test.window)
			request := influxsync.SyncRequest{Source: lying.Database("source"), Sink: sink, Table: podTable, Cluster: "edge"}
			result, err := influxsync.Sync(t.Context(), request)
			if err == nil || !strings.Contains(err.Error(), test.says) || result.Mark != request.Mark {
				t.Errorf("%+v, %v; want an error that says %q and the old mark", result, err, test.says)
			}
		})
	}
}

// TestSyncWhatNoLineHolds: InfluxDB takes from others what it has no way to
// write again. Such a row is set apart, and one of another cluster stops nothing.
func TestSyncWhatNoLineHolds(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		source, sink := create(t, x.Server, "source"), create(t, x.Server, "sink")
		w := newWriter(t, source, podTable, "edge")
		w.settleEach(0, 1, "a")
		own := influxsync.NewPoint("pod", map[string]string{schema.Cluster: "edge", schema.Pod: "b\tc"}, map[string]influxsync.Value{schema.CPU: influxsync.Int(7)}, minute(0).From)
		for _, line := range []string{`pod,cluster=other,pod=b x\y=1i %d`, "pod,cluster=edge,pod=b\tc " + schema.CPU + "=7i %d"} {
			if status, said := x.put(t, "source", fmt.Sprintf(line, minute(0).From.UnixNano())); status != http.StatusNoContent {
				t.Fatal(status, said)
			}
		}
		w.rows[minute(0)]["b"] = own
		w.settle(minute(0))
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || result.Rows != 1 || result.ForeignRows != 1 || len(result.Refused) != 1 {
			t.Fatalf("%+v, %v; want one row, one that is foreign and one set apart", result, err)
		}
		refused := result.Refused[0]
		if refused.Hash != own.Hash() || refused.Class != influxsync.Malformed || refused.Window != minute(0) || !strings.Contains(refused.Line, `"b\tc"`) {
			t.Errorf("set apart: %+v", refused)
		}
		again, err := sink.WriteLines(t.Context(), []string{refused.Line, "pod,cluster=edge,pod=z v=1i 1"})
		if err != nil || len(again) != 1 || again[0].Class != influxsync.Malformed || again[0].Line != refused.Line {
			t.Errorf("written again: %+v, %v; want the one refused, the other stored", again, err)
		}
	})
}

// TestSyncFillsASinkThatLostItsRows: the sink's volume is replaced by an empty
// one, or by an older copy. The mark is ahead of what it holds.
func TestSyncFillsASinkThatLostItsRows(t *testing.T) {
	s := embeddedServer(t)
	source, sink, empty, older := create(t, s, "source"), create(t, s, "sink"), create(t, s, "empty"), create(t, s, "older")
	w := newWriter(t, source, podTable, "edge")
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	sync := func(era bool) {
		t.Helper()
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || result.NewEra != era {
			t.Fatalf("%+v, %v; want era %v", result, err, era)
		}
		request.Mark = result.Mark
		if diff := equalTables(t, source, request.Sink, "pod"); diff != "" {
			t.Error(diff)
		}
	}
	w.settleEach(0, 3, "a")
	sync(false)
	for _, at := range []time.Time{time.Unix(0, 0), start} {
		if _, err := influxsync.SyncFull(t.Context(), sink, older, schema.WindowAt(at, 24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	w.settleEach(3, 6, "a")
	sync(false)
	before := request.Mark
	for _, lost := range []*influxsync.Database{empty, older} {
		request.Sink, request.Mark = lost, before
		sync(true)
		w.settleEach(6, 7, "a")
		sync(false)
	}
}

// TestCopyWindowsNotesItsReach: it may copy what is behind the mark; a source
// that goes back then is seen, as after a Sync.
func TestCopyWindowsNotesItsReach(t *testing.T) {
	s := embeddedServer(t)
	source, later, sink := create(t, s, "source"), create(t, s, "later"), create(t, s, "sink")
	w := newWriter(t, source, podTable, "edge")
	w.settleEach(0, 2, "a", "b")
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	result, err := influxsync.Sync(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	request.Mark = result.Mark
	for _, at := range []time.Time{time.Unix(0, 0), start} {
		if _, err := influxsync.SyncFull(t.Context(), source, later, schema.WindowAt(at, 24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	w.put(minute(0), "a", 99)
	w.settle(minute(0))
	if _, err := influxsync.CopyWindows(t.Context(), request, []schema.Window{minute(0)}); err != nil {
		t.Fatal(err)
	}
	request.Source = later
	if _, err := influxsync.CopyWindows(t.Context(), request, []schema.Window{minute(1)}); !errors.Is(err, influxsync.ErrMismatch) {
		t.Errorf("windows of a journal that went back: %v; want ErrMismatch", err)
	}
	if result, err = influxsync.Sync(t.Context(), request); err != nil || !result.NewEra {
		t.Errorf("%+v, %v; want an era", result, err)
	}
	if diff := equalTables(t, later, sink, "pod"); diff != "" {
		t.Error(diff)
	}
}

// TestSyncFullGoesOn: a table that does not agree does not hold up the others.
func TestSyncFullGoesOn(t *testing.T) {
	s := embeddedServer(t)
	source, sink := create(t, s, "source"), create(t, s, "sink")
	put := func(db *influxsync.Database, table, pod string, at time.Time) {
		t.Helper()
		row := influxsync.NewPoint(table, map[string]string{"pod": pod}, map[string]influxsync.Value{"n": influxsync.Int(1)}, at)
		if err := db.Write(t.Context(), []influxsync.Point{row}); err != nil {
			t.Fatal(err)
		}
	}
	put(source, "a", "x", start)
	put(source, "a", "x", start.Add(30*time.Hour))
	put(source, "b", "x", start)
	put(sink, "a", "own", start)
	put(sink, "a", "own, too", start)
	result, err := influxsync.SyncFull(t.Context(), source, sink, schema.Window{From: start, To: start.Add(48 * time.Hour)})
	if !errors.Is(err, influxsync.ErrMismatch) || len(held(t, sink, "a")) != 4 || len(held(t, sink, "b")) != 1 {
		t.Errorf("%+v, %v; want ErrMismatch and all rows there", result, err)
	}
}
