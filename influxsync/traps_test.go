package influxsync_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// The tests named TestTrap… are what a copy of an InfluxDB 1.x database loses
// in silence. Each says what the naive way is, shows with plain HTTP that this
// server has the trap (the control), and that this package is not caught. Here
// are the traps of reading; those of writing are in traps_write_test.go.

type (
	tagSet   = map[string]string
	fieldSet = map[string]influxsync.Value
)

var day = schema.WindowAt(start, 24*time.Hour)

// jsonResult is a JSON answer as a naive reader decodes it.
type jsonResult struct {
	Results []struct {
		Error  string
		Series []struct {
			Name    string
			Tags    map[string]string
			Columns []string
			Values  [][]any
			Partial bool
		}
		Partial bool
	}
}

// rows are those of all series.
func (result jsonResult) rows() (rows [][]any) {
	for _, r := range result.Results {
		for _, s := range r.Series {
			rows = append(rows, s.Values...)
		}
	}
	return rows
}

// askJSON is ask, decoded, with the rows of all series.
func (x target) askJSON(t testing.TB, db, q string, pairs ...string) (result jsonResult, rows [][]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(x.ask(t, db, q, pairs...)), &result); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return result, result.rows()
}

// write stores rows through this package.
func write(t testing.TB, db *influxsync.Database, rows ...influxsync.Point) {
	t.Helper()
	if err := db.Write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
}

// read returns the rows of the table in the window, through this package.
func read(t testing.TB, db *influxsync.Database, table string, w schema.Window) []influxsync.Point {
	t.Helper()
	var rows []influxsync.Point
	if err := db.TimeQuery(t.Context(), table, w, nil, collect(&rows)); err != nil {
		t.Fatal(err)
	}
	return rows
}

// bulk writes 20 series of rows with a long text, 12 MB, more than a kernel or a
// pipe buffers of an answer, and returns their number.
func bulk(t testing.TB, db *influxsync.Database) int {
	t.Helper()
	text := strings.Repeat("0123456789", 60)
	var rows []influxsync.Point
	for i := range 20_000 {
		rows = append(rows, influxsync.NewPoint("bulk", tagSet{"k": fmt.Sprint(i % 20)},
			fieldSet{"text": influxsync.Str(text), "n": influxsync.Int(int64(i))}, start.Add(time.Duration(i)*time.Millisecond)))
	}
	write(t, db, rows...)
	return len(rows)
}

// running is the id of a query of the table bulk that runs, or "".
func (x target) running(ctx context.Context) (id string, err error) {
	got, err := x.request(ctx, http.MethodPost, "/query", "", nil, "q", "SHOW QUERIES")
	if err != nil {
		return "", err
	}
	var result jsonResult
	if err := json.Unmarshal([]byte(got.body), &result); err != nil {
		return "", err
	}
	for _, row := range result.rows() { // qid, query, database, duration, status
		if strings.Contains(row[1].(string), "bulk") && row[4] == "running" {
			return fmt.Sprint(row[0]), nil
		}
	}
	return "", nil
}

var errEnded = errors.New("the query does not run any more: its answer is too short for this test")

// kill kills the query of the table bulk that runs.
func (x target) kill(ctx context.Context) error {
	id, err := x.running(ctx)
	if err == nil && id == "" {
		err = errEnded
	}
	if err != nil {
		return err
	}
	got, err := x.request(ctx, http.MethodPost, "/query", "", nil, "q", "KILL QUERY "+id)
	if err == nil && strings.Contains(got.body, "error") {
		err = errors.New(got.body)
	}
	return err
}

// expire waits for the server to kill the query of the table bulk itself.
func (x target) expire(ctx context.Context) error {
	id, err := x.running(ctx)
	if err == nil && id == "" {
		return errEnded
	}
	for err == nil && id != "" {
		if err = clock.System().Sleep(ctx, 20*time.Millisecond); err == nil {
			id, err = x.running(ctx)
		}
	}
	return err
}

