package audit

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/google/go-cmp/cmp"
	_ "github.com/mattn/go-sqlite3"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func minute(n int) schema.Window {
	return schema.WindowAt(start.Add(time.Duration(n)*time.Minute), schema.Minute)
}

type gate struct{ held int }

func (g *gate) Alone(ctx context.Context, _ string, do func(context.Context) error) error {
	g.held++
	return do(ctx)
}

// bench is a centre that has pulled ten minutes of node and pod of a follower.
type bench struct {
	*Auditor
	t        *testing.T
	clk      *clock.Manual
	path     string
	books    *registry.Registry
	engine   *embedded.Server
	db       *influxsync.Database
	puller   *pull.Puller
	follower *followertest.Follower
	down     error
	gate     *gate
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, clk: clock.NewManual(start.Add(time.Hour)), path: filepath.Join(t.TempDir(), "registry.db"), engine: influxtest.Open(t, t.TempDir()), gate: &gate{}}
	centre, err := b.engine.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := centre.Create(t.Context(), schema.MinuteDB, schema.FactsDB); err != nil {
		t.Fatal(err)
	}
	if b.books, err = registry.Open(t.Context(), b.path, b.clk); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.books.Close() })
	if _, err := b.books.Apply(t.Context(), []fleet.Object{fleet.NewObject("a", fleet.Cluster{URL: "http://127.0.0.1:1"})}, "test"); err != nil {
		t.Fatal(err)
	}
	b.db, b.puller, b.follower = centre.Database(schema.MinuteDB), pull.New(b.books, centre), followertest.New(t, "a", b.clk)
	b.Auditor = New(Parts{Registry: b.books, Centre: centre, Copier: b.puller, Gate: b.gate,
		Follower: func(context.Context, string) (*influxsync.Server, error) { return b.follower.Store, b.down }}, b.clk)
	var nodes, pods []influxsync.Point
	for n := range 10 {
		nodes = append(nodes, row(schema.NodeMinute, n, "", 5))
		pods = append(pods, row(schema.PodMinute, n, "p", 5), row(schema.PodMinute, n, "q", 5))
	}
	b.follower.Settle(schema.NodeMinute, schema.Window{From: start, To: minute(9).To}, nodes...)
	b.follower.Settle(schema.PodMinute, schema.Window{From: start, To: minute(9).To}, pods...)
	b.pull()
	return b
}

func row(table schema.Table, n int, pod string, cpu int64) influxsync.Point {
	tags := map[string]string{schema.Cluster: "a", schema.Node: "n1"}
	if table.Name == schema.PodMinute.Name {
		tags[schema.Pod] = pod
	}
	return followertest.Row(table, minute(n).From, tags, map[string]int64{schema.CPU: cpu, schema.Uptime: 60_000})
}

// settle makes a minute of the follower, in a new revision.
func (b *bench) settle(n int, cpu int64, pods ...string) {
	b.t.Helper()
	b.follower.Settle(schema.NodeMinute, minute(n), row(schema.NodeMinute, n, "", cpu))
	var rows []influxsync.Point
	for _, pod := range pods {
		rows = append(rows, row(schema.PodMinute, n, pod, cpu))
	}
	b.follower.Settle(schema.PodMinute, minute(n), rows...)
}

func (b *bench) pull() {
	b.t.Helper()
	if _, err := b.puller.Pull(b.t.Context(), "a", b.follower.Store); err != nil {
		b.t.Fatal(err)
	}
	b.clk.Advance(time.Minute)
}

// execute runs a statement on the centre's store, past everything.
func (b *bench) execute(engine *embedded.Server, statement string) {
	b.t.Helper()
	q := url.Values{"db": {schema.MinuteDB}, "q": {statement}}
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "http://centre/query?"+q.Encode(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	response, err := engine.Transport().RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		b.t.Fatal(response, err)
	}
	text, err := io.ReadAll(response.Body) // who leaves early ends the statement
	if err != nil || strings.Contains(string(text), "error") {
		b.t.Fatal(string(text), err)
	}
	_ = response.Body.Close()
}

func (b *bench) write(rows ...influxsync.Point) {
	b.t.Helper()
	if err := b.db.Write(b.t.Context(), rows); err != nil {
		b.t.Fatal(err)
	}
}

// spoil changes the registry's file behind its back.
func (b *bench) spoil(statement string, args ...any) {
	b.t.Helper()
	db, err := sql.Open("sqlite3", b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(statement, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) audit(repair bool) Report {
	b.t.Helper()
	report, err := b.Audit(b.t.Context(), Request{Cluster: "a", Window: schema.Window{From: start.Add(-24 * time.Hour), To: start.Add(time.Hour)}, Repair: repair})
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

// found are the findings as "table kind minute[+windows][ repaired]".
func found(report Report) []string {
	list := []string{}
	for _, table := range report.Tables {
		for _, f := range table.Findings {
			text := table.Table + " " + string(f.Kind)
			if !f.From.IsZero() {
				text += fmt.Sprint(" ", int(f.From.Sub(start)/time.Minute))
			}
			if f.Windows > 1 {
				text += fmt.Sprint("+", f.Windows-1)
			}
			if f.Repaired {
				text += " repaired"
			}
			list = append(list, text)
		}
	}
	return list
}

func expect(t *testing.T, report Report, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, found(report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
		for _, table := range report.Tables {
			for _, f := range table.Findings {
				t.Logf("%s %s: %s", table.Table, f.Kind, f.Message)
			}
			t.Log(table.Table, table.Source, table.Repair)
		}
	}
}

func (b *bench) audited(table string) (audited, all int) {
	b.t.Helper()
	entries, err := b.books.Ledger(b.t.Context(), "a", table, schema.Window{From: start, To: start.Add(time.Hour)})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Audited.IsZero() {
			audited++
		}
	}
	return audited, len(entries)
}
