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
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// refused wants a WriteError of status 400 with that number of rows dropped.
func refused(t testing.TB, err error, dropped int, says string) {
	t.Helper()
	var refused *influxsync.WriteError
	if !errors.As(err, &refused) || refused.Status != 400 || refused.Dropped != dropped || !strings.Contains(refused.Message, says) {
		t.Errorf("%v; want status 400, %d dropped, and %q", err, dropped, says)
	}
}

// tables are those of the database.
func tables(t testing.TB, db *influxsync.Database) string {
	t.Helper()
	names, err := db.GetTables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// TestTrapLineProtocol: what line protocol cannot say is taken for something
// else or loses lines around it, in part with a success: a field named time is
// dropped in silence; a newline in a tag makes another row; a backslash at a
// tag's end takes the fields for a part of the tag; an unsigned integer and a
// line that is none are refused, while the lines beside them are stored. Here
// such a row is refused before anything is sent.
func TestTrapLineProtocol(t *testing.T) {
	one := fieldSet{"n": influxsync.Int(1)}
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		for name, trap := range map[string]struct {
			lines  string
			status int
			stored string // tables after it
			row    influxsync.Point
		}{
			"field named time": {"t,k=a time=5,n=1i 1", 204, "t",
				influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"time": influxsync.Int(5), "n": influxsync.Int(1)}, start)},
			"tag named time":   {"good n=1i 1\nt,time=a n=1i 1", 400, "good", influxsync.NewPoint("t", tagSet{"time": "a"}, one, start)},
			"newline in a tag": {"t,k=a\nb n=1i 1", 400, "b", influxsync.NewPoint("t", tagSet{"k": "a\nb"}, one, start)},
			"backslash at a tag's end": {"good n=1i 1\nt,k=a\\ n=1i 1", 400, "good",
				influxsync.NewPoint("t", tagSet{"k": `a\`}, one, start)},
			"no fields":       {"good n=1i 1\nt 1", 400, "good", influxsync.NewPoint("t", nil, nil, start)},
			"table a comment": {"good n=1i 1\n#t n=1i 1", 204, "good", influxsync.NewPoint("#t", nil, one, start)},
		} {
			plainly := create(t, x.Server, "plain "+name)
			status, said := x.put(t, plainly.Name(), trap.lines)
			if got := tables(t, plainly); status != trap.status || got != trap.stored {
				t.Errorf("control: %s: status %d, %s; stored %q; want %d and %q", name, status, said, got, trap.status, trap.stored)
			}
			if err := db.Write(t.Context(), []influxsync.Point{influxsync.NewPoint("good", nil, one, start), trap.row}); err == nil {
				t.Errorf("%s was written", name)
			}
		}
		if got := tables(t, db); got != "" {
			t.Errorf("tables beside refused rows: %s", got)
		}
		if status, said := x.put(t, "plain no fields", "t u=1u 1"); status != 400 {
			t.Errorf("control: an unsigned integer: status %d, %s", status, said)
		}
		if _, rows := x.askJSON(t, "plain field named time", "SELECT * FROM t"); len(rows) != 1 || len(rows[0]) != 3 {
			t.Errorf("control: a row that had a field named time: %v", rows)
		}
	})
}

// TestTrapMalformedLine: of a request with a line that is none the others are
// stored, with a status that says that nothing was ("dropped=0").
func TestTrapMalformedLine(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		create(t, x.Server, "minute")
		status, said := x.put(t, "minute", "t n=1i 1\nthis is none\nt n=2i 2")
		if status != 400 || !strings.Contains(said, "dropped=0") || !strings.Contains(said, "partial write: unable to parse") {
			t.Errorf("control: status %d, %s", status, said)
		}
		if _, rows := x.askJSON(t, "minute", "SELECT * FROM t"); len(rows) != 2 {
			t.Errorf("control: %d rows beside the line, want 2", len(rows))
		}
		// A link that spoils a line: the refusal is an error with a status, not a success.
		db := client(t, x.url, &spoiling{x.transport}).Database("minute")
		err := db.Write(t.Context(), []influxsync.Point{influxsync.NewPoint("u", nil, fieldSet{"n": influxsync.Int(1)}, start)})
		refused(t, err, 0, "unable to parse")
	})
}

// TestTrapMergedFields: a row that is written again keeps the fields that it does
// not have any more. Where a source has lost a field (its volume was metered
// anew), a copy by writing keeps the old value in the sink beside the new ones.
// What the sink returns is compared, and the row replaced.
func TestTrapMergedFields(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		source, sink := create(t, x.Server, "source"), create(t, x.Server, "sink")
		w := newWriter(t, source, podTable, "edge")
		w.put(minute(0), "a", 5)
		w.settle(minute(0))
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		first, err := influxsync.Sync(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		x.ask(t, "source", "DELETE FROM pod")
		fewer := influxsync.NewPoint("pod", tagSet{schema.Cluster: "edge", schema.Pod: "a"}, fieldSet{schema.CPU: influxsync.Int(7)}, minute(0).From)
		write(t, source, fewer)
		write(t, sink, fewer)
		if rows := read(t, sink, "pod", day); len(rows) != 1 || rows[0].Int(schema.CPU) != 7 || rows[0].Int(schema.Memory) != -5 {
			t.Errorf("control: the sink's row %+v; want the new and the old field", rows)
		}
		w.rows[minute(0)]["a"] = fewer
		w.settle(minute(0))
		request.Mark = first.Mark
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || len(result.Windows) != 1 {
			t.Errorf("%+v, %v", result, err)
		}
		compare(t, read(t, sink, "pod", day), []influxsync.Point{fewer})
	})
}

// undeletable answers every DELETE with a status.
type undeletable struct {
	next   http.RoundTripper
	status int
}

func (u *undeletable) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost && r.URL.Path == "/query" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(r.URL.Query().Get("q"), "DELETE") || strings.Contains(string(body), "DELETE") {
			return says(u.status, "no"), nil
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return u.next.RoundTrip(r)
}

// TestTrapMergedFieldsLater: a sink that does not delete just now keeps the mark
// where it is, for the next call to mend the row; one that never deletes gets
// the row confirmed, and told of as beyond the source's.
func TestTrapMergedFieldsLater(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		source, sink := create(t, x.Server, "source"), create(t, x.Server, "sink")
		w := newWriter(t, source, podTable, "edge")
		fewer := influxsync.NewPoint("pod", tagSet{schema.Cluster: "edge", schema.Pod: "a"}, fieldSet{schema.CPU: influxsync.Int(7)}, minute(0).From)
		more := influxsync.NewPoint("pod", tagSet{schema.Cluster: "edge", schema.Pod: "a"},
			fieldSet{schema.CPU: influxsync.Int(1), schema.Memory: influxsync.Int(2)}, minute(0).From)
		w.put(minute(0), "a", 5)
		x.ask(t, "source", "DELETE FROM pod")
		write(t, source, fewer)
		w.rows[minute(0)]["a"] = fewer
		w.settle(minute(0))
		for status, passes := range map[int]bool{429: true, 408: true, 401: true, 500: true, 503: true, 403: false, 400: false, 405: false} {
			write(t, sink, more)
			deaf := client(t, x.url, &undeletable{x.transport, status}).Database("sink")
			result, err := influxsync.Sync(t.Context(), influxsync.SyncRequest{Source: source, Sink: deaf, Table: podTable, Cluster: "edge"})
			switch {
			case passes && (err == nil || len(result.Windows) != 0):
				t.Errorf("status %d: %+v, %v; want the mark where it was", status, result, err)
			case !passes && (err != nil || len(result.Windows) != 1 || result.Windows[0].Extra != 1):
				t.Errorf("status %d: %+v, %v; want the window with one row beyond the source's", status, result, err)
			}
		}
	})
}

// TestTrapTypeConflict: a row whose field has another type in that shard is
// dropped, and the others of its request are stored.
func TestTrapTypeConflict(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		row := func(k string, v influxsync.Value, at time.Time) influxsync.Point {
			return influxsync.NewPoint("t", tagSet{"k": k}, fieldSet{"n": v}, at)
		}
		write(t, db, row("a", influxsync.Int(1), start))
		err := db.Write(t.Context(), []influxsync.Point{row("b", influxsync.Int(1), start), row("c", influxsync.Float(1), start),
			row("d", influxsync.Str("x"), start), row("e", influxsync.Int(1), start)})
		refused(t, err, 2, "field type conflict")
		if got := held(t, db, "t"); len(got) != 3 {
			t.Errorf("rows %v; want those of a, b and e", got)
		}
		// A sink that has another type loses the row in silence to who ignores the status.
		source, sink := create(t, x.Server, "source"), create(t, x.Server, "sink")
		write(t, sink, influxsync.NewPoint("pod", tagSet{schema.Cluster: "edge", schema.Pod: "z"},
			fieldSet{schema.CPU: influxsync.Str("text")}, minute(1).From))
		w := newWriter(t, source, podTable, "edge")
		w.settleEach(0, 1, "a")
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || len(result.Refused) != 1 || result.Refused[0].Class != influxsync.TypeConflict {
			t.Errorf("a row that the sink refuses: %+v, %v; want it told", result, err)
		}
	})
}

// TestTrapTypeOutlivesItsRows: on 1.6 a field keeps its type when the last series
// of the table is dropped or its rows deleted, so that rows refused for their
// type are refused again. DROP MEASUREMENT frees the name on every server.
func TestTrapTypeOutlivesItsRows(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		old := strings.HasSuffix(t.Name(), string(influxtest.Distribution))
		db := create(t, x.Server, "minute")
		row := influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(1)}, start)
		for statement, keeps := range map[string]bool{"DROP SERIES FROM t": old, "DELETE FROM t": old, "DROP MEASUREMENT t": false} {
			write(t, db, influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Float(1)}, start))
			x.ask(t, "minute", statement)
			if err := db.Write(t.Context(), []influxsync.Point{row}); (err != nil) != keeps {
				t.Errorf("an integer after %s of floats: %v; want a refusal: %v", statement, err, keeps)
			}
			x.ask(t, "minute", "DROP MEASUREMENT t")
		}
	})
}

// TestTrapTypesOfShards: another type is accepted in another shard, and a query
// over both makes floats of all integers: 2^53+1 comes back as 2^53. Sync reads
// each day by itself, which is exact.
func TestTrapTypesOfShards(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		source, sink := create(t, x.Server, schema.MinuteDB), create(t, x.Server, schema.RawDB)
		midnight := start.Truncate(24 * time.Hour).Add(24 * time.Hour)
		row := func(v influxsync.Value, at time.Time) influxsync.Point {
			return influxsync.NewPoint("pod", tagSet{schema.Cluster: "edge", schema.Pod: "a"}, fieldSet{"n": v}, at)
		}
		before, after := schema.WindowAt(midnight.Add(-1), time.Minute), schema.WindowAt(midnight, time.Minute)
		rows := []influxsync.Point{row(influxsync.Float(1.5), before.From), row(influxsync.Int(1<<53+1), after.From)}
		write(t, source, rows...)
		both := read(t, source, "pod", schema.Window{From: before.From, To: after.To})
		if n, _ := both[1].Field("n"); n != influxsync.Float(1<<53) {
			t.Errorf("control: over two shards the integer is %+v", n)
		}
		compare(t, read(t, source, "pod", after), rows[1:])
		if _, err := source.GetTable(t.Context(), "pod"); err == nil || !strings.Contains(err.Error(), "two types") {
			t.Errorf("a table whose field has two types: %v; want an error that says so", err)
		}
		w := newWriter(t, source, podTable, "edge")
		w.rows[before] = map[string]influxsync.Point{"a": rows[0]}
		w.rows[after] = map[string]influxsync.Point{"a": rows[1]}
		w.settle(before, after)
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || len(result.Windows) != 2 || len(result.Refused) != 0 {
			t.Errorf("%+v, %v; want both windows", result, err)
		}
		compare(t, append(read(t, sink, "pod", before), read(t, sink, "pod", after)...), rows)
		request.Sink = create(t, x.Server, "sink of 30 days")
		result, err = influxsync.Sync(t.Context(), request)
		if err != nil || len(result.Refused) != 1 || result.Refused[0].Hash != rows[1].Hash() {
			t.Errorf("%+v, %v; want the integer set apart: this sink's shard holds both days", result, err)
		}
		compare(t, read(t, request.Sink, "pod", day), rows[:1])
	})
}

// TestTrapRetention: rows beyond the retention policy are dropped, those beside
// them stored; another attempt is refused again. Databases made here keep all.
func TestTrapRetention(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		x.ask(t, "", "CREATE DATABASE short WITH DURATION 1h REPLICATION 1")
		now := clock.System().Now().Truncate(time.Second)
		row := func(age time.Duration) influxsync.Point {
			return influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(1)}, now.Add(-age))
		}
		old := 30 * 24 * time.Hour
		db := x.Database("short")
		lines := fmt.Sprintf("t n=1i %d\nt n=1i %d", row(old).Time.UnixNano(), now.UnixNano())
		if status, said := x.put(t, "short", lines); status != 400 || !strings.Contains(said, "dropped=1") {
			t.Errorf("control: status %d, %s", status, said)
		}
		for range 2 {
			err := db.Write(t.Context(), []influxsync.Point{row(old), row(old + time.Second)})
			refused(t, err, 2, "beyond retention policy")
		}
		if got := read(t, db, "t", schema.Window{}); len(got) != 1 {
			t.Errorf("rows %v; want the new one", got)
		}
		db = create(t, x.Server, "kept")
		write(t, db, row(0), row(old), influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(1)}, time.Unix(0, 1)))
		if got := read(t, db, "t", schema.Window{}); len(got) != 3 {
			t.Errorf("rows %v; want three of all ages", got)
		}
	})
}

// TestTrapUnknownPolicy: an unknown database is 404, an unknown or missing
// retention policy 500, which a writer that repeats each 5xx repeats for ever.
func TestTrapUnknownPolicy(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		if status, said := x.put(t, "minute", "t n=1i 1", "rp", "none"); status != 500 || !strings.Contains(said, "retention policy not found") {
			t.Errorf("control: an unknown policy: status %d, %s", status, said)
		}
		if status, said := x.put(t, "none", "t n=1i 1"); status != 404 {
			t.Errorf("control: an unknown database: status %d, %s", status, said)
		}
		x.ask(t, "", "DROP RETENTION POLICY autogen ON minute")
		err := db.Write(t.Context(), []influxsync.Point{influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(1)}, start)})
		if err == nil || !strings.Contains(err.Error(), "retention policy not found") {
			t.Errorf("%v; want an error that names the policy", err)
		}
	})
}

// TestTrapSeriesLimit: a server with the index in memory (its default) takes no new
// series once a tag has 100,000 values or a database a million series (the TSI
// index looks at neither). It says how many rows that drops, as in other partial
// writes, and then drops the whole request: who counts "dropped=2" loses the
// row beside them. Sync looks at what the sink returns.
func TestTrapSeriesLimit(t *testing.T) {
	options := influxtest.Options{"data.index-version": `"inmem"`, "data.max-values-per-tag": "3", "data.max-series-per-database": "5"}
	processes(t, options, func(t *testing.T, x target, _ *influxtest.Process) {
		db := create(t, x.Server, "minute")
		rows := func(table string, from, to, at int) (rows []influxsync.Point) {
			for i := from; i < to; i++ {
				rows = append(rows, influxsync.NewPoint(table, tagSet{"k": fmt.Sprint("k", i)}, fieldSet{"n": influxsync.Int(1)}, start.Add(time.Duration(at))))
			}
			return rows
		}
		write(t, db, rows("t", 0, 3, 0)...)
		refused(t, db.Write(t.Context(), rows("t", 2, 5, 1)), 2, "max-values-per-tag")
		if got := held(t, db, "t"); len(got) != 3 {
			t.Errorf("control: rows %v; want the three from before, without the one of an old series", got)
		}
		refused(t, db.Write(t.Context(), rows("u", 0, 3, 0)), 3, "max-series-per-database")

		source, sink := create(t, embeddedServer(t), "source"), create(t, x.Server, "sink")
		w := newWriter(t, source, podTable, "edge")
		w.settleEach(0, 1, "a", "b", "c")
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		first, err := influxsync.Sync(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		request.Mark = first.Mark
		w.settleEach(1, 2, "c", "d", "e")
		result, err := influxsync.Sync(t.Context(), request)
		if stored := len(held(t, sink, "pod")); err != nil || stored != 4 || len(result.Refused) != 2 {
			t.Errorf("%+v, %v; %d rows stored, want 4, and 2 refused", result, err, stored)
		}
	})
}

// TestTrapRewrittenRow: a row that is computed anew (a continuous query with
// RESAMPLE, a late reading) keeps its time, so who goes on after the last time
// that it read never sees it. The journal names the window again.
func TestTrapRewrittenRow(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		source, sink := create(t, x.Server, "source"), create(t, x.Server, "sink")
		w := newWriter(t, source, podTable, "edge")
		w.settleEach(0, 3, "a")
		request := influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"}
		first, err := influxsync.Sync(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		w.put(minute(1), "a", 99)
		w.put(minute(0), "late", 1)
		w.settle(minute(1), minute(0))
		cursor := fmt.Sprintf("SELECT * FROM pod WHERE time > %d", minute(2).From.UnixNano())
		if _, rows := x.askJSON(t, "source", cursor); len(rows) != 0 {
			t.Errorf("control: a cursor finds %v", rows)
		}
		request.Mark = first.Mark
		result, err := influxsync.Sync(t.Context(), request)
		if err != nil || len(result.Windows) != 2 {
			t.Errorf("%+v, %v; want two windows again", result, err)
		}
		if diff := equalTables(t, source, sink, "pod"); diff != "" {
			t.Error(diff)
		}
	})
}

// TestTrapContinuousQuery: the statement of a continuous query over mean(*)
// calls the field mean_n, and without GROUP BY * its tags become fields. What
// AddDownsample runs keeps names, types and tags (TestAddDownsample runs it).
func TestTrapContinuousQuery(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "other")
		fill(t, db, start)
		hour := fmt.Sprintf("WHERE time >= %d AND time < %d GROUP BY time(1h)", start.UnixNano(), start.Add(time.Hour).UnixNano())
		x.ask(t, "other", "SELECT mean(*) INTO renamed FROM usage "+hour+", *")
		x.ask(t, "other", "SELECT * INTO untagged FROM usage")
		if got := read(t, db, "renamed", day); len(got) != 3 || len(got[0].Fields) != 2 || got[0].Fields[1].Name != "mean_n" {
			t.Errorf("control: mean(*) made %v", got)
		}
		if got := read(t, db, "untagged", day); len(got) != 4 || len(got[0].Tags) != 0 {
			t.Errorf("control: SELECT INTO without GROUP BY kept %d of 12 rows: %v", len(got), got)
		}
		to := schema.Table{Name: "hourly", DB: "other", Fields: usageTable.Fields}
		if err := db.AddDownsample(t.Context(), "hourly", usageTable, to, time.Hour); err != nil {
			t.Fatal(err)
		}
		statement := ""
		for _, row := range second(x.askJSON(t, "", "SHOW CONTINUOUS QUERIES")) {
			if row[0] == "hourly" {
				_, statement, _ = strings.Cut(row[1].(string), "BEGIN ")
			}
		}
		statement = strings.TrimSuffix(statement, " END")
		x.ask(t, "other", strings.Replace(statement, "GROUP BY time(1h)", hour, 1))
		want := influxsync.NewPoint("hourly", tagSet{"pod": "p1", "zone": "z"}, fieldSet{"n": influxsync.Int(1 + 11 + 21 + 31),
			"g": influxsync.Float(1.5), "s": influxsync.Str("s3"), "b": influxsync.Bool(false)}, start)
		var got []influxsync.Point
		err := db.TimeQuery(t.Context(), "hourly", day, []influxsync.Condition{{Tag: "pod", Value: "p1"}}, collect(&got))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, []influxsync.Point{want})
	})
}

func second[A, B any](_ A, b B) B { return b }

// spoiling cuts the fields off the first line of each write.
type spoiling struct{ next http.RoundTripper }

func (s *spoiling) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/write" {
		return s.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	name, _, _ := bytes.Cut(body, []byte(" "))
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(name)), int64(len(name))
	return s.next.RoundTrip(r)
}
