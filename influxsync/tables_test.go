package influxsync_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// fill writes 3 pods × 4 rows of each type, 30 s apart.
func fill(t testing.TB, db *influxsync.Database, from time.Time) {
	t.Helper()
	var rows []influxsync.Point
	for i := range 4 {
		for pod := range 3 {
			rows = append(rows, influxsync.NewPoint("usage", map[string]string{"pod": fmt.Sprint("p", pod), "zone": "z"},
				map[string]influxsync.Value{"n": influxsync.Int(int64(10*i + pod)), "g": influxsync.Float(float64(i)),
					"s": influxsync.Str(fmt.Sprint("s", i)), "b": influxsync.Bool(i%2 == 0)}, from.Add(time.Duration(i)*30*time.Second)))
		}
	}
	if err := db.Write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
}

var usageTable = schema.Table{Name: "usage", DB: "other", Tags: []string{"pod", "zone"}, Fields: []schema.Field{
	{Name: "b", Type: schema.Boolean, Optional: true}, {Name: "g", Type: schema.Float, Optional: true},
	{Name: "n", Type: schema.Integer, Optional: true}, {Name: "s", Type: schema.String, Optional: true}}}

func TestTables(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		ctx, db := t.Context(), create(t, s, "other")
		fill(t, db, start)
		if names, err := db.GetTables(ctx); err != nil || cmp.Diff([]string{"usage"}, names) != "" {
			t.Errorf("tables %v, %v", names, err)
		}
		got, err := db.GetTable(ctx, "usage")
		if diff := cmp.Diff(usageTable, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if _, err := db.GetTable(ctx, "none"); !errors.Is(err, influxsync.ErrNotFound) {
			t.Errorf("unknown table: %v; want ErrNotFound", err)
		}
		if err := db.Clear(ctx, "usage", []influxsync.Condition{{Tag: "pod", Value: "p1"}}); err != nil {
			t.Error(err)
		}
		if n := len(held(t, db, "usage")); n != 8 {
			t.Errorf("%d rows after clearing one pod, want 8", n)
		}
		if err := db.Clear(ctx, "usage", []influxsync.Condition{{Tag: "pod", Value: `' OR 'a'='a`}}); err != nil {
			t.Error(err)
		}
		if n := len(held(t, db, "usage")); n != 8 {
			t.Errorf("%d rows after clearing none, want 8", n)
		}
		for range 2 {
			if err := db.Clear(ctx, "usage", nil); err != nil {
				t.Error(err)
			}
		}
		if n := len(held(t, db, "usage")); n != 0 {
			t.Errorf("%d rows after clearing all", n)
		}
	})
}

func TestQuery(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		db := create(t, s, "other")
		fill(t, db, start)
		bare := influxsync.NewPoint("usage", map[string]string{"pod": "p9"}, map[string]influxsync.Value{"n": influxsync.Int(1)}, start)
		if err := db.Write(t.Context(), []influxsync.Point{bare}); err != nil {
			t.Fatal(err)
		}
		hour := schema.WindowAt(start, time.Hour)
		for name, test := range map[string]struct {
			query influxsync.Query
			want  string
		}{
			"sum by pod": {influxsync.Query{From: "usage", Select: []string{"n"}, Aggregate: "sum", Group: []string{"pod"}, Window: hour},
				"p0@0 n=60 p1@0 n=64 p2@0 n=68 p9@0 n=1"},
			"sum by minute": {influxsync.Query{From: "usage", Select: []string{"n"}, Aggregate: "sum", Every: time.Minute, Window: hour},
				"@0 n=37 @60 n=156"},
			"half-open": {influxsync.Query{From: "usage", Select: []string{"n"}, Where: []influxsync.Condition{{Tag: "pod", Value: "p0"}},
				Window: schema.Window{From: start, To: start.Add(time.Minute)}}, "@0 n=0 @30 n=10"},
			"newest of each": {influxsync.Query{From: "usage", Select: []string{"n"}, Group: []string{"*"}, Descending: true, Limit: 1,
				Where: []influxsync.Condition{{Tag: "zone", Value: "z"}}}, "p2z@90 n=32 p1z@90 n=31 p0z@90 n=30"},
			"without the tag": {influxsync.Query{From: "usage", Group: []string{"*"}, Where: []influxsync.Condition{{Tag: "zone"}}}, "p9@0 n=1"},
			"unknown table":   {influxsync.Query{From: "none"}, ""},
		} {
			got := ""
			err := db.Query(t.Context(), test.query, func(p influxsync.Point) error {
				if got != "" {
					got += " "
				}
				at := p.Time.Sub(start).Seconds()
				if test.query.Aggregate != "" && test.query.Every == 0 {
					at = 0 // the engine gives the window's start
				}
				got += fmt.Sprintf("%s%s@%v n=%d", p.Tag("pod"), p.Tag("zone"), at, p.Int("n"))
				return nil
			})
			if err != nil || got != test.want {
				t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
			}
		}
		for name, q := range map[string]influxsync.Query{
			"no table": {Select: []string{"n"}}, "unknown aggregate": {From: "usage", Select: []string{"n"}, Aggregate: "n); DROP"},
			"aggregate of all": {From: "usage", Aggregate: "sum"}, "step without aggregate": {From: "usage", Every: time.Minute},
		} {
			if err := db.Query(t.Context(), q, func(influxsync.Point) error { return nil }); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
	})
}

