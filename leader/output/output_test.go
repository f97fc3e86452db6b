package output

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"golang.org/x/sync/errgroup"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

var quarter = schema.WindowAt(start, schema.Quarter)

// lossy is a transport on which journal writes can be cut off.
type lossy struct {
	http.RoundTripper
	cut atomic.Bool
}

func (l *lossy) RoundTrip(request *http.Request) (*http.Response, error) {
	if l.cut.Load() && request.URL.Path == "/write" {
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		head := make([]byte, 8)
		_, _ = body.Read(head)
		if strings.HasPrefix(string(head), "journal,") {
			return nil, errors.New("cut off")
		}
	}
	return l.RoundTripper.RoundTrip(request)
}

func newTable(t *testing.T) (*Table, *influxsync.Database, *lossy) {
	t.Helper()
	link := &lossy{RoundTripper: influxtest.Open(t, t.TempDir()).Transport()}
	server, err := influxsync.New(influxsync.Config{URL: "http://store", Transport: link})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Create(t.Context(), schema.MinuteDB); err != nil {
		t.Fatal(err)
	}
	db := server.Database(schema.MinuteDB)
	return New(db, schema.EnergyMinute, clock.NewManual(start.Add(time.Hour))), db, link
}

// row is one pod's energy in a minute.
func row(cluster, box, pod string, minute int, active int64) influxsync.Point {
	return influxsync.NewPoint(schema.EnergyMinute.Name,
		map[string]string{schema.Cluster: cluster, schema.Box: box, schema.Pod: pod},
		map[string]influxsync.Value{schema.EnergyActive: influxsync.Int(active), schema.EnergyIdle: influxsync.Int(1), schema.Quality: influxsync.Str(schema.Measured)},
		start.Add(time.Duration(minute)*time.Minute))
}

func of(box string) func(influxsync.Point) bool {
	return func(p influxsync.Point) bool { return p.Tag(schema.Box) == box }
}

func replace(t *testing.T, table *Table, cluster, box string, rows ...influxsync.Point) []schema.Window {
	t.Helper()
	windows, err := table.Replace(t.Context(), cluster, quarter, of(box), rows, "test")
	if err != nil {
		t.Fatal(err)
	}
	return windows
}

// stored is "box/pod" → active + idle of a minute.
func stored(t *testing.T, db *influxsync.Database, cluster string, minute int) map[string]int64 {
	t.Helper()
	found := make(map[string]int64)
	window := schema.WindowAt(start.Add(time.Duration(minute)*time.Minute), schema.Minute)
	err := db.TimeQuery(t.Context(), schema.EnergyMinute.Name, window, []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}, func(p influxsync.Point) error {
		found[p.Tag(schema.Box)+"/"+p.Tag(schema.Pod)] = p.Int(schema.EnergyActive) + p.Int(schema.EnergyIdle)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// checkJournal compares the newest entry of each window with what the store
// returns, and returns how many entries there are.
func checkJournal(ctx context.Context, db *influxsync.Database, cluster string) (int, error) {
	entries, err := influxsync.ReadJournal(ctx, db, cluster, schema.EnergyMinute.Name, time.Time{}, 0)
	if err != nil {
		return 0, err
	}
	if err := influxsync.VerifyChain(entries, ""); err != nil {
		return 0, err
	}
	newest := make(map[schema.Window]influxsync.Entry)
	for _, e := range entries {
		newest[e.Window] = e
	}
	for window, e := range newest {
		var rows int64
		var digest influxsync.Digest
		err := db.TimeQuery(ctx, schema.EnergyMinute.Name, window, []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}, func(p influxsync.Point) error {
			rows++
			digest.Add(p)
			return nil
		})
		if err != nil {
			return 0, err
		}
		if rows != e.Rows || digest != e.Digest {
			return 0, fmt.Errorf("%s: journal has %d rows, %x; store %d, %x", window, e.Rows, uint64(e.Digest), rows, uint64(digest))
		}
	}
	return len(entries), nil
}

func entries(t *testing.T, db *influxsync.Database, cluster string) int {
	t.Helper()
	n, err := checkJournal(t.Context(), db, cluster)
	if err != nil {
		t.Error(err)
	}
	return n
}

func TestReplace(t *testing.T) {
	table, db, _ := newTable(t)
	rows := []influxsync.Point{row("a", "one", "p", 0, 10), row("a", "one", "q", 0, 20), row("a", "one", "p", 1, 30)}
	if got := len(replace(t, table, "a", "one", rows...)); got != 2 {
		t.Errorf("first: %d windows changed, want 2", got)
	}
	if got := replace(t, table, "a", "one", rows...); len(got) != 0 {
		t.Errorf("same rows again changed %v", got)
	}
	if got := entries(t, db, "a"); got != 2 {
		t.Errorf("%d journal entries after the same rows twice, want 2", got)
	}
	replace(t, table, "a", "two", row("a", "two", "r", 0, 5))
	if got := replace(t, table, "a", "one", row("a", "one", "p", 0, 10), row("a", "one", "p", 1, 30)); len(got) != 1 || got[0].From != start {
		t.Errorf("a row less changed %v, want the first minute", got)
	}
	want := map[string]int64{"one/p": 11, "one/q": 0, "two/r": 6}
	if got := stored(t, db, "a", 0); !maps.Equal(got, want) {
		t.Errorf("first minute is %v, want %v", got, want)
	}
	if got := entries(t, db, "a"); got != 4 {
		t.Errorf("%d journal entries, want 4", got)
	}
	// Another process opens the journal and finds nothing to do.
	again := New(db, schema.EnergyMinute, table.clock)
	if got := replace(t, again, "a", "one", row("a", "one", "p", 0, 10), row("a", "one", "p", 1, 30)); len(got) != 0 {
		t.Errorf("after a restart the same rows changed %v", got)
	}
}

// TestReplaceControl: an owns that says yes to all zeroes other scopes' rows,
// which TestReplace would see.
func TestReplaceControl(t *testing.T) {
	table, db, _ := newTable(t)
	replace(t, table, "a", "two", row("a", "two", "r", 0, 5))
	all := func(influxsync.Point) bool { return true }
	if _, err := table.Replace(t.Context(), "a", quarter, all, []influxsync.Point{row("a", "one", "p", 0, 10)}, "test"); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, db, "a", 0)["two/r"]; got != 0 {
		t.Errorf("the other scope's row is %d: owns was not asked", got)
	}
}

