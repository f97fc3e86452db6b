package push

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/output"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

type centre struct {
	*Pusher
	t      *testing.T
	books  *registry.Registry
	server *influxsync.Server
	energy *output.Table
}

func newCentre(t *testing.T) *centre {
	t.Helper()
	return newCentreOn(t, influxtest.New(t))
}

func newCentreOn(t *testing.T, server *influxsync.Server) *centre {
	t.Helper()
	clk := clock.NewManual(start.Add(time.Hour))
	c := &centre{t: t, server: server}
	if err := c.server.Create(t.Context(), schema.MinuteDB, schema.QuarterDB); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.books, err = registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.books.Close() })
	c.Pusher = New(c.books, c.server)
	c.energy = output.New(c.server.Database(schema.MinuteDB), schema.EnergyMinute, clk)
	return c
}

// energyOf writes a cluster's energy of the first n minutes.
func (c *centre) energyOf(cluster string, n int, millijoules int64) {
	c.t.Helper()
	id, err := c.books.BoxID(c.t.Context(), cluster, "rack-in-the-cellar")
	if err != nil {
		c.t.Fatal(err)
	}
	var rows []influxsync.Point
	for i := range n {
		rows = append(rows, influxsync.NewPoint(schema.EnergyMinute.Name, map[string]string{schema.Cluster: cluster, schema.Box: id, schema.Pod: "p"},
			map[string]influxsync.Value{schema.EnergyActive: influxsync.Int(millijoules)}, start.Add(time.Duration(i)*time.Minute)))
	}
	all := func(influxsync.Point) bool { return true }
	span := schema.Window{From: start, To: start.Add(time.Duration(n) * time.Minute)}
	if _, err := c.energy.Replace(c.t.Context(), cluster, span, all, rows, "test"); err != nil {
		c.t.Fatal(err)
	}
}

func newFollower(t *testing.T) *influxsync.Server {
	t.Helper()
	server := influxtest.New(t)
	if err := server.Create(t.Context(), schema.ResultsDB); err != nil {
		t.Fatal(err)
	}
	return server
}

// results counts a follower's rows by cluster, and looks for a text in all that
// it holds.
func results(t *testing.T, follower *influxsync.Server, secret string) map[string]int {
	t.Helper()
	db := follower.Database(schema.ResultsDB)
	tables, err := db.GetTables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, table := range tables {
		err := db.TimeQuery(t.Context(), table, schema.Window{}, nil, func(row influxsync.Point) error {
			if strings.Contains(fmt.Sprint(row), secret) {
				t.Errorf("%s names %s: %v", table, secret, row)
			}
			if table == schema.EnergyMinute.Name {
				counts[row.Tag(schema.Cluster)]++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return counts
}

func (c *centre) push(follower *influxsync.Server) int {
	c.t.Helper()
	rows, err := c.Push(c.t.Context(), "a", follower)
	if err != nil {
		c.t.Fatal(err)
	}
	return rows
}

// TestPush: only the cluster's own rows, by random ids; again is nothing; a
// revision follows.
func TestPush(t *testing.T) {
	c, follower := newCentre(t), newFollower(t)
	c.energyOf("a", 5, 10)
	c.energyOf("b", 5, 20)
	if got := c.push(follower); got != 5 {
		t.Errorf("pushed %d rows, want 5", got)
	}
	if got := results(t, follower, "rack-in-the-cellar"); got["a"] != 5 || got["b"] != 0 {
		t.Errorf("rows at a's follower: %v", got)
	}
	if got := c.push(follower); got != 0 {
		t.Errorf("pushed again: %d rows", got)
	}
	c.energyOf("a", 2, 11)
	if got := c.push(follower); got != 2 {
		t.Errorf("a revision of two minutes pushed %d rows", got)
	}
}

// TestPushControl: read as a follower's own store would be, without the filter
// of the cluster, the shared table does not agree with one cluster's journal, or
// another cluster's rows are met: the filter is what keeps them here.
func TestPushControl(t *testing.T) {
	c, follower := newCentre(t), newFollower(t)
	c.energyOf("a", 5, 10)
	c.energyOf("b", 5, 20)
	result, err := influxsync.Sync(t.Context(), influxsync.SyncRequest{Source: c.server.Database(schema.MinuteDB), Sink: follower.Database(schema.ResultsDB),
		Table: schema.EnergyMinute, Cluster: "a"})
	if err == nil && result.ForeignRows == 0 {
		t.Error("without the filter no row of another cluster was met")
	}
}

// TestPushResumes: a follower that fails leaves the mark where it was.
func TestPushResumes(t *testing.T) {
	c, follower := newCentre(t), newFollower(t)
	c.energyOf("a", entriesAtOnce+20, 10)
	gone, err := influxsync.New(influxsync.Config{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Push(t.Context(), "a", gone); err == nil {
		t.Fatal("a follower that is gone took rows")
	}
	if at, err := c.books.Mark(t.Context(), "a", mark(schema.EnergyMinute)); err != nil || at != (influxsync.Mark{}) {
		t.Errorf("mark %+v, %v after a push that failed", at, err)
	}
	if got := c.push(follower); got != entriesAtOnce+20 {
		t.Errorf("pushed %d rows, want %d", got, entriesAtOnce+20)
	}
	// The follower lost its volume: all comes again.
	other := newFollower(t)
	if err := c.books.Received(t.Context(), "a", mark(schema.EnergyMinute), registry.Receipt{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := c.push(other); got != entriesAtOnce+20 {
		t.Errorf("from the beginning: %d rows, want %d", got, entriesAtOnce+20)
	}
}
