package influxsync_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func compare(t *testing.T, got, want []influxsync.Point) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(influxsync.Value{})); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
}

func collect(rows *[]influxsync.Point) func(influxsync.Point) error {
	return func(p influxsync.Point) error {
		*rows = append(*rows, p)
		return nil
	}
}

// awkward are texts that line protocol, InfluxQL and msgpack treat in ways of
// their own, and that must come back as they were.
var awkward = []string{
	"plain", "a b", "a,b", "a=b", "a, b=c ,", `quo"te`, `it's`, `"`, `'`, "#", "ü €", "日本", "a\\b", `\x`, `x\\y`,
	"; DROP DATABASE minute", `' OR ''='`, `" OR 1=1 --`, "*", "/.*/", "::tag", "time()", "true", "1i", "{}", "-- c", "/* c */",
}

func TestRoundTripOfEveryType(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		ctx := t.Context()
		db := create(t, s, "types")
		want := influxsync.NewPoint("all", map[string]string{"cluster": "c"}, map[string]influxsync.Value{
			"int_max": influxsync.Int(math.MaxInt64), "int_min": influxsync.Int(math.MinInt64), "int_zero": influxsync.Int(0),
			"float_whole": influxsync.Float(1), "float_tiny": influxsync.Float(5e-324), "float_max": influxsync.Float(math.MaxFloat64),
			"float_third": influxsync.Float(1.0 / 3), "float_exact": influxsync.Float(9007199254740993),
			"text": influxsync.Str("x"), "text_empty": influxsync.Str(""), "text_long": influxsync.Str(strings.Repeat("é\n", 40000)),
			"yes": influxsync.Bool(true), "no": influxsync.Bool(false),
		}, start.Add(1))
		if err := db.Write(ctx, []influxsync.Point{want}); err != nil {
			t.Fatal(err)
		}
		var got []influxsync.Point
		if err := db.TimeQuery(ctx, "all", schema.WindowAt(start, schema.Minute), nil, collect(&got)); err != nil {
			t.Fatal(err)
		}
		compare(t, got, []influxsync.Point{want})
	})
}

