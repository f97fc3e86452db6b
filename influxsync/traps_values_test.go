package influxsync_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// survives writes the rows and wants them back as they were, from the database
// and from a copy of it.
func survives(t testing.TB, x target, db *influxsync.Database, rows ...influxsync.Point) {
	t.Helper()
	write(t, db, rows...)
	table := rows[0].Table
	want := make(map[string]influxsync.Point)
	for _, p := range rows {
		want[fmt.Sprint(p.Tags, p.Time.UnixNano())] = p
	}
	if diff := diffRows(want, held(t, db, table)); diff != "" {
		t.Errorf("rows of %s (-written +read):\n%s", table, diff)
	}
	sink := create(t, x.Server, db.Name()+" copy")
	if _, err := influxsync.SyncFull(t.Context(), db, sink, day); err != nil {
		t.Fatal(err)
	}
	if diff := diffRows(want, held(t, sink, table)); diff != "" {
		t.Errorf("rows of %s (-written +copied):\n%s", table, diff)
	}
}

// diffRows compares tables by row.
func diffRows(want, got map[string]influxsync.Point) string {
	var b strings.Builder
	for key, p := range want {
		if !slices.Equal(got[key].Fields, p.Fields) || !slices.Equal(got[key].Tags, p.Tags) || got[key].Table != p.Table {
			fmt.Fprintf(&b, "- %+v\n+ %+v\n", p, got[key])
		}
	}
	for key, p := range got {
		if _, ok := want[key]; !ok {
			fmt.Fprintf(&b, "+ %+v\n", p)
		}
	}
	return b.String()
}

// TestTrapJSONNumbers: JSON shows 1.0 as 1, so a copy writes an integer beside
// floats (a type conflict) or a float for an integer, and a decoder that takes
// numbers for floats rounds integers above 2^53. CSV has no types at all.
func TestTrapJSONNumbers(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		row := influxsync.NewPoint("t", nil, fieldSet{"float": influxsync.Float(1), "int": influxsync.Int(1<<53 + 1), "one": influxsync.Int(1),
			"text": influxsync.Str("1"), "negative_zero": influxsync.Float(math.Copysign(0, -1)), "tiny": influxsync.Float(5e-324),
			"huge": influxsync.Float(1e300), "tenth": influxsync.Float(0.1)}, start.Add(123456789))
		survives(t, x, db, row)
		if body := x.ask(t, "minute", `SELECT "float", one FROM t`); !strings.Contains(body, ",1,1]") {
			t.Errorf("control: a float and an integer in JSON: %s", body)
		}
		if _, rows := x.askJSON(t, "minute", `SELECT "int" FROM t`); rows[0][1] != float64(1<<53) {
			t.Errorf("control: 2^53+1 is decoded as %v", rows[0][1])
		}
	})
}

// TestTrapNulls: rows of one series may have different fields; the others are
// null, and a copy that writes a null or a zero is refused or invents values.
func TestTrapNulls(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		survives(t, x, db,
			influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"x": influxsync.Int(1)}, start),
			influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"y": influxsync.Str("")}, start.Add(1)),
			influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"x": influxsync.Int(0), "z": influxsync.Bool(false)}, start.Add(2)),
			influxsync.NewPoint("t", tagSet{"k": "b"}, fieldSet{"z": influxsync.Bool(true)}, start))
		if _, rows := x.askJSON(t, "minute", `SELECT x, y FROM t WHERE k = 'a'`); rows[0][2] != nil || rows[1][1] != nil {
			t.Errorf("control: %v has no nulls", rows)
		}
		if status, said := x.put(t, "minute", "t x=,y=\"\" 1"); status != 400 || !strings.Contains(said, "missing field value") {
			t.Errorf("control: a null as nothing: status %d, %s", status, said)
		}
	})
}

