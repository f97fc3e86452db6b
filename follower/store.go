package follower

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/follower/meter"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// store is the follower's InfluxDB.
type store struct {
	*influxsync.Server
	upstream upstream
	close    func() error
}

// databases are what a follower has.
var databases = []string{schema.RawDB, schema.MinuteDB, schema.FactsDB, schema.ResultsDB}

// maxBuckets bounds the intervals of GROUP BY time: two years of minutes.
const maxBuckets = 1 << 20

// openStore opens the embedded engine, or names the external server.
func openStore(c Config, log *slog.Logger) (*store, error) {
	if c.InfluxURL != "" {
		server, err := influxsync.New(influxsync.Config{URL: c.InfluxURL, TokenFile: c.InfluxTokenFile})
		if err != nil {
			return nil, err
		}
		up, err := newUpstream(c.InfluxURL, server.Authorize, nil)
		if err != nil {
			return nil, err
		}
		return &store{Server: server, upstream: up, close: func() error { up.transport.CloseIdleConnections(); return nil }}, nil
	}
	engine, err := embedded.Open(embedded.Config{Dir: filepath.Join(c.Dir, "influxdb"), MaxBuckets: maxBuckets}, log)
	if err != nil {
		return nil, err
	}
	server, err := engine.Client()
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	up, err := newUpstream("http://embedded", server.Authorize, engine.Transport())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &store{Server: server, upstream: up, close: engine.Close}, nil
}

// rows is a database as the meter sees it.
type rows struct{ *influxsync.Database }

// Rows hands out the rows of a table in a window, of one node or of all.
func (r rows) Rows(ctx context.Context, table, node string, w schema.Window, each func(influxsync.Point) error) error {
	return r.TimeQuery(ctx, table, w, ofNode(node), named(table, each))
}

// Last hands out the newest row before a moment of each series.
func (r rows) Last(ctx context.Context, table, node string, before time.Time, each func(influxsync.Point) error) error {
	query := influxsync.Query{From: table, Window: schema.Window{To: before}, Where: ofNode(node), Group: []string{"*"}, Descending: true, Limit: 1}
	return r.Query(ctx, query, named(table, each))
}

func ofNode(node string) []influxsync.Condition {
	if node == "" {
		return nil
	}
	return []influxsync.Condition{{Tag: schema.Node, Value: node}}
}

func named(table string, each func(influxsync.Point) error) func(influxsync.Point) error {
	return func(p influxsync.Point) error {
		p.Table = table
		return each(p)
	}
}

// openJournals opens the journals of the tables that the meter writes. The
// lanes of one store share them.
func openJournals(ctx context.Context, db *influxsync.Database, cluster string, clk clock.Clock) (map[string]meter.Journal, error) {
	journals := make(map[string]meter.Journal)
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		opened, err := influxsync.OpenJournal(ctx, db, cluster, table, clk)
		if err != nil {
			return nil, err
		}
		journals[table.Name] = opened
	}
	return journals, nil
}
