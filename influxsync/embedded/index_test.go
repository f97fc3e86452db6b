package embedded_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"golang.org/x/sync/errgroup"
)

// TestSeriesAddedDuringAQuery: series that are written while a query asks by
// their tag are seen by the next one. With the index's cache of series by tag
// value some are missing from then on.
func TestSeriesAddedDuringAQuery(t *testing.T) {
	const clusters, series = 60, 40
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	db := server.Database(schema.MinuteDB)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	count := func(cluster string) (n int, err error) {
		err = db.TimeQuery(t.Context(), "pod", schema.WindowAt(at, schema.Minute), []influxsync.Condition{{Tag: "cluster", Value: cluster}},
			func(influxsync.Point) error { n++; return nil })
		return n, err
	}
	var group errgroup.Group
	for c := range clusters {
		cluster := fmt.Sprintf("c%d", c)
		group.Go(func() error {
			for i := range series {
				row := influxsync.NewPoint("pod", map[string]string{"cluster": cluster, "pod": fmt.Sprint(i)}, map[string]influxsync.Value{"n": influxsync.Int(1)}, at)
				if err := db.Write(t.Context(), []influxsync.Point{row}); err != nil {
					return err
				}
			}
			return nil
		})
		group.Go(func() error {
			for {
				n, err := count(cluster)
				if err != nil || n > series/2 {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for c := range clusters {
		if n, err := count(fmt.Sprintf("c%d", c)); err != nil || n != series {
			t.Errorf("cluster %d: %d of %d series, %v", c, n, series, err)
		}
	}
}
