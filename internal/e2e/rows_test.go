package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// key is a row's table, tags and time.
func key(p influxsync.Point) string {
	var b strings.Builder
	b.WriteString(p.Table)
	for _, tag := range p.Tags {
		fmt.Fprintf(&b, " %s=%s", tag.Key, tag.Value)
	}
	return b.String() + p.Time.Format(" 2006-01-02T15:04:05.999999999Z")
}

// read is a table's rows, of a cluster or of all.
func read(t testing.TB, db *influxsync.Database, table, cluster string) []influxsync.Point {
	t.Helper()
	var where []influxsync.Condition
	if cluster != "" {
		where = []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}
	}
	var rows []influxsync.Point
	err := db.TimeQuery(context.Background(), table, schema.Window{}, where, func(p influxsync.Point) error {
		p.Table = table
		p.Tags, p.Fields = slices.Clone(p.Tags), slices.Clone(p.Fields)
		rows = append(rows, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// byKey is rows with what they say.
func byKey(rows []influxsync.Point) map[string]uint64 {
	all := make(map[string]uint64, len(rows))
	for _, p := range rows {
		all[key(p)] = p.Hash()
	}
	return all
}

// differ says how two sets of rows differ, or "".
func differ(a, b map[string]uint64) string {
	var wrong []string
	for k, hash := range a {
		switch other, ok := b[k]; {
		case !ok:
			wrong = append(wrong, "- "+k)
		case other != hash:
			wrong = append(wrong, "≠ "+k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			wrong = append(wrong, "+ "+k)
		}
	}
	if len(wrong) == 0 {
		return ""
	}
	slices.Sort(wrong)
	return fmt.Sprintf("%d of %d rows differ:\n%s", len(wrong), len(a), strings.Join(wrong[:min(len(wrong), 12)], "\n"))
}

// dump is everything that databases hold, journals included.
func dump(t testing.TB, dbs ...*influxsync.Database) map[string]uint64 {
	t.Helper()
	all := make(map[string]uint64)
	for _, db := range dbs {
		tables, err := db.GetTables(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			for k, hash := range byKey(read(t, db, table, "")) {
				all[db.Name()+" "+k] = hash
			}
		}
	}
	return all
}

// dumpAll is everything that the centre and the followers hold, as far as
// their ports show it.
func (w *world) dumpAll() map[string]uint64 {
	w.Helper()
	all := make(map[string]uint64)
	for _, name := range []string{schema.MinuteDB, schema.FactsDB, schema.QuarterDB, schema.MetersDB} {
		for k, hash := range dump(w, w.centre.database(name)) {
			all["centre "+k] = hash
		}
	}
	for _, s := range w.sites {
		for _, name := range []string{schema.MinuteDB, schema.FactsDB, schema.ResultsDB} {
			for k, hash := range dump(w, s.database(name)) {
				all[s.cluster+" "+k] = hash
			}
		}
	}
	return all
}

// opened is the store of a follower that is down.
func (s *site) opened(t testing.TB) *influxsync.Server {
	t.Helper()
	server, err := influxtest.Open(t, filepath.Join(s.config.Dir, "influxdb")).Client()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// field and tags sum up rows.
func sums(rows []influxsync.Point, field string, where func(influxsync.Point) bool, tags ...string) map[string]int64 {
	all := make(map[string]int64)
	for _, p := range rows {
		if where != nil && !where(p) {
			continue
		}
		var id []string
		for _, tag := range tags {
			if tag == "time" {
				id = append(id, p.Time.Format(time.RFC3339))
				continue
			}
			id = append(id, p.Tag(tag))
		}
		all[strings.Join(id, " ")] += p.Int(field)
	}
	return all
}

func isRest(p influxsync.Point) bool { return strings.HasPrefix(p.Tag(schema.Namespace), "__") }

func isPod(p influxsync.Point) bool { return !isRest(p) }

// unequal says which sums differ by more than slack, or "".
func unequal(a, b map[string]int64, slack int64) string {
	var wrong []string
	ids := maps.Clone(a)
	maps.Copy(ids, b)
	for id := range ids {
		if d := a[id] - b[id]; d > slack || -d > slack {
			wrong = append(wrong, fmt.Sprintf("%s: %d and %d differ by %d", id, a[id], b[id], d))
		}
	}
	if len(wrong) == 0 {
		return ""
	}
	slices.Sort(wrong)
	return fmt.Sprintf("%d of %d:\n%s", len(wrong), len(ids), strings.Join(wrong[:min(len(wrong), 12)], "\n"))
}