func TestRoundTripOfAwkwardText(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		ctx := t.Context()
		db := create(t, s, "awkward")
		for i, text := range awkward {
			name := strings.ReplaceAll(text, `\`, "")
			want := influxsync.NewPoint("t"+name, map[string]string{"k" + name: text}, map[string]influxsync.Value{
				"f" + name: influxsync.Str(text + "\n\\"), "g": influxsync.Int(int64(i))}, start)
			if err := db.Write(ctx, []influxsync.Point{want}); err != nil {
				t.Errorf("%q: %v", text, err)
				continue
			}
			var got []influxsync.Point
			err := db.Query(ctx, influxsync.Query{From: want.Table, Group: []string{want.Tags[0].Key}, Select: []string{want.Fields[0].Name, "g"},
				Where: []influxsync.Condition{{Tag: want.Tags[0].Key, Value: text}}}, collect(&got))
			if err != nil {
				t.Errorf("%q: %v", text, err)
				continue
			}
			compare(t, got, []influxsync.Point{want})
		}
	})
}

func TestWriteRefusesWhatCannotBeHeld(t *testing.T) { servers(t, testWriteRefusesWhatCannotBeHeld) }

func testWriteRefusesWhatCannotBeHeld(t *testing.T, s *influxsync.Server) {
	one := map[string]influxsync.Value{"f": influxsync.Int(1)}
	db := create(t, s, "refused")
	point := func(table string, tags map[string]string, fields map[string]influxsync.Value) influxsync.Point {
		return influxsync.NewPoint(table, tags, fields, start)
	}
	for name, p := range map[string]influxsync.Point{
		"no table": point("", nil, one), "comment": point("#t", nil, one), "newline in table": point("t\n", nil, one),
		"backslash in table":      point(`t\`, nil, one),
		"newline in tag":          point("t", map[string]string{"k": "a\nb"}, one),
		"backslash at the end":    point("t", map[string]string{"k": `a\`}, one),
		"backslash before comma":  point("t", map[string]string{"k": `a\,b`}, one),
		"reserved tag":            point("t", map[string]string{"time": "x"}, one),
		"reserved field":          point("t", nil, map[string]influxsync.Value{"time": influxsync.Int(1)}),
		"NaN":                     point("t", nil, map[string]influxsync.Value{"f": influxsync.Float(math.NaN())}),
		"infinite":                point("t", nil, map[string]influxsync.Value{"f": influxsync.Float(math.Inf(-1))}),
		"no fields":               point("t", nil, nil),
		"not UTF-8":               point("t", map[string]string{"k": "\xff"}, one),
		"empty tag":               {Table: "t", Tags: []influxsync.Tag{{Key: "k"}}, Fields: point("t", nil, one).Fields, Time: start},
		"tag twice":               {Table: "t", Tags: []influxsync.Tag{{Key: "k", Value: "a"}, {Key: "k", Value: "b"}}, Fields: point("t", nil, one).Fields, Time: start},
		"time out of range":       influxsync.NewPoint("t", nil, one, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)),
		"key of 64 KiB and more ": point("t", map[string]string{"k": strings.Repeat("x", 70000)}, one),
	} {
		good := point("good", map[string]string{"k": name}, one)
		if err := db.Write(t.Context(), []influxsync.Point{good, p}); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	var got []influxsync.Point
	if err := db.TimeQuery(t.Context(), "good", schema.Window{}, nil, collect(&got)); err != nil || len(got) != 0 {
		t.Errorf("rows beside a refused one: %v, %v; want none sent", got, err)
	}
}

func TestErrors(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		ctx := t.Context()
		none := s.Database("none")
		if err := none.Select(ctx, "SELECT * FROM x", func(influxsync.Point) error { return nil }); !errors.Is(err, influxsync.ErrNotFound) {
			t.Errorf("read from an unknown database: %v; want ErrNotFound", err)
		}
		if _, err := none.GetTables(ctx); !errors.Is(err, influxsync.ErrNotFound) {
			t.Errorf("tables of an unknown database: %v; want ErrNotFound", err)
		}
		if _, err := influxsync.SyncFull(ctx, none, s.Database("sink"), schema.WindowAt(start, time.Hour)); !errors.Is(err, influxsync.ErrNotFound) {
			t.Errorf("copy of an unknown database: %v; want ErrNotFound", err)
		}
		row := influxsync.NewPoint("t", nil, map[string]influxsync.Value{"f": influxsync.Int(1)}, start)
		var refused *influxsync.WriteError
		if err := none.Write(ctx, []influxsync.Point{row}); !errors.Is(err, influxsync.ErrNotFound) || !errors.As(err, &refused) {
			t.Errorf("write to an unknown database: %v; want a WriteError that is ErrNotFound", err)
		}
		db := create(t, s, "errors")
		if err := db.Write(ctx, []influxsync.Point{row}); err != nil {
			t.Fatal(err)
		}
		other := influxsync.NewPoint("t", nil, map[string]influxsync.Value{"f": influxsync.Str("x")}, start.Add(1))
		if err := db.Write(ctx, []influxsync.Point{other}); !errors.As(err, &refused) || refused.Status != 400 || refused.Dropped != 1 {
			t.Errorf("write of another type: %#v; want status 400, one dropped", err)
		}
		if err := db.Select(ctx, "SELEC", func(influxsync.Point) error { return nil }); err == nil {
			t.Error("a statement that is none was accepted")
		}
		stop := errors.New("enough")
		if err := db.Select(ctx, "SELECT * FROM t", func(influxsync.Point) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("error of the caller: %v", err)
		}
		if err := db.Select(ctx, "DROP MEASUREMENT t", func(influxsync.Point) error { return nil }); err == nil {
			t.Error("Select dropped a table")
		}
	})
}

func create(t testing.TB, s *influxsync.Server, name string) *influxsync.Database {
	t.Helper()
	if err := s.Create(context.Background(), name); err != nil {
		t.Fatal(err)
	}
	return s.Database(name)
}
