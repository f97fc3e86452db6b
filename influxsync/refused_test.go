package influxsync_test

import (
	"context"
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
	"github.com/google/go-cmp/cmp"
)

// occupy writes a row that makes cpu a float in the sink's shard, so that rows
// with an integer are refused there.
func occupy(t testing.TB, sink *influxsync.Database, table string) {
	t.Helper()
	row := influxsync.NewPoint(table, map[string]string{schema.Cluster: "other"},
		map[string]influxsync.Value{schema.CPU: influxsync.Float(0.5)}, minute(0).From)
	if err := sink.Write(t.Context(), []influxsync.Point{row}); err != nil {
		t.Fatal(err)
	}
}

// TestSyncSetsRefusedRowsApart: rows that the sink does not take are told of
// with their reason, the others are there, and the mark goes on.
func TestSyncSetsRefusedRowsApart(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		source, sink := create(t, x.Server, "refused source"), create(t, x.Server, "refused sink")
		occupy(t, sink, "pod")
		w := newWriter(t, source, podTable, "edge")
		memory := func(window schema.Window, pod string) { // a row without the field that is refused
			row := influxsync.NewPoint("pod", map[string]string{schema.Cluster: "edge", schema.Pod: pod},
				map[string]influxsync.Value{schema.Memory: influxsync.Int(7)}, window.From)
			if err := source.Write(t.Context(), []influxsync.Point{row}); err != nil {
				t.Fatal(err)
			}
			if w.rows[window] == nil {
				w.rows[window] = make(map[string]influxsync.Point)
			}
			w.rows[window][pod] = row
		}
		for i := range 3 {
			for pod := range 5 {
				memory(minute(i), fmt.Sprint("fine-", pod))
			}
		}
		w.put(minute(1), "bad", 1)
		w.put(minute(2), "bad, too", 2)
		w.settle(minute(0), minute(1), minute(2))
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge", CountBy: schema.Pod}
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || result.Rows != 15 || len(result.Refused) != 2 || result.Mark.Hash == "" {
			t.Fatalf("%+v, %v; want 15 rows, 2 refused", result, err)
		}
		for i, want := range []string{"bad", "bad, too"} {
			got := result.Refused[i]
			row := w.rows[minute(i+1)][want]
			if got.Window != minute(i+1) || got.Class != influxsync.TypeConflict || got.Hash != row.Hash() || !strings.Contains(got.Reason, "float") {
				t.Errorf("refused %+v, want %q", got, want)
			}
			if parsed, err := influxsync.ParseLine(got.Line); err != nil || parsed.Hash() != row.Hash() {
				t.Errorf("kept line %q: %v", got.Line, err)
			}
		}
		var refused []int64
		for _, confirmed := range result.Windows {
			refused = append(refused, confirmed.Refused)
		}
		if diff := cmp.Diff([]int64{0, 1, 1}, refused); diff != "" || len(result.Windows[1].Values) != 6 {
			t.Errorf("refused by window: %s; pods %q", diff, result.Windows[1].Values)
		}
		// Mended: the same windows are copied again, and nothing is refused.
		x.ask(t, sink.Name(), "DROP MEASUREMENT pod")
		request.Mark = result.Mark
		again, err := influxsync.CopyWindows(t.Context(), request, []schema.Window{minute(0), minute(1), minute(2)})
		if err != nil || again.Mark != result.Mark || len(again.Windows) != 3 || len(again.Refused) != 0 || again.Rows != 17 {
			t.Errorf("copied again: %+v, %v", again, err)
		}
		if diff := equalTables(t, source, sink, "pod"); diff != "" {
			t.Error(diff)
		}
	})
}

// TestSyncRefusedRevision: an older version of the row stays in the sink. It is
// no row too many.
func TestSyncRefusedRevision(t *testing.T) { servers(t, testSyncRefusedRevision) }

