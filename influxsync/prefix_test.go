package influxsync_test

import (
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// TestPrefix: a server keeps the rows whose tag begins with a text, whatever it means to
// a regular expression, as Keeps does; what cannot be written in a statement is an error.
func TestPrefix(t *testing.T) {
	servers(t, func(t *testing.T, s *influxsync.Server) {
		if err := s.Create(t.Context(), "prefixes"); err != nil {
			t.Fatal(err)
		}
		keepsPrefixes(t, s.Database("prefixes"))
	})
}

func keepsPrefixes(t *testing.T, db *influxsync.Database) {
	t.Helper()
	values := []string{"a", "a.b", "axb", "a/b", "a/bc", "b", "ab", "(a", "a'b", `a"b`, "ä-1", "A.b", "a.*", "x a.b"}
	var rows []influxsync.Point
	for _, value := range append(values, "") {
		rows = append(rows, influxsync.NewPoint("t", map[string]string{"k": value, "z": "z"}, map[string]influxsync.Value{"n": influxsync.Int(1)}, time.Unix(1_700_000_000, 0)))
	}
	if err := db.Write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"a", "a.", "a/", "(", "a'", `a"`, "ä", "a.*", "A", "none", "x a", "^a", "a$"} {
		c := influxsync.Condition{Tag: "k", Value: prefix, Prefix: true}
		var got, want []string
		err := db.Query(t.Context(), influxsync.Query{From: "t", Group: []string{"*"}, Where: []influxsync.Condition{c, {Tag: "z", Value: "z"}}}, func(p influxsync.Point) error {
			got = append(got, p.Tag("k"))
			return nil
		})
		for _, value := range values {
			if c.Keeps(value) {
				want = append(want, value)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q: %v", prefix, got, want, err)
		}
	}
	if c := (influxsync.Condition{Tag: "k", Value: "a"}); c.Keeps("ab") || !c.Keeps("a") {
		t.Error("a condition without Prefix is not equality")
	}
	for _, prefix := range []string{"a\nb", `a\b`, "a\x00"} {
		err := db.Query(t.Context(), influxsync.Query{From: "t", Where: []influxsync.Condition{{Tag: "k", Value: prefix, Prefix: true}}}, func(influxsync.Point) error { return nil })
		if err == nil {
			t.Errorf("%q can be asked for", prefix)
		}
	}
}