func TestSelectOnlyReads(t *testing.T) { servers(t, testSelectOnlyReads) }

func testSelectOnlyReads(t *testing.T, s *influxsync.Server) {
	db := create(t, s, "other")
	fill(t, db, start)
	for _, q := range []string{"DROP DATABASE other", "SELECT n INTO other2 FROM usage", "DELETE FROM usage", "SHOW DATABASES; DROP DATABASE other",
		"", ";", "GRANT ALL TO x", "CREATE DATABASE x", "EXPLAIN SELECT n FROM usage", "KILL QUERY 1"} {
		if err := db.Select(t.Context(), q, func(influxsync.Point) error { return nil }); err == nil {
			t.Errorf("%q was run", q)
		}
	}
	if n := len(held(t, db, "usage")); n != 12 {
		t.Errorf("%d rows left of 12", n)
	}
}

func TestSyncFull(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		ctx, source, sink := t.Context(), create(t, s, "other"), create(t, s, "copy")
		fill(t, source, start)
		fill(t, source, start.Add(30*time.Hour))
		days := schema.Window{From: start.Add(-24 * time.Hour), To: start.Add(48 * time.Hour)}
		for range 2 {
			if _, err := influxsync.SyncFull(ctx, source, sink, days); err != nil {
				t.Fatal(err)
			}
			if diff := equalTables(t, source, sink, "usage"); diff != "" {
				t.Error(diff)
			}
		}
		stray := influxsync.NewPoint("usage", nil, map[string]influxsync.Value{"n": influxsync.Int(0)}, start)
		if err := sink.Write(ctx, []influxsync.Point{stray}); err != nil {
			t.Fatal(err)
		}
		if _, err := influxsync.SyncFull(ctx, source, sink, days); !errors.Is(err, influxsync.ErrMismatch) {
			t.Errorf("a row more in the sink: %v; want ErrMismatch", err)
		}
		if _, err := influxsync.SyncFull(ctx, source, sink, schema.Window{}); err == nil {
			t.Error("an open window was accepted")
		}
	})
}

// TestAddDownsample waits for the engine's own clock to run the query.
func TestAddDownsample(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		store, err := embedded.Open(embedded.Config{Dir: t.TempDir(), ContinuousQueries: true}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		testAddDownsample(t, client(t, "http://embedded", store.Transport()))
	})
	for _, kind := range influxtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			testAddDownsample(t, client(t, external.Get(t, kind).URL(), plain()))
		})
	}
}

func testAddDownsample(t *testing.T, s *influxsync.Server) {
	db, coarse := create(t, s, "other"), create(t, s, "coarse")
	to := schema.Table{Name: "usage", DB: "coarse", Fields: usageTable.Fields}
	for range 2 { // again is no error
		if err := db.AddDownsample(t.Context(), `per "second"`, usageTable, to, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.AddDownsample(t.Context(), "x", usageTable, schema.Table{Name: "y", Fields: []schema.Field{{Name: "none"}}}, time.Second); err == nil {
		t.Error("a field that the source does not have was accepted")
	}
	const odd = 1<<55 + 1 // no float holds it, nor a sum of a second's rows
	clk := clock.System() // the engine's own
	for end := clk.Now().Add(15 * time.Second); clk.Now().Before(end); {
		row := influxsync.NewPoint("usage", map[string]string{"pod": "p", "zone": "z"}, map[string]influxsync.Value{
			"n": influxsync.Int(odd), "g": influxsync.Float(1), "s": influxsync.Str("x"), "b": influxsync.Bool(true)}, clk.Now())
		if err := db.Write(t.Context(), []influxsync.Point{row}); err != nil {
			t.Fatal(err)
		}
		for _, got := range held(t, coarse, "usage") {
			if len(got.Fields) < 4 { // a row that is being written is seen field by field
				continue
			}
			if got.Int("n")%odd != 0 || got.Int("n") == 0 || got.Tag("pod") != "p" || got.Tag("zone") != "z" || len(got.Fields) != 4 {
				t.Errorf("downsampled row %+v", got)
			}
			return
		}
		if err := clk.Sleep(t.Context(), 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("no downsampled row within 15 s")
}

func TestConfigIsChecked(t *testing.T) {
	for _, url := range []string{"", "x", "ftp://h", "http://", "http://u:p@h", "http://h?x=1", "http://h#f", "://"} {
		if _, err := influxsync.New(influxsync.Config{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	secret := influxsync.Secret("hunter2")
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, secret); got != "***" {
			t.Errorf("%s prints %q", verb, got)
		}
		if got := fmt.Sprintf(verb, influxsync.Config{Token: secret}); cmp.Diff(got, fmt.Sprintf(verb, influxsync.Config{Token: "x"})) != "" {
			t.Errorf("%s of a struct prints %q", verb, got)
		}
	}
	if got, err := json.Marshal(influxsync.Config{Token: secret}.Token); err != nil || string(got) != `"***"` {
		t.Errorf("JSON %s, %v", got, err)
	}
}