// TestTrapEmptyTag: GROUP BY * gives a series the tags that only others have,
// with empty values, and a copy that writes them is refused.
func TestTrapEmptyTag(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		one := fieldSet{"n": influxsync.Int(1)}
		survives(t, x, db, influxsync.NewPoint("t", tagSet{"a": "1"}, one, start),
			influxsync.NewPoint("t", tagSet{"b": "2"}, one, start), influxsync.NewPoint("t", nil, one, start))
		result, _ := x.askJSON(t, "minute", "SELECT * FROM t WHERE a = '1' GROUP BY *")
		if value, there := result.Results[0].Series[0].Tags["b"]; !there || value != "" {
			t.Errorf("control: tags %v", result.Results[0].Series[0].Tags)
		}
		if status, said := x.put(t, "minute", "t,a=1,b= n=1i 1"); status != 400 || !strings.Contains(said, "missing tag value") {
			t.Errorf("control: status %d, %s", status, said)
		}
	})
}

// TestTrapTagAndFieldOfOneName: SELECT * calls the tag x_1, and a copy of that
// has another key; SELECT x is the field where there is one.
func TestTrapTagAndFieldOfOneName(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		row := influxsync.NewPoint("t", tagSet{"x": "tag", "y": "only"}, fieldSet{"x": influxsync.Int(5), "x_1": influxsync.Int(6)}, start)
		survives(t, x, db, row)
		result, _ := x.askJSON(t, "minute", "SELECT * FROM t")
		if columns := result.Results[0].Series[0].Columns; !slices.Equal(columns, []string{"time", "x", "x_1", "x_1_1", "y"}) {
			t.Errorf("control: columns %v", columns)
		}
		var got []influxsync.Point
		err := db.Query(t.Context(), influxsync.Query{From: "t", Select: []string{"x"}, Where: []influxsync.Condition{{Tag: "x", Value: "tag"}},
			Group: []string{"x"}, Window: day}, collect(&got))
		if err != nil || len(got) != 1 || got[0].Int("x") != 5 || got[0].Tag("x") != "tag" {
			t.Errorf("%+v, %v; want field 5 of tag x", got, err)
		}
	})
}

// TestTrapPagingByLimit: LIMIT is of rows of each series under GROUP BY; of all
// rows otherwise, and to go on after the last row's time loses the others of
// that time. Pages here are half-open windows.
func TestTrapPagingByLimit(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		var rows []influxsync.Point
		for i := range 9 {
			rows = append(rows, influxsync.NewPoint("t", tagSet{"k": fmt.Sprint("k", i%3)}, fieldSet{"n": influxsync.Int(int64(i))},
				start.Add(time.Duration(i/3)*time.Second)))
		}
		write(t, db, rows...)
		seen, last := 0, int64(0)
		for {
			_, page := x.askJSON(t, "minute", fmt.Sprintf("SELECT n FROM t WHERE time > %d LIMIT 2", last))
			if len(page) == 0 {
				break
			}
			seen += len(page)
			last = int64(page[len(page)-1][0].(float64)) + 512 // nanoseconds, which JSON's reader rounded
		}
		if seen != 6 {
			t.Errorf("control: paging by LIMIT saw %d of 9 rows, want 6", seen)
		}
		if _, page := x.askJSON(t, "minute", "SELECT n FROM t GROUP BY * LIMIT 2"); len(page) != 6 {
			t.Errorf("control: LIMIT 2 gave %d rows of 3 series, want 6", len(page))
		}
		seen = 0
		for _, w := range (schema.Window{From: start, To: start.Add(3 * time.Second)}).Split(time.Second) {
			seen += len(read(t, db, "t", w))
		}
		if seen != len(rows) {
			t.Errorf("windows gave %d of %d rows", seen, len(rows))
		}
	})
}

// TestTrapEdgesOfAWindow: times in seconds or milliseconds, as most readers ask
// for them, make one row of two; a window closed at both ends has the row at
// its edge twice. Here a window is half-open, to the nanosecond.
func TestTrapEdgesOfAWindow(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db, w := create(t, x.Server, "minute"), minute(0)
		var rows []influxsync.Point
		for i, at := range []time.Time{w.From.Add(-1), w.From, w.From.Add(1), w.To.Add(-1), w.To, w.To.Add(1)} {
			rows = append(rows, influxsync.NewPoint("t", tagSet{"k": "a"}, fieldSet{"n": influxsync.Int(int64(i))}, at))
		}
		survives(t, x, db, rows...)
		if _, got := x.askJSON(t, "minute", "SELECT n FROM t", "epoch", "s"); got[1][0] != got[2][0] {
			t.Errorf("control: two rows in seconds: %v", got)
		}
		compare(t, read(t, db, "t", minute(-1)), rows[:1])
		compare(t, read(t, db, "t", w), rows[1:4])
		compare(t, read(t, db, "t", minute(1)), rows[4:])
	})
}