func testSyncRefusedRevision(t *testing.T, s *influxsync.Server) {
	source, sink := create(t, s, "source"), create(t, s, "sink")
	w := newWriter(t, source, podTable, "edge")
	w.put(minute(0), "a", 1)
	w.put(minute(0), "b", 1)
	w.settle(minute(0))
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	result, err := influxsync.Sync(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	request.Mark = result.Mark
	occupied := influxsync.NewPoint("pod", map[string]string{schema.Cluster: "other"}, map[string]influxsync.Value{"new": influxsync.Str("x")}, minute(0).From)
	if err := sink.Write(t.Context(), []influxsync.Point{occupied}); err != nil {
		t.Fatal(err)
	}
	revised := w.rows[minute(0)]["a"]
	revised.Fields = append(revised.Fields, influxsync.FieldValue{Name: "new", Value: influxsync.Int(1)})
	w.rows[minute(0)]["a"] = revised
	if err := source.Write(t.Context(), []influxsync.Point{revised}); err != nil {
		t.Fatal(err)
	}
	w.settle(minute(0))
	result, err = influxsync.Sync(t.Context(), request)
	if err != nil || len(result.Refused) != 1 || result.Extra != 0 || result.Windows[0].Revision != 2 {
		t.Errorf("%+v, %v; want one refused row and nothing extra", result, err)
	}
}

// TestSyncManyRefused: the refused rows of one call are bounded; it goes on with
// fewer windows instead.
func TestSyncManyRefused(t *testing.T) {
	s := embeddedServer(t)
	source, sink := create(t, s, "source"), create(t, s, "sink")
	occupy(t, sink, "pod")
	w := newWriter(t, source, podTable, "edge")
	const pods = 11_000
	for i := range 2 {
		rows := make([]influxsync.Point, pods)
		w.rows[minute(i)] = make(map[string]influxsync.Point)
		for pod := range rows {
			name := fmt.Sprint("pod-", pod)
			rows[pod] = influxsync.NewPoint("pod", map[string]string{schema.Cluster: "edge", schema.Pod: name},
				map[string]influxsync.Value{schema.CPU: influxsync.Int(1)}, minute(i).From)
			w.rows[minute(i)][name] = rows[pod]
		}
		if err := source.Write(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		w.settle(minute(i))
	}
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge", Limit: 2}
	for call := range 2 {
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || len(result.Windows) != 1 || len(result.Refused) != pods || result.More != (call == 0) {
			t.Fatalf("call %d: %d windows, %d refused, more %v, %v", call, len(result.Windows), len(result.Refused), result.More, err)
		}
		request.Mark = result.Mark
	}
}

// scripted answers writes with what it has, one after the other, and then
// passes them on.
type scripted struct {
	next    http.RoundTripper
	answers []*http.Response // nil: no answer
	writes  int
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/write" {
		return s.next.RoundTrip(r)
	}
	s.writes++
	if s.writes > len(s.answers) {
		return s.next.RoundTrip(r)
	}
	answer := s.answers[s.writes-1]
	if answer == nil {
		return nil, io.ErrUnexpectedEOF
	}
	answer.Request = r
	return answer, nil
}

func says(status int, message string, header ...string) *http.Response {
	response := &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(fmt.Sprintf(`{"error":%q}`, message)))}
	for i := 0; i+1 < len(header); i += 2 {
		response.Header.Set(header[i], header[i+1])
	}
	return response
}

