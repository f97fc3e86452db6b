package influxsync_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

var flatTable = schema.Table{Name: "t", DB: schema.MinuteDB, Tags: []string{"z", "a", "m"},
	Fields: []schema.Field{{Name: "n"}, {Name: "b", Type: schema.Boolean}, {Name: "f", Type: schema.Float}, {Name: "o", Optional: true}}}

// TestFlatIsGrouped: a flat answer gives the rows of a grouped one, whatever
// tags and fields each has, from every kind of server and in more than one chunk.
func TestFlatIsGrouped(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		db := create(t, s, "minute")
		var rows []influxsync.Point
		for i := range 6 {
			for j, tags := range []tagSet{nil, {"a": "1"}, {"z": "1"}, {"m": "x,y= \"z\"", "a": "ä"}, {"a": "1", "m": "2", "z": "3"}, {"a": "12", "m": "3"}, {"a": "1", "m": "23"}} {
				fields := fieldSet{"n": influxsync.Int(int64(i) - math.MaxInt64)}
				if (i+j)%2 == 0 {
					fields["b"], fields["f"] = influxsync.Bool(j%3 == 0), influxsync.Float(float64(j)/3)
				}
				if (i+j)%3 == 0 {
					delete(fields, "n")
					fields["o"] = influxsync.Int(int64(j))
				}
				rows = append(rows, influxsync.NewPoint("t", tags, fields, minute(i).From))
			}
		}
		for i := range 11_000 { // more than a chunk
			rows = append(rows, influxsync.NewPoint("t", tagSet{"a": fmt.Sprint(i % 7)}, fieldSet{"n": influxsync.Int(int64(i))}, minute(10).From.Add(time.Duration(i))))
		}
		if err := db.Write(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		want, err := influxsync.RowLines(t.Context(), db, flatTable, day, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := influxsync.RowLines(t.Context(), db, flatTable, day, true)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-grouped +flat):\n%s", err, diff)
		}
	})
}

// TestSyncOfColumnsThatTheTableDoesNotName: rows with columns of which a flat
// answer does not say what they are come whole all the same, and nothing else
// does.
func TestSyncOfColumnsThatTheTableDoesNotName(t *testing.T) {
	tags := func(more ...string) tagSet {
		set := tagSet{schema.Cluster: "edge", schema.Pod: "p"}
		for i := 0; i < len(more); i += 2 {
			set[more[i]] = more[i+1]
		}
		return set
	}
	one := influxsync.Int(1)
	plain := influxsync.NewPoint("pod", tags(), fieldSet{schema.CPU: one, schema.Memory: one}, minute(0).From)
	for name, c := range map[string]struct {
		row  influxsync.Point
		flat bool
	}{
		"nothing else":                {plain, true},
		"a tag":                       {influxsync.NewPoint("pod", tags("zone", "a"), fieldSet{schema.CPU: one}, minute(1).From), false},
		"a field":                     {influxsync.NewPoint("pod", tags(), fieldSet{schema.CPU: one, "new": one}, minute(1).From), false},
		"a text in a field's place":   {influxsync.NewPoint("pod", tags("other", ""), fieldSet{schema.CPU: influxsync.Str("x")}, minute(1).From.AddDate(0, 3, 0)), false},
		"a tag with a field's name":   {influxsync.NewPoint("pod", tags(schema.CPU, "7"), fieldSet{schema.Memory: one}, minute(1).From.AddDate(0, 3, 0)), false},
		"a field with a tag's name":   {influxsync.NewPoint("pod", tagSet{schema.Cluster: "edge"}, fieldSet{schema.Pod: one}, minute(1).From.AddDate(0, 3, 0)), false},
		"a tag and a field of a name": {influxsync.NewPoint("pod", tags("x", "1"), fieldSet{"x": one}, minute(1).From), false},
	} {
		t.Run(name, func(t *testing.T) {
			servers(t, func(t *testing.T, s *influxsync.Server) {
				source, sink := create(t, s, "source"), create(t, s, "sink")
				w := newWriter(t, source, podTable, "edge")
				for i, row := range []influxsync.Point{plain, c.row} {
					window := schema.WindowAt(row.Time, schema.Minute)
					if w.rows[window] == nil {
						w.rows[window] = make(map[string]influxsync.Point)
					}
					w.rows[window][fmt.Sprint(row.Tags)] = row
					if err := source.Write(t.Context(), []influxsync.Point{row}); err != nil {
						t.Fatal(err)
					}
					if i == 0 || !row.Time.Equal(plain.Time) {
						w.settle(window)
					}
				}
				window := schema.WindowAt(c.row.Time, schema.Minute)
				if _, err := influxsync.RowLines(t.Context(), source, podTable, window, true); errors.Is(err, influxsync.ErrNotFlat) == c.flat || c.flat && err != nil {
					t.Errorf("flat: %v", err)
				}
				result, err := influxsync.Sync(t.Context(), influxsync.SyncRequest{Source: source, Sink: sink, Table: podTable, Cluster: "edge"})
				if err != nil || result.Extra+result.ForeignRows+len(result.Refused) > 0 {
					t.Fatalf("%+v, %v", result, err)
				}
				if diff := equalTables(t, source, sink, "pod"); diff != "" {
					t.Errorf("(-source +sink):\n%s", diff)
				}
			})
		})
	}
}
