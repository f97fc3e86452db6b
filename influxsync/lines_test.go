package influxsync_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// TestWriteLines: the server's real answers, each by its class, and the rows
// beside the refused ones stored.
func TestWriteLines(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		db := create(t, s, "minute")
		line := func(text string, i int, n int64) string {
			return fmt.Sprintf("%s %d", strings.ReplaceAll(text, "#", fmt.Sprint(i)), start.UnixNano()+n)
		}
		write := func(lines ...string) []influxsync.LineRefusal {
			t.Helper()
			refused, err := db.WriteLines(t.Context(), lines)
			if err != nil {
				t.Fatal(err)
			}
			return refused
		}
		if refused := write(line("pod,k=x v=1.5", 0, -1)); refused != nil {
			t.Fatalf("a float first: %v", refused)
		}
		var lines []string
		want := make(map[int]influxsync.Class)
		for i := range 100 {
			switch {
			case i%10 == 3:
				want[i] = influxsync.TypeConflict
				lines = append(lines, line("pod,k=# v=#i", i, int64(i)))
			case i == 55:
				want[i] = influxsync.Malformed
				lines = append(lines, line("pod,k=# v=", i, int64(i)))
			case i == 56:
				want[i] = influxsync.Malformed
				lines = append(lines, line("pod,k=#,time=1 v=#", i, int64(i)))
			case i == 57:
				want[i] = influxsync.Malformed
				lines = append(lines, line("pod,k=# time=#i", i, int64(i)))
			default: // another day too, which is another shard
				lines = append(lines, line("pod,k=# v=#", i, int64(i)+int64(i%2)*int64(24*time.Hour)))
			}
		}
		got := make(map[int]influxsync.Class)
		for _, r := range write(lines...) {
			got[r.Index] = r.Class
			if r.Line != lines[r.Index] || r.Reason == "" {
				t.Errorf("%+v, want line %q", r, lines[r.Index])
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("refused (-want +got):\n%s", diff)
		}
		if n := len(held(t, db, "pod")); n != 1+100-len(want) {
			t.Errorf("%d rows are stored, want %d", n, 1+100-len(want))
		}
	})
}

// TestWriteLinesOfTwoTypesAtOnce: a field that one request makes with two types
// is refused for the shard as a whole, without a number.
func TestWriteLinesOfTwoTypesAtOnce(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		db := create(t, s, "minute")
		refused, err := db.WriteLines(t.Context(), []string{"m,k=1 v=1i 1", "m,k=2 v=2.5 2", "m,k=3 v=3i 3"})
		if err != nil || len(refused) != 1 || refused[0].Index != 1 || refused[0].Class != influxsync.TypeConflict {
			t.Errorf("%+v, %v; want the second one refused", refused, err)
		}
		if n := len(held(t, db, "m")); n != 2 {
			t.Errorf("%d rows are stored, want 2", n)
		}
	})
}

func TestWriteLinesErrors(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		refused, err := s.Database("nowhere").WriteLines(t.Context(), []string{"m v=1i 1"})
		if refused != nil || influxsync.ClassOf(err) != influxsync.NoDatabase {
			t.Errorf("no database: %v, %v of class %q", refused, err, influxsync.ClassOf(err))
		}
		db := create(t, s, "minute")
		for _, lines := range [][]string{{"m v=1i 1", "# a comment"}, {""}, {"m v=1i 1\nm v=2i 2"}} {
			if _, err := db.WriteLines(t.Context(), lines); err == nil || !strings.Contains(err.Error(), "not one row") {
				t.Errorf("%q: %v", lines, err)
			}
		}
		if n := len(held(t, db, "m")); n != 0 {
			t.Errorf("%d rows were written of what is no row", n)
		}
		if refused, err := db.WriteLines(t.Context(), nil); refused != nil || err != nil {
			t.Errorf("nothing: %v, %v", refused, err)
		}
	})
}

// TestLineOf: what a kept line brings back is the row, of any type.
func TestLineOf(t *testing.T) { servers(t, testLineOf) }

func testLineOf(t *testing.T, s *influxsync.Server) {
	db := create(t, s, "minute")
	var want []influxsync.Point
	var lines []string
	for i, text := range awkward {
		p := influxsync.NewPoint("m", map[string]string{"i": fmt.Sprint(100 + i)}, map[string]influxsync.Value{
			"s": influxsync.Str(text + "\n" + text), "i": influxsync.Int(math.MinInt64), "f": influxsync.Float(1), "b": influxsync.Bool(true)}, start)
		line, err := influxsync.LineOf(p)
		if err != nil {
			t.Fatal(err)
		}
		want, lines = append(want, p), append(lines, line)
	}
	if refused, err := db.WriteLines(t.Context(), lines); refused != nil || err != nil {
		t.Fatal(refused, err)
	}
	var got []influxsync.Point
	if err := db.TimeQuery(t.Context(), "m", schema.Window{}, nil, collect(&got)); err != nil {
		t.Fatal(err)
	}
	compare(t, got, want)
	if _, err := influxsync.LineOf(influxsync.NewPoint("m", nil, map[string]influxsync.Value{"v": influxsync.Float(math.NaN())}, start)); err == nil {
		t.Error("a row that cannot be held has a line")
	}
}