// TestSyncAttempts: what may pass is tried again with growing pauses, not
// without end; what does not pass is not tried again.
func TestSyncAttempts(t *testing.T) {
	store := influxtest.Open(t, t.TempDir())
	for name, test := range map[string]struct {
		answers []*http.Response
		writes  int              // with that of how far the copy is to reach
		class   influxsync.Class // of the error; "" is none
		pauses  []time.Duration  // least ones
	}{
		"busy, then failing": {[]*http.Response{says(503, "busy"), says(500, "engine: x"), nil}, 5, "", []time.Duration{125e6, 250e6, 500e6}},
		"asked to wait":      {[]*http.Response{says(429, "slow down", "Retry-After", "3")}, 3, "", []time.Duration{3e9}},
		"asked for an hour":  {[]*http.Response{says(503, "later", "Retry-After", "3600")}, 3, "", []time.Duration{5e9}},
		"cache is full":      {[]*http.Response{says(500, "engine: cache-max-memory-size exceeded: (1/1)")}, 3, "", []time.Duration{125e6}},
		"no end": {[]*http.Response{says(500, "x"), says(500, "x"), says(500, "x"), says(500, "x"), says(500, "x")}, 5, influxsync.Failing,
			[]time.Duration{125e6, 250e6, 500e6, 1e9}},
		"full disk":      {[]*http.Response{says(500, "write /wal/1: no space left on device")}, 1, influxsync.DiskFull, nil},
		"no database":    {[]*http.Response{says(404, `database not found: "sink"`)}, 1, influxsync.NoDatabase, nil},
		"no policy":      {[]*http.Response{says(500, "retention policy not found: x")}, 1, influxsync.NoPolicy, nil},
		"denied":         {[]*http.Response{says(401, "unable to parse authentication credentials")}, 1, influxsync.Denied, nil},
		"fenced":         {[]*http.Response{says(409, "fence 1 is lower than 2")}, 1, influxsync.Fenced, nil},
		"something else": {[]*http.Response{says(418, "teapot")}, 1, influxsync.Rejected, nil},
	} {
		t.Run(name, func(t *testing.T) {
			script := &scripted{next: store.Transport(), answers: test.answers}
			link, err := influxsync.New(influxsync.Config{URL: "http://sink", Transport: script})
			if err != nil {
				t.Fatal(err)
			}
			clean, err := store.Client()
			if err != nil {
				t.Fatal(err)
			}
			source, _ := create(t, clean, name), create(t, clean, name+" sink")
			w := newWriter(t, source, podTable, "edge")
			w.settleEach(0, 3, "a")
			var pauses []time.Duration
			request := influxsync.SyncRequest{Source: source, Sink: link.Database(name + " sink"), Table: podTable, Cluster: "edge",
				Pause: func(_ context.Context, d time.Duration) error { pauses = append(pauses, d); return nil }}
			_, err = influxsync.Sync(t.Context(), request)
			if got := influxsync.ClassOf(err); got != test.class || (err == nil) != (test.class == "") || script.writes != test.writes {
				t.Errorf("%d writes, class %q, %v; want %d, %q", script.writes, got, err, test.writes, test.class)
			}
			for i, least := range test.pauses {
				if i >= len(pauses) || pauses[i] < least || pauses[i] > 2*least+time.Second {
					t.Errorf("pauses %v, want at least %v", pauses, test.pauses)
					break
				}
			}
			if len(pauses) != len(test.pauses) {
				t.Errorf("%d pauses, want %d", len(pauses), len(test.pauses))
			}
			if _, err := influxsync.Sync(t.Context(), request); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if diff := equalTables(t, source, clean.Database(name+" sink"), "pod"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSyncEndsWithItsContext: a pause does not outlive the context.
func TestSyncEndsWithItsContext(t *testing.T) {
	store := influxtest.Open(t, t.TempDir())
	clean, err := store.Client()
	if err != nil {
		t.Fatal(err)
	}
	source, _ := create(t, clean, "source"), create(t, clean, "sink")
	newWriter(t, source, podTable, "edge").settleEach(0, 1, "a")
	link, err := influxsync.New(influxsync.Config{URL: "http://sink", Transport: &scripted{next: store.Transport(), answers: []*http.Response{says(503, "busy", "Retry-After", "5")}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	request := influxsync.SyncRequest{Source: source, Sink: link.Database("sink"), Table: podTable, Cluster: "edge",
		Pause: func(ctx context.Context, _ time.Duration) error { cancel(); <-ctx.Done(); return ctx.Err() }}
	if _, err := influxsync.Sync(ctx, request); err == nil || errors.Is(err, influxsync.ErrMismatch) {
		t.Errorf("%v", err)
	}
}

// TestSyncParallel: the order of the parts makes no difference.
func TestSyncParallel(t *testing.T) { servers(t, testSyncParallel) }

func testSyncParallel(t *testing.T, s *influxsync.Server) {
	source := create(t, s, "source")
	w := newWriter(t, source, podTable, "edge")
	for i := range 13 {
		for _, pod := range []string{"a", "b", "c"} {
			w.put(minute(i*60), pod, int64(i))
			w.put(minute(i*60+1), pod, int64(i))
		}
		w.settle(minute(i*60), minute(i*60+1))
	}
	var want influxsync.SyncResult
	for _, parallel := range []int{1, 4, 16} {
		sink := create(t, s, fmt.Sprint("sink", parallel))
		got, err := influxsync.Sync(t.Context(), influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge",
			Parallel: parallel, CountBy: schema.Pod})
		if err != nil || got.Rows != 78 {
			t.Fatalf("%d: %+v, %v", parallel, got, err)
		}
		if parallel == 1 {
			want = got
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(influxsync.Value{})); diff != "" {
			t.Errorf("%d parts at once: %s", parallel, diff)
		}
		if diff := equalTables(t, source, sink, "pod"); diff != "" {
			t.Errorf("%d parts at once: %s", parallel, diff)
		}
	}
}

// TestSyncFullCopiesWhatDiffers: an hour that is the same on both ends is left
// alone; one that changed is copied, also where the number of rows is the same.
func TestSyncFullCopiesWhatDiffers(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		source, sink := create(t, s, "full source"), create(t, s, "full sink")
		put := func(at time.Time, pod string, fields map[string]influxsync.Value) {
			t.Helper()
			row := influxsync.NewPoint("usage", map[string]string{schema.Pod: pod}, fields, at)
			if err := source.Write(t.Context(), []influxsync.Point{row}); err != nil {
				t.Fatal(err)
			}
		}
		for hour := range 30 {
			put(start.Add(time.Duration(hour)*time.Hour), "a", map[string]influxsync.Value{
				"n": influxsync.Int(1 << 62), "g": influxsync.Float(0.5), "s": influxsync.Str("x"), "b": influxsync.Bool(true)})
		}
		days := schema.Window{From: start.Add(-24 * time.Hour), To: start.Add(48 * time.Hour)}
		steps := []struct {
			change func()
			copied int
		}{
			{func() {}, 30}, {func() {}, 0},
			{func() { put(start.Add(3*time.Hour), "a", map[string]influxsync.Value{"n": influxsync.Int(7)}) }, 1},
			{func() { put(start.Add(29*time.Hour), "a", map[string]influxsync.Value{"g": influxsync.Float(-1)}) }, 1},
			{func() { put(start.Add(31*time.Hour), "é, b", map[string]influxsync.Value{"s": influxsync.Str("")}) }, 1},
			{func() {}, 0},
		}
		for i, step := range steps {
			step.change()
			result, err := influxsync.SyncFull(t.Context(), source, sink, days)
			if err != nil || result.Copied != step.copied || result.Windows != 72 {
				t.Errorf("step %d: %+v, %v; want %d hours copied", i, result, err, step.copied)
			}
			if diff := equalTables(t, source, sink, "usage"); diff != "" {
				t.Errorf("step %d: %s", i, diff)
			}
		}
	})
}