// TestTrapSeriesThatBeginAndEnd: a copy of the last point of each series, or of
// the series that are there now, loses the rest of those that ended.
func TestTrapSeriesThatBeginAndEnd(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		var rows []influxsync.Point
		for pod, lives := range map[string][]int{"ends": {0, 1, 2}, "begins": {3, 4, 5}, "pauses": {0, 5}, "all": {0, 1, 2, 3, 4, 5}, "once": {3}} {
			for _, i := range lives {
				rows = append(rows, influxsync.NewPoint("t", tagSet{"pod": pod}, fieldSet{"n": influxsync.Int(int64(i))}, start.Add(time.Duration(i)*20*time.Second)))
			}
		}
		survives(t, x, db, rows...)
		if _, got := x.askJSON(t, "minute", "SELECT last(n) FROM t GROUP BY *"); len(got) != 5 {
			t.Errorf("control: last points %v", got)
		}
		for i, want := range []int{7, 8} {
			if got := read(t, db, "t", minute(i)); len(got) != want {
				t.Errorf("minute %d: %d rows, want %d: %v", i, len(got), want, got)
			}
		}
	})
}

// TestTrapFuture: an aggregate without an end stops at the server's present, so a
// check by counts misses rows of a clock that is ahead; rows are read all the
// same.
func TestTrapFuture(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		ahead := clock.System().Now().Add(48 * time.Hour).Truncate(time.Hour)
		write(t, db, influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(1)}, ahead))
		_, got := x.askJSON(t, "minute", fmt.Sprintf("SELECT count(n) FROM t WHERE time >= %d GROUP BY time(1h) fill(none)", ahead.Add(-time.Hour).UnixNano()))
		if len(got) != 0 {
			t.Errorf("control: counts without an end: %v", got)
		}
		if n := len(read(t, db, "t", schema.Window{From: ahead})); n != 1 {
			t.Errorf("%d rows, want one", n)
		}
		var counts []influxsync.Point
		err := db.Query(t.Context(), influxsync.Query{From: "t", Select: []string{"n"}, Aggregate: "count", Every: time.Hour,
			Window: schema.WindowAt(ahead, time.Hour)}, collect(&counts))
		if err != nil || len(counts) != 1 || counts[0].Int("n") != 1 {
			t.Errorf("counts in a window with an end: %v, %v", counts, err)
		}
	})
}

// TestTrapAggregates: a mean of integers is a float, and sums of integers wrap at
// 2^63 without an error; sums over clusters are made in Go.
func TestTrapAggregates(t *testing.T) {
	targets(t, func(t *testing.T, x target) {
		db := create(t, x.Server, "minute")
		for i, v := range []int64{math.MaxInt64, 1} {
			write(t, db, influxsync.NewPoint("t", nil, fieldSet{"n": influxsync.Int(v)}, start.Add(time.Duration(i))))
		}
		for aggregate, want := range map[string]influxsync.Value{"count": influxsync.Int(2), "max": influxsync.Int(math.MaxInt64),
			"last": influxsync.Int(1), "sum": influxsync.Int(math.MinInt64), "mean": influxsync.Float(math.MinInt64 / 2)} {
			var got []influxsync.Point
			err := db.Query(t.Context(), influxsync.Query{From: "t", Select: []string{"n"}, Aggregate: aggregate, Window: day}, collect(&got))
			if err != nil || len(got) != 1 || got[0].Fields[0].Value != want {
				t.Errorf("%s: %+v, %v; want %+v", aggregate, got, err, want)
			}
		}
	})
}