// TestCrashBetweenRowsAndJournal: rows are durable, their entry is not.
func TestCrashBetweenRowsAndJournal(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%t", restart), func(t *testing.T) {
			table, db, link := newTable(t)
			replace(t, table, "a", "one", row("a", "one", "p", 0, 10), row("a", "one", "q", 0, 1))
			link.cut.Store(true)
			second := []influxsync.Point{row("a", "one", "p", 0, 11)}
			if _, err := table.Replace(t.Context(), "a", quarter, of("one"), second, "test"); err == nil {
				t.Fatal("the journal was cut off and nobody noticed")
			}
			link.cut.Store(false)
			if _, err := checkJournal(t.Context(), db, "a"); err == nil {
				t.Fatal("control: the journal agrees with rows that it was not told of")
			}
			if restart {
				table = New(db, schema.EnergyMinute, table.clock)
			}
			if got := replace(t, table, "a", "one", second...); len(got) != 1 {
				t.Errorf("the next Replace mended %v, want the one window", got)
			}
			entries(t, db, "a")
			if got := replace(t, table, "a", "one", second...); len(got) != 0 {
				t.Errorf("mended twice: %v", got)
			}
		})
	}
}

func TestConcurrentScopes(t *testing.T) {
	table, db, _ := newTable(t)
	const scopes, rounds = 6, 4
	var group errgroup.Group
	for scope := range scopes {
		group.Go(func() error {
			box := fmt.Sprintf("box-%d", scope)
			for round := range rounds {
				rows := []influxsync.Point{row("a", box, "p", 0, int64(round)), row("a", box, "p", 1+scope, int64(round))}
				if _, err := table.Replace(t.Context(), "a", quarter, of(box), rows, "test"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, want := entries(t, db, "a"), scopes*rounds*2; got != want {
		t.Errorf("%d journal entries, want %d", got, want)
	}
	if got := stored(t, db, "a", 0); len(got) != scopes {
		t.Errorf("rows %v, want one of each of %d scopes", got, scopes)
	}
}

// TestForget: after rows and journal were deleted, the journal begins anew.
func TestForget(t *testing.T) {
	table, db, _ := newTable(t)
	rows := []influxsync.Point{row("a", "one", "p", 0, 10)}
	replace(t, table, "a", "one", rows...)
	for _, name := range []string{schema.EnergyMinute.Name, "journal"} {
		if err := db.Clear(t.Context(), name, []influxsync.Condition{{Tag: schema.Cluster, Value: "a"}}); err != nil {
			t.Fatal(err)
		}
	}
	table.Forget()
	if got := replace(t, table, "a", "one", rows...); len(got) != 1 {
		t.Errorf("written again: %v, want one window", got)
	}
	if got := entries(t, db, "a"); got != 1 {
		t.Errorf("%d entries, want a journal that begins anew", got)
	}
}