// csvLines reads the table bulk as a naive copy by CSV does, and calls first at
// its first line.
func (x target) csvLines(t testing.TB, db string, first func(context.Context) error) (lines int) {
	t.Helper()
	q := url.Values{"db": {db}, "q": {"SELECT * FROM bulk"}, "chunked": {"true"}, "chunk_size": {"1000"}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.url+"/query?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/csv")
	response, err := x.transport.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%+v, %v", response, err)
	}
	defer func() { _ = response.Body.Close() }()
	text := bufio.NewScanner(response.Body)
	for text.Scan() {
		if !strings.HasPrefix(text.Text(), "bulk,") {
			continue
		}
		if lines++; lines == 1 {
			if err := first(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := text.Err(); err != nil {
		t.Fatalf("an answer in CSV ended with %v: no trap", err)
	}
	return lines
}

// untilFirst reads the table bulk through this package, calls first at its
// first row, and returns the number of rows and the error of the reading.
func untilFirst(t testing.TB, db *influxsync.Database, first func(context.Context) error) (rows int, err error) {
	t.Helper()
	err = db.TimeQuery(t.Context(), "bulk", schema.Window{}, nil, func(influxsync.Point) error {
		if rows++; rows == 1 {
			if err := first(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	})
	return rows, err
}

// TestTrapKilledQuery: the answer of a query that is killed has status 200; in
// CSV it ends as if it were whole, and the rows that follow are lost.
func TestTrapKilledQuery(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db, _ := create(t, x.Server, "minute"), create(t, x.Server, "sink")
		all := bulk(t, db)
		if got := x.csvLines(t, "minute", x.kill); got == 0 || got >= all {
			t.Errorf("control: CSV has %d of %d rows, want a part", got, all)
		}
		if n, err := untilFirst(t, db, x.kill); err == nil || n == all {
			t.Errorf("%d of %d rows, %v; want an error", n, all, err)
		}
		killing := client(t, x.url, &before{next: x.transport, path: "/write", do: x.kill})
		_, err := influxsync.SyncFull(t.Context(), db, killing.Database("sink"), day)
		if err == nil || errors.Is(err, errEnded) {
			t.Errorf("a copy whose query was killed: %v; want the server's error", err)
		}
	})
}

// before does something once, before the first request to the path.
type before struct {
	next http.RoundTripper
	path string
	once sync.Once
	do   func(context.Context) error
}

func (b *before) RoundTrip(r *http.Request) (response *http.Response, err error) {
	if r.URL.Path == b.path {
		b.once.Do(func() { err = b.do(r.Context()) })
	}
	if err != nil {
		return nil, err
	}
	return b.next.RoundTrip(r)
}

// TestTrapQueryTimeout: the same by the server's own query-timeout, which the
// embedded engine does not have.
func TestTrapQueryTimeout(t *testing.T) {
	processes(t, influxtest.Options{"coordinator.query-timeout": `"300ms"`}, func(t *testing.T, x target, _ *influxtest.Process) {
		db := create(t, x.Server, "minute")
		all := bulk(t, db)
		if got := x.csvLines(t, "minute", x.expire); got == 0 || got >= all {
			t.Errorf("control: CSV has %d of %d rows, want a part", got, all)
		}
		if n, err := untilFirst(t, db, x.expire); err == nil || n == all || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("%d of %d rows, %v; want an error that says timeout", n, all, err)
		}
	})
}

// TestTrapKilledServer: a server that dies in mid-answer is an error, and what
// it had acknowledged before, with no write under way, is there when it is
// back. (A log with a torn end loses writes after that: docs/operations.md.)
func TestTrapKilledServer(t *testing.T) {
	processes(t, nil, func(t *testing.T, x target, p *influxtest.Process) {
		db := create(t, x.Server, "minute")
		all := bulk(t, db)
		die := func(context.Context) error { p.Kill(); return nil }
		if n, err := untilFirst(t, db, die); err == nil || n == all {
			t.Errorf("%d of %d rows, %v; want an error", n, all, err)
		}
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(read(t, db, "bulk", schema.Window{})); got != all {
			t.Errorf("%d rows after a restart, want %d", got, all)
		}
	})
}

// TestTrapTornLog: a server that is killed while it writes leaves half an entry at
// the end of a log. What is acknowledged after the next start stands behind it,
// and is lost at the one after; a second start before any write mends the log.
// (The embedded engine does so when it opens.) Sync has confirmed windows that
// are lost like that; CopyWindows copies them again.
func TestTrapTornLog(t *testing.T) {
	for starts, want := range map[int]int{1: 1, 2: 2} {
		t.Run(fmt.Sprint(starts, " starts"), func(t *testing.T) {
			processes(t, nil, func(t *testing.T, x target, p *influxtest.Process) { testTornLog(t, x, p, starts, want) })
		})
	}
}

// testTornLog starts the server so often after its end, and wants so many of
// two rows in it.
func testTornLog(t *testing.T, x target, p *influxtest.Process, starts, want int) {
	source, sink := create(t, embeddedServer(t), "minute"), create(t, x.Server, "minute")
	w := newWriter(t, source, podTable, "edge")
	request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
	settleAndPull := func(i int) {
		t.Helper()
		w.settleEach(i, i+1, "a")
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		request.Mark = result.Mark
	}
	restart := func() {
		t.Helper()
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	settleAndPull(0)
	p.Kill()
	tearLogs(t, filepath.Join(p.Dir(), "wal", "minute"))
	for range starts {
		restart()
	}
	settleAndPull(1)
	restart()
	if rows := read(t, sink, "pod", day); len(rows) != want {
		t.Errorf("the sink holds %d of 2 rows that it acknowledged, want %d", len(rows), want)
	}
	if _, err := influxsync.CopyWindows(t.Context(), request, []schema.Window{minute(0), minute(1)}); err != nil {
		t.Error(err)
	}
	if diff := equalTables(t, source, sink, "pod"); diff != "" {
		t.Error(diff)
	}
}

// tearLogs appends the beginning of an entry to each log of a database.
func tearLogs(t testing.TB, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	for _, path := range logs {
		log, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = log.WriteString("\x01\x00\x00\x02\x00half of an entry")
			err = errors.Join(err, log.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTrapUnknownDatabase: a query answers status 200, in CSV with nothing at
// all: a misspelled name is a table without rows.
func TestTrapUnknownDatabase(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		csv := http.Header{"Accept": {"application/csv"}}
		if got := x.send(t, http.MethodGet, "/query", "", csv, "db", "none", "q", "SELECT * FROM t"); got.status != 200 || got.body != "" {
			t.Errorf("control: CSV has status %d, %q", got.status, got.body)
		}
		if result, _ := x.askJSON(t, "none", "SELECT * FROM t"); !strings.Contains(result.Results[0].Error, "database not found") {
			t.Errorf("control: JSON says %+v with status 200", result)
		}
		err := x.Database("none").TimeQuery(t.Context(), "t", day, nil, func(influxsync.Point) error { return nil })
		if !errors.Is(err, influxsync.ErrNotFound) {
			t.Errorf("%v; want ErrNotFound", err)
		}
	})
}

// TestTrapMaxRowLimit: with max-row-limit an answer in one piece is cut, without an
// error. The embedded engine has no limit.
func TestTrapMaxRowLimit(t *testing.T) {
	processes(t, influxtest.Options{"http.max-row-limit": "100"}, func(t *testing.T, x target, _ *influxtest.Process) {
		db := create(t, x.Server, "minute")
		var rows []influxsync.Point
		for i := range 250 {
			rows = append(rows, influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"n": influxsync.Int(int64(i))}, start.Add(time.Duration(i))))
		}
		if result, got := x.askJSON(t, "minute", "SELECT * FROM t"); len(got) != 0 {
			t.Fatalf("%+v", result)
		}
		write(t, db, rows...)
		if result, got := x.askJSON(t, "minute", "SELECT * FROM t"); len(got) != 100 || result.Results[0].Error != "" {
			t.Errorf("control: %d rows, error %q; want 100 and none", len(got), result.Results[0].Error)
		}
		compare(t, read(t, db, "t", day), rows)
	})
}

// TestTrapUnchunkedAnswer: an answer in one piece is held in memory by both
// sides, and its marks of more rows to come mean nothing: 1.6 leaves one where
// nothing is missing. Chunks of 10,000 rows have a mark that is kept.
func TestTrapUnchunkedAnswer(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		rows := make([]influxsync.Point, 25_000)
		for i := range rows {
			rows[i] = influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(int64(i))}, start.Add(time.Duration(i)))
		}
		write(t, db, rows...)
		result, got := x.askJSON(t, "minute", "SELECT * FROM t")
		marked := result.Results[0].Series[0].Partial
		if old := strings.Contains(t.Name(), string(influxtest.Distribution)); len(got) != len(rows) || marked != old {
			t.Errorf("control: %d rows, partial %v", len(got), marked)
		}
		n := 0
		err := db.TimeQuery(t.Context(), "t", day, nil, func(p influxsync.Point) error {
			if n++; p.Int("n") != int64(n-1) {
				return fmt.Errorf("row %d is %+v", n-1, p)
			}
			return nil
		})
		if err != nil || n != len(rows) {
			t.Errorf("%d rows, %v; want %d", n, err, len(rows))
		}
	})
}

