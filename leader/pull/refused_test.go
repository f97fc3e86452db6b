package pull

import (
	"database/sql"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/registry"
	_ "github.com/mattn/go-sqlite3"
)

// conflict makes the centre refuse the CPU of pods: somebody wrote floats there.
func (c *centre) conflict() {
	c.t.Helper()
	other := influxsync.NewPoint(schema.PodMinute.Name, map[string]string{"by": "somebody"}, map[string]influxsync.Value{schema.CPU: influxsync.Float(0.5)}, start)
	if err := c.server.Database(schema.MinuteDB).Write(c.t.Context(), []influxsync.Point{other}); err != nil {
		c.t.Fatal(err)
	}
}

// kept are the refused rows.
func (c *centre) kept() []registry.Quarantined {
	c.t.Helper()
	rows, err := c.books.Quarantined(c.t.Context(), registry.QuarantineFilter{Kind: registry.Refused}, 0, 100)
	if err != nil {
		c.t.Fatal(err)
	}
	return rows
}

// exec changes the registry's file behind its back.
func (c *centre) exec(statement string, args ...any) {
	c.t.Helper()
	db, err := sql.Open("sqlite3", c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(statement, args...); err != nil {
		c.t.Fatal(err)
	}
}

// TestNoRefusedRowIsLost: a row that the centre refuses is kept with the mark or
// not at all. Where the leader ends between the two, which here is a transaction
// that fails at its last step, the mark stands still and the next pull brings
// the rows again.
func TestNoRefusedRowIsLost(t *testing.T) {
	c := newCentre(t)
	c.conflict()
	f := followertest.New(t, "a", c.clk)
	settle(f, "a", minutes(0, 3), "n1", "n2")
	c.exec("CREATE TRIGGER killed BEFORE INSERT ON due BEGIN SELECT RAISE(ABORT, 'killed'); END")
	if _, err := c.Pull(t.Context(), "a", f.Store); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("pull: %v", err)
	}
	if mark := c.mark(schema.PodMinute); mark != (influxsync.Mark{}) || len(c.kept()) != 0 {
		t.Errorf("mark %+v, kept %v after a transaction that failed", mark, c.kept())
	}
	c.exec("DROP TRIGGER killed")
	c.pull(f)
	rows := c.kept()
	if len(rows) != 6 || c.mark(schema.PodMinute) == (influxsync.Mark{}) || c.rows(schema.PodMinute, "a") != 0 {
		t.Errorf("%d rows are kept, want 6; %d are in the centre", len(rows), c.rows(schema.PodMinute, "a"))
	}
	for _, row := range rows {
		if row.Class != influxsync.TypeConflict || !strings.HasPrefix(row.Line, "pod,") || strings.HasSuffix(row.Line, "\n") || row.Reason == "" || row.To.Sub(row.From) != time.Minute {
			t.Errorf("%+v", row)
		}
	}
	if n := c.rows(schema.NodeMinute, "a"); n != 6 {
		t.Errorf("%d rows of the table beside it, want 6", n)
	}
	ledger, err := c.books.Ledger(t.Context(), "a", schema.PodMinute.Name, minutes(0, 3))
	if err != nil || len(ledger) != 3 || ledger[0].Refused != 2 || ledger[0].Rows != 2 {
		t.Errorf("ledger %+v, %v", ledger, err)
	}
	// A newer revision takes the place of what was kept of the older one.
	settle(f, "a", minutes(0, 1), "n1")
	before := c.kept()
	c.pull(f)
	if after := c.kept(); len(after) != len(before) {
		t.Errorf("%d rows are kept after a revision, want %d", len(after), len(before))
	}
}

// watched counts the requests that name a table.
type watched struct {
	http.RoundTripper
	table string
	seen  int
}

func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.RawQuery, w.table) {
		w.seen++
	}
	return w.RoundTripper.RoundTrip(r)
}

// TestAFullQuarantineStopsItsTable: nothing is asked of it, the others go on,
// and with room again it goes on where it was.
func TestAFullQuarantineStopsItsTable(t *testing.T) {
	c := newCentre(t)
	c.conflict()
	f := followertest.New(t, "a", c.clk)
	server := f.Serve()
	link := &watched{RoundTripper: http.DefaultTransport, table: schema.PodMinute.Name}
	follower, err := influxsync.New(influxsync.Config{URL: server.URL, Transport: link})
	if err != nil {
		t.Fatal(err)
	}
	settle(f, "a", minutes(0, 1), "n1")
	if _, err := c.Pull(t.Context(), "a", follower); err != nil || link.seen == 0 {
		t.Fatalf("%v after %d requests", err, link.seen)
	}
	c.exec(`WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO quarantine (cluster, tbl, kind, class, window_from, window_to, store, hash, reason, point, line, first_at, last_at, seen)
		SELECT 'a', 'pod', 'refused', 'malformed', 1, 2, 's', i, '', '', 'x', 0, 0, 1 FROM n`, registry.MaxRefused+100)
	settle(f, "a", minutes(1, 3), "n1")
	mark := c.mark(schema.PodMinute)
	link.seen = 0
	result, err := c.Pull(t.Context(), "a", follower)
	if !errors.Is(err, ErrQuarantineFull) || !strings.Contains(err.Error(), "pod of a") || strings.Contains(err.Error(), "node") {
		t.Errorf("pull: %v", err)
	}
	if link.seen != 0 || c.mark(schema.PodMinute) != mark || result.Windows != 2 || c.rows(schema.NodeMinute, "a") != 3 {
		t.Errorf("%d requests for the table, %+v, %d nodes", link.seen, result, c.rows(schema.NodeMinute, "a"))
	}
	if _, err := c.books.Discard(t.Context(), registry.QuarantineFilter{Class: influxsync.Malformed}, "test", "test"); err != nil {
		t.Fatal(err)
	}
	if result, err := c.Pull(t.Context(), "a", follower); err != nil || result.Windows != 2 || len(c.kept()) < 3 {
		t.Errorf("with room again: %+v, %v, %d rows kept", result, err, len(c.kept()))
	}
}
