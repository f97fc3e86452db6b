package audit

import (
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// TestATypeConflictIsMendedAsTheHintSays: DROP SHARD frees the field's type and
// takes the day's other rows along; a repair brings those back, and a replay those
// that were refused.
func TestATypeConflictIsMendedAsTheHintSays(t *testing.T) {
	b := newBench(t)
	day := schema.WindowAt(start.Add(24*time.Hour), 24*time.Hour) // a shard of its own
	b.write(influxsync.NewPoint("pod", map[string]string{"by": "somebody"}, map[string]influxsync.Value{schema.CPU: influxsync.Float(1)}, day.From))
	n := int(day.From.Sub(start) / time.Minute)
	b.settle(n, 5, "p", "q")
	b.pull()
	refused := func() (rows int64) {
		t.Helper()
		counts, err := b.books.QuarantineCounts(t.Context(), registry.QuarantineFilter{Kind: registry.Refused})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			rows += c.Rows
		}
		return rows
	}
	if refused() != 2 {
		t.Fatalf("%d rows were refused, want 2", refused())
	}
	var shard int64
	err := b.db.Select(t.Context(), "SHOW SHARDS", func(row influxsync.Point) error {
		began, _ := row.Field("start_time")
		if at, err := time.Parse(time.RFC3339, began.Str()); err == nil && at.Equal(day.From) {
			shard = row.Int("id")
		}
		return nil
	})
	if err != nil || shard == 0 {
		t.Fatalf("shard %d, %v", shard, err)
	}
	b.execute(b.engine, fmt.Sprint("DROP SHARD ", shard))
	report, err := b.Audit(t.Context(), Request{Cluster: "a", Window: day, Repair: true})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, report, fmt.Sprint("node rows-missing ", n, " repaired"))
	// All rows of pod were refused: the quarantine explains why they are missing,
	// and a replay brings them.
	outcome, err := quarantine.New(b.books, b.parts.Centre, b.puller, b.gate).Replay(t.Context(), registry.QuarantineFilter{Cluster: "a"})
	if err != nil || outcome.Accepted != 2 || refused() != 0 {
		t.Errorf("replayed %+v, %v; %d rows are left", outcome, err, refused())
	}
	report, err = b.Audit(t.Context(), Request{Cluster: "a", Window: day})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, report)
}