// TestTrapLongStatement: a statement in the URL is refused from 1 MB on (431), and a
// proxy refuses it from some kilobytes on; ours goes into the body. The embedded
// engine has no URL to bound.
func TestTrapLongStatement(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		write(t, db, influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"n": influxsync.Int(7)}, start))
		q := "SELECT n FROM t WHERE k = 'a' OR k = '" + strings.Repeat("x", 1200<<10) + "'"
		if got := x.send(t, http.MethodGet, "/query", "", nil, "db", "minute", "q", q); !x.embedded() && got.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("control: status %d", got.status)
		}
		var got []influxsync.Point
		if err := db.Select(t.Context(), q, collect(&got)); err != nil || len(got) != 1 || got[0].Int("n") != 7 {
			t.Errorf("%v, %v; want the row", got, err)
		}
	})
}

// TestTrapGzip: whoever does not say no gets its answers compressed (Go's own
// transport asks for it), which costs the source more than the reading.
func TestTrapGzip(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		write(t, db, influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(7)}, start))
		asks := http.Header{"Accept-Encoding": {"gzip"}}
		got := x.send(t, http.MethodGet, "/query", "", asks, "db", "minute", "q", "SELECT n FROM t")
		if got.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("control: header %v", got.header)
		}
		seen := &headers{next: x.transport}
		if n := len(read(t, client(t, x.url, seen).Database("minute"), "t", day)); n != 1 {
			t.Errorf("%d rows", n)
		}
		if len(seen.answers) != 1 || seen.answers[0].Get("Content-Encoding") != "" {
			t.Errorf("headers of answers %v; want one that is not compressed", seen.answers)
		}
	})
}

// headers keeps the headers of answers.
type headers struct {
	next    http.RoundTripper
	answers []http.Header
}

func (h *headers) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := h.next.RoundTrip(r)
	if err == nil {
		h.answers = append(h.answers, response.Header)
	}
	return response, err
}

// TestTrapGetThatChanges: a GET runs a DROP, and one request runs several
// statements; what reads here is one statement that reads.
func TestTrapGetThatChanges(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		for _, q := range []string{"DROP MEASUREMENT t", "SHOW DATABASES; DROP MEASUREMENT t", "SELECT * INTO copied FROM t"} {
			write(t, db, influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"n": influxsync.Int(7)}, start))
			if err := db.Select(t.Context(), q, func(influxsync.Point) error { return nil }); err == nil || len(read(t, db, "t", day)) != 1 {
				t.Errorf("%s: %v; want a refusal and the row", q, err)
			}
			x.send(t, http.MethodGet, "/query", "", nil, "db", "minute", "q", q)
			tables, err := db.GetTables(t.Context())
			if err != nil || slices.Equal(tables, []string{"t"}) {
				t.Errorf("control: tables after a GET of %s: %v, %v", q, tables, err)
			}
		}
	})
}
