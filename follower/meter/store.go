package meter

import (
	"context"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Influx is a Store in InfluxDB.
func Influx(db *influxsync.Database) Store { return database{db} }

type database struct{ *influxsync.Database }

// Rows reads a table's rows in a window.
func (d database) Rows(ctx context.Context, table, node string, w schema.Window, each func(influxsync.Point) error) error {
	return d.TimeQuery(ctx, table, w, ofNode(node), each)
}

// Last reads the newest row of each series.
func (d database) Last(ctx context.Context, table, node string, before time.Time, each func(influxsync.Point) error) error {
	return d.Query(ctx, influxsync.Query{From: table, Where: ofNode(node), Group: []string{"*"},
		Window: schema.Window{To: before}, Descending: true, Limit: 1}, each)
}

func ofNode(node string) []influxsync.Condition {
	if node == "" {
		return nil
	}
	return []influxsync.Condition{{Tag: schema.Node, Value: node}}
}
